//! Types, functions and addresses of the running kernel that programs name.
//!
//! Source: `find_kernel_btf_id`, `bpf_object__resolve_ksyms_btf_id`, `bpf_object__read_kallsyms_file`, libbpf; spec 3.2, 3.4.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use btfleet_engine::btf::{TypeId, essential_name};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{AttachKind, AttachTarget, Object, OpsMember};

use crate::bpf;

/// A type of the running kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) id: TypeId,
    /// The module that it is of.
    pub(crate) module: Option<&'a OwnedFd>,
}

/// The running kernel, and how to refer to what is in it.
#[derive(Debug)]
pub(crate) struct Running<'k, 'data> {
    kernel: &'k Kernel<'data>,
    modules: HashMap<String, OwnedFd>,
    addresses: OnceLock<HashMap<Vec<u8>, u64>>,
}

impl<'k, 'data> Running<'k, 'data> {
    pub(crate) fn new(kernel: &'k Kernel<'data>) -> Self {
        Self { kernel, modules: bpf::kernel_btfs().into_iter().collect(), addresses: OnceLock::new() }
    }

    /// A type by its full name: in vmlinux, else in the first module that has it.
    pub(crate) fn named(&self, name: &[u8], kind: Kind) -> Option<Found<'_>> {
        if let Some(id) = self.kernel.vmlinux.named(name, kind) {
            return Some(Found { id, module: None });
        }
        self.kernel.modules.iter().find_map(|it| {
            let id = it.indexed.named(name, kind)?;
            Some(Found { id, module: Some(self.modules.get(&it.name)?) })
        })
    }

    /// The address of a symbol. 0 if it is not there, or not shown to us.
    pub(crate) fn address(&self, name: &[u8]) -> u64 {
        let all = self.addresses.get_or_init(|| {
            let text = fs::read("/proc/kallsyms").unwrap_or_default();
            let entry = |line: &[u8]| {
                let mut words = line.split(u8::is_ascii_whitespace);
                let address = u64::from_str_radix(str::from_utf8(words.next()?).ok()?, 16).ok()?;
                Some((words.nth(1)?.to_vec(), address))
            };
            text.split(|&byte| byte == b'\n').filter_map(entry).collect()
        });
        all.get(name).copied().unwrap_or(0)
    }

    /// What a program attaches to, if it has to be known when it is loaded; `Err` says why it is not.
    pub(crate) fn attach(&self, target: &AttachTarget<'_>) -> Result<Option<Found<'_>>, String> {
        if !target.kind.needs_kernel_btf() && target.kind != AttachKind::Freplace {
            return Ok(None);
        }
        let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let Some((prefix, kind)) = target.kind.in_btf() else {
            return Err("what it attaches to is given when it is loaded".into());
        };
        let Some(name) = target.name else {
            return Err("its section does not say what it attaches to".into());
        };
        let full = [prefix.as_bytes(), name].concat();
        let found = self.named(&full, kind);
        found.map(Some).ok_or_else(|| format!("the kernel has no {} {}", kind.name(), shown(&full)))
    }

    /// The struct that a struct_ops program is for, and the number of its member there.
    pub(crate) fn struct_ops(&self, object: &Object<'_>, program: usize) -> Option<(Found<'_>, u32)> {
        let btf = object.btf()?;
        let (map, member) = object.struct_ops().iter().find_map(|map| {
            let member = map.members.iter().position(|it| *it == OpsMember::Program(program))?;
            Some((map, u32::try_from(member).ok()?))
        })?;
        let ty = btf.ty(map.type_id)?;
        let found = self.named(essential_name(btf.name(ty.name_off)), Kind::Struct)?;
        let member = btf.name(ty.member(member)?.name_off);
        let theirs = match found.module {
            None => &self.kernel.vmlinux.btf,
            Some(fd) => {
                let of_fd = |name: &String| self.modules.get(name).is_some_and(|it| std::ptr::eq(it, fd));
                &self.kernel.modules.iter().find(|it| of_fd(&it.name))?.indexed.btf
            }
        };
        let index = theirs.ty(found.id)?.members().position(|it| theirs.name_is(it.name_off, member))?;
        Some((found, u32::try_from(index).ok()?))
    }
}
