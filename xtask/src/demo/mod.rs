//! `demo`: scripted incidents and their harmless twins, played for real against a running monitor.

mod alert;
mod gpu;
mod incident;
mod play;
mod readme;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::alert::Alert;
use self::incident::{INCIDENTS, Incident};
use self::report::Outcome;
pub(crate) use self::report::size;
use crate::cli::DemoArgs;
use crate::stage::{Config, Interrupt, Monitor, MonitorOptions, Network, Profile};
use crate::tree::Tree;
use crate::{child, setup, suite};

/// Where everything of one demo is.
pub(crate) struct Scene<'a> {
    tree: &'a Tree,
    /// The monitor.
    binary: PathBuf,
    /// Configuration, models, logs.
    directory: PathBuf,
    network: Network,
    gpus: gpu::Scenario,
    interrupt: Interrupt,
}

impl Scene<'_> {
    fn models(&self) -> PathBuf {
        self.directory.join("models")
    }
}

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
        if !INCIDENTS.iter().any(|incident| incident.name == name) {
            let known: Vec<_> = INCIDENTS.iter().map(|incident| incident.name).collect();
            bail!("no incident `{name}`; there are {}", known.join(", "));
        }
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
    let interrupt = Interrupt::listen()?;
    let models = directory.join("models");
    fs::create_dir_all(&models).with_context(|| format!("create {}", models.display()))?;
    let gpus = gpu::Scenario::create(&directory.join("gpus.json"))?;
    let network = Network::create()?;
    let mut scene =
        Scene { tree, binary, directory: directory.to_path_buf(), network, gpus, interrupt };
    for incident in chosen {
        play::prepare_model(&scene, incident)?;
    }
    let output = if args.readme { "human" } else { "json" };
    let options = options(&scene, output)?;
    let (mut monitor, ready) = Monitor::start_ready(&options, &scene.interrupt)?;
    if args.readme {
        return readme::refresh(&mut scene, &mut monitor).map(|()| ExitCode::SUCCESS);
    }
    if !args.json {
        println!("the monitor was ready after {} ms\n", ready.as_millis());
    }
    let mut outcomes = Vec::new();
    for incident in chosen {
        let played = play::play(&mut scene, incident, &mut monitor);
        let played = played.with_context(|| format!("incident {}", incident.name))?;
        let outcome = Outcome::judge(incident, played);
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

fn options(scene: &Scene<'_>, output: &'static str) -> Result<MonitorOptions> {
    let library = scene.tree.release("libfake_nvml.so");
    let config = Config {
        models: scene.models(),
        profiles: profiles(),
        nvml: Some(library),
        ..Config::default()
    };
    Ok(MonitorOptions {
        binary: scene.binary.clone(),
        directory: scene.tree.root().to_path_buf(),
        config: config.write(&scene.directory)?,
        output,
        environment: vec![("FAKE_NVML_SCENARIO", scene.gpus.path().into())],
        logs: scene.directory.clone(),
    })
}

/// What the platform team of the demo declares. The store is allowed to all, nobody else to none.
fn profiles() -> Vec<Profile> {
    let profile = |id, role, is_isolated, cgroups| Profile {
        id,
        role,
        is_isolated,
        cgroups,
        peers: vec![Network::store_cidr()],
    };
    vec![
        profile("demo-isolated", "training", true, "/gpuwarden/isolated-training/"),
        profile("demo-training", "training", false, "/gpuwarden/training/"),
        profile("demo-inference", "inference", false, "/gpuwarden/inference/"),
    ]
}
