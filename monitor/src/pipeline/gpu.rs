//! What metrics say of GPUs, and of workloads on them.

use super::engine::Engine;
use crate::enrich::{Allocations as _, Holder};
use crate::gpu::backend::{DeviceReading, RemappedRows};
use crate::gpu::{BackendState, DeviceSample, GpuBatch};
use crate::model::{Clock, GpuActivity};
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

/// The source of GPU facts.
pub(super) fn backend(engine: &Engine) -> GpuBackendMetrics {
    let Some(gpu) = &engine.stages.gpu else { return GpuBackendMetrics::default() };
    let status = gpu.status(Clock::boot_now());
    let counters = &status.counters;
    GpuBackendMetrics {
        state: status.state.as_str(),
        reason: match &status.state {
            BackendState::Off(why) => why.reason(),
            _ => "",
        },
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

/// The GPUs of the last round.
pub(super) fn gpus(engine: &Engine, batch: &GpuBatch) -> Vec<GpuMetrics> {
    batch.devices.iter().map(|sample| gpu(engine, sample)).collect()
}

fn gpu(engine: &Engine, sample: &DeviceSample) -> GpuMetrics {
    let holders = engine.stages.directory.holders(&sample.device.uuid, sample.device.index);
    let (namespace, pod, container) = only_pod(&holders.unwrap_or_default());
    GpuMetrics {
        gpu: sample.device.index.to_string(),
        uuid: sample.device.uuid.to_string(),
        model: sample.device.model.clone(),
        namespace,
        pod,
        container,
        utilization_ratio: sample.reading.util_percent.map(|percent| percent / 100.0),
        memory_used_bytes: sample.reading.mem_used_bytes,
        power_watts: sample.reading.power_watts,
        readings: readings(sample),
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
    activity(reading, &mut put);
    rows
}

fn activity(reading: &DeviceReading, put: &mut impl FnMut(GpuQuantity, &'static str, Option<f64>)) {
    let Some(activity) = reading.activity.map(GpuActivity::from) else { return };
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
