//! Light skeletons: programs that `bpftool gen skeleton -L` has packed into a loader, which is itself a BPF program.
//!
//! A light skeleton is two strings of bytes in an executable or an object: a blob with the programs, their BTF and their
//! CO-RE records, and the instructions of the loader, which passes them to `bpf()`. The kernel relocates them. The loader
//! is straight-line code from one generator: it is read, never run (`walk`), and says where in the blob everything is.
//! What is found is written down as a BPF object (`write`), so that it is judged like any other.
//!
//! What the loader looks up at run time besides attach targets (kernel functions and variables) is not in the object, and
//! maps stay numbers.
//!
//! Source: `bpf_gen__*` in `gen_loader.c`, libbpf; spec 11.3.

mod blob;
mod walk;
mod write;

use memchr::memmem;

use crate::format::Endian;
use blob::Blob;
use walk::Script;

/// A light skeleton in some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the instructions of its loader start, in **bytes**.
    pub offset: usize,
    /// Its programs as a BPF object.
    pub object: Vec<u8>,
}

/// `r6 = r1; r1 = r10`, with which every loader begins.
const PROLOGUES: [(Endian, [u8; PROLOGUE_LEN]); 2] = [
    (Endian::Little, [0xbf, 0x16, 0, 0, 0, 0, 0, 0, 0xbf, 0xa1, 0, 0, 0, 0, 0, 0]),
    (Endian::Big, [0xbf, 0x61, 0, 0, 0, 0, 0, 0, 0xbf, 0x1a, 0, 0, 0, 0, 0, 0]),
];

/// Most pairs of a loader and a start of BTF that are tried; files have some dozen. A stop for files made to take long.
const TRIES_MAX: usize = 1 << 16;

/// Bytes of a prologue.
pub(crate) const PROLOGUE_LEN: usize = 16;

/// Whether some bytes have what every loader begins with.
pub(crate) fn has_prologue(data: &[u8]) -> bool {
    PROLOGUES.iter().any(|(_, prologue)| memmem::find(data, prologue).is_some())
}

/// Finds the light skeletons in a file's bytes, in their order.
pub fn find(data: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut tries_left = TRIES_MAX;
    for (endian, prologue) in PROLOGUES {
        // BTF starts that a blob may be recognised by; looked for once there is a loader at all.
        let mut btf_starts: Option<Vec<usize>> = None;
        for offset in memmem::find_iter(data, &prologue) {
            let Some(script) = data.get(offset..).and_then(|it| Script::read(it, endian)) else { continue };
            let starts = btf_starts.get_or_insert_with(|| blob::btf_starts(data, endian));
            // HARDEN: bpftool makes no such files.
            let Some(left) = tries_left.checked_sub(starts.len()) else { break };
            tries_left = left;
            let Some(blob) = Blob::find(data, starts, &script, endian) else { continue };
            if let Some(object) = write::object(&blob, endian) {
                found.push(Found { offset, object });
            }
        }
    }
    found.sort_by_key(|it| it.offset);
    found
}
