//! Identities, as newtypes: a bare `u32` never says what it identifies.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BootNs;

/// Thread-group id in the host's pid namespace: what user space calls a pid.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tgid(pub u32);

/// Thread id in the host's pid namespace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tid(pub u32);

/// Id of a cgroup v2 directory: its inode number, as `bpf_get_current_cgroup_id` returns it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

/// A process for the life of the host: a thread group and the moment it started.
///
/// A pid alone is reused; the pair is not.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct ProcessKey {
    /// Thread-group id.
    pub tgid: Tgid,
    /// `start_boottime` of the thread-group leader.
    pub start: BootNs,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

text_id!(
    /// Id of a rule, as written in its file.
    RuleId
);
text_id!(
    /// Id of a profile, as written in its file.
    ProfileId
);
text_id!(
    /// Stable id of a workload, e.g. `k8s:<pod uid>`, `slurm:<job>`, `unit:<name>`,
    /// `container:<id>`, `cgroup:<path>` or `tree:<tgid>:<start>`.
    WorkloadId
);
text_id!(
    /// UUID of a GPU or MIG instance as NVML prints it (`GPU-…`, `MIG-…`).
    GpuUuid
);

/// How much a finding matters. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth recording, nobody is told.
    Info,
    /// Worth a look on a quiet day.
    Low,
    /// Worth a look today.
    Medium,
    /// Wake somebody in working hours.
    High,
    /// Wake somebody now.
    Critical,
}

impl Severity {
    /// The word used in rule files, alerts and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
