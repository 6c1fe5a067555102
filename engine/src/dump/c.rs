//! Types as C: definitions in an order in which they compile, laid out as the BTF says.
//!
//! Structs that are only pointed to are declared, all else is defined before it is used. Names that several types have are
//! numbered, as libbpf does it (`___2`).
//!
//! Source: what `btf_dump__dump_type`, `btf_dump.c`, libbpf, writes; the algorithm is not its own.

use std::cell::RefCell;
use std::fmt::Write;

use hashbrown::HashSet;

use super::layout::{Layout, Layouts, padding};
use super::names::{Names, identifier};
use crate::btf::{Btf, Type, TypeId};
use crate::format::btf::Kind;

/// Steps along pointers, arrays, modifiers and prototypes in one declaration.
const CHAIN_MAX: usize = 256;
/// Anonymous structs and prototypes within each other.
const NESTING_MAX: usize = 64;
/// **Bytes** of C at which a stop is made: anonymous types may be in each other so that they are written endlessly often.
const TEXT_MAX: usize = 1 << 30;
/// Types looked at for the order, for the same reason.
const STEPS_MAX: u64 = 1 << 28;

/// Why types cannot be written as C. Compilers and pahole make no such BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// A declaration of more steps than anybody writes.
    #[error("type [{id}] is declared by more than {CHAIN_MAX} types, or through {NESTING_MAX} in each other")]
    TooDeep {
        /// The type.
        id: TypeId,
    },
    /// Much more text than there are types.
    #[error("types are in each other so often that the text would not end")]
    TooLong,
}

/// **Bits** of padding from which on it is an array.
const PADDING_ARRAY: u64 = 4096;

const HEAD: &str = "#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

";
const FOOT: &str = "#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
";

/// A header with `wanted` types and all that they need, in this order as far as that goes. Enums without a name that are
/// part of nothing come last: where such types stand between the others is of no meaning, and packs do not know it.
///
/// # Errors
/// [`DumpError`].
pub fn c_source(btf: &Btf<'_>, wanted: impl IntoIterator<Item = TypeId>) -> Result<String, DumpError> {
    let mut dump = Dump {
        part_of: anonymous_enums_in_types(btf),
        enums_written: RefCell::default(),
        btf,
        names: Names::of(btf),
        layouts: Layouts::new(btf),
        declared: HashSet::new(),
        defined: HashSet::new(),
        steps: 0,
        out: HEAD.to_owned(),
    };
    let mut enums = Vec::new();
    let mut named = Vec::new();
    for id in wanted {
        let id = dump.names.declared(id);
        match btf.ty(id) {
            Some(ty) if !btf.is_anonymous(ty.name_off) => named.push(id),
            Some(ty) if ty.kind.is_any_enum() && !dump.part_of.contains(&id) => enums.push(id),
            // It is written where it is used.
            _ => {}
        }
    }
    for id in named.into_iter().chain(enums) {
        let needs = match btf.ty(id).map(|it| it.kind) {
            Some(Kind::Fwd) => vec![Need::Declared(id)],
            _ => vec![Need::Defined(id)],
        };
        dump.write_all(needs)?;
    }
    dump.out.push_str(FOOT);
    Ok(dump.out)
}

/// What has to be written before something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Declared(TypeId),
    Defined(TypeId),
}

/// A definition whose needs are being written.
struct Pending {
    id: TypeId,
    needs: std::vec::IntoIter<Need>,
}

struct Dump<'b, 'data> {
    btf: &'b Btf<'data>,
    names: Names,
    layouts: Layouts<'b, 'data>,
    /// Structs and unions that have been mentioned.
    declared: HashSet<TypeId>,
    /// Types that have been defined, or are about to.
    defined: HashSet<TypeId>,
    /// Enums without a name that stand in the declarations of other types.
    part_of: HashSet<TypeId>,
    /// Those that have been written: an enumerator is defined once.
    enums_written: RefCell<HashSet<TypeId>>,
    steps: u64,
    out: String,
}

impl<'data> Dump<'_, 'data> {
    /// Writes all that is needed, and first what that needs.
    fn write_all(&mut self, needs: Vec<Need>) -> Result<(), DumpError> {
        let mut pending = vec![Pending { id: TypeId::VOID, needs: needs.into_iter() }];
        while let Some(top) = pending.last_mut() {
            match top.needs.next() {
                Some(Need::Declared(id)) => self.declare(id)?,
                // What needs itself goes without: C has no such types.
                Some(Need::Defined(id)) => {
                    if self.defined.insert(id) {
                        let needs = self.needs_of_definition(id)?.into_iter();
                        pending.push(Pending { id, needs });
                    }
                }
                None => {
                    let id = top.id;
                    pending.pop();
                    self.define(id)?;
                }
            }
        }
        Ok(())
    }

    fn ty(&self, id: TypeId) -> Option<Type<'data>> {
        self.btf.ty(id)
    }

    fn needs_of_definition(&mut self, id: TypeId) -> Result<Vec<Need>, DumpError> {
        let mut needs = Vec::new();
        match self.ty(id) {
            Some(ty) if ty.kind.is_composite() => {
                self.needs_of_members(id, ty, NESTING_MAX, &mut needs)?;
                // Its own name is declared where it begins.
                needs.retain(|it| *it != Need::Declared(id));
            }
            // A typedef's struct may come later.
            Some(ty) if ty.kind == Kind::Typedef => {
                self.needs_of(ty.target(), false, NESTING_MAX, &mut needs)?;
            }
            _ => {}
        }
        Ok(needs)
    }

    fn needs_of_members(
        &mut self,
        id: TypeId,
        ty: Type<'data>,
        nesting: usize,
        needs: &mut Vec<Need>,
    ) -> Result<(), DumpError> {
        let nesting = nesting.checked_sub(1).ok_or(DumpError::TooDeep { id })?;
        ty.members().try_for_each(|it| self.needs_of(it.type_id, true, nesting, needs))
    }

    /// What a declaration of a type needs. `whole`: its size counts.
    fn needs_of(
        &mut self,
        id: TypeId,
        mut whole: bool,
        nesting: usize,
        needs: &mut Vec<Need>,
    ) -> Result<(), DumpError> {
        let mut at = id;
        for _ in 0..CHAIN_MAX {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(DumpError::TooLong);
            }
            at = self.names.declared(at);
            let Some(ty) = self.ty(at) else { return Ok(()) };
            let is_anonymous = self.names.get(at).is_none();
            match ty.kind {
                Kind::Ptr => whole = false,
                Kind::Array => {
                    // Not even a pointer to an array does without the size of an element.
                    (whole, at) = (true, ty.array().elem);
                    continue;
                }
                Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag => {}
                Kind::Typedef => {
                    needs.push(Need::Defined(at));
                    if !whole {
                        return Ok(());
                    }
                }
                Kind::FuncProto => {
                    let nesting = nesting.checked_sub(1).ok_or(DumpError::TooDeep { id })?;
                    for param in ty.params() {
                        self.needs_of(param.type_id, false, nesting, needs)?;
                    }
                    whole = false;
                }
                Kind::Struct | Kind::Union if is_anonymous => {
                    return self.needs_of_members(at, ty, nesting, needs);
                }
                Kind::Struct | Kind::Union => {
                    needs.push(if whole { Need::Defined(at) } else { Need::Declared(at) });
                    return Ok(());
                }
                Kind::Fwd => {
                    needs.push(Need::Declared(at));
                    return Ok(());
                }
                Kind::Enum | Kind::Enum64 | Kind::Int | Kind::Float => {
                    if !is_anonymous {
                        needs.push(Need::Defined(at));
                    }
                    return Ok(());
                }
                _ => return Ok(()),
            }
            at = ty.target();
        }
        Err(DumpError::TooDeep { id })
    }

    fn push(&mut self, text: &str) -> Result<(), DumpError> {
        self.out.push_str(text);
        if self.out.len() > TEXT_MAX { Err(DumpError::TooLong) } else { Ok(()) }
    }

    fn declare(&mut self, id: TypeId) -> Result<(), DumpError> {
        if !self.declared.insert(id) {
            return Ok(());
        }
        let Some(ty) = self.ty(id) else { return Ok(()) };
        let text = format!("{} {};\n\n", keyword(ty), self.names.get(id).unwrap_or_default());
        self.push(&text)
    }

    fn define(&mut self, id: TypeId) -> Result<(), DumpError> {
        let Some(ty) = self.ty(id) else { return Ok(()) };
        let name = self.names.get(id).unwrap_or_default().to_owned();
        let text = match ty.kind {
            Kind::Struct | Kind::Union if !name.is_empty() => {
                self.declared.insert(id);
                format!("{};\n\n", self.composite(id, ty, &name, 0, NESTING_MAX)?)
            }
            Kind::Enum | Kind::Enum64 => match self.enumeration(id, ty, 0) {
                text if ty.vlen() > 0 => format!("{text};\n\n"),
                _ => return Ok(()),
            },
            Kind::Typedef => match name.as_str() {
                // The compiler's own.
                "__builtin_va_list" => return Ok(()),
                "__gnuc_va_list" => "typedef __builtin_va_list __gnuc_va_list;\n\n".into(),
                _ => format!("typedef {};\n\n", self.declaration(ty.target(), name, 0, NESTING_MAX)?),
            },
            // Of other languages than C.
            Kind::Int | Kind::Float if !name.is_empty() => format!("typedef {} {name};\n\n", number(ty)),
            _ => return Ok(()),
        };
        self.push(&text)
    }

    /// `struct name { … }` without a semicolon; `name` may be empty.
    fn composite(
        &self,
        id: TypeId,
        ty: Type<'data>,
        name: &str,
        indent: usize,
        nesting: usize,
    ) -> Result<String, DumpError> {
        let nesting = nesting.checked_sub(1).ok_or(DumpError::TooDeep { id })?;
        let layout = self.layouts.of(id);
        let (placed, end) = self.layouts.members(ty, layout);
        let inner = "\t".repeat(indent + 1);
        let mut text = keyword(ty).to_owned();
        if !name.is_empty() {
            text.push(' ');
            text.push_str(name);
        }
        text.push_str(" {");
        let mut is_empty = true;
        let mut line = |text: &mut String, what: &str| {
            text.push('\n');
            text.push_str(&inner);
            text.push_str(what);
            text.push(';');
            is_empty = false;
        };
        for (member, placed) in ty.members().zip(placed) {
            if let Some((from, to)) = placed.padding {
                pad(&mut text, &mut line, from, to, layout);
            }
            let name = self.btf.name(member.name_off);
            let mut declared = match self.btf.skip_mods_and_typedefs(member.type_id) {
                // Compilers have an extension for a member without a name that has a type with one; this says the same.
                Some((id, ty)) if name.is_empty() && ty.kind.is_composite() => {
                    self.composite(id, ty, "", indent + 1, nesting)?
                }
                _ => {
                    let name = if name.is_empty() { String::new() } else { identifier(name) };
                    self.declaration(member.type_id, name, indent + 1, nesting)?
                }
            };
            if let Some(bits) = placed.bits {
                let _ = write!(declared, ": {bits}");
            }
            line(&mut text, &declared);
            if text.len() > TEXT_MAX {
                return Err(DumpError::TooLong);
            }
        }
        let size = u64::from(ty.size()) * 8;
        if end.next_multiple_of(8 * u64::from(layout.align)) < size {
            if ty.kind == Kind::Union {
                line(&mut text, &format!("char __size[{}]", ty.size()));
            } else {
                pad(&mut text, &mut line, end, size, layout);
            }
        }
        if !is_empty {
            text.push('\n');
            text.push_str(&"\t".repeat(indent));
        }
        text.push('}');
        if layout.is_packed && ty.size() > 0 && ty.vlen() > 0 {
            text.push_str(" __attribute__((packed))");
        }
        Ok(text)
    }

    /// `enum name { … }` without a semicolon.
    fn enumeration(&self, id: TypeId, ty: Type<'data>, indent: usize) -> String {
        let mut text = "enum".to_owned();
        if let Some(name) = self.names.get(id) {
            text.push(' ');
            text.push_str(name);
        }
        text.push_str(" {");
        let inner = "\t".repeat(indent + 1);
        let mut is_wide = false;
        for (it, name) in ty.enumerators().zip(self.names.enumerators(id)) {
            let signed = it.value.cast_signed();
            is_wide |= i32::try_from(signed).is_err() && u32::try_from(it.value).is_err();
            let value = match (ty.kind, ty.kind_flag()) {
                (Kind::Enum, true) => signed.to_string(),
                (Kind::Enum, false) => (it.value & 0xffff_ffff).to_string(),
                // The least number has no literal of its own.
                (_, true) if signed == i64::MIN => "-9223372036854775807LL - 1".into(),
                (_, true) => format!("{signed}LL"),
                (_, false) => format!("{}ULL", it.value),
            };
            let _ = write!(text, "\n{inner}{name} = {value},");
        }
        text.push('\n');
        text.push_str(&"\t".repeat(indent));
        text.push('}');
        text.push_str(match ty.size() {
            1 => " __attribute__((mode(byte)))",
            2 => " __attribute__((mode(HI)))",
            8 if !is_wide => " __attribute__((mode(DI)))",
            _ => "",
        });
        text
    }

    /// `name` declared to be of a type: `const char *name[4]`. Without a name, the type by itself.
    fn declaration(
        &self,
        id: TypeId,
        name: String,
        indent: usize,
        nesting: usize,
    ) -> Result<String, DumpError> {
        let (mut inner, mut at) = (name, id);
        // Of the type that comes next, and whether a star stands at the front of what there is.
        let (mut modifiers, mut is_pointer) = (String::new(), false);
        for _ in 0..CHAIN_MAX {
            at = self.names.declared(at);
            let Some(ty) = self.ty(at) else { break };
            match ty.kind {
                Kind::Const | Kind::Volatile | Kind::Restrict => {
                    // C has it with two underscores in older versions too.
                    let word = if ty.kind == Kind::Restrict { "restrict" } else { ty.kind.name() };
                    if !modifiers.split(' ').any(|it| it == word) {
                        modifiers.push_str(word);
                        modifiers.push(' ');
                    }
                    at = ty.target();
                }
                Kind::TypeTag => at = ty.target(),
                Kind::Ptr => {
                    inner = format!("*{}{inner}", std::mem::take(&mut modifiers));
                    (is_pointer, at) = (true, ty.target());
                }
                Kind::Array => {
                    inner = format!("{}[{}]", in_parentheses(inner, is_pointer), ty.array().nelems);
                    (is_pointer, at) = (false, ty.array().elem);
                }
                Kind::FuncProto => {
                    let nesting = nesting.checked_sub(1).ok_or(DumpError::TooDeep { id })?;
                    let count = ty.params().len();
                    let param = |(number, it): (usize, crate::btf::Param)| match it.type_id {
                        TypeId::VOID if number + 1 == count => Ok("...".to_owned()),
                        id => self.declaration(id, String::new(), indent, nesting),
                    };
                    let params = ty.params().enumerate().map(param).collect::<Result<Vec<_>, _>>()?;
                    // One that takes anything has no other parameter in C.
                    let params = match params.as_slice() {
                        [] => "void".to_owned(),
                        [only] if only == "..." => String::new(),
                        all => all.join(", "),
                    };
                    inner = format!("{}({params})", in_parentheses(inner, is_pointer));
                    modifiers.clear();
                    (is_pointer, at) = (false, ty.target());
                }
                _ => {
                    let base = self.base(at, ty, indent, nesting)?;
                    // On anything but pointers this is no C.
                    let modifiers = modifiers.replace("restrict ", "");
                    let space = if inner.is_empty() { "" } else { " " };
                    return Ok(format!("{modifiers}{base}{space}{inner}"));
                }
            }
            if inner.len() > TEXT_MAX {
                return Err(DumpError::TooLong);
            }
        }
        Err(DumpError::TooDeep { id })
    }

    /// What a declaration begins with.
    fn base(&self, id: TypeId, ty: Type<'data>, indent: usize, nesting: usize) -> Result<String, DumpError> {
        let name = self.names.get(id);
        Ok(match (ty.kind, name) {
            (Kind::Struct | Kind::Union, None) => self.composite(id, ty, "", indent, nesting)?,
            // One without a value is declared somewhere else, and has a size.
            (Kind::Enum | Kind::Enum64, _) if ty.vlen() == 0 => number(ty).to_owned(),
            (Kind::Enum | Kind::Enum64, None) if !self.enums_written.borrow_mut().insert(id) => {
                number(ty).to_owned()
            }
            (Kind::Enum | Kind::Enum64, None) => self.enumeration(id, ty, indent),
            (Kind::Struct | Kind::Union | Kind::Fwd | Kind::Enum | Kind::Enum64, Some(name)) => {
                format!("{} {name}", keyword(ty))
            }
            (Kind::Typedef | Kind::Int | Kind::Float, Some(name)) => name.to_owned(),
            (Kind::Int | Kind::Float, None) => {
                String::from_utf8_lossy(self.btf.name(ty.name_off)).into_owned()
            }
            _ => "void".to_owned(),
        })
    }
}

/// Enums without a name that some type is declared with.
fn anonymous_enums_in_types(btf: &Btf<'_>) -> HashSet<TypeId> {
    let mut found = HashSet::new();
    for id in (1..btf.type_count()).map(TypeId) {
        let Some(ty) = btf.ty(id) else { continue };
        let refers = ty.kind.is_mod_or_typedef() || matches!(ty.kind, Kind::Ptr | Kind::FuncProto);
        let target = refers.then(|| ty.target());
        let elem = (ty.kind == Kind::Array).then(|| ty.array().elem);
        let all = ty.members().map(|it| it.type_id).chain(ty.params().map(|it| it.type_id));
        let is_one = |id: &TypeId| {
            btf.ty(*id).is_some_and(|it| it.kind.is_any_enum() && btf.is_anonymous(it.name_off))
        };
        found.extend(all.chain(target).chain(elem).filter(is_one));
    }
    found
}

/// `(*name)` where what follows would bind to the name and not to the star.
fn in_parentheses(inner: String, is_pointer: bool) -> String {
    if is_pointer { format!("({inner})") } else { inner }
}

fn keyword(ty: Type<'_>) -> &'static str {
    match ty.kind {
        Kind::Union => "union",
        Kind::Fwd if ty.kind_flag() => "union",
        Kind::Enum | Kind::Enum64 => "enum",
        _ => "struct",
    }
}

/// C's number of the same size and sign.
fn number(ty: Type<'_>) -> &'static str {
    match (ty.kind, ty.size(), ty.is_signed()) {
        (Kind::Float, 4, _) => "float",
        (Kind::Float, 16, _) => "long double",
        (Kind::Float, ..) => "double",
        (_, 1, true) => "signed char",
        (_, 1, false) => "unsigned char",
        (_, 2, true) => "short",
        (_, 2, false) => "unsigned short",
        (_, 8, true) => "long long",
        (_, 8, false) => "unsigned long long",
        (_, 16, true) => "__int128",
        (_, 16, false) => "unsigned __int128",
        (_, _, true) => "int",
        (_, _, false) => "unsigned int",
    }
}

/// Writes padding, as bitfields without a name.
fn pad(text: &mut String, line: &mut impl FnMut(&mut String, &str), from: u64, to: u64, layout: Layout) {
    let (start, end) = (from.next_multiple_of(8), to - to % 8);
    // Much of it is one array.
    let array = (end.saturating_sub(start) >= PADDING_ARRAY).then_some((start, end));
    let fields = match array {
        Some((start, end)) => vec![(from, start), (end, to)],
        None => vec![(from, to)],
    };
    for (number, (from, to)) in fields.into_iter().enumerate() {
        if let Some((start, end)) = array.filter(|_| number == 1) {
            line(text, &format!("char __padding_{}[{}]", start / 8, (end - start) / 8));
        }
        for (name, bits) in padding(from, to, layout) {
            line(text, &format!("{name}: {bits}"));
        }
    }
}
