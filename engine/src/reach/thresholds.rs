//! Which values of the kernel's configuration a program tells apart: those on either side of the numbers that it compares
//! them with. `LINUX_KERNEL_VERSION` is another on every kernel, and yet most programs ask one question of it.

use hashbrown::HashMap;

use super::scalar::Sources;
use super::{Features, Source, Symbol};
use crate::format::Endian;

/// Values from here on may change their order in comparisons with a sign.
const END: u64 = 1 << 31;

/// What was done with values that are not numbers in the program, on any path.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Numbers that values of these sources were compared with.
    compared: Vec<(Sources, u64)>,
    /// Sources with whose values something else was done.
    exact: Sources,
    /// By extern: how many **bytes** of it were read.
    read: HashMap<usize, u8>,
}

impl Uses {
    pub(super) fn compare(&mut self, from: Sources, with: u64) {
        if from != 0 && self.compared.last() != Some(&(from, with)) {
            self.compared.push((from, with));
        }
    }

    pub(super) fn exactly(&mut self, from: Sources) {
        self.exact |= from;
    }

    /// Whether more would be known of uses if paths with values of these sources were followed.
    pub(super) fn is_open(&self, from: Sources) -> bool {
        from & !self.exact != 0
    }

    pub(super) fn read(&mut self, symbol: usize, from: Sources, offset: i64, len: u8, is_signed: bool) {
        let is_same = *self.read.entry(symbol).or_insert(len) == len;
        if !is_same || offset != 0 || is_signed && len < 4 {
            self.exactly(from);
        }
    }

    /// By source, with its bit: what was done with it, for `externs` externs.
    pub(super) fn of_externs(
        &self,
        sources: impl Iterator<Item = (Source, Sources)>,
        externs: usize,
        features: Features,
    ) -> Thresholds {
        let mut of = vec![Some(Values::default()); externs];
        for (source, bit) in sources {
            let Source::Extern(number) = source else { continue };
            let compared = self.compared.iter().filter(|it| it.0 & bit != 0);
            // A value may be compared when it is shifted up.
            let halves = compared.flat_map(|it| [it.1, it.1 >> 32, it.1 & u64::from(u32::MAX)]);
            let mut compared: Vec<u64> = halves.filter(|it| *it < END).collect();
            // Whether bytes are zero is kept where nothing else is.
            compared.push(0);
            compared.sort_unstable();
            compared.dedup();
            if let Some(of) = of.get_mut(number) {
                let len = self.read.get(&number).copied();
                *of = (self.exact & bit == 0).then_some(Values { compared, len });
            }
        }
        Thresholds { of, features }
    }
}

/// The values that a program tells apart.
#[derive(Debug)]
pub struct Thresholds {
    /// By extern; `None` if each value may be another matter.
    of: Vec<Option<Values>>,
    /// Features of the verifier that made a difference.
    pub features: Features,
}

/// The values of one extern that a program tells apart.
#[derive(Clone, Debug, Default)]
struct Values {
    /// Numbers that it is compared with, ascending.
    compared: Vec<u64>,
    /// How many **bytes** are read.
    len: Option<u8>,
}

impl Thresholds {
    /// Of `externs` externs, each value of which may be another matter.
    pub(super) fn exact(externs: usize, features: Features) -> Self {
        Self { of: vec![None; externs], features }
    }

    /// What is known of symbols, with a value in place of each that the program cannot tell from it: the same for all of
    /// those. `symbols`: by extern. `endian`: byte order of the object.
    pub fn stand_ins(&self, mut symbols: Vec<Symbol>, endian: Endian) -> Vec<Symbol> {
        for (symbol, thresholds) in symbols.iter_mut().zip(&self.of) {
            let Some(Values { compared, len }) = thresholds else { continue };
            match symbol {
                Symbol::Value(bytes) if len.is_none_or(|it| usize::from(it) == bytes.len()) => {
                    let mut wide = [0; 8];
                    let order = |bytes: &mut [u8]| {
                        if endian == Endian::Big {
                            bytes.reverse();
                        }
                    };
                    let Some(place) = wide.get_mut(..bytes.len()) else { continue };
                    place.copy_from_slice(bytes);
                    order(place);
                    let stand_in = stand_in(u64::from_le_bytes(wide), compared).to_le_bytes();
                    for (byte, new) in bytes.iter_mut().zip(stand_in) {
                        *byte = new;
                    }
                    order(bytes);
                }
                Symbol::Between(low, high) => {
                    (*low, *high) = (stand_in(*low, compared), stand_in(*high, compared));
                }
                Symbol::Value(_) | Symbol::Present | Symbol::Missing | Symbol::Open => {}
            }
        }
        symbols
    }
}

/// The least value that is as `value` is to all thresholds.
fn stand_in(value: u64, thresholds: &[u64]) -> u64 {
    if value >= END {
        return value;
    }
    match thresholds.binary_search(&value) {
        Ok(_) => value,
        Err(0) => 0,
        Err(place) => thresholds.get(place - 1).map_or(value, |it| it + 1),
    }
}
