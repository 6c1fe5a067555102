//! The needs of many objects on many kernels.
//!
//! Each distinct need is answered once for all kernels on which its names stand for the same types, and the BTF is from
//! the same place. Of kernels that come from files and from packs alike.

use hashbrown::HashMap;

use super::need::{Need, Owner, needs};
use super::{Answer, Severity, answer_with, roots};
use crate::batch::Batch;
use crate::dialect::{Kinds, Searched};
use crate::fleet::{Fleet, Modules, Selection};
use crate::kernel::Kernel;
use crate::object::Object;
use crate::pack::BtfOrigin;
use crate::query::Root;

/// Needs of the objects of a run, answered for all its kernels.
#[derive(Debug)]
pub struct Survey<'a> {
    /// By object: whose needs there are, with numbers in `answered`.
    of_object: Vec<Vec<(Owner, u32)>>,
    answered: Vec<Answered<'a>>,
}

/// One need, answered for all kernels.
#[derive(Debug)]
pub struct Answered<'a> {
    /// The need.
    pub need: Need<'a>,
    /// Distinct answers, by the first kernel that has each.
    pub answers: Vec<Answer>,
    /// By kernel: the number of its answer.
    pub answer_of: Vec<u32>,
}

impl Answered<'_> {
    /// The answer on a kernel.
    pub fn on(&self, kernel: usize) -> Option<&Answer> {
        self.answers.get(*self.answer_of.get(kernel)? as usize)
    }

    /// Whether the answer is of no consequence on any kernel.
    pub fn is_fine(&self) -> bool {
        self.answers.iter().all(|it| it.severity == Severity::Fine && !it.poisons_calls())
    }
}

impl<'a> Survey<'a> {
    /// Answers all needs of `objects` on `kernels`.
    pub fn new(
        batch: &Batch,
        objects: &'a [Object<'a>],
        kernels: &'a [Kernel<'a>],
        modules: Modules,
    ) -> Self {
        let mut numbers: HashMap<Need<'a>, u32> = HashMap::new();
        let mut distinct = Vec::new();
        let of_object = batch.map(objects, needs).into_iter().map(|dependencies| {
            let numbered = dependencies.into_iter().map(|it| {
                let next = number(distinct.len());
                let number = *numbers.entry(it.need).or_insert_with_key(|need| {
                    distinct.push(need.clone());
                    next
                });
                (it.owner, number)
            });
            numbered.collect()
        });
        let of_object = of_object.collect();
        // Finding out takes a while for each kernel.
        let origins = match distinct.iter().any(Need::needs_kernel_btf) {
            true => batch.map(kernels, Kernel::origin),
            false => vec![BtfOrigin::Unknown; kernels.len()],
        };
        let on = Kernels { kernels, origins, fleet: Fleet::new(kernels.iter().collect()), modules };
        let answered = batch.map(&distinct, |need| on.answer(need));
        Self { of_object, answered }
    }

    /// Needs of object number `object`: whose, and the answers.
    pub fn of(&self, object: usize) -> impl Iterator<Item = (Owner, &Answered<'a>)> {
        let needs = self.of_object.get(object).map_or(&[][..], Vec::as_slice);
        needs.iter().filter_map(|(owner, need)| Some((*owner, self.answered.get(*need as usize)?)))
    }
}

struct Kernels<'a> {
    kernels: &'a [Kernel<'a>],
    origins: Vec<BtfOrigin>,
    fleet: Fleet<'a>,
    modules: Modules,
}

/// Kernels of the same key have the same answer.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    /// Views of up to two names, and where the BTF is from.
    Views([u32; 2], BtfOrigin),
    Kernel(usize),
}

impl<'a> Kernels<'a> {
    fn answer(&self, need: &Need<'a>) -> Answered<'a> {
        let keys = self.keys(need);
        let mut answer_of_key: HashMap<Key, u32> = HashMap::new();
        let mut answers: Vec<Answer> = Vec::new();
        let mut numbers: HashMap<Answer, u32> = HashMap::new();
        let kernels = self.kernels.iter().zip(&self.origins).zip(keys);
        let answer_of = kernels.map(|((kernel, origin), key)| {
            *answer_of_key.entry(key).or_insert_with(|| {
                let answer = answer_with(need, kernel, self.modules, *origin);
                *numbers.entry(answer).or_insert_with_key(|answer| {
                    answers.push(answer.clone());
                    number(answers.len() - 1)
                })
            })
        });
        let answer_of = answer_of.collect();
        Answered { need: need.clone(), answers, answer_of }
    }

    fn keys(&self, need: &Need<'a>) -> Vec<Key> {
        let Some(roots) = roots(need) else {
            return (0..self.kernels.len()).map(Key::Kernel).collect();
        };
        let selection =
            Selection { modules: self.modules, kinds: Kinds::Exact, searched: Searched::ModulesIfNone };
        let tables: Vec<_> = roots
            .iter()
            .map(|(name, kind)| {
                let table = self.fleet.table(&Root { kind: *kind, ..Root::new(name, *kind) }, selection);
                // Modules are not looked at where vmlinux has a type of that essential name, even if it is of another
                // full name: such views say nothing of the modules.
                let is_named = |shape: u32| {
                    let shape = table.shapes.get(shape as usize);
                    let named = shape.and_then(|it| Some(it.btf.name_is(it.btf.ty(it.id)?.name_off, name)));
                    named.unwrap_or(false)
                };
                let settled: Vec<bool> = table
                    .views
                    .iter()
                    .map(|view| {
                        let mut vmlinux =
                            view.lists.iter().flatten().filter(|it| it.module.is_none()).peekable();
                        vmlinux.peek().is_none() || vmlinux.any(|it| is_named(it.shape))
                    })
                    .collect();
                (table.view_of, settled)
            })
            .collect();
        let key = |(number, kernel): (usize, &Kernel<'_>)| {
            if need.asks_kallsyms() && kernel.kallsyms.is_some() {
                return Key::Kernel(number);
            }
            let mut views = [0; 2];
            for (slot, (view_of, settled)) in views.iter_mut().zip(&tables) {
                *slot = view_of.get(number).copied().unwrap_or(0);
                let is_settled = settled.get(*slot as usize).copied().unwrap_or(true);
                if !is_settled && !kernel.modules.is_empty() {
                    return Key::Kernel(number);
                }
            }
            Key::Views(views, self.origins.get(number).copied().unwrap_or_default())
        };
        self.kernels.iter().enumerate().map(key).collect()
    }
}

/// Needs and answers are counted here, of which there are fewer than 2^32.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
