//! How the GPU side is: what `doctor`, metrics and alerts show.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::GpuError;
use super::backend::BackendInfo;
use crate::model::{BootNs, FieldId, GpuUuid, SensorGap};

/// Gaps that are listed; the rest are counted.
pub const GAPS_MAX: usize = 128;
/// Gaps that one line of text names; the rest are counted in it.
pub const GAPS_SHOWN_MAX: usize = 8;
/// Name of this sensor in metrics and alerts.
pub const SENSOR: &str = "gpu";

/// How the backend is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BackendState {
    /// Nothing was read yet.
    #[default]
    Starting,
    /// Everything the GPUs can tell is read.
    Active {
        /// What was opened.
        info: BackendInfo,
        /// GPUs that answer.
        devices: usize,
    },
    /// Something that should be readable is not.
    Degraded {
        /// What was opened.
        info: BackendInfo,
        /// GPUs that answer.
        devices: usize,
        /// What is missing.
        gaps: Vec<DeviceGap>,
    },
    /// A call into the driver has not returned.
    Stalled {
        /// When it began.
        since: BootNs,
        /// The step that hangs.
        call: &'static str,
    },
    /// There is nothing to read from.
    Off(GpuError),
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceGap {
    /// The GPU.
    pub gpu: GpuUuid,
    /// The value or list that is missing; `device` where all of it is.
    pub value: &'static str,
    /// Why.
    pub why: GpuError,
}

impl BackendState {
    /// The state of an open backend with these gaps. What a GPU cannot tell by its nature is not a
    /// degradation.
    pub fn of(info: BackendInfo, devices: usize, gaps: &[DeviceGap]) -> Self {
        let bad: Vec<DeviceGap> = gaps
            .iter()
            .filter(|gap| !matches!(gap.why, GpuError::Unsupported { .. }))
            .take(GAPS_MAX)
            .cloned()
            .collect();
        if bad.is_empty() {
            Self::Active { info, devices }
        } else {
            Self::Degraded { info, devices, gaps: bad }
        }
    }

    /// A word for metrics: `starting`, `active`, `degraded`, `stalled` or `off`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Active { .. } => "active",
            Self::Degraded { .. } => "degraded",
            Self::Stalled { .. } => "stalled",
            Self::Off(_) => "off",
        }
    }

    /// Whether GPU rules can be judged.
    pub const fn is_reading(&self) -> bool {
        matches!(self, Self::Active { .. } | Self::Degraded { .. })
    }
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting: no reading yet"),
            Self::Active { info, devices } => {
                write!(f, "active: {devices} GPU(s), {} driver {}", info.name, info.driver)
            }
            Self::Degraded { info, devices, gaps } => {
                write!(f, "degraded: {devices} GPU(s), {} driver {}; ", info.name, info.driver)?;
                f.write_str(&words(gaps.iter()))
            }
            Self::Stalled { since, call } => {
                write!(f, "stalled: {call} has not returned since {} ns after boot", since.0)
            }
            Self::Off(why) => write!(f, "off: {why}"),
        }
    }
}

impl fmt::Display for DeviceGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.value, self.gpu, self.why)
    }
}

/// The first gaps, and how many more there are.
fn words<'g>(gaps: impl Iterator<Item = &'g DeviceGap> + Clone) -> String {
    let shown = gaps.clone().take(GAPS_SHOWN_MAX).map(ToString::to_string);
    let mut words = shown.collect::<Vec<_>>().join("; ");
    let more = gaps.count().saturating_sub(GAPS_SHOWN_MAX);
    if more > 0 {
        let _ = write!(words, "; and {more} more");
    }
    words
}

/// The value that a field is made from, by its name in [`super::backend::DeviceReading`]; `None`
/// where no GPU is too simple to tell it.
const fn value_of(field: FieldId) -> Option<&'static str> {
    match field {
        FieldId::GpuUtil => Some("util_percent"),
        FieldId::GpuProcUtil
        | FieldId::GpuProcMemUtil
        | FieldId::GpuUtilMean10m
        | FieldId::GpuUtilCv10m
        | FieldId::GpuUtilTrend10m
        | FieldId::GpuBusySeconds
        | FieldId::GpuMiningScore
        | FieldId::GpuMiningReasons => Some("process_util"),
        FieldId::GpuPowerWatts | FieldId::GpuPowerMean10m | FieldId::GpuPowerCv10m => {
            Some("power_watts")
        }
        FieldId::GpuTemperature => Some("temperature_celsius"),
        FieldId::GpuSmActive
        | FieldId::GpuTensorUtil
        | FieldId::GpuIntUtil
        | FieldId::GpuFloatUtil
        | FieldId::GpuDramUtil
        | FieldId::GpuTensorMean10m
        | FieldId::GpuIntMean10m
        | FieldId::GpuFloatMean10m
        | FieldId::GpuDramMean10m => Some("activity"),
        FieldId::GpuFault | FieldId::GpuXid => Some("faults"),
        _ => None,
    }
}

/// The state with its counters, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuStatus {
    /// How the backend is.
    pub state: BackendState,
    /// When the last complete round began.
    pub last_round: Option<BootNs>,
    /// What the GPUs cannot tell, at the last round; [`GAPS_MAX`] at most.
    pub gaps: Vec<DeviceGap>,
    /// Counters since start.
    pub counters: GpuCounters,
}

/// Counters since start. `rounds` is the sum of `sent` and `dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuCounters {
    /// Rounds that were completed, or failed and were reported.
    pub rounds: u64,
    /// Batches put into the queue.
    pub sent: u64,
    /// Batches lost because the queue was full.
    pub dropped: u64,
    /// Calls into the driver that hung for longer than the bound, seen by [`super::GpuSampler`].
    pub stalls: u64,
    /// Utilisation entries left out because they cannot be true (above 100 percent).
    pub implausible: u64,
    /// Processes left out because a GPU had more than the bound.
    pub processes_cut: u64,
    /// Values and rounds that failed, by [`GpuError::reason`]; never `unsupported`.
    pub errors: BTreeMap<&'static str, u64>,
}

impl GpuStatus {
    /// Nanoseconds since the last complete round; `None` where there was none.
    pub fn age_ns(&self, now: BootNs) -> Option<u64> {
        self.last_round.map(|at| now.since(at))
    }

    /// What GPUs of this host cannot tell by their nature and these fields are made from: no
    /// degradation, but a blind spot of a rule that asks for them. `None` where there is none.
    pub fn untold(&self, fields: &[FieldId]) -> Option<SensorGap> {
        let asked = |gap: &&DeviceGap| {
            matches!(gap.why, GpuError::Unsupported { .. })
                && fields.iter().any(|field| value_of(*field) == Some(gap.value))
        };
        let untold = self.gaps.iter().filter(asked);
        untold.clone().next()?;
        Some(SensorGap {
            sensor: SENSOR.to_owned(),
            state: "fallback".to_owned(),
            reason: words(untold),
        })
    }

    /// What an alert must say about the GPU side; `None` while everything is read.
    pub fn sensor_gap(&self) -> Option<SensorGap> {
        let state = match &self.state {
            BackendState::Active { .. } => return None,
            BackendState::Degraded { .. } => "fallback",
            BackendState::Starting | BackendState::Stalled { .. } | BackendState::Off(_) => "off",
        };
        Some(SensorGap {
            sensor: SENSOR.to_owned(),
            state: state.to_owned(),
            reason: self.state.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(why: GpuError) -> DeviceGap {
        DeviceGap { gpu: GpuUuid::from("GPU-1"), value: "power_watts", why }
    }

    #[test]
    fn what_a_gpu_cannot_tell_is_no_degradation() {
        let call = "nvmlDeviceGetPowerUsage";
        let unsupported = [gap(GpuError::Unsupported { call })];
        let state = BackendState::of(BackendInfo::default(), 1, &unsupported);
        assert_eq!(state.as_str(), "active");
        let refused = [gap(GpuError::NoPermission { call })];
        let state = BackendState::of(BackendInfo::default(), 1, &refused);
        assert_eq!(state.as_str(), "degraded");
        assert!(state.to_string().contains("power_watts of GPU-1"));
    }

    #[test]
    fn what_a_gpu_cannot_tell_is_told_to_rules_that_ask_for_it() {
        let call = "nvmlDeviceGetProcessUtilization";
        let why = GpuError::Unsupported { call };
        let gaps = vec![DeviceGap { gpu: GpuUuid::from("GPU-1"), value: "process_util", why }];
        let status = GpuStatus { gaps, ..GpuStatus::default() };
        let untold = status.untold(&[FieldId::GpuUtilMean10m]).map(|gap| gap.reason);
        let expected = format!("process_util of GPU-1: {call} is not supported on this GPU");
        assert_eq!(untold, Some(expected));
        assert_eq!(status.untold(&[FieldId::GpuPowerWatts, FieldId::GpuMemUsed]), None);
    }

    #[test]
    fn a_line_names_the_first_gaps_and_counts_the_rest() {
        let why = GpuError::Timeout { call: "nvmlDeviceGetPowerUsage" };
        let gaps = vec![gap(why); GAPS_SHOWN_MAX + 3];
        let state = BackendState::of(BackendInfo::default(), 1, &gaps).to_string();
        assert_eq!(state.matches("power_watts of GPU-1").count(), GAPS_SHOWN_MAX);
        assert!(state.ends_with("; and 3 more"), "{state}");
    }

    #[test]
    fn every_state_but_active_is_told_in_alerts() {
        let off = BackendState::Off(GpuError::Timeout { call: "nvmlInitWithFlags" });
        let stalled = BackendState::Stalled { since: BootNs(7), call: "reading" };
        for state in [BackendState::Starting, off, stalled] {
            let status = GpuStatus { state, ..GpuStatus::default() };
            assert_eq!(status.sensor_gap().map(|gap| gap.state), Some("off".to_owned()));
        }
        let active = BackendState::Active { info: BackendInfo::default(), devices: 1 };
        assert_eq!(GpuStatus { state: active, ..GpuStatus::default() }.sensor_gap(), None);
    }
}
