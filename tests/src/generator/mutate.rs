//! Changes of trees, as kernels make them and as no kernel would.
#![expect(clippy::indexing_slicing, reason = "indices are below the lengths they were drawn from")]

use super::rng::Rng;
use super::tree::{
    Comp, MEMBERS, Mem, Node, random_comp, random_int, random_member, random_node, random_scalar, wrap,
};

/// How much a change may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Members stay where they are (nearly always).
    Still,
    /// Anything.
    Any,
}

/// Changes something in the tree.
pub(super) fn mutate(rng: &mut Rng, node: &mut Node, style: Style) {
    match node {
        Node::Comp(comp) => mutate_comp(rng, comp, style),
        Node::Typedef(_, to) | Node::Modifier(_, to) | Node::TypeTag(_, to) if rng.chance(85) => {
            mutate(rng, to, style);
        }
        // A struct that is only declared, and the other way round.
        Node::Ptr(to) if rng.chance(40) && matches!(**to, Node::Comp(_) | Node::Fwd { .. }) => {
            let node = match &**to {
                Node::Comp(c) => Node::Fwd { name: c.name.clone(), union: c.union ^ rng.chance(20) },
                Node::Fwd { name, union } => Node::comp(*union, name, vec![Mem::new("a", Node::u32())]),
                other => other.clone(),
            };
            **to = node;
        }
        Node::Ptr(to) if rng.chance(60) && !matches!(**to, Node::Void) => mutate(rng, to, style),
        Node::Ptr(to) => **to = random_node(rng, 1),
        Node::Arr(elem, n) => match rng.below(4) {
            0 if style == Style::Any => mutate(rng, elem, style),
            1 if style == Style::Any => *n = rng.below(4),
            2 => *n += rng.range(1, 2),
            _ if style == Style::Any => *n = n.saturating_sub(rng.range(1, 2)),
            _ => {}
        },
        Node::Enum { .. } => mutate_enum(rng, node, style),
        Node::Int { encoding, .. } if style == Style::Still => *encoding ^= 1,
        Node::Int { .. } => *node = random_int(rng),
        Node::Proto(ret, params) => match rng.below(5) {
            0 => **ret = random_scalar(rng, 1),
            1 => params.push(("q".to_owned(), random_int(rng))),
            2 => {
                params.pop();
            }
            3 if !params.is_empty() => {
                let at = rng.index(params.len());
                mutate(rng, &mut params[at].1, style);
            }
            _ => mutate(rng, ret, style),
        },
        Node::Fwd { union, .. } => *union = !*union,
        Node::Func(_, to) | Node::Var(_, to) | Node::DeclTag(_, to) => mutate(rng, to, style),
        Node::Datasec(_, size) => *size += 1,
        Node::Float { size, .. } => *size = if *size == 4 { 8 } else { 4 },
        Node::Void | Node::Up(_) | Node::Typedef(..) | Node::Modifier(..) | Node::TypeTag(..) => {
            let inner = std::mem::replace(node, Node::Void);
            *node = if rng.chance(70) { wrap(rng, inner) } else { random_node(rng, 1) };
        }
    }
}

fn mutate_enum(rng: &mut Rng, node: &mut Node, style: Style) {
    let Node::Enum { wide, size, signed, values, name } = node else { return };
    match rng.below(10) {
        0 | 8 if !values.is_empty() => {
            let at = rng.index(values.len());
            values.remove(at);
        }
        1 | 2 if !values.is_empty() => {
            let at = rng.index(values.len());
            values[at].1 = i64::from(rng.below(1000)) - 200;
        }
        3 if !values.is_empty() => {
            let at = rng.index(values.len());
            let flavored = format!("{}___v{}", values[at].0, rng.below(3));
            values[at].0 = flavored;
        }
        4 => *signed = !*signed,
        5 => {
            *wide = !*wide;
            if style == Style::Any {
                *size = if *wide { 8 } else { 4 };
            }
        }
        6 if style == Style::Any => *size = *rng.pick(&[1, 2, 4, 8]),
        7 if rng.chance(30) => *name = (*rng.pick(&["", "en2", "en___g"])).to_owned(),
        _ => values.insert(0, (format!("W{}", rng.below(3)), i64::from(rng.below(50)))),
    }
}

fn mutate_comp(rng: &mut Rng, comp: &mut Comp, style: Style) {
    if comp.members.is_empty() {
        comp.members.push(random_member(rng, 1, "a"));
        return;
    }
    let at = rng.index(comp.members.len());
    if rng.chance(30) {
        let inner = comp.members.iter_mut().find(|m| matches!(m.node, Node::Comp(_)) && rng.chance(60));
        if let Some(inner) = inner {
            return mutate(rng, &mut inner.node, style);
        }
    }
    if style == Style::Any && rng.chance(70) {
        return move_members(rng, comp, at);
    }
    match rng.below(9) {
        // A member that is gone but leaves its place.
        0 | 1 => comp.members[at].name = format!("gone_{at}"),
        2 => comp.members.push(random_member(rng, 1, "tail")),
        // Anonymous nesting that keeps offsets: a packed union of one, several levels.
        3 | 4 => {
            for _ in 0..rng.range(1, 4) {
                let inner = std::mem::replace(&mut comp.members[at], Mem::new("", Node::Void));
                let gap = inner.gap;
                let union = rng.chance(50);
                let mut shell = Node::comp(union, "", vec![Mem { gap: 0, ..inner }]);
                if let (true, Node::Comp(shell)) = (rng.chance(30), &mut shell) {
                    shell.members.push(random_member(rng, 0, "extra"));
                }
                comp.members[at] = Mem { gap, ..Mem::new("", shell) };
            }
        }
        5 => {
            let m = &mut comp.members[at];
            let inner = std::mem::replace(&mut m.node, Node::Void);
            m.node = wrap(rng, inner);
        }
        6 | 7 => mutate(rng, &mut comp.members[at].node, style),
        // Same size, another type.
        _ => {
            let m = &mut comp.members[at];
            m.node = match m.node.skip() {
                Node::Int { size: 8, .. } => Node::Void.ptr(),
                Node::Int { size: 4, .. } => Node::Float { name: "float".to_owned(), size: 4 },
                Node::Int { size: 1, .. } => Node::int("_Bool", 1, 4),
                Node::Ptr(_) => Node::int("unsigned long", 8, 0),
                Node::Float { size: 8, .. } => Node::int("long", 8, 1),
                _ => random_scalar(rng, 1),
            };
        }
    }
}

fn move_members(rng: &mut Rng, comp: &mut Comp, at: usize) {
    match rng.below(17) {
        0 | 1 => {
            let name = *rng.pick(&["new1", "new2", "a", "b", "x"]);
            comp.members.insert(at, random_member(rng, 1, name));
        }
        2 => {
            comp.members.remove(at);
        }
        3 => {
            let other = rng.index(comp.members.len());
            comp.members.swap(at, other);
        }
        4 => {
            let m = &mut comp.members[at];
            m.node = random_int(rng);
        }
        5 => comp.members[at].gap += *rng.pick(&[8, 8, 16, 32, 64, 1, 3]),
        6 => {
            if let Node::Arr(_, n) = &mut comp.members[at].node {
                *n = n.saturating_sub(1);
            } else {
                comp.members[at].gap += 32;
            }
        }
        7 => {
            // A range of members moves into an anonymous struct or union.
            let end = at + 1 + rng.index(comp.members.len() - at);
            let inner: Vec<Mem> = comp.members.drain(at..end).collect();
            comp.members.insert(at, Mem::new("", Node::comp(rng.chance(30), "", inner)));
        }
        8 => {
            // Anonymous nesting is removed.
            if let Some(i) = comp.members.iter().position(|m| m.name.is_empty())
                && let Node::Comp(inner) = comp.members[i].node.clone()
            {
                comp.members.splice(i..=i, inner.members);
            }
        }
        9 => {
            let m = &mut comp.members[at];
            m.bits = if m.bits > 0 { 0 } else { rng.range(1, 31) };
        }
        10 => comp.packed = !comp.packed,
        11 => comp.union = !comp.union,
        12 => comp.members[at].node = random_node(rng, 1),
        13 => comp.legacy = !comp.legacy,
        14 => {
            // Beyond what a load can reach.
            comp.members[at].gap += 33_000 * 8;
        }
        15 => {
            // The same name again inside an anonymous struct in front, perhaps of another type.
            let name = rng.pick(&MEMBERS).to_string();
            let decoy = vec![Mem::new("pad", random_int(rng)), Mem::new(&name, random_scalar(rng, 0))];
            comp.members.insert(at, Mem::new("", Node::comp(false, "", decoy)));
        }
        _ => {
            let m = &mut comp.members[at];
            m.node = match rng.below(6) {
                0 => m.node.clone().ptr(),
                1 => m.node.clone().arr(rng.range(1, 3)),
                2 => Node::Enum {
                    wide: false,
                    name: String::new(),
                    size: 4,
                    signed: false,
                    values: vec![("V0".to_owned(), 1)],
                },
                3 => random_comp(rng, 1, "inner"),
                4 => Node::Typedef("td".to_owned(), Box::new(random_scalar(rng, 1))),
                _ => Node::int("char", 1, 2).ptr(),
            };
        }
    }
}
