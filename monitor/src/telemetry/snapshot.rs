//! What the pipeline knows at one moment, for the next scrape. Filled whole each time: what is not
//! in it any more is not in the metrics any more.

use crate::export::ExportHealth;
use crate::model::{DelayCounts, Severity};

/// Everything that is measured. Counters are those since the daemon started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// What the kernel side counted, one entry a record kind.
    pub kernel: Vec<KernelCounts>,
    /// Records read from the rings: (result, count).
    pub drain: Vec<(&'static str, u64)>,
    /// Records by result of decoding: (result, count).
    pub decode: Vec<(&'static str, u64)>,
    /// Sensors.
    pub sensors: Vec<SensorMetrics>,
    /// Bounded tables of the daemon.
    pub tables: Vec<TableMetrics>,
    /// Files by what became of their mark: (outcome, count).
    pub file_marks: Vec<(&'static str, u64)>,
    /// Rules that are active, and those that are not.
    pub rules_active: u64,
    /// Rules that cannot run on this host.
    pub rules_inactive: u64,
    /// Findings: (rule, count).
    pub rule_matches: Vec<(String, u64)>,
    /// Alerts: (rule, severity, count).
    pub alerts: Vec<(String, Severity, u64)>,
    /// From a record in the kernel to each stage of its alert: (stage, delays).
    pub delays: Vec<(&'static str, DelayCounts)>,
    /// Findings that became an alert.
    pub findings_alerted: u64,
    /// Findings merged into an alert.
    pub findings_repeated: u64,
    /// Findings held back by the rate limit.
    pub findings_rate_limited: u64,
    /// Workloads that are alive, or were when the last scrape was.
    pub workloads: Vec<WorkloadMetrics>,
    /// The source of GPU facts.
    pub gpu_backend: GpuBackendMetrics,
    /// GPUs.
    pub gpus: Vec<GpuMetrics>,
    /// Workloads on GPUs.
    pub workload_gpus: Vec<WorkloadGpuMetrics>,
    /// Sinks and spool.
    pub export: ExportHealth,
    /// Whether the last load of configuration and rules was taken.
    pub reload_ok: bool,
    /// Unix time in seconds of the last load that was taken.
    pub reload_ok_time_s: u64,
}

/// What the kernel side counted for one record kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// The kind's name.
    pub kind: &'static str,
    /// Times the hook had something before it.
    pub seen: u64,
    /// Records handed to a ring.
    pub sent: u64,
    /// Not wanted.
    pub filtered: u64,
    /// The ring was full.
    pub ring_full: u64,
    /// The record was too long.
    pub too_long: u64,
    /// A map was full.
    pub map_full: u64,
    /// Memory could not be read.
    pub read_fault: u64,
    /// The cgroup was over its rate.
    pub rate_limited: u64,
}

/// State of a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SensorState {
    /// On its preferred hook.
    Attached,
    /// On another hook, seeing less.
    Fallback,
    /// Off.
    Off,
}

impl SensorState {
    /// Every state, and the word for it.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Attached, "attached"), (Self::Fallback, "fallback"), (Self::Off, "off")];
}

/// One sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorMetrics {
    /// Its name.
    pub sensor: String,
    /// Its state.
    pub state: SensorState,
}

/// One bounded table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMetrics {
    /// Its name, e.g. `processes`.
    pub table: &'static str,
    /// Entries now.
    pub entries: u64,
    /// Bound on them.
    pub entries_max: u64,
    /// Entries forgotten early.
    pub evicted: u64,
}

/// One workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadMetrics {
    /// The name a person would use.
    pub workload: String,
    /// k8s, slurm, unit, container, cgroup or tree.
    pub kind: String,
    /// Kubernetes namespace, or empty.
    pub namespace: String,
    /// Kubernetes pod, or empty.
    pub pod: String,
    /// Bytes sent to peers other than loopback.
    pub egress_bytes: u64,
    /// Bytes of labelled weights read.
    pub weight_bytes_read: u64,
}

/// One GPU. Labels of who holds it are empty where nobody does, or several do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuMetrics {
    /// Its index.
    pub gpu: String,
    /// Its UUID.
    pub uuid: String,
    /// Its product name.
    pub model: String,
    /// Namespace of the pod that holds it.
    pub namespace: String,
    /// Pod that holds it.
    pub pod: String,
    /// Container that holds it.
    pub container: String,
    /// Utilisation, 0 to 1; `None` where the driver gives none.
    pub utilization_ratio: Option<f64>,
    /// Memory used in bytes.
    pub memory_used_bytes: Option<u64>,
    /// Power in watts.
    pub power_watts: Option<f64>,
    /// Everything else that was read.
    pub readings: Vec<GpuReading>,
}

/// One number of a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GpuReading {
    /// What it is.
    pub quantity: GpuQuantity,
    /// Which part of the GPU, or which kind of it; empty where the quantity has none.
    pub part: &'static str,
    /// The number, in the unit of the quantity.
    pub value: f64,
}

/// What is read of a GPU beside utilisation, memory in use and power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuQuantity {
    /// Memory installed, in bytes.
    MemoryTotal,
    /// Temperature of the die, in degrees Celsius.
    Temperature,
    /// Energy since the driver was loaded, in joules.
    Energy,
    /// Clock of a part, in hertz.
    Clock,
    /// Activity of a part, 0 to 1.
    Activity,
    /// Bytes per second over a link.
    Link,
    /// `NVLink` links that are up.
    LinksUp,
    /// Errors on `NVLink` since the driver was loaded, by kind.
    LinkErrors,
    /// Memory errors since the driver was loaded, by kind.
    EccErrors,
    /// Rows of memory that were replaced, by cause.
    RemappedRows,
    /// Whether clocks are held down, by reason: 1.
    Throttled,
    /// `PCIe` packets that had to be sent again.
    PcieReplays,
}

/// The source of GPU facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuBackendMetrics {
    /// `starting`, `active`, `degraded`, `stalled` or `off`; empty where GPUs are not read.
    pub state: &'static str,
    /// Why it is off, or the first reason why it is degraded, as a word; else empty.
    pub reason: &'static str,
    /// What is missing at the last round: (UUID, value, reason).
    pub missing: Vec<(String, &'static str, &'static str)>,
    /// Rounds by what became of them: (outcome, count).
    pub rounds: Vec<(&'static str, u64)>,
    /// Values and rounds that failed: (reason, count).
    pub errors: Vec<(&'static str, u64)>,
    /// Faults that GPUs reported: (gpu, UUID, modelName, fault, xid, count).
    pub faults: Vec<(String, String, String, &'static str, String, u64)>,
}

/// One workload on one GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkloadGpuMetrics {
    /// The name a person would use.
    pub workload: String,
    /// The GPU, with the labels of this workload; its own readings are not used.
    pub gpu: GpuMetrics,
    /// Utilisation by this workload, 0 to 1.
    pub utilization_ratio: Option<f64>,
    /// Memory used by this workload in bytes.
    pub memory_used_bytes: Option<u64>,
}
