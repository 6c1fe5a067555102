//! The maps of an object, as its BTF defines them, and those that its sections of data become.
//!
//! Source: `parse_btf_map_def`, `bpf_object__create_map`, `bpf_object__init_internal_map`, libbpf.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use btfleet_engine::btf::{Btf, Type, TypeId};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::object::Object;

use crate::bpf::{self, ARRAY, Errno, MapSpec};
use crate::btf::Places;

/// `enum bpf_map_type`, as far as something is particular about it.
mod kind {
    pub(super) const PERF_EVENT_ARRAY: u32 = 4;
    pub(super) const RINGBUF: u32 = 27;
    pub(super) const USER_RINGBUF: u32 = 31;
}

/// `BPF_F_RDONLY_PROG`.
const READ_ONLY: u32 = 1 << 7;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
/// Maps of maps do not go deeper than that.
const DEPTH_MAX: u32 = 2;
/// Longest section of data that is taken; the kernel's limits are lower.
const DATA_MAX: u64 = 1 << 30;

/// A map as the object defines it.
#[derive(Clone, Debug)]
struct Definition {
    map_type: u32,
    /// Size in **bytes**, and the type if it is given.
    key: (u32, TypeId),
    value: (u32, TypeId),
    max_entries: u32,
    flags: u32,
    extra: u64,
    inner: Option<Box<Definition>>,
}

/// The maps of an object in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Maps<'data> {
    /// By name: those of `.maps`.
    pub(crate) named: HashMap<&'data [u8], Result<OwnedFd, Errno>>,
    /// By the number of the section of data.
    pub(crate) data: Vec<Result<OwnedFd, Errno>>,
    /// That of all values of the configuration.
    pub(crate) kconfig: Option<OwnedFd>,
}

impl<'data> Maps<'data> {
    /// Creates the maps of an object. What the kernel refuses is left out: programs that use it are refused in turn.
    pub(crate) fn create(
        object: &Object<'data>,
        places: &Places<'data>,
        loaded_btf: Option<&OwnedFd>,
        kconfig: &[u8],
    ) -> Self {
        let mut this = Self::default();
        let Some(btf) = object.btf() else { return this };
        if let Some(section) = datasec(btf, b".maps") {
            for var in section.sec_vars() {
                let Some(ty) = btf.ty(var.type_id) else { continue };
                let Some(definition) = define(btf, ty.target(), 0) else { continue };
                let name = btf.name(ty.name_off);
                this.named.insert(name, create(&definition, name, loaded_btf));
            }
        }
        for section in object.data_sections() {
            let size = places.sections.get(section.name).copied().unwrap_or(0).min(DATA_MAX);
            let mut bytes = section.bytes.to_vec();
            bytes.resize(usize::try_from(size).unwrap_or(0).max(bytes.len()), 0);
            let flags = if section.is_frozen { READ_ONLY | MMAPABLE } else { MMAPABLE };
            let value = btf_id(btf, section.name);
            this.data.push(filled(&bytes, flags, section.name, loaded_btf.zip(value)));
        }
        if !kconfig.is_empty() {
            this.kconfig = filled(kconfig, READ_ONLY | MMAPABLE, b".kconfig", None).ok();
        }
        this
    }
}

fn datasec<'data>(btf: &Btf<'data>, name: &[u8]) -> Option<Type<'data>> {
    btf.ty(btf_id(btf, name)?)
}

fn btf_id(btf: &Btf<'_>, name: &[u8]) -> Option<TypeId> {
    let found = btf.own_types().find(|(_, ty)| ty.kind == Kind::Datasec && btf.name(ty.name_off) == name);
    found.map(|(id, _)| id)
}

/// An array of one element that is these bytes.
fn filled(
    bytes: &[u8],
    flags: u32,
    name: &[u8],
    types: Option<(&OwnedFd, TypeId)>,
) -> Result<OwnedFd, Errno> {
    let spec = MapSpec {
        map_type: ARRAY,
        key_size: 4,
        value_size: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        max_entries: 1,
        flags,
        name,
        types: types.map(|(btf, id)| (btf, 0, id.0)),
        ..MapSpec::default()
    };
    let map = created(&spec)?;
    bpf::set_first(&map, &spec, bytes)?;
    if flags & READ_ONLY != 0 {
        bpf::freeze(&map)?;
    }
    Ok(map)
}

/// Creates a map; without types if the kernel does not take them for such a one.
fn created(spec: &MapSpec<'_>) -> Result<OwnedFd, Errno> {
    bpf::create_map(spec).or_else(|errno| match spec.types {
        Some(_) => bpf::create_map(&MapSpec { types: None, ..*spec }),
        None => Err(errno),
    })
}

fn create(definition: &Definition, name: &[u8], btf: Option<&OwnedFd>) -> Result<OwnedFd, Errno> {
    let inner = match &definition.inner {
        Some(inner) => Some(create(inner, name, btf)?),
        None => None,
    };
    let max_entries = match definition.map_type {
        kind::PERF_EVENT_ARRAY if definition.max_entries == 0 => {
            std::thread::available_parallelism().map_or(1, |it| u32::try_from(it.get()).unwrap_or(1))
        }
        // Whole pages, as many as a power of two.
        kind::RINGBUF | kind::USER_RINGBUF if definition.max_entries != 0 => {
            definition.max_entries.max(4096).checked_next_power_of_two().unwrap_or(definition.max_entries)
        }
        _ => definition.max_entries,
    };
    created(&MapSpec {
        map_type: definition.map_type,
        key_size: definition.key.0,
        value_size: definition.value.0,
        max_entries,
        flags: definition.flags,
        extra: definition.extra,
        name,
        inner: inner.as_ref(),
        types: btf.map(|btf| (btf, definition.key.1.0, definition.value.1.0)),
    })
}

/// Reads a definition: a struct whose members say by their types what the map is like.
fn define(btf: &Btf<'_>, id: TypeId, depth: u32) -> Option<Definition> {
    let (_, ty) = btf.skip_mods_and_typedefs(id).filter(|(_, ty)| ty.kind == Kind::Struct)?;
    let mut this = Definition {
        map_type: 0,
        key: (0, TypeId::VOID),
        value: (0, TypeId::VOID),
        max_entries: 0,
        flags: 0,
        extra: 0,
        inner: None,
    };
    for member in ty.members() {
        // `__uint(name, value)`: a pointer to an array of so many elements; `__ulong`: an enum with that value.
        let number = || -> Option<u64> {
            let (_, ty) = btf.skip_mods_and_typedefs(member.type_id)?;
            match ty.kind {
                Kind::Ptr => Some(btf.skip_mods_and_typedefs(ty.target())?.1.array().nelems.into()),
                Kind::Enum | Kind::Enum64 => Some(ty.enumerator(0)?.value),
                _ => None,
            }
        };
        let short = || u32::try_from(number()?).ok();
        let sized = || {
            let (_, ty) = btf.skip_mods_and_typedefs(member.type_id)?;
            Some((btf.resolve_size(ty.target()).ok()?, ty.target()))
        };
        match btf.name(member.name_off) {
            b"type" => this.map_type = short()?,
            b"max_entries" => this.max_entries = short()?,
            b"map_flags" => this.flags = short()?,
            b"map_extra" => this.extra = number()?,
            b"key_size" => this.key.0 = short()?,
            b"value_size" => this.value.0 = short()?,
            b"key" => this.key = sized()?,
            b"value" => this.value = sized()?,
            b"values" => {
                // An array of pointers to maps like that one, or to programs.
                let (_, array) = btf.skip_mods_and_typedefs(member.type_id)?;
                let (_, pointer) = btf.skip_mods_and_typedefs(array.array().elem)?;
                this.value.0 = 4;
                if this.key.0 == 0 {
                    this.key.0 = 4;
                }
                if depth < DEPTH_MAX {
                    this.inner = define(btf, pointer.target(), depth + 1).map(Box::new);
                }
            }
            _ => {}
        }
    }
    Some(this)
}
