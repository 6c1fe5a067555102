//! A pack as it is read: opened in constant time, everything behind an offset checked where it is used.
//!
//! Checked when a pack is opened, in this order: magic, version, commit slots, then for each segment, the newest
//! first: bounds and hash of the directory, bounds of the sections, headers of the sections. Not checked: the
//! hashes of the sections, and any number within them; those are checked at use, and all at once by
//! [`super::verify`].

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use super::columns::{Columns, values_of};
use super::format::{
    Abi, ENTRY_LEN, HEADER_LEN, KERNEL_LEN, KernelRecord, LINK_LEN, Link, ListRef, MAGIC, MODULE_LEN,
    ModuleRecord, NAME_LEN, NO_UNIT, SLOT_LEN, SLOTS, SectionKind, Slot, VERSION, hash, root_key, u32_at,
    u64_at,
};
use super::ids::{Entries, IDS_CHAIN, Ids};
use super::index::Index;
use super::lists::Lists;
use super::roots::{Posting, Roots};
use super::{BtfOrigin, Facts, PackError};
use crate::btf::{Btf, TypeId, essential_len};
use crate::bytes::Bytes;
use crate::format::btf::Kind;
use crate::query::Root;

/// A pack's bytes. [`PackFile::view`] reads them.
#[derive(Debug)]
pub struct PackFile {
    bytes: Bytes,
}

impl PackFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`PackError::Io`]; what is in the file is looked at by [`PackFile::view`].
    pub fn open(path: &Path) -> Result<Self, PackError> {
        Self::of(&File::open(path)?)
    }

    pub(super) fn of(file: &File) -> Result<Self, PackError> {
        if !file.metadata()?.is_file() {
            return Err(PackError::NotAPack { what: "no regular file" });
        }
        Ok(Self { bytes: Bytes::map(file)? })
    }

    /// A pack in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes: Bytes::Owned(bytes) }
    }

    /// The pack, as it was last committed when the file was mapped.
    ///
    /// # Errors
    /// [`PackError::NotAPack`], [`PackError::LaterVersion`], [`PackError::Damaged`].
    pub fn view(&self) -> Result<Pack<'_>, PackError> {
        Pack::new(&self.bytes)
    }
}

/// A section as a directory has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'data> {
    pub(super) kind: u32,
    pub(super) abi: u32,
    pub(super) bytes: &'data [u8],
    pub(super) hash: u64,
}

/// What one `add` brought.
#[derive(Debug)]
pub(super) struct Segment<'data> {
    pub(super) sections: Vec<Section<'data>>,
    pub(super) abis: [Option<AbiPart<'data>>; Abi::COUNT],
    pub(super) roots: Roots<'data>,
    pub(super) lists: Lists<'data>,
    pub(super) ids: &'data [u8],
    pub(super) kernels: &'data [[u8; KERNEL_LEN]],
    pub(super) modules: &'data [[u8; MODULE_LEN]],
    pub(super) names: &'data [[u8; NAME_LEN]],
    pub(super) text: &'data [u8],
    pub(super) first_list: u32,
    pub(super) first_kernel: u32,
    pub(super) first_module: u32,
}

/// Types that a segment brought for one ABI.
#[derive(Debug)]
pub(super) struct AbiPart<'data> {
    /// Up to and including this segment.
    pub(super) btf: Arc<Btf<'data>>,
    pub(super) types: Index<'data>,
    pub(super) strings: Index<'data>,
    /// First id of the segment, and first string offset.
    pub(super) first: (u32, u32),
}

/// Many kernels as one, borrowed from a [`PackFile`].
#[derive(Debug)]
pub struct Pack<'data> {
    /// The slot that counts.
    pub(super) slot: Slot,
    /// End of what was committed.
    pub(super) end: usize,
    pub(super) segments: Vec<Segment<'data>>,
    btfs: [Option<Arc<Btf<'data>>>; Abi::COUNT],
    /// Base unit of each kernel's vmlinux.
    bases: Vec<u32>,
    abis: Vec<Abi>,
    module_count: u32,
    trees: OnceLock<Result<ModuleTrees, PackError>>,
}

/// Modules by what they inherit values from: a value can only spread within a tree.
#[derive(Debug)]
struct ModuleTrees {
    bases: Vec<u32>,
    kernels: Vec<u32>,
    tree_of: Vec<u32>,
    /// Modules of each tree, ascending.
    trees: Vec<Vec<u32>>,
}

/// Candidates for one root on all kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// What each kernel's vmlinux has.
    pub vmlinux: Vec<ListRef>,
    /// For kernels whose vmlinux has nothing, the modules that have something, in order.
    pub modules: Vec<ModuleList>,
}

/// One unit, by its number among all of the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitNumber {
    Vmlinux(u32),
    Module(u32),
}

/// What one module has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleList {
    /// Number of the kernel.
    pub kernel: u32,
    /// Number of the module in that kernel.
    pub module: u32,
    /// Its types.
    pub list: ListRef,
}

/// What a pack says of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEntry<'data> {
    /// Names that it was added under, the first first.
    pub names: Vec<&'data str>,
    /// XXH3-128 of vmlinux's BTF, and of names and BTF of the modules in order.
    pub content: [u8; 16],
    /// What is known of the kernel beside its BTF.
    pub facts: Facts,
    /// Byte order and pointer size.
    pub abi: Abi,
    /// Types of vmlinux, void included.
    pub type_count: u32,
    /// Bytes of BTF, vmlinux and modules.
    pub raw_len: u64,
    /// Modules, in order.
    pub modules: Vec<ModuleEntry<'data>>,
}

/// What a pack says of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleEntry<'data> {
    /// Its name.
    pub name: &'data str,
    /// Types, those of vmlinux included.
    pub type_count: u32,
    /// Bytes of BTF.
    pub raw_len: u64,
}

impl Expansion {
    /// What modules of a kernel have, in their order.
    pub fn of_modules(&self, kernel: u32) -> &[ModuleList] {
        let start = self.modules.partition_point(|it| it.kernel < kernel);
        let rest = self.modules.get(start..).unwrap_or_default();
        rest.get(..rest.partition_point(|it| it.kernel == kernel)).unwrap_or_default()
    }

    /// Whether a kernel has the root, in vmlinux or in a module.
    pub fn has(&self, kernel: u32) -> bool {
        self.vmlinux.get(kernel as usize).is_some_and(|it| !it.is_none())
            || !self.of_modules(kernel).is_empty()
    }
}

/// What is known of one root: its number, and what each segment says of it.
struct Found<'a, 'data> {
    root: u32,
    postings: SmallVec<[(&'a Segment<'data>, Posting<'data>); 2]>,
}

impl<'data> Segment<'data> {
    fn section(&self, kind: SectionKind, abi: u32) -> Result<&'data [u8], PackError> {
        let section = self.sections.iter().find(|it| it.kind == kind as u32 && it.abi == abi);
        section.map(|it| it.bytes).ok_or(PackError::damaged("a section is missing"))
    }
}

fn table<const LEN: usize>(bytes: &[u8]) -> Result<&[[u8; LEN]], PackError> {
    let (records, rest) = bytes.as_chunks();
    if rest.is_empty() { Ok(records) } else { Err(PackError::damaged("a table is broken")) }
}

/// Reads one directory and the bounds of what it lists. Returns the directory before it too.
fn sections<'data>(bytes: &'data [u8], link: Link) -> Result<(Vec<Section<'data>>, Link), PackError> {
    let damaged = || PackError::damaged("a directory is broken");
    let range = |off: u64, len: u64, end: u64| {
        if !off.is_multiple_of(8) || off < HEADER_LEN as u64 || off.checked_add(len)? > end {
            return None;
        }
        bytes.get(usize::try_from(off).ok()?..usize::try_from(off + len).ok()?)
    };
    let directory = range(link.off, link.len, bytes.len() as u64).ok_or_else(damaged)?;
    if hash(directory) != link.hash {
        return Err(PackError::damaged("a directory is not what was written"));
    }
    let previous = Link::read(directory, 0).ok_or_else(damaged)?;
    // Segments before this one end before it, so a chain of them ends.
    if previous.off >= link.off {
        return Err(damaged());
    }
    let entries = table::<ENTRY_LEN>(directory.get(LINK_LEN..).ok_or_else(damaged)?)?;
    let entries = entries.iter().map(|entry| {
        let (off, len) = (u64_at(entry, 8)?, u64_at(entry, 16)?);
        Some(Section {
            kind: u32_at(entry, 0)?,
            abi: u32_at(entry, 4)?,
            bytes: range(off, len, link.off)?,
            hash: u64_at(entry, 24)?,
        })
    });
    let entries: Option<Vec<Section<'_>>> = entries.collect();
    Ok((entries.ok_or(PackError::damaged("a section is out of bounds"))?, previous))
}

impl<'data> Pack<'data> {
    fn new(bytes: &'data [u8]) -> Result<Self, PackError> {
        let slot = newest_slot(bytes)?;
        let mut directories = Vec::new();
        let mut link = slot.link;
        while link != Link::default() {
            let (sections, previous) = sections(bytes, link)?;
            directories.push(sections);
            link = previous;
        }
        let end = usize::try_from(slot.link.off.saturating_add(slot.link.len)).unwrap_or(usize::MAX);
        let mut this = Self {
            slot,
            end,
            segments: Vec::with_capacity(directories.len()),
            btfs: [const { None }; Abi::COUNT],
            bases: Vec::new(),
            abis: Vec::new(),
            module_count: 0,
            trees: OnceLock::new(),
        };
        let mut first_list = 0;
        for sections in directories.into_iter().rev() {
            this.push_segment(sections, &mut first_list)?;
        }
        Ok(this)
    }

    fn push_segment(&mut self, sections: Vec<Section<'data>>, first_list: &mut u32) -> Result<(), PackError> {
        let full = |_| PackError::damaged("too many kernels, modules or lists");
        let first_of = |kind: SectionKind| {
            let section = sections.iter().find(|it| it.kind == kind as u32);
            section.map(|it| it.bytes).ok_or(PackError::damaged("a section is missing"))
        };
        let (first_kernel, first_module) = (self.kernel_count(), self.module_count);
        let mut segment = Segment {
            abis: [const { None }; Abi::COUNT],
            roots: Roots::new(first_of(SectionKind::Roots)?)?,
            lists: Lists::new(first_of(SectionKind::Lists)?)?,
            ids: first_of(SectionKind::Ids)?,
            kernels: table(first_of(SectionKind::Kernels)?)?,
            modules: table(first_of(SectionKind::Modules)?)?,
            names: table(first_of(SectionKind::Names)?)?,
            text: first_of(SectionKind::Text)?,
            first_list: *first_list,
            first_kernel,
            first_module,
            sections,
        };
        let lists = u32::try_from(segment.lists.count()).map_err(full)?;
        *first_list = first_list.checked_add(lists).ok_or(PackError::damaged("too many lists"))?;
        let modules = u32::try_from(segment.modules.len()).map_err(full)?;
        self.module_count =
            first_module.checked_add(modules).ok_or(PackError::damaged("too many modules"))?;
        for abi in Abi::all() {
            let Ok(blob) = segment.section(SectionKind::Btf, abi.number()) else { continue };
            let blocks = segment.section(SectionKind::Blocks, abi.number())?;
            let base = self.btfs.get(abi.slot()).cloned().flatten();
            let first = base.as_ref().map_or((1, 0), |base| (base.type_count(), base.str_end()));
            let btf = Btf::of_pack(blob, blocks, base, abi.endian(), abi.pointer_size())
                .map_err(|_| PackError::damaged("the types are broken"))?;
            let part = AbiPart {
                btf: Arc::new(btf),
                types: Index::new(segment.section(SectionKind::TypeIndex, abi.number())?)?,
                strings: Index::new(segment.section(SectionKind::StringIndex, abi.number())?)?,
                first,
            };
            if let (Some(newest), Some(slot)) =
                (self.btfs.get_mut(abi.slot()), segment.abis.get_mut(abi.slot()))
            {
                *newest = Some(Arc::clone(&part.btf));
                *slot = Some(part);
            }
        }
        for (unit, record) in (first_kernel..).zip(segment.kernels) {
            let (base, abi) = (u32_at(record, 16).unwrap_or(NO_UNIT), u32_at(record, 20).unwrap_or(u32::MAX));
            let abi = Abi::from_number(abi).ok_or(PackError::damaged("a kernel's ABI is unknown"))?;
            if base != NO_UNIT && base >= unit {
                return Err(PackError::damaged("a kernel inherits from one that is not before it"));
            }
            self.bases.push(base);
            self.abis.push(abi);
        }
        self.segments.push(segment);
        Ok(())
    }

    /// Number of kernels. Several names may stand for one.
    pub fn kernel_count(&self) -> u32 {
        u32::try_from(self.bases.len()).unwrap_or(u32::MAX)
    }

    /// Number of modules of all kernels.
    pub fn module_count(&self) -> u32 {
        self.module_count
    }

    /// Number of segments, one for each `add` since the last compaction.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of the file that are in use.
    pub fn len(&self) -> u64 {
        self.end as u64
    }

    /// Whether there is no kernel.
    pub fn is_empty(&self) -> bool {
        self.bases.is_empty()
    }

    /// The types of all kernels of an ABI; `None` if there are none.
    pub fn btf(&self, abi: Abi) -> Option<&Arc<Btf<'data>>> {
        self.btfs.get(abi.slot())?.as_ref()
    }

    /// The ABI of a kernel.
    ///
    /// # Errors
    /// [`PackError::NoSuch`].
    pub fn abi_of(&self, kernel: u32) -> Result<Abi, PackError> {
        self.abis.get(kernel as usize).copied().ok_or(PackError::NoSuch { what: "kernel", number: kernel })
    }

    /// The types that a kernel's lists refer to.
    pub(super) fn btf_of(&self, abi: Abi) -> Result<&Arc<Btf<'data>>, PackError> {
        self.btf(abi).ok_or(PackError::damaged("a kernel has no types"))
    }

    /// All names with the numbers of their kernels, in the order in which they were added.
    ///
    /// # Errors
    /// [`PackError::Damaged`].
    pub fn names(&self) -> Result<Vec<(&'data str, u32)>, PackError> {
        let mut names = Vec::new();
        for segment in &self.segments {
            for record in segment.names {
                let word = |at| u32_at(record, at).unwrap_or(u32::MAX);
                let kernel = word(8);
                if kernel >= self.kernel_count() {
                    return Err(PackError::damaged("a name stands for no kernel"));
                }
                names.push((text(segment, (word(0), word(4)))?, kernel));
            }
        }
        Ok(names)
    }

    /// The segment that brought a kernel, and its record.
    pub(super) fn kernel_record(&self, kernel: u32) -> Result<(&Segment<'data>, KernelRecord), PackError> {
        let number = self.segments.partition_point(|it| it.first_kernel <= kernel);
        let found = self.segments.get(number.wrapping_sub(1)).and_then(|segment| {
            let record = segment.kernels.get((kernel - segment.first_kernel) as usize)?;
            Some((segment, KernelRecord::read(record)?))
        });
        found.ok_or(PackError::NoSuch { what: "kernel", number: kernel })
    }

    /// The segment that brought a module, and its record. `unit`: among all modules of the pack.
    pub(super) fn module_record(&self, unit: u32) -> Result<(&Segment<'data>, ModuleRecord), PackError> {
        let number = self.segments.partition_point(|it| it.first_module <= unit);
        let found = self.segments.get(number.wrapping_sub(1)).and_then(|segment| {
            let record = segment.modules.get((unit - segment.first_module) as usize)?;
            Some((segment, ModuleRecord::read(record)?))
        });
        found.ok_or(PackError::NoSuch { what: "module", number: unit })
    }

    /// Number of a kernel's module among all modules of the pack.
    pub(super) fn module_unit(&self, kernel: u32, module: u32) -> Result<u32, PackError> {
        let (_, record) = self.kernel_record(kernel)?;
        if module >= record.module_count {
            return Err(PackError::NoSuch { what: "module", number: module });
        }
        record.first_module.checked_add(module).ok_or(PackError::damaged("module number too large"))
    }

    /// What is known of kernel number `kernel`.
    ///
    /// # Errors
    /// [`PackError::NoSuch`], [`PackError::Damaged`].
    pub fn kernel(&self, kernel: u32) -> Result<KernelEntry<'data>, PackError> {
        let names = self.names()?.into_iter().filter(|it| it.1 == kernel).map(|it| it.0).collect();
        self.kernel_named(kernel, names)
    }

    /// [`Pack::kernel`] for all of them, in order.
    ///
    /// # Errors
    /// [`PackError::Damaged`].
    pub fn kernels(&self) -> Result<Vec<KernelEntry<'data>>, PackError> {
        let mut names = vec![Vec::new(); self.bases.len()];
        for (name, kernel) in self.names()? {
            if let Some(names) = names.get_mut(kernel as usize) {
                names.push(name);
            }
        }
        (0..).zip(names).map(|(kernel, names)| self.kernel_named(kernel, names)).collect()
    }

    fn kernel_named(&self, kernel: u32, names: Vec<&'data str>) -> Result<KernelEntry<'data>, PackError> {
        let (segment, record) = self.kernel_record(kernel)?;
        let [source, release, distribution, architecture, flavour] = record.texts;
        let owned = |at| text(segment, at).map(str::to_owned);
        let facts = Facts {
            source: owned(source)?,
            release: owned(release)?,
            distribution: owned(distribution)?,
            architecture: owned(architecture)?,
            flavour: owned(flavour)?,
            origin: BtfOrigin::from_flags(record.flags),
        };
        let end = record.first_module.checked_add(record.module_count);
        let end = end.filter(|&end| end <= self.module_count);
        let end = end.ok_or(PackError::damaged("a kernel has modules that are not there"))?;
        let modules = (record.first_module..end).map(|unit| {
            let (segment, record) = self.module_record(unit)?;
            let name = text(segment, record.name)?;
            Ok(ModuleEntry { name, type_count: record.type_count, raw_len: record.raw_len })
        });
        Ok(KernelEntry {
            names,
            content: record.content,
            facts,
            abi: self.abi_of(kernel)?,
            type_count: record.type_count,
            raw_len: record.raw_len,
            modules: modules.collect::<Result<_, PackError>>()?,
        })
    }

    /// Types of a list, in order.
    ///
    /// # Errors
    /// [`PackError::Damaged`].
    #[inline]
    pub fn list(
        &self,
        list: ListRef,
    ) -> Result<impl ExactSizeIterator<Item = TypeId> + use<'data>, PackError> {
        let (one, many): (Option<u32>, &'data [[u8; 4]]) = match list.split() {
            Err(0) => (None, &[]),
            Err(id) => (Some(id), &[]),
            Ok(number) => (None, self.long_list(number)?),
        };
        Ok(ListTypes { one, many: many.iter() })
    }

    fn long_list(&self, number: u32) -> Result<&'data [[u8; 4]], PackError> {
        let segment = self.segments.partition_point(|it| it.first_list <= number);
        let found = self
            .segments
            .get(segment.wrapping_sub(1))
            .and_then(|segment| segment.lists.get((number - segment.first_list) as usize));
        found.ok_or(PackError::damaged("there is no such list"))
    }

    /// First type of a list.
    pub(super) fn first_of(&self, list: ListRef) -> Result<TypeId, PackError> {
        self.list(list)?.next().ok_or(PackError::damaged("a list is empty"))
    }

    /// First type that a posting names, with the ABI that it is of.
    pub(super) fn witness(
        &self,
        segment: &Segment<'data>,
        posting: &Posting<'data>,
    ) -> Result<(Abi, TypeId), PackError> {
        let too_large = || PackError::damaged("unit number too large");
        let mut changes = posting.vmlinux();
        while let Some((unit, list)) = changes.next()? {
            if list != 0 {
                let unit = segment.first_kernel.checked_add(unit).ok_or_else(too_large)?;
                return Ok((self.abi_of(unit)?, self.first_of(ListRef(list))?));
            }
        }
        let mut changes = posting.modules()?;
        while let Some((unit, list)) = changes.next()? {
            if list != 0 {
                let unit = segment.first_module.checked_add(unit).ok_or_else(too_large)?;
                let (_, record) = self.module_record(unit)?;
                return Ok((self.abi_of(record.kernel)?, self.first_of(ListRef(list))?));
            }
        }
        Err(PackError::damaged("a root has no type"))
    }

    /// Whether a posting of the segment that brought its root is of this name and kind: hashes may collide.
    fn is_of(
        &self,
        segment: &Segment<'data>,
        posting: &Posting<'data>,
        essential: &[u8],
        kind: Kind,
    ) -> Result<bool, PackError> {
        let (abi, id) = self.witness(segment, posting)?;
        let btf = self.btf_of(abi)?;
        let ty = btf.ty(id).ok_or(PackError::damaged("a root's type is not there"))?;
        let name = btf.name(ty.name_off);
        Ok(ty.kind.core_compat(kind) && name.starts_with(essential) && essential_len(name) == essential.len())
    }

    #[inline]
    fn find(&self, root: &Root<'_>) -> Result<Option<Found<'_, 'data>>, PackError> {
        let key = root_key(root.hash, root.kind);
        let mut found: Option<Found<'_, 'data>> = None;
        for segment in &self.segments {
            let number = found.as_ref().map(|it| it.root);
            let posting = segment.roots.find(key, |posting| match number {
                Some(number) => Ok(posting.root == number),
                None if posting.root < segment.roots.first_root => Ok(false),
                None => self.is_of(segment, &posting, root.essential, root.kind),
            })?;
            if let Some(posting) = posting {
                let found =
                    found.get_or_insert_with(|| Found { root: posting.root, postings: SmallVec::new() });
                found.postings.push((segment, posting));
            }
        }
        Ok(found)
    }

    /// Number of a root, if any unit has it.
    pub(super) fn root_number(&self, root: &Root<'_>) -> Result<Option<u32>, PackError> {
        Ok(self.find(root)?.map(|it| it.root))
    }

    /// What every kernel has for a root, at once.
    ///
    /// # Errors
    /// [`PackError::Damaged`].
    pub fn expand(&self, root: &Root<'_>) -> Result<Expansion, PackError> {
        let mut vmlinux = vec![ListRef::NONE; self.bases.len()];
        let Some(found) = self.find(root)? else { return Ok(Expansion { vmlinux, modules: Vec::new() }) };
        let mut at = 0;
        for (segment, posting) in &found.postings {
            let mut changes = posting.vmlinux();
            while let Some((unit, list)) = changes.next()? {
                let unit = (segment.first_kernel as usize).saturating_add(unit as usize);
                if unit < at || unit >= vmlinux.len() {
                    return Err(PackError::damaged("changes of a root are out of order"));
                }
                inherit(&mut vmlinux, &self.bases, at..unit);
                if let Some(value) = vmlinux.get_mut(unit) {
                    *value = ListRef(list);
                }
                at = unit + 1;
            }
        }
        let end = vmlinux.len();
        inherit(&mut vmlinux, &self.bases, at..end);
        let modules =
            if self.module_count == 0 { Vec::new() } else { self.expand_modules(&found, &vmlinux)? };
        Ok(Expansion { vmlinux, modules })
    }

    fn expand_modules(
        &self,
        found: &Found<'_, 'data>,
        vmlinux: &[ListRef],
    ) -> Result<Vec<ModuleList>, PackError> {
        let changes = self.module_changes(found)?;
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let trees = self.trees.get_or_init(|| self.module_trees()).as_ref().map_err(Clone::clone)?;
        let mut touched: Vec<u32> =
            changes.iter().filter_map(|it| trees.tree_of.get(it.0 as usize).copied()).collect();
        touched.sort_unstable();
        touched.dedup();
        let mut having = Vec::new();
        let mut values: Vec<(u32, u32)> = Vec::new();
        for tree in touched {
            values.clear();
            for &unit in trees.trees.get(tree as usize).into_iter().flatten() {
                let value = match changes.binary_search_by_key(&unit, |it| it.0) {
                    Ok(at) => changes.get(at).map_or(0, |it| it.1),
                    Err(_) => {
                        let base = trees.bases.get(unit as usize).copied().unwrap_or(NO_UNIT);
                        let at = values.binary_search_by_key(&base, |it| it.0).ok();
                        at.and_then(|at| values.get(at)).map_or(0, |it| it.1)
                    }
                };
                if value == 0 {
                    continue;
                }
                values.push((unit, value));
                let kernel = trees.kernels.get(unit as usize).copied().unwrap_or(NO_UNIT);
                if vmlinux.get(kernel as usize).is_some_and(|it| it.is_none()) {
                    having.push((unit, kernel, ListRef(value)));
                }
            }
        }
        having.sort_unstable_by_key(|it| it.0);
        let having = having.into_iter().map(|(unit, kernel, list)| {
            let (_, record) = self.kernel_record(kernel)?;
            let module = unit.checked_sub(record.first_module).filter(|&it| it < record.module_count);
            let module = module.ok_or(PackError::damaged("a module is not of its kernel"))?;
            Ok(ModuleList { kernel, module, list })
        });
        having.collect()
    }

    /// Changes of modules, (unit, list), ascending.
    fn module_changes(&self, found: &Found<'_, 'data>) -> Result<SmallVec<[(u32, u32); 8]>, PackError> {
        let mut all = SmallVec::new();
        for (segment, posting) in &found.postings {
            push_changes(&mut all, posting.modules()?, segment.first_module)?;
        }
        Ok(all)
    }

    fn module_trees(&self) -> Result<ModuleTrees, PackError> {
        let mut this =
            ModuleTrees { bases: Vec::new(), kernels: Vec::new(), tree_of: Vec::new(), trees: Vec::new() };
        for unit in 0..self.module_count {
            let (_, record) = self.module_record(unit)?;
            let tree = match record.base {
                NO_UNIT => {
                    this.trees.push(Vec::new());
                    this.trees.len() - 1
                }
                base => {
                    let tree = this.tree_of.get(base as usize);
                    *tree.ok_or(PackError::damaged("a module inherits from one that is not before it"))?
                        as usize
                }
            };
            this.bases.push(record.base);
            this.kernels.push(record.kernel);
            this.tree_of.push(u32::try_from(tree).unwrap_or(u32::MAX));
            this.trees.get_mut(tree).into_iter().for_each(|tree| tree.push(unit));
        }
        Ok(this)
    }

    /// What vmlinux of a kernel has for a root, or one of its modules.
    ///
    /// # Errors
    /// [`PackError::NoSuch`], [`PackError::Damaged`].
    pub fn list_of(&self, kernel: u32, module: Option<u32>, root: &Root<'_>) -> Result<ListRef, PackError> {
        let unit = self.unit_number(kernel, module)?;
        match self.find(root)? {
            Some(found) => self.value_of(unit, &found),
            None => Ok(ListRef::NONE),
        }
    }

    fn value_of(&self, unit: UnitNumber, found: &Found<'_, 'data>) -> Result<ListRef, PackError> {
        let (changes, mut at) = match unit {
            UnitNumber::Module(unit) => (self.module_changes(found)?, unit),
            UnitNumber::Vmlinux(kernel) => {
                let mut all = SmallVec::new();
                for (segment, posting) in &found.postings {
                    push_changes(&mut all, posting.vmlinux(), segment.first_kernel)?;
                }
                (all, kernel)
            }
        };
        loop {
            if let Ok(at) = changes.binary_search_by_key(&at, |it| it.0) {
                return Ok(changes.get(at).map_or(ListRef::NONE, |it| ListRef(it.1)));
            }
            let base = match unit {
                UnitNumber::Module(_) => self.module_base(at)?,
                UnitNumber::Vmlinux(_) => self.kernel_base(at)?,
            };
            match base {
                Some(base) => at = base,
                None => return Ok(ListRef::NONE),
            }
        }
    }

    pub(super) fn kernel_base(&self, unit: u32) -> Result<Option<u32>, PackError> {
        // Checked at opening: a base is before its unit.
        let base = self.bases.get(unit as usize).copied();
        let base = base.ok_or(PackError::NoSuch { what: "kernel", number: unit })?;
        Ok((base != NO_UNIT).then_some(base))
    }

    pub(super) fn module_base(&self, unit: u32) -> Result<Option<u32>, PackError> {
        let (_, record) = self.module_record(unit)?;
        if record.base == NO_UNIT {
            return Ok(None);
        }
        if record.base >= unit {
            return Err(PackError::damaged("a module inherits from one that is not before it"));
        }
        Ok(Some(record.base))
    }

    /// Ids of a root's types in the BTF of a kernel or one of its modules, in the order of the list.
    ///
    /// # Errors
    /// [`PackError::NoSuch`], [`PackError::Damaged`].
    pub fn ids(
        &self,
        kernel: u32,
        module: Option<u32>,
        root: &Root<'_>,
    ) -> Result<SmallVec<[TypeId; 2]>, PackError> {
        let unit = self.unit_number(kernel, module)?;
        let Some(found) = self.find(root)? else { return Ok(SmallVec::new()) };
        let count = self.list(self.value_of(unit, &found)?)?.len();
        if count == 0 {
            return Ok(SmallVec::new());
        }
        let mut shifts: SmallVec<[Ids<'data>; 8]> = SmallVec::new();
        let mut unit = unit;
        loop {
            let (ids, base) = self.unit_ids(unit)?;
            let mut own = ids.own_of(found.root).peekable();
            if own.peek().is_some() {
                let shift = |id| shifts.iter().rev().try_fold(id, |id, ids| ids.shift(id)).map(TypeId);
                // One more is enough to see that there are too many.
                let ids = own.take(count + 1).map(|id| id.and_then(shift));
                let ids: SmallVec<[TypeId; 2]> = ids.collect::<Result<_, PackError>>()?;
                let mismatch = PackError::damaged("a unit's ids are not those of its roots");
                return if ids.len() == count { Ok(ids) } else { Err(mismatch) };
            }
            let Some(base) = base.filter(|_| shifts.len() < IDS_CHAIN as usize) else {
                return Err(PackError::damaged("a unit's ids are not those of its roots"));
            };
            shifts.push(ids);
            unit = base;
        }
    }

    /// Ids of a unit, and its ids base.
    pub(super) fn unit_ids(&self, unit: UnitNumber) -> Result<(Ids<'data>, Option<UnitNumber>), PackError> {
        let (segment, off, base) = match unit {
            UnitNumber::Vmlinux(kernel) => {
                let (segment, record) = self.kernel_record(kernel)?;
                (segment, record.ids_off, record.ids_base)
            }
            UnitNumber::Module(module) => {
                let (segment, record) = self.module_record(module)?;
                (segment, record.ids_off, record.ids_base)
            }
        };
        let bytes = usize::try_from(off).ok().and_then(|off| segment.ids.get(off..));
        let ids = Ids::new(bytes.ok_or(PackError::damaged("ids are out of bounds"))?)?;
        let base = (base != NO_UNIT).then_some(match unit {
            UnitNumber::Vmlinux(_) => UnitNumber::Vmlinux(base),
            UnitNumber::Module(_) => UnitNumber::Module(base),
        });
        Ok((ids, base))
    }

    /// How many units a unit's ids depend on, one after the other.
    pub(super) fn ids_depth(&self, unit: UnitNumber) -> Result<u32, PackError> {
        let (mut depth, mut unit) = (0, unit);
        while let (_, Some(base)) = self.unit_ids(unit)? {
            (depth, unit) = (depth + 1, base);
            if depth > IDS_CHAIN {
                return Err(PackError::damaged("a unit's ids depend on too many others"));
            }
        }
        Ok(depth)
    }

    /// Types that are roots, (root, id), ascending: those of a unit, and some of roots that it does not have.
    pub(super) fn entries(&self, unit: UnitNumber) -> Result<Entries, PackError> {
        let mut chain: SmallVec<[Ids<'data>; 8]> = SmallVec::new();
        let mut next = Some(unit);
        while let Some(unit) = next {
            if chain.len() > IDS_CHAIN as usize {
                return Err(PackError::damaged("a unit's ids depend on too many others"));
            }
            let (ids, base) = self.unit_ids(unit)?;
            chain.push(ids);
            next = base;
        }
        chain.iter().rev().try_fold(Entries::new(), |entries, ids| ids.apply(&entries))
    }

    /// Number of a kernel's vmlinux, or of one of its modules.
    pub(super) fn unit_number(&self, kernel: u32, module: Option<u32>) -> Result<UnitNumber, PackError> {
        self.abi_of(kernel)?;
        match module {
            None => Ok(UnitNumber::Vmlinux(kernel)),
            Some(module) => Ok(UnitNumber::Module(self.module_unit(kernel, module)?)),
        }
    }

    /// All types with a name of a kernel's vmlinux or of one of its modules: id in that BTF, and in the pack. In the
    /// order of the ids.
    ///
    /// Looks at all roots of the pack: for one kernel at a time, not for many.
    ///
    /// # Errors
    /// [`PackError::NoSuch`], [`PackError::Damaged`].
    pub fn roots_of(&self, kernel: u32, module: Option<u32>) -> Result<Vec<(TypeId, TypeId)>, PackError> {
        let unit = self.unit_number(kernel, module)?;
        let values = match unit {
            UnitNumber::Vmlinux(kernel) => values_of(self, kernel)?.0,
            UnitNumber::Module(module) => Columns::of(self, &[], &[module])?.modules.values(module)?,
        };
        let rows = super::columns::Rows::read(self, unit, &values)?;
        Ok(rows.in_order().map(|row| (TypeId(row.id), TypeId(row.shape))).collect())
    }
}

fn push_changes(
    all: &mut SmallVec<[(u32, u32); 8]>,
    mut changes: super::roots::Changes<'_>,
    first: u32,
) -> Result<(), PackError> {
    while let Some((unit, list)) = changes.next()? {
        let unit = first.checked_add(unit).ok_or(PackError::damaged("unit number too large"))?;
        all.push((unit, list));
    }
    Ok(())
}

/// Fills in what the units of `range` have from their bases.
#[inline]
fn inherit(values: &mut [ListRef], bases: &[u32], range: std::ops::Range<usize>) {
    for unit in range {
        let base = bases.get(unit).copied().unwrap_or(NO_UNIT) as usize;
        let value = values.get(base).copied().unwrap_or(ListRef::NONE);
        if let Some(slot) = values.get_mut(unit) {
            *slot = value;
        }
    }
}

pub(super) fn text<'data>(segment: &Segment<'data>, (off, len): (u32, u32)) -> Result<&'data str, PackError> {
    let bytes = segment.text.get(off as usize..).and_then(|rest| rest.get(..len as usize));
    let bytes = bytes.ok_or(PackError::damaged("a text is out of bounds"))?;
    std::str::from_utf8(bytes).map_err(|_| PackError::damaged("a text is not UTF-8"))
}

fn newest_slot(bytes: &[u8]) -> Result<Slot, PackError> {
    if bytes.is_empty() {
        return Err(PackError::NotAPack { what: "the file is empty" });
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(PackError::NotAPack { what: "it does not start with the magic of packs" });
    }
    let version = u32_at(bytes, MAGIC.len()).ok_or(PackError::damaged("the header breaks off"))?;
    if version > VERSION {
        return Err(PackError::LaterVersion { found: version, known: VERSION });
    }
    if version == 0 {
        return Err(PackError::damaged("its version is 0"));
    }
    let slots = SLOTS.iter().filter_map(|&at| Slot::read(bytes.get(at..at + SLOT_LEN)?));
    slots.max_by_key(|it| it.generation).ok_or(PackError::damaged("no state was ever committed"))
}

/// Whether a file that starts with `head` is a pack.
pub fn looks_like_pack(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

/// Types of a list.
#[derive(Clone, Debug)]
struct ListTypes<'data> {
    one: Option<u32>,
    many: std::slice::Iter<'data, [u8; 4]>,
}

impl Iterator for ListTypes<'_> {
    type Item = TypeId;

    #[inline]
    fn next(&mut self) -> Option<TypeId> {
        self.one.take().or_else(|| self.many.next().map(|id| u32::from_le_bytes(*id))).map(TypeId)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = usize::from(self.one.is_some()) + self.many.len();
        (len, Some(len))
    }
}

impl ExactSizeIterator for ListTypes<'_> {}
