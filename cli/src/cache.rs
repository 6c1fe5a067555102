//! What took long and can be had again without the work: files named by a hash of all that they depend on.
//!
//! An entry begins with a hash of the rest, so that a damaged one counts as absent. Entries are written under a temporary
//! name and renamed, so that processes can share the directory, and are never changed after. The time of an entry's last
//! change is that of its last use.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use clap::Args;
use sha2::{Digest, Sha256};

use crate::intake::size;
use crate::output::{Exit, Failure, Output, message, plural};
use crate::pack::size as shown;
use crate::rows::hex;

/// Bytes of the hash in front of an entry.
const SUM_LEN: usize = 32;
/// Ending of the names of entries; other files are nobody's here and stay.
const ENDING: &str = "btf";
/// What the names of files begin with that are being written.
const UNFINISHED: &str = ".new-";
/// Files that were begun and not finished are removed after that long: no run of pahole takes it.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Directory for what took long and may be wanted again. Without it, $BTFLEET_CACHE, or 'btfleet' in
    /// $XDG_CACHE_HOME or in ~/.cache.
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    cache_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Remove what was used longest ago until no more than this is left, with K, M, G or T behind the number.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Remove what was last used more than so many days ago.
    #[arg(long, value_name = "DAYS")]
    max_age: Option<u32>,
}

/// Says where the cache is, once, before it is used.
pub(crate) fn set(args: &CacheArgs) {
    let variable = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let given = args.cache_dir.clone().or_else(|| variable("BTFLEET_CACHE"));
    let xdg = || variable("XDG_CACHE_HOME").filter(|it| it.is_absolute());
    let home = || xdg().or_else(|| Some(variable("HOME")?.join(".cache")));
    DIR.get_or_init(|| given.or_else(|| Some(home()?.join("btfleet"))));
}

/// What an entry depends on.
#[derive(Clone, Debug)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Of all entries of some `kind`.
    pub(crate) fn new(kind: &str) -> Self {
        Self(Sha256::new()).with(kind.as_bytes())
    }

    /// Of those that also depend on `part`.
    pub(crate) fn with(mut self, part: &[u8]) -> Self {
        // With its length in front, so that parts cannot be taken for one another.
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    fn path(self, dir: &Path) -> PathBuf {
        dir.join(hex(&self.0.finalize())).with_extension(ENDING)
    }
}

/// The cache's directory, if there is one that can be used; if not, that is said once.
pub(crate) fn dir() -> Option<&'static Path> {
    static USABLE: OnceLock<bool> = OnceLock::new();
    let dir = DIR.get()?.as_deref()?;
    let is_usable = *USABLE.get_or_init(|| {
        let made = fs::create_dir_all(dir).and_then(|()| tempfile::Builder::new().tempfile_in(dir));
        if let Err(error) = &made {
            message(&format!("btfleet: {}: goes on without a cache: {error}", dir.display()));
        }
        made.is_ok()
    });
    is_usable.then_some(dir)
}

/// The entry of this key, if it is there and sound.
pub(crate) fn get(key: &Key) -> Option<Vec<u8>> {
    let path = key.clone().path(dir()?);
    let mut entry = fs::read(&path).ok()?;
    let rest = entry.split_off(entry.len().min(SUM_LEN));
    if Sha256::digest(&rest).as_slice() != entry {
        return None;
    }
    // Whether its use can be noted decides nothing.
    let _ = File::options().append(true).open(&path).and_then(|it| it.set_modified(SystemTime::now()));
    Some(rest)
}

/// Keeps an entry. That it cannot be kept is said, and is no error.
pub(crate) fn put(key: &Key, entry: &[u8]) {
    let Some(dir) = dir() else { return };
    let path = key.clone().path(dir);
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
        file.write_all(&Sha256::digest(entry))?;
        file.write_all(entry)?;
        file.persist(&path)?;
        Ok(())
    };
    if let Err(error) = write() {
        message(&format!("btfleet: {}: not kept: {error}", path.display()));
    }
}

/// A file of the cache.
struct Entry {
    path: PathBuf,
    len: u64,
    used: SystemTime,
}

/// Removes what is old or too much; without limits, only what was never finished.
pub(crate) fn collect(args: &GcArgs) -> Result<Exit, Failure> {
    let mut out = Output::new();
    let dir = DIR.get().and_then(Option::as_deref);
    let dir =
        dir.ok_or_else(|| Failure::Usage("there is no cache: neither --cache-dir nor a home".into()))?;
    let now = SystemTime::now();
    let mut entries = entries(dir)?;
    // Those that were used last come first.
    entries.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
    let max_age = args.max_age.map(|days| Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    let max_size = args.max_size.unwrap_or(u64::MAX);
    let (mut kept, mut removed, mut freed) = (0_u64, 0, 0_u64);
    for entry in &entries {
        let age = now.duration_since(entry.used).unwrap_or_default();
        let why = if entry.path.extension().is_none_or(|it| it != ENDING) {
            (age > ABANDONED).then_some("never finished")
        } else if max_age.is_some_and(|max| age > max) {
            Some("not used for long")
        } else if kept.saturating_add(entry.len) > max_size {
            Some("more than is to be kept")
        } else {
            None
        };
        match why {
            None => kept += entry.len,
            Some(why) => match fs::remove_file(&entry.path) {
                Ok(()) => {
                    removed += 1;
                    freed += entry.len;
                    out.line(&format!("removed {}: {}, {why}", entry.path.display(), shown(entry.len)))?;
                }
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Failure::System(format!("{}: {error}", entry.path.display())));
                }
            },
        }
    }
    let removed = plural(removed, "file");
    out.line(&format!("{removed} removed, {}; {} kept in {}", shown(freed), shown(kept), dir.display()))?;
    out.finish()?;
    Ok(Exit::Fine)
}

/// All entries, finished or not. A cache that was never used has none.
fn entries(dir: &Path) -> Result<Vec<Entry>, Failure> {
    let failed = |error: io::Error| Failure::System(format!("{}: {error}", dir.display()));
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    let mut entries = Vec::new();
    for entry in listed {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_entry = name
            .strip_suffix(ENDING)
            .and_then(|it| it.strip_suffix('.'))
            .is_some_and(|it| it.len() == 2 * SUM_LEN && it.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !is_entry && !name.starts_with(UNFINISHED) {
            continue;
        }
        // One that another process has just removed is no entry.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() {
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push(Entry { path: entry.path(), len: meta.len(), used });
        }
    }
    Ok(entries)
}
