//! Names close to one that is missing.

/// Names shown at the most.
const SHOWN_MAX: usize = 4;
/// Names longer than this are compared by their beginning only: the work is quadratic in the length.
const COMPARED_LEN_MAX: usize = 128;

/// How much a candidate for "did you mean" is worth; the smaller the better.
type Cost = usize;

/// The names closest to `wanted`, the closest first, each at most once. Names that share nothing are left out.
pub(super) fn nearest<T>(wanted: &[u8], names: impl Iterator<Item = (Vec<u8>, T)>) -> Vec<T> {
    let mut ranked: Vec<(Cost, Vec<u8>, T)> = names
        .filter(|(name, _)| !name.is_empty() && name != wanted)
        .filter_map(|(name, value)| Some((cost(wanted, &name)?, name, value)))
        .collect();
    ranked.sort_by(|(a, name_a, _), (b, name_b, _)| (a, name_a).cmp(&(b, name_b)));
    ranked.dedup_by(|(_, a, _), (_, b, _)| a == b);
    ranked.into_iter().take(SHOWN_MAX).map(|(_, _, value)| value).collect()
}

/// Kernel fields are renamed by adding or dropping words and underscores: a name that contains the other is
/// close whatever its length; otherwise up to a third of the letters may differ.
fn cost(wanted: &[u8], name: &[u8]) -> Option<Cost> {
    let trim = |bytes: &[u8]| {
        let bytes: Vec<u8> = bytes.iter().copied().take(COMPARED_LEN_MAX).collect();
        let start = bytes.iter().take_while(|&&it| it == b'_').count();
        bytes.get(start..).unwrap_or_default().to_vec()
    };
    let (wanted, name) = (trim(wanted), trim(name));
    if wanted == name {
        return Some(0);
    }
    let (short, long) = if wanted.len() < name.len() { (&wanted, &name) } else { (&name, &wanted) };
    if short.len() >= 3 && memchr::memmem::find(long, short).is_some() {
        return Some(2 + long.len() - short.len());
    }
    let distance = edit_distance(&wanted, &name);
    (distance * 3 <= wanted.len().max(name.len())).then_some(2 + 2 * distance)
}

/// Levenshtein distance.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (other, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let substituted = diagonal + usize::from(byte != other);
            diagonal = *cell;
            left = substituted.min(*cell + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that renamed fields are found and unrelated ones are not.
    #[test]
    fn names_that_were_renamed_are_near() {
        let near = |wanted: &str, names: &[&str]| -> Vec<String> {
            let names = names.iter().map(|it| (it.as_bytes().to_vec(), (*it).to_owned()));
            nearest(wanted.as_bytes(), names)
        };
        assert_eq!(near("state", &["flags", "__state", "exit_state", "pid"]), ["__state", "exit_state"]);
        let renamed = near("i_atime", &["i_mtime", "__i_atime", "i_atime_sec"]);
        assert_eq!(renamed.first().map(String::as_str), Some("__i_atime"));
        assert!(near("memcg_in_oom", &["pid", "comm", "mm"]).is_empty());
        assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
    }
}
