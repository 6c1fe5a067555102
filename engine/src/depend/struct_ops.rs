//! Structs of functions that BPF implements.
//!
//! Source: `find_struct_ops_kern_types`, `bpf_map__init_kern_struct_ops`, libbpf; spec 3.6.

use super::looked_up::{Extent, LookedUp};
use super::lookup::{find, module_name};
use super::{Answer, Code, Severity};
use crate::btf::{Btf, Type, TypeId, essential_name};
use crate::fleet::Modules;
use crate::format::btf::Kind;
use crate::kernel::Kernel;
use crate::object::OpsMember;
use crate::query::LocalType;

/// What stands in front of the name of the struct that a map's value is.
const VALUE_PREFIX: &[u8] = b"bpf_struct_ops_";

fn names(local: &LocalType<'_>) -> (Vec<u8>, Vec<u8>) {
    let name = local.btf.ty(local.id).map(|it| local.btf.name(it.name_off)).unwrap_or_default();
    let name = essential_name(name);
    (name.to_vec(), [VALUE_PREFIX, name].concat())
}

pub(super) fn roots(local: &LocalType<'_>) -> Vec<(Vec<u8>, Kind)> {
    let (ops, value) = names(local);
    vec![(ops, Kind::Struct), (value, Kind::Struct)]
}

/// What the answer looks up, on any kernel.
pub(super) fn looked_up(local: &LocalType<'_>) -> Vec<LookedUp> {
    let (ops, value) = names(local);
    vec![
        LookedUp::new(ops, Kind::Struct, Extent::Functions),
        LookedUp::new(value, Kind::Struct, Extent::Members),
    ]
}

pub(super) fn answer(
    local: &LocalType<'_>,
    members: &[OpsMember],
    kernel: &Kernel<'_>,
    modules: Modules,
) -> Answer {
    let (ops, value) = names(local);
    let found = find(kernel, &value, Kind::Struct);
    if let Some(id) = found.vmlinux {
        return in_btf(local, members, &kernel.vmlinux.btf, kernel.vmlinux.named(&ops, Kind::Struct), id);
    }
    let mut of_modules = found.modules.into_iter().filter_map(|(number, id)| {
        let module = kernel.modules.get(number as usize)?;
        // A lookup in a module begins in vmlinux.
        let ops = kernel.vmlinux.named(&ops, Kind::Struct).or(module.indexed.named(&ops, Kind::Struct));
        let answer = in_btf(local, members, &module.indexed.btf, ops, id);
        Some(answer.in_modules(vec![module_name(kernel, number)]))
    });
    let Some(first) = of_modules.next() else {
        let text = format!("the kernel has no struct {}", String::from_utf8_lossy(&value));
        return Answer::new(Code::OpsTypeMissing, Severity::LoadFails).detail(text);
    };
    if modules == Modules::All || first.severity == Severity::LoadFails {
        return first;
    }
    Answer::new(Code::OpsModuleOnly, Severity::Conditional).in_modules(first.modules)
}

fn in_btf(
    local: &LocalType<'_>,
    members: &[OpsMember],
    btf: &Btf<'_>,
    ops: Option<TypeId>,
    value: TypeId,
) -> Answer {
    let type_missing = |what: &str| Answer::new(Code::OpsTypeMissing, Severity::LoadFails).detail(what);
    let Some(ops_id) = ops else { return type_missing("the kernel has no such struct") };
    let (Some(ours), Some(theirs), Some(value)) = (local.btf.ty(local.id), btf.ty(ops_id), btf.ty(value))
    else {
        return type_missing("a type is not there");
    };
    if !value.members().any(|it| it.type_id == ops_id) {
        return type_missing("the struct of the map's value does not have it as a member");
    }
    let mut pair = Pair { local: &local.btf, kernel: btf, ours, theirs, indices: Vec::new() };
    let mut lacks_unset = None;
    for (number, held) in (0_u32..).zip(members) {
        match pair.member(number, *held) {
            Ok(true) => {}
            Ok(false) => lacks_unset = lacks_unset.or(Some(number)),
            Err(answer) => return answer,
        }
    }
    match lacks_unset {
        Some(number) => Answer::new(Code::OpsMemberMissingZero, Severity::Fine)
            .detail(format!("member {} is not there, and not set", pair.member_name(number))),
        None => Answer::ok(),
    }
}

/// The struct as the object knows it, and the kernel's.
struct Pair<'a, 'l, 'k> {
    local: &'a Btf<'l>,
    kernel: &'a Btf<'k>,
    ours: Type<'l>,
    theirs: Type<'k>,
    /// Programs with the kernel's number of the member that they are for.
    indices: Vec<(usize, usize)>,
}

impl Pair<'_, '_, '_> {
    fn member_name(&self, number: u32) -> String {
        let name = self.ours.member(number).map(|it| self.local.name(it.name_off));
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }

    /// Whether the kernel has a member, and it is what the object takes it for.
    fn member(&mut self, number: u32, held: OpsMember) -> Result<bool, Answer> {
        let Some(ours) = self.ours.member(number) else { return Ok(true) };
        let mismatch = |what: &str| {
            let text = format!("member {}: {what}", self.member_name(number));
            Err(Answer::new(Code::OpsMemberMismatch, Severity::LoadFails).detail(text))
        };
        let Ok(size) = self.local.resolve_size(ours.type_id) else {
            return mismatch("its type in the object has no size");
        };
        let name = self.local.name(ours.name_off);
        let found = self.theirs.members().enumerate().find(|(_, it)| self.kernel.name_is(it.name_off, name));
        let Some((index, theirs)) = found else {
            if held == OpsMember::Zero {
                return Ok(false);
            }
            let text =
                format!("the kernel's struct has no member {}, which is set", self.member_name(number));
            return Err(Answer::new(Code::OpsMemberMissing, Severity::LoadFails).detail(text));
        };
        if ours.bitfield_size != 0 || theirs.bitfield_size != 0 {
            return mismatch("bitfields are not supported");
        }
        let skipped = self.local.skip_mods_and_typedefs(ours.type_id);
        let Some(((_, our_type), (their_id, their_type))) =
            skipped.zip(self.kernel.skip_mods_and_typedefs(theirs.type_id))
        else {
            return mismatch("its type leads nowhere");
        };
        if our_type.kind != their_type.kind {
            let (ours, theirs) = (our_type.kind.name(), their_type.kind.name());
            return mismatch(&format!("the object has {ours} there, the kernel {theirs}"));
        }
        if our_type.kind != Kind::Ptr {
            return match self.kernel.resolve_size(their_id) {
                Ok(kernel_size) if kernel_size == size => Ok(true),
                Ok(kernel_size) => mismatch(&format!("it has {size} bytes, in the kernel {kernel_size}")),
                Err(_) => mismatch("the kernel's has no size"),
            };
        }
        let program = match held {
            OpsMember::Zero => return Ok(true),
            OpsMember::Data => return mismatch("it is set to something that is no program"),
            OpsMember::Program(program) => program,
        };
        let pointee = self.kernel.skip_mods_and_typedefs(their_type.target());
        if pointee.is_none_or(|(_, it)| it.kind != Kind::FuncProto) {
            return mismatch("the kernel's is no pointer to a function");
        }
        match self.indices.iter().find(|it| it.0 == program) {
            Some((_, known)) if *known != index => mismatch("its program is used for another member too"),
            _ => {
                self.indices.push((program, index));
                Ok(true)
            }
        }
    }
}
