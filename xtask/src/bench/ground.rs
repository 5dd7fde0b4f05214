//! What every measurement stands on: directories, configuration, a monitor on demand, and the
//! generator as a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::actor::{Generated, Operation};
use crate::child;
use crate::cli::BenchArgs;
use crate::stage::{Cgroup, Config, Interrupt, Monitor, MonitorOptions, Profile};
use crate::tree::Tree;

/// Where the watched generator is, below the cgroup v2 mount.
const CGROUP: &str = "gpuwarden/bench/generator";
/// Alerts a minute that the monitor may make: more than the opens that are measured.
const ALERTS_PER_MINUTE: u32 = 100_000;
/// Peers of connections with an id: 127.1 and the id's lower two bytes.
const UNIQUE_PEERS: &str = "127.1.0.0/16";
/// First part of the message of the rules that are measured.
pub(super) const MARK: &str = "opened ";

/// The ground.
pub(super) struct Ground {
    pub(super) pairs: u32,
    pub(super) with_peer: bool,
    pub(super) operations: u32,
    pub(super) cpu: usize,
    pub(super) interrupt: Interrupt,
    /// The program that attaches the floor, where it is measured.
    pub(super) floor: Option<PathBuf>,
    binary: PathBuf,
    root: PathBuf,
    directory: TempDir,
    cgroup: Cgroup,
    /// The generator under the name of an AI process.
    generator: PathBuf,
}

/// What the generator is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) operation: Operation,
    pub(super) count: u32,
    pub(super) rate: Option<f64>,
    /// Whether it opens weights, in a cgroup with a profile.
    pub(super) is_watched: bool,
    /// Whether each operation has its own id and its start is logged.
    pub(super) is_unique: bool,
    pub(super) cpu: Option<usize>,
}

impl Ground {
    pub(super) fn lay(tree: &Tree, binary: PathBuf, args: &BenchArgs) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("gpuwarden-bench-")
            .tempdir()
            .context("create a temporary directory")?;
        for name in ["models", "plain"] {
            let path = directory.path().join(name);
            fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let generator = directory.path().join("python3");
        let own = std::env::current_exe().context("find this program")?;
        fs::copy(&own, &generator).with_context(|| format!("copy {}", own.display()))?;
        Ok(Self {
            pairs: args.pairs,
            with_peer: args.peer,
            operations: args.operations,
            cpu: args.cpu,
            interrupt: Interrupt::listen()?,
            floor: None,
            binary,
            root: tree.root().to_path_buf(),
            directory,
            cgroup: Cgroup::create(CGROUP)?,
            generator,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The monitor's program.
    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Starts a monitor with the shipped rules and those that fire on each operation with an id;
    /// how long until it was ready.
    pub(super) fn monitor(&self) -> Result<(Monitor, Duration)> {
        self.monitor_of(false)
    }

    /// The same; flows to loopback peers are told of if `reports_loopback`.
    pub(super) fn monitor_of(&self, reports_loopback: bool) -> Result<(Monitor, Duration)> {
        let rule = self.path("bench.yaml");
        fs::write(&rule, self.rule()).with_context(|| format!("write {}", rule.display()))?;
        let config = Config {
            rules: vec![rule],
            models: self.path("models"),
            profiles: vec![Profile {
                id: "bench",
                role: "training",
                is_isolated: false,
                cgroups: "/gpuwarden/bench/",
                peers: vec!["127.0.0.0/8".to_owned()],
                names: &[],
            }],
            nvml: None,
            alerts_per_minute: Some(ALERTS_PER_MINUTE),
            reports_loopback,
            ..Config::default()
        };
        let options = MonitorOptions {
            binary: self.binary.clone(),
            directory: self.root.clone(),
            config: config.write(self.directory.path())?,
            output: "json",
            environment: Vec::new(),
            arguments: Vec::new(),
            logs: self.directory.path().to_path_buf(),
            cgroup: None,
        };
        Monitor::start_ready(&options, &self.interrupt)
    }

    /// Starts a monitor with the shipped rules that reads the GPUs of a scenario, with the library
    /// that plays it, once a second; without one it finds no GPU.
    pub(super) fn gpu_monitor(&self, play: Option<(&Path, &Path)>) -> Result<Monitor> {
        let config = Config {
            models: self.path("models"),
            nvml: play.map(|(library, _)| library.to_path_buf()),
            gpu_interval_ms: Some(1_000),
            ..Config::default()
        };
        let scenario = |path: &Path| ("FAKE_NVML_SCENARIO", path.as_os_str().to_owned());
        let options = MonitorOptions {
            binary: self.binary.clone(),
            directory: self.root.clone(),
            config: config.write(self.directory.path())?,
            output: "json",
            environment: play.map(|(_, path)| scenario(path)).into_iter().collect(),
            arguments: Vec::new(),
            logs: self.directory.path().to_path_buf(),
            cgroup: None,
        };
        Monitor::start_ready(&options, &self.interrupt).map(|(monitor, _)| monitor)
    }

    fn rule(&self) -> String {
        let prefix = self.path("models").join("lat-");
        let rule = serde_json::json!({
            "apiVersion": "gpuwarden.dev/v1",
            "rules": [{
                "id": "bench-open",
                "title": "A file of the benchmark was opened",
                "severity": "low",
                "on": ["file_open"],
                "when": format!("file.path.startsWith(\"{}\") && !file.write", prefix.display()),
                "dedupe": { "key": ["file.path"], "for": "1s" },
                "message": format!("{MARK}{{{{file.name}}}}"),
            }, {
                "id": "bench-flow",
                "title": "A flow of the benchmark began",
                "severity": "low",
                "on": ["flow"],
                "when": format!(
                    "net.phase == \"start\" && net.direction == \"egress\" \
                     && net.dst.ip in cidr(\"{UNIQUE_PEERS}\")"
                ),
                "dedupe": { "key": ["net.dst.ip"], "for": "1s" },
                "message": format!("{MARK}{{{{net.dst.ip}}}}"),
            }],
        });
        rule.to_string()
    }

    /// Where operations with an id log their starts.
    pub(super) fn log(&self) -> PathBuf {
        self.path("starts.log")
    }

    /// Starts the generator.
    pub(super) fn start(&self, order: Order) -> Result<Child> {
        let Order { operation, count, rate, is_watched, is_unique, cpu } = order;
        let mut command = child::command(&self.generator);
        command.args(["actor", "launch"]);
        if is_watched {
            command.arg("--cgroup").arg(self.cgroup.directory());
        }
        let operation = serde_json::to_value(operation)?;
        command.arg("--").arg(&self.generator).args(["actor", "gen"]);
        command.arg(operation.as_str().unwrap_or_default());
        command.args(["--count", &count.to_string(), "--warm", &(count / 20).to_string()]);
        command.arg("--directory").arg(self.path(if is_watched { "models" } else { "plain" }));
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        if is_unique {
            command.arg("--unique").arg("--log").arg(self.log());
        }
        start(&mut command)
    }

    /// Runs the generator to its end.
    pub(super) fn generate(&self, order: Order) -> Result<Generated> {
        finish(self.start(order)?)
    }
}

fn start(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", child::render(command)))
}

/// Waits for a generator, and reads its result.
pub(super) fn finish(child: Child) -> Result<Generated> {
    let output = child.wait_with_output().context("wait for the generator")?;
    if !output.status.success() {
        anyhow::bail!("the generator failed ({})", output.status);
    }
    let generated: Generated =
        serde_json::from_slice(&output.stdout).context("read the generator's result")?;
    if generated.errors > 0 {
        anyhow::bail!("{} of {} operations failed", generated.errors, generated.count);
    }
    Ok(generated)
}

/// Ids and starts that a generator logged.
pub(super) fn read_starts(log: &Path) -> Result<Vec<(u32, u64)>> {
    let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    let parse = |line: &str| {
        let (id, start) = line.split_once(' ')?;
        Some((id.parse().ok()?, start.parse().ok()?))
    };
    Ok(text.lines().filter_map(parse).collect())
}
