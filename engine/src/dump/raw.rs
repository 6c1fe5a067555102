//! A type as its record stands there.
//!
//! Source: `dump_btf_type`, `tools/bpf/bpftool/btf.c`.

use std::fmt::Write;

use crate::btf::{Btf, Type, TypeId};
use crate::format::btf::Kind;

/// Appends the lines of one type: `[8] CONST '(anon)' type_id=7`, then one for each part, indented.
pub fn push_raw(btf: &Btf<'_>, id: TypeId, out: &mut String) {
    let Some(ty) = btf.ty(id) else { return };
    // Writing to a string does not fail.
    let _ = write_type(btf, id, ty, out);
}

fn name(btf: &Btf<'_>, off: u32) -> String {
    match off {
        0 => "(anon)".to_owned(),
        _ => {
            let name = String::from_utf8_lossy(btf.str_at(off).unwrap_or(b"(invalid)"));
            // A line is one line, whatever a name has.
            name.replace(char::is_control, "\u{fffd}")
        }
    }
}

fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Unknown(_) => "UNKNOWN".into(),
        _ => kind.name().to_ascii_uppercase(),
    }
}

fn linkage(linkage: u32) -> &'static str {
    match linkage {
        0 => "static",
        1 => "global",
        2 => "extern",
        _ => "(unknown)",
    }
}

fn encoding(ty: Type<'_>) -> &'static str {
    match ty.int_encoding() {
        0 => "(none)",
        1 => "SIGNED",
        2 => "CHAR",
        4 => "BOOL",
        _ => "UNKN",
    }
}

fn write_type(btf: &Btf<'_>, id: TypeId, ty: Type<'_>, out: &mut String) -> std::fmt::Result {
    write!(out, "[{id}] {} '{}'", kind_name(ty.kind), name(btf, ty.name_off))?;
    let signs = |is_signed: bool| if is_signed { "SIGNED" } else { "UNSIGNED" };
    match ty.kind {
        Kind::Int => {
            let (offset, bits) = (ty.int_offset(), ty.int_bits());
            write!(out, " size={} bits_offset={offset} nr_bits={bits} encoding={}", ty.size(), encoding(ty))?;
        }
        Kind::Ptr | Kind::Const | Kind::Volatile | Kind::Restrict | Kind::Typedef | Kind::TypeTag => {
            write!(out, " type_id={}", ty.target())?
        }
        Kind::Array => {
            let array = ty.array();
            let (index, count) = (ty.array_index_type(), array.nelems);
            write!(out, " type_id={} index_type_id={index} nr_elems={count}", array.elem)?;
        }
        Kind::Struct | Kind::Union => {
            write!(out, " size={} vlen={}", ty.size(), ty.vlen())?;
            for it in ty.members() {
                let name = name(btf, it.name_off);
                write!(out, "\n\t'{name}' type_id={} bits_offset={}", it.type_id, it.bit_offset)?;
                if it.bitfield_size > 0 {
                    write!(out, " bitfield_size={}", it.bitfield_size)?;
                }
            }
        }
        Kind::Enum => {
            let signed = ty.kind_flag();
            write!(out, " encoding={} size={} vlen={}", signs(signed), ty.size(), ty.vlen())?;
            for it in ty.enumerators() {
                let value = it.value.cast_signed();
                let value = if signed { value } else { value & 0xffff_ffff };
                write!(out, "\n\t'{}' val={value}", name(btf, it.name_off))?;
            }
        }
        Kind::Enum64 => {
            let signed = ty.kind_flag();
            write!(out, " encoding={} size={} vlen={}", signs(signed), ty.size(), ty.vlen())?;
            for it in ty.enumerators() {
                let name = name(btf, it.name_off);
                match signed {
                    true => write!(out, "\n\t'{name}' val={}LL", it.value.cast_signed())?,
                    false => write!(out, "\n\t'{name}' val={}ULL", it.value)?,
                }
            }
        }
        Kind::Fwd => {
            write!(out, " fwd_kind={}", if ty.kind_flag() { "union" } else { "struct" })?;
        }
        Kind::Func => write!(out, " type_id={} linkage={}", ty.target(), linkage(ty.linkage()))?,
        Kind::FuncProto => {
            write!(out, " ret_type_id={} vlen={}", ty.target(), ty.vlen())?;
            for it in ty.params() {
                write!(out, "\n\t'{}' type_id={}", name(btf, it.name_off), it.type_id)?;
            }
        }
        Kind::Var => write!(out, " type_id={}, linkage={}", ty.target(), linkage(ty.linkage()))?,
        Kind::Datasec => {
            write!(out, " size={} vlen={}", ty.size(), ty.vlen())?;
            for it in ty.sec_vars() {
                write!(out, "\n\ttype_id={} offset={} size={}", it.type_id, it.offset, it.size)?;
                if let Some(var) = btf.ty(it.type_id) {
                    write!(out, " ({} '{}')", kind_name(var.kind), name(btf, var.name_off))?;
                }
            }
        }
        Kind::Float => write!(out, " size={}", ty.size())?,
        Kind::DeclTag => {
            write!(out, " type_id={} component_idx={}", ty.target(), ty.component_idx())?;
        }
        Kind::Void | Kind::Unknown(_) => {}
    }
    out.push('\n');
    Ok(())
}
