//! Files as they are opened: whole or as archives, whatever they are compressed with, within limits.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::archive::{self, Kind, over_limit};
use super::{Compression, EncodeBtf, HEAD_LEN, InputCode, InputError, Limits, OverLimit, read_all};

/// How inputs are taken in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Intake {
    /// How much they may take.
    pub limits: Limits,
    /// What makes BTF of debugging information, where there is such.
    pub encode: Option<&'static dyn EncodeBtf>,
}

/// A file that was opened.
#[derive(Debug)]
pub enum Opened {
    /// Its bytes, expanded.
    Whole(Vec<u8>),
    /// An archive.
    Archive(Archive),
}

/// An archive, opened.
pub struct Archive {
    path: PathBuf,
    kind: Kind,
    input: Box<dyn BufRead>,
    limits: Limits,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("path", &self.path).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A file in an archive, before it is read.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its path in the archive that it is directly in. Directories end in `/`.
    pub inner: &'a str,
    /// Its first [`HEAD_LEN`] **bytes**, or all that it has. What is no regular file has none.
    pub head: &'a [u8],
    /// How many archives it is in.
    pub depth: u32,
}

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What messages call it: `linux.deb!/boot/vmlinuz-6.1.0`.
    pub path: PathBuf,
    /// Its path in the archive that it is directly in.
    pub inner: String,
    /// Its bytes, as they are there: what is compressed by itself is not expanded.
    pub data: Vec<u8>,
}

impl Member {
    /// What the paths of all members of its archive begin with.
    pub(super) fn archive(&self) -> PathBuf {
        let (path, inner) = (self.path.as_os_str().as_bytes(), self.inner.as_bytes());
        PathBuf::from(OsStr::from_bytes(path.strip_suffix(inner).unwrap_or(path)))
    }
}

impl Archive {
    /// The archive's format.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Calls `visit` for each file that `wanted` asks for, archives in archives included, until it says that it has
    /// enough.
    ///
    /// Returns what could not be read, with code `unreadable` or `over-limit`. A member that is left out is one of these,
    /// and so is the end of an archive that ends in the middle: what was visited stands.
    pub fn visit(
        self,
        wanted: &dyn Fn(&Entry<'_>) -> bool,
        visit: &mut dyn FnMut(Member) -> io::Result<bool>,
    ) -> Vec<InputError> {
        archive::visit(self.kind, self.input, &self.path, &self.limits, wanted, visit)
    }
}

impl Intake {
    /// Reads a whole file, expanded if it is compressed.
    ///
    /// # Errors
    /// [`InputError`] with code `unreadable` or `over-limit`.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, InputError> {
        let (file, before) = open_regular(path)?;
        self.expanded(self.rest(&file, &before, &[], path)?, path)
    }

    /// Expands a file's bytes if they are compressed. `path` is for messages.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn expanded(&self, data: Vec<u8>, path: &Path) -> Result<Vec<u8>, InputError> {
        let Some(format) = Compression::of(&data) else { return Ok(data) };
        let expanded = format.file(data.as_slice()).and_then(|it| read_all(it, self.limits.expanded));
        expanded.map_err(|error| InputError::of_io(path, &named(format, error)))
    }

    /// Opens a file: its bytes, or what reads it if it is an archive.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn open(&self, path: &Path) -> Result<Opened, InputError> {
        let io = |error: io::Error| InputError::of_io(path, &error);
        let (mut file, before) = open_regular(path)?;
        let mut head = Vec::with_capacity(HEAD_LEN);
        (&mut file).take(HEAD_LEN as u64).read_to_end(&mut head).map_err(io)?;
        let kind = match Compression::of(&head) {
            None => Kind::of(&head),
            // What is inside decides.
            Some(format) => Kind::of(&archive::first_of(format, path)),
        };
        let Some(kind) = kind else {
            let data = self.rest(&file, &before, &head, path)?;
            return self.expanded(data, path).map(Opened::Whole);
        };
        let input = BufReader::with_capacity(1 << 16, file);
        let input = archive::expand(Cursor::new(head).chain(input)).map_err(io)?;
        Ok(Opened::Archive(Archive { path: path.to_owned(), kind, input, limits: self.limits }))
    }

    /// The same for a file in memory.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn open_bytes(&self, data: Vec<u8>, path: &Path) -> Result<Opened, InputError> {
        let kind = archive::kind_of_bytes(&data);
        let Some(kind) = kind else { return self.expanded(data, path).map(Opened::Whole) };
        let input = archive::expand(Cursor::new(data)).map_err(|error| InputError::of_io(path, &error))?;
        Ok(Opened::Archive(Archive { path: path.to_owned(), kind, input, limits: self.limits }))
    }

    /// A file's bytes as they are. `head` is what was read of it, and `before` what was known of it before that.
    fn rest(&self, file: &File, before: &Metadata, head: &[u8], path: &Path) -> Result<Vec<u8>, InputError> {
        let io = |error: io::Error| InputError::of_io(path, &error);
        let limit = self.limits.expanded;
        let over_limit = || io(OverLimit::Expanded(limit).into());
        if before.len() > limit {
            return Err(over_limit());
        }
        // Nearly always a file is as long as it says: one read gets the rest, where a buffer that grows takes many. Files
        // that the kernel makes up may say anything: whatever is behind that is read, too.
        let mut input = head.chain(file);
        let mut data = vec![0; usize::try_from(before.len()).unwrap_or(0)];
        let got = fill(&mut input, &mut data).map_err(io)?;
        data.truncate(got);
        let more = limit.saturating_add(1).saturating_sub(data.len() as u64);
        input.take(more).read_to_end(&mut data).map_err(io)?;
        if data.len() as u64 > limit {
            return Err(over_limit());
        }
        let after = file.metadata().map_err(io)?;
        if (before.len(), before.modified().ok()) != (after.len(), after.modified().ok()) {
            return Err(InputError::unreadable(path, "changed while it was read".into()));
        }
        Ok(data)
    }
}

/// Reads until a buffer is full or there is no more. Returns how many **bytes** that were.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|it| !it.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Opens a regular file for reading, with what is known of it then. A device or pipe may never end.
pub(super) fn open_regular(path: &Path) -> Result<(File, Metadata), InputError> {
    let unreadable = |what: &str| InputError::unreadable(path, what.into());
    let io = |error: io::Error| InputError::of_io(path, &error);
    // Before it is opened too: that of a pipe waits for a writer.
    let check = |meta: &Metadata| match () {
        () if meta.is_dir() => Err(unreadable("is a directory")),
        () if !meta.is_file() => Err(unreadable("is not a regular file")),
        () => Ok(()),
    };
    check(&std::fs::metadata(path).map_err(io)?)?;
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    check(&meta)?;
    Ok((file, meta))
}

/// An error of a decoder, with the format's name in front. A limit speaks for itself.
fn named(format: Compression, error: io::Error) -> io::Error {
    match over_limit(&error) {
        Some(_) => error,
        None => io::Error::new(error.kind(), format!("{}: {error}", format.name())),
    }
}

impl InputError {
    /// An input that has more than is taken from one.
    pub fn over_limit(path: &Path, limit: OverLimit) -> Self {
        Self::of_io(path, &limit.into())
    }

    /// A file that could not be read, or met a limit.
    pub(super) fn of_io(path: &Path, error: &io::Error) -> Self {
        let code = match over_limit(error) {
            Some(_) => InputCode::OverLimit,
            None => InputCode::Unreadable,
        };
        Self { path: path.to_owned(), code, offset: None, what: error.to_string() }
    }
}
