//! A kernel's configuration, and what programs read of it: externs in `.kconfig`.
//!
//! Source: `bpf_object__read_kconfig_file`, `set_kcfg_value_*`, `find_kcfg_type`, libbpf; spec 3.4.

use hashbrown::HashMap;

use crate::btf::{Btf, Type, TypeId};
use crate::format::Endian;
use crate::format::btf::{INT_BOOL, Kind};

/// The values of one configuration. What is not set has none.
#[derive(Clone, Debug, Default)]
pub struct Kconfig {
    values: HashMap<Vec<u8>, Vec<u8>>,
}

fn is_bool(ty: Type<'_>) -> bool {
    ty.int_encoding() & INT_BOOL != 0
}

/// What a program takes a value of the configuration for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KconfigType {
    /// One byte: 1 for `y`.
    Bool,
    /// One byte: the letter, or a number.
    Char,
    /// `y`, `m` or `n` as 1, 2 or 0, in that many **bytes**.
    Tristate(u8),
    /// A number of that many **bytes**.
    Int(u8),
    /// Text of at most that many **bytes**, the end included.
    Text(u32),
}

impl KconfigType {
    /// The type of a VAR of an object's BTF; `None` if libbpf takes no value of such a type.
    pub fn of(btf: &Btf<'_>, var: TypeId) -> Option<Self> {
        let var = btf.ty(var).filter(|it| it.kind == Kind::Var)?;
        let (_, ty) = btf.skip_mods_and_typedefs(var.target())?;
        match ty.kind {
            Kind::Int => match ty.size() {
                size if is_bool(ty) => (size == 1).then_some(Self::Bool),
                1 => Some(Self::Char),
                size @ (2 | 4 | 8) => u8::try_from(size).ok().map(Self::Int),
                _ => None,
            },
            Kind::Enum | Kind::Enum64 if btf.name(ty.name_off) == b"libbpf_tristate" => {
                u8::try_from(ty.size()).ok().map(Self::Tristate)
            }
            Kind::Array => {
                let array = ty.array();
                let (_, element) = btf.skip_mods_and_typedefs(array.elem)?;
                let is_char = element.kind == Kind::Int && element.size() == 1 && !is_bool(element);
                (is_char && array.nelems > 0).then_some(Self::Text(array.nelems))
            }
            _ => None,
        }
    }

    /// Its size in **bytes**.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::Char => 1,
            Self::Tristate(size) | Self::Int(size) => size.into(),
            Self::Text(len) => len as usize,
        }
    }

    /// A number as the program reads it.
    pub fn number(self, value: u64, endian: Endian) -> Vec<u8> {
        let size = self.size().min(8);
        let bytes = value.to_le_bytes();
        let mut bytes = bytes.get(..size).unwrap_or_default().to_vec();
        if endian == Endian::Big {
            bytes.reverse();
        }
        bytes
    }

    /// A value of the configuration as the program reads it, `None` for one that is not set; `None` if libbpf
    /// refuses a value of that form.
    pub fn encode(self, value: Option<&[u8]>, endian: Endian) -> Option<Vec<u8>> {
        let Some(value) = value else { return Some(vec![0; self.size().min(1 << 16)]) };
        match value {
            [letter @ (b'y' | b'n' | b'm')] => match self {
                Self::Bool if *letter == b'm' => None,
                Self::Bool => Some(vec![u8::from(*letter == b'y')]),
                Self::Char => Some(vec![*letter]),
                Self::Tristate(_) => {
                    let value = match letter {
                        b'y' => 1,
                        b'm' => 2,
                        _ => 0,
                    };
                    Some(self.number(value, endian))
                }
                Self::Int(_) | Self::Text(_) => None,
            },
            [b'"', text @ ..] => {
                let Self::Text(len) = self else { return None };
                let text = text.strip_suffix(b"\"")?;
                let len = len as usize;
                let mut bytes = text.get(..text.len().min(len.checked_sub(1)?))?.to_vec();
                bytes.resize(len.min(1 << 16), 0);
                Some(bytes)
            }
            _ => {
                let text = str::from_utf8(value).ok()?;
                let (digits, is_negative) = text.strip_prefix('-').map_or((text, false), |it| (it, true));
                let magnitude = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
                    Some(hex) => u64::from_str_radix(hex, 16).ok()?,
                    None => digits.parse().ok()?,
                };
                let number = if is_negative { magnitude.wrapping_neg() } else { magnitude };
                match self {
                    Self::Int(_) | Self::Char => Some(self.number(number, endian)),
                    Self::Bool | Self::Tristate(_) | Self::Text(_) => None,
                }
            }
        }
    }
}

impl Kconfig {
    /// Reads a file as `/proc/config.gz` has it when unpacked.
    pub fn parse(text: &[u8]) -> Self {
        let entry = |line: &[u8]| {
            let line = line.trim_ascii_end();
            let equals = memchr::memchr(b'=', line)?;
            let (name, value) = (line.get(..equals)?, line.get(equals + 1..)?);
            (name.starts_with(b"CONFIG_") && !value.is_empty()).then(|| (name.to_vec(), value.to_vec()))
        };
        Self { values: text.split(|it| *it == b'\n').filter_map(entry).collect() }
    }

    /// The value of `CONFIG_…`, as it stands in the file.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that values are taken as libbpf takes them, and refused as it refuses them.
    #[test]
    fn values_are_encoded_by_type() {
        let config = Kconfig::parse(
            b"# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_M=m\nCONFIG_HZ=250\nCONFIG_X=0x10\nCONFIG_S=\"ab\"\n",
        );
        let encode = |kind: KconfigType, name: &[u8]| kind.encode(config.get(name), Endian::Little);
        assert_eq!(encode(KconfigType::Bool, b"CONFIG_B"), Some(vec![1]));
        assert_eq!(encode(KconfigType::Bool, b"CONFIG_A"), Some(vec![0]));
        assert_eq!(encode(KconfigType::Bool, b"CONFIG_M"), None);
        assert_eq!(encode(KconfigType::Tristate(4), b"CONFIG_M"), Some(vec![2, 0, 0, 0]));
        assert_eq!(encode(KconfigType::Char, b"CONFIG_M"), Some(vec![b'm']));
        assert_eq!(encode(KconfigType::Int(4), b"CONFIG_HZ"), Some(vec![250, 0, 0, 0]));
        assert_eq!(encode(KconfigType::Int(2), b"CONFIG_X"), Some(vec![16, 0]));
        assert_eq!(encode(KconfigType::Text(4), b"CONFIG_S"), Some(b"ab\0\0".to_vec()));
        assert_eq!(encode(KconfigType::Text(2), b"CONFIG_S"), Some(b"a\0".to_vec()));
        assert_eq!(encode(KconfigType::Int(4), b"CONFIG_S"), None);
        assert_eq!(KconfigType::Int(4).encode(Some(b"1"), Endian::Big), Some(vec![0, 0, 0, 1]));
    }
}
