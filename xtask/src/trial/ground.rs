//! What cases stand on: a network with another end, models, a GPU, and a monitor that looks on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Suite;
use super::case::Case;
use super::event::{Event, Events};
use crate::child;
use crate::demo::{Alert, Scenario};
use crate::stage::{
    Cgroup, Config, Interrupt, Line, Metrics, Monitor, MonitorOptions, Network, Player, Profile,
};
use crate::tree::Tree;

/// Patience with the far side.
const FAR_TIMEOUT: Duration = Duration::from_mins(1);
/// Where the monitor runs, as under a service manager: cases freeze it there.
const MONITOR_CGROUP: &str = "gpuwarden/monitor";
/// Time between two looks at the output of a monitor that has ended.
const WORDS_PAUSE: Duration = Duration::from_millis(5);
/// Alerts a minute: the limit is for people, and every case has some.
const ALERTS_PER_MINUTE: u32 = 6000;

/// The ground of one run of a suite.
pub(super) struct Ground<'a> {
    pub(super) tree: &'a Tree,
    pub(super) suite: Suite,
    pub(super) directory: PathBuf,
    pub(super) gpus: Scenario,
    pub(super) interrupt: Interrupt,
    options: MonitorOptions,
    // In this order: the monitor ends before its cgroup goes.
    monitor: Option<Monitor>,
    _cgroup: Cgroup,
    /// What a monitor said that somebody ended.
    last_words: Vec<Line>,
    /// Monitors that were started so far.
    starts: u32,
    events: Events,
    // In this order: who is in the network ends before it goes.
    _far: Player,
    network: Network,
}

impl<'a> Ground<'a> {
    /// Sets everything up in an empty directory, and starts a monitor. On a host that is slower by
    /// some factor, whoever types on the far side takes as much longer.
    pub(super) fn set(
        tree: &'a Tree,
        suite: Suite,
        binary: PathBuf,
        cases: &[Case],
        directory: &Path,
        slowness: u64,
    ) -> Result<Self> {
        let interrupt = Interrupt::listen()?;
        let models = directory.join("models");
        fs::create_dir_all(&models).with_context(|| format!("create {}", models.display()))?;
        for case in cases {
            write_model(tree, &model(directory, case), case)?;
        }
        let gpus = Scenario::create(&directory.join("gpus.json"))?;
        let cgroup = Cgroup::create(MONITOR_CGROUP)?;
        let network = Network::create()?;
        network.widen()?;
        let far = start_far(tree, &network, directory, slowness, &interrupt)?;
        let rules = tree.path("tests/stand/rules.yaml");
        let config = Config {
            rules: vec![rules],
            models,
            profiles: profiles(),
            nvml: Some(library(tree, &binary)),
            alerts_per_minute: Some(ALERTS_PER_MINUTE),
            ..Config::default()
        };
        let options = MonitorOptions {
            binary,
            directory: tree.root().to_path_buf(),
            config: config.write(directory)?,
            output: "json",
            environment: vec![("FAKE_NVML_SCENARIO", gpus.path().into())],
            arguments: Vec::new(),
            logs: directory.to_path_buf(),
            cgroup: Some(cgroup.directory().to_path_buf()),
        };
        let events = Events::of(&directory.join("events-0.jsonl"));
        let directory = directory.to_path_buf();
        let mut ground = Self {
            tree,
            suite,
            directory,
            gpus,
            interrupt,
            options,
            monitor: None,
            _cgroup: cgroup,
            last_words: Vec::new(),
            starts: 0,
            events,
            _far: far,
            network,
        };
        ground.start_monitor()?;
        Ok(ground)
    }

    /// The model of a case.
    pub(super) fn model(&self, case: &Case) -> PathBuf {
        model(&self.directory, case)
    }

    /// Words before a command that is to run on the far side.
    pub(super) fn enter_far(&self) -> [String; 2] {
        self.network.enter()
    }

    /// The monitor's program.
    pub(super) fn binary(&self) -> &Path {
        &self.options.binary
    }

    /// Starts a monitor with a file of events of its own.
    pub(super) fn start_monitor(&mut self) -> Result<()> {
        self.starts += 1;
        let name = format!("events-{}.jsonl", self.starts);
        let path = self.directory.join(name);
        let logs = self.directory.join(format!("monitor-{}", self.starts));
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        self.options.arguments = vec!["--events".into(), path.clone().into()];
        self.options.logs = logs;
        self.events = Events::of(&path);
        let (monitor, _) = Monitor::start_ready(&self.options, &self.interrupt)?;
        self.monitor = Some(monitor);
        Ok(())
    }

    /// Ends the monitor in an orderly way.
    pub(super) fn stop_monitor(&mut self) -> Result<()> {
        let Some(monitor) = self.monitor.take() else { return Ok(()) };
        let status = monitor.stop()?;
        if !status.success() {
            bail!("the monitor ended with {status} when it was asked to stop");
        }
        Ok(())
    }

    /// Waits until the monitor has been ended by somebody, and forgets it.
    pub(super) fn lose_monitor(&mut self, patience: Duration) -> Result<bool> {
        let Some(mut monitor) = self.monitor.take() else { return Ok(true) };
        let ended = self.interrupt.wait(patience, || monitor.has_ended())?;
        if !ended {
            self.monitor = Some(monitor);
            return Ok(false);
        }
        // Its last words count, up to the end of its output.
        while let Ok(lines) = monitor.lines() {
            self.last_words.extend(lines);
            sleep(WORDS_PAUSE);
        }
        Ok(ended)
    }

    pub(super) fn monitor(&mut self) -> Result<&mut Monitor> {
        self.monitor.as_mut().context("no monitor runs")
    }

    /// What it counts; nothing where none runs.
    pub(super) fn metrics(&self) -> Result<Metrics> {
        self.monitor.as_ref().map_or_else(|| Ok(Metrics::default()), Monitor::metrics)
    }

    /// New events and new alerts.
    pub(super) fn look(&mut self) -> Result<(Vec<Event>, Vec<Alert>)> {
        let mut lines = std::mem::take(&mut self.last_words);
        if let Some(monitor) = &mut self.monitor {
            lines.extend(monitor.lines()?);
        }
        let events = self.events.read()?;
        let mut alerts = Vec::new();
        for line in lines {
            let alert: Alert = serde_json::from_str(&line.text)
                .with_context(|| format!("the monitor said `{}`", line.text))?;
            if alert.is_new() {
                alerts.push(alert);
            }
        }
        Ok((events, alerts))
    }

    /// A program on the far side, which sees neither cgroups nor other namespaces of this host.
    pub(super) fn far(&self, program: &str) -> Command {
        self.network.far(program)
    }
}

fn model(directory: &Path, case: &Case) -> PathBuf {
    let extension = if case.model_is_raw { "bin" } else { "safetensors" };
    directory.join("models").join(format!("{}.{extension}", case.id))
}

/// The fake driver library, from where the monitor was built.
fn library(tree: &Tree, monitor: &Path) -> PathBuf {
    let beside = monitor.with_file_name("libfake_nvml.so");
    if beside.is_file() { beside } else { tree.release("libfake_nvml.so") }
}

fn write_model(tree: &Tree, path: &Path, case: &Case) -> Result<()> {
    let mib = case.model_mib;
    if mib == 0 {
        return Ok(());
    }
    if case.model_is_raw {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        return file.set_len(u64::from(mib) << 20).context("write a model");
    }
    let mut python = child::command("/usr/bin/python3");
    python
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(tree.path("tests/e2e/actors/model.py"))
        .arg(path)
        .arg(mib.to_string());
    child::capture(&mut python).context("write a model")?;
    Ok(())
}

fn start_far(
    tree: &Tree,
    network: &Network,
    directory: &Path,
    slowness: u64,
    interrupt: &Interrupt,
) -> Result<Player> {
    let mut command = network.far("/usr/bin/python3");
    command.env("STAND_SLOWNESS", slowness.to_string());
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(tree.path("tests/stand/far.py")).arg(directory);
    let mut far = Player::start("far", &mut command, directory)?;
    far.wait_for("ready", FAR_TIMEOUT, interrupt, |line| line["act"] == "ready")?;
    Ok(far)
}

/// What the platform team of the suites declares: by the cgroup, one class each. The store is
/// allowed to all, nobody else to none.
fn profiles() -> Vec<Profile> {
    let profile = |id, role, is_isolated, cgroups| Profile {
        id,
        role,
        is_isolated,
        cgroups,
        peers: vec![Network::store_cidr()],
        names: &["*.store.example"],
    };
    vec![
        profile("case-isolated", "training", true, "/gpuwarden/isolated-training/"),
        profile("case-training", "training", false, "/gpuwarden/training/"),
        profile("case-inference", "inference", false, "/gpuwarden/inference/"),
        profile("case-notebook", "notebook", false, "/gpuwarden/notebook/"),
        profile("case-batch", "batch", false, "/gpuwarden/batch/"),
        profile("case-system", "system", false, "/gpuwarden/system/"),
    ]
}
