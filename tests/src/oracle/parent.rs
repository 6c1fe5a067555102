//! The parent half: starts, watches and restarts the child.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{env, fmt, fs, process, thread};

use super::wire::{self, Answer, Options, Program, Response};

/// How long the child may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub enum OracleError {
    /// libbpf refused the local BTF; positive errno.
    LocalRefused(u32),
    /// libbpf refused the target BTF; positive errno.
    TargetRefused(u32),
    /// libbpf refused a module's BTF; positive errno.
    ModuleRefused(u32),
    /// libbpf refused to open the object; positive errno.
    ObjectRefused(u32),
    /// The child died. `input` is the file with the request that it was working on.
    Crashed {
        /// File with the request, as `wire` encodes it.
        input: PathBuf,
        /// Exit status.
        status: String,
    },
    /// The child was silent for too long and was killed. `input` is the file with the request.
    Hung {
        /// File with the request, as `wire` encodes it.
        input: PathBuf,
    },
    /// The child could not be started, or spoke nonsense.
    Io(io::Error),
}

impl fmt::Display for OracleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalRefused(errno) => write!(f, "libbpf refused the local BTF: errno {errno}"),
            Self::TargetRefused(errno) => write!(f, "libbpf refused the target BTF: errno {errno}"),
            Self::ModuleRefused(errno) => write!(f, "libbpf refused the module BTF: errno {errno}"),
            Self::ObjectRefused(errno) => write!(f, "libbpf refused the object: errno {errno}"),
            Self::Crashed { input, status } => {
                write!(f, "the oracle died ({status}), input: {}", input.display())
            }
            Self::Hung { input } => write!(f, "the oracle hung, input: {}", input.display()),
            Self::Io(err) => write!(f, "the oracle could not be reached: {err}"),
        }
    }
}

impl std::error::Error for OracleError {}

impl From<io::Error> for OracleError {
    fn from(err: io::Error) -> Self {
        Self::Io(err)
    }
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    frames: Receiver<Vec<u8>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A child process that answers with libbpf. One request at a time; use several for several threads.
pub struct Oracle {
    path: PathBuf,
    running: Option<Running>,
    /// The kept target's request, to repeat after a restart.
    target: Vec<u8>,
    patience: Duration,
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oracle").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Oracle {
    /// Starts the child: `path` is the `oracle` binary, `env!("CARGO_BIN_EXE_oracle")` in integration tests.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(path: impl AsRef<Path>) -> Result<Self, OracleError> {
        let path = path.as_ref().to_owned();
        let running = Some(start(&path)?);
        Ok(Self { path, running, target: Vec::new(), patience: PATIENCE })
    }

    /// Sets how long the child may be silent.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Parses the target (and modules split on it) and keeps it for the next requests.
    ///
    /// # Errors
    /// If libbpf refuses one of them; then there is no target.
    pub fn set_target(&mut self, target: &[u8], modules: &[Vec<u8>]) -> Result<(), OracleError> {
        let request = wire::encode_target(target, modules);
        self.target.clear();
        self.ask(&request)?;
        self.target = request;
        Ok(())
    }

    /// Relocates `program` against the kept target; one answer per record, in order.
    ///
    /// # Errors
    /// If libbpf refuses the local BTF, or does not survive.
    pub fn relocate(&mut self, program: &Program, options: Options) -> Result<Vec<Answer>, OracleError> {
        match self.ask(&wire::encode_relocate(program, options))? {
            Response::Answers(answers) => Ok(answers),
            other => Err(nonsense(&other)),
        }
    }

    /// Opens an object with `bpf_object__open_mem`; the number of its programs.
    ///
    /// # Errors
    /// [`OracleError::ObjectRefused`] if libbpf does not open it.
    pub fn open(&mut self, object: &[u8]) -> Result<u32, OracleError> {
        match self.ask(&wire::encode_open(object))? {
            Response::Done(n) => Ok(n),
            other => Err(nonsense(&other)),
        }
    }

    /// `bpf_core_essential_name_len` of each name.
    ///
    /// # Errors
    /// If the child does not survive.
    pub fn essential_len(&mut self, names: &[&str]) -> Result<Vec<u32>, OracleError> {
        match self.ask(&wire::encode_essential_len(names))? {
            Response::Numbers(numbers) => Ok(numbers),
            other => Err(nonsense(&other)),
        }
    }

    /// Lets the child crash or hang, to see that it is noticed.
    ///
    /// # Errors
    /// Always.
    pub fn misbehave(&mut self, hang: bool) -> Result<(), OracleError> {
        self.ask(&wire::encode_misbehave(hang)).map(|_| ())
    }

    fn ask(&mut self, request: &[u8]) -> Result<Response, OracleError> {
        if self.running.is_none() {
            self.running = Some(start(&self.path)?);
            if !self.target.is_empty() {
                let target = std::mem::take(&mut self.target);
                let repeated = self.exchange(&target);
                self.target = target;
                repeated?;
            }
        }
        self.exchange(request)
    }

    fn exchange(&mut self, request: &[u8]) -> Result<Response, OracleError> {
        let running = self.running.as_mut().expect("started by `ask`");
        // A child that dies while it is written to is noticed below: its frames end.
        let _broken_pipe = write_frame(&mut running.stdin, request);
        let response = match running.frames.recv_timeout(self.patience) {
            Ok(frame) => frame,
            Err(why) => {
                let mut running = self.running.take().expect("borrowed above");
                let input = keep(request)?;
                return Err(match why {
                    RecvTimeoutError::Timeout => OracleError::Hung { input },
                    RecvTimeoutError::Disconnected => {
                        OracleError::Crashed { input, status: running.child.wait()?.to_string() }
                    }
                });
            }
        };
        match wire::decode_response(&response) {
            Some(Response::Refused(1, errno)) => Err(OracleError::LocalRefused(errno)),
            Some(Response::Refused(2, errno)) => Err(OracleError::TargetRefused(errno)),
            Some(Response::Refused(3, errno)) => Err(OracleError::ModuleRefused(errno)),
            Some(Response::Refused(_, errno)) => Err(OracleError::ObjectRefused(errno)),
            Some(response) => Ok(response),
            None => Err(OracleError::Io(io::Error::other("malformed response of the oracle"))),
        }
    }
}

fn nonsense(response: &Response) -> OracleError {
    OracleError::Io(io::Error::other(format!("unexpected response of the oracle: {response:?}")))
}

fn start(path: &Path) -> Result<Running, OracleError> {
    let mut child =
        Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let stdin = child.stdin.take().expect("piped");
    let mut stdout = child.stdout.take().expect("piped");
    let (sender, frames) = channel();
    thread::spawn(move || {
        while let Some(frame) = read_frame(&mut stdout) {
            if sender.send(frame).is_err() {
                return;
            }
        }
    });
    Ok(Running { child, stdin, frames })
}

/// Writes one frame.
fn write_frame(to: &mut ChildStdin, payload: &[u8]) -> io::Result<()> {
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(payload)?;
    to.flush()
}

/// Reads one frame; `None` at the end.
fn read_frame(from: &mut impl io::Read) -> Option<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len).ok()?;
    let len = u32::from_le_bytes(len);
    let mut payload = Vec::new();
    let read = from.by_ref().take(u64::from(len)).read_to_end(&mut payload).ok()?;
    (read == len as usize).then_some(payload)
}

/// Keeps a request in a file of its own.
fn keep(request: &[u8]) -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = env::temp_dir().join(format!("btfleet-oracle-{}-{n}.bin", process::id()));
    fs::write(&path, request)?;
    Ok(path)
}
