//! Minimal BTF against the whole one: libbpf answers every record alike with either, ids aside.
//!
//! `BTFLEET_DIFF_RECORDS` and `BTFLEET_DIFF_SEED` as for random cases.
#![expect(clippy::print_stderr, reason = "a test says how much it judged")]

use std::fs;
use std::path::Path;

use btfleet_engine::batch::{Batch, distinct_questions, outcomes};
use btfleet_engine::btf::{Btf, TypeId};
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::btf::Kind;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::minimal::{Minimal, minimal};
use btfleet_engine::object::Object;
use btfleet_engine::resolve::{Code, Outcome};
use btfleet_tests::build::ByteOrder;
use btfleet_tests::generator::{Case, Site};
use btfleet_tests::oracle::{Answer, Options, Oracle};

use crate::compare::{Row, oracle};
use crate::generated::number_from_env;

/// `None` if it is broken, as shrinking may leave it.
fn kernel<'a>(target: &'a [u8], modules: impl IntoIterator<Item = &'a Vec<u8>>) -> Option<Kernel<'a>> {
    let mut kernel = Kernel::parse(target).ok()?;
    for (number, module) in modules.into_iter().enumerate() {
        kernel.add_module(format!("module {number}"), module).ok()?;
    }
    Some(kernel)
}

fn reduce(kernel: &Kernel<'_>, objects: &[Object<'_>]) -> Minimal {
    let questions = distinct_questions(&Batch::SEQUENTIAL, objects, kernel.vmlinux.btf.endian());
    minimal(kernel, &questions).expect("a minimal BTF")
}

/// What has to be the same: all but the numbers that are ids.
fn row(kind: u32, mut row: Row) -> Row {
    if let Row::Done { new_val, new_type_id, insn, .. } = &mut row {
        *new_type_id = u32::from(*new_type_id != 0);
        if RelocKind::from_raw(kind) == Some(RelocKind::TypeIdTarget) {
            *new_val = u64::from(*new_val != 0);
            insn.clear();
        }
    }
    row
}

/// The codes that say why. Whether an id is the compiled one is chance.
fn reasons(kind: u32, outcome: &Outcome) -> (Option<&'static str>, Option<&'static str>) {
    match outcome {
        Outcome::Decided(it)
            if RelocKind::from_raw(kind) == Some(RelocKind::TypeIdTarget) && it.code == Code::Exact =>
        {
            (Some(Code::Moved.name()), None)
        }
        Outcome::Decided(it) => (Some(it.code.name()), it.reason.map(|it| it.name())),
        Outcome::Fatal(error) => (Some(error.code()), None),
        Outcome::Skipped | Outcome::ModuleDependent(_) => (None, None),
    }
}

/// Whether a bitfield's base type is no number somewhere: libbpf takes its type id for a size then.
fn has_odd_bitfields(btf: &Btf<'_>) -> bool {
    btf.own_types().flat_map(|(_, ty)| ty.members()).filter(|it| it.bitfield_size != 0).any(|it| {
        let base = btf.skip_mods_and_typedefs(it.type_id);
        base.is_none_or(|(_, ty)| {
            !ty.kind.is_composite() && !ty.kind.is_any_enum() && !matches!(ty.kind, Kind::Int | Kind::Float)
        })
    })
}

/// How the answers of a case differ; the number of records if they do not, `None` if it cannot be judged.
fn judge(oracle: &mut Oracle, case: &Case) -> Option<Result<usize, String>> {
    let (target, modules, file) = (case.target_btf(), case.module_btfs(), case.to_object());
    let whole = kernel(&target, &modules)?;
    let units = std::iter::once(&whole.vmlinux).chain(whole.modules.iter().map(|it| &it.indexed));
    if units.into_iter().any(|it| has_odd_bitfields(&it.btf)) {
        return None;
    }
    let object = Object::parse(&file).ok()?;
    // An id that is patched in, and held against what another record expects of the same instruction.
    let is_id = |raw| RelocKind::from_raw(raw) == Some(RelocKind::TypeIdTarget);
    if case.records.iter().any(|it| is_id(it.kind)) && case.records.iter().any(|it| it.site != Site::Own) {
        return None;
    }
    let small = reduce(&whole, std::slice::from_ref(&object));
    let small_modules: Vec<_> = small.modules.iter().map(|(_, it)| it.clone()).collect();
    let reduced = kernel(&small.vmlinux, &small_modules).expect("valid BTF");
    let options = Options { log: true, compare_pruning: false };
    let mut answers = |target: &[u8], modules: &[Vec<u8>]| -> Result<Vec<Answer>, String> {
        oracle.set_target(target, modules).map_err(|error| error.to_string())?;
        oracle.relocate(&case.oracle_input(), options).map_err(|error| error.to_string())
    };
    let before = answers(&target, &modules).ok()?;
    let after = match answers(&small.vmlinux, &small_modules) {
        Ok(answers) => answers,
        Err(error) => return Some(Err(error)),
    };
    let fold = |kernel| outcomes(Loader::Libbpf, &object, kernel, Modules::All, |_| true);
    let pairs = fold(&whole).into_iter().zip(fold(&reduced));
    let why = case.records.iter().zip(before.iter().zip(&after)).zip(pairs).enumerate().find_map(
        |(number, ((record, (before, after)), (whole, reduced)))| {
            let [a, b] = [before, after].map(|it| row(record.kind, Row::of_answer(it)));
            if a == b && reasons(record.kind, &whole) == reasons(record.kind, &reduced) {
                return None;
            }
            Some(format!(
                "record #{number} of kind {}:\nwhole   {before:?}\n        {whole:?}\nminimal {after:?}\n        {reduced:?}",
                record.kind
            ))
        },
    );
    Some(why.map_or(Ok(before.len()), Err))
}

/// Check that libbpf makes the same of every record with the minimal BTF, and we give the same reasons.
#[test]
fn minimal_btf_gives_the_same_answers() {
    let wanted = usize::try_from(number_from_env("BTFLEET_DIFF_RECORDS", 100_000) / 4).expect("a number");
    let seed = number_from_env("BTFLEET_DIFF_SEED", 0);
    let mut oracle = oracle();
    let (mut records, mut by_ids) = (0, 0_u64);
    for number in 0.. {
        let order = if number % 3 == 2 { ByteOrder::Big } else { ByteOrder::Little };
        let case = Case::generate_in(order, (seed ^ 0x3141) << 32 | number);
        match judge(&mut oracle, &case) {
            Some(Ok(count)) => records += count,
            Some(Err(_)) => {
                let small = case.minimize(|it| matches!(judge(&mut oracle, it), Some(Err(_))));
                let why = judge(&mut oracle, &small).and_then(Result::err).unwrap_or_default();
                panic!("run {seed}: the minimal BTF gives other answers:\n{small}{why}");
            }
            None => by_ids += 1,
        }
        if records >= wanted {
            eprintln!("{records} records of {} cases alike; {by_ids} left out that ids decide", number + 1);
            return;
        }
    }
}

/// Check that the samples come out the same on every sample kernel, and that what is left is small and is itself what
/// it would be reduced to.
#[test]
fn samples_come_out_the_same() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let read = |part: &str, ending: &str| -> Vec<Vec<u8>> {
        let entries = fs::read_dir(samples.join(part)).expect("a directory");
        let mut paths: Vec<_> = entries.map(|it| it.expect("an entry").path()).collect();
        paths.retain(|it| it.to_string_lossy().ends_with(ending));
        paths.sort();
        paths.iter().map(|it| btfleet_engine::ingest::read_file(it).expect("a file")).collect()
    };
    let files = read("objects", ".o");
    let objects: Vec<_> = files.iter().map(|it| Object::parse(it).expect("an object")).collect();
    let kernels = read("kernels", ".zst");
    assert!(!objects.is_empty() && !kernels.is_empty());
    for target in &kernels {
        let whole = kernel(target, &[]).expect("valid BTF");
        let small = reduce(&whole, &objects);
        assert_eq!(small, reduce(&whole, &objects));
        let reduced = kernel(&small.vmlinux, &[]).expect("valid BTF");
        assert!(small.vmlinux.len() * 20 < target.len(), "{} of {}", small.vmlinux.len(), target.len());
        assert_eq!(reduce(&reduced, &objects), small, "it cannot be made smaller");
        for object in &objects {
            let fold = |kernel| outcomes(Loader::Libbpf, object, kernel, Modules::Each, |_| true);
            for (record, (a, b)) in object.relocs().iter().zip(fold(&whole).iter().zip(&fold(&reduced))) {
                let order = ByteOrder::Little;
                let [row_a, row_b] = [a, b].map(|it| row(record.raw_kind, Row::of_outcome(it, order)));
                assert_eq!(
                    (row_a, reasons(record.raw_kind, a)),
                    (row_b, reasons(record.raw_kind, b)),
                    "{}",
                    object.path(record)
                );
            }
        }
        assert!(reduced.vmlinux.btf.ty(TypeId(1)).is_some());
    }
}
