//! Plays one incident: makes the cgroup, the far side, the job, and collects what is said.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::incident::{ANSWERS, DISCARD_PORT, GpuLoad, Incident, Job, POOL_PORT, SERVE_PORT};
use super::{Alert, Scene};
use crate::actor::{Ended, Service};
use crate::stage::{Cgroup, Interrupt, Line, Monitor, Network, Player};

/// Patience with an alert after the job has ended.
const ALERT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time given to alerts that must not come.
const SILENCE: Duration = Duration::from_millis(1500);
/// Patience with the far side.
const SINK_TIMEOUT: Duration = Duration::from_secs(10);

/// What was said during a play, and what really happened.
pub(super) struct Played {
    /// Alerts about this workload, with the time at which each was read.
    pub(super) alerts: Vec<(u64, Alert)>,
    /// Alerts about other workloads of this host.
    pub(super) elsewhere: Vec<Alert>,
    /// Lines of output that are no alert.
    pub(super) unreadable: Vec<String>,
    /// The job.
    pub(super) pid: u32,
    /// The model it reads.
    pub(super) model: String,
    /// When the act began.
    pub(super) act_ns: u64,
    /// Connections that ended at the far side.
    pub(super) arrived: Vec<Ended>,
}

/// Writes the model that an incident begins with, before the monitor starts.
pub(super) fn prepare_model(scene: &Scene<'_>, incident: &Incident) -> Result<()> {
    let Some(mib) = incident.model_mib() else { return Ok(()) };
    let mut python = crate::child::command("/usr/bin/python3");
    python
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(scene.tree.path("tests/e2e/actors/model.py"))
        .arg(model(scene, incident))
        .arg(mib.to_string());
    crate::child::capture(&mut python).context("write a model")?;
    Ok(())
}

fn model(scene: &Scene<'_>, incident: &Incident) -> String {
    scene.models().join(format!("{}.safetensors", incident.name)).display().to_string()
}

/// Plays it.
pub(super) fn play(
    scene: &mut Scene<'_>,
    incident: &Incident,
    monitor: &mut Monitor,
) -> Result<Played> {
    let cgroup = Cgroup::create(incident.cgroup)?;
    let mut sink = start_sink(scene)?;
    let mut job = start_job(scene, incident, &cgroup, &[])?;
    let pid = pid(&mut job, &scene.interrupt)?;
    scene.gpus.play(incident.gpu, pid)?;

    job.go()?;
    let act_ns = job.wait_for_act(incident.act, &scene.interrupt)?["mono_ns"]
        .as_u64()
        .context("an act says its time")?;
    if incident.job == Job::Serve {
        ask(scene)?;
    }
    job.finish(&scene.interrupt)?;
    let mut said = Said::default();
    let is_over = |said: &Said| {
        let expected = incident.expected.unwrap_or_default();
        said.alerts.iter().any(|(_, alert)| alert.rule.id == expected)
    };
    let patience = if incident.expected.is_some() { ALERT_TIMEOUT } else { SILENCE };
    scene.interrupt.wait(patience, || {
        said.read(monitor.lines()?, incident.cgroup, pid);
        Ok(is_over(&said))
    })?;
    scene.gpus.play(GpuLoad::Idle, 0)?;
    let arrived =
        sink.said().iter().filter_map(|line| serde_json::from_value(line.clone()).ok()).collect();
    let Said { alerts, elsewhere, unreadable } = said;
    let model = model(scene, incident);
    Ok(Played { alerts, elsewhere, unreadable, pid, model, act_ns, arrived })
}

#[derive(Default)]
struct Said {
    alerts: Vec<(u64, Alert)>,
    elsewhere: Vec<Alert>,
    unreadable: Vec<String>,
}

impl Said {
    fn read(&mut self, lines: Vec<Line>, cgroup: &str, pid: u32) {
        for line in lines {
            match serde_json::from_str::<Alert>(&line.text) {
                Ok(alert) if !alert.is_new() => {}
                Ok(alert) if alert.is_about(cgroup, pid) => {
                    self.alerts.push((line.mono_ns, alert));
                }
                Ok(alert) => self.elsewhere.push(alert),
                Err(_) => self.unreadable.push(line.text),
            }
        }
    }
}

fn start_sink(scene: &Scene<'_>) -> Result<Player> {
    let service = |is_pool, address: std::net::SocketAddrV4| {
        Service { is_pool, address: address.into() }.to_string()
    };
    let mut command = scene.network.far_actor()?;
    command.arg("sink").args([
        service(false, Network::stranger(DISCARD_PORT)),
        service(false, Network::store(DISCARD_PORT)),
        service(true, Network::stranger(POOL_PORT)),
    ]);
    let mut sink = Player::start("sink", &mut command, &scene.directory)?;
    sink.wait_for("ready", SINK_TIMEOUT, &scene.interrupt, |line| line["ready"] == true)?;
    Ok(sink)
}

/// The process id of a job that is ready to begin.
pub(super) fn pid(job: &mut Player, interrupt: &Interrupt) -> Result<u32> {
    let pid = job.wait_for_act("ready", interrupt)?["pid"].as_u64();
    pid.and_then(|pid| u32::try_from(pid).ok()).context("a job says its process id")
}

/// Starts the job of an incident, with `more` arguments for its script.
pub(super) fn start_job(
    scene: &Scene<'_>,
    incident: &Incident,
    cgroup: &Cgroup,
    more: &[String],
) -> Result<Player> {
    let mut command = crate::child::command(std::env::current_exe().context("find this program")?);
    command
        .args(["actor", "launch", "--cgroup"])
        .arg(cgroup.directory())
        .args(["--", "/bin/sh"])
        .arg(scene.tree.path("tests/e2e/actors/job.sh"))
        .args(incident.script(&model(scene, incident)))
        .args(more);
    Player::start(incident.name, &mut command, &scene.directory)
}

/// Clients from the far side ask the server.
fn ask(scene: &Scene<'_>) -> Result<()> {
    let mut command = scene.network.far_actor()?;
    let server = Network::host(SERVE_PORT).to_string();
    command.args(["client", "--connect", &server, "--requests", &ANSWERS.to_string()]);
    Player::start("client", &mut command, &scene.directory)?.finish(&scene.interrupt)
}
