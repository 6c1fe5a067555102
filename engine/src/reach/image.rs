//! A program as the kernel gets it: its own instructions, and behind them the functions that it calls.
//!
//! Source: `bpf_object__reloc_code`, `bpf_object__append_subprog_code`, libbpf; spec 2.5.

use hashbrown::HashMap;

use super::live;
use crate::format::insn::{INSN_LEN, Insn};
use crate::object::{Object, Reference};

/// A linked program.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its instruction slots.
    pub slots: Vec<Slot>,
    /// Its functions, the entry first, in the order in which they are linked.
    pub functions: Vec<Function>,
    /// By number in [`Object::programs`]: its number among the functions.
    function_of: HashMap<usize, usize>,
    /// By record of the object: its slot.
    slot_of_record: HashMap<usize, usize>,
}

/// One instruction slot.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The instruction as it stands in the file.
    pub insn: Insn,
    /// What it refers to by an ELF relocation, or as a call.
    pub reference: Option<Reference>,
    /// Number of its function in [`Image::functions`].
    pub function: usize,
    /// Where it stands in the function's section, in **bytes**.
    pub offset: u64,
}

/// One function of a linked program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its number in [`Object::programs`].
    pub program: usize,
    /// Its first slot.
    pub start: usize,
    /// The slot behind its last.
    pub end: usize,
    /// Whether the kernel verifies it on its own, with unknown arguments.
    pub is_global: bool,
}

impl Image {
    /// Links entry program number `program` of an object.
    pub fn link(object: &Object<'_>, program: usize) -> Self {
        let mut this = Self {
            slots: Vec::new(),
            functions: Vec::new(),
            function_of: HashMap::new(),
            slot_of_record: HashMap::new(),
        };
        // Calls of global functions are judged apart where the BTF says that they are global.
        let is_global = if object.btf().is_some() { object.global_functions() } else { Vec::new() };
        // libbpf appends a function where it is first met, and then what that calls.
        let mut pending = vec![program];
        while let Some(function) = pending.pop() {
            if this.function_of.contains_key(&function) {
                continue;
            }
            let callees = this.append(object, function, is_global.get(function) == Some(&true));
            pending.extend(callees.into_iter().rev());
        }
        for (record, reloc) in object.relocs().iter().enumerate() {
            let place = reloc.program.and_then(|it| this.functions.get(*this.function_of.get(&it)?));
            let start = place.and_then(|it| Some((it, object.programs().get(it.program)?.offset)));
            let Some((function, start)) = start else { continue };
            let slot = u64::from(reloc.insn_off).checked_sub(start).map(|it| it / INSN_LEN as u64);
            if let Some(slot) = slot.and_then(|it| usize::try_from(it).ok()) {
                this.slot_of_record.insert(record, function.start + slot);
            }
        }
        this
    }

    /// An image of one's own making, without records.
    #[cfg(test)]
    pub(super) fn of(slots: Vec<Slot>, functions: Vec<Function>) -> Self {
        Self { slots, functions, function_of: HashMap::new(), slot_of_record: HashMap::new() }
    }

    /// Appends a function, and returns those that it calls or takes the address of, in order.
    fn append(&mut self, object: &Object<'_>, function: usize, is_global: bool) -> Vec<usize> {
        let Some(program) = object.programs().get(function) else { return Vec::new() };
        let references = object.references(function);
        let (start, number) = (self.slots.len(), self.functions.len());
        self.function_of.insert(function, number);
        let mut callees = Vec::new();
        let slots = object.slots(program).unwrap_or_default();
        for (offset, bytes) in (program.offset..).step_by(INSN_LEN).zip(slots) {
            let reference = references.get(&offset).copied();
            if let Some(Reference::Function(callee)) = reference {
                callees.push(callee);
            }
            let insn = Insn::decode(*bytes, object.endian());
            self.slots.push(Slot { insn, reference, function: number, offset });
        }
        self.functions.push(Function { program: function, start, end: self.slots.len(), is_global });
        callees
    }

    /// The slot of a record's instruction; `None` if it is in no function of the program.
    pub fn slot_of_record(&self, record: usize) -> Option<usize> {
        self.slot_of_record.get(&record).copied()
    }

    /// Records of the program's instructions, with their slots, in no order.
    pub fn records(&self) -> impl Iterator<Item = (usize, usize)> {
        self.slot_of_record.iter().map(|(record, slot)| (*record, *slot))
    }

    /// By slot: the registers that may be read from there on within the function, a bit for each.
    pub fn live_registers(&self) -> Vec<u16> {
        live::registers(self)
    }

    /// The function that a reference leads to: its number in [`Image::functions`].
    pub(crate) fn callee(&self, reference: Option<Reference>) -> Option<usize> {
        let Some(Reference::Function(program)) = reference else { return None };
        self.function_of.get(&program).copied()
    }
}
