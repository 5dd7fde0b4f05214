//! Counters of a GPU's health and of its `PCIe` traffic.

use nvml_wrapper::device::Device as Handle;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::structs::device::FieldId;

use super::GpuError;
use super::backend::{DeviceReading, NvlinkErrors, RemappedRows};
use super::session::Taker;

/// `NVML_FI_DEV_*` of nvml.h: rows remapped after corrected and uncorrected errors, whether one
/// waits for a reset, whether one failed; bytes sent and received over `PCIe`; errors on `NVLink`,
/// all links together (flit and data checksums, replays, recoveries). The call
/// `nvmlDeviceGetRemappedRows` says the same as the first four; fields are asked in one go.
const FIELDS: [FieldId; 10] = [
    FieldId(142),
    FieldId(143),
    FieldId(144),
    FieldId(145),
    FieldId(197),
    FieldId(198),
    FieldId(38),
    FieldId(45),
    FieldId(52),
    FieldId(59),
];

/// The counters; everything else of the reading is as by default.
pub(super) fn read(
    taker: &mut Taker<'_, '_>,
    handle: &Handle<'_>,
) -> Result<DeviceReading, GpuError> {
    let call = "nvmlDeviceGetFieldValues";
    let fields = taker.take("remapped_rows", call, handle.field_values_for(&FIELDS))?;
    let field = |at: usize| {
        let sample = fields.as_ref()?.get(at)?.as_ref().ok()?;
        number(sample.value.as_ref().ok()?)
    };
    let ecc = |kind| handle.total_ecc_errors(kind, EccCounter::Volatile);
    let call = "nvmlDeviceGetTotalEccErrors";
    let corrected = taker.take("ecc_corrected", call, ecc(MemoryError::Corrected))?;
    let uncorrected = taker.take("ecc_uncorrected", call, ecc(MemoryError::Uncorrected))?;
    let call = "nvmlDeviceGetPcieReplayCounter";
    let replays = taker.take("pcie_replays", call, handle.pcie_replay_counter())?;
    Ok(DeviceReading {
        pcie_tx_bytes: field(4),
        pcie_rx_bytes: field(5),
        pcie_replays: replays.map(u64::from),
        nvlink_errors: nvlink_errors([field(6), field(7), field(8), field(9)]),
        ecc_corrected: corrected,
        ecc_uncorrected: uncorrected,
        remapped_rows: remapped([field(0), field(1), field(2), field(3)]),
        ..DeviceReading::default()
    })
}

fn remapped(
    [correctable, uncorrectable, pending, failed]: [Option<u64>; 4],
) -> Option<RemappedRows> {
    Some(RemappedRows {
        correctable: correctable?,
        uncorrectable: uncorrectable?,
        is_pending: pending? != 0,
        has_failed: failed? != 0,
    })
}

fn nvlink_errors([crc_flit, crc_data, replay, recovery]: [Option<u64>; 4]) -> Option<NvlinkErrors> {
    Some(NvlinkErrors {
        crc_flit: crc_flit?,
        crc_data: crc_data?,
        replay: replay?,
        recovery: recovery?,
    })
}

fn number(value: &SampleValue) -> Option<u64> {
    match value {
        SampleValue::U32(value) => Some(u64::from(*value)),
        SampleValue::U64(value) => Some(*value),
        SampleValue::I64(value) => u64::try_from(*value).ok(),
        SampleValue::F64(_) => None,
    }
}
