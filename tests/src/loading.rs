//! libbpf loading the programs of an object into the running kernel one by one, in a child process
//! (`src/bin/live_loader.rs`).
//!
//! Request and answers are strings of bytes, each with its length as a little-endian `u32` before it.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("an object is far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn push_words(out: &mut Vec<u8>, words: &[u32]) {
    push(out, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
}

/// Gives a request to a helper. Returns how it ended, and what it wrote.
fn ask(helper: &Path, request: &[u8]) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut child = Command::new(helper).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to the helper"))?;
    stdin.write_all(request)?;
    drop(stdin);
    let mut out = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut out)?;
    }
    Ok((child.wait()?, out))
}

/// Takes strings of bytes off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.0 = rest;
        Some(bytes)
    }

    fn words(&mut self) -> Option<Vec<u32>> {
        Some(self.bytes()?.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }
}

/// What became of one program, loaded alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// 0, or libbpf's errno, positive.
    pub errno: u32,
    /// The verifier's log, if it refused the program; its end, if it is very long.
    pub log: String,
    /// libbpf's warnings.
    pub said: String,
}

impl Attempt {
    /// Whether the verifier came to an instruction that relocation poisoned.
    pub fn reached_poison(&self) -> bool {
        // libbpf puts its own words there if the object still has the record.
        self.log.contains("invalid func unknown#195896080") || self.log.contains("<invalid CO-RE relocation>")
    }

    /// Appends the answer to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        push_words(out, &[self.errno]);
        push(out, self.log.as_bytes());
        push(out, self.said.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let &[errno] = reader.words()?.as_slice() else { return None };
        let mut text = || Some(String::from_utf8_lossy(reader.bytes()?).into_owned());
        Some(Self { errno, log: text()?, said: text()? })
    }
}

/// An object, and names of programs to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The file; empty to ask what sections stand for.
    pub object: Vec<u8>,
    /// The programs, or the sections: their type and attach type are in [`Attempt::said`], as two numbers.
    pub programs: Vec<String>,
}

impl Request {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, &self.object);
        for name in &self.programs {
            push(&mut out, name.as_bytes());
        }
        out
    }

    /// Reads a request back; `None` if it is cut.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let object = reader.bytes()?.to_vec();
        let mut programs = Vec::new();
        while !reader.0.is_empty() {
            programs.push(String::from_utf8(reader.bytes()?.to_vec()).ok()?);
        }
        Some(Self { object, programs })
    }

    /// Loads each of the programs alone. `loader`: the helper's binary.
    ///
    /// # Errors
    /// If the helper cannot be run, or died.
    pub fn load(&self, loader: &Path) -> io::Result<Vec<Attempt>> {
        let (status, out) = ask(loader, &self.encode())?;
        if !status.success() {
            return Err(io::Error::other(format!("the helper died: {status}")));
        }
        let mut reader = Reader(&out);
        let attempts = self.programs.iter().map(|_| Attempt::read(&mut reader));
        attempts.collect::<Option<Vec<_>>>().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
