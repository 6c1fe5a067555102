//! `btfleet btf dump`: types of a kernel, a module or an object, as C or as they stand in the BTF.

use btfleet_engine::batch::Batch;
use btfleet_engine::btf::{Btf, Type, TypeId};
use btfleet_engine::dump::{c_source, push_raw};
use btfleet_engine::embed::Files;
use btfleet_engine::format::btf::Kind;
use serde::Serialize;

use crate::args::{BtfDumpArgs, DumpFormat};
use crate::load;
use crate::output::{Exit, Failure, Output};
use crate::rows::push_line;
use crate::{inputs, intake};

/// Text that is collected before it is handed over.
const CHUNK: usize = 1 << 16;

pub(crate) fn dump(args: &BtfDumpArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(1).map_err(Failure::System)?;
    let given = std::slice::from_ref(&args.file);
    let objects = inputs::one_object(&args.file);
    let files = if objects.is_empty() {
        let mut kernels = inputs::kernels(given)?;
        let errors = std::mem::take(&mut kernels.errors);
        Files::read(&batch, intake::get(), &[], &kernels.inputs, errors, || {})
    } else {
        Files::read(&batch, intake::get(), &objects, &[], Vec::new(), || {})
    };
    let inputs = load::parse(&files, &batch, None)?;
    let complete = inputs.complete();
    let one = |count: usize, what: &str| match count {
        1 => Ok(()),
        _ => Err(Failure::Usage(format!(
            "{} names {count} {what}s; btf dump takes one",
            args.file.to_string_lossy()
        ))),
    };
    let btf: &Btf<'_> = if let Some(object) = inputs.distinct.first() {
        one(inputs.distinct.len(), "object")?;
        match object.btf() {
            Some(btf) => btf,
            None => return Err(Failure::Usage(format!("{}: it has no BTF", inputs.name_of(0)))),
        }
    } else if let Some(kernel) = inputs.kernels.first() {
        one(inputs.kernels.len(), "kernel")?;
        if kernel.packed.is_some() {
            let why =
                "a pack has every type once, and not as a kernel's BTF has them: name the kernel's file";
            return Err(Failure::Usage(format!("{}: {why}", args.file.to_string_lossy())));
        }
        // What was named last is what is wanted.
        match kernel.modules.last().filter(|_| inputs::names_module(&args.file)) {
            Some(module) => &module.indexed.btf,
            None => &kernel.vmlinux.btf,
        }
    } else {
        return Ok(Exit::NotJudged);
    };
    let wanted = wanted(btf, &args.types)?;
    let mut out = Output::binary();
    match args.format {
        DumpFormat::C => {
            let text = c_source(btf, wanted).map_err(|error| Failure::System(error.to_string()))?;
            out.write(text.as_bytes())?;
        }
        DumpFormat::Raw => {
            let mut text = String::new();
            for id in wanted {
                push_raw(btf, id, &mut text);
                if text.len() > CHUNK {
                    out.write(text.as_bytes())?;
                    text.clear();
                }
            }
            out.write(text.as_bytes())?;
        }
        DumpFormat::Jsonl => rows(&mut out, btf, &wanted, complete)?,
    }
    out.finish()?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

/// The types that were named, or all of the BTF's own.
fn wanted(btf: &Btf<'_>, names: &[String]) -> Result<Vec<TypeId>, Failure> {
    if names.is_empty() {
        return Ok(btf.own_types().map(|it| it.0).collect());
    }
    let mut wanted = Vec::new();
    for name in names {
        let (keyword, plain) = match name.split_once(' ') {
            Some((keyword @ ("struct" | "union" | "enum"), plain)) => (Some(keyword), plain),
            _ => (None, name.as_str()),
        };
        let is_it = |ty: &Type<'_>| {
            let is_kind = match keyword {
                None => true,
                Some("enum") => ty.kind.is_any_enum(),
                Some(keyword) => ty.kind.name() == keyword,
            };
            is_kind && ty.kind != Kind::Fwd && btf.name_is(ty.name_off, plain.as_bytes())
        };
        let all = (1..btf.type_count()).map(TypeId).filter(|id| btf.ty(*id).is_some_and(|it| is_it(&it)));
        let before = wanted.len();
        wanted.extend(all);
        if wanted.len() == before {
            return Err(Failure::Usage(format!("there is no type '{name}'")));
        }
    }
    Ok(wanted)
}

#[derive(Serialize)]
struct TypeRow {
    v: u32,
    t: &'static str,
    id: u32,
    kind: &'static str,
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
    /// The type that it refers to, returns, or has elements of.
    #[serde(skip_serializing_if = "Option::is_none")]
    type_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<ValueRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<MemberRow>,
}

#[derive(Serialize)]
struct MemberRow {
    name: Option<String>,
    type_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    bit_offset: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<u32>,
}

#[derive(Serialize)]
struct ValueRow {
    name: String,
    /// A decimal string: JSON numbers lose bits.
    value: String,
}

#[derive(Serialize)]
struct EndRow {
    v: u32,
    t: &'static str,
    complete: bool,
    rows: usize,
}

fn rows(out: &mut Output, btf: &Btf<'_>, wanted: &[TypeId], complete: bool) -> Result<(), Failure> {
    let name = |off: u32| {
        let name = btf.name(off);
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    };
    let mut line = Vec::new();
    for &id in wanted {
        let Some(ty) = btf.ty(id) else { continue };
        let sized = matches!(ty.kind, Kind::Int | Kind::Float | Kind::Datasec)
            || ty.kind.is_composite()
            || ty.kind.is_any_enum();
        let refers = ty.kind.is_mod_or_typedef()
            || matches!(ty.kind, Kind::Ptr | Kind::Func | Kind::FuncProto | Kind::Var | Kind::DeclTag);
        let array = (ty.kind == Kind::Array).then(|| ty.array());
        let members = ty.members().map(|it| MemberRow {
            name: name(it.name_off),
            type_id: it.type_id.0,
            bit_offset: Some(it.bit_offset),
            bits: Some(it.bitfield_size).filter(|it| *it > 0),
        });
        let values = ty.enumerators().map(|it| ValueRow {
            name: name(it.name_off).unwrap_or_default(),
            value: match (ty.kind, ty.kind_flag()) {
                (_, true) => it.value.cast_signed().to_string(),
                (Kind::Enum, false) => (it.value & 0xffff_ffff).to_string(),
                (_, false) => it.value.to_string(),
            },
        });
        let params = ty.params().map(|it| MemberRow {
            name: name(it.name_off),
            type_id: it.type_id.0,
            bit_offset: None,
            bits: None,
        });
        let row = TypeRow {
            v: 1,
            t: "type",
            id: id.0,
            kind: ty.kind.name(),
            name: name(ty.name_off),
            size: sized.then(|| ty.size()),
            type_id: array.map(|it| it.elem.0).or(refers.then(|| ty.target().0)),
            count: array.map(|it| it.nelems),
            members: members.collect(),
            values: values.collect(),
            params: params.collect(),
        };
        push_line(&mut line, &row);
        if line.len() > CHUNK {
            out.write(&line)?;
            line.clear();
        }
    }
    push_line(&mut line, &EndRow { v: 1, t: "end", complete, rows: wanted.len() });
    out.write(&line)
}
