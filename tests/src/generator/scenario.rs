//! What a case is made of: scenarios, each a root name with its local and target versions and some records.
#![expect(clippy::indexing_slicing, reason = "indices are below the lengths they were drawn from")]
#![expect(clippy::cast_possible_truncation, reason = "a handful of things is counted")]

use super::lower::Lower;
use super::mutate::{Style, mutate};
use super::records::{load, record, spoil, suitable_kind};
use super::rng::Rng;
use super::tree::{
    Comp, MEMBERS, Mem, Node, random_comp, random_enum, random_int, random_member, random_node, random_proto,
    random_scalar, wrap,
};
use super::{Case, CaseRecord, Site, Type};
use crate::build::{ByteOrder, Insn};

/// Which records a scenario wants.
enum Wanted {
    /// Whatever suits the root.
    Suitable(u32),
    /// These kinds.
    Exactly(Vec<u32>),
    /// That many plain loads.
    Loads(u32),
}

/// One root name: versions of it on either side.
struct Scenario {
    local: Vec<Node>,
    target: Vec<Node>,
    module: Vec<Node>,
    wanted: Wanted,
}

pub(super) fn generate(order: ByteOrder, seed: u64) -> Case {
    let mut rng = Rng::new(seed ^ 0x5eed_ca5e);
    let rng = &mut rng;
    let small_pointers = rng.chance(10);
    let mut local = Lower::new(1, 8);
    let mut target = Lower::new(1, if small_pointers { 4 } else { 8 });
    if small_pointers || rng.chance(70) {
        target.add(&Node::int("long", 8, 1));
    }
    let scenarios: Vec<Scenario> = (0..rng.range(2, 3)).map(|i| scenario(rng, i)).collect();
    if rng.chance(15) {
        // Not a reason to take the program's pointers for any smaller than 8 bytes.
        local.add(&Node::int("long", 4, 1));
    }
    let mut roots = Vec::new();
    for s in &scenarios {
        roots.push(s.local.iter().map(|node| local.add(node)).collect::<Vec<u32>>());
        for node in &s.target {
            target.add(node);
        }
    }
    let first_module_id = target.types.len() as u32 + 1;
    let mut modules = Vec::new();
    if scenarios.iter().any(|s| !s.module.is_empty()) || rng.chance(5) {
        for half in 0..rng.range(1, 2) {
            let mut module = Lower::new(first_module_id, if small_pointers { 4 } else { 8 });
            for node in scenarios.iter().flat_map(|s| &s.module) {
                if half == 0 || rng.chance(30) {
                    module.add(node);
                }
            }
            modules.push(module.types);
        }
    }

    let types = &local.types;
    let mut records: Vec<CaseRecord> = Vec::new();
    for (s, roots) in scenarios.iter().zip(&roots) {
        match &s.wanted {
            Wanted::Suitable(n) => {
                for _ in 0..*n {
                    let root = *rng.pick(roots);
                    let kind = suitable_kind(rng, types, root);
                    records.push(record(rng, types, order, root, kind));
                }
            }
            Wanted::Exactly(list) => {
                for &kind in list {
                    let root = if rng.chance(80) { roots[0] } else { *rng.pick(roots) };
                    records.push(record(rng, types, order, root, kind));
                }
            }
            Wanted::Loads(n) => {
                for _ in 0..*n {
                    records.push(load(rng, types, roots[0]));
                }
            }
        }
    }
    // Mostly in order of the scenarios, so that records of one root come close together.
    for _ in 0..records.len() / 4 {
        let (a, b) = (rng.index(records.len()), rng.index(records.len()));
        records.swap(a, b);
    }
    for r in &mut records {
        if rng.chance(6) {
            spoil(rng, types, r);
        }
    }
    let programs = rng.range(1, 4);
    let n = records.len() as u32;
    for (i, r) in (0_u32..).zip(&mut records) {
        r.program = i * programs / n.max(1);
    }
    if rng.chance(20) {
        // Blocks of records that go back and forth between sections.
        for r in &mut records {
            if rng.chance(10) {
                r.program = rng.below(programs);
            }
        }
    }
    share_sites(rng, types, order, &mut records);
    Case { seed, order, local: local.types, target: target.types, modules, records }
}

/// Lets some records be about the instruction of the one before, and some about no function's instruction.
fn share_sites(rng: &mut Rng, types: &[Type], order: ByteOrder, records: &mut [CaseRecord]) {
    for i in 0..records.len() {
        if records[i].site != Site::Own {
            continue;
        }
        match rng.below(100) {
            0..=2 if i > 0 => {
                // The same question again, or another one of the same root.
                let CaseRecord { program, type_id, access, kind, .. } = records[i - 1].clone();
                let other = if rng.chance(50) { kind } else { suitable_kind(rng, types, type_id) };
                let asked = record(rng, types, order, type_id, other);
                let access = if other == kind { access } else { asked.access.clone() };
                records[i] = CaseRecord { program, access, site: Site::Again, ..asked };
            }
            3 => records[i].site = Site::Again,
            4 if i > 0 => {
                records[i - 1].insns = Insn::ldimm64(1, u64::from(rng.below(9))).to_vec();
                records[i].program = records[i - 1].program;
                records[i].site = Site::SecondSlot;
            }
            5 => records[i].site = Site::Outside,
            _ => {}
        }
    }
}

/// An essential name for scenario `i`; some look flavoured and are not, or keep a part that looks like a flavour.
fn root_name(rng: &mut Rng, i: u32) -> String {
    match rng.below(16) {
        0 => format!("r{i}___x___y").trim_end_matches("___y").to_owned(),
        1 => format!("r{i}____b"),
        2 => format!("___r{i}"),
        3 => format!("r{i}___"),
        4 => format!("_r{i}"),
        5 => format!("r{i}__x"),
        6 => format!("r{i}_"),
        _ => format!("r{i}"),
    }
}

fn flavored(rng: &mut Rng, name: &str) -> String {
    match rng.below(5) {
        0 | 1 => name.to_owned(),
        // What looks like a flavour of `name` need not be one if `name` has underscores at its end.
        _ => format!("{name}___{}", rng.pick(&["a", "b", "c1", "x__1", "k_", "_l"])),
    }
}

/// Versions of `node` under flavoured names; they share some changes and each has a few of its own.
fn versions(rng: &mut Rng, node: &Node, name: &str, n: u32, still: u32) -> Vec<Node> {
    let mut shared = node.clone();
    for _ in 0..*rng.pick(&[0, 0, 0, 1, 1, 2, 3]) {
        mutate(rng, &mut shared, Style::Any);
    }
    (0..n)
        .map(|_| {
            let mut version = shared.clone();
            for _ in 0..*rng.pick(&[0, 0, 1, 1, 1, 2, 3]) {
                let style = if rng.chance(still) { Style::Still } else { Style::Any };
                mutate(rng, &mut version, style);
            }
            let new_name = flavored(rng, name);
            version.rename(&new_name);
            version
        })
        .collect()
}

fn target_count(rng: &mut Rng) -> u32 {
    *rng.pick(&[0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4])
}

fn scenario(rng: &mut Rng, i: u32) -> Scenario {
    let name = root_name(rng, i);
    match rng.below(100) {
        0..=18 => structs(rng, &name),
        19..=27 => pruning(rng, &name),
        28..=36 => enums(rng, &name),
        37..=44 => named(rng, &name),
        45..=47 => forwards(rng, &name),
        48..=53 => deep_nesting(rng, &name),
        54..=59 => deep_chains(rng, &name),
        60..=64 => bitfields(rng, &name),
        65..=67 => malformed(rng, &name),
        68..=75 => arrays(rng, &name),
        76..=77 => anonymous(rng, &name),
        78..=86 => resized(rng, &name),
        87..=89 => matching(rng, &name),
        90..=92 => members(rng, &name),
        _ => pairs(rng, &name),
    }
}

/// A struct or union and changed versions of it.
fn structs(rng: &mut Rng, name: &str) -> Scenario {
    let root = random_comp(rng, 3, name);
    let mut local = vec![root.clone()];
    if rng.chance(35) {
        // The same again, a typedef of it, or with a chain of modifiers: other ids, other roots.
        local.push(match rng.below(4) {
            0 => root.clone().typedef(name),
            1 => wrap(rng, root.clone()),
            _ => versions(rng, &root, name, 1, 90).swap_remove(0),
        });
    }
    let in_module = rng.chance(12);
    let n = if in_module { 0 } else { target_count(rng) };
    let mut target = versions(rng, &root, name, n, 85);
    if !in_module && rng.chance(20) {
        target.push(root.clone().typedef(name));
    }
    if rng.chance(10) {
        // A name that is alike only up to the first flavour mark.
        target.push(versions(rng, &root, &format!("{name}___q___z"), 1, 50).swap_remove(0));
    }
    let mut module = Vec::new();
    if in_module || n == 0 && rng.chance(50) {
        let n = rng.range(1, 2);
        module = versions(rng, &root, name, n, 90);
    }
    Scenario { local, target, module, wanted: Wanted::Suitable(rng.range(6, 16)) }
}

/// Versions at equal offsets that each lack other members: earlier records decide later ones.
fn pruning(rng: &mut Rng, name: &str) -> Scenario {
    let n = rng.range(3, 6) as usize;
    let members: Vec<Mem> = MEMBERS[..n]
        .iter()
        .map(|m| if rng.chance(20) { random_member(rng, 1, m) } else { Mem::new(m, random_scalar(rng, 0)) })
        .collect();
    let root = Node::comp(rng.chance(10), name, members.clone());
    let mut target = Vec::new();
    for _ in 0..rng.range(2, 5) {
        let mut members = members.clone();
        for m in &mut members {
            if rng.chance(38) {
                m.name = "gone".to_owned();
            } else if rng.chance(3) {
                m.gap = 64;
            }
        }
        let mut version = Node::comp(false, name, members);
        if let (Node::Comp(version), Node::Comp(root)) = (&mut version, &root) {
            version.union = root.union;
        }
        let new_name = flavored(rng, name);
        version.rename(&new_name);
        target.push(version);
    }
    let mut wanted = Vec::new();
    for _ in 0..rng.range(8, 14) {
        wanted.push(*rng.pick(&[0, 0, 0, 2, 2, 1, 9, 12, 8]));
    }
    // A struct of its own: the other id is not touched by what the first one has pruned.
    let local = if rng.chance(40) { vec![root.clone(), root.clone()] } else { vec![root] };
    Scenario { local, target, module: Vec::new(), wanted: Wanted::Exactly(wanted) }
}

fn enums(rng: &mut Rng, name: &str) -> Scenario {
    let root = random_enum(rng, name);
    let mut local = vec![root.clone()];
    if rng.chance(40) {
        local.push(root.clone().typedef(name));
    }
    let n = target_count(rng);
    let mut target = versions(rng, &root, name, n, 50);
    if let [Node::Enum { values, .. }] = target.as_mut_slice()
        && !values.is_empty()
        && rng.chance(40)
    {
        values.remove(rng.index(values.len()));
    }
    if rng.chance(40) {
        let n = rng.range(1, 3);
        target.extend(versions(rng, &root, name, n, 80).into_iter().map(|node| node.typedef(name)));
    }
    if rng.chance(5) {
        target.push(random_int(rng).typedef(name));
    }
    Scenario { local, target, module: Vec::new(), wanted: Wanted::Suitable(rng.range(6, 12)) }
}

/// Typedefs of everything, and the other kinds that have names.
fn named(rng: &mut Rng, name: &str) -> Scenario {
    let inner = match rng.below(15) {
        0 => random_int(rng),
        1 => random_int(rng).ptr(),
        2 => random_int(rng).arr(3),
        3 | 4 => random_proto(rng, 2).ptr(),
        5 => random_proto(rng, 2),
        6 => Node::Float { name: "double".to_owned(), size: 8 },
        7 => random_comp(rng, 1, ""),
        8 => Node::Fwd { name: "fw".to_owned(), union: false },
        9 => Node::Void,
        10 => random_enum(rng, ""),
        11 | 14 => random_comp(rng, 1, "st").ptr(),
        12 => random_int(rng).arr(2).arr(4),
        _ => random_node(rng, 2),
    };
    let inner = if rng.chance(25) { wrap(rng, inner) } else { inner };
    let root = match rng.below(12) {
        0 => Node::Float { name: name.to_owned(), size: 4 },
        1 => Node::Func(name.to_owned(), Box::new(random_proto(rng, 1))),
        2 if !matches!(inner.skip(), Node::Void) => Node::Var(name.to_owned(), Box::new(inner)),
        3 => Node::int("int", 4, 1),
        _ => inner.typedef(name),
    };
    let n = target_count(rng).max(u32::from(rng.chance(80)));
    let mut target = versions(rng, &root, name, n, 20);
    for node in &mut target {
        // The whole of what the typedef stands for is another kind.
        if let Node::Typedef(_, to) = &mut *node
            && let Node::Ptr(pointee) = &mut **to
            && matches!(**pointee, Node::Comp(_))
            && rng.chance(40)
        {
            **pointee = Node::Fwd { name: "st".to_owned(), union: rng.chance(30) };
        }
        if let (Node::Typedef(_, to), true) = (&mut *node, rng.chance(15)) {
            **to = random_node(rng, 1);
        }
    }
    let wanted = (0..rng.range(5, 10)).map(|_| *rng.pick(&[8, 8, 8, 12, 12, 12, 9, 9, 7, 6, 2, 0])).collect();
    Scenario { local: vec![root], target, module: Vec::new(), wanted: Wanted::Exactly(wanted) }
}

/// Forward declarations instead of types, on either side.
fn forwards(rng: &mut Rng, name: &str) -> Scenario {
    let comp = random_comp(rng, 1, name);
    let union = matches!(&comp, Node::Comp(c) if c.union);
    let fwd = Node::Fwd { name: name.to_owned(), union };
    let (local, target) = match rng.below(8) {
        0 => (fwd.clone(), vec![fwd]),
        1 => (fwd.clone(), vec![comp]),
        2 => (fwd.clone(), vec![fwd, comp]),
        3 => (fwd, vec![Node::Fwd { name: format!("{name}___f"), union: !union }]),
        4 => (comp.clone(), vec![fwd, comp]),
        _ => (comp, vec![fwd]),
    };
    Scenario { local: vec![local], target, module: Vec::new(), wanted: Wanted::Suitable(rng.range(5, 10)) }
}

/// Around the limit of 64 indices, in the path itself or in anonymous levels of the target.
fn deep_nesting(rng: &mut Rng, name: &str) -> Scenario {
    let leaf = |names: bool, levels: u32, rng: &mut Rng| {
        let mut mem = Mem::new("leaf", Node::u32());
        for level in 0..levels {
            let mut members = vec![mem];
            if rng.chance(4) {
                members.insert(0, Mem::new(&format!("pad{level}"), random_int(rng)));
            }
            let shell = Node::comp(rng.chance(20), "", members);
            mem = Mem::new(&if names { format!("l{level}") } else { String::new() }, shell);
        }
        mem
    };
    let kinds = [0, 0, 2, 2, 1, 0, 2, 3];
    let (root, target) = if rng.chance(30) {
        // As many named levels as the path can hold.
        let levels = rng.range(60, 63);
        let root = Node::comp(false, name, vec![leaf(true, levels, rng)]);
        let mut target = root.clone();
        if let (true, Node::Comp(comp)) = (rng.chance(60), &mut target) {
            let inner = std::mem::take(&mut comp.members);
            comp.members.push(Mem::new("", Node::comp(false, "", inner)));
        }
        (root, target)
    } else {
        let levels = rng.range(59, 66);
        (
            Node::comp(false, name, vec![Mem::new("first", random_int(rng)), Mem::new("leaf", Node::u32())]),
            Node::comp(false, name, vec![Mem::new("first", random_int(rng)), leaf(false, levels, rng)]),
        )
    };
    let wanted = kinds.into_iter().take(rng.range(3, 6) as usize).collect();
    Scenario { local: vec![root], target: vec![target], module: Vec::new(), wanted: Wanted::Exactly(wanted) }
}

/// Around the limits of 32 steps and 32 levels of the two type comparisons.
fn deep_chains(rng: &mut Rng, name: &str) -> Scenario {
    let depth = rng.range(29, 35);
    let chain = |rng: &mut Rng, depth: u32, how: u32| {
        let mut node = random_int(rng);
        for level in 0..depth {
            node = match how {
                0 => node.ptr(),
                1 => node.arr(1),
                2 => Node::Proto(Box::new(Node::Void), vec![("p".to_owned(), node)]),
                3 => Node::Proto(Box::new(node), vec![]),
                4 => Node::comp(false, "", vec![Mem::new("m", node)]),
                _ if level % 2 == 0 => node.ptr(),
                _ => Node::Proto(Box::new(Node::Void), vec![("p".to_owned(), node)]),
            };
        }
        node
    };
    // Parameters are what the levels of both comparisons count.
    let how = *rng.pick(&[0, 1, 2, 2, 2, 3, 4, 4, 5]);
    let depth = if how == 5 { depth * 2 } else { depth };
    let node = chain(rng, depth, how);
    let root = match node {
        Node::Comp(mut comp) => {
            name.clone_into(&mut comp.name);
            Node::Comp(comp)
        }
        other => other.typedef(name),
    };
    let mut target = vec![root.clone()];
    if rng.chance(15) {
        target.insert(0, chain(rng, depth, how).typedef(name));
    }
    let wanted = [8, 12, 12, 8, 9, 12].into_iter().take(rng.range(3, 6) as usize).collect();
    Scenario { local: vec![root], target, module: Vec::new(), wanted: Wanted::Exactly(wanted) }
}

/// Bitfields of all widths at all places, many of them unreadable.
fn bitfields(rng: &mut Rng, name: &str) -> Scenario {
    let fields = |rng: &mut Rng| {
        let mut members = Vec::new();
        for field in ["a", "b", "c", "d", "e"] {
            let node = if rng.chance(15) { random_enum(rng, "en") } else { random_int(rng) };
            let size = match &node {
                Node::Int { size, .. } | Node::Enum { size, .. } => *size,
                _ => 4,
            };
            let bits = if rng.chance(20) { 0 } else { rng.range(1, (size * 8).min(64)) };
            members.push(Mem { name: field.to_owned(), node, bits, gap: rng.below(4) * rng.below(20) });
        }
        Comp {
            union: rng.chance(10),
            name: name.to_owned(),
            packed: rng.chance(60),
            legacy: rng.chance(15),
            members,
        }
    };
    let root = fields(rng);
    let mut target = Vec::new();
    for _ in 0..rng.range(1, 2) {
        let mut version = if rng.chance(30) { fields(rng) } else { root.clone() };
        if rng.chance(60) {
            for m in &mut version.members {
                m.gap = if rng.chance(30) { rng.below(30) } else { m.gap };
                m.bits = if rng.chance(15) { 0 } else { m.bits };
            }
            version.packed = rng.chance(70);
        }
        target.push(Node::Comp(Box::new(version)));
    }
    let wanted = (0..rng.range(6, 12)).map(|_| *rng.pick(&[0, 0, 1, 2, 3, 4, 4, 5, 5])).collect();
    Scenario {
        local: vec![Node::Comp(Box::new(root))],
        target,
        module: Vec::new(),
        wanted: Wanted::Exactly(wanted),
    }
}

/// Targets whose size is needed and that have none; local roots of that sort.
fn malformed(rng: &mut Rng, name: &str) -> Scenario {
    let sizeless = |rng: &mut Rng| match rng.below(3) {
        0 => Node::Void,
        1 => Node::Fwd { name: "only".to_owned(), union: false },
        _ => random_proto(rng, 1),
    };
    let comp = random_comp(rng, 1, "").typedef(name);
    let (local, target) = match rng.below(5) {
        0 => (sizeless(rng).typedef(name), vec![comp]),
        1 => {
            let node = sizeless(rng).typedef(name);
            (node.clone(), vec![node])
        }
        _ => (comp.clone(), vec![sizeless(rng).typedef(name), comp]),
    };
    Scenario { local: vec![local], target, module: Vec::new(), wanted: Wanted::Suitable(rng.range(5, 9)) }
}

/// Arrays of all sorts of bounds.
fn arrays(rng: &mut Rng, name: &str) -> Scenario {
    let mut members = vec![Mem::new("n", random_int(rng))];
    for field in ["a", "b", "c"] {
        let elem = match rng.below(5) {
            0 => random_int(rng).ptr(),
            1 => random_comp(rng, 0, "el"),
            2 => random_enum(rng, "en"),
            _ => random_int(rng),
        };
        let mut node = elem;
        for _ in 0..rng.range(1, 3) {
            node = node.arr(rng.range(1, 6));
        }
        members.push(Mem::new(field, node));
    }
    if rng.chance(40) {
        let n = if rng.chance(60) { 0 } else { 2 };
        members.push(Mem::new("f", random_int(rng).arr(n)));
    }
    let root = Node::comp(false, name, members.clone());
    for m in &mut members {
        if let Node::Arr(elem, n) = &mut m.node {
            match rng.below(6) {
                0 => *n = n.saturating_sub(1),
                1 => *n = rng.below(8),
                2 => *n += 1,
                3 => {
                    if let Node::Arr(_, n) = &mut **elem {
                        *n = rng.below(6);
                    } else {
                        **elem = random_int(rng);
                    }
                }
                _ => {}
            }
        }
    }
    if rng.chance(25) {
        let last = members.pop().expect("there are some");
        members.push(Mem::new("", Node::comp(false, "", vec![last])));
    }
    if rng.chance(25) {
        let at = rng.index(members.len());
        members.insert(at, random_member(rng, 1, "new"));
    }
    let target = Node::comp(false, name, members);
    let wanted = (0..rng.range(6, 12)).map(|_| *rng.pick(&[0, 0, 0, 0, 1, 2, 3, 4, 5])).collect();
    Scenario { local: vec![root], target: vec![target], module: Vec::new(), wanted: Wanted::Exactly(wanted) }
}

/// Roots without a name.
fn anonymous(rng: &mut Rng, name: &str) -> Scenario {
    let inner = random_comp(rng, 1, "");
    let root = match rng.below(5) {
        0 => inner.clone(),
        1 => Node::Modifier(10, Box::new(random_comp(rng, 1, name))),
        2 => random_int(rng).ptr(),
        3 => random_int(rng).arr(3),
        _ => random_proto(rng, 1),
    };
    Scenario {
        local: vec![root],
        target: vec![inner],
        module: Vec::new(),
        wanted: Wanted::Suitable(rng.range(3, 6)),
    }
}

/// Fields of other widths at the other end of a plain load.
fn resized(rng: &mut Rng, name: &str) -> Scenario {
    let ints =
        [("unsigned char", 1, 0), ("unsigned short", 2, 0), ("unsigned int", 4, 0), ("unsigned long", 8, 0)];
    let one = |rng: &mut Rng| {
        let &(int, size, encoding) = rng.pick(&ints);
        let encoding = if rng.chance(20) { *rng.pick(&[1, 2, 3, 3, 4]) } else { encoding };
        let node = Node::int(int, size, encoding);
        if rng.chance(20) { node.arr(3) } else { node }
    };
    let names = ["a", "b", "c", "d", "e"];
    let local: Vec<Mem> = names.iter().map(|m| Mem::new(m, one(rng))).collect();
    let mut target = local.clone();
    for m in &mut target {
        if rng.chance(60) {
            let array = matches!(m.node, Node::Arr(..));
            m.node = one(rng);
            if let (true, Node::Int { .. }) = (array, &m.node) {
                m.node = m.node.clone().arr(3);
            }
        }
    }
    if rng.chance(30) {
        // Beyond the reach of a load's offset.
        target[rng.index(5)].gap = 32_768 * 8 - rng.below(9) * 8;
    }
    Scenario {
        local: vec![Node::comp(false, name, local)],
        target: vec![Node::comp(false, name, target)],
        module: Vec::new(),
        wanted: Wanted::Loads(rng.range(6, 12)),
    }
}

/// TYPE_MATCHES with slight differences.
fn matching(rng: &mut Rng, name: &str) -> Scenario {
    let root = random_comp(rng, 2, name);
    let target = (0..rng.range(1, 3))
        .map(|_| {
            let mut version = root.clone();
            for _ in 0..rng.below(3) {
                mutate(rng, &mut version, Style::Still);
            }
            if let (Node::Comp(comp), true) = (&mut version, rng.chance(40)) {
                let at = rng.index(comp.members.len());
                comp.members.rotate_left(at);
                comp.members.push(Mem::new("more", random_int(rng)));
                let at = rng.index(comp.members.len());
                if !comp.members[at].name.is_empty() && rng.chance(50) {
                    comp.members[at].name.push_str("___fl");
                }
            }
            let new_name = flavored(rng, name);
            version.rename(&new_name);
            version
        })
        .collect();
    let wanted = (0..rng.range(3, 6)).map(|_| *rng.pick(&[12, 12, 12, 8])).collect();
    Scenario { local: vec![root], target, module: Vec::new(), wanted: Wanted::Exactly(wanted) }
}

/// A single member whose two types differ in a way that one rule of compatibility is about.
fn members(rng: &mut Rng, name: &str) -> Scenario {
    let en = |name: &str, wide: bool| Node::Enum {
        wide,
        name: name.to_owned(),
        size: if wide { 8 } else { 4 },
        signed: false,
        values: vec![("V0".to_owned(), 1)],
    };
    let fwd = |name: &str, union: bool| Node::Fwd { name: name.to_owned(), union };
    let (one, two) = match rng.below(9) {
        // A struct by value and a forward declaration of it: no legal C, but what other producers may write.
        0 | 1 => {
            (random_comp(rng, 0, "in"), fwd(rng.pick::<&str>(&["in", "in___x", "other"]), rng.chance(30)))
        }
        2 => {
            let names = ["fw", "fw___x", "gx", "fw____y"];
            (fwd(rng.pick::<&str>(&names), rng.chance(30)), fwd(rng.pick::<&str>(&names), rng.chance(30)))
        }
        3 | 4 => {
            let names = ["", "en", "en___f", "other", "en___f___g"];
            (en(rng.pick::<&str>(&names), rng.chance(30)), en(rng.pick::<&str>(&names), rng.chance(30)))
        }
        5 => (fwd("fw", false).ptr(), fwd("gx", true).ptr()),
        6 => {
            // An array so large that its size does not fit, or looks negative.
            let n = *rng.pick(&[0x2000_0000, 0x4000_0000, 0x7fff_ffff, 0x1fff_ffff]);
            (Node::u32().arr(2).arr(3), Node::u32().arr(n).arr(3))
        }
        7 => (random_int(rng), Node::int("unsigned int", 4, 0).typedef("u32").arr(1)),
        _ => (
            Node::Float { name: "float".to_owned(), size: 4 },
            Node::Float { name: "double".to_owned(), size: 8 },
        ),
    };
    let (one, two) = if rng.chance(30) { (two, one) } else { (one, two) };
    let (one, two) = if rng.chance(15) { (one.arr(2), two.arr(2)) } else { (one, two) };
    let with = |node: &Node, rng: &mut Rng| {
        // A name that is there, but empty: anonymous in the target, an error in the program.
        let mem = Mem::new(if rng.chance(6) { "\0" } else { "m" }, node.clone());
        Node::comp(false, name, vec![Mem::new("n", Node::u32()), mem])
    };
    let local = vec![with(&one, rng)];
    let mut target = vec![with(&two, rng)];
    if rng.chance(30) {
        target.push(with(&one, rng));
    }
    let wanted = (0..rng.range(4, 8)).map(|_| *rng.pick(&[2, 2, 2, 0, 1, 12, 3])).collect();
    Scenario { local, target, module: Vec::new(), wanted: Wanted::Exactly(wanted) }
}

/// Two types of one name that one rule of the comparisons of types is about.
fn pairs(rng: &mut Rng, name: &str) -> Scenario {
    let fwd = |rng: &mut Rng| Node::Fwd { name: "st".to_owned(), union: rng.chance(40) };
    let comp = |rng: &mut Rng| {
        let members = vec![Mem::new(if rng.chance(50) { "a" } else { "b" }, random_int(rng))];
        Node::comp(rng.chance(30), if rng.chance(80) { "st" } else { "st___v" }, members)
    };
    let either = |rng: &mut Rng| if rng.chance(50) { fwd(rng) } else { comp(rng) };
    let proto = |params: Vec<Node>| {
        let params = params.into_iter().map(|node| ("p".to_owned(), node)).collect();
        Node::Proto(Box::new(Node::Void), params)
    };
    let legacy = |rng: &mut Rng| Node::Int {
        name: "unsigned int",
        size: 4,
        encoding: 0,
        offset: *rng.pick(&[0, 3]),
        bits: *rng.pick(&[5, 32]),
    };
    let shell = |members: Vec<Mem>| Node::comp(false, name, members);
    let (one, two) = match rng.below(9) {
        0 => (legacy(rng).typedef(name), legacy(rng).typedef(name)),
        // By value: not behind the pointer, unless that led to the prototype.
        1 | 2 => {
            let (one, two) = (proto(vec![either(rng)]), proto(vec![either(rng)]));
            let pointers = rng.chance(70);
            (if pointers { one.ptr() } else { one }, if pointers { two.ptr() } else { two })
        }
        3 => (either(rng).ptr(), either(rng).ptr()),
        4 => (shell(vec![Mem::new("m", either(rng))]), shell(vec![Mem::new("m", either(rng))])),
        // More members than the target has, though each finds one there.
        5 => {
            let n = rng.range(1, 3) as usize;
            let all = ["m___x", "m___y", "m"].map(|m| Mem::new(m, Node::u32()));
            let other = [Mem::new("m", Node::u32()), Mem::new("o", Node::u32())];
            (shell(all[..n].to_vec()), shell(other[..rng.range(1, 2) as usize].to_vec()))
        }
        6 => {
            let n = rng.range(1, 3);
            let array = |n: u32| shell(vec![Mem::new("m", Node::u32().arr(n))]);
            (array(n), array(rng.range(1, 3)))
        }
        7 => {
            let tag = Node::DeclTag(name.to_owned(), Box::new(random_int(rng)));
            (tag.clone(), tag)
        }
        _ => (Node::Datasec(name.to_owned(), rng.range(1, 9)), Node::Datasec(name.to_owned(), 8)),
    };
    let named = |node: Node| match node {
        Node::Ptr(_) | Node::Proto(..) => node.typedef(name),
        other => other,
    };
    let (one, two) = (named(one), named(two));
    let target = if rng.chance(20) { vec![two, one.clone()] } else { vec![two] };
    let wanted = (0..rng.range(2, 5)).map(|_| *rng.pick(&[8, 12, 12, 12, 9, 7, 2])).collect();
    Scenario { local: vec![one], target, module: Vec::new(), wanted: Wanted::Exactly(wanted) }
}
