//! A case as text: types as BTF dumps show them, records with their instructions.

use std::fmt;

use super::{Case, CaseRecord, Field, Type};
use crate::build::Insn;

const KINDS: [&str; 13] = [
    "byte_off",
    "byte_sz",
    "field_exists",
    "signed",
    "lshift_u64",
    "rshift_u64",
    "local_type_id",
    "target_type_id",
    "type_exists",
    "type_size",
    "enumval_exists",
    "enumval_value",
    "type_matches",
];

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [{}] @{}", or_anon(&self.name), self.type_id, self.bit_offset)?;
        if self.bits > 0 {
            write!(f, " width {}", self.bits)?;
        }
        Ok(())
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int { name, size, encoding, offset, bits } => {
                write!(f, "INT {} size {size} encoding {encoding} offset {offset} bits {bits}", or_anon(name))
            }
            Self::Ptr(to) => write!(f, "PTR -> [{to}]"),
            Self::Array { elem, nelems, .. } => write!(f, "ARRAY [{elem}] * {nelems}"),
            Self::Composite { union, name, size, kflag, fields } => {
                let kind = if *union { "UNION" } else { "STRUCT" };
                let flag = if *kflag { " kflag" } else { "" };
                write!(f, "{kind} {} size {size}{flag} {{", or_anon(name))?;
                for (number, field) in fields.iter().enumerate() {
                    write!(f, "{} {number} {field}", if number > 0 { "," } else { "" })?;
                }
                write!(f, " }}")
            }
            Self::Enum { wide, name, size, signed, values } => {
                let kind = if *wide { "ENUM64" } else { "ENUM" };
                let sign = if *signed { "signed" } else { "unsigned" };
                write!(f, "{kind} {} size {size} {sign} {values:?}", or_anon(name))
            }
            Self::Fwd { name, union } => {
                write!(f, "FWD {} {}", if *union { "union" } else { "struct" }, or_anon(name))
            }
            Self::Typedef { name, to } => write!(f, "TYPEDEF {} -> [{to}]", or_anon(name)),
            Self::Modifier { kind, to } => {
                let kind = match kind {
                    9 => "VOLATILE",
                    10 => "CONST",
                    _ => "RESTRICT",
                };
                write!(f, "{kind} -> [{to}]")
            }
            Self::TypeTag { text, to } => write!(f, "TYPE_TAG {text} -> [{to}]"),
            Self::Func { name, to } => write!(f, "FUNC {name} -> [{to}]"),
            Self::Proto { ret, params } => write!(f, "FUNC_PROTO -> [{ret}] {params:?}"),
            Self::Var { name, to } => write!(f, "VAR {name} -> [{to}]"),
            Self::Float { name, size } => write!(f, "FLOAT {name} size {size}"),
            Self::DeclTag { text, to } => write!(f, "DECL_TAG {text} -> [{to}]"),
            Self::Datasec { name, size } => write!(f, "DATASEC {name} size {size}"),
        }
    }
}

impl fmt::Display for CaseRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KINDS.get(self.kind as usize) {
            Some(kind) => write!(f, "{kind}")?,
            None => write!(f, "kind {}", self.kind)?,
        }
        write!(f, " [{}] {:?} in program {}, {:?}:", self.type_id, self.access, self.program, self.site)?;
        for Insn { code, dst, src, off, imm } in &self.insns {
            write!(f, " {{code {code:#04x} dst {dst} src {src} off {off} imm {imm}}}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "case of seed {}, {:?} endian", self.seed, self.order)?;
        writeln!(f, "types that are not listed are INTs of 4 bytes without a name")?;
        let list = |f: &mut fmt::Formatter<'_>, title: &str, first_id: usize, types: &[Type]| {
            writeln!(f, "{title}:")?;
            for (id, ty) in (first_id..).zip(types) {
                // What shrinking puts in place of what it takes away.
                if !matches!(ty, Type::Int { name, size: 4, .. } if name.is_empty()) {
                    writeln!(f, "  [{id}] {ty}")?;
                }
            }
            Ok(())
        };
        list(f, "local types", 1, &self.local)?;
        list(f, "target types", 1, &self.target)?;
        for (number, module) in self.modules.iter().enumerate() {
            list(f, &format!("types of module {number}"), self.target.len() + 1, module)?;
        }
        writeln!(f, "records:")?;
        for (number, record) in self.records.iter().enumerate() {
            writeln!(f, "  #{number} {record}")?;
        }
        Ok(())
    }
}

fn or_anon(name: &str) -> &str {
    match name {
        "" => "<anon>",
        // Has an offset of its own, and is empty.
        "\0" => "<empty>",
        name => name,
    }
}
