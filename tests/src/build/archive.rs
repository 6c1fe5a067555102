//! Archives and packages, byte by byte, so that they can be as wrong as a test wants.
#![expect(clippy::cast_possible_truncation, reason = "archives of tests are far below 4 GiB")]

/// A file for an archive: its path and its bytes.
pub type Entry<'a> = (&'a str, &'a [u8]);

/// An `ar` archive. Names of more than 15 bytes go into a table, as GNU's tools do it.
pub fn ar(files: &[Entry<'_>]) -> Vec<u8> {
    let header =
        |name: &str, len: usize| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{len:<10}`\n", 0, 0, 0, "100644");
    let (mut names, mut members) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let short = match name.len() {
            0..=15 => format!("{name}/"),
            _ => {
                let at = names.len();
                names.extend(format!("{name}/\n").into_bytes());
                format!("/{at}")
            }
        };
        members.extend(header(&short, data.len()).into_bytes());
        members.extend(*data);
        members.resize(members.len().next_multiple_of(2), b'\n');
    }
    let mut out = b"!<arch>\n".to_vec();
    if !names.is_empty() {
        names.resize(names.len().next_multiple_of(2), b'\n');
        out.extend(header("//", names.len()).into_bytes());
        out.extend(names);
    }
    out.extend(members);
    out
}

/// A tar archive.
pub fn tar(files: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in files {
        let mut header = vec![0; 512];
        let mut put = |at: usize, text: &str| {
            for (to, byte) in header.iter_mut().skip(at).zip(text.bytes()) {
                *to = byte;
            }
        };
        put(0, name);
        put(100, "0000644\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", data.len()));
        put(136, "00000000000\0");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|it| u32::from(*it)).sum();
        for (to, byte) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
            *to = byte;
        }
        out.extend(header);
        out.extend(*data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A Debian package whose tar archive is compressed by zstd.
pub fn deb(files: &[Entry<'_>]) -> Vec<u8> {
    deb_that_says("", files)
}

/// A Debian package with a control file.
pub fn deb_that_says(control: &str, files: &[Entry<'_>]) -> Vec<u8> {
    let files = zstd_of(&tar(files));
    let about = tar(&[("./md5sums", b""), ("./control", control.as_bytes())]);
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.zst", &zstd_of(&about)), ("data.tar.zst", &files)])
}

/// A cpio archive in its `newc` format.
pub fn cpio(files: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let files = files.iter().copied().chain([("TRAILER!!!", [].as_slice())]);
    for (name, data) in files {
        let mode = 0o100_644;
        let fields = [1, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        out.extend(b"070701");
        out.extend(fields.iter().flat_map(|it| format!("{it:08x}").into_bytes()));
        out.extend(name.bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// An RPM package: as much of its headers as says how long they are, and a cpio archive compressed by zstd.
pub fn rpm(files: &[Entry<'_>]) -> Vec<u8> {
    rpm_that_says(&[], files)
}

/// An RPM package whose header has texts: tag and value.
pub fn rpm_that_says(tags: &[(u32, &str)], files: &[Entry<'_>]) -> Vec<u8> {
    let header = |index: &[u8], data: &[u8]| {
        let mut out = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
        for len in [index.len() / 16, data.len()] {
            out.extend((len as u32).to_be_bytes());
        }
        [out.as_slice(), index, data].concat()
    };
    let mut out = vec![0xed, 0xab, 0xee, 0xdb];
    out.resize(96, 0);
    out.extend(header(&[0xff; 48], &[0xff; 37]));
    out.resize(out.len().next_multiple_of(8), 0);
    // Something that nobody looks for is around them.
    let (mut index, mut texts) = (vec![0xff; 16], vec![0xff; 7]);
    for (tag, text) in tags {
        index.extend([*tag, 6, texts.len() as u32, 1].iter().flat_map(|it| it.to_be_bytes()));
        texts.extend(text.bytes().chain([0]));
    }
    out.extend(header(&index, &texts));
    // As `rpmbuild` names the files.
    let named: Vec<(String, &[u8])> = files.iter().map(|it| (format!("./{}", it.0), it.1)).collect();
    let named: Vec<Entry<'_>> = named.iter().map(|it| (it.0.as_str(), it.1)).collect();
    out.extend(zstd_of(&cpio(&named)));
    out
}

/// `data`, compressed by zstd.
pub fn zstd_of(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).expect("enough memory")
}
