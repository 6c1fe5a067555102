//! Objects on kernels: every distinct question answered once for each distinct type, folded once for each distinct
//! view.

use super::Batch;
use super::folded::{Folded, Layout};
use super::section::Section;
use crate::btf::TypeId;
use crate::dialect::{Loader, Rules, Validate};
use crate::fleet::{Candidate, Fleet, Modules, Selection, Shape};
use crate::format::Endian;
use crate::kernel::Kernel;
use crate::object::{Object, Reloc};

/// Every question of the objects, answered for all kernels.
#[derive(Debug)]
pub struct Run<'a> {
    pub(super) objects: &'a [Object<'a>],
    pub(super) modules: Modules,
    validate: Validate,
    pub(super) sections: Vec<Section<'a>>,
    /// By kernel: its section and its place there; `None` if its loader relocates nothing.
    pub(super) place: Vec<Option<Place>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) section: usize,
    pub(super) kernel: usize,
}

impl<'a> Run<'a> {
    /// Answers all questions of `objects` on `kernels`, each kernel by the loader of the same number.
    pub fn new(
        batch: &Batch,
        objects: &'a [Object<'a>],
        kernels: &'a [Kernel<'a>],
        loaders: &[Loader],
        modules: Modules,
    ) -> Self {
        Self::validating(batch, objects, kernels, loaders, modules, Validate::Loader)
    }

    /// The same, where `validate` says what is compared before an instruction is patched.
    pub fn validating(
        batch: &Batch,
        objects: &'a [Object<'a>],
        kernels: &'a [Kernel<'a>],
        loaders: &[Loader],
        modules: Modules,
        validate: Validate,
    ) -> Self {
        let mut members: Vec<(Rules, Endian, Vec<&'a Kernel<'a>>, Vec<usize>)> = Vec::new();
        let mut place = Vec::with_capacity(kernels.len());
        for (number, (kernel, &loader)) in kernels.iter().zip(loaders).enumerate() {
            if loader.unsupported().is_some() {
                place.push(None);
                continue;
            }
            let btf = &kernel.vmlinux.btf;
            let (rules, endian) = (Rules::of(loader, btf.pointer_size()).validating(validate), btf.endian());
            let known = members.iter().position(|it| (it.0, it.1) == (rules, endian));
            let section = known.unwrap_or(members.len());
            match members.get_mut(section) {
                Some((_, _, kernels, numbers)) => {
                    kernels.push(kernel);
                    numbers.push(number);
                }
                None => members.push((rules, endian, vec![kernel], vec![number])),
            }
            let kernel = members.get(section).map_or(0, |it| it.2.len() - 1);
            place.push(Some(Place { section, kernel }));
        }
        let sections = members
            .into_iter()
            .map(|(rules, endian, kernels, numbers)| {
                let selection = Selection { modules, kinds: rules.kinds, searched: rules.searched };
                Section::new(batch, objects, rules, endian, selection, Fleet::new(kernels), numbers)
            })
            .collect();
        Self { objects, modules, validate, sections, place }
    }

    /// One object on one kernel.
    pub fn of_pair(loader: Loader, object: &'a Object<'a>, kernel: &'a Kernel<'a>, modules: Modules) -> Self {
        let (objects, kernels) = (std::slice::from_ref(object), std::slice::from_ref(kernel));
        Self::new(&Batch::SEQUENTIAL, objects, kernels, &[loader], modules)
    }

    /// Object number `object`.
    pub fn object(&self, object: usize) -> Option<&'a Object<'a>> {
        self.objects.get(object)
    }

    /// How modules are looked at.
    pub fn modules(&self) -> Modules {
        self.modules
    }

    /// What is compared before an instruction is patched.
    pub fn validate(&self) -> Validate {
        self.validate
    }

    /// The rules that kernel number `kernel` is judged by; `None` if its loader relocates nothing.
    pub fn rules(&self, kernel: usize) -> Option<&Rules> {
        self.section_of(kernel).map(|(section, _)| &section.rules)
    }

    /// Number of kernels.
    pub fn kernel_count(&self) -> usize {
        self.place.len()
    }

    /// Folds the records of object number `object` for which `active` holds, over all kernels of its byte order.
    pub fn fold(&self, object: usize, active: impl Fn(&Reloc<'_>) -> bool) -> Folded<'_> {
        let layout = self.objects.get(object).map(Layout::of).unwrap_or_default();
        let relocs = self.objects.get(object).map(Object::relocs).unwrap_or_default();
        let sections = self.sections.iter().map(|section| {
            let it = self.objects.get(object).filter(|it| it.endian() == section.endian)?;
            Some(section.fold(it, object, &layout, &active))
        });
        Folded { run: self, relocs, sections: sections.collect(), place: layout.place }
    }

    /// Name of a module by its number in outcomes on kernel number `kernel`.
    pub fn module_name(&self, kernel: usize, module: u32) -> &'a str {
        self.section_of(kernel).map_or("", |(section, _)| section.fleet.module_name(module))
    }

    /// The id that a candidate for a record's root has in the BTF of kernel number `kernel`, or of its module.
    pub fn id_of(&self, object: usize, record: usize, kernel: usize, candidate: Candidate) -> Option<TypeId> {
        let (section, kernel) = self.section_of(kernel)?;
        section.id_of(section.answers(object, record)?, kernel, candidate)
    }

    /// The type that a candidate for a record's root is, in the first BTF that has it.
    pub fn shape_of(
        &self,
        object: usize,
        record: usize,
        kernel: usize,
        candidate: Candidate,
    ) -> Option<Shape<'a>> {
        let (section, _) = self.section_of(kernel)?;
        let answers = section.answers(object, record)?;
        answers.table.shapes.get(candidate.shape as usize).copied()
    }

    pub(super) fn section_of(&self, kernel: usize) -> Option<(&Section<'a>, usize)> {
        let place = (*self.place.get(kernel)?)?;
        Some((self.sections.get(place.section)?, place.kernel))
    }
}
