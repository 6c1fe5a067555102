//! What a run of `add` brings: kernels taken apart into types, lists, changes and ids.
//!
//! The result depends on the kernels and their order alone, not on what was found by guessing: a type is stored when
//! the first of a unit's roots, in the order of their ids, needs it.

use hashbrown::{HashMap, HashTable};

use super::columns::{Columns, Row, Rows, Values, values_of};
use super::format::{
    Abi, KernelRecord, ListRef, ModuleRecord, NO_UNIT, SectionKind, root_key, to_u32, words,
};
use super::ids::IDS_CHAIN;
use super::intern::{FETCH_AHEAD, Mark, Memo, Store, form, is_form, spread};
use super::lists;
use super::roots::{self, Change};
use super::view::UnitNumber;
use super::{Facts, Pack, PackError, Refusal};
use crate::btf::{Btf, NameHash, TypeId, essential_name};
use crate::format::btf::Kind;
use crate::query::Root;

/// Earlier kernels that may be the base of one, counted back from it. Bounds what is kept in memory.
const WINDOW: u32 = 128;

/// Structs that kernels are compared by to find the base that a new one shares most with: they change often, with
/// releases, configurations and architectures.
const SAMPLE: [&[u8]; 64] = [
    b"address_space",
    b"backing_dev_info",
    b"bio",
    b"block_device",
    b"bpf_map",
    b"bpf_prog",
    b"bpf_prog_aux",
    b"bpf_verifier_env",
    b"bus_type",
    b"cfs_rq",
    b"cgroup",
    b"cgroup_subsys_state",
    b"clocksource",
    b"cpuinfo_x86",
    b"cred",
    b"css_set",
    b"dentry",
    b"device",
    b"device_driver",
    b"file",
    b"file_operations",
    b"fs_context",
    b"gendisk",
    b"hrtimer",
    b"inet_sock",
    b"inode",
    b"io_kiocb",
    b"irq_desc",
    b"kernfs_node",
    b"kmem_cache",
    b"kthread",
    b"kvm_vcpu",
    b"linux_binprm",
    b"mem_cgroup",
    b"mm_struct",
    b"module",
    b"mount",
    b"net",
    b"net_device",
    b"nsproxy",
    b"page",
    b"pci_dev",
    b"perf_event",
    b"pglist_data",
    b"pid",
    b"pt_regs",
    b"request_queue",
    b"rq",
    b"sched_entity",
    b"seq_file",
    b"signal_struct",
    b"sk_buff",
    b"sock",
    b"super_block",
    b"task_struct",
    b"tcp_sock",
    b"thread_info",
    b"thread_struct",
    b"trace_array",
    b"tty_struct",
    b"user_struct",
    b"vm_area_struct",
    b"workqueue_struct",
    b"zone",
];

/// A kernel that is to be added.
#[derive(Clone, Debug)]
pub struct NewKernel<'a, 'data> {
    /// The name that it is found by.
    pub name: &'a str,
    /// What is known of it beside its BTF.
    pub facts: &'a Facts,
    /// The BTF of vmlinux.
    pub vmlinux: &'a Btf<'data>,
    /// Its bytes.
    pub vmlinux_bytes: &'a [u8],
    /// Modules, in order.
    pub modules: Vec<NewModule<'a, 'data>>,
}

/// A module of a kernel that is to be added.
#[derive(Clone, Copy, Debug)]
pub struct NewModule<'a, 'data> {
    /// Its name.
    pub name: &'a str,
    /// Its BTF, split on that of vmlinux.
    pub btf: &'a Btf<'data>,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What became of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the pack now.
    New,
    /// The same bytes are in the pack, and have one name more now.
    AliasOf(String),
    /// It was there, under this name.
    Known,
    /// It is left out.
    Refused(Refusal),
}

/// Collects kernels.
pub struct Builder<'p> {
    pack: Option<&'p Pack<'p>>,
    stores: [Option<Store<'p>>; Abi::COUNT],
    first_root: u32,
    new_roots: Vec<NewRoot>,
    /// Numbers of new roots, counted from the first.
    by_root: HashTable<u32>,
    /// Keys of old roots that have changes.
    old_keys: HashMap<u32, u64>,
    /// Lower halves of the keys of all old roots; empty until a base is read.
    old_key_halves: Vec<u32>,
    changes: Vec<Change>,
    lists: Vec<Box<[u32]>>,
    by_list: HashMap<Box<[u32]>, u32>,
    first_list: u32,
    ids: Vec<u8>,
    first_kernel: u32,
    first_module: u32,
    kernels: Vec<u8>,
    kernel_count: u32,
    modules: Vec<u8>,
    module_count: u32,
    /// Names with the numbers of their kernels.
    names: Vec<(String, u32)>,
    text: Vec<u8>,
    texts: HashMap<String, (u32, u32)>,
    by_name: HashMap<String, u32>,
    by_content: HashMap<[u8; 16], (u32, String)>,
    recent: Recent,
}

/// A root that no earlier unit had: its key, and a type of it.
struct NewRoot {
    key: u64,
    abi: Abi,
    shape: u32,
}

/// Modules by ABI and name, (kernel, module), ascending.
type ModulesByName = HashMap<(Abi, String), Vec<(u32, u32)>>;

/// What is kept of the kernels within the window.
#[derive(Default)]
struct Recent {
    /// What each kernel has for the sample, by number. 0 for nothing.
    samples: HashMap<u32, (Abi, Box<[u32]>)>,
    kernels: HashMap<u32, Unit>,
    modules: HashMap<u32, Unit>,
    /// First and number of modules of each kernel.
    modules_of: HashMap<u32, (u32, u32)>,
    /// Filled when the first module comes.
    by_name: Option<ModulesByName>,
}

/// One unit as it stands in the pack.
#[derive(Default)]
struct Unit {
    /// Its types that are roots.
    rows: Rows,
    /// Its values, by root.
    values: Values,
    /// Ids bases that its ids depend on.
    ids_depth: u32,
}

impl Unit {
    /// Reads a unit of the pack.
    fn read(pack: &Pack<'_>, unit: UnitNumber, values: Values) -> Result<Self, PackError> {
        Ok(Self { rows: Rows::read(pack, unit, &values)?, values, ids_depth: pack.ids_depth(unit)? })
    }
}

/// Where a unit's ids are: offset of its part of IDS, and its ids base.
struct IdsPlace {
    off: u64,
    base: u32,
}

/// One unit that is to be added: its types that are roots, as (id in its BTF, id in the BTF that it is read from).
pub(super) struct Source<'a, 'data> {
    pub(super) btf: &'a Btf<'data>,
    pub(super) roots: Vec<(u32, TypeId)>,
}

/// All that a kernel's record says, and its units.
pub(super) struct KernelParts<'a> {
    pub(super) facts: &'a Facts,
    pub(super) content: [u8; 16],
    pub(super) abi: Abi,
    pub(super) type_count: u32,
    pub(super) raw_len: u64,
    pub(super) modules: Vec<ModuleParts<'a>>,
}

/// All that a module's record says.
pub(super) struct ModuleParts<'a> {
    pub(super) name: &'a str,
    pub(super) type_count: u32,
    pub(super) raw_len: u64,
}

/// Why a kernel was not added: it is refused, or the pack cannot be read.
enum Stop {
    Refused(Refusal),
    Failed(PackError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<PackError> for Stop {
    fn from(error: PackError) -> Self {
        Self::Failed(error)
    }
}

impl<'a, 'data> Source<'a, 'data> {
    /// All of a BTF's own types that have names.
    pub(super) fn of(btf: &'a Btf<'data>) -> Self {
        let named = btf.own_types().filter(|(_, ty)| !btf.is_anonymous(ty.name_off));
        Self { btf, roots: named.map(|(id, _)| (id.0, id)).collect() }
    }
}

/// XXH3-128 over vmlinux, and names and bytes of the modules in order, each behind its length.
fn content_hash(kernel: &NewKernel<'_, '_>) -> [u8; 16] {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(kernel.vmlinux_bytes);
    for module in &kernel.modules {
        part(module.name.as_bytes());
        part(module.bytes);
    }
    hasher.digest128().to_le_bytes()
}

impl<'p> Builder<'p> {
    /// `pack`: what is added to.
    pub(super) fn new(pack: Option<&'p Pack<'p>>) -> Result<Self, PackError> {
        let mut this = Self {
            pack,
            stores: [const { None }; Abi::COUNT],
            first_root: 0,
            new_roots: Vec::new(),
            by_root: HashTable::new(),
            old_keys: HashMap::new(),
            old_key_halves: Vec::new(),
            changes: Vec::new(),
            lists: Vec::new(),
            by_list: HashMap::new(),
            first_list: 0,
            ids: Vec::new(),
            first_kernel: 0,
            first_module: 0,
            kernels: Vec::new(),
            kernel_count: 0,
            modules: Vec::new(),
            module_count: 0,
            names: Vec::new(),
            text: Vec::new(),
            texts: HashMap::new(),
            by_name: HashMap::new(),
            by_content: HashMap::new(),
            recent: Recent::default(),
        };
        if let Some(pack) = pack {
            this.continue_pack(pack)?;
        }
        Ok(this)
    }

    fn continue_pack(&mut self, pack: &Pack<'p>) -> Result<(), PackError> {
        self.first_root = pack.segments.last().map_or(0, |it| it.roots.end_root);
        for segment in &pack.segments {
            for number in 0..segment.lists.count() {
                let ids = segment.lists.get(number).ok_or(PackError::damaged("a list is out of bounds"))?;
                let list: Box<[u32]> = ids.iter().map(|id| u32::from_le_bytes(*id)).collect();
                self.by_list.insert(list, self.first_list);
                self.first_list += 1;
            }
        }
        self.kernel_count = pack.kernel_count();
        self.first_kernel = self.kernel_count;
        self.module_count = pack.module_count();
        self.first_module = self.module_count;
        for (name, kernel) in pack.names()? {
            let (_, record) = pack.kernel_record(kernel)?;
            self.by_name.insert(name.to_owned(), kernel);
            self.by_content.entry(record.content).or_insert_with(|| (kernel, name.to_owned()));
        }
        let window = self.kernel_count.saturating_sub(WINDOW)..self.kernel_count;
        for kernel in window.clone() {
            let sample = vec![0; SAMPLE.len()].into();
            self.recent.samples.insert(kernel, (pack.abi_of(kernel)?, sample));
        }
        for (number, name) in SAMPLE.iter().enumerate() {
            let root = Root { hash: NameHash::of(name), essential: name, kind: Kind::Struct };
            let values = pack.expand(&root)?.vmlinux;
            for kernel in window.clone() {
                let value = values.get(kernel as usize).copied().unwrap_or(ListRef::NONE);
                let sample = self.recent.samples.get_mut(&kernel).and_then(|it| it.1.get_mut(number));
                if let Some(sample) = sample
                    && !value.is_none()
                {
                    *sample = pack.first_of(value)?.0;
                }
            }
        }
        Ok(())
    }

    /// Takes in a kernel.
    ///
    /// # Errors
    /// [`PackError`] if the pack that is added to cannot be read. A kernel that does not fit is [`Added::Refused`].
    pub fn add(&mut self, kernel: &NewKernel<'_, '_>) -> Result<Added, PackError> {
        let content = content_hash(kernel);
        let known = self.by_content.get(&content).cloned();
        if let Some(&number) = self.by_name.get(kernel.name) {
            let is_same = known.is_some_and(|it| it.0 == number);
            return Ok(if is_same { Added::Known } else { Added::Refused(Refusal::NameTaken) });
        }
        if let Some((number, first_name)) = known {
            self.push_name(kernel.name, number)?;
            return Ok(Added::AliasOf(first_name));
        }
        let abi = Abi::new(kernel.vmlinux.endian(), kernel.vmlinux.pointer_size());
        let of_abi = |btf: &Btf<'_>| Abi::new(btf.endian(), btf.pointer_size()) == abi;
        if let Some(foreign) = kernel.modules.iter().find(|it| !of_abi(it.btf)) {
            return Ok(Added::Refused(Refusal::ForeignModule { name: foreign.name.to_owned() }));
        }
        let modules = kernel.modules.iter().map(|it| ModuleParts {
            name: it.name,
            type_count: it.btf.type_count(),
            raw_len: it.bytes.len() as u64,
        });
        let parts = KernelParts {
            facts: kernel.facts,
            content,
            abi,
            type_count: kernel.vmlinux.type_count(),
            raw_len: kernel.modules.iter().map(|it| it.bytes.len() as u64).sum::<u64>()
                + kernel.vmlinux_bytes.len() as u64,
            modules: modules.collect(),
        };
        let mut memo = Memo::new(kernel.vmlinux);
        let source = |unit: Option<usize>| {
            Ok(match unit {
                None => Source::of(kernel.vmlinux),
                Some(unit) => Source::of(kernel.modules.get(unit).map_or(kernel.vmlinux, |it| it.btf)),
            })
        };
        match self.take(&parts, source, &mut memo)? {
            Ok(number) => {
                self.push_name(kernel.name, number)?;
                self.by_content.insert(content, (number, kernel.name.to_owned()));
                Ok(Added::New)
            }
            Err(refusal) => Ok(Added::Refused(refusal)),
        }
    }

    /// Gives a kernel a name more.
    pub(super) fn push_name(&mut self, name: &str, kernel: u32) -> Result<(), PackError> {
        to_u32(self.text.len() + name.len(), "names")?;
        self.names.push((name.to_owned(), kernel));
        self.by_name.insert(name.to_owned(), kernel);
        Ok(())
    }

    fn push_text(&mut self, text: &str) -> Result<(u32, u32), PackError> {
        if let Some(&at) = self.texts.get(text) {
            return Ok(at);
        }
        let at = (to_u32(self.text.len(), "names")?, to_u32(text.len(), "names")?);
        self.text.extend(text.as_bytes());
        self.texts.insert(text.to_owned(), at);
        Ok(at)
    }

    /// Takes in a kernel whose units `source` gives: vmlinux for `None`, then modules by number. Returns its number;
    /// of one that is refused nothing is left.
    pub(super) fn take<'s, 'data: 's>(
        &mut self,
        parts: &KernelParts<'_>,
        source: impl Fn(Option<usize>) -> Result<Source<'s, 'data>, PackError>,
        memo: &mut Memo,
    ) -> Result<Result<u32, Refusal>, PackError> {
        let pack = self.pack;
        let store = self
            .stores
            .get_mut(parts.abi.slot())
            .map(|it| it.get_or_insert_with(|| Store::new(pack, parts.abi)));
        let Some(mut store) = store.map(|it| std::mem::replace(it, Store::new(None, parts.abi))) else {
            return Err(PackError::damaged("an ABI is unknown"));
        };
        let marks = (store.mark(), self.new_roots.len());
        let taken = self.take_with(&mut store, parts, source, memo);
        if taken.is_err() {
            self.rewind(&mut store, marks);
        }
        if let Some(slot) = self.stores.get_mut(parts.abi.slot()) {
            *slot = Some(store);
        }
        match taken {
            Ok(number) => Ok(Ok(number)),
            Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn rewind(&mut self, store: &mut Store<'p>, (mark, new_roots): (Mark, usize)) {
        store.rewind(mark);
        self.new_roots.truncate(new_roots);
        self.by_root.retain(|&mut number| (number as usize) < new_roots);
    }

    fn take_with<'s, 'data: 's>(
        &mut self,
        store: &mut Store<'p>,
        parts: &KernelParts<'_>,
        source: impl Fn(Option<usize>) -> Result<Source<'s, 'data>, PackError>,
        memo: &mut Memo,
    ) -> Result<u32, Stop> {
        let abi = parts.abi;
        let number = self.kernel_count;
        if number >= NO_UNIT - 1 {
            return Err(Refusal::PackFull { what: "kernels" }.into());
        }
        let module_count = to_u32(parts.modules.len(), "modules")?;
        let modules_end = self.module_count.checked_add(module_count);
        modules_end.filter(|&it| it < NO_UNIT).ok_or(Refusal::PackFull { what: "modules" })?;

        let vmlinux = source(None)?;
        let (sample, base) = self.find_base(store, &vmlinux, memo, abi);
        let module_bases = self.module_bases(abi, base, parts)?;
        self.load(base, &module_bases)?;

        // Everything is stored before anything is written down, so that a refusal leaves nothing behind.
        let mut units = Vec::with_capacity(parts.modules.len() + 1);
        let nothing = Rows::default();
        let known = base.and_then(|base| self.recent.kernels.get(&base)).map_or(&nothing, |it| &it.rows);
        let mut interner = Interner {
            store,
            others: &self.stores,
            pack: self.pack,
            abi,
            first_root: self.first_root,
            old_key_halves: &self.old_key_halves,
        };
        let (new_roots, by_root) = (&mut self.new_roots, &mut self.by_root);
        units.push(interner.rows(&vmlinux, memo, known, new_roots, by_root)?);
        let sample = sample.iter().map(|id| match *id {
            Some(id) => form(interner.store, vmlinux.btf, memo, id, 0),
            None => Ok(0),
        });
        let sample: Box<[u32]> = sample.collect::<Result<_, Refusal>>()?;
        drop(vmlinux);
        for (module, base) in module_bases.iter().enumerate() {
            let source = source(Some(module))?;
            if source.btf.start_id().0 > 1 && source.btf.base().is_some() {
                memo.turn_to(source.btf);
            }
            let known = base.and_then(|base| self.recent.modules.get(&base)).map_or(&nothing, |it| &it.rows);
            units.push(interner.rows(&source, memo, known, new_roots, by_root)?);
        }
        let mut units = units.into_iter();
        let ids = self.finish_unit(store, false, number, base, units.next().unwrap_or_default())?;
        let first_module = self.module_count;
        for ((part, base), rows) in parts.modules.iter().zip(module_bases).zip(units) {
            let unit = self.module_count;
            let ids = self.finish_unit(store, true, unit, base, rows)?;
            let record = ModuleRecord {
                kernel: number,
                base: base.unwrap_or(NO_UNIT),
                type_count: part.type_count,
                ids_base: ids.base,
                ids_off: ids.off,
                raw_len: part.raw_len,
                name: self.push_text(part.name)?,
            };
            record.write(&mut self.modules);
            if let Some(by_name) = &mut self.recent.by_name {
                by_name.entry((abi, part.name.to_owned())).or_default().push((number, unit));
            }
            self.module_count += 1;
        }
        let facts = parts.facts;
        let mut texts = [(0, 0); 5];
        let all = [&facts.source, &facts.release, &facts.distribution, &facts.architecture, &facts.flavour];
        for (slot, text) in texts.iter_mut().zip(all) {
            *slot = self.push_text(text)?;
        }
        let record = KernelRecord {
            content: parts.content,
            base: base.unwrap_or(NO_UNIT),
            abi: abi.number(),
            type_count: parts.type_count,
            flags: facts.origin.flags(),
            raw_len: parts.raw_len,
            ids_off: ids.off,
            ids_base: ids.base,
            first_module,
            module_count,
            texts,
        };
        record.write(&mut self.kernels);
        self.kernel_count += 1;
        self.recent.samples.insert(number, (abi, sample));
        self.recent.modules_of.insert(number, (first_module, module_count));
        self.recent.forget(number);
        Ok(number)
    }

    /// The sample in this kernel, and the kernel that agrees best with it; of equals the latest.
    fn find_base(
        &self,
        store: &Store<'_>,
        vmlinux: &Source<'_, '_>,
        memo: &mut Memo,
        abi: Abi,
    ) -> (Vec<Option<TypeId>>, Option<u32>) {
        let btf = vmlinux.btf;
        let mut sample = vec![None; SAMPLE.len()];
        for &(_, id) in &vmlinux.roots {
            let Some(ty) = btf.ty(id).filter(|ty| ty.kind == Kind::Struct) else { continue };
            if let Ok(number) = SAMPLE.binary_search(&essential_name(btf.name(ty.name_off)))
                && let Some(slot @ None) = sample.get_mut(number)
            {
                *slot = Some(id);
            }
        }
        let window = self.kernel_count.saturating_sub(WINDOW)..self.kernel_count;
        let mut agreement = vec![0_u32; window.len()];
        for (number, id) in sample.iter().enumerate() {
            let Some(id) = *id else { continue };
            let mut tried: HashMap<u32, bool> = HashMap::new();
            for (kernel, agreement) in window.clone().zip(&mut agreement) {
                let Some((_, shapes)) = self.recent.samples.get(&kernel).filter(|it| it.0 == abi) else {
                    continue;
                };
                let shape = shapes.get(number).copied().unwrap_or(0);
                let is_equal =
                    shape != 0 && *tried.entry(shape).or_insert_with(|| is_form(store, btf, memo, id, shape));
                *agreement += u32::from(is_equal);
            }
        }
        let best = window
            .zip(agreement)
            .filter(|it| it.1 > 0)
            .max_by_key(|&(kernel, agreement)| (agreement, kernel));
        (sample, best.map(|it| it.0))
    }

    /// For each module the one of its name in the base kernel, else the latest of its name.
    fn module_bases(
        &mut self,
        abi: Abi,
        base: Option<u32>,
        parts: &KernelParts<'_>,
    ) -> Result<Vec<Option<u32>>, PackError> {
        if parts.modules.is_empty() {
            return Ok(Vec::new());
        }
        let oldest = self.kernel_count.saturating_sub(WINDOW);
        if self.recent.by_name.is_none() {
            self.recent.by_name = Some(self.old_modules(oldest)?);
        }
        let by_name = self.recent.by_name.as_ref();
        let bases = parts.modules.iter().map(|module| {
            let same = by_name?.get(&(abi, module.name.to_owned()))?;
            let in_base = same.iter().rev().find(|it| Some(it.0) == base);
            in_base.or(same.last()).filter(|it| it.0 >= oldest).map(|it| it.1)
        });
        Ok(bases.collect())
    }

    fn old_modules(&self, oldest: u32) -> Result<ModulesByName, PackError> {
        let mut by_name = ModulesByName::new();
        let Some(pack) = self.pack else { return Ok(by_name) };
        for kernel in oldest..self.first_kernel {
            let (_, record) = pack.kernel_record(kernel)?;
            for module in 0..record.module_count {
                let unit = pack.module_unit(kernel, module)?;
                let (segment, record) = pack.module_record(unit)?;
                let name = super::view::text(segment, record.name)?.to_owned();
                by_name.entry((pack.abi_of(kernel)?, name)).or_default().push((kernel, unit));
            }
        }
        Ok(by_name)
    }

    /// Reads units of the pack that are to be bases.
    fn load(&mut self, base: Option<u32>, module_bases: &[Option<u32>]) -> Result<(), PackError> {
        let Some(pack) = self.pack else { return Ok(()) };
        let base = base.filter(|it| *it < self.first_kernel && !self.recent.kernels.contains_key(it));
        let mut modules: Vec<u32> = module_bases.iter().flatten().copied().collect();
        modules.retain(|it| *it < self.first_module && !self.recent.modules.contains_key(it));
        if base.is_none() && modules.is_empty() {
            return Ok(());
        }
        if let Some(kernel) = base {
            let (values, keys) = values_of(pack, kernel)?;
            self.old_key_halves = keys;
            self.recent.kernels.insert(kernel, Unit::read(pack, UnitNumber::Vmlinux(kernel), values)?);
        }
        if modules.is_empty() {
            return Ok(());
        }
        let mut columns = Columns::of(pack, &[], &modules)?;
        for unit in modules {
            let values = columns.modules.values(unit)?;
            self.recent.modules.insert(unit, Unit::read(pack, UnitNumber::Module(unit), values)?);
        }
        Ok(())
    }

    /// Writes a unit down: lists, changes and ids. Returns where its ids are.
    fn finish_unit(
        &mut self,
        store: &Store<'_>,
        is_module: bool,
        unit: u32,
        base: Option<u32>,
        rows: Vec<Row>,
    ) -> Result<IdsPlace, PackError> {
        let rows = Rows::by_id(&rows);
        let mut values = Values::with_capacity(rows.roots().len());
        for group in rows.roots().chunk_by(|a, b| a.root == b.root) {
            match group {
                [row] => values.push((row.root, row.shape)),
                [row, ..] => values.push((row.root, self.list_of(group)?.0)),
                [] => {}
            }
        }
        let recent = if is_module { &self.recent.modules } else { &self.recent.kernels };
        let of_base = base.and_then(|base| recent.get(&base));
        let inherited = of_base.map_or(&[][..], |it| &it.values);
        let ids_base = of_base.filter(|it| it.ids_depth < IDS_CHAIN);
        let ids_depth = ids_base.map_or(0, |it| it.ids_depth + 1);
        let off = self.ids.len() as u64;
        super::ids::encode(ids_base.map(|it| &it.rows), &rows, &mut self.ids)?;
        let place = IdsPlace { off, base: base.filter(|_| ids_base.is_some()).unwrap_or(NO_UNIT) };
        let first_unit = if is_module { self.first_module } else { self.first_kernel };
        let mut vanished = Vec::new();
        differences(inherited, &values, |root, list, before| {
            self.changes.push(Change { root, is_module, unit: unit - first_unit, list });
            if root < self.first_root {
                vanished.push((root, if list == 0 { before } else { list }));
            }
        });
        for (root, list) in vanished {
            if !self.old_keys.contains_key(&root) {
                let shape = match ListRef(list).split() {
                    Err(id) => id,
                    Ok(number) => self.first_in_list(number)?,
                };
                let (name, kind) =
                    store.name_and_kind(shape).ok_or(PackError::damaged("a root's type is not there"))?;
                self.old_keys.insert(root, root_key(NameHash::of(essential_name(name)), kind));
            }
        }
        let unit_state = Unit { rows, values, ids_depth };
        let recent = if is_module { &mut self.recent.modules } else { &mut self.recent.kernels };
        recent.insert(unit, unit_state);
        Ok(place)
    }

    fn list_of(&mut self, group: &[Row]) -> Result<ListRef, PackError> {
        let list: Box<[u32]> = group.iter().map(|it| it.shape).collect();
        if let Some(&number) = self.by_list.get(&list) {
            return Ok(ListRef::of_list(number));
        }
        let number = u32::try_from(self.lists.len()).ok().and_then(|it| it.checked_add(self.first_list));
        let number = number.filter(|it| it >> 31 == 0).ok_or(PackError::Full { what: "lists" })?;
        self.by_list.insert(list.clone(), number);
        self.lists.push(list);
        Ok(ListRef::of_list(number))
    }

    fn first_in_list(&self, number: u32) -> Result<u32, PackError> {
        match (number.checked_sub(self.first_list), self.pack) {
            (None, Some(pack)) => Ok(pack.first_of(ListRef::of_list(number))?.0),
            (Some(number), _) => {
                let first = self.lists.get(number as usize).and_then(|it| it.first());
                first.copied().ok_or(PackError::damaged("there is no such list"))
            }
            (None, None) => Err(PackError::damaged("there is no such list")),
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The sections of the new segment.
    pub(super) fn finish(mut self) -> Result<Vec<(SectionKind, u32, Vec<u8>)>, PackError> {
        let mut sections = Vec::new();
        for (abi, store) in Abi::all().zip(&self.stores) {
            let parts = store.as_ref().map(Store::finish).transpose()?.flatten();
            let Some([btf, blocks, types, strings]) = parts else { continue };
            sections.extend([
                (SectionKind::Btf, abi.number(), btf),
                (SectionKind::Blocks, abi.number(), blocks),
                (SectionKind::TypeIndex, abi.number(), types),
                (SectionKind::StringIndex, abi.number(), strings),
            ]);
        }
        let key = |root: u32| match root.checked_sub(self.first_root) {
            Some(number) => self.new_roots.get(number as usize).map_or(0, |it| it.key),
            None => self.old_keys.get(&root).copied().unwrap_or(0),
        };
        let new_roots = to_u32(self.new_roots.len(), "roots")?;
        let end_root = self.first_root.checked_add(new_roots).ok_or(PackError::Full { what: "roots" })?;
        let roots = roots::write(self.changes, key, (self.first_root, end_root))?;
        // Names come last, so that the bytes do not depend on when a kernel got its second one.
        let mut names = Vec::new();
        for (name, kernel) in &self.names {
            let (off, len) = (to_u32(self.text.len(), "names")?, to_u32(name.len(), "names")?);
            self.text.extend(name.as_bytes());
            words(&mut names, &[off, len, *kernel, 0]);
        }
        sections.extend([
            (SectionKind::Roots, 0, roots),
            (SectionKind::Lists, 0, lists::write(&self.lists)?),
            (SectionKind::Ids, 0, self.ids),
            (SectionKind::Kernels, 0, self.kernels),
            (SectionKind::Modules, 0, self.modules),
            (SectionKind::Names, 0, names),
            (SectionKind::Text, 0, self.text),
        ]);
        Ok(sections)
    }
}

impl Recent {
    /// Drops what has left the window now that kernel `number` is in it.
    fn forget(&mut self, number: u32) {
        let Some(old) = number.checked_sub(WINDOW) else { return };
        self.samples.remove(&old);
        self.kernels.remove(&old);
        if let Some((first, count)) = self.modules_of.remove(&old) {
            for unit in first..first.saturating_add(count) {
                self.modules.remove(&unit);
            }
        }
    }
}

/// Calls `visit` with (root, list, inherited list) where two units' values differ, by root.
fn differences(inherited: &[(u32, u32)], values: &[(u32, u32)], mut visit: impl FnMut(u32, u32, u32)) {
    let mut inherited = inherited.iter().copied().peekable();
    for &(root, list) in values {
        while let Some((gone, before)) = inherited.next_if(|it| it.0 < root) {
            visit(gone, 0, before);
        }
        match inherited.next_if(|it| it.0 == root) {
            Some((_, before)) if before == list => {}
            before => visit(root, list, before.map_or(0, |it| it.1)),
        }
    }
    inherited.for_each(|(gone, before)| visit(gone, 0, before));
}

/// Whether a type is of this essential name and kind.
fn is_named(store: &Store<'_>, shape: u32, essential: &[u8], kind: Kind) -> bool {
    // Mostly it is not, which is seen without looking for the end of the name.
    let found = if store.name_starts_with(shape, essential) { store.name_and_kind(shape) } else { None };
    found.is_some_and(|(name, other)| other.core_compat(kind) && essential_name(name) == essential)
}

/// Where roots first stand in the order of ids, by the lower half of their keys.
struct Places {
    by_key: HashTable<(u32, u32)>,
}

impl Places {
    fn new(known: &Rows, key_half: impl Fn(u32) -> Option<u32>) -> Self {
        let mut by_key: HashTable<(u32, u32)> = HashTable::with_capacity(known.places().len());
        for (place, row) in (0..).zip(known.in_order()) {
            let Some(half) = key_half(row.root) else { continue };
            by_key.insert_unique(spread(half), (half, place), |it| spread(it.0));
        }
        Self { by_key }
    }

    fn find(&self, key: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let half = (key & 0xffff_ffff) as u32;
        let found = self.by_key.find(spread(half), |it| it.0 == half && is_it(it.1 as usize));
        found.map(|it| it.1 as usize)
    }
}

/// Stores the types of units.
struct Interner<'s, 'p> {
    store: &'s mut Store<'p>,
    /// Those of the other ABIs: all share the numbers of roots.
    others: &'s [Option<Store<'p>>; Abi::COUNT],
    pack: Option<&'p Pack<'p>>,
    abi: Abi,
    first_root: u32,
    old_key_halves: &'s [u32],
}

impl Interner<'_, '_> {
    /// The rows of a unit, in the order of ids. `known`: those of a unit that may be alike, as a guess.
    fn rows(
        &mut self,
        source: &Source<'_, '_>,
        memo: &mut Memo,
        known: &Rows,
        new_roots: &mut Vec<NewRoot>,
        by_root: &mut HashTable<u32>,
    ) -> Result<Vec<Row>, Stop> {
        let btf = source.btf;
        let mut rows = Vec::with_capacity(source.roots.len());
        // Where a root stands in `known`; made when the guess fails for the first time.
        let mut places: Option<Places> = None;
        let mut at = 0;
        for (number, &(own_id, id)) in source.roots.iter().enumerate() {
            if number.is_multiple_of(FETCH_AHEAD) {
                let types = (at..at + FETCH_AHEAD).map_while(|at| Some(known.get(at)?.shape));
                self.store.fetch(types);
            }
            if let Some(row) = known.get(at)
                && is_form(self.store, btf, memo, id, row.shape)
            {
                rows.push(Row { id: own_id, ..row });
                at += 1;
                continue;
            }
            let Some(ty) = btf.ty(id) else {
                return Err(PackError::damaged("a root's type is not there").into());
            };
            let name = essential_name(btf.name(ty.name_off));
            let is_it = |place: usize| {
                known.get(place).is_some_and(|it| is_named(self.store, it.shape, name, ty.kind))
            };
            let place = if is_it(at) {
                Some(at)
            } else {
                let places =
                    places.get_or_insert_with(|| Places::new(known, |root| self.key_half(root, new_roots)));
                places.find(root_key(NameHash::of(name), ty.kind), is_it)
            };
            let (root, shape) = match place.and_then(|place| Some((place, known.get(place)?))) {
                Some((place, Row { root, shape, .. })) => {
                    let is_equal = place != at && is_form(self.store, btf, memo, id, shape);
                    at = place + 1;
                    (root, if is_equal { shape } else { form(self.store, btf, memo, id, shape)? })
                }
                None => {
                    let root = self.find_root(name, ty.kind, new_roots, by_root)?;
                    let shape = form(self.store, btf, memo, id, 0)?;
                    match root {
                        Some(root) => (root, shape),
                        None => (self.push_root(name, ty.kind, shape, new_roots, by_root)?, shape),
                    }
                }
            };
            rows.push(Row { id: own_id, root, shape });
        }
        Ok(rows)
    }

    /// Lower half of a root's key, if it is known.
    fn key_half(&self, root: u32, new_roots: &[NewRoot]) -> Option<u32> {
        match root.checked_sub(self.first_root) {
            None => self.old_key_halves.get(root as usize).copied(),
            Some(number) => new_roots.get(number as usize).map(|it| (it.key & 0xffff_ffff) as u32),
        }
    }

    fn find_root(
        &self,
        essential: &[u8],
        kind: Kind,
        new_roots: &[NewRoot],
        by_root: &HashTable<u32>,
    ) -> Result<Option<u32>, PackError> {
        let hash = NameHash::of(essential);
        let key = root_key(hash, kind);
        let found = by_root.find(key, |&number| {
            let Some(root) = new_roots.get(number as usize).filter(|it| it.key == key) else { return false };
            let other = self.others.get(root.abi.slot()).and_then(Option::as_ref);
            let store = if root.abi == self.abi { Some(&*self.store) } else { other };
            store.is_some_and(|store| is_named(store, root.shape, essential, kind))
        });
        if let Some(number) = found {
            return Ok(Some(self.first_root + number));
        }
        match self.pack {
            Some(pack) => pack.root_number(&Root { hash, essential, kind }),
            None => Ok(None),
        }
    }

    fn push_root(
        &self,
        essential: &[u8],
        kind: Kind,
        shape: u32,
        new_roots: &mut Vec<NewRoot>,
        by_root: &mut HashTable<u32>,
    ) -> Result<u32, Refusal> {
        let key = root_key(NameHash::of(essential), kind);
        let number = u32::try_from(new_roots.len()).map_err(|_| Refusal::PackFull { what: "roots" })?;
        let root = self.first_root.checked_add(number).filter(|&it| it < u32::MAX);
        let root = root.ok_or(Refusal::PackFull { what: "roots" })?;
        by_root.insert_unique(key, number, |&number| new_roots.get(number as usize).map_or(0, |it| it.key));
        new_roots.push(NewRoot { key, abi: self.abi, shape });
        Ok(root)
    }
}
