//! Snapshot → rows of metrics: which numbers go under which name. Pure.

use std::collections::BTreeMap;

use super::family::{self as f, Family, Fold};
use super::process::ProcessStats;
use super::snapshot::{
    GpuMetrics, KernelCounts, SensorState, Snapshot, TableMetrics, WorkloadGpuMetrics,
};

/// Longest label value in characters: a pod's full name fits.
pub const LABEL_CHARS_MAX: usize = 256;

/// Rows of one family: values of its labels → value.
pub(super) type Rows = BTreeMap<Vec<String>, f64>;

/// All rows, by family name.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub(super) families: BTreeMap<&'static str, Rows>,
}

impl Sheet {
    /// Adds a row; rows with the same labels are folded into one.
    pub(super) fn add<const N: usize>(&mut self, family: &Family, labels: [&str; N], value: f64) {
        debug_assert_eq!(N, family.labels.len(), "{}", family.name);
        let labels = labels.map(|label| label.chars().take(LABEL_CHARS_MAX).collect()).to_vec();
        let rows = self.families.entry(family.name).or_default();
        rows.entry(labels).and_modify(|old| *old = family.fold(*old, value)).or_insert(value);
    }

    pub(super) fn count<const N: usize>(&mut self, family: &Family, labels: [&str; N], count: u64) {
        self.add(family, labels, float(count));
    }

    pub(super) fn fill(&mut self, snapshot: &Snapshot) {
        self.line(snapshot);
        self.rules(snapshot);
        self.export(snapshot);
        for workload in &snapshot.workloads {
            let labels =
                [&*workload.workload, &*workload.kind, &*workload.namespace, &*workload.pod];
            self.count(&f::EGRESS_BYTES, labels, workload.egress_bytes);
            self.count(&f::WEIGHT_BYTES, labels, workload.weight_bytes_read);
        }
        self.gpu_backend(&snapshot.gpu_backend);
        for gpu in &snapshot.gpus {
            self.gpu(gpu);
        }
        for gpu in &snapshot.workload_gpus {
            self.workload_gpu(gpu);
        }
    }

    fn line(&mut self, snapshot: &Snapshot) {
        self.add(&f::RELOAD_OK, [], if snapshot.reload_ok { 1.0 } else { 0.0 });
        self.count(&f::RELOAD_TIME, [], snapshot.reload_ok_time_s);
        for counts in &snapshot.kernel {
            let KernelCounts {
                kind,
                seen,
                sent,
                filtered,
                ring_full,
                too_long,
                map_full,
                read_fault,
                rate_limited,
            } = *counts;
            for (outcome, count) in [
                ("seen", seen),
                ("sent", sent),
                ("filtered", filtered),
                ("ring_full", ring_full),
                ("too_long", too_long),
                ("map_full", map_full),
                ("read_fault", read_fault),
                ("rate_limited", rate_limited),
            ] {
                self.count(&f::KERNEL_RECORDS, [kind, outcome], count);
            }
        }
        for (result, count) in &snapshot.drain {
            self.count(&f::DRAIN_RECORDS, [result], *count);
        }
        for (result, count) in &snapshot.decode {
            self.count(&f::DECODE_RECORDS, [result], *count);
        }
        for sensor in &snapshot.sensors {
            for (state, word) in SensorState::ALL {
                let value = if state == sensor.state { 1.0 } else { 0.0 };
                self.add(&f::SENSOR_STATE, [&sensor.sensor, word], value);
            }
        }
        for (outcome, count) in &snapshot.file_marks {
            self.count(&f::FILE_MARKS, [outcome], *count);
        }
        for TableMetrics { table, entries, entries_max, evicted } in &snapshot.tables {
            self.count(&f::STATE_ENTRIES, [table], *entries);
            self.count(&f::STATE_ENTRIES_MAX, [table], *entries_max);
            self.count(&f::STATE_EVICTED, [table], *evicted);
        }
    }

    fn rules(&mut self, snapshot: &Snapshot) {
        self.count(&f::RULES, ["active"], snapshot.rules_active);
        self.count(&f::RULES, ["inactive"], snapshot.rules_inactive);
        for (rule, count) in &snapshot.rule_matches {
            self.count(&f::RULE_MATCHES, [rule], *count);
        }
        for (rule, severity, count) in &snapshot.alerts {
            self.count(&f::ALERTS, [rule, severity.as_str()], *count);
        }
        self.count(&f::FINDINGS, ["alerted"], snapshot.findings_alerted);
        self.count(&f::FINDINGS, ["repeated"], snapshot.findings_repeated);
        self.count(&f::FINDINGS, ["rate_limited"], snapshot.findings_rate_limited);
    }

    fn export(&mut self, snapshot: &Snapshot) {
        for sink in &snapshot.export.sinks {
            let name = &*sink.name;
            self.add(&f::SINK_UP, [name, sink.kind], if sink.is_up { 1.0 } else { 0.0 });
            for (outcome, count) in [
                ("sent", sink.sent),
                ("filtered", sink.filtered),
                ("refused", sink.refused),
                ("dropped_queue", sink.dropped_queue),
                ("dropped_spool", sink.dropped_spool),
            ] {
                self.count(&f::SINK_ALERTS, [name, outcome], count);
            }
            self.count(&f::SINK_FAILURES, [name], sink.failed);
            self.count(&f::SINK_PENDING, [name], sink.pending);
        }
        let Some(spool) = &snapshot.export.spool else { return };
        self.count(&f::SPOOL_BYTES, [], spool.bytes);
        self.count(&f::SPOOL_BYTES_MAX, [], spool.bytes_max);
        self.count(&f::SPOOL_APPENDED, [], spool.appended);
        self.count(&f::SPOOL_MEMORY, [], spool.in_memory);
        self.count(&f::SPOOL_LOST, ["torn"], spool.torn);
        self.count(&f::SPOOL_LOST, ["damaged"], spool.damaged);
        self.count(&f::SPOOL_LOST, ["memory_full"], spool.memory_dropped);
        self.count(&f::SPOOL_ERRORS, [], spool.write_errors);
    }

    fn gpu(&mut self, gpu: &GpuMetrics) {
        let labels =
            [&*gpu.gpu, &*gpu.uuid, &*gpu.model, &*gpu.namespace, &*gpu.pod, &*gpu.container];
        if let Some(ratio) = gpu.utilization_ratio {
            self.add(&f::GPU_UTIL, labels, ratio);
        }
        if let Some(bytes) = gpu.memory_used_bytes {
            self.count(&f::GPU_MEMORY, labels, bytes);
        }
        if let Some(watts) = gpu.power_watts {
            self.add(&f::GPU_POWER, labels, watts);
        }
        self.gpu_readings(gpu);
    }

    fn workload_gpu(&mut self, row: &WorkloadGpuMetrics) {
        let WorkloadGpuMetrics { workload, gpu, utilization_ratio, memory_used_bytes } = row;
        let labels = [
            &**workload,
            &*gpu.gpu,
            &*gpu.uuid,
            &*gpu.model,
            &*gpu.namespace,
            &*gpu.pod,
            &*gpu.container,
        ];
        if let Some(ratio) = utilization_ratio {
            self.add(&f::WORKLOAD_GPU_UTIL, labels, *ratio);
        }
        if let Some(bytes) = memory_used_bytes {
            self.count(&f::WORKLOAD_GPU_MEMORY, labels, *bytes);
        }
    }

    pub(super) fn process(&mut self, stats: &ProcessStats) {
        self.add(&f::PROCESS_CPU, [], stats.cpu_seconds);
        self.count(&f::PROCESS_RSS, [], stats.resident_bytes);
        self.count(&f::PROCESS_VSIZE, [], stats.virtual_bytes);
        self.count(&f::PROCESS_THREADS, [], stats.threads);
        self.count(&f::PROCESS_FDS, [], stats.open_fds);
        self.count(&f::PROCESS_FDS_MAX, [], stats.max_fds);
        self.add(&f::PROCESS_START, [], stats.start_time_seconds);
    }
}

impl Family {
    pub(super) fn fold(&self, a: f64, b: f64) -> f64 {
        match self.fold {
            Fold::Sum => a + b,
            Fold::Max => a.max(b),
        }
    }
}

/// Prometheus holds floats; counts above 2^53 lose their last digits there in any case.
#[expect(clippy::cast_precision_loss, reason = "the text format has floats only")]
fn float(count: u64) -> f64 {
    count as f64
}
