//! `setup`: what a build needs and is not a crate. It finds or installs, says which, and leaves
//! alone what is there.

mod apt;
mod package;
mod toolchain;

use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::child;
use crate::cli::SetupArgs;
use crate::tree::Tree;
use crate::vm;

pub(crate) use self::package::Package;
pub(crate) use self::toolchain::Toolchain;

/// What was done about one thing.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    /// Whether it was there before.
    found: bool,
    detail: String,
    seconds: f64,
}

/// Collects and prints what was done.
#[derive(Debug, Default)]
pub(crate) struct Report {
    entries: Vec<Entry>,
    is_quiet: bool,
}

impl Report {
    /// Notes that `name` was there.
    pub(crate) fn found(&mut self, name: &str, detail: &str) {
        self.note(name, true, detail, 0.0);
    }

    /// Notes that `name` was installed.
    pub(crate) fn installed(&mut self, name: &str, detail: &str, since: Instant) {
        self.note(name, false, detail, since.elapsed().as_secs_f64());
    }

    /// Says what is about to be done, because it takes a while.
    pub(crate) fn begin(&self, what: &str) {
        if !self.is_quiet {
            eprintln!("  …         {what}");
        }
    }

    fn note(&mut self, name: &str, found: bool, detail: &str, seconds: f64) {
        if !self.is_quiet {
            let word = if found { "found" } else { "installed" };
            let time = if found { String::new() } else { format!(" ({seconds:.0} s)") };
            eprintln!("  {word:<9} {name}: {detail}{time}");
        }
        let (name, detail) = (name.to_owned(), detail.to_owned());
        self.entries.push(Entry { name, found, detail, seconds });
    }
}

/// `cargo xtask setup`.
pub(crate) fn run(tree: &Tree, args: &SetupArgs) -> Result<()> {
    let mut report = Report { is_quiet: args.json, ..Report::default() };
    let toolchain = if args.check { check()? } else { toolchain::ensure(tree, &mut report)? };
    if args.check {
        report.found("bpf toolchain", &toolchain.describe());
    }
    if args.tests {
        ensure_packages(tree, package::FOR_TESTS, args.check, &mut report)?;
        if !args.check {
            vm::ensure_qemu(&tree.logs()?)?;
        }
    }
    if args.json {
        let answer = serde_json::json!({ "toolchain": toolchain, "entries": report.entries });
        println!("{answer}");
    }
    Ok(())
}

/// Finds or installs the BPF toolchain, for a build.
pub(crate) fn for_build(tree: &Tree) -> Result<Toolchain> {
    toolchain::ensure(tree, &mut Report::default())
}

/// Finds or installs what the tests run against.
pub(crate) fn for_tests(tree: &Tree) -> Result<()> {
    ensure_packages(tree, package::FOR_TESTS, false, &mut Report::default())
}

/// Finds or installs what the demo runs: a network namespace and a Python job.
pub(crate) fn for_demo(tree: &Tree) -> Result<()> {
    let mut report = Report { is_quiet: true, ..Report::default() };
    ensure_packages(tree, package::FOR_DEMO, false, &mut report)
}

fn check() -> Result<Toolchain> {
    match toolchain::find()? {
        Some(toolchain) => Ok(toolchain),
        None => bail!("no BPF toolchain is complete here; run `cargo xtask setup`"),
    }
}

fn ensure_packages(
    tree: &Tree,
    packages: &[Package],
    check: bool,
    report: &mut Report,
) -> Result<()> {
    if !apt::is_here() {
        bail!(
            "this host has no apt-get; install these by its own package manager: {}",
            packages.iter().map(|package| package.name).collect::<Vec<_>>().join(" ")
        );
    }
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let missing = apt::missing(&names)?;
    if missing.is_empty() {
        report.found("packages", &format!("all {}", names.len()));
        return Ok(());
    }
    if check {
        let wants: Vec<String> = packages
            .iter()
            .filter(|package| missing.contains(&package.name.to_owned()))
            .map(|package| format!("{} ({})", package.name, package.why))
            .collect();
        bail!("missing: {}; run `cargo xtask setup --tests`", wants.join(", "));
    }
    let start = Instant::now();
    report.begin(&format!("apt-get install {}", missing.join(" ")));
    apt::install(&missing, &tree.logs()?.join("apt.log"))?;
    report.installed("packages", &missing.join(" "), start);
    Ok(())
}

/// A cargo command, which finds the BPF toolchain where one is given.
pub(crate) fn cargo(tree: &Tree, toolchain: Option<&Toolchain>) -> std::process::Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = child::command(cargo);
    command.current_dir(tree.root());
    if let Some(toolchain) = toolchain {
        toolchain.export(&mut command);
    }
    command
}
