//! GPM: activity between two samples.

use std::ptr;

use nvml_wrapper_sys::bindings::{
    NVML_GPM_METRICS_GET_VERSION, nvmlGpmMetric_t, nvmlGpmMetricId_t_NVML_GPM_METRIC_MAX,
    nvmlGpmSample_t, nvmlGpmSupport_t,
};

use super::on_gpu;
use crate::abi::{GpmRequest, Handle, Out, Token, exported};
use crate::code::{Answer, Code};
use crate::scenario::GpmSpec;
use crate::state::{self, GpmMoment, View};

/// Moments at which a signal is read to find its mean between two samples.
const MEAN_STEPS: u32 = 32;

fn spec_of(view: &View, device: usize, instance: Option<usize>) -> Answer<&GpmSpec> {
    let device = view.device(device)?;
    let gpm = match instance {
        None => device.gpm.as_ref(),
        Some(at) => device
            .mig
            .as_ref()
            .and_then(|mig| mig.instances.get(at))
            .and_then(|instance| instance.gpm.as_ref()),
    };
    gpm.ok_or(Code::NOT_SUPPORTED)
}

/// The mean of one metric between two moments.
fn measure(gpm: &GpmSpec, metric: &mut nvmlGpmMetric_t, first_s: f64, second_s: f64) {
    // `NVML_GPM_METRIC_*` of nvml.h.
    let signal = match metric.metricId {
        1 | 2 => &gpm.sm,
        4 => &gpm.integer,
        5 => &gpm.tensor,
        10 => &gpm.dram,
        11 => &gpm.fp64,
        12 => &gpm.fp32,
        13 => &gpm.fp16,
        20 => &gpm.pcie_tx_mib,
        21 => &gpm.pcie_rx_mib,
        60 => &gpm.nvlink_rx_mib,
        61 => &gpm.nvlink_tx_mib,
        _ => {
            metric.nvmlReturn = Code::NOT_SUPPORTED.0;
            return;
        }
    };
    let step = (second_s - first_s) / f64::from(MEAN_STEPS);
    let sum: f64 =
        (0..MEAN_STEPS).map(|at| signal.at(first_s + step * (f64::from(at) + 0.5))).sum();
    metric.nvmlReturn = 0;
    metric.value = sum / f64::from(MEAN_STEPS);
    metric.metricInfo.shortName = ptr::null_mut();
    metric.metricInfo.longName = ptr::null_mut();
    metric.metricInfo.unit = ptr::null_mut();
}

exported! {
    call: call;

    fn nvmlGpmQueryDeviceSupport(device: Handle, place: Out<nvmlGpmSupport_t>) {
        let (view, target) = on_gpu(call, device)?;
        let spec = view.spec(target)?;
        let instances = spec.mig.iter().flat_map(|mig| &mig.instances);
        let has_gpm = spec.gpm.is_some() || instances.into_iter().any(|at| at.gpm.is_some());
        let version = place.get()?.version;
        place.put(nvmlGpmSupport_t { version, isSupportedDevice: u32::from(has_gpm) })
    }

    fn nvmlGpmSampleAlloc(place: Out<nvmlGpmSample_t>) {
        state::enter(call, None)?;
        place.put(Token::<nvmlGpmSample_t>::from(state::gpm_new()?).to_c())
    }

    fn nvmlGpmSampleFree(sample: Token<nvmlGpmSample_t>) {
        state::enter(call, None)?;
        state::gpm_free(sample.0)
    }

    fn nvmlGpmSampleGet(device: Handle, sample: Token<nvmlGpmSample_t>) {
        let (view, target) = on_gpu(call, device)?;
        spec_of(&view, target.device, None)?;
        let moment = GpmMoment { device: target.device, instance: None, now_s: view.now_s };
        state::gpm_set(sample.0, moment)
    }

    fn nvmlGpmMigSampleGet(device: Handle, gpu_instance: u32, sample: Token<nvmlGpmSample_t>) {
        let (view, target) = on_gpu(call, device)?;
        let mig = view.spec(target)?.mig.as_ref().ok_or(Code::NOT_SUPPORTED)?;
        let found = mig.instances.iter().position(|at| at.gpu_instance == gpu_instance);
        let instance = Some(found.ok_or(Code::INVALID_ARGUMENT)?);
        spec_of(&view, target.device, instance)?;
        state::gpm_set(sample.0, GpmMoment { device: target.device, instance, now_s: view.now_s })
    }

    fn nvmlGpmMetricsGet(request: GpmRequest) {
        let view = state::enter(call, None)?;
        let (version, count, first, second) = request.head()?;
        if version != NVML_GPM_METRICS_GET_VERSION {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        if count > nvmlGpmMetricId_t_NVML_GPM_METRIC_MAX {
            return Err(Code::INVALID_ARGUMENT);
        }
        let (first, second) = (state::gpm_get(first.0)?, state::gpm_get(second.0)?);
        let is_same = (first.device, first.instance) == (second.device, second.instance);
        if !is_same || first.now_s > second.now_s {
            return Err(Code::INVALID_ARGUMENT);
        }
        let gpm = spec_of(&view, second.device, second.instance)?;
        request.each(count, |metric| measure(gpm, metric, first.now_s, second.now_s))
    }
}
