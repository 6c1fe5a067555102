//! Records: a path through the local types, the value that the compiler would have put there, an instruction.
#![expect(clippy::indexing_slicing, reason = "type ids are checked where they are looked up")]
#![expect(clippy::cast_possible_truncation, reason = "immediates are cut to their field on purpose")]

use super::rng::Rng;
use super::{CaseRecord, Site, Type};
use crate::build::{ByteOrder, Insn, Width};

/// Looks a type up; `None` for void and ids that do not exist.
fn get(types: &[Type], id: u32) -> Option<&Type> {
    types.get((id as usize).checked_sub(1)?)
}

/// Strips modifiers and typedefs; the id.
fn skip(types: &[Type], mut id: u32) -> u32 {
    while let Some(Type::Typedef { to, .. } | Type::Modifier { to, .. } | Type::TypeTag { to, .. }) =
        get(types, id)
    {
        id = *to;
    }
    id
}

fn size_of(types: &[Type], id: u32) -> Option<u32> {
    match get(types, skip(types, id))? {
        Type::Int { size, .. }
        | Type::Composite { size, .. }
        | Type::Enum { size, .. }
        | Type::Float { size, .. } => Some(*size),
        Type::Ptr(_) => Some(8),
        Type::Array { elem, nelems, .. } => size_of(types, *elem)?.checked_mul(*nelems),
        Type::Var { to, .. } | Type::DeclTag { to, .. } => size_of(types, *to),
        Type::Datasec { size, .. } => Some(*size),
        _ => None,
    }
}

/// What the compiler would have put into the instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Local {
    value: u64,
    /// Width of the access in bytes, if it is a sane one.
    width: Option<Width>,
}

/// The local value of a record, or `None` if there is none (then anything will do).
fn evaluate(types: &[Type], order: ByteOrder, kind: u32, root: u32, path: &[u32]) -> Option<Local> {
    let plain = |value: u64| Some(Local { value, width: None });
    match kind {
        2 | 8 | 10 | 12 => return plain(1),
        6 | 7 => return plain(u64::from(root)),
        9 => return plain(u64::from(size_of(types, root)?)),
        11 => {
            let Type::Enum { wide, values, .. } = get(types, skip(types, root))? else { return None };
            let value = values.get(*path.first()? as usize)?.1;
            return plain(if *wide { value } else { i64::from(value as i32) }.cast_unsigned());
        }
        _ => {}
    }
    let mut id = skip(types, root);
    let mut at = path.first()?.wrapping_mul(size_of(types, id)?).wrapping_mul(8);
    let mut named = None;
    for &index in &path[1..] {
        id = skip(types, id);
        match get(types, id)? {
            Type::Composite { fields, .. } => {
                let field = fields.get(index as usize)?;
                at = at.wrapping_add(field.bit_offset);
                if !field.name.is_empty() {
                    named = Some(field);
                }
                id = field.type_id;
            }
            Type::Array { elem, .. } => {
                id = skip(types, *elem);
                named = None;
                at = at.wrapping_add(index.wrapping_mul(size_of(types, id)?).wrapping_mul(8));
            }
            _ => return None,
        }
    }
    if path.len() == 1 {
        named = None;
    }
    let ty = skip(types, named.map_or(id, |f| f.type_id));
    let bits = named.map_or(0, |f| f.bits);
    let whole = size_of(types, ty)?;
    let (size, offset, bit_size) = if bits > 0 {
        let (mut size, mut start) = (whole, at / 8 / whole.max(1) * whole);
        while at + bits - start * 8 > size * 8 && size < 8 {
            size *= 2;
            start = at / 8 / size * size;
        }
        (size, start, bits)
    } else {
        (whole, at / 8, whole.wrapping_mul(8))
    };
    let mut inner = ty;
    while let Some(Type::Array { elem, .. }) = get(types, inner) {
        inner = skip(types, *elem);
    }
    Some(match kind {
        0 => Local {
            value: u64::from(offset),
            width: Width::of(if bits > 0 { size } else { size_of(types, inner)? }),
        },
        1 => Local { value: u64::from(size), width: None },
        3 => Local {
            value: u64::from(match get(types, ty)? {
                Type::Int { encoding, .. } => *encoding & 1 == 1,
                Type::Enum { signed, .. } => *signed,
                _ => false,
            }),
            width: None,
        },
        4 => {
            let in_window = at.wrapping_sub(offset.wrapping_mul(8));
            let shift = match order {
                ByteOrder::Little => 64_u32.wrapping_sub(in_window.wrapping_add(bit_size)),
                ByteOrder::Big => 8_u32.wrapping_sub(size).wrapping_mul(8).wrapping_add(in_window),
            };
            Local { value: u64::from(shift), width: None }
        }
        5 => Local { value: u64::from(64_u32.wrapping_sub(bit_size)), width: None },
        _ => return None,
    })
}

/// A random path from a root, sometimes wrong.
fn random_path(rng: &mut Rng, types: &[Type], root: u32) -> Vec<u32> {
    let mut path = vec![if rng.chance(6) { rng.range(1, 3) } else { 0 }];
    let mut id = skip(types, root);
    while path.len() < 70 {
        match get(types, id) {
            Some(Type::Composite { fields, name, .. }) if !fields.is_empty() => {
                if !name.is_empty() && rng.chance(6) {
                    break;
                }
                let index = if rng.below(1000) < 8 { fields.len() } else { rng.index(fields.len()) };
                path.push(index as u32);
                let Some(field) = fields.get(index) else { break };
                id = skip(types, field.type_id);
            }
            Some(Type::Array { elem, nelems, .. }) => {
                if rng.chance(30) {
                    break;
                }
                let index =
                    if *nelems == 0 || rng.chance(2) { *nelems + rng.below(3) } else { rng.below(*nelems) };
                path.push(index);
                id = skip(types, *elem);
            }
            Some(_) if rng.below(1000) < 5 => {
                path.push(0);
                break;
            }
            _ => break,
        }
    }
    path
}

fn join(path: &[u32]) -> String {
    path.iter().map(u32::to_string).collect::<Vec<_>>().join(":")
}

/// The instruction that a compiler would relocate so, with `percent` of odd ones.
fn instruction(rng: &mut Rng, kind: u32, local: Option<Local>, percent: u32) -> Vec<Insn> {
    let Local { mut value, mut width } =
        local.unwrap_or(Local { value: u64::from(rng.below(100)), width: None });
    let odd = if rng.chance(percent) { rng.below(8) } else { 99 };
    if odd <= 2 {
        value = match rng.below(3) {
            0 => value.wrapping_add(1),
            1 => value ^ 0xffff_ffff_0000_0000,
            _ => u64::from(rng.below(1000)),
        };
    }
    if odd == 3 {
        width = Some(*rng.pick(&[Width::B, Width::H, Width::W, Width::Dw]));
    }
    let imm = (value as u32).cast_signed();
    let off = value as i16;
    if odd == 4 {
        return match rng.below(5) {
            0 => vec![Insn::jmp(0x10, 1, imm, 2)],
            1 => vec![Insn::new(0x16, 1, 0, 0, imm)],
            2 => vec![Insn::alu_reg(0xb0, rng.chance(50), 1, 2)],
            3 => vec![Insn::call(imm)],
            _ => vec![Insn::exit()],
        };
    }
    if odd == 5 {
        let mut insns = Insn::ldimm64(1, value);
        match rng.below(6) {
            0 => insns[0].src = 1,
            1 => insns[0].off = 1,
            2 => insns[1].code = 0x85,
            3 => insns[1].dst = 3,
            4 => insns[1].off = -1,
            // The legacy packet load: class LD, but no ldimm64.
            _ => return vec![Insn::new(0x20, 0, 0, 0, imm)],
        }
        return insns.to_vec();
    }
    let sane_offset = value <= 0x7fff || odd <= 3;
    match width {
        Some(width) if kind == 0 && (sane_offset || rng.chance(20)) && (odd == 3 || rng.chance(60)) => {
            match rng.below(7) {
                0 => vec![Insn::st(width, 1, off, 7)],
                1 => vec![Insn::stx(width, 1, 2, off)],
                // Sign-extending and atomic modes.
                2 if rng.chance(25) => {
                    vec![Insn::new(Insn::ldx(width, 1, 2, off).code & 0x1f | 0x80, 1, 2, off, 0)]
                }
                3 if rng.chance(25) => {
                    vec![Insn::new(Insn::stx(width, 1, 2, off).code & 0x1f | 0xc0, 1, 2, off, 0)]
                }
                _ => vec![Insn::ldx(width, 1, 2, off)],
            }
        }
        _ if odd == 6 => vec![Insn::ldx(Width::Dw, 1, 2, off)],
        _ => match rng.below(10) {
            0..=1 => Insn::ldimm64(1, value).to_vec(),
            2 => vec![Insn::alu(0x00, true, 1, imm)],
            3 if kind == 4 || kind == 5 => vec![Insn::alu(0x60, true, 1, imm)],
            4 => vec![Insn::alu(0xb0, false, 1, imm)],
            _ if value > i32::MAX as u64 && rng.chance(80) => Insn::ldimm64(1, value).to_vec(),
            _ => vec![Insn::mov(1, imm)],
        },
    }
}

/// A record of `kind` on `root`.
pub(super) fn record(rng: &mut Rng, types: &[Type], order: ByteOrder, root: u32, kind: u32) -> CaseRecord {
    let path = match kind {
        6..=9 | 12 => vec![0],
        10 | 11 => match get(types, skip(types, root)) {
            Some(Type::Enum { values, .. }) if !rng.chance(3) => vec![rng.index(values.len()) as u32],
            _ => vec![rng.below(7)],
        },
        _ => random_path(rng, types, root),
    };
    let local = evaluate(types, order, kind, root, &path);
    CaseRecord {
        program: 0,
        type_id: root,
        access: join(&path),
        kind,
        insns: instruction(rng, kind, local, 12),
        site: Site::Own,
    }
}

/// A plain load of a field, sometimes of another width than the field's.
pub(super) fn load(rng: &mut Rng, types: &[Type], root: u32) -> CaseRecord {
    let path = random_path(rng, types, root);
    let local = evaluate(types, ByteOrder::Little, 0, root, &path).unwrap_or_default();
    let mut width = local.width.unwrap_or(Width::W);
    if rng.chance(35) {
        width = *rng.pick(&[Width::B, Width::H, Width::W, Width::Dw]);
    }
    let insns = vec![Insn::ldx(width, 1, 2, local.value as i16)];
    CaseRecord { program: 0, type_id: root, access: join(&path), kind: 0, insns, site: Site::Own }
}

/// A kind that suits the root, mostly.
pub(super) fn suitable_kind(rng: &mut Rng, types: &[Type], root: u32) -> u32 {
    let ty = get(types, skip(types, root));
    if rng.chance(4) {
        return rng.below(13);
    }
    match ty {
        Some(Type::Composite { .. } | Type::Array { .. }) => match rng.below(100) {
            0..=39 => 0,
            40..=47 => 1,
            48..=61 => 2,
            62..=67 => 3,
            68..=73 => 4,
            74..=79 => 5,
            80..=81 => 6,
            82..=83 => 7,
            84..=87 => 8,
            88..=91 => 9,
            _ => 12,
        },
        Some(Type::Enum { .. }) => *rng.pick(&[10, 10, 11, 11, 11, 11, 8, 9, 12, 7]),
        _ => *rng.pick(&[8, 8, 9, 7, 12, 12, 6, 0]),
    }
}

/// Spoils a record in one of the ways that are checked before anything else.
pub(super) fn spoil(rng: &mut Rng, types: &[Type], r: &mut CaseRecord) {
    match rng.below(12) {
        0 | 1 => {
            let bad = [
                "", ":0", "0:", "0::1", "a", "0:x", "0 1", "+0", "00", " 0", "0:0 ", "0 :1", "0x1", "0:1:",
                ":",
            ];
            r.access = (*rng.pick(&bad)).to_owned();
        }
        2 => r.access = vec!["0"; rng.range(63, 67) as usize].join(":"),
        3 => r.type_id = types.len() as u32 + rng.range(50, 5000),
        4 => r.type_id = 0,
        5 | 6 => r.kind = rng.range(13, 31),
        7 | 11 => r.site = Site::Misaligned,
        8 => r.type_id = rng.range(1, types.len() as u32),
        9 => r.access.push_str(":0"),
        _ => r.access = format!("{}:0", rng.below(3)),
    }
}
