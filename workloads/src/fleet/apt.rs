//! apt with a state of its own: what it downloads and remembers stays in one directory, and of the machine's
//! configuration only what says how to get at packages is used.
//!
//! There is one state per suite and architecture. So a suite that the archive does not have costs only
//! itself, the version in a suite is never mixed up with that in another, and apt has little to read for
//! each download.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use super::list::Suite;
use super::sources::Sources;
use super::{Error, write_file};

const GET: &str = "apt-get";
const CONFIG: &str = "apt-config";

/// A part of every Debian's apt that is not on the path.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// Package lists younger than this are not fetched again, so that an interrupted run resumes at once.
const FRESH: Duration = Duration::from_secs(3600);

/// Settings of the machine that would get in the way: which lists are fetched, and how they are kept.
const NOT_COPIED: [&str; 4] =
    ["Acquire::IndexTargets", "Acquire::Languages", "Acquire::GzipIndexes", "Acquire::PDiffs"];

/// A package as a package list describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// Of the package, in bytes.
    pub(super) size: u64,
    /// Of the package, in lower-case hexadecimal.
    pub(super) sha256: String,
}

/// The private state for one suite and architecture.
#[derive(Debug)]
pub(super) struct Apt {
    dir: PathBuf,
}

/// What of the machine's configuration applies to downloads: proxies, timeouts, certificates.
///
/// # Errors
/// If apt is not installed or does not answer.
pub(super) fn download_settings() -> Result<String, Error> {
    let mut command = Command::new(CONFIG);
    command.arg("dump");
    let dump = run(CONFIG, &mut command)?;
    let is_copied = |line: &&str| {
        line.starts_with("Acquire::") && !NOT_COPIED.iter().any(|prefix| line.starts_with(prefix))
    };
    Ok(dump.lines().filter(is_copied).map(|line| format!("{line}\n")).collect())
}

impl Apt {
    /// Sets up the state in `dir`, which must be absolute. `settings` are from [`download_settings`].
    ///
    /// Returns `None` if the machine has no source that could have the suite.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn new(
        dir: PathBuf,
        suite: &Suite,
        sources: &Sources,
        settings: &str,
    ) -> Result<Option<Apt>, Error> {
        let Some(stanza) = sources.stanza(&suite.name, &suite.architecture) else { return Ok(None) };
        for name in ["lists/partial", "cache/archives/partial", "log"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(|error| Error::Write { path, error })?;
        }
        write_file(&dir.join("status"), b"")?;
        write_file(&dir.join("mirror.sources"), stanza.as_bytes())?;
        let text = config(&dir, &suite.architecture, settings);
        let path = dir.join("apt.conf");
        write_file(&path, text.as_bytes())?;
        // Proxies may have passwords.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(|error| Error::Write { path, error })?;
        Ok(Some(Apt { dir }))
    }

    /// Fetches the package list, unless there is one that is fresh.
    ///
    /// # Errors
    /// [`Error::ToolFailed`] with apt's own words if the suite is not to be had.
    pub(super) fn update(&self) -> Result<(), Error> {
        let stamp = self.dir.join("updated");
        let age =
            fs::metadata(&stamp).and_then(|it| it.modified()).map(|it| SystemTime::now().duration_since(it));
        if matches!(age, Ok(Ok(age)) if age < FRESH) {
            return Ok(());
        }
        run(GET, self.command(GET).args(["-q", "update"]))?;
        write_file(&stamp, b"")
    }

    /// All packages of the suite whose name `wanted` asks for.
    ///
    /// # Errors
    /// If there is no package list, or it cannot be read.
    pub(super) fn packages(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Package>, Error> {
        let mut query = self.command(GET);
        let query = query.args(["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]);
        let files = run(GET, query)?;
        let mut packages = Vec::new();
        for file in files.lines() {
            let mut helper = self
                .command(HELPER)
                .args(["cat-file", file])
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| start_error(HELPER, error))?;
            if let Some(stdout) = helper.stdout.take() {
                parse_list(BufReader::new(stdout), &wanted, &mut packages)
                    .map_err(|error| Error::Read { path: file.into(), error })?;
            }
            let _ = helper.wait(); // It was read to its end.
        }
        self.drop_cache();
        Ok(packages)
    }

    /// Downloads a package into `dir`, which must be empty, and returns the file.
    ///
    /// apt checks it against the package list, and that against the archive's signature. `progress` is
    /// called now and then with the number of bytes that have arrived.
    ///
    /// # Errors
    /// [`Error::ToolFailed`] with apt's own words, for instance if the archive no longer has the package.
    pub(super) fn download(
        &self,
        package: &Package,
        dir: &Path,
        progress: impl Fn(u64),
    ) -> Result<PathBuf, Error> {
        let mut command = self.command(GET);
        command.args(["-q", "download", &format!("{}={}", package.name, package.version)]).current_dir(dir);
        // apt prints a few lines only, which fit into a pipe that nobody reads meanwhile.
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| start_error(GET, error))?;
        let status = loop {
            match child.try_wait().map_err(|error| start_error(GET, error))? {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(20)),
            }
            progress(files(dir).first().and_then(|it| it.metadata().ok()).map_or(0, |it| it.len()));
        };
        let mut stderr = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            let _ = pipe.read_to_string(&mut stderr); // Only for the message.
        }
        match files(dir).into_iter().find(|it| it.extension().is_some_and(|it| it == "deb")) {
            Some(file) if status.success() => Ok(file),
            _ => Err(Error::ToolFailed { tool: GET, stderr: errors_in(&stderr) }),
        }
    }

    /// Throws away what apt can make again from the lists; it is large.
    pub(super) fn drop_cache(&self) {
        let _ = fs::remove_file(self.dir.join("cache/pkgcache.bin")); // It may not have made one.
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C");
        command
    }
}

/// The configuration. `APT_CONFIG` is read first of all, so it can turn off the machine's own files, whose
/// hooks would work on the machine's state.
fn config(dir: &Path, architecture: &str, settings: &str) -> String {
    // A quote in a directory's name has no place in apt's syntax.
    let dir = dir.display().to_string().replace('"', "");
    format!(
        "Dir::Etc::main \"/dev/null\";
Dir::Etc::parts \"/dev/null\";
Dir::Etc::sourcelist \"{dir}/mirror.sources\";
Dir::Etc::sourceparts \"/dev/null\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
Dir::State \"{dir}\";
Dir::State::lists \"{dir}/lists\";
Dir::State::status \"{dir}/status\";
Dir::Cache \"{dir}/cache\";
Dir::Cache::srcpkgcache \"\";
Dir::Log \"{dir}/log\";
APT::Architecture \"{architecture}\";
APT::Architectures {{ \"{architecture}\"; }};
Acquire::Languages \"none\";
Acquire::GzipIndexes \"true\";
Acquire::PDiffs \"false\";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled \"false\";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled \"false\";
{settings}"
    )
}

/// Reads the paragraphs of a package list, and adds those that are wanted.
fn parse_list(
    mut list: impl BufRead,
    wanted: impl Fn(&str) -> bool,
    packages: &mut Vec<Package>,
) -> std::io::Result<()> {
    let mut fields: [String; 4] = Default::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let is_end = list.read_until(b'\n', &mut line)? == 0;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            let [name, version, size, sha256] = std::mem::take(&mut fields);
            if let (true, Ok(size)) = (!version.is_empty() && wanted(&name), size.parse()) {
                packages.push(Package { name, version, size, sha256 });
            }
        }
        for (field, name) in fields.iter_mut().zip(["Package: ", "Version: ", "Size: ", "SHA256: "]) {
            if let Some(value) = text.strip_prefix(name) {
                value.clone_into(field);
            }
        }
        if is_end {
            return Ok(());
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map_or(Vec::new(), |entries| entries.filter_map(|it| Some(it.ok()?.path())).collect())
}

/// Runs a tool to its end and returns what it printed.
fn run(tool: &'static str, command: &mut Command) -> Result<String, Error> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| start_error(tool, error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::ToolFailed { tool, stderr: errors_in(&String::from_utf8_lossy(&output.stderr)) })
}

/// apt's errors, without its warnings.
fn errors_in(stderr: &str) -> String {
    let errors: Vec<_> = stderr.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    if errors.is_empty() { stderr.trim().to_owned() } else { errors.join("; ") }
}

fn start_error(tool: &'static str, error: std::io::Error) -> Error {
    Error::ToolStart { tool, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_paragraphs_of_a_package_list_are_read() {
        let list = "Package: a\nVersion: 1:2-3\nDescription: x\n Size: 9\nSize: 10\nSHA256: 0f\n\n\
                    Package: b\nVersion: 1\nSize: 5\nSHA256: 00\n\nPackage: a\nVersion: 2\nSize: 7";
        let mut packages = Vec::new();
        parse_list(list.as_bytes(), |name| name == "a", &mut packages).unwrap();
        let package = |version: &str, size, sha256: &str| Package {
            name: "a".to_owned(),
            version: version.to_owned(),
            size,
            sha256: sha256.to_owned(),
        };
        assert_eq!(packages, [package("1:2-3", 10, "0f"), package("2", 7, "")]);
    }

    #[test]
    fn only_errors_of_apt_are_shown() {
        assert_eq!(errors_in("W: sandbox\nE: one\nE: two\n"), "one; two");
        assert_eq!(errors_in("killed\n"), "killed");
    }
}
