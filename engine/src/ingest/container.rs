//! The BTF of a file, wherever in it it is.

use std::ops::Range;
use std::path::Path;

use object::elf::EM_BPF;

use super::dwarf::{Dwarf, Encoded};
use super::elf::Elf;
use super::image::{Image, NoBtf, Said, Why, is_raw_btf, looks_like_image, open};
use super::{InputError, Intake};
use crate::format::Endian;
use crate::pack::BtfOrigin;

/// A file's BTF, and the bytes that it stands in.
#[derive(Debug)]
pub struct BtfBytes {
    data: Vec<u8>,
    btf: Range<usize>,
    base: Option<Range<usize>>,
    /// Bytes of a pointer, where the file says so.
    pub pointer_size: Option<u32>,
    /// Where the BTF is from, as far as the file says: what is raw says nothing.
    pub origin: BtfOrigin,
    /// What the file says of the kernel.
    pub said: Box<Said>,
    /// What made the BTF, if it is not the file's own.
    pub encoder: Option<String>,
}

impl BtfBytes {
    /// Finds the BTF in a file's bytes: the file itself if it starts with BTF's magic, the `.BTF` section of an ELF
    /// file of either class and byte order, or that of a kernel in an image that boot loaders read. A kernel with
    /// nothing but debugging information is encoded, where there is what does it.
    ///
    /// # Errors
    /// [`InputError`] with code `target-btf-missing` if there is none, `unreadable` or `over-limit` if an image does
    /// not expand.
    pub fn find(intake: &Intake, data: Vec<u8>, path: &Path) -> Result<Self, InputError> {
        let image = match open(data, &intake.limits) {
            Ok(image) => image,
            Err(NoBtf { what, why: Why::Dwarf(elf, pointer_size, said) }) => {
                let missing = |why: String| InputError::missing_btf(path, &format!("{what}: {why}"));
                let Some(encoder) = intake.encode else {
                    return Err(missing("encode it with pahole first".to_owned()));
                };
                let dwarf = Dwarf { elf: &elf, path, release: said.release.as_deref() };
                let Encoded { btf, by } = encoder.encode(&dwarf).map_err(missing)?;
                let place = 0..btf.len();
                let (pointer_size, origin, encoder) = (Some(pointer_size), BtfOrigin::External, Some(by));
                return Ok(Self { data: btf, btf: place, base: None, pointer_size, origin, said, encoder });
            }
            Err(NoBtf { what, why: Why::Missing }) => return Err(InputError::missing_btf(path, &what)),
            Err(NoBtf { what, why: Why::Broken(error) }) => {
                return Err(InputError { what, ..InputError::of_io(path, &error) });
            }
        };
        let origin = if image.is_raw { BtfOrigin::Unknown } else { BtfOrigin::BuiltIn };
        let Image { data, btf, base, pointer_size, said, .. } = image;
        let this = Self { data, btf, base, pointer_size, origin, said: Box::new(said), encoder: None };
        Ok(if origin == BtfOrigin::Unknown { this } else { this.alone() })
    }

    pub(super) fn from_relocated(data: Vec<u8>, pointer_size: Option<u32>) -> Self {
        let btf = 0..data.len();
        let (origin, said) = (BtfOrigin::BuiltIn, Box::default());
        Self { data, btf, base: None, pointer_size, origin, said, encoder: None }
    }

    /// The same without what is not BTF: most of an image is something else.
    fn alone(self) -> Self {
        let base = self.distilled_base().unwrap_or_default();
        let data = [self.btf(), base].concat();
        let base = self.base.is_some().then_some(self.btf.len()..data.len());
        Self { btf: 0..self.btf.len(), base, data, ..self }
    }

    /// The BTF.
    pub fn btf(&self) -> &[u8] {
        self.data.get(self.btf.clone()).unwrap_or_default()
    }

    /// The distilled base that it continues, if it brings one.
    pub fn distilled_base(&self) -> Option<&[u8]> {
        self.data.get(self.base.clone()?)
    }
}

/// Whether `data` is a sound ELF file without BTF, as modules of kernels that are built without BTF for modules.
pub(super) fn is_elf_without_btf(data: &[u8]) -> bool {
    Elf::parse(data).is_ok_and(|it| it.btf.is_none())
}

/// Whether a file whose first bytes are `head` may be a BPF object; at least 20 bytes are wanted.
pub fn looks_like_object(head: &[u8]) -> bool {
    let endian = if head.get(5) == Some(&2) { Endian::Big } else { Endian::Little };
    head.starts_with(b"\x7fELF") && endian.u16_at(head, 18) == Some(EM_BPF.0)
}

/// Whether a file whose first bytes are `head` may hold a kernel's BTF: raw, an ELF file or another image of a kernel.
/// [`HEAD_LEN`](super::HEAD_LEN) bytes are wanted.
pub fn looks_like_kernel(head: &[u8]) -> bool {
    is_raw_btf(head) || head.starts_with(b"\x7fELF") && !looks_like_object(head) || looks_like_image(head)
}
