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
    /// A process of another workload got a message, or a descriptor, from the workload `from`.
    pub(super) fn may_have_handed(
        &mut self,
        from: Handle<Workload>,
        process: Option<Handle<Process>>,
        time: BootNs,
    ) {
        let Some(process) = process else { return };
        let Some(to) = self.processes.get(process).and_then(|process| process.workload) else {
            return;
        };
        let writes = |handle| self.written.get(handle).is_some_and(|it| it.workload == from);
        if to == from || !self.written.oldest_first().any(writes) {
            return;
        }
        let takers = &mut self.handed.0;
        takers.retain(|taker| (taker.process, taker.from) != (process, from));
        if takers.len() >= HANDED_MAX {
            takers.pop_front();
        }
        takers.push_back(Taker { process, to, from, since: time });
    }

    /// Before bytes of a workload are booked: has one of its processes open what another workload
    /// wrote and gave no name to?
    pub(super) fn look_for_handed(&mut self, time: BootNs, seen: &mut Observation) {
        let Some(workload) = seen.workload else { return };
        self.handed.0.retain(|taker| time.since(taker.since) < HANDED_SPAN_NS);
        let takers = self.handed.0.iter().filter(|taker| taker.to == workload).copied();
        for taker in takers.collect::<Vec<_>>() {
            let Some(key) = self.processes.key(taker.process) else { continue };
            if !self.far_looks.may(time) {
                return;
            }
            let held = self.source.nameless(key.tgid);
            let carried = held.iter().filter(|(id, size)| self.carries(taker.from, id, *size));
            let bytes: u64 = carried.map(|(_, size)| *size).sum();
            if bytes == 0 {
                continue;
            }
            self.handed.0.retain(|it| (it.process, it.from) != (taker.process, taker.from));
            self.take_over(taker.from, taker.to, bytes, time);
            if let Some(process) = self.processes.get_mut(taker.process) {
                process.has_read_weights = true;
                let cgroup = process.cgroup;
                seen.mark = self.mark_cgroup(cgroup).then_some(cgroup);
            }
        }
    }

    /// Whether a file was written by a workload that has read weights, and is long enough to carry
    /// them on.
    fn carries(&self, from: Handle<Workload>, id: &FileId, size_bytes: u64) -> bool {
        let is_long = self.derived_from_bytes(from).is_some_and(|least| size_bytes >= least);
        let is_it = |known: &FileId| (known.device, known.inode) == (id.device, id.inode);
        let mut written = self.written.oldest_first();
        is_long
            && written.any(|handle| {
                self.written.key(handle).is_some_and(is_it)
                    && self.written.get(handle).is_some_and(|written| written.workload == from)
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
