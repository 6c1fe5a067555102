//! What rows point to, kept for as long as they are.

use std::any::Any;
use std::ffi::{c_char, CStr};
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hashbrown::HashMap;

use crate::border::c_string;

/// Text, structs and lists that others point to. Each stays where it is until all of it is dropped.
#[derive(Default)]
pub(crate) struct Keep {
    strings: HashMap<String, Arc<CStr>>,
    others: Vec<Arc<dyn Any>>,
}

impl Keep {
    /// Text for C; the same text is kept once.
    pub(crate) fn string(&mut self, text: &str) -> *const c_char {
        if let Some(known) = self.strings.get(text) {
            return known.as_ptr();
        }
        let kept: Arc<CStr> = c_string(text).into();
        let at = kept.as_ptr();
        self.strings.insert(text.to_owned(), kept);
        at
    }

    /// The same, or NULL.
    pub(crate) fn option(&mut self, text: Option<&str>) -> *const c_char {
        text.map_or(ptr::null(), |it| self.string(it))
    }

    /// A struct.
    pub(crate) fn value<T: 'static>(&mut self, value: T) -> *const T {
        let kept = Arc::new(value);
        let at = Arc::as_ptr(&kept);
        self.others.push(kept);
        at
    }

    /// A list: where it is, and how long.
    pub(crate) fn list<T: 'static>(&mut self, items: Vec<T>) -> (*const T, usize) {
        let len = items.len();
        let kept = Arc::new(items);
        let at = kept.as_ptr();
        self.others.push(kept);
        (at, len)
    }
}

/// Rows with what they point to.
pub(crate) struct Kept<T> {
    rows: T,
    _keep: Keep,
}

impl<T> Kept<T> {
    /// Makes rows.
    pub(crate) fn new(rows: impl FnOnce(&mut Keep) -> T) -> Self {
        let mut keep = Keep::default();
        Self { rows: rows(&mut keep), _keep: keep }
    }

    /// The rows.
    pub(crate) fn rows(&self) -> &T {
        &self.rows
    }
}

/// Rows in parts, each of which is made when it is first asked for. What they point to is kept for all of them together.
pub(crate) struct KeptParts<T> {
    parts: Vec<OnceLock<T>>,
    keep: Mutex<Keep>,
}

impl<T> KeptParts<T> {
    /// So many parts, none of them made.
    pub(crate) fn new(count: usize) -> Self {
        Self { parts: (0..count).map(|_| OnceLock::new()).collect(), keep: Mutex::default() }
    }

    /// A part, made of what `found` gives if it is not made yet. Parts are found side by side, and made one by one.
    pub(crate) fn part<R>(
        &self,
        number: usize,
        found: impl FnOnce() -> R,
        made: impl FnOnce(&mut Keep, R) -> T,
    ) -> Option<&T> {
        let make = || {
            let found = found();
            made(&mut self.keep.lock().unwrap_or_else(PoisonError::into_inner), found)
        };
        Some(self.parts.get(number)?.get_or_init(make))
    }
}

// SAFETY: the pointers of the rows lead to what is kept beside them or to nothing; both move and go together, and nothing
// of it changes once it is made.
unsafe impl<T> Send for Kept<T> {}
// SAFETY: the same; it can only be read.
unsafe impl<T> Sync for Kept<T> {}
// SAFETY: as above; what is kept later leaves what is there where it is.
unsafe impl<T> Send for KeptParts<T> {}
// SAFETY: parts are made under a lock, and can only be read then.
unsafe impl<T> Sync for KeptParts<T> {}
