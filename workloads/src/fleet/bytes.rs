//! Numbers out of untrusted bytes: every read is checked, every offset is a plain sum that cannot overflow.

/// Bytes with the byte order of the numbers in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a> {
    pub(super) data: &'a [u8],
    pub(super) big_endian: bool,
}

impl<'a> Bytes<'a> {
    /// `len` bytes from `at`, or `None` if they are not all there.
    pub(super) fn slice(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.data.get(at..at.checked_add(len)?)
    }

    /// The four bytes at `at`.
    pub(super) fn u32(self, at: usize) -> Option<u32> {
        let bytes = self.slice(at, 4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The four bytes at `at`, as a length or an offset.
    pub(super) fn offset(self, at: usize) -> Option<usize> {
        usize::try_from(self.u32(at)?).ok()
    }
}
