//! What `doctor` says of GPUs: the source of facts, each GPU, and who uses it.

use std::time::{Duration, Instant};

use super::{Check, Verdict};
use crate::config::Config;
use crate::enrich::{Place, ProcSource as _, Procfs};
use crate::gpu::fdinfo::{AnyDriver, FdinfoDriver};
use crate::gpu::status::DeviceGap;
use crate::gpu::{
    BackendState, DeviceSample, GpuBatch, GpuError, GpuSampler, NvmlDriver, ProcessSample,
    SamplerConfig,
};
use crate::model::Clock;

/// How long the GPU driver is waited for.
const GPU_WAIT: Duration = Duration::from_secs(6);
/// Processes that are named for one GPU; the rest are counted.
const USERS_SHOWN_MAX: usize = 8;

pub(super) fn check(config: &Config, checks: &mut Vec<Check>) {
    if !config.gpu.enabled {
        let says = "switched off by gpu.enabled".to_owned();
        checks.push(Check::new("gpu", "source", Verdict::Limited, says, ""));
        return;
    }
    let nvml = NvmlDriver { paths: config.gpu.library_paths.clone(), is_exclusive: false };
    let driver = AnyDriver { nvml, fdinfo: FdinfoDriver::default() };
    let mut sampler = match GpuSampler::start(Box::new(driver), SamplerConfig::default()) {
        Ok(sampler) => sampler,
        Err(error) => {
            checks.push(Check::new("gpu", "source", Verdict::Bad, error.to_string(), ""));
            return;
        }
    };
    let deadline = Instant::now() + GPU_WAIT;
    let batch = loop {
        let batch = sampler.poll(Clock::boot_now());
        if batch.is_some() || Instant::now() >= deadline {
            break batch;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let status = sampler.status(Clock::boot_now());
    let state = status.state;
    let (verdict, cure) = match &state {
        BackendState::Active { .. } => (Verdict::Good, ""),
        BackendState::Off(_) => (
            Verdict::Limited,
            "without a GPU driver everything else works; rules on gpu.* fields are inactive. Set \
             gpu.library_paths where the driver lies elsewhere",
        ),
        BackendState::Degraded { .. } | BackendState::Stalled { .. } | BackendState::Starting => {
            (Verdict::Limited, "look at nvidia-smi and at the kernel log for Xid errors")
        }
    };
    checks.push(Check::new("gpu", "source", verdict, state.to_string(), cure));
    if let Some(batch) = &batch {
        checks.extend(batch.devices.iter().map(|sample| device(sample, batch, &status.gaps)));
    }
    if !sampler.stop() {
        tracing::warn!("the GPU driver hangs; its thread is left behind");
    }
}

fn device(sample: &DeviceSample, batch: &GpuBatch, gaps: &[DeviceGap]) -> Check {
    let DeviceSample { device, reading, instances } = sample;
    let mut says = vec![format!("{} {}", device.model, device.uuid)];
    says.extend(reading.util_percent.map(|util| format!("{util:.0} % busy")));
    let memory = reading.mem_used_bytes.zip(reading.mem_total_bytes);
    says.extend(memory.map(|(used, total)| format!("{} of {} MiB", used >> 20, total >> 20)));
    says.extend(reading.power_watts.map(|watts| format!("{watts:.0} W")));
    if device.is_mig {
        let named: Vec<&str> = instances.iter().map(|instance| instance.model.as_str()).collect();
        says.push(match named.as_slice() {
            [] => "MIG without instances".to_owned(),
            named => format!("MIG with {}", named.join(", ")),
        });
    }
    says.push(if device.has_gpm { "activity counters" } else { "no activity counters" }.to_owned());
    // What it cannot tell by its nature; what it should tell and does not is in the source's row.
    let untold: Vec<&str> = gaps
        .iter()
        .filter(|gap| gap.gpu == device.uuid && matches!(gap.why, GpuError::Unsupported { .. }))
        .map(|gap| gap.value)
        .collect();
    if !untold.is_empty() {
        says.push(format!("cannot tell {}", untold.join(", ")));
    }
    let users: Vec<&ProcessSample> =
        batch.processes.iter().filter(|process| process.index == device.index).collect();
    let named: Vec<String> =
        users.iter().take(USERS_SHOWN_MAX).map(|process| user(process)).collect();
    says.push(match (named.as_slice(), users.len() - named.len()) {
        ([], _) => "used by nobody".to_owned(),
        (named, 0) => format!("used by {}", named.join(", ")),
        (named, more) => format!("used by {} and {more} more", named.join(", ")),
    });
    let failed = reading.remapped_rows.is_some_and(|rows| rows.has_failed);
    let (verdict, cure) = if failed {
        (Verdict::Limited, "its memory has no spare rows left: have it replaced")
    } else {
        (Verdict::Good, "")
    };
    Check::new("gpu", &format!("gpu {}", device.index), verdict, says.join(", "), cure)
}

/// Pid, name and workload of a process.
fn user(process: &ProcessSample) -> String {
    let source = Procfs::default();
    let name = source.process(process.pid).map_or_else(|| "ended".to_owned(), |info| info.name);
    let place = source.cgroup(process.pid).map(|text| Place::parse(&text));
    let workload = place.and_then(|place| place.workload_id()).unwrap_or_else(|| "host".to_owned());
    format!("{} {name} ({workload})", process.pid.0)
}
