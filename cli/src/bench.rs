//! `btfleet bench`: what algorithms cost on the user's own data.

mod lookups;
mod measure;
mod show;

use std::collections::HashMap;
use std::fmt::Display;

use btfleet_engine::btf::{Btf, RootKinds, TypeId, hashed_roots};
use btfleet_engine::ingest::{InputError, KernelSource, ObjectFile};
use btfleet_engine::kernel::Kernel;
use btfleet_engine::matchers::{Contender, MATCHERS, Matcher};
use btfleet_engine::object::Object;

use crate::args::MatchersArgs;
use crate::inputs::{self, KernelInput};
use crate::intake;
use crate::output::{Exit, Failure, message, plural};
use lookups::Lookups;
use measure::{Bench, Figures};
use show::Report;

/// What was measured on one kernel.
struct OnKernel {
    kernel: String,
    /// Types of the BTF, void included.
    type_count: u32,
    /// Named types of the kinds that programs use as roots.
    root_type_count: usize,
    lookup_count: usize,
    hit_count: usize,
    /// Lookups of the object that stands for all in the one-shot figure.
    one_object: usize,
    /// In the order of the registry.
    figures: Vec<Figures>,
}

impl OnKernel {
    fn miss_count(&self) -> usize {
        self.lookup_count - self.hit_count
    }
}

/// Measures every matcher on every kernel, one kernel after another: no two are in memory at once.
pub(crate) fn matchers(args: &MatchersArgs) -> Result<Exit, Failure> {
    let mut found = inputs::kernels(&args.kernels)?;
    let found_objects = inputs::objects(&args.objects)?;
    for (count, asked, what) in [
        (found.inputs.len(), true, "kernel"),
        (found_objects.inputs.len(), !args.objects.is_empty(), "BPF object"),
    ] {
        if asked && count == 0 {
            return Err(Failure::Usage(format!("no {what} was found there")));
        }
    }
    found.errors.extend(found_objects.errors);
    let mut complete = found.errors.is_empty();
    let mut defect = |what: &dyn Display| {
        message(&format!("btfleet: {what}"));
        complete = false;
    };
    found.errors.iter().for_each(|error| defect(error));
    let objects = found_objects.inputs.iter().flat_map(|it| intake::get().objects(it));
    let files: Vec<ObjectFile> =
        objects.filter_map(|it| it.inspect_err(|error| defect(error)).ok()).collect();
    let parsed = files.iter().map(|file| {
        Object::parse(&file.data).map_err(|error| InputError::defective_object(&file.path, &error))
    });
    let objects: Vec<Object<'_>> =
        parsed.filter_map(|it| it.inspect_err(|error| defect(error)).ok()).collect();
    let mut bench = Bench::new();
    let what = match args.objects.is_empty() {
        true => "looked up is a sample of the kernel's own names".into(),
        false => format!("looked up are the roots of {}", plural(objects.len(), "object")),
    };
    let mut report = Report::new(args.format, &bench, &what)?;
    let (sources, packs) = inputs::apart(found.inputs);
    for pack in packs {
        defect(&format!("{}: a pack has no BTF of a kernel's own; give the kernels' files", pack.display()));
    }
    // Modules are BTFs of their own, far smaller, and searched only for what vmlinux lacks.
    let sources = sources.into_iter().map(|input| match input {
        KernelInput::Files(source) => KernelInput::Files(KernelSource { modules: Vec::new(), ..source }),
        input => input,
    });
    for files in sources.flat_map(|it| it.read_files(intake::get()).unwrap_or_default()) {
        let parsed =
            files.as_ref().map_err(Clone::clone).and_then(|files| Ok((&files.name, files.parse()?.0)));
        let (name, kernel) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                defect(&error);
                continue;
            }
        };
        match on_kernel(&mut bench, name, &kernel, (!args.objects.is_empty()).then_some(&objects))? {
            Some(measured) => report.kernel(measured)?,
            None => defect(&format!("{name}: no object of this byte order looks anything up")),
        }
    }
    report.finish()?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

/// Checks and measures all matchers on one kernel; `None` if there is nothing to look up.
fn on_kernel(
    bench: &mut Bench,
    name: &str,
    kernel: &Kernel<'_>,
    objects: Option<&Vec<Object<'_>>>,
) -> Result<Option<OnKernel>, Failure> {
    let btf: &Btf<'_> = &kernel.vmlinux.btf;
    let sample;
    let lookups = match objects {
        Some(objects) => Lookups::of_objects(objects, btf.endian()),
        None => {
            sample = lookups::sample(btf);
            Lookups::of_sample(&sample)
        }
    };
    if lookups.stream.is_empty() {
        return Ok(None);
    }
    let answers = agreed(MATCHERS, btf, &lookups).map_err(|why| {
        Failure::Internal(format!("{name}: {why}; no times are shown of matchers that disagree"))
    })?;
    let (mut hits, mut misses) = (Vec::new(), Vec::new());
    for (root, is_hit) in lookups.stream.iter().zip(answers) {
        if is_hit { &mut hits } else { &mut misses }.push(*root);
    }
    Ok(Some(OnKernel {
        kernel: name.to_owned(),
        type_count: btf.type_count(),
        root_type_count: hashed_roots(btf, RootKinds::Common).len(),
        lookup_count: lookups.stream.len(),
        hit_count: hits.len(),
        one_object: lookups.one_object.len(),
        figures: bench.run(btf, &hits, &misses, &lookups.one_object),
    }))
}

/// Asks all matchers everything, and says of each lookup whether there are candidates.
///
/// # Errors
/// The first lookup that one of them answers otherwise than the first matcher.
fn agreed(matchers: &[Contender], btf: &Btf<'_>, lookups: &Lookups<'_>) -> Result<Vec<bool>, String> {
    let built: Vec<(&str, Box<dyn Matcher>)> = matchers.iter().map(|it| (it.name, (it.build)(btf))).collect();
    let Some(((reference_name, reference), others)) = built.split_first() else { return Ok(Vec::new()) };
    let (mut expected, mut found): (Vec<TypeId>, Vec<TypeId>) = Default::default();
    let mut known = HashMap::new();
    let mut answers = Vec::with_capacity(lookups.stream.len());
    for root in &lookups.stream {
        // Objects ask for the same few roots, and the reference is slow.
        let answer = match known.get(root) {
            Some(answer) => *answer,
            None => {
                reference.candidates(root, &mut expected);
                for (name, matcher) in others {
                    matcher.candidates(root, &mut found);
                    if found != expected {
                        return Err(format!(
                            "{name} finds {} for {} {}, {reference_name} {}",
                            ids(&found),
                            root.kind.name(),
                            String::from_utf8_lossy(root.essential),
                            ids(&expected),
                        ));
                    }
                }
                known.insert(*root, !expected.is_empty());
                !expected.is_empty()
            }
        };
        answers.push(answer);
    }
    Ok(answers)
}

fn ids(found: &[TypeId]) -> String {
    let shown: Vec<String> = found.iter().take(5).map(TypeId::to_string).collect();
    let more = if found.len() > shown.len() { ", …" } else { "" };
    format!("{} [{}{more}]", plural(found.len(), "candidate"), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A BTF with the integer `int` as its only type.
    const ONE_INT: [u8; 24 + 16 + 5] = *b"\x9f\xeb\x01\x00\x18\0\0\0\0\0\0\0\x10\0\0\0\x10\0\0\0\x05\0\0\0\
          \x01\0\0\0\0\0\0\x01\x04\0\0\0\x20\0\0\x01\0int\0";

    struct FindsNothing;

    impl Matcher for FindsNothing {
        fn candidates(&self, _root: &btfleet_engine::query::Root<'_>, found: &mut Vec<TypeId>) {
            found.clear();
        }

        fn bytes(&self) -> usize {
            0
        }
    }

    /// Check that a matcher that answers otherwise than the reference is named, with the lookup and both answers.
    #[test]
    fn a_matcher_that_disagrees_is_named() {
        let btf = Btf::parse(&ONE_INT).expect("a BTF of one type");
        let sample = lookups::sample(&btf);
        let lookups = Lookups::of_sample(&sample);
        let answers = agreed(MATCHERS, &btf, &lookups).expect("all agree");
        assert_eq!(answers, [true, false]);
        let wrong = Contender { name: "wrong", about: "", build: |_| Box::new(FindsNothing) };
        let both: Vec<Contender> = MATCHERS.iter().take(1).copied().chain([wrong]).collect();
        let why = agreed(&both, &btf, &lookups).expect_err("one of them is wrong");
        assert_eq!(why, "wrong finds 0 candidates [] for int int, linear 1 candidate [1]");
    }
}
