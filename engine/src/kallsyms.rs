//! What a kernel's own lists say of its symbols: `kallsyms` or `System.map`, and `available_filter_functions`.
//!
//! BTF knows functions that can be traced and a few variables. Whether a symbol has an address, how many functions
//! share a name, and what compilers made of those that are gone (`x.isra.0`) stands in these lists alone.

/// Suffixes that compilers put behind the name of a function that is not what the source says any more.
const SUFFIXES: [&[u8]; 5] = [b".isra.", b".constprop.", b".part.", b".cold", b".llvm."];

/// The lists of one kernel. Any of them may be missing.
#[derive(Clone, Debug, Default)]
pub struct Kallsyms {
    symbols: Option<Names>,
    traceable: Option<Names>,
}

/// How a name stands in the lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Once.
    Once,
    /// At several addresses: static functions of the same name.
    Several(usize),
    /// Only under a name that a compiler made of it.
    OnlyAs(String),
    /// Not at all.
    Absent,
}

/// One list, sorted by name.
#[derive(Clone, Debug)]
struct Names {
    text: Vec<u8>,
    /// Where each name is in `text`, in bytes.
    places: Vec<(u32, u32)>,
}

impl Names {
    /// Takes what `name_of` finds in each line. A list of more than 4 GiB is cut there.
    fn new(text: &[u8], name_of: impl Fn(&[u8]) -> Option<&[u8]>) -> Self {
        let mut this = Self { text: Vec::new(), places: Vec::new() };
        let mut names: Vec<&[u8]> = text.split(|&it| it == b'\n').filter_map(name_of).collect();
        names.sort_unstable();
        for name in names {
            let (Ok(start), Ok(len)) = (u32::try_from(this.text.len()), u32::try_from(name.len())) else {
                break;
            };
            this.places.push((start, len));
            this.text.extend(name);
        }
        this
    }

    fn at(&self, &(start, len): &(u32, u32)) -> &[u8] {
        let start = start as usize;
        self.text.get(start..start.saturating_add(len as usize)).unwrap_or_default()
    }

    fn find(&self, name: &[u8]) -> Listed {
        let from = self.places.partition_point(|it| self.at(it) < name);
        let rest = self.places.get(from..).unwrap_or_default();
        match rest.iter().take_while(|it| self.at(it) == name).count() {
            0 => {}
            1 => return Listed::Once,
            more => return Listed::Several(more),
        }
        let is_made_of_it = |it: &[u8]| {
            it.strip_prefix(name).is_some_and(|rest| SUFFIXES.iter().any(|suffix| rest.starts_with(suffix)))
        };
        let mut longer = rest.iter().map(|it| self.at(it)).take_while(|it| it.starts_with(name));
        match longer.find(|it| is_made_of_it(it)) {
            Some(it) => Listed::OnlyAs(String::from_utf8_lossy(it).into_owned()),
            None => Listed::Absent,
        }
    }
}

impl Kallsyms {
    /// Reads the lists. `symbols`: `ADDRESS TYPE NAME [MODULE]` in each line. `traceable`: a function that can be traced
    /// in each line, perhaps a module behind it.
    pub fn new(symbols: Option<&[u8]>, traceable: Option<&[u8]>) -> Self {
        fn word(line: &[u8], number: usize) -> Option<&[u8]> {
            line.split(u8::is_ascii_whitespace).filter(|it| !it.is_empty()).nth(number)
        }
        Self {
            symbols: symbols.map(|text| Names::new(text, |line| word(line, 2))),
            traceable: traceable.map(|text| Names::new(text, |line| word(line, 0))),
        }
    }

    /// How a function stands in the lists; `None` if none of them lists functions.
    pub fn function(&self, name: &[u8]) -> Option<Listed> {
        self.symbols.as_ref().or(self.traceable.as_ref()).map(|it| it.find(name))
    }

    /// How a symbol of any kind stands in the list of symbols; `None` if there is no such list.
    pub fn symbol(&self, name: &[u8]) -> Option<Listed> {
        self.symbols.as_ref().map(|it| it.find(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that lists as kernels write them are read, and what is left of a function is found.
    #[test]
    fn names_are_found_once_several_times_or_as_something_else() {
        assert_eq!(Kallsyms::default().function(b"a"), None);
        let lists = Kallsyms::new(None, Some(b"only_here\nvfs_read [x]\n"));
        assert_eq!(lists.function(b"only_here"), Some(Listed::Once));
        assert_eq!(lists.symbol(b"only_here"), None);
        let text =
            b"ffffffff81000000 T vfs_read\nffffffff81000010 t dup\n0 t dup\n0 t gone.isra.0\n0 D gonex\n\
              0 t in_module\t[nf_nat]\nbroken\n";
        let lists = Kallsyms::new(Some(text), None);
        for (name, listed) in [
            ("vfs_read", Listed::Once),
            ("dup", Listed::Several(2)),
            ("gone", Listed::OnlyAs("gone.isra.0".into())),
            ("gon", Listed::Absent),
            ("in_module", Listed::Once),
            ("broken", Listed::Absent),
        ] {
            assert_eq!(lists.function(name.as_bytes()), Some(listed), "{name}");
        }
        assert_eq!(lists.symbol(b"gonex"), Some(Listed::Once));
    }
}
