//! Minimal BTF against the whole one: libbpf answers every record alike with either, ids aside.
//!
//! `BTFLEET_DIFF_RECORDS` and `BTFLEET_DIFF_SEED` as for random cases.
#![expect(clippy::print_stderr, reason = "a test says how much it judged")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use btfleet_engine::batch::{Batch, Questions, outcomes};
use btfleet_engine::btf::{Btf, TypeId};
use btfleet_engine::depend::{Severity, answer, needs};
use btfleet_engine::dialect::{Loader, Release, Rules};
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::btf::Kind;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::{Kernel, PackSource};
use btfleet_engine::minimal::{Minimal, minimal};
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::pack::{self, Added, Facts, NewKernel, NewModule, PackFile};
use btfleet_engine::resolve::{Code, Outcome};
use btfleet_tests::build::ByteOrder;
use btfleet_tests::generator::{Case, Site};
use btfleet_tests::oracle::{Answer, ExtractedObject, Options, Oracle, extract};

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

/// All files below a directory, by path.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What libbpf makes of an object with a minimal BTF.
fn oracle_answers(
    oracle: &mut Oracle,
    small: &Minimal,
    object: &ExtractedObject,
    options: Options,
) -> Vec<Answer> {
    oracle.set_target(&small.vmlinux, &[]).expect("a valid target");
    oracle.relocate(&object.program, options).expect("answers")
}

fn reduce(kernel: &Kernel<'_>, objects: &[Object<'_>]) -> Minimal {
    reduce_for(Loader::Libbpf, kernel, objects)
}

fn reduce_for(loader: Loader, kernel: &Kernel<'_>, objects: &[Object<'_>]) -> Minimal {
    let btf = &kernel.vmlinux.btf;
    let questions = Questions::new(&Batch::SEQUENTIAL, objects, &Rules::of(loader, btf.pointer_size()));
    minimal(kernel, loader, &questions.distinct(btf.endian()), &[]).expect("a minimal BTF")
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
    // Ids of types of several modules are equal or not by chance, and equal ones are no ambiguity.
    let ids_decide = modules.len() > 1 || case.records.iter().any(|it| it.site != Site::Own);
    if ids_decide && case.records.iter().any(|it| is_id(it.kind)) {
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

/// What is kept of the same kernel in a pack, behind another one; `None` if packs do not take it.
fn of_pack(vmlinux: &[u8], modules: &[Vec<u8>], object: &Object<'_>) -> Option<Minimal> {
    let whole = kernel(vmlinux, modules)?;
    let facts = Facts::default();
    let new_modules = whole.modules.iter().zip(modules).map(|(module, bytes)| NewModule {
        name: &module.name,
        btf: &module.indexed.btf,
        bytes,
    });
    let new = |name, modules: Vec<_>| NewKernel {
        name,
        facts: &facts,
        vmlinux: &whole.vmlinux.btf,
        vmlinux_bytes: vmlinux,
        modules,
    };
    // The one in front, without modules, has all types of vmlinux.
    let mut kernels = vec![new("bare", Vec::new()), new("whole", new_modules.collect())];
    if modules.is_empty() {
        kernels.pop();
    }
    let (bytes, added) = pack::build(&kernels).expect("a pack");
    if added.iter().any(|it| matches!(it, Added::Refused(_))) {
        return None;
    }
    let file = PackFile::from_bytes(bytes);
    let (source, kernels) = PackSource::kernels(file.view().expect("a pack")).expect("kernels");
    let (_, kernel) = kernels.last().expect("a kernel");
    let minimal = reduce(kernel, std::slice::from_ref(object));
    assert_eq!(source.damage(), None);
    Some(minimal)
}

/// Check that a pack's kernels come out as from files, to the byte, with their modules.
#[test]
fn packs_give_the_same_minimal_btf() {
    let (mut same, mut refused) = (0, 0);
    for number in 0..1500 {
        let order = if number % 3 == 2 { ByteOrder::Big } else { ByteOrder::Little };
        let case = Case::generate_in(order, 0x9acc << 32 | number);
        let (target, modules, file) = (case.target_btf(), case.module_btfs(), case.to_object());
        let (Some(whole), Ok(object)) = (kernel(&target, &modules), Object::parse(&file)) else { continue };
        match of_pack(&target, &modules, &object) {
            Some(packed) => {
                let own = reduce(&whole, std::slice::from_ref(&object));
                assert!(own == packed, "case of seed {number}:\n{case}");
                same += 1;
            }
            None => refused += 1,
        }
    }
    eprintln!("{same} kernels alike, {refused} that packs refuse");
    assert!(same > refused);
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
                panic!(
                    "run {seed}: with minimal BTF the case after {records} records is answered differently:\n{small}{why}"
                );
            }
            None => by_ids += 1,
        }
        if records >= wanted {
            eprintln!("{records} records of {} cases alike; {by_ids} left out that ids decide", number + 1);
            return;
        }
    }
}

/// Check that libbpf makes the same of every record of real objects on real kernels, with what is kept for all objects and
/// with what is kept for each alone. A few of them, all if `BTFLEET_MINIMAL_ALL` is set.
#[test]
fn real_objects_come_out_the_same() {
    let Some(corpus) = btfleet_tests::corpus("minimal BTF is not tried on real objects") else { return };
    let all = std::env::var_os("BTFLEET_MINIMAL_ALL").is_some();
    let mut paths: Vec<_> = files_below(&corpus.join("objects"));
    paths.retain(|it| it.extension().is_some_and(|it| it == "o"));
    let mut kernels = files_below(&corpus.join("kernels"));
    kernels.retain(|it| it.extension().is_some_and(|it| it == "btf"));
    let skip = if all { 1 } else { 5 };
    let files: Vec<_> = paths.iter().step_by(skip).map(|it| fs::read(it).expect("an object")).collect();
    let (parsed, extracted): (Vec<_>, Vec<_>) =
        files.iter().filter_map(|it| Some((Object::parse(it).ok()?, extract(it).ok()?))).unzip();
    let mut oracle = oracle();
    let options = Options { log: false, compare_pruning: false };
    let (mut records, mut pairs) = (0, 0);
    for path in kernels.iter().step_by(skip) {
        let target = fs::read(path).expect("a kernel");
        let whole = kernel(&target, &[]).expect("valid BTF");
        let endian = whole.vmlinux.btf.endian();
        let is_judged = |it: &(&Object<'_>, &ExtractedObject)| {
            it.0.endian() == endian && !it.1.program.records.is_empty()
        };
        let of_kernel = || parsed.iter().zip(&extracted).filter(is_judged);
        oracle.set_target(&target, &[]).expect("a valid target");
        let before: Vec<_> =
            of_kernel().map(|it| oracle.relocate(&it.1.program, options).expect("answers")).collect();
        let mut compare = |small: &Minimal, number: usize, object: (&Object<'_>, &ExtractedObject)| {
            let after = oracle_answers(&mut oracle, small, object.1, options);
            let before = before.get(number).expect("answers of each object");
            assert_eq!(before.len(), after.len());
            for ((record, a), b) in object.1.program.records.iter().zip(before).zip(&after) {
                let [a, b] = [a, b].map(|it| row(record.kind, Row::of_answer(it)));
                assert_eq!(a, b, "object {number} on {}", path.display());
            }
            records += after.len();
            pairs += 1;
        };
        let joint = reduce(&whole, &parsed);
        for (number, object) in of_kernel().enumerate() {
            compare(&joint, number, object);
            if all || number % 4 == 0 {
                compare(&reduce(&whole, std::slice::from_ref(object.0)), number, object);
            }
        }
    }
    eprintln!("{records} records of {pairs} pairs alike");
    assert!(records > 0);
}

/// Check that everything else that programs need of a kernel is answered alike by what is kept for it, on real kernels and
/// modules where there are any.
#[test]
fn other_needs_are_answered_alike() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let mut object_paths = files_below(&samples.join("objects"));
    let mut kernels: Vec<Vec<PathBuf>> =
        files_below(&samples.join("kernels")).into_iter().map(|it| vec![it]).collect();
    if let Some(corpus) = btfleet_tests::corpus("needs are tried on the samples only") {
        object_paths.extend(files_below(&corpus.join("objects")).into_iter().step_by(3));
        for release in ["6.12.117+deb13-cloud-amd64", "6.18.15+deb13-cloud-amd64"] {
            let modules = files_below(&corpus.join("modules").join(release));
            kernels
                .push([corpus.join(format!("kernels/{release}.btf"))].into_iter().chain(modules).collect());
        }
    }
    object_paths.retain(|it| it.extension().is_some_and(|it| it == "o"));
    let files: Vec<_> = object_paths.iter().map(|it| fs::read(it).expect("an object")).collect();
    let objects: Vec<_> = files.iter().filter_map(|it| Object::parse(it).ok()).collect();
    let (mut count, mut met) = (0, 0);
    for paths in &mut kernels {
        paths.retain(|it| it.to_string_lossy().contains(".btf"));
        let units: Vec<Vec<u8>> = paths
            .iter()
            .map(|it| btfleet_engine::ingest::Intake::default().read(it).expect("a file"))
            .collect();
        let (vmlinux, modules) = units.split_first().expect("vmlinux");
        let whole = kernel(vmlinux, modules).expect("valid BTF");
        let wanted: Vec<_> = objects
            .iter()
            .filter(|it| it.endian() == whole.vmlinux.btf.endian())
            .flat_map(|it| needs(it).into_iter().map(|it| it.need))
            .collect();
        let small = minimal(&whole, Loader::Libbpf, &[], &wanted).expect("a minimal BTF");
        // Modules keep the names of their numbers.
        let mut reduced = Kernel::parse(&small.vmlinux).expect("valid BTF");
        for (number, module) in &small.modules {
            reduced.add_module(format!("module {number}"), module).expect("valid BTF");
        }
        for need in &wanted {
            for modules in [Modules::All, Modules::Each] {
                let [a, b] = [&whole, &reduced].map(|it| answer(need, it, modules));
                met += usize::from(a.severity == Severity::Fine);
                assert_eq!(a, b, "{need:?}");
                count += 1;
            }
        }
    }
    eprintln!("{count} answers alike, {met} of them fine");
    assert!(met > 0 && met < count);
}

/// Check that other loaders too make the same of every record, and for the same reasons, with what is kept for them: of
/// generated cases and of the samples.
#[test]
fn other_loaders_give_the_same_answers() {
    let release = |text| Loader::Kernel(Release::parse(text).expect("a release"));
    let loaders = [release("5.17"), release("6.1.0"), release("7.3.4"), Loader::Aya];
    let (mut count, mut by_ids) = (0, 0);
    let mut different: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..3000 {
        let order = if number % 3 == 2 { ByteOrder::Big } else { ByteOrder::Little };
        let case = Case::generate_in(order, 0x10ad << 32 | number);
        let (target, modules, file) = (case.target_btf(), case.module_btfs(), case.to_object());
        let (Some(whole), Ok(object)) = (kernel(&target, &modules), Object::parse(&file)) else { continue };
        let units = std::iter::once(&whole.vmlinux).chain(whole.modules.iter().map(|it| &it.indexed));
        let is_id = |it: &Reloc<'_>| it.kind == Some(RelocKind::TypeIdTarget);
        if units.into_iter().any(|it| has_odd_bitfields(&it.btf)) || object.relocs().iter().any(is_id) {
            by_ids += 1;
            continue;
        }
        for loader in loaders {
            let small = reduce_for(loader, &whole, std::slice::from_ref(&object));
            let small_modules: Vec<_> = small.modules.iter().map(|(_, it)| it.clone()).collect();
            let reduced = kernel(&small.vmlinux, &small_modules).expect("valid BTF");
            let fold = |kernel| outcomes(loader, &object, kernel, Modules::All, |_| true);
            for (record, (a, b)) in object.relocs().iter().zip(fold(&whole).iter().zip(&fold(&reduced))) {
                let kind = record.raw_kind;
                let [row_a, row_b] = [a, b].map(|it| row(kind, Row::of_outcome(it, order)));
                let (a, b) = ((row_a, reasons(kind, a)), (row_b, reasons(kind, b)));
                if a != b {
                    let text = format!("record #{}:\n{case}\n  {a:?}\n  {b:?}", record.number);
                    different.entry(loader.to_string()).or_default().push(text);
                }
                count += 1;
            }
        }
    }
    for (loader, texts) in &different {
        eprintln!(
            "{loader}: {} different, such as {}",
            texts.len(),
            texts.first().map_or("", String::as_str)
        );
    }
    assert!(different.is_empty() && count > 0);
    eprintln!("{count} outcomes alike; {by_ids} cases left out that ids decide");
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
        paths.iter().map(|it| btfleet_engine::ingest::Intake::default().read(it).expect("a file")).collect()
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
