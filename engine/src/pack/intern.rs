//! Types in canonical form, each once.
//!
//! A type's record is rewritten into canonical form, its parts first: ids and string offsets of the pack in place of
//! the BTF's own. Equal records are one type, so that two types are one if and only if they are equal all the way
//! down, names, modifiers and tags included. What the canonical form leaves out, as no loader looks at it:
//!
//! * behind a pointer, what is in a STRUCT or UNION that has a name: it is stored as one without members and size.
//!   Everything else is kept there too, its parts in the same way. So a type can have two forms, by value and
//!   behind a pointer, and since C names whatever it uses to make cycles, forms have none;
//! * names of parameters, index types of arrays, variables of a DATASEC, and whatever follows the head of a kind
//!   that this version does not know.

use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use super::format::{Abi, hash, to_u32, words};
use super::known::Known;
use super::{Pack, PackError, Refusal};
use crate::btf::{BLOCK_TYPES, Btf, Type, TypeId};
use crate::format::btf::{Kind, MAX_STR_OFFSET};

/// Nesting of types after which one is refused; compilers make a few dozen.
pub(super) const DEPTH_MAX: u32 = 512;
/// The id that stands for a type that does not exist: libbpf lets the return type of a prototype be one.
pub(super) const DANGLING: u32 = u32::MAX;
/// In a memo: this type is being worked on, further up.
const IN_PROGRESS: u32 = u32::MAX - 1;
/// Ids of types stay below, as lists share their numbers.
const TYPES_MAX: u32 = 1 << 31;
/// Types that are fetched at a time.
pub(super) const FETCH_AHEAD: usize = 128;
/// Bits of `info` that are kind and kind flag.
const INFO_KIND: u32 = 0xff00_0000;

/// All types of one ABI: those of the pack that is added to, and new ones.
pub(super) struct Store<'p> {
    old: Option<Known<'p>>,
    /// First new id, and first new string offset.
    first: (u32, u32),
    types: Vec<u8>,
    /// Byte offset of each new type.
    offsets: Vec<u32>,
    strings: Vec<u8>,
    /// (lower half of the hash of the record, id).
    by_record: HashTable<(u32, u32)>,
    /// (lower half of the hash, offset).
    by_string: HashTable<(u32, u32)>,
    scratch: Vec<u8>,
}

/// What became of the types of one BTF.
pub(super) struct Memo {
    /// By id: form by value, and behind a pointer. 0 is not known yet.
    forms: Vec<[u32; 2]>,
    /// String offsets to those of the pack, below `strings_split` and from there on.
    strings: [HashMap<u32, u32>; 2],
    strings_split: u32,
}

/// How far a store had come.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    types: usize,
    count: usize,
    strings: usize,
}

impl Memo {
    pub(super) fn new(btf: &Btf<'_>) -> Self {
        Self {
            forms: vec![[0; 2]; btf.type_count() as usize],
            strings: [HashMap::new(), HashMap::new()],
            strings_split: 0,
        }
    }

    /// Goes on with `module`, which is split on the BTF that this was made for. Keeps what is known of the latter.
    pub(super) fn turn_to(&mut self, module: &Btf<'_>) {
        self.forms.truncate(module.start_id().0 as usize);
        self.forms.resize(module.type_count() as usize, [0; 2]);
        if self.strings_split == 0 {
            self.strings.swap(0, 1);
            self.strings_split = module.str_start();
        }
        let [_, own] = &mut self.strings;
        own.clear();
    }

    #[inline]
    fn get(&self, id: TypeId, behind: bool) -> u32 {
        self.forms
            .get(id.0 as usize)
            .map_or(0, |&[by_value, pointed]| if behind { pointed } else { by_value })
    }

    /// The form of a part whose turn has been: what is not known does not exist.
    fn part(&self, id: TypeId, behind: bool) -> u32 {
        match self.get(id, behind) {
            0 if id != TypeId::VOID => DANGLING,
            known => known,
        }
    }

    #[inline]
    fn set(&mut self, id: TypeId, behind: bool, form: u32) {
        if let Some([by_value, pointed]) = self.forms.get_mut(id.0 as usize) {
            *(if behind { pointed } else { by_value }) = form;
        }
    }
}

/// The lower half of a hash, which tables in memory keep beside their entries.
fn low(hash: u64) -> u32 {
    (hash & 0xffff_ffff) as u32
}

/// Spreads half a hash again: tables select by the upper bits as well as by the lower.
pub(super) fn spread(low: u32) -> u64 {
    u64::from(low).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<'p> Store<'p> {
    /// `pack`: what is added to.
    pub(super) fn new(pack: Option<&Pack<'p>>, abi: Abi) -> Self {
        let old = pack.and_then(|pack| Known::new(pack, abi));
        let first = old.as_ref().map_or((1, 0), |old| old.end);
        // The first string of all is the empty one.
        let strings = if old.is_none() { vec![0] } else { Vec::new() };
        Self {
            old,
            first,
            types: Vec::new(),
            offsets: Vec::new(),
            strings,
            by_record: HashTable::new(),
            by_string: HashTable::new(),
            scratch: Vec::new(),
        }
    }

    /// The record of a type.
    #[inline]
    pub(super) fn record(&self, id: u32) -> Option<&[u8]> {
        match id.checked_sub(self.first.0) {
            None => self.old.as_ref()?.record(id),
            Some(number) => {
                let number = number as usize;
                let start = *self.offsets.get(number)? as usize;
                let end = self.offsets.get(number + 1).map_or(self.types.len(), |&end| end as usize);
                self.types.get(start..end)
            }
        }
    }

    /// The bytes from a string on.
    #[inline]
    fn string_tail(&self, off: u32) -> Option<&[u8]> {
        match off.checked_sub(self.first.1) {
            None => self.old.as_ref()?.string_tail(off),
            Some(off) => self.strings.get(off as usize..),
        }
    }

    #[inline]
    /// Whether the string at `off` is the one at `name_off` of `btf`.
    fn string_is(&self, off: u32, btf: &Btf<'_>, name_off: u32) -> bool {
        match (self.string_tail(off), btf.str_tail(name_off)) {
            (Some(a), Some(b)) => is_same_string(a, b),
            _ => false,
        }
    }

    /// Reads what comparing types with `types` begins with, the records and their names in the pack.
    ///
    /// They lie scattered there, so that a comparison would wait for memory at every step. In these short loops nothing
    /// depends on what is read, and the waits overlap.
    pub(super) fn fetch(&self, types: impl Iterator<Item = u32>) {
        let Some(old) = &self.old else { return };
        let types: SmallVec<[u32; FETCH_AHEAD]> = types.collect();
        let touch = |places: &[&[u8]]| {
            let bytes = places.iter().filter_map(|it| it.first());
            std::hint::black_box(bytes.fold(0, |all, byte| all ^ byte));
        };
        let mut places: SmallVec<[&[u8]; FETCH_AHEAD]> = SmallVec::new();
        places.extend(types.iter().filter_map(|&id| old.near(id)));
        touch(&places);
        places.clear();
        places.extend(types.iter().filter_map(|&id| old.string_tail(word(old.record(id)?, 0))));
        touch(&places);
    }

    /// Whether a type's name starts with `start`.
    pub(super) fn name_starts_with(&self, id: u32, start: &[u8]) -> bool {
        let tail = self.record(id).and_then(|record| self.string_tail(word(record, 0)));
        tail.is_some_and(|tail| tail.starts_with(start))
    }

    /// Name and kind of a type.
    pub(super) fn name_and_kind(&self, id: u32) -> Option<(&[u8], Kind)> {
        let record = self.record(id)?;
        let tail = self.string_tail(word(record, 0))?;
        Some((tail.get(..memchr::memchr(0, tail)?)?, Kind::from_info(word(record, 1))))
    }

    fn intern_string(&mut self, name: &[u8]) -> Result<u32, Refusal> {
        if name.is_empty() {
            return Ok(0);
        }
        let hash = hash(name);
        let in_memory = |off: u32| {
            let tail = self.strings.get((off - self.first.1) as usize..);
            tail.and_then(|tail| tail.strip_prefix(name)).is_some_and(|rest| rest.first() == Some(&0))
        };
        let known = self.by_string.find(spread(low(hash)), |it| it.0 == low(hash) && in_memory(it.1));
        if let Some(&(_, off)) = known {
            return Ok(off);
        }
        if let Some(off) = self.old.as_ref().and_then(|old| old.find_string(hash, name)) {
            return Ok(off);
        }
        let full = Refusal::PackFull { what: "strings" };
        let off = u32::try_from(self.strings.len()).ok().and_then(|len| len.checked_add(self.first.1));
        let off =
            off.filter(|&off| u64::from(off) + name.len() as u64 <= u64::from(MAX_STR_OFFSET)).ok_or(full)?;
        self.strings.extend_from_slice(name);
        self.strings.push(0);
        self.by_string.insert_unique(spread(low(hash)), (low(hash), off), |it| spread(it.0));
        Ok(off)
    }

    /// The type with the record in `scratch`.
    fn intern_scratch(&mut self) -> Result<u32, Refusal> {
        let hash = hash(&self.scratch);
        let known = self
            .by_record
            .find(spread(low(hash)), |it| it.0 == low(hash) && self.record(it.1) == Some(&self.scratch));
        if let Some(&(_, id)) = known {
            return Ok(id);
        }
        if let Some(id) = self.old.as_ref().and_then(|old| old.find_record(hash, &self.scratch)) {
            return Ok(id);
        }
        let full = Refusal::PackFull { what: "types" };
        let id = u32::try_from(self.offsets.len()).ok().and_then(|count| count.checked_add(self.first.0));
        let id = id.filter(|&id| id < TYPES_MAX).ok_or(full)?;
        self.offsets.push(u32::try_from(self.types.len()).map_err(|_| Refusal::PackFull { what: "types" })?);
        self.types.extend_from_slice(&self.scratch);
        self.by_record.insert_unique(spread(low(hash)), (low(hash), id), |it| spread(it.0));
        Ok(id)
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { types: self.types.len(), count: self.offsets.len(), strings: self.strings.len() }
    }

    /// Forgets what came after `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) {
        let (first_id, first_str) = self.first;
        let is_before = |number: u32, count: usize| (number as usize) < count;
        self.by_record.retain(|it| is_before(it.1 - first_id, mark.count));
        self.by_string.retain(|it| is_before(it.1 - first_str, mark.strings));
        self.types.truncate(mark.types);
        self.offsets.truncate(mark.count);
        self.strings.truncate(mark.strings);
    }

    /// The sections BTF, BLOCKS, TYPE_INDEX and STRING_INDEX; `None` if there is nothing new.
    pub(super) fn finish(&self) -> Result<Option<[Vec<u8>; 4]>, PackError> {
        if self.offsets.is_empty() && (self.strings.is_empty() || self.old.is_none()) {
            return Ok(None);
        }
        let (types_len, strings_len) =
            (to_u32(self.types.len(), "types")?, to_u32(self.strings.len(), "strings")?);
        let mut blob = Vec::with_capacity(24 + self.types.len() + self.strings.len());
        blob.extend(crate::format::btf::MAGIC.to_le_bytes());
        blob.extend([1, 0]);
        words(&mut blob, &[24, 0, types_len, types_len, strings_len]);
        blob.extend_from_slice(&self.types);
        blob.extend_from_slice(&self.strings);
        to_u32(blob.len(), "types")?;
        let mut blocks = Vec::new();
        words(&mut blocks, &[to_u32(self.offsets.len(), "types")?]);
        for &at in self.offsets.iter().step_by(BLOCK_TYPES) {
            words(&mut blocks, &[at]);
        }
        let records = (self.first.0..)
            .zip(&self.offsets)
            .filter_map(|(id, _)| Some((hash(self.record(id)?), id - self.first.0)));
        let types = super::index::write(records.collect())?;
        let strings = super::index::write(string_hashes(&self.strings))?;
        Ok(Some([blob, blocks, types, strings]))
    }
}

/// Hashes of the strings of a section, with their offsets in it; not of the empty string.
pub(super) fn string_hashes(strings: &[u8]) -> Vec<(u64, u32)> {
    let mut hashes = Vec::new();
    let mut at = 0_usize;
    for string in strings.split_inclusive(|&byte| byte == 0) {
        if let Some(name @ [_, ..]) = string.strip_suffix(&[0]) {
            hashes.push((hash(name), u32::try_from(at).unwrap_or(u32::MAX)));
        }
        at += string.len();
    }
    hashes
}

/// Whether the strings that `a` and `b` start with, up to their first NUL, are equal.
///
/// 32 bytes are compared at a time and without a branch between them: names are shorter, and where they end is hard to
/// foresee.
#[inline]
fn is_same_string(mut a: &[u8], mut b: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    while let (Some((a_head, a_rest)), Some((b_head, b_rest))) =
        (a.split_first_chunk::<32>(), b.split_first_chunk::<32>())
    {
        let (mut differs, mut goes_on) = (0, u64::MAX);
        for (a, b) in a_head.as_chunks::<8>().0.iter().zip(b_head.as_chunks::<8>().0) {
            let (a, b) = (u64::from_le_bytes(*a), u64::from_le_bytes(*b));
            // The lowest bit that is set belongs to the first NUL.
            let nuls = a.wrapping_sub(ONES) & !a & (ONES << 7);
            let up_to_nul = nuls ^ nuls.wrapping_sub(1);
            differs |= (a ^ b) & up_to_nul & goes_on;
            goes_on &= u64::from(nuls == 0).wrapping_neg();
        }
        if differs != 0 || goes_on == 0 {
            return differs == 0;
        }
        (a, b) = (a_rest, b_rest);
    }
    let end = a.iter().position(|&byte| byte == 0);
    end.is_some_and(|end| matches!((a.get(..=end), b.get(..=end)), (Some(a), Some(b)) if a == b))
}

#[inline]
fn word(record: &[u8], index: usize) -> u32 {
    record.as_chunks::<4>().0.get(index).map_or(0, |word| u32::from_le_bytes(*word))
}

#[inline]
fn is_shell(btf: &Btf<'_>, ty: Type<'_>, behind: bool) -> bool {
    behind && ty.kind.is_composite() && !btf.is_anonymous(ty.name_off)
}

/// What a record says of itself: `info` and the third word if it is no type, in canonical form.
fn head(ty: Type<'_>, shell: bool) -> (u32, u32) {
    match ty.kind {
        _ if shell => (u32::from(ty.kind.raw()) << 24, 0),
        Kind::Datasec => (ty.info() & INFO_KIND, ty.size()),
        Kind::Void | Kind::Unknown(_) => (ty.info() & INFO_KIND, 0),
        _ => (ty.info(), ty.size()),
    }
}

/// Whether the third word is a type.
pub(super) fn has_target(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Ptr
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::TypeTag
            | Kind::Func
            | Kind::FuncProto
            | Kind::Var
            | Kind::DeclTag
    )
}

/// The type that a canonical record's third word is, or an array's element.
pub(super) fn target(ty: Type<'_>) -> Option<TypeId> {
    if ty.kind == Kind::Array { Some(ty.array().elem) } else { has_target(ty.kind).then(|| ty.target()) }
}

/// A member's third word, as it is encoded.
pub(super) fn member_offset(ty: Type<'_>, member: crate::btf::Member) -> u32 {
    if ty.kind_flag() { member.bitfield_size << 24 | member.bit_offset } else { member.bit_offset }
}

/// The form of type `id` of `btf`, by value. Stores what is new. `guess`: a type of the store that may differ little
/// from it, or 0: then names and parts are first compared with those of the guess, and looked up if they differ.
pub(super) fn form(
    store: &mut Store<'_>,
    btf: &Btf<'_>,
    memo: &mut Memo,
    id: TypeId,
    guess: u32,
) -> Result<u32, Refusal> {
    form_within(store, btf, memo, id, false, guess, 0)
}

/// What a guess says of the names and parts of a type. 0: nothing.
#[derive(Default)]
struct Guess {
    name: u32,
    target: u32,
    /// (name, part) of each member, enumerator or parameter.
    parts: SmallVec<[(u32, u32); 16]>,
}

/// Members of the guess that are looked at to find one again behind others that are gone.
const GUESS_AHEAD: usize = 4;

impl Guess {
    fn new(store: &Store<'_>, btf: &Btf<'_>, ty: Type<'_>, guess: u32) -> Self {
        let record = if guess == 0 { None } else { store.record(guess) };
        let Some(record) = record.filter(|it| Kind::from_info(word(it, 1)) == ty.kind) else {
            return Self::default();
        };
        let name_is = |off: u32, wanted: u32| wanted != 0 && off != 0 && store.string_is(wanted, btf, off);
        let mut this = Self { name: 0, target: word(record, 2), parts: SmallVec::new() };
        if name_is(ty.name_off, word(record, 0)) {
            this.name = word(record, 0);
        }
        let body = record.get(12..).unwrap_or_default();
        let (narrow, wide) = (body.as_chunks::<8>().0, body.as_chunks::<12>().0);
        match ty.kind {
            Kind::Array => this.target = word(record, 3),
            Kind::Struct | Kind::Union => {
                let known = wide.iter().map(|it| (word(it, 0), word(it, 1)));
                this.find(ty.members().map(|it| it.name_off), known, name_is);
            }
            Kind::Enum => {
                let known = narrow.iter().map(|it| (word(it, 0), 0));
                this.find(ty.enumerators().map(|it| it.name_off), known, name_is);
            }
            Kind::Enum64 => {
                let known = wide.iter().map(|it| (word(it, 0), 0));
                this.find(ty.enumerators().map(|it| it.name_off), known, name_is);
            }
            Kind::FuncProto => this.parts.extend(narrow.iter().map(|it| (0, word(it, 1)))),
            _ => {}
        }
        this
    }

    /// Finds each name among those that the guess has, in order.
    fn find(
        &mut self,
        names: impl Iterator<Item = u32>,
        mut known: impl Iterator<Item = (u32, u32)> + Clone,
        name_is: impl Fn(u32, u32) -> bool,
    ) {
        for off in names {
            let is_it = |it: &(u32, u32)| if off == 0 { it.0 == 0 } else { name_is(off, it.0) };
            let place = known.clone().take(GUESS_AHEAD).position(|it| is_it(&it));
            self.parts.push(place.and_then(|place| known.nth(place)).unwrap_or_default());
        }
    }

    fn part(&self, number: usize) -> (u32, u32) {
        self.parts.get(number).copied().unwrap_or_default()
    }
}

fn form_within(
    store: &mut Store<'_>,
    btf: &Btf<'_>,
    memo: &mut Memo,
    id: TypeId,
    behind: bool,
    guess: u32,
    depth: u32,
) -> Result<u32, Refusal> {
    if id == TypeId::VOID {
        return Ok(0);
    }
    match memo.get(id, behind) {
        0 => {}
        IN_PROGRESS => return Err(Refusal::Cycle { id: id.0 }),
        known => return Ok(known),
    }
    let Some(ty) = btf.ty(id) else { return Ok(DANGLING) };
    if depth == DEPTH_MAX {
        return Err(Refusal::TooDeep { id: id.0, max: DEPTH_MAX });
    }
    // Of the outermost type the caller knows that it is not the guess.
    if depth > 0 && guess != 0 && is_form_within(store, btf, memo, id, behind, guess, depth) {
        return Ok(guess);
    }
    memo.set(id, behind, IN_PROGRESS);
    let guess = Guess::new(store, btf, ty, guess);
    let shell = is_shell(btf, ty, behind);
    let parts_behind = behind || ty.kind == Kind::Ptr;
    if !shell {
        let mut part = |part: TypeId, guess: u32| {
            form_within(store, btf, memo, part, parts_behind, guess, depth + 1).map(|_| ())
        };
        if has_target(ty.kind) {
            part(ty.target(), guess.target)?;
        }
        match ty.kind {
            Kind::Array => part(ty.array().elem, guess.target)?,
            Kind::Struct | Kind::Union => {
                for (number, member) in ty.members().enumerate() {
                    part(member.type_id, guess.part(number).1)?;
                    if member.bitfield_size > 0 {
                        check_bitfield(btf, member.type_id).ok_or(Refusal::OddBitfield { id: id.0 })?;
                    }
                }
            }
            Kind::FuncProto => {
                ty.params()
                    .enumerate()
                    .try_for_each(|(number, it)| part(it.type_id, guess.part(number).1))?;
            }
            _ => {}
        }
    }
    let mut out = std::mem::take(&mut store.scratch);
    out.clear();
    let (info, third) = head(ty, shell);
    let third = if has_target(ty.kind) { memo.part(ty.target(), parts_behind) } else { third };
    let split = memo.strings_split;
    let name_of = |store: &mut Store<'_>, memo: &mut Memo, off: u32, known: u32| match known {
        0 => name_form(store, btf, &mut memo.strings, split, off),
        known => Ok(known),
    };
    let name_off = name_of(store, memo, ty.name_off, guess.name)?;
    words(&mut out, &[name_off, info, third]);
    if !shell {
        match ty.kind {
            Kind::Int | Kind::Var | Kind::DeclTag => words(&mut out, &[ty.word(0)]),
            Kind::Array => words(&mut out, &[memo.part(ty.array().elem, parts_behind), 0, ty.array().nelems]),
            Kind::Struct | Kind::Union => {
                for (number, member) in ty.members().enumerate() {
                    let part = memo.part(member.type_id, parts_behind);
                    let name = name_of(store, memo, member.name_off, guess.part(number).0)?;
                    words(&mut out, &[name, part, member_offset(ty, member)]);
                }
            }
            Kind::Enum | Kind::Enum64 => {
                for (number, it) in ty.enumerators().enumerate() {
                    let name = name_of(store, memo, it.name_off, guess.part(number).0)?;
                    let (low, high) = (low(it.value), low(it.value >> 32));
                    words(&mut out, &[name, low]);
                    if ty.kind == Kind::Enum64 {
                        words(&mut out, &[high]);
                    }
                }
            }
            Kind::FuncProto => {
                for param in ty.params() {
                    words(&mut out, &[0, memo.part(param.type_id, parts_behind)]);
                }
            }
            _ => {}
        }
    }
    store.scratch = out;
    let form = store.intern_scratch()?;
    memo.set(id, behind, form);
    Ok(form)
}

/// libbpf takes the third word of a bitfield's type for its size, whatever it is. Where it is a type id, that is of no
/// meaning beyond its own BTF.
fn check_bitfield(btf: &Btf<'_>, id: TypeId) -> Option<()> {
    let Some((_, ty)) = btf.skip_mods_and_typedefs(id) else { return Some(()) };
    (!has_target(ty.kind) && !matches!(ty.kind, Kind::Unknown(_))).then_some(())
}

fn name_form(
    store: &mut Store<'_>,
    btf: &Btf<'_>,
    strings: &mut [HashMap<u32, u32>; 2],
    split: u32,
    off: u32,
) -> Result<u32, Refusal> {
    if off == 0 {
        return Ok(0);
    }
    let [below, own] = strings;
    let memo = if off < split { below } else { own };
    if let Some(&form) = memo.get(&off) {
        return Ok(form);
    }
    let form = store.intern_string(btf.name(off))?;
    memo.insert(off, form);
    Ok(form)
}

/// Whether type `id` of `btf`, by value, is the type `wanted` of the store. Stores nothing; looks up no string and no
/// record by hash, which makes it several times as fast as [`form`] where the answer is yes.
///
/// A no is no proof that the type is not there: one nested too deep is left to [`form`].
pub(super) fn is_form(store: &Store<'_>, btf: &Btf<'_>, memo: &mut Memo, id: TypeId, wanted: u32) -> bool {
    is_form_within(store, btf, memo, id, false, wanted, 0)
}

fn is_form_within(
    store: &Store<'_>,
    btf: &Btf<'_>,
    memo: &mut Memo,
    id: TypeId,
    behind: bool,
    wanted: u32,
    depth: u32,
) -> bool {
    if id == TypeId::VOID || wanted == 0 {
        return id.0 == wanted;
    }
    match memo.get(id, behind) {
        0 => {}
        known => return known == wanted,
    }
    let (Some(ty), Some(record)) = (btf.ty(id), store.record(wanted)) else { return false };
    let shell = is_shell(btf, ty, behind);
    let (info, third) = head(ty, shell);
    let name_is = |off: u32, wanted: u32| {
        if off == 0 || wanted == 0 {
            btf.is_anonymous(off) && wanted == 0
        } else {
            store.string_is(wanted, btf, off)
        }
    };
    if word(record, 1) != info || depth == DEPTH_MAX {
        return false;
    }
    let parts_behind = behind || ty.kind == Kind::Ptr;
    let mut part =
        |part: TypeId, wanted: u32| is_form_within(store, btf, memo, part, parts_behind, wanted, depth + 1);
    let rest = || record.get(12..).unwrap_or_default();
    let is_third =
        if has_target(ty.kind) { part(ty.target(), word(record, 2)) } else { word(record, 2) == third };
    if !is_third || !name_is(ty.name_off, word(record, 0)) {
        return false;
    }
    let equal = shell
        || match ty.kind {
            Kind::Int | Kind::Var | Kind::DeclTag => word(record, 3) == ty.word(0),
            Kind::Array => word(record, 5) == ty.array().nelems && part(ty.array().elem, word(record, 3)),
            Kind::Struct | Kind::Union => {
                let mut wanted = rest().as_chunks::<12>().0.iter();
                // The offsets first: most structs that changed show it there.
                let offsets = ty.members().map(|it| member_offset(ty, it));
                offsets.eq(wanted.clone().map(|it| word(it, 2)))
                    && ty.members().all(|it| {
                        let Some(wanted) = wanted.next() else { return false };
                        let is_bitfield = it.bitfield_size > 0;
                        name_is(it.name_off, word(wanted, 0))
                            && part(it.type_id, word(wanted, 1))
                            && (!is_bitfield || check_bitfield(btf, it.type_id).is_some())
                    })
            }
            Kind::Enum => {
                let mut wanted = rest().as_chunks::<8>().0.iter();
                ty.enumerators().all(|it| {
                    let Some(wanted) = wanted.next() else { return false };
                    word(wanted, 1) == low(it.value) && name_is(it.name_off, word(wanted, 0))
                })
            }
            Kind::Enum64 => {
                let mut wanted = rest().as_chunks::<12>().0.iter();
                ty.enumerators().all(|it| {
                    let Some(wanted) = wanted.next() else { return false };
                    (word(wanted, 1), word(wanted, 2)) == (low(it.value), low(it.value >> 32))
                        && name_is(it.name_off, word(wanted, 0))
                })
            }
            Kind::FuncProto => {
                let mut wanted = rest().as_chunks::<8>().0.iter();
                ty.params().all(|it| wanted.next().is_some_and(|wanted| part(it.type_id, word(wanted, 1))))
            }
            _ => true,
        };
    if equal {
        memo.set(id, behind, wanted);
    }
    equal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that strings are equal up to their first NUL and no further, whatever their length and what follows.
    #[test]
    fn strings_are_compared_up_to_their_end() {
        for len in 0..100_usize {
            for spare in [0, 1, 31, 32, 70] {
                let mut a = vec![b'x'; len];
                a.push(0);
                let mut b = a.clone();
                a.resize(len + 1 + spare, b'a');
                b.resize(len + 1 + spare * 2 / 3, b'b');
                assert!(is_same_string(&a, &b) && is_same_string(&b, &a));
                for at in 0..=len {
                    let mut other = b.clone();
                    other.get_mut(at).into_iter().for_each(|byte| *byte = 0x80);
                    assert!(!is_same_string(&a, &other) && !is_same_string(&other, &a), "{len} {spare} {at}");
                }
            }
        }
        assert!(!is_same_string(b"", b"") && !is_same_string(b"x", b"x"));
    }
}
