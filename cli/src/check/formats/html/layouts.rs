//! The structs that findings are about, as they are on each kernel.
//!
//! Each distinct layout stands in the page once. Members that have no name, and those that a path leads through, are shown
//! with their own members.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use btfleet_engine::btf::{Btf, Member, Type, TypeId};
use btfleet_engine::dialect::Rules;
use btfleet_engine::fleet::{Fleet, Modules, Selection, Shape};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::query::{Ask, Root, Step};
use btfleet_engine::report::{Verdict, Verdicts};
use serde::Serialize;
use serde_json::{Value, json};

use super::rows::{runs, signed};
use crate::load::Inputs;

/// Members that one layout shows, those of one struct together, and all. The latter are about two megabytes.
const LAYOUT_MEMBERS_MAX: usize = 600;
const STRUCT_MEMBERS_MAX: usize = 10_000;
const MEMBERS_MAX: usize = 100_000;
/// Paths into one struct that are looked for.
const PATHS_MAX: usize = 1000;
/// Structs inside each other that are looked into.
const DEPTH_MAX: u32 = 12;
/// Members that are looked at to find one.
const LOOKED_AT_MAX: u32 = 100_000;

/// A struct, whatever object or kernel it is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<'a> {
    keyword: &'static str,
    /// Without flavor.
    name: &'a [u8],
}

impl<'a> Key<'a> {
    /// The root of a record; `None` if it has no layout.
    pub(super) fn of(reloc: &Reloc<'a>) -> Option<Self> {
        let Root { kind, essential, .. } = reloc.question.as_ref().ok()?.query.as_ref()?.root;
        let keyword = match kind {
            Kind::Struct => "struct",
            Kind::Union => "union",
            Kind::Typedef => "typedef",
            _ => return None,
        };
        Some(Self { keyword, name: essential })
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.keyword, String::from_utf8_lossy(self.name))
    }
}

/// Steps from a struct to a field.
type Path<'a> = Vec<Part<'a>>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Member(&'a [u8]),
    Element(u32),
}

/// The path of a record, empty for one that asks for a whole type; `None` if it asks for something else.
fn steps_of<'a>(reloc: &Reloc<'a>) -> Option<Path<'a>> {
    match &reloc.question.as_ref().ok()?.query.as_ref()?.ask {
        Ask::Field(steps) => {
            let parts = steps.iter().skip(1).filter_map(|it| match *it {
                Step::Index(index) => Some(Part::Element(index)),
                Step::Member { name, .. } => Some(Part::Member(name)),
                Step::Is(_) => None,
            });
            Some(parts.collect())
        }
        Ask::TypeCompat(_) | Ask::TypeMatches(_) => Some(Vec::new()),
        Ask::Enumerator(_) => None,
    }
}

/// The same as text.
pub(super) fn path_of(reloc: &Reloc<'_>) -> Option<String> {
    Some(shown(&steps_of(reloc)?))
}

fn shown(path: &[Part<'_>]) -> String {
    let mut out = String::new();
    for part in path {
        match part {
            Part::Element(index) => out.push_str(&format!("[{index}]")),
            Part::Member(name) => {
                let dot = if out.is_empty() { "" } else { "." };
                out.push_str(dot);
                out.push_str(&String::from_utf8_lossy(name));
            }
        }
    }
    out
}

/// The structs that findings are about.
#[derive(Default)]
pub(super) struct Wanted<'a>(BTreeMap<Key<'a>, Struct<'a>>);

struct Struct<'a> {
    root: Root<'a>,
    worst: Verdict,
    paths: BTreeSet<Path<'a>>,
}

impl<'a> Wanted<'a> {
    /// Adds what findings that are not fine are about.
    pub(super) fn add(&mut self, object: &Object<'a>, verdicts: &Verdicts) {
        let findings = verdicts.by_class.iter().flatten().flat_map(|it| &it.findings);
        let mut done: HashMap<usize, Verdict> = HashMap::new();
        for finding in findings.filter(|it| it.verdict > Verdict::Ok) {
            let Some(number) = finding.reloc else { continue };
            let known = done.insert(number, finding.verdict);
            if known.is_some_and(|it| it >= finding.verdict) {
                continue;
            }
            let Some(reloc) = object.relocs().get(number) else { continue };
            let query = reloc.question.as_ref().ok().and_then(|it| it.query.as_ref());
            if let (Some(key), Some(path), Some(query)) = (Key::of(reloc), steps_of(reloc), query) {
                let root = query.root;
                let it =
                    self.0.entry(key).or_insert(Struct { root, worst: Verdict::Ok, paths: BTreeSet::new() });
                it.worst = it.worst.max(finding.verdict);
                it.paths.insert(path);
            }
        }
    }

    /// The layouts of all of them, those of the worst findings first. `order`: the kernels of the columns.
    pub(super) fn layouts(&self, inputs: &'a Inputs<'a>, order: &[usize], modules: Modules) -> Value {
        let fleet = Fleet::new(order.iter().filter_map(|it| inputs.kernels.get(*it)).collect());
        let Rules { kinds, searched, .. } = Rules::LIBBPF;
        let mut structs: Vec<_> = self.0.iter().collect();
        structs.sort_by_key(|it| std::cmp::Reverse(it.1.worst));
        let mut names = Names::default();
        let mut left = MEMBERS_MAX;
        let structs: Vec<Value> = structs
            .into_iter()
            .map(|(key, wanted)| {
                let table = fleet.table(&wanted.root, Selection { modules, kinds, searched });
                let paths: Vec<&Path<'_>> = wanted.paths.iter().take(PATHS_MAX).collect();
                let mut layouts: Vec<Layout> = Vec::new();
                let of_shape: Vec<i32> = table
                    .shapes
                    .iter()
                    .map(|shape| {
                        let layout = Layout::of(*shape, &paths, &mut names);
                        let known = layouts.iter().position(|it| *it == layout);
                        signed(known.unwrap_or_else(|| {
                            layouts.push(layout);
                            layouts.len() - 1
                        }))
                    })
                    .collect();
                // -1: there is none; -2: it is declared there, and no more.
                let of_kernel = table.view_of.iter().map(|it| {
                    let Some(view) = table.views.get(*it as usize) else { return -1 };
                    let first = view.lists.iter().flatten().next();
                    let layout = first.and_then(|it| of_shape.get(it.shape as usize));
                    layout.copied().unwrap_or(if view.only_declared { -2 } else { -1 })
                });
                let of_kernel: Vec<i32> = of_kernel.collect();
                shorten(&mut layouts, &of_kernel, &mut left);
                json!({
                    "name": key.to_string(),
                    "paths": paths.iter().map(|it| shown(it)).collect::<Vec<_>>(),
                    "of": runs(of_kernel.into_iter()),
                    "layouts": layouts,
                })
            })
            .collect();
        json!({"structs": structs, "declarations": names.all})
    }
}

/// Declarations by number.
#[derive(Default)]
struct Names {
    number_of: HashMap<String, usize>,
    all: Vec<String>,
}

impl Names {
    fn of(&mut self, name: String) -> usize {
        *self.number_of.entry(name).or_insert_with_key(|name| {
            self.all.push(name.clone());
            self.all.len() - 1
        })
    }
}

#[derive(Serialize, PartialEq, Eq)]
struct Layout {
    /// In bytes.
    size: u32,
    /// For each: number of the declaration, how deep it stands, offset in bits, bits of a bitfield or 0, size in bytes.
    members: Vec<(usize, u32, u32, u32, u32)>,
    /// Members that are not shown.
    left: usize,
    /// By path: offset and width in bits, if it is there.
    marks: Vec<Option<(u32, u32)>>,
}

impl Layout {
    fn of(shape: Shape<'_>, paths: &[&Path<'_>], names: &mut Names) -> Self {
        let btf = shape.btf;
        let marks = paths.iter().map(|it| find(btf, shape.id, it)).collect();
        let mut this = Self { size: 0, members: Vec::new(), left: 0, marks };
        if let Some((id, ty)) = composite(btf, shape.id) {
            this.size = ty.size();
            let tails: Vec<&[Part<'_>]> = paths.iter().map(|it| it.as_slice()).collect();
            this.add(btf, id, (0, 0), &tails, names);
        }
        this
    }

    /// Adds the members of a struct that starts at this bit, this deep inside of others.
    fn add(
        &mut self,
        btf: &Btf<'_>,
        id: TypeId,
        (start, depth): (u32, u32),
        paths: &[&[Part<'_>]],
        names: &mut Names,
    ) {
        let Some(ty) = btf.ty(id) else { return };
        for member in ty.members() {
            if self.members.len() >= LAYOUT_MEMBERS_MAX {
                self.left += 1;
                continue;
            }
            let name = btf.name(member.name_off);
            let bit_offset = start.saturating_add(member.bit_offset);
            let size = btf.resolve_size(member.type_id).unwrap_or(0);
            let declaration = names.of(declaration(btf, &member));
            self.members.push((declaration, depth, bit_offset, member.bitfield_size, size));
            let inner: Vec<&[Part<'_>]> = match name {
                [] => paths.to_vec(),
                name => paths
                    .iter()
                    .filter(|it| it.first() == Some(&Part::Member(name)) && it.len() > 1)
                    .filter_map(|it| it.get(1..))
                    .collect(),
            };
            let inside = composite(btf, member.type_id).filter(|_| depth < DEPTH_MAX);
            if let Some((id, _)) = inside.filter(|_| name.is_empty() || !inner.is_empty()) {
                self.add(btf, id, (bit_offset, depth + 1), &inner, names);
            }
        }
    }
}

/// Takes the members of a struct's layouts out of `left`, those that most kernels have first. Where it is too little, a
/// layout loses them and keeps what is said of the paths.
fn shorten(layouts: &mut [Layout], of_kernel: &[i32], left: &mut usize) {
    let mut kernels = vec![0_usize; layouts.len()];
    for layout in of_kernel.iter().filter_map(|it| usize::try_from(*it).ok()) {
        if let Some(kernels) = kernels.get_mut(layout) {
            *kernels += 1;
        }
    }
    let mut of_struct = STRUCT_MEMBERS_MAX;
    let mut layouts: Vec<_> = layouts.iter_mut().zip(kernels).collect();
    layouts.sort_by_key(|it| std::cmp::Reverse(it.1));
    for (layout, _) in layouts {
        let count = layout.members.len();
        if count > of_struct.min(*left) {
            layout.members.clear();
            layout.left += count;
        } else {
            of_struct -= count;
            *left -= count;
        }
    }
}

fn composite<'d>(btf: &Btf<'d>, id: TypeId) -> Option<(TypeId, Type<'d>)> {
    btf.skip_mods_and_typedefs(id).filter(|it| it.1.kind.is_composite())
}

/// Offset and width, in bits, of what a path leads to. A whole type has neither.
fn find(btf: &Btf<'_>, root: TypeId, path: &[Part<'_>]) -> Option<(u32, u32)> {
    let (mut id, mut bit_offset, mut bits) = (root, 0_u32, None);
    let mut budget = LOOKED_AT_MAX;
    for part in path {
        match *part {
            Part::Member(name) => {
                let (start, member) = member_of(btf, id, name, DEPTH_MAX, &mut budget)?;
                bit_offset = bit_offset.checked_add(start)?;
                bits = Some(member.bitfield_size).filter(|it| *it > 0);
                id = member.type_id;
            }
            Part::Element(index) => {
                let (_, ty) = btf.skip_mods_and_typedefs(id).filter(|it| it.1.kind == Kind::Array)?;
                id = ty.array().elem;
                let bytes = btf.resolve_size(id).ok()?.checked_mul(index)?;
                bit_offset = bit_offset.checked_add(bytes.checked_mul(8)?)?;
                bits = None;
            }
        }
    }
    if path.is_empty() {
        return None;
    }
    Some((bit_offset, bits.or_else(|| btf.resolve_size(id).ok()?.checked_mul(8))?))
}

/// A member by name, with where it starts; members without a name are looked into.
fn member_of(btf: &Btf<'_>, id: TypeId, name: &[u8], depth: u32, budget: &mut u32) -> Option<(u32, Member)> {
    let (_, ty) = composite(btf, id)?;
    for member in ty.members() {
        *budget = budget.checked_sub(1)?;
        if btf.name(member.name_off) == name {
            return Some((member.bit_offset, member));
        }
        if depth > 0 && btf.is_anonymous(member.name_off) {
            let found = member_of(btf, member.type_id, name, depth - 1, budget);
            if let Some((start, found)) = found {
                return Some((start.checked_add(member.bit_offset)?, found));
            }
        }
    }
    None
}

/// A member as C declares it.
fn declaration(btf: &Btf<'_>, member: &Member) -> String {
    let name = String::from_utf8_lossy(btf.name(member.name_off)).into_owned();
    let type_name = btf.type_name(member.type_id).replace("<anon>", "{…}");
    if name.is_empty() {
        return type_name;
    }
    // The dimensions of an array stand behind the name.
    match type_name.split_once('[') {
        Some((element, dimensions)) => format!("{} {name}[{dimensions}", element.trim_end()),
        None if type_name.ends_with('*') => format!("{type_name}{name}"),
        None => format!("{type_name} {name}"),
    }
}
