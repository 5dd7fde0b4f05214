//! `demo`: scripted incidents and their harmless twins, played for real against a running monitor.

mod alert;
mod gpu;
mod incident;
mod play;
mod readme;
mod report;
mod scene;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

pub(crate) use self::alert::Alert;
pub(crate) use self::gpu::Scenario;
use self::incident::INCIDENTS;
pub(crate) use self::incident::{GpuLoad, Incident};
pub(crate) use self::report::{Outcome, size};
pub(crate) use self::scene::{Scene, incident};
use crate::cli::DemoArgs;
use crate::stage::Monitor;
use crate::tree::Tree;
use crate::{child, setup, suite};

/// `cargo xtask demo`.
pub(crate) fn run(tree: &Tree, args: &DemoArgs) -> Result<ExitCode> {
    if args.list {
        for incident in INCIDENTS {
            println!("{:<20} {}", incident.name, incident.story);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&args.only)?;
    suite::require_root("the demo loads programs into the kernel, which needs root", "demo")?;
    let binary = build(tree, args.monitor.as_deref())?;
    setup::for_demo(tree)?;

    let temporary = tempfile::Builder::new()
        .prefix("gpuwarden-demo-")
        .tempdir()
        .context("create a temporary directory")?;
    let directory = temporary.path().to_path_buf();
    let result = play_all(tree, binary, args, &chosen, &directory);
    if args.keep {
        eprintln!("kept: {}", temporary.keep().display());
    }
    result
}

fn choose(only: &[String]) -> Result<Vec<&'static Incident>> {
    for name in only {
        incident(name)?;
    }
    let is_chosen =
        |incident: &&Incident| only.is_empty() || only.iter().any(|name| name == incident.name);
    Ok(INCIDENTS.iter().filter(is_chosen).collect())
}

/// Builds what is played with, except a monitor that is there already; the monitor's path.
pub(crate) fn build(tree: &Tree, monitor: Option<&Path>) -> Result<PathBuf> {
    let toolchain = if monitor.is_some() { None } else { Some(setup::for_build(tree)?) };
    let mut cargo = setup::cargo(tree, toolchain.as_ref());
    cargo.args(["build", "--quiet", "--release", "--package", "fake-nvml"]);
    if monitor.is_none() {
        cargo.args(["--package", "monitor"]);
    }
    child::must_show(&mut cargo)?;
    let Some(monitor) = monitor else { return Ok(tree.daemon()) };
    // It will be started from another directory.
    monitor.canonicalize().with_context(|| format!("find {}", monitor.display()))
}

fn play_all(
    tree: &Tree,
    binary: PathBuf,
    args: &DemoArgs,
    chosen: &[&Incident],
    directory: &Path,
) -> Result<ExitCode> {
    let mut scene = Scene::set(tree, binary, directory)?;
    for incident in chosen {
        scene.prepare(incident)?;
    }
    let output = if args.readme { "human" } else { "json" };
    let options = scene.options(output, Vec::new())?;
    let (mut monitor, ready) = Monitor::start_ready(&options, scene.interrupt())?;
    if args.readme {
        return readme::refresh(&mut scene, &mut monitor).map(|()| ExitCode::SUCCESS);
    }
    if !args.json {
        println!("the monitor was ready after {} ms\n", ready.as_millis());
    }
    let mut outcomes = Vec::new();
    for incident in chosen {
        let outcome = scene.play(incident, &mut monitor)?;
        if !args.json {
            report::print(&outcome);
        }
        outcomes.push(outcome);
    }
    let status = monitor.stop()?;
    if !status.success() {
        bail!("the monitor ended with {status} when it was asked to stop");
    }
    report::close(&outcomes, args.json)
}
