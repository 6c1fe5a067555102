//! BTF for kernels that have debugging information and none, made by `pahole` as the kernel's own build makes it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use btfleet_engine::dialect::Release;
use btfleet_engine::ingest::{Dwarf, EncodeBtf, Encoded};

use crate::cache::{self, Key};
use crate::output::message;

/// A kernel of a distribution takes a minute or two.
const TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// What is shown of what it says when it fails, in **bytes**.
const WORDS_MAX: u64 = 2000;
const POLL: Duration = Duration::from_millis(50);

/// The `pahole` in the search path.
#[derive(Debug)]
pub(crate) struct Pahole;

/// One at a time: it has threads of its own, and takes some GB.
static ONE: Mutex<()> = Mutex::new(());

/// A version of pahole: 124 is 1.24.
type Version = u32;

/// What a kernel's own build has told pahole since `since`, if pahole is of a version `from` to `to`.
struct Flag {
    since: (u16, u16),
    from: Version,
    to: Version,
    flag: &'static str,
}

/// Flags by release. Source: `scripts/link-vmlinux.sh` up to 5.16, `scripts/pahole-flags.sh` from 5.17 on,
/// `scripts/Makefile.btf` from 6.10 on.
const FLAGS: [Flag; 6] = [
    // pahole cannot do what it was not told to leave out, whatever the kernel.
    Flag { since: (0, 0), from: 118, to: 121, flag: "--skip_encoding_btf_vars" },
    Flag { since: (5, 13), from: 121, to: 125, flag: "--btf_gen_floats" },
    Flag { since: (6, 3), from: 124, to: Version::MAX, flag: "--lang_exclude=rust" },
    Flag { since: (6, 5), from: 125, to: 125, flag: "--skip_encoding_btf_inconsistent_proto" },
    Flag { since: (6, 5), from: 125, to: 125, flag: "--btf_gen_optimized" },
    Flag { since: (0, 0), from: 122, to: Version::MAX, flag: "-j" },
];

/// Features by release, for versions that are told them as one list.
const FEATURES: [((u16, u16), Version, &str); 10] = [
    ((0, 0), 126, "encode_force"),
    ((0, 0), 126, "var"),
    ((5, 13), 126, "float"),
    ((0, 0), 126, "decl_tag"),
    ((0, 0), 126, "type_tag"),
    ((6, 0), 126, "enum64"),
    ((6, 5), 126, "optimized_func"),
    ((6, 5), 126, "consistent_func"),
    ((6, 11), 126, "decl_tag_kfuncs"),
    ((6, 16), 130, "attributes"),
];

/// What pahole of this version is told for a kernel of this release; one that is not known counts as new.
fn flags(release: Option<Release>, version: Version) -> Vec<String> {
    let holds = |since: (u16, u16)| release.is_none_or(|it| (it.major, it.minor) >= since);
    let known = FLAGS.iter().filter(|it| holds(it.since) && (it.from..=it.to).contains(&version));
    let mut flags: Vec<String> = known.map(|it| it.flag.to_owned()).collect();
    if version >= 126 {
        let features = FEATURES.iter().filter(|(since, from, _)| holds(*since) && version >= *from);
        let features: Vec<&str> = features.map(|it| it.2).collect();
        flags.push(format!("--btf_features={}", features.join(",")));
    } else if version >= 124 && !holds((6, 0)) {
        // Kernels before 6.0 do not know that kind; their stable series say so since 1.24 is there.
        flags.push("--skip_encoding_btf_enum64".to_owned());
    }
    flags
}

impl EncodeBtf for Pahole {
    fn encode(&self, dwarf: &Dwarf<'_>) -> Result<Encoded, String> {
        let program = find_program().ok_or(
            "pahole makes BTF of it, and is not installed: it is in the package 'pahole' or 'dwarves' of distributions",
        )?;
        let (version, text) = version(&program)?;
        let release = dwarf.release.and_then(Release::parse);
        let flags = flags(release, version);
        let by = format!("pahole {text}");
        let key =
            flags.iter().fold(Key::new("pahole").with(text.as_bytes()), |key, it| key.with(it.as_bytes()));
        let key = key.with(dwarf.elf);
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(btf) = cache::get(&key) {
            return Ok(Encoded { btf, by });
        }
        let btf = run(&program, &flags, dwarf).map_err(|error| format!("{by}: {error}"))?;
        cache::put(&key, &btf);
        Ok(Encoded { btf, by })
    }
}

fn find_program() -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs)
        .filter(|it| it.is_absolute())
        .map(|it| it.join("pahole"))
        .find(|it| it.is_file())
}

/// The version as a number, and as it is said.
fn version(program: &Path) -> Result<(Version, String), String> {
    let failed = |what: &str| format!("{} --version: {what}", program.display());
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(&error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let (major, minor) = text.trim_start_matches('v').split_once('.').unwrap_or_default();
    match (major.parse::<Version>(), minor.parse::<Version>()) {
        (Ok(major @ 1..=99), Ok(minor @ 0..=99)) if major * 100 + minor >= 122 => {
            Ok((major * 100 + minor, text))
        }
        (Ok(_), Ok(_)) => {
            Err(failed(&format!("{text} is too old, BTF can be had in a file of its own since v1.22")))
        }
        _ => Err(failed("says no version")),
    }
}

/// Runs pahole over a copy: the file may change, be compressed or stand in an archive.
fn run(program: &Path, flags: &[String], dwarf: &Dwarf<'_>) -> Result<Vec<u8>, String> {
    let io = |error: io::Error| error.to_string();
    let dir = tempfile::Builder::new().prefix("btfleet-").tempdir().map_err(io)?;
    let (elf, btf, words) = (dir.path().join("vmlinux"), dir.path().join("btf"), dir.path().join("words"));
    File::create(&elf).and_then(|mut it| it.write_all(dwarf.elf)).map_err(io)?;
    let mut detached = OsString::from("--btf_encode_detached=");
    detached.push(&btf);
    let said = File::create(&words).map_err(io)?;
    let mut child = Command::new(program)
        .args(flags)
        .arg(&detached)
        .arg(OsStr::new(&elf))
        .stdin(Stdio::null())
        .stdout(said.try_clone().map_err(io)?)
        .stderr(said)
        .spawn()
        .map_err(io)?;
    let name = dwarf.path.display();
    let what = format!("{name}: pahole makes its BTF of the debugging information");
    message(&what);
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(io)? {
            Some(status) => break status,
            None if start.elapsed() > TIME_MAX => {
                // What it is doing then is of no use any more, and neither is how it ends.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!("has not ended within {} minutes", TIME_MAX.as_secs() / 60));
            }
            None => std::thread::sleep(POLL),
        }
    };
    let made = fs::read(&btf).unwrap_or_default();
    if status.success() && !made.is_empty() {
        return Ok(made);
    }
    let mut said = Vec::new();
    File::open(&words).and_then(|it| it.take(WORDS_MAX).read_to_end(&mut said)).map_err(io)?;
    let said = String::from_utf8_lossy(&said);
    let said = said.lines().map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ");
    Err(if said.is_empty() {
        format!("made no BTF ({status})")
    } else {
        format!("made no BTF ({status}): {said}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags_for(release: &str, version: Version) -> String {
        flags(Release::parse(release), version).join(" ")
    }

    /// Check that kernels get what their own build would ask for, as far as pahole can do it.
    #[test]
    fn flags_are_those_of_the_kernels_own_build() {
        assert_eq!(flags_for("4.18.0-553.el8", 124), "-j --skip_encoding_btf_enum64");
        assert_eq!(flags_for("5.15.1", 122), "--btf_gen_floats -j");
        assert_eq!(flags_for("5.15.1", 124), "--btf_gen_floats -j --skip_encoding_btf_enum64");
        assert_eq!(flags_for("6.1.0-50", 124), "--btf_gen_floats -j");
        assert_eq!(
            flags_for("6.6.1", 125),
            "--btf_gen_floats --lang_exclude=rust --skip_encoding_btf_inconsistent_proto --btf_gen_optimized -j"
        );
        assert_eq!(flags_for("5.4.0", 127), "-j --btf_features=encode_force,var,decl_tag,type_tag");
        assert_eq!(
            flags_for("6.12.1", 127),
            "--lang_exclude=rust -j --btf_features=encode_force,var,float,decl_tag,type_tag,enum64,optimized_func,\
             consistent_func,decl_tag_kfuncs"
        );
        assert!(flags_for("", 130).ends_with("decl_tag_kfuncs,attributes"));
    }
}
