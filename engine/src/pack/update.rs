//! Packs as files: a segment appended and committed, or the whole file written anew.
//!
//! A run that adds writes its segment behind what is committed, and then one of the two slots in the header, each
//! with an fsync. Whoever reads the older state is not disturbed, and a run that is killed leaves it as it was: what
//! it wrote behind is overwritten by the next. Everything else is written to a temporary file beside the pack, which
//! is then given the pack's name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build::{KernelParts, ModuleParts, Source};
use super::columns::{Columns, Rows};
use super::format::{
    ENTRY_LEN, HEADER_LEN, LINK_LEN, Link, MAGIC, SLOTS, SectionKind, Slot, VERSION, hash, words,
};
use super::intern::Memo;
use super::{Added, Builder, NewKernel, Pack, PackError, PackFile};
use crate::btf::TypeId;

/// How long to wait for another writer in silence.
const PATIENCE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

/// What a change of a pack did to its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes written.
    pub written: u64,
    /// Bytes of the file that are in use now.
    pub len: u64,
}

type Sections = Vec<(SectionKind, u32, Vec<u8>)>;

/// Sections, padded, and their directory; they will stand at byte `at`. Returns the directory's place too.
fn segment(sections: &Sections, at: u64, previous: Link) -> (Vec<u8>, Link) {
    let mut out = Vec::new();
    let mut directory = Vec::with_capacity(LINK_LEN + ENTRY_LEN * sections.len());
    previous.write(&mut directory);
    for (kind, abi, bytes) in sections {
        words(&mut directory, &[*kind as u32, *abi]);
        for word in [at + out.len() as u64, bytes.len() as u64, hash(bytes)] {
            directory.extend(word.to_le_bytes());
        }
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    let link = Link { off: at + out.len() as u64, len: directory.len() as u64, hash: hash(&directory) };
    out.append(&mut directory);
    (out, link)
}

/// A whole pack of one segment.
fn whole(sections: &Sections) -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN];
    let (mut body, link) = segment(sections, HEADER_LEN as u64, Link::default());
    put(&mut out, 0, &MAGIC);
    put(&mut out, MAGIC.len(), &VERSION.to_le_bytes());
    let [first, _] = SLOTS;
    put(&mut out, first, &Slot { generation: 1, link }.bytes());
    out.append(&mut body);
    out
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Builds a pack in memory. Returns what became of each kernel too.
///
/// # Errors
/// [`PackError::Full`].
pub fn build(kernels: &[NewKernel<'_, '_>]) -> Result<(Vec<u8>, Vec<Added>), PackError> {
    let mut builder = Builder::new(None)?;
    let added = kernels.iter().map(|kernel| builder.add(kernel)).collect::<Result<_, _>>()?;
    Ok((whole(&builder.finish()?), added))
}

/// A pack's file, locked against other writers. Dropping it lets them in.
struct Locked {
    path: PathBuf,
    file: File,
    /// No pack has been written there yet.
    is_new: bool,
}

impl Locked {
    /// Waits for other writers. `on_wait` is called once if that takes longer than a second.
    fn open(path: &Path, create: bool, on_wait: &dyn Fn()) -> Result<Self, PackError> {
        let mut has_told = false;
        loop {
            let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
            if !file.metadata()?.is_file() {
                return Err(PackError::NotAPack { what: "no regular file" });
            }
            lock(&file, &mut has_told, on_wait)?;
            // Whoever held the lock may have put another file in the place of this one.
            let (locked, there) = (file.metadata()?, fs::metadata(path));
            let is_there = there.is_ok_and(|it| (it.dev(), it.ino()) == (locked.dev(), locked.ino()));
            if is_there {
                let is_new = locked.len() == 0;
                if is_new && !create {
                    return Err(PackError::NotAPack { what: "the file is empty" });
                }
                return Ok(Self { path: path.to_owned(), file, is_new });
            }
        }
    }

    fn map(&self) -> Result<PackFile, PackError> {
        PackFile::of(&self.file)
    }

    /// Writes a new file and gives it the pack's name.
    fn replace(&self, bytes: &[u8]) -> Result<Written, PackError> {
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // Only one writer at a time gets here, so one name will do; a file that a killed run left is overwritten.
        let temporary = dir.join(format!(".{name}.new"));
        let write = || {
            let mut file = File::create(&temporary)?;
            file.set_permissions(self.file.metadata()?.permissions())?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            File::open(dir)?.sync_all()
        };
        let written: io::Result<()> = write();
        if let Err(error) = written {
            // Already on the way out with an error.
            let _ = fs::remove_file(&temporary);
            return Err(error.into());
        }
        Ok(Written { written: bytes.len() as u64, len: bytes.len() as u64 })
    }

    /// Appends a segment and commits it.
    fn append(&self, pack: &Pack<'_>, sections: &Sections) -> Result<Written, PackError> {
        let at = pack.len().next_multiple_of(8);
        let (bytes, link) = segment(sections, at, pack.slot.link);
        self.file.write_all_at(&bytes, at)?;
        self.file.sync_data()?;
        let generation =
            pack.slot.generation.checked_add(1).ok_or(PackError::Full { what: "generations" })?;
        let slot = Slot { generation, link }.bytes();
        let [odd, even] = SLOTS;
        let place = if generation % 2 == 1 { odd } else { even };
        self.file.write_all_at(&slot, place as u64)?;
        self.file.sync_data()?;
        Ok(Written { written: (bytes.len() + slot.len()) as u64, len: link.off + link.len })
    }
}

fn lock(file: &File, has_told: &mut bool, on_wait: &dyn Fn()) -> Result<(), PackError> {
    let mut waited = Duration::ZERO;
    while !*has_told && waited < PATIENCE {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        waited += POLL;
    }
    if !*has_told {
        *has_told = true;
        on_wait();
    }
    Ok(file.lock()?)
}

/// Adds kernels to the pack at `path`, or to a new one. `work` gives them to the builder; what it added is written
/// when it returns. One writer at a time: another waits, and `on_wait` is called if that takes longer than a second.
///
/// # Errors
/// [`PackError`]; the pack is then as it was. An error of `work` is passed on, and nothing is written either.
pub fn update<R, E: From<PackError>>(
    path: &Path,
    on_wait: &dyn Fn(),
    work: impl FnOnce(&mut Builder<'_>) -> Result<R, E>,
) -> Result<(R, Written), E> {
    let locked = Locked::open(path, true, on_wait)?;
    if locked.is_new {
        let mut builder = Builder::new(None)?;
        let worked = work(&mut builder);
        if builder.is_empty() || worked.is_err() {
            // The empty file was made to hold the lock.
            fs::remove_file(path).map_err(PackError::from)?;
            return Ok((worked?, Written::default()));
        }
        let written = locked.replace(&whole(&builder.finish()?))?;
        return Ok((worked?, written));
    }
    let file = locked.map()?;
    let pack = file.view()?;
    let mut builder = Builder::new(Some(&pack))?;
    let worked = work(&mut builder)?;
    if builder.is_empty() {
        return Ok((worked, Written { written: 0, len: pack.len() }));
    }
    Ok((worked, locked.append(&pack, &builder.finish()?)?))
}

/// Rewrites the pack at `path` as one segment, the bytes of which depend on the kernels and their order alone.
///
/// # Errors
/// [`PackError`]; the pack is then as it was.
pub fn compact(path: &Path, on_wait: &dyn Fn()) -> Result<Written, PackError> {
    rewrite(path, &[], on_wait)
}

/// Removes names from the pack at `path`, and kernels that are left without one.
///
/// # Errors
/// [`PackError::NoSuchName`], or any other; the pack is then as it was.
pub fn remove(path: &Path, names: &[&str], on_wait: &dyn Fn()) -> Result<Written, PackError> {
    rewrite(path, names, on_wait)
}

fn rewrite(path: &Path, without: &[&str], on_wait: &dyn Fn()) -> Result<Written, PackError> {
    let locked = Locked::open(path, false, on_wait)?;
    let file = locked.map()?;
    let pack = file.view()?;
    // What is damaged must not get fresh checksums.
    super::verify::sections(&pack)?;
    let names = pack.names()?;
    if let Some(name) = without.iter().find(|name| !names.iter().any(|it| it.0 == **name)) {
        return Err(PackError::NoSuchName { name: (*name).to_owned() });
    }
    let names: Vec<(&str, u32)> = names.into_iter().filter(|it| !without.contains(&it.0)).collect();
    locked.replace(&whole(&rebuild(&pack, &names)?))
}

/// The kernels that have names, built anew from the pack's own types.
fn rebuild(pack: &Pack<'_>, names: &[(&str, u32)]) -> Result<Sections, PackError> {
    let mut builder = Builder::new(None)?;
    let mut columns = Columns::all(pack)?;
    let mut memos = [const { None }; 4];
    let entries = pack.kernels()?;
    let mut numbers = vec![None; entries.len()];
    // Names stand in the order of adding, and a kernel comes with the first of its own.
    let mut kept: Vec<u32> = names.iter().map(|it| it.1).collect();
    kept.sort_unstable();
    kept.dedup();
    for (kernel, entry) in (0..).zip(&entries) {
        // Asked for in any case: columns are read in order.
        let values = columns.vmlinux.values(kernel)?;
        let modules = (0..).zip(&entry.modules).map(|(module, _)| {
            let unit = pack.module_unit(kernel, module)?;
            Ok((module, columns.modules.values(unit)?))
        });
        let modules: Vec<(u32, Vec<(u32, u32)>)> = modules.collect::<Result<_, PackError>>()?;
        if kept.binary_search(&kernel).is_err() {
            continue;
        }
        let btf = pack.btf_of(entry.abi)?;
        let slot = memos.get_mut(entry.abi.slot()).ok_or(PackError::damaged("an ABI is unknown"))?;
        let memo = slot.get_or_insert_with(|| Memo::new(btf));
        let parts = KernelParts {
            facts: &entry.facts,
            content: entry.content,
            abi: entry.abi,
            type_count: entry.type_count,
            raw_len: entry.raw_len,
            modules: entry
                .modules
                .iter()
                .map(|it| ModuleParts { name: it.name, type_count: it.type_count, raw_len: it.raw_len })
                .collect(),
        };
        let source = |unit: Option<usize>| {
            let (module, values) = match unit.and_then(|unit| modules.get(unit)) {
                Some((module, values)) => (Some(*module), values),
                None => (None, &values),
            };
            let rows = Rows::read(pack, pack.unit_number(kernel, module)?, values)?;
            Ok(Source { btf, roots: rows.in_order().map(|row| (row.id, TypeId(row.shape))).collect() })
        };
        let number = builder.take(&parts, source, memo)?;
        let number = number.map_err(|_| PackError::damaged("a kernel's types do not fit into a pack"))?;
        if let Some(slot) = numbers.get_mut(kernel as usize) {
            *slot = Some(number);
        }
    }
    for &(name, kernel) in names {
        let number = numbers.get(kernel as usize).copied().flatten();
        builder.push_name(name, number.ok_or(PackError::damaged("a name stands for no kernel"))?)?;
    }
    builder.finish()
}
