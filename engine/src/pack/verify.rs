//! Whether a pack is what was written, and fits together: everything that opening does not look at.

use super::format::{Abi, ListRef, hash, root_key};
use super::intern::string_hashes;
use super::view::Segment;
use super::{Pack, PackError};
use crate::btf::{NameHash, TypeId, essential_name};

/// Checks the hash of every section.
pub(super) fn sections(pack: &Pack<'_>) -> Result<(), PackError> {
    let all = pack.segments.iter().flat_map(|it| &it.sections);
    for section in all {
        if hash(section.bytes) != section.hash {
            return Err(PackError::damaged("a section is not what was written"));
        }
    }
    Ok(())
}

/// Checks the hashes of all sections, and that all that they hold fits together.
///
/// # Errors
/// [`PackError::Damaged`] for the first thing that is wrong.
pub fn verify(pack: &Pack<'_>) -> Result<(), PackError> {
    sections(pack)?;
    for segment in &pack.segments {
        for abi in Abi::all() {
            types(segment, abi)?;
        }
        lists(pack, segment)?;
        roots(pack, segment)?;
    }
    pack.names()?;
    let mut columns = super::columns::Columns::all(pack)?;
    let mut next_module = 0;
    for (kernel, entry) in (0..).zip(pack.kernels()?) {
        let (_, record) = pack.kernel_record(kernel)?;
        if record.first_module != next_module {
            return Err(PackError::damaged("modules are out of order"));
        }
        unit(pack, kernel, None, entry.abi, entry.type_count, &columns.vmlinux.values(kernel)?)?;
        for (module, it) in (0..).zip(&entry.modules) {
            let number = pack.module_unit(kernel, module)?;
            if pack.module_record(number)?.1.kernel != kernel {
                return Err(PackError::damaged("a module is not of its kernel"));
            }
            let values = columns.modules.values(number)?;
            unit(pack, kernel, Some(module), entry.abi, it.type_count, &values)?;
        }
        next_module += record.module_count;
    }
    if next_module != pack.module_count() {
        return Err(PackError::damaged("modules belong to no kernel"));
    }
    Ok(())
}

/// Records fit and refer to what is before them, strings end, indexes are complete.
fn types(segment: &Segment<'_>, abi: Abi) -> Result<(), PackError> {
    let Some(part) = segment.abis.get(abi.slot()).and_then(Option::as_ref) else { return Ok(()) };
    let btf = &part.btf;
    let mut len = 0;
    for id in part.first.0..btf.type_count() {
        let record = btf.record(TypeId(id)).ok_or(PackError::damaged("a type's record is not there"))?;
        let ty = btf.ty(TypeId(id)).ok_or(PackError::damaged("a type's record is not there"))?;
        len += record.len();
        let is_string = |off: u32| btf.str_at(off).is_some();
        let names = ty.members().map(|it| it.name_off).chain(ty.enumerators().map(|it| it.name_off));
        if !is_string(ty.name_off) || !names.chain(ty.params().map(|it| it.name_off)).all(is_string) {
            return Err(PackError::damaged("a type's name is not there"));
        }
        let is_before = |part: TypeId| part.0 < id || part.0 == u32::MAX;
        let parts = ty.members().map(|it| it.type_id).chain(ty.params().map(|it| it.type_id));
        if !super::intern::target(ty).into_iter().chain(parts).all(is_before) {
            return Err(PackError::damaged("a type refers to one that is not before it"));
        }
    }
    if len != btf.own_len() {
        return Err(PackError::damaged("the types do not fill their section"));
    }
    let count = (btf.type_count() - part.first.0) as usize;
    part.types.verify(count, |number| {
        let id = part.first.0.checked_add(number)?;
        btf.record(TypeId(id)).filter(|_| id < btf.type_count()).map(hash)
    })?;
    let strings = string_hashes(btf.own_strings());
    part.strings.verify(strings.len(), |off| {
        strings.binary_search_by_key(&off, |it| it.1).ok().and_then(|at| strings.get(at)).map(|it| it.0)
    })
}

fn lists(pack: &Pack<'_>, segment: &Segment<'_>) -> Result<(), PackError> {
    // Lists know no ABI, so that their types have to be there in some.
    let end = Abi::all().filter_map(|abi| Some(pack.btf(abi)?.type_count())).max().unwrap_or(0);
    for number in 0..segment.lists.count() {
        let ids = segment.lists.get(number).ok_or(PackError::damaged("a list is out of bounds"))?;
        if ids.len() < 2 || ids.iter().any(|id| !(1..end).contains(&u32::from_le_bytes(*id))) {
            return Err(PackError::damaged("a list has types that are not there"));
        }
    }
    Ok(())
}

/// Every root stands where it is looked for, under the key of its name, and its changes are of units that exist.
fn roots(pack: &Pack<'_>, segment: &Segment<'_>) -> Result<(), PackError> {
    let mut count = 0;
    let mut last = (0, 0, 0);
    segment.roots.each(|bucket, posting| {
        count += 1;
        let place = (bucket, posting.hash_low, posting.root);
        if count > 1 && place <= last || posting.root >= segment.roots.end_root {
            return Err(PackError::damaged("roots are out of order"));
        }
        last = place;
        for (mut changes, units) in
            [(posting.vmlinux(), segment.kernels.len()), (posting.modules()?, segment.modules.len())]
        {
            let mut next = 0;
            while let Some((unit, list)) = changes.next()? {
                if unit < next || unit as usize >= units {
                    return Err(PackError::damaged("changes of a root are out of order"));
                }
                next = unit + 1;
                if list != 0 {
                    pack.first_of(ListRef(list))?;
                }
            }
        }
        let is_new = posting.root >= segment.roots.first_root;
        let Ok((abi, id)) = pack.witness(segment, &posting) else {
            return if is_new { Err(PackError::damaged("a root has no type")) } else { Ok(()) };
        };
        let btf = pack.btf_of(abi)?;
        let ty = btf.ty(id).ok_or(PackError::damaged("a root's type is not there"))?;
        let key = root_key(NameHash::of(essential_name(btf.name(ty.name_off))), ty.kind);
        if u64::from(posting.hash_low) != key & 0xffff_ffff || !segment.roots.is_bucket_of(bucket, key) {
            return Err(PackError::damaged("a root stands under another's key"));
        }
        Ok(())
    })?;
    if count != segment.roots.count() || segment.roots.spare() != 0 {
        return Err(PackError::damaged("roots are missing"));
    }
    Ok(())
}

/// A unit's ids are those of its roots' types, and within its BTF.
fn unit(
    pack: &Pack<'_>,
    kernel: u32,
    module: Option<u32>,
    abi: Abi,
    type_count: u32,
    values: &[(u32, u32)],
) -> Result<(), PackError> {
    let unit = pack.unit_number(kernel, module)?;
    pack.ids_depth(unit)?;
    let rows = super::columns::Rows::read(pack, unit, values)?;
    let shapes = pack.btf_of(abi)?.type_count();
    let mut next = 1;
    for row in rows.in_order() {
        if row.id < next || row.id >= type_count || row.shape >= shapes {
            return Err(PackError::damaged("a unit's ids are out of order"));
        }
        next = row.id + 1;
    }
    Ok(())
}
