//! Memory and files without a name that go from hand to hand: a descriptor is passed over a unix
//! socket, or taken out of another process, and nobody opens anything. Who got something from a
//! workload that has read weights is noted; when it sends, what it has open is looked through for
//! files that the other one wrote.

use std::collections::VecDeque;

use super::enricher::{Enricher, Observation};
use super::label::Labelled;
use super::limit::{HANDED_MAX, HANDED_SPAN_NS};
use super::process::Process;
use super::table::Handle;
use super::workload::Workload;
use crate::model::{BootNs, FileId};

/// A process that may have been given something.
#[derive(Clone, Copy, Debug)]
struct Taker {
    process: Handle<Process>,
    to: Handle<Workload>,
    from: Handle<Workload>,
    since: BootNs,
}

/// Processes that may have been given something, the latest last.
#[derive(Debug, Default)]
pub(super) struct Handed(VecDeque<Taker>);

impl Handed {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Enricher {
    /// A process of another workload got a message, or a descriptor, from the workload `from`. It
    /// may have it by now; if not, it is looked at again when its workload sends.
    pub(super) fn may_have_handed(
        &mut self,
        from: Handle<Workload>,
        process: Option<Handle<Process>>,
        time: BootNs,
        seen: &mut Observation,
    ) {
        let Some(process) = process else { return };
        let Some(to) = self.processes.get(process).and_then(|process| process.workload) else {
            return;
        };
        if to == from || self.derived_label(from).is_none() {
            return;
        }
        let taker = Taker { process, to, from, since: time };
        self.handed.0.retain(|it| (it.process, it.from) != (process, from));
        if self.look_at_taker(taker, time, seen) {
            return;
        }
        if self.handed.0.len() >= HANDED_MAX {
            self.handed.0.pop_front();
        }
        self.handed.0.push_back(taker);
    }

    /// Before bytes of a workload are booked: has one of its processes open what another workload
    /// wrote and gave no name to?
    pub(super) fn look_for_handed(&mut self, time: BootNs, seen: &mut Observation) {
        let Some(workload) = seen.workload else { return };
        self.handed.0.retain(|taker| time.since(taker.since) < HANDED_SPAN_NS);
        let takers = self.handed.0.iter().filter(|taker| taker.to == workload).copied();
        for taker in takers.collect::<Vec<_>>() {
            if self.look_at_taker(taker, time, seen) {
                self.handed.0.retain(|it| (it.process, it.from) != (taker.process, taker.from));
            }
        }
    }

    /// Whether a process has something open that was handed to it. To have it open is to have
    /// read it: where reads are counted, they do not come on top.
    fn look_at_taker(&mut self, taker: Taker, time: BootNs, seen: &mut Observation) -> bool {
        let Some(key) = self.processes.key(taker.process) else { return false };
        let writes = |it| self.written.get(it).is_some_and(|it| it.workload == taker.from);
        if !self.written.oldest_first().any(writes) {
            return false;
        }
        let Some(left) = self.far_looks.left(time) else { return false };
        let held = self.source.nameless(key.tgid, left);
        let carried = held.iter().filter_map(|(id, size)| self.carried(taker.from, id, *size));
        let carried: Vec<_> = carried.collect();
        for (id, path, size_bytes) in &carried {
            self.book_handed(taker, (id, path, *size_bytes), time, seen);
        }
        if carried.is_empty() {
            return false;
        }
        if let Some(process) = self.processes.get_mut(taker.process) {
            process.has_read_weights = true;
            let cgroup = process.cgroup;
            seen.mark = seen.mark.or_else(|| self.mark_cgroup(cgroup).then_some(cgroup));
        }
        true
    }

    /// Books a file that was handed over on the account of who has it now, as a copy of weights.
    fn book_handed(
        &mut self,
        taker: Taker,
        (id, path, size_bytes): (&FileId, &str, u64),
        time: BootNs,
        seen: &mut Observation,
    ) {
        let Some(source) = self.derived_label(taker.from) else { return };
        self.labels.derive(*id, source, path, size_bytes, &mut seen.label_changes);
        if !self.is_first_read(taker.to, *id) {
            return;
        }
        self.count_whole(taker.to, *id, size_bytes);
        self.take_over(taker.from, taker.to, size_bytes, time);
        if let Some(workload) = self.workloads.get_mut(taker.to) {
            let account = &mut workload.account;
            account.derived_bytes = account.derived_bytes.saturating_add(size_bytes);
            account.weights_are_bound = true;
        }
    }

    /// A file that was written by a workload that has read weights, if it is long enough to carry
    /// them on: as whom it is followed, its path and size.
    fn carried(
        &self,
        from: Handle<Workload>,
        id: &FileId,
        size_bytes: u64,
    ) -> Option<(FileId, String, u64)> {
        if size_bytes < self.derived_from_bytes(from)? {
            return None;
        }
        self.written.oldest_first().find_map(|handle| {
            let known = self.written.key(handle)?;
            let written = self.written.get(handle).filter(|written| written.workload == from)?;
            let is_it = (known.device, known.inode) == (id.device, id.inode);
            is_it.then(|| (*known, written.path.clone(), size_bytes))
        })
    }

    /// A file is read that another workload writes and that nobody has looked at since it became
    /// long enough to carry weights: it is labelled now.
    pub(super) fn derive_now(
        &mut self,
        id: &FileId,
        size_bytes: u64,
        seen: &mut Observation,
    ) -> Option<Handle<Labelled>> {
        let plain = FileId { generation: 0, ..*id };
        let written = self.written.find(id).or_else(|| self.written.find(&plain))?;
        let written = self.written.get(written)?;
        let (from, path) = (written.workload, written.path.clone());
        if seen.workload == Some(from) || size_bytes < self.derived_from_bytes(from)? {
            return None;
        }
        let source = self.derived_label(from)?;
        Some(self.labels.derive(*id, source, &path, size_bytes, &mut seen.label_changes))
    }
}
