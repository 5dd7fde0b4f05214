//! Local channels: what a workload that has read weights passes on to another one on this host.
//! Where that is enough to carry a model, or a good part of one, the other one counts as having
//! read it.

use super::enricher::{Enricher, Observation};
use super::limit::LINK_SPAN_NS;
use super::table::Handle;
use super::workload::Workload;
use crate::model::{BootNs, Link};

/// Roles of those whose product is to answer.
const SERVING: &[&str] = &["inference", "system"];

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
        let Some(least) = self.passed_from_bytes(from, link) else { return };
        let Some(sender) = seen.process.and_then(|process| self.processes.key(process)) else {
            return;
        };
        let end = self.far_end(link, sender, from, time);
        let Some(to) = end.workload.filter(|to| *to != from) else { return };
        let pair = (from, to, link.is_accepted);
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
        let mut cgroup = link.peer_cgroup;
        if let Some(process) = end.process.and_then(|process| self.processes.get_mut(process)) {
            process.has_read_weights = true;
            if cgroup.0 == 0 {
                cgroup = process.cgroup;
            }
        }
        seen.mark = self.mark_cgroup(cgroup).then_some(cgroup);
    }

    /// Bytes from which what a workload passes on counts; nothing where it has read no weights.
    ///
    /// Whoever asks a server gets its answers, and these add up: a proxy, a scraper of
    /// measurements or the users of a cache are no readers of its weights. What a server or a
    /// service of the platform gives to those who connect counts once it is as long as its
    /// smallest model.
    fn passed_from_bytes(&self, from: Handle<Workload>, link: &Link) -> Option<u64> {
        let least = self.derived_from_bytes(from)?;
        let workload = self.workloads.get(from)?;
        let role = workload.role().map(|(role, _)| role);
        let is_answer = link.is_accepted && role.is_some_and(|role| SERVING.contains(&role));
        if !is_answer {
            return Some(least);
        }
        let models = workload.account.models.iter();
        let sizes = models.filter_map(|label| self.labels.model(*label));
        let smallest = sizes.map(|model| model.size_bytes).min().unwrap_or(0);
        Some(least.max(smallest))
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
