//! The committed samples' programs of types that load without a loader's help.

use std::fs;
use std::path::Path;

use btfleet_engine::batch::outcomes;
use btfleet_engine::btf::Btf;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::btf::Kind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{Object, Program, Reference};
use btfleet_engine::prog_load::ProgLoad;
use btfleet_engine::resolve::Outcome;
use btfleet_tests::kernel::{Job, Load};

use super::program::same;
use super::{Live, live};

const KIND_INT: u32 = 1;
const KIND_STRUCT: u32 = 4;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;

/// Check that compiled programs come out the same, whoever relocates them.
#[test]
fn samples_come_out_the_same() {
    let Some(live) = live() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/objects");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("samples").map(|it| it.expect("a file").path()).collect();
    paths.sort();
    let mut failures = Vec::new();
    let mut tally = Tally::default();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains(".be.") {
            continue;
        }
        let bytes = fs::read(&path).expect("a sample");
        let object = Object::parse(&bytes).expect("a sample is an object");
        for (number, program) in object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram) {
            if let Err(why) = judge(live, &object, number, program, &mut tally) {
                failures.push(format!("{name} {}: {why}", String::from_utf8_lossy(program.name)));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    let told = format!("samples: {tally:?}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes());
    assert!(tally.loaded >= 10, "too few samples load here: {tally:?}");
}

/// What became of the programs.
#[derive(Debug, Default)]
struct Tally {
    /// Loaded, with the same instructions.
    loaded: usize,
    /// Records of these.
    records: usize,
    /// Refused for the same reason.
    refused: usize,
    /// Of types that need more than the system call.
    left_out: usize,
}

/// `enum bpf_prog_type`, `enum bpf_attach_type`, and type of the kernel that it attaches to.
fn attach(live: &Live, section: &str) -> Option<(u32, u32, u32)> {
    let btf = Btf::parse(&live.vmlinux).ok()?;
    let find = |kind: Kind, name: String| {
        btf.own_types()
            .find(|(_, ty)| ty.kind == kind && btf.name_is(ty.name_off, name.as_bytes()))
            .map(|it| it.0.0)
    };
    let (kind, rest) = section.split_once('/').unwrap_or((section, ""));
    Some(match kind {
        "raw_tp" => (17, 0, 0),
        "tp" => (5, 0, 0),
        "kprobe" => (2, 0, 0),
        "tc" => (3, 0, 0),
        "xdp" => (6, 37, 0),
        "tp_btf" => (26, 23, find(Kind::Typedef, format!("btf_trace_{rest}"))?),
        "iter" => (26, 28, find(Kind::Func, format!("bpf_iter_{rest}"))?),
        _ => return None,
    })
}

fn judge(
    live: &Live,
    object: &Object<'_>,
    number: usize,
    program: &Program<'_>,
    tally: &mut Tally,
) -> Result<(), String> {
    let section = String::from_utf8_lossy(program.section).trim_start_matches('?').to_owned();
    let linked = ProgLoad::new(object, number);
    let Some(job) = attach(live, &section).and_then(|it| job(object, &linked, it)) else {
        tally.left_out += 1;
        return Ok(());
    };
    let functions = object.linked_functions(number);
    let kernel = Kernel::new(Btf::parse(&live.vmlinux).map_err(|error| error.to_string())?);
    let fold = |loader| {
        outcomes(loader, object, &kernel, Modules::All, |reloc| {
            reloc.program.is_some_and(|it| functions.contains(&it))
        })
    };

    let (ours, libbpf) = (fold(live.loader), fold(Loader::Libbpf));
    let relocated = |outcomes: &[Outcome]| {
        let insns = linked.relocated(&outcomes.iter().collect::<Vec<_>>()).ok()?;
        Some(Load { insns: with_offsets(insns, &linked)?, core_relos: Vec::new() })
    };
    let records = ours.iter().filter(|it| matches!(it, Outcome::Decided(_))).count();
    let errno = |outcomes: &[Outcome]| {
        outcomes.iter().find_map(|it| match it {
            Outcome::Fatal(error) => Some(error.errno().unsigned_abs()),
            _ => None,
        })
    };
    let errnos = (errno(&ours), errno(&libbpf));
    let (ours, libbpf) = (relocated(&ours), relocated(&libbpf));
    if (&ours, errnos.0) != (&libbpf, errnos.1) {
        return Err("the dialects differ".into());
    }
    let mut job = job;
    job.loads.extend(ours);
    let Ok(loaded) = job.judge(super::judge()) else {
        // A loader would complete what its BTF says about functions of the kernel.
        tally.left_out += 1;
        return Ok(());
    };
    let theirs = loaded.first().ok_or("no answer")?;
    match loaded.get(1) {
        Some(ours) => same(theirs, ours)?,
        None if Some(theirs.errno) == errnos.0 => {}
        None => return Err(format!("the kernel's errno is {}, ours {errnos:?}", theirs.errno)),
    }
    if theirs.errno == 0 {
        tally.loaded += 1;
        tally.records += records;
    } else {
        tally.refused += 1;
    }
    Ok(())
}

/// The program as compiled, with its records; `None` if it takes more than the system call to load it.
fn job(
    object: &Object<'_>,
    linked: &ProgLoad,
    (prog_type, attach_type, attach_btf_id): (u32, u32, u32),
) -> Option<Job> {
    if linked.references.iter().any(|it| matches!(it.1, Reference::Extern(_))) {
        return None;
    }
    Some(Job {
        prog_type,
        attach_type,
        attach_btf_id,
        btf: without_data(object.btf_data())?,
        func_info: linked.func_info.as_flattened().to_vec(),
        line_info: linked.line_info.as_flattened().to_vec(),
        map_insns: linked.references.iter().map(|it| it.0).collect(),
        loads: vec![Load {
            insns: with_offsets(linked.insns.clone(), linked)?,
            core_relos: linked.core_relos.as_flattened().to_vec(),
        }],
    })
}

/// Addresses in sections of data are places in the one map that stands for all.
fn with_offsets(mut insns: Vec<u8>, linked: &ProgLoad) -> Option<Vec<u8>> {
    for &(slot, reference) in &linked.references {
        if let Reference::Data(_, offset) = reference {
            let at = slot as usize * 8 + 4;
            let imm = insns.get_mut(at..)?.first_chunk_mut::<4>()?;
            *imm = u32::try_from(offset).ok()?.to_le_bytes();
        }
    }
    Some(insns)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|it| u32::from_le_bytes(*it))
}

/// VAR and DATASEC made into harmless types of the same length: what they say about data is for a loader to complete.
fn without_data(btf: &[u8]) -> Option<Vec<u8>> {
    let mut out = btf.to_vec();
    let int = Btf::parse(btf).ok()?.own_types().find(|(_, ty)| ty.kind == Kind::Int)?.0.0;
    let mut at = word(btf, 4)? as usize + word(btf, 8)? as usize;
    let end = at + word(btf, 12)? as usize;
    let mut set = |at: usize, value: u32| {
        if let Some(word) = out.get_mut(at..).and_then(|it| it.first_chunk_mut::<4>()) {
            *word = value.to_le_bytes();
        }
    };
    while at < end {
        let info = word(btf, at + 4)?;
        let (kind, vlen) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        at += match kind {
            KIND_VAR => {
                set(at + 4, KIND_INT << 24);
                set(at + 8, 1);
                set(at + 12, 8);
                16
            }
            KIND_DATASEC => {
                set(at, 0);
                set(at + 4, KIND_STRUCT << 24 | info & 0xffff);
                set(at + 8, 4096);
                for member in 0..vlen {
                    set(at + 12 + 12 * member, 0);
                    set(at + 16 + 12 * member, int);
                    set(at + 20 + 12 * member, u32::try_from(32 * member).ok()?);
                }
                12 + 12 * vlen
            }
            1 | 17 => 16,
            3 => 24,
            4 | 5 | 19 => 12 + 12 * vlen,
            6 | 13 => 12 + 8 * vlen,
            _ => 12,
        };
    }
    Some(out)
}
