//! `build`, `run` and `test`: the commands that people and the CI call.

mod count;
mod step;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

pub(crate) use self::step::StepName;
use self::step::StepResult;
use crate::cli::{BuildArgs, RunArgs, TestArgs};
use crate::setup::{self, Toolchain};
use crate::tree::Tree;
use crate::{child, tidy};

/// `cargo xtask build`.
pub(crate) fn build(tree: &Tree, args: &BuildArgs) -> Result<()> {
    let toolchain = setup::for_build(tree)?;
    let mut cargo = setup::cargo(tree, Some(&toolchain));
    cargo.args(["build", "--package", "monitor"]);
    if args.release {
        cargo.arg("--release");
    }
    child::must_show(&mut cargo)
}

/// `cargo xtask run`.
pub(crate) fn run_monitor(tree: &Tree, args: &RunArgs) -> Result<ExitCode> {
    require_root("gpuwarden loads programs into the kernel, which needs root", "run")?;
    build(tree, &BuildArgs { release: true })?;
    let daemon = tree.daemon();
    // The shipped rules are found relative to the tree.
    let mut command = child::command(&daemon);
    command.current_dir(tree.root()).arg("run").args(&args.args);
    let status = command.status().with_context(|| format!("start {}", daemon.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// A clear refusal for whoever is not root.
pub(crate) fn require_root(reason: &str, task: &str) -> Result<()> {
    if child::is_root() {
        return Ok(());
    }
    bail!("{reason}; try: sudo --preserve-env=PATH,HOME $(command -v cargo) xtask {task}")
}

/// `cargo xtask test`.
pub(crate) fn test(tree: &Tree, args: &TestArgs) -> Result<ExitCode> {
    let wanted: Vec<StepName> = StepName::ALL
        .iter()
        .copied()
        .filter(|name| args.only.is_empty() || args.only.contains(name))
        .collect();
    let needs_toolchain = wanted.iter().any(|name| name.needs_toolchain());
    let toolchain = if needs_toolchain { Some(setup::for_build(tree)?) } else { None };
    if wanted.iter().any(|name| name.needs_packages()) {
        setup::for_tests(tree)?;
    }
    let mut results = Vec::new();
    for name in wanted {
        eprintln!("  …         {name}");
        let result = test_step(tree, toolchain.as_ref(), name)?;
        eprintln!("  {:<9} {name} ({:.1} s)", result.word(), result.seconds);
        if result.failed > 0 {
            eprintln!("{}\n", result.detail);
        }
        results.push(result);
    }
    Ok(step::report(&results, args.json))
}

fn test_step(tree: &Tree, toolchain: Option<&Toolchain>, name: StepName) -> Result<StepResult> {
    if name.needs_root() && !child::is_root() {
        // A person without root learns what was left out; a CI must not pass without it.
        return Ok(if child::is_ci() {
            StepResult::failed(name, "this step needs root, and CI is set: nothing may be left out")
        } else {
            StepResult::left_out(name, "needs root")
        });
    }
    if name == StepName::Tidy {
        return tidy_step(tree);
    }
    let log = tree.logs()?.join(format!("{name}.log"));
    let mut command = name.command(tree, toolchain);
    let outcome = child::run_logged(&name.to_string(), &mut command, &log)?;
    StepResult::from_log(name, outcome, &log)
}

fn tidy_step(tree: &Tree) -> Result<StepResult> {
    let start = std::time::Instant::now();
    let findings = tidy::check(tree)?;
    let detail = findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Ok(StepResult {
        name: StepName::Tidy,
        passed: u64::from(findings.is_empty()),
        failed: findings.len() as u64,
        seconds: start.elapsed().as_secs_f64(),
        is_left_out: false,
        detail,
    })
}
