//! What the sampler hands on: readings with a time, and how they become events.

use std::sync::Arc;

use super::backend::{Activity, Device, DeviceReading, MigInstance, ProcessRoles};
use super::status::BackendState;
use crate::model::{
    Actor, Body, BootNs, Event, GpuActivity, GpuFault, GpuRole, GpuSample, GpuUuid, Tgid,
};

/// One round over all GPUs.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuBatch {
    /// When the round began.
    pub time: BootNs,
    /// The GPUs.
    pub devices: Vec<DeviceSample>,
    /// The processes on them, one entry per process and GPU (or MIG instance).
    pub processes: Vec<ProcessSample>,
    /// Faults since the previous round.
    pub faults: Vec<GpuFault>,
    /// How the backend is.
    pub state: BackendState,
}

/// One GPU at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSample {
    /// The GPU.
    pub device: Arc<Device>,
    /// What was read.
    pub reading: DeviceReading,
    /// Its MIG instances; empty where MIG is off.
    pub instances: Vec<MigInstance>,
}

/// Why a reading was made outside the steady beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The process was not there in the previous round.
    Appeared,
    /// The process was there in the previous round and is gone; this is its last reading.
    Vanished,
    /// The process came and went between two rounds; the driver remembers that it used the GPU.
    Brief,
}

/// One process on one GPU at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSample {
    /// The process, in the host's pid namespace.
    pub pid: Tgid,
    /// The GPU, or the MIG instance.
    pub gpu: GpuUuid,
    /// Index of the GPU.
    pub index: u32,
    /// Product name.
    pub model: Arc<str>,
    /// Utilisation of the GPU in percent; SM activity of the instance under MIG.
    pub util_percent: Option<f64>,
    /// SM utilisation by the process in percent. Zero means that the driver had nothing to say of
    /// it for [`super::round::UTIL_SETTLE_NS`]; `None` that it cannot say, or not yet.
    pub proc_util_percent: Option<f64>,
    /// Memory utilisation by the process in percent; as above.
    pub proc_mem_util_percent: Option<f64>,
    /// Memory the process uses in bytes; of one that has ended, the most it held, where the
    /// driver keeps accounts.
    pub mem_used_bytes: Option<u64>,
    /// Power of the GPU in watts.
    pub power_watts: Option<f64>,
    /// Temperature of the GPU in degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// Activity of the GPU or instance since the previous round.
    pub activity: GpuActivity,
    /// How the process uses the GPU.
    pub roles: ProcessRoles,
    /// Whether it is the only process on the GPU or instance.
    pub is_alone: bool,
    /// Whether the driver tells utilisation by process on this GPU.
    pub tells_proc_util: bool,
    /// Set where the process appeared or vanished.
    pub edge: Option<Edge>,
}

impl ProcessSample {
    /// Utilisation to judge the process by, in percent: its own where the driver tells it, else
    /// that of the GPU or instance where the process is alone on it, else `None`. The two are
    /// never mixed on one GPU: their difference would look like a change of load.
    pub fn attributed_util(&self) -> Option<f64> {
        if self.tells_proc_util {
            self.proc_util_percent
        } else {
            self.util_percent.filter(|_| self.is_alone)
        }
    }

    fn role(&self) -> GpuRole {
        let ProcessRoles { compute, graphics, mps } = self.roles;
        match (mps, compute, graphics) {
            (true, _, _) => GpuRole::MpsClient,
            (false, false, true) => GpuRole::Graphics,
            (false, _, _) => GpuRole::Compute,
        }
    }

    fn body(&self) -> Body {
        Body::GpuSample(GpuSample {
            gpu: self.gpu.clone(),
            index: self.index,
            model: self.model.to_string(),
            util_percent: self.util_percent,
            proc_util_percent: self.proc_util_percent,
            proc_mem_util_percent: self.proc_mem_util_percent,
            attributed_util_percent: self.attributed_util(),
            role: self.role(),
            mem_used_bytes: self.mem_used_bytes,
            power_watts: self.power_watts,
            temperature_celsius: self.temperature_celsius,
            activity: self.activity,
            is_edge: self.edge.is_some(),
        })
    }
}

impl GpuBatch {
    /// A batch that says only how the backend is.
    pub fn of_state(time: BootNs, state: BackendState) -> Self {
        Self { time, devices: Vec::new(), processes: Vec::new(), faults: Vec::new(), state }
    }

    /// The batch as gauges show it: a process that the driver said nothing about in this round
    /// keeps what the round before showed. Drivers renew utilisation by process about once a
    /// second, however often they are asked; [`super::round::UTIL_SETTLE_NS`] after their last
    /// word it is zero, so that nothing is kept for longer.
    #[must_use]
    pub fn keeping(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        let silent = |process: &&mut ProcessSample| {
            process.tells_proc_util && process.proc_util_percent.is_none()
        };
        for process in self.processes.iter_mut().filter(silent) {
            let same = |one: &&ProcessSample| one.pid == process.pid && one.gpu == process.gpu;
            let shown = before.processes.iter().find(same);
            process.proc_util_percent = shown.and_then(|shown| shown.proc_util_percent);
        }
        self
    }

    /// One event per fault, then one per process and GPU. `actor` looks a process up; where it
    /// knows none, the event has no actor: the GPU was used, by whom is not known.
    pub fn events(
        &self,
        mut actor: impl FnMut(Tgid) -> Option<Actor>,
    ) -> impl Iterator<Item = Event> {
        let faults = self.faults.iter().map(|fault| Event {
            time: self.time,
            actor: None,
            body: Body::GpuFault(fault.clone()),
        });
        faults.chain(self.processes.iter().map(move |process| Event {
            time: self.time,
            actor: actor(process.pid),
            body: process.body(),
        }))
    }
}

impl From<Activity> for GpuActivity {
    fn from(activity: Activity) -> Self {
        let both = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0.0) + other.unwrap_or(0.0)),
        };
        Self {
            sm_percent: activity.sm_percent,
            tensor_percent: activity.tensor_percent,
            integer_percent: activity.integer_percent,
            float_percent: activity.float_percent,
            dram_percent: activity.dram_percent,
            pcie_bytes_per_second: both(
                activity.pcie_tx_bytes_per_second,
                activity.pcie_rx_bytes_per_second,
            ),
            nvlink_bytes_per_second: both(
                activity.nvlink_tx_bytes_per_second,
                activity.nvlink_rx_bytes_per_second,
            ),
        }
    }
}
