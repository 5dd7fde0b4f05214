//! Plays one case: cgroups, actors in turn, and everything that is said about it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::case::{Actor, Case, MonitorPart};
use super::event::Event;
use super::ground::Ground;
use super::judge::{Verdict, judge};
use crate::child;
use crate::demo::{Alert, GpuLoad};
use crate::stage::{Cgroup, Metrics, Player};

/// Patience with a monitor that is killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// Patience with an act that others wait for.
const ACT_TIMEOUT: Duration = Duration::from_mins(1);
/// Time given to alerts that must not come, after everything was seen: rules and losses are looked
/// at once a second.
const SILENCE: Duration = Duration::from_millis(1300);

/// What was done, and what was said about it.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// Directory of the case below the cgroup mount.
    pub(super) cgroup: String,
    /// What actors said.
    pub(super) said: Vec<Value>,
    pub(super) events: Vec<Event>,
    pub(super) alerts: Vec<Alert>,
    /// Records that were lost meanwhile.
    pub(super) lost: u64,
    pub(super) seconds: f64,
}

impl Played {
    /// Why an actor has no means to play here, if one says so.
    pub(super) fn cannot(&self) -> Option<&str> {
        let line = self.said.iter().find(|line| line["act"] == "cannot")?;
        Some(line["why"].as_str().unwrap_or("an actor cannot play"))
    }
}

/// Processes and directories of a case. Dropped, they are gone.
#[derive(Default)]
struct Stand {
    // In this order: whoever still plays is ended before the directories go, the inner ones first.
    players: Vec<(Actor, Player)>,
    cgroups: Vec<Cgroup>,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.players.clear();
        while self.cgroups.pop().is_some() {}
    }
}

/// Plays a case, and judges what was said.
pub(super) fn play(ground: &mut Ground<'_>, case: &Case) -> Result<Verdict> {
    // A monitor is always there between two cases.
    if ground.monitor().is_err() {
        ground.start_monitor()?;
    }
    let mut played = Played {
        cgroup: format!("gpuwarden/{}/{}-{}", case.class, ground.suite, case.id),
        ..Played::default()
    };
    let mut stand = Stand::default();
    let acted = act(ground, case, &mut stand, &mut played);
    ground.gpus.play(GpuLoad::Idle, 0)?;
    // Ctrl-C ends the suite, anything else this case only.
    ground.interrupt.check()?;
    played.said = said(&mut stand);
    drop(stand);
    // An actor that cannot play has ended before it did what the others wait for.
    if let Err(error) = acted
        && played.cannot().is_none()
    {
        return Ok(Verdict::broken(case, &error));
    }
    Ok(judge(case, &played, ground.suite))
}

fn act(ground: &mut Ground<'_>, case: &Case, stand: &mut Stand, played: &mut Played) -> Result<()> {
    stand.cgroups.push(Cgroup::create(&played.cgroup)?);
    // What was said about cases before is not about this one.
    ground.look()?;
    if case.monitor == MonitorPart::Later {
        ground.stop_monitor()?;
    }
    for actor in &case.actors {
        let part = start(ground, case, actor, stand, &played.cgroup)?;
        stand.players.push((actor.clone(), part));
    }
    let mut pid = 0;
    for (_, part) in stand.players.iter_mut().rev() {
        let ready = part.wait_for_act("ready", &ground.interrupt)?;
        pid = ready["pid"].as_u64().context("an actor says its process id")?;
    }
    if case.monitor == MonitorPart::Later {
        ground.start_monitor()?;
    }
    ground.gpus.play(case.gpu.into(), u32::try_from(pid).context("a process id")?)?;
    let before = lost(&ground.metrics()?);
    let began = Instant::now();
    for at in 0..stand.players.len() {
        turn(ground, case, &mut stand.players[at], played)?;
    }
    wait(ground, case, stand, played)?;
    played.seconds = began.elapsed().as_secs_f64();
    // A monitor that was started meanwhile began to count anew.
    let after = lost(&ground.metrics()?);
    if case.monitor == MonitorPart::Spent {
        ground.stop_monitor()?;
    }
    let is_same = matches!(case.monitor, MonitorPart::Shared | MonitorPart::Spent);
    played.lost = if is_same { after.saturating_sub(before) } else { after };
    Ok(())
}

fn start(
    ground: &mut Ground<'_>,
    case: &Case,
    actor: &Actor,
    stand: &mut Stand,
    cgroup: &str,
) -> Result<Player> {
    // A shell joins the cgroup and becomes the actor. Not this program: it may have been built a
    // minute ago, which is a reason to alert.
    let mut command = child::command("/bin/sh");
    if actor.far && actor.place.is_empty() {
        command = ground.far("/bin/sh");
    }
    command.args(["-c", "[ -z \"$0\" ] || echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]);
    if actor.outside || actor.far && actor.place.is_empty() {
        command.arg("");
    } else {
        let place = if actor.place.is_empty() {
            cgroup.to_owned()
        } else {
            format!("{cgroup}/{}", actor.place)
        };
        let place = Cgroup::create(&place)?;
        command.arg(place.directory());
        stand.cgroups.push(place);
    }
    if actor.far && !actor.place.is_empty() {
        command.args(ground.enter_far());
    }
    let script = ground.tree.path(&format!("tests/{}/{}", ground.suite, actor.run[0]));
    let is_python = script.extension().is_some_and(|extension| extension == "py");
    command.arg(if is_python { "/usr/bin/python3" } else { "/bin/bash" });
    command.arg(script).args(&actor.run[1..]);
    tell(ground, case, cgroup, &mut command)?;
    let logs = ground.directory.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
    Player::start(&format!("{}-{}", case.id, actor.name), &mut command, &logs)
}

/// What an actor is told, in its environment.
fn tell(ground: &mut Ground<'_>, case: &Case, cgroup: &str, command: &mut Command) -> Result<()> {
    let room: PathBuf = ground.directory.join("rooms").join(&case.id);
    std::fs::create_dir_all(&room).with_context(|| format!("create {}", room.display()))?;
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", ground.tree.path("tests/stand"))
        .env("STAND_MODEL", ground.model(case))
        .env("STAND_ROOM", room)
        .env("STAND_CGROUP", cgroup)
        .env("STAND_DIR", ground.directory.as_path())
        .env("STAND_SOURCES", ground.tree.path("tests") as PathBuf);
    command.env("STAND_GPUWARDEN", ground.binary());
    if let Ok(monitor) = ground.monitor() {
        command.env("STAND_MONITOR", monitor.pid().to_string());
    }
    Ok(())
}

/// Lets one actor act.
fn turn(
    ground: &mut Ground<'_>,
    case: &Case,
    (actor, part): &mut (Actor, Player),
    played: &mut Played,
) -> Result<()> {
    part.go()?;
    if case.monitor == MonitorPart::Killed && actor.until.as_deref() == Some("killed") {
        part.wait_for_act("killed", &ground.interrupt)?;
        if !ground.lose_monitor(KILL_TIMEOUT)? {
            bail!("the monitor was still there {KILL_TIMEOUT:?} after it was killed");
        }
        gather(ground, played)?;
        ground.start_monitor()?;
        part.go()?;
        return part.finish(&ground.interrupt);
    }
    if let Some(until) = &actor.until {
        let is_it = |line: &Value| line["act"] == until.as_str();
        part.wait_for(until, ACT_TIMEOUT, &ground.interrupt, is_it)?;
    } else if !actor.helper {
        part.finish(&ground.interrupt)?;
    }
    Ok(())
}

/// Waits until everybody has ended and everything that must be seen was seen, at most as long as
/// the case says; for silence, until the monitor has seen the end.
fn wait(
    ground: &mut Ground<'_>,
    case: &Case,
    stand: &mut Stand,
    played: &mut Played,
) -> Result<()> {
    for (actor, part) in &mut stand.players {
        if !actor.helper {
            part.finish(&ground.interrupt)?;
        }
    }
    played.said = said(stand);
    let deadline = Instant::now() + Duration::from_secs(case.expect.within_s());
    loop {
        gather(ground, played)?;
        if judge(case, played, ground.suite).is_settled() || Instant::now() >= deadline {
            break;
        }
        ground.interrupt.wait(Duration::from_millis(40), || Ok(false))?;
    }
    // Losses of a flood are the flood's, and not those of the case that comes next.
    if ground.suite == super::Suite::Benign || case.expect.may_lose {
        ground.interrupt.wait(SILENCE, || Ok(false))?;
        gather(ground, played)?;
    }
    Ok(())
}

fn said(stand: &mut Stand) -> Vec<Value> {
    let mut said = Vec::new();
    for (actor, part) in &mut stand.players {
        let mut lines = part.said().to_vec();
        if actor.far && actor.place.is_empty() {
            // What is said of another host is not said of the case.
            lines.iter_mut().filter_map(Value::as_object_mut).for_each(|line| {
                line.remove("pid");
            });
        }
        said.append(&mut lines);
    }
    said
}

fn gather(ground: &mut Ground<'_>, played: &mut Played) -> Result<()> {
    let (events, alerts) = ground.look()?;
    played.events.extend(events);
    played.alerts.extend(alerts);
    Ok(())
}

/// Records that were lost so far, for whatever reason.
pub(super) fn lost(metrics: &Metrics) -> u64 {
    const NAME: &str = "gpuwarden_kernel_records_total";
    let outcomes = metrics.values_of(NAME, "outcome");
    let is_loss = |outcome: &&String| !matches!(outcome.as_str(), "seen" | "sent" | "filtered");
    let sum = outcomes
        .iter()
        .filter(is_loss)
        .filter_map(|outcome| metrics.sum(NAME, &[&format!("outcome=\"{outcome}\"")]));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count is whole and not negative"
    )]
    let lost = sum.sum::<f64>() as u64;
    lost
}

/// Whether a path is a directory's or below it.
pub(super) fn is_below(path: &str, directory: &str) -> bool {
    Path::new(path.trim_start_matches('/')).starts_with(directory)
}
