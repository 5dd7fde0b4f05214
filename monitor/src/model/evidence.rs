//! What an alert shows a person: gathered by `enrich` when a rule matched, carried by `alert`.

use serde::{Deserialize, Serialize};

/// Everything known about a finding at the moment it was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The acting process and its ancestors, the process first.
    pub processes: Vec<ProcessEvidence>,
    /// Watched files the workload opened, newest first, bounded.
    pub files: Vec<FileEvidence>,
    /// The flow of the event, else the workload's largest flows, bounded.
    pub flows: Vec<FlowEvidence>,
    /// GPUs the workload used.
    pub gpus: Vec<GpuEvidence>,
    /// The workload.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workload: Option<WorkloadEvidence>,
    /// How complete the data was.
    pub completeness: Completeness,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEvidence {
    /// Process id on the host.
    pub pid: u32,
    /// Nanoseconds since boot at which it started.
    pub start_boot_ns: u64,
    /// Name (comm).
    pub name: String,
    /// Executable.
    pub exe: String,
    /// Arguments, secrets redacted before the alert leaves.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Effective user id.
    pub uid: u32,
    /// Whether it has ended.
    pub ended: bool,
}

/// One watched file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEvidence {
    /// Path as the kernel resolved it.
    pub path: String,
    /// Device number.
    pub device: u32,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Label, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<String>,
    /// Format by content, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub format: Option<String>,
    /// Whether it was opened for writing.
    pub written: bool,
    /// Process that opened it last.
    pub pid: u32,
    /// When it was opened last, RFC 3339.
    pub time: String,
}

/// One flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEvidence {
    /// Transport protocol.
    pub proto: String,
    /// `egress`, `ingress` or `unknown`.
    pub direction: String,
    /// Local address and port.
    pub local: String,
    /// Remote address.
    pub remote_ip: String,
    /// Remote port.
    pub remote_port: u16,
    /// Observed name of the remote address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remote_name: Option<String>,
    /// Bytes sent so far.
    pub bytes_out: u64,
    /// Process that opened the socket.
    pub owner_pid: u32,
    /// Process that sent last.
    pub sender_pid: u32,
    /// When it was first seen, RFC 3339.
    pub started: String,
    /// Protocol recognised in the first payload.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app_proto: Option<String>,
}

/// One GPU as one workload used it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuEvidence {
    /// UUID.
    pub uuid: String,
    /// Product name.
    pub model: String,
    /// Mean utilisation over ten minutes in percent.
    pub util_mean_percent: f64,
    /// Coefficient of variation of the utilisation over ten minutes.
    pub util_cv: f64,
    /// Memory used in bytes.
    pub mem_used_bytes: u64,
    /// Utilisation in percent, oldest first, evenly spaced, at most 60 points.
    pub util_curve: Vec<f64>,
}

/// A workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadEvidence {
    /// Stable id.
    pub id: String,
    /// k8s, slurm, unit, container, cgroup or tree.
    pub kind: String,
    /// The name a person would use.
    pub name: String,
    /// cgroup path.
    pub cgroup: String,
    /// Profile, where one selects it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<String>,
    /// Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// Kubernetes pod name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<String>,
    /// Kubernetes pod uid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod_uid: Option<String>,
    /// Name of the container in its pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// Container id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container_id: Option<String>,
    /// SLURM job id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slurm_job: Option<String>,
    /// Bytes of labelled weights read.
    pub weight_bytes_read: u64,
    /// Whether that sum holds whole files, of which less may have been read: a bound from above.
    #[serde(default)]
    pub weight_bytes_are_bound: bool,
    /// Models read.
    pub models: Vec<String>,
    /// Bytes sent to peers other than loopback.
    pub egress_bytes: u64,
}

/// How complete the data behind an alert was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completeness {
    /// Whether nothing relevant is known to be missing.
    pub complete: bool,
    /// Records lost in the minutes before, by sensor and reason.
    pub losses: Vec<LossEvidence>,
    /// Sensors that are on a fallback or off.
    pub gaps: Vec<SensorGap>,
    /// What could not be found out about the workload, in words.
    pub unknowns: Vec<String>,
}

/// Records lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossEvidence {
    /// Sensor.
    pub sensor: String,
    /// Reason.
    pub reason: String,
    /// How many.
    pub lost: u64,
}

/// A sensor that sees less than it could.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorGap {
    /// Sensor.
    pub sensor: String,
    /// fallback or off.
    pub state: String,
    /// What is not seen, and why.
    pub reason: String,
}
