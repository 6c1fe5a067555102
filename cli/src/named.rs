//! Commands that the book names without running them: the command line takes each of them.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::args::Cli;
use crate::pages;

/// Other programs in such lines. Tests of their own run what matters of it.
const OTHERS: [(&str, &str); 16] = [
    ("./check", "the example in C, which engine/capi/tests run"),
    ("apt-get", "packages of Debian; .ci/run"),
    ("sed", "the name of a package in what apt-cache prints"),
    ("cargo", "builds btfleet; what it runs is looked at"),
    ("cc", "the example in C, which engine/capi/tests run"),
    ("cd", "a shell's own"),
    ("chroot", "a system without libraries"),
    ("cp", "a file to another place"),
    ("engine/capi/install", "engine/capi/tests run it"),
    ("go", "the example in Go, which engine/capi/tests run"),
    ("ldd", "a look at what was built"),
    ("maturin", "engine/python/tests/run builds the package"),
    ("openssl", "cli/tests/signed.rs signs with it"),
    ("pip", "engine/python/tests/run builds the package"),
    ("python3", "the applier of patches, which cli/tests/patches.rs runs"),
    ("strip", "no line tables"),
];

/// The commands of a line, as words: what stands between `&&`, `|` and `;`, without where output goes.
fn commands(line: &str) -> Vec<Vec<String>> {
    let words = shlex::split(line).unwrap_or_else(|| panic!("a quote is not closed: {line}"));
    let mut commands = vec![Vec::new()];
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "&&" | "||" | "|" | ";" => commands.push(Vec::new()),
            ">" | ">>" | "<" => {
                words.next();
            }
            // A variable for the command.
            _ if commands.last().is_some_and(Vec::is_empty) && word.contains('=') => {}
            _ => commands.last_mut().expect("there is one").push(word),
        }
    }
    commands
}

/// What `btfleet` is given, if that is what a command runs. What may be left out counts as given.
fn given(command: &[String]) -> Option<Vec<String>> {
    let words = match command {
        [name, ..] if name == "btfleet" => command,
        [cargo, run, ..] if cargo == "cargo" && run == "run" => {
            command.get(command.iter().position(|it| it == "--")?..)?
        }
        _ => return None,
    };
    Some(words.iter().map(|it| it.trim_matches(['[', ']']).to_owned()).collect())
}

/// Whether no more than the name of a command is given, as in "what `btfleet explain` says".
fn is_name(words: &[String], error: ErrorKind) -> bool {
    let lacks = [ErrorKind::MissingRequiredArgument, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand];
    let commands =
        words.iter().skip(1).try_fold(Cli::command(), |it, word| it.find_subcommand(word).cloned());
    lacks.contains(&error) && commands.is_some()
}

/// Check that every command that a page names can be typed.
#[test]
fn every_command_of_the_book_can_be_typed() {
    let (mut wrong, mut met, mut count) = (Vec::new(), Vec::new(), 0);
    for page in pages::all() {
        for (line, text) in page.named() {
            for command in commands(&text) {
                let place = format!("{}:{line}: {text}", page.name);
                let name = command.first().map(String::as_str).unwrap_or_default();
                match given(&command) {
                    Some(words) => {
                        count += 1;
                        if let Err(error) = Cli::try_parse_from(&words)
                            && error.use_stderr()
                            && !is_name(&words, error.kind())
                        {
                            wrong.push(format!("{place}\n{error}"));
                        }
                    }
                    None if OTHERS.iter().any(|it| it.0 == name) => met.push(name.to_owned()),
                    None => wrong.push(format!("{place}\n`{name}` is neither run nor known")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let stale: Vec<&str> =
        OTHERS.iter().map(|it| it.0).filter(|it| !met.iter().any(|met| met == it)).collect();
    assert!(stale.is_empty(), "no page has {stale:?}");
    assert!(count > 50, "{count}");
}
