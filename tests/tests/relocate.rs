//! Relocated files: what changes in them, what libbpf and aya-obj make of them, and which records stay.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
#![expect(clippy::print_stderr, reason = "the one way for a test to say how much it judged")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use aya_obj::generated::bpf_insn;
use btfleet_engine::batch::Run;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::Endian;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::relocate::{Obstacle, Optional, Plan, instructions, plan};
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, LineInfo, Member, ObjectBuilder, ObjectSection,
};
use btfleet_tests::oracle::{Options, Oracle, Status, elf_section, extract};

const BYTE_OFF: u32 = 0;
const FIELD_EXISTS: u32 = 2;
const TYPE_ID_LOCAL: u32 = 6;
const TYPE_SIZE: u32 = 9;

fn oracle() -> Oracle {
    Oracle::spawn(env!("CARGO_BIN_EXE_oracle")).expect("the oracle starts")
}

/// Names and contents of the committed samples of one kind.
fn samples(kind: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            let bytes = std::fs::read(&path).expect("readable");
            let is_packed = path.extension().is_some_and(|it| it == "zst");
            let bytes = if is_packed { zstd::decode_all(bytes.as_slice()).expect("zstd") } else { bytes };
            (path.file_name().expect("a name").to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

fn parse(file: &[u8]) -> Object<'_> {
    Object::parse(file).expect("an object")
}

fn plan_pair<'a>(
    object: &'a Object<'a>,
    kernel: &'a Kernel<'a>,
    modules: Modules,
    optional: Optional,
) -> Result<Plan, Obstacle> {
    let run = Run::of_pair(Loader::Libbpf, object, kernel, modules);
    let mut planned = plan(&run, 0, optional);
    assert_eq!(planned.len(), 1, "one kernel");
    planned.remove(0).plan
}

fn plan_of(file: &[u8], target: &[u8], optional: Optional) -> Result<Plan, Obstacle> {
    plan_pair(&parse(file), &Kernel::parse(target).expect("a kernel"), Modules::All, optional)
}

/// The file after relocation; it has to be possible.
fn relocated(file: &[u8], target: &[u8]) -> Vec<u8> {
    plan_of(file, target, Optional::Relocate).expect("relocatable").patch.apply(&parse(file))
}

/// Where a part of a file is in it.
fn place(file: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - file.as_ptr().addr()
}

fn u32_at(order: ByteOrder, data: &[u8], at: usize) -> usize {
    order.read_u32(data[at..at + 4].try_into().expect("four bytes")) as usize
}

/// Checks that nothing changed but instructions of records, the CO-RE records and their length; and that behind
/// the records that are left there are zeros.
fn check_changes(name: &str, before: &[u8], after: &[u8]) {
    assert_eq!(before.len(), after.len(), "{name}");
    let extracted = extract(before).expect("readable");
    let mut may_change = vec![false; before.len()];
    let (records, names) = (&extracted.program.records, &extracted.section_names);
    for (record, section) in records.iter().zip(names) {
        let Some(code) = elf_section(before, section) else { continue };
        let at = record.insn_off as usize;
        let Some(&opcode) = code.get(at) else { continue };
        let len = if opcode == 0x18 { 16 } else { 8 };
        let at = place(before, code) + at;
        may_change[at..at + len].fill(true);
    }
    let ext = elf_section(before, ".BTF.ext").expect("checked by extract");
    let at = place(before, ext);
    let order = extracted.order;
    let core = at + u32_at(order, ext, 4) + u32_at(order, ext, 24);
    let core_end = core + u32_at(order, ext, 28);
    may_change[at + 28..at + 32].fill(true);
    may_change[core..core_end].fill(true);
    for (at, (one, two)) in before.iter().zip(after).enumerate() {
        assert!(one == two || may_change[at], "{name}: byte {at} changed");
    }
    let left = core + u32_at(order, after, at + 28);
    assert!(after[left..core_end].iter().all(|&byte| byte == 0), "{name}: freed bytes are not zero");
}

fn encode(insn: &bpf_insn) -> [u8; 8] {
    let [off_low, off_high] = insn.off.to_le_bytes();
    let [a, b, c, d] = insn.imm.to_le_bytes();
    [insn.code, insn.src_reg() << 4 | insn.dst_reg(), off_low, off_high, a, b, c, d]
}

fn aya_code(object: &aya_obj::Object) -> Vec<[u8; 8]> {
    object.functions.values().flat_map(|it| it.instructions.iter().map(encode)).collect()
}

/// Relocates a file with aya; whether it takes the file. The instructions have to stay as they are.
fn check_aya(name: &str, before: &[u8], after: &[u8], kernel: &aya_obj::btf::Btf) -> bool {
    let parses = |file: &[u8]| aya_obj::Object::parse(file).is_ok();
    // It does parse some that it did not before: those with records of kinds that it does not know.
    assert!(!parses(before) || parses(after), "{name}: aya parses only the original");
    let Ok(mut object) = aya_obj::Object::parse(after) else { return false };
    let code = aya_code(&object);
    let result = catch_unwind(AssertUnwindSafe(|| object.relocate_btf(kernel)));
    assert!(matches!(result, Ok(Ok(()))), "{name}: aya does not relocate it");
    assert!(aya_code(&object) == code, "{name}: aya changes instructions");
    true
}

/// Check that on every sample and kernel of its byte order the file has libbpf's instructions, and that libbpf,
/// aya-obj and btfleet relocate the result to itself.
#[test]
fn samples_have_libbpfs_instructions_and_relocate_to_themselves() {
    let mut oracle = oracle();
    let (mut files, mut big_endian, mut by_libbpf, mut by_aya, mut local_ids) = (0, 0, 0, 0, 0);
    let objects = samples("objects");
    for (kernel_name, kernel_bytes) in samples("kernels") {
        let kernel = Kernel::parse(&kernel_bytes).expect("a kernel");
        let is_little = kernel.vmlinux.btf.endian() == Endian::Little;
        let mut aya_kernel = None;
        if is_little {
            oracle.set_target(&kernel_bytes, &[]).expect("a valid kernel");
            aya_kernel = aya_obj::btf::Btf::parse(&kernel_bytes, Default::default()).ok();
        }
        for (object_name, before) in &objects {
            let name = format!("{object_name} on {kernel_name}");
            let object = parse(before);
            if object.endian() != kernel.vmlinux.btf.endian() {
                continue;
            }
            let Ok(plan) = plan_pair(&object, &kernel, Modules::All, Optional::Relocate) else { continue };
            assert!(plan.obstacles.is_empty(), "{name}");
            let after = plan.patch.apply(&object);
            files += 1;
            check_changes(&name, before, &after);

            assert_eq!(
                oracle.open(before).is_ok(),
                oracle.open(&after).is_ok(),
                "{name}: libbpf opens one only"
            );
            assert!(relocated(&after, &kernel_bytes) == after, "{name}: btfleet changes it again");
            let (original, again) = (extract(before).expect("read"), extract(&after).expect("read"));
            let wanted: Vec<_> =
                original.program.records.iter().filter(|it| it.kind == TYPE_ID_LOCAL).copied().collect();
            assert_eq!(again.program.records, wanted, "{name}: other records than local type ids stay");
            local_ids += wanted.len();
            if !is_little {
                big_endian += 1;
                continue;
            }

            // Where the original's records are, the file has what libbpf makes of them.
            for (record, answer) in original
                .program
                .records
                .iter()
                .zip(oracle.relocate(&original.program, Options::default()).expect("answers"))
            {
                let code = &again.program.sections[record.section as usize].code;
                let at = record.insn_off as usize;
                assert_eq!(answer.insn, code[at..at + answer.insn.len()], "{name}: instruction {at}");
                by_libbpf += 1;
            }
            // What libbpf does to the file's own records changes nothing.
            let answers = oracle.relocate(&again.program, Options::default()).expect("answers");
            for (record, answer) in again.program.records.iter().zip(answers) {
                let code = &again.program.sections[record.section as usize].code;
                let at = record.insn_off as usize;
                assert_eq!(answer.status, Status::Ok, "{name}: {}", answer.log);
                assert_eq!(answer.insn, code[at..at + answer.insn.len()], "{name}: instruction {at}");
            }
            if let Some(aya_kernel) = &aya_kernel {
                by_aya += usize::from(check_aya(&name, before, &after, aya_kernel));
            }
        }
    }
    eprintln!(
        "{files} files, {big_endian} of them big-endian; {by_libbpf} instructions compared with libbpf's; \
         {by_aya} files relocated by aya-obj; {local_ids} local type ids stay"
    );
    assert!(files > 35 && big_endian > 5 && by_libbpf > 300 && by_aya > 20 && local_ids > 0);
}

/// An object under construction, with `struct s { int x; int y; }` and a target of two layouts.
struct Fixture {
    order: ByteOrder,
    btf: BtfBuilder,
    ext: BtfExtBuilder,
    object: ObjectBuilder,
    s: u32,
}

impl Fixture {
    fn new(order: ByteOrder) -> Self {
        let mut btf = BtfBuilder::new(order);
        let int = btf.int("int", 4, 1);
        let s = btf.structure("s", 8, &[Member::new("x", int, 0), Member::new("y", int, 32)]);
        let mut this =
            Self { order, btf, ext: BtfExtBuilder::new(order), object: ObjectBuilder::new(order), s };
        this.object.license("GPL");
        this
    }

    /// A kernel: `struct s` has `x` at 4 and `y` at 12.
    fn target(&self) -> Vec<u8> {
        let mut target = BtfBuilder::new(self.order);
        let int = target.int("int", 4, 1);
        target.structure("s", 16, &[Member::new("x", int, 32), Member::new("y", int, 96)]);
        target.finish()
    }

    fn program(&mut self, section: &str, insns: &[Insn]) -> ObjectSection {
        let name: String = section.chars().filter(char::is_ascii_alphanumeric).collect();
        self.object.program(section, &name, insns)
    }

    fn record(&mut self, section: &str, insn_off: u32, path: &str, kind: u32) {
        let (section, access_str_off) = (self.btf.str(section), self.btf.str(path));
        self.ext.core_relo(section, CoreRelo { insn_off, type_id: self.s, access_str_off, kind });
    }

    fn finish(mut self) -> Vec<u8> {
        let (file, text) = (self.btf.str("x.c"), self.btf.str("x"));
        let line = LineInfo { insn_off: 0, file_name_off: file, line_off: text, line: 1, column: 1 };
        let section = self.btf.str("xdp");
        self.ext.line_info(section, line);
        self.object.btf(&self.btf.finish());
        self.object.btf_ext(&self.ext.finish());
        self.object.finish()
    }
}

/// Records of a file as (section, offset, kind).
fn records(file: &[u8]) -> Vec<(String, u32, u32)> {
    let extracted = extract(file).expect("readable");
    let names = extracted.section_names.into_iter();
    names.zip(&extracted.program.records).map(|(name, it)| (name, it.insn_off, it.kind)).collect()
}

/// Instruction number `number` of a section.
fn insn(file: &[u8], section: &str, number: usize, order: ByteOrder) -> Insn {
    let code = elf_section(file, section).expect("it is there");
    Insn::decode(code[number * 8..number * 8 + 8].try_into().expect("eight bytes"), order)
}

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];

/// Check that of the records those of local type ids stay, in their order, and blocks without any go; also with
/// records that are longer than we know.
#[test]
fn local_type_ids_stay_and_blocks_without_any_go() {
    for (order, record_size) in [(ByteOrder::Little, 16), (ByteOrder::Big, 16), (ByteOrder::Little, 20)] {
        let mut it = Fixture::new(order);
        it.ext.record_sizes([8, 16, record_size]);
        let (x, y, id) = (Insn::mov(1, 0), Insn::mov(1, 4), Insn::mov(1, 77));
        it.program("xdp", &[x, id, y, id, Insn::exit()]);
        it.program("tc", &[x, Insn::exit()]);
        it.program("socket", &[id, Insn::exit()]);
        for (offset, path, kind) in
            [(0, "0:0", BYTE_OFF), (8, "0", TYPE_ID_LOCAL), (16, "0:1", BYTE_OFF), (24, "0", TYPE_ID_LOCAL)]
        {
            it.record("xdp", offset, path, kind);
        }
        it.record("tc", 0, "0:0", BYTE_OFF);
        it.record("socket", 0, "0", TYPE_ID_LOCAL);
        let (target, s) = (it.target(), it.s);
        let before = it.finish();
        let after = relocated(&before, &target);
        check_changes("fixture", &before, &after);
        let own = |section: &str, offset| (section.to_owned(), offset, TYPE_ID_LOCAL);
        assert_eq!(records(&after), [own("xdp", 8), own("xdp", 24), own("socket", 0)]);
        let s = i32::try_from(s).expect("small");
        assert_eq!(insn(&after, "xdp", 0, order), Insn::mov(1, 4));
        assert_eq!(insn(&after, "xdp", 1, order), Insn::mov(1, s));
        assert_eq!(insn(&after, "xdp", 2, order), Insn::mov(1, 12));
        assert_eq!(relocated(&after, &target), after);
        assert_eq!(oracle().open(&after).expect("opens"), 3);
    }
}

/// Check that the length of the records is 0 if none is left, and that line information is still there.
#[test]
fn no_record_left_means_length_zero() {
    for order in ORDERS {
        let mut it = Fixture::new(order);
        it.program("xdp", &[Insn::mov(1, 0), Insn::exit()]);
        it.record("xdp", 0, "0:0", BYTE_OFF);
        // Inside no program, and of a section that there is not: libbpf passes over them.
        it.record("xdp", 4096, "0", TYPE_ID_LOCAL);
        it.record("kprobe/gone", 0, "0", TYPE_ID_LOCAL);
        let target = it.target();
        let before = it.finish();
        let after = relocated(&before, &target);
        check_changes("fixture", &before, &after);
        assert_eq!(records(&after), []);
        let ext = elf_section(&after, ".BTF.ext").expect("there");
        assert_eq!(u32_at(order, ext, 28), 0);
        assert!(u32_at(order, ext, 20) > 0, "line information");
        assert_eq!(oracle().open(&after).expect("opens"), 1);
    }
}

/// Check that a file without records, or whose records libbpf ignores, comes out as it went in.
#[test]
fn a_file_without_records_stays_the_same() {
    let mut it = Fixture::new(ByteOrder::Little);
    it.program("xdp", &[Insn::mov(1, 0), Insn::exit()]);
    let target = it.target();
    let plain = it.finish();
    assert_eq!(relocated(&plain, &target), plain);

    let mut it = Fixture::new(ByteOrder::Little);
    it.program("xdp", &[Insn::mov(1, 0), Insn::exit()]);
    it.record("xdp", 0, "0:0", BYTE_OFF);
    let mut broken = it.finish();
    let at = place(&broken, elf_section(&broken, ".BTF.ext").expect("there"));
    broken[at + 2] = 9; // a version that there is not
    assert_eq!(relocated(&broken, &target), broken);
}

/// Check that of records that share an instruction the last one's bytes stand, and that a local type id below
/// them goes: applied again, it would overwrite them.
#[test]
fn later_records_win_and_local_type_ids_below_them_go() {
    for order in ORDERS {
        let mut it = Fixture::new(order);
        it.program("xdp", &[Insn::mov(1, 0), Insn::mov(2, 0), Insn::mov(3, 0), Insn::exit()]);
        let (s, target) = (it.s, it.target());
        it.btf.ptr(s);
        let four = it.btf.ptr(s);
        assert_eq!(four, 4, "as the offset of s.y, so that the record behind it finds what it expects");
        let (section, access_str_off) = (it.btf.str("xdp"), it.btf.str("0"));
        let local_id = |it: &mut Fixture, insn_off, type_id| {
            it.ext.core_relo(section, CoreRelo { insn_off, type_id, access_str_off, kind: TYPE_ID_LOCAL });
        };
        local_id(&mut it, 0, four);
        it.record("xdp", 0, "0:1", BYTE_OFF);
        local_id(&mut it, 8, s);
        local_id(&mut it, 8, four);
        local_id(&mut it, 16, s);
        local_id(&mut it, 16, s);
        let before = it.finish();
        let after = relocated(&before, &target);
        check_changes("fixture", &before, &after);
        let imm = |number| insn(&after, "xdp", number, order).imm;
        assert_eq!([imm(0), imm(1), imm(2)], [12, 4, 2]);
        let stays = |offset| ("xdp".to_owned(), offset, TYPE_ID_LOCAL);
        assert_eq!(records(&after), [stays(8), stays(16), stays(16)]);
        assert_eq!(relocated(&after, &target), after);
    }
}

/// Check that a `?` program with a fatal record is left as it was with its records, and that the others are
/// relocated as if it were not there: its first record would have dropped the candidate that they need.
#[test]
fn an_optional_program_that_fails_is_left_and_prunes_nothing() {
    for order in ORDERS {
        let mut it = Fixture::new(order);
        let mut target = BtfBuilder::new(order);
        let int = target.int("int", 4, 1);
        target.structure("s___a", 8, &[Member::new("x", int, 32)]);
        target.structure("s___b", 8, &[Member::new("y", int, 0)]);
        let target = target.finish();
        it.program("?tc", &[Insn::mov(1, 0), Insn::mov(1, 99), Insn::mov(3, 7), Insn::exit()]);
        it.program("?socket", &[Insn::mov(1, 1), Insn::exit()]);
        it.program("xdp", &[Insn::mov(1, 4), Insn::exit()]);
        it.record("?tc", 0, "0:0", BYTE_OFF);
        it.record("?tc", 8, "0:0", BYTE_OFF);
        it.record("?tc", 16, "0", TYPE_ID_LOCAL);
        it.record("?socket", 0, "0:1", FIELD_EXISTS);
        it.record("xdp", 0, "0:1", BYTE_OFF);
        let before = it.finish();
        let plan = plan_of(&before, &target, Optional::Relocate).expect("relocatable");
        assert_eq!(plan.obstacles.len(), 1);
        assert_eq!(plan.obstacles[0].reloc, 1);
        assert_eq!(plan.obstacles[0].fatal.expect("fatal").code(), "insn-mismatch");
        let object = parse(&before);
        let left: Vec<_> =
            (0..3).filter(|&it| plan.patch.leaves(it)).map(|it| object.programs()[it].name).collect();
        assert_eq!(left, [b"tc"]);
        let after = plan.patch.apply(&object);
        check_changes("fixture", &before, &after);
        let stays = |offset, kind| ("?tc".to_owned(), offset, kind);
        assert_eq!(records(&after), [stays(0, BYTE_OFF), stays(8, BYTE_OFF), stays(16, TYPE_ID_LOCAL)]);
        assert_eq!(elf_section(&after, "?tc"), elf_section(&before, "?tc"));
        assert_eq!(insn(&after, "?socket", 0, order), Insn::mov(1, 1));
        assert_eq!(insn(&after, "xdp", 0, order), Insn::mov(1, 0), "resolved on s___b, not poisoned");
        assert_eq!(relocated(&after, &target), after);
    }
}

/// Check that with libbpf's default all `?` programs are left, and do not bear on the others.
#[test]
fn optional_programs_can_all_be_left() {
    let mut it = Fixture::new(ByteOrder::Little);
    it.program("?tc", &[Insn::mov(1, 0), Insn::exit()]);
    it.program("xdp", &[Insn::mov(1, 4), Insn::exit()]);
    it.record("?tc", 0, "0:0", BYTE_OFF);
    it.record("xdp", 0, "0:1", BYTE_OFF);
    let target = it.target();
    let before = it.finish();
    let plan = plan_of(&before, &target, Optional::Leave).expect("relocatable");
    let after = plan.patch.apply(&parse(&before));
    assert_eq!(records(&after), [("?tc".to_owned(), 0, BYTE_OFF)]);
    assert_eq!(insn(&after, "?tc", 0, ByteOrder::Little), Insn::mov(1, 0));
    assert_eq!(insn(&after, "xdp", 0, ByteOrder::Little), Insn::mov(1, 12));
    assert!(plan.obstacles.is_empty());
    // What is left can be relocated by a second run: the result is that of one run.
    assert_eq!(relocated(&after, &target), relocated(&before, &target));
}

/// Check that a fatal record of any other program means no file, and so does one that libbpf gives up on before
/// it looks for the program.
#[test]
fn a_fatal_record_means_no_file() {
    let failure = |section: &str, offset: u32| {
        let mut it = Fixture::new(ByteOrder::Little);
        it.program(section, &[Insn::mov(1, 99), Insn::exit()]);
        it.record(section, offset, "0:0", BYTE_OFF);
        let target = it.target();
        match plan_of(&it.finish(), &target, Optional::Relocate) {
            Err(Obstacle::Record(it)) => it.fatal.expect("fatal").code(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failure("xdp", 0), "insn-mismatch");
    assert_eq!(failure("xdp", 4), "bad-insn-offset");
    assert_eq!(failure("?xdp", 4), "bad-insn-offset");
}

/// Check that an answer that depends on which module is loaded means no file, or a `?` program that is left.
#[test]
fn answers_that_depend_on_modules_are_not_written() {
    let outcome = |section: &str, kind: Modules| {
        let mut it = Fixture::new(ByteOrder::Little);
        it.program(section, &[Insn::mov(1, 8), Insn::exit()]);
        it.record(section, 0, "0", TYPE_SIZE);
        let mut target = BtfBuilder::new(ByteOrder::Little);
        target.int("int", 4, 1);
        let module = |size| {
            let mut module = BtfBuilder::split(&target);
            module.structure("s", size, &[]);
            module.finish()
        };
        let (base, one, two) = (target.finish(), module(16), module(24));
        let mut kernel = Kernel::parse(&base).expect("a kernel");
        for (name, bytes) in [("one", &one), ("two", &two)] {
            kernel.add_module(name.into(), bytes).expect("a module");
        }
        let file = it.finish();
        plan_pair(&parse(&file), &kernel, kind, Optional::Relocate)
            .map(|plan| (plan.obstacles.len(), plan.modules))
            .map_err(|it| matches!(it, Obstacle::Record(it) if it.fatal.is_none()))
    };
    assert_eq!(outcome("xdp", Modules::Each), Err(true));
    assert_eq!(outcome("?xdp", Modules::Each), Ok((1, vec![])));
    assert_eq!(outcome("xdp", Modules::All), Err(false));
}

/// Check that subprograms are relocated, and are part of what a program is loaded with.
#[test]
fn subprograms_are_relocated_with_their_callers() {
    let mut it = Fixture::new(ByteOrder::Little);
    let text = it.object.code_section(".text");
    it.object.function(text, "helper", false, &[Insn::mov(0, 4), Insn::exit()]);
    // A call relative to itself cannot leave the section: it needs a relocation against the function.
    let call = Insn { code: 0x85, dst: 0, src: 1, off: 0, imm: -1 };
    let section = it.program("xdp", &[Insn::mov(1, 0), call, Insn::exit()]);
    let symbol = it.object.object(text, "in_text", 0, 0);
    it.object.relocation(section, 8, symbol, 10);
    it.record(".text", 0, "0:1", BYTE_OFF);
    it.record("xdp", 0, "0:0", BYTE_OFF);
    let target = it.target();
    let before = it.finish();
    let after = relocated(&before, &target);
    let object = parse(&before);
    let number = object.programs().iter().position(|it| it.name == b"xdp").expect("there");
    let code = instructions(&object, &after, number);
    assert_eq!(code.len(), 2);
    assert_eq!(code.concat().len(), 5 * 8);
    assert_eq!(insn(&after, ".text", 0, ByteOrder::Little), Insn::mov(0, 12));
    assert!(code.contains(&elf_section(&after, ".text").expect("there")));
}

/// Check that an object whose sections overlap in the file is not patched: one change would show up in both.
#[test]
fn sections_that_overlap_in_the_file_are_not_patched() {
    let build = || {
        let mut it = Fixture::new(ByteOrder::Little);
        it.program("xdp", &[Insn::mov(1, 0), Insn::exit()]);
        it.program("tc", &[Insn::mov(1, 0), Insn::exit()]);
        it.record("xdp", 0, "0:0", BYTE_OFF);
        it
    };
    let target = build().target();
    let mut file = build().finish();
    let headers = usize::try_from(u64::from_le_bytes(file[0x28..0x30].try_into().unwrap())).unwrap();
    let [one, two] = ["xdp", "tc"].map(|name| place(&file, elf_section(&file, name).expect("there")) as u64);
    let header = (0..).map(|it| headers + it * 64).find(|&at| file[at + 24..at + 32] == two.to_le_bytes());
    file[header.unwrap() + 24..header.unwrap() + 32].copy_from_slice(&one.to_le_bytes());
    assert_eq!(plan_of(&file, &target, Optional::Relocate), Err(Obstacle::SharedBytes));

    // Line information that lies inside the CO-RE records.
    let mut file = build().finish();
    let ext = place(&file, elf_section(&file, ".BTF.ext").expect("there"));
    let core_off: [u8; 4] = file[ext + 24..ext + 28].try_into().unwrap();
    file[ext + 8..ext + 12].copy_from_slice(&core_off);
    let core_len: [u8; 4] = file[ext + 28..ext + 32].try_into().unwrap();
    file[ext + 12..ext + 16].copy_from_slice(&core_len);
    assert_eq!(plan_of(&file, &target, Optional::Relocate), Err(Obstacle::SharedBytes));
}

/// Check that an object is not patched where an ELF relocation is about a record's instruction: libbpf checks that
/// instruction before CO-RE changes it, and does not open the file in which it is poison.
#[test]
fn instructions_of_elf_relocations_are_not_patched() {
    let mut oracle = oracle();
    for order in ORDERS {
        // With a record in `section`; the ELF relocations are in `xdp` at 8 and 24.
        let build = |section: &str, insn_off: u32| {
            let mut it = Fixture::new(order);
            let text = it.object.code_section(".text");
            let mov = Insn::mov(0, 0);
            it.object.function(text, "helper", false, &[mov, mov, Insn::exit()]);
            let data = it.object.data(".data", &[0; 8]);
            let [low, high] = Insn::ldimm64(2, 0);
            let call = Insn { src: 1, ..Insn::call(-1) };
            let xdp = it.program("xdp", &[mov, low, high, call, mov, Insn::exit()]);
            let in_data = it.object.object(data, "in_data", 0, 8);
            it.object.relocation(xdp, 8, in_data, 1);
            let in_text = it.object.object(text, "in_text", 0, 0);
            it.object.relocation(xdp, 24, in_text, 10);
            it.record(section, insn_off, "0:0", BYTE_OFF);
            it.finish()
        };
        let target = Fixture::new(order).target();
        for insn_off in [8, 24] {
            let mut file = build("xdp", insn_off);
            assert_eq!(plan_of(&file, &target, Optional::Relocate), Err(Obstacle::SharedBytes));
            assert!(oracle.open(&file).is_ok());
            let at = place(&file, elf_section(&file, "xdp").expect("there")) + insn_off as usize;
            file[at..at + 8].copy_from_slice(&Insn::call(0xbad_2310).encode(order));
            assert!(oracle.open(&file).is_err());
        }
        for (section, insn_off) in [("xdp", 0), ("xdp", 32), (".text", 8)] {
            let after = relocated(&build(section, insn_off), &target);
            assert_eq!(insn(&after, section, insn_off as usize / 8, order).imm, 4);
            assert!(oracle.open(&after).is_ok());
        }
    }
}

/// Check that damaged objects are relocated or not, but never with a panic, and that nothing is left to do for
/// a second run.
#[test]
fn damaged_objects_do_not_panic() {
    let kernels = samples("kernels");
    let (_, kernel_bytes) = &kernels[0];
    let kernel = Kernel::parse(kernel_bytes).expect("a kernel");
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let (mut files, mut obstacles) = (0, 0);
    for (name, bytes) in samples("objects") {
        if parse(&bytes).endian() != Endian::Little {
            continue;
        }
        let ext = place(&bytes, elf_section(&bytes, ".BTF.ext").expect("there"));
        for round in 0..300 {
            let mut file = bytes.clone();
            for _ in 0..=random(3) {
                // Mostly where the layout is described: the headers of the file and of .BTF.ext.
                let at = match round % 3 {
                    0 => random(file.len()),
                    1 => (ext + random(256)).min(file.len() - 1),
                    _ => file.len() - 1 - random(1024.min(file.len())),
                };
                file[at] = u8::try_from(random(256)).expect("a byte");
            }
            let Ok(object) = Object::parse(&file) else { continue };
            if object.endian() != Endian::Little {
                continue;
            }
            match plan_pair(&object, &kernel, Modules::All, Optional::Relocate) {
                Ok(plan) => {
                    let after = plan.patch.apply(&object);
                    files += 1;
                    assert_eq!(after.len(), file.len(), "{name}");
                    if plan.obstacles.is_empty() {
                        assert!(relocated(&after, kernel_bytes) == after, "{name}: changes again");
                    }
                }
                Err(_) => obstacles += 1,
            }
        }
    }
    eprintln!("{files} damaged objects relocated, {obstacles} not");
    assert!(files > 1000 && obstacles > 100);
}
