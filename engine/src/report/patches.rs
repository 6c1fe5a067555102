//! What a loader has to change in each function of an object, with kernels that need the same together.

use super::rows::{ObstacleRow, text};
use crate::batch::Run;
use crate::format::insn::INSN_LEN;
use crate::object::Object;
use crate::patch_list::{Edit, PatchList, lists};
use crate::relocate::{Obstacle, Plan, Planned};

/// What changes in one function, for kernels on which it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchRow<'a> {
    /// Its ELF section.
    pub section: String,
    /// Its name.
    pub program: String,
    /// Whether it is part of whatever calls it.
    pub subprogram: bool,
    /// Where its first instruction is in the object's file, in **bytes**.
    pub file_offset: usize,
    /// Number of its slots of 8 bytes.
    pub insns: u64,
    /// Numbers of the kernels, ascending.
    pub kernels: Vec<usize>,
    /// Those of them for which values of the object are from modules, and the modules' names.
    pub from_modules: Vec<(usize, Vec<&'a str>)>,
    /// Whether it is to be left as it is, with its records.
    pub left: bool,
    /// What changes.
    pub edits: Vec<Edit>,
}

/// All lists of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patches<'a> {
    /// By function, and of one by the first kernel.
    pub rows: Vec<PatchRow<'a>>,
    /// Kernels without lists, ascending, and why.
    pub failed: Vec<(usize, ObstacleRow)>,
}

/// What all functions of an object need on one kernel.
struct OnKernel<'p> {
    kernel: usize,
    plan: &'p Plan,
    /// Number of its lists among those of all plans.
    lists: usize,
}

/// A function's list on some kernels.
struct Class<'p> {
    left: bool,
    list: &'p PatchList,
    on: Vec<&'p OnKernel<'p>>,
}

/// Names what `planned`, of object number `number`, changes.
pub fn patches<'a>(run: &'a Run<'_>, number: usize, planned: &[Planned]) -> Patches<'a> {
    let mut found = Patches { rows: Vec::new(), failed: Vec::new() };
    let Some(object) = run.object(number) else { return found };
    let mut on_kernels: Vec<OnKernel<'_>> = Vec::new();
    let mut all_lists: Vec<Vec<PatchList>> = Vec::new();
    for planned in planned {
        let answer = planned.plan.as_ref().map_err(Clone::clone).and_then(|plan| {
            lists(object, &plan.patch).map(|lists| (plan, lists)).ok_or(Obstacle::SharedBytes)
        });
        let kernels = planned.kernels.iter().copied();
        match answer {
            Ok((plan, lists)) => {
                let number = all_lists.len();
                on_kernels.extend(kernels.map(|kernel| OnKernel { kernel, plan, lists: number }));
                all_lists.push(lists);
            }
            Err(obstacle) => {
                found.failed.extend(kernels.map(|it| (it, ObstacleRow::new(object, &obstacle))));
            }
        }
    }
    found.failed.sort_by_key(|it| it.0);
    on_kernels.sort_by_key(|it| it.kernel);
    for program in 0..object.programs().len() {
        let mut classes: Vec<Class<'_>> = Vec::new();
        for on in &on_kernels {
            let Some(list) = all_lists.get(on.lists).and_then(|it| it.get(program)) else { continue };
            let left = on.plan.patch.leaves(program);
            match classes.iter_mut().find(|it| it.left == left && it.list == list) {
                Some(class) => class.on.push(on),
                None => classes.push(Class { left, list, on: vec![on] }),
            }
        }
        found.rows.extend(classes.iter().filter_map(|it| PatchRow::new(run, object, it)));
    }
    found
}

impl<'a> PatchRow<'a> {
    fn new(run: &'a Run<'_>, object: &Object<'_>, class: &Class<'_>) -> Option<Self> {
        let function = object.programs().get(class.list.program)?;
        let modules_of = |on: &&OnKernel<'_>| {
            let names = on.plan.modules.iter().map(|&it| run.module_name(on.kernel, it));
            (on.kernel, names.collect::<Vec<_>>())
        };
        Some(Self {
            section: text(function.section),
            program: text(function.name),
            subprogram: function.is_subprogram,
            file_offset: class.list.file_offset,
            insns: function.len / INSN_LEN as u64,
            kernels: class.on.iter().map(|it| it.kernel).collect(),
            from_modules: class.on.iter().map(modules_of).filter(|it| !it.1.is_empty()).collect(),
            left: class.left,
            edits: class.list.edits.clone(),
        })
    }
}
