//! What loads but reads something else than it was compiled to read.
//!
//! CO-RE calls fields of all sizes and signs compatible, and relocates where a field is, not what a program does with
//! it. Each [`Rule`] is a case in which the difference shows in what the program does with the very field, as far as
//! its instructions say so plainly; where they do not, nothing is said. A program that asks for the size, the sign or
//! the existence of a field knows that it may differ, and is left alone.
//!
//! [`Strict`] goes further, where that is asked for: it says of every access to a bitfield whether its values together
//! read the field's bits.
//!
//! Not seen: enumerators as constants of which nothing says which enum they are from (arguments of helpers, values that
//! go through maps); and structs that are read without any record, but for those that arguments point to, which
//! [`depend`](crate::depend) looks at: BTF does not tell a type that the kernel shares with the program from one that is
//! its own.

mod accesses;
mod strict;
mod uses;

pub use accesses::Accesses;
pub use strict::Strict;

use hashbrown::{HashMap, HashSet};

use crate::btf::{Btf, Type, TypeId, essential_name};
use crate::dialect::Rules;
use crate::fleet::Shape;
use crate::format::btf::Kind;
use crate::format::btf_ext::RelocKind;
use crate::object::{Object, Reloc};
use crate::query::{self, Ask};
use crate::resolve::{Budget, Decision, Match, on_candidate};
use uses::Uses;

/// A way in which a program reads something else. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// More or fewer bytes are read than the kernel's field has.
    WidthChanged,
    /// The field is used as a signed number, and is unsigned in the kernel.
    SignChanged,
    /// A bitfield is read with the shifts that it was compiled with.
    BitfieldNotShifted,
    /// A field is compared with what an enumerator was when the program was compiled.
    EnumValueMoved,
    /// The values in the instructions do not read the program's own field.
    BitfieldMismatch,
    /// The values that are written do not read the kernel's field.
    BitfieldMisread,
    /// Not all values that it takes to read a field are relocated.
    BitfieldIncomplete,
}

impl Rule {
    /// Every rule, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::WidthChanged,
        Self::SignChanged,
        Self::BitfieldNotShifted,
        Self::EnumValueMoved,
        Self::BitfieldMismatch,
        Self::BitfieldMisread,
        Self::BitfieldIncomplete,
    ];

    /// The rule as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::WidthChanged => "width-changed",
            Self::SignChanged => "sign-changed",
            Self::BitfieldNotShifted => "bitfield-not-shifted",
            Self::EnumValueMoved => "enum-value-moved",
            Self::BitfieldMismatch => "bitfield-mismatch",
            Self::BitfieldMisread => "bitfield-misread",
            Self::BitfieldIncomplete => "bitfield-incomplete",
        }
    }
}

/// A field that a program reads as something else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Drift {
    /// How.
    pub rule: Rule,
    /// One sentence.
    pub message: String,
}

/// What an object's programs do with fields.
#[derive(Debug)]
pub struct Watch<'a, 'r> {
    object: &'a Object<'r>,
    /// By record of a field's offset.
    uses: HashMap<usize, Uses>,
}

/// Whether a record is about where a field is.
fn is_field(reloc: &Reloc<'_>) -> bool {
    let query = reloc.question.as_ref().ok().and_then(|it| it.query.as_ref());
    reloc.kind == Some(RelocKind::FieldByteOffset) && query.is_some_and(|it| matches!(it.ask, Ask::Field(_)))
}

impl<'a, 'r> Watch<'a, 'r> {
    /// Looks at the programs of `object`.
    pub fn new(object: &'a Object<'r>) -> Self {
        let mut uses = uses::uses(object);
        let mut asked = HashSet::new();
        let mut asked_whole = HashSet::new();
        let mut enums = HashSet::new();
        for reloc in object.relocs() {
            let Some(query) = reloc.question.as_ref().ok().and_then(|it| it.query.as_ref()) else { continue };
            match (&query.ask, reloc.kind) {
                (Ask::Enumerator(_), _) => {
                    enums.insert(query.root.essential);
                }
                (Ask::Field(_), Some(kind)) if kind != RelocKind::FieldByteOffset => {
                    asked.insert((reloc.type_id, reloc.access));
                }
                (Ask::TypeMatches(_), _) | (_, Some(RelocKind::TypeSize)) => {
                    asked_whole.insert(reloc.type_id);
                }
                _ => {}
            }
        }
        let relocs = object.relocs();
        uses.retain(|record, uses| {
            let Some(reloc) = relocs.get(*record) else { return false };
            // Programs that relocate some enumerators know that they move.
            let knows_enum = local_leaf(object, reloc)
                .is_some_and(|(btf, ty)| enums.contains(essential_name(btf.name(ty.name_off))));
            if knows_enum {
                uses.compared.clear();
            }
            !asked.contains(&(reloc.type_id, reloc.access))
                && !asked_whole.contains(&reloc.type_id)
                && (uses.is_loaded || uses.read.is_some())
        });
        Self { object, uses }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Numbers of the records that something can be said of, ascending.
    pub fn records(&self) -> Vec<usize> {
        let mut records: Vec<usize> = self.uses.keys().copied().collect();
        records.sort_unstable();
        records
    }

    /// Whether there is something about a record to look at, without its types.
    pub fn may_drift(&self, record: usize, decision: &Decision) -> bool {
        let is_used = |it: &Uses| it.as_signed || !it.compared.is_empty();
        let is_plain = decision.orig_size != 0 && decision.orig_size == decision.new_size;
        !decision.poisoned && self.uses.get(&record).is_some_and(|it| !is_plain || is_used(it))
    }

    /// What a record reads that is something else in the kernel.
    ///
    /// `shape`: the type that the decision's candidate is. `rules`: those by which it was decided.
    pub fn judge(
        &self,
        rules: &Rules,
        record: usize,
        decision: &Decision,
        shape: Shape<'_>,
    ) -> Option<Drift> {
        let uses = self.uses.get(&record)?;
        let reloc = self.object.relocs().get(record)?;
        if decision.poisoned || decision.unresolved {
            return None;
        }
        if decision.orig_size == 0 || decision.new_size == 0 {
            return self.bitfield(rules, reloc, uses, decision, shape);
        }
        let (local_btf, local) = local_leaf(self.object, reloc)?;
        let target = shape.btf.ty(decision.target_type)?;
        let is_number = |ty: &Type<'_>| ty.kind == Kind::Int || ty.kind.is_any_enum();
        if !is_number(&local) || !is_number(&target) {
            return None;
        }
        let (orig, new) = (decision.orig_size, decision.new_size);
        if orig != new {
            let read = uses.read.filter(|it| *it == orig)?;
            let what =
                if read > new { "what stands behind it is read with it" } else { "the rest is not read" };
            let bytes = |count: u32| if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") };
            let message =
                format!("{} are read, and the kernel's field has {}: {what}", bytes(read), bytes(new));
            return Some(Drift { rule: Rule::WidthChanged, message });
        }
        // The other way round says nothing: a bound that is checked without a sign keeps negative values out.
        let are_ints = local.kind == Kind::Int && target.kind == Kind::Int;
        if are_ints && uses.as_signed && local.is_signed() && !target.is_signed() {
            let message = "it is used as a signed number, and is unsigned in the kernel".into();
            return Some(Drift { rule: Rule::SignChanged, message });
        }
        enumerator(local_btf, local, shape.btf, target, uses)
    }

    /// The program reads a field without asking for its shifts, and it is a bitfield on either side.
    fn bitfield(
        &self,
        rules: &Rules,
        reloc: &Reloc<'r>,
        uses: &Uses,
        decision: &Decision,
        shape: Shape<'_>,
    ) -> Option<Drift> {
        let question = reloc.question.as_ref().ok()?;
        let query = question.query.as_ref()?;
        let btf = self.object.btf()?;
        let shifts = [RelocKind::FieldByteSize, RelocKind::FieldLshiftU64, RelocKind::FieldRshiftU64];
        let mut values = [(0, 0); 3];
        for (value, kind) in values.iter_mut().zip(shifts) {
            let local = query::parse(rules, btf, reloc.type_id, reloc.access, kind as u32).ok()?;
            let local = local.local.ok()?.value.value;
            let Ok(Match::Found(target)) =
                on_candidate(rules, query, kind, shape.btf, shape.id, &mut Budget::new())
            else {
                return None;
            };
            *value = (local, target.value.ok()?.value);
        }
        let [(local_window, target_window), (local_left, target_left), (local_right, target_right)] = values;
        // Read in one piece, a field of whole bytes is no bitfield whatever its declaration says.
        let is_same = (local_window, local_left, local_right) == (target_window, target_left, target_right);
        let is_read = uses.is_loaded || uses.read.map(u64::from) == Some(local_window);
        if is_same || !is_read {
            return None;
        }
        let bits =
            |left: u64, right: u64| format!("{} bits, shifted by {left}", 64_u64.saturating_sub(right));
        let (wanted, there) = (bits(local_left, local_right), bits(target_left, target_right));
        let which = match (decision.orig_size, decision.new_size) {
            (0, 0) => "the bitfield is elsewhere in its word",
            (0, _) => "the bitfield is none in the kernel",
            _ => "the field is a bitfield in the kernel",
        };
        let message = format!(
            "{which}, and the program does not shift it as the kernel has it: {wanted} in {local_window} bytes were compiled in, the kernel has {there} in {target_window}"
        );
        Some(Drift { rule: Rule::BitfieldNotShifted, message })
    }
}

/// Type of the field in the object's BTF, without modifiers; `None` of a bitfield.
fn local_leaf<'o>(object: &'o Object<'_>, reloc: &Reloc<'_>) -> Option<(&'o Btf<'o>, Type<'o>)> {
    let value = reloc.question.as_ref().ok()?.local.as_ref().ok()?.value;
    let btf: &'o Btf<'o> = object.btf()?;
    (value.type_id != TypeId::VOID).then_some((btf, btf.ty(value.type_id)?))
}

/// The field is compared with the value of an enumerator that has another value in the kernel.
fn enumerator(
    local_btf: &Btf<'_>,
    local: Type<'_>,
    target_btf: &Btf<'_>,
    target: Type<'_>,
    uses: &Uses,
) -> Option<Drift> {
    if !local.kind.is_any_enum() || !target.kind.is_any_enum() {
        return None;
    }
    let moved = |value: i64| {
        // The lower half is what an ENUM is compared by.
        let is_same =
            |of: u64| of == value.cast_unsigned() || of & 0xffff_ffff == value.cast_unsigned() & 0xffff_ffff;
        let mut found = None;
        for it in local.enumerators().filter(|it| is_same(it.value)) {
            let name = local_btf.name(it.name_off);
            let there = target.enumerators().find(|it| target_btf.name(it.name_off) == name)?;
            if is_same(there.value) {
                // One of several names for the value still has it.
                return None;
            }
            found = Some((name, there.value));
        }
        found
    };
    let (value, (name, there)) = uses.compared.iter().find_map(|&it| Some((it, moved(it)?)))?;
    let name = String::from_utf8_lossy(name);
    let message = format!(
        "it is compared with {value}, which is {name} in the program; in the kernel that is {}",
        there.cast_signed()
    );
    Some(Drift { rule: Rule::EnumValueMoved, message })
}
