//! A pack read the other way: all roots of one unit. For compaction, removal, and the base of a kernel to add.

use hashbrown::HashMap;

use super::format::{ListRef, NO_UNIT};
use super::roots::Changes;
use super::view::UnitNumber;
use super::{Pack, PackError};

/// A unit's values, (root, list), by root.
pub(super) type Values = Vec<(u32, u32)>;

/// A type that is a root of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its id in the unit's BTF.
    pub(super) id: u32,
    pub(super) root: u32,
    /// Its id in the pack.
    pub(super) shape: u32,
}

/// Values by unit.
pub(super) struct Columns {
    pub(super) vmlinux: Column,
    pub(super) modules: Column,
}

/// Values of kernels, or of modules.
pub(super) struct Column {
    /// (unit, root, list), ascending.
    changes: Vec<(u32, u32, u32)>,
    /// Base of each unit, or [`NO_UNIT`].
    bases: Vec<u32>,
    known: HashMap<u32, Values>,
    /// Last unit that inherits from each: after it, values are forgotten.
    last_heirs: HashMap<u32, u32>,
}

impl Columns {
    /// Reads what these units need.
    pub(super) fn of(pack: &Pack<'_>, vmlinux: &[u32], modules: &[u32]) -> Result<Self, PackError> {
        let mut wanted_vmlinux = vec![false; pack.kernel_count() as usize];
        for &unit in vmlinux {
            mark_chain(&mut wanted_vmlinux, unit, |unit| pack.kernel_base(unit))?;
        }
        let mut wanted_modules =
            vec![false; if modules.is_empty() { 0 } else { pack.module_count() as usize }];
        for &unit in modules {
            mark_chain(&mut wanted_modules, unit, |unit| pack.module_base(unit))?;
        }
        Self::read(pack, &wanted_vmlinux, &wanted_modules)
    }

    /// Reads everything. Units are to be asked for in order: what is forgotten by then has to be worked out again.
    pub(super) fn all(pack: &Pack<'_>) -> Result<Self, PackError> {
        let wanted = |count: u32| vec![true; count as usize];
        Self::read(pack, &wanted(pack.kernel_count()), &wanted(pack.module_count()))
    }

    fn read(pack: &Pack<'_>, vmlinux: &[bool], modules: &[bool]) -> Result<Self, PackError> {
        let (mut of_vmlinux, mut of_modules) = (Vec::new(), Vec::new());
        let any_vmlinux = vmlinux.contains(&true);
        let any_module = modules.contains(&true);
        for segment in &pack.segments {
            segment.roots.each(|_, posting| {
                if any_vmlinux {
                    push(&mut of_vmlinux, posting.vmlinux(), vmlinux, segment.first_kernel, posting.root)?;
                }
                if any_module {
                    push(&mut of_modules, posting.modules()?, modules, segment.first_module, posting.root)?;
                }
                Ok(())
            })?;
        }
        let bases = |wanted: &[bool], base: &dyn Fn(u32) -> Result<Option<u32>, PackError>| {
            let bases = (0..)
                .zip(wanted)
                .map(|(unit, &wanted)| Ok(if wanted { base(unit)?.unwrap_or(NO_UNIT) } else { NO_UNIT }));
            bases.collect::<Result<Vec<u32>, PackError>>()
        };
        Ok(Self {
            vmlinux: Column::new(of_vmlinux, bases(vmlinux, &|unit| pack.kernel_base(unit))?),
            modules: Column::new(of_modules, bases(modules, &|unit| pack.module_base(unit))?),
        })
    }
}

/// What one kernel's vmlinux has, by root, and the lower half of each root's key. For many kernels, [`Columns`] reads
/// the roots once.
pub(super) fn values_of(pack: &Pack<'_>, kernel: u32) -> Result<(Values, Vec<u32>), PackError> {
    let mut is_ancestor = vec![false; pack.kernel_count() as usize];
    mark_chain(&mut is_ancestor, kernel, |unit| pack.kernel_base(unit))?;
    // Every root has a posting in the segment that brought it, so that this is bounded by the file's size.
    let postings: usize = pack.segments.iter().map(|it| it.roots.count()).sum();
    let mut lists = vec![0_u32; postings];
    let mut keys = vec![0_u32; postings];
    for segment in &pack.segments {
        segment.roots.each(|_, posting| {
            let mut changes = posting.vmlinux();
            let mut last = None;
            while let Some((unit, list)) = changes.next()? {
                let unit = (segment.first_kernel as usize).saturating_add(unit as usize);
                if is_ancestor.get(unit).copied().unwrap_or(false) {
                    last = Some(list);
                }
            }
            let root = posting.root as usize;
            let (Some(key), Some(slot)) = (keys.get_mut(root), lists.get_mut(root)) else {
                return Err(PackError::damaged("roots are missing"));
            };
            *key = posting.hash_low;
            // A unit comes after its base, so that the last change of all ancestors is the one that counts.
            if let Some(list) = last {
                *slot = list;
            }
            Ok(())
        })?;
    }
    Ok(((0..).zip(lists).filter(|it| it.1 != 0).collect(), keys))
}

fn mark_chain(
    wanted: &mut [bool],
    unit: u32,
    base: impl Fn(u32) -> Result<Option<u32>, PackError>,
) -> Result<(), PackError> {
    let mut next = Some(unit);
    while let Some(unit) = next {
        match wanted.get_mut(unit as usize) {
            Some(wanted @ false) => *wanted = true,
            _ => break,
        }
        next = base(unit)?;
    }
    Ok(())
}

fn push(
    out: &mut Vec<(u32, u32, u32)>,
    mut changes: Changes<'_>,
    wanted: &[bool],
    first: u32,
    root: u32,
) -> Result<(), PackError> {
    while let Some((unit, list)) = changes.next()? {
        let unit = first.checked_add(unit).ok_or(PackError::damaged("unit number too large"))?;
        if wanted.get(unit as usize).copied().unwrap_or(false) {
            out.push((unit, root, list));
        }
    }
    Ok(())
}

impl Column {
    fn new(mut changes: Vec<(u32, u32, u32)>, bases: Vec<u32>) -> Self {
        changes.sort_unstable();
        let heirs = (0..).zip(&bases).filter(|it| *it.1 != NO_UNIT);
        let last_heirs = heirs.map(|(unit, &base)| (base, unit)).collect();
        Self { changes, bases, known: HashMap::new(), last_heirs }
    }

    /// What a unit has, by root. It has to be one that was read.
    pub(super) fn values(&mut self, unit: u32) -> Result<Values, PackError> {
        let mut chain = vec![unit];
        let mut at = unit;
        while !self.known.contains_key(&at) {
            match self.bases.get(at as usize) {
                Some(&base) if base < at => chain.push(base),
                _ => break,
            }
            at = chain.last().copied().unwrap_or(0);
        }
        for unit in chain.into_iter().rev() {
            if self.known.contains_key(&unit) {
                continue;
            }
            let base = self.bases.get(unit as usize).copied().unwrap_or(NO_UNIT);
            let values = apply(self.known.get(&base).map_or(&[], Vec::as_slice), self.changes_of(unit));
            if self.last_heirs.get(&base) == Some(&unit) {
                self.known.remove(&base);
            }
            self.known.insert(unit, values);
        }
        let has_heirs = self.last_heirs.contains_key(&unit);
        let values = if has_heirs { self.known.get(&unit).cloned() } else { self.known.remove(&unit) };
        values.ok_or(PackError::damaged("a unit's values are not there"))
    }

    fn changes_of(&self, unit: u32) -> &[(u32, u32, u32)] {
        let from = self.changes.partition_point(|it| it.0 < unit);
        let rest = self.changes.get(from..).unwrap_or_default();
        rest.get(..rest.partition_point(|it| it.0 == unit)).unwrap_or_default()
    }
}

/// The values of a base, changed.
fn apply(base: &[(u32, u32)], changes: &[(u32, u32, u32)]) -> Values {
    let mut out = Vec::with_capacity(base.len() + changes.len());
    let mut base = base.iter().copied().peekable();
    for &(_, root, list) in changes {
        while let Some(value) = base.next_if(|it| it.0 < root) {
            out.push(value);
        }
        base.next_if(|it| it.0 == root);
        if list != 0 {
            out.push((root, list));
        }
    }
    out.extend(base);
    out
}

/// A unit's types that are roots, in two orders.
#[derive(Default)]
pub(super) struct Rows {
    /// By root, types of one root in the order of their ids.
    by_root: Vec<Row>,
    /// Places in `by_root`, in the order of ids.
    by_id: Vec<u32>,
}

impl Rows {
    /// Types of a unit of the pack. `values`: the unit's.
    pub(super) fn read(pack: &Pack<'_>, unit: UnitNumber, values: &[(u32, u32)]) -> Result<Self, PackError> {
        Ok(Self::by_root(rows_by_root(pack, unit, values)?))
    }

    /// `by_root`: by root, types of one root in the order of their ids.
    pub(super) fn by_root(by_root: Vec<Row>) -> Self {
        let by_id = order(&by_root, |row| row.id);
        Self { by_root, by_id }
    }

    /// `rows`: in the order of ids.
    pub(super) fn by_id(rows: &[Row]) -> Self {
        let places = order(rows, |row| row.root);
        let by_root = places.iter().filter_map(|&place| rows.get(place as usize).copied()).collect();
        let mut by_id = vec![0; rows.len()];
        for (number, place) in (0..).zip(places) {
            if let Some(slot) = by_id.get_mut(place as usize) {
                *slot = number;
            }
        }
        Self { by_root, by_id }
    }

    /// All, by root; types of one root in the order of their ids.
    pub(super) fn roots(&self) -> &[Row] {
        &self.by_root
    }

    /// Their places in [`Rows::roots`], in the order of ids.
    pub(super) fn places(&self) -> &[u32] {
        &self.by_id
    }

    /// All, in the order of ids.
    pub(super) fn in_order(&self) -> impl Iterator<Item = Row> + '_ {
        self.by_id.iter().filter_map(|&place| self.by_root.get(place as usize).copied())
    }

    /// Number `number` in the order of ids.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<Row> {
        self.by_root.get(*self.by_id.get(number)? as usize).copied()
    }
}

/// Places of `rows`, by key, and in their order where keys are equal.
fn order(rows: &[Row], key: impl Fn(&Row) -> u32) -> Vec<u32> {
    let keys = || rows.iter().map(&key);
    let end = keys().max().map_or(0, |it| it as usize + 1);
    // A unit has most of the ids there are, and many of the roots: then counting them is several times as fast as
    // sorting.
    if end > rows.len().saturating_mul(16) {
        let keys = (0_u64..).zip(keys()).map(|(place, key)| u64::from(key) << 32 | place);
        let mut keys: Vec<u64> = keys.collect();
        keys.sort_unstable();
        return keys.into_iter().map(|key| (key & 0xffff_ffff) as u32).collect();
    }
    let mut next = vec![0_u32; end];
    for key in keys() {
        if let Some(count) = next.get_mut(key as usize) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for count in &mut next {
        sum += std::mem::replace(count, sum);
    }
    let mut places = vec![0; rows.len()];
    for (place, key) in (0..).zip(keys()) {
        let Some(next) = next.get_mut(key as usize) else { continue };
        if let Some(slot) = places.get_mut(*next as usize) {
            *slot = place;
        }
        *next += 1;
    }
    places
}

/// A unit's types by root, types of one root in the order of their ids.
fn rows_by_root(pack: &Pack<'_>, unit: UnitNumber, values: &[(u32, u32)]) -> Result<Vec<Row>, PackError> {
    let mismatch = || PackError::damaged("a unit's ids are not those of its roots");
    let mut rows = Vec::with_capacity(values.len());
    let entries = pack.entries(unit)?;
    let mut entries = entries.iter().peekable();
    for &(root, list) in values {
        while entries.next_if(|it| it.0 < root).is_some() {}
        for shape in pack.list(ListRef(list))? {
            let &(_, id) = entries.next_if(|it| it.0 == root).ok_or_else(mismatch)?;
            rows.push(Row { id, root, shape: shape.0 });
        }
        if entries.peek().is_some_and(|it| it.0 == root) {
            return Err(mismatch());
        }
    }
    Ok(rows)
}
