//! What objects depend on: the types that their records lead through, with the members and enumerators that they ask
//! for, and the functions and variables that they name.

use hashbrown::{HashMap, HashSet};

use crate::btf::{Btf, TypeId, essential_name};
use crate::dialect::Rules;
use crate::format::btf::Kind;
use crate::kernel::Kernel;
use crate::object::{ExternKind, Object};
use crate::query::{Ask, Query, Step};
use crate::resolve::{Budget, find_place};
use crate::value::Endpoint;

/// Parts of a type that count.
#[derive(Debug, Default)]
struct Parts {
    /// All of them.
    all: bool,
    names: HashSet<Vec<u8>>,
}

/// Types, and of these the parts, that some objects depend on.
#[derive(Debug, Default)]
pub struct Scope {
    types: HashMap<(Kind, Vec<u8>), Parts>,
}

impl Scope {
    /// What `objects` depend on in either of `kernels`.
    pub fn of(objects: &[Object<'_>], kernels: [&Kernel<'_>; 2]) -> Self {
        let mut this = Self::default();
        for object in objects {
            for reloc in object.relocs() {
                if let Ok(question) = &reloc.question
                    && let Some(query) = &question.query
                {
                    for kernel in kernels {
                        this.add_query(query, kernel);
                    }
                }
            }
            let targets = object.programs().iter().filter_map(|it| it.attach);
            for target in targets {
                if let Some(name) = target.name
                    && let Some((prefix, kind)) = target.kind.in_btf()
                {
                    this.whole(kind, &[prefix.as_bytes(), name].concat());
                }
            }
            for symbol in object.externs() {
                match symbol.kind {
                    ExternKind::Kfunc => this.whole(Kind::Func, essential_name(symbol.name)),
                    ExternKind::KsymVar => this.whole(Kind::Var, symbol.name),
                    ExternKind::Kconfig | ExternKind::KsymTypeless | ExternKind::Unknown => {}
                }
            }
        }
        this
    }

    pub(super) fn contains(&self, kind: Kind, name: &[u8]) -> bool {
        self.types.contains_key(&(kind, name.to_vec()))
    }

    pub(super) fn contains_part(&self, kind: Kind, name: &[u8], part: &[u8]) -> bool {
        self.types.get(&(kind, name.to_vec())).is_some_and(|it| it.all || it.names.contains(part))
    }

    fn parts(&mut self, kind: Kind, name: &[u8]) -> &mut Parts {
        let kind = if kind == Kind::Enum64 { Kind::Enum } else { kind };
        self.types.entry((kind, name.to_vec())).or_default()
    }

    fn whole(&mut self, kind: Kind, name: &[u8]) {
        self.parts(kind, name).all = true;
    }

    fn add_query(&mut self, query: &Query<'_>, kernel: &Kernel<'_>) {
        let vmlinux = kernel.vmlinux_candidates(&query.root);
        let candidates = match vmlinux.is_empty() {
            true => kernel.module_candidates(&query.root).flatten().collect(),
            false => vmlinux,
        };
        if candidates.is_empty() {
            self.parts(query.root.kind, query.root.essential);
        }
        for candidate in candidates {
            let btf = kernel.btf_of(candidate);
            let Some(ty) = btf.ty(candidate.id) else { continue };
            let root = (ty.kind, btf.name(ty.name_off));
            match &query.ask {
                Ask::Field(steps) => self.add_path(steps, btf, candidate.id, root),
                Ask::Enumerator(name) => {
                    // Flavors are cut from enumerators too, so look for those that it may mean.
                    let skipped = btf.skip_mods_and_typedefs(candidate.id);
                    let parts = self.parts(root.0, root.1);
                    parts.names.insert(name.to_vec());
                    for it in skipped.iter().flat_map(|(_, ty)| ty.enumerators()) {
                        let full = btf.name(it.name_off);
                        if essential_name(full) == *name {
                            parts.names.insert(full.to_vec());
                        }
                    }
                }
                Ask::TypeCompat(_) => {
                    self.parts(root.0, root.1);
                }
                Ask::TypeMatches(_) => self.whole(root.0, root.1),
            }
        }
    }

    /// Adds each named type that a path leads through, with the member that is taken there.
    fn add_path(&mut self, steps: &[Step<'_>], btf: &Btf<'_>, root_id: TypeId, root: (Kind, &[u8])) {
        let mut container = root;
        self.parts(root.0, root.1);
        for (depth, step) in steps.iter().enumerate() {
            let Step::Member { name, .. } = step else { continue };
            if let Some(named) = named_container(steps.get(..depth).unwrap_or_default(), btf, root_id) {
                container = named;
            }
            self.parts(container.0, container.1).names.insert(name.to_vec());
            // A typedef'ed root stands for the struct behind it.
            self.parts(root.0, root.1).names.insert(name.to_vec());
        }
    }
}

/// The named struct or union that `steps` lead to.
fn named_container<'a>(steps: &[Step<'_>], btf: &Btf<'a>, root: TypeId) -> Option<(Kind, &'a [u8])> {
    let place = find_place(&Rules::LIBBPF, steps, btf, root, &mut Budget::new()).ok()?.ok()?;
    let id = match place.end {
        Endpoint::Member { member, .. } => member.type_id,
        Endpoint::Element(id) | Endpoint::Field { type_id: id, .. } => id,
        Endpoint::Type(_) | Endpoint::Enumerator { .. } => return None,
    };
    let (_, ty) = btf.skip_mods_and_typedefs(id)?;
    let name = btf.name(ty.name_off);
    (ty.kind.is_composite() && !name.is_empty()).then_some((ty.kind, name))
}
