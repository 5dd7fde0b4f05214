//! Facts of GPUs: readings, ten minutes of them, the mining score, and whose GPU it is.

use super::account::LargeFlow;
use super::facts::{Enriched, float, int, known, text, truth};
use super::net::PeerClass;
use super::profile::Holder;
use super::workload::seconds;
use crate::gpu::mining::{self, MiningInputs, ThinFlow};
use crate::gpu::{FeatureView, MiningVerdict};
use crate::model::{
    Body, FieldId, FileOpen, FileType, GpuFault, GpuRole, GpuSample, GpuUuid, Value,
};

/// `NVIDIA_MAJOR`: the device number of `/dev/nvidia*` (Linux, Documentation/admin-guide).
const NVIDIA_MAJOR: u32 = 195;
/// From this minor on, the nodes of that number are the driver's own (`nvidia-modeset`,
/// `nvidiactl`) and no GPU.
const NVIDIA_CONTROL_MINOR: u32 = 254;

/// A GPU as the device nodes know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuNode {
    /// Minor number of its node `/dev/nvidia<minor>`.
    pub minor: u32,
    /// Its index.
    pub index: u32,
    /// Its UUID.
    pub uuid: GpuUuid,
    /// Its product name.
    pub model: String,
}

/// Minor number of the GPU whose device node was opened; `None` for any other file.
pub fn gpu_minor(open: &FileOpen) -> Option<u32> {
    /// Bits of a minor number as the kernel keeps it (`MINORBITS`).
    const MINOR_BITS: u32 = 20;
    let minor = open.rdev & ((1 << MINOR_BITS) - 1);
    let is_gpu = open.file_type == FileType::Char
        && open.rdev >> MINOR_BITS == NVIDIA_MAJOR
        && minor < NVIDIA_CONTROL_MINOR;
    is_gpu.then_some(minor)
}

/// The GPU an event is about.
struct Subject<'e> {
    uuid: Option<&'e GpuUuid>,
    index: u32,
    model: &'e str,
}

impl<'e> Enriched<'e> {
    fn sample(&self) -> Option<&'e GpuSample> {
        if let Body::GpuSample(sample) = &self.event.body { Some(sample) } else { None }
    }

    fn fault(&self) -> Option<&'e GpuFault> {
        if let Body::GpuFault(fault) = &self.event.body { Some(fault) } else { None }
    }

    fn gpu_subject(&self) -> Option<Subject<'e>> {
        match &self.event.body {
            Body::GpuSample(GpuSample { gpu, index, model, .. })
            | Body::GpuFault(GpuFault { gpu, index, model, .. }) => {
                Some(Subject { uuid: Some(gpu), index: *index, model })
            }
            Body::FileOpen(open) => {
                let minor = gpu_minor(open)?;
                let node = self.enricher.gpu_nodes.iter().find(|node| node.minor == minor);
                Some(node.map_or(Subject { uuid: None, index: minor, model: "" }, |node| Subject {
                    uuid: Some(&node.uuid),
                    index: node.index,
                    model: &node.model,
                }))
            }
            _ => None,
        }
    }

    fn view(&self) -> Option<&FeatureView> {
        let view = self
            .features
            .get_or_init(|| self.gpus.features(self.process?.tree, &self.sample()?.gpu));
        view.as_ref()
    }

    /// Whom schedulers gave the GPU to; `None` where none tells.
    fn holders(&self) -> Option<Vec<Holder>> {
        let subject = self.gpu_subject()?;
        self.enricher.allocations.holders(subject.uuid?, subject.index)
    }

    /// Whether the GPU is the workload's. Missing without a scheduler that tells, and for a pod
    /// whose name is not known: allocations speak of names.
    fn is_allocated(&self) -> Option<bool> {
        let holders = self.holders()?;
        let place = self.place()?;
        let names = self.names();
        if place.pod_uid.is_some() {
            let names = names?;
            let (namespace, pod) = (names.namespace.as_deref()?, names.pod.as_deref()?);
            return Some(holders.iter().any(|holder| holder.is_pod(namespace, pod)));
        }
        let job = place.slurm_job.as_deref();
        Some(job.is_some_and(|job| holders.iter().any(|holder| holder.is_job(job))))
    }

    fn allocated_to(&self) -> Option<&str> {
        let made = self.holders.get_or_init(|| {
            let holders = self.holders().unwrap_or_default();
            holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        });
        (!made.is_empty()).then_some(made)
    }

    fn verdict(&self) -> Option<&MiningVerdict> {
        let verdict = self.mining.get_or_init(|| {
            let account = &self.workload?.account;
            mining::judge(&MiningInputs {
                view: *self.view()?,
                weight_bytes: account.weight_bytes,
                file_bytes: account.file_bytes,
                thin_flow: thin_flow(&account.flows),
                is_stratum_seen: account.stratum_seen,
                is_unallocated: self.is_allocated() == Some(false),
            })
        });
        verdict.as_ref()
    }

    /// The GPU fields of this event; [`Value::Missing`] for any other.
    pub(super) fn gpu_field(&self, id: FieldId) -> Value<'_> {
        let subject = || self.gpu_subject();
        let feature = |of: fn(&FeatureView) -> Option<f64>| float(self.view().and_then(of));
        match id {
            FieldId::GpuUuid => text(subject().and_then(|gpu| Some(gpu.uuid?.as_str()))),
            FieldId::GpuIndex => int(subject().map(|gpu| gpu.index)),
            FieldId::GpuModel => known(subject().map(|gpu| gpu.model)),
            FieldId::GpuAllocated => truth(self.is_allocated()),
            FieldId::GpuAllocatedTo => text(self.allocated_to()),
            FieldId::GpuRole => text(self.gpu_role().map(GpuRole::as_str)),
            FieldId::GpuFault => text(self.fault().map(|fault| fault.fault.as_str())),
            FieldId::GpuXid => int(self.fault().and_then(|fault| fault.xid)),
            FieldId::GpuUtilMean10m => feature(|view| view.util_mean_10m),
            FieldId::GpuUtilCv10m => feature(|view| view.util_cv_10m),
            FieldId::GpuMemCv10m => feature(|view| view.mem_cv_10m),
            FieldId::GpuUtilTrend10m => feature(|view| view.util_trend_per_minute),
            FieldId::GpuPowerMean10m => feature(|view| view.power_mean_10m),
            FieldId::GpuPowerCv10m => feature(|view| view.power_cv_10m),
            FieldId::GpuTensorMean10m => feature(|view| view.tensor_mean_10m),
            FieldId::GpuIntMean10m => feature(|view| view.int_mean_10m),
            FieldId::GpuFloatMean10m => feature(|view| view.float_mean_10m),
            FieldId::GpuDramMean10m => feature(|view| view.dram_mean_10m),
            FieldId::GpuPcieMean10m => whole(self.view().and_then(|view| view.pcie_mean_10m)),
            FieldId::GpuNvlinkMean10m => whole(self.view().and_then(|view| view.nvlink_mean_10m)),
            FieldId::GpuSecondsSinceFirstUse => {
                float(self.view().map(|view| view.seconds_since_first_use))
            }
            FieldId::GpuBusySeconds => float(self.view().map(|view| view.busy_seconds)),
            FieldId::GpuMiningScore => int(self.verdict().map(|verdict| verdict.score)),
            FieldId::GpuMiningReasons => {
                known(self.verdict().map(|verdict| verdict.reasons.as_str()))
            }
            FieldId::WorkloadGpuUser => {
                truth(self.workload.map(|workload| workload.account.is_gpu_user))
            }
            FieldId::ContainerName => text(self.container_name()),
            FieldId::SlurmAccount => {
                text(self.names().and_then(|names| names.slurm_account.as_deref()))
            }
            other => self.sample().map_or(Value::Missing, |sample| reading(sample, other)),
        }
    }

    /// The driver does not tell the server of the multi-process service from any other process.
    fn gpu_role(&self) -> Option<GpuRole> {
        const MPS_SERVER: &str = "nvidia-cuda-mps-server";
        let role = self.sample()?.role;
        let is_server = self.process.is_some_and(|it| it.image.exe_name() == MPS_SERVER);
        Some(if is_server && role == GpuRole::Compute { GpuRole::MpsServer } else { role })
    }

    fn container_name(&self) -> Option<&'e str> {
        let id = self.place()?.container_id.as_deref()?;
        self.names()?.containers.get(id).map(String::as_str)
    }
}

/// What one reading says.
fn reading(sample: &GpuSample, id: FieldId) -> Value<'static> {
    let activity = &sample.activity;
    match id {
        FieldId::GpuUtil => float(sample.util_percent),
        FieldId::GpuProcUtil => float(sample.proc_util_percent),
        FieldId::GpuProcMemUtil => float(sample.proc_mem_util_percent),
        FieldId::GpuMemUsed => int(sample.mem_used_bytes),
        FieldId::GpuPowerWatts => float(sample.power_watts),
        FieldId::GpuTemperature => float(sample.temperature_celsius),
        FieldId::GpuSmActive => float(activity.sm_percent),
        FieldId::GpuTensorUtil => float(activity.tensor_percent),
        FieldId::GpuIntUtil => float(activity.integer_percent),
        FieldId::GpuFloatUtil => float(activity.float_percent),
        FieldId::GpuDramUtil => float(activity.dram_percent),
        FieldId::GpuPcieBytes => whole(activity.pcie_bytes_per_second),
        FieldId::GpuNvlinkBytes => whole(activity.nvlink_bytes_per_second),
        _ => Value::Missing,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and a rate is no id")]
fn whole<'v>(number: Option<f64>) -> Value<'v> {
    let number = number.filter(|number| number.is_finite());
    number.map_or(Value::Missing, |number| Value::Int(number.round() as i64))
}

/// The flow to another host that has lived long and carries little, where there is exactly one.
fn thin_flow(flows: &[LargeFlow]) -> Option<ThinFlow> {
    let mut thin = flows.iter().filter_map(|flow| {
        let remote = flow.remote.filter(|_| flow.egress == Some(true))?;
        let is_here =
            matches!(PeerClass::of(remote.ip()), PeerClass::Loopback | PeerClass::LinkLocal);
        let age = seconds(flow.started, flow.last);
        if is_here || age < mining::THIN_FLOW_SECONDS_MIN {
            return None;
        }
        let bytes_per_minute = bytes(flow.bytes_out) / age * 60.0;
        let peer = flow.name.as_deref().map_or_else(|| remote.ip().to_string(), str::to_owned);
        (bytes_per_minute <= mining::THIN_FLOW_BYTES_PER_MINUTE)
            .then_some(ThinFlow { peer, bytes_per_minute })
    });
    let first = thin.next()?;
    thin.next().is_none().then_some(first)
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 bytes, which is 8 PiB")]
fn bytes(count: u64) -> f64 {
    count as f64
}
