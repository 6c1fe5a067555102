//! Modules that were built against another vmlinux: told apart from those of the kernel that they are given with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use btfleet_engine::btf::Btf;
use btfleet_engine::ingest::{InputCode, Intake, KernelFiles};
use btfleet_tests::build::image::{ELF_RELOCATABLE, ELF_X86_64, ElfSection, elf, vmlinux};
use btfleet_tests::build::{BtfBuilder, ByteOrder, Member};
use btfleet_tests::{say, skip};

/// A kernel, with `before` types and strings that others do not have in front.
fn kernel(before: &dyn Fn(&mut BtfBuilder)) -> BtfBuilder {
    let mut btf = BtfBuilder::new(ByteOrder::Little);
    before(&mut btf);
    let int = btf.int("int", 4, 1);
    let long = btf.int("long_name_of_a_type", 8, 1);
    let proto = btf.func_proto(int, &[("one", int)]);
    btf.func("a_function", proto, 1);
    btf.structure("large", 64, &[Member::new("first", long, 0)]);
    btf.ptr(long);
    btf
}

#[track_caller]
fn check(base: &BtfBuilder, split: &BtfBuilder, want: Option<&str>) {
    let (base, split) = (base.finish(), split.finish());
    let base = Arc::new(Btf::parse(&base).unwrap());
    let found = Btf::parse_split(&split, base).and_then(|it| it.check_base()).err().map(|it| it.to_string());
    match (&found, want) {
        (None, None) => {}
        (Some(found), Some(want)) if found.contains(want) => {}
        _ => panic!("{found:?} is not {want:?}"),
    }
}

/// Check that each sign of another base is seen, and none where the base is the module's.
#[test]
fn each_sign_of_another_base_is_seen() {
    let mut own = kernel(&|_| {});
    let name = own.str("long_name_of_a_type");
    let by_name = |btf: &mut BtfBuilder| {
        // A typedef with the name of the kernel's type, not one of its own.
        btf.raw(&[name, 8 << 24, 1]);
    };
    let mut split = BtfBuilder::split(&own);
    by_name(&mut split);
    check(&own, &split, None);
    let renamed = kernel(&|btf| {
        btf.str("abcdef");
    });
    check(&renamed, &split, Some("in the middle of a name"));

    for (what, make) in [
        ("no integer", (&|btf: &mut BtfBuilder| btf.array(1, 1, 3)) as &dyn Fn(&mut BtfBuilder) -> u32),
        ("too large", &|btf| btf.structure("s", 8, &[Member::new("m", 2, 0)])),
        ("too large", &|btf| btf.union("u", 4, &[Member::new("m", 1, 0)])),
        ("function or variable", &|btf| btf.ptr(3)),
    ] {
        let mut split = BtfBuilder::split(&own);
        make(&mut split);
        check(&own, &split, None);
        // The same ids with other types: what were ints are structs, what was a prototype is a function.
        let mut other = BtfBuilder::new(ByteOrder::Little);
        other.structure("s1", 64, &[]);
        other.structure("s2", 64, &[]);
        let after = other.next_id() + 1;
        other.func("f", after, 1);
        other.func_proto(0, &[]);
        other.structure("s5", 64, &[]);
        other.ptr(0);
        for text in ["a", "long_name_of_a_type", "b", "some more text", "large", "first", "one", "int"] {
            other.str(text);
        }
        check(&other, &split, Some(what));
    }
}

/// Check that a module that says it was built for another release is left out, and noted.
#[test]
fn another_release_is_noted() {
    let base = kernel(&|_| {});
    let mut split = BtfBuilder::split(&base);
    split.typedef("of_the_module", 1);
    let image = vmlinux("6.1.0-1", None, Some(&base.finish()));
    let module = |release: &str| {
        let info = format!("vermagic={release} SMP mod_unload \0");
        let split = split.finish();
        elf(
            ELF_RELOCATABLE,
            ELF_X86_64,
            &[ElfSection::loaded(".modinfo", info.as_bytes()), ElfSection::new(".BTF", &split)],
        )
    };
    let mut files = KernelFiles::of_bytes(&Intake::default(), "k", Path::new("vmlinux"), image).unwrap();
    files.add_module(Path::new("good.ko"), module("6.1.0-1"));
    files.add_module(Path::new("bad.ko"), module("6.1.0-2"));
    let [defect] = &files.defects[..] else { panic!("{:?}", files.defects) };
    assert_eq!(defect.code, InputCode::ModuleUnavailable);
    assert_eq!(defect.to_string(), "bad.ko: it was built for 6.1.0-2, and the kernel is 6.1.0-1");
    let (kernel, defects) = files.parse().unwrap();
    assert_eq!((kernel.modules.len(), defects), (1, Vec::new()));
}

/// All modules of a fleet that `btfleet-workloads fetch` made, on their kernels and on all others. `BTFLEET_FLEET` names
/// its directory.
#[test]
fn modules_of_a_real_fleet_are_of_their_kernel() {
    let Some(fleet) = std::env::var_os("BTFLEET_FLEET").map(PathBuf::from) else {
        skip("BTFLEET_FLEET names no directory with a fetched fleet");
        return;
    };
    let files_of = |dir: PathBuf| {
        let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
        files.sort();
        files.retain(|it| it.extension().is_some_and(|it| it == "btf") || it.is_dir());
        files
    };
    let kernels: Vec<(PathBuf, Vec<u8>)> =
        files_of(fleet.join("kernels")).into_iter().map(|it| (it.clone(), fs::read(it).unwrap())).collect();
    let kernels: BTreeMap<&str, Arc<Btf<'_>>> = kernels
        .iter()
        .map(|(path, data)| {
            (path.file_stem().unwrap().to_str().unwrap(), Arc::new(Btf::parse(data).unwrap()))
        })
        .collect();
    let (mut own, mut foreign, mut parsed, mut missed) = (0, 0, 0, Vec::new());
    for dir in files_of(fleet.join("modules")) {
        let release = dir.file_name().unwrap().to_str().unwrap();
        let modules = files_of(dir.clone());
        for (number, path) in modules.iter().enumerate() {
            // Those with a base of their own are for any kernel.
            if path.with_extension("base").exists() {
                continue;
            }
            let data = fs::read(path).unwrap();
            for (place, (name, base)) in kernels.iter().enumerate() {
                let is_own = *name == release;
                // All pairs of a fleet are more than a million.
                if !is_own && (number + place) % 16 != 0 {
                    continue;
                }
                let split = Btf::parse_split(&data, Arc::clone(base));
                if is_own {
                    own += 1;
                    let split = split.unwrap();
                    if let Err(error) = split.check_base() {
                        panic!("{}: {error}", path.display());
                    }
                    continue;
                }
                foreign += 1;
                match split {
                    Err(_) => {}
                    Ok(split) => {
                        parsed += 1;
                        if split.check_base().is_ok() {
                            missed.push(format!("{} on {name}", path.display()));
                        }
                    }
                }
            }
        }
    }
    say(&format!(
        "{own} modules are of their kernel; of {foreign} pairs with others {parsed} parse, and {} are not told: {:?}",
        missed.len(),
        missed.iter().take(20).collect::<Vec<_>>()
    ));
    assert!(own > 0 && foreign > 0);
    // A few modules are so small that they mean the same on another kernel.
    assert!(missed.len() * 100 < foreign, "{} of {foreign} are missed", missed.len());
}
