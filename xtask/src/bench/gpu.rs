//! What reading GPUs costs: the monitor over the fake driver library with eight GPUs and many
//! processes. The library's own time counts too: it is in the sampler's thread, as a driver's is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;

use super::ground::Ground;
use crate::stage::mono_ns;
use crate::tree::Tree;

/// GPUs of the host that is played.
const GPUS: u32 = 8;
/// Time until a monitor that has just started is at rest, its first fast readings over.
const SETTLE: Duration = Duration::from_secs(12);
/// Time over which CPU time is counted.
const WINDOW: Duration = Duration::from_secs(30);
/// Threads that read GPUs, as the kernel names them.
const THREADS: [&str; 2] = ["gpu-sampler", "gpu-faults"];

/// One host that was played.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    gpus: u32,
    /// Pairs of process and GPU over all GPUs.
    process_uses: u32,
    /// Threads that read GPUs, in percent of one core.
    reading_percent: f64,
    /// The whole monitor, rules and metrics included, in percent of one core.
    daemon_percent: f64,
    /// The same monitor without GPUs, in percent of one core.
    idle_percent: f64,
    /// Rounds over all GPUs in that time, per second.
    rounds_per_second: f64,
}

pub(super) fn measure(tree: &Tree, ground: &Ground) -> Result<Vec<Row>> {
    let (idle, _) = watch(ground, None)?;
    let idle_percent = idle.daemon;
    let mut rows = Vec::new();
    for processes in [8, 64] {
        eprintln!("    … gpu: {GPUS} GPUs, {processes} processes on each");
        let sleepers = Sleepers::start(processes)?;
        let folder = tempfile::tempdir().context("create a temporary directory")?;
        let scenario = folder.path().join("scenario.json");
        fs::write(&scenario, scene(&sleepers).to_string()).context("write the scenario")?;
        let library = tree.release("libfake_nvml.so");
        let (share, rounds) = watch(ground, Some((&library, &scenario)))?;
        rows.push(Row {
            gpus: GPUS,
            process_uses: GPUS * processes,
            reading_percent: share.reading,
            daemon_percent: share.daemon,
            idle_percent,
            rounds_per_second: rounds / WINDOW.as_secs_f64(),
        });
    }
    Ok(rows)
}

/// CPU time, in percent of one core.
struct Share {
    reading: f64,
    daemon: f64,
}

/// Starts a monitor and measures it; also how many rounds it made.
fn watch(ground: &Ground, play: Option<(&Path, &Path)>) -> Result<(Share, f64)> {
    let monitor = ground.gpu_monitor(play)?;
    sleep(SETTLE);
    let rounds = || -> Result<f64> {
        let name = "gpuwarden_gpu_rounds_total";
        Ok(monitor.metrics()?.sum(name, &["outcome=\"sent\""]).unwrap_or(0.0))
    };
    let (before, cpu, wall, made) =
        (threads_ns(monitor.pid())?, monitor.cpu_ns()?, mono_ns(), rounds()?);
    ground.interrupt.wait(WINDOW, || Ok(false))?;
    let (after, cpu, wall, made) =
        (threads_ns(monitor.pid())?, monitor.cpu_ns()? - cpu, mono_ns() - wall, rounds()? - made);
    monitor.stop()?;
    let reading: u64 = THREADS
        .iter()
        .map(|name| after.get(*name).unwrap_or(&0) - before.get(*name).unwrap_or(&0))
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes fit 53 bits")]
    let percent = |ns: u64| ns as f64 / wall as f64 * 100.0;
    Ok((Share { reading: percent(reading), daemon: percent(cpu) }, made))
}

/// CPU time of a process's threads by their name, in nanoseconds (proc(5), `schedstat`).
fn threads_ns(pid: u32) -> Result<BTreeMap<String, u64>> {
    let folder = format!("/proc/{pid}/task");
    let mut found = BTreeMap::new();
    for task in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        let path = task.with_context(|| format!("read {folder}"))?.path();
        let (Ok(name), Ok(stat)) =
            (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        let on_cpu: u64 =
            stat.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        *found.entry(name.trim().to_owned()).or_default() += on_cpu;
    }
    Ok(found)
}

/// Processes that do nothing but be there.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start(count: u32) -> Result<Self> {
        let mut all = Self(Vec::new());
        for _ in 0..count {
            let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn();
            all.0.push(child.context("start sleep")?);
        }
        Ok(all)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                eprintln!("a sleeping process could not be ended: {error}");
            }
        }
    }
}

/// As tests/fake-nvml reads it: every process on every GPU, utilisation that moves, and activity
/// counters.
fn scene(sleepers: &Sleepers) -> serde_json::Value {
    let util = json!({"sum": [80, {"noise": {"amplitude": 10, "seed": 3}}]});
    let processes: Vec<_> = sleepers
        .0
        .iter()
        .map(|child| json!({"pid": child.id(), "mem_bytes": 1 << 30, "sm_util": 1}))
        .collect();
    let gpu = |index: u32| {
        json!({
            "uuid": format!("GPU-{index:08}-0000-4000-8000-000000000000"),
            "name": "NVIDIA H100 80GB HBM3",
            "util": util,
            "power_mw": 600_000,
            "gpm": {"sm": util, "tensor": 40, "integer": 10, "dram": 50},
            "nvlinks": 18, "nvlinks_up": 18,
            "processes": processes,
        })
    };
    json!({"devices": (0..GPUS).map(gpu).collect::<Vec<_>>()})
}

pub(super) fn print(rows: &[Row]) {
    println!("\ngpu: CPU time of reading GPUs once a second, in percent of one core");
    println!("  GPUs  process × GPU  reading threads  whole monitor  without GPUs  rounds/s");
    for row in rows {
        let Row { gpus, process_uses, reading_percent, daemon_percent, idle_percent, .. } = row;
        println!(
            "  {gpus:>4}  {process_uses:>13}  {reading_percent:>15.2}  {daemon_percent:>13.2}  \
             {idle_percent:>12.2}  {:>8.2}",
            row.rounds_per_second
        );
    }
}
