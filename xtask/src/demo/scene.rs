//! Where incidents are played: a network with another end, models, a GPU, and what a monitor is
//! told about them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

use super::incident::{INCIDENTS, Incident};
use super::report::Outcome;
use super::{gpu, play};
use crate::stage::{Cgroup, Config, Interrupt, Monitor, MonitorOptions, Network, Player, Profile};
use crate::tree::Tree;

/// Where everything of one play is.
pub(crate) struct Scene<'a> {
    pub(super) tree: &'a Tree,
    /// The monitor.
    binary: PathBuf,
    /// Configuration, models, logs.
    pub(super) directory: PathBuf,
    pub(super) network: Network,
    pub(super) gpus: gpu::Scenario,
    pub(super) interrupt: Interrupt,
}

/// A job that stays on the GPU while other things happen. Dropped, it is ended.
pub(crate) struct Resident {
    // In this order: the job is ended before its cgroup is removed.
    _job: Player,
    _cgroup: Cgroup,
}

impl<'a> Scene<'a> {
    /// Sets the scene in an empty directory.
    pub(crate) fn set(tree: &'a Tree, binary: PathBuf, directory: &Path) -> Result<Self> {
        let interrupt = Interrupt::listen()?;
        let models = directory.join("models");
        fs::create_dir_all(&models).with_context(|| format!("create {}", models.display()))?;
        let gpus = gpu::Scenario::create(&directory.join("gpus.json"))?;
        let network = Network::create()?;
        Ok(Self { tree, binary, directory: directory.to_path_buf(), network, gpus, interrupt })
    }

    pub(super) fn models(&self) -> PathBuf {
        self.directory.join("models")
    }

    /// A file of the sources.
    pub(crate) fn source(&self, relative: &str) -> PathBuf {
        self.tree.path(relative)
    }

    /// A file of this play.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A folder of this play, made when missing.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path(name);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    /// Whoever waits in this scene looks here.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Makes what an incident begins with, before a monitor starts.
    pub(crate) fn prepare(&self, incident: &Incident) -> Result<()> {
        play::prepare_model(self, incident)
    }

    /// How a monitor is run here: with these sinks (as in `export.sinks`) beside standard output.
    pub(crate) fn options(
        &self,
        output: &'static str,
        sinks: Vec<Value>,
    ) -> Result<MonitorOptions> {
        let library = self.tree.release("libfake_nvml.so");
        let config = Config {
            models: self.models(),
            profiles: profiles(),
            nvml: Some(library),
            sinks,
            ..Config::default()
        };
        Ok(MonitorOptions {
            binary: self.binary.clone(),
            directory: self.tree.root().to_path_buf(),
            config: config.write(&self.directory)?,
            output,
            environment: vec![("FAKE_NVML_SCENARIO", self.gpus.path().into())],
            arguments: Vec::new(),
            logs: self.directory.clone(),
            cgroup: None,
        })
    }

    /// Plays an incident, and judges what was said about it.
    pub(crate) fn play(&mut self, incident: &Incident, monitor: &mut Monitor) -> Result<Outcome> {
        let played = play::play(self, incident, monitor);
        let played = played.with_context(|| format!("incident {}", incident.name))?;
        Ok(Outcome::judge(incident, played))
    }

    /// Begins an incident whose job then goes on for `seconds`, and keeps it on the GPU whenever
    /// no other incident uses that.
    pub(crate) fn settle(&mut self, incident: &Incident, seconds: u32) -> Result<Resident> {
        let cgroup = Cgroup::create(incident.cgroup)?;
        let steps = ["--steps".to_owned(), (seconds * 10).to_string()];
        let mut job = play::start_job(self, incident, &cgroup, &steps)?;
        let pid = play::pid(&mut job, &self.interrupt)?;
        self.gpus.settle(incident.gpu, pid)?;
        job.go()?;
        job.wait_for_act(incident.act, &self.interrupt)?;
        Ok(Resident { _job: job, _cgroup: cgroup })
    }
}

/// The incident of this name.
pub(crate) fn incident(name: &str) -> Result<&'static Incident> {
    INCIDENTS.iter().find(|incident| incident.name == name).ok_or_else(|| {
        let known: Vec<_> = INCIDENTS.iter().map(|incident| incident.name).collect();
        anyhow!("no incident `{name}`; there are {}", known.join(", "))
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
        names: &[],
    };
    vec![
        profile("demo-isolated", "training", true, "/gpuwarden/isolated-training/"),
        profile("demo-training", "training", false, "/gpuwarden/training/"),
        profile("demo-inference", "inference", false, "/gpuwarden/inference/"),
    ]
}
