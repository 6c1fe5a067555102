//! Archives: `ar`, Debian packages, tar, RPM packages and cpio, compressed or not, and archives in them.
//!
//! Read once from front to back. Nothing is written anywhere: what an archive says of paths is only ever a name. Links
//! and devices in it are left out.

mod ar;
mod cpio;
mod rpm;
mod tape;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use super::{Compression, Entry, HEAD_LEN, InputError, Limits, Member, OverLimit, read_all};

/// What a package says of itself, as a member before its files: the control file of a Debian package, and what the header
/// of an RPM package says, in the same form.
pub const CONTROL: &str = "DEBIAN/control";

/// What an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ar`, of which Debian packages are one kind.
    Ar,
    /// tar.
    Tar,
    /// A package of the RPM package manager.
    Rpm,
    /// cpio in its `newc` format.
    Cpio,
}

impl Kind {
    /// What an archive begins as, by its first [`HEAD_LEN`] **bytes**, expanded.
    pub fn of(head: &[u8]) -> Option<Self> {
        let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|it| it.starts_with(magic));
        if has(0, ar::MAGIC) || has(0, ar::THIN_MAGIC) {
            Some(Self::Ar)
        } else if has(0, rpm::MAGIC) {
            Some(Self::Rpm)
        } else if has(257, b"ustar") || tape::is_old(head) {
            Some(Self::Tar)
        } else if cpio::MAGICS.iter().any(|it| has(0, it)) {
            Some(Self::Cpio)
        } else {
            None
        }
    }

    /// The format's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ar => "ar",
            Self::Tar => "tar",
            Self::Rpm => "rpm",
            Self::Cpio => "cpio",
        }
    }
}

/// What a file or member expands to at first, as far as it does.
pub(super) fn head_of(format: Compression, input: impl BufRead) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_LEN);
    if let Ok(reader) = format.file(input) {
        // What does not expand is no archive; whoever reads it as a file says why.
        let _ = reader.take(HEAD_LEN as u64).read_to_end(&mut head);
    }
    head
}

/// What a compressed file expands to at first.
pub(super) fn first_of(format: Compression, path: &Path) -> Vec<u8> {
    File::open(path).map(|file| head_of(format, BufReader::new(file))).unwrap_or_default()
}

/// What archive `data` is, compressed or not.
pub(super) fn kind_of_bytes(data: &[u8]) -> Option<Kind> {
    match Compression::of(data) {
        None => Kind::of(data.get(..HEAD_LEN).unwrap_or(data)),
        Some(format) => Kind::of(&head_of(format, data)),
    }
}

/// A reader of what `input` holds, expanded.
pub(super) fn expand(mut input: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    let mut head = Vec::with_capacity(8);
    input.by_ref().take(8).read_to_end(&mut head)?;
    let format = Compression::of(&head);
    let input = Cursor::new(head).chain(input);
    Ok(match format {
        Some(format) => Box::new(BufReader::with_capacity(1 << 16, format.file(input)?)),
        None => Box::new(input),
    })
}

/// What all archives of one file share.
struct Walk<'a> {
    limits: &'a Limits,
    wanted: &'a dyn Fn(&Entry<'_>) -> bool,
    visit: &'a mut dyn FnMut(Member) -> io::Result<bool>,
    /// Members that could not be taken.
    errors: Vec<InputError>,
    members: u64,
    /// **Bytes** that they may still expand to.
    left: &'a Cell<u64>,
    /// Whether the visitor has had enough.
    done: bool,
}

/// Calls `visit` for each file of an archive that `wanted` asks for, until it says that it has enough. Returns what could
/// not be read.
pub(super) fn visit(
    kind: Kind,
    input: impl BufRead,
    path: &Path,
    limits: &Limits,
    wanted: &dyn Fn(&Entry<'_>) -> bool,
    visit: &mut dyn FnMut(Member) -> io::Result<bool>,
) -> Vec<InputError> {
    let left = Cell::new(limits.archive);
    let mut walk = Walk { limits, wanted, visit, errors: Vec::new(), members: 0, left: &left, done: false };
    let error = walk.archive(kind, input, path, 1).err();
    let mut errors = walk.errors;
    errors.extend(error.map(|it| InputError::of_io(path, &it)));
    errors
}

impl Walk<'_> {
    fn archive(&mut self, kind: Kind, input: impl BufRead, path: &Path, depth: u32) -> io::Result<()> {
        if depth > self.limits.nesting {
            return Err(OverLimit::Nesting(self.limits.nesting).into());
        }
        let budget = Budget { left: self.left, max: self.limits.archive };
        let mut input = budget.bound(input);
        let mut member = |name: &[u8], data: &mut dyn Read| self.member(name, data, path, depth);
        match kind {
            Kind::Ar => ar::members(&mut input, budget, &mut member),
            Kind::Tar => tape::members(&mut input, &mut member),
            Kind::Rpm => rpm::members(&mut input, budget, &mut member),
            Kind::Cpio => cpio::members(&mut input, &mut member),
        }
    }

    /// Takes a member. Returns whether to go on.
    fn member(&mut self, name: &[u8], data: &mut dyn Read, path: &Path, depth: u32) -> io::Result<bool> {
        self.members += 1;
        if self.members > self.limits.members {
            return Err(OverLimit::Members(self.limits.members).into());
        }
        let name = String::from_utf8_lossy(name);
        let inner = name.trim_start_matches("./").trim_start_matches('/');
        let mut head = Vec::with_capacity(HEAD_LEN);
        (&mut *data).take(HEAD_LEN as u64).read_to_end(&mut head)?;
        let (may_be_archive, is_wanted) =
            (is_archive_name(inner), (self.wanted)(&Entry { inner, head: &head, depth }));
        if !may_be_archive && !is_wanted {
            return Ok(true);
        }
        let path = within(path, inner);
        let data = match read_all(Cursor::new(head).chain(data), self.limits.expanded) {
            Ok(data) => data,
            Err(error) => return self.left_out(&path, error),
        };
        match kind_of_bytes(&data).filter(|_| may_be_archive) {
            Some(kind) => {
                let input = expand(Cursor::new(data));
                if let Err(error) = input.and_then(|it| self.archive(kind, it, &path, depth + 1)) {
                    return match over_limit(&error) {
                        Some(_) => self.left_out(&path, error),
                        // What is broken is in memory: those behind it are not.
                        None => {
                            self.errors.push(InputError::of_io(&path, &error));
                            Ok(true)
                        }
                    };
                }
            }
            None if is_wanted => {
                self.done = !(self.visit)(Member { path, inner: inner.to_owned(), data })?;
            }
            None => {}
        }
        Ok(!self.done)
    }

    /// Leaves out a member that is too large or too deep by itself, and notes it. Any other error ends the walk.
    fn left_out(&mut self, path: &Path, error: io::Error) -> io::Result<bool> {
        match over_limit(&error) {
            Some(OverLimit::Expanded(_) | OverLimit::Nesting(_)) => {
                self.errors.push(InputError::of_io(path, &error));
                Ok(true)
            }
            _ => Err(error),
        }
    }
}

/// The limit that an error is about, if it is.
pub(super) fn over_limit(error: &io::Error) -> Option<&OverLimit> {
    error.get_ref()?.downcast_ref()
}

/// What messages call a member.
pub(super) fn within(archive: &Path, member: &str) -> PathBuf {
    let mut path = archive.as_os_str().to_owned();
    path.push("!/");
    path.push(member);
    path.into()
}

/// Whether a file of this name is mostly an archive: what it is, its bytes say.
pub fn is_archive_name(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let ends = |endings: &[&str]| endings.iter().any(|it| file.ends_with(it));
    ends(&[".deb", ".rpm", ".tar", ".tgz", ".txz", ".tbz2", ".a", ".cpio", ".apk"])
        || [".gz", ".xz", ".zst", ".bz2", ".lz4", ".lzma"]
            .iter()
            .any(|it| file.strip_suffix(it).is_some_and(|it| it.ends_with(".tar") || it.ends_with(".cpio")))
}

/// What a file and all archives in it may expand to.
#[derive(Clone, Copy)]
struct Budget<'a> {
    left: &'a Cell<u64>,
    max: u64,
}

impl<'a> Budget<'a> {
    /// A reader that fails once too much has been read.
    fn bound<R>(self, input: R) -> Bounded<'a, R> {
        Bounded { input, budget: self }
    }

    fn take(self, count: usize) -> io::Result<()> {
        let left = self.left.get().checked_sub(count as u64).ok_or(OverLimit::Archive(self.max))?;
        self.left.set(left);
        Ok(())
    }
}

struct Bounded<'a, R> {
    input: R,
    budget: Budget<'a>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buf)?;
        self.budget.take(count)?;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Bounded<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.budget.left.get() == 0 {
            return Err(OverLimit::Archive(self.budget.max).into());
        }
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What is too much here is said when more is wanted.
        if self.budget.take(count).is_err() {
            self.budget.left.set(0);
        }
        self.input.consume(count);
    }
}

/// Takes a member's name and a reader of its bytes; says whether to go on. What it leaves unread is skipped.
type OnMember<'a> = dyn FnMut(&[u8], &mut dyn Read) -> io::Result<bool> + 'a;

/// Reads `count` **bytes** and forgets them.
fn skip(input: &mut impl Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(count), &mut io::sink())?;
    if skipped == count { Ok(()) } else { Err(ended()) }
}

fn ended() -> io::Error {
    broken("the archive ends in the middle")
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
