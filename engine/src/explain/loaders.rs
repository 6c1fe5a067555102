//! What is particular about the loader that was asked, where it is not libbpf.
//!
//! Source: `bpf_core_apply`, `bpf_core_find_cands`, `check_btf_info`, Linux; spec 5.5 and 11.

use crate::batch::outcomes;
use crate::btf::essential_name;
use crate::dialect::{Loader, Release};
use crate::fleet::Modules;
use crate::format::btf_ext::RelocKind;
use crate::kernel::Kernel;
use crate::object::{Object, Reloc};
use crate::prog_load::ProgLoad;
use crate::resolve::Outcome;

/// Oddities of `loader` that bear on its answer about a record.
pub(super) fn quirks(
    loader: Loader,
    object: &Object<'_>,
    kernel: &Kernel<'_>,
    modules: Modules,
    record: usize,
    outcome: &Outcome,
) -> Vec<String> {
    let mut quirks = Vec::new();
    let Some(reloc) = object.relocs().get(record).filter(|_| loader != Loader::Libbpf) else { return quirks };
    let code = |outcome: &Outcome| match outcome {
        Outcome::Skipped => "skipped",
        Outcome::Fatal(error) => error.code(),
        Outcome::ModuleDependent(_) => "module-dependent",
        Outcome::Decided(decision) => decision.code.name(),
    };
    let by_libbpf = outcomes(Loader::Libbpf, object, kernel, modules, |_| true);
    if let Some(theirs) = by_libbpf.get(record).filter(|it| code(it) != code(outcome)) {
        quirks.push(format!("libbpf answers otherwise: {}", code(theirs)));
    }
    if let Loader::Kernel(release) = loader {
        quirks.extend(of_kernel(release, object, reloc, record));
    }
    quirks
}

fn of_kernel(release: Release, object: &Object<'_>, reloc: &Reloc<'_>, record: usize) -> Vec<String> {
    let mut quirks = Vec::new();
    for (number, program) in object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram) {
        let load = ProgLoad::new(object, number);
        if load.records.contains(&record) && !load.is_relocated_by(Some(release)) {
            quirks.push(format!(
                "{} has neither function nor line information: kernels before 7.3 pass over its CO-RE records, and the \
                 instruction stays as it was compiled",
                String::from_utf8_lossy(program.name)
            ));
        }
    }
    let compares_types =
        [RelocKind::TypeExists, RelocKind::TypeMatches, RelocKind::TypeSize, RelocKind::TypeIdTarget];
    if reloc.kind.is_some_and(|it| compares_types.contains(&it)) {
        quirks.push(
            "the kernel compares types no deeper than two levels (libbpf: 32); a comparison that goes on ends the load"
                .into(),
        );
    }
    if reloc.kind != Some(RelocKind::TypeIdLocal) {
        let name = object.btf().and_then(|btf| Some(btf.name(btf.ty(reloc.type_id)?.name_off)));
        quirks.push(format!(
            "the kernel remembers candidates for all programs of the system, in 31 places for vmlinux and 31 for \
             modules, by name alone: where a program looked up another kind of type called `{}` before, it finds that, \
             or nothing",
            String::from_utf8_lossy(essential_name(name.unwrap_or_default()))
        ));
    }
    quirks
}
