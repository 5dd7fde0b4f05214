//! Every metric: name, type, labels, meaning. The only place where a name is written.
//!
//! No label carries a pid, a path, a command line or an address: those are in the alerts.

use std::fmt::Write as _;

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the daemon runs.
    Counter,
    /// A value at the moment of the scrape.
    Gauge,
    /// How many values lay in which class, in seconds.
    Histogram,
}

/// How values are brought together, in the series for what is over the bound and where two rows
/// have the same labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Max,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    pub(super) fold: Fold,
}

macro_rules! families {
    ($(
        $ident:ident = $name:literal, $kind:ident, [$($label:literal),*], $fold:ident,
            $help:literal;
    )+) => {
        $(pub(super) const $ident: Family = Family {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
            fold: Fold::$fold,
        };)+

        /// Every metric, in the order of the documentation.
        pub const FAMILIES: &[Family] = &[$($ident,)+];
    };
}

families! {
    BUILD_INFO = "gpuwarden_build_info", Gauge, ["version", "revision"], Max,
        "Always 1; the labels say which build runs.";
    READY = "gpuwarden_ready", Gauge, [], Max,
        "Whether /readyz answers 200.";
    RELOAD_OK = "gpuwarden_config_last_reload_successful", Gauge, [], Max,
        "Whether the last load of configuration and rules was taken; if 0, the older ones run on.";
    RELOAD_TIME = "gpuwarden_config_last_reload_success_timestamp_seconds", Gauge, [], Max,
        "Unix time of the last load that was taken.";

    KERNEL_RECORDS = "gpuwarden_kernel_records_total", Counter, ["kind", "outcome"], Sum,
        "Records in the kernel, by outcome; seen is the sum of the others.";
    DRAIN_RECORDS = "gpuwarden_drain_records_total", Counter, ["result"], Sum,
        "Records read from the rings, by result.";
    DECODE_RECORDS = "gpuwarden_decode_records_total", Counter, ["result"], Sum,
        "Records by result of decoding; received = decoded + malformed + unknown.";
    SENSOR_STATE = "gpuwarden_sensor_state", Gauge, ["sensor", "state"], Max,
        "1 for the state a sensor is in (attached, fallback, off), 0 for the others.";
    FILE_MARKS = "gpuwarden_file_marks_total", Counter, ["outcome"], Sum,
        "Files by what became of their mark: set, gone, file_system (takes none), bound, behind.";
    STATE_ENTRIES = "gpuwarden_state_entries", Gauge, ["table"], Sum,
        "Entries in a table of the daemon.";
    STATE_ENTRIES_MAX = "gpuwarden_state_entries_max", Gauge, ["table"], Sum,
        "Bound on the entries of a table.";
    STATE_EVICTED = "gpuwarden_state_evicted_total", Counter, ["table"], Sum,
        "Entries forgotten early because a table was full.";

    RULES = "gpuwarden_rules", Gauge, ["state"], Sum,
        "Rules loaded, active or inactive.";
    RULE_MATCHES = "gpuwarden_rule_matches_total", Counter, ["rule"], Sum,
        "Findings of a rule, before dedupe.";
    ALERTS = "gpuwarden_alerts_total", Counter, ["rule", "severity"], Sum,
        "Alerts of a rule.";
    FINDINGS = "gpuwarden_findings_total", Counter, ["outcome"], Sum,
        "Findings by outcome: alerted, repeated (merged into an alert), rate_limited.";

    ALERT_DELAY = "gpuwarden_alert_delay_seconds", Histogram, ["stage"], Sum,
        "From a record in the kernel to its alert, by what was reached: taken (from the ring), \
         judged (the alert is made), written (by a sink on this host).";

    SINK_UP = "gpuwarden_sink_up", Gauge, ["sink", "kind"], Max,
        "Whether the last delivery to a sink, if there was one, went well.";
    SINK_ALERTS = "gpuwarden_sink_alerts_total", Counter, ["sink", "outcome"], Sum,
        "Alerts by what became of them: sent, filtered, refused, dropped_queue, dropped_spool.";
    SINK_FAILURES = "gpuwarden_sink_failures_total", Counter, ["sink"], Sum,
        "Failed attempts to deliver to a sink.";
    SINK_PENDING = "gpuwarden_sink_pending_alerts", Gauge, ["sink"], Sum,
        "Alerts that wait for a sink.";
    SPOOL_BYTES = "gpuwarden_spool_bytes", Gauge, [], Sum,
        "Bytes of the spool on disk.";
    SPOOL_BYTES_MAX = "gpuwarden_spool_bytes_max", Gauge, [], Sum,
        "Bound on the bytes of the spool; over it the oldest alerts go.";
    SPOOL_APPENDED = "gpuwarden_spool_appended_total", Counter, [], Sum,
        "Alerts written to the spool.";
    SPOOL_MEMORY = "gpuwarden_spool_memory_alerts", Gauge, [], Sum,
        "Alerts held in memory because the disk takes none.";
    SPOOL_LOST = "gpuwarden_spool_lost_total", Counter, ["reason"], Sum,
        "Records lost: torn (cut off at start), damaged, memory_full.";
    SPOOL_ERRORS = "gpuwarden_spool_write_errors_total", Counter, [], Sum,
        "Failed writes to the spool, cursors included.";

    EGRESS_BYTES = "gpuwarden_workload_egress_bytes_total", Counter,
        ["workload", "kind", "namespace", "pod"], Sum,
        "Bytes a workload sent to peers other than loopback.";
    WEIGHT_BYTES = "gpuwarden_workload_weight_bytes_read_total", Counter,
        ["workload", "kind", "namespace", "pod"], Sum,
        "Bytes of labelled weights a workload read.";
    WORKLOAD_GPU_UTIL = "gpuwarden_workload_gpu_utilization_ratio", Gauge,
        ["workload", "gpu", "UUID", "modelName", "namespace", "pod", "container"], Max,
        "Share of time that a workload's kernels ran on a GPU, 0 to 1.";
    WORKLOAD_GPU_MEMORY = "gpuwarden_workload_gpu_memory_used_bytes", Gauge,
        ["workload", "gpu", "UUID", "modelName", "namespace", "pod", "container"], Sum,
        "GPU memory a workload uses.";
    GPU_UTIL = "gpuwarden_gpu_utilization_ratio", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container"], Max,
        "Share of time that any kernel ran on a GPU, 0 to 1.";
    GPU_MEMORY = "gpuwarden_gpu_memory_used_bytes", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container"], Sum,
        "Memory in use on a GPU.";
    GPU_POWER = "gpuwarden_gpu_power_watts", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container"], Sum,
        "Power a GPU draws.";
    GPU_MEMORY_TOTAL = "gpuwarden_gpu_memory_total_bytes", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container"], Sum,
        "Memory installed on a GPU.";
    GPU_TEMPERATURE = "gpuwarden_gpu_temperature_celsius", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container"], Max,
        "Temperature of a GPU's die.";
    GPU_ENERGY = "gpuwarden_gpu_energy_joules_total", Counter,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container"], Sum,
        "Energy a GPU used since its driver was loaded.";
    GPU_CLOCK = "gpuwarden_gpu_clock_hertz", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container", "clock"], Max,
        "Clock of a GPU: sm or memory.";
    GPU_ACTIVITY = "gpuwarden_gpu_activity_ratio", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container", "part"], Max,
        "Activity of a part of a GPU, 0 to 1: sm, tensor, integer, float, dram; Hopper and newer.";
    GPU_LINK = "gpuwarden_gpu_link_bytes_per_second", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container", "link"], Sum,
        "Bytes per second over a GPU's links, both ways: pcie or nvlink.";
    GPU_LINKS_UP = "gpuwarden_gpu_nvlinks_up", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container"], Sum,
        "NVLink links of a GPU that are up.";
    GPU_LINK_ERRORS = "gpuwarden_gpu_nvlink_errors_total", Counter,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container", "kind"], Sum,
        "Errors on a GPU's NVLink links: crc_flit, crc_data, replay, recovery.";
    GPU_ECC = "gpuwarden_gpu_ecc_errors_total", Counter,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container", "kind"], Sum,
        "Memory errors of a GPU since its driver was loaded: corrected or uncorrected.";
    GPU_REMAPPED = "gpuwarden_gpu_remapped_rows", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container", "cause"], Sum,
        "Rows of a GPU's memory that were replaced, by cause; pending and failed are flags.";
    GPU_THROTTLED = "gpuwarden_gpu_throttled", Gauge,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container", "reason"], Max,
        "1 for each reason that holds a GPU's clocks down.";
    GPU_REPLAYS = "gpuwarden_gpu_pcie_replays_total", Counter,
        ["gpu", "UUID", "modelName", "namespace", "pod", "container"], Sum,
        "PCIe packets of a GPU that had to be sent again.";
    GPU_FAULTS = "gpuwarden_gpu_faults_total", Counter,
        ["gpu", "UUID", "modelName", "fault", "xid"], Sum,
        "Faults a GPU reported: xid, lost, ecc_uncorrectable, row_remap_failure.";
    GPU_BACKEND = "gpuwarden_gpu_backend_state", Gauge,
        ["state", "reason"], Max,
        "1 for the state of the source of GPU facts; see docs/gpu.md.";
    GPU_MISSING = "gpuwarden_gpu_value_missing", Gauge,
        ["UUID", "value", "reason"], Max,
        "1 for each value of a GPU that could not be read at the last round, with the reason.";
    GPU_ROUNDS = "gpuwarden_gpu_rounds_total", Counter,
        ["outcome"], Sum,
        "Rounds over all GPUs: sent, dropped (the queue was full), stalled (a call hung).";
    GPU_ERRORS = "gpuwarden_gpu_errors_total", Counter,
        ["reason"], Sum,
        "GPU values and rounds that failed, by reason.";

    SERIES_DROPPED = "gpuwarden_metrics_series_dropped_total", Counter, ["family"], Sum,
        "Series folded into the one labelled __overflow__ because a metric had too many.";

    PROCESS_CPU = "process_cpu_seconds_total", Counter, [], Sum,
        "User and system CPU time of the daemon.";
    PROCESS_RSS = "process_resident_memory_bytes", Gauge, [], Sum,
        "Resident memory of the daemon.";
    PROCESS_VSIZE = "process_virtual_memory_bytes", Gauge, [], Sum,
        "Virtual memory of the daemon.";
    PROCESS_THREADS = "process_threads", Gauge, [], Sum,
        "Threads of the daemon.";
    PROCESS_FDS = "process_open_fds", Gauge, [], Sum,
        "Open file descriptors of the daemon.";
    PROCESS_FDS_MAX = "process_max_fds", Gauge, [], Sum,
        "Bound on the open file descriptors of the daemon.";
    PROCESS_START = "process_start_time_seconds", Gauge, [], Sum,
        "Unix time at which the daemon started.";
}

/// `docs/metrics.md`: made from the table above.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Made from monitor/src/telemetry/family.rs; a test compares the two. -->\n\n\
         `GET /metrics` gives these in Prometheus' text format. No label carries a pid, a path, a\n\
         command line or an address. A metric has at most 1000 series; what is over is folded\n\
         into one series whose labels are all `__overflow__`, and counted in\n\
         `gpuwarden_metrics_series_dropped_total`. Series of a workload end with the workload.\n\n\
         The keys `gpu`, `UUID`, `modelName`, `namespace`, `pod` and `container` are those of\n\
         dcgm-exporter, so that dashboards can join on `UUID`. Scrape with `honorLabels: true`,\n\
         or Prometheus renames `namespace` and `pod`.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for family in FAMILIES {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        let _ = writeln!(text, "| `{}` | {kind} | {labels} | {} |", family.name, family.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{FAMILIES, Kind, markdown};

    #[test]
    fn names_keep_to_the_conventions() {
        for family in FAMILIES {
            let name = family.name;
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
            assert!(name.starts_with("gpuwarden_") || name.starts_with("process_"), "{name}");
            assert!(family.help.ends_with('.'), "{name}");
            let forbidden = ["pid", "path", "cmdline", "args", "ip", "id"];
            assert!(family.labels.iter().all(|label| !forbidden.contains(label)), "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }

    #[test]
    fn the_documentation_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("GPUWARDEN_BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            found,
            markdown(),
            "docs/metrics.md is older than the table; to write it: \
             GPUWARDEN_BLESS=1 cargo test -p monitor --lib telemetry::"
        );
    }
}
