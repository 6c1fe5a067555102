//! Kernels in packages, in archives and where distributions install them.

use std::fs;
use std::path::PathBuf;

use btfleet_engine::ingest::{InputCode, InputError, Intake, KernelFiles, Limits, kernels_in};
use btfleet_tests::build::archive::{Entry, ar, cpio, deb, deb_that_says, rpm, rpm_that_says, tar, zstd_of};
use btfleet_tests::build::{BtfBuilder, ByteOrder, Member};

use tempfile::TempDir;

const RELEASE: &str = "6.1.0-47-amd64";

/// The BTF of a kernel, that of a module of it, and an ELF file without BTF.
struct Sample {
    vmlinux: Vec<u8>,
    module: Vec<u8>,
    plain: Vec<u8>,
}

fn sample() -> Sample {
    let mut vmlinux = BtfBuilder::new(ByteOrder::Little);
    let int = vmlinux.int("int", 4, 0);
    vmlinux.structure("task_struct", 4, &[Member::new("pid", int, 0)]);
    let mut module = BtfBuilder::split(&vmlinux);
    module.typedef("of_the_module", int);
    // Header of an ELF file for x86-64 without sections.
    let mut plain = b"\x7fELF\x02\x01\x01".to_vec();
    plain.resize(64, 0);
    for (at, byte) in [(16, 1), (18, 62), (20, 1), (52, 64), (58, 64)] {
        if let Some(to) = plain.get_mut(at) {
            *to = byte;
        }
    }
    Sample { vmlinux: vmlinux.finish(), module: module.finish(), plain }
}

/// The files of a package with a kernel.
fn files(sample: &Sample) -> Vec<(String, Vec<u8>)> {
    let module = |name: &str| format!("lib/modules/{RELEASE}/kernel/drivers/{name}");
    vec![
        (format!("boot/config-{RELEASE}"), b"CONFIG_HZ=250\n".to_vec()),
        (module("b-two.ko.zst"), zstd_of(&sample.module)),
        (format!("boot/vmlinuz-{RELEASE}"), sample.vmlinux.clone()),
        (module("a.ko"), sample.module.clone()),
        (module("none.ko"), sample.plain.clone()),
        ("usr/share/doc/README".to_owned(), b"text".to_vec()),
    ]
}

fn entries(files: &[(String, Vec<u8>)]) -> Vec<Entry<'_>> {
    files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect()
}

fn write(dir: &TempDir, name: &str, data: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, data).expect("writable");
    path
}

type Read = Vec<Result<KernelFiles, InputError>>;

fn read(paths: &[PathBuf]) -> Read {
    kernels_in(&Intake::default(), paths, false)
}

/// Names of the only kernel's modules, all parsed.
fn modules(read: &Read) -> Vec<String> {
    let [Ok(files)] = read.as_slice() else { panic!("one kernel: {read:?}") };
    assert_eq!(files.defects, []);
    let (kernel, defects) = files.parse().expect("valid BTF");
    assert_eq!(defects, []);
    kernel.modules.iter().map(|it| it.name.clone()).collect()
}

fn only_error(read: &Read) -> &InputError {
    let [Err(error)] = read.as_slice() else { panic!("one error: {read:?}") };
    error
}

/// Check that every kind of archive gives the kernel, its configuration and its modules in order: those without BTF are
/// none of its modules.
#[test]
fn a_kernel_comes_out_of_every_archive() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = files(&sample());
    let files = entries(&files);
    let within = deb(&files);
    for (name, data) in [
        ("linux.deb", deb(&files)),
        ("linux.rpm", rpm(&files)),
        ("linux.tar", tar(&files)),
        ("linux.tar.zst", zstd_of(&tar(&files))),
        ("linux.cpio", cpio(&files)),
        ("linux.cpio.zst", zstd_of(&cpio(&files))),
        ("packages.tar", tar(&[("pool/linux.deb", &within), ("README", b"text")])),
    ] {
        let path = write(&dir, name, &data);
        let read = read(std::slice::from_ref(&path));
        assert_eq!(modules(&read), ["a", "b_two"], "{name}");
        let Some(Ok(kernel)) = read.first() else { panic!("a kernel") };
        let nested = if name == "packages.tar" { "!/pool/linux.deb" } else { "" };
        assert_eq!(kernel.name, format!("{}{nested}!/boot/vmlinuz-{RELEASE}", path.display()));
        let facts = kernel.facts();
        assert_eq!((facts.release.as_str(), facts.distribution.as_str()), (RELEASE, "debian"));
        let (parsed, _) = kernel.parse().expect("valid BTF");
        assert!(parsed.kconfig.is_some(), "{name}");
    }
}

/// Check that the package says of which distribution a kernel is where the kernel's name does not, each in an archive of
/// packages for itself; and that a broken control file is none.
#[test]
fn packages_say_of_which_distribution_a_kernel_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let vmlinux = sample().vmlinux;
    let ubuntu =
        "Package: linux-image\nArchitecture: amd64\nMaintainer: Ubuntu Kernel Team <k@lists.ubuntu.com>\n";
    let debian =
        "Maintainer: Debian Kernel Team <debian-kernel@lists.debian.org>\nVersion: 6.12.43-1~bpo12+1\n";
    let image = |release: &str| format!("boot/vmlinuz-{release}");
    let (generic, cloud) = (image("6.8.0-50-generic"), image("6.12.43-cloud-amd64"));
    let (el, plain) = (image("5.14.0-427.el9.x86_64"), image("6.4.0"));
    let newer = format!("{ubuntu}Version: 6.8.0-50.51\n");
    let of_ubuntu = deb_that_says(&newer, &[(&generic, &vmlinux)]);
    let of_debian = deb_that_says(debian, &[(&cloud, &vmlinux)]);
    let of_nobody = deb_that_says("Maintainer", &[(&plain, &vmlinux)]);
    let suse = [(1010, "SUSE Linux Enterprise 15"), (1011, "SUSE LLC"), (1022, "s390x")];
    let of_suse = rpm_that_says(&suse, &[(&plain, &vmlinux)]);
    let of_alma = rpm_that_says(&[(1011, "AlmaLinux"), (1002, "427.el9")], &[(&el, &vmlinux)]);
    let broken = ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar", b"no tar archive, and odd"),
        ("data.tar", &tar(&[(&generic, &vmlinux)])),
    ]);
    let mut cut_off = of_suse.clone();
    // The texts of its header are said to be elsewhere.
    cut_off
        .iter_mut()
        .skip(96 + 16 + 48 + 37 + 3 + 16 + 16 + 8)
        .step_by(16)
        .take(3)
        .for_each(|it| *it = 0xff);
    let all = tar(&[("a.deb", &of_ubuntu), ("b.deb", &of_debian), ("c.rpm", &of_suse), ("d.deb", &broken)]);
    for (name, data, want) in [
        ("ubuntu.deb", of_ubuntu.as_slice(), vec![("ubuntu 24.04", "amd64")]),
        ("debian.deb", &of_debian, vec![("debian 12", "amd64")]),
        ("nobody.deb", &of_nobody, vec![("", "")]),
        ("suse.rpm", &of_suse, vec![("sles 15", "s390x")]),
        ("alma.rpm", &of_alma, vec![("el 9", "x86_64")]),
        ("broken.deb", &broken, vec![("", "")]),
        ("cut.rpm", &cut_off, vec![("", "")]),
        ("all.tar", &all, vec![("debian 12", "amd64"), ("sles 15", "s390x"), ("ubuntu 24.04", "amd64")]),
    ] {
        let read = read(&[write(&dir, name, data)]);
        let facts = read.iter().map(|it| it.as_ref().expect("a kernel").facts());
        let found: Vec<_> = facts.map(|it| (it.distribution, it.architecture)).collect();
        let found: Vec<_> = found.iter().map(|it| (it.0.as_str(), it.1.as_str())).collect();
        assert_eq!(found, want, "{name}");
    }
}

/// Check that packages of one kernel are put together, and that a part without the kernel says what is missing.
#[test]
fn parts_of_a_kernel_are_put_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = files(&sample());
    let (image, rest): (Vec<Entry<'_>>, Vec<Entry<'_>>) =
        entries(&files).into_iter().partition(|it| it.0.contains("vmlinuz"));
    let image = write(&dir, "image.deb", &deb(&image));
    let rest = write(&dir, "modules.rpm", &rpm(&rest));
    assert_eq!(modules(&read(&[image.clone(), rest.clone()])), ["a", "b_two"]);
    assert_eq!(modules(&read(&[rest.clone(), image.clone()])), ["a", "b_two"]);
    assert_eq!(modules(&read(&[image])), [""; 0]);
    let error = read(&[rest]);
    let error = only_error(&error);
    assert_eq!(error.code, InputCode::TargetBtfMissing);
    assert!(error.what.contains(RELEASE) && error.what.contains("not the kernel itself"), "{error}");
}

/// Check that archives of BTF by itself give a kernel for each file, as BTFHub's do.
#[test]
fn btf_by_itself_is_a_kernel() {
    let dir = tempfile::tempdir().expect("a directory");
    let vmlinux = sample().vmlinux;
    let packed = zstd_of(&vmlinux);
    let archive =
        tar(&[("./5.4.0-91-generic.btf", &vmlinux), ("5.4.0-92-generic.btf.zst", &packed), ("x", b"y")]);
    let path = write(&dir, "hub.btf.tar.zst", &zstd_of(&archive));
    let read = read(std::slice::from_ref(&path));
    let names: Vec<&str> = read.iter().map(|it| it.as_ref().expect("a kernel").name.as_str()).collect();
    let name = |inner: &str| format!("{}!/{inner}", path.display());
    assert_eq!(names, [name("5.4.0-91-generic.btf"), name("5.4.0-92-generic.btf.zst")]);
}

/// Check that an archive that is cut anywhere is an error or gives what stood before, and that nothing panics.
#[test]
fn cut_archives_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = files(&sample());
    let files = entries(&files);
    for (name, whole) in
        [("a.deb", deb(&files)), ("a.rpm", rpm(&files)), ("a.tar", tar(&files)), ("a.cpio", cpio(&files))]
    {
        let end = if name == "a.tar" { whole.len() - 1024 } else { whole.len() };
        for len in (1..end).step_by(whole.len() / 97 + 1) {
            let path = write(&dir, name, whole.get(..len).unwrap_or_default());
            let read = read(&[path]);
            let is_error = read.iter().any(|it| match it {
                Err(_) => true,
                Ok(kernel) => !kernel.defects.is_empty(),
            });
            assert!(is_error, "{name} cut to {len} of {}: {read:?}", whole.len());
        }
    }
}

/// Check that each limit is an error that names the option that raises it, and the member it was met at.
#[test]
fn limits_hold() {
    let dir = tempfile::tempdir().expect("a directory");
    let bomb = zstd_of(&vec![0; 64 << 20]);
    let inner = tar(&[("boot/vmlinuz-6.1", &bomb)]);
    let nested = (0..5).fold(inner, |inner, _| tar(&[("a.tar", &inner)]));
    let many: Vec<String> = (0..200).map(|it| format!("lib/modules/6.1/kernel/{it}.ko")).collect();
    let many: Vec<Entry<'_>> = many.iter().map(|it| (it.as_str(), b"x".as_slice())).collect();
    let limits = Limits { expanded: 1 << 20, archive: 1 << 21, members: 100, nesting: 3 };
    for (name, data, want, at) in [
        ("expanded.tar", tar(&[("boot/vmlinuz-6.1", &bomb)]), "max-expanded", "boot/vmlinuz-6.1"),
        ("archive.tar.zst", zstd_of(&tar(&[("x", &vec![1; 4 << 20])])), "max-archive", "archive.tar.zst"),
        ("members.rpm", rpm(&many), "max-members", "members.rpm"),
        ("nesting.tar", nested, "max-nesting", "a.tar!/a.tar"),
    ] {
        let path = write(&dir, name, &data);
        let read = kernels_in(&Intake { limits, ..Intake::default() }, &[path], false);
        let errors: Vec<&InputError> = read.iter().filter_map(|it| it.as_ref().err()).collect();
        let told = errors.iter().any(|it| {
            it.code == InputCode::OverLimit
                && it.what.contains(want)
                && it.path.to_string_lossy().contains(at)
        });
        assert!(told, "{name}: {read:?}");
    }
}

/// Check that what is no archive of a kernel says so.
#[test]
fn other_files_are_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, data, code) in [
        ("empty.tar", tar(&[("README", b"text")]), InputCode::TargetBtfMissing),
        ("thin.a", b"!<thin>\n".to_vec(), InputCode::Unreadable),
        ("short.deb", ar(&[("debian-binary", b"2.0\n")]), InputCode::Unreadable),
    ] {
        let read = read(&[write(&dir, name, &data)]);
        assert_eq!(only_error(&read).code, code, "{name}");
    }
    assert_eq!(only_error(&read(&[PathBuf::from("/dev/null")])).what, "is not a regular file");
    assert_eq!(only_error(&read(&[dir.path().join("absent")])).code, InputCode::Unreadable);
    assert_eq!(kernels_in(&Intake::default(), &[write(&dir, "x.tar", &tar(&[("x", b"y")]))], true).len(), 0);
}
