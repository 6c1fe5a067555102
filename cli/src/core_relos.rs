//! `btfleet core-relos`: programs for loaders that leave CO-RE to the kernel. Formats: docs/output.md.

use btfleet_engine::batch::Batch;
use btfleet_engine::format::Endian;
use btfleet_engine::object::{ExternKind, Object, Reference};
use btfleet_engine::prog_load::ProgLoad;
use serde::Serialize;

use crate::args::{CoreRelosArgs, CoreRelosFormat, InputArgs, ModulesArg};
use crate::load;
use crate::output::{Exit, Failure, Output};
use crate::rows::hex;

/// The first bytes of the binary format; the last is its version.
const MAGIC: [u8; 8] = *b"BTFLPRG\x01";

#[derive(Serialize)]
struct ObjectRow<'a> {
    object: &'a str,
    byte_order: &'static str,
    btf: String,
    programs: Vec<ProgramRow>,
}

#[derive(Serialize)]
struct ProgramRow {
    program: String,
    section: String,
    insns: String,
    func_info: Vec<[u32; 2]>,
    line_info: Vec<[u32; 4]>,
    core_relos: Vec<[u32; 4]>,
    relocated_by_kernel: bool,
    references: Vec<ReferenceRow>,
}

/// What a loader has to fill in.
#[derive(Serialize)]
pub(crate) struct ReferenceRow {
    insn: u32,
    kind: &'static str,
    name: String,
    offset: i64,
}

pub(crate) fn run(args: &CoreRelosArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(0).map_err(Failure::System)?;
    let input_args = InputArgs {
        objects: args.objects.clone(),
        kernels: Vec::new(),
        modules: ModulesArg::Each,
        jobs: 0,
        filter: None,
    };
    let files = load::read(&input_args, &batch)?;
    let inputs = load::parse(&files, &batch, None)?;
    let mut out = match args.format {
        CoreRelosFormat::Json => Output::new(),
        CoreRelosFormat::Bin => Output::binary(),
    };
    match args.format {
        CoreRelosFormat::Json => out.write(b"{\"v\":1,\"objects\":[")?,
        CoreRelosFormat::Bin => out.write(&MAGIC)?,
    }
    let mut failure = None;
    batch.for_each(
        inputs.objects.len(),
        |number| {
            let object = inputs.object(number)?;
            Some(written(object, inputs.name_of(number), args.format, number))
        },
        |_, bytes| {
            failure = out.write(&bytes.unwrap_or_default()).err();
            failure.is_none()
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    let complete = inputs.complete();
    match args.format {
        CoreRelosFormat::Json => out.write(format!("\n],\"complete\":{complete}}}\n").as_bytes())?,
        // No object has a name as long as that.
        CoreRelosFormat::Bin => {
            out.write(&[u8::MAX, u8::MAX, u8::MAX, u8::MAX, u8::from(complete), 0, 0, 0])?
        }
    }
    out.finish()?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

/// One object in the format asked for.
fn written(object: &Object<'_>, name: &str, format: CoreRelosFormat, number: usize) -> Vec<u8> {
    let entries = object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram);
    let loads: Vec<ProgLoad> = entries.map(|(program, _)| ProgLoad::new(object, program)).collect();
    match format {
        CoreRelosFormat::Json => {
            let row = ObjectRow {
                object: name,
                byte_order: match object.endian() {
                    Endian::Little => "little",
                    Endian::Big => "big",
                },
                btf: hex(object.btf_data()),
                programs: loads.iter().map(|it| program_row(object, it)).collect(),
            };
            let mut text = if number == 0 { b"\n".to_vec() } else { b",\n".to_vec() };
            // Strings and numbers into memory: there is nothing that could fail.
            let _ = serde_json::to_writer(&mut text, &row);
            text
        }
        CoreRelosFormat::Bin => binary(object, name, &loads),
    }
}

fn program_row(object: &Object<'_>, load: &ProgLoad) -> ProgramRow {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let program = object.programs().get(load.program);
    ProgramRow {
        program: program.map(|it| text(it.name)).unwrap_or_default(),
        section: program.map(|it| text(it.section)).unwrap_or_default(),
        insns: hex(&load.insns),
        func_info: load.func_info.clone(),
        line_info: load.line_info.clone(),
        core_relos: load.core_relos.clone(),
        relocated_by_kernel: load.is_relocated_by(None),
        references: load.references.iter().map(|it| reference_row(object, *it)).collect(),
    }
}

pub(crate) fn reference_row(object: &Object<'_>, (insn, reference): (u32, Reference)) -> ReferenceRow {
    let (kind, name, offset) = match reference {
        Reference::Function(_) => ("function", &b""[..], 0),
        Reference::Data(number, offset) => {
            ("data", object.data_sections().get(number).map_or(&b""[..], |it| it.name), offset)
        }
        Reference::Map(symbol) => ("map", object.symbol_name(symbol), 0),
        Reference::Extern(number) => match object.externs().get(number) {
            Some(of) => {
                let kind = match of.kind {
                    ExternKind::Kconfig => "kconfig",
                    ExternKind::Kfunc => "kfunc",
                    ExternKind::KsymVar | ExternKind::KsymTypeless => "ksym",
                    ExternKind::Unknown => "unknown",
                };
                (kind, of.name, 0)
            }
            None => ("ksym", &b""[..], 0),
        },
    };
    ReferenceRow { insn, kind, name: String::from_utf8_lossy(name).into_owned(), offset }
}

/// Numbers are in the byte order of the object, so that its records can be passed on.
fn binary(object: &Object<'_>, name: &str, loads: &[ProgLoad]) -> Vec<u8> {
    let endian = object.endian();
    let mut out = Vec::new();
    let word = |out: &mut Vec<u8>, value: u32| out.extend(endian.u32_bytes(value));
    let len = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    let bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
        word(out, len(bytes.len()));
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    bytes(&mut out, name.as_bytes());
    bytes(&mut out, object.btf_data());
    word(&mut out, len(loads.len()));
    for load in loads {
        let program = object.programs().get(load.program);
        bytes(&mut out, program.map_or(&b""[..], |it| it.name));
        bytes(&mut out, program.map_or(&b""[..], |it| it.section));
        bytes(&mut out, &load.insns);
        for (count, words) in [
            (load.func_info.len(), load.func_info.as_flattened()),
            (load.line_info.len(), load.line_info.as_flattened()),
            (load.core_relos.len(), load.core_relos.as_flattened()),
        ] {
            word(&mut out, len(count));
            words.iter().for_each(|it| word(&mut out, *it));
        }
        word(&mut out, len(load.references.len()));
        for reference in &load.references {
            let row = reference_row(object, *reference);
            word(&mut out, row.insn);
            word(&mut out, u32::try_from(row.offset).unwrap_or(0));
            bytes(&mut out, row.kind.as_bytes());
            bytes(&mut out, row.name.as_bytes());
        }
    }
    out
}
