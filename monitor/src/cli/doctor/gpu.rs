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
    look(AnyDriver { nvml, fdinfo: FdinfoDriver::default() }, checks);
}

/// Reads every GPU once through `driver`, and says what was read.
fn look(driver: AnyDriver, checks: &mut Vec<Check>) {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host with a GPU of AMD and no library of a vendor, as a person sees it.
    #[test]
    fn gpus_of_other_vendors_have_their_rows() {
        let root = tempfile::tempdir().expect("a folder");
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        let device = "sys/class/drm/renderD128/device";
        let uevent = "DRIVER=amdgpu\nPCI_ID=1002:740F\nPCI_SLOT_NAME=0000:03:00.0\n";
        put(&format!("{device}/uevent"), uevent);
        put(&format!("{device}/unique_id"), "4d0c1f2e3b5a6978\n");
        put(&format!("{device}/gpu_busy_percent"), "87\n");
        put(&format!("{device}/mem_info_vram_used"), "3221225472\n");
        put(&format!("{device}/mem_info_vram_total"), "68702699520\n");
        put(&format!("{device}/hwmon/hwmon4/power1_average"), "251000000\n");
        let client = "drm-driver:\tamdgpu\ndrm-client-id:\t42\ndrm-pdev:\t0000:03:00.0\n";
        // No process has this number (PID_MAX_LIMIT of the kernel is 4 194 304).
        put("proc/4194400/fdinfo/5", client);
        fs::create_dir_all(root.path().join("proc/4194400/fd")).expect("a folder");
        symlink("/dev/dri/renderD128", root.path().join("proc/4194400/fd/5")).expect("a link");

        let nvml = NvmlDriver { paths: vec![root.path().to_owned()], is_exclusive: true };
        let fdinfo = FdinfoDriver { root: root.path().to_owned(), ..FdinfoDriver::default() };
        let mut checks = Vec::new();
        look(AnyDriver { nvml, fdinfo }, &mut checks);
        let says: Vec<&str> = checks.iter().map(|check| check.says.as_str()).collect();
        assert_eq!(
            says,
            [
                "active: 1 GPU(s), fdinfo driver amdgpu",
                "amdgpu 1002:740F GPU-4d0c1f2e3b5a6978, 87 % busy, 3072 of 65520 MiB, 251 W, no \
                 activity counters, used by 4194400 ended (host)",
            ]
        );
    }
}
