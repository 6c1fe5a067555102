//! One source to one object, such that the same source gives the same bytes on every machine.
//!
//! What could differ is kept out: the compiler is one version, reads no configuration file and no
//! system header, and sees its input under a relative name from the source directory, so neither BTF nor
//! line information hold a path. DWARF is stripped: loaders do not read it, it is most of an unstripped
//! object, and it names the exact build of the compiler.

use std::io;
use std::path::{self, Path};
use std::process::{Command, Stdio};

use super::{Error, Sample};

const CLANG: &str = "clang-19";
const STRIP: &str = "llvm-strip-19";

/// Compiles `sample`, whose source is in the directory `sources`, to the file `object`.
///
/// # Errors
/// [`Error::ToolMissing`] if LLVM 19 is not installed, [`Error::ToolFailed`] if it rejects the source.
pub(super) fn compile(sources: &Path, sample: &Sample, object: &Path) -> Result<(), Error> {
    // The compiler runs in another directory than this process.
    let object = path::absolute(object).map_err(|error| Error::Write { path: object.to_owned(), error })?;
    let unstripped = object.with_extension("unstripped");

    let mut clang = Command::new(CLANG);
    clang.current_dir(sources);
    clang.args(["--no-default-config", "-nostdinc", "-target", sample.target.name(), "-mcpu=v3"]);
    clang.args(["-O2", "-g", "-fdebug-compilation-dir=.", "-Wall", "-Wextra", "-Werror"]);
    clang.args(["-Wno-unused-parameter", "-Wno-unused-const-variable"]);
    clang.args(["-c", &sample.source, "-o"]).arg(&unstripped);
    run(CLANG, clang, sample)?;

    let mut strip = Command::new(STRIP);
    strip.args(["--strip-debug", "-o"]).arg(&object).arg(&unstripped);
    run(STRIP, strip, sample)?;
    std::fs::remove_file(&unstripped).map_err(|error| Error::Write { path: unstripped, error })
}

fn run(tool: &'static str, mut command: Command, sample: &Sample) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::ToolMissing { tool },
        _ => Error::ToolStart { tool, error },
    })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::ToolFailed { tool, object: sample.object(), stderr })
}
