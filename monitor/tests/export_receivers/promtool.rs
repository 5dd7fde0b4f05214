//! The metrics as `promtool` sees them.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use monitor::export::{ExportHealth, SinkHealth, spool::SpoolHealth};
use monitor::model::{Delay, DelayCounts, Severity};
use monitor::telemetry::{
    BuildInfo, FAMILIES, GpuBackendMetrics, GpuMetrics, GpuQuantity, GpuReading, KernelCounts,
    Metrics, Readiness, SensorMetrics, SensorState, Snapshot, TableMetrics, WorkloadGpuMetrics,
    WorkloadMetrics,
};

/// One reading of every quantity.
fn readings() -> Vec<GpuReading> {
    let reading = |(quantity, part)| GpuReading { quantity, part, value: 1.0 };
    [
        (GpuQuantity::MemoryTotal, ""),
        (GpuQuantity::Temperature, ""),
        (GpuQuantity::Energy, ""),
        (GpuQuantity::Clock, "sm"),
        (GpuQuantity::Activity, "tensor"),
        (GpuQuantity::Link, "pcie"),
        (GpuQuantity::LinksUp, ""),
        (GpuQuantity::LinkErrors, "replay"),
        (GpuQuantity::EccErrors, "corrected"),
        (GpuQuantity::RemappedRows, "corrected"),
        (GpuQuantity::Throttled, "power"),
        (GpuQuantity::PcieReplays, ""),
    ]
    .map(reading)
    .to_vec()
}

/// What a source of GPU facts tells of itself.
fn backend() -> GpuBackendMetrics {
    let fault = ("0".into(), "GPU-1".into(), "NVIDIA H100".into(), "xid", "79".into(), 1);
    GpuBackendMetrics {
        state: "active",
        reason: "",
        missing: vec![("GPU-1".into(), "energy_joules", "unsupported")],
        rounds: vec![("taken", 1)],
        errors: vec![("timeout", 1)],
        faults: vec![fault],
    }
}

/// A snapshot with something in every place.
/// One alert that took 300 microseconds.
fn delay() -> DelayCounts {
    let delay = Delay::default();
    delay.add(300_000);
    delay.read()
}

fn snapshot() -> Snapshot {
    let gpu = GpuMetrics {
        gpu: "0".into(),
        uuid: "GPU-1".into(),
        model: "NVIDIA H100".into(),
        utilization_ratio: Some(0.5),
        memory_used_bytes: Some(1 << 30),
        power_watts: Some(412.5),
        readings: readings(),
        ..GpuMetrics::default()
    };
    Snapshot {
        kernel: vec![KernelCounts { kind: "flow", seen: 1, sent: 1, ..KernelCounts::default() }],
        drain: vec![("received", 1)],
        decode: vec![("decoded", 1)],
        sensors: vec![SensorMetrics { sensor: "exec".into(), state: SensorState::Attached }],
        file_marks: vec![("set", 1)],
        delays: vec![("judged", delay())],
        tables: vec![TableMetrics { table: "processes", entries: 1, entries_max: 2, evicted: 0 }],
        rules_active: 1,
        rule_matches: vec![("a \"rule\"\\\n".into(), 1)],
        alerts: vec![("r".into(), Severity::High, 1)],
        workloads: vec![WorkloadMetrics { workload: "w".into(), ..WorkloadMetrics::default() }],
        workload_gpus: vec![WorkloadGpuMetrics {
            workload: "w".into(),
            gpu: gpu.clone(),
            utilization_ratio: Some(0.5),
            memory_used_bytes: Some(1),
        }],
        gpus: vec![gpu],
        gpu_backend: backend(),
        export: ExportHealth {
            sinks: vec![SinkHealth { name: "s".into(), kind: "file", ..SinkHealth::default() }],
            spool: Some(SpoolHealth::default()),
        },
        reload_ok: true,
        ..Snapshot::default()
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about_and_every_metric_is_there() {
    let build = BuildInfo { version: "0.1.0", revision: "abc" };
    let metrics = Metrics::new(build, Arc::new(Readiness::default()));
    metrics.set(snapshot());
    let text = metrics.scrape().expect("a scrape");
    for family in FAMILIES {
        let is_there = text.contains(&format!("# TYPE {} ", family.name));
        let is_rare = family.name == "gpuwarden_metrics_series_dropped_total";
        assert!(is_there || is_rare, "{} is documented and never written", family.name);
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: `cargo xtask setup` installs it (Debian: prometheus)");
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    // The label names that are dcgm-exporter's are not in snake case, and that is on purpose.
    let complaints: Vec<&str> =
        said.lines().filter(|line| !line.is_empty() && !line.contains("camelCase")).collect();
    assert!(complaints.is_empty(), "{said}\n{text}");
}
