//! What a GPU says of itself.

use std::ffi::c_char;

use nvml_wrapper_sys::bindings::{
    NVML_DEVICE_ARCH_HOPPER, nvmlBAR1Memory_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t,
    nvmlUtilization_t,
};

use super::{on, on_gpu};
use crate::abi::{Handle, Out, exported, put_text, text_array};
use crate::code::{Answer, Code};
use crate::scenario::{DeviceSpec, ProcessSpec};
use crate::state::{Target, View};

/// `NVML_CLOCK_MEM` of nvml.h; all other domains follow the SM clock.
const CLOCK_MEM: u32 = 2;
/// `NVML_P0` of nvml.h.
const P0: u32 = 0;
/// `NVML_BRAND_NVIDIA` of nvml.h.
const BRAND_NVIDIA: u32 = 14;
/// Seconds over which energy is summed at most; a scenario that runs longer is not a test.
const ENERGY_SECONDS_MAX: u32 = 1_000_000;

/// Used and total memory of a GPU or instance.
fn memory(view: &View, target: Target) -> Answer<(u64, u64)> {
    let used_by = |processes: &[ProcessSpec]| -> u64 {
        let alive = processes.iter().filter(|process| process.pid_at(view.now_s).is_some());
        alive
            .filter_map(|process| process.mem_bytes.as_ref())
            .map(|mem| mem.whole_at(view.now_s, u64::MAX))
            .sum()
    };
    if let Some(instance) = view.instance(target)? {
        let total = instance.memory_total_bytes;
        return Ok((used_by(&instance.processes).min(total), total));
    }
    let spec = view.spec(target)?;
    let total = spec.memory_total_bytes;
    let base = spec.memory_base_bytes.whole_at(view.now_s, total);
    let within = spec.mig.iter().flat_map(|mig| &mig.instances);
    let used: u64 = within.map(|instance| used_by(&instance.processes)).sum();
    Ok(((base + used + used_by(&spec.processes)).min(total), total))
}

/// Energy since the scenario began: power, summed second by second.
fn energy_mj(spec: &DeviceSpec, now_s: f64) -> u64 {
    let power = |at_s: f64| spec.power_mw.at(at_s).max(0.0);
    let mut energy = 0.0;
    for second in 0..ENERGY_SECONDS_MAX {
        let start = f64::from(second);
        let length = (now_s - start).min(1.0);
        if length <= 0.0 {
            break;
        }
        energy += power(start + length / 2.0) * length;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
    let whole = energy as u64;
    whole
}

fn pci(view: &View, target: Target) -> Answer<nvmlPciInfo_t> {
    let bus_id = &view.spec(target)?.pci_bus_id;
    let mut numbers = bus_id.split([':', '.']).map(|part| u32::from_str_radix(part, 16).ok());
    let mut next = || numbers.next().flatten().ok_or(Code::UNKNOWN);
    let (domain, bus, device) = (next()?, next()?, next()?);
    let legacy = bus_id.get(4..).unwrap_or(bus_id);
    Ok(nvmlPciInfo_t {
        busIdLegacy: text_array(legacy),
        domain,
        bus,
        device,
        pciDeviceId: 0x2330_10de,
        pciSubSystemId: 0x16c1_10de,
        busId: text_array(bus_id),
    })
}

exported! {
    call: call;

    fn nvmlDeviceGetName(device: Handle, place: Out<c_char>, room: u32) {
        let (view, target) = on(call, device)?;
        match view.instance(target)? {
            Some(instance) => put_text(&place, room, &instance.name),
            None => put_text(&place, room, &view.spec(target)?.name),
        }
    }

    fn nvmlDeviceGetUUID(device: Handle, place: Out<c_char>, room: u32) {
        let (view, target) = on(call, device)?;
        match view.instance(target)? {
            Some(instance) => put_text(&place, room, &instance.uuid),
            None => put_text(&place, room, &view.spec(target)?.uuid),
        }
    }

    fn nvmlDeviceGetIndex(device: Handle, place: Out<u32>) {
        let (_, target) = on(call, device)?;
        place.put(u32::try_from(target.instance.unwrap_or(target.device)).unwrap_or(0))
    }

    fn nvmlDeviceGetMinorNumber(device: Handle, place: Out<u32>) {
        let (_, target) = on_gpu(call, device)?;
        place.put(u32::try_from(target.device).unwrap_or(0))
    }

    fn nvmlDeviceGetBrand(device: Handle, place: Out<u32>) {
        on(call, device)?;
        place.put(BRAND_NVIDIA)
    }

    fn nvmlDeviceGetArchitecture(device: Handle, place: Out<u32>) {
        on(call, device)?;
        place.put(NVML_DEVICE_ARCH_HOPPER)
    }

    fn nvmlDeviceGetCudaComputeCapability(device: Handle, major: Out<i32>, minor: Out<i32>) {
        on(call, device)?;
        major.put(9)?;
        minor.put(0)
    }

    fn nvmlDeviceGetPciInfo_v2(device: Handle, place: Out<nvmlPciInfo_t>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(pci(&view, target)?)
    }

    fn nvmlDeviceGetPciInfo_v3(device: Handle, place: Out<nvmlPciInfo_t>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(pci(&view, target)?)
    }

    fn nvmlDeviceGetMemoryInfo(device: Handle, place: Out<nvmlMemory_t>) {
        let (view, target) = on(call, device)?;
        let (used, total) = memory(&view, target)?;
        place.put(nvmlMemory_t { total, free: total - used, used })
    }

    fn nvmlDeviceGetMemoryInfo_v2(device: Handle, place: Out<nvmlMemory_v2_t>) {
        let (view, target) = on(call, device)?;
        let version = u32::try_from(size_of::<nvmlMemory_v2_t>() | 2 << 24).unwrap_or(0);
        if place.get()?.version != version {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let (used, total) = memory(&view, target)?;
        place.put(nvmlMemory_v2_t { version, total, reserved: 0, free: total - used, used })
    }

    fn nvmlDeviceGetBAR1MemoryInfo(device: Handle, place: Out<nvmlBAR1Memory_t>) {
        on_gpu(call, device)?;
        place.put(nvmlBAR1Memory_t { bar1Total: 128 << 30, bar1Free: 128 << 30, bar1Used: 0 })
    }

    fn nvmlDeviceGetUtilizationRates(device: Handle, place: Out<nvmlUtilization_t>) {
        let (view, target) = on_gpu(call, device)?;
        let spec = view.spec(target)?;
        if spec.mig.is_some() {
            return Err(Code::NOT_SUPPORTED);
        }
        place.put(nvmlUtilization_t {
            gpu: spec.util.whole32_at(view.now_s, 100),
            memory: spec.mem_util.whole32_at(view.now_s, 100),
        })
    }

    fn nvmlDeviceGetEncoderUtilization(device: Handle, util: Out<u32>, period_us: Out<u32>) {
        on_gpu(call, device)?;
        util.put(0)?;
        period_us.put(167_000)
    }

    fn nvmlDeviceGetDecoderUtilization(device: Handle, util: Out<u32>, period_us: Out<u32>) {
        on_gpu(call, device)?;
        util.put(0)?;
        period_us.put(167_000)
    }

    fn nvmlDeviceGetPowerUsage(device: Handle, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(view.spec(target)?.power_mw.whole32_at(view.now_s, u32::MAX))
    }

    fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(view.spec(target)?.power_limit_mw)
    }

    fn nvmlDeviceGetPowerManagementLimit(device: Handle, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(view.spec(target)?.power_limit_mw)
    }

    fn nvmlDeviceGetTotalEnergyConsumption(device: Handle, place: Out<u64>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(energy_mj(view.spec(target)?, view.now_s))
    }

    fn nvmlDeviceGetTemperature(device: Handle, sensor: u32, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        if sensor != 0 {
            return Err(Code::INVALID_ARGUMENT);
        }
        place.put(view.spec(target)?.temperature.whole32_at(view.now_s, 200))
    }

    fn nvmlDeviceGetClockInfo(device: Handle, domain: u32, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        let spec = view.spec(target)?;
        let clock = match domain {
            CLOCK_MEM => &spec.mem_clock_mhz,
            0 | 1 | 3 => &spec.sm_clock_mhz,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        place.put(clock.whole32_at(view.now_s, 100_000))
    }

    fn nvmlDeviceGetMaxClockInfo(device: Handle, domain: u32, place: Out<u32>) {
        on_gpu(call, device)?;
        match domain {
            CLOCK_MEM => place.put(2_619),
            0 | 1 | 3 => place.put(1_980),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }

    fn nvmlDeviceGetCurrentClocksThrottleReasons(device: Handle, place: Out<u64>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(view.spec(target)?.throttle_reasons)
    }

    fn nvmlDeviceGetCurrentClocksEventReasons(device: Handle, place: Out<u64>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(view.spec(target)?.throttle_reasons)
    }

    fn nvmlDeviceGetPerformanceState(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(P0)
    }

    fn nvmlDeviceGetFanSpeed(device: Handle, _place: Out<u32>) {
        on_gpu(call, device)?;
        Err(Code::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetDriverModel(device: Handle, _current: Out<u32>, _pending: Out<u32>) {
        on_gpu(call, device)?;
        Err(Code::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetComputeMode(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(0)
    }

    fn nvmlDeviceGetPersistenceMode(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(1)
    }

    fn nvmlDeviceGetDisplayActive(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(0)
    }

    fn nvmlDeviceGetDisplayMode(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(0)
    }

    fn nvmlDeviceGetPcieThroughput(device: Handle, counter: u32, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        let gpm = view.spec(target)?.gpm.as_ref().ok_or(Code::NOT_SUPPORTED)?;
        let rate = match counter {
            0 => &gpm.pcie_tx_mib,
            1 => &gpm.pcie_rx_mib,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        place.put(rate.whole32_at(view.now_s, 1 << 20) * 1_024)
    }

    fn nvmlDeviceGetCurrPcieLinkGeneration(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(5)
    }

    fn nvmlDeviceGetCurrPcieLinkWidth(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(16)
    }

    fn nvmlDeviceGetMaxPcieLinkGeneration(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(5)
    }

    fn nvmlDeviceGetMaxPcieLinkWidth(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(16)
    }
}
