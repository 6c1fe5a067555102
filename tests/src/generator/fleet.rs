//! Cases of many objects and many kernels: variants of one case's types that are mostly alike.
#![expect(clippy::indexing_slicing, reason = "indices are below the lengths they were drawn from")]
#![expect(clippy::cast_possible_truncation, reason = "a handful of types is counted")]

use super::rng::Rng;
use super::{Case, Site, Type};
use crate::build::{ByteOrder, Insn};

/// Types of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FleetKernel {
    /// Types of vmlinux.
    pub target: Vec<Type>,
    /// Types of each module; their ids continue those of `target`.
    pub modules: Vec<Vec<Type>>,
}

/// Several objects and several kernels of one byte order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FleetCase {
    /// Byte order of everything.
    pub order: ByteOrder,
    /// What the objects are made of: local types and records.
    pub objects: Vec<Case>,
    /// The kernels.
    pub kernels: Vec<FleetKernel>,
}

impl FleetCase {
    /// The case of a seed: always the same. It has 3 to 5 objects and 4 to 8 kernels.
    ///
    /// Objects share local types, some under other ids, and have some records in common. A kernel is another one with
    /// few changes or none, its types in another order now and then.
    #[must_use]
    pub fn generate(order: ByteOrder, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x000f_1ee7);
        let rng = &mut rng;
        let base = Case::generate_in(order, seed);
        let mut first = FleetKernel { target: base.target.clone(), modules: base.modules.clone() };
        if rng.chance(40) {
            first.move_to_modules(rng);
        }
        let mut kernels = vec![first];
        for _ in 0..rng.range(3, 7) {
            let mut kernel = kernels[rng.index(kernels.len())].clone();
            for _ in 0..*rng.pick(&[0, 0, 1, 1, 1, 2, 4]) {
                kernel.edit(rng);
            }
            if rng.chance(35) {
                kernel.target = kernel.permuted(rng);
            }
            // Several modules that have a type of the same name, which is not always the same type.
            if !kernel.modules.is_empty() && kernel.modules.len() < 4 && rng.chance(50) {
                kernel.modules.push(kernel.modules[rng.index(kernel.modules.len())].clone());
                (0..rng.below(4)).for_each(|_| kernel.edit(rng));
            }
            if rng.chance(20) {
                kernel.modules.reverse();
            }
            kernels.push(kernel);
        }
        let mut objects = vec![base.clone()];
        for _ in 0..rng.range(1, 3) {
            let mut object = base.clone();
            object.records.retain(|_| rng.chance(60));
            for _ in 0..rng.below(4) {
                let n = object.records.len();
                if n > 0 {
                    object.records.swap(rng.index(n), rng.index(n));
                }
            }
            if rng.chance(50) {
                renumber(rng, &mut object);
            }
            objects.push(object);
        }
        // Roots of the same names, and other questions about them.
        objects.push(Case::generate_in(order, seed ^ 1));
        for object in &mut objects {
            // Where records share an instruction, all of an object's records are folded together.
            if rng.chance(70) {
                for record in &mut object.records {
                    record.site = Site::Own;
                    // Apart from the next one, whatever the instruction is.
                    record.insns.push(Insn::mov(0, 0));
                }
            }
        }
        objects.retain(|object| !object.records.is_empty());
        Self { order, objects, kernels }
    }

    /// The bytes of a kernel's BTF, and of its modules'.
    ///
    /// # Panics
    /// If there is no such kernel.
    #[must_use]
    pub fn btfs(&self, kernel: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let FleetKernel { target, modules } = self.kernels[kernel].clone();
        let case =
            Case { seed: 0, order: self.order, local: Vec::new(), target, modules, records: Vec::new() };
        (case.target_btf(), case.module_btfs())
    }
}

impl FleetKernel {
    /// Makes one small change.
    fn edit(&mut self, rng: &mut Rng) {
        let in_module = rng.chance(40);
        let module = rng.index(self.modules.len());
        let is_target = !in_module || self.modules.get(module).is_none_or(Vec::is_empty);
        if rng.chance(25) {
            return self.add_candidate(rng, (!is_target).then_some(module));
        }
        let types = if is_target { &mut self.target } else { &mut self.modules[module] };
        // Whatever is at hand: not every type can be changed.
        for _ in 0..20 {
            let at = rng.index(types.len());
            if types.get_mut(at).is_some_and(|ty| edit(rng, ty)) {
                return;
            }
        }
    }

    /// Moves all versions of some struct, union or enum from vmlinux to two modules.
    fn move_to_modules(&mut self, rng: &mut Rng) {
        self.modules.resize(2, Vec::new());
        let is_root = |ty: &Type| matches!(ty, Type::Composite { .. } | Type::Enum { .. });
        let named = self.target.iter().filter(|ty| is_root(ty)).filter_map(name);
        let named: Vec<String> = named.filter(|it| !it.is_empty()).map(ToOwned::to_owned).collect();
        if named.is_empty() {
            return;
        }
        let wanted = rng.pick(&named).clone();
        let wanted = wanted.split("___").next().filter(|it| !it.is_empty()).unwrap_or(&wanted);
        for ty in &mut self.target {
            if !name(ty).is_some_and(|it| it == wanted || it.starts_with(&format!("{wanted}___"))) {
                continue;
            }
            for module in &mut self.modules {
                let mut copy = ty.clone();
                if rng.chance(40) {
                    edit(rng, &mut copy);
                }
                module.push(copy);
            }
            if let Some(name) = name_mut(ty) {
                "moved".clone_into(name);
            }
        }
    }

    /// Adds a version of a named type under the same essential name, behind all others.
    fn add_candidate(&mut self, rng: &mut Rng, module: Option<usize>) {
        let types = module.map_or(&self.target, |it| &self.modules[it]);
        let named: Vec<&Type> = types.iter().filter(|ty| name(ty).is_some_and(|it| !it.is_empty())).collect();
        if named.is_empty() {
            return;
        }
        let mut new = (*rng.pick(&named)).clone();
        if rng.chance(50) {
            edit(rng, &mut new);
        }
        if let Some(name) = name_mut(&mut new)
            && rng.chance(60)
        {
            *name = format!("{name}___new{}", rng.below(2));
        }
        match module {
            Some(module) => self.modules[module].push(new),
            None => {
                let first = self.target.len() as u32 + 1;
                self.target.push(new);
                for ty in self.modules.iter_mut().flatten() {
                    for id in refs(ty) {
                        *id += u32::from(*id >= first);
                    }
                }
            }
        }
    }

    /// The types of vmlinux in another order; modules are told.
    fn permuted(&mut self, rng: &mut Rng) -> Vec<Type> {
        let (target, ids) = permuted(rng, &self.target);
        for ty in self.modules.iter_mut().flatten() {
            for id in refs(ty) {
                *id = ids.get(*id as usize).copied().unwrap_or(*id);
            }
        }
        target
    }
}

/// Puts types in another order: they, and by old id the new one.
#[must_use]
pub fn permuted(rng: &mut Rng, types: &[Type]) -> (Vec<Type>, Vec<u32>) {
    let mut order: Vec<usize> = (0..types.len()).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, rng.index(at + 1));
    }
    let mut ids = vec![0; types.len() + 1];
    for (&old, new) in order.iter().zip(1..) {
        ids[old + 1] = new;
    }
    let new = order.iter().map(|&old| {
        let mut ty = types[old].clone();
        for id in refs(&mut ty) {
            *id = ids.get(*id as usize).copied().unwrap_or(*id);
        }
        ty
    });
    (new.collect(), ids)
}

/// Gives an object's local types other ids.
fn renumber(rng: &mut Rng, object: &mut Case) {
    let (local, ids) = permuted(rng, &object.local);
    object.local = local;
    for record in &mut object.records {
        let Some(&new) = ids.get(record.type_id as usize) else { continue };
        // The instruction holds the local id there.
        if matches!(record.kind, 6 | 7)
            && let Some(insn) = record.insns.first_mut()
            && insn.imm.cast_unsigned() == record.type_id
        {
            insn.imm = new.cast_signed();
        }
        record.type_id = new;
    }
}

/// The ids that a type refers to.
fn refs(ty: &mut Type) -> Vec<&mut u32> {
    match ty {
        Type::Ptr(to)
        | Type::Typedef { to, .. }
        | Type::Modifier { to, .. }
        | Type::TypeTag { to, .. }
        | Type::Func { to, .. }
        | Type::Var { to, .. }
        | Type::DeclTag { to, .. } => vec![to],
        Type::Array { elem, index, .. } => vec![elem, index],
        Type::Composite { fields, .. } => fields.iter_mut().map(|it| &mut it.type_id).collect(),
        Type::Proto { ret, params } => {
            std::iter::once(ret).chain(params.iter_mut().map(|(_, id)| id)).collect()
        }
        Type::Int { .. }
        | Type::Enum { .. }
        | Type::Fwd { .. }
        | Type::Float { .. }
        | Type::Datasec { .. } => Vec::new(),
    }
}

fn name_mut(ty: &mut Type) -> Option<&mut String> {
    match ty {
        Type::Composite { name, .. }
        | Type::Enum { name, .. }
        | Type::Fwd { name, .. }
        | Type::Typedef { name, .. }
        | Type::Float { name, .. } => Some(name),
        _ => None,
    }
}

fn name(ty: &Type) -> Option<&str> {
    match ty {
        Type::Composite { name, .. }
        | Type::Enum { name, .. }
        | Type::Fwd { name, .. }
        | Type::Typedef { name, .. }
        | Type::Float { name, .. } => Some(name),
        _ => None,
    }
}

/// Changes one type a little, so that its shape is another one. Says whether it could.
///
/// Integers keep their sizes, since that of `long` decides about pointers, and references lead to types of the same
/// list, so that nothing contains itself that did not before.
pub fn edit(rng: &mut Rng, ty: &mut Type) -> bool {
    if let (true, Some(name)) = (rng.chance(8), name_mut(ty)) {
        // No candidate any more, or one of another flavour.
        *name = if rng.chance(50) || name.is_empty() { "gone".to_owned() } else { format!("{name}___x9") };
        return true;
    }
    match ty {
        Type::Composite { fields, size, kflag, .. } => {
            let n = fields.len();
            let (at, other) = (rng.index(n), rng.index(n));
            match rng.below(8) {
                0..=2 if n > 0 => {
                    let moved = fields[at].bit_offset.wrapping_add(*rng.pick(&[8, 32, 64, 1]));
                    fields[at].bit_offset = if *kflag { moved & 0xff_ffff } else { moved };
                }
                3 if n > 0 => fields[at].name = format!("was_{at}"),
                4 if n > 0 && fields[at].bits == 0 && fields[other].type_id != fields[at].type_id => {
                    fields[at].type_id = fields[other].type_id;
                }
                5 if n > 0 => drop(fields.remove(at)),
                6 if n > 0 && fields[at].bits > 1 => fields[at].bits -= 1,
                _ => *size += 8,
            }
        }
        Type::Enum { values, signed, .. } => {
            let n = values.len();
            let at = rng.index(n);
            match rng.below(4) {
                0 if n > 0 => values[at].1 ^= 1,
                1 if n > 0 => values[at].0 = format!("WAS_{at}"),
                2 if n > 1 => drop(values.remove(at)),
                _ => *signed = !*signed,
            }
        }
        Type::Array { nelems, .. } => {
            *nelems = if rng.chance(50) && *nelems > 0 { *nelems - 1 } else { *nelems + 1 }
        }
        Type::Int { encoding, .. } => *encoding ^= 1,
        Type::Fwd { union, .. } => *union = !*union,
        Type::Typedef { name, .. } => name.push_str("_t"),
        Type::Proto { params, .. } if !params.is_empty() => drop(params.pop()),
        Type::Float { size, .. } => *size = if *size == 4 { 8 } else { 4 },
        Type::Datasec { size, .. } => *size += 1,
        _ => return false,
    }
    true
}
