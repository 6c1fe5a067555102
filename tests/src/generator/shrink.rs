//! Smaller cases.
#![expect(clippy::indexing_slicing, reason = "indices come from the lengths")]

use super::{Case, Site, Type};
use crate::build::ByteOrder;

/// What stands for a type that was taken away: something without a name, and no candidate.
fn nothing() -> Type {
    // Not a pointer: a bitfield of a type without size would be a division by zero in libbpf.
    Type::Int { name: String::new(), size: 4, encoding: 0, offset: 0, bits: 32 }
}

pub(super) fn candidates(case: &Case) -> Vec<Case> {
    let mut found = Vec::new();
    let mut propose = |change: &dyn Fn(&mut Case)| {
        let mut smaller = case.clone();
        change(&mut smaller);
        if smaller != *case && !smaller.records.is_empty() {
            found.push(smaller);
        }
    };
    let n = case.records.len();
    let mut step = n.div_ceil(2);
    while step > 0 {
        for start in (0..n).step_by(step) {
            propose(&|c| {
                c.records.drain(start..(start + step).min(n));
            });
        }
        step /= 2;
    }
    propose(&|c| c.records.iter_mut().for_each(|r| r.program = 0));
    propose(&|c| c.records.iter_mut().for_each(|r| r.site = Site::Own));
    propose(&|c| c.order = ByteOrder::Little);
    for module in 0..case.modules.len() {
        propose(&|c| {
            c.modules.remove(module);
        });
    }
    // Not so the local types: ids beyond them are those of the programs' own types. And ids of modules continue those
    // of the target, which keeps its length as long as there are any.
    if case.modules.is_empty() {
        propose(&|c| {
            let used = c.target.iter().rposition(|ty| *ty != nothing()).map_or(0, |last| last + 1);
            c.target.truncate(used);
        });
    }
    shrink_types(case, &mut propose, |c| &mut c.target);
    for module in 0..case.modules.len() {
        shrink_types(case, &mut propose, |c| &mut c.modules[module]);
    }
    shrink_types(case, &mut propose, |c| &mut c.local);
    found
}

/// Takes a change, and proposes the case with it.
type Propose<'a> = dyn FnMut(&dyn Fn(&mut Case)) + 'a;

/// Proposals for one list of types: shorter, emptier, with fewer members.
fn shrink_types(case: &Case, propose: &mut Propose<'_>, of: impl Fn(&mut Case) -> &mut Vec<Type>) {
    let types = of(&mut case.clone()).clone();
    let mut step = types.len();
    while step > 0 {
        for start in (0..types.len()).step_by(step) {
            propose(&|c| of(c)[start..(start + step).min(types.len())].fill(nothing()));
        }
        step /= 2;
    }
    for (i, ty) in types.iter().enumerate() {
        match ty {
            Type::Composite { fields, .. } => {
                for f in 0..fields.len() {
                    propose(&|c| {
                        if let Type::Composite { fields, .. } = &mut of(c)[i] {
                            fields.remove(f);
                        }
                    });
                }
            }
            Type::Enum { values, .. } => {
                for v in 0..values.len() {
                    propose(&|c| {
                        if let Type::Enum { values, .. } = &mut of(c)[i] {
                            values.remove(v);
                        }
                    });
                }
            }
            Type::Proto { params, .. } if !params.is_empty() => propose(&|c| {
                if let Type::Proto { params, .. } = &mut of(c)[i] {
                    params.pop();
                }
            }),
            _ => {}
        }
    }
}

pub(super) fn minimize(case: &Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    while let Some(smaller) = candidates(&best).into_iter().find(|c| fails(c)) {
        best = smaller;
    }
    best
}
