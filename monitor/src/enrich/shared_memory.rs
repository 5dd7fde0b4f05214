//! Segments of System V shared memory. Nobody opens them and nobody names them: a number is all
//! that two processes need. One that a reader of weights may write into, and that is long enough to
//! carry them, is derived; whoever else has it attached, before or after that, has read them.
//!
//! Which process has which segment is known from attaching, birth, exec and end. Letting go is not
//! told: what a process has attached it is taken to have until it ends.

use super::enricher::{Enricher, Observation};
use super::limit::{SEGMENT_HOLDERS_MAX, SHARED_SEGMENTS_MAX};
use super::process::Process;
use super::table::{Handle, Table};
use super::workload::Workload;
use crate::model::{BootNs, FileId, FileOpen, ProcessKey};

/// A process that has a segment attached.
#[derive(Clone, Copy, Debug)]
struct Holder {
    process: Handle<Process>,
    writes: bool,
}

/// One segment.
#[derive(Clone, Debug)]
struct Segment {
    path: String,
    fs_magic: u64,
    size_bytes: u64,
    /// Living processes, the latest last.
    holders: Vec<Holder>,
}

/// Segments that somebody has attached.
pub(super) struct Segments(Table<FileId, Segment>);

impl Default for Segments {
    fn default() -> Self {
        Self(Table::new(SHARED_SEGMENTS_MAX))
    }
}

impl Segments {
    fn get(&self, id: &FileId) -> Option<&Segment> {
        self.0.get(self.0.find(id)?)
    }

    /// Length of a segment, which never changes.
    pub(super) fn size_bytes(&self, id: &FileId) -> Option<u64> {
        Some(self.get(id)?.size_bytes)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Processes that are known to have a segment.
    #[cfg(test)]
    pub(super) fn holders(&self, id: &FileId) -> usize {
        self.get(id).map_or(0, |segment| segment.holders.len())
    }

    fn hold(&mut self, open: &FileOpen, holder: Holder) {
        let handle = self.0.find(&open.id).unwrap_or_else(|| {
            let segment = Segment {
                path: open.path.clone(),
                fs_magic: open.fs_magic,
                size_bytes: open.size_bytes,
                holders: Vec::new(),
            };
            self.0.insert(open.id, segment).0
        });
        self.0.touch(handle);
        if let Some(segment) = self.0.get_mut(handle) {
            segment.hold(holder);
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut Segment)) {
        for handle in self.0.oldest_first().collect::<Vec<_>>() {
            if let Some(segment) = self.0.get_mut(handle) {
                act(segment);
            }
        }
    }
}

impl Segment {
    fn hold(&mut self, holder: Holder) {
        let known = self.holders.iter_mut().find(|known| known.process == holder.process);
        if let Some(known) = known {
            known.writes |= holder.writes;
            return;
        }
        if self.holders.len() >= SEGMENT_HOLDERS_MAX {
            self.holders.remove(0);
        }
        self.holders.push(holder);
    }
}

impl Enricher {
    /// Whether this is a segment that somebody has attached.
    pub fn is_segment(&self, id: &FileId) -> bool {
        self.segments.get(id).is_some()
    }

    /// A process attached a segment.
    pub(super) fn attached(
        &mut self,
        open: &FileOpen,
        key: ProcessKey,
        time: BootNs,
        seen: &mut Observation,
    ) {
        let (Some(process), Some(workload)) = (seen.process, seen.workload) else { return };
        self.segments.hold(open, Holder { process, writes: open.writes() });
        if let Some(process) = self.processes.get_mut(process) {
            process.has_segments = true;
        }
        seen.label = self.labels.known(&open.id, &mut seen.label_changes);
        if seen.label.is_none() {
            seen.label = self.derive_now(&open.id, open.size_bytes, seen);
        }
        if seen.label.is_none() {
            if open.writes() && self.derived_label(workload).is_some() {
                self.follow_segment(open.id, key, workload, time);
            }
            return;
        }
        self.takes_segment(&open.id, process, time);
        if let Some(workload) = self.workloads.get_mut(workload) {
            workload.account.note_file(open, key.tgid, time);
        }
    }

    /// Follows a segment that a workload which has read weights may write into: it is as long as it
    /// will ever be.
    fn follow_segment(
        &mut self,
        id: FileId,
        process: ProcessKey,
        workload: Handle<Workload>,
        time: BootNs,
    ) {
        let Some(segment) = self.segments.get(&id).cloned() else { return };
        self.follow_file(id, &segment.path, segment.fs_magic, process, workload, time);
        let told = self.closed(&id, &segment.path, segment.size_bytes, time);
        self.found.extend(told);
    }

    /// When a workload first reads weights, the segments that it has attached are followed.
    pub(super) fn follow_segments(&mut self, workload: Handle<Workload>, time: BootNs) {
        let mut written = Vec::new();
        for handle in self.segments.0.oldest_first() {
            let (Some(id), Some(segment)) =
                (self.segments.0.key(handle), self.segments.0.get(handle))
            else {
                continue;
            };
            let writers = segment.holders.iter().filter(|holder| holder.writes);
            let mut its = writers.filter_map(|holder| {
                let is_its = self.workload_of_holder(holder.process) == Some(workload);
                is_its.then(|| self.processes.key(holder.process))?
            });
            written.extend(its.next().map(|process| (*id, process)));
        }
        for (id, process) in written {
            self.follow_segment(id, process, workload, time);
        }
    }

    /// A segment became derived: who else has it has read it.
    pub(super) fn segment_is_derived(&mut self, id: &FileId, time: BootNs, seen: &mut Observation) {
        let Some(segment) = self.segments.get(id) else { return };
        for holder in segment.holders.clone() {
            self.takes_segment(id, holder.process, time);
            let cgroup = self.processes.get(holder.process).map(|process| process.cgroup);
            // One an event; each of the others at its own next one.
            if seen.mark.is_none()
                && let Some(cgroup) = cgroup
                && self.mark_cgroup(cgroup)
            {
                seen.mark = Some(cgroup);
            }
        }
    }

    /// A process has a derived segment: it may have read all of it, unless its own workload is the
    /// one that wrote it.
    fn takes_segment(&mut self, id: &FileId, process: Handle<Process>, time: BootNs) {
        let Some(workload) = self.workload_of_holder(process) else { return };
        let written = self.written.find(id).and_then(|written| self.written.get(written));
        if written.is_some_and(|written| written.workload == workload) {
            return;
        }
        let Some(size) = self.segments.size_bytes(id) else { return };
        self.read_whole(process, workload, id, size, time);
    }

    fn workload_of_holder(&self, process: Handle<Process>) -> Option<Handle<Workload>> {
        self.processes.get(process)?.workload
    }

    /// A child has what its parent had when it was born.
    pub(super) fn inherit_segments(&mut self, parent: Handle<Process>, child: ProcessKey) {
        if !self.processes.get(parent).is_some_and(|parent| parent.has_segments) {
            return;
        }
        let Some(child) = self.processes.find(child) else { return };
        if let Some(process) = self.processes.get_mut(child) {
            process.has_segments = true;
        }
        self.segments.each(|segment| {
            let parents = segment.holders.iter().find(|holder| holder.process == parent);
            if let Some(holder) = parents.copied() {
                segment.hold(Holder { process: child, ..holder });
            }
        });
    }

    /// A process has ended, or executed another program: it has no segments any more.
    pub(super) fn drop_segments(&mut self, holder: Handle<Process>) {
        let Some(process) = self.processes.get_mut(holder) else { return };
        if std::mem::take(&mut process.has_segments) {
            self.segments.each(|segment| segment.holders.retain(|known| known.process != holder));
        }
    }
}
