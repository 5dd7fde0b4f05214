//! Derived weights: large files written by a workload that has read a model. An archive, an
//! encrypted copy, a quantised model: whatever carries the model on is labelled as made from it,
//! and whoever reads it is marked as well. Small files never are: logs and samples.

use super::enricher::Enricher;
use super::label::LabelId;
use super::limit::{
    DERIVED_BYTES_MIN, DERIVED_PART_MIN, FOLLOWED_MAX, WRITERS_LOOKED_AT_MAX, WRITTEN_CHECK_NS,
    WRITTEN_CHECKS_MAX, WRITTEN_IDLE_NS,
};
use super::table::Handle;
use super::workload::Workload;
use crate::model::{
    Actor, Body, BootNs, CgroupId, Event, FileChange, FileId, FileOp, ProcessKey, Tgid, Tid,
};

/// A file whose size is followed.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) workload: Handle<Workload>,
    process: ProcessKey,
    pub(super) path: String,
    fs_magic: u64,
    pub(super) size_bytes: u64,
    /// Size when it was last told of.
    pub(super) told_bytes: u64,
    grown: BootNs,
    checked: BootNs,
}

impl Enricher {
    /// Size from which a file written by a workload counts as derived; nothing for a workload that
    /// has read no weights.
    pub(super) fn derived_from_bytes(&self, workload: Handle<Workload>) -> Option<u64> {
        self.workloads.get(workload)?.account.weights_read?;
        Some((self.smallest_model_bytes(workload) / DERIVED_PART_MIN).max(DERIVED_BYTES_MIN))
    }

    /// Size of the smallest model that a workload has read; zero without one.
    pub(super) fn smallest_model_bytes(&self, workload: Handle<Workload>) -> u64 {
        let workload = self.workloads.get(workload);
        let models = workload.iter().flat_map(|workload| &workload.account.models);
        let sizes = models.filter_map(|label| self.labels.model(*label));
        sizes.map(|model| model.size_bytes).min().unwrap_or(0)
    }

    /// The model that what a workload writes is taken to come from: the one it read last.
    pub(super) fn derived_label(&self, workload: Handle<Workload>) -> Option<LabelId> {
        self.workloads.get(workload)?.account.models.last().copied()
    }

    /// Follows a file that a workload which has read weights writes.
    pub(super) fn follow_file(
        &mut self,
        id: FileId,
        path: &str,
        fs_magic: u64,
        process: ProcessKey,
        workload: Handle<Workload>,
        time: BootNs,
    ) {
        // The weights themselves are no copy of themselves.
        if self.labels.lookup(&id).is_some_and(|file| !file.is_derived) {
            return;
        }
        if let Some(known) = self.written.find(&id) {
            self.written.touch(known);
            if let Some(written) = self.written.get_mut(known) {
                path.clone_into(&mut written.path);
                (written.process, written.workload, written.grown) = (process, workload, time);
            }
            return;
        }
        let written = Written {
            workload,
            process,
            path: path.to_owned(),
            fs_magic,
            size_bytes: 0,
            told_bytes: 0,
            grown: time,
            checked: BootNs(0),
        };
        let (_, gone) = self.written.insert(id, written);
        self.unfollowed.extend(gone.map(|(gone, _)| gone));
        if self.followed.len() < FOLLOWED_MAX {
            self.followed.push((id, process.tgid, path.to_owned()));
        }
    }

    /// When a workload first reads weights, what its processes have open for writing already is
    /// followed too: an archiver opens its archive before what goes into it.
    pub(super) fn follow_open_files(&mut self, workload: Handle<Workload>, time: BootNs) {
        let processes = self.processes.of_workload(workload, WRITERS_LOOKED_AT_MAX);
        for process in processes {
            for (path, id, _) in self.source.written(process.tgid) {
                self.follow_file(id, &path, 0, process, workload, time);
            }
        }
        self.follow_segments(workload, time);
    }

    /// The kernel side tells of every file opened for writing in a cgroup from now on. What was
    /// opened since its readers were looked at, and before this, is followed too.
    pub fn cgroup_is_marked(&mut self, cgroup: CgroupId, time: BootNs) {
        for (process, workload) in self.processes.living_in(cgroup, WRITERS_LOOKED_AT_MAX) {
            let Some(workload) = workload.filter(|it| self.derived_label(*it).is_some()) else {
                continue;
            };
            for (path, id, _) in self.source.written(process.tgid) {
                self.follow_file(id, &path, 0, process, workload, time);
            }
        }
    }

    /// Marks the cgroup of a process whose workload has read weights, so that the kernel side
    /// tells of every file opened for writing in it. Returns whether it is new.
    pub(super) fn mark_cgroup(&mut self, cgroup: CgroupId) -> bool {
        if cgroup.0 == 0 {
            return false;
        }
        if let Some(known) = self.marked.find(&cgroup) {
            self.marked.touch(known);
            return false;
        }
        self.marked.insert(cgroup, ());
        true
    }

    /// Looks at files that are being written. Each that has become large enough to carry a model,
    /// or has grown by as much again, is an event; the caller hands it on.
    pub fn written(&mut self, now: BootNs) -> Vec<Event> {
        let is_due = |written: &&Written| now.since(written.checked) >= WRITTEN_CHECK_NS;
        let due: Vec<FileId> = self
            .written
            .oldest_first()
            .filter(|handle| self.written.get(*handle).as_ref().is_some_and(is_due))
            .filter_map(|handle| self.written.key(handle).copied())
            .take(WRITTEN_CHECKS_MAX)
            .collect();
        due.into_iter().flat_map(|id| self.look_at_written(id, now)).collect()
    }

    fn look_at_written(&mut self, id: FileId, now: BootNs) -> Vec<Event> {
        if let Some(size) = self.segments.size_bytes(&id) {
            return self.written_is(id, Some(size), now);
        }
        let known = self.written.find(&id).and_then(|known| self.written.get(known));
        let Some(written) = known else { return Vec::new() };
        let process = written.process.tgid;
        let found = self.source.stat(process, &written.path);
        let size = found.filter(|file| file.inode == id.inode).map(|file| file.size_bytes);
        // One without a name yet, or any more: whoever writes it has it open.
        let size = size.or_else(|| self.source.open_size(process, &id));
        self.written_is(id, size, now)
    }

    /// A file that is followed was closed by who wrote it: its size is known, whatever its name is
    /// by now.
    pub fn closed(&mut self, id: &FileId, path: &str, size: u64, now: BootNs) -> Vec<Event> {
        if let Some(known) = self.written.find(id)
            && let Some(written) = self.written.get_mut(known)
        {
            path.clone_into(&mut written.path);
        }
        self.written_is(*id, Some(size), now)
    }

    /// Files that are followed since this was last asked, with a process that sees them.
    pub fn take_followed(&mut self) -> Vec<(FileId, Tgid, String)> {
        std::mem::take(&mut self.followed)
    }

    /// Files that are followed no longer since this was last asked.
    pub fn take_unfollowed(&mut self) -> Vec<FileId> {
        std::mem::take(&mut self.unfollowed)
    }

    /// A file that is followed has this size, or has none to be found. What must be told of it, and
    /// of others with it: a piece alone says nothing, and all of them are told once they are many.
    fn written_is(&mut self, id: FileId, size: Option<u64>, now: BootNs) -> Vec<Event> {
        let Some(event) = self.grown_is(id, size, now) else { return self.pieces_of(id, now) };
        vec![event]
    }

    fn grown_is(&mut self, id: FileId, size: Option<u64>, now: BootNs) -> Option<Event> {
        let handle = self.written.find(&id)?;
        let written = self.written.get(handle)?;
        let workload = written.workload;
        let least = self.derived_from_bytes(workload);
        self.written.touch(handle);
        let written = self.written.get_mut(handle)?;
        written.checked = now;
        match size {
            Some(size) if size > written.size_bytes => {
                (written.size_bytes, written.grown) = (size, now);
            }
            _ if least.is_none() || now.since(written.grown) >= WRITTEN_IDLE_NS => {
                self.written.remove(handle);
                self.unfollowed.push(id);
                return None;
            }
            _ => return None,
        }
        let bytes = written.size_bytes.saturating_sub(written.told_bytes);
        if bytes < least? {
            return None;
        }
        self.tell_written(id, now)
    }

    /// The event of a file as long as it is now.
    pub(super) fn tell_written(&mut self, id: FileId, now: BootNs) -> Option<Event> {
        let handle = self.written.find(&id)?;
        let written = self.written.get_mut(handle)?;
        let bytes = written.size_bytes.saturating_sub(written.told_bytes);
        written.told_bytes = written.size_bytes;
        let process = written.process;
        let change = FileChange {
            op: FileOp::Write,
            id,
            path: written.path.clone(),
            new_path: String::new(),
            other: FileId::default(),
            size_bytes: written.size_bytes,
            bytes,
            fs_magic: written.fs_magic,
        };
        let actor = self.actor_of(process);
        Some(Event { time: now, actor: Some(actor), body: Body::FileChange(change) })
    }

    /// A process as the actor of an event that no record told of.
    fn actor_of(&self, process: ProcessKey) -> Actor {
        let known = self.actor(process.tgid).filter(|actor| actor.process == process);
        known.unwrap_or_else(|| Actor { process, tid: Tid(process.tgid.0), ..Actor::default() })
    }

    /// Whether the daemon itself acts.
    pub(super) fn is_own(&self, process: Tgid) -> bool {
        self.own.0 != 0 && process == self.own
    }
}
