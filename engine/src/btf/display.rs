//! Types as C writes them, for people. Never needed to decide anything.

use super::{Btf, TypeId};
use crate::format::btf::Kind;

/// Steps along pointers, arrays and modifiers before a name is cut short: hostile chains may be circular.
const STEPS_MAX: usize = 32;

impl Btf<'_> {
    /// A type's name in C: `struct task_struct`, `const char *`, `u64[4]`, `pid_t`. Bytes that are no
    /// UTF-8 come out as U+FFFD; a chain of more than 32 types ends in `…`.
    pub fn type_name(&self, id: TypeId) -> String {
        // Pointers and arrays are written behind the name, modifiers in front of what they modify.
        let (mut front, mut back) = (String::new(), String::new());
        let mut id = id;
        for _ in 0..STEPS_MAX {
            let Some(ty) = self.ty(id) else { break };
            let name = String::from_utf8_lossy(self.name(ty.name_off)).into_owned();
            let or_anon = |name: String| if name.is_empty() { "<anon>".to_owned() } else { name };
            let leaf = match ty.kind {
                Kind::Void => "void".to_owned(),
                Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => {
                    let keyword = if ty.kind == Kind::Enum64 { "enum" } else { ty.kind.name() };
                    format!("{keyword} {}", or_anon(name))
                }
                Kind::Fwd => format!("{} {}", if ty.kind_flag() { "union" } else { "struct" }, or_anon(name)),
                Kind::Ptr => {
                    back.insert(0, '*');
                    if !back.starts_with(" ") {
                        back.insert(0, ' ');
                    }
                    id = ty.target();
                    continue;
                }
                Kind::Array => {
                    let array = ty.array();
                    back = format!("{}[{}]", back, array.nelems);
                    id = array.elem;
                    continue;
                }
                Kind::Const | Kind::Volatile | Kind::Restrict => {
                    // A modifier of a pointer stands behind the star.
                    let modifies_ptr = self.ty(ty.target()).is_some_and(|it| it.kind == Kind::Ptr);
                    if modifies_ptr {
                        back = format!(" {}{back}", ty.kind.name());
                    } else {
                        front = format!("{front}{} ", ty.kind.name());
                    }
                    id = ty.target();
                    continue;
                }
                Kind::TypeTag => {
                    id = ty.target();
                    continue;
                }
                Kind::FuncProto => "function".to_owned(),
                _ => or_anon(name),
            };
            return tidy(&format!("{front}{leaf}{back}"));
        }
        format!("{front}…{back}")
    }
}

/// Stars of several pointers stand together.
fn tidy(name: &str) -> String {
    let mut name = name.to_owned();
    while let Some(at) = name.find("* *") {
        name.replace_range(at..at + 3, "**");
    }
    name
}
