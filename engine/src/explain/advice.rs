//! What an outcome means, and what its reader can do next.

use super::{CandidateState, Explanation};
use crate::btf::essential_name;
use crate::error::ResolveError;
use crate::format::btf_ext::RelocKind;
use crate::object::{Object, Reloc};
use crate::query::Ask;
use crate::resolve::{Code, Decision, Outcome};

/// Oddities of libbpf that bear on the answer.
pub(super) fn quirks(object: &Object<'_>, reloc: &Reloc<'_>, explanation: &Explanation) -> Vec<String> {
    let mut quirks = Vec::new();
    let name =
        object.btf().and_then(|btf| Some(btf.name(btf.ty(reloc.type_id)?.name_off))).unwrap_or_default();
    let essential = essential_name(name);
    if essential.len() < name.len() {
        quirks.push(format!(
            "`{}` is a flavor: it is looked up in the kernel as `{}`",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(essential)
        ));
    }
    if let Some(flavored) = explanation.candidates.iter().find(|it| it.name.contains("___")) {
        quirks.push(format!(
            "flavors are cut from the kernel's names as well, so `{}` counts as a candidate",
            flavored.name
        ));
    }
    if explanation.candidates.iter().any(|it| matches!(it.state, CandidateState::DroppedBy(_))) {
        quirks.push(
            "candidates that an earlier record of the object did not match are dropped for the later ones: \
             the order of accesses in the program decides"
                .into(),
        );
    }
    if reloc.kind == Some(RelocKind::EnumvalValue)
        && let Outcome::Decided(Decision { new: Some(new), .. }) = explanation.outcome
        && new >> 31 == 0x1_ffff_ffff
    {
        quirks.push("values of 32-bit enums are sign-extended, even where the enum is unsigned".into());
    }
    if let Outcome::Decided(Decision { validate: false, .. }) = explanation.outcome
        && !matches!(reloc.kind, Some(RelocKind::TypeIdLocal | RelocKind::TypeIdTarget))
    {
        quirks.push(
            "the instruction's value is not checked for bitfields: compiler and loader may read them through \
             different windows"
                .into(),
        );
    }
    quirks
}

/// What it means in a sentence, and what to do next.
pub(super) fn advise(
    object: &Object<'_>,
    reloc: &Reloc<'_>,
    explanation: &Explanation,
) -> (String, Vec<String>) {
    let path = object.path(reloc);
    match &explanation.outcome {
        Outcome::Skipped => (
            "The instruction is inside no function, so libbpf ignores the record.".into(),
            vec!["Nothing: linkers leave such records behind when they drop a weak function.".into()],
        ),
        Outcome::ModuleDependent(_) => (
            "vmlinux lacks the type, and the modules that have it give different answers.".into(),
            vec![
                "Name the modules that will be loaded: KERNEL,MODULE[,MODULE...] with --modules all.".into(),
            ],
        ),
        Outcome::Fatal(error) => fatal(*error, &path),
        Outcome::Decided(decision) if decision.poisoned => {
            poisoned(object, reloc, decision, explanation, &path)
        }
        Outcome::Decided(decision) => resolved(decision),
    }
}

fn resolved(decision: &Decision) -> (String, Vec<String>) {
    let meaning = match decision.code {
        Code::Exact => "The kernel agrees with what the program was compiled against.",
        Code::Moved => "The kernel has it elsewhere or with another value; the loader patches that in.",
        Code::Resized => "The field has another size; the loader changes the width of the access.",
        Code::PresentAsQueried => "The kernel has it: the query answers 1.",
        Code::AbsentAsQueried => "The kernel does not have it: the query answers 0, and the program decides.",
        Code::ZeroAsQueried => "The kernel has no such type: size and id of a missing type are 0.",
        _ => "The record resolves.",
    };
    (meaning.into(), Vec::new())
}

fn poisoned(
    object: &Object<'_>,
    reloc: &Reloc<'_>,
    decision: &Decision,
    explanation: &Explanation,
    path: &str,
) -> (String, Vec<String>) {
    let meaning =
        "The loader replaces the instruction by a call that no verifier accepts. The program loads \
                   only if that instruction cannot be reached."
            .to_owned();
    let is_enumerator = matches!(
        reloc.question.as_ref().ok().and_then(|it| it.query.as_ref()).map(|it| &it.ask),
        Some(Ask::Enumerator(_))
    );
    let guard = if is_enumerator {
        "If the program can do without it, guard it: if (bpf_core_enum_value_exists(enum …, NAME))."
            .to_owned()
    } else {
        // The path behind the root, as the program would write it.
        let field = path.find(['.', '[']).and_then(|at| path.get(at..)).unwrap_or("");
        let pointer = match field.strip_prefix('.') {
            Some(member) => format!("p->{member}"),
            None => format!("p{field}"),
        };
        format!(
            "If the program can do without it, guard it: if (bpf_core_field_exists({pointer})). The verifier then \
             drops that branch on this kernel."
        )
    };
    let mut advice = Vec::new();
    if let Some(query) = existence_query(object, reloc, path) {
        advice.push(format!(
            "The program asks whether it exists, at {}+{}{}: if this access stands in that branch, it is as it should \
             be, and nothing is to be done.",
            String::from_utf8_lossy(query.section),
            query.insn_off,
            object.source_line(query).map(|it| format!(" (line {})", it.line)).unwrap_or_default()
        ));
        return (meaning, advice);
    }
    match decision.code {
        Code::NoType => {
            advice.push(
                "Check the name and the kind (struct, union, typedef) against the kernel's headers.".into(),
            );
            advice.push("If a module defines it, give the module too: KERNEL,MODULE.".into());
            advice.push("If only some kernels have it, guard it with bpf_core_type_exists(…).".into());
        }
        Code::FwdOnly => {
            advice
                .push("This kernel's BTF only declares the type; its definition may be in a module.".into());
        }
        Code::NoField | Code::NoEnumerator => {
            if let Some(nearest) = explanation.nearest.first()
                && !is_enumerator
            {
                let root = object.root_name(reloc);
                let root = root.split("___").next().unwrap_or(&root);
                advice.push(format!(
                    "If it was renamed to {nearest}, read both: declare `{root}___other {{ … }}` with the other \
                     name, and pick by bpf_core_field_exists()."
                ));
            }
            advice.push(guard);
        }
        Code::FieldIncompatible | Code::TypeIncompatible => {
            advice.push(format!(
                "The type of `{path}` changed. Declare a flavor (`struct NAME___new`) with the kernel's type, and \
                 pick by bpf_core_field_exists() or bpf_core_type_matches()."
            ));
        }
        Code::ArrayBounds => {
            advice.push("The kernel's array is shorter: bound the index, or guard the access.".into());
        }
        Code::SizeUnsafe => {
            advice.push(
                "Read it with bpf_core_read() into a variable of the kernel's size (BPF_CORE_READ_BITFIELD for \
                 bitfields) instead of loading it directly."
                    .into(),
            );
        }
        Code::PrunedAway => {
            advice.push(
                "Use a second local flavor of the struct for this access: each flavor has its own candidates.".into(),
            );
        }
        _ => advice.push(guard),
    }
    (meaning, advice)
}

/// A record of the same program that asks whether the same thing exists.
fn existence_query<'a, 'o>(object: &'a Object<'o>, reloc: &Reloc<'o>, path: &str) -> Option<&'a Reloc<'o>> {
    object.relocs().iter().find(|it| {
        it.program == reloc.program
            && it.kind.is_some_and(RelocKind::is_existence_query)
            && object.path(it) == path
    })
}

fn fatal(error: ResolveError, path: &str) -> (String, Vec<String>) {
    let meaning =
        "libbpf gives up on the whole object: none of its programs loads, reachable or not, guarded or not."
            .to_owned();
    let advice = match error {
        ResolveError::AmbiguousOffset { .. } | ResolveError::AmbiguousValue { .. } => vec![
            "The kernel has several types of that name that disagree. Access a field that only the wanted one has \
             first: that drops the others for the same local type."
                .to_owned(),
            "Or leave `?` in front of the section's name, and load the program only where it resolves.".to_owned(),
        ],
        ResolveError::BitfieldUnreadable => vec![format!(
            "`{path}` crosses what an aligned 8-byte load covers on this kernel. Read its bytes with \
             bpf_probe_read_kernel() and shift them together."
        )],
        ResolveError::OffsetOverflow { .. } => vec![
            "Take the address first (bpf_core_read(&x, sizeof(x), &p->field)): an offset in arithmetic may be larger \
             than one in a load."
                .to_owned(),
        ],
        ResolveError::InsnMismatch { .. } => vec![
            "Compile the object again. If a tool rewrites instructions after the compiler, it has to drop or update \
             the CO-RE records; an object that was relocated once must not be relocated again."
                .to_owned(),
        ],
        ResolveError::WidthMismatch { .. } => vec![
            "The program reads part of the field, and the field has another size here. Read it whole, with the type \
             that the struct declares, and cut afterwards."
                .to_owned(),
        ],
        ResolveError::InsnUnsupported { .. } => {
            vec!["The record points to an instruction that no compiler relocates. Compile the object again.".to_owned()]
        }
        ResolveError::AnonymousRoot { .. } => {
            vec!["Give the type a name: types are found in the kernel by name.".to_owned()]
        }
        ResolveError::TargetMalformed { .. } => vec![
            "The kernel's type of that name is incomplete (a typedef of a forward declaration, most likely). Use the \
             struct itself instead of the typedef."
                .to_owned(),
        ],
        ResolveError::TooDeep | ResolveError::MatchTooDeep => {
            vec!["The types are nested more deeply than libbpf follows. Ask for a smaller type.".to_owned()]
        }
        ResolveError::KindNotApplicable => {
            vec!["Signedness and shifts are those of members, not of array elements.".to_owned()]
        }
        _ => vec!["The record itself is broken: compile the object again with a current compiler.".to_owned()],
    };
    (meaning, advice)
}
