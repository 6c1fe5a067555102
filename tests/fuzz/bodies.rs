//! What the fuzz targets do with their bytes. Shared by `fuzz_targets/` and by the replay of the seeds on stable
//! (`tests/tests/fuzz_seeds.rs`), so that both check the same.

#![allow(
    clippy::indexing_slicing,
    reason = "a panic is how a test fails; expect does not fit both crates' lints"
)]

#[expect(unsafe_code, reason = "it calls the functions as C does")]
#[path = "border.rs"]
mod c_border;

use std::path::Path;
use std::sync::Arc;

use btfleet_engine::batch::{Batch, Questions, Run, outcomes as resolve_pair};
use btfleet_engine::btf::{Btf, NameHash, RootIndex, TypeId, essential_name, relocate_distilled};
use btfleet_engine::depend::needs;
use btfleet_engine::dialect::{Loader, Release, Rules, Validate};
use btfleet_engine::explain::explain;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::Endian;
use btfleet_engine::ingest::{BtfBytes, Intake, Limits, Opened, embedded, looks_like_kernel};
use btfleet_engine::kernel::Kernel;
use btfleet_engine::minimal::minimal;
use btfleet_engine::object::Object;
use btfleet_engine::prog_load::ProgLoad;
use btfleet_engine::relocate::{Optional, instructions, plan};
use btfleet_engine::report::{World, check};
use btfleet_engine::resolve::Outcome;

/// A target's name and body.
type Target = (&'static str, fn(&[u8]));

/// All targets by name.
pub(crate) const TARGETS: [Target; 10] = [
    ("btf", btf),
    ("btf_ext", btf_ext),
    ("object", object),
    ("skeleton", skeleton),
    ("image", image),
    ("resolve", resolve),
    ("relocate", relocate),
    ("border", border),
    ("archive", archive),
    ("elf_inside", elf_inside),
];

/// Types of one BTF, and records of one object, that are looked at where looking at all would be quadratic.
const SOME: usize = 64;

/// Runs the target of this name.
pub(crate) fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(own, _)| *own == name);
    let (_, body) = target.expect("a target of this name");
    body(data);
}

/// BTF blobs one behind the other: vmlinux (or a distilled base), a module, another vmlinux.
fn btf(data: &[u8]) {
    let [first, second, third] = blobs(data);
    let Ok(base) = Btf::parse(first) else { return };
    walk(&base);
    let base = Arc::new(base);
    if let Ok(split) = Btf::parse_split(second, Arc::clone(&base)) {
        assert_eq!(split.start_id().0, base.type_count());
        walk(&split);
    }
    let target =
        if third.is_empty() { Arc::clone(&base) } else { Arc::new(walked(third).unwrap_or_else(empty)) };
    if let Ok(moved) = relocate_distilled(second, first, &target) {
        assert_eq!(moved.len(), second.len(), "ids and offsets are replaced in place");
        let split = Btf::parse_split(&moved, Arc::clone(&target)).expect("a relocated module is a module");
        walk(&split);
    }
}

fn walked(data: &[u8]) -> Option<Btf<'_>> {
    let btf = Btf::parse(data).ok()?;
    walk(&btf);
    Some(btf)
}

fn empty<'data>() -> Btf<'data> {
    const EMPTY: &[u8] = b"\x9f\xeb\x01\0\x18\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0";
    Btf::parse(EMPTY).expect("a BTF without types")
}

/// Splits `data` where the headers say that a BTF ends; the last part takes the rest.
fn blobs(data: &[u8]) -> [&[u8]; 3] {
    let (first, rest) = data.split_at(blob_len(data));
    let (second, third) = rest.split_at(blob_len(rest));
    [first, second, third]
}

fn blob_len(data: &[u8]) -> usize {
    let endian = if data.starts_with(&[0xeb]) { Endian::Big } else { Endian::Little };
    let word = |at: usize| endian.u32_at(data, at).unwrap_or(0);
    let end = |at: usize| u64::from(word(4)) + u64::from(word(at)) + u64::from(word(at + 4));
    usize::try_from(end(8).max(end(16))).unwrap_or(usize::MAX).min(data.len())
}

/// Asks a BTF everything about its own types.
fn walk(btf: &Btf<'_>) {
    let index = RootIndex::build(btf);
    let exists = |id: TypeId| assert!(btf.ty(id).is_some(), "[{id}] is referred to and does not exist");
    let mut count = 0;
    for (id, ty) in btf.own_types() {
        count += 1;
        assert!(btf.str_at(ty.name_off).is_some(), "[{id}]: a name past the end");
        btf.type_name(id);
        let size = btf.resolve_size(id);
        if ty.kind.is_composite() || ty.kind.is_any_enum() {
            assert_eq!(size, Ok(ty.size()), "[{id}]");
        }
        if let Some((_, skipped)) = btf.skip_mods_and_typedefs(id) {
            assert!(!skipped.kind.is_mod_or_typedef(), "[{id}]");
        }
        if let Some((inner, _)) = btf.skip_to_innermost_element(id) {
            exists(inner);
        }
        if ty.kind.is_composite() {
            assert_eq!(ty.members().len(), ty.vlen() as usize, "[{id}]");
        }
        for (number, member) in (0..).zip(ty.members()) {
            exists(member.type_id);
            assert!(btf.str_at(member.name_off).is_some(), "[{id}]: a member's name past the end");
            let same = ty.member(number).expect("a member of that number");
            assert_eq!((same.bit_offset, same.bitfield_size), (member.bit_offset, member.bitfield_size));
        }
        assert!(ty.member(ty.vlen()).is_none() && ty.enumerator(ty.vlen()).is_none());
        if ty.kind.is_any_enum() {
            assert_eq!(ty.enumerators().count(), ty.vlen() as usize, "[{id}]");
        }
        for enumerator in ty.enumerators() {
            assert!(btf.str_at(enumerator.name_off).is_some(), "[{id}]: an enumerator's name past the end");
        }
        ty.params().for_each(|param| exists(param.type_id));
        ty.sec_vars().for_each(|var| exists(var.type_id));
        let name = btf.name(ty.name_off);
        assert!(btf.name_is(ty.name_off, name) && btf.is_anonymous(ty.name_off) == name.is_empty());
        if !name.is_empty() && count <= SOME {
            // What the index finds is what looking at each type finds.
            let essential = essential_name(name);
            let found = index.candidates(btf, essential, NameHash::of(essential), ty.kind);
            let expected = btf.own_types().filter(|(_, other)| {
                other.kind.core_compat(ty.kind) && essential_name(btf.name(other.name_off)) == essential
            });
            assert!(found.eq(expected.map(|(other, _)| other)), "[{id}]: candidates");
        }
    }
    let own = btf.type_count() - btf.start_id().0;
    assert_eq!(count, own as usize, "ids without a type");
    assert!(btf.ty(TypeId(btf.type_count())).is_none());
}

/// The bytes as `.BTF.ext` of an object whose other sections are fixed.
fn btf_ext(data: &[u8]) {
    let endian = if data.starts_with(&[0xeb]) { Endian::Big } else { Endian::Little };
    let writer = Writer(endian);
    let types = writer.btf();
    let file = writer.object(&types, data);
    let object = Object::parse(&file).expect("only .BTF.ext can be corrupt");
    assert!(object.btf().is_some() && object.programs().len() == 4, "the frame of the object");
    exercise(&object);
    let kernel = Kernel::parse(&types).expect("sound");
    fold(&object, &kernel);
    patch(&object, &kernel);
}

/// An object file.
fn object(data: &[u8]) {
    if let Ok(object) = Object::parse(data) {
        exercise(&object);
    }
}

/// A file of any kind that is taken for an archive: limits hold, and names are names.
fn archive(data: &[u8]) {
    let limits = Limits { expanded: 1 << 20, archive: 4 << 20, members: 64, nesting: 3 };
    let intake = Intake { limits, encode: None };
    let path = Path::new("a");
    if let Ok(Opened::Archive(archive)) = intake.open_bytes(data.to_vec(), path) {
        let (mut bytes, mut count) = (0, 0);
        let errors = archive.visit(&|_| true, &mut |member| {
            assert!(member.path.to_string_lossy().starts_with("a!/"), "{member:?}");
            assert!(member.data.len() as u64 <= limits.expanded);
            bytes += member.data.len() as u64;
            count += 1;
            Ok(true)
        });
        assert!(bytes <= limits.archive && count <= limits.members, "{bytes} bytes, {count} members");
        assert!(
            errors.iter().all(|it| it.path.starts_with("a") || it.path.to_string_lossy().starts_with("a!/"))
        );
    }
    let found = intake.objects_of_bytes(path, data.to_vec());
    assert!(!found.is_empty(), "one that was named is an object or an error");
    for file in found.into_iter().flatten() {
        let _ = Object::parse(&file.data);
    }
}

/// An executable: what is found in it is an object, and stands in it or is shorter.
fn elf_inside(data: &[u8]) {
    let mut found = embedded(data).into_iter().peekable();
    while let Some(it) = found.next() {
        assert!(it.offset < data.len());
        assert!(found.peek().is_none_or(|next| next.offset >= it.offset));
        if it.kind == "object" {
            assert_eq!(data.get(it.offset..it.offset + it.data.len()), Some(it.data.as_slice()));
        }
        if let Ok(object) = Object::parse(&it.data) {
            assert!(object.programs().len() <= it.data.len());
        }
    }
}

/// A file with a light skeleton: what is found is an object, and its programs can be linked.
fn skeleton(data: &[u8]) {
    for found in btfleet_engine::skeleton::find(data) {
        assert!(found.offset < data.len());
        let object = Object::parse(&found.object).expect("what is written is an object");
        for (number, program) in object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram) {
            let load = ProgLoad::new(&object, number);
            assert!(load.insns.len() as u64 >= program.len);
        }
        exercise(&object);
    }
}

/// A kernel's image: what is found is not longer than what it was found in, and what it says can be said.
fn image(data: &[u8]) {
    const EXPANDED_MAX: u64 = 1 << 20;
    let limits = Limits { expanded: EXPANDED_MAX, ..Limits::DEFAULT };
    let intake = Intake { limits, encode: None };
    looks_like_kernel(data);
    match BtfBytes::find(&intake, data.to_vec(), Path::new("image")) {
        Ok(found) => {
            let most = EXPANDED_MAX.max(data.len() as u64);
            let base = found.distilled_base().unwrap_or_default();
            assert!((found.btf().len() + base.len()) as u64 <= 2 * most);
            walked(found.btf());
            assert!(found.said.release.is_none_or(|it| it.is_ascii() && it.len() <= data.len().max(64)));
        }
        Err(error) => assert!(!error.what.is_empty()),
    }
}

/// Asks an object everything that it can be asked without a kernel.
fn exercise(object: &Object<'_>) {
    let programs = object.programs();
    for (number, program) in programs.iter().enumerate() {
        let linked = object.linked_functions(number);
        assert!(linked.binary_search(&number).is_ok() && linked.is_sorted(), "{linked:?}");
        let code = instructions(object, object.file(), number);
        assert_eq!(code.len(), linked.len(), "each linked function has its instructions");
        for (body, it) in code.iter().zip(linked) {
            assert_eq!(body.len() as u64, programs[it].len);
        }
        assert!(program.len > 0 && program.offset.checked_add(program.len).is_some());
    }
    for reloc in object.relocs() {
        object.path(reloc);
        object.root_name(reloc);
        assert!(matches!(object.insn_bytes(reloc).len(), 0 | 8 | 16));
        let line = object.source_line(reloc);
        let Some(program) = reloc.program else {
            assert!(line.is_none(), "a line of no program");
            continue;
        };
        let program = &programs[program];
        let body = program.offset..program.offset + program.len;
        assert!(body.contains(&u64::from(reloc.insn_off)) && program.section == reloc.section);
    }
    if !object.relocs().is_empty() {
        assert!(object.btf().is_some(), "records are read with the object's BTF only");
    }
    for symbol in object.externs() {
        assert!(!format!("{symbol:?}").is_empty());
    }
    if let Some(btf) = object.btf() {
        assert_eq!(btf.pointer_size(), 8);
        walk(btf);
    }
}

/// A length in four little-endian bytes, an object of that length, a kernel's BTF, BTFs of up to two modules.
fn inputs(data: &[u8]) -> Option<(&[u8], [&[u8]; 3])> {
    let (len, rest) = data.split_first_chunk::<4>()?;
    let (object, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    Some((object, blobs(rest)))
}

/// Bytes that say what a C program does wrong, and the same inputs.
fn border(data: &[u8]) {
    let Some((control, rest)) = data.split_first_chunk::<{ c_border::CONTROL_LEN }>() else { return };
    let Some((object, btfs)) = inputs(rest) else { return };
    c_border::border(*control, object, btfs);
}

/// The kernel and how many modules it has.
fn kernel([vmlinux, first, second]: [&[u8]; 3]) -> Option<Kernel<'_>> {
    let mut kernel = Kernel::parse(vmlinux).ok()?;
    for (name, module) in [("one", first), ("two", second)] {
        // An unreadable one is left out, as the command line does.
        kernel.add_module(name.into(), module).ok();
    }
    Some(kernel)
}

/// An object on a kernel.
fn resolve(data: &[u8]) {
    let Some((object, btfs)) = inputs(data) else { return };
    let (Ok(object), Some(kernel)) = (Object::parse(object), kernel(btfs)) else { return };
    fold(&object, &kernel);
    reduce(&object, &kernel);
}

/// Keeps what an object needs of a kernel: that is BTF, and gives as many outcomes.
fn reduce(object: &Object<'_>, kernel: &Kernel<'_>) {
    let objects = std::slice::from_ref(object);
    let needs: Vec<_> = needs(object).into_iter().map(|it| it.need).collect();
    for (loader, needs) in [
        (Loader::Libbpf, &[][..]),
        (Loader::Kernel(Release { major: 6, minor: 12, patch: 0 }), &[]),
        (Loader::Aya, &needs),
    ] {
        let btf = &kernel.vmlinux.btf;
        let questions = Questions::new(&Batch::SEQUENTIAL, objects, &Rules::of(loader, btf.pointer_size()));
        let questions = questions.distinct(btf.endian());
        let Ok(small) = minimal(kernel, loader, &questions, needs) else { continue };
        let mut reduced = Kernel::parse(&small.vmlinux).expect("BTF");
        walk(&reduced.vmlinux.btf);
        for (number, module) in &small.modules {
            assert!(kernel.modules.get(*number).is_some());
            reduced.add_module(number.to_string(), module).expect("a module's BTF");
        }
        reduced.modules.iter().for_each(|it| walk(&it.indexed.btf));
        let count = |kernel| resolve_pair(loader, object, kernel, Modules::All, |_| true).len();
        assert_eq!(count(kernel), count(&reduced));
    }
}

/// Folds an object over a kernel by every loader's rules, judges it and explains some records.
fn fold(object: &Object<'_>, kernel: &Kernel<'_>) {
    if object.endian() != kernel.vmlinux.btf.endian() {
        assert!(resolve_pair(Loader::Libbpf, object, kernel, Modules::All, |_| true).is_empty());
        return;
    }
    let (records, modules) = (object.relocs(), kernel.modules.len());
    let run = Run::of_pair(Loader::Libbpf, object, kernel, Modules::All);
    let outcomes = resolve_pair(Loader::Libbpf, object, kernel, Modules::All, |_| true);
    assert_eq!(outcomes.len(), records.len(), "an outcome for each record");
    assert_eq!(
        resolve_pair(Loader::Libbpf, object, kernel, Modules::All, |_| true),
        outcomes,
        "always the same answers"
    );
    for (number, (record, outcome)) in records.iter().zip(&outcomes).enumerate() {
        match outcome {
            Outcome::Decided(decision) => {
                assert!(matches!(decision.insn.len(), 8 | 16) && record.program.is_some());
                if let Some(candidate) = decision.candidate {
                    let shape = run.shape_of(0, number, 0, candidate).expect("a candidate is a type");
                    let id = run.id_of(0, number, 0, candidate).expect("and has an id");
                    let name = |btf: &Btf<'_>, id| btf.ty(id).map(|it| btf.name(it.name_off).to_vec());
                    let of_kernel = match candidate.module {
                        Some(module) => &kernel.modules[module as usize].indexed.btf,
                        None => &kernel.vmlinux.btf,
                    };
                    assert_eq!(name(shape.btf, shape.id), name(of_kernel, id));
                    assert!(candidate.module.is_none_or(|it| (it as usize) < modules));
                }
            }
            Outcome::ModuleDependent(_) => panic!("all modules are there"),
            Outcome::Skipped => assert!(record.program.is_none()),
            Outcome::Fatal(error) => assert!(error.errno() < 0 && !error.code().is_empty()),
        }
    }
    let each = resolve_pair(Loader::Libbpf, object, kernel, Modules::Each, |_| true);
    assert_eq!(each.len(), records.len());
    if modules == 0 {
        assert_eq!(each, outcomes, "without modules it does not matter how they are looked at");
    }
    let none = resolve_pair(Loader::Libbpf, object, kernel, Modules::All, |_| false);
    assert!(none.iter().all(|it| matches!(it, Outcome::Skipped | Outcome::Fatal(_))));

    let release = |text| Loader::Kernel(Release::parse(text).expect("a release"));
    let loaders = [Loader::Libbpf, release("5.17"), release("6.12"), Loader::Aya, Loader::EbpfGo];
    let entries: Vec<_> =
        (0..object.programs().len()).filter(|&it| !object.programs()[it].is_subprogram).collect();
    for loader in loaders {
        let outcomes = resolve_pair(loader, object, kernel, Modules::All, |_| true);
        assert_eq!(outcomes.len(), records.len());
        // The last record: what earlier ones did bears on it.
        if let Some(last) = outcomes.last() {
            let explained = explain(object, kernel, loader, Modules::All, records.len() - 1);
            assert_eq!(
                explained.map(|it| it.outcome).as_ref(),
                Some(last),
                "an explanation of another outcome"
            );
        }
        if entries.len() > SOME {
            continue;
        }
        for modules in [Modules::All, Modules::Each] {
            let (objects, kernels) = (std::slice::from_ref(object), std::slice::from_ref(kernel));
            let batch = Batch::SEQUENTIAL;
            let run = Run::validating(&batch, objects, kernels, &[loader], modules, Validate::Strict);
            let verdicts = check(&run, None, &World::default(), 0);
            // Nothing is said of kernels of another byte order, nor of those that relocate nothing.
            let verdicts = verdicts.on(0).unwrap_or_default().to_vec();
            assert!(
                verdicts.iter().map(|it| it.program).eq(entries.iter().copied()),
                "a verdict for each entry"
            );
            for verdict in verdicts {
                let named = verdict.findings.iter().filter_map(|it| it.reloc);
                let named = named.chain(verdict.aborted_by.map(|it| it.reloc));
                assert!(named.into_iter().all(|it| it < records.len()), "findings are about records");
            }
        }
    }
    // From the front and from the back; each folds the whole object.
    for number in (0..records.len().min(3)).chain(records.len().saturating_sub(2)..records.len()) {
        let explanation =
            explain(object, kernel, Loader::Libbpf, Modules::All, number).expect("there is such a record");
        assert_eq!(explanation.outcome, outcomes[number], "an explanation of another outcome");
        assert!(!explanation.meaning.is_empty());
    }
    assert!(explain(object, kernel, Loader::Libbpf, Modules::All, records.len()).is_none());
}

/// An object relocated for a kernel.
fn relocate(data: &[u8]) {
    let Some((object, btfs)) = inputs(data) else { return };
    let (Ok(object), Some(kernel)) = (Object::parse(object), kernel(btfs)) else { return };
    patch(&object, &kernel);
}

/// Relocates in every way; what comes out is an object with the same programs, and doing it again changes nothing.
fn patch(object: &Object<'_>, kernel: &Kernel<'_>) {
    if object.endian() != kernel.vmlinux.btf.endian() {
        return;
    }
    for modules in [Modules::All, Modules::Each] {
        for optional in [Optional::Relocate, Optional::Leave] {
            let run = Run::of_pair(Loader::Libbpf, object, kernel, modules);
            let Some(Ok(made)) = plan(&run, 0, optional).pop().map(|it| it.plan) else { continue };
            let file = made.patch.apply(object);
            assert_eq!(file.len(), object.file().len(), "the file keeps its size");
            let after = Object::parse(&file).expect("still an object");
            let names = |object: &Object<'_>| -> Vec<_> {
                object.programs().iter().map(|it| (it.name.to_vec(), it.offset, it.len)).collect()
            };
            assert_eq!(names(&after), names(object), "the same programs");
            assert_eq!(after.refused().is_some(), object.refused().is_some());
            assert_eq!(after.ignored_btf().is_some(), object.ignored_btf().is_some());
            assert!(after.relocs().len() <= object.relocs().len());
            for number in (0..object.programs().len()).filter(|&it| made.patch.leaves(it)) {
                let of = |object: &Object<'_>| {
                    object.relocs().iter().filter(|it| it.program == Some(number)).count()
                };
                assert_eq!(of(&after), of(object), "a program that is left keeps its records");
            }
            // Without the records of the others, a program that was left may have an answer.
            if made.obstacles.is_empty() {
                let run = Run::of_pair(Loader::Libbpf, &after, kernel, modules);
                let again = plan(&run, 0, optional).remove(0).plan.expect("relocates again");
                assert!(again.patch.apply(&after) == file, "relocated twice: other bytes");
            }
        }
    }
}

/// Writes the fixed parts around a fuzzed `.BTF.ext`.
struct Writer(Endian);

/// String offsets: 1 `xdp`, 5 `?tc`, 9 `.text`, 15 `0`, 17 `0:0`, 21 `0:1`, 25 `0:2`, 29 `0:3:1`, 35 `s`, 37 `a`,
/// 39 `b`, 41 `f`, 43 `int`, 47 `e`, 49 `A`, 51 `x.c`, 55 `return s->b;`.
const STRINGS: &[u8] =
    b"\0xdp\0?tc\0.text\x000\x000:0\x000:1\x000:2\x000:3:1\0s\0a\0b\0f\0int\0e\0A\0x.c\0return s->b;\0";

impl Writer {
    fn words(&self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|&it| self.0.u32_bytes(it)).collect()
    }

    fn half(&self, value: u16) -> [u8; 2] {
        match self.0 {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        }
    }

    fn long(&self, value: usize) -> [u8; 8] {
        match self.0 {
            Endian::Little => (value as u64).to_le_bytes(),
            Endian::Big => (value as u64).to_be_bytes(),
        }
    }

    fn short(value: usize) -> u32 {
        u32::try_from(value).expect("fuzzed input is short")
    }

    /// Types: 1 `int`, 2 `int[4]`, 3 `struct s { int a; int b; int f:3; int a[4]; }`, 4 `enum e { A }`, 5 a prototype,
    /// 6 function `xdp`, 7 typedef `a` of 3.
    fn btf(&self) -> Vec<u8> {
        let info = |kind: u32, vlen: u32| kind << 24 | vlen;
        let types = [
            [43, info(1, 0), 4, 1 << 24 | 32].as_slice(),
            &[0, info(3, 0), 0, 1, 1, 4],
            &[35, info(4, 4) | 1 << 31, 28, 37, 1, 0, 39, 1, 32, 41, 1, 3 << 24 | 64, 37, 2, 96],
            &[47, info(6, 1), 4, 49, 7],
            &[0, info(13, 1), 1, 37, 1],
            &[1, info(12, 1), 5],
            &[37, info(8, 0), 3],
        ]
        .concat();
        let types = self.words(&types);
        let (types_len, strings_len) = (Self::short(types.len()), Self::short(STRINGS.len()));
        let header =
            [&self.half(0xeb9f)[..], &[1, 0], &self.words(&[24, 0, types_len, types_len, strings_len])];
        [&header.concat()[..], &types, STRINGS].concat()
    }

    fn insn(&self, code: u8, dst: u8, off: u16, imm: u32) -> Vec<u8> {
        let registers = if self.0 == Endian::Big { dst << 4 } else { dst };
        [&[code, registers][..], &self.half(off), &self.0.u32_bytes(imm)].concat()
    }

    /// An object with programs in `xdp` (two), `?tc` and `.text`.
    fn object(&self, btf: &[u8], ext: &[u8]) -> Vec<u8> {
        const NAMES: &[u8] = b"\0xdp\0?tc\0.text\0.BTF\0.BTF.ext\0.symtab\0.strtab\0p\0q\0";
        let exit = self.insn(0x95, 0, 0, 0);
        let load = |off| self.insn(0x61, 0, off, 0);
        let mov = |imm| self.insn(0xb7, 1, 0, imm);
        let wide = [self.insn(0x18, 2, 0, 4), self.insn(0, 0, 0, 0)].concat();
        let xdp =
            [load(4), mov(4), wide.clone(), mov(0), exit.clone(), load(0), mov(1), exit.clone()].concat();
        let optional = [mov(4), mov(28), wide, exit.clone()].concat();
        let text = [load(4), mov(7), exit].concat();
        let symbol = |name: u32, section: u16, at: usize, len: usize| {
            [&self.0.u32_bytes(name)[..], &[0x12, 0], &self.half(section), &self.long(at), &self.long(len)]
                .concat()
        };
        let symbols = [
            vec![0; 24],
            symbol(46, 1, 0, 48),
            symbol(48, 1, 48, 24),
            symbol(46, 2, 0, 40),
            symbol(48, 3, 0, 24),
        ]
        .concat();
        // Name, type, flags, link, info, alignment, size of an entry, contents.
        type Section<'a> = (u32, u32, usize, u32, usize, &'a [u8]);
        let sections: [Section<'_>; 7] = [
            (1, 1, 6, 0, 0, &xdp),
            (5, 1, 6, 0, 0, &optional),
            (9, 1, 6, 0, 0, &text),
            (15, 1, 0, 0, 0, btf),
            (20, 1, 0, 0, 0, ext),
            (29, 2, 0, 7, 24, &symbols),
            (37, 3, 0, 0, 0, NAMES),
        ];
        let (mut body, mut table) = (vec![0_u8; 64], vec![0_u8; 64]);
        for (name, kind, flags, link, entry, contents) in sections {
            body.resize(body.len().next_multiple_of(8), 0);
            table.extend(self.words(&[name, kind]));
            for value in [flags, 0, body.len(), contents.len()] {
                table.extend(self.long(value));
            }
            table.extend(self.words(&[link, u32::from(kind == 2)]));
            table.extend([self.long(8), self.long(entry)].concat());
            body.extend(contents);
        }
        body.resize(body.len().next_multiple_of(8), 0);
        let order = if self.0 == Endian::Big { 2 } else { 1 };
        let header = [
            &[0x7f, b'E', b'L', b'F', 2, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[self.half(1), self.half(247)].concat(),
            &self.0.u32_bytes(1),
            &[self.long(0), self.long(0), self.long(body.len())].concat(),
            &self.0.u32_bytes(0),
            &[64, 0, 0, 64, 8, 7].map(|it| self.half(it)).concat(),
        ]
        .concat();
        body[..64].copy_from_slice(&header);
        body.extend(table);
        body
    }
}
