//! Input that is broken, truncated or hostile: an error with its place and reason, or an answer. Never a panic, never
//! a hang, never memory beyond what the file's size explains.

#[path = "bad_input/hostile.rs"]
mod hostile;
#[path = "bad_input/mutations.rs"]
mod mutations;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use btfleet_engine::batch;
use btfleet_engine::btf::{Btf, TypeId, relocate_distilled};
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::resolve::{Code, Outcome};
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, Member, ObjectBuilder, Width,
};

const LITTLE: ByteOrder = ByteOrder::Little;

/// Runs `work` on a thread of its own; a test that hangs fails instead.
#[track_caller]
fn within_two_seconds<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let result = work();
        // Nobody listens any more if it came too late.
        sender.send(result).ok();
    });
    match receiver.recv_timeout(Duration::from_secs(2)) {
        Ok(result) => {
            assert!(peak_memory_mib() < 1024, "{what}: peak memory is {} MiB", peak_memory_mib());
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: no answer within two seconds"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it sends before it ends"),
        },
    }
}

/// The most memory that this process ever had; 0 where the system does not say.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

/// Asks an object everything that it can be asked without a kernel.
fn exercise(bytes: &[u8]) -> usize {
    let Ok(object) = Object::parse(bytes) else { return 0 };
    for reloc in object.relocs() {
        object.source_line(reloc);
        object.path(reloc);
        object.root_name(reloc);
        object.insn_bytes(reloc);
    }
    if let Some(btf) = object.btf() {
        for (id, _) in btf.own_types() {
            btf.type_name(id);
            btf.resolve_size(id).ok();
        }
    }
    object.programs().len() + object.externs().len()
}

/// Folds an object over a kernel, if both can be read; returns the number of answers.
fn fold_over(object: &[u8], kernel: &[u8]) -> usize {
    let (Ok(object), Ok(kernel)) = (Object::parse(object), Kernel::parse(kernel)) else { return 0 };
    batch::outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |_| true).len()
}

/// Treats a blob as a module of a kernel, and as one on a distilled base that `kernel` is to replace.
fn relocate_and_add(module: &[u8], distilled: &[u8], kernel: &[u8]) -> usize {
    let Ok(mut parsed) = Kernel::parse(distilled) else { return 0 };
    let added = parsed.add_module("m".into(), module).is_ok();
    let base = Btf::parse(kernel).expect("the kernel is sound");
    let relocated = relocate_distilled(module, distilled, &base);
    if let Ok(relocated) = &relocated {
        let again = Btf::parse_split(relocated, Arc::new(base));
        assert!(again.is_ok(), "a relocated module is a module: {:?}", again.err());
    }
    usize::from(added) + usize::from(relocated.is_ok())
}

/// A BTF with every kind of type, and a module on it.
fn kitchen_sink() -> (Vec<u8>, Vec<u8>) {
    let mut b = BtfBuilder::new(LITTLE);
    let int = b.int("int", 4, 1);
    b.int("long", 8, 1);
    let ptr = b.ptr(int);
    let arr = b.array(int, int, 3);
    let flex = b.array(int, int, 0);
    let inner = b.structure("", 8, &[Member::new("x", int, 0), Member::bitfield("f", int, 32, 3)]);
    let s = b.structure(
        "s",
        32,
        &[Member::new("p", ptr, 0), Member::new("", inner, 64), Member::new("a", arr, 128)],
    );
    b.structure(
        "task_struct",
        64,
        &[Member::new("pid", int, 96), Member::new("comm", arr, 128), Member::new("f", flex, 512)],
    );
    b.union("u", 16, &[Member::new("a", arr, 0), Member::new("s", s, 0)]);
    b.enumeration("e", 4, true, &[("A", -1), ("B", 7)]);
    b.enum64("e64", 8, false, &[("C", i64::MAX)]);
    b.fwd("f", true);
    let typedef = b.typedef("t", s);
    let constant = b.constant(typedef);
    let volatile = b.volatile(constant);
    b.restrict(volatile);
    let proto = b.func_proto(0, &[("x", int), ("", 0)]);
    b.func("fn", proto, 1);
    let var = b.var("v", int, 1);
    b.datasec(".data", 4, &[(var, 0, 4)]);
    b.float("double", 8);
    b.decl_tag("tag", s, -1);
    b.type_tag("user", int);
    let mut module = BtfBuilder::split(&b);
    let own = module.structure("own", 16, &[Member::new("s", s, 0), Member::new("n", int, 64)]);
    module.ptr(own);
    (b.finish(), module.finish())
}

/// An object with these types and one program: `r1 = imm` for each record (root, access string offset, kind), with
/// the immediate that existence queries hold or else 0.
fn object_with(types: &BtfBuilder, records: &[(u32, u32, u32)]) -> Vec<u8> {
    let mut types = types.clone();
    let section = types.str("xdp");
    let (mut ext, mut code) = (BtfExtBuilder::new(types.order()), Vec::new());
    for &(type_id, access_str_off, kind) in records {
        let insn_off = u32::try_from(code.len() * 8).expect("short code");
        ext.core_relo(section, CoreRelo { insn_off, type_id, access_str_off, kind });
        code.push(Insn::mov(1, i32::from(matches!(kind, 2 | 8 | 10 | 12))));
    }
    let mut object = ObjectBuilder::new(types.order());
    object.program("xdp", "p", &code);
    object.btf(&types.finish());
    object.btf_ext(&ext.finish());
    object.finish()
}

fn outcomes(object: &[u8], kernel: &[u8]) -> Vec<Outcome> {
    let object = Object::parse(object).expect("an object");
    assert_eq!(object.ignored_btf(), None, "its BTF is readable");
    let kernel = Kernel::parse(kernel).expect("a kernel");
    batch::outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |_| true)
}

/// `struct s { int a; }` of the program, the same at 8 in the kernel; object with `code` and records at `offsets`.
fn on_code(code: &[Insn], offsets: &[u32], in_kernel: bool) -> Vec<Outcome> {
    let mut local = BtfBuilder::new(LITTLE);
    let int = local.int("int", 4, 1);
    let s = local.structure("s", 4, &[Member::new("a", int, 0)]);
    let (section, access) = (local.str("xdp"), local.str("0:0"));
    let mut target = BtfBuilder::new(LITTLE);
    let int = target.int("int", 4, 1);
    target.structure(if in_kernel { "s" } else { "other" }, 12, &[Member::new("a", int, 64)]);
    let mut ext = BtfExtBuilder::new(LITTLE);
    for &insn_off in offsets {
        ext.core_relo(section, CoreRelo { insn_off, type_id: s, access_str_off: access, kind: 0 });
    }
    let mut object = ObjectBuilder::new(LITTLE);
    object.program("xdp", "p", code);
    object.btf(&local.finish());
    object.btf_ext(&ext.finish());
    outcomes(&object.finish(), &target.finish())
}

fn codes(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Fatal(error) => error.code(),
            Outcome::Decided(decision) => decision.code.name(),
            _ => "",
        })
        .collect()
}

// Instructions.

#[test]
fn an_ldimm64_in_the_last_slot_is_refused() {
    let [low, high] = Insn::ldimm64(1, 0);
    assert_eq!(codes(&on_code(&[Insn::mov(1, 0), low], &[8], true)), ["insn-unsupported"]);
    // libbpf would poison a slot behind the program.
    assert_eq!(codes(&on_code(&[Insn::mov(1, 0), low], &[8], false)), ["insn-unsupported"]);
    assert_eq!(codes(&on_code(&[low, high], &[0], true)), ["moved"]);
}

#[test]
fn a_record_on_the_second_slot_of_an_ldimm64_is_no_instruction() {
    let [low, high] = Insn::ldimm64(1, 0);
    assert_eq!(codes(&on_code(&[low, high, Insn::exit()], &[8], true)), ["insn-unsupported"]);
    assert_eq!(codes(&on_code(&[low, high, Insn::exit()], &[8], false)), ["no-type"]);
    // Poisoned first, the second slot is a call by then, and not a part of a load any more.
    let both = on_code(&[low, high, Insn::exit()], &[8, 0], false);
    assert_eq!(codes(&both), ["no-type", "no-type"]);
    let Some(Outcome::Decided(decision)) = both.last() else { panic!("decided") };
    assert_eq!(decision.insn.len(), 16);
}

#[test]
fn a_record_sees_what_earlier_ones_wrote() {
    // The second finds 8 where the local BTF says 0.
    assert_eq!(codes(&on_code(&[Insn::mov(1, 0)], &[0, 0], true)), ["moved", "insn-mismatch"]);
    assert_eq!(codes(&on_code(&[Insn::ldx(Width::W, 1, 2, 0)], &[0, 0], true)), ["moved", "insn-mismatch"]);
    assert_eq!(codes(&on_code(&[Insn::mov(1, 0)], &[0, 0], false)), ["no-type", "no-type"]);
}

#[test]
fn offsets_far_outside_are_skipped() {
    let outcomes = on_code(&[Insn::mov(1, 0)], &[8, 0x7fff_fff8, 0xffff_fff8], true);
    assert_eq!(outcomes, [Outcome::Skipped, Outcome::Skipped, Outcome::Skipped]);
}

// Objects.

/// Text and offset of the reason why bytes are no object.
fn refusal(bytes: &[u8]) -> (String, u64) {
    let error = Object::parse(bytes).expect_err("this is no object");
    (error.to_string(), error.offset())
}

fn sample() -> Vec<u8> {
    let mut local = BtfBuilder::new(LITTLE);
    let int = local.int("int", 4, 1);
    let s = local.structure("s", 4, &[Member::new("a", int, 0)]);
    let access = local.str("0:0");
    object_with(&local, &[(s, access, 0)])
}

fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    data.get_mut(at..at + bytes.len()).expect("inside the file").copy_from_slice(bytes);
}

fn read_u64(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*data.get(at..).and_then(<[u8]>::first_chunk).expect("inside the file"))
}

/// Where the header of section `index` stands.
fn header_of(data: &[u8], index: usize) -> usize {
    usize::try_from(read_u64(data, 40)).expect("small") + index * 64
}

#[test]
fn files_that_are_no_bpf_objects_are_refused_with_the_reason() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage, &str, u64); 9] = [
        ("empty", |d| d.clear(), "not an ELF file", 0),
        ("three bytes", |d| d.truncate(3), "not an ELF file", 0),
        ("raw BTF", |d| *d = kitchen_sink().0, "not an ELF file", 0),
        ("only the magic", |d| d.truncate(4), "broken ELF file: unknown ELF class", 4),
        ("another class", |d| put(d, 4, &[3]), "broken ELF file: unknown ELF class", 4),
        ("32 bits", |d| put(d, 4, &[1]), "not a BPF object: it is a 32-bit ELF file", 4),
        ("half a header", |d| d.truncate(40), "broken ELF file: Invalid ELF header size or alignment", 0),
        ("x86", |d| put(d, 18, &[62]), "not a BPF object: its machine number is 62, BPF's is 247", 18),
        ("executable", |d| put(d, 16, &[2]), "not a BPF object: its ELF type is 2, not relocatable", 16),
    ];
    for (what, damage, text, offset) in cases {
        let mut bytes = sample();
        damage(&mut bytes);
        assert_eq!(refusal(&bytes), (text.to_owned(), offset), "{what}");
    }
}

#[test]
fn absurd_section_tables_are_refused_with_the_place() {
    let bytes = sample();
    let table = read_u64(&bytes, 40);
    let header = |index: usize| header_of(&bytes, index);
    // Sections: 1 the program, 2 .BTF, 3 .BTF.ext, 4 .symtab, 5 .strtab.
    let cases: [(&str, usize, Vec<u8>, &str, u64); 9] = [
        (
            "table past the end",
            40,
            (1_u64 << 40).to_le_bytes().to_vec(),
            "Invalid ELF section header offset/size/alignment",
            1 << 40,
        ),
        (
            "table at the end of the address space",
            40,
            u64::MAX.to_le_bytes().to_vec(),
            "Invalid ELF section header offset/size/alignment",
            u64::MAX,
        ),
        ("65535 sections", 60, vec![0xff, 0xff], "Invalid ELF section header offset/size/alignment", table),
        ("entries of 65 bytes", 58, vec![65, 0], "Invalid ELF section header entry size", table),
        ("names in section 999", 62, vec![0xe7, 3], "Invalid ELF e_shstrndx", table),
        (
            "a section past the end",
            header(1) + 24,
            (1_u64 << 40).to_le_bytes().to_vec(),
            "Invalid ELF section size or offset",
            header(1) as u64,
        ),
        (
            "a section of all memory",
            header(2) + 32,
            u64::MAX.to_le_bytes().to_vec(),
            "Invalid ELF section size or offset",
            header(2) as u64,
        ),
        (
            "a name past the end",
            header(3),
            vec![0xff, 0xff, 0xff, 0x7f],
            "Invalid ELF section name offset",
            header(3) as u64,
        ),
        (
            "symbols past the end",
            header(4) + 24,
            (1_u64 << 40).to_le_bytes().to_vec(),
            "Invalid ELF symbol table data",
            header(4) as u64,
        ),
    ];
    for (what, at, value, text, offset) in cases {
        let mut bytes = bytes.clone();
        put(&mut bytes, at, &value);
        assert_eq!(refusal(&bytes), (format!("broken ELF file: {text}"), offset), "{what}");
    }
}

#[test]
fn a_section_count_in_the_first_header_is_checked_against_the_file() {
    let mut bytes = sample();
    let first = header_of(&bytes, 0);
    put(&mut bytes, 60, &[0, 0]);
    put(&mut bytes, first + 32, &u64::MAX.to_le_bytes());
    within_two_seconds("a section table of 2^64", move || refusal(&bytes));
}

#[test]
fn objects_that_libbpf_refuses_can_be_read_all_the_same() {
    let sound = sample();
    let check = |what: &str, damage: &dyn Fn(&mut Vec<u8>), text: &str| {
        let mut bytes = sound.clone();
        damage(&mut bytes);
        let object = Object::parse(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(object.refused().map(ToString::to_string).as_deref(), Some(text), "{what}");
    };
    let symtab = header_of(&sound, 4);
    // The function is the second symbol.
    let symbol = usize::try_from(read_u64(&sound, symtab + 24)).expect("small") + 24;
    check(
        "no symbols",
        &|d| put(d, symtab + 4, &[0]),
        "there is no symbol table; is the object stripped? (libbpf: -2)",
    );
    check(
        "too long",
        &|d| put(d, symbol + 16, &[255]),
        "function p in section xdp crosses the end of its section (libbpf: -4001)",
    );
    check(
        "at the end of the address space",
        &|d| put(d, symbol + 8, &u64::MAX.to_le_bytes()),
        "function p in section xdp crosses the end of its section (libbpf: -4001)",
    );
    check(
        "of no length",
        &|d| put(d, symbol + 16, &[0]),
        "function p in section xdp is not made of whole instructions (offset 0, size 0) (libbpf: -22)",
    );
    check(
        "of half a slot",
        &|d| put(d, symbol + 16, &[4]),
        "function p in section xdp is not made of whole instructions (offset 0, size 4) (libbpf: -22)",
    );
    check(
        "local",
        &|d| put(d, symbol + 4, &[2]),
        "function p in section xdp is static and not in .text (libbpf: -95)",
    );
    check(
        ".BTF of another type",
        &|d| {
            let at = header_of(d, 2) + 4;
            put(d, at, &[7]);
        },
        "section .BTF is not PROGBITS (libbpf: -4001)",
    );
}

#[test]
fn an_object_with_two_symbol_tables_is_read_by_the_first() {
    let mut object = ObjectBuilder::new(LITTLE);
    let program = object.program("xdp", "p", &[Insn::call(1), Insn::exit()]);
    let callee = object.extern_symbol("", false);
    object.relocation(program, 0, callee, 10);
    let mut bytes = object.finish();
    // Sections: 1 the program, 2 .symtab, 3 .strtab, 4 .relxdp.
    let relocations = header_of(&bytes, 4);
    put(&mut bytes, relocations + 4, &[2]);
    let object = Object::parse(&bytes).expect("readable");
    let why = object.refused().map(ToString::to_string);
    assert_eq!(why.as_deref(), Some("there are several symbol tables (libbpf: -4001)"));
    assert_eq!(object.programs().len(), 1);
}

#[test]
fn an_object_truncated_anywhere_is_refused_or_read() {
    let bytes = sample();
    within_two_seconds("every length", move || {
        for len in 0..bytes.len() {
            let cut = bytes.get(..len).expect("below the length");
            // The section table is the last thing in the file.
            let (text, offset) = refusal(cut);
            assert!(!text.is_empty() && offset <= bytes.len() as u64, "{len}: {text}");
        }
    });
}

#[test]
fn objects_without_btf_or_records_have_no_records() {
    let with = |add: &dyn Fn(&mut ObjectBuilder)| {
        let mut object = ObjectBuilder::new(LITTLE);
        object.program("xdp", "p", &[Insn::exit()]);
        add(&mut object);
        object.finish()
    };
    let types = kitchen_sink().0;
    let no_blocks = BtfExtBuilder::new(LITTLE).finish();
    for (what, bytes, ignored) in [
        ("nothing", with(&|_| {}), None),
        (
            "types only",
            with(&|o| {
                o.btf(&types);
            }),
            None,
        ),
        (
            "records without types",
            with(&|o| {
                o.btf_ext(&no_blocks);
            }),
            None,
        ),
        (
            "a header only",
            with(&|o| {
                o.btf(&types);
                o.btf_ext(&no_blocks);
            }),
            Some("section .BTF.ext: no data behind the header (value 32)"),
        ),
        (
            "sections of no length",
            with(&|o| {
                o.btf(&[]);
                o.btf_ext(&[]);
            }),
            Some("section .BTF: truncated BTF header: need 24 bytes, have 0"),
        ),
    ] {
        let object = Object::parse(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(object.ignored_btf().map(ToString::to_string).as_deref(), ignored, "{what}");
        assert!(object.relocs().is_empty() && object.refused().is_none(), "{what}");
        assert_eq!(object.programs().len(), 1, "{what}");
    }
    let bytes = ObjectBuilder::new(LITTLE).finish();
    assert_eq!(Object::parse(&bytes).expect("an object without sections").programs().len(), 0);
}

#[test]
fn records_that_refer_to_nothing_are_fatal_for_themselves() {
    let mut local = BtfBuilder::new(LITTLE);
    let int = local.int("int", 4, 1);
    let s = local.structure("s", 4, &[Member::new("a", int, 0)]);
    let access = local.str("0:0");
    let object = object_with(
        &local,
        &[(9999, access, 0), (u32::MAX, access, 6), (s, u32::MAX, 0), (0, access, 0), (s, access, 0)],
    );
    let got = outcomes(&object, &kitchen_sink().0);
    assert_eq!(
        codes(&got),
        ["bad-type-id", "bad-type-id", "bad-access-string", "anonymous-root", "field-incompatible"]
    );
    let messages: Vec<String> = got
        .iter()
        .filter_map(|it| if let Outcome::Fatal(error) = it { Some(error.to_string()) } else { None })
        .collect();
    assert_eq!(
        messages,
        [
            "type id 9999 does not exist in the object's BTF",
            "type id 4294967295 does not exist in the object's BTF",
            "the access string is malformed or does not fit the local type",
            "type [0] has no name, and candidates are found by name",
        ]
    );
}

// Kernels.

#[test]
fn files_that_are_no_btf_are_refused_with_the_reason() {
    let object = sample();
    let text = |bytes: &[u8]| Kernel::parse(bytes).expect_err("no kernel").to_string();
    assert_eq!(text(&object), "not BTF: magic is 0x457f, expected 0xeb9f in either byte order");
    assert_eq!(text(b"#!"), "not BTF: magic is 0x2123, expected 0xeb9f in either byte order");
    assert_eq!(text(b"#"), "truncated BTF header: need 24 bytes, have 1");
    assert_eq!(text(b"\x9f\xeb"), "truncated BTF header: need 24 bytes, have 2");
    assert_eq!(text(&[0; 4096]), "not BTF: magic is 0x0000, expected 0xeb9f in either byte order");
}

#[test]
fn a_module_in_place_of_a_kernel_says_what_it_needs() {
    let module = kitchen_sink().1;
    let error = Kernel::parse(&module).expect_err("its strings start with a name").to_string();
    let text =
        "bad BTF string section: the first byte is not NUL; a module's BTF needs its kernel's as a base";
    assert_eq!(error, text);
}

#[test]
fn a_btf_truncated_anywhere_is_refused() {
    let (types, module) = kitchen_sink();
    within_two_seconds("every length", move || {
        for len in 0..types.len() {
            let cut = types.get(..len).expect("below the length");
            let error = Btf::parse(cut).expect_err("its strings are cut off");
            assert!(error.offset() <= 24 && !error.to_string().is_empty(), "{len}: {error}");
        }
        let base = Arc::new(Btf::parse(&types).expect("sound"));
        for len in 0..module.len() {
            let cut = module.get(..len).expect("below the length");
            Btf::parse_split(cut, Arc::clone(&base)).expect_err("its strings are cut off");
        }
    });
}

#[test]
fn the_strings_are_where_the_error_says() {
    let mut b = BtfBuilder::new(LITTLE);
    b.int("int", 4, 1);
    b.layout(&[(0, 0); 20]);
    let mut data = b.finish();
    *data.last_mut().expect("not empty") = b'x';
    let error = Btf::parse(&data).expect_err("no NUL at the end");
    // Header 32, types 16, layout 80.
    assert_eq!(
        (error.to_string().as_str(), error.offset()),
        ("bad BTF string section: the last byte is not NUL", 128)
    );
}

#[test]
fn huge_counts_cost_no_memory() {
    let mut b = BtfBuilder::new(LITTLE);
    b.raw(&[0, (4 << 24) | 0x00ff_ffff, 8, 0, 0, 0]);
    let data = b.finish();
    let (text, offset) = within_two_seconds("16 million members", move || {
        let error = Btf::parse(&data).expect_err("they are not there");
        (error.to_string(), error.offset())
    });
    assert_eq!(text, "BTF type [1] is malformed: record reaches past the end of the types");
    assert_eq!(offset, 24);
}

#[test]
fn types_without_end_have_a_name_with_an_end() {
    let mut b = BtfBuilder::new(LITTLE);
    let ptr = b.ptr(b.next_id());
    let arr = b.array(b.next_id(), 1, 2);
    let constant = b.constant(b.next_id());
    let data = b.finish();
    within_two_seconds("names", move || {
        let btf = Btf::parse(&data).expect("readable");
        for id in [ptr, arr, constant] {
            assert!(btf.type_name(TypeId(id)).len() < 1024);
        }
    });
}

#[test]
fn a_distilled_base_with_cycles_ends() {
    within_two_seconds("relocation", || {
        let mut distilled = BtfBuilder::new(LITTLE);
        distilled.structure("foo", 8, &[]);
        let mut split = BtfBuilder::split(&distilled);
        let typedef = split.typedef("t", split.next_id());
        let arr = split.array(split.next_id(), 1, 2);
        split.structure("user", 8, &[Member::new("a", typedef, 0), Member::new("b", arr, 0)]);
        let mut kernel = BtfBuilder::new(LITTLE);
        kernel.structure("foo", 16, &[]);
        let base = kernel.finish();
        let base = Btf::parse(&base).expect("readable");
        relocate_distilled(&split.finish(), &distilled.finish(), &base).expect("by pointer, at most");
    });
}

/// Files that once were trouble, or that cannot be written down as code. None of them may panic or hang.
#[test]
fn committed_seeds_are_survived() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let (types, _) = kitchen_sink();
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are seeds");
    for path in files {
        let bytes = std::fs::read(&path).expect("a readable seed");
        let types = types.clone();
        within_two_seconds(&path.display().to_string(), move || {
            exercise(&bytes);
            fold_over(&bytes, &types);
            relocate_and_add(&bytes, &types, &types);
            if let Ok(object) = Object::parse(&bytes)
                && object.btf().is_some()
                && let Some(own) = btfleet_tests::oracle::elf_section(&bytes, ".BTF")
            {
                fold_over(&bytes, own);
            }
            Kernel::parse(&bytes).ok();
        });
    }
}

/// Check that the fold of a damaged object on itself still tells found from absent.
#[test]
fn the_sound_sample_resolves_against_itself() {
    let bytes = sample();
    let own = btfleet_tests::oracle::elf_section(&bytes, ".BTF").expect("it has .BTF");
    let Some(Outcome::Decided(decision)) = outcomes(&bytes, own).into_iter().next() else {
        panic!("decided")
    };
    assert_eq!(decision.code, Code::Exact);
}
