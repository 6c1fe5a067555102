//! Walks along type chains: modifiers, sizes, pointer size.

use super::{Btf, Type, TypeId};
use crate::format::btf::Kind;

/// Steps that libbpf's `btf__resolve_size` takes before it gives up (`MAX_RESOLVE_DEPTH`).
const RESOLVE_DEPTH_MAX: u32 = 32;
/// Links of a chain of modifiers, or of nested arrays, after which a type counts as leading nowhere.
const CHAIN_MAX: u32 = 1024;

/// Spellings of `long`. The first INT of 4 or 8 bytes that is called one of these tells how wide pointers are.
pub(crate) const LONGS: [&[u8]; 11] = [
    b"long",
    b"long int",
    b"int long",
    b"unsigned long",
    b"long unsigned",
    b"unsigned long int",
    b"unsigned int long",
    b"long unsigned int",
    b"long int unsigned",
    b"int unsigned long",
    b"int long unsigned",
];

/// Why a type has no size. The names are those of the errno values that libbpf returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// `-EINVAL`: void, a forward declaration, a function, or a chain of more than 32 types.
    Invalid,
    /// `-E2BIG`: more than 2^32 - 1 bytes.
    TooBig,
}

impl SizeError {
    /// The errno, negative.
    pub fn errno(self) -> i32 {
        match self {
            Self::Invalid => -22,
            Self::TooBig => -7,
        }
    }
}

/// Whose rules sizes of types are computed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sizes {
    /// libbpf's `btf__resolve_size`: a pointer is as wide as the BTF says.
    Libbpf,
    /// The kernel's `__btf_resolve_size`: pointers of both sides are the kernel's own, VAR, DATASEC and DECL_TAG
    /// have no size, and every error is `-EINVAL`.
    Kernel {
        /// Size of a pointer in bytes.
        pointer_size: u32,
    },
    /// cilium/ebpf's `Sizeof`: a pointer has 8 bytes, void none.
    EbpfGo,
    /// aya's `Btf::type_size`: a pointer has 8 bytes, and of nested arrays only the innermost counts.
    Aya,
}

impl<'data> Btf<'data> {
    /// Strips CONST, VOLATILE, RESTRICT, TYPE_TAG and TYPEDEF; returns the first other type.
    ///
    /// `None` if the chain leads to a type that does not exist or, `HARDEN`, has more than 1024 links; libbpf
    /// loops on a cycle. Compilers and kernels make chains of a handful.
    #[inline]
    pub fn skip_mods_and_typedefs(&self, id: TypeId) -> Option<(TypeId, Type<'data>)> {
        self.skip_counting(id).map(|(id, ty, _)| (id, ty))
    }

    /// [`Btf::skip_mods_and_typedefs`] with the number of links that were stripped.
    #[inline]
    pub(crate) fn skip_counting(&self, id: TypeId) -> Option<(TypeId, Type<'data>, u32)> {
        let mut id = id;
        let mut ty = self.ty(id)?;
        let mut links = 0;
        while ty.kind.is_mod_or_typedef() {
            if links == CHAIN_MAX {
                return None;
            }
            links += 1;
            id = ty.target();
            ty = self.ty(id)?;
        }
        Some((id, ty, links))
    }

    /// Strips ARRAYs as well, down to the innermost element.
    pub fn skip_to_innermost_element(&self, id: TypeId) -> Option<(TypeId, Type<'data>)> {
        let mut steps_left = CHAIN_MAX;
        let (mut id, mut ty) = self.skip_mods_and_typedefs(id)?;
        while ty.kind == Kind::Array {
            steps_left = steps_left.checked_sub(1)?;
            (id, ty) = self.skip_mods_and_typedefs(ty.array().elem)?;
        }
        Some((id, ty))
    }

    /// Size of a type in bytes. Source: `btf__resolve_size`, libbpf.
    ///
    /// # Errors
    /// [`SizeError`], as libbpf's errno.
    pub fn resolve_size(&self, id: TypeId) -> Result<u32, SizeError> {
        self.size_by(Sizes::Libbpf, id)
    }

    /// Size of a type in bytes by the rules of `sizes`.
    ///
    /// # Errors
    /// [`SizeError`].
    pub(crate) fn size_by(&self, sizes: Sizes, id: TypeId) -> Result<u32, SizeError> {
        match sizes {
            Sizes::Libbpf => self.walk_size(id, self.pointer_size(), sizes),
            Sizes::Aya | Sizes::EbpfGo => self.walk_size(id, 8, sizes),
            Sizes::Kernel { pointer_size } => {
                let size = self.walk_size(id, pointer_size, sizes).map_err(|_| SizeError::Invalid)?;
                // QUIRK: kept in an int there, and from 2 GiB on taken for an error.
                if size.cast_signed() < 0 { Err(SizeError::Invalid) } else { Ok(size) }
            }
        }
    }

    #[inline]
    fn walk_size(&self, id: TypeId, pointer_size: u32, sizes: Sizes) -> Result<u32, SizeError> {
        let in_kernel = matches!(sizes, Sizes::Kernel { .. });
        let mut id = id;
        let mut nelems: u32 = 1;
        for _ in 0..RESOLVE_DEPTH_MAX {
            let ty = self.ty(id).ok_or(SizeError::Invalid)?;
            let size = match ty.kind {
                Kind::Var | Kind::DeclTag | Kind::Datasec if in_kernel => return Err(SizeError::Invalid),
                Kind::Var | Kind::DeclTag if sizes == Sizes::EbpfGo => return Err(SizeError::Invalid),
                Kind::Void if sizes == Sizes::EbpfGo => 0,
                Kind::Int
                | Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Float
                | Kind::Datasec => ty.size(),
                Kind::Ptr => pointer_size,
                Kind::Typedef
                | Kind::Volatile
                | Kind::Const
                | Kind::Restrict
                | Kind::Var
                | Kind::DeclTag
                | Kind::TypeTag => {
                    id = ty.target();
                    continue;
                }
                Kind::Array => {
                    let array = ty.array();
                    // A product of zero stays zero, and the element has to have a size all the same.
                    nelems = match sizes {
                        // QUIRK: aya forgets the outer dimensions.
                        Sizes::Aya => array.nelems,
                        _ => nelems.checked_mul(array.nelems).ok_or(SizeError::TooBig)?,
                    };
                    id = array.elem;
                    continue;
                }
                // QUIRK: aya takes a prototype for what it returns.
                Kind::FuncProto if sizes == Sizes::Aya => {
                    id = ty.target();
                    continue;
                }
                Kind::Void | Kind::Fwd | Kind::Func | Kind::FuncProto | Kind::Unknown(_) => {
                    return Err(SizeError::Invalid);
                }
            };
            return nelems.checked_mul(size).ok_or(SizeError::TooBig);
        }
        Err(SizeError::Invalid)
    }

    /// Size of a pointer in bytes, see [`Btf::with_pointer_size`].
    #[inline]
    pub fn pointer_size(&self) -> u32 {
        self.pointer_size.unwrap_or(8)
    }

    /// Sets the size of a pointer where the container knows it: 8 in BPF objects, the ELF class elsewhere.
    #[must_use]
    pub fn with_pointer_size(self, pointer_size: u32) -> Self {
        Self { pointer_size: Some(pointer_size), ..self }
    }

    /// libbpf's guess for raw BTF: the size of the first type called `long`, in any of its spellings.
    ///
    /// `None` without such a type. QUIRK: libbpf then takes the size of a pointer on the machine that it
    /// runs on; here that is always 8, so that the answer does not depend on where it is asked.
    pub(super) fn guess_pointer_size(&self) -> Option<u32> {
        if let Some(known) = self.base.as_ref().and_then(|base| base.pointer_size) {
            return Some(known);
        }
        self.pointer_witness().and_then(|id| self.ty(id)).map(|ty| ty.size())
    }

    /// The own type that [`Btf::parse`] takes the size of a pointer from.
    fn pointer_witness(&self) -> Option<TypeId> {
        self.own_types()
            .filter(|(_, ty)| ty.kind == Kind::Int && matches!(ty.size(), 4 | 8))
            .find(|(_, ty)| LONGS.contains(&self.name(ty.name_off)))
            .map(|(id, _)| id)
    }
}
