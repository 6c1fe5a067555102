//! The BTF of one kernel of a pack, or of one of its modules, put together again: for whoever wants to read it.
//!
//! Types with a name have the ids that they have in the kernel. Of those without one a pack knows no ids: they come
//! behind all others, in the order in which they are met, each once. What the pack left out stays out (`super::intern`):
//! names of parameters, index types of arrays, variables of a DATASEC, and types without a name that no other type
//! refers to. Of several structs of one name, a pointer goes to the first.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::intern::{DANGLING, DEPTH_MAX, has_target, member_offset};
use super::{Pack, PackError};
use crate::btf::{Btf, Type, TypeId, assemble};
use crate::format::Endian;
use crate::format::btf::Kind;

/// Ids that no named type has, at most, for each one that has a name, and in any case. Bounds what a damaged pack asks for.
const GAPS: (usize, usize) = (16, 1 << 20);
/// **Bytes** of types at which a stop is made: many ids of a damaged pack may stand for one large struct.
const LEN_MAX: usize = 1 << 30;

/// A BTF that was put together, and which of its types are the unit's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Raw BTF. That of a module has the kernel's types too.
    pub bytes: Vec<u8>,
    /// The unit's own types: those with a name in the order of the kernel's ids, then those without.
    pub types: Vec<TypeId>,
}

/// Words of a type as they stand in the new BTF.
type Record = SmallVec<[u32; 8]>;

/// Kind and full name.
type Named<'data> = (Kind, &'data [u8]);

struct Writer<'p, 'data> {
    btf: &'p Btf<'data>,
    /// By type of the pack: the id of the type that it is by value.
    by_value: HashMap<TypeId, u32>,
    /// Types of a name, new id and type of the pack, in order.
    by_name: HashMap<Named<'data>, Vec<(u32, TypeId)>>,
    /// Of names that several types have: their ids by record.
    by_record: HashMap<Named<'data>, HashMap<Record, u32>>,
    /// By type of the pack: its id, if it is no type by value.
    known: HashMap<TypeId, u32>,
    strings: Vec<u8>,
    string_of: HashMap<&'data [u8], u32>,
    /// Types without a name, by record.
    unnamed: HashMap<Record, u32>,
    /// The same in the order of their ids.
    tail: Vec<Record>,
    /// The id of the first of them.
    first_unnamed: u32,
}

impl Pack<'_> {
    /// The types of a kernel's vmlinux, or of one of its modules, as BTF.
    ///
    /// # Errors
    /// [`PackError::NoSuch`], [`PackError::Damaged`].
    pub fn whole(&self, kernel: u32, module: Option<u32>) -> Result<Whole, PackError> {
        let abi = self.abi_of(kernel)?;
        let entry = self.kernel(kernel)?;
        let mut end = entry.type_count;
        if let Some(number) = module {
            let no_such = PackError::NoSuch { what: "module", number };
            end = entry.modules.get(number as usize).ok_or(no_such)?.type_count;
        }
        let mut writer = Writer {
            btf: self.btf_of(abi)?,
            by_value: HashMap::new(),
            by_name: HashMap::new(),
            by_record: HashMap::new(),
            known: HashMap::new(),
            strings: vec![0],
            string_of: HashMap::new(),
            unnamed: HashMap::new(),
            tail: Vec::new(),
            first_unnamed: end,
        };
        let mut named = writer.records(&self.roots_of(kernel, None)?)?;
        // How many of each sort are the kernel's.
        let (mut of_kernel, mut seen) = (0, 0);
        if module.is_some() {
            (of_kernel, seen) = (named.len(), writer.tail.len());
            named.extend(writer.records(&self.roots_of(kernel, module)?)?);
        }
        let types = named.get(of_kernel..).unwrap_or_default().iter().map(|it| it.0);
        let types = types.chain((end..).take(writer.tail.len()).skip(seen)).map(TypeId).collect();
        let bytes = writer.finish(abi.endian(), &named)?;
        Ok(Whole { bytes, types })
    }
}

impl<'data> Writer<'_, 'data> {
    /// The records of a unit's named types, with their ids. A module's own types count before the kernel's.
    fn records(&mut self, named: &[(TypeId, TypeId)]) -> Result<Vec<(u32, Record)>, PackError> {
        let of_unit = |ty: Option<Type<'data>>| ty.ok_or(PackError::damaged("a unit's type is not there"));
        self.known.clear();
        self.by_record.clear();
        let mut by_name: HashMap<Named<'data>, Vec<(u32, TypeId)>> = HashMap::new();
        let mut by_value = HashMap::new();
        for &(id, form) in named {
            let ty = of_unit(self.btf.ty(form))?;
            by_value.entry(form).or_insert(id.0);
            by_name.entry((ty.kind, self.btf.name(ty.name_off))).or_default().push((id.0, form));
        }
        self.by_value.extend(by_value);
        self.by_name.extend(by_name);
        let mut len = 0;
        let mut records = Vec::with_capacity(named.len());
        for &(id, form) in named {
            let ty = of_unit(self.btf.ty(form))?;
            // What follows the head of such a record is not in the pack.
            if matches!(ty.kind, Kind::Unknown(_)) {
                continue;
            }
            let record = self.record(ty, 0)?;
            len += record.len() * 4;
            if len > LEN_MAX {
                return Err(PackError::damaged("a kernel's types are larger than any kernel's"));
            }
            records.push((id.0, record));
        }
        Ok(records)
    }

    fn string(&mut self, name_off: u32) -> Result<u32, PackError> {
        let name = self.btf.name(name_off);
        if name.is_empty() {
            return Ok(0);
        }
        if let Some(known) = self.string_of.get(name) {
            return Ok(*known);
        }
        let off = u32::try_from(self.strings.len()).map_err(|_| PackError::Full { what: "strings" })?;
        self.strings.extend_from_slice(name);
        self.strings.push(0);
        self.string_of.insert(name, off);
        Ok(off)
    }

    fn record(&mut self, ty: Type<'data>, depth: u32) -> Result<Record, PackError> {
        let mut out = Record::new();
        let third = if has_target(ty.kind) { self.id_of(ty.target(), depth)? } else { ty.size() };
        out.extend([self.string(ty.name_off)?, ty.info(), third]);
        match ty.kind {
            Kind::Int | Kind::Var | Kind::DeclTag => out.push(ty.word(0)),
            Kind::Array => out.extend([self.id_of(ty.array().elem, depth)?, 0, ty.array().nelems]),
            Kind::Struct | Kind::Union => {
                for member in ty.members() {
                    let (name, part) = (self.string(member.name_off)?, self.id_of(member.type_id, depth)?);
                    out.extend([name, part, member_offset(ty, member)]);
                }
            }
            Kind::Enum | Kind::Enum64 => {
                for it in ty.enumerators() {
                    let half = |value: u64| (value & 0xffff_ffff) as u32;
                    out.extend([self.string(it.name_off)?, half(it.value)]);
                    if ty.kind == Kind::Enum64 {
                        out.push(half(it.value >> 32));
                    }
                }
            }
            Kind::FuncProto => {
                for param in ty.params() {
                    out.extend([0, self.id_of(param.type_id, depth)?]);
                }
            }
            // Nothing follows: a pack has no variables of sections, and nothing of kinds that it does not know.
            _ => {}
        }
        Ok(out)
    }

    /// The new id of a type of the pack.
    fn id_of(&mut self, form: TypeId, depth: u32) -> Result<u32, PackError> {
        if form == TypeId::VOID || form.0 == DANGLING {
            return Ok(form.0);
        }
        if let Some(known) = self.by_value.get(&form).or_else(|| self.known.get(&form)) {
            return Ok(*known);
        }
        let ty = self.btf.ty(form).ok_or(PackError::damaged("a type refers to one that is not there"))?;
        let depth = depth + 1;
        if depth > DEPTH_MAX {
            return Err(PackError::damaged("types are nested too deep"));
        }
        let id = if self.btf.is_anonymous(ty.name_off) {
            let record = self.record(ty, depth)?;
            self.unnamed_id(record)?
        } else {
            self.behind_pointer(ty, depth)?
        };
        self.known.insert(form, id);
        Ok(id)
    }

    fn unnamed_id(&mut self, record: Record) -> Result<u32, PackError> {
        if let Some(known) = self.unnamed.get(&record) {
            return Ok(*known);
        }
        let number = u32::try_from(self.tail.len()).ok();
        let id = number.and_then(|it| it.checked_add(self.first_unnamed));
        let id = id.ok_or(PackError::Full { what: "types" })?;
        self.tail.push(record.clone());
        self.unnamed.insert(record, id);
        Ok(id)
    }

    /// The named type that `ty` is seen as behind a pointer.
    fn behind_pointer(&mut self, ty: Type<'data>, depth: u32) -> Result<u32, PackError> {
        let named = (ty.kind, self.btf.name(ty.name_off));
        let all = self.by_name.get(&named).map_or(&[][..], Vec::as_slice);
        let Some(&(first, _)) = all.first() else {
            return Err(PackError::damaged("a pointer goes to a type that the kernel does not have"));
        };
        // A struct behind a pointer is but a name there.
        if all.len() == 1 || ty.kind.is_composite() {
            return Ok(first);
        }
        if !self.by_record.contains_key(&named) {
            let all = all.to_vec();
            // They may be met again on the way, in a damaged pack.
            self.by_record.insert(named, HashMap::new());
            let mut of_name = HashMap::with_capacity(all.len());
            for (id, form) in all {
                if let Some(ty) = self.btf.ty(form) {
                    of_name.entry(self.record(ty, depth)?).or_insert(id);
                }
            }
            self.by_record.insert(named, of_name);
        }
        let record = self.record(ty, depth)?;
        Ok(self.by_record.get(&named).and_then(|it| it.get(&record)).copied().unwrap_or(first))
    }

    fn finish(&self, endian: Endian, named: &[(u32, Record)]) -> Result<Vec<u8>, PackError> {
        let (factor, always) = GAPS;
        if self.first_unnamed as usize > named.len().saturating_mul(factor).saturating_add(always) {
            return Err(PackError::damaged("ids of types are larger than any kernel's"));
        }
        // A pointer to nothing stands at ids of types without a name.
        let gap = Record::from_slice(&[0, u32::from(Kind::Ptr.raw()) << 24, 0]);
        let (mut types, mut next) = (Vec::new(), 1_u32);
        let mut push = |record: &Record| -> Result<(), PackError> {
            types.extend(record.iter().flat_map(|word| endian.u32_bytes(*word)));
            if types.len() > LEN_MAX { Err(PackError::Full { what: "types" }) } else { Ok(()) }
        };
        for (id, record) in named {
            if *id < next || *id >= self.first_unnamed {
                return Err(PackError::damaged("a unit's ids are out of order"));
            }
            for _ in next..*id {
                push(&gap)?;
            }
            push(record)?;
            next = id + 1;
        }
        for _ in next..self.first_unnamed {
            push(&gap)?;
        }
        self.tail.iter().try_for_each(push)?;
        let bytes = assemble(endian, &types, &self.strings).ok_or(PackError::Full { what: "types" })?;
        // What is read next is checked like any other BTF, and here so that a damaged pack is told as one.
        Btf::parse(&bytes).map_err(|_| PackError::damaged("a kernel's types are no BTF"))?;
        Ok(bytes)
    }
}
