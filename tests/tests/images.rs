//! Kernels in every form that boot loaders read: their BTF is found, what they say of themselves is understood, and
//! what is none, is broken, or expands without end is an error that says what was found.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use btfleet_engine::ingest::{
    BtfBytes, Compression, HEAD_LEN, InputCode, InputError, Intake, KernelFiles, Limits, looks_like_kernel,
};
use btfleet_engine::kernel::Kernel;
use btfleet_engine::pack::BtfOrigin;
use btfleet_tests::build::image::{
    ELF_EXECUTABLE, ELF_PPC64, ELF_RELOCATABLE, ELF_X86_64, ElfSection, arm_zimage, bzimage, elf, memory,
    plain, s390_image, unified, vmlinux, zboot,
};
use btfleet_tests::build::{BtfBuilder, ByteOrder};
use btfleet_tests::{say, skip};

const RELEASE: &str = "6.12.3-test";

/// BTF of as many types as a kernel has at least.
fn kernel_btf(order: ByteOrder) -> Vec<u8> {
    let mut btf = BtfBuilder::new(order);
    let int = btf.int("int", 4, 1);
    for number in 0..1200 {
        btf.typedef(&format!("type_{number}"), int);
    }
    btf.finish()
}

fn compressed(format: Compression, data: &[u8]) -> Vec<u8> {
    match format {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(data, 1).unwrap(),
        // As the kernel's build does it: with the filter for x86.
        Compression::Xz => {
            let mut filters = liblzma::stream::Filters::new();
            filters.x86().lzma2(&liblzma::stream::LzmaOptions::new_preset(0).unwrap());
            let stream =
                liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lzma => {
            let options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
            let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lz4Legacy => {
            let packed = lz4_flex::block::compress(data);
            let len = u32::try_from(packed.len()).unwrap();
            [&[2, 0x21, 0x4c, 0x18], &len.to_le_bytes()[..], &packed].concat()
        }
    }
}

fn find(image: &[u8]) -> Result<BtfBytes, InputError> {
    BtfBytes::find(&Intake::default(), image.to_vec(), Path::new("image"))
}

#[track_caller]
fn check(what: &str, image: &[u8], btf: &[u8], machine: Option<&str>) {
    let found = find(image).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found.btf() == btf, "{what}: other BTF");
    assert_eq!(found.origin, BtfOrigin::BuiltIn, "{what}");
    assert_eq!(found.said.release.as_deref(), Some(RELEASE), "{what}");
    assert_eq!(found.said.machine.map(|it| it.name), machine, "{what}");
    let head = &image[..image.len().min(HEAD_LEN)];
    assert!(
        looks_like_kernel(head) || Compression::of(head).is_some(),
        "{what} would be passed by in a directory"
    );
}

#[track_caller]
fn error_of(image: &[u8]) -> (InputCode, String) {
    let error = find(image).unwrap_err();
    (error.code, error.what)
}

#[track_caller]
fn check_missing(image: &[u8], what: &str) {
    assert_eq!(error_of(image), (InputCode::TargetBtfMissing, what.to_owned()));
}

/// Check that each form gives its BTF byte for byte, whatever the kernel in it is compressed with.
#[test]
fn every_form_gives_its_btf() {
    let (little, big) = (kernel_btf(ByteOrder::Little), kernel_btf(ByteOrder::Big));
    let elf_file = vmlinux(RELEASE, None, Some(&little));
    let arm64 = plain(b"ARMd", &memory(RELEASE, None, &little));
    let riscv = plain(b"RSC\x05", &memory(RELEASE, None, &little));
    let unmarked = memory(RELEASE, None, &little);
    check("vmlinux", &elf_file, &little, Some("x86_64"));
    check("arm64", &arm64, &little, Some("aarch64"));
    check("riscv", &riscv, &little, Some("riscv64"));
    check("unified, plain", &unified(RELEASE, &arm64), &little, Some("aarch64"));
    check("bzImage, not compressed", &bzimage(RELEASE, &elf_file), &little, Some("x86_64"));
    for format in Compression::ALL {
        let name = format.name();
        let packed = |image: &[u8]| compressed(format, image);
        let in_bzimage = bzimage(RELEASE, &packed(&elf_file));
        check(&format!("bzImage, {name}"), &in_bzimage, &little, Some("x86_64"));
        check(&format!("unified, {name}"), &unified(RELEASE, &in_bzimage), &little, Some("x86_64"));
        check(&format!("arm64, {name}"), &packed(&arm64), &little, Some("aarch64"));
        check(&format!("zboot, {name}"), &zboot(&packed(&riscv)), &little, Some("riscv64"));
        check(
            &format!("unified zboot, {name}"),
            &unified(RELEASE, &zboot(&packed(&arm64))),
            &little,
            Some("aarch64"),
        );
        // Magics that lead nowhere come first.
        let magics: Vec<u8> = Compression::ALL.iter().flat_map(|it| it.magic().to_vec()).collect();
        let hidden = [&magics[..], &packed(&unmarked)].concat();
        check(&format!("arm, {name}"), &arm_zimage(&hidden), &little, Some("arm"));
        let hidden = [&magics[..], &packed(&memory(RELEASE, None, &big))].concat();
        check(&format!("s390, {name}"), &s390_image(&hidden), &big, Some("s390x"));
        let payload = packed(&elf(
            ELF_EXECUTABLE,
            ELF_PPC64,
            &[ElfSection::loaded(".rodata", &unmarked[..1200]), ElfSection::loaded(".BTF", &little)],
        ));
        let wrapper =
            elf(ELF_EXECUTABLE, ELF_PPC64, &[ElfSection::loaded(".kernel:vmlinux.strip", &payload)]);
        check(&format!("ppc64 wrapper, {name}"), &wrapper, &little, Some("ppc64le"));
    }
}

/// Check that the BTF of a program that is in the kernel is not taken for the kernel's, and that the longest counts.
#[test]
fn the_longest_btf_in_a_plain_image_is_the_kernels() {
    let btf = kernel_btf(ByteOrder::Little);
    let mut small = BtfBuilder::new(ByteOrder::Little);
    small.int("int", 4, 1);
    let small = small.finish();
    let other = kernel_btf(ByteOrder::Little)[..1000].to_vec();
    let all = [b"\x9f\xeb\x01\xeb\x9f\x01", &small[..], &other, &btf, &small].concat();
    check("several", &plain(b"ARMd", &memory(RELEASE, None, &all)), &btf, Some("aarch64"));
    check_missing(
        &plain(b"ARMd", &memory(RELEASE, None, &small)),
        "an arm64 image without BTF in it (built without CONFIG_DEBUG_INFO_BTF)",
    );
}

/// Check that a configuration that is built in serves as the kernel's, and that its release and architecture are known
/// where the path says neither.
#[test]
fn an_image_says_what_kernel_it_is() {
    let config = compressed(Compression::Gzip, b"CONFIG_HZ=250\n");
    let image = vmlinux("6.8.0-45-lowlatency", Some(&config), Some(&kernel_btf(ByteOrder::Little)));
    let image = bzimage("6.8.0-45-lowlatency", &compressed(Compression::Zstd, &image));
    let files =
        KernelFiles::of_bytes(&Intake::default(), "k", Path::new("somewhere/bzImage"), image).unwrap();
    let facts = files.facts();
    assert_eq!(
        [&facts.release, &facts.architecture, &facts.flavour].map(String::as_str),
        ["6.8.0-45-lowlatency", "x86_64", "lowlatency"]
    );
    assert_eq!(facts.origin, BtfOrigin::BuiltIn);
    let (kernel, _) = files.parse().unwrap();
    assert!(kernel.kconfig.is_some());
}

/// Check that a module says what kernel it was built for.
#[test]
fn a_module_says_what_kernel_it_is_for() {
    let info = format!("license=GPL\0vermagic={RELEASE} SMP preempt mod_unload \0name=x\0");
    let btf = kernel_btf(ByteOrder::Little);
    let sections = [ElfSection::loaded(".modinfo", info.as_bytes()), ElfSection::new(".BTF", &btf)];
    check("module", &elf(ELF_RELOCATABLE, ELF_X86_64, &sections), &btf, Some("x86_64"));
}

/// Check that the message says what was found, layer by layer.
#[test]
fn what_has_no_btf_is_named() {
    let without = vmlinux(RELEASE, None, None);
    let built = "an ELF file without a .BTF section (built without CONFIG_DEBUG_INFO_BTF)";
    check_missing(&without, built);
    let image = bzimage(RELEASE, &compressed(Compression::Zstd, &without));
    check_missing(&image, &format!("a bzImage whose zstd payload expands to {built}"));
    check_missing(
        &unified(RELEASE, &image),
        &format!(
            "a unified kernel image whose section .linux holds a bzImage whose zstd payload expands to {built}"
        ),
    );
    check_missing(&elf(ELF_EXECUTABLE, ELF_X86_64, &[]), "an ELF file without a .BTF section");
    let zimage = arm_zimage(&compressed(Compression::Xz, &memory(RELEASE, None, &[])));
    check_missing(
        &zimage,
        "an arm zImage whose xz payload expands to a kernel without BTF (built without CONFIG_DEBUG_INFO_BTF)",
    );
    check_missing(&arm_zimage(b"nothing"), "an arm zImage in which no compressed kernel was found");
    check_missing(
        &bzimage(RELEASE, b"something else"),
        "a bzImage whose payload is compressed in a way that is not known",
    );
    check_missing(b"", "the file is empty");
    check_missing(b"some text", "neither BTF, nor an ELF file with a .BTF section, nor a kernel image");
    let dwarf = elf(ELF_EXECUTABLE, ELF_X86_64, &[ElfSection::new(".debug_info", b"x")]);
    let (code, what) = error_of(&dwarf);
    assert_eq!(code, InputCode::TargetBtfMissing);
    assert!(what.starts_with("an ELF file with debugging information and no .BTF section"), "{what}");
}

/// Check that what is cut or flipped is an answer or an error, in time.
#[test]
fn broken_images_are_errors() {
    let btf = kernel_btf(ByteOrder::Little);
    let packed = compressed(Compression::Gzip, &vmlinux(RELEASE, None, Some(&btf)));
    let image = bzimage(RELEASE, &packed);
    let (code, what) = error_of(&bzimage(RELEASE, &packed[..packed.len() / 2]));
    assert_eq!(code, InputCode::Unreadable);
    assert!(what.starts_with("a bzImage whose gzip payload is broken: "), "{what}");
    for image in [image, unified(RELEASE, &zboot(&packed)), s390_image(&packed), plain(b"ARMd", &btf)] {
        for len in (0..image.len()).step_by(image.len() / 100) {
            let _ = find(&image[..len]);
        }
        for at in 0..1024 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = image.clone();
                broken[at] = value;
                let _ = find(&broken);
            }
        }
    }
}

/// Check that images with bytes changed at random, where forms keep their sizes and places above all, never panic. The
/// seeds of the fuzz target are what is changed.
#[test]
fn changed_images_are_answers_or_errors() {
    const ROUNDS: u64 = 300;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/image");
    let limits = Limits { expanded: 1 << 20, ..Limits::DEFAULT };
    let intake = Intake { limits, ..Intake::default() };
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    for entry in std::fs::read_dir(dir).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        for _ in 0..ROUNDS {
            let mut image = seed.clone();
            for _ in 0..1 + random(6) {
                let reach = if random(2) == 0 { image.len() } else { image.len().min(1200) };
                let at = random(reach);
                let value = [0, 1, 0x7f, 0x80, 0xff, random(256)][random(6)];
                image[at] = u8::try_from(value).unwrap();
            }
            if random(8) == 0 {
                image.truncate(random(image.len()));
            }
            if let Ok(found) = BtfBytes::find(&intake, image, Path::new("changed")) {
                let _ = Kernel::parse(found.btf());
            }
        }
    }
}

/// Check that what expands to more than is allowed is an error, however it is wrapped, and that all layers together
/// count.
#[test]
fn bombs_are_errors() {
    let zeros = vec![0; 1 << 20];
    let limits = Limits { expanded: 1 << 18, ..Limits::DEFAULT };
    let intake = Intake { limits, ..Intake::default() };
    for format in Compression::ALL {
        let bomb = compressed(format, &zeros);
        for image in [bzimage(RELEASE, &bomb), zboot(&bomb), arm_zimage(&bomb), bomb.clone()] {
            let error = BtfBytes::find(&intake, image, Path::new("bomb")).unwrap_err();
            assert_eq!(error.code, InputCode::OverLimit, "{error}");
            assert!(error.what.ends_with("has more than 256 KiB (the limit max-expanded)"), "{error}");
        }
    }
    // Each of these is within the limit.
    let part = compressed(Compression::Zstd, &zeros[..1 << 17]);
    let error = BtfBytes::find(&intake, arm_zimage(&part.repeat(3)), Path::new("bomb")).unwrap_err();
    assert!(error.what.ends_with("(the limit max-expanded)"), "{error}");
}

/// Check that images that are made of headers take no longer than their size explains.
#[test]
fn images_of_headers_are_searched_in_time() {
    let mut btf = kernel_btf(ByteOrder::Little);
    // Headers of BTF that all reach to the end.
    let end = 16 << 20;
    btf.resize(24, 0);
    let mut headers = Vec::with_capacity(end);
    while headers.len() + 24 < end {
        let rest = u32::try_from(end - headers.len() - 24).unwrap();
        headers.extend([0x9f, 0xeb, 1, 0, 24, 0, 0, 0]);
        for word in [0, (rest - 8) & !3, rest - 8, 8] {
            headers.extend(u32::to_le_bytes(word));
        }
    }
    headers.resize(end, 0);
    let magics: Vec<u8> = Compression::ALL.iter().flat_map(|it| it.magic().to_vec()).collect();
    for data in [headers, magics.repeat(end / magics.len())] {
        for image in [plain(b"ARMd", &data), arm_zimage(&data), bzimage(RELEASE, &data)] {
            let start = Instant::now();
            let _ = find(&image);
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        }
    }
}

/// Real images, below the directory that `BTFLEET_IMAGES` names: such as Debian's `linux-image-*` packages have. One whose
/// path has `no-btf` in it has to be recognised as a kernel without.
#[test]
fn real_images_give_their_btf() {
    let Some(dir) = std::env::var_os("BTFLEET_IMAGES") else {
        skip("BTFLEET_IMAGES names no directory with real kernel images");
        return;
    };
    let mut pending = vec![PathBuf::from(dir)];
    let mut count = 0;
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            continue;
        }
        let is_image = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("vmlinu"));
        if !is_image {
            continue;
        }
        let data = std::fs::read(&path).unwrap();
        let name = path.display();
        let start = Instant::now();
        let found = BtfBytes::find(&Intake::default(), data, &path);
        let took = start.elapsed();
        if path.to_string_lossy().contains("no-btf") {
            let error = found.unwrap_err();
            assert!(error.what.ends_with("(built without CONFIG_DEBUG_INFO_BTF)"), "{error}");
            say(&format!("{error}, {took:?}"));
        } else {
            let found = found.unwrap();
            let kernel = Kernel::parse(found.btf()).unwrap();
            let release = found.said.release.as_deref().unwrap();
            assert!(path.to_string_lossy().contains(release), "{name}: {release}");
            assert!(found.said.machine.is_some(), "{name}");
            let types = kernel.vmlinux.btf.type_count();
            say(&format!("{name}: {release}, {types} types, {took:?}"));
        }
        count += 1;
    }
    assert!(count > 0, "no vmlinuz or vmlinux there");
}
