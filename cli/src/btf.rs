//! `btfleet btf dump`: types of a kernel, a module or an object, as C or as they stand in the BTF.

use std::collections::BTreeSet;
use std::path::Path;

use btfleet_engine::batch::Batch;
use btfleet_engine::btf::{Btf, Type, TypeId};
use btfleet_engine::dump::{c_source, push_raw};
use btfleet_engine::embed::{Files, is_called};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::pack::{Abi, PackError, PackFile, Whole};
use serde::Serialize;

use crate::args::{BtfDumpArgs, DumpFormat};
use crate::load;
use crate::output::{Exit, Failure, Output};
use crate::rows::push_line;
use crate::text::some_of;
use crate::{inputs, intake};

/// Text that is collected before it is handed over.
const CHUNK: usize = 1 << 16;
/// Names that a message lists, before it says how many more there are.
const NAMES_SHOWN: usize = 20;
/// Types that are named in place of one that is not there, and letters that their names share with it at least.
const NEAR_SHOWN: usize = 5;
const NEAR_LEN_MIN: usize = 4;

pub(crate) fn dump(args: &BtfDumpArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(1).map_err(Failure::System)?;
    if let Some((pack, rest)) = inputs::in_pack(&args.file) {
        let (whole, abi) = of_pack(&pack, rest.as_deref())?;
        let btf = Btf::parse(&whole.bytes).map_err(|error| Failure::System(error.to_string()))?;
        let btf = btf.with_pointer_size(abi.pointer_size());
        print(args, &btf, &whole.types, true)?;
        return Ok(Exit::Fine);
    }
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
        // What was named last is what is wanted.
        match kernel.modules.last().filter(|_| inputs::names_module(&args.file)) {
            Some(module) => &module.indexed.btf,
            None => &kernel.vmlinux.btf,
        }
    } else {
        return Ok(Exit::NotJudged);
    };
    let own: Vec<TypeId> = btf.own_types().map(|it| it.0).collect();
    print(args, btf, &own, complete)?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

/// The types of the kernel of a pack that has the name, or of one of its modules: `NAME,MODULE`. Without a name, of the
/// only kernel that there is.
fn of_pack(path: &Path, wanted: Option<&str>) -> Result<(Whole, Abi), Failure> {
    let failed = |error: PackError| Failure::System(format!("{}: {error}", path.display()));
    let file = PackFile::open(path).map_err(failed)?;
    let pack = file.view().map_err(failed)?;
    let names = pack.names().map_err(failed)?;
    let refused = |why: String, all: &[&str]| {
        let shown = if all.is_empty() { String::new() } else { format!(": {}", some_of(all, NAMES_SHOWN)) };
        Failure::Usage(format!("{}: {why}{shown}", path.display()))
    };
    let all: Vec<&str> = names.iter().map(|it| it.0).collect();
    let kernels_of = |wanted: &str| {
        let mut kernels: Vec<u32> =
            names.iter().filter(|it| is_called(it.0, wanted)).map(|it| it.1).collect();
        // It may be there under several names.
        kernels.sort_unstable();
        kernels.dedup();
        kernels
    };
    let (kernels, module) = match wanted {
        None => ((0..pack.kernel_count()).collect(), None),
        // Names of kernels may have commas.
        Some(wanted) => match (kernels_of(wanted), wanted.rsplit_once(',')) {
            (none, Some((kernel, module))) if none.is_empty() => (kernels_of(kernel), Some(module)),
            (kernels, _) => (kernels, None),
        },
    };
    let kernel = match (kernels.as_slice(), wanted) {
        ([one], _) => *one,
        ([], Some(wanted)) => {
            return Err(refused(format!("no kernel in it has the name {wanted}; it has"), &all));
        }
        ([], None) => return Err(refused("there is no kernel in it".into(), &[])),
        (many, _) => {
            let of_many = names.iter().filter(|it| many.contains(&it.1)).map(|it| it.0);
            let why =
                format!("btf dump takes one kernel, as in {}:NAME; there are {}", path.display(), many.len());
            return Err(refused(why, &of_many.collect::<Vec<_>>()));
        }
    };
    let entry = pack.kernel(kernel).map_err(failed)?;
    let module = match module {
        None => None,
        Some(wanted) => match (0..).zip(&entry.modules).find(|it| it.1.name == wanted) {
            Some((number, _)) => Some(number),
            None => {
                let modules: Vec<&str> = entry.modules.iter().map(|it| it.name).collect();
                let name = entry.names.first().copied().unwrap_or_default();
                let has = if modules.is_empty() { " none at all" } else { "" };
                return Err(refused(format!("{name} has no module {wanted} there; it has{has}"), &modules));
            }
        },
    };
    Ok((pack.whole(kernel, module).map_err(failed)?, entry.abi))
}

fn print(args: &BtfDumpArgs, btf: &Btf<'_>, own: &[TypeId], complete: bool) -> Result<(), Failure> {
    let wanted = wanted(btf, own, &args.types)?;
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
    out.finish()
}

/// The types that were named, or all of the BTF's own.
fn wanted(btf: &Btf<'_>, own: &[TypeId], names: &[String]) -> Result<Vec<TypeId>, Failure> {
    if names.is_empty() {
        return Ok(own.to_vec());
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
            let near = near(btf, plain);
            let there =
                if near.is_empty() { String::new() } else { format!("; there is {}", near.join(", ")) };
            return Err(Failure::Usage(format!("there is no type '{name}'{there}")));
        }
    }
    Ok(wanted)
}

/// Types of another kind that have this name, and those whose name has it in it or stands in it, the most alike first.
fn near(btf: &Btf<'_>, wanted: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for ty in (1..btf.type_count()).filter_map(|id| btf.ty(TypeId(id))) {
        let name = String::from_utf8_lossy(btf.name(ty.name_off));
        let (short, long) = if name.len() < wanted.len() { (&*name, wanted) } else { (wanted, &*name) };
        let is_type = ty.kind.is_composite() || ty.kind.is_any_enum() || ty.kind == Kind::Typedef;
        if is_type && short.len() >= NEAR_LEN_MIN && long.contains(short) {
            let kind = if ty.kind.is_any_enum() { "enum" } else { ty.kind.name() };
            found.insert((long.len() - short.len(), format!("{kind} {name}")));
        }
    }
    found.into_iter().take(NEAR_SHOWN).map(|it| it.1).collect()
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
