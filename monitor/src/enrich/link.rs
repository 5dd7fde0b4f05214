//! Local channels: what a workload that has read weights passes on to another one on this host.
//! Where that is enough to carry a model, or a good part of one, the other one counts as having
//! read it.

use super::enricher::{Enricher, Observation};
use super::limit::{LINK_SPAN_NS, PIPED_BYTES_MIN};
use super::process::Process;
use super::table::Handle;
use super::workload::Workload;
use crate::model::{BootNs, CgroupId, Link, LinkKind};

/// Who passes on, who takes, and whether the taker had asked.
pub(super) type Pair = (Handle<Workload>, Handle<Workload>, bool);

/// What part of a model may be missing from what is told of a pipe.
const PIPED_REST: u64 = 8;

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
        if link.kind == LinkKind::Pipe {
            return self.piped(link, time, seen);
        }
        let Some(from) = seen.workload else { return };
        let Some(least) = self.passed_from_bytes(from, link) else { return };
        let Some(sender) = seen.process.and_then(|process| self.processes.key(process)) else {
            return;
        };
        let end = self.far_end(link, sender, from, time);
        let Some(to) = end.workload.filter(|to| *to != from) else { return };
        if link.kind == LinkKind::Unix {
            self.may_have_handed(from, end.process, time, seen);
        }
        let pair = (from, to, link.is_accepted);
        if let Some(cgroup) = self.passed(pair, (link.bytes, least), time, end.process) {
            let cgroup = if link.peer_cgroup.0 == 0 { cgroup } else { link.peer_cgroup };
            seen.mark = seen.mark.or_else(|| self.mark_cgroup(cgroup).then_some(cgroup));
        }
    }

    /// Adds bytes that one workload passed on to another, of whom this process takes them. Once
    /// they are enough: the cgroup that takes them, zero where it is not known.
    pub(super) fn passed(
        &mut self,
        pair: Pair,
        (bytes, least): (u64, u64),
        time: BootNs,
        taker: Option<Handle<Process>>,
    ) -> Option<CgroupId> {
        let handle = match self.links.find(&pair) {
            Some(handle) => handle,
            None => self.links.insert(pair, Passed { since: time, ..Passed::default() }).0,
        };
        self.links.touch(handle);
        let passed = self.links.get_mut(handle)?;
        if !passed.is_enough && time.since(passed.since) >= LINK_SPAN_NS {
            *passed = Passed { since: time, ..Passed::default() };
        }
        passed.bytes = passed.bytes.saturating_add(bytes);
        if !passed.is_enough && passed.bytes < least {
            return None;
        }
        passed.is_enough = true;
        let bytes = std::mem::take(&mut passed.bytes);
        self.take_over(pair.0, pair.1, bytes, time);
        let Some(process) = taker.and_then(|taker| self.processes.get_mut(taker)) else {
            return Some(CgroupId(0));
        };
        process.has_read_weights = true;
        Some(process.cgroup)
    }

    /// Bytes from which what a workload passes on counts; nothing where it has read no weights.
    ///
    /// Whoever asks a server gets its answers, and these add up: a proxy, a scraper of
    /// measurements or the users of a cache are no readers of its weights. What a server or a
    /// service of the platform gives to those who connect, or writes into pipes, counts once it is
    /// as long as its smallest model. Of anybody else a pipe may lead to whoever keeps the log:
    /// more must go through it than jobs print, or most of a model.
    pub(super) fn passed_from_bytes(&self, from: Handle<Workload>, link: &Link) -> Option<u64> {
        let least = self.derived_from_bytes(from)?;
        let role = self.workloads.get(from)?.role().map(|(role, _)| role);
        let is_serving = role.is_some_and(|role| SERVING.contains(&role));
        let whole = self.smallest_model_bytes(from);
        Some(match link.kind {
            // The last step of a sum may be told a second late.
            LinkKind::Pipe if is_serving => least.max(whole - whole / PIPED_REST),
            LinkKind::Pipe => least.max((whole - whole / PIPED_REST).min(PIPED_BYTES_MIN)),
            _ if is_serving && link.is_accepted => least.max(whole),
            _ => least,
        })
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
