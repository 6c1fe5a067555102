//! From trees to BTF types: ids and layout.
#![expect(clippy::indexing_slicing, reason = "ids are those that were just given out")]
#![expect(clippy::cast_possible_truncation, reason = "layouts may wrap; nothing depends on them being sane")]

use std::collections::HashMap;

use super::tree::{Comp, Node};
use super::{Field, Type};

/// Adds trees to a list of types.
pub(super) struct Lower {
    pub(super) types: Vec<Type>,
    first_id: u32,
    pointer_size: u32,
    known: HashMap<Node, u32>,
    /// Enclosing structs and unions.
    stack: Vec<u32>,
}

impl Lower {
    pub(super) fn new(first_id: u32, pointer_size: u32) -> Self {
        Self { types: Vec::new(), first_id, pointer_size, known: HashMap::new(), stack: Vec::new() }
    }

    pub(super) fn push(&mut self, ty: Type) -> u32 {
        self.types.push(ty);
        self.first_id + self.types.len() as u32 - 1
    }

    /// Adds a tree and what it refers to; its id.
    pub(super) fn add(&mut self, node: &Node) -> u32 {
        if let Some(&id) = self.known.get(node) {
            return id;
        }
        let id = match node {
            Node::Void => return 0,
            Node::Comp(comp) => return self.add_comp(comp),
            Node::Up(levels) => {
                let up = (*levels as usize) + 1;
                let to = self.stack.len().checked_sub(up).map_or(0, |at| self.stack[at]);
                return self.push(Type::Ptr(to));
            }
            Node::Int { name, size, encoding, offset, bits } => {
                let long = self.pointer_size == 4 && matches!(*name, "long" | "unsigned long");
                let (size, bits) = if long { (4, (*bits).min(32)) } else { (*size, *bits) };
                self.push(Type::Int {
                    name: (*name).to_owned(),
                    size,
                    encoding: *encoding,
                    offset: *offset,
                    bits,
                })
            }
            Node::Float { name, size } => self.push(Type::Float { name: name.clone(), size: *size }),
            Node::Enum { wide, name, size, signed, values } => self.push(Type::Enum {
                wide: *wide,
                name: name.clone(),
                size: *size,
                signed: *signed,
                values: values.clone(),
            }),
            Node::Fwd { name, union } => self.push(Type::Fwd { name: name.clone(), union: *union }),
            Node::Ptr(to) => {
                let to = self.add(to);
                self.push(Type::Ptr(to))
            }
            Node::Arr(elem, nelems) => {
                let elem = self.add(elem);
                let index = self.add(&Node::u32());
                self.push(Type::Array { elem, index, nelems: *nelems })
            }
            Node::Typedef(name, to) => {
                let to = self.add(to);
                self.push(Type::Typedef { name: name.clone(), to })
            }
            Node::Modifier(kind, to) => {
                let to = self.add(to);
                self.push(Type::Modifier { kind: *kind, to })
            }
            Node::TypeTag(text, to) => {
                let to = self.add(to);
                self.push(Type::TypeTag { text: text.clone(), to })
            }
            Node::Proto(ret, params) => {
                let params = params.iter().map(|(name, node)| (name.clone(), self.add(node))).collect();
                let ret = self.add(ret);
                self.push(Type::Proto { ret, params })
            }
            Node::Func(name, proto) => {
                let to = self.add(proto);
                self.push(Type::Func { name: name.clone(), to })
            }
            Node::Var(name, to) => {
                let to = self.add(to);
                self.push(Type::Var { name: name.clone(), to })
            }
            Node::DeclTag(text, to) => {
                let to = self.add(to);
                self.push(Type::DeclTag { text: text.clone(), to })
            }
            Node::Datasec(name, size) => self.push(Type::Datasec { name: name.clone(), size: *size }),
        };
        if cacheable(node) {
            self.known.insert(node.clone(), id);
        }
        id
    }

    fn add_comp(&mut self, comp: &Comp) -> u32 {
        // The id comes first, so that members can point back.
        let kflag = !comp.legacy && comp.members.iter().any(|m| m.bits > 0 && m.node.can_be_bitfield());
        let id = self.push(Type::Ptr(0));
        self.stack.push(id);
        let mut fields = Vec::with_capacity(comp.members.len());
        let (mut at, mut end, mut max_align) = (0_u64, 0_u64, 1);
        for m in &comp.members {
            let (size, align) = self.layout(&m.node);
            let size = u64::from(size);
            if comp.union {
                at = 0;
            }
            at += u64::from(m.gap);
            let bits = if m.node.can_be_bitfield() { m.bits } else { 0 };
            if bits > 0 && comp.legacy {
                let unit = (size * 8).max(8);
                if at % unit + u64::from(bits) > unit {
                    at = at.next_multiple_of(unit);
                }
                let type_id = self.add(&legacy_bitfield(&m.node, (at % unit) as u32, bits));
                let bit_offset = (at - at % unit) as u32;
                fields.push(Field { name: m.name.clone(), type_id, bit_offset, bits: 0 });
                at += u64::from(bits);
            } else if bits > 0 {
                let unit = size * 8;
                if !comp.packed && at % unit + u64::from(bits) > unit {
                    at = at.next_multiple_of(unit);
                }
                let type_id = self.add(&m.node);
                fields.push(Field { name: m.name.clone(), type_id, bit_offset: at as u32 & 0xff_ffff, bits });
                at += u64::from(bits);
            } else {
                at = at.next_multiple_of(if comp.packed { 8 } else { u64::from(align) * 8 });
                let type_id = self.add(&m.node);
                let bit_offset = if kflag { at as u32 & 0xff_ffff } else { at as u32 };
                fields.push(Field { name: m.name.clone(), type_id, bit_offset, bits: 0 });
                at += size * 8;
            }
            max_align = max_align.max(align);
            end = end.max(at);
        }
        self.stack.pop();
        let align = if comp.packed { 1 } else { u64::from(max_align) };
        let size = end.div_ceil(8).next_multiple_of(align) as u32;
        let slot = (id - self.first_id) as usize;
        self.types[slot] =
            Type::Composite { union: comp.union, name: comp.name.clone(), size, kflag, fields };
        id
    }

    /// Size and alignment in bytes.
    fn layout(&self, node: &Node) -> (u32, u32) {
        match node {
            Node::Int { name, .. } if self.pointer_size == 4 && matches!(*name, "long" | "unsigned long") => {
                (4, 4)
            }
            Node::Int { size, .. } | Node::Float { size, .. } | Node::Enum { size, .. } => {
                (*size, (*size).clamp(1, 8))
            }
            Node::Ptr(_) | Node::Up(_) => (self.pointer_size, self.pointer_size),
            Node::Arr(elem, n) => {
                let (size, align) = self.layout(elem);
                (size.wrapping_mul(*n), align)
            }
            Node::Comp(comp) => {
                let (mut at, mut end, mut max_align) = (0_u64, 0_u64, 1);
                for m in &comp.members {
                    let (size, align) = self.layout(&m.node);
                    let unit = (u64::from(size) * 8).max(8);
                    if comp.union {
                        at = 0;
                    }
                    at += u64::from(m.gap);
                    if m.bits > 0 && m.node.can_be_bitfield() {
                        if (comp.legacy || !comp.packed) && at % unit + u64::from(m.bits) > unit {
                            at = at.next_multiple_of(unit);
                        }
                        at += u64::from(m.bits);
                    } else {
                        at = at.next_multiple_of(if comp.packed { 8 } else { u64::from(align) * 8 });
                        at += u64::from(size) * 8;
                    }
                    max_align = max_align.max(align);
                    end = end.max(at);
                }
                let align = if comp.packed { 1 } else { max_align };
                (end.div_ceil(8).next_multiple_of(u64::from(align)) as u32, align)
            }
            Node::Typedef(_, to)
            | Node::Modifier(_, to)
            | Node::TypeTag(_, to)
            | Node::DeclTag(_, to)
            | Node::Var(_, to) => self.layout(to),
            Node::Datasec(_, size) => (*size, 1),
            Node::Void | Node::Fwd { .. } | Node::Proto(..) | Node::Func(..) => (0, 1),
        }
    }
}

/// Types without structs: the same tree gets the same id.
fn cacheable(node: &Node) -> bool {
    match node {
        Node::Comp(_) | Node::Up(_) => false,
        Node::Ptr(to)
        | Node::Arr(to, _)
        | Node::Typedef(_, to)
        | Node::Modifier(_, to)
        | Node::TypeTag(_, to)
        | Node::Func(_, to)
        | Node::DeclTag(_, to)
        | Node::Var(_, to) => cacheable(to),
        Node::Proto(ret, params) => cacheable(ret) && params.iter().all(|(_, p)| cacheable(p)),
        _ => true,
    }
}

/// The integer that describes a legacy bitfield itself.
fn legacy_bitfield(node: &Node, offset: u32, bits: u32) -> Node {
    match node.skip() {
        Node::Int { name, size, encoding, .. } => {
            Node::Int { name, size: *size, encoding: *encoding, offset, bits }
        }
        other => other.clone(),
    }
}
