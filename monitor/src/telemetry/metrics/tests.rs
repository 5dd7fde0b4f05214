use super::*;
use crate::export::{ExportHealth, SinkHealth};
use crate::model::{Delay, Severity};
use crate::telemetry::snapshot::*;

fn metrics() -> Metrics {
    let build = BuildInfo { version: "0.1.0", revision: "abc" };
    Metrics::new(build, Arc::new(Readiness::default()))
}

fn workloads(range: std::ops::Range<u32>) -> Vec<WorkloadMetrics> {
    range
        .map(|n| WorkloadMetrics {
            workload: format!("job-{n:05}"),
            kind: "slurm".into(),
            egress_bytes: 1,
            ..WorkloadMetrics::default()
        })
        .collect()
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn series(text: &str, name: &str) -> usize {
    text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count()
}

#[test]
fn delays_come_out_as_a_histogram_in_seconds() {
    let delay = Delay::default();
    for ns in [15_000, 140_000, 2_000_000_000] {
        delay.add(ns);
    }
    let metrics = metrics();
    metrics.set(Snapshot { delays: vec![("judged", delay.read())], ..Snapshot::default() });
    let text = metrics.scrape().unwrap();
    for (le, expected) in [("0.00001", 0.0), ("0.00002", 1.0), ("0.00015", 2.0), ("+Inf", 3.0)] {
        let series =
            format!("gpuwarden_alert_delay_seconds_bucket{{stage=\"judged\",le=\"{le}\"}}");
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
    let sum = value(&text, "gpuwarden_alert_delay_seconds_sum{stage=\"judged\"}");
    assert_eq!(sum, Some(2.000_155));
}

#[test]
fn numbers_come_out_under_their_names() {
    let metrics = metrics();
    metrics.set(Snapshot {
        kernel: vec![KernelCounts {
            kind: "flow",
            seen: 9,
            sent: 7,
            ring_full: 2,
            ..Default::default()
        }],
        alerts: vec![("r".into(), Severity::High, 3)],
        sensors: vec![SensorMetrics { sensor: "exec".into(), state: SensorState::Fallback }],
        export: ExportHealth {
            sinks: vec![SinkHealth {
                name: "siem".into(),
                kind: "syslog",
                sent: 5,
                ..Default::default()
            }],
            spool: None,
        },
        ..Snapshot::default()
    });
    let text = metrics.scrape().unwrap();
    for (series, expected) in [
        ("gpuwarden_kernel_records_total{kind=\"flow\",outcome=\"seen\"}", 9.0),
        ("gpuwarden_kernel_records_total{kind=\"flow\",outcome=\"ring_full\"}", 2.0),
        ("gpuwarden_alerts_total{rule=\"r\",severity=\"high\"}", 3.0),
        ("gpuwarden_sensor_state{sensor=\"exec\",state=\"fallback\"}", 1.0),
        ("gpuwarden_sensor_state{sensor=\"exec\",state=\"attached\"}", 0.0),
        ("gpuwarden_sink_alerts_total{sink=\"siem\",outcome=\"sent\"}", 5.0),
        ("gpuwarden_sink_up{sink=\"siem\",kind=\"syslog\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
}

#[test]
fn a_workload_that_ended_is_gone_with_the_next_snapshot() {
    let metrics = metrics();
    metrics.set(Snapshot { workloads: workloads(0..2), ..Snapshot::default() });
    assert!(metrics.scrape().unwrap().contains("job-00001"));
    metrics.set(Snapshot { workloads: workloads(0..1), ..Snapshot::default() });
    assert!(!metrics.scrape().unwrap().contains("job-00001"));
}

#[test]
fn over_the_bound_series_are_folded_and_counted_and_nothing_is_lost() {
    let metrics = metrics();
    let name = "gpuwarden_workload_egress_bytes_total";
    metrics.set(Snapshot { workloads: workloads(0..1500), ..Snapshot::default() });
    let text = metrics.scrape().unwrap();
    assert_eq!(series(&text, name), SERIES_MAX);
    let total: f64 = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!((total - 1500.0).abs() < 1e-9);
    let dropped = format!("gpuwarden_metrics_series_dropped_total{{family=\"{name}\"}}");
    assert_eq!(value(&text, &dropped), Some(501.0));
    let text = metrics.scrape().unwrap();
    assert_eq!(value(&text, &dropped), Some(501.0), "the same series are not counted again");
}

#[test]
fn who_has_a_series_keeps_it() {
    let metrics = metrics();
    metrics.set(Snapshot { workloads: workloads(500..1499), ..Snapshot::default() });
    metrics.scrape().unwrap();
    // These sort before the others.
    metrics.set(Snapshot { workloads: workloads(0..1499), ..Snapshot::default() });
    let text = metrics.scrape().unwrap();
    assert!(text.contains("job-01498") && !text.contains("job-00000"));
    let name = "gpuwarden_workload_egress_bytes_total";
    let labels =
        ["workload", "kind", "namespace", "pod"].map(|key| format!("{key}=\"{OVERFLOW}\""));
    let overflow = format!("{name}{{{}}}", labels.join(","));
    assert_eq!(value(&text, &overflow), Some(500.0));
}

#[test]
fn two_workloads_with_one_name_are_one_series() {
    let metrics = metrics();
    let twice = [workloads(0..1), workloads(0..1)].concat();
    metrics.set(Snapshot { workloads: twice, ..Snapshot::default() });
    let text = metrics.scrape().unwrap();
    assert_eq!(series(&text, "gpuwarden_workload_egress_bytes_total"), 1);
}
