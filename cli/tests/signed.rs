//! Payloads of `relocate --sign-manifest`, signed with openssl, into the running kernel: as far as that goes there.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]
#![expect(unsafe_code, reason = "a system call that no library at hand makes")]

use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use btfleet_engine::ingest::{Intake, KernelFiles, KernelSource};
use btfleet_engine::object::Object;
use btfleet_engine::report::Known;
use btfleet_live::Session;
use btfleet_live::bpf::{self, Errno, Program};
use serde_json::Value;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// Some of its programs have neither maps nor symbols of the kernel.
const OBJECT: &str = "../workloads/samples/objects/tcp_cong.bpf.o";
/// `KEY_SPEC_THREAD_KEYRING`: it is the test's own, and goes with its thread.
const KEYRING: i32 = -1;

const ENOKEY: Errno = Errno(126);
const EKEYREJECTED: Errno = Errno(129);

/// Past the test harness, which keeps what tests print to itself.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

fn skipped(why: &str) {
    say(&format!("SKIPPED: {why}"));
}

/// Runs openssl in a directory; `None` where there is none.
fn openssl(dir: &Path, args: &str) -> Option<bool> {
    let out = Command::new("openssl").args(args.split(' ')).current_dir(dir).output().ok()?;
    if !out.status.success() {
        say(&String::from_utf8_lossy(&out.stderr));
    }
    Some(out.status.success())
}

/// A key with a certificate: `NAME.key`, `NAME.pem` and, as the kernel takes it, `NAME.der`.
fn make_key(dir: &Path, name: &str) -> Option<()> {
    let request = format!(
        "req -x509 -newkey rsa:2048 -nodes -sha256 -days 2 -subj /CN=btfleet-{name} -keyout {name}.key -out {name}.pem"
    );
    assert!(openssl(dir, &request)?);
    assert!(openssl(dir, &format!("x509 -in {name}.pem -outform DER -out {name}.der"))?);
    Some(())
}

/// The signature of a file as kernels take it: detached, of the bytes alone, without certificates.
fn sign(dir: &Path, file: &str, key: &str) -> Vec<u8> {
    let command = format!(
        "cms -sign -binary -nocerts -noattr -md sha256 -in {file} -signer {key}.pem -inkey {key}.key -outform DER -out signature"
    );
    assert_eq!(openssl(dir, &command), Some(true));
    fs::read(dir.join("signature")).unwrap()
}

/// Adds a certificate to the keyring of this thread.
fn trust(certificate: &[u8]) -> std::io::Result<()> {
    let (kind, name): (&CStr, &CStr) = (c"asymmetric", c"btfleet");
    let (at, len) = (certificate.as_ptr(), certificate.len());
    // SAFETY: two strings that end, and as many bytes as are said.
    let key = unsafe { libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), at, len, KEYRING) };
    if key < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Check that payloads are taken as they stand, and, where kernels check signatures, with one of theirs and no other.
#[test]
fn the_running_kernel_takes_what_was_signed() {
    let source = KernelSource::alone(VMLINUX.into(), VMLINUX.into());
    let Ok(files) = KernelFiles::read(&Intake::default(), &source) else {
        return skipped("the running kernel has no BTF");
    };
    let kernel = files.parse().unwrap().0;
    let session = match Session::new(&kernel, Known::new(&kernel, None, None)) {
        Ok(session) => session,
        Err(errno) => return skipped(&format!("bpf() is refused: {errno}")),
    };
    let object = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(OBJECT).canonicalize().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .args(["relocate", "--sign-manifest", "-k", VMLINUX, "-o"])
        .args([&dir.path().join("payloads"), &object])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let statement = fs::read(dir.path().join("payloads/payloads.intoto.json")).unwrap();
    let statement: Value = serde_json::from_slice(&statement).unwrap();
    let programs = statement["predicate"]["objects"][0]["classes"][0]["programs"].as_array().unwrap();
    let file = fs::read(&object).unwrap();
    let object = Object::parse(&file).unwrap();

    let dir = dir.path();
    // Those that nothing is filled into between the signature and the load.
    let whole = programs.iter().filter(|it| it["filled"] == Value::Array(Vec::new()));
    let payloads = whole.map(|program| {
        let file = format!("payloads/{}", program["file"].as_str().unwrap());
        let insns = fs::read(dir.join(&file)).unwrap();
        (program["program"].as_str().unwrap(), file, insns)
    });
    let payloads: Vec<(&str, String, Vec<u8>)> = payloads.collect();
    assert_eq!(payloads.len(), 3);
    let mut unsigned = Vec::new();
    for (name, _, insns) in &payloads {
        let number = object.programs().iter().position(|it| it.name == name.as_bytes()).unwrap();
        let program = match session.loaded_as(&object, number) {
            Ok(known) => Program { insns, license: b"GPL", ..known },
            Err(why) => return skipped(&format!("{name}: {why}")),
        };
        match bpf::load(&program).errno {
            None => unsigned.push(program),
            Some(errno) => panic!("{name}: {errno}\n{}", bpf::log(&program)),
        }
    }

    if make_key(dir, "ours").and_then(|()| make_key(dir, "theirs")).is_none() {
        return skipped("no openssl: nothing can be signed");
    }
    if let Err(error) = trust(&fs::read(dir.join("ours.der")).unwrap()) {
        return skipped(&format!("the running kernel takes no certificate: {error}"));
    }
    for ((name, file, insns), unsigned) in payloads.iter().zip(unsigned) {
        let (ours, theirs) = (sign(dir, file, "ours"), sign(dir, file, "theirs"));
        let verify = "cms -verify -binary -inform DER -in signature -certfile theirs.pem -CAfile theirs.pem -purpose any \
                      -out /dev/null -content";
        assert_eq!(openssl(dir, &format!("{verify} {file}")), Some(true));
        let signed = Program { signature: Some((&ours, KEYRING)), ..unsigned };
        match bpf::load(&signed).errno {
            None => {}
            // E2BIG: before 6.18. EOPNOTSUPP: without CONFIG_SYSTEM_DATA_VERIFICATION.
            Some(errno @ Errno(7 | 95)) => {
                return skipped(&format!(
                    "payloads were taken, but not with a signature: the running kernel checks none: {errno}"
                ));
            }
            Some(errno) => panic!("{name} with its signature: {errno}"),
        }
        let of_others = Program { signature: Some((&theirs, KEYRING)), ..unsigned };
        assert_eq!(bpf::load(&of_others).errno, Some(ENOKEY), "{name}: a key that nobody trusts");
        // `r0 = 0` in the first slot: it may be a program, but not the one that was signed.
        let mut changed = insns.clone();
        changed[..8].copy_from_slice(&[0xb7, 0, 0, 0, 0, 0, 0, 0]);
        let changed = Program { insns: &changed, ..signed };
        assert_eq!(bpf::load(&changed).errno, Some(EKEYREJECTED), "{name}: not what was signed");
    }
    say(&format!("{} payloads were taken with their signatures", payloads.len()));
}
