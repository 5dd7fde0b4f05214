//! GPM: activity counters of Hopper and newer, read as the difference of two samples.

use std::collections::BTreeMap;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};

use super::backend::{Activity, DEVICES_MAX, MIG_INSTANCES_MAX};

/// What is asked for, in the order of [`activity`].
const METRICS: [GpmMetricId; 11] = [
    GpmMetricId::SmUtil,
    GpmMetricId::AnyTensorUtil,
    GpmMetricId::IntegerUtil,
    GpmMetricId::DramBwUtil,
    GpmMetricId::PcieTxPerSec,
    GpmMetricId::PcieRxPerSec,
    GpmMetricId::Fp64Util,
    GpmMetricId::Fp32Util,
    GpmMetricId::Fp16Util,
    GpmMetricId::NvlinkTotalTxPerSec,
    GpmMetricId::NvlinkTotalRxPerSec,
];
/// The driver gives rates in MiB per second (nvml.h, `NVML_GPM_METRIC_PCIE_TX_PER_SEC` and
/// `NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC`).
const MIB: f64 = 1_048_576.0;
/// Samples that are kept: one per GPU or MIG instance.
const SAMPLES_MAX: usize = DEVICES_MAX as usize * (MIG_INSTANCES_MAX as usize + 1);

/// GPU index, and GPU instance under MIG.
type Place = (u32, Option<u32>);

/// The previous sample of each GPU or MIG instance.
pub(super) struct GpmCounters<'nvml> {
    nvml: &'nvml Nvml,
    previous: BTreeMap<Place, GpmSample<'nvml>>,
}

impl<'nvml> GpmCounters<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Self {
        Self { nvml, previous: BTreeMap::new() }
    }

    /// Activity since the previous sample of this place; `None` on the first.
    pub(super) fn read(
        &mut self,
        place: Place,
        sample: Result<GpmSample<'nvml>, NvmlError>,
    ) -> Result<Option<Activity>, NvmlError> {
        let sample = sample?;
        let activity = match self.previous.get(&place) {
            None => None,
            Some(before) => Some(activity(&gpm_metrics_get(self.nvml, before, &sample, &METRICS)?)),
        };
        if self.previous.len() < SAMPLES_MAX || self.previous.contains_key(&place) {
            self.previous.insert(place, sample);
        }
        Ok(activity)
    }

    /// Forgets GPUs that are gone.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(u32) -> bool) {
        self.previous.retain(|(index, _), _| keeps(*index));
    }
}

type Metric = Result<nvml_wrapper::struct_wrappers::gpm::GpmMetricResult, NvmlError>;

fn activity(metrics: &[Metric]) -> Activity {
    let value = |at: usize| {
        let metric = metrics.get(at)?.as_ref().ok()?;
        Some(metric.value).filter(|value| value.is_finite() && *value >= 0.0)
    };
    let percent = |at| value(at).map(|value| value.min(100.0));
    let float = [6, 7, 8].into_iter().filter_map(percent).reduce(f64::max);
    Activity {
        sm_percent: percent(0),
        tensor_percent: percent(1),
        integer_percent: percent(2),
        float_percent: float,
        dram_percent: percent(3),
        pcie_tx_bytes_per_second: value(4).map(|rate| rate * MIB),
        pcie_rx_bytes_per_second: value(5).map(|rate| rate * MIB),
        nvlink_tx_bytes_per_second: value(9).map(|rate| rate * MIB),
        nvlink_rx_bytes_per_second: value(10).map(|rate| rate * MIB),
    }
}
