//! The monitor at rest, and how soon it is ready.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::ground::Ground;
use super::statistic::{median, quantile};
use crate::stage::mono_ns;

/// Time until a monitor that has just started is at rest.
const SETTLE: Duration = Duration::from_secs(3);
/// Time over which its CPU time is counted.
const WINDOW: Duration = Duration::from_secs(20);

/// The monitor at rest.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    rss_bytes: u64,
    rss_bytes_max: u64,
    /// In percent of one core.
    cpu_percent: f64,
    /// What maps of the kernel side take, here and computed for a large host, in `doctor`'s words.
    maps: String,
}

/// Time from exec to a `/readyz` that says yes.
#[derive(Debug, Serialize)]
pub(super) struct Start {
    starts: u32,
    median_ms: f64,
    max_ms: f64,
}

pub(super) fn measure_idle(ground: &Ground) -> Result<Idle> {
    eprintln!("    … idle: {} s", (SETTLE + WINDOW).as_secs());
    let (monitor, _) = ground.monitor()?;
    sleep(SETTLE);
    let (cpu, wall) = (monitor.cpu_ns()?, mono_ns());
    ground.interrupt.wait(WINDOW, || Ok(false))?;
    let (cpu, wall) = (monitor.cpu_ns()? - cpu, mono_ns() - wall);
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes fit 53 bits")]
    let cpu_percent = cpu as f64 / wall as f64 * 100.0;
    let idle = Idle {
        rss_bytes: monitor.memory_bytes("VmRSS")?,
        rss_bytes_max: monitor.memory_bytes("VmHWM")?,
        cpu_percent,
        maps: map_memory(ground.binary())?,
    };
    monitor.stop()?;
    Ok(idle)
}

/// What `doctor` says of the maps' memory.
fn map_memory(binary: &Path) -> Result<String> {
    let mut doctor = Command::new(binary);
    let checks = doctor.args(["doctor", "--json"]).output().context("run doctor")?;
    let checks: Vec<serde_json::Value> =
        serde_json::from_slice(&checks.stdout).context("read what doctor says")?;
    let is_memory = |check: &&serde_json::Value| check["name"] == "memory";
    let memory = checks.iter().find(is_memory).and_then(|check| check["says"].as_str());
    Ok(memory.context("doctor says nothing of the maps' memory")?.to_owned())
}

pub(super) fn measure_start(ground: &Ground) -> Result<Start> {
    eprintln!("    … start: {} times", ground.pairs);
    let mut samples = Vec::new();
    for _ in 0..ground.pairs {
        let (monitor, took) = ground.monitor()?;
        samples.push(took.as_secs_f64() * 1e3);
        monitor.stop()?;
    }
    let none = "no start was measured";
    Ok(Start {
        starts: ground.pairs,
        median_ms: median(&samples).context(none)?,
        max_ms: quantile(&samples, 1.0).context(none)?,
    })
}

pub(super) fn print_idle(idle: &Idle) {
    let size = crate::demo::size;
    println!("\nidle: {:.2} % of one core", idle.cpu_percent);
    println!("  memory {}, at most {}", size(idle.rss_bytes), size(idle.rss_bytes_max));
    println!("  {}", idle.maps);
}

pub(super) fn print_start(start: &Start) {
    let Start { starts, median_ms, max_ms } = start;
    println!("\nstart: ready after {median_ms:.0} ms (median of {starts}), at most {max_ms:.0} ms");
}
