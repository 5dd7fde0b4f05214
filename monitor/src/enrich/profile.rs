//! What this stage asks of others: profiles, names of workloads, features of GPUs. Each is a
//! trait, so that the stage depends on none of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::budget::BudgetView;
use super::place::Place;
use crate::gpu::{FeatureTable, FeatureView};
use crate::model::{Facts, GpuUuid, ProcessKey, ProfileId};
use crate::rule::{Budget, Profile, ProfileSet, Role};

/// Which profile selects a workload.
pub trait Profiles: Send + Sync {
    /// The profile for the workload of this event; `None` when none selects it.
    fn select(&self, facts: &dyn Facts) -> Option<ProfileView>;
}

/// What a profile allows: peers, and places for weights.
pub trait Peers: Send + Sync {
    /// Whether a peer is allowed. `name` is the one the workload resolved the address from.
    fn allows(&self, ip: IpAddr, port: u16, name: Option<&str>) -> bool;

    /// Tells each budget that bytes to a peer count against; there are none by default.
    fn budgets(&self, _ip: IpAddr, _name: Option<&str>, _each: &mut dyn FnMut(BudgetView<'_>)) {}

    /// Whether a file at `path` lies in the profile's weight paths.
    fn holds_weights(&self, path: &str) -> bool;
}

/// What this stage needs of a profile.
#[derive(Clone)]
pub struct ProfileView {
    /// Its id.
    pub id: ProfileId,
    /// Its role, where it declares one.
    pub role: Option<&'static str>,
    /// Whether it declares its workloads isolated.
    pub isolated: bool,
    /// Whether members of the same job are peers.
    pub same_job: bool,
    /// Peers it allows.
    pub peers: Arc<dyn Peers>,
}

impl fmt::Debug for ProfileView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileView")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("isolated", &self.isolated)
            .finish_non_exhaustive()
    }
}

impl Peers for Profile {
    fn allows(&self, ip: IpAddr, port: u16, name: Option<&str>) -> bool {
        Self::allows(self, ip, port, name)
    }

    fn budgets(&self, ip: IpAddr, name: Option<&str>, each: &mut dyn FnMut(BudgetView<'_>)) {
        for budget in self.budgets.iter().filter(|budget| budget.covers(ip, name)) {
            let Budget { to, bytes_max, per_ns, .. } = budget;
            each(BudgetView { to, bytes_max: *bytes_max, per_ns: *per_ns });
        }
    }

    fn holds_weights(&self, path: &str) -> bool {
        self.is_weight(path)
    }
}

impl Profiles for ProfileSet {
    fn select(&self, facts: &dyn Facts) -> Option<ProfileView> {
        let profile = Self::select(self, facts)?;
        Some(ProfileView {
            id: profile.id.clone(),
            role: profile.role.map(Role::as_str),
            isolated: profile.isolated,
            same_job: profile.same_job,
            peers: Arc::clone(profile) as Arc<dyn Peers>,
        })
    }
}

/// No profile selects anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProfiles;

impl Profiles for NoProfiles {
    fn select(&self, _facts: &dyn Facts) -> Option<ProfileView> {
        None
    }
}

/// What an orchestrator calls a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Kubernetes namespace.
    pub namespace: Option<String>,
    /// Kubernetes pod name.
    pub pod: Option<String>,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// SLURM partition.
    pub slurm_partition: Option<String>,
    /// SLURM user.
    pub slurm_user: Option<String>,
    /// SLURM account.
    pub slurm_account: Option<String>,
    /// Names of the pod's containers by their ids.
    pub containers: BTreeMap<String, String>,
    /// Addresses of the members of the same job, IPv4 as such; empty where nobody tells them.
    pub job_members: Vec<IpAddr>,
}

/// Where names come from: a cache that an orchestrator's client fills. It must answer at once.
pub trait WorkloadNames: Send + Sync {
    /// The names of the workload at this place, as far as they are known now.
    fn names(&self, place: &Place) -> Option<Arc<Names>>;

    /// Grows when names that were given have changed, so that they are asked for again.
    fn version(&self) -> u64 {
        0
    }
}

/// Nobody names workloads.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl WorkloadNames for NoNames {
    fn names(&self, _place: &Place) -> Option<Arc<Names>> {
        None
    }
}

/// Whom a scheduler gave a GPU to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A container of a pod.
    Pod {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// Name of the container.
        container: String,
    },
    /// A job.
    Job(String),
}

impl Holder {
    /// Whether it is this pod.
    pub fn is_pod(&self, namespace: &str, name: &str) -> bool {
        matches!(self, Self::Pod { namespace: ours, pod, .. } if ours == namespace && pod == name)
    }

    /// Whether it is this job.
    pub fn is_job(&self, id: &str) -> bool {
        matches!(self, Self::Job(ours) if ours == id)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, pod, .. } => write!(f, "k8s:{namespace}/{pod}"),
            Self::Job(id) => write!(f, "slurm:{id}"),
        }
    }
}

/// Where allocations of GPUs come from: a cache that a scheduler's client fills. It must answer at
/// once.
pub trait Allocations: Send + Sync {
    /// Whom the GPU or MIG instance was given to, nobody included; `None` where no scheduler
    /// tells.
    fn holders(&self, gpu: &GpuUuid, index: u32) -> Option<Vec<Holder>>;
}

/// Nobody allocates GPUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAllocations;

impl Allocations for NoAllocations {
    fn holders(&self, _gpu: &GpuUuid, _index: u32) -> Option<Vec<Holder>> {
        None
    }
}

/// What ten minutes of a process tree on a GPU looked like.
pub trait GpuFeatures {
    /// The features of a process tree (by its root) on a GPU.
    fn features(&self, tree: ProcessKey, gpu: &GpuUuid) -> Option<FeatureView>;

    /// Its utilisation in percent over the time, as [`FeatureTable::curve`] gives it.
    fn curve(&self, _tree: ProcessKey, _gpu: &GpuUuid) -> Vec<f64> {
        Vec::new()
    }
}

impl GpuFeatures for FeatureTable {
    fn features(&self, tree: ProcessKey, gpu: &GpuUuid) -> Option<FeatureView> {
        Self::features(self, tree, gpu)
    }

    fn curve(&self, tree: ProcessKey, gpu: &GpuUuid) -> Vec<f64> {
        Self::curve(self, tree, gpu)
    }
}

/// No GPU was sampled.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGpu;

impl GpuFeatures for NoGpu {
    fn features(&self, _tree: ProcessKey, _gpu: &GpuUuid) -> Option<FeatureView> {
        None
    }
}
