//! `fuzz`: the fuzz targets under libFuzzer, with the address sanitizer. docs/fuzzing.md tells what
//! each of them feeds and what must hold.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

use crate::child;
use crate::cli::FuzzArgs;
use crate::tree::Tree;

/// The workspace of the targets.
const FOLDER: &str = "tests/fuzz";
/// An input that takes longer than this is a finding.
const INPUT_SECONDS_MAX: u32 = 10;
/// Resident memory beyond which an input is a finding.
const MEMORY_MIB_MAX: u32 = 2_048;

/// Fuzzes the chosen targets, one after the other.
pub(crate) fn run(tree: &Tree, args: &FuzzArgs) -> Result<ExitCode> {
    let known = targets(tree)?;
    if args.list {
        for target in &known {
            println!("{target}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut chosen: Vec<&str> = Vec::new();
    for target in &args.targets {
        let Some(target) = known.get(target.as_str()) else {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            bail!("{target}: no such target; there are {}", known.join(", "));
        };
        chosen.push(target);
    }
    if chosen.is_empty() {
        chosen.extend(known.iter().map(String::as_str));
    }
    find_tools()?;
    let mut failed = 0;
    for target in &chosen {
        eprintln!("    … {target}: {} s after it is built", args.seconds);
        if let Err(error) = fuzz(tree, target, args.seconds) {
            failed += 1;
            println!("FAILED    {target}: {error:#}");
        } else {
            println!("passed    {target}");
        }
    }
    println!("\n{} passed, {failed} failed", chosen.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names of the targets: the files that hold them.
fn targets(tree: &Tree) -> Result<BTreeSet<String>> {
    let folder = tree.path(&format!("{FOLDER}/fuzz_targets"));
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let name = |path: &Path| Some(path.file_stem()?.to_str()?.to_owned());
    Ok(entries.filter_map(|entry| name(&entry.ok()?.path())).collect())
}

/// libFuzzer comes with nightly only; cargo-fuzz drives it.
fn find_tools() -> Result<()> {
    let toolchains = child::capture(Command::new("rustup").args(["toolchain", "list"]))
        .context("rustup is needed for a nightly toolchain")?;
    ensure!(
        toolchains.lines().any(|line| line.starts_with("nightly")),
        "no nightly toolchain: `rustup toolchain install nightly --profile minimal` gets one"
    );
    if child::capture(Command::new("cargo").args(["fuzz", "--version"])).is_ok() {
        return Ok(());
    }
    eprintln!("    … installing cargo-fuzz");
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "--locked", "cargo-fuzz"]);
    child::must_show(&mut install)
}

fn fuzz(tree: &Tree, target: &str, seconds: NonZeroU32) -> Result<()> {
    // What is found is kept apart, so that the stored inputs stay few.
    let found = tree.logs()?.join("fuzz").join(target);
    fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
    let stored = tree.path(&format!("{FOLDER}/corpus/{target}"));
    let mut cargo = Command::new("cargo");
    cargo.args(["+nightly", "fuzz", "run", "--fuzz-dir", FOLDER, target]);
    cargo.arg(&found).arg(&stored).arg("--");
    cargo.arg(format!("-max_total_time={seconds}"));
    cargo.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    cargo.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    // The kernel side is not what is fed.
    cargo.env("AYA_BUILD_SKIP", "1").current_dir(tree.root());
    // A target folder given from outside holds what the stable toolchain built.
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTUP_TOOLCHAIN");
    let status = cargo.status().context("run cargo fuzz")?;
    ensure!(status.success(), "{status}; the input lies below {FOLDER}/artifacts/{target}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_stored_inputs_and_a_row_in_the_page() {
        let tree = Tree::find().expect("the tests run in the tree");
        let page = fs::read_to_string(tree.path("docs/fuzzing.md")).expect("the page is there");
        let targets = targets(&tree).expect("there are targets");
        assert!(targets.len() >= 7, "{targets:?}");
        for target in targets {
            assert!(page.contains(&format!("| `{target}` |")), "{target} is not in the page");
            let stored = tree.path(&format!("{FOLDER}/corpus/{target}"));
            assert!(
                fs::read_dir(stored).is_ok_and(|mut inputs| inputs.next().is_some()),
                "{target}"
            );
        }
    }
}
