//! Examples that `--help` ends with, for each command: what one wants to know, and the line that says it.

pub(crate) const CHECK: &str = "Examples:
  Which programs load on which kernels, and why others do not:
    btfleet check objects/ -k kernels/
  Everything about what fails on newer kernels of a pack:
    btfleet check tool.bpf.o -k fleet.pack --where 'release>=6.1' --only failing --details
  For a CI job: a page to look at, results for its interface, and only new failures count:
    btfleet check objects/ -k fleet.pack --baseline old.jsonl --report fleet.html --report junit.xml
  What a new kernel breaks:
    btfleet check objects/ -k fleet.pack --new 6.12.1.btf";

pub(crate) const COMPARE: &str = "Examples:
  What is worse since the last release, from two runs that were kept:
    btfleet check objects/ -k fleet.pack --format jsonl > new.jsonl
    btfleet compare old.jsonl new.jsonl
  The same for a script:
    btfleet compare old.jsonl new.jsonl --format jsonl";

pub(crate) const RESOLVE: &str = "Examples:
  What libbpf would write into each instruction on one kernel:
    btfleet resolve tool.bpf.o -k 6.1.0.btf
  On the running one:
    btfleet resolve tool.bpf.o -k live
  For a loader that applies it itself, for all kernels of a pack:
    btfleet resolve tool.bpf.o -k fleet.pack --format patch";

pub(crate) const RELOCATE: &str = "Examples:
  Objects that need no CO-RE any more, one for each distinct content:
    btfleet relocate objects/ -k kernels/ -o relocated/
  With the bytes to sign:
    btfleet relocate tool.bpf.o -k fleet.pack -o signed/ --sign-manifest";

pub(crate) const VERIFY_MANIFEST: &str = "Examples:
  Whether what was signed is what these objects come to on these kernels:
    btfleet verify-manifest signed/payloads.intoto.json tool.bpf.o -k fleet.pack
  The same for a script:
    btfleet verify-manifest signed/payloads.intoto.json tool.bpf.o -k fleet.pack --format jsonl";

pub(crate) const MIN_BTF: &str = "Examples:
  Small BTF to ship with a tool, for kernels that have none:
    btfleet min-btf tool.bpf.o -k btfhub/ -o min/
  With what programs attach to, compressed:
    btfleet min-btf objects/ -k fleet.pack -o min/ --with-symbols --zstd";

pub(crate) const EXPLAIN: &str = "Examples:
  Why a program does not load, and what to do about it:
    btfleet explain tool.bpf.o --program handle_exec -k 6.1.0.btf
  Since which kernel it is so:
    btfleet explain tool.bpf.o --program handle_exec -k fleet.pack
  One record, with everything that was looked at:
    btfleet explain tool.bpf.o --section tp_btf/sched_switch --insn 104 -k 6.1.0.btf --verbose";

pub(crate) const CORE_RELOS: &str = "Examples:
  Programs with their records, for a loader that leaves CO-RE to the kernel:
    btfleet core-relos tool.bpf.o
  In bytes that it can pass on as they are:
    btfleet core-relos tool.bpf.o --format bin > tool.prog";

pub(crate) const LIVE: &str = "Examples:
  Whether the running kernel agrees (as root):
    btfleet live objects/
  The same for a script:
    btfleet live objects/ --format jsonl";

pub(crate) const CLASSES: &str = "Examples:
  Which kernels are the same to these objects, and which to boot for a test of all:
    btfleet classes objects/ -k fleet.pack
  Only their names:
    btfleet classes objects/ -k fleet.pack --emit list";

pub(crate) const DIFF: &str = "Examples:
  What changed between two kernels, as far as a tool depends on it:
    btfleet diff 6.1.0.btf 6.12.0.btf tool.bpf.o
  Everything, of two kernels of a pack:
    btfleet diff fleet.pack:6.1.0 fleet.pack:6.12.0";

pub(crate) const PACK: &str = "Examples:
  All kernels in one file, and what is in it:
    btfleet pack add fleet.pack kernels/
    btfleet pack ls fleet.pack";

pub(crate) const PACK_ADD: &str = "Examples:
  Kernels in files, as packages of a distribution, or the running one:
    btfleet pack add fleet.pack kernels/
    btfleet pack add fleet.pack linux-image-6.1.0-13-amd64.deb
    btfleet pack add fleet.pack live --name build-host
  BTF that was made of debugging information:
    btfleet pack add fleet.pack btfhub/ubuntu/20.04 --distribution 'ubuntu 20.04' --external";

pub(crate) const PACK_LS: &str = "Examples:
  What is in it:
    btfleet pack ls fleet.pack
  With all names and facts, for a script:
    btfleet pack ls fleet.pack --format jsonl";

pub(crate) const PACK_VERIFY: &str = "Examples:
  After it was copied:
    btfleet pack verify fleet.pack";

pub(crate) const PACK_RM: &str = "Examples:
  Kernels that nobody runs any more:
    btfleet pack rm fleet.pack kernels/5.4.0.btf kernels/5.8.0.btf";

pub(crate) const PACK_COMPACT: &str = "Examples:
  After much was removed:
    btfleet pack compact fleet.pack";

pub(crate) const INSPECT: &str = "Examples:
  What a file is, and what is in it:
    btfleet inspect vmlinuz-6.1.0 tool.bpf.o fleet.pack
  All files of a release:
    btfleet inspect release.tar.gz --format jsonl";

pub(crate) const BTF_DUMP: &str = "Examples:
  A header with all types of a kernel:
    btfleet btf dump 6.1.0.btf > vmlinux.h
  One struct with what it needs, and two types of a module:
    btfleet btf dump 6.1.0.btf task_struct
    btfleet btf dump 6.1.0.btf,nf_conntrack.btf 'struct nf_conn' nf_conn_labels
  As 'bpftool btf dump' prints it:
    btfleet btf dump 6.1.0.btf --format raw";

pub(crate) const BENCH_MATCHERS: &str = "Examples:
  Which way to search would be fastest for these objects:
    btfleet bench matchers objects/ -k 6.1.0.btf
  For a spreadsheet:
    btfleet bench matchers -k kernels/ --format csv > matchers.csv";

pub(crate) const CACHE_GC: &str = "Examples:
  Keep what was used in the last month, and no more than a gigabyte:
    btfleet cache gc --max-age 30 --max-size 1G";

pub(crate) const RULES: &str = "Examples:
  What a code means, and what to do about it:
    btfleet rules no-field
  All codes:
    btfleet rules";

pub(crate) const COMPLETIONS: &str = "Examples:
  For this shell:
    btfleet completions bash > ~/.local/share/bash-completion/completions/btfleet
  For all users of another:
    btfleet completions zsh > /usr/local/share/zsh/site-functions/_btfleet";

pub(crate) const MAN: &str = "Examples:
  Where 'man btfleet-check' finds them:
    btfleet man ~/.local/share/man/man1";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::args::Cli;

    /// The words of a line as a shell takes them, without where its output goes.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut is_quoted) = (vec![String::new()], false);
        for it in line.split(" > ").next().unwrap_or_default().chars() {
            match it {
                '\'' => is_quoted = !is_quoted,
                ' ' if !is_quoted => words.push(String::new()),
                it => words.last_mut().expect("there is one").push(it),
            }
        }
        assert!(!is_quoted, "{line}");
        words
    }

    fn check(command: &clap::Command, path: &str, count: &mut usize) {
        for verb in command.get_subcommands().filter(|it| it.get_name() != "help") {
            let path = format!("{path} {}", verb.get_name());
            check(verb, &path, count);
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = help.lines().filter_map(|it| it.strip_prefix("    ")).collect();
            assert!(verb.has_subcommands() || !lines.is_empty(), "{path} has no example");
            assert!(
                lines.is_empty() || lines.iter().any(|it| it.starts_with(&path)),
                "{path} has examples of others only"
            );
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
            for line in lines {
                if let Err(error) = Cli::try_parse_from(words(line)) {
                    panic!("{line}\n{error}");
                }
                *count += 1;
            }
        }
    }

    /// Check that every command has examples, and that they are command lines.
    #[test]
    fn examples_are_command_lines() {
        let mut count = 0;
        check(&Cli::command(), "btfleet", &mut count);
        assert!(count > 40, "{count}");
    }
}
