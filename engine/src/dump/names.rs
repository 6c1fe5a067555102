//! Names that C takes: of types that share one, all but the first get a number.

use std::collections::HashSet;

use hashbrown::HashMap;

use crate::btf::{Btf, Type, TypeId};
use crate::format::btf::Kind;

/// The names of all types of a BTF.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By type: its tag, or its own name.
    of: HashMap<TypeId, String>,
    /// By enum: the names of its enumerators.
    enumerators: HashMap<TypeId, Vec<String>>,
    /// Forward declarations that have a definition, with that.
    definition: HashMap<TypeId, TypeId>,
}

/// Numbers names that occur more than once in one of C's name spaces.
#[derive(Debug, Default)]
struct Space {
    taken: HashSet<String>,
    counts: HashMap<String, u32>,
}

impl Space {
    fn name(&mut self, name: String) -> String {
        loop {
            let count = self.counts.entry(name.clone()).or_insert(0);
            *count += 1;
            let numbered = if *count == 1 { name.clone() } else { format!("{name}___{count}") };
            if self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

/// A name without what C does not take. BTF made from other languages has such.
pub(super) fn identifier(name: &[u8]) -> String {
    let mut text: String = name
        .iter()
        .map(|it| if it.is_ascii_alphanumeric() || *it == b'_' { char::from(*it) } else { '_' })
        .collect();
    if text.starts_with(|it: char| it.is_ascii_digit()) {
        text.insert(0, '_');
    }
    text
}

/// Names of numbers that C has by itself, in the spellings that compilers use.
pub(super) fn is_c_number(name: &[u8]) -> bool {
    const WORDS: [&[u8]; 12] = [
        b"char",
        b"short",
        b"int",
        b"long",
        b"signed",
        b"unsigned",
        b"float",
        b"double",
        b"_Bool",
        b"__int128",
        b"_Float128",
        b"__float128",
    ];
    !name.is_empty() && name.split(|it| *it == b' ').all(|it| WORDS.contains(&it))
}

impl Names {
    pub(super) fn of(btf: &Btf<'_>) -> Self {
        let (mut tags, mut idents) = (Space::default(), Space::default());
        let mut this = Self::default();
        let mut first: HashMap<(bool, Vec<u8>), TypeId> = HashMap::new();
        let types = || (1..btf.type_count()).map(TypeId).filter_map(|id| Some((id, btf.ty(id)?)));
        // Enumerators of enums without a name are numbered behind those of others: a pack does not have all of them.
        let is_named = |it: &(TypeId, Type<'_>)| !btf.is_anonymous(it.1.name_off);
        for (id, ty) in types().filter(is_named).chain(types().filter(|it| !is_named(it))) {
            let name = btf.name(ty.name_off);
            match ty.kind {
                Kind::Struct | Kind::Union if !name.is_empty() => {
                    first.entry((ty.kind == Kind::Union, name.to_vec())).or_insert(id);
                    this.of.insert(id, tags.name(identifier(name)));
                }
                Kind::Enum | Kind::Enum64 => {
                    if !name.is_empty() {
                        this.of.insert(id, tags.name(identifier(name)));
                    }
                    let names = ty.enumerators().map(|it| idents.name(identifier(btf.name(it.name_off))));
                    this.enumerators.insert(id, names.collect());
                }
                Kind::Typedef => {
                    this.of.insert(id, idents.name(identifier(name)));
                }
                Kind::Int | Kind::Float if !is_c_number(name) => {
                    this.of.insert(id, idents.name(identifier(name)));
                }
                _ => {}
            }
        }
        for (id, ty) in types().filter(|(_, ty)| ty.kind == Kind::Fwd) {
            let name = btf.name(ty.name_off).to_vec();
            match first.get(&(ty.kind_flag(), name.clone())) {
                Some(definition) => {
                    this.definition.insert(id, *definition);
                }
                None => {
                    this.of.insert(id, tags.name(identifier(&name)));
                    first.insert((ty.kind_flag(), name), id);
                }
            }
        }
        this
    }

    /// The type that a forward declaration stands for, or the type itself.
    pub(super) fn declared(&self, id: TypeId) -> TypeId {
        self.definition.get(&id).copied().unwrap_or(id)
    }

    /// The name of a type, if it has one of its own.
    pub(super) fn get(&self, id: TypeId) -> Option<&str> {
        self.of.get(&id).map(String::as_str)
    }

    pub(super) fn enumerators(&self, id: TypeId) -> &[String] {
        self.enumerators.get(&id).map_or(&[], Vec::as_slice)
    }
}
