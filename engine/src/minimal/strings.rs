//! String sections in which a string that another one ends with is not stored again.

use std::cmp::Ordering;

/// A string section, or one that continues another one.
#[derive(Debug)]
pub(super) struct Strings<'data> {
    bytes: Vec<u8>,
    /// Offset of the first byte.
    start: u32,
    /// Strings that are stored, with their offsets, in the order of their last bytes.
    stored: Vec<(&'data [u8], u32)>,
}

fn from_behind(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

/// The last bytes, the last of them first: mostly enough to tell the order.
fn last_bytes(name: &[u8]) -> u64 {
    let mut last = [0; 8];
    last.iter_mut().zip(name.iter().rev()).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(last)
}

impl<'data> Strings<'data> {
    /// A section with `names`, all of them different; what `base` has is left out. Returns the offset of each too.
    pub(super) fn new(names: &[&'data [u8]], base: Option<&Self>) -> (Self, Vec<u32>) {
        let (bytes, start) = match base {
            Some(base) => (Vec::new(), base.end()),
            None => (vec![0], 0),
        };
        let mut this = Self { bytes, start, stored: Vec::new() };
        let mut offsets = vec![0; names.len()];
        let mut own = Vec::with_capacity(names.len());
        for (&name, offset) in names.iter().zip(&mut offsets).filter(|it| !it.0.is_empty()) {
            match base.and_then(|it| it.find(name)) {
                Some(known) => *offset = known,
                None => own.push((last_bytes(name), name, offset)),
            }
        }
        own.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| from_behind(b.1, a.1)));
        // From the last on, as whatever ends with a string comes right behind it.
        let mut is_stored = vec![false; own.len()];
        let mut behind: &[u8] = &[];
        for ((_, name, _), is_stored) in own.iter().zip(&mut is_stored) {
            *is_stored = !behind.ends_with(name);
            behind = name;
        }
        for ((_, name, _), _) in own.iter().zip(&is_stored).rev().filter(|it| *it.1) {
            this.stored.push((name, this.end()));
            this.bytes.extend_from_slice(name);
            this.bytes.push(0);
        }
        let mut stored = this.stored.iter().rev();
        let mut whole: (&[u8], u32) = (&[], 0);
        for ((_, name, offset), is_stored) in own.into_iter().zip(is_stored) {
            if is_stored {
                whole = stored.next().copied().unwrap_or_default();
            }
            // Shorter than what was written, which is shorter than the kernel's own strings.
            *offset = whole.1.saturating_add(u32::try_from(whole.0.len() - name.len()).unwrap_or(0));
        }
        (this, offsets)
    }

    fn end(&self) -> u32 {
        self.start.saturating_add(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
    }

    fn find(&self, name: &[u8]) -> Option<u32> {
        let at = self.stored.partition_point(|it| from_behind(it.0, name) == Ordering::Less);
        let (stored, offset) = self.stored.get(at).filter(|it| it.0.ends_with(name))?;
        u32::try_from(stored.len() - name.len()).ok()?.checked_add(*offset)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
