//! Workloads: who a process works for, and what they did.

use std::sync::Arc;

use super::account::Account;
use super::enricher::Enricher;
use super::limit::{WORKLOAD_SCAN_MAX, WORKLOADS_MAX};
use super::place::{Place, WorkloadKind};
use super::process::{Ancestor, Process};
use super::profile::{Names, ProfileView};
use super::resolver::Resolvers;
use super::table::{Handle, Table};
use crate::model::{BootNs, ProcessKey, WorkloadId};
use crate::rule::Role;

/// A workload.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) id: WorkloadId,
    /// Where its first process was seen.
    pub(super) place: Arc<Place>,
    /// The name a person would use.
    pub(super) name: String,
    pub(super) names: Option<Arc<Names>>,
    /// Version of the names, as whoever gave them counts.
    pub(super) names_version: u64,
    /// When names were last asked for in vain.
    pub(super) names_asked: BootNs,
    pub(super) profile: Option<ProfileView>,
    /// What it is for, by what runs in it; only asked for where the profile does not say.
    pub(super) guessed_role: Option<Role>,
    /// Set of profiles that was last asked.
    pub(super) profiles_epoch: u64,
    /// Processes that have not ended.
    pub(super) live: usize,
    pub(super) account: Account,
    pub(super) resolvers: Resolvers,
}

impl Workload {
    pub(super) fn kind(&self) -> WorkloadKind {
        self.place.kind
    }

    /// Its role, and whether that is a guess.
    pub(super) fn role(&self) -> Option<(&'static str, bool)> {
        let declared = self.profile.as_ref().and_then(|profile| profile.role);
        let guessed = || self.guessed_role.map(|role| (role.as_str(), true));
        declared.map(|role| (role, false)).or_else(guessed)
    }

    pub(super) fn is_isolated(&self) -> bool {
        self.profile.as_ref().is_some_and(|profile| profile.isolated)
    }
}

/// Every workload that is known, bounded.
pub(super) struct Workloads {
    table: Table<WorkloadId, Workload>,
}

impl Workloads {
    pub(super) fn new() -> Self {
        Self { table: Table::new(WORKLOADS_MAX) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    pub(super) fn get(&self, handle: Handle<Workload>) -> Option<&Workload> {
        self.table.get(handle)
    }

    pub(super) fn get_mut(&mut self, handle: Handle<Workload>) -> Option<&mut Workload> {
        self.table.get_mut(handle)
    }

    pub(super) fn touch(&mut self, handle: Handle<Workload>) {
        self.table.touch(handle);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Handle<Workload>, &Workload)> {
        self.table.oldest_first().filter_map(|handle| Some((handle, self.table.get(handle)?)))
    }

    #[cfg(test)]
    pub(super) fn with_bound(workloads_max: usize) -> Self {
        Self { table: Table::new(workloads_max) }
    }

    pub(super) fn find(&self, id: &WorkloadId) -> Option<Handle<Workload>> {
        self.table.find(id)
    }

    /// Adds a workload that is not in the table; returns what had to make room.
    pub(super) fn insert(&mut self, workload: Workload) -> (Handle<Workload>, Option<Workload>) {
        let victim = if self.table.is_full() { self.make_room() } else { None };
        let (handle, _) = self.table.insert(workload.id.clone(), workload);
        (handle, victim)
    }

    /// Those without a living process go first.
    fn make_room(&mut self) -> Option<Workload> {
        let ended = self
            .table
            .oldest_first()
            .take(WORKLOAD_SCAN_MAX)
            .find(|handle| self.table.get(*handle).is_some_and(|workload| workload.live == 0));
        let taken = match ended {
            Some(handle) => self.table.evict(handle),
            None => self.table.evict_oldest(),
        };
        taken.map(|(_, workload)| workload)
    }
}

/// Id of the workload at a place: its own, or the process tree's in the root cgroup.
pub(super) fn workload_id(place: &Place, tree: ProcessKey) -> WorkloadId {
    match place.workload_id() {
        Some(id) => WorkloadId::from(id.as_str()),
        None => WorkloadId::from(format!("tree:{}:{}", tree.tgid.0, tree.start.0).as_str()),
    }
}

/// The name a person would use for a workload.
pub(super) fn workload_name(place: &Place, names: Option<&Names>, process: &Process) -> String {
    /// Digits of a container id that people are used to see.
    const SHORT_ID: usize = 12;
    let text = |option: &Option<String>| option.clone().unwrap_or_default();
    match place.kind {
        WorkloadKind::K8s => names
            .and_then(|names| names.pod.clone())
            .unwrap_or_else(|| format!("pod {}", place.pod_uid.as_deref().unwrap_or(""))),
        WorkloadKind::Slurm => format!("job {}", place.slurm_job.as_deref().unwrap_or("")),
        WorkloadKind::Container => text(&place.container_id).chars().take(SHORT_ID).collect(),
        WorkloadKind::Unit => text(&place.unit),
        WorkloadKind::Cgroup => place.cgroup.clone(),
        WorkloadKind::Tree => match process.image.exe_name() {
            "" => process.image.name.clone(),
            name => name.to_owned(),
        },
    }
}

/// Daemons whose children work for different people. A child of such a daemon begins a process
/// tree of its own, where cgroups do not tell workloads apart.
const TREE_BOUNDARIES: &[&str] = &[
    "systemd",
    "init",
    "sshd",
    "login",
    "cron",
    "crond",
    "atd",
    "anacron",
    "slurmd",
    "dockerd",
    "containerd",
    "containerd-shim",
    "containerd-shim-runc-v2",
    "kubelet",
    "supervisord",
    "conmon",
];

/// Whether a child of this process begins a tree. Only a daemon directly below process 1 splits:
/// `sshd` forks once for a session and again for its privileges, and both belong together.
pub(super) fn splits_tree(parent: ProcessKey, grandparent: ProcessKey, exe_name: &str) -> bool {
    let first = 1;
    parent.tgid.0 <= first + 1
        || (grandparent.tgid.0 == first && TREE_BOUNDARIES.contains(&exe_name))
}

/// Whether a process that shows up at another place keeps the workload it had.
///
/// A runtime starts a container by moving a process there, and systemd starts a unit the same way,
/// so such moves are followed. But a process must not shed what is known of it by a move: whoever
/// is confined stays with its pod, job or container, and so does whoever is declared isolated; and
/// one that has read weights may be put into a container, but not just into another unit.
///
/// A login, and a cgroup that no profile speaks of, hold whatever somebody starts from there, so
/// there it counts whether the process or one it descends from has read weights: where a model was
/// checked, jobs may still be started.
pub(super) fn keeps_workload(workload: &Workload, process: &Process, to: WorkloadKind) -> bool {
    let has_read = if workload.profile.is_some() && !is_login(&workload.place) {
        workload.account.weights_read.is_some()
    } else {
        process.has_read_weights
    };
    workload.kind().confines() || workload.is_isolated() || (!to.confines() && has_read)
}

impl Enricher {
    /// Executables of the ancestors of a process up to the border of its workload, parent first.
    /// An ancestor that is forgotten counts as one inside.
    pub(super) fn exes_within<'e>(&'e self, process: &'e Process) -> &'e [String] {
        let is_outside = |ancestor: &Ancestor| {
            let workload = self.processes.lookup(ancestor.key).and_then(|known| known.workload);
            workload.is_some() && workload != process.workload
        };
        let exes = process.lineage.exes();
        let border = process.lineage.ancestors().iter().position(is_outside);
        exes.get(..border.unwrap_or(exes.len())).unwrap_or_default()
    }
}

/// Whether a place is somebody's login: a process tree, or the scope that logind makes of a
/// session (`session-<number>.scope`, systemd-logind.service(8)).
fn is_login(place: &Place) -> bool {
    let is_session = |unit: &str| {
        unit.strip_prefix("session-").is_some_and(|rest| rest.strip_suffix(".scope").is_some())
    };
    match place.kind {
        WorkloadKind::Tree => true,
        WorkloadKind::Unit => place.unit.as_deref().is_some_and(is_session),
        WorkloadKind::K8s
        | WorkloadKind::Slurm
        | WorkloadKind::Container
        | WorkloadKind::Cgroup => false,
    }
}

/// Seconds between two moments.
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days; beyond, microseconds do")]
pub(super) fn seconds(from: BootNs, to: BootNs) -> f64 {
    to.since(from) as f64 / 1e9
}
