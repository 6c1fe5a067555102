//! Compressed data, with a bound on what comes out: a file is not trusted to be as small as it looks.

use std::io::{self, BufRead, Read};

use bzip2::bufread::{BzDecoder, MultiBzDecoder};
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use lz4_flex::frame::FrameDecoder;

use super::OverLimit;

/// Memory that an xz or lzma stream may ask for, in **bytes**: the largest preset asks for 65 MiB.
const LZMA_MEMORY: u64 = 256 << 20;
/// **Bytes** up to which a buffer grows as it is filled.
const SMALL: u64 = 32 << 20;
/// Most **bytes** that are asked for at once.
const RESERVED_MAX: u64 = 4 << 30;
/// Size of the blocks of lz4's legacy format, in **bytes**.
const LEGACY_BLOCK: usize = 8 << 20;

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
    /// lz4's frame format.
    Lz4,
    /// lz4's first format, which kernels are compressed with.
    Lz4Legacy,
    /// bzip2.
    Bzip2,
    /// What was before xz.
    Lzma,
}

impl Compression {
    /// All of them, those with the least ambiguous magic first.
    pub const ALL: [Self; 7] =
        [Self::Xz, Self::Zstd, Self::Lz4, Self::Lz4Legacy, Self::Gzip, Self::Bzip2, Self::Lzma];

    /// What data that is compressed so begins with.
    pub fn magic(self) -> &'static [u8] {
        match self {
            Self::Xz => &[0xfd, b'7', b'z', b'X', b'Z', 0],
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Self::Gzip => &[0x1f, 0x8b, 8],
            Self::Lz4 => &[4, 0x22, 0x4d, 0x18],
            Self::Lz4Legacy => &[2, 0x21, 0x4c, 0x18],
            Self::Bzip2 => b"BZh",
            Self::Lzma => &[0x5d, 0, 0],
        }
    }

    /// The name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Lz4Legacy => "lz4 (legacy)",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
        }
    }

    /// How `data` is compressed, by what it begins with.
    pub fn of(data: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|it| data.starts_with(it.magic()))
    }

    /// A reader of what a file holds, all of whose streams count.
    ///
    /// # Errors
    /// If the decoder cannot be set up.
    pub fn file<'a>(self, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Xz => {
                Box::new(XzDecoder::new_stream(input, Stream::new_stream_decoder(LZMA_MEMORY, CONCATENATED)?))
            }
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(input)?),
            Self::Gzip => Box::new(MultiGzDecoder::new(input)),
            Self::Bzip2 => Box::new(MultiBzDecoder::new(input)),
            Self::Lz4 | Self::Lz4Legacy | Self::Lzma => return self.stream(input),
        })
    }

    /// A reader of what `input` begins with, up to the end of the first stream: kernels put other bytes behind it.
    ///
    /// # Errors
    /// If the decoder cannot be set up.
    pub fn stream<'a>(self, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Xz => Box::new(XzDecoder::new_stream(input, Stream::new_stream_decoder(LZMA_MEMORY, 0)?)),
            Self::Lzma => Box::new(XzDecoder::new_stream(input, Stream::new_lzma_decoder(LZMA_MEMORY)?)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(input)?.single_frame()),
            Self::Gzip => Box::new(GzDecoder::new(input)),
            Self::Bzip2 => Box::new(BzDecoder::new(input)),
            Self::Lz4 => Box::new(FrameDecoder::new(input)),
            Self::Lz4Legacy => Box::new(Legacy::new(input)),
        })
    }

    /// Expands the stream that `data` begins with.
    ///
    /// # Errors
    /// If the stream is broken, and [`OverLimit::Expanded`] if what comes out is longer than `limit` **bytes**.
    pub fn unpack(self, data: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        read_all(self.stream(data)?, limit)
    }
}

/// Everything that `input` has.
///
/// # Errors
/// If it cannot be read, and [`OverLimit::Expanded`] if it is longer than `limit` **bytes**.
pub fn read_all(input: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut input = input.take(limit.saturating_add(1));
    let mut out = Vec::new();
    (&mut input).take(SMALL).read_to_end(&mut out)?;
    if out.len() as u64 == SMALL {
        // Once for all that may come: what grows by doubling is there twice while it is copied. Memory that is not
        // written to is not used.
        let rest = usize::try_from(input.limit().min(RESERVED_MAX)).map_err(io::Error::other)?;
        out.try_reserve_exact(rest).map_err(io::Error::other)?;
        input.read_to_end(&mut out)?;
    }
    if out.len() as u64 > limit {
        return Err(OverLimit::Expanded(limit).into());
    }
    Ok(out)
}

/// lz4's legacy format: a magic, then blocks, each with its compressed length in front. Nothing marks the end: what
/// follows in an image reads as a block that is too long.
struct Legacy<R> {
    input: R,
    begun: bool,
    packed: Vec<u8>,
    block: Vec<u8>,
    /// Of the block, what was handed out and what there is, in **bytes**.
    at: usize,
    len: usize,
}

impl<R: Read> Legacy<R> {
    fn new(input: R) -> Self {
        Self { input, begun: false, packed: Vec::new(), block: Vec::new(), at: 0, len: 0 }
    }

    /// Expands the next block. Returns whether there is one.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.begun {
            let mut magic = [0; 4];
            self.input.read_exact(&mut magic)?;
            self.block = vec![0; LEGACY_BLOCK];
        }
        let mut len = [0; 4];
        let len = match self.input.read_exact(&mut len) {
            Ok(()) => u32::from_le_bytes(len),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        // What does not compress grows a little.
        let max = lz4_flex::block::get_maximum_output_size(LEGACY_BLOCK) as u64;
        let is_block = len > 0 && u64::from(len) <= max;
        self.packed.clear();
        if is_block {
            (&mut self.input).take(len.into()).read_to_end(&mut self.packed)?;
        }
        if !is_block || self.packed.len() as u64 != u64::from(len) {
            return if self.begun { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        self.len =
            lz4_flex::block::decompress_into(&self.packed, &mut self.block).map_err(io::Error::other)?;
        (self.at, self.begun) = (0, true);
        Ok(true)
    }
}

impl<R: Read> Read for Legacy<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.len {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let mut rest = self.block.get(self.at..self.len).unwrap_or_default();
        let count = rest.read(buf)?;
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// `data`, compressed.
    pub(in crate::ingest) fn pack(format: Compression, data: &[u8]) -> Vec<u8> {
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
            Compression::Xz => liblzma::encode_all(data, 0).unwrap(),
            Compression::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
                let stream = Stream::new_lzma_encoder(&options).unwrap();
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
                let mut out = format.magic().to_vec();
                for block in data.chunks(LEGACY_BLOCK) {
                    let packed = lz4_flex::block::compress(block);
                    out.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
                    out.extend(packed);
                }
                out
            }
        }
    }

    fn sample() -> Vec<u8> {
        (0..100_000_u32).flat_map(|it| (it / 7).to_le_bytes()).collect()
    }

    /// Check that each format comes out as it went in, whatever stands behind the stream.
    #[test]
    fn every_format_expands_and_ignores_what_follows() {
        let data = sample();
        for format in Compression::ALL {
            let mut packed = pack(format, &data);
            assert_eq!(Compression::of(&packed), Some(format));
            packed.extend(400_000_000_u32.to_le_bytes());
            assert_eq!(format.unpack(&packed, data.len() as u64).unwrap(), data, "{format:?}");
        }
    }

    /// Check that all streams of a file count, in the formats whose tools make such files.
    #[test]
    fn streams_of_a_file_are_joined() {
        let data = sample();
        for format in [Compression::Xz, Compression::Zstd, Compression::Gzip, Compression::Bzip2] {
            let (first, second) = data.split_at(1234);
            let packed = [pack(format, first), pack(format, second)].concat();
            assert_eq!(
                read_all(format.file(packed.as_slice()).unwrap(), 1 << 20).unwrap(),
                data,
                "{format:?}"
            );
        }
    }

    /// Check that what is large comes out whole, and is as long as the limit or too long.
    #[test]
    fn large_files_are_read_in_two_steps() {
        for len in [SMALL - 1, SMALL, SMALL + 1, 2 * SMALL + 7] {
            let read = |limit| read_all(io::repeat(7).take(len), limit);
            let data = read(len).unwrap();
            assert!(data.len() as u64 == len && data.iter().all(|it| *it == 7));
            assert_eq!(read(len + 1).unwrap().len() as u64, len);
            assert!(read(len - 1).is_err());
        }
    }

    /// Check that a bomb is an error that names the limit, and not its size in memory.
    #[test]
    fn what_is_longer_than_the_limit_is_refused() {
        let data = vec![0; 1 << 20];
        for format in Compression::ALL {
            let error = format.unpack(&pack(format, &data), (1 << 20) - 1).unwrap_err();
            assert!(error.to_string().contains("max-expanded"), "{format:?}: {error}");
        }
    }

    /// Check that cut streams are errors or shorter, and nothing panics.
    #[test]
    fn cut_streams_are_not_taken_for_whole() {
        let data: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
        for format in Compression::ALL {
            let packed = pack(format, &data);
            for len in (0..packed.len()).step_by(37) {
                assert_ne!(format.unpack(&packed[..len], 1 << 20).ok().as_ref(), Some(&data), "{format:?}");
            }
        }
    }
}
