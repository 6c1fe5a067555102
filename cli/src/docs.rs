//! Completion scripts and manual pages, made from the command line's own definition.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::{Exit, Failure, Output};

pub(crate) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "btfleet", &mut script);
    let mut out = Output::new();
    out.write(&script)?;
    out.finish()?;
    Ok(Exit::Fine)
}

/// Writes `btfleet.1` and a page for each verb, each of them whole or not at all.
pub(crate) fn man_pages(dir: &Path) -> Result<Exit, Failure> {
    let failed = |what: &Path| {
        let what = what.display().to_string();
        move |error: std::io::Error| Failure::System(format!("{what}: {error}"))
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    let mut root = Cli::command();
    root.build();
    let mut pages = vec![("btfleet".to_owned(), root.clone())];
    for verb in root.get_subcommands().filter(|it| it.get_name() != "help") {
        // clap wants names that live as long as the program; there are a handful, made once.
        let name: &'static str = format!("btfleet-{}", verb.get_name()).leak();
        pages.push((name.to_owned(), verb.clone().name(name)));
    }
    for (name, command) in pages {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(failed(dir))?;
        let path = dir.join(format!("{name}.1"));
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed(&path))?;
        file.write_all(&page).map_err(failed(&path))?;
        file.persist(&path).map_err(|error| failed(&path)(error.error))?;
    }
    Ok(Exit::Fine)
}
