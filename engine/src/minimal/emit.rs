//! Writes marked types as BTF.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::MinimalError;
use super::mark::{Marks, Parts};
use crate::btf::{Btf, TypeId};
use crate::format::Endian;
use crate::format::btf::{HEADER_LEN_MIN, Kind, MAGIC};

/// Bit 31 of a type's `info`, which says how it is read.
const KIND_FLAG: u32 = 1 << 31;

/// A BTF that was written, and what is needed to continue it.
#[derive(Debug)]
pub(super) struct Emitted {
    pub(super) bytes: Vec<u8>,
    /// Number of types, void included.
    count: u32,
    /// New ids by old ones.
    ids: BTreeMap<TypeId, TypeId>,
    strings: Strings,
}

/// A string section, or one that continues another one.
#[derive(Clone, Debug, Default)]
struct Strings {
    known: HashMap<Vec<u8>, u32>,
    /// Those that are new.
    bytes: Vec<u8>,
    /// Offset of the first of them.
    start: u32,
}

impl Strings {
    fn offset(&mut self, string: &[u8]) -> u32 {
        if let Some(known) = self.known.get(string) {
            return *known;
        }
        // Shorter than the section that the strings are from.
        let offset = self.start.saturating_add(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.bytes.extend(string);
        self.bytes.push(0);
        self.known.insert(string.to_vec(), offset);
        offset
    }

    /// An empty section that continues this one.
    fn continued(&self) -> Self {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        Self { known: self.known.clone(), bytes: Vec::new(), start: self.start.saturating_add(len) }
    }
}

/// Writes the marked types of `btf`, in the order of their ids; those of a module as a BTF that is split on `base`.
pub(super) fn emit(btf: &Btf<'_>, base: Option<&Emitted>, marks: &Marks) -> Result<Emitted, MinimalError> {
    let mut ids = base.map(|it| it.ids.clone()).unwrap_or_default();
    let mut count = base.map_or(1, |it| it.count);
    for &id in marks.keys() {
        ids.insert(id, TypeId(count));
        count = count.saturating_add(1);
    }
    let mut strings = match base {
        Some(base) => base.strings.continued(),
        None => {
            let mut strings = Strings::default();
            strings.offset(b"");
            strings
        }
    };
    let mut out = Writer { endian: btf.endian(), bytes: Vec::new() };
    for (&id, parts) in marks {
        Record { btf, ids: &ids, strings: &mut strings, out: &mut out }.write(id, parts)?;
    }
    let types = out.bytes;
    let mut out = Writer { endian: btf.endian(), bytes: Vec::new() };
    out.bytes.extend(match btf.endian() {
        Endian::Little => MAGIC.to_le_bytes(),
        Endian::Big => MAGIC.to_be_bytes(),
    });
    // Version 1, no flags.
    out.bytes.extend([1, 0]);
    let [types_len, strings_len, header_len] =
        [types.len(), strings.bytes.len(), HEADER_LEN_MIN].map(|it| u32::try_from(it).unwrap_or(u32::MAX));
    out.words(&[header_len, 0, types_len, types_len, strings_len]);
    out.bytes.extend(types);
    out.bytes.extend(&strings.bytes);
    Ok(Emitted { bytes: out.bytes, count, ids, strings })
}

struct Writer {
    endian: Endian,
    bytes: Vec<u8>,
}

impl Writer {
    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|&word| self.bytes.extend(self.endian.u32_bytes(word)));
    }
}

/// One type on its way.
struct Record<'a, 'data> {
    btf: &'a Btf<'data>,
    ids: &'a BTreeMap<TypeId, TypeId>,
    strings: &'a mut Strings,
    out: &'a mut Writer,
}

impl Record<'_, '_> {
    fn write(&mut self, id: TypeId, parts: &Parts) -> Result<(), MinimalError> {
        let Some(ty) = self.btf.ty(id) else { return Ok(()) };
        let (flag, kind) = (ty.info() & KIND_FLAG, u32::from(ty.kind.raw()) << 24);
        let name = self.name(ty.name_off);
        let head = |vlen: u32, third: u32| [name, flag | kind | vlen, third];
        match ty.kind {
            Kind::Unknown(_) => return Err(MinimalError::UnknownKind { id: id.0 }),
            Kind::Void => {}
            Kind::Int => self.out.words(&[name, ty.info(), ty.size(), ty.word(0)]),
            Kind::Float | Kind::Fwd => self.out.words(&[name, ty.info(), ty.size()]),
            Kind::Struct | Kind::Union => {
                let kept = (0..).zip(ty.members()).filter(|(index, _)| parts.has(*index));
                let kept: Vec<_> = kept.map(|(index, member)| (index as usize, member)).collect();
                self.out.words(&head(vlen(kept.len()), ty.size()));
                for (index, member) in kept {
                    // The offset as it is encoded is the third word of a member.
                    let (name, target) = (self.name(member.name_off), self.id(member.type_id));
                    self.out.words(&[name, target, ty.word(index * 3 + 2)]);
                }
            }
            Kind::Enum | Kind::Enum64 => {
                let words = if ty.kind == Kind::Enum { 2 } else { 3 };
                let kept = (0..).zip(ty.enumerators()).filter(|(index, _)| parts.has(*index));
                let kept: Vec<_> = kept.map(|(index, it)| (index as usize, it.name_off)).collect();
                self.out.words(&head(vlen(kept.len()), ty.size()));
                for (index, name_off) in kept {
                    let name = self.name(name_off);
                    self.out.words(&[name]);
                    (1..words).for_each(|word| self.out.words(&[ty.word(index * words + word)]));
                }
            }
            Kind::Array => {
                let array = ty.array();
                let elem = self.id(array.elem);
                self.out.words(&head(0, 0));
                // Nothing looks at what it is indexed by.
                self.out.words(&[elem, 0, array.nelems]);
            }
            Kind::FuncProto => {
                let target = self.id(ty.target());
                self.out.words(&head(ty.vlen(), target));
                for param in ty.params() {
                    let target = self.id(param.type_id);
                    self.out.words(&[0, target]);
                }
            }
            Kind::Var | Kind::DeclTag => {
                let target = self.id(ty.target());
                self.out.words(&[name, ty.info(), target, ty.word(0)]);
            }
            // Its variables are looked up by their own names.
            Kind::Datasec => self.out.words(&head(0, ty.size())),
            Kind::Ptr
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::Func
            | Kind::TypeTag => {
                let target = self.id(ty.target());
                self.out.words(&[name, ty.info(), target]);
            }
        }
        Ok(())
    }

    fn name(&mut self, off: u32) -> u32 {
        self.strings.offset(self.btf.name(off))
    }

    /// The new id of a type, or of what it leads to; void if neither is kept.
    fn id(&self, mut id: TypeId) -> u32 {
        // As many links as `Btf::skip_mods_and_typedefs` takes.
        for _ in 0..=1024 {
            if let Some(new) = self.ids.get(&id) {
                return new.0;
            }
            match self.btf.ty(id) {
                Some(ty) if ty.kind.is_mod_or_typedef() => id = ty.target(),
                Some(_) => break,
                // Only what a prototype returns can be a type that does not exist, and it goes on not to exist.
                None => return u32::MAX,
            }
        }
        0
    }
}

fn vlen(len: usize) -> u32 {
    // Not more than there were.
    u32::try_from(len).unwrap_or(u32::MAX)
}
