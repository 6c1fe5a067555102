//! Builders of kernel images in the forms that boot loaders read, around whatever kernel they are given.

/// A section of an ELF file.
#[derive(Clone, Copy, Debug)]
pub struct ElfSection<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is in memory once the file runs.
    pub is_loaded: bool,
    /// Its bytes.
    pub data: &'a [u8],
}

impl<'a> ElfSection<'a> {
    /// A section that is not in memory.
    #[must_use]
    pub fn new(name: &'a str, data: &'a [u8]) -> Self {
        Self { name, is_loaded: false, data }
    }

    /// A section that is.
    #[must_use]
    pub fn loaded(name: &'a str, data: &'a [u8]) -> Self {
        Self { is_loaded: true, ..Self::new(name, data) }
    }
}

/// ELF's `e_type` of a program.
pub const ELF_EXECUTABLE: u16 = 2;
/// ELF's `e_type` of what is yet to be linked.
pub const ELF_RELOCATABLE: u16 = 1;
/// ELF's `e_machine` of x86-64.
pub const ELF_X86_64: u16 = 62;
/// ELF's `e_machine` of 64-bit PowerPC.
pub const ELF_PPC64: u16 = 21;

/// A little-endian 64-bit ELF file.
#[must_use]
pub fn elf(kind: u16, machine: u16, sections: &[ElfSection<'_>]) -> Vec<u8> {
    const HEADER_LEN: u64 = 64;
    let mut names = b"\0.shstrtab\0".to_vec();
    let mut body: Vec<u8> = Vec::new();
    let mut table = vec![0; 64];
    let add = |table: &mut Vec<u8>, body: &mut Vec<u8>, name: usize, kind: u32, flags: u64, data: &[u8]| {
        let name = u32::try_from(name).expect("few sections");
        table.extend([name.to_le_bytes(), kind.to_le_bytes()].concat());
        for field in [flags, 0, HEADER_LEN + body.len() as u64, data.len() as u64, 0, 1, 0] {
            table.extend(field.to_le_bytes());
        }
        body.extend(data);
    };
    for section in sections {
        let name = names.len();
        names.extend(section.name.bytes());
        names.push(0);
        add(&mut table, &mut body, name, 1, if section.is_loaded { 2 } else { 0 }, section.data);
    }
    add(&mut table, &mut body, 1, 3, 0, &names);
    let count = u16::try_from(sections.len() + 2).expect("few sections");
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    out.extend([kind.to_le_bytes(), machine.to_le_bytes()].concat());
    out.extend(1_u32.to_le_bytes());
    for field in [0, 0, HEADER_LEN + body.len() as u64] {
        out.extend(field.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for field in [64, 0, 0, 64, count, count - 1] {
        out.extend(u16::to_le_bytes(field));
    }
    out.extend(body);
    out.extend(table);
    out
}

/// What a kernel of this release has in memory: some code, its banner, its configuration if that is given (compressed
/// by gzip), `btf`.
#[must_use]
pub fn memory(release: &str, config: Option<&[u8]>, btf: &[u8]) -> Vec<u8> {
    let banner = format!("Linux version %s\0Linux version {release} (who@where) #1 SMP\n\0");
    let config = config.map(|it| [b"IKCFG_ST", it, b"IKCFG_ED"].concat()).unwrap_or_default();
    [&[0x90; 1000], banner.as_bytes(), &config, btf, &[7; 500]].concat()
}

/// A vmlinux for x86-64.
#[must_use]
pub fn vmlinux(release: &str, config: Option<&[u8]>, btf: Option<&[u8]>) -> Vec<u8> {
    let memory = memory(release, config, &[]);
    let rodata = ElfSection::loaded(".rodata", &memory);
    match btf {
        Some(btf) => elf(ELF_EXECUTABLE, ELF_X86_64, &[rodata, ElfSection::loaded(".BTF", btf)]),
        None => elf(ELF_EXECUTABLE, ELF_X86_64, &[rodata]),
    }
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image.get_mut(at..at + bytes.len()).expect("inside the image").copy_from_slice(bytes);
}

fn len_of(data: &[u8]) -> [u8; 4] {
    u32::try_from(data.len()).expect("small").to_le_bytes()
}

/// An x86 bzImage, with its payload some way behind the setup code, and the payload's length behind it.
#[must_use]
pub fn bzimage(release: &str, payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 3 * 512 + 700];
    put(&mut image, 0x1f1, &[2]);
    put(&mut image, 0x202, b"HdrS\x0f\x02");
    put(&mut image, 0x20e, &0x200_u16.to_le_bytes());
    put(&mut image, 0x400, format!("{release} (who@where) #1 SMP").as_bytes());
    put(&mut image, 0x248, &700_u32.to_le_bytes());
    put(&mut image, 0x24c, &len_of(payload));
    image.extend(payload);
    image.extend([0; 64]);
    image
}

/// An EFI zboot image.
#[must_use]
pub fn zboot(payload: &[u8]) -> Vec<u8> {
    let mut image = b"MZ\0\0zimg".to_vec();
    image.extend(64_u32.to_le_bytes());
    image.extend(len_of(payload));
    image.resize(64, 0);
    image.extend(payload);
    image
}

/// A plain image with the magic that stands at byte 0x38: `ARMd` for arm64, `RSC\x05` for riscv.
#[must_use]
pub fn plain(magic: &[u8; 4], memory: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 64];
    put(&mut image, 0x38, magic);
    image.extend(memory);
    image
}

/// A zImage of 32-bit arm: code, and a packed kernel somewhere behind it.
#[must_use]
pub fn arm_zimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 5000];
    put(&mut image, 0x24, &0x016f_2818_u32.to_le_bytes());
    image.extend(payload);
    image.extend([1; 100]);
    image
}

/// The same for s390.
#[must_use]
pub fn s390_image(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x11000];
    put(&mut image, 0, &[0, 8, 0, 0, 0x80, 0, 2, 0]);
    put(&mut image, 0x10008, b"S390EP");
    image.extend(payload);
    image.extend([1; 100]);
    image
}

/// A unified kernel image: a PE file with the sections `.uname` and `.linux`.
#[must_use]
pub fn unified(release: &str, linux: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 512];
    put(&mut image, 0, b"MZ");
    put(&mut image, 0x3c, &128_u32.to_le_bytes());
    put(&mut image, 128, b"PE\0\0\x64\x86\x02\0");
    let uname = [release.as_bytes(), b"\n"].concat();
    let mut at = 512;
    for (number, (name, data)) in
        [(b".uname\0\0", &uname[..]), (b".linux\0\0", linux)].into_iter().enumerate()
    {
        let header = 128 + 24 + number * 40;
        put(&mut image, header, name);
        put(&mut image, header + 8, &len_of(data));
        put(&mut image, header + 16, &len_of(data));
        put(&mut image, header + 20, &u32::try_from(at).expect("small").to_le_bytes());
        at += data.len();
    }
    [&image, &uname[..], linux].concat()
}
