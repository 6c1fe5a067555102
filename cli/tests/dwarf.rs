//! Kernels with nothing but debugging information: what is said, what pahole is asked for, and that it is asked once.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::print_stderr, reason = "the one way for a test to say that it skips")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// An ELF file for x86-64 with these sections.
fn elf(sections: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let (mut names, mut body, mut table) = (b"\0.shstrtab\0".to_vec(), Vec::new(), vec![0; 64]);
    let mut add = |name: usize, kind: u32, flags: u64, data: &[u8]| {
        table.extend(u32::try_from(name).unwrap().to_le_bytes());
        table.extend(kind.to_le_bytes());
        for field in [flags, 0, 64 + body.len() as u64, data.len() as u64, 0, 1, 0] {
            table.extend(field.to_le_bytes());
        }
        body.extend(data);
    };
    for (name, flags, data) in sections {
        add(names.len(), 1, *flags, data);
        names.extend(name.bytes().chain([0]));
    }
    add(1, 3, 0, &names);
    let count = u16::try_from(sections.len() + 2).unwrap();
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for field in [0, 0, 64 + body.len() as u64] {
        out.extend(field.to_le_bytes());
    }
    out.extend([0; 4]);
    for field in [64, 0, 0, 64, count, count - 1] {
        out.extend(u16::to_le_bytes(field));
    }
    [out, body, table].concat()
}

/// A kernel's BTF: an int.
const BTF: &[u8] =
    b"\x9f\xeb\x01\0\x18\0\0\0\0\0\0\0\x10\0\0\0\x10\0\0\0\x05\0\0\0\x01\0\0\0\0\0\0\x01\x04\0\0\0\x20\0\0\x01\0int\0";

/// A kernel with debugging information, a pahole that gives [`BTF`] and notes how it was called, and a cache.
struct Place(TempDir);

impl Place {
    fn new(release: &str, version: &str) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        let banner = format!("Linux version {release} (who@where)\n\0");
        let kernel = elf(&[(".rodata", 2, banner.as_bytes()), (".debug_info", 0, b"debugging information")]);
        fs::write(this.path("vmlinux"), kernel).unwrap();
        fs::write(this.path("btf"), BTF).unwrap();
        fs::create_dir(this.path("bin")).unwrap();
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in --version) echo {version}; exit;; esac\necho \"$@\" >> {calls}\n\
             [ -e {broken} ] && {{ echo 'no such thing' >&2; exit 1; }}\n\
             for it; do case \"$it\" in --btf_encode_detached=*) cp {btf} \"${{it#*=}}\";; esac; done\n",
            calls = this.path("calls"),
            broken = this.path("broken"),
            btf = this.path("btf"),
        );
        let program = this.path("bin/pahole");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        this
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs `btfleet` with that pahole and `args`, where `@` stands for the directory.
    fn run(&self, args: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.path("bin"));
        self.command(args).env("PATH", path).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btfleet"));
        command
            .args(args.iter().map(|it| it.replace('@', &self.path(""))))
            .env("BTFLEET_CACHE", self.path("cache"));
        command
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn cached(&self) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.path("cache")).into_iter().flatten();
        entries.map(|it| it.unwrap().path()).collect()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Check that such a kernel's BTF is external, says what made it, and is made once.
#[test]
fn pahole_is_run_once_and_named() {
    let place = Place::new("5.15.3-x", "v1.24");
    let added = place.run(&["pack", "add", "@one.pack", "@vmlinux"]);
    assert!(added.status.success(), "{}", stderr(&added));
    let listed = stdout(&place.run(&["pack", "ls", "@one.pack", "--format", "jsonl"]));
    assert!(listed.contains("\"btf\":\"external\""), "{listed}");
    assert!(
        listed.contains("(BTF made by pahole v1.24)") && listed.contains("\"release\":\"5.15.3-x\""),
        "{listed}"
    );
    let [call] = &place.calls()[..] else { panic!("one call") };
    assert!(
        call.starts_with("--btf_gen_floats -j --skip_encoding_btf_enum64 --btf_encode_detached="),
        "{call}"
    );

    let again = place.run(&["pack", "add", "@two.pack", "@vmlinux"]);
    assert!(again.status.success() && place.calls().len() == 1, "{}", stderr(&again));
    // Another version may make other BTF.
    let script = fs::read_to_string(place.path("bin/pahole")).unwrap().replace("v1.24", "v1.25");
    fs::write(place.path("bin/pahole"), script).unwrap();
    assert!(place.run(&["pack", "add", "@three.pack", "@vmlinux"]).status.success());
    assert_eq!((place.calls().len(), place.cached().len()), (2, 2));
}

/// Check that a damaged entry counts as none, and is replaced.
#[test]
fn damaged_entries_are_made_again() {
    let place = Place::new("6.1.0", "v1.24");
    for (round, damage) in [&[][..], b"cut", &[0; 80]].into_iter().enumerate() {
        assert!(place.run(&["pack", "add", &format!("@{round}.pack"), "@vmlinux"]).status.success());
        let [entry] = &place.cached()[..] else { panic!("one entry") };
        assert_eq!(&fs::read(entry).unwrap()[32..], BTF);
        assert_eq!(place.calls().len(), round + 1);
        fs::write(entry, damage).unwrap();
    }
}

/// Check that without pahole the message says how to get it, and that what it says when it fails is passed on.
#[test]
fn what_cannot_be_made_is_told() {
    let place = Place::new("6.1.0", "v1.24");
    let none =
        place.command(&["pack", "add", "@x.pack", "@vmlinux"]).env("PATH", "/nowhere").output().unwrap();
    assert_eq!(none.status.code(), Some(3));
    let told = stderr(&none);
    assert!(
        told.contains("an ELF file with debugging information and no .BTF section")
            && told.contains("package 'pahole'"),
        "{told}"
    );
    fs::write(place.path("broken"), "").unwrap();
    let failed = place.run(&["pack", "add", "@x.pack", "@vmlinux"]);
    assert_eq!(failed.status.code(), Some(3));
    assert!(stderr(&failed).contains("made no BTF (exit status: 1): no such thing"), "{}", stderr(&failed));
    assert_eq!(place.cached().len(), 0);
    let old = Place::new("6.1.0", "v1.21");
    assert!(stderr(&old.run(&["pack", "add", "@x.pack", "@vmlinux"])).contains("v1.21 is too old"));
}

/// Check that a cache that cannot be used is said once, and that the run goes on.
#[test]
fn there_may_be_no_cache() {
    let place = Place::new("6.1.0", "v1.24");
    fs::write(place.path("file"), "").unwrap();
    let added = place.run(&["--cache-dir", "@file/x", "pack", "add", "@x.pack", "@vmlinux"]);
    assert!(added.status.success(), "{}", stderr(&added));
    assert_eq!(stderr(&added).matches("goes on without a cache").count(), 1, "{}", stderr(&added));
}

/// Check that `cache gc` removes what was used longest ago and leaves what is not its own.
#[test]
fn gc_removes_what_was_used_longest_ago() {
    let place = Place::new("6.1.0", "v1.24");
    let name = |digit: &str| format!("{}.btf", digit.repeat(64));
    fs::create_dir(place.path("cache")).unwrap();
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    for (digit, age) in [("a", 0), ("b", 3), ("c", 10)] {
        let path = Path::new(&place.path("cache")).join(name(digit));
        fs::write(&path, [0; 100]).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(now - day * age).unwrap();
    }
    fs::write(place.path("cache/notes.txt"), "mine").unwrap();
    let left = || {
        let mut names: Vec<String> = place
            .cached()
            .iter()
            .map(|it| it.file_name().unwrap().to_str().unwrap().chars().take(1).collect())
            .collect();
        names.sort();
        names.concat()
    };
    assert!(stdout(&place.run(&["cache", "gc"])).starts_with("0 files removed"));
    let old = stdout(&place.run(&["cache", "gc", "--max-age", "7"]));
    assert!(old.contains(&name("c")) && old.contains("1 file removed, 100 bytes; 200 bytes kept"), "{old}");
    assert_eq!(left(), "abn");
    let much = stdout(&place.run(&["cache", "gc", "--max-size", "150"]));
    assert!(much.contains(&name("b")) && left() == "an", "{much}");
}

/// Check what the pahole of this machine makes of a small program, if there are it and a compiler.
#[test]
fn a_real_pahole_makes_btf() {
    let place = Place::new("6.1.0", "v1.24");
    fs::write(place.path("a.c"), "struct thing { int one; long two; } g; int main(void) { return g.one; }\n")
        .unwrap();
    let runs = |program: &str, args: &[String]| {
        Command::new(program).args(args).output().is_ok_and(|it| it.status.success())
    };
    let compile = ["-g".to_owned(), "-o".to_owned(), place.path("program"), place.path("a.c")];
    if !runs("pahole", &["--version".to_owned()]) || !runs("cc", &compile) {
        eprintln!("SKIPPED: no pahole, or no C compiler, on this machine");
        return;
    }
    let added = place.command(&["pack", "add", "@x.pack", "@program"]).output().unwrap();
    assert!(added.status.success(), "{}", stderr(&added));
    let listed = stdout(&place.command(&["pack", "ls", "@x.pack", "--format", "jsonl"]).output().unwrap());
    assert!(listed.contains("\"btf\":\"external\"") && listed.contains("BTF made by pahole v"), "{listed}");
}
