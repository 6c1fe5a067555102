//! Sample objects and BTF with random damage: whatever comes out, it comes out without a panic, and soon.
//!
//! `BTFLEET_MUTATIONS` sets how many there are, `BTFLEET_MUTATION_SEED` the number of the first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use btfleet_engine::kernel::Kernel;
use btfleet_tests::oracle::elf_section;

use super::{exercise, fold_over, kitchen_sink};

/// splitmix64: every seed is another sequence, and the same one on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }
}

/// Numbers that are on some edge.
const EDGES: [u32; 14] = [
    0,
    1,
    2,
    7,
    0xff,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    0xffff_fffe,
    u32::MAX,
    0x0400_0001,
    0x8400_ffff,
];

/// Damages `data` in one to four places.
fn mutate(data: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        if data.is_empty() {
            return;
        }
        let at = rng.below(data.len());
        let word = at & !3;
        match rng.below(8) {
            0 => {
                let bit = rng.below(8);
                data.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            1 => {
                let value = rng.next().to_le_bytes();
                data.iter_mut().skip(at).zip(value).take(1).for_each(|(byte, new)| *byte = new);
            }
            2 => {
                let edge = EDGES.get(rng.below(EDGES.len())).copied().unwrap_or(0);
                let bytes = if rng.below(2) == 0 { edge.to_le_bytes() } else { edge.to_be_bytes() };
                data.iter_mut().skip(word).zip(bytes).for_each(|(byte, new)| *byte = new);
            }
            3 => {
                // A small change of a number: off by one, another id or string.
                let delta = u8::try_from(rng.below(9)).unwrap_or(0).wrapping_sub(4);
                data.iter_mut().skip(at).take(1).for_each(|byte| *byte = byte.wrapping_add(delta));
            }
            4 => data.truncate(at),
            5 => {
                let len = rng.below(64).min(data.len() - at);
                let range: Vec<u8> = data.iter().skip(at).take(len).copied().collect();
                let to = rng.below(data.len());
                data.splice(to..to, range);
            }
            6 => {
                let len = (rng.below(64) & !3).min(data.len() - word);
                let range: Vec<u8> = data.iter().skip(word).take(len).copied().collect();
                let to = rng.below(data.len()) & !3;
                data.iter_mut().skip(to).zip(range).for_each(|(byte, new)| *byte = new);
            }
            _ => {
                let end = (at + rng.below(16)).min(data.len());
                data.drain(at..end);
            }
        }
    }
}

/// Replaces the bytes of `.BTF` or `.BTF.ext` inside the object, where the lengths stay as they are.
fn mutate_section(object: &mut [u8], name: &str, rng: &mut Rng) {
    let Some(section) = elf_section(object, name) else { return };
    let (len, mut damaged) = (section.len(), section.to_vec());
    let start = section.as_ptr() as usize - object.as_ptr() as usize;
    mutate(&mut damaged, rng);
    damaged.resize(len, 0);
    object.iter_mut().skip(start).zip(damaged).for_each(|(byte, new)| *byte = new);
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/objects");
    let mut samples: Vec<(String, Vec<u8>)> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| {
            let entry = entry.expect("a directory entry");
            let bytes = std::fs::read(entry.path()).expect("a readable sample");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .filter(|(_, bytes)| bytes.len() < 100_000)
        .collect();
    samples.sort();
    assert!(!samples.is_empty(), "there are samples to damage");
    samples
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn random_damage_never_panics() {
    let samples = samples();
    let (types, split) = kitchen_sink();
    let first = number("BTFLEET_MUTATION_SEED", 0);
    let count = number("BTFLEET_MUTATIONS", 3_000);
    let mut read = 0_u64;
    for seed in first..first + count {
        let mut rng = Rng(seed);
        let (name, sample) = samples.get(rng.below(samples.len())).expect("below the length");
        let mut object = sample.clone();
        let mut target = match rng.below(3) {
            0 => types.clone(),
            _ => elf_section(sample, ".BTF").map_or_else(|| types.clone(), <[u8]>::to_vec),
        };
        let mut module = split.clone();
        match rng.below(4) {
            0 => mutate(&mut object, &mut rng),
            1 => mutate_section(&mut object, ".BTF", &mut rng),
            2 => mutate_section(&mut object, ".BTF.ext", &mut rng),
            _ => {
                mutate(&mut target, &mut rng);
                mutate(&mut module, &mut rng);
            }
        }
        let started = Instant::now();
        let judged = catch_unwind(AssertUnwindSafe(|| {
            exercise(&object);
            fold_over(&object, &target)
                + fold_over(&object, &types)
                + usize::from(Kernel::parse(&target).is_ok())
                + super::relocate_and_add(&module, &target, &types)
        }));
        assert!(
            judged.is_ok(),
            "panic with seed {seed} ({name}): run with BTFLEET_MUTATION_SEED={seed} BTFLEET_MUTATIONS=1"
        );
        let took = started.elapsed();
        assert!(took < Duration::from_secs(2), "seed {seed} ({name}) took {took:?}");
        read += u64::from(judged.is_ok_and(|answers| answers > 0));
    }
    // If hardly anything is readable any more, the mutations test nothing but the first check.
    assert!(count < 100 || read * 2 > count, "only {read} of {count} could be read at all");
}
