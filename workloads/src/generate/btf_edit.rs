//! BTF that can be changed: all types as words in the machine's byte order, and new strings.
//!
//! Ids stay what they were while types are changed and added. They move only when the BTF is written with
//! another order of types.

use std::collections::HashMap;

use btfleet_engine::btf::Btf;
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf::{HEADER_LEN_LAYOUT, Kind, TYPE_LEN};

/// Bytes of a pointer in every kernel and object that is read here.
const POINTER_SIZE: u32 = 8;
/// Links of a chain of modifiers and arrays after which it is given up.
const CHAIN_MAX: u32 = 64;

/// One type: the three words that every type has, and the words behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: u32,
    pub(super) info: u32,
    /// Size, or the type that it refers to.
    pub(super) word: u32,
    pub(super) tail: Vec<u32>,
}

/// A member as it stands in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: u32,
    pub(super) ty: u32,
    /// In bits.
    pub(super) offset: u32,
    /// In bits; 0 if it is no bitfield.
    pub(super) width: u32,
}

/// A BTF that is being changed.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) endian: Endian,
    /// Whether ids have the order anonymous types first, then by name, which loaders may rely on.
    pub(super) sorted: bool,
    /// Type 0 is void and stands for nothing in the file.
    types: Vec<Record>,
    layout: Vec<u8>,
    strings: Vec<u8>,
    added: HashMap<Vec<u8>, u32>,
}

impl Record {
    /// A record with as many elements as `tail` has, each `per_element` words long; none for 0.
    pub(super) fn new(name: u32, kind: u32, word: u32, tail: Vec<u32>, per_element: usize) -> Self {
        let count = tail.len().checked_div(per_element).unwrap_or(0);
        let count = u32::try_from(count).unwrap_or(u32::MAX) & 0x00ff_ffff;
        Self { name, info: kind << 24 | count, word, tail }
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::from_info(self.info)
    }

    fn kind_flag(&self) -> bool {
        self.info >> 31 != 0
    }

    /// Members of a struct or union.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let flag = self.kind_flag();
        let words = if self.kind().is_composite() { self.tail.as_slice() } else { &[] };
        words.as_chunks::<3>().0.iter().map(move |&[name, ty, offset]| {
            let (offset, width) = if flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            Member { name, ty, offset, width }
        })
    }

    /// Replaces the members; `false`, and nothing is changed, if they cannot be written.
    pub(super) fn set_members(&mut self, members: &[Member]) -> bool {
        let flag = self.kind_flag();
        let fits = |it: &Member| if flag { it.offset < 1 << 24 && it.width < 256 } else { it.width == 0 };
        let Some(count) = u32::try_from(members.len()).ok().filter(|&count| count < 1 << 16) else {
            return false;
        };
        if !members.iter().all(fits) {
            return false;
        }
        self.tail = members.iter().flat_map(|it| [it.name, it.ty, it.width << 24 | it.offset]).collect();
        self.info = self.info & 0xff00_0000 | count;
        true
    }

    /// Words of an element, for kinds whose elements have names in their first word.
    pub(super) fn element_words(&self) -> usize {
        match self.kind() {
            Kind::Struct | Kind::Union | Kind::Enum64 => 3,
            Kind::Enum | Kind::FuncProto => 2,
            _ => 0,
        }
    }

    /// Calls `f` on every type id that the record refers to.
    pub(super) fn each_ref(&mut self, mut f: impl FnMut(&mut u32)) {
        let (step, at) = match self.kind() {
            Kind::Struct | Kind::Union => (3, 1),
            Kind::Datasec => (3, 0),
            Kind::FuncProto => (2, 1),
            Kind::Array => (1, 0),
            _ => (0, 0),
        };
        if matches!(
            self.kind(),
            Kind::Ptr
                | Kind::Typedef
                | Kind::Volatile
                | Kind::Const
                | Kind::Restrict
                | Kind::Func
                | Kind::FuncProto
                | Kind::Var
                | Kind::DeclTag
                | Kind::TypeTag
        ) {
            f(&mut self.word);
        }
        if step == 1 {
            // Element type and index type; the third word is a count.
            self.tail.iter_mut().take(2).for_each(f);
        } else if step > 1 {
            self.tail.iter_mut().skip(at).step_by(step).for_each(f);
        }
    }

    fn each_name(&mut self, mut f: impl FnMut(&mut u32)) {
        f(&mut self.name);
        let step = self.element_words();
        if step > 0 {
            self.tail.iter_mut().step_by(step).for_each(f);
        }
    }
}

impl Model {
    /// Reads a BTF without a base. `None` if the engine refuses it, or if it has kinds of unknown length.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        Btf::parse(data).ok()?;
        let endian = if data.starts_with(&[0xeb, 0x9f]) { Endian::Big } else { Endian::Little };
        let field = |at: usize| Some(endian.u32_at(data, at)? as usize);
        let header_len = field(4)?;
        let section = |at: usize| -> Option<&[u8]> {
            let start = header_len.checked_add(field(at)?)?;
            data.get(start..start.checked_add(field(at + 4)?)?)
        };
        let (types, strings) = (section(8)?, section(16)?);
        let layout = if header_len >= HEADER_LEN_LAYOUT { section(24)?.to_vec() } else { Vec::new() };
        let void = Record { name: 0, info: 0, word: 0, tail: Vec::new() };
        let mut model = Self {
            endian,
            sorted: false,
            types: vec![void],
            layout,
            strings: strings.to_vec(),
            added: HashMap::new(),
        };
        let mut at = 0;
        while at < types.len() {
            let word = |index: usize| endian.u32_at(types, at + 4 * index);
            let (name, info, third) = (word(0)?, word(1)?, word(2)?);
            let (fixed, each) = Kind::from_info(info).tail_len()?;
            let len = fixed + each * (info & 0x00ff_ffff) as usize;
            // A FUNC keeps its linkage where others have the number of elements.
            let tail = (3..3 + len / 4).map(word).collect::<Option<_>>()?;
            model.types.push(Record { name, info, word: third, tail });
            at += TYPE_LEN + len;
        }
        model.sorted = model.is_sorted();
        Some(model)
    }

    fn is_sorted(&self) -> bool {
        let names = || self.types.iter().skip(1).map(|it| self.text(it.name));
        names().zip(names().skip(1)).all(|(one, next)| one <= next)
    }

    /// First id that no type has.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.types.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Record> {
        self.types.get(id as usize).filter(|_| id != 0)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Record> {
        self.types.get_mut(id as usize).filter(|_| id != 0)
    }

    /// All types with their ids, without void.
    pub(super) fn types(&self) -> impl Iterator<Item = (u32, &Record)> {
        (0..).zip(&self.types).skip(1)
    }

    /// Adds a type; its id.
    pub(super) fn push(&mut self, record: Record) -> u32 {
        let id = self.end();
        self.types.push(record);
        id
    }

    /// The string at `offset`, empty if there is none.
    pub(super) fn text(&self, offset: u32) -> &[u8] {
        let tail = self.strings.get(offset as usize..).unwrap_or_default();
        tail.get(..memchr::memchr(0, tail).unwrap_or(0)).unwrap_or_default()
    }

    /// Offset of a string, which is added unless it was added before.
    pub(super) fn string(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(&offset) = self.added.get(text) {
            return offset;
        }
        let offset = u32::try_from(self.strings.len()).unwrap_or(0);
        self.strings.extend_from_slice(text);
        self.strings.push(0);
        self.added.insert(text.to_vec(), offset);
        offset
    }

    /// Through modifiers and typedefs.
    pub(super) fn skip(&self, id: u32) -> u32 {
        let mut id = id;
        for _ in 0..CHAIN_MAX {
            match self.get(id) {
                Some(it) if it.kind().is_mod_or_typedef() => id = it.word,
                _ => break,
            }
        }
        id
    }

    /// Through modifiers, typedefs and arrays: the element, and how many of it there are.
    pub(super) fn element(&self, id: u32) -> (u32, u32) {
        let (mut id, mut count) = (self.skip(id), 1_u32);
        for _ in 0..CHAIN_MAX {
            match self.get(id) {
                Some(Record { info, tail, .. }) if Kind::from_info(*info) == Kind::Array => {
                    let &[elem, _, nelems] = tail.as_slice() else { break };
                    count = count.saturating_mul(nelems);
                    id = self.skip(elem);
                }
                _ => break,
            }
        }
        (id, count)
    }

    /// Size in bytes; 0 of what has none.
    pub(super) fn size(&self, id: u32) -> u32 {
        let (id, count) = self.element(id);
        let size = self.get(id).map_or(0, |it| match it.kind() {
            Kind::Ptr => POINTER_SIZE,
            Kind::Int
            | Kind::Struct
            | Kind::Union
            | Kind::Enum
            | Kind::Enum64
            | Kind::Float
            | Kind::Datasec => it.word,
            _ => 0,
        });
        count.saturating_mul(size)
    }

    /// Writes all types in the order of their ids, and all strings where they were: what refers to ids and
    /// string offsets from outside stays right.
    pub(super) fn write(&self) -> Vec<u8> {
        self.assemble(self.types.iter().skip(1), &self.strings)
    }

    /// Writes the types `order` names, with the ids that follow from it, and the strings that they use.
    ///
    /// Every type that one of them refers to has to be among them; what is not becomes void.
    pub(super) fn write_ordered(&self, order: &[u32]) -> Vec<u8> {
        let mut ids = vec![0_u32; self.types.len()];
        for (new, &old) in (1_u32..).zip(order) {
            if let Some(id) = ids.get_mut(old as usize) {
                *id = new;
            }
        }
        let mut offsets = vec![0_u32; self.strings.len()];
        let mut strings = vec![0];
        let mut types = Vec::with_capacity(order.len());
        for &old in order {
            let Some(mut record) = self.get(old).cloned() else { continue };
            record.each_ref(|id| *id = ids.get(*id as usize).copied().unwrap_or(0));
            record.each_name(|name| {
                let Some(offset) = offsets.get_mut(*name as usize).filter(|_| *name != 0) else { return };
                if *offset == 0 && !self.text(*name).is_empty() {
                    *offset = u32::try_from(strings.len()).unwrap_or(0);
                    strings.extend_from_slice(self.text(*name));
                    strings.push(0);
                }
                *name = *offset;
            });
            types.push(record);
        }
        self.assemble(types.iter(), &strings)
    }

    fn assemble<'a>(&self, types: impl Iterator<Item = &'a Record>, strings: &[u8]) -> Vec<u8> {
        let endian = self.endian;
        let mut body = Vec::new();
        for record in types {
            let words =
                [record.name, record.info, record.word].into_iter().chain(record.tail.iter().copied());
            body.extend(words.flat_map(|word| endian.u32_bytes(word)));
        }
        let type_len = body.len();
        body.extend_from_slice(&self.layout);
        let string_off = body.len();
        let mut words = vec![0, type_len, string_off, strings.len()];
        if !self.layout.is_empty() {
            words.extend([type_len, self.layout.len()]);
        }
        let header_len = 8 + 4 * words.len();
        let mut out = if endian == Endian::Big { vec![0xeb, 0x9f, 1, 0] } else { vec![0x9f, 0xeb, 1, 0] };
        out.reserve(header_len + body.len() + strings.len());
        let words = std::iter::once(header_len).chain(words);
        out.extend(words.flat_map(|word| endian.u32_bytes(u32::try_from(word).unwrap_or(u32::MAX))));
        out.append(&mut body);
        out.extend_from_slice(strings);
        out
    }
}
