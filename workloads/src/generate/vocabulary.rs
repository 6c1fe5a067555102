//! Structs of a real kernel with those members that a program may read with one load: what synthetic objects ask
//! for when they ask for something that no real one does.

use std::collections::HashMap;

use btfleet_engine::btf::Btf;
use btfleet_engine::format::btf::Kind;

use super::trim::is_sampled;

/// The structs, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Vocabulary {
    pub(super) roots: Vec<Root>,
    by_name: HashMap<Vec<u8>, usize>,
}

/// A struct.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) name: Vec<u8>,
    pub(super) size: u32,
    pub(super) members: Vec<Field>,
}

/// A member that is an integer or a pointer, at a whole byte.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: Vec<u8>,
    /// In bytes.
    pub(super) offset: u32,
    /// In bytes.
    pub(super) size: u32,
    /// Encoding of the integer; `None` is a pointer.
    pub(super) encoding: Option<u8>,
}

impl Vocabulary {
    /// All structs of a kernel.
    pub(super) fn of(btf: &Btf<'_>) -> Self {
        let mut this = Self::default();
        for (_, ty) in btf.own_types() {
            let name = btf.name(ty.name_off);
            if ty.kind != Kind::Struct || name.is_empty() || this.by_name.contains_key(name) {
                continue;
            }
            let field = |member: btfleet_engine::btf::Member| {
                let (_, ty) = btf.skip_mods_and_typedefs(member.type_id)?;
                let name = btf.name(member.name_off).to_vec();
                let is_plain =
                    !name.is_empty() && member.bitfield_size == 0 && member.bit_offset.is_multiple_of(8);
                let offset = member.bit_offset / 8;
                let (size, encoding) = match ty.kind {
                    Kind::Int if ty.int_offset() == 0 => (ty.size(), Some(ty.int_encoding())),
                    Kind::Ptr => (8, None),
                    _ => return None,
                };
                // A load has an offset of 16 bits and a width of up to 8 bytes.
                let is_readable = offset <= 0x7fff && matches!(size, 1 | 2 | 4 | 8);
                (is_plain && is_readable).then_some(Field { name, offset, size, encoding })
            };
            let members: Vec<Field> = ty.members().filter_map(field).collect();
            if !members.is_empty() {
                this.by_name.insert(name.to_vec(), this.roots.len());
                this.roots.push(Root { name: name.to_vec(), size: ty.size(), members });
            }
        }
        this
    }

    /// The struct of this name.
    pub(super) fn named(&self, name: &[u8]) -> Option<&Root> {
        self.by_name.get(name).and_then(|&at| self.roots.get(at))
    }

    /// Those that a trimmed kernel has, too.
    pub(super) fn sampled(&self) -> Vec<&Root> {
        self.roots.iter().filter(|it| is_sampled(&it.name)).collect()
    }
}
