//! The GPU side at the engine: readings become events, and metrics say what was read of GPUs and of
//! workloads on them.

use super::engine::Engine;
use crate::enrich::{Allocations as _, GpuNode, Holder};
use crate::gpu::backend::{MigInstance, NvlinkErrors, RemappedRows};
use crate::gpu::{BackendState, DeviceSample, GpuBatch};
use crate::model::{Clock, Event, FieldId, GpuActivity, GpuUuid, SensorGap};
use crate::rule::speaks_of_gpus;
use crate::telemetry::{
    GpuBackendMetrics, GpuMetrics, GpuQuantity, GpuReading, WorkloadGpuMetrics,
};

/// Bits of `nvmlClocksThrottleReasons` (nvml.h) that mean less speed than there could be. Idle,
/// and clocks that an administrator set, are no such thing.
const THROTTLE_REASONS: [(u64, &str); 5] = [
    (0x4, "power_cap"),
    (0x8, "hardware_slowdown"),
    (0x20, "software_thermal"),
    (0x40, "hardware_thermal"),
    (0x80, "power_brake"),
];

impl Engine {
    /// Takes in everything that was read since the last call.
    pub(super) fn take_gpu(&mut self) {
        loop {
            let now = Clock::boot_now();
            let Some(batch) = self.stages.gpu.as_mut().and_then(|gpu| gpu.poll(now)) else {
                return;
            };
            self.note_gpu_nodes(&batch);
            let enricher = &self.stages.enricher;
            let events: Vec<Event> = batch.events(|pid| enricher.actor(pid)).collect();
            for event in &events {
                self.take_event(event);
            }
            self.note_gpu_state(&batch);
            self.last_batch = Some(batch.keeping(self.last_batch.as_ref()));
        }
    }

    /// Keeps the GPUs by their device nodes, so that whoever opens one is known to use that GPU.
    fn note_gpu_nodes(&mut self, batch: &GpuBatch) {
        let devices = || batch.devices.iter().map(|sample| &sample.device);
        let known = self.last_batch.iter().flat_map(|last| last.devices.iter());
        if batch.devices.is_empty() || devices().eq(known.map(|sample| &sample.device)) {
            return;
        }
        let nodes = devices().map(|device| GpuNode {
            minor: device.minor.unwrap_or(device.index),
            index: device.index,
            uuid: device.uuid.clone(),
            model: device.model.clone(),
        });
        self.stages.enricher.set_gpu_nodes(nodes.collect());
    }

    /// Says once when the GPU side changes its state.
    fn note_gpu_state(&self, batch: &GpuBatch) {
        let before = self.last_batch.as_ref().map(|last| last.state.as_str());
        if before != Some(batch.state.as_str()) {
            tracing::info!(state = %batch.state, "gpu");
        }
    }

    /// What an alert of a rule with these fields must say of the GPU side.
    pub(super) fn gpu_gaps(&self, fields: &[FieldId]) -> Vec<SensorGap> {
        let Some(gpu) = &self.stages.gpu else { return Vec::new() };
        if !fields.iter().any(|field| speaks_of_gpus(*field)) {
            return Vec::new();
        }
        let status = gpu.status(Clock::boot_now());
        status.sensor_gap().into_iter().chain(status.untold(fields)).collect()
    }
}

/// The source of GPU facts.
pub(super) fn backend(engine: &Engine) -> GpuBackendMetrics {
    let Some(gpu) = &engine.stages.gpu else { return GpuBackendMetrics::default() };
    let status = gpu.status(Clock::boot_now());
    let counters = &status.counters;
    GpuBackendMetrics {
        state: status.state.as_str(),
        reason: match &status.state {
            BackendState::Off(why) => why.reason(),
            BackendState::Degraded { gaps, .. } => gaps.first().map_or("", |gap| gap.why.reason()),
            BackendState::Starting | BackendState::Active { .. } | BackendState::Stalled { .. } => {
                ""
            }
        },
        missing: status
            .gaps
            .iter()
            .map(|gap| (gap.gpu.to_string(), gap.value, gap.why.reason()))
            .collect(),
        rounds: vec![
            ("sent", counters.sent),
            ("dropped", counters.dropped),
            ("stalled", counters.stalls),
        ],
        errors: counters.errors.iter().map(|(reason, count)| (*reason, *count)).collect(),
        faults: engine
            .tally
            .gpu_faults
            .iter()
            .map(|((index, uuid, model, fault, xid), count)| {
                let (index, uuid) = (index.to_string(), uuid.to_string());
                (index, uuid, model.clone(), *fault, xid.clone(), *count)
            })
            .collect(),
    }
}

/// The GPUs of the last round, each followed by its MIG instances.
pub(super) fn gpus(engine: &Engine, batch: &GpuBatch) -> Vec<GpuMetrics> {
    let mut rows = Vec::new();
    for sample in &batch.devices {
        rows.push(gpu(engine, sample));
        rows.extend(sample.instances.iter().map(|it| instance(engine, sample.device.index, it)));
    }
    rows
}

/// A row with nothing but its labels.
fn named(engine: &Engine, index: u32, uuid: &GpuUuid, model: &str) -> GpuMetrics {
    let holders = engine.stages.directory.holders(uuid, index);
    let (namespace, pod, container) = only_pod(&holders.unwrap_or_default());
    GpuMetrics {
        gpu: index.to_string(),
        uuid: uuid.to_string(),
        model: model.to_owned(),
        namespace,
        pod,
        container,
        ..GpuMetrics::default()
    }
}

/// What is told of an instance: its memory, and its activity where the GPU counts it.
fn instance(engine: &Engine, index: u32, instance: &MigInstance) -> GpuMetrics {
    let mut readings = Vec::new();
    let mut put = |quantity, part, value: Option<f64>| {
        readings.extend(value.map(|value| GpuReading { quantity, part, value }));
    };
    put(GpuQuantity::MemoryTotal, "", instance.mem_total_bytes.map(float));
    let activity = instance.activity.map(GpuActivity::from);
    put_activity(activity, &mut put);
    GpuMetrics {
        utilization_ratio: activity
            .and_then(|activity| activity.sm_percent)
            .map(|percent| percent / 100.0),
        memory_used_bytes: instance.mem_used_bytes,
        readings,
        ..named(engine, index, &instance.uuid, &instance.model)
    }
}

fn gpu(engine: &Engine, sample: &DeviceSample) -> GpuMetrics {
    let device = &sample.device;
    GpuMetrics {
        utilization_ratio: sample.reading.util_percent.map(|percent| percent / 100.0),
        memory_used_bytes: sample.reading.mem_used_bytes,
        power_watts: sample.reading.power_watts,
        readings: readings(sample),
        ..named(engine, device.index, &device.uuid, &device.model)
    }
}

/// The pod that holds a GPU, where there is one and no other.
fn only_pod(holders: &[Holder]) -> (String, String, String) {
    match holders {
        [Holder::Pod { namespace, pod, container }] => {
            (namespace.clone(), pod.clone(), container.clone())
        }
        _ => Default::default(),
    }
}

fn readings(sample: &DeviceSample) -> Vec<GpuReading> {
    let reading = &sample.reading;
    let mut rows = Vec::new();
    let mut put = |quantity, part, value: Option<f64>| {
        rows.extend(value.map(|value| GpuReading { quantity, part, value }));
    };
    put(GpuQuantity::MemoryTotal, "", reading.mem_total_bytes.map(float));
    put(GpuQuantity::Temperature, "", reading.temperature_celsius);
    put(GpuQuantity::Energy, "", reading.energy_joules);
    put(GpuQuantity::Clock, "sm", reading.sm_clock_mhz.map(hertz));
    put(GpuQuantity::Clock, "memory", reading.mem_clock_mhz.map(hertz));
    put(GpuQuantity::LinksUp, "", sample.device.nvlinks_up.map(f64::from));
    let errors_of = |of: fn(NvlinkErrors) -> u64| reading.nvlink_errors.map(of).map(float);
    put(GpuQuantity::LinkErrors, "crc_flit", errors_of(|errors| errors.crc_flit));
    put(GpuQuantity::LinkErrors, "crc_data", errors_of(|errors| errors.crc_data));
    put(GpuQuantity::LinkErrors, "replay", errors_of(|errors| errors.replay));
    put(GpuQuantity::LinkErrors, "recovery", errors_of(|errors| errors.recovery));
    put(GpuQuantity::PcieReplays, "", reading.pcie_replays.map(float));
    put(GpuQuantity::EccErrors, "corrected", reading.ecc_corrected.map(float));
    put(GpuQuantity::EccErrors, "uncorrected", reading.ecc_uncorrected.map(float));
    let rows_of = |of: fn(RemappedRows) -> u64| reading.remapped_rows.map(of).map(float);
    put(GpuQuantity::RemappedRows, "correctable", rows_of(|rows| rows.correctable));
    put(GpuQuantity::RemappedRows, "uncorrectable", rows_of(|rows| rows.uncorrectable));
    put(GpuQuantity::RemappedRows, "pending", rows_of(|rows| u64::from(rows.is_pending)));
    put(GpuQuantity::RemappedRows, "failed", rows_of(|rows| u64::from(rows.has_failed)));
    for (bit, reason) in THROTTLE_REASONS {
        let is_set = reading.throttle_reasons.is_some_and(|bits| bits & bit != 0);
        put(GpuQuantity::Throttled, reason, is_set.then_some(1.0));
    }
    put_activity(reading.activity.map(GpuActivity::from), &mut put);
    rows
}

fn put_activity(
    activity: Option<GpuActivity>,
    put: &mut impl FnMut(GpuQuantity, &'static str, Option<f64>),
) {
    let Some(activity) = activity else { return };
    for (part, percent) in [
        ("sm", activity.sm_percent),
        ("tensor", activity.tensor_percent),
        ("integer", activity.integer_percent),
        ("float", activity.float_percent),
        ("dram", activity.dram_percent),
    ] {
        put(GpuQuantity::Activity, part, percent.map(|percent| percent / 100.0));
    }
    put(GpuQuantity::Link, "pcie", activity.pcie_bytes_per_second);
    put(GpuQuantity::Link, "nvlink", activity.nvlink_bytes_per_second);
}

fn hertz(mhz: u32) -> f64 {
    f64::from(mhz) * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "metrics have floats only")]
fn float(count: u64) -> f64 {
    count as f64
}

/// One row per workload and GPU: what its processes use together.
pub(super) fn workloads(engine: &Engine, batch: &GpuBatch) -> Vec<WorkloadGpuMetrics> {
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
                    container: workload.container.or(workload.container_id).unwrap_or_default(),
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
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
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
