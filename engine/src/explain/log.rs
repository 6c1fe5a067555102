//! The lines that libbpf would log.
//!
//! Source: `bpf_core_format_spec` and the messages of `bpf_core_calc_relo_insn`, `bpf_core_patch_insn`,
//! `bpf_core_resolve_relo`, `fixup_log_failed_core_relo`, libbpf; spec 4.4 and 9.2.

use crate::btf::{Btf, TypeId};
use crate::error::ResolveError;
use crate::format::btf::Kind;
use crate::object::{Object, Reloc};
use crate::query::{Ask, Step, parse_access};
use crate::resolve::{Decision, Outcome};

/// What libbpf prints about a record that does not resolve: warnings of a fatal one, and of a poisoned one
/// what it makes of the verifier's log if the instruction is reached.
pub(super) fn lines(object: &Object<'_>, reloc: &Reloc<'_>, outcome: &Outcome) -> Vec<String> {
    let program = reloc.program.and_then(|it| object.programs().get(it));
    let name = program.map(|it| String::from_utf8_lossy(it.name).into_owned()).unwrap_or_default();
    let start = program.map_or(0, |it| it.offset);
    let insn = (u64::from(reloc.insn_off) - start.min(u64::from(reloc.insn_off))) / 8;
    let Some(btf) = object.btf() else { return Vec::new() };
    let prefix = format!("libbpf: prog '{name}': relo #{}", reloc.number);
    match outcome {
        Outcome::Fatal(error) => fatal(btf, reloc, *error, &prefix, insn),
        Outcome::Decided(Decision { poisoned: true, unresolved: true, .. }) => vec![
            format!("{insn}: <invalid CO-RE relocation>"),
            format!("failed to resolve CO-RE relocation {}", spec(btf, reloc)),
        ],
        Outcome::Decided(Decision { poisoned: true, .. }) => vec![format!(
            "{prefix}: insn #{insn} (LDX/ST/STX) accesses field incorrectly. Make sure you are accessing pointers, \
             unsigned integers, or fields of matching type and size."
        )],
        _ => Vec::new(),
    }
}

fn fatal(btf: &Btf<'_>, reloc: &Reloc<'_>, error: ResolveError, prefix: &str, insn: u64) -> Vec<String> {
    let errno = match error.errno() {
        -22 => "-EINVAL".to_owned(),
        -7 => "-E2BIG".to_owned(),
        -34 => "-ERANGE".to_owned(),
        other => other.to_string(),
    };
    let calculated = format!("{prefix}: failed to relocate: {errno}");
    let patched = format!("{prefix}: failed to patch insn #{insn}: {errno}");
    let section_insn = reloc.insn_off / 8;
    let access = String::from_utf8_lossy(reloc.access);
    let kind = reloc.raw_kind;
    match error {
        ResolveError::AmbiguousOffset { first, other } => {
            vec![format!("{prefix}: field offset ambiguity: {other} != {first}"), calculated]
        }
        ResolveError::AmbiguousValue { first, other } => vec![
            format!("{prefix}: relocation decision ambiguity: success {other} != success {first}"),
            calculated,
        ],
        ResolveError::BitfieldUnreadable => vec![
            format!("{prefix}: relo {kind} at insn #{section_insn} can't be satisfied for bitfield"),
            calculated,
        ],
        ResolveError::KindNotApplicable => vec![
            format!("{prefix}: relo {kind} at insn #{section_insn} can't be applied to array access"),
            calculated,
        ],
        ResolveError::AnonymousRoot { id } => vec![
            format!(
                "{prefix}: target candidate search failed for [{id}] {}: -22",
                kind_and_name(btf, TypeId(id))
            ),
            calculated,
        ],
        ResolveError::BadAccessString
        | ResolveError::LocalTypeUnusable
        | ResolveError::UnknownKind { .. } => {
            vec![
                format!(
                    "{prefix}: parsing [{}] {} + {access} failed: -22",
                    reloc.type_id,
                    kind_and_name(btf, reloc.type_id)
                ),
                calculated,
            ]
        }
        ResolveError::OffsetOverflow { value } => {
            vec![format!("{prefix}: insn #{insn} (LDX/ST/STX) value too big: {value}"), patched]
        }
        ResolveError::InsnMismatch { found, expected } => vec![
            format!("{prefix}: unexpected insn #{insn} value: got {}, exp {expected}", found.cast_signed()),
            patched,
        ],
        ResolveError::WidthMismatch { access, local, target } if access != local => {
            let _ = target;
            vec![
                format!("{prefix}: insn #{insn} (LDX/ST/STX) unexpected mem size: got {access}, exp {local}"),
                patched,
            ]
        }
        ResolveError::WidthMismatch { target, .. } => {
            vec![format!("{prefix}: insn #{insn} (LDX/ST/STX) invalid new mem size: {target}"), patched]
        }
        ResolveError::InsnUnsupported { code } => {
            vec![format!("{prefix}: trying to relocate unrecognized insn #{insn}, code:{code:#x}"), patched]
        }
        ResolveError::BadInsnOffset { .. } => {
            vec!["libbpf: failed to perform CO-RE relocations: -EINVAL".into()]
        }
        _ => vec![calculated],
    }
}

fn kind_and_name(btf: &Btf<'_>, id: TypeId) -> String {
    let Some(ty) = btf.ty(id) else { return "unknown".into() };
    let name = String::from_utf8_lossy(btf.name(ty.name_off)).into_owned();
    format!("{} {}", ty.kind.name(), if name.is_empty() { "<anon>" } else { &name })
}

/// A record's local side as libbpf writes it: `<byte_off> [14] struct task_struct.pid (0:0 @ offset 0)`.
fn spec(btf: &Btf<'_>, reloc: &Reloc<'_>) -> String {
    let kind = reloc.kind.map_or("unknown", |it| it.name());
    let mut text = format!("<{kind}> [{}] {}", reloc.type_id, kind_and_name(btf, reloc.type_id));
    let Ok(question) = &reloc.question else { return text };
    let raw = parse_access(reloc.access).unwrap_or_default();
    match question.query.as_ref().map(|it| &it.ask) {
        Some(Ask::Field(steps)) => {
            for (depth, step) in steps.iter().enumerate() {
                match *step {
                    Step::Is(_) => {}
                    Step::Index(0) if depth == 0 => {}
                    Step::Index(index) => text.push_str(&format!("[{index}]")),
                    Step::Member { name, .. } => {
                        text.push_str(&format!(".{}", String::from_utf8_lossy(name)))
                    }
                }
            }
            let raw: Vec<String> = raw.iter().map(u32::to_string).collect();
            let (bytes, bits) = (question.local_bit_offset / 8, question.local_bit_offset % 8);
            let bits = if bits == 0 { String::new() } else { format!(".{bits}") };
            text.push_str(&format!(" ({} @ offset {bytes}{bits})", raw.join(":")));
        }
        Some(Ask::Enumerator(_)) => {
            let enumerator = btf.skip_mods_and_typedefs(reloc.type_id).and_then(|(_, ty)| {
                let it = ty.enumerator(raw.first().copied()?)?;
                let value = if ty.kind == Kind::Enum && !ty.kind_flag() {
                    (it.value & 0xffff_ffff).to_string()
                } else if ty.kind_flag() {
                    it.value.cast_signed().to_string()
                } else {
                    it.value.to_string()
                };
                Some(format!("::{} = {value}", String::from_utf8_lossy(btf.name(it.name_off))))
            });
            text.push_str(&enumerator.unwrap_or_default());
        }
        _ => {}
    }
    text
}
