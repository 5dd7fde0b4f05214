//! Processes on a GPU, and what they did.

use nvml_wrapper_sys::bindings::{nvmlProcessInfo_t, nvmlProcessUtilizationSample_t};

use super::{on, on_gpu};
use crate::abi::{Handle, Out, exported, put_list};
use crate::code::{Answer, Code};
use crate::scenario::{InstanceSpec, ProcessKind, ProcessSpec};
use crate::state::{Target, View};

/// `NVML_VALUE_NOT_AVAILABLE` of nvml.h as memory.
const MEMORY_UNKNOWN: u64 = u64::MAX;
/// What nvml.h gives for the instance of a process outside MIG.
const NO_INSTANCE: u32 = u32::MAX;

type Placed<'a> = (&'a ProcessSpec, Option<&'a InstanceSpec>);

/// The processes of a GPU (all its instances included) or of one instance.
fn placed(view: &View, target: Target) -> Answer<Vec<Placed<'_>>> {
    if let Some(instance) = view.instance(target)? {
        return Ok(instance.processes.iter().map(|process| (process, Some(instance))).collect());
    }
    let spec = view.spec(target)?;
    let within = spec.mig.iter().flat_map(|mig| &mig.instances).flat_map(|instance| {
        instance.processes.iter().map(move |process| (process, Some(instance)))
    });
    Ok(spec.processes.iter().map(|process| (process, None)).chain(within).collect())
}

fn running(
    call: &str,
    device: Handle,
    kind: ProcessKind,
    count: &Out<u32>,
    places: &Out<nvmlProcessInfo_t>,
) -> Answer {
    let (view, target) = on(call, device)?;
    let processes: Vec<nvmlProcessInfo_t> = placed(&view, target)?
        .into_iter()
        .filter(|(process, _)| process.kind == kind && process.is_listed)
        .filter_map(|(process, instance)| {
            let mem = process.mem_bytes.as_ref();
            Some(nvmlProcessInfo_t {
                pid: process.pid_at(view.now_s)?,
                usedGpuMemory: mem
                    .map_or(MEMORY_UNKNOWN, |mem| mem.whole_at(view.now_s, MEMORY_UNKNOWN - 1)),
                gpuInstanceId: instance.map_or(NO_INSTANCE, |instance| instance.gpu_instance),
                computeInstanceId: instance
                    .map_or(NO_INSTANCE, |instance| instance.compute_instance),
            })
        })
        .collect();
    put_list(count, places, &processes)
}

/// The driver's time of the newest sample: whole seconds, as if it looked once a second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
fn sampled_us(view: &View) -> u64 {
    view.began_us + view.now_s.max(0.0).floor() as u64 * 1_000_000
}

fn utilisation(
    view: &View,
    target: Target,
    since_us: u64,
) -> Answer<Vec<nvmlProcessUtilizationSample_t>> {
    let spec = view.spec(target)?;
    if spec.mig.is_some() {
        return Err(Code::NOT_SUPPORTED);
    }
    let time_us = sampled_us(view);
    if time_us <= since_us {
        return Ok(Vec::new());
    }
    let sampled_s = view.now_s.max(0.0).floor();
    let samples = spec.processes.iter().filter_map(|process| {
        // One that is gone by now may have run when the driver looked last.
        let pid = process.pid_at(view.now_s).or_else(|| process.pid_at(sampled_s))?;
        let sample = nvmlProcessUtilizationSample_t {
            pid,
            timeStamp: time_us,
            smUtil: process.sm_util.whole32_at(sampled_s, u32::MAX),
            memUtil: process.mem_util.whole32_at(sampled_s, 100),
            encUtil: 0,
            decUtil: 0,
        };
        (sample.smUtil > 0 || sample.memUtil > 0).then_some(sample)
    });
    Ok(samples.collect())
}

exported! {
    call: call;

    fn nvmlDeviceGetComputeRunningProcesses_v2(
        device: Handle, count: Out<u32>, places: Out<nvmlProcessInfo_t>,
    ) {
        running(call, device, ProcessKind::Compute, &count, &places)
    }

    fn nvmlDeviceGetComputeRunningProcesses_v3(
        device: Handle, count: Out<u32>, places: Out<nvmlProcessInfo_t>,
    ) {
        running(call, device, ProcessKind::Compute, &count, &places)
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v2(
        device: Handle, count: Out<u32>, places: Out<nvmlProcessInfo_t>,
    ) {
        running(call, device, ProcessKind::Graphics, &count, &places)
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(
        device: Handle, count: Out<u32>, places: Out<nvmlProcessInfo_t>,
    ) {
        running(call, device, ProcessKind::Graphics, &count, &places)
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v2(
        device: Handle, count: Out<u32>, places: Out<nvmlProcessInfo_t>,
    ) {
        running(call, device, ProcessKind::Mps, &count, &places)
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
        device: Handle, count: Out<u32>, places: Out<nvmlProcessInfo_t>,
    ) {
        running(call, device, ProcessKind::Mps, &count, &places)
    }

    fn nvmlDeviceGetProcessUtilization(
        device: Handle,
        places: Out<nvmlProcessUtilizationSample_t>,
        count: Out<u32>,
        since_us: u64,
    ) {
        let (view, target) = on_gpu(call, device)?;
        let samples = utilisation(&view, target, since_us)?;
        if samples.is_empty() {
            count.put(0)?;
            return Err(Code::NOT_FOUND);
        }
        put_list(&count, &places, &samples)
    }
}
