//! Symbols that an object leaves to the kernel: kconfig values, ksym variables, kfuncs.
//!
//! Source: `bpf_object__collect_externs`, libbpf; spec 3.4.

use hashbrown::HashMap;
use object::elf::{SHN_UNDEF, STB_GLOBAL, STB_WEAK, STT_NOTYPE};
use object::read::elf::Sym;

use super::Refusal;
use super::elf::Sections;
use crate::btf::{Btf, TypeId};
use crate::format::btf::{Kind, LINKAGE_EXTERN};

/// One symbol that the kernel has to provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extern<'data> {
    /// Name of the symbol.
    pub name: &'data [u8],
    /// What it stands for.
    pub kind: ExternKind,
    /// Whether the program can do without it.
    pub is_weak: bool,
    /// Its VAR or FUNC in the object's BTF.
    pub btf_id: Option<TypeId>,
}

/// What an extern symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExternKind {
    /// A value of the kernel's configuration, or one that libbpf makes up.
    Kconfig,
    /// A variable of the kernel, typed in BTF.
    KsymVar,
    /// An address of the kernel without a type.
    KsymTypeless,
    /// A function of the kernel that BPF may call.
    Kfunc,
    /// The object's BTF does not say: libbpf refuses the object.
    Unknown,
}

/// Lists the externs. With the first defect that libbpf would refuse the object for, if there is one.
pub(super) fn collect<'data>(
    sections: &Sections<'data>,
    btf: Option<&Btf<'data>>,
) -> Result<Vec<Extern<'data>>, (Vec<Extern<'data>>, Refusal)> {
    let endian = sections.elf_endian;
    let names: Vec<_> = sections
        .symbols
        .iter()
        .filter(|it| {
            it.st_shndx(endian) == SHN_UNDEF
                && matches!(it.st_bind(), STB_GLOBAL | STB_WEAK)
                && it.st_type() == STT_NOTYPE
        })
        .filter_map(|it| Some((sections.symbols.symbol_name(endian, it).ok()?, it.st_bind() == STB_WEAK)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let index = btf.map(ExternIndex::build);
    let mut refused = None;
    let externs = names
        .into_iter()
        .map(|(name, is_weak)| {
            let (kind, btf_id) = match classify(name, btf, index.as_ref()) {
                Ok((kind, id)) => (kind, Some(id)),
                Err(refusal) => {
                    refused.get_or_insert(refusal);
                    (ExternKind::Unknown, None)
                }
            };
            Extern { name, kind, is_weak, btf_id }
        })
        .collect();
    match refused {
        None => Ok(externs),
        Some(refusal) => Err((externs, refusal)),
    }
}

/// What the BTF says of extern symbols, gathered in one pass.
struct ExternIndex<'data> {
    /// The first VAR or FUNC of each name.
    by_name: HashMap<&'data [u8], TypeId>,
    /// Name of the first DATASEC that lists a type.
    section: HashMap<TypeId, &'data [u8]>,
}

impl<'data> ExternIndex<'data> {
    fn build(btf: &Btf<'data>) -> Self {
        let (mut by_name, mut section) = (HashMap::new(), HashMap::new());
        for (id, ty) in btf.own_types() {
            match ty.kind {
                Kind::Var | Kind::Func => {
                    by_name.entry(btf.name(ty.name_off)).or_insert(id);
                }
                Kind::Datasec => {
                    for var in ty.sec_vars() {
                        section.entry(var.type_id).or_insert_with(|| btf.name(ty.name_off));
                    }
                }
                _ => {}
            }
        }
        Self { by_name, section }
    }
}

fn classify(
    name: &[u8],
    btf: Option<&Btf<'_>>,
    index: Option<&ExternIndex<'_>>,
) -> Result<(ExternKind, TypeId), Refusal> {
    let shown = String::from_utf8_lossy(name);
    let (Some(btf), Some(index)) = (btf, index) else {
        return Err(Refusal::new(Refusal::ESRCH, format!("extern '{shown}' needs BTF, and there is none")));
    };
    let missing = || Refusal::new(Refusal::ENOENT, format!("extern '{shown}' is not in the object's BTF"));
    let &id = index.by_name.get(name).ok_or_else(missing)?;
    let ty = btf.ty(id).ok_or_else(missing)?;
    if ty.linkage() != LINKAGE_EXTERN {
        let what = format!("extern '{shown}' is not extern in the object's BTF");
        return Err(Refusal::new(Refusal::EINVAL, what));
    }
    let unlisted = || Refusal::new(Refusal::ENOENT, format!("extern '{shown}' is in no section of the BTF"));
    let &section = index.section.get(&id).ok_or_else(unlisted)?;
    let kind = match (section, ty.kind) {
        (b".kconfig", Kind::Func) => {
            let what = format!("extern function '{shown}' in section .kconfig");
            return Err(Refusal::new(Refusal::ENOTSUP, what));
        }
        (b".kconfig", _) => ExternKind::Kconfig,
        (b".ksyms", Kind::Func) => ExternKind::Kfunc,
        (b".ksyms", _) => match btf.skip_mods_and_typedefs(ty.target()) {
            Some((TypeId::VOID, _)) => ExternKind::KsymTypeless,
            _ => ExternKind::KsymVar,
        },
        _ => {
            let what = format!(
                "extern '{shown}' is in section {}, neither .ksyms nor .kconfig",
                String::from_utf8_lossy(section)
            );
            return Err(Refusal::new(Refusal::ENOTSUP, what));
        }
    };
    Ok((kind, id))
}
