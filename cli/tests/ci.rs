//! What `docs/ci.md` and `docs/install.md` tell people to have in their CI and in packages is tried out.

mod pages;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use yaml_rust2::{Yaml, YamlLoader};

use crate::pages::{page, root};

/// What a job sees: a directory with what the recipes expect, and what earlier steps said of the path.
struct Job {
    dir: TempDir,
    is_failed: bool,
}

impl Job {
    /// Lays out a project that builds these samples.
    fn new(objects: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let samples = root().join("workloads/samples").canonicalize().unwrap();
        let copy = |it: &&str| format!("\tcp {}/objects/{it}.bpf.o build/\n", samples.display());
        let makefile: String = objects.iter().map(copy).collect();
        fs::write(dir.path().join("Makefile"), format!("bpf:\n\tmkdir -p build\n{makefile}")).unwrap();
        fs::write(dir.path().join("btfleet.toml"), "").unwrap();
        let tools = dir.path().join("tools");
        fs::create_dir(&tools).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_btfleet"), tools.join("btfleet")).unwrap();
        let pack = Command::new(env!("CARGO_BIN_EXE_btfleet"))
            .args(["pack", "add", "fleet.pack"])
            .arg(samples.join("kernels"))
            .current_dir(&tools)
            .output();
        assert!(pack.unwrap().status.success());
        Self { dir, is_failed: false }
    }

    fn has(&self, name: &str) -> bool {
        fs::metadata(self.dir.path().join(name)).is_ok_and(|it| it.len() > 0)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Runs a script as the runners do: it ends with the first command that fails.
    fn run(&mut self, script: &str) -> Output {
        let added: String = self.read("path").lines().rev().map(|it| format!("{it}:")).collect();
        let out = Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", script])
            .env("PATH", format!("{added}{}", std::env::var("PATH").unwrap()))
            .env("GITHUB_PATH", self.dir.path().join("path"))
            .env("GITHUB_STEP_SUMMARY", self.dir.path().join("summary"))
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        self.is_failed |= !out.status.success();
        out
    }
}

/// The recipes of the page, in the order in which they stand there.
fn recipes() -> Vec<Yaml> {
    let blocks = page("docs/ci.md").blocks("yaml");
    blocks.into_iter().flat_map(|(_, lines)| YamlLoader::load_from_str(&lines.join("\n")).unwrap()).collect()
}

fn at<'a>(yaml: &'a Yaml, path: &[&str]) -> &'a Yaml {
    path.iter().fold(yaml, |it, key| {
        it.as_hash().and_then(|it| it.get(&Yaml::from_str(key))).unwrap_or(&Yaml::BadValue)
    })
}

fn list<'a>(yaml: &'a Yaml, path: &[&str]) -> &'a [Yaml] {
    at(yaml, path).as_vec().map_or(&[], Vec::as_slice)
}

/// Objects that are fine, and those with one that is not.
const CASES: [(&[&str], bool); 2] =
    [(&["exec_snoop", "file_times"], false), (&["exec_snoop", "unguarded_read"], true)];

/// Check that the job for GitHub fails if and only if a program does, and leaves its reports in either case.
#[test]
fn the_job_for_github_does_what_it_is_for() {
    let recipes = recipes();
    let steps =
        recipes.iter().map(|it| list(it, &["jobs", "btf", "steps"])).find(|it| !it.is_empty()).unwrap();
    for (objects, fails) in CASES {
        let mut job = Job::new(objects);
        let (mut ran, mut kept) = (0, Vec::new());
        for step in steps {
            let is_always = at(step, &["if"]).as_str() == Some("always()");
            if job.is_failed && !is_always {
                continue;
            }
            if let Some(script) = at(step, &["run"]).as_str() {
                let out = job.run(script);
                let told = String::from_utf8_lossy(&out.stderr).into_owned();
                let is_check = script.contains("btfleet check");
                assert_eq!(out.status.code(), Some(i32::from(is_check && fails)), "{script}\n{told}");
                ran += 1;
            }
            let with = ["sarif_file", "path"].map(|it| at(step, &["with", it]).as_str());
            kept.extend(with.into_iter().flatten());
        }
        assert_eq!(job.is_failed, fails);
        assert_eq!((ran, kept.as_slice()), (4, ["btfleet.sarif", "btfleet.html"].as_slice()));
        assert!(kept.iter().all(|it| job.has(it)));
        assert_eq!(job.read("summary").contains("inode.i_atime.tv_sec"), fails);
    }
}

/// Check the same of the job for GitLab.
#[test]
fn the_job_for_gitlab_does_what_it_is_for() {
    let recipes = recipes();
    let recipe = recipes.iter().find(|it| !at(it, &["btf", "script"]).is_badvalue()).unwrap();
    for (objects, fails) in CASES {
        let mut job = Job::new(objects);
        let lines = list(recipe, &["btf", "before_script"]).iter().chain(list(recipe, &["btf", "script"]));
        let script: Vec<&str> = lines.map(|it| it.as_str().unwrap()).collect();
        assert_eq!(script.len(), 3);
        let out = job.run(&script.join("\n"));
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(i32::from(fails)), "{told}");
        let kept = list(recipe, &["btf", "artifacts", "paths"]).iter();
        let kept = kept.chain([at(recipe, &["btf", "artifacts", "reports", "junit"])]);
        let kept: Vec<&str> = kept.map(|it| it.as_str().unwrap()).collect();
        assert_eq!(kept, ["btfleet.jsonl", "btfleet.xml"]);
        assert!(kept.iter().all(|it| job.has(it)));
        assert_eq!(job.read("btfleet.xml").contains("<failure"), fails);
    }
}

/// Whether a program is installed; says so past the test harness where it is not.
fn is_there(name: &str, what_for: &str) -> bool {
    let is_there =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|it| it.join(name).is_file());
    if !is_there {
        // Without stderr there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name} is not installed: {what_for}");
    }
    is_there
}

fn btfleet(args: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}");
    out.stdout
}

/// Check that shells take the completion scripts.
#[test]
fn shells_take_the_completions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = btfleet(&["completions", shell]);
        let file = dir.path().join(shell);
        fs::write(&file, &script).unwrap();
        assert!(String::from_utf8(script).unwrap().contains("min-btf"), "{shell}");
        if is_there(shell, "whether it takes its completions") {
            let out = Command::new(shell).arg("-n").arg(&file).output().unwrap();
            assert!(out.status.success() && out.stderr.is_empty(), "{shell}: {out:?}");
        }
    }
    if is_there("bash", "what it completes") {
        let script = "source \"$0\"; COMP_WORDS=(btfleet ch); COMP_CWORD=1; _btfleet btfleet ch btfleet; echo \"${COMPREPLY[@]}\"";
        let out = Command::new("bash").args(["-c", script]).arg(dir.path().join("bash")).output().unwrap();
        assert_eq!(
            String::from_utf8(out.stdout).unwrap(),
            "check\n",
            "{:?}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

/// Check that manual pages are rendered without a warning.
#[test]
fn manual_pages_are_rendered() {
    let dir = tempfile::tempdir().unwrap();
    btfleet(&["man", dir.path().to_str().unwrap()]);
    let mut pages: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path()).collect();
    pages.sort();
    assert!(pages.len() > 15, "{pages:?}");
    if is_there("groff", "whether manual pages are rendered without warnings") {
        for page in &pages {
            let groff = |page: &Path| {
                let mut groff = Command::new("groff");
                groff
                    .args(["-man", "-ww", "-Tutf8", "-Kutf8"])
                    .stdin(Stdio::null())
                    .arg(page)
                    .output()
                    .unwrap()
            };
            let out = groff(page);
            let told = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success() && told.is_empty(), "{}: {told}", page.display());
            assert!(out.stdout.len() > 200, "{}", page.display());
        }
    }
}
