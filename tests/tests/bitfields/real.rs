//! Accesses to bitfields in programs that clang compiled: all of them are right, and each of them would be found if it
//! were not.

use std::fs;
use std::path::{Path, PathBuf};

use btfleet_engine::batch::{Batch, Run, outcomes};
use btfleet_engine::dialect::{Loader, Validate};
use btfleet_engine::drift::Strict;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::resolve::Outcome;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples")
}

/// Files below `dir` that end in `ending`, sorted.
fn files(dir: &Path, ending: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            let bytes = fs::read(&path).expect("a file");
            found.push((
                path,
                if ending.ends_with("zst") { zstd::decode_all(&bytes[..]).unwrap() } else { bytes },
            ));
        }
    }
    found.sort();
    found
}

/// What is found in an object, and how many accesses with shifts and without were judged on all kernels of its byte order.
fn judge(object: &[u8], kernels: &[Kernel<'_>]) -> (Vec<(u32, String)>, [usize; 2]) {
    let (mut found, mut judged) = (Vec::new(), [0; 2]);
    let Ok(object) = Object::parse(object) else { return (found, judged) };
    let objects = [object];
    let loaders = vec![Loader::Libbpf; kernels.len()];
    let run =
        Run::validating(&Batch::SEQUENTIAL, &objects, kernels, &loaders, Modules::All, Validate::Strict);
    let strict = Strict::of(&run, &objects[0], 0).expect("strict");
    let folded = run.fold(0, |_| true);
    let relocs = objects[0].relocs();
    let shifted: Vec<_> = relocs
        .iter()
        .filter(|it| matches!(it.kind, Some(RelocKind::FieldLshiftU64 | RelocKind::FieldRshiftU64)))
        .map(|it| (it.program, it.type_id, it.access))
        .collect();
    for kernel in 0..kernels.len() {
        for &record in strict.records() {
            let reloc = &relocs[record];
            let outcome = folded.outcome(record, kernel);
            if matches!(outcome, Some(Outcome::Decided(decision)) if !decision.poisoned) {
                let is_shifted = shifted.contains(&(reloc.program, reloc.type_id, reloc.access));
                judged[usize::from(!is_shifted)] += 1;
            }
            for drift in strict.drifts(record, &|it| folded.outcome(it, kernel), kernel) {
                let what = format!("{} {}: {}", drift.rule.name(), objects[0].path(reloc), drift.message);
                found.push((reloc.insn_off, what));
            }
        }
    }
    (found, judged)
}

/// A byte is loaded at the offset of a bitfield, and is compared as a whole: `route_deleted` of `kernel_bits.bpf.c`. In
/// 5.10, the bit has a neighbour before it.
const PLAIN_READ: &str =
    "bitfield-not-shifted fib6_info.offload: the bitfield is elsewhere in what is loaded";

/// Check that no access of the samples is wrong on any of their kernels but one that means to be, in either byte order, and
/// that each with shifts is found wrong if one of its left shifts is.
#[test]
fn samples_read_what_they_say() {
    let kernels = files(&samples().join("kernels"), ".btf.zst");
    let kernels: Vec<Kernel<'_>> = kernels.iter().map(|it| Kernel::parse(&it.1).expect("BTF")).collect();
    let (mut judged, mut mutants) = ([0; 2], 0);
    for (path, mut bytes) in files(&samples().join("objects"), ".o") {
        let (found, counts) = judge(&bytes, &kernels);
        let wanted = usize::from(path.ends_with("kernel_bits.bpf.o"));
        let is_wanted = |it: &(u32, String)| it.1.starts_with(PLAIN_READ);
        assert_eq!(found.len(), wanted, "{}: {found:?}", path.display());
        assert!(found.iter().all(is_wanted), "{}: {found:?}", path.display());
        judged = [judged[0] + counts[0], judged[1] + counts[1]];
        // Where in the file left shifts are: the instruction is looked for behind the last one.
        let original = bytes.clone();
        let object = Object::parse(&original).expect("an object");
        let shifts: Vec<_> =
            object.relocs().iter().filter(|it| it.kind == Some(RelocKind::FieldLshiftU64)).collect();
        let of_its_order = kernels.iter().filter(|it| it.vmlinux.btf.endian() == object.endian());
        let outcomes: Vec<Vec<Outcome>> =
            of_its_order.map(|it| outcomes(Loader::Libbpf, &object, it, Modules::All, |_| true)).collect();
        for reloc in shifts {
            let program = &object.programs()[reloc.program.expect("a function")];
            let insn = object.insn_bytes(reloc);
            let at = original.windows(8).position(|it| std::ptr::eq(it.as_ptr(), insn.as_ptr())).unwrap();
            let imm = if object.endian() == Endian::Little { at + 4 } else { at + 7 };
            bytes[imm] ^= 1;
            let (found, _) = judge(&bytes, &kernels);
            bytes[imm] ^= 1;
            let name = String::from_utf8_lossy(program.name);
            let path = object.path(reloc);
            let tells = |it: &(u32, String)| it.1.starts_with(&format!("bitfield-mismatch {path}: "));
            // A field that no kernel has is not judged.
            let number = object.relocs().iter().position(|it| std::ptr::eq(it, reloc)).unwrap();
            let is_there =
                |it: &Vec<Outcome>| matches!(&it[number], Outcome::Decided(decision) if !decision.poisoned);
            let is_anywhere = outcomes.iter().any(is_there);
            assert_eq!(found.iter().any(tells), is_anywhere, "{name} {path}: {found:?}");
            mutants += usize::from(is_anywhere);
        }
    }
    assert!(judged[0] > 50 && judged[1] > 100 && mutants > 30, "{judged:?} judged, {mutants} mutants");
}

/// Check that none is wrong in the developers' corpus.
#[test]
#[expect(clippy::print_stdout, reason = "how many were judged is what the test is for")]
fn the_corpus_reads_what_it_says() {
    let Some(corpus) = btfleet_tests::corpus("real accesses to bitfields are not judged") else { return };
    let kernels = files(&corpus.join("kernels"), ".btf");
    let kernels: Vec<Kernel<'_>> = kernels.iter().map(|it| Kernel::parse(&it.1).expect("BTF")).collect();
    let mut judged = [0; 2];
    for (path, bytes) in files(&corpus.join("objects"), ".o") {
        let (found, counts) = judge(&bytes, &kernels);
        assert_eq!(found, [], "{}", path.display());
        judged = [judged[0] + counts[0], judged[1] + counts[1]];
    }
    println!("{} accesses with shifts and {} without, on {} kernels", judged[0], judged[1], kernels.len());
    assert!(judged[0] > 100);
}
