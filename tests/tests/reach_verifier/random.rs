//! Random programs.

use std::collections::BTreeMap;

use btfleet_engine::format::Endian;
use btfleet_engine::format::insn::{CALL, Insn};
use btfleet_engine::object::{Object, Reference};
use btfleet_engine::reach::{Image, Question, Reach, Verifier, judge};
use btfleet_tests::kernel::{Job, Load, Loaded};
use btfleet_tests::skip;

use super::generate::{MARK, generate};

const RAW_TRACEPOINT: u32 = 17;

/// A linked program, and the places in it that may be poisoned.
struct Linked {
    image: Image,
    insns: Vec<Insn>,
    marks: Vec<usize>,
    func_info: Vec<u32>,
}

/// Links a program as libbpf does.
fn link(object: &Object<'_>, funcs: &[(String, u32)]) -> Linked {
    let entry = object.programs().iter().position(|it| it.name == b"entry").unwrap();
    let image = Image::link(object, entry);
    let start = |program: usize| image.functions.iter().find(|it| it.program == program).unwrap().start;
    let mut insns: Vec<Insn> = image.slots.iter().map(|it| it.insn).collect();
    let mut marks = Vec::new();
    for (slot, (insn, of)) in insns.iter_mut().zip(&image.slots).enumerate() {
        if let Some(Reference::Function(callee)) = of.reference {
            insn.imm = (start(callee) as i64 - slot as i64 - 1) as i32;
        }
        if insn.code == 0xb7 && insn.dst == 0 && insn.imm >> 16 == MARK >> 16 {
            marks.push(slot);
        }
    }
    let func_info = image.functions.iter().flat_map(|it| {
        let name = String::from_utf8_lossy(object.programs()[it.program].name);
        let (_, func) = funcs.iter().find(|it| it.0 == name).unwrap();
        [it.start as u32, *func]
    });
    Linked { func_info: func_info.collect(), insns, marks, image }
}

impl Linked {
    fn with_poison(&self, mark: Option<usize>) -> Vec<Insn> {
        let poisoned = |(slot, insn): (usize, &Insn)| if Some(slot) == mark { Insn::POISON } else { *insn };
        self.insns.iter().enumerate().map(poisoned).collect()
    }

    fn bytes(&self, mark: Option<usize>) -> Vec<u8> {
        self.with_poison(mark).iter().flat_map(|it| it.encode(Endian::Little)).collect()
    }

    /// What we say: whether this place is reached if it alone is poisoned.
    fn predicted(&self, mark: usize, verifier: Verifier) -> Reach {
        let insns = self.with_poison(Some(mark));
        let records = vec![None; insns.len()];
        let question = Question {
            image: &self.image,
            insns: &insns,
            records: &records,
            live: &self.image.live_registers(),
            asked: &[mark],
            constants: &[],
            symbols: &[],
            is_function: &[],
            throws: &[],
            endian: Endian::Little,
            verifier,
        };
        judge(&question).asked.remove(0)
    }
}

fn describe(linked: &Linked) -> String {
    let line = |(slot, insn): (usize, &Insn)| {
        let Insn { code, dst, src, off, imm } = *insn;
        let name = if code == CALL { "call" } else { "" };
        format!("  {slot:4}: {code:02x} r{dst} r{src} {off:+} {imm:#x} {name}\n")
    };
    linked.insns.iter().enumerate().map(line).collect()
}

/// The last lines of a log that are no statistics.
fn reason(loaded: &Loaded) -> String {
    let mut lines =
        loaded.log.lines().filter(|it| !it.starts_with("processed") && !it.starts_with("verification time"));
    let last = lines.next_back().unwrap_or("no log");
    last.chars().map(|it| if it.is_ascii_digit() { '#' } else { it }).collect()
}

/// Check, for places in random programs, that the verifier never gets where we say that it does not.
///
/// `BTFLEET_REACH_SEED` and `BTFLEET_REACH_PROGRAMS` choose others.
#[test]
fn no_place_of_a_random_program_is_dead_that_the_verifier_reaches() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |it| it.parse().expect("a number"))
    };
    let (first, programs) = (number("BTFLEET_REACH_SEED", 1), number("BTFLEET_REACH_PROGRAMS", 300));
    let release = match super::release() {
        Ok(release) => release,
        Err(why) => return skip(&format!("the verifier is not asked about random programs: {why}")),
    };
    let verifier = Verifier::of(Some(release));
    let mut matrix: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut refused, mut wrong, mut imprecise) = (BTreeMap::<String, usize>::new(), Vec::new(), Vec::new());
    for seed in first..first + programs {
        let generated = generate(seed);
        let object = Object::parse(&generated.object).unwrap();
        let linked = link(&object, &generated.funcs);
        let versions = std::iter::once(None).chain(linked.marks.iter().map(|it| Some(*it)));
        let job = Job {
            prog_type: RAW_TRACEPOINT,
            btf: generated.btf.clone(),
            func_info: linked.func_info.clone(),
            loads: versions.map(|it| Load { insns: linked.bytes(it), core_relos: Vec::new() }).collect(),
            ..Job::default()
        };
        let loaded = match job.judge() {
            Ok(loaded) => loaded,
            Err(error) => return skip(&format!("the verifier is not asked: {error}")),
        };
        if loaded[0].errno != 0 {
            if seed == first && loaded[0].log.is_empty() {
                return skip(&format!("the verifier is not asked: bpf() gives errno {}", loaded[0].errno));
            }
            if std::env::var_os("BTFLEET_REACH_SHOW").is_some() {
                println!("{}\n{}", describe(&linked), loaded[0].log);
            }
            *refused.entry(reason(&loaded[0])).or_default() += 1;
            continue;
        }
        for (&mark, loaded) in linked.marks.iter().zip(&loaded[1..]) {
            let is_reached = loaded.reached_poison();
            assert!(is_reached || loaded.errno == 0, "seed {seed}: {}", reason(loaded));
            let reach = linked.predicted(mark, verifier);
            let predicted = match &reach {
                Reach::Dead(_) => "dead",
                Reach::Live(path) if path.is_proved => "live",
                Reach::Live(_) => "live, not proved",
                Reach::Conditional(..) => "conditional",
            };
            *matrix.entry((if is_reached { "reached" } else { "not reached" }, predicted)).or_default() += 1;
            match (is_reached, predicted) {
                (true, "dead") => wrong.push((seed, mark)),
                (false, "live") => imprecise.push((seed, mark)),
                _ => {}
            }
            // With less known of the kernel, no more may be dead.
            if is_reached && matches!(linked.predicted(mark, Verifier::UNKNOWN), Reach::Dead(_)) {
                wrong.push((seed, mark));
            }
            if std::env::var_os("BTFLEET_REACH_SHOW").is_some() {
                let is_dead = |it: &usize| matches!(linked.predicted(*it, verifier), Reach::Dead(_));
                let dead: Vec<usize> = (0..linked.insns.len()).filter(is_dead).collect();
                println!("dead slots: {dead:?}");
                println!(
                    "seed {seed}, slot {mark}: reached {is_reached}, {reach:?}\n{}\n{}",
                    describe(&linked),
                    loaded.log
                );
            }
        }
    }
    println!("seeds {first} to {}: {matrix:?}", first + programs - 1);
    let refusals: usize = refused.values().sum();
    println!("{refusals} programs are refused whatever is poisoned: {refused:#?}");
    println!("live and not reached (seed, slot): {imprecise:?}");
    assert!(wrong.is_empty(), "dead and reached all the same (seed, slot): {wrong:?}");
    assert!(matrix.values().sum::<usize>() as u64 > programs, "hardly a program is accepted");
}
