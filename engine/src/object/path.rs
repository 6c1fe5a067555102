//! A record's access path for people.

use super::Reloc;
use crate::btf::Btf;
use crate::query::{Ask, Question, Step, parse_access};

/// A record's access path as C writes it, with the root's full name; just the root for type kinds.
pub(super) fn path(btf: &Btf<'_>, reloc: &Reloc<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(root) = btf.ty(reloc.type_id) else { return String::new() };
    let mut path = match text(btf.name(root.name_off)) {
        name if name.is_empty() => "<anon>".to_owned(),
        name => name,
    };
    let Ok(Question { query: Some(query), .. }) = &reloc.question else { return path };
    match &query.ask {
        Ask::TypeCompat(_) | Ask::TypeMatches(_) => {}
        Ask::Enumerator(_) => {
            // The query has the essential name only; a reader wants the enumerator as it was written.
            let index = parse_access(reloc.access).ok().and_then(|it| it.first().copied()).unwrap_or(0);
            let enumerator =
                btf.skip_mods_and_typedefs(reloc.type_id).and_then(|(_, ty)| ty.enumerator(index));
            if let Some(enumerator) = enumerator {
                path.push_str("::");
                path.push_str(&text(btf.name(enumerator.name_off)));
            }
        }
        Ask::Field(steps) => {
            for (depth, step) in steps.iter().enumerate() {
                match *step {
                    Step::Is(_) => {}
                    Step::Index(0) if depth == 0 => {}
                    Step::Index(index) => path.push_str(&format!("[{index}]")),
                    Step::Member { name, .. } => {
                        path.push('.');
                        path.push_str(&text(name));
                    }
                }
            }
        }
    }
    path
}
