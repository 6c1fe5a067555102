//! The BTF of an object as the kernel takes it. Compilers leave open where variables are, and declare what others define.
//!
//! Source: `btf_fixup_datasec`, `bpf_object__collect_externs`, libbpf.

use std::collections::HashMap;

use btfleet_engine::btf::{Btf, Type, TypeId, assemble, sections};
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf::{Kind, LINKAGE_EXTERN, TYPE_LEN};
use btfleet_engine::object::Object;
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// Linkage of what is seen from everywhere.
const LINKAGE_GLOBAL: u32 = 1;
/// Linkage of a variable that is not.
const LINKAGE_STATIC: u32 = 0;
/// Length of an entry of a DATASEC and of a member, in bytes.
const ENTRY_LEN: usize = 12;

/// Where ELF says that things are.
pub(crate) struct Places<'data> {
    /// Sizes of sections, in **bytes**.
    pub(crate) sections: HashMap<&'data [u8], u64>,
    /// Values of symbols.
    symbols: HashMap<&'data [u8], u64>,
    /// What stands in the section `license`.
    pub(crate) license: &'data [u8],
}

impl<'data> Places<'data> {
    pub(crate) fn of(object: &Object<'data>) -> Self {
        let mut this = Self { sections: HashMap::new(), symbols: HashMap::new(), license: b"" };
        // The engine has read it already: it is a 64-bit ELF file.
        let Ok(elf) = ElfFile64::<object::Endianness>::parse(object.file()) else { return this };
        for section in elf.sections() {
            let Ok(name) = section.name_bytes() else { continue };
            this.sections.entry(name).or_insert(section.size());
            if name == b"license" {
                let bytes = section.data().unwrap_or_default();
                this.license = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
            }
        }
        let named = elf.symbols().filter_map(|it| Some((it.name_bytes().ok()?, it.address())));
        this.symbols = named.collect();
        this
    }
}

/// A value of the configuration: which VAR, and where it is in the map of all of them, in **bytes**.
pub(crate) type KconfigPlace = (TypeId, u32);

/// The object's BTF with all variables in their places, and what is declared only made such that the kernel takes it.
/// Type ids and names stay. `None` if there is none, or it is none that could be changed.
pub(crate) fn for_kernel(
    object: &Object<'_>,
    places: &Places<'_>,
    kconfig: (&[KconfigPlace], u32),
) -> Option<Vec<u8>> {
    let (btf, endian) = (object.btf()?, object.endian());
    let (types, strings) = sections(object.btf_data())?;
    let name_of = |kind: Kind| {
        btf.own_types().find(|(_, it)| it.kind == kind && it.name_off != 0).map_or(0, |(_, it)| it.name_off)
    };
    // The name of a function will do for anything; that of an INT may be of several words.
    let some_name = name_of(Kind::Func);
    // What ksyms are from here on. It comes last, so that no other type changes its number.
    let int = TypeId(btf.type_count());
    let mut edited = Edited { endian, types: types.to_vec(), places, kconfig, int, some_name };
    let mut at = 0;
    for (_, ty) in btf.own_types() {
        edited.fix(at, ty, btf)?;
        let (fixed, per_element) = ty.kind.tail_len()?;
        at += TYPE_LEN + fixed + per_element * ty.vlen() as usize;
    }
    let mut types = edited.types;
    let int = [name_of(Kind::Int), u32::from(Kind::Int.raw()) << 24, 4, 32];
    types.extend(int.iter().flat_map(|it| endian.u32_bytes(*it)));
    assemble(endian, &types, strings)
}

struct Edited<'a> {
    endian: Endian,
    types: Vec<u8>,
    places: &'a Places<'a>,
    /// Values of the configuration, and the size of the map of all of them.
    kconfig: (&'a [KconfigPlace], u32),
    /// An INT of 4 bytes that is there for that.
    int: TypeId,
    /// A name that may stand for anything.
    some_name: u32,
}

impl Edited<'_> {
    fn set(&mut self, at: usize, value: u32) {
        if let Some(place) = self.types.get_mut(at..at + 4) {
            place.copy_from_slice(&self.endian.u32_bytes(value));
        }
    }

    fn fix(&mut self, at: usize, ty: Type<'_>, btf: &Btf<'_>) -> Option<()> {
        let info = |kind: Kind, vlen: u32| u32::from(kind.raw()) << 24 | vlen;
        match ty.kind {
            Kind::Func if ty.linkage() == LINKAGE_EXTERN => {
                self.set(at + 4, info(Kind::Func, LINKAGE_GLOBAL));
            }
            Kind::Var if ty.linkage() == LINKAGE_EXTERN => {
                self.set(at + TYPE_LEN, LINKAGE_GLOBAL);
                // void has no size; of others it may not be known.
                if btf.resolve_size(ty.target()).is_err() {
                    self.set(at + 8, self.int.0);
                }
            }
            // Parameters of functions need names, and those of one that is only declared may have none.
            Kind::FuncProto => {
                let unnamed =
                    |it: &btfleet_engine::btf::Param| it.name_off == 0 && it.type_id != TypeId::VOID;
                for (number, _) in ty.params().enumerate().filter(|(_, it)| unnamed(it)) {
                    self.set(at + TYPE_LEN + number * 8, self.some_name);
                }
            }
            Kind::Datasec => match btf.name(ty.name_off) {
                b".ksyms" => {
                    self.set(at + 4, info(Kind::Struct, ty.vlen()));
                    self.set(at + 8, ty.vlen().checked_mul(4)?);
                    // Names of sections are none of structs.
                    self.set(at, 0);
                    for (number, entry) in (0..ty.vlen()).zip((at + TYPE_LEN..).step_by(ENTRY_LEN)) {
                        self.set(entry, 0);
                        self.set(entry + 4, self.int.0);
                        self.set(entry + 8, number.checked_mul(32)?);
                    }
                }
                b".kconfig" => {
                    self.set(at + 8, self.kconfig.1);
                    for (var, entry) in ty.sec_vars().zip((at + TYPE_LEN..).step_by(ENTRY_LEN)) {
                        let place = self.kconfig.0.iter().find(|it| it.0 == var.type_id).map(|it| it.1);
                        self.set(entry + 4, place.unwrap_or(0));
                    }
                    self.sort(at, ty);
                }
                name if ty.size() == 0 => {
                    let size = self.places.sections.get(name).and_then(|it| u32::try_from(*it).ok());
                    self.set(at + 8, size.unwrap_or(0));
                    for (var, entry) in ty.sec_vars().zip((at + TYPE_LEN..).step_by(ENTRY_LEN)) {
                        let of = btf.ty(var.type_id)?;
                        let place = self.places.symbols.get(btf.name(of.name_off));
                        if let (true, Some(&place)) = (of.linkage() != LINKAGE_STATIC, place) {
                            self.set(entry + 4, u32::try_from(place).ok()?);
                        }
                    }
                    self.sort(at, ty);
                }
                _ => self.sort(at, ty),
            },
            _ => {}
        }
        Some(())
    }

    /// Brings the variables of a DATASEC into the order of their offsets.
    fn sort(&mut self, at: usize, ty: Type<'_>) {
        let start = at + TYPE_LEN;
        let endian = self.endian;
        let Some(bytes) = self.types.get_mut(start..start + ty.vlen() as usize * ENTRY_LEN) else { return };
        bytes.as_chunks_mut::<ENTRY_LEN>().0.sort_by_key(|it| endian.u32_at(it, 4));
    }
}
