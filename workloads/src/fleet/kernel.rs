//! The BTF of a kernel, out of the image that a boot loader would read.
//!
//! What the images of Debian's architectures are:
//!
//! | architecture | image |
//! |--------------|-------|
//! | amd64, i386 | bzImage: a header says where the packed ELF file is; lz4, xz or zstd |
//! | arm64, riscv64, loong64 | a plain or gzipped image, or EFI zboot, whose header says where the packed image is |
//! | armhf, s390x | a decompressor with the packed image somewhere behind it |
//! | ppc64el | an ELF file |
//!
//! An ELF file has a section `.BTF`; in a plain image the BTF has to be searched for.

use memchr::memmem;
use object::{Object, ObjectSection};

use super::btf;
use super::bytes::Bytes;
use super::unpack::Format;

/// What an image may unpack to. The largest real ones reach 100 MB.
const MAX_IMAGE: usize = 1 << 30;

/// How many streams are tried where no header says which is the kernel. Code holds the shorter magics by
/// chance, but such a stream breaks off at once.
const MAX_TRIES: usize = 1000;

/// The BTF in a kernel image, or `None` if there is none.
pub(super) fn btf_of_image(image: &[u8]) -> Option<Vec<u8>> {
    btf_of_plain(image)
        .map(<[u8]>::to_vec)
        .or_else(|| btf_of_packed(zboot_payload(image)?))
        .or_else(|| btf_of_packed(bzimage_payload(image)?))
        .or_else(|| search(image))
}

/// The section `name` of an ELF file of either class and byte order.
pub(super) fn elf_section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF") {
        return None;
    }
    let file = object::File::parse(elf).ok()?;
    file.section_by_name(name)?.data().ok().filter(|data| !data.is_empty())
}

fn btf_of_plain(image: &[u8]) -> Option<&[u8]> {
    elf_section(image, ".BTF").or_else(|| btf::find(image))
}

fn btf_of_packed(payload: &[u8]) -> Option<Vec<u8>> {
    let image = Format::of(payload)?.unpack(payload, MAX_IMAGE).ok()?;
    btf_of_plain(&image).map(<[u8]>::to_vec)
}

/// EFI zboot: `MZ`, `zimg`, then offset and length of the packed image.
fn zboot_payload(image: &[u8]) -> Option<&[u8]> {
    let bytes = Bytes { data: image, big_endian: false };
    if bytes.slice(4, 4)? != b"zimg" {
        return None;
    }
    bytes.slice(bytes.offset(8)?, bytes.offset(12)?)
}

/// x86's boot protocol from 2.08 on, see `Documentation/arch/x86/boot.rst`: `HdrS` at 0x202, number of setup
/// sectors at 0x1f1, offset and length of the payload at 0x248, counted from the end of the setup sectors.
fn bzimage_payload(image: &[u8]) -> Option<&[u8]> {
    let bytes = Bytes { data: image, big_endian: false };
    if bytes.slice(0x202, 4)? != b"HdrS" || bytes.u16(0x206)? < 0x208 {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4, // As old boot loaders have to assume.
        sectors => usize::from(sectors),
    };
    let start = ((sectors + 1) * 512).checked_add(bytes.offset(0x248)?)?;
    bytes.slice(start, bytes.offset(0x24c)?)
}

/// Tries everything that looks like a packed kernel, until one has BTF.
fn search(image: &[u8]) -> Option<Vec<u8>> {
    let starts = Format::ALL.into_iter().flat_map(|format| {
        let starts: Vec<_> = memmem::find_iter(image, format.magic()).collect();
        starts.into_iter().map(move |start| (format, start))
    });
    starts.take(MAX_TRIES).find_map(|(format, start)| {
        let unpacked = format.unpack(image.get(start..)?, MAX_IMAGE).ok()?;
        btf_of_plain(&unpacked).map(<[u8]>::to_vec)
    })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use super::super::btf::tests::blob;
    use super::super::unpack::tests::pack;
    use super::*;

    /// A plain image: some code, BTF, some data.
    fn plain(btf: &[u8]) -> Vec<u8> {
        [[0x90; 1000].as_slice(), btf, &[7; 500]].concat()
    }

    fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
        image[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn bzimage(payload: &[u8], offset: u32) -> Vec<u8> {
        let mut image = vec![0; 3 * 512 + offset as usize];
        image[0x1f1] = 2;
        put(&mut image, 0x202, b"HdrS\x0f\x02");
        put(&mut image, 0x248, &offset.to_le_bytes());
        put(&mut image, 0x24c, &u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(payload);
        image.extend([0; 64]);
        image
    }

    #[test]
    fn bzimage_payload_is_where_the_header_says() {
        let image = bzimage(b"payload", 100);
        assert_eq!(bzimage_payload(&image), Some(b"payload".as_slice()));
        assert_eq!(bzimage_payload(&image[..3 * 512 + 106]), None);
        let mut huge = image.clone();
        put(&mut huge, 0x248, &[0xff; 8]);
        assert_eq!(bzimage_payload(&huge), None);
        let mut old = image.clone();
        put(&mut old, 0x206, &[7, 2]);
        assert_eq!(bzimage_payload(&old), None);
        let mut no_sectors = image;
        no_sectors[0x1f1] = 0;
        put(&mut no_sectors, 0x248, &0_u32.to_le_bytes());
        assert_eq!(bzimage_payload(&no_sectors), None, "would begin after the end");
    }

    #[test]
    fn every_kind_of_image_gives_its_btf() {
        let btf = blob(1200, false);
        let plain = plain(&btf);
        assert_eq!(btf_of_image(&plain).as_ref(), Some(&btf));
        for format in Format::ALL {
            let packed = pack(format, &plain);
            assert_eq!(btf_of_image(&bzimage(&packed, 700)).as_ref(), Some(&btf), "bzImage {format:?}");

            let mut zboot = b"MZ\0\0zimg".to_vec();
            zboot.extend(64_u32.to_le_bytes());
            zboot.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            zboot.resize(64, 0);
            zboot.extend(&packed);
            assert_eq!(btf_of_image(&zboot).as_ref(), Some(&btf), "zboot {format:?}");

            // Magics that lead nowhere come first.
            let magics: Vec<_> = Format::ALL.iter().flat_map(|it| it.magic().to_vec()).collect();
            let hidden = [b"decompressor".as_slice(), &magics, &packed, &[0; 100]].concat();
            assert_eq!(btf_of_image(&hidden).as_ref(), Some(&btf), "search {format:?}");
        }
    }

    #[test]
    fn an_image_without_btf_has_none() {
        assert_eq!(btf_of_image(b""), None);
        assert_eq!(btf_of_image(&bzimage(&pack(Format::Zstd, &[1; 4096]), 0)), None);
        assert_eq!(btf_of_image(b"\x7fELF"), None);
        assert_eq!(btf_of_image(b"MZ\0\0zimg\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
