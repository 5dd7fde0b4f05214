//! Errors of memory and bus, replaced rows, links, and accounts of processes.

use nvml_wrapper_sys::bindings::{
    nvmlAccountingStats_t, nvmlFieldValue_t, nvmlValue_t,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
};

use super::on_gpu;
use crate::abi::{Array, Handle, Out, exported, put_list};
use crate::code::{Answer, Code};
use crate::scenario::{DeviceSpec, ProcessSpec};
use crate::signal::Signal;
use crate::state::View;

/// Processes that accounting remembers; as drivers do.
const ACCOUNTS: u32 = 4_000;

/// Fills one field value of nvml.h's `NVML_FI_DEV_*`.
fn fill(spec: &DeviceSpec, now_s: f64, value: &mut nvmlFieldValue_t) {
    let small = |signal: &Signal| {
        let whole = signal.whole32_at(now_s, u32::MAX);
        (nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT, nvmlValue_t { uiVal: whole })
    };
    let large = |signal: Option<&Signal>| {
        let whole = signal?.whole_at(now_s, u64::MAX);
        Some((nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, nvmlValue_t { ullVal: whole }))
    };
    let links = Some(&spec.nvlink_errors).filter(|_| spec.nvlinks > 0);
    let found = match value.fieldId {
        38 => large(links.map(|errors| &errors.crc_flit)),
        45 => large(links.map(|errors| &errors.crc_data)),
        52 => large(links.map(|errors| &errors.replay)),
        59 => large(links.map(|errors| &errors.recovery)),
        142 => Some(small(&spec.remapped.correctable)),
        143 => Some(small(&spec.remapped.uncorrectable)),
        144 => Some(small(&spec.remapped.pending)),
        145 => Some(small(&spec.remapped.failed)),
        197 => large(spec.pcie_tx_bytes.as_ref()),
        198 => large(spec.pcie_rx_bytes.as_ref()),
        _ => None,
    };
    match found {
        Some((kind, number)) => {
            (value.valueType, value.value, value.nvmlReturn) = (kind, number, 0);
        }
        None => value.nvmlReturn = Code::NOT_SUPPORTED.0,
    }
}

/// Processes that ran until now, those that have ended included.
fn accounted(view: &View, spec: &DeviceSpec) -> Answer<Vec<(u32, ProcessSpec)>> {
    if !spec.accounting {
        return Err(Code::NOT_SUPPORTED);
    }
    let started = spec.processes.iter().filter(|process| process.from_s <= view.now_s);
    Ok(started
        .filter_map(|process| Some((process.pid_at(process.from_s)?, process.clone())))
        .collect())
}

exported! {
    call: call;

    fn nvmlDeviceGetTotalEccErrors(device: Handle, kind: u32, _counter: u32, place: Out<u64>) {
        let (view, target) = on_gpu(call, device)?;
        let spec = view.spec(target)?;
        let errors = match kind {
            0 => &spec.ecc_corrected,
            1 => &spec.ecc_uncorrected,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        place.put(errors.whole_at(view.now_s, u64::MAX))
    }

    fn nvmlDeviceGetRemappedRows(
        device: Handle, corrected: Out<u32>, uncorrected: Out<u32>, pending: Out<u32>,
        failed: Out<u32>,
    ) {
        let (view, target) = on_gpu(call, device)?;
        let rows = &view.spec(target)?.remapped;
        corrected.put(rows.correctable.whole32_at(view.now_s, u32::MAX))?;
        uncorrected.put(rows.uncorrectable.whole32_at(view.now_s, u32::MAX))?;
        pending.put(rows.pending.whole32_at(view.now_s, 1))?;
        failed.put(rows.failed.whole32_at(view.now_s, 1))
    }

    fn nvmlDeviceGetFieldValues(device: Handle, count: i32, values: Array<nvmlFieldValue_t>) {
        let (view, target) = on_gpu(call, device)?;
        let spec = view.spec(target)?;
        values.each(count, |value| fill(spec, view.now_s, value))
    }

    fn nvmlDeviceGetPcieReplayCounter(device: Handle, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(view.spec(target)?.pcie_replays.whole32_at(view.now_s, u32::MAX))
    }

    fn nvmlDeviceGetNvLinkState(device: Handle, link: u32, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        let spec = view.spec(target)?;
        if spec.nvlinks == 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        if link >= spec.nvlinks {
            return Err(Code::INVALID_ARGUMENT);
        }
        place.put(u32::from(link < spec.nvlinks_up))
    }

    fn nvmlDeviceGetAccountingMode(device: Handle, place: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        place.put(u32::from(view.spec(target)?.accounting))
    }

    fn nvmlDeviceGetAccountingBufferSize(device: Handle, place: Out<u32>) {
        on_gpu(call, device)?;
        place.put(ACCOUNTS)
    }

    fn nvmlDeviceGetAccountingPids(device: Handle, count: Out<u32>, places: Out<u32>) {
        let (view, target) = on_gpu(call, device)?;
        let all = accounted(&view, view.spec(target)?)?;
        let pids: Vec<u32> = all.into_iter().map(|(pid, _)| pid).collect();
        put_list(&count, &places, &pids)
    }

    fn nvmlDeviceGetAccountingStats(
        device: Handle, pid: u32, place: Out<nvmlAccountingStats_t>,
    ) {
        let (view, target) = on_gpu(call, device)?;
        let all = accounted(&view, view.spec(target)?)?;
        let (_, process) = all.into_iter().find(|(of, _)| *of == pid).ok_or(Code::NOT_FOUND)?;
        let is_running = process.pid_at(view.now_s).is_some();
        let began_s = process.from_s;
        let end_s = process.until_s.unwrap_or(view.now_s).min(view.now_s);
        let middle_s = f64::midpoint(began_s, end_s);
        let memory = process.mem_bytes.map_or(u64::MAX, |mem| mem.whole_at(middle_s, u64::MAX - 1));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        let length_ms = ((end_s - began_s).max(0.0) * 1e3) as u64;
        place.put(nvmlAccountingStats_t {
            gpuUtilization: process.sm_util.whole32_at(middle_s, 100),
            memoryUtilization: process.mem_util.whole32_at(middle_s, 100),
            maxMemoryUsage: memory,
            time: if is_running { 0 } else { length_ms },
            startTime: view.began_us,
            isRunning: u32::from(is_running),
            reserved: [0; 5],
        })
    }
}
