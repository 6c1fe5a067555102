//! Maps of type struct_ops: structs of functions that the program implements for the kernel.
//!
//! Source: `init_struct_ops_maps`, `bpf_object__collect_st_ops_relos`, libbpf; spec 3.6.

use hashbrown::HashMap;
use object::SymbolIndex;
use object::elf::SHN_LORESERVE;
use object::read::elf::{Rel, Sym};

use super::elf::{OpsSection, Sections};
use super::{Refusal, program_at};
use crate::btf::{Btf, TypeId};
use crate::format::btf::Kind;
use crate::format::insn::INSN_LEN;

/// Links of a chain of typedefs and modifiers that libbpf follows (`MAX_RESOLVE_DEPTH`).
const RESOLVE_DEPTH_MAX: u32 = 32;

/// One struct_ops map: a variable in a section `.struct_ops` or its like.
#[derive(Clone, Debug)]
pub struct StructOps<'data> {
    /// Name of the variable.
    pub name: &'data [u8],
    /// The struct that it is, in the object's BTF.
    pub type_id: TypeId,
    /// Whether libbpf makes the map unless told otherwise.
    pub autocreate: bool,
    /// What stands in each member of the struct, in their order.
    pub members: Vec<OpsMember>,
}

/// What a member of a struct_ops map holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpsMember {
    /// Zeros.
    Zero,
    /// Some other bytes.
    Data,
    /// A program, by its number in [`super::Object::programs`].
    Program(usize),
}

/// Lists the struct_ops maps. With the first defect that libbpf would refuse the object for, if there is one.
pub(super) fn collect<'data>(
    sections: &Sections<'data>,
    btf: Option<&Btf<'data>>,
) -> (Vec<StructOps<'data>>, Option<Refusal>) {
    let mut maps = Vec::new();
    let Some(btf) = btf else { return (maps, None) };
    for section in &sections.ops {
        if let Err(refusal) = collect_section(sections, section, btf, &mut maps) {
            return (maps, Some(refusal));
        }
    }
    (maps, None)
}

/// Where a map is in its section.
struct Extent {
    start: usize,
    len: usize,
}

fn collect_section<'data>(
    sections: &Sections<'data>,
    section: &OpsSection<'data>,
    btf: &Btf<'data>,
    maps: &mut Vec<StructOps<'data>>,
) -> Result<(), Refusal> {
    let shown = String::from_utf8_lossy(section.name);
    let refuse = |errno: i32, what: &str| Refusal::new(errno, format!("section {shown}: {what}"));
    let datasec = btf
        .own_types()
        .find(|(_, ty)| ty.kind == Kind::Datasec && btf.name(ty.name_off) == section.name)
        .ok_or_else(|| refuse(Refusal::EINVAL, "it is not in the object's BTF"))?
        .1;
    let offsets = variable_offsets(sections, section);
    let mut extents = Vec::new();
    let first = maps.len();
    // QUIRK: the question mark is forgotten with the first map, so that the others of the section are made.
    let mut autocreate = !section.name.starts_with(b"?");
    for var in datasec.sec_vars() {
        let name = btf.ty(var.type_id).map(|it| btf.name(it.name_off)).unwrap_or_default();
        let (type_id, ty) = resolve_type(btf, var.type_id)
            .ok_or_else(|| refuse(Refusal::EINVAL, "the type of a variable leads nowhere"))?;
        if btf.is_anonymous(ty.name_off) {
            return Err(refuse(Refusal::ENOTSUP, "a variable is of an anonymous type"));
        }
        if ty.kind != Kind::Struct {
            return Err(refuse(Refusal::EINVAL, "a variable is no struct"));
        }
        let start = offsets.get(name).copied().unwrap_or(u64::from(var.offset));
        let extent = usize::try_from(start).ok().map(|start| Extent { start, len: ty.size() as usize });
        let bytes = extent.as_ref().and_then(|it| section.bytes.get(it.start..)?.get(..it.len));
        let (Some(extent), Some(bytes)) = (extent, bytes) else {
            return Err(refuse(Refusal::EINVAL, "a variable crosses its end"));
        };
        let members = ty.members().map(|member| {
            let start = (member.bit_offset / 8) as usize;
            // A member without a size is an error as soon as the kernel is looked at.
            let len = btf.resolve_size(member.type_id).unwrap_or(0) as usize;
            let held = bytes.get(start..).map(|it| it.get(..len).unwrap_or(it)).unwrap_or_default();
            if held.iter().all(|&byte| byte == 0) { OpsMember::Zero } else { OpsMember::Data }
        });
        maps.push(StructOps { name, type_id, autocreate, members: members.collect() });
        autocreate = true;
        extents.push(extent);
    }
    let maps = maps.get_mut(first..).unwrap_or_default();
    fill_in_programs(sections, section, btf, maps, &extents).map_err(|what| refuse(Refusal::EINVAL, what))
}

/// Where symbols say that variables are; what BTF says is the compiler's guess.
fn variable_offsets<'data>(
    sections: &Sections<'data>,
    section: &OpsSection<'data>,
) -> HashMap<&'data [u8], u64> {
    let endian = sections.elf_endian;
    let of_section = |it: &&object::elf::Sym64<object::Endianness>| {
        usize::from(it.st_shndx(endian).0) == section.elf && it.st_type() == object::elf::STT_OBJECT
    };
    let symbols = sections.symbols.iter().filter(of_section);
    symbols
        .filter_map(|it| Some((sections.symbols.symbol_name(endian, it).ok()?, it.st_value(endian))))
        .collect()
}

/// Source: `btf__resolve_type`, libbpf.
fn resolve_type<'data>(btf: &Btf<'data>, id: TypeId) -> Option<(TypeId, crate::btf::Type<'data>)> {
    let (mut id, mut ty) = (id, btf.ty(id)?);
    for _ in 0..RESOLVE_DEPTH_MAX {
        if !ty.kind.is_mod_or_typedef() && ty.kind != Kind::Var {
            return (ty.kind != Kind::Void).then_some((id, ty));
        }
        id = ty.target();
        ty = btf.ty(id)?;
    }
    None
}

fn fill_in_programs(
    sections: &Sections<'_>,
    section: &OpsSection<'_>,
    btf: &Btf<'_>,
    maps: &mut [StructOps<'_>],
    extents: &[Extent],
) -> Result<(), &'static str> {
    let endian = sections.elf_endian;
    for rel in section.rels {
        let at = usize::try_from(rel.r_offset(endian)).unwrap_or(usize::MAX);
        let place = maps
            .iter_mut()
            .zip(extents)
            .find(|(_, extent)| extent.start <= at && at - extent.start < extent.len)
            .and_then(|(map, extent)| {
                let ty = btf.ty(map.type_id)?;
                let member = ty.members().position(|it| it.bit_offset as usize == (at - extent.start) * 8)?;
                let slot = map.members.get_mut(member)?;
                Some((slot, ty.member(u32::try_from(member).ok()?)?))
            });
        let Some((slot, member)) = place else { return Err("a relocation is at no member of a struct") };
        if !is_func_ptr(btf, member.type_id) {
            return Err("a relocation is at a member that is no pointer to a function");
        }
        let symbol = sections.symbols.symbol(SymbolIndex(rel.r_sym(endian) as usize));
        let Ok(symbol) = symbol else { return Err("a relocation names no symbol") };
        let (elf, value) = (symbol.st_shndx(endian), symbol.st_value(endian));
        if elf.0 >= SHN_LORESERVE || !value.is_multiple_of(INSN_LEN as u64) {
            return Err("a relocation is to no program");
        }
        let code = sections.code_of_section.get(&usize::from(elf.0));
        let program = code.and_then(|&code| program_at(&sections.programs, code, value));
        let program = program.filter(|&it| sections.programs.get(it).is_some_and(is_struct_ops));
        *slot = OpsMember::Program(program.ok_or("a relocation is to no struct_ops program")?);
    }
    Ok(())
}

/// Whether libbpf takes a program for one of struct_ops.
fn is_struct_ops(program: &super::Program<'_>) -> bool {
    let section = program.section.strip_prefix(b"?").unwrap_or(program.section);
    let kind = section.split(|&byte| byte == b'/').next().unwrap_or_default();
    matches!(kind, b"struct_ops" | b"struct_ops.s")
}

/// Source: `resolve_func_ptr`, libbpf.
fn is_func_ptr(btf: &Btf<'_>, id: TypeId) -> bool {
    btf.skip_mods_and_typedefs(id)
        .filter(|(_, ty)| ty.kind == Kind::Ptr)
        .and_then(|(_, ty)| btf.skip_mods_and_typedefs(ty.target()))
        .is_some_and(|(_, ty)| ty.kind == Kind::FuncProto)
}
