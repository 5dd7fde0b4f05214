//! Fills the snapshot for metrics.

use monitor_common::kind_name;

use super::engine::Engine;
use crate::enrich::limit;
use crate::gpu::{DeviceSample, GpuBatch};
use crate::model::{Clock, WorkloadEvidence};
use crate::sensor::{KernelCounters, State};
use crate::telemetry::{
    GpuMetrics, KernelCounts, SensorMetrics, SensorState, Snapshot, TableMetrics,
    WorkloadGpuMetrics, WorkloadMetrics,
};

/// Everything that is measured, now.
pub(super) fn snapshot(
    engine: &Engine,
    counters: &[KernelCounters],
    drained: &[(&'static str, u64)],
) -> Snapshot {
    let stages = &engine.stages;
    let tally = &engine.tally;
    let alerts = stages.alerter.stats();
    let inactive = inactive_rules(engine);
    let census: Vec<WorkloadEvidence> = stages.enricher.census().collect();
    Snapshot {
        kernel: counters.iter().filter_map(kernel_counts).collect(),
        drain: drained.to_vec(),
        decode: vec![
            ("decoded", tally.decode.decoded),
            ("malformed", tally.decode.malformed),
            ("unknown", tally.decode.unknown),
        ],
        sensors: sensors(engine),
        tables: tables(engine),
        rules_active: stages.rules.rules.len() as u64 - inactive,
        rules_inactive: inactive,
        rule_matches: stages
            .correlator
            .stats()
            .rules
            .into_iter()
            .map(|rule| (rule.id.to_string(), rule.findings))
            .collect(),
        alerts: tally
            .alerts
            .iter()
            .map(|((rule, severity), count)| (rule.clone(), *severity, *count))
            .collect(),
        findings_alerted: alerts.alerted,
        findings_repeated: alerts.repeated,
        findings_rate_limited: alerts.rate_limited,
        workloads: census.iter().map(workload).collect(),
        gpus: engine.last_batch.as_ref().map(gpus).unwrap_or_default(),
        workload_gpus: engine
            .last_batch
            .as_ref()
            .map(|batch| workload_gpus(engine, batch))
            .unwrap_or_default(),
        export: stages.exporter.health(),
        reload_ok: !tally.reload_failed,
        reload_ok_time_s: tally.reloaded_wall_s,
    }
}

fn kernel_counts(row: &KernelCounters) -> Option<KernelCounts> {
    let counters = row.counters;
    Some(KernelCounts {
        kind: kind_name(row.kind)?,
        seen: counters.seen,
        sent: counters.sent,
        filtered: counters.filtered,
        ring_full: counters.ring_full,
        too_long: counters.too_long,
        map_full: counters.map_full,
        read_fault: counters.read_fault,
        rate_limited: counters.rate_limited,
    })
}

/// Rules that cannot be judged on this host now: those on GPU facts without a GPU.
fn inactive_rules(engine: &Engine) -> u64 {
    let status = engine.stages.gpu.as_ref().map(|gpu| gpu.status(Clock::boot_now()));
    if status.is_some_and(|status| status.state.is_reading()) {
        return 0;
    }
    let on_gpu = |rule: &&std::sync::Arc<crate::rule::spec::Rule>| {
        rule.fields.iter().any(|field| crate::rule::is_gpu(*field))
    };
    engine.stages.rules.rules.iter().filter(on_gpu).count() as u64
}

fn sensors(engine: &Engine) -> Vec<SensorMetrics> {
    let mut rows: Vec<SensorMetrics> = engine
        .stages
        .status
        .iter()
        .map(|status| SensorMetrics {
            sensor: status.sensor.name.to_owned(),
            state: match status.state {
                State::Attached => SensorState::Attached,
                State::Fallback(_) => SensorState::Fallback,
                State::Off(_) => SensorState::Off,
            },
        })
        .collect();
    let gap = engine
        .stages
        .gpu
        .as_ref()
        .map(|gpu| gpu.status(Clock::boot_now()).sensor_gap().map(|gap| gap.state));
    let state = match gap {
        Some(None) => SensorState::Attached,
        Some(Some(state)) if state == "fallback" => SensorState::Fallback,
        Some(Some(_)) | None => SensorState::Off,
    };
    rows.push(SensorMetrics { sensor: crate::gpu::status::SENSOR.to_owned(), state });
    rows
}

fn tables(engine: &Engine) -> Vec<TableMetrics> {
    let counters = engine.stages.enricher.counters();
    let row = |table, entries: usize, entries_max: usize, evicted| TableMetrics {
        table,
        entries: entries as u64,
        entries_max: entries_max as u64,
        evicted,
    };
    vec![
        row("processes", counters.processes, limit::PROCESSES_MAX, counters.processes_evicted),
        row("workloads", counters.workloads, limit::WORKLOADS_MAX, counters.workloads_evicted),
        row("flows", counters.flows, limit::FLOWS_MAX, counters.flows_evicted),
        row("budgets", counters.budgets, limit::BUDGETS_KEPT_MAX, counters.budgets_evicted),
        row("labels", counters.labels, limit::LABELS_MAX, counters.labels_evicted),
        row(
            "gpu_features",
            engine.stages.features.len(),
            crate::gpu::feature::TREES_MAX,
            engine.stages.features.evicted(),
        ),
    ]
}

fn workload(workload: &WorkloadEvidence) -> WorkloadMetrics {
    WorkloadMetrics {
        workload: workload.name.clone(),
        kind: workload.kind.clone(),
        namespace: workload.namespace.clone().unwrap_or_default(),
        pod: workload.pod.clone().unwrap_or_default(),
        egress_bytes: workload.egress_bytes,
        weight_bytes_read: workload.weight_bytes_read,
    }
}

fn gpus(batch: &GpuBatch) -> Vec<GpuMetrics> {
    batch.devices.iter().map(gpu).collect()
}

fn gpu(sample: &DeviceSample) -> GpuMetrics {
    GpuMetrics {
        gpu: sample.device.index.to_string(),
        uuid: sample.device.uuid.to_string(),
        model: sample.device.model.clone(),
        utilization_ratio: sample.reading.util_percent.map(|percent| percent / 100.0),
        memory_used_bytes: sample.reading.mem_used_bytes,
        power_watts: sample.reading.power_watts,
        ..GpuMetrics::default()
    }
}

/// One row per workload and GPU: what its processes use together.
fn workload_gpus(engine: &Engine, batch: &GpuBatch) -> Vec<WorkloadGpuMetrics> {
    let mut rows: Vec<WorkloadGpuMetrics> = Vec::new();
    for process in &batch.processes {
        let Some(workload) = engine.stages.enricher.workload_of_pid(process.pid) else { continue };
        let at = rows
            .iter()
            .position(|row| row.workload == workload.name && row.gpu.uuid == process.gpu.as_str());
        let row = if let Some(at) = at {
            &mut rows[at]
        } else {
            rows.push(WorkloadGpuMetrics {
                workload: workload.name.clone(),
                gpu: GpuMetrics {
                    gpu: process.index.to_string(),
                    uuid: process.gpu.to_string(),
                    model: process.model.to_string(),
                    namespace: workload.namespace.unwrap_or_default(),
                    pod: workload.pod.unwrap_or_default(),
                    container: workload.container_id.unwrap_or_default(),
                    ..GpuMetrics::default()
                },
                ..WorkloadGpuMetrics::default()
            });
            let last = rows.len() - 1;
            &mut rows[last]
        };
        let util = process.attributed_util().map(|percent| percent / 100.0);
        row.utilization_ratio = sum(row.utilization_ratio, util);
        row.memory_used_bytes = match (row.memory_used_bytes, process.mem_used_bytes) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
    }
    rows
}

fn sum(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one + other).min(1.0)),
        (one, other) => one.or(other),
    }
}
