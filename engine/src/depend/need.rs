//! What an object needs of a kernel.

use hashbrown::{HashMap, HashSet};

use super::arguments::has_arguments;
use crate::object::{AttachTarget, Extern, ExternKind, Object, OpsMember, StructOps};
use crate::query::{Ask, LocalType};
use crate::reach::{Access, ContextUse, context_uses};

/// Something that a kernel has to have. Equal needs of different objects have equal answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need<'data> {
    /// Something to attach to.
    Attach(AttachTarget<'data>),
    /// An argument of what a program attaches to, or what that returns.
    Argument {
        /// What it attaches to.
        target: AttachTarget<'data>,
        /// Where the program reads it, in **bytes** from the start of its context.
        offset: u32,
    },
    /// That an argument points to a struct of that name.
    Pointee {
        /// What the program attaches to.
        target: AttachTarget<'data>,
        /// Where the argument is, in **bytes** from the start of the context.
        offset: u32,
        /// The name, without flavor.
        name: &'data [u8],
    },
    /// That there is something to be read behind an argument without a record.
    Bare {
        /// What the program attaches to.
        target: AttachTarget<'data>,
        /// Where the argument is, in **bytes** from the start of the context.
        offset: u32,
        /// Where the program reads, in **bytes** from what the argument points to.
        at: i16,
        /// How many **bytes** it reads.
        size: u32,
    },
    /// A function that BPF may call.
    Kfunc {
        /// Its name without flavor.
        name: &'data [u8],
        /// The prototype that the object expects.
        proto: LocalType<'data>,
        /// Whether the object can do without it.
        is_weak: bool,
    },
    /// A variable that BTF has.
    Variable {
        /// Its name.
        name: &'data [u8],
        /// The type that the object expects, modifiers skipped.
        ty: LocalType<'data>,
        /// Whether the object can do without it.
        is_weak: bool,
    },
    /// The address of a symbol.
    Address {
        /// Its name.
        name: &'data [u8],
        /// Whether the object can do without it.
        is_weak: bool,
    },
    /// A value of the configuration, or one that libbpf makes up.
    Kconfig {
        /// Its name.
        name: &'data [u8],
        /// Whether the object can do without it.
        is_weak: bool,
    },
    /// A struct of functions that BPF may implement.
    StructOps {
        /// The object's idea of it.
        ty: LocalType<'data>,
        /// What the object sets. Programs are numbered as they come up.
        members: Box<[OpsMember]>,
    },
}

/// Whose a need is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// That of a program, by its number in [`Object::programs`].
    Program(usize),
    /// That of the object, for an extern: its number in [`Object::externs`].
    Extern(usize),
    /// That of the object, for a map: its number in [`Object::struct_ops`].
    StructOps(usize),
}

/// A need and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency<'data> {
    /// Whose.
    pub owner: Owner,
    /// What.
    pub need: Need<'data>,
}

/// Everything that an object needs of a kernel beside CO-RE, in the order in which libbpf looks for it.
pub fn needs<'data>(object: &Object<'data>) -> Vec<Dependency<'data>> {
    let externs = object.externs().iter().enumerate().filter_map(|(number, it)| {
        Some(Dependency { owner: Owner::Extern(number), need: of_extern(object, it)? })
    });
    let maps = object.struct_ops().iter().enumerate().filter_map(|(number, it)| {
        Some(Dependency { owner: Owner::StructOps(number), need: of_map(object, it)? })
    });
    let targets = object.programs().iter().enumerate().filter_map(|(number, it)| {
        Some(Dependency { owner: Owner::Program(number), need: Need::Attach(it.attach?) })
    });
    let arguments = object.programs().iter().enumerate().flat_map(|(number, it)| {
        let target = it.attach.filter(|it| it.name.is_some() && has_arguments(it.kind));
        let used = target.map(|_| context_uses(object, number)).unwrap_or_default();
        // A program reads some arguments again and again.
        let mut seen = HashSet::new();
        let needs = used.iter().filter_map(|it| of_use(object, target?, it));
        let needs: Vec<_> = needs.filter(|it| seen.insert(it.clone())).collect();
        needs.into_iter().map(move |need| Dependency { owner: Owner::Program(number), need })
    });
    externs.chain(maps).chain(targets).chain(arguments).collect()
}

/// What a use of the context takes of the prototype of the target; `None` if nothing is known of it.
pub(crate) fn of_use<'data>(
    object: &Object<'data>,
    target: AttachTarget<'data>,
    used: &ContextUse,
) -> Option<Need<'data>> {
    // Parts of the same place.
    let offset = used.argument & !7;
    Some(match used.access {
        Access::Itself => Need::Argument { target, offset },
        Access::Field(record) => {
            let query = object.relocs().get(record)?.question.as_ref().ok()?.query.as_ref()?;
            let is_field = matches!(query.ask, Ask::Field(_));
            Need::Pointee { target, offset, name: is_field.then_some(query.root.essential)? }
        }
        Access::Bare(at, size) => Need::Bare { target, offset, at, size },
    })
}

fn of_extern<'data>(object: &Object<'data>, it: &Extern<'data>) -> Option<Need<'data>> {
    let (name, is_weak) = (it.name, it.is_weak);
    let local_type = || {
        let btf = object.btf()?;
        let (id, _) = btf.skip_mods_and_typedefs(btf.ty(it.btf_id?)?.target())?;
        Some(LocalType::new(btf, id))
    };
    Some(match it.kind {
        ExternKind::Kfunc => {
            Need::Kfunc { name: crate::btf::essential_name(name), proto: local_type()?, is_weak }
        }
        ExternKind::KsymVar => Need::Variable { name, ty: local_type()?, is_weak },
        ExternKind::KsymTypeless => Need::Address { name, is_weak },
        ExternKind::Kconfig => Need::Kconfig { name, is_weak },
        ExternKind::Unknown => return None,
    })
}

fn of_map<'data>(object: &Object<'data>, map: &StructOps<'data>) -> Option<Need<'data>> {
    let mut numbers = HashMap::new();
    let members = map.members.iter().map(|member| match *member {
        OpsMember::Program(program) => {
            let next = numbers.len();
            OpsMember::Program(*numbers.entry(program).or_insert(next))
        }
        other => other,
    });
    Some(Need::StructOps { ty: LocalType::new(object.btf()?, map.type_id), members: members.collect() })
}

impl<'data> Need<'data> {
    /// Whether libbpf looks for it in the kernel's own BTF.
    pub fn needs_kernel_btf(&self) -> bool {
        match self {
            // Without a name it does not come to a lookup, but the kernel's BTF is loaded all the same.
            Self::Attach(target) => target.kind.needs_kernel_btf(),
            Self::Kfunc { .. } | Self::Variable { .. } | Self::StructOps { .. } => true,
            // That is said of the target.
            Self::Argument { .. }
            | Self::Pointee { .. }
            | Self::Bare { .. }
            | Self::Address { .. }
            | Self::Kconfig { .. } => false,
        }
    }

    /// The target, of a need that is about an argument of it.
    pub(crate) fn argument_of(&self) -> Option<AttachTarget<'data>> {
        match self {
            Self::Argument { target, .. } | Self::Pointee { target, .. } | Self::Bare { target, .. } => {
                Some(*target)
            }
            _ => None,
        }
    }

    /// Whether lists of the kernel's symbols have a say in it.
    pub(super) fn asks_kallsyms(&self) -> bool {
        matches!(self, Self::Attach(target) if !target.kind.needs_kernel_btf())
            || matches!(self, Self::Address { .. })
    }
}
