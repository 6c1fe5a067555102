//! Kernels that some outcomes do not tell apart.

use std::hash::Hash;

use hashbrown::HashMap;

use super::questions::count;
use crate::resolve::Outcome;

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

    /// Adds kernels, by the numbers of their classes among themselves: in the order of their first kernels.
    pub(super) fn add(&mut self, kernels: &[usize], class_of: &[u32]) {
        let before = self.first.len();
        for (&kernel, &class) in kernels.iter().zip(class_of) {
            let class = before + class as usize;
            if class == self.first.len() {
                self.first.push(kernel);
            }
            if let Some(of) = self.of.get_mut(kernel) {
                *of = u32::try_from(class).ok();
            }
        }
    }
}

/// What of an outcome tells kernels apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// How it came out, as far as a verdict, its findings and their messages depend on it.
    Verdict,
    /// What [`Outcome::write_effect`] writes.
    Effect,
    /// The same, except for the ids of types that a record asks for: they differ from kernel to kernel.
    EffectButIds,
}

impl Aspect {
    /// Appends what counts of an outcome. `asks_for_id`: of a record that asks for the id of the kernel's type.
    pub(super) fn write(self, asks_for_id: bool, outcome: &Outcome, bytes: &mut Vec<u8>) {
        match (self, outcome) {
            (Self::Verdict, Outcome::Decided(decision)) => {
                bytes.extend([4, decision.code as u8, u8::from(decision.poisoned)]);
                let module = decision.candidate.and_then(|it| it.module);
                bytes.extend(module.map_or(u32::MAX, |it| it).to_le_bytes());
            }
            (Self::EffectButIds, Outcome::Decided(decision)) if asks_for_id => {
                bytes.extend([5, u8::from(decision.candidate.is_some())]);
            }
            _ => outcome.write_effect(bytes),
        }
    }
}

/// Things that fall apart step by step, each with a number that those of its class share.
#[derive(Debug)]
pub(super) struct Split {
    of: Vec<u64>,
    /// Numbers are smaller.
    end: u64,
}

impl Split {
    /// `len` things of one class.
    pub(super) fn new(len: usize) -> Self {
        Self { of: vec![0; len], end: 1 }
    }

    /// Things stay together if they have the same number in `parts`, too. There is one for each, smaller than `end`.
    pub(super) fn by(&mut self, end: u32, parts: impl Iterator<Item = u32>) {
        let end = u64::from(end.max(1));
        if self.end.checked_mul(end).is_none() {
            let (numbers, count) = std::mem::replace(self, Self::new(0)).numbers();
            *self = Self { of: numbers.into_iter().map(u64::from).collect(), end: u64::from(count) };
        }
        for (number, part) in self.of.iter_mut().zip(parts) {
            *number = *number * end + u64::from(part);
        }
        self.end *= end;
    }

    /// By thing: its class, numbered in the order of their first things. And how many there are.
    pub(super) fn numbers(self) -> (Vec<u32>, u32) {
        if self.end == 1 {
            return (vec![0; self.of.len()], 1);
        }
        number(self.of.into_iter())
    }
}

/// Numbers what is equal, in the order in which it first shows up. And how many there are.
pub(super) fn number<T: Copy + Eq + Hash>(items: impl Iterator<Item = T>) -> (Vec<u32>, u32) {
    let mut known: HashMap<T, u32> = HashMap::new();
    let mut last = None;
    let numbers = items.map(|item| match last {
        // Neighbours are mostly equal.
        Some((it, number)) if it == item => number,
        _ => {
            let next = count(known.len());
            let number = *known.entry(item).or_insert(next);
            last = Some((item, number));
            number
        }
    });
    (numbers.collect(), count(known.len()))
}
