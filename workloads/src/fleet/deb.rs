//! Debian packages: an `ar` archive with a compressed tar archive of the files in it.

use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::ops::ControlFlow;

use btfleet_engine::ingest::{Compression, read_all};

/// Longest file of a package that is looked at. The largest real one is a kernel of 100 MB.
const MAX_FILE: u64 = 1 << 30;

/// What a package may unpack to. The largest real ones reach 1 GB.
const MAX_TOTAL: u64 = 16 << 30;

const HEADER_LEN: usize = 60;

/// Calls `visit` for each regular file of a package whose path `wanted` asks for, until it breaks.
///
/// Paths are relative, without `./` in front. They are the package's own words: do not use them as they
/// are for a path to write to.
///
/// # Errors
/// If it is not a package, if its compression is none that Debian uses, or if it is broken.
pub(super) fn visit(
    mut deb: impl BufRead + Seek,
    wanted: impl Fn(&str) -> bool,
    mut visit: impl FnMut(&str, Vec<u8>) -> ControlFlow<()>,
) -> io::Result<()> {
    let data = find_data(&mut deb)?;
    let mut tar = tar::Archive::new(data.take(MAX_TOTAL));
    for entry in tar.entries()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./");
        if wanted(path) && visit(path, read_all(entry, MAX_FILE)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// A reader of the tar archive with the files.
fn find_data<'a>(deb: &'a mut (impl BufRead + Seek)) -> io::Result<Box<dyn Read + 'a>> {
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut magic = [0; 8];
    deb.read_exact(&mut magic)?;
    if &magic != b"!<arch>\n" {
        return Err(bad("is not an ar archive"));
    }
    loop {
        let mut header = [0; HEADER_LEN];
        deb.read_exact(&mut header).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof { bad("has no data.tar") } else { error }
        })?;
        let (name, size) = member(&header).ok_or_else(|| bad("has a broken ar header"))?;
        if name.starts_with("data.tar") {
            let data = deb.take(size);
            return match name.trim_end_matches('/') {
                "data.tar" => Ok(Box::new(data)),
                "data.tar.gz" => Compression::Gzip.file(data),
                "data.tar.xz" => Compression::Xz.file(data),
                "data.tar.zst" => Compression::Zstd.file(data),
                "data.tar.lzma" => Compression::Lzma.file(data),
                _ => Err(bad("is compressed in a way that is not supported")),
            };
        }
        // Members begin at even offsets.
        let skip = i64::try_from(size.next_multiple_of(2)).map_err(|_| bad("has a broken ar header"))?;
        deb.seek(SeekFrom::Current(skip))?;
    }
}

/// Name and size of a member.
fn member(header: &[u8; HEADER_LEN]) -> Option<(&str, u64)> {
    let (Some(b"`\n"), Some(name), Some(size)) = (header.get(58..), header.get(..16), header.get(48..58))
    else {
        return None;
    };
    let size = std::str::from_utf8(size).ok()?.trim_end().parse().ok()?;
    Some((std::str::from_utf8(name).ok()?.trim_end(), size))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
pub(super) mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    /// `data`, compressed.
    pub(in crate::fleet) fn pack(format: Compression, data: &[u8]) -> Vec<u8> {
        match format {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(data, 1).unwrap(),
            _ => liblzma::encode_all(data, 0).unwrap(),
        }
    }

    /// A package with these files, whose tar archive is packed as `format`.
    pub(in crate::fleet) fn package(format: Compression, files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, *data).unwrap();
        }
        let suffix = match format {
            Compression::Gzip => "gz",
            Compression::Zstd => "zst",
            _ => "xz",
        };
        let data = pack(format, &tar.into_inner().unwrap());
        let mut deb = b"!<arch>\n".to_vec();
        for (name, data) in [("debian-binary", b"2.0".as_slice()), (&format!("data.tar.{suffix}"), &data)] {
            let size = data.len();
            deb.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644).bytes());
            deb.extend(data);
            deb.resize(deb.len().next_multiple_of(2), b'\n');
        }
        deb
    }

    #[test]
    fn wanted_files_are_read_whatever_the_compression() {
        for format in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
            let deb = package(format, &[("boot/a", b"1"), ("usr/b", b"22"), ("usr/c", b"333")]);
            let mut found = Vec::new();
            visit(
                Cursor::new(deb),
                |path| path.starts_with("usr/"),
                |path, data| {
                    found.push((path.to_owned(), data.len()));
                    ControlFlow::Continue(())
                },
            )
            .unwrap();
            assert_eq!(found, [("usr/b".to_owned(), 2), ("usr/c".to_owned(), 3)]);
        }
    }

    #[test]
    fn broken_packages_are_errors() {
        let deb = package(Compression::Xz, &[("a", &[7; 5000])]);
        let visit_all = |deb: &[u8]| {
            let mut files = 0;
            visit(
                Cursor::new(deb),
                |_| true,
                |_, _| {
                    files += 1;
                    ControlFlow::Continue(())
                },
            )
            .map(|()| files)
        };
        assert_eq!(visit_all(&deb).unwrap(), 1);
        assert!(visit_all(b"").is_err());
        assert_eq!(visit_all(&deb[..72]).unwrap_err().to_string(), "has no data.tar");
        for len in 0..deb.len() - 60 {
            assert_ne!(visit_all(&deb[..len]).ok(), Some(1), "cut to {len}");
        }
        let mut bad_size = deb.clone();
        bad_size[8 + 48] = b'-';
        assert_eq!(visit_all(&bad_size).unwrap_err().to_string(), "has a broken ar header");
    }
}
