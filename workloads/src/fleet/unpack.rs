//! Compressed data, with a bound on what comes out: a package is not trusted to be as small as it looks.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

/// Memory that an xz or lzma stream may ask for: the largest preset asks for 65 MiB.
const LZMA_MEMORY: u64 = 256 << 20;

/// Size of the blocks of lz4's legacy format, which the kernel's build uses.
const LZ4_BLOCK: usize = 8 << 20;

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Xz,
    Zstd,
    /// The legacy frame format, the only one that kernels use.
    Lz4,
    /// The format before xz, which has no real magic.
    Lzma,
}

impl Format {
    /// All formats, those with the least ambiguous magic first.
    pub(super) const ALL: [Format; 5] = [Format::Xz, Format::Zstd, Format::Gzip, Format::Lz4, Format::Lzma];

    /// What data of this format begins with.
    pub(super) fn magic(self) -> &'static [u8] {
        match self {
            Format::Gzip => &[0x1f, 0x8b, 8],
            Format::Xz => &[0xfd, b'7', b'z', b'X', b'Z', 0],
            Format::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Format::Lz4 => &[2, 0x21, 0x4c, 0x18],
            Format::Lzma => &[0x5d, 0, 0],
        }
    }

    /// The format that `data` begins as.
    pub(super) fn of(data: &[u8]) -> Option<Format> {
        Format::ALL.into_iter().find(|format| data.starts_with(format.magic()))
    }

    /// A reader of what `input` holds, up to the end of the first stream: kernels put other bytes after it.
    ///
    /// # Errors
    /// For a format that is not read piece by piece, and if the decoder cannot be set up.
    pub(super) fn reader<'a>(self, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Format::Gzip => Box::new(GzDecoder::new(input)),
            Format::Xz => Box::new(XzDecoder::new_stream(input, Stream::new_stream_decoder(LZMA_MEMORY, 0)?)),
            Format::Lzma => Box::new(XzDecoder::new_stream(input, Stream::new_lzma_decoder(LZMA_MEMORY)?)),
            Format::Zstd => Box::new(zstd::Decoder::with_buffer(input)?.single_frame()),
            Format::Lz4 => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        })
    }

    /// Unpacks the stream that `data` begins with.
    ///
    /// # Errors
    /// If the stream is broken, or what comes out is longer than `limit` bytes.
    pub(super) fn unpack(self, data: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        if self == Format::Lz4 {
            return unpack_lz4(data, limit);
        }
        read_all(self.reader(data)?, limit)
    }
}

/// Everything that `input` has.
///
/// # Errors
/// If it cannot be read, or is longer than `limit` bytes.
pub(super) fn read_all(input: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    input.take(u64::try_from(limit).map_or(u64::MAX, |it| it.saturating_add(1))).read_to_end(&mut out)?;
    if out.len() > limit {
        return Err(io::Error::other(format!("is longer than {limit} bytes")));
    }
    Ok(out)
}

/// The legacy format: a magic, then blocks, each with its packed length in front. Nothing marks the end;
/// what follows in an image reads as a block that is too long.
fn unpack_lz4(data: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut rest = data.get(4..).unwrap_or_default();
    let mut out = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    while let Some((len, after)) = rest.split_first_chunk() {
        let Some((packed, after)) = usize::try_from(u32::from_le_bytes(*len))
            .ok()
            .filter(|&len| len > 0)
            .and_then(|len| after.split_at_checked(len))
        else {
            break;
        };
        let len = lz4_flex::block::decompress_into(packed, &mut block).map_err(io::Error::other)?;
        if out.len() + len > limit {
            return Err(io::Error::other(format!("is longer than {limit} bytes")));
        }
        out.extend_from_slice(block.get(..len).unwrap_or_default());
        rest = after;
    }
    if out.is_empty() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(out) }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// `data`, packed as `format`.
    pub(in crate::fleet) fn pack(format: Format, data: &[u8]) -> Vec<u8> {
        match format {
            Format::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Format::Zstd => zstd::encode_all(data, 1).unwrap(),
            Format::Xz => liblzma::encode_all(data, 0).unwrap(),
            Format::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
                let stream = Stream::new_lzma_encoder(&options).unwrap();
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Format::Lz4 => {
                let mut out = format.magic().to_vec();
                for block in data.chunks(LZ4_BLOCK) {
                    let packed = lz4_flex::block::compress(block);
                    out.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
                    out.extend(packed);
                }
                out
            }
        }
    }

    #[test]
    fn every_format_unpacks_and_ignores_what_follows() {
        let data: Vec<u8> = (0..100_000_u32).flat_map(|it| (it / 7).to_le_bytes()).collect();
        for format in Format::ALL {
            let mut packed = pack(format, &data);
            assert_eq!(Format::of(&packed), Some(format));
            packed.extend(400_000_u32.to_le_bytes());
            assert_eq!(format.unpack(&packed, data.len()).unwrap(), data, "{format:?}");
        }
    }

    #[test]
    fn what_is_longer_than_the_limit_is_refused() {
        let data = vec![0; 1 << 20];
        for format in Format::ALL {
            let packed = pack(format, &data);
            assert!(format.unpack(&packed, data.len() - 1).is_err(), "{format:?}");
        }
    }

    #[test]
    fn cut_streams_are_errors_or_shorter_never_panics() {
        let data: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
        for format in Format::ALL {
            let packed = pack(format, &data);
            for len in (0..packed.len()).step_by(37) {
                assert_ne!(format.unpack(&packed[..len], 1 << 20).ok().as_ref(), Some(&data));
            }
        }
    }
}
