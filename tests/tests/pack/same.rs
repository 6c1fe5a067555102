//! A pack against the BTF that it was made of, root by root.

use std::collections::HashSet;

use btfleet_engine::btf::{Btf, NameHash, RootIndex, TypeId, essential_name};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::pack::{self, Abi, Added, Facts, ListRef, NewKernel, Pack, PackFile};
use btfleet_engine::query::Root;

/// Roots of a BTF, each once, in the order of their first types.
pub(crate) fn roots<'data>(btf: &Btf<'data>) -> Vec<Root<'data>> {
    let mut seen = HashSet::new();
    let mut roots = Vec::new();
    for (_, ty) in btf.own_types() {
        let essential = essential_name(btf.name(ty.name_off));
        let kind = if ty.kind == Kind::Enum64 { Kind::Enum } else { ty.kind };
        if !essential.is_empty() && seen.insert((essential, kind)) {
            roots.push(Root { hash: NameHash::of(essential), essential, kind });
        }
    }
    roots
}

/// Builds a pack of vmlinux BTFs in memory.
pub(crate) fn build(kernels: &[(String, Btf<'_>, &[u8])]) -> Vec<u8> {
    let facts = Facts::default();
    let new: Vec<NewKernel<'_, '_>> = kernels
        .iter()
        .map(|(name, vmlinux, vmlinux_bytes)| NewKernel {
            name,
            facts: &facts,
            vmlinux,
            vmlinux_bytes,
            modules: vec![],
        })
        .collect();
    let (bytes, added) = pack::build(&new).expect("a pack");
    assert!(added.iter().all(|it| *it == Added::New), "{added:?}");
    bytes
}

/// Builds a pack of kernels, and compares all that it says of them with their BTF.
pub(crate) fn check(kernels: &[(String, Vec<u8>)]) {
    let parsed: Vec<(String, Btf<'_>, &[u8])> = kernels
        .iter()
        .map(|(name, bytes)| (name.clone(), Btf::parse(bytes).expect("BTF"), bytes.as_slice()))
        .collect();
    let file = PackFile::from_bytes(build(&parsed));
    let pack = file.view().expect("a whole pack");
    pack::verify(&pack).expect("a whole pack");
    assert_eq!(pack.kernel_count() as usize, kernels.len());
    for (number, (name, btf, bytes)) in (0..).zip(&parsed) {
        let entry = pack.kernel(number).expect("a kernel");
        assert_eq!((entry.names.as_slice(), entry.raw_len), (&[name.as_str()][..], bytes.len() as u64));
        let compared = unit(&pack, number, None, btf);
        let of_unit = pack.roots_of(number, None).expect("roots");
        assert_eq!(of_unit.len(), compared, "{name}");
        assert!(of_unit.is_sorted());
    }
}

/// Compares one unit. Returns the number of its types that are roots.
pub(crate) fn unit(pack: &Pack<'_>, kernel: u32, module: Option<u32>, btf: &Btf<'_>) -> usize {
    let index = RootIndex::build(btf);
    let types = pack.btf(pack.abi_of(kernel).expect("a kernel")).expect("types");
    assert_eq!(Abi::new(btf.endian(), btf.pointer_size()), pack.abi_of(kernel).unwrap());
    let mut compared = 0;
    for root in roots(btf) {
        let ids: Vec<TypeId> = index.candidates(btf, root.essential, root.hash, root.kind).collect();
        let what = String::from_utf8_lossy(root.essential).into_owned();
        assert_eq!(pack.ids(kernel, module, &root).expect("ids").as_slice(), ids, "{what}");
        let list = pack.list_of(kernel, module, &root).expect("a list");
        let expansion = pack.expand(&root).expect("an expansion");
        if module.is_none() {
            assert_eq!(expansion.vmlinux[kernel as usize], list, "{what}");
        }
        assert_ne!(list, ListRef::NONE, "{what}");
        let shapes: Vec<TypeId> = pack.list(list).expect("a list").collect();
        assert_eq!(shapes.len(), ids.len(), "{what}");
        for (&shape, &id) in shapes.iter().zip(&ids) {
            same_type(types, shape, btf, id);
        }
        compared += ids.len();
    }
    compared
}

/// The type itself, and the names, offsets and kinds of its members.
fn same_type(pack: &Btf<'_>, shape: TypeId, btf: &Btf<'_>, id: TypeId) {
    let (a, b) = (pack.ty(shape).expect("a type"), btf.ty(id).expect("a type"));
    let context = || String::from_utf8_lossy(btf.name(b.name_off)).into_owned();
    assert_eq!((a.kind, a.kind_flag()), (b.kind, b.kind_flag()), "{}", context());
    assert_eq!(pack.name(a.name_off), btf.name(b.name_off));
    assert_eq!(pack.resolve_size(shape), btf.resolve_size(id), "{}", context());
    assert_eq!(pack.type_name(shape), btf.type_name(id));
    assert_eq!(a.members().len(), b.members().len());
    for (a, b) in a.members().zip(b.members()) {
        assert_eq!(pack.name(a.name_off), btf.name(b.name_off));
        assert_eq!((a.bit_offset, a.bitfield_size), (b.bit_offset, b.bitfield_size));
        let kind = |btf: &Btf<'_>, id| btf.skip_mods_and_typedefs(id).map(|it| it.1.kind);
        assert_eq!(kind(pack, a.type_id), kind(btf, b.type_id), "{}", context());
        assert_eq!(pack.resolve_size(a.type_id), btf.resolve_size(b.type_id), "{}", context());
    }
    let enumerators = |btf: &Btf<'_>, ty: btfleet_engine::btf::Type<'_>| {
        ty.enumerators().map(|it| (btf.name(it.name_off).to_vec(), it.value)).collect::<Vec<_>>()
    };
    assert_eq!(enumerators(pack, a), enumerators(btf, b));
}
