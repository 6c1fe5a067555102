//! Kernels that objects cannot tell apart, and the fewest that show everything.

use super::cover::{self, Cover};
use crate::batch::{Aspect, Batch, Classes, Run};
use crate::object::Object;
use crate::resolve::Outcome;

/// How a run's kernels fall apart.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Kernels that no object tells apart. One on which not a single object can be judged is in no class.
    pub joint: Classes,
    /// By object: kernels on which it comes out the same, code by code and byte by byte, ids of types aside.
    pub by_object: Vec<Classes>,
    /// By object: distinct relocated contents. As many as classes, or more where the program asks for ids of the
    /// kernel's types (`TYPE_ID_TARGET`), which differ from kernel to kernel; fewer where some class has a record that
    /// ends the load.
    pub payloads: Vec<usize>,
    /// Kernels that show every class of every object.
    pub cover: Cover,
}

/// Partitions the kernels of a run by what its objects see of them.
pub fn classes(batch: &Batch, run: &Run<'_>, objects: &[Object<'_>]) -> Partition {
    let numbers: Vec<usize> = (0..objects.len()).collect();
    let of_objects = batch.map(&numbers, |&number| of_object(run, number));
    let mut joint = Classes::none(run.kernel_count());
    let (mut by_object, mut payloads) = (Vec::new(), Vec::new());
    for (classes, count) in of_objects {
        joint.join(&classes);
        by_object.push(classes);
        payloads.push(count);
    }
    let cover = smallest_cover(&joint, &by_object);
    Partition { joint, by_object, payloads, cover }
}

fn of_object(run: &Run<'_>, number: usize) -> (Classes, usize) {
    let folded = run.fold(number, |_| true);
    let classes = folded.classes(Aspect::EffectButIds);
    let contents = folded.classes(Aspect::Effect);
    let loads = |kernel: &&usize| {
        let ends = |it: &&Outcome| matches!(it, Outcome::Fatal(_) | Outcome::ModuleDependent(_));
        !folded.on(**kernel).iter().any(ends)
    };
    let payloads = contents.first.iter().filter(loads).count();
    (classes, payloads)
}

/// Every class of every object has to be shown by some kernel. Kernels of one joint class show the same.
fn smallest_cover(joint: &Classes, by_object: &[Classes]) -> Cover {
    let mut starts = Vec::with_capacity(by_object.len());
    let mut count = 0;
    for classes in by_object {
        starts.push(count);
        count += classes.first.len();
    }
    let shows: Vec<Vec<u32>> = joint
        .first
        .iter()
        .map(|&kernel| {
            let of_kernel = |classes: &Classes| classes.of.get(kernel).copied().flatten();
            by_object
                .iter()
                .zip(&starts)
                .filter_map(|(classes, start)| u32::try_from(start + of_kernel(classes)? as usize).ok())
                .collect()
        })
        .collect();
    let cover = cover::smallest(&shows, count);
    let kernels = cover.kernels.iter().filter_map(|it| joint.first.get(*it).copied()).collect();
    Cover { kernels, ..cover }
}
