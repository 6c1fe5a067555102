//! Types as trees: easy to make, to change and to lay out.

use super::rng::Rng;

/// A member of a [`Comp`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mem {
    pub(super) name: String,
    pub(super) node: Node,
    /// Width in bits of a bitfield, else 0.
    pub(super) bits: u32,
    /// Bits left free before it.
    pub(super) gap: u32,
}

impl Mem {
    pub(super) fn new(name: &str, node: Node) -> Self {
        Self { name: name.to_owned(), node, bits: 0, gap: 0 }
    }
}

/// A struct or union.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Comp {
    pub(super) union: bool,
    pub(super) name: String,
    pub(super) packed: bool,
    /// Bitfields are described by their INT, not by the member.
    pub(super) legacy: bool,
    pub(super) members: Vec<Mem>,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Void,
    Int {
        name: &'static str,
        size: u32,
        encoding: u32,
        offset: u32,
        bits: u32,
    },
    Float {
        name: String,
        size: u32,
    },
    Ptr(Box<Node>),
    /// A pointer to an enclosing struct or union, so many levels up; to void if there is none.
    Up(u32),
    Arr(Box<Node>, u32),
    Comp(Box<Comp>),
    Enum {
        wide: bool,
        name: String,
        size: u32,
        signed: bool,
        values: Vec<(String, i64)>,
    },
    Fwd {
        name: String,
        union: bool,
    },
    Typedef(String, Box<Node>),
    /// VOLATILE, CONST, RESTRICT.
    Modifier(u32, Box<Node>),
    TypeTag(String, Box<Node>),
    Proto(Box<Node>, Vec<(String, Node)>),
    Func(String, Box<Node>),
    Var(String, Box<Node>),
    DeclTag(String, Box<Node>),
    /// A data section without variables, of so many bytes.
    Datasec(String, u32),
}

/// Name, size and encoding of the integers.
const INTS: [(&str, u32, u32); 15] = [
    ("int", 4, 1),
    ("unsigned int", 4, 0),
    ("long", 8, 1),
    ("unsigned long", 8, 0),
    ("long long", 8, 1),
    ("unsigned long long", 8, 0),
    ("short", 2, 1),
    ("unsigned short", 2, 0),
    ("signed char", 1, 1),
    ("unsigned char", 1, 0),
    ("char", 1, 2),
    ("_Bool", 1, 4),
    ("__int128", 16, 1),
    ("unsigned __int128", 16, 0),
    ("schar", 1, 3),
];

/// Names of members. Some look flavoured, which means nothing for a member.
pub(super) const MEMBERS: [&str; 14] =
    ["a", "b", "c", "d", "e", "f", "g", "h", "x", "y", "z", "m___x", "m", "n___y___z"];

impl Node {
    pub(super) fn int(name: &'static str, size: u32, encoding: u32) -> Self {
        Self::Int { name, size, encoding, offset: 0, bits: size * 8 }
    }

    pub(super) fn u32() -> Self {
        Self::int("unsigned int", 4, 0)
    }

    pub(super) fn comp(union: bool, name: &str, members: Vec<Mem>) -> Self {
        Self::Comp(Box::new(Comp { union, name: name.to_owned(), packed: false, legacy: false, members }))
    }

    pub(super) fn ptr(self) -> Self {
        Self::Ptr(Box::new(self))
    }

    pub(super) fn arr(self, n: u32) -> Self {
        Self::Arr(Box::new(self), n)
    }

    pub(super) fn typedef(self, name: &str) -> Self {
        Self::Typedef(name.to_owned(), Box::new(self))
    }

    /// Without modifiers and typedefs.
    pub(super) fn skip(&self) -> &Self {
        match self {
            Self::Typedef(_, to) | Self::Modifier(_, to) | Self::TypeTag(_, to) => to.skip(),
            other => other,
        }
    }

    /// Whether a bitfield may have this type.
    pub(super) fn can_be_bitfield(&self) -> bool {
        matches!(self.skip(), Self::Int { size: 1.., .. } | Self::Enum { size: 1.., .. })
    }

    /// Gives a named type another name; others stay.
    pub(super) fn rename(&mut self, new: &str) {
        match self {
            Self::Comp(comp) => new.clone_into(&mut comp.name),
            Self::Enum { name, .. }
            | Self::Fwd { name, .. }
            | Self::Typedef(name, _)
            | Self::Float { name, .. }
            | Self::Func(name, _)
            | Self::Datasec(name, _)
            | Self::DeclTag(name, _)
            | Self::Var(name, _) => new.clone_into(name),
            Self::Int { name, .. } => {
                // Names of integers are a fixed set: the nearest thing to a flavour.
                *name = match new.len() % 3 {
                    0 => "int",
                    1 => "int___a",
                    _ => "int___b",
                };
            }
            _ => {}
        }
    }
}

pub(super) fn random_int(rng: &mut Rng) -> Node {
    let &(name, size, encoding) = if rng.chance(45) { &INTS[1] } else { rng.pick(&INTS) };
    Node::int(name, size, encoding)
}

pub(super) fn random_enum(rng: &mut Rng, name: &str) -> Node {
    let wide = rng.chance(35);
    let signed = rng.chance(50);
    let n = rng.range(1, 5);
    let values = (0..n)
        .map(|i| {
            let value = match rng.below(8) {
                0 if signed => -i64::from(rng.range(1, 300)),
                1 if signed && wide => i64::MIN + i64::from(i),
                2 if wide => 0x1_0000_0000 * i64::from(rng.range(1, 9)) + 5,
                3 if !signed => 0x8000_0000 + i64::from(rng.below(9)),
                4 if !signed && wide => -i64::from(rng.range(1, 9)),
                5 => i64::from(i32::MAX) - i64::from(i),
                _ => i64::from(i * 3 + rng.below(2)),
            };
            let name = if rng.chance(12) { format!("V{i}___fl") } else { format!("V{i}") };
            (name, value)
        })
        .collect();
    let size = if wide { 8 } else { *rng.pick(&[4, 4, 4, 4, 1, 2]) };
    Node::Enum { wide, name: name.to_owned(), size, signed, values }
}

pub(super) fn random_proto(rng: &mut Rng, depth: u32) -> Node {
    let n = rng.below(4);
    let params = (0..n).map(|i| (format!("p{i}"), random_node(rng, depth))).collect();
    let ret = if rng.chance(30) { Node::Void } else { random_scalar(rng, depth) };
    Node::Proto(Box::new(ret), params)
}

/// A type that is no struct, union or array.
pub(super) fn random_scalar(rng: &mut Rng, depth: u32) -> Node {
    match rng.below(20) {
        0..=11 => random_int(rng),
        12 => random_pointer(rng, depth),
        13 => Node::int("char", 1, 2).ptr(),
        14 => Node::Up(rng.below(2)),
        15 => {
            let name = *rng.pick(&["", "en", "en___f", "other"]);
            random_enum(rng, name)
        }
        16 => random_pointer(rng, depth),
        17 => {
            let (name, size) = *rng.pick(&[("float", 4), ("double", 8)]);
            Node::Float { name: name.to_owned(), size }
        }
        _ => random_int(rng),
    }
}

fn random_pointer(rng: &mut Rng, depth: u32) -> Node {
    let to = match rng.below(6) {
        0 => Node::Void,
        1 => Node::Fwd { name: rng.pick(&["fw", "fw___x", "gx"]).to_string(), union: rng.chance(30) },
        2 if depth > 0 => random_proto(rng, depth - 1),
        3 if depth > 0 => random_comp(rng, depth - 1, "pointee"),
        _ => random_int(rng),
    };
    to.ptr()
}

pub(super) fn random_node(rng: &mut Rng, depth: u32) -> Node {
    let node = match rng.below(20) {
        0..=11 => random_scalar(rng, depth),
        12..=14 => {
            let dims = rng.range(1, 3);
            let mut node = if depth > 0 && rng.chance(40) {
                random_comp(rng, depth - 1, "elem")
            } else {
                random_scalar(rng, depth)
            };
            for _ in 0..dims {
                node = node.arr(rng.range(1, 5));
            }
            node
        }
        _ if depth > 0 => {
            let name = *rng.pick(&["", "", "inner", "inner___k", "in2"]);
            random_comp(rng, depth - 1, name)
        }
        _ => random_int(rng),
    };
    if rng.chance(15) { wrap(rng, node) } else { node }
}

/// Puts a chain of modifiers and typedefs around a type.
pub(super) fn wrap(rng: &mut Rng, mut node: Node) -> Node {
    for _ in 0..rng.range(1, 3) {
        node = match rng.below(5) {
            0 => Node::Modifier(9, Box::new(node)),
            1 => Node::Modifier(10, Box::new(node)),
            2 => Node::TypeTag("user".to_owned(), Box::new(node)),
            3 => Node::Modifier(11, Box::new(node)),
            _ => node.typedef(rng.pick::<&str>(&["td", "td2", "u32"])),
        };
    }
    node
}

pub(super) fn random_comp(rng: &mut Rng, depth: u32, name: &str) -> Node {
    let n = rng.range(1, 6);
    let start = rng.index(MEMBERS.len());
    let mut members = Vec::new();
    for i in 0..n {
        let name = MEMBERS.iter().cycle().nth(start + i as usize).expect("endless");
        members.push(random_member(rng, depth, name));
    }
    // A flexible array, now and then not at the end.
    if rng.chance(15) {
        let elem = if rng.chance(50) { random_int(rng) } else { random_comp(rng, 0, "fe") };
        let elem = if rng.chance(25) { elem.arr(2) } else { elem };
        let mut flex = Mem::new("flex", elem.arr(0));
        if rng.chance(30) {
            let head = Mem::new("fk", random_int(rng));
            flex = Mem::new("", Node::comp(false, "", vec![head, flex]));
        }
        let at = if rng.chance(20) { rng.index(members.len()) } else { members.len() };
        members.insert(at, flex);
    }
    let node = Comp {
        union: rng.chance(15),
        name: name.to_owned(),
        packed: rng.chance(20),
        legacy: rng.chance(8),
        members,
    };
    Node::Comp(Box::new(node))
}

pub(super) fn random_member(rng: &mut Rng, depth: u32, name: &str) -> Mem {
    match rng.below(20) {
        0..=2 => {
            let node = if rng.chance(20) { random_enum(rng, "en") } else { random_int(rng) };
            let size = match &node {
                Node::Int { size, .. } | Node::Enum { size, .. } => *size,
                _ => 4,
            };
            let bits = rng.range(1, (size * 8).min(64));
            let node = if rng.chance(20) { wrap(rng, node) } else { node };
            Mem { name: name.to_owned(), node, bits, gap: rng.below(3) * rng.below(9) }
        }
        3..=5 if depth > 0 => {
            let mut inner = random_comp(rng, depth - 1, "");
            // Names must differ from the outer ones, mostly.
            if let Node::Comp(comp) = &mut inner {
                for m in &mut comp.members {
                    if !m.name.is_empty() && rng.chance(85) {
                        m.name = format!("{name}{}", m.name);
                    }
                }
            }
            Mem::new("", inner)
        }
        _ => Mem::new(name, random_node(rng, depth)),
    }
}
