//! Kernels that some outcomes do not tell apart.

use hashbrown::HashMap;

/// A partition of kernels. Classes are numbered by their first kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// By kernel: its class; `None` if it cannot be judged.
    pub of: Vec<Option<u32>>,
    /// By class: its first kernel.
    pub first: Vec<usize>,
}

impl Classes {
    /// `kernels` kernels, none of which is in a class.
    pub fn none(kernels: usize) -> Self {
        Self { of: vec![None; kernels], first: Vec::new() }
    }

    /// Splits classes: kernels stay together if they are in the same class of both partitions.
    pub fn split_by(&mut self, other: &Self) {
        let mut known: HashMap<(u32, u32), u32> = HashMap::new();
        self.first.clear();
        for (kernel, (class, part)) in self.of.iter_mut().zip(&other.of).enumerate() {
            *class = class.zip(*part).map(|key| {
                *known.entry(key).or_insert_with(|| {
                    self.first.push(kernel);
                    u32::try_from(self.first.len() - 1).unwrap_or(u32::MAX)
                })
            });
        }
    }

    /// Splits classes: kernels stay together if they have the same number in `part_of` too, which is by kernel.
    pub fn split_by_numbers(&mut self, part_of: &[u32]) {
        let mut known: HashMap<(u32, u32), u32> = HashMap::new();
        // Neighbours are mostly alike.
        let mut previous = None;
        self.first.clear();
        for (kernel, (class, part)) in self.of.iter_mut().zip(part_of).enumerate() {
            let Some(before) = *class else { continue };
            let key = (before, *part);
            let number = match previous {
                Some((of, number)) if of == key => number,
                _ => *known.entry(key).or_insert_with(|| {
                    self.first.push(kernel);
                    u32::try_from(self.first.len() - 1).unwrap_or(u32::MAX)
                }),
            };
            previous = Some((key, number));
            *class = Some(number);
        }
    }

    /// Splits classes by those of another object, which may not be judged on the same kernels: a kernel that either
    /// of the two is judged on stays in a class.
    pub fn join(&mut self, other: &Self) {
        let mut known: HashMap<(Option<u32>, Option<u32>), u32> = HashMap::new();
        self.first.clear();
        for (kernel, (class, part)) in self.of.iter_mut().zip(&other.of).enumerate() {
            if class.is_none() && part.is_none() {
                continue;
            }
            *class = Some(*known.entry((*class, *part)).or_insert_with(|| {
                self.first.push(kernel);
                u32::try_from(self.first.len() - 1).unwrap_or(u32::MAX)
            }));
        }
    }

    /// Adds kernels, each with a number that it shares with those of its class.
    pub(super) fn add(&mut self, kernels: impl Iterator<Item = (usize, u32)>) {
        let mut known: HashMap<u32, u32> = HashMap::new();
        for (kernel, number) in kernels {
            let class = *known.entry(number).or_insert_with(|| {
                self.first.push(kernel);
                u32::try_from(self.first.len() - 1).unwrap_or(u32::MAX)
            });
            if let Some(of) = self.of.get_mut(kernel) {
                *of = Some(class);
            }
        }
    }
}

/// Splits classes: kernels stay together if they are in the same class of both partitions. The second one is given
/// by kernel as `part_of`, whose numbers stand for those in `merged`.
pub(super) fn refine(class_of: &mut [u32], part_of: &[u32], merged: &[u32]) {
    let mut known: HashMap<(u32, u32), u32> = HashMap::new();
    for (class, part) in class_of.iter_mut().zip(part_of) {
        let part = merged.get(*part as usize).copied().unwrap_or(0);
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        *class = *known.entry((*class, part)).or_insert(next);
    }
}
