//! Objects that are copies of each other: judged once, shown under every name.

use std::sync::{Arc, Mutex, PoisonError};

use crate::load::Inputs;

/// What is found out about objects, shared by those that are the same. Whoever comes first finds it out; it is kept until
/// the last copy has had it.
pub(crate) struct Shared<T> {
    slots: Vec<Mutex<Slot<T>>>,
}

struct Slot<T> {
    found: Option<Arc<T>>,
    /// Copies that have not had it.
    left: usize,
}

impl<T> Shared<T> {
    pub(crate) fn new(inputs: &Inputs<'_>) -> Self {
        let mut left = vec![0; inputs.distinct.len()];
        for object in &inputs.objects {
            if let Some(left) = left.get_mut(object.distinct) {
                *left += 1;
            }
        }
        Self { slots: left.into_iter().map(|left| Mutex::new(Slot { found: None, left })).collect() }
    }

    /// What there is about an object, once for each of its copies. `find` runs on this thread alone: others wait for it.
    pub(crate) fn of(&self, distinct: usize, find: impl FnOnce() -> T) -> Arc<T> {
        let Some(slot) = self.slots.get(distinct) else { return Arc::new(find()) };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let found = slot.found.take().unwrap_or_else(|| Arc::new(find()));
        slot.left = slot.left.saturating_sub(1);
        if slot.left > 0 {
            slot.found = Some(Arc::clone(&found));
        }
        found
    }
}

/// `3 objects are copies of others`, if there are any.
pub(crate) fn remark(inputs: &Inputs<'_>) -> Option<String> {
    match inputs.objects.len().checked_sub(inputs.distinct.len())? {
        0 => None,
        1 => Some("1 object is a copy of another".into()),
        count => Some(format!("{count} objects are copies of others")),
    }
}
