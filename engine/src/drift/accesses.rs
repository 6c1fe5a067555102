//! What programs read of fields by the values of their records together, judged by the bits that these come to.
//!
//! The records of one function about the offset, size, shifts and sign of one field are one access: a tuple. Of a tuple is
//! asked whether the values in the instructions read the program's own field, and whether those that the loader writes read
//! the kernel's. An access without shifts finds a bitfield only if it is at the same place of what is loaded.
//!
//! Taken for granted is that the program does with the values what `BPF_CORE_READ_BITFIELD()` and its relatives do.

use std::fmt;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::uses::{self, Uses};
use super::{Drift, Rule};
use crate::bitfield::{Described, Field, Reading};
use crate::dialect::Rules;
use crate::fleet::Shape;
use crate::format::Endian;
use crate::format::btf_ext::RelocKind;
use crate::format::insn::{INSN_LEN, Insn, class};
use crate::object::{Object, Reloc};
use crate::query::Ask;
use crate::resolve::{Budget, Decision, find_place};

/// Different values of one kind in one access that are put together. Compilers have one.
const VALUES_MAX: usize = 4;

/// Where fields are, without libbpf's slips.
const PLAIN: Rules = Rules { leaks_offset: false, ..Rules::LIBBPF };

/// What the records of an access relocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Offset,
    Size,
    Left,
    Right,
    Sign,
}

const PARTS: [Part; 5] = [Part::Offset, Part::Size, Part::Left, Part::Right, Part::Sign];

impl Part {
    fn of(kind: RelocKind) -> Option<Self> {
        Some(match kind {
            RelocKind::FieldByteOffset => Self::Offset,
            RelocKind::FieldByteSize => Self::Size,
            RelocKind::FieldLshiftU64 => Self::Left,
            RelocKind::FieldRshiftU64 => Self::Right,
            RelocKind::FieldSigned => Self::Sign,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Offset => "offset",
            Self::Size => "size",
            Self::Left => "left shift",
            Self::Right => "right shift",
            Self::Sign => "sign",
        }
    }
}

/// Something for each part.
#[derive(Clone, Debug, Default)]
struct Parts<T>([T; PARTS.len()]);

impl<T> Parts<T> {
    fn get(&self, part: Part) -> &T {
        let [offset, size, left, right, sign] = &self.0;
        match part {
            Part::Offset => offset,
            Part::Size => size,
            Part::Left => left,
            Part::Right => right,
            Part::Sign => sign,
        }
    }

    fn get_mut(&mut self, part: Part) -> &mut T {
        let [offset, size, left, right, sign] = &mut self.0;
        match part {
            Part::Offset => offset,
            Part::Size => size,
            Part::Left => left,
            Part::Right => right,
            Part::Sign => sign,
        }
    }
}

/// Different values of each part.
type Values = Parts<SmallVec<[u64; 1]>>;

/// How the right shift of an access is done, as far as it is a shift by a constant.
#[derive(Clone, Copy, Debug, Default)]
struct Shifts {
    with_sign: bool,
    without_sign: bool,
    /// The value shifts to the left, or the left one to the right: it makes a mask, to write the field.
    makes_mask: bool,
}

/// The records of one function about one field; where there are no shifts, those with one of its offsets.
#[derive(Debug)]
struct Access {
    /// Numbers of the records, by part.
    parts: Parts<Vec<usize>>,
    /// The field in the program's own BTF.
    local: Field,
    shifts: Shifts,
    /// By record of the offset: how many bytes are loaded there, as far as the instructions say it.
    loaded: Vec<Option<u64>>,
}

/// What an object's functions read of fields, access by access.
#[derive(Debug)]
pub struct Accesses<'a, 'r> {
    object: &'a Object<'r>,
    accesses: Vec<Access>,
    /// Number of the access by that of the record that stands for it.
    of_lead: HashMap<usize, usize>,
}

impl<'a, 'r> Accesses<'a, 'r> {
    /// Looks at the programs of `object`.
    pub fn new(object: &'a Object<'r>) -> Self {
        let uses = uses::uses(object);
        let mut known: HashMap<_, usize> = HashMap::new();
        let mut accesses: Vec<Access> = Vec::new();
        for (number, reloc) in object.relocs().iter().enumerate() {
            let (Some(part), Some(program)) = (reloc.kind.and_then(Part::of), reloc.program) else {
                continue;
            };
            let key = (program, reloc.type_id, reloc.access);
            let at = known.get(&key).copied();
            let at = at.or_else(|| {
                accesses.push(Access {
                    parts: Parts::default(),
                    local: local_field(object, reloc)?,
                    shifts: Shifts::default(),
                    loaded: Vec::new(),
                });
                Some(accesses.len() - 1)
            });
            let Some(access) = at.and_then(|it| accesses.get_mut(it)) else { continue };
            known.extend(at.map(|it| (key, it)));
            access.parts.get_mut(part).push(number);
            access.look_at(part, object, reloc, uses.get(&number));
        }
        let accesses: Vec<Access> = accesses.into_iter().flat_map(Access::apart).collect();
        let lead = |(number, it): (usize, &Access)| Some((it.lead()?, number));
        let of_lead = accesses.iter().enumerate().filter_map(lead).collect();
        Self { object, accesses, of_lead }
    }

    /// Numbers of the records that something can be said of, ascending: one of each access.
    pub fn records(&self) -> Vec<usize> {
        let mut records: Vec<usize> = self.of_lead.keys().copied().collect();
        records.sort_unstable();
        records
    }

    /// Numbers of all records of the access that `record` stands for, which is one of [`Accesses::records`].
    pub fn together(&self, record: usize) -> Vec<usize> {
        self.access(record).map(|it| it.records().collect()).unwrap_or_default()
    }

    fn access(&self, lead: usize) -> Option<&Access> {
        self.accesses.get(*self.of_lead.get(&lead)?)
    }

    /// What the access that `record` stands for reads that is not the field.
    ///
    /// `decisions`: of all its records, in the order of [`Accesses::together`]. `shape`: the type that their candidate is.
    pub fn judge(&self, record: usize, decisions: &[&Decision], shape: Shape<'_>) -> Vec<Drift> {
        let judge = || {
            let access = self.access(record)?;
            if decisions.iter().any(|it| it.poisoned || it.unresolved) {
                return None;
            }
            let reloc = self.object.relocs().get(record)?;
            let target = field_in(reloc, shape)?;
            let after = access.values(decisions.iter().map(|it| it.new));
            let operand = |it: usize| operand(self.object, self.object.relocs().get(it)?);
            let before = access.values(access.records().map(operand));
            let endian = self.object.endian();
            Some(if access.has_shifts() {
                access.judge_tuple(endian, before.as_ref(), after.as_ref()?, &target)
            } else {
                access.judge_plain(endian, before.as_ref()?, after.as_ref()?, &target).into_iter().collect()
            })
        };
        judge().unwrap_or_default()
    }
}

impl Access {
    /// The record that findings are about.
    fn lead(&self) -> Option<usize> {
        self.parts.get(Part::Offset).iter().copied().next().or_else(|| self.records().min())
    }

    /// Numbers of the records, part by part.
    fn records(&self) -> impl Iterator<Item = usize> {
        PARTS.into_iter().flat_map(|it| self.parts.get(it).iter().copied())
    }

    /// Without shifts, each offset is read by itself, with the first size; without an offset, nothing is.
    fn apart(self) -> Vec<Self> {
        if self.has_shifts() {
            return vec![self];
        }
        // Each has one size at most: what there is of a field in all of a hostile file is not to be copied for each of them.
        let size = self.parts.get(Part::Size).first().copied();
        let offsets = self.parts.get(Part::Offset).iter().zip(&self.loaded);
        let only = |(&offset, &loaded): (&usize, &Option<u64>)| {
            let mut parts = Parts::<Vec<usize>>::default();
            parts.get_mut(Part::Offset).push(offset);
            parts.get_mut(Part::Size).extend(size);
            Self { parts, local: self.local, shifts: self.shifts, loaded: vec![loaded] }
        };
        offsets.map(only).collect()
    }

    /// Notes what a record's instruction says beside its value.
    fn look_at(&mut self, part: Part, object: &Object<'_>, reloc: &Reloc<'_>, uses: Option<&Uses>) {
        const LSH: u8 = 0x60;
        const RSH: u8 = 0x70;
        const ARSH: u8 = 0xc0;
        let insn = instruction(object, reloc).map(|it| it.0);
        if part == Part::Offset {
            let is_access = |it: &Insn| matches!(it.class(), class::LDX | class::ST | class::STX);
            let loaded = insn.filter(is_access).map(Insn::access_size);
            self.loaded.push(loaded.or(uses.and_then(|it| it.read)).map(u64::from));
        }
        let Some(insn) = insn.filter(|it| it.class() == class::ALU64) else { return };
        match (part, insn.code & 0xf0) {
            (Part::Right, ARSH) => self.shifts.with_sign = true,
            (Part::Right, RSH) => self.shifts.without_sign = true,
            (Part::Right, LSH) | (Part::Left, RSH) => self.shifts.makes_mask = true,
            _ => {}
        }
    }

    fn has_shifts(&self) -> bool {
        !self.parts.get(Part::Left).is_empty() || !self.parts.get(Part::Right).is_empty()
    }

    /// Values of all records to those of each part; `None` if one is missing.
    fn values(&self, values: impl Iterator<Item = Option<u64>>) -> Option<Values> {
        let mut sorted = Values::default();
        let parts = PARTS.into_iter().flat_map(|it| self.parts.get(it).iter().map(move |_| it));
        for (part, value) in parts.zip(values) {
            let (of_part, value) = (sorted.get_mut(part), value?);
            // One more than are put together shows that there are too many.
            if !of_part.contains(&value) && of_part.len() <= VALUES_MAX {
                of_part.push(value);
            }
        }
        if sorted.get(Part::Size).is_empty() && self.loaded.iter().all(Option::is_some) {
            let mut loaded: SmallVec<[u64; 1]> = self.loaded.iter().copied().flatten().collect();
            loaded.sort_unstable();
            loaded.dedup();
            *sorted.get_mut(Part::Size) = loaded;
        }
        Some(sorted)
    }

    fn judge_tuple(
        &self,
        endian: Endian,
        before: Option<&Values>,
        after: &Values,
        target: &Field,
    ) -> Vec<Drift> {
        let mut missing: Vec<Part> = [Part::Offset, Part::Size, Part::Left, Part::Right].into();
        missing.retain(|it| after.get(*it).is_empty());
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|it| it.name()).collect();
            let message = format!(
                "it is read by its shifts without its {}, which the program does not ask for: the kernel's field is {target}",
                names.join(" and ")
            );
            return vec![Drift { rule: Rule::BitfieldIncomplete, message }];
        }
        let mut found = Vec::new();
        let compiled = before.and_then(|it| wrong_reading(it, &self.local, endian));
        found.extend(compiled.map(|it| {
            let message = format!("as compiled, it reads {it}; the program's own field is {}", self.local);
            Drift { rule: Rule::BitfieldMismatch, message }
        }));
        found.extend(wrong_reading(after, target, endian).map(|it| {
            let message = format!("it comes to read {it}; the kernel's field is {target}");
            Drift { rule: Rule::BitfieldMisread, message }
        }));
        if found.is_empty()
            && self.parts.get(Part::Sign).is_empty()
            && target.is_signed != self.local.is_signed
        {
            // As it was compiled, the shift fits the program's field, and that is what does not change.
            let Shifts { with_sign, without_sign, makes_mask } = self.shifts;
            let is_fixed = with_sign != without_sign && with_sign == self.local.is_signed && !makes_mask;
            if is_fixed {
                let which = if target.is_signed { "signed" } else { "unsigned" };
                let message = format!(
                    "the program does not ask for its sign: it is {which} in the kernel, and {} in the program",
                    if target.is_signed { "unsigned" } else { "signed" }
                );
                found.push(Drift { rule: Rule::BitfieldIncomplete, message });
            }
        }
        found
    }

    /// A field that is read without its shifts: a bitfield has to be at the same place of what is loaded as it was when the
    /// program was compiled.
    fn judge_plain(&self, endian: Endian, before: &Values, after: &Values, target: &Field) -> Option<Drift> {
        if !self.local.is_bitfield && !target.is_bitfield {
            return None;
        }
        let one = |values: &Values, part| match values.get(part).as_slice() {
            [value] => Some(*value),
            _ => None,
        };
        let place = |values: &Values, field: &Field| Plain {
            first: i64::from(field.bit_offset)
                - one(values, Part::Offset)
                    .and_then(|it| i64::try_from(it).ok())
                    .unwrap_or(0)
                    .saturating_mul(8),
            bits: field.bits.into(),
            loaded: one(values, Part::Size).and_then(|it| i64::try_from(it).ok()),
            endian,
        };
        let (Some(_), Some(_)) = (one(before, Part::Offset), one(after, Part::Offset)) else { return None };
        let (here, there) = (place(before, &self.local), place(after, target));
        // Loaded in several parts, or not by this: nothing can be said of it.
        if !here.is_covered() || there.is_same_as(&here) && there.is_covered() {
            return None;
        }
        let which = match (self.local.is_bitfield, target.is_bitfield) {
            (true, true) => "the bitfield is elsewhere in what is loaded",
            (true, false) => "the bitfield is none in the kernel",
            _ => "the field is a bitfield in the kernel",
        };
        let message = format!(
            "{which}, and the program does not shift it as the kernel has it: compiled in is {here}; the kernel has {there}"
        );
        Some(Drift { rule: Rule::BitfieldNotShifted, message })
    }
}

/// A reading that does not give `field`, if the values do not come to it: each has to be part of one that does.
fn wrong_reading(values: &Values, field: &Field, endian: Endian) -> Option<Wrong> {
    let many = PARTS.into_iter().find(|it| values.get(*it).len() > VALUES_MAX);
    if let Some(part) = many {
        return Some(Wrong::TooMany(part));
    }
    let signs: SmallVec<[Option<bool>; 1]> = match values.get(Part::Sign).as_slice() {
        [] => [None].into_iter().collect(),
        signs => signs.iter().map(|it| Some(*it != 0)).collect(),
    };
    let of = |part| values.get(part).iter().copied();
    let mut readings: Vec<Reading> = Vec::new();
    for offset in of(Part::Offset) {
        for size in of(Part::Size) {
            for left in of(Part::Left) {
                let with_right = |right| {
                    signs.iter().map(move |&is_signed| Reading { offset, size, left, right, is_signed })
                };
                readings.extend(of(Part::Right).flat_map(with_right));
            }
        }
    }
    let (right, wrong): (Vec<Reading>, Vec<Reading>) =
        readings.into_iter().partition(|it| it.extracts(field, endian));
    let is_new = |it: &&Reading| {
        let is_in = |has: fn(&Reading, &Reading) -> bool| right.iter().any(|other| has(it, other));
        !is_in(|one, other| one.offset == other.offset)
            || !is_in(|one, other| one.size == other.size)
            || !is_in(|one, other| one.left == other.left)
            || !is_in(|one, other| one.right == other.right)
            || !is_in(|one, other| one.is_signed == other.is_signed)
    };
    wrong.iter().find(is_new).map(|it| Wrong::Reading(*it, endian))
}

/// Why values do not read a field.
enum Wrong {
    Reading(Reading, Endian),
    TooMany(Part),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading(reading, endian) => Described(*reading, *endian).fmt(f),
            Self::TooMany(part) => write!(f, "with more than {VALUES_MAX} values for its {}", part.name()),
        }
    }
}

/// A field in what is loaded.
#[derive(Clone, Copy)]
struct Plain {
    /// The first bit, from that of the first byte.
    first: i64,
    bits: i64,
    /// In bytes, if that is known.
    loaded: Option<i64>,
    endian: Endian,
}

impl Plain {
    fn is_covered(&self) -> bool {
        self.first >= 0 && self.loaded.is_none_or(|it| self.first + self.bits <= it.saturating_mul(8))
    }

    fn is_same_as(&self, other: &Self) -> bool {
        let from_low_end = |it: &Self| match (it.endian, it.loaded) {
            (Endian::Big, Some(loaded)) => loaded.saturating_mul(8) - it.first - it.bits,
            _ => it.first,
        };
        self.bits == other.bits && from_low_end(self) == from_low_end(other)
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.bits == 1 { "bit" } else { "bits" };
        write!(f, "{} {bits} from bit {} on", self.bits, self.first)?;
        match self.loaded {
            Some(1) => f.write_str(" of 1 byte"),
            Some(loaded) => write!(f, " of {loaded} bytes"),
            None => Ok(()),
        }
    }
}

/// The instruction of a record, and the slot behind it.
fn instruction(object: &Object<'_>, reloc: &Reloc<'_>) -> Option<(Insn, Option<Insn>)> {
    let (slots, _) = object.insn_bytes(reloc).as_chunks::<INSN_LEN>();
    let decode = |it: &[u8; INSN_LEN]| Insn::decode(*it, object.endian());
    Some((decode(slots.first()?), slots.get(1).map(decode)))
}

/// The value that a record's instruction has where one would be written.
fn operand(object: &Object<'_>, reloc: &Reloc<'_>) -> Option<u64> {
    let (first, second) = instruction(object, reloc)?;
    match first.class() {
        class::ALU | class::ALU64 if first.code & 0x08 == 0 => Some(i64::from(first.imm).cast_unsigned()),
        class::LDX | class::ST | class::STX => Some(i64::from(first.off).cast_unsigned()),
        class::LD => {
            Some(u64::from(second?.imm.cast_unsigned()) << 32 | u64::from(first.imm.cast_unsigned()))
        }
        _ => None,
    }
}

/// The field that a record is about in the object's own BTF.
fn local_field(object: &Object<'_>, reloc: &Reloc<'_>) -> Option<Field> {
    let question = reloc.question.as_ref().ok()?;
    let btf = object.btf()?;
    let Ask::Field(steps) = &question.query.as_ref()?.ask else { return None };
    let place = find_place(&PLAIN, steps, btf, reloc.type_id, &mut Budget::new()).ok()?.ok()?;
    // The path is followed by names here and by indices there: in what no compiler makes they may differ. And what stands
    // before the root is of no interest.
    (place.bit_offset == question.local_bit_offset).then(|| Field::of(btf, &place))?
}

/// The field that a record is about in a type of the kernel.
fn field_in(reloc: &Reloc<'_>, shape: Shape<'_>) -> Option<Field> {
    let Ask::Field(steps) = &reloc.question.as_ref().ok()?.query.as_ref()?.ask else { return None };
    let place = find_place(&PLAIN, steps, shape.btf, shape.id, &mut Budget::new()).ok()?.ok()?;
    Field::of(shape.btf, &place)
}
