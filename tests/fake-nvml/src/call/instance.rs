//! MIG.

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t};

use super::{on, on_gpu};
use crate::abi::{Handle, Out, exported, handle_of};
use crate::code::Code;
use crate::state::Target;

/// GPU instances that every MIG-capable GPU so far can be split into.
const INSTANCES_MAX: u32 = 7;

exported! {
    call: call;

    fn nvmlDeviceGetMigMode(device: Handle, current: Out<u32>, pending: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        let mode = u32::from(view.spec(target)?.mig.is_some());
        current.put(mode)?;
        pending.put(mode)
    }

    fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(if view.spec(target)?.mig.is_some() { INSTANCES_MAX } else { 0 })
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(
        device: Handle, index: u32, place: Out<nvmlDevice_t>,
    ) {
        let (view, target) = on_gpu(call, device)?;
        let mig = view.spec(target)?.mig.as_ref().ok_or(Code::NOT_SUPPORTED)?;
        if index >= INSTANCES_MAX {
            return Err(Code::INVALID_ARGUMENT);
        }
        let instance = usize::try_from(index).map_err(|_| Code::INVALID_ARGUMENT)?;
        if instance >= mig.instances.len() {
            return Err(Code::NOT_FOUND);
        }
        place.put(handle_of(Target { instance: Some(instance), ..target }))
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device: Handle, place: Out<nvmlDevice_t>) {
        let (_, target) = on(call, device)?;
        if target.instance.is_none() {
            return Err(Code::INVALID_ARGUMENT);
        }
        place.put(handle_of(Target { instance: None, ..target }))
    }

    fn nvmlDeviceIsMigDeviceHandle(device: Handle, place: Out<u32>) {
        let (_, target) = on(call, device)?;
        place.put(u32::from(target.instance.is_some()))
    }

    fn nvmlDeviceGetGpuInstanceId(device: Handle, place: Out<u32>) {
        let (view, target) = on(call, device)?;
        place.put(view.instance(target)?.ok_or(Code::NOT_SUPPORTED)?.gpu_instance)
    }

    fn nvmlDeviceGetComputeInstanceId(device: Handle, place: Out<u32>) {
        let (view, target) = on(call, device)?;
        place.put(view.instance(target)?.ok_or(Code::NOT_SUPPORTED)?.compute_instance)
    }

    fn nvmlDeviceGetAttributes_v2(device: Handle, place: Out<nvmlDeviceAttributes_t>) {
        let (view, target) = on(call, device)?;
        let instance = view.instance(target)?.ok_or(Code::NOT_SUPPORTED)?;
        place.put(nvmlDeviceAttributes_t {
            multiprocessorCount: 16,
            sharedCopyEngineCount: 1,
            sharedDecoderCount: 1,
            sharedEncoderCount: 0,
            sharedJpegCount: 1,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: 1,
            computeInstanceSliceCount: 1,
            memorySizeMB: instance.memory_total_bytes >> 20,
        })
    }
}
