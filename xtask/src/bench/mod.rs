//! `bench`: what the monitor costs, how fast it speaks, what it loses. docs/performance.md tells
//! the method and holds the figures.

mod document;
mod floor;
mod gpu;
mod ground;
mod latency;
mod loss;
mod overhead;
mod peer;
mod rest;
mod statistic;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::ground::Ground;
use crate::cli::{BenchArgs, Measure};
use crate::tree::Tree;
use crate::{child, demo, suite};

/// Everything that was measured. What was not asked for is not there.
#[derive(Debug, Default, Serialize)]
struct Results {
    /// The command line, so that a figure can be measured again.
    command: String,
    commit: String,
    host: Host,
    #[serde(skip_serializing_if = "Option::is_none")]
    overhead: Option<Vec<overhead::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Vec<latency::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<loss::Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<rest::Idle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<rest::Start>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<Vec<gpu::Row>>,
}

/// Where it was measured.
#[derive(Debug, Default, Serialize)]
struct Host {
    kernel: String,
    cpu: String,
    cpus: usize,
    date: String,
}

/// `cargo xtask bench`.
pub(crate) fn run(tree: &Tree, args: &BenchArgs) -> Result<()> {
    if args.doc {
        return document::write(tree);
    }
    if args.measure == Measure::Rules {
        return rules(tree);
    }
    suite::require_root("the benchmark loads programs into the kernel, which needs root", "bench")?;
    let binary = demo::build(tree, args.monitor.as_deref())?;
    let mut ground = Ground::lay(tree, binary, args)?;
    let wants = |measure: Measure| args.measure == Measure::All || args.measure == measure;
    if wants(Measure::Overhead) {
        ground.floor = Some(floor::build(tree)?);
    }
    let mut results = Results {
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        commit: first_line(
            "git",
            &["-C", &tree.root().display().to_string(), "describe", "--always", "--dirty"],
        ),
        host: host(),
        ..Results::default()
    };
    // What needs a quiet host comes first.
    if wants(Measure::Start) {
        results.start = Some(rest::measure_start(&ground)?);
    }
    if wants(Measure::Rss) {
        results.idle = Some(rest::measure_idle(&ground)?);
    }
    if wants(Measure::Gpu) {
        results.gpu = Some(gpu::measure(tree, &ground)?);
    }
    if wants(Measure::Latency) {
        results.latency = Some(latency::measure(&ground)?);
    }
    if wants(Measure::Loss) {
        results.loss = Some(loss::measure(&ground)?);
    }
    if wants(Measure::Overhead) {
        results.overhead = Some(overhead::measure(&ground)?);
    }
    let text = serde_json::to_string_pretty(&results).context("encode the results")?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => tree.logs()?.join("bench.json"),
    };
    fs::write(&out, text.clone() + "\n").with_context(|| format!("write {}", out.display()))?;
    if args.json {
        println!("{text}");
    } else {
        print(&results);
        println!("\nwritten to {}", out.display());
    }
    Ok(())
}

/// Rules alone: a program of its own, optimised, on one core.
fn rules(tree: &Tree) -> Result<()> {
    let host = host();
    println!("{} CPUs, {}, Linux {}", host.cpus, host.cpu, host.kernel);
    let mut cargo = Command::new("cargo");
    cargo.args(["bench", "--quiet", "-p", "monitor", "--bench", "rules"]);
    let status = cargo.current_dir(tree.root()).status().context("run cargo bench")?;
    anyhow::ensure!(status.success(), "the benchmark of rules failed: {status}");
    Ok(())
}

fn print(results: &Results) {
    let Results { command, commit, host, overhead, latency, loss, idle, start, gpu } = results;
    println!("{} CPUs, {}, Linux {}", host.cpus, host.cpu, host.kernel);
    println!("`cargo xtask {command}` at {commit}, {}", host.date);
    if let Some(rows) = overhead {
        overhead::print(rows);
    }
    if let Some(rows) = latency {
        latency::print(rows);
    }
    if let Some(row) = loss {
        loss::print(row);
    }
    if let Some(idle) = idle {
        rest::print_idle(idle);
    }
    if let Some(start) = start {
        rest::print_start(start);
    }
    if let Some(rows) = gpu {
        gpu::print(rows);
    }
}

fn host() -> Host {
    let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(": ")?.1.to_owned())
    });
    Host {
        kernel: first_line("uname", &["--kernel-release"]),
        cpu: cpu.unwrap_or_else(|| "unknown CPU".to_owned()),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        date: first_line("date", &["--utc", "+%Y-%m-%d %H:%M UTC"]),
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    child::capture(Command::new(program).args(arguments))
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}
