//! The cache of names and allocations. Reading it takes a short lock and asks nobody.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::device::DeviceName;
use super::slurm::JOBS_QUEUED_MAX;
use crate::enrich::{Allocations, Holder, Names, Place, WorkloadNames};
use crate::model::GpuUuid;

/// Pods that are known by name, those that have ended lately included; a node runs 250 at most.
pub const PODS_MAX: usize = 1_024;
/// Jobs that are known by name; the oldest goes.
pub const JOBS_MAX: usize = 1_024;

/// How a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It answers.
    Active,
    /// It does not, and why.
    Off(String),
}

/// Names and allocations, as far as they are known.
#[derive(Debug)]
pub struct Directory {
    state: RwLock<State>,
    /// Jobs whose names are asked for; `None` where SLURM is not asked.
    asked: Option<SyncSender<String>>,
    /// Grows when names that were given have changed.
    version: AtomicU64,
}

/// What the pods of one job have in common: a label, in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobLabel {
    pub(super) namespace: String,
    pub(super) key: &'static str,
    pub(super) value: String,
}

#[derive(Debug, Default)]
struct State {
    pods: Recent,
    jobs: Recent,
    /// Jobs of pods by the pod's uid.
    job_of_pod: HashMap<String, JobLabel>,
    /// Addresses of the members of jobs of pods.
    members: BTreeMap<JobLabel, Vec<IpAddr>>,
    /// By source, so that one does not forget what the other said.
    holders: BTreeMap<&'static str, BTreeMap<DeviceName, Vec<Holder>>>,
    sources: BTreeMap<&'static str, SourceState>,
}

/// Names by id; the one that came first goes first.
#[derive(Debug, Default)]
struct Recent {
    names: HashMap<String, Arc<Names>>,
    order: VecDeque<String>,
}

impl Recent {
    /// Returns who had to make room.
    fn put(&mut self, id: &str, names: Arc<Names>, most: usize) -> Vec<String> {
        let mut gone = Vec::new();
        if self.names.insert(id.to_owned(), names).is_none() {
            self.order.push_back(id.to_owned());
        }
        while self.names.len() > most {
            let Some(oldest) = self.order.pop_front() else { break };
            self.names.remove(&oldest);
            gone.push(oldest);
        }
        gone
    }
}

impl Directory {
    /// An empty directory, and where jobs whose names are asked for come out.
    pub(super) fn new(asks_slurm: bool) -> (Self, Receiver<String>) {
        let (sender, asked) = sync_channel(JOBS_QUEUED_MAX);
        let directory = Self {
            state: RwLock::default(),
            asked: asks_slurm.then_some(sender),
            version: AtomicU64::new(1),
        };
        (directory, asked)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each source with its state.
    pub fn sources(&self) -> Vec<(&'static str, SourceState)> {
        self.read().sources.iter().map(|(source, state)| (*source, state.clone())).collect()
    }

    /// Writes down how a source is. Returns whether that is news.
    pub(super) fn note_source(&self, source: &'static str, state: SourceState) -> bool {
        self.write().sources.insert(source, state.clone()) != Some(state)
    }

    /// Writes down a pod, and its job. What has ended stays known until newer pods need the
    /// room: its last events may still be on their way.
    pub(super) fn put_pod(&self, uid: &str, mut names: Names, job: Option<JobLabel>) {
        let mut state = self.write();
        if let Some(job) = job {
            names.job_members = state.members.get(&job).cloned().unwrap_or_default();
            state.members.entry(job.clone()).or_default();
            state.job_of_pod.insert(uid.to_owned(), job);
        }
        for gone in state.pods.put(uid, Arc::new(names), PODS_MAX) {
            state.job_of_pod.remove(&gone);
        }
        drop(state);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Jobs of pods whose members are to be asked for.
    pub(super) fn pod_jobs(&self) -> Vec<JobLabel> {
        self.read().members.keys().cloned().collect()
    }

    /// Writes down the members of a job of pods. One that has none is forgotten until a pod of it
    /// shows up again; its pods keep the members they had.
    pub(super) fn set_members(&self, job: &JobLabel, members: Option<Vec<IpAddr>>) {
        let mut guard = self.write();
        let state = &mut *guard;
        let Some(members) = members else {
            state.members.remove(job);
            return;
        };
        if state.members.insert(job.clone(), members.clone()).as_ref() == Some(&members) {
            return;
        }
        for (uid, _) in state.job_of_pod.iter().filter(|(_, of)| *of == job) {
            if let Some(names) = state.pods.names.get_mut(uid) {
                Arc::make_mut(names).job_members.clone_from(&members);
            }
        }
        drop(guard);
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn put_job(&self, id: &str, names: Arc<Names>) {
        self.write().jobs.put(id, names, JOBS_MAX);
    }

    pub(super) fn knows_job(&self, id: &str) -> bool {
        self.read().jobs.names.contains_key(id)
    }

    /// Replaces everything that a source said of allocations; `None` where it no longer tells.
    pub(super) fn set_holders(
        &self,
        source: &'static str,
        holders: Option<BTreeMap<DeviceName, Vec<Holder>>>,
    ) {
        let mut state = self.write();
        match holders {
            Some(holders) => state.holders.insert(source, holders),
            None => state.holders.remove(source),
        };
    }
}

impl WorkloadNames for Directory {
    fn names(&self, place: &Place) -> Option<Arc<Names>> {
        let state = self.read();
        if let Some(uid) = &place.pod_uid {
            return state.pods.names.get(uid).cloned();
        }
        let job = place.slurm_job.as_ref()?;
        let known = state.jobs.names.get(job).cloned();
        drop(state);
        if known.is_none()
            && let Some(asked) = &self.asked
            && asked.try_send(job.clone()).is_err()
        {
            tracing::debug!(job, "too many jobs are asked for at once; this one is asked later");
        }
        known
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

impl Allocations for Directory {
    fn holders(&self, gpu: &GpuUuid, index: u32) -> Option<Vec<Holder>> {
        let state = self.read();
        if state.holders.is_empty() {
            return None;
        }
        let names = [DeviceName::Uuid(gpu.as_str().to_owned()), DeviceName::Index(index)];
        let mut found: Vec<Holder> = state
            .holders
            .values()
            .flat_map(|holders| names.iter().filter_map(|name| holders.get(name)).flatten())
            .cloned()
            .collect();
        found.sort();
        found.dedup();
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Names {
        Names { pod: Some(name.to_owned()), ..Names::default() }
    }

    #[test]
    fn pods_beyond_the_bound_push_the_first_out() {
        let (directory, _asked) = Directory::new(false);
        for at in 0..=PODS_MAX {
            directory.put_pod(&format!("uid-{at}"), pod("p"), None);
        }
        let known = |uid: &str| {
            let place = Place { pod_uid: Some(uid.to_owned()), ..Place::default() };
            directory.names(&place).is_some()
        };
        assert!(!known("uid-0") && known("uid-1") && known(&format!("uid-{PODS_MAX}")));
    }

    #[test]
    fn members_of_a_job_reach_its_pods_and_the_version_says_so() {
        let (directory, _asked) = Directory::new(false);
        let job = |value: &str| JobLabel {
            namespace: "ns".into(),
            key: "job-name",
            value: value.to_owned(),
        };
        directory.put_pod("u1", pod("a"), Some(job("train")));
        directory.put_pod("u2", pod("b"), Some(job("other")));
        let members = |uid: &str| {
            let place = Place { pod_uid: Some(uid.to_owned()), ..Place::default() };
            directory.names(&place).map(|names| names.job_members.clone()).unwrap_or_default()
        };
        let before = directory.version();
        let two: Vec<IpAddr> = vec!["10.1.0.1".parse().unwrap(), "fd00::2".parse().unwrap()];
        directory.set_members(&job("train"), Some(two.clone()));
        assert!(directory.version() > before);
        assert_eq!((members("u1"), members("u2")), (two.clone(), Vec::new()));
        let known = directory.version();
        directory.set_members(&job("train"), Some(two.clone()));
        assert_eq!(directory.version(), known, "nothing new");
        directory.put_pod("u3", pod("c"), Some(job("train")));
        assert_eq!(members("u3"), two, "a pod that comes later");
        directory.set_members(&job("train"), None);
        assert_eq!(directory.pod_jobs(), [job("other")]);
        assert_eq!(members("u1"), two, "its last flows are still to its peers");
    }

    #[test]
    fn a_job_that_is_not_known_is_asked_for_and_nobody_waits() {
        let (directory, asked) = Directory::new(true);
        let place = Place { slurm_job: Some("7".to_owned()), ..Place::default() };
        for _ in 0..JOBS_QUEUED_MAX + 10 {
            assert_eq!(directory.names(&place), None);
        }
        assert_eq!(asked.try_iter().count(), JOBS_QUEUED_MAX);
    }

    #[test]
    fn a_free_gpu_and_an_unknown_one_differ() {
        let (directory, _asked) = Directory::new(false);
        let gpu = GpuUuid::from("GPU-1");
        assert_eq!(directory.holders(&gpu, 0), None);
        directory.set_holders("slurm", Some(BTreeMap::new()));
        assert_eq!(directory.holders(&gpu, 0), Some(Vec::new()));
        let job = |id: &str| Holder::Job(id.to_owned());
        let of = |name, holder| Some(BTreeMap::from([(name, vec![holder])]));
        directory.set_holders("slurm", of(DeviceName::Index(0), job("7")));
        directory.set_holders("kubelet", of(DeviceName::Uuid("GPU-1".to_owned()), job("8")));
        assert_eq!(directory.holders(&gpu, 0), Some(vec![job("7"), job("8")]));
        directory.set_holders("kubelet", None);
        assert_eq!(directory.holders(&gpu, 1), Some(Vec::new()));
    }
}
