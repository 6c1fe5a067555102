//! The BTF of a kernel out of the image that a boot loader reads, and what the image says of the kernel beside it.
//!
//! What images are:
//!
//! | form | architectures | where the kernel is |
//! |------|---------------|---------------------|
//! | ELF | ppc64, any before it is packed | it has a section `.BTF` |
//! | plain image | arm64, riscv, loongarch | the BTF has to be searched for |
//! | either of them as one compressed file | arm64, riscv | behind the compression |
//! | bzImage | x86 | a header says where the packed ELF file is |
//! | EFI zboot | arm64, riscv, loongarch | a header says where the packed image is |
//! | zImage | arm, s390 | packed somewhere behind the code that unpacks it |
//! | wrapper in ELF | ppc64, x86 (`compressed/vmlinux`) | packed in a section |
//! | unified kernel image | those with UEFI | any of the above in the section `.linux` of a PE file |
//!
//! One form is in the other: [`open`] takes off one after the other, up to [`LAYERS_MAX`], until it has BTF. What comes
//! out altogether is within one limit, what is searched for is tried a bounded number of times, and the rest is linear.

use std::io::{self, Read};
use std::ops::Range;

use memchr::memmem;
use object::elf::{self, Machine as Em};

use super::elf::Elf;
use super::{Compression, Limits, OverLimit};
use crate::btf::{Btf, extent, sections};
use crate::dialect::Release;
use crate::format::Endian;
use crate::format::btf::MAGIC;

/// Layers that are taken off. A unified kernel image with a compressed EFI image in it has four.
const LAYERS_MAX: usize = 6;
/// Packed kernels that are tried where no header says which one it is. Code holds the shorter magics by chance, but
/// such a stream breaks off at once.
const STREAMS_MAX: usize = 32;
/// Places in a plain image that may be its BTF: the largest are tried.
const PLACES_MAX: usize = 8;
/// Fewer types than this, and BTF in the middle of an image is that of a program in the kernel: the smallest kernels
/// have tens of thousands.
const TYPES_MIN: u32 = 1000;
/// Longest BTF that is searched for, in **bytes**: that of a kernel with everything in it has a tenth.
const BTF_LEN_MAX: usize = 256 << 20;
/// Longest configuration, in **bytes**: real ones have 300 kB.
const CONFIG_LEN_MAX: u64 = 16 << 20;
/// Texts that begin as a banner does, in one part of a kernel's memory: formats of messages do too.
const BANNERS_MAX: usize = 16;
/// Longest name of a release, in **bytes**. Source: `__NEW_UTS_LEN`.
const RELEASE_LEN_MAX: usize = 64;

/// What a file says of the kernel that it is, or that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Release, as `uname -r` says it.
    pub release: Option<String>,
    /// The machine that it runs on.
    pub machine: Option<Machine>,
    /// The text of its configuration, where that is built in.
    pub config: Option<Vec<u8>>,
}

/// A machine that Linux runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name, as `uname -m` says it.
    pub name: &'static str,
    /// **Bytes** of a pointer.
    pub pointer_size: u32,
}

impl Machine {
    const AARCH64: Self = Self { name: "aarch64", pointer_size: 8 };
    const ARM: Self = Self { name: "arm", pointer_size: 4 };
    const S390X: Self = Self { name: "s390x", pointer_size: 8 };
    const RISCV64: Self = Self { name: "riscv64", pointer_size: 8 };
    const LOONGARCH64: Self = Self { name: "loongarch64", pointer_size: 8 };

    pub(super) fn of_elf(machine: Em, pointer_size: u32, is_little: bool) -> Option<Self> {
        let name = match (machine, pointer_size, is_little) {
            (elf::EM_X86_64, ..) => "x86_64",
            (elf::EM_386, ..) => "i686",
            (elf::EM_AARCH64, ..) => "aarch64",
            (elf::EM_ARM, ..) => "arm",
            (elf::EM_S390, 8, _) => "s390x",
            (elf::EM_PPC64, _, true) => "ppc64le",
            (elf::EM_PPC64, _, false) => "ppc64",
            (elf::EM_RISCV, 8, _) => "riscv64",
            (elf::EM_RISCV, ..) => "riscv32",
            (elf::EM_LOONGARCH, ..) => "loongarch64",
            (elf::EM_MIPS, 8, _) => "mips64",
            (elf::EM_MIPS, ..) => "mips",
            (elf::EM_SPARCV9, ..) => "sparc64",
            _ => return None,
        };
        Some(Self { name, pointer_size })
    }
}

/// A file's BTF, found.
#[derive(Debug)]
pub(super) struct Image {
    /// The bytes that it stands in: the file's, or of what it expands to.
    pub(super) data: Vec<u8>,
    pub(super) btf: Range<usize>,
    /// The distilled base, which modules may have.
    pub(super) base: Option<Range<usize>>,
    pub(super) pointer_size: Option<u32>,
    /// Whether the file is raw BTF and nothing else.
    pub(super) is_raw: bool,
    pub(super) said: Said,
}

/// Why there is no BTF.
#[derive(Debug)]
pub(super) struct NoBtf {
    /// What was found, one form in the other.
    pub(super) what: String,
    pub(super) why: Why,
}

#[derive(Debug)]
pub(super) enum Why {
    /// It has none.
    Missing,
    /// It has none, but an ELF file with what BTF can be made of: these bytes, with pointers of so many bytes.
    Dwarf(Vec<u8>, u32, Box<Said>),
    /// It cannot be read as what it is.
    Broken(io::Error),
}

/// Finds the BTF of a kernel or module in a file's bytes.
///
/// # Errors
/// [`NoBtf`], with words for what there is instead.
pub(super) fn open(data: Vec<u8>, limits: &Limits) -> Result<Image, NoBtf> {
    let place = 0..data.len();
    let mut layers = Layers {
        data,
        place,
        budget: limits.expanded,
        limit: limits.expanded,
        path: String::new(),
        said: Said::default(),
    };
    for _ in 0..LAYERS_MAX {
        if let Some(btf) = layers.take_off()? {
            let is_raw = layers.path.is_empty() && is_raw_btf(&layers.data);
            let pointer_size = btf.pointer_size.or_else(|| Some(layers.said.machine?.pointer_size));
            let Layers { data, said, .. } = layers;
            return Ok(Image { data, btf: btf.btf, base: btf.base, pointer_size, is_raw, said });
        }
    }
    Err(layers.no_btf("yet another image"))
}

/// Whether a file whose first bytes are `head` is a kernel image that is no plain ELF file. [`HEAD_LEN`](super::HEAD_LEN)
/// bytes are wanted.
pub(super) fn looks_like_image(head: &[u8]) -> bool {
    !matches!(Form::of(head), Form::Elf | Form::RawBtf | Form::Compressed(_) | Form::Unknown)
}

pub(super) fn is_raw_btf(data: &[u8]) -> bool {
    Endian::Little.u16_at(data, 0).is_some_and(|magic| magic == MAGIC || magic.swap_bytes() == MAGIC)
}

/// Where BTF is in a layer.
struct Found {
    btf: Range<usize>,
    base: Option<Range<usize>>,
    pointer_size: Option<u32>,
}

impl Found {
    fn at(btf: Range<usize>) -> Self {
        Self { btf, base: None, pointer_size: None }
    }
}

/// What is left of a file after some layers were taken off.
struct Layers {
    data: Vec<u8>,
    /// The layer's place in `data`.
    place: Range<usize>,
    /// **Bytes** that the rest may expand to.
    budget: u64,
    limit: u64,
    /// What was taken off, in words.
    path: String,
    said: Said,
}

/// What a layer is, by what it begins with. Places are **bytes** from its start.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    RawBtf,
    Elf,
    Compressed(Compression),
    /// Something with a compressed kernel at a known place.
    Packed(&'static str, Option<Range<usize>>),
    /// Code that unpacks what is somewhere behind it.
    SelfExtracting(&'static str, Machine),
    Plain(&'static str, Machine),
    /// Its section `.linux`, and `.uname` if there is one.
    Unified(Range<usize>, Option<Range<usize>>),
    Unknown,
}

const BZIMAGE: &str = "a bzImage";
const ZBOOT: &str = "an EFI zboot image";

impl Form {
    fn of(data: &[u8]) -> Self {
        let word = |at| Endian::Little.u32_at(data, at);
        let is_at = |at: usize, bytes: &[u8]| data.get(at..).is_some_and(|it| it.starts_with(bytes));
        if is_raw_btf(data) {
            return Self::RawBtf;
        }
        if is_at(0, b"\x7fELF") {
            return Self::Elf;
        }
        if let Some(linux) = pe_section(data, b".linux\0\0") {
            return Self::Unified(linux, pe_section(data, b".uname\0\0"));
        }
        if is_at(0, b"MZ") && is_at(4, b"zimg") {
            return Self::Packed(ZBOOT, range(word(8), word(12)));
        }
        if is_at(0x202, b"HdrS") {
            return Self::Packed(BZIMAGE, bzimage_payload(data));
        }
        match word(0x38) {
            Some(0x644d_5241) => return Self::Plain("an arm64 image", Machine::AARCH64),
            Some(0x0543_5352) => return Self::Plain("a riscv image", Machine::RISCV64),
            Some(0x8182_23cd) => return Self::Plain("a loongarch image", Machine::LOONGARCH64),
            _ => {}
        }
        if is_at(0x24, &0x016f_2818_u32.to_le_bytes()) {
            return Self::SelfExtracting("an arm zImage", Machine::ARM);
        }
        // Its mark is behind the first 64 kB; the program status word in front is as good.
        if is_at(0, &[0, 8, 0, 0, 0x80]) {
            return Self::SelfExtracting("an s390 image", Machine::S390X);
        }
        match Compression::of(data).filter(|it| is_plausible(*it, data)) {
            Some(format) => Self::Compressed(format),
            None => Self::Unknown,
        }
    }
}

/// x86's boot protocol from 2.08 on: number of setup sectors at 0x1f1, offset and length of the payload at 0x248,
/// counted from the end of the setup sectors. Source: `Documentation/arch/x86/boot.rst`.
fn bzimage_payload(data: &[u8]) -> Option<Range<usize>> {
    if Endian::Little.u16_at(data, 0x206)? < 0x208 {
        return None;
    }
    let sectors = match *data.get(0x1f1)? {
        0 => 4, // As old boot loaders have to assume.
        sectors => u32::from(sectors),
    };
    let offset = Endian::Little.u32_at(data, 0x248)?.checked_add((sectors + 1) * 512);
    range(offset, Endian::Little.u32_at(data, 0x24c))
}

/// The release in a bzImage: the text whose place, less 0x200, is at 0x20e.
fn bzimage_release(data: &[u8]) -> Option<String> {
    let at = usize::from(Endian::Little.u16_at(data, 0x20e)?);
    release(data.get(at.checked_add(0x200)?..)?)
}

fn range(start: Option<u32>, len: Option<u32>) -> Option<Range<usize>> {
    let (start, len) = (usize::try_from(start?).ok()?, usize::try_from(len?).ok()?);
    Some(start..start.checked_add(len)?)
}

/// A section of a PE file by its name, which has eight bytes. Source: "PE Format", Microsoft.
fn pe_section(data: &[u8], name: &[u8; 8]) -> Option<Range<usize>> {
    let word = |at: usize| Endian::Little.u32_at(data, at);
    let header = usize::try_from(word(0x3c).filter(|_| data.starts_with(b"MZ"))?).ok()?;
    if data.get(header..)?.first_chunk() != Some(b"PE\0\0") {
        return None;
    }
    let count = usize::from(Endian::Little.u16_at(data, header.checked_add(6)?)?);
    let optional = usize::from(Endian::Little.u16_at(data, header.checked_add(20)?)?);
    let table = data.get(header.checked_add(24)?.checked_add(optional)?..)?;
    let section = table.as_chunks::<40>().0.iter().take(count).find(|it| it.starts_with(name))?;
    let field = |at| Endian::Little.u32_at(section, at);
    // In the file it is as long as in memory, less zeros at its end or more for alignment.
    let len = field(8)?.min(field(16)?);
    range(field(20), Some(len))
}

/// Whether a stream of this format may begin with `data`: more than the magic, which is short for some.
fn is_plausible(format: Compression, data: &[u8]) -> bool {
    match format {
        Compression::Gzip => data.get(3).is_some_and(|flags| flags & 0xe0 == 0),
        Compression::Bzip2 => data.get(4..10) == Some(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]),
        Compression::Lzma => {
            // Sizes of dictionaries are 2^n or 2^n + 2^(n-1); what comes out is not said, or less than 256 GiB.
            let dictionary = Endian::Little.u32_at(data, 1).unwrap_or(0);
            let is_size = dictionary >> 12 != 0
                && (dictionary.is_power_of_two()
                    || (dictionary / 3).is_power_of_two() && dictionary.is_multiple_of(3));
            let len = data.get(5..).and_then(|it| it.first_chunk()).map(|it| u64::from_le_bytes(*it));
            is_size && len.is_some_and(|it| it == u64::MAX || it < 256 << 30)
        }
        Compression::Xz | Compression::Zstd | Compression::Lz4 | Compression::Lz4Legacy => true,
    }
}

impl Layers {
    fn view(&self) -> &[u8] {
        self.data.get(self.place.clone()).unwrap_or_default()
    }

    /// Takes off one layer, or finds BTF in it.
    fn take_off(&mut self) -> Result<Option<Found>, NoBtf> {
        match Form::of(self.view()) {
            Form::RawBtf => return Ok(Some(Found::at(self.place.clone()))),
            Form::Elf => return self.elf(),
            Form::Unified(linux, uname) => {
                let text = uname.and_then(|it| self.view().get(it));
                self.said.release = text.and_then(release);
                self.go_into("a unified kernel image whose section .linux holds ", linux)?;
            }
            Form::Compressed(format) => {
                let what = format!("a file compressed with {}, which", format.name());
                self.expand(format, self.place.clone(), &what)?;
            }
            Form::Packed(what, payload) => {
                if what == BZIMAGE && self.said.release.is_none() {
                    self.said.release = bzimage_release(self.view());
                }
                match payload.and_then(|it| self.inside(it)) {
                    Some(payload) => self.unpack(what, payload)?,
                    None => return self.search(what).map(Some),
                }
            }
            Form::SelfExtracting(what, machine) => {
                self.said.machine = Some(machine);
                return self.search(what).map(Some);
            }
            Form::Plain(what, machine) => {
                self.said.machine = Some(machine);
                return self.plain(what).map(Some);
            }
            Form::Unknown if self.path.is_empty() => {
                let what = if self.data.is_empty() { "the file is empty" } else { UNKNOWN };
                return self.search(what).map(Some);
            }
            // An arm kernel, for example, once it is unpacked.
            Form::Unknown => return self.plain("a plain image").map(Some),
        }
        Ok(None)
    }

    /// The place in `data` of a place in the layer, if it is there.
    fn inside(&self, place: Range<usize>) -> Option<Range<usize>> {
        self.view().get(place.clone())?;
        Some(self.place.start + place.start..self.place.start + place.end)
    }

    /// Goes on with a part of the layer.
    fn go_into(&mut self, what: &str, part: Range<usize>) -> Result<(), NoBtf> {
        self.path.push_str(what);
        match self.inside(part) {
            Some(part) => self.place = part,
            None => return Err(self.no_btf("less than it says")),
        }
        Ok(())
    }

    /// Goes on with what the payload at `place` of `data` expands to. Not every kernel is compressed.
    fn unpack(&mut self, what: &'static str, place: Range<usize>) -> Result<(), NoBtf> {
        let payload = self.data.get(place.clone()).unwrap_or_default();
        match (Compression::of(payload), Form::of(payload)) {
            (Some(format), _) => {
                let what = format!("{what} whose {} payload", format.name());
                self.expand(format, place, &what)
            }
            (None, Form::Unknown) => {
                Err(self.no_btf(&format!("{what} whose payload is compressed in a way that is not known")))
            }
            (None, _) => {
                self.path.push_str(&format!("{what} that holds "));
                self.place = place;
                Ok(())
            }
        }
    }

    /// Goes on with what the stream at `place` of `data` expands to. `what` is the beginning of a sentence.
    fn expand(&mut self, format: Compression, place: Range<usize>, what: &str) -> Result<(), NoBtf> {
        let packed = self.data.get(place).unwrap_or_default();
        match expand(format, packed, &mut self.budget, self.limit) {
            Ok(data) => {
                self.place = 0..data.len();
                self.data = data;
                self.path.push_str(&format!("{what} expands to "));
                Ok(())
            }
            Err(error) => {
                let state = if is_over_limit(&error) { "" } else { "is broken: " };
                Err(NoBtf { what: format!("{}{what} {state}{error}", self.path), why: Why::Broken(error) })
            }
        }
    }

    /// An ELF file: the kernel, a module, or what unpacks the kernel.
    fn elf(&mut self) -> Result<Option<Found>, NoBtf> {
        let elf = match Elf::parse(self.view()) {
            Ok(elf) => elf,
            Err(error) => return Err(self.no_btf(&format!("a broken ELF file: {error}"))),
        };
        self.said.machine = elf.machine;
        let is_kernel = if elf.is_relocatable {
            self.said.release = elf.vermagic(self.view()).map(str::to_owned);
            false
        } else if elf.has_sections {
            let view = self.data.get(self.place.clone()).unwrap_or_default();
            self.said.note(elf.loaded(view))
        } else {
            false
        };
        if let Some(btf) = elf.btf.and_then(|it| self.inside(it)) {
            let base = elf.base.and_then(|it| self.inside(it));
            return Ok(Some(Found { btf, base, pointer_size: Some(elf.pointer_size) }));
        }
        if let Some(packed) = elf.packed.and_then(|it| self.inside(it)) {
            self.unpack("an ELF file", packed)?;
            return Ok(None);
        }
        if elf.has_dwarf && !elf.is_relocatable {
            let what = format!("{}an ELF file with debugging information and no .BTF section", self.path);
            let pointer_size = elf.pointer_size;
            // Not copied where it is the whole file, which may be large.
            let mut data = std::mem::take(&mut self.data);
            data.truncate(self.place.end);
            data.drain(..self.place.start);
            let said = Box::new(self.said.clone());
            return Err(NoBtf { what, why: Why::Dwarf(data, pointer_size, said) });
        }
        if !elf.has_sections {
            return self.plain("an ELF file without sections").map(Some);
        }
        let built = if is_kernel { NOT_BUILT_IN } else { "" };
        Err(self.no_btf(&format!("an ELF file without a .BTF section{built}")))
    }

    /// An image of what is in memory once the kernel runs.
    fn plain(&mut self, what: &str) -> Result<Found, NoBtf> {
        let view = self.data.get(self.place.clone()).unwrap_or_default();
        let is_kernel = self.said.note_plain(view);
        match find_raw(view).and_then(|it| self.inside(it)) {
            Some(place) => Ok(Found::at(place)),
            None => {
                let built = if is_kernel { NOT_BUILT_IN } else { "" };
                Err(self.no_btf(&format!("{what} without BTF in it{built}")))
            }
        }
    }

    /// Tries everything in the layer that looks like a packed kernel, until one has BTF.
    fn search(&mut self, what: &str) -> Result<Found, NoBtf> {
        if let Some(place) = find_raw(self.view()).and_then(|it| self.inside(it)) {
            let view = self.data.get(self.place.clone()).unwrap_or_default();
            self.said.note_plain(view);
            return Ok(Found::at(place));
        }
        let mut kernel = None;
        for (format, start) in streams(self.view()) {
            let mut budget = self.budget;
            let packed = self.view().get(start..).unwrap_or_default();
            let expanded = expand(format, packed, &mut budget, self.limit);
            self.budget = budget;
            let expanded = match expanded {
                Ok(expanded) => expanded,
                Err(error) if is_over_limit(&error) => {
                    let what = format!("{}{what} whose {} payload {error}", self.path, format.name());
                    return Err(NoBtf { what, why: Why::Broken(error) });
                }
                Err(_) => continue,
            };
            let elf = Elf::parse(&expanded).ok();
            let place = match elf.as_ref().and_then(|it| it.btf.clone()) {
                None => find_raw(&expanded),
                place => place.filter(|it| expanded.get(it.clone()).is_some()),
            };
            if let Some(place) = place {
                self.said.machine = elf.and_then(|it| it.machine).or(self.said.machine);
                self.said.note_plain(&expanded);
                self.path.push_str(what);
                self.data = expanded;
                return Ok(Found::at(place));
            }
            if kernel.is_none() && self.said.note_plain(&expanded) {
                kernel = Some(format.name());
            }
        }
        Err(match kernel {
            Some(format) => {
                let what =
                    format!("{what} whose {format} payload expands to a kernel without BTF{NOT_BUILT_IN}");
                self.no_btf(&what)
            }
            None if what == UNKNOWN || self.data.is_empty() => self.no_btf(what),
            None => self.no_btf(&format!("{what} in which no compressed kernel was found")),
        })
    }

    fn no_btf(&self, what: &str) -> NoBtf {
        NoBtf { what: format!("{}{what}", self.path), why: Why::Missing }
    }
}

const UNKNOWN: &str = "neither BTF, nor an ELF file with a .BTF section, nor a kernel image";
const NOT_BUILT_IN: &str = " (built without CONFIG_DEBUG_INFO_BTF)";

impl Said {
    /// Takes what a kernel says of itself in its memory, of which these are parts. Returns whether it is one.
    fn note<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
        // Source: `linux_banner`, init/version-timestamp.c.
        const BANNER: &[u8] = b"Linux version ";
        // Source: kernel/configs.c.
        const CONFIG: &[u8] = b"IKCFG_ST\x1f\x8b";
        let banners = |part: &'a [u8]| {
            let starts = memmem::find_iter(part, BANNER).take(BANNERS_MAX);
            starts.filter_map(|at| part.get(at + BANNER.len()..)).find_map(release)
        };
        let banner = parts.clone().find_map(banners);
        let config = |part: &'a [u8]| part.get(memmem::find(part, CONFIG)? + 8..);
        if let Some(config) = parts.clone().find_map(config) {
            self.config = Compression::Gzip.unpack(config, CONFIG_LEN_MAX).ok();
        }
        let is_kernel = banner.is_some();
        self.release = self.release.take().or(banner);
        is_kernel
    }

    fn note_plain(&mut self, data: &[u8]) -> bool {
        self.note(std::iter::once(data))
    }
}

/// The release that `text` begins with.
fn release(text: &[u8]) -> Option<String> {
    let text = text.get(..text.len().min(RELEASE_LEN_MAX + 1))?;
    let len = text.iter().position(|&byte| byte <= b' ')?;
    let release = std::str::from_utf8(text.get(..len)?).ok()?;
    (release.is_ascii() && Release::parse(release).is_some()).then(|| release.to_owned())
}

/// Everything in `data` that may be a compressed kernel, the least ambiguous formats first.
fn streams(data: &[u8]) -> Vec<(Compression, usize)> {
    let mut found = Vec::new();
    for format in Compression::ALL {
        let starts = memmem::find_iter(data, format.magic());
        let starts = starts.filter(|&at| data.get(at..).is_some_and(|it| is_plausible(format, it)));
        found.extend(starts.map(|at| (format, at)).take(STREAMS_MAX - found.len()));
    }
    found
}

/// Expands the stream that `packed` begins with, and takes what comes out, be it broken in the end, off `budget`.
fn expand(format: Compression, packed: &[u8], budget: &mut u64, limit: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let read = format.stream(packed)?.take(budget.saturating_add(1)).read_to_end(&mut out);
    match budget.checked_sub(out.len() as u64) {
        Some(rest) => *budget = rest,
        None => return Err(OverLimit::Expanded(limit).into()),
    }
    read.map(|_| out)
}

fn is_over_limit(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|it| it.is::<OverLimit>())
}

/// Finds the kernel's BTF in a plain image: the longest that parses.
fn find_raw(image: &[u8]) -> Option<Range<usize>> {
    let mut places: Vec<Range<usize>> = Vec::new();
    for magic in [[0x9f, 0xeb, 1], [0xeb, 0x9f, 1]] {
        for start in memmem::find_iter(image, &magic) {
            let Some(data) = image.get(start..) else { continue };
            let Some(len) = extent(data).filter(|len| (1..=BTF_LEN_MAX).contains(len)) else { continue };
            // The strings of BTF without a base begin with the empty one.
            let strings = sections(data).map_or(&[][..], |it| it.1);
            if strings.first() == Some(&0) && strings.last() == Some(&0) {
                places.push(start..start + len);
                keep_longest(&mut places);
            }
        }
    }
    places.sort_by_key(|it| std::cmp::Reverse(it.len()));
    places.into_iter().take(PLACES_MAX).find(|place| {
        let btf = image.get(place.clone()).and_then(|it| Btf::parse(it).ok());
        btf.is_some_and(|it| it.type_count() > TYPES_MIN)
    })
}

/// Bounds the list for an image that is made of headers.
fn keep_longest(places: &mut Vec<Range<usize>>) {
    if places.len() >= 64 * PLACES_MAX {
        places.sort_by_key(|it| std::cmp::Reverse(it.len()));
        places.truncate(PLACES_MAX);
    }
}
