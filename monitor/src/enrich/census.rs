//! Who is there now: for metrics, and for the GPU sampler, which knows processes by pid alone.

use super::enricher::Enricher;
use super::limit::WORKLOADS_MAX;
use crate::model::{Actor, CgroupId, ProcessKey, Tgid, Tid, WorkloadEvidence};

/// Workloads of one census; as many as are known.
pub const CENSUS_MAX: usize = WORKLOADS_MAX;

impl Enricher {
    /// The process that has this pid now, as the actor of an event that the kernel did not report.
    /// One that no record told of is looked up in `/proc`.
    pub fn actor(&self, pid: Tgid) -> Option<Actor> {
        let Some(handle) = self.processes.find_tgid(pid) else {
            let info = self.source.process(pid)?;
            return Some(Actor {
                process: ProcessKey { tgid: pid, start: info.start },
                tid: Tid(pid.0),
                uid: info.uid,
                comm: info.name,
                ..Actor::default()
            });
        };
        let process = self.processes.get(handle)?;
        Some(Actor {
            process: self.processes.key(handle)?,
            tid: Tid(pid.0),
            cgroup: process.cgroup,
            uid: process.uid,
            comm: process.image.name.clone(),
        })
    }

    /// The process that has this pid now, as an actor; of one that no record told of, as `/proc`
    /// tells.
    pub fn actor_by_id(&self, pid: Tgid) -> Option<Actor> {
        let living = |actor: &Actor| {
            self.processes.lookup(actor.process).is_some_and(|process| process.ended.is_none())
        };
        if let Some(actor) = self.actor(pid).filter(living) {
            return Some(actor);
        }
        let Some(info) = self.source.process(pid) else { return self.actor(pid) };
        Some(Actor {
            process: ProcessKey { tgid: pid, start: info.start },
            tid: Tid(pid.0),
            cgroup: CgroupId(0),
            uid: info.uid,
            comm: info.name,
        })
    }

    /// The workload of the process that has this pid now.
    pub fn workload_of_pid(&self, pid: Tgid) -> Option<WorkloadEvidence> {
        let process = self.processes.get(self.processes.find_tgid(pid)?)?;
        let workload = self.workloads.get(process.workload?)?;
        Some(super::evidence::workload_evidence(workload, Some(process)))
    }

    /// Every workload that has a living process, or had bytes to account for.
    pub fn census(&self) -> impl Iterator<Item = WorkloadEvidence> + '_ {
        self.workloads.iter().take(CENSUS_MAX).filter_map(|(_, workload)| {
            let account = &workload.account;
            let counts = account.egress_bytes > 0 || account.weight_bytes > 0;
            (counts || (workload.live > 0 && !account.gpus.is_empty()))
                .then(|| super::evidence::workload_evidence(workload, None))
        })
    }
}
