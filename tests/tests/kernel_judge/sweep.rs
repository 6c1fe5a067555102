//! Records of every kind on some thousand types of the running kernel.

use std::collections::{BTreeMap, BTreeSet};

use btfleet_engine::btf::{Btf, TypeId, essential_name};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::resolve::Outcome;
use btfleet_tests::build::{BtfBuilder, Insn, Member, Width};

use super::live;
use super::program::{Program, STACK};

/// Types of each kind that are looked at, evenly spread over the kernel's.
const TYPES: [(Kind, usize); 6] = [
    (Kind::Struct, 700),
    (Kind::Union, 80),
    (Kind::Enum, 250),
    (Kind::Enum64, 40),
    (Kind::Typedef, 250),
    (Kind::Fwd, 30),
];
/// Types in one program.
const PER_PROGRAM: usize = 40;
/// Records that end the load, each in a program of its own.
const FATAL_MAX: usize = 150;

/// Check that the kernel makes of some ten thousand records on its own types what we say.
#[test]
fn the_kernel_relocates_as_we_say() {
    let Some(live) = live() else { return };
    let btf = Btf::parse(&live.vmlinux).expect("the running kernel's BTF");
    let kernel = Kernel::new(Btf::parse(&live.vmlinux).expect("the running kernel's BTF"));
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    let mut apart: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut fatal_left = FATAL_MAX;
    for (number, chunk) in pick(&btf).chunks(PER_PROGRAM).enumerate() {
        let mut program = Program::new();
        for &id in chunk {
            add_type(&mut program, &btf, id);
        }
        program.hold_local_values(live, &kernel);
        let answers = program.answers(live, &kernel);
        let records = std::mem::take(&mut program.records);
        let mut alone = Vec::new();
        for (record, outcome) in records.into_iter().zip(&answers.kernel) {
            match outcome {
                Outcome::Fatal(_) => alone.push(record),
                Outcome::Decided(decision) => {
                    // The stack has to be read inside its bounds, and aligned.
                    let is_load = record.insns.first().is_some_and(|insn| insn.code & 7 == 1);
                    let offset = decision.new.unwrap_or(0);
                    let width = u64::from(decision.new_size.max(1));
                    if !is_load || offset + 8 <= STACK && offset.is_multiple_of(width) && width <= 8 {
                        program.records.push(record);
                    }
                }
                _ => {}
            }
        }
        program.bury_poison(live, &kernel);
        let mut judge = |program: &mut Program, what: &str| match program.judge(live) {
            Err(why) => failures.push(format!("{what}: {why}")),
            Ok(answers) => {
                for (ours, libbpf) in answers.kernel.iter().zip(&answers.libbpf) {
                    *codes.entry(code(ours)).or_default() += 1;
                    if said(ours) != said(libbpf) {
                        *apart.entry(format!("{}, libbpf {}", code(ours), code(libbpf))).or_default() += 1;
                    }
                }
            }
        };
        judge(&mut program, &format!("program {number}"));
        for record in alone.into_iter().take(fatal_left.min(8)) {
            fatal_left -= 1;
            let what = format!("record {:?} of program {number}", (&record.access, record.kind));
            program.records = vec![record];
            judge(&mut program, &what);
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    let total: usize = codes.values().sum();
    let told = format!("{} judged {total} records: {codes:?}; apart from libbpf: {apart:?}\n", live.loader);
    let _ = std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes());
    assert!(total > 5000, "{total} records are too few");
    for code in ["exact", "moved", "resized", "present-as-queried", "absent-as-queried", "zero-as-queried"] {
        assert!(codes.contains_key(code), "no record came out as {code}");
    }
    // Recursion is the only thing in which the dialects differ here: no name is used with two kinds or two lists.
    for what in apart.keys() {
        assert!(what.starts_with("match-too-deep") || what.contains("pruned-away"), "{what}");
    }
}

/// What a record comes to, but for the candidate that says so: libbpf may have dropped the first.
fn said(outcome: &Outcome) -> (String, Vec<u8>) {
    match outcome {
        Outcome::Decided(decision) => (code(outcome), decision.insn.to_vec()),
        _ => (code(outcome), Vec::new()),
    }
}

fn code(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Fatal(error) => error.code().into(),
        Outcome::Decided(decision) => decision.code.name().into(),
        other => format!("{other:?}"),
    }
}

/// Types of the kernel, each name once.
fn pick(btf: &Btf<'_>) -> Vec<TypeId> {
    let mut names = BTreeSet::new();
    let mut picked = Vec::new();
    for (kind, wanted) in TYPES {
        let of_kind: Vec<_> = btf
            .own_types()
            .filter(|(_, ty)| ty.kind == kind && !btf.name(ty.name_off).is_empty())
            .map(|(id, ty)| (id, essential_name(btf.name(ty.name_off))))
            .collect();
        let step = (of_kind.len() / wanted).max(1);
        picked.extend(
            of_kind.iter().step_by(step).filter(|(_, name)| names.insert(name.to_vec())).map(|(id, _)| *id),
        );
    }
    picked
}

fn name_of(btf: &Btf<'_>, name_off: u32) -> String {
    String::from_utf8_lossy(btf.name(name_off)).into_owned()
}

/// Records of all kinds on a type that is like the kernel's, with its members at other offsets.
fn add_type(program: &mut Program, btf: &Btf<'_>, id: TypeId) {
    let Some(ty) = btf.ty(id) else { return };
    let essential = String::from_utf8_lossy(essential_name(btf.name(ty.name_off))).into_owned();
    let name = if id.0.is_multiple_of(3) { format!("{essential}___mine") } else { essential };
    match ty.kind {
        Kind::Struct | Kind::Union => {
            let (root, fields) = composite(program, btf, id, &name);
            for (index, width) in fields.into_iter().enumerate() {
                let access = format!("0:{index}");
                for kind in 0..6 {
                    program.mov(root, &access, kind);
                }
                program.ldimm64(root, &access, 0);
                if let Some(width) = width {
                    program.record(root, &access, 0, &[Insn::ldx(width, 2, 9, 0)]);
                }
            }
            program.mov(root, "0", 1);
            types(program, root);
        }
        Kind::Enum | Kind::Enum64 => {
            let members: Vec<String> = ty.enumerators().map(|it| name_of(btf, it.name_off)).collect();
            let (Some(first), Some(last)) = (members.first(), members.last()) else { return };
            let values = [(first.as_str(), 1), (last.as_str(), -2), ("no_such_value", 3)];
            let values = values.get(if first == last { 1.. } else { 0.. }).unwrap_or_default();
            let root = match ty.kind {
                Kind::Enum => program.local.enumeration(&name, 4, true, values),
                _ => program.local.enum64(&name, 8, true, values),
            };
            for index in 0..values.len() {
                program.ldimm64(root, &index.to_string(), 10);
                program.ldimm64(root, &index.to_string(), 11);
                program.mov(root, &index.to_string(), 11);
            }
            types(program, root);
        }
        Kind::Typedef => {
            let Some((to, _)) = copy(&mut program.local, btf, ty.target(), 0) else { return };
            let root = program.local.typedef(&name, to);
            types(program, root);
            program.mov(root, "0", 1);
        }
        _ => {
            let root = program.local.fwd(&name, ty.kind_flag());
            program.mov(root, "0", 8);
            program.mov(root, "0", 12);
            program.mov(root, "0", 9);
        }
    }
}

fn types(program: &mut Program, root: u32) {
    for kind in [6, 7] {
        program.ldimm64(root, "0", kind);
    }
    for kind in [8, 9, 12] {
        program.mov(root, "0", kind);
    }
}

/// The program's version of a struct or union: some of its members in reverse order, and one that is not there.
/// Returns with each the width that it can be read with.
fn composite(program: &mut Program, btf: &Btf<'_>, id: TypeId, name: &str) -> (u32, Vec<Option<Width>>) {
    let members: Vec<_> = btf
        .ty(id)
        .into_iter()
        .flat_map(|ty| ty.members().collect::<Vec<_>>())
        .filter(|member| !btf.name(member.name_off).is_empty())
        .collect();
    let bitfields = members.iter().filter(|it| it.bitfield_size > 0).take(3);
    let step = (members.len() / 3).max(1);
    let plain = members.iter().filter(|it| it.bitfield_size == 0).step_by(step);
    let mut names: Vec<_> = plain.chain(bitfields).map(|it| (name_of(btf, it.name_off), *it)).collect();
    names.reverse();
    let mut out = Vec::new();
    let mut widths = Vec::new();
    let is_union = btf.ty(id).is_some_and(|ty| ty.kind == Kind::Union);
    // The kernel takes no union whose members are elsewhere than at 0.
    let at = |bytes: u32, bits: u32| if is_union { 0 } else { bytes * 8 + bits };
    let mut end = 8;
    for (name, member) in &names {
        let Some((type_id, size)) = copy(&mut program.local, btf, member.type_id, 0) else { continue };
        if member.bitfield_size > 0 {
            out.push(Member::bitfield(name, type_id, at(end, 1), member.bitfield_size.min(size * 8 - 1)));
            widths.push(None);
        } else {
            out.push(Member::new(name, type_id, at(end, 0)));
            widths.push(Width::of(size));
        }
        end += size.next_multiple_of(8);
    }
    let int = program.local.int("unsigned int", 4, 0);
    out.push(Member::new("no_such_member", int, at(end, 0)));
    widths.push(Some(Width::W));
    let root = match is_union {
        true => program.local.union(name, end + 8, &out),
        false => program.local.structure(name, end + 8, &out),
    };
    (root, widths)
}

/// A type that is compatible with the kernel's as a member, with its size. Unsigned integers of 4 and 8 bytes change
/// their size now and then.
fn copy(local: &mut BtfBuilder, btf: &Btf<'_>, id: TypeId, depth: u32) -> Option<(u32, u32)> {
    let (_, ty) = btf.skip_mods_and_typedefs(id)?;
    let name = name_of(btf, ty.name_off);
    match ty.kind {
        Kind::Int => {
            let encoding = u32::from(ty.int_encoding());
            let size = match (ty.size(), local.next_id() % 2) {
                (4, 0) if encoding == 0 => 8,
                (8, 0) if encoding == 0 => 4,
                (size, _) => size,
            };
            (size <= 8).then(|| (local.int(&name, size, encoding), size))
        }
        Kind::Ptr => Some((local.ptr(0), 8)),
        Kind::Enum => Some((local.enumeration(&name, 4, false, &[("some_value", 1)]), 4)),
        Kind::Enum64 => Some((local.enum64(&name, 8, false, &[("some_value", 1)]), 8)),
        Kind::Struct => Some((local.structure(&name, 8, &[]), 8)),
        Kind::Union => Some((local.union(&name, 8, &[]), 8)),
        Kind::Array if depth < 4 => {
            let (elem, size) = copy(local, btf, ty.array().elem, depth + 1)?;
            let index = local.int("unsigned int", 4, 0);
            Some((local.array(elem, index, 3), size * 3))
        }
        _ => None,
    }
}
