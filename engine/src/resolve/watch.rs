//! What an answer rests on: of large types the few parts that were looked at.

use crate::btf::TypeId;

/// Is told which parts of the target's types decide an answer.
///
/// What a type says of itself (kind, name, size, encoding, number of elements) always counts, and so does what it is
/// made of by value, modifiers and arrays; that goes without saying. Of members and enumerators only those count that
/// are told here. A target that has these, in their order, and any others of the same type gives the same answer.
pub trait Watch {
    /// Member number `index` of a STRUCT or UNION was what was looked for, or it leads there, or to an error.
    fn member(&mut self, _container: TypeId, _index: u32) {}

    /// Enumerator number `index` is what was looked for.
    fn enumerator(&mut self, _of: TypeId, _index: u32) {}

    /// A type has to keep so many of its members or enumerators, whichever.
    fn at_least(&mut self, _id: TypeId, _count: u32) {}

    /// What a PTR points to, or what a FUNC_PROTO takes and returns, was looked at.
    fn behind(&mut self, _id: TypeId) {}

    /// How often it was told anything.
    fn told(&self) -> usize {
        0
    }
}

impl Watch for () {}

impl<W: Watch> Watch for &mut W {
    fn member(&mut self, container: TypeId, index: u32) {
        (**self).member(container, index);
    }

    fn enumerator(&mut self, of: TypeId, index: u32) {
        (**self).enumerator(of, index);
    }

    fn at_least(&mut self, id: TypeId, count: u32) {
        (**self).at_least(id, count);
    }

    fn behind(&mut self, id: TypeId) {
        (**self).behind(id);
    }

    fn told(&self) -> usize {
        (**self).told()
    }
}
