//! Local channels: what a workload that has read weights passes on to another one on this host.
//! Where that is enough to carry a model, or a good part of one, the other one counts as having
//! read it.

use super::enricher::{Enricher, Observation};
use super::limit::LINK_SPAN_NS;
use super::place::WorkloadKind;
use super::table::Handle;
use super::workload::{Workload, workload_id};
use crate::model::{BootNs, Link, ProcessKey, Tgid};

/// What one workload passed on to another lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    bytes: u64,
    since: BootNs,
    /// Whether it was enough, and what comes is added as it comes.
    is_enough: bool,
}

impl Enricher {
    /// Takes in bytes that a process passed on. Little is left alone, however often it comes: log
    /// lines, measurements, answers to probes.
    pub(super) fn linked(&mut self, link: &Link, time: BootNs, seen: &mut Observation) {
        let Some(from) = seen.workload else { return };
        let Some(least) = self.derived_from_bytes(from) else { return };
        let Some(to) = self.far_workload(link, time).filter(|to| *to != from) else { return };
        let pair = (from, to);
        let handle = match self.links.find(&pair) {
            Some(handle) => handle,
            None => self.links.insert(pair, Passed { since: time, ..Passed::default() }).0,
        };
        self.links.touch(handle);
        let Some(passed) = self.links.get_mut(handle) else { return };
        if !passed.is_enough && time.since(passed.since) >= LINK_SPAN_NS {
            *passed = Passed { since: time, ..Passed::default() };
        }
        passed.bytes = passed.bytes.saturating_add(link.bytes);
        if !passed.is_enough && passed.bytes < least {
            return;
        }
        passed.is_enough = true;
        let bytes = std::mem::take(&mut passed.bytes);
        self.take_over(from, to, bytes, time);
        if let Some(process) = self.processes.find(link.peer)
            && let Some(process) = self.processes.get_mut(process)
        {
            process.has_read_weights = true;
        }
        seen.mark = self.mark_cgroup(link.peer_cgroup).then_some(link.peer_cgroup);
    }

    /// The workload at the far end: the process's, else the one of its cgroup. The first process
    /// of the host is nobody's far end: it listens for others, which take over its sockets.
    fn far_workload(&mut self, link: &Link, time: BootNs) -> Option<Handle<Workload>> {
        if link.peer.tgid == Tgid(1) {
            return None;
        }
        if let Some(process) = self.processes.find(link.peer) {
            return self.workload_of(process, time);
        }
        let place = self.places_by_id.find(&link.peer_cgroup)?;
        let place = self.places_by_id.get(place)?;
        if place.kind == WorkloadKind::Tree {
            return None;
        }
        self.workloads.find(&workload_id(place, ProcessKey::default()))
    }

    /// One workload has got bytes of what another has read: of which of its models, they do not
    /// tell.
    pub(super) fn take_over(
        &mut self,
        from: Handle<Workload>,
        to: Handle<Workload>,
        bytes: u64,
        time: BootNs,
    ) {
        let Some(workload) = self.workloads.get(from) else { return };
        let models: Vec<_> = workload
            .account
            .models
            .iter()
            .copied()
            .zip(workload.account.model_names.iter().cloned())
            .collect();
        let Some(workload) = self.workloads.get_mut(to) else { return };
        for (at, (label, name)) in models.iter().enumerate() {
            let bytes = if at == 0 { bytes } else { 0 };
            workload.account.read_weights(*label, name, false, bytes, time);
        }
    }
}
