//! Light skeletons in executables against the objects that they were made of.
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

use btfleet_engine::ingest::{Intake, embedded};
use btfleet_engine::object::Object;
use btfleet_engine::prog_load::ProgLoad;
use btfleet_engine::skeleton;

const NAMES: [&str; 3] = ["task_state", "block_latency", "kernel_bits"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn executable(name: &str) -> Vec<u8> {
    Intake::default().read(&root().join(format!("tests/skeletons/{name}.zst"))).expect("a committed file")
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(root().join(format!("workloads/samples/objects/{name}.bpf.o"))).expect("a sample")
}

/// Records as (offset, root, access string, kind): ids and offsets of strings are each BTF's own.
fn records(object: &Object<'_>, load: &ProgLoad) -> Vec<(u32, String, Vec<u8>, u32)> {
    let of = |(record, relo): (&usize, &[u32; 4])| {
        let reloc = &object.relocs()[*record];
        (relo[0], object.root_name(reloc), reloc.access.to_vec(), relo[3])
    };
    load.records.iter().zip(&load.core_relos).map(of).collect()
}

/// Check that programs, functions linked to them, and records are those of the object.
#[test]
fn programs_are_those_of_the_object() {
    let mut records_compared = 0;
    for name in NAMES {
        let found = skeleton::find(&executable(name));
        assert_eq!(found.len(), 1, "{name}");
        let theirs = Object::parse(&found[0].object).expect("an object");
        assert_eq!((theirs.refused(), theirs.ignored_btf().is_some()), (None, false), "{name}");
        let bytes = sample(name);
        let ours = Object::parse(&bytes).expect("a sample");
        let entries = ours.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram && it.autoload);
        for (number, program) in entries {
            let other = theirs.programs().iter().position(|it| it.name == program.name && !it.is_subprogram);
            let other =
                other.unwrap_or_else(|| panic!("{name}: no {}", String::from_utf8_lossy(program.name)));
            let (ours_loaded, theirs_loaded) = (ProgLoad::new(&ours, number), ProgLoad::new(&theirs, other));
            assert_eq!(ours_loaded.insns.len(), theirs_loaded.insns.len(), "{name}");
            // What refers to maps, data and symbols is filled in by each loader in its own way.
            let filled: Vec<usize> = ours_loaded.references.iter().map(|it| it.0 as usize).collect();
            let slots =
                ours_loaded.insns.as_chunks::<8>().0.iter().zip(theirs_loaded.insns.as_chunks::<8>().0);
            for (slot, (ours, theirs)) in slots.enumerate() {
                let is_filled = filled.contains(&slot) || slot > 0 && filled.contains(&(slot - 1));
                assert!(is_filled || ours == theirs, "{name}: slot {slot}: {ours:02x?} {theirs:02x?}");
            }
            assert_eq!(ours_loaded.func_info.len(), theirs_loaded.func_info.len(), "{name}");
            assert_eq!(ours_loaded.line_info.len(), theirs_loaded.line_info.len(), "{name}");
            let (expected, found) = (records(&ours, &ours_loaded), records(&theirs, &theirs_loaded));
            assert_eq!(expected, found, "{name}");
            records_compared += found.len();
            let kind =
                |it: &[u8]| String::from_utf8_lossy(it).split('/').next().unwrap_or_default().to_owned();
            let section = kind(theirs.programs()[other].section);
            let long = kind(program.section).replace("raw_tp", "raw_tracepoint");
            assert!(section == long || section == long.replace("tp", "tracepoint"), "{section} {long}");
        }
    }
    assert!(records_compared > 100, "{records_compared}");
}

/// Check that objects and skeletons are found where they are in a file, and each under its own name.
#[test]
fn a_file_may_hold_several() {
    let mut data = executable("task_state");
    let object = sample("block_latency");
    let places = [data.len().next_multiple_of(64), (data.len() + object.len()).next_multiple_of(64) + 128];
    for place in places {
        data.resize(place, 0);
        data.extend(&object);
    }
    let found = embedded(&data);
    let kinds: Vec<(&str, usize)> = found.iter().map(|it| (it.kind, it.offset)).collect();
    assert_eq!(kinds[1..], [("object", places[0]), ("object", places[1])]);
    assert_eq!(kinds[0].0, "skeleton");
    assert_eq!(found[1].data, object);
    let files = Intake::default().objects_of_bytes(Path::new("tool"), data);
    let names = files.into_iter().map(|it| it.unwrap().path.to_string_lossy().into_owned());
    let names: Vec<String> = names.collect();
    assert_eq!(names[1], format!("tool!/object@{:#x}", places[0]));
    assert!(names[0].starts_with("tool!/skeleton@0x"), "{names:?}");
    // A BPF object is itself, and what it has inside is its own.
    assert_eq!(embedded(&object), []);
}

/// Check that cut and damaged files give fewer programs or none, and nothing worse.
#[test]
fn damaged_files_are_survived() {
    let whole = executable("block_latency");
    let found = skeleton::find(&whole);
    for len in (0..whole.len()).step_by(97) {
        for it in skeleton::find(&whole[..len]) {
            let _ = Object::parse(&it.object);
        }
    }
    // Bytes of the loader and of the blob in front of it, one at a time.
    let start = found[0].offset.saturating_sub(8192);
    for at in (start..whole.len().min(found[0].offset + 8192)).step_by(13) {
        for value in [0, 0x7f, 0xff] {
            let mut data = whole.clone();
            data[at] = value;
            for it in skeleton::find(&data) {
                if let Ok(object) = Object::parse(&it.object) {
                    (0..object.programs().len()).for_each(|number| drop(ProgLoad::new(&object, number)));
                }
            }
        }
    }
}
