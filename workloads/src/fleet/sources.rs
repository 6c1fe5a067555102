//! Where this machine gets Debian packages from: its own configuration of apt, read only.
//!
//! The list of packages names suites that the machine does not have configured. They are to be had from the
//! same mirrors, so a source of one of Debian's suites is taken as it is, options and all, and another
//! suite is put into it. Security updates have mirrors of their own.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;

/// A suite of Debian is one of these, or one of these with one of the endings.
const RELEASES: [&str; 11] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "experimental",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];
const ENDINGS: [&str; 6] =
    ["", "-updates", "-backports", "-backports-sloppy", "-proposed-updates", "-security"];

/// Fields of a source that say what is fetched, as opposed to where from and whom to trust.
const OWN_FIELDS: [&str; 6] = ["types", "suites", "components", "architectures", "enabled", "languages"];

/// The machine's sources of Debian packages.
#[derive(Debug, Default)]
pub(super) struct Sources {
    main: Option<Source>,
    security: Option<Source>,
}

/// A source in Debian's deb822 form, without the fields that say what to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    /// `URIs`, `Signed-By` and other fields, with their continuation lines.
    fields: String,
    suites: Vec<String>,
}

impl Sources {
    /// Reads the sources in `etc`, which is `/etc/apt` on a real machine.
    ///
    /// # Errors
    /// If a file cannot be read, or if there is no source of Debian packages among them.
    pub(super) fn of_machine(etc: &Path) -> Result<Sources, Error> {
        let mut files: Vec<PathBuf> = vec![etc.join("sources.list")];
        if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
            files.extend(entries.filter_map(|it| Some(it.ok()?.path())));
        }
        files.sort();
        let mut found = Vec::new();
        for file in files {
            let parse = match file.extension().and_then(|it| it.to_str()) {
                Some("list") => parse_lines,
                Some("sources") => parse_stanzas,
                _ => continue,
            };
            match fs::read_to_string(&file) {
                Ok(text) => found.extend(parse(&text)),
                Err(_) if !file.exists() => {}
                Err(error) => return Err(Error::Read { path: file, error }),
            }
        }
        let sources = Sources::choose(&found);
        if sources.main.is_none() { Err(Error::NoSources { etc: etc.to_owned() }) } else { Ok(sources) }
    }

    fn choose(found: &[Source]) -> Sources {
        let choose = |security: bool| {
            let usable =
                |it: &&Source| it.suites.iter().any(|it| is_debian(it) && is_security(it) == security);
            // Other vendors use Debian's names of suites too, but not the name of its directory.
            let is_debian_uri = |it: &&Source| {
                it.fields.lines().any(|line| {
                    line.starts_with("URIs:") && line.trim_end().trim_end_matches('/').contains("/debian")
                })
            };
            let mut usable = found.iter().filter(usable);
            let first = usable.clone().next();
            usable.find(is_debian_uri).or(first).cloned()
        };
        Sources { main: choose(false), security: choose(true) }
    }

    /// A source for one suite and architecture, as the text of a `.sources` file.
    ///
    /// `None` for security updates if the machine has no source of them.
    pub(super) fn stanza(&self, suite: &str, architecture: &str) -> Option<String> {
        let source = if is_security(suite) { &self.security } else { &self.main };
        let fields = &source.as_ref()?.fields;
        Some(format!(
            "Types: deb\n{fields}Suites: {suite}\nComponents: main\nArchitectures: {architecture}\n"
        ))
    }
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security")
}

fn is_debian(suite: &str) -> bool {
    RELEASES.iter().any(|release| suite.strip_prefix(release).is_some_and(|end| ENDINGS.contains(&end)))
}

/// A `.sources` file: stanzas of fields, separated by empty lines.
fn parse_stanzas(text: &str) -> Vec<Source> {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let stanzas: Vec<Vec<&str>> =
        lines().collect::<Vec<_>>().split(|line| line.trim().is_empty()).map(<[_]>::to_vec).collect();
    stanzas.iter().filter_map(|stanza| parse_stanza(stanza)).collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let mut fields: Vec<(String, String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            let (_, value, text) = fields.last_mut()?;
            *value += &format!(" {}", line.trim());
            *text += &format!("{line}\n");
        } else {
            let (name, value) = line.split_once(':')?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned(), format!("{line}\n")));
        }
    }
    let words = |name: &str| {
        let field = fields.iter().find(|(it, ..)| it == name);
        field.map_or(Vec::new(), |(_, value, _)| value.split_whitespace().map(str::to_owned).collect())
    };
    let is_off = words("enabled").first().is_some_and(|it| ["no", "false"].contains(&it.as_str()));
    let has = |name, word: &str| words(name).iter().any(|it| it == word);
    if is_off || !has("types", "deb") || !has("components", "main") {
        return None;
    }
    let kept = fields.iter().filter(|(name, ..)| !OWN_FIELDS.contains(&name.as_str()));
    Some(Source { fields: kept.map(|(_, _, text)| text.as_str()).collect(), suites: words("suites") })
}

/// A `.list` file: a source a line, `deb [options] uri suite component...`.
fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    if !words.any(|it| it == "main") {
        return None;
    }
    let mut fields = format!("URIs: {uri}\n");
    for (name, value) in options.split_whitespace().filter_map(|it| it.split_once('=')) {
        // deb822 has the same options under the same names, but for these.
        let name = match name {
            "arch" | "lang" | "target" => continue,
            name => name,
        };
        fields += &format!("{name}: {}\n", value.replace(',', " "));
    }
    Some(Source { fields, suites: vec![suite.to_owned()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
Types: deb
URIs: http://vendor.example/apt
Suites: stable
Components: main

# Debian's.
Types: deb deb-src
# the mirror
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Architectures: amd64
Signed-By:
 -----BEGIN
 .
 -----END

Enabled: no
Types: deb
URIs: http://off.example/debian-security
Suites: bookworm-security
Components: main
";

    #[test]
    fn debians_stanza_is_taken_with_its_key() {
        let sources = Sources::choose(&parse_stanzas(STANZAS));
        let stanza = sources.stanza("sid", "s390x").unwrap();
        let expected = "\
Types: deb
URIs: http://mirror.example/debian
Signed-By:
 -----BEGIN
 .
 -----END
Suites: sid
Components: main
Architectures: s390x
";
        assert_eq!(stanza, expected);
        assert_eq!(sources.stanza("trixie-security", "amd64"), None);
    }

    #[test]
    fn one_line_sources_become_stanzas() {
        let text = "\
# deb http://no.example/debian sid main
deb-src http://no.example/debian sid main
deb [arch=amd64 signed-by=/k.gpg] http://pg.example/apt bookworm-pgdg main
deb\t[arch=amd64 signed-by=/k.gpg]  http://m.example/debian bookworm main # x
deb http://s.example/debian-security bookworm-security main
";
        let sources = Sources::choose(&parse_lines(text));
        let stanza = sources.stanza("trixie", "arm64").unwrap();
        assert!(
            stanza.contains("URIs: http://m.example/debian\nsigned-by: /k.gpg\nSuites: trixie\n"),
            "{stanza}"
        );
        let stanza = sources.stanza("trixie-security", "arm64").unwrap();
        assert!(
            stanza.contains("URIs: http://s.example/debian-security\nSuites: trixie-security\n"),
            "{stanza}"
        );
    }

    #[test]
    fn a_machine_without_debian_sources_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("sources.list"), "deb http://x.example/ubuntu noble main\n").unwrap();
        assert!(matches!(Sources::of_machine(dir.path()), Err(Error::NoSources { .. })));
        fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        fs::write(dir.path().join("sources.list.d/debian.sources"), STANZAS).unwrap();
        assert!(Sources::of_machine(dir.path()).is_ok());
    }
}
