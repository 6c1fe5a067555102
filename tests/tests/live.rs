//! `btfleet live`'s comparison on the running kernel: it finds the same on objects at hand, and says so where we lie.
#![expect(clippy::print_stderr, reason = "what was compared is what a reader wants to know")]

use std::fs;
use std::path::Path;

use btfleet_engine::batch::outcomes;
use btfleet_engine::btf::Btf;
use btfleet_engine::dialect::{Loader, Release};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{Object, ProgType};
use btfleet_engine::prog_load::ProgLoad;
use btfleet_engine::report::Known;
use btfleet_engine::resolve::Outcome;
use btfleet_live::{Compared, Session};
use btfleet_tests::loading::Request;
use btfleet_tests::skip;

/// Runs `what` on the running kernel, or says why not.
fn on_running_kernel(what: impl Fn(&Session<'_, '_>, &Kernel<'_>, Release)) {
    let not = |why: String| skip(&format!("the running kernel is not asked: {why}"));
    let vmlinux = match fs::read("/sys/kernel/btf/vmlinux") {
        Ok(bytes) => bytes,
        Err(error) => return not(format!("no BTF of vmlinux: {error}")),
    };
    let Some(release) = Release::running() else { return not("its release is not known".into()) };
    if let Some(why) = Loader::Kernel(release).unsupported() {
        return not(why.into());
    }
    let kernel = Kernel::new(Btf::parse(&vmlinux).expect("the running kernel's BTF"));
    match Session::new(&kernel, Known::new(&kernel, Some(release), None)) {
        Ok(session) => what(&session, &kernel, release),
        Err(errno) => not(format!("bpf() is refused: {errno}")),
    }
}

/// The committed samples that fit this machine, parsed as they are asked for.
fn samples() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/objects");
    let paths = fs::read_dir(folder).expect("samples").map(|it| it.expect("a file").path());
    let mut found: Vec<_> = paths
        .map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name.contains(".be.") == cfg!(target_endian = "big"))
        .map(|(name, path)| (name, fs::read(&path).expect("a sample")))
        .collect();
    found.sort();
    found
}

/// Check that the kernel relocates the programs of the samples as its dialect says, and that it is asked.
#[test]
fn the_samples_come_out_the_same() {
    on_running_kernel(|session, kernel, release| {
        let (mut by_instructions, mut by_log) = (0, 0);
        for (name, bytes) in samples() {
            let object = Object::parse(&bytes).expect("a sample is an object");
            let found = outcomes(Loader::Kernel(release), &object, kernel, Modules::All, |_| true);
            let Ok(judged) = session.judge(&object, &found.iter().collect::<Vec<_>>()) else { continue };
            for it in judged {
                assert_eq!(it.findings, [], "{name}: {it:?}");
                by_instructions += usize::from(it.compared == Compared::Instructions);
                by_log += usize::from(it.compared == Compared::Log);
            }
        }
        eprintln!("{by_instructions} programs compared by their instructions, {by_log} by the kernel's log");
        assert!(by_instructions >= 10, "hardly a program was taken both ways");
    });
}

/// Check that an answer that is not the kernel's is found, for programs that it takes and for such that it refuses.
#[test]
fn a_wrong_answer_is_found() {
    on_running_kernel(|session, kernel, release| {
        let (mut by_instructions, mut by_log) = (0, 0);
        for (name, bytes) in samples() {
            let object = Object::parse(&bytes).expect("a sample is an object");
            let right = outcomes(Loader::Kernel(release), &object, kernel, Modules::All, |_| true);
            let Ok(judged) = session.judge(&object, &right.iter().collect::<Vec<_>>()) else { continue };
            let wrong: Vec<Outcome> = right.iter().map(other).collect();
            let Ok(others) = session.judge(&object, &wrong.iter().collect::<Vec<_>>()) else { continue };
            for (before, after) in judged.iter().zip(&others) {
                let records = ProgLoad::new(&object, before.program).records;
                // Behind a record that ends the load nothing is compared.
                let mut applied =
                    records.iter().take_while(|&&it| !matches!(right.get(it), Some(Outcome::Fatal(_))));
                if !applied.any(|&it| right.get(it) != wrong.get(it)) {
                    continue;
                }
                let codes: Vec<&str> = after.findings.iter().map(|it| it.code).collect();
                match (before.compared, after.compared) {
                    // The verifier may have removed the instruction, or what is made of it.
                    (Compared::Instructions, Compared::Instructions) => {
                        by_instructions += usize::from(codes == ["instructions-differ"]);
                    }
                    (Compared::Instructions | Compared::Log, Compared::Log) => {
                        assert!(codes.contains(&"record-differs"), "{name}: {after:?}");
                        by_log += 1;
                    }
                    _ => {}
                }
            }
        }
        assert!(by_instructions > 0 && by_log > 0, "{by_instructions} and {by_log} were found");
    });
}

/// The same answer with another value, where there is one in the instruction.
fn other(outcome: &Outcome) -> Outcome {
    let Outcome::Decided(decision) = outcome else { return outcome.clone() };
    let mut decision = decision.clone();
    if let Some(new) = decision.new.filter(|_| !decision.poisoned) {
        decision.new = Some(new ^ 8);
        let is_load = decision.insn.first().is_some_and(|code| matches!(code & 7, 1..=3));
        if let Some(byte) = decision.insn.get_mut(if is_load { 2 } else { 4 }) {
            *byte ^= 8;
        }
    }
    Outcome::Decided(decision)
}

/// Check that sections stand for the types that libbpf takes them for.
#[test]
fn sections_stand_for_types_as_in_libbpf() {
    let asked = ProgType::sections().flat_map(|it| [it.to_owned(), format!("{it}/x"), format!("{it}x")]);
    let request = Request { object: Vec::new(), programs: asked.collect() };
    let theirs = request.load(Path::new(env!("CARGO_BIN_EXE_live_loader"))).expect("the helper");
    let mut known = 0;
    for (section, theirs) in request.programs.iter().zip(theirs) {
        let ours =
            ProgType::of_section(section.as_bytes()).map(|it| format!("{} {}", it.prog_type, it.attach_type));
        // libbpf 1.7 has no sleepable tracepoints yet, which came in 2026.
        let is_newer = ["tp.s", "tracepoint.s", "raw_tp.s", "raw_tracepoint.s", "tp_btf.s"]
            .iter()
            .any(|it| section.strip_prefix(it).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if !is_newer {
            assert_eq!(ours, (theirs.errno == 0).then_some(theirs.said), "{section}");
        }
        known += usize::from(ours.is_some());
    }
    assert!(known > 100, "{known}");
    assert_eq!(ProgType::of_section(b"?kprobe/x"), ProgType::of_section(b"kprobe"));
}
