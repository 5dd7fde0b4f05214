//! Fills the snapshot for metrics.

use monitor_common::kind_name;

use super::engine::Engine;
use super::gpu;
use crate::cluster::SourceState;
use crate::enrich::limit;
use crate::model::{Clock, WorkloadEvidence};
use crate::sensor::label_mark::Refusal;
use crate::sensor::{KernelCounters, State};
use crate::telemetry::{
    KernelCounts, SensorMetrics, SensorState, Snapshot, TableMetrics, WorkloadMetrics,
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
        file_marks: file_marks(engine),
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
        delays: vec![
            ("taken", tally.delays.taken.read()),
            ("judged", tally.delays.judged.read()),
            ("written", stages.exporter.written()),
        ],
        findings_alerted: alerts.alerted,
        findings_repeated: alerts.repeated,
        findings_rate_limited: alerts.rate_limited,
        workloads: census.iter().map(workload).collect(),
        gpu_backend: gpu::backend(engine),
        gpus: engine.last_batch.as_ref().map(|batch| gpu::gpus(engine, batch)).unwrap_or_default(),
        workload_gpus: engine
            .last_batch
            .as_ref()
            .map(|batch| gpu::workloads(engine, batch))
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
    rows.extend(engine.stages.directory.sources().into_iter().map(|(source, state)| {
        let state = match state {
            SourceState::Active => SensorState::Attached,
            SourceState::Off(_) => SensorState::Off,
        };
        SensorMetrics { sensor: source.to_owned(), state }
    }));
    rows
}

fn file_marks(engine: &Engine) -> Vec<(&'static str, u64)> {
    let Some(watch) = &engine.stages.label_watch else { return Vec::new() };
    let marks = &watch.stats().marks;
    let refused = Refusal::ALL.map(|(why, word)| (word, marks.refused(why)));
    [("set", marks.marked())].into_iter().chain(refused).collect()
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
