//! `--where`: which kernels count, by what is known of them.

use std::cmp::Ordering;
use std::str::FromStr;

use btfleet_engine::pack::Facts;
use glob::Pattern;

/// What can be asked of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Release,
    Distribution,
    Arch,
    Flavour,
    Btf,
}

impl Field {
    const NAMES: [(&'static str, Self); 7] = [
        ("name", Self::Name),
        ("release", Self::Release),
        ("distribution", Self::Distribution),
        ("distro", Self::Distribution),
        ("arch", Self::Arch),
        ("flavour", Self::Flavour),
        ("btf", Self::Btf),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The longer ones first: one is found by what it begins with.
    const ALL: [(&'static str, Self); 6] = [
        ("!=", Self::NotEqual),
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("=", Self::Equal),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A condition on kernels: `distro=debian and (release>=6.1 or flavour=rt)`.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    Or(Vec<Filter>),
    And(Vec<Filter>),
    Not(Box<Filter>),
    Is(Test),
}

/// One comparison.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    field: Field,
    comparison: Comparison,
    value: String,
    pattern: Pattern,
}

impl Filter {
    /// Whether it holds for a kernel.
    pub(crate) fn holds(&self, name: &str, facts: &Facts) -> bool {
        match self {
            Self::Or(any) => any.iter().any(|it| it.holds(name, facts)),
            Self::And(all) => all.iter().all(|it| it.holds(name, facts)),
            Self::Not(other) => !other.holds(name, facts),
            Self::Is(test) => test.holds(name, facts),
        }
    }
}

impl Test {
    fn holds(&self, name: &str, facts: &Facts) -> bool {
        let text = match self.field {
            Field::Name => name,
            Field::Release => &facts.release,
            Field::Distribution => &facts.distribution,
            Field::Arch => &facts.architecture,
            Field::Flavour => &facts.flavour,
            Field::Btf => facts.origin.name(),
        };
        let is_one = || match self.field {
            // `debian` for `debian 12`, and `6.1` for every 6.1.y, as people mean it.
            Field::Distribution => self.pattern.matches(text) || text.split(' ').next() == Some(&self.value),
            Field::Release => self.pattern.matches(text) || is_of_series(text, &self.value),
            Field::Name => {
                self.pattern.matches(text) || self.pattern.matches(text.rsplit('/').next().unwrap_or(text))
            }
            _ => self.pattern.matches(text),
        };
        match self.comparison {
            Comparison::Equal => is_one(),
            Comparison::NotEqual => !is_one(),
            // Nothing is before or after what is not known.
            comparison => !text.is_empty() && comparison.holds(by_numbers(text, &self.value)),
        }
    }
}

/// Whether `release` is `series` and what follows it: `6.1.0-47` is of `6.1`, `6.12` is not.
fn is_of_series(release: &str, series: &str) -> bool {
    release.strip_prefix(series).is_some_and(|rest| !rest.starts_with(|it: char| it.is_ascii_digit()))
}

/// The order of releases: numbers count as numbers, and `6.1` equals all of 6.1.y, as far as it goes.
fn by_numbers(text: &str, value: &str) -> Ordering {
    let (mut text, mut value) = (parts(text), parts(value));
    loop {
        match (text.next(), value.next()) {
            (_, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(a), Some(b)) => {
                let order = match (a.parse::<u64>(), b.parse::<u64>()) {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    _ => a.cmp(b),
                };
                if order.is_ne() {
                    return order;
                }
            }
        }
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !it.is_ascii_alphanumeric()).filter(|it| !it.is_empty())
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text };
        let filter = parser.any(0)?;
        match parser.rest.trim_start() {
            "" => Ok(filter),
            rest => Err(format!("what is '{rest}'? 'and' or 'or' is expected there")),
        }
    }
}

/// Parentheses within each other.
const NESTED_MAX: u32 = 64;

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn any(&mut self, depth: u32) -> Result<Filter, String> {
        let mut all = vec![self.all(depth)?];
        while self.word("or") {
            all.push(self.all(depth)?);
        }
        Ok(Filter::Or(all))
    }

    fn all(&mut self, depth: u32) -> Result<Filter, String> {
        let mut all = vec![self.one(depth)?];
        while self.word("and") {
            all.push(self.one(depth)?);
        }
        Ok(Filter::And(all))
    }

    fn one(&mut self, depth: u32) -> Result<Filter, String> {
        if depth > NESTED_MAX {
            return Err("it has too many parentheses in each other".into());
        }
        if self.word("not") {
            return Ok(Filter::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.symbol("(") {
            let filter = self.any(depth + 1)?;
            return if self.symbol(")") { Ok(filter) } else { Err("a ')' is missing".into()) };
        }
        let name = self.take(|it| it.is_ascii_alphabetic());
        let Some((_, field)) = Field::NAMES.iter().find(|it| it.0 == name) else {
            let known: Vec<&str> = Field::NAMES.iter().map(|it| it.0).collect();
            return Err(format!("'{name}' is no field of kernels, which are {}", known.join(", ")));
        };
        let Some((_, comparison)) = Comparison::ALL.iter().find(|it| self.symbol(it.0)) else {
            return Err(format!("behind '{name}', one of = != < <= > >= is expected"));
        };
        let value = match ["'", "\""].into_iter().find(|it| self.symbol(it)) {
            Some(quote) => {
                let Some((value, rest)) = self.rest.split_once(quote) else {
                    return Err(format!("the text behind '{name}' does not end"));
                };
                let value = value.to_owned();
                self.rest = rest;
                value
            }
            None => self.take(|it| !it.is_whitespace() && !"()".contains(it)),
        };
        let pattern = Pattern::new(&value).map_err(|error| format!("'{value}': {error}"))?;
        Ok(Filter::Is(Test { field: *field, comparison: *comparison, value, pattern }))
    }

    /// Takes a word, if it stands there by itself.
    fn word(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(word);
        let rest = rest.filter(|it| !it.starts_with(|it: char| it.is_ascii_alphanumeric()));
        rest.inspect(|it| self.rest = it).is_some()
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.rest.trim_start().strip_prefix(symbol).inspect(|it| self.rest = it).is_some()
    }

    fn take(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let text = self.rest.trim_start();
        let end = text.find(|it| !is_part(it)).unwrap_or(text.len());
        let (taken, rest) = text.split_at(end);
        let taken = taken.to_owned();
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            release: "6.1.0-47-cloud-amd64".into(),
            distribution: "debian 12".into(),
            architecture: "amd64".into(),
            flavour: "cloud".into(),
            ..Facts::default()
        }
    }

    /// Check what conditions say of a kernel.
    #[test]
    fn conditions_hold_or_do_not() {
        for (text, want) in [
            ("distro=debian and release>=6.1", true),
            ("distro=debian and release>=6.12", false),
            ("release=6.1", true),
            ("release=6.1.0-4*", true),
            ("release<6.1", false),
            ("release<=6.1", true),
            ("release>6.0 and release<6.2", true),
            ("arch!=amd64 or flavour=cloud", true),
            ("not flavour=cloud", false),
            ("not (flavour=rt or arch=arm64)", true),
            ("distribution='debian 12'", true),
            ("name=*.btf", true),
            ("btf=unknown", true),
            ("name=x/*", false),
        ] {
            let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(filter.holds("/x/6.1.0-47-cloud-amd64.btf", &facts()), want, "{text}");
        }
    }

    /// Check that what makes no sense is an error that says what would.
    #[test]
    fn errors_say_what_is_expected() {
        for (text, want) in [
            ("distri=x", "distribution, distro"),
            ("", "is no field"),
            ("arch amd64", "one of ="),
            ("(arch=amd64", "')' is missing"),
            ("arch=amd64 flavour=rt", "'and' or 'or'"),
            ("name='x", "does not end"),
            ("name=[", "error"),
        ] {
            let error = text.parse::<Filter>().expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!("(".repeat(100_000).parse::<Filter>().is_err());
    }
}
