//! Finding the process of an event, and following births, programs and ends.

use std::sync::Arc;

use super::enricher::{Enricher, Observation};
use super::limit::LINEAGE_DEPTH_MAX;
use super::place::WorkloadKind;
use super::process::{Image, Process, is_same_start};
use super::source::ProcInfo;
use super::table::Handle;
use super::workload::splits_tree;
use crate::model::{
    Actor, Body, BootNs, CgroupId, Event, Exec, FileId, ProcessKey, ProcessSeen, TaskNew, Tgid,
};

/// How far parents that nobody reported are looked for in `/proc`.
const PARENT_DEPTH_MAX: usize = LINEAGE_DEPTH_MAX;

impl From<ProcInfo> for Image {
    fn from(info: ProcInfo) -> Self {
        let ProcInfo {
            parent: _,
            start: _,
            name,
            exe,
            exe_deleted,
            args,
            args_truncated,
            cwd,
            uid: _,
        } = info;
        Self {
            is_memfd: exe.starts_with("/memfd:"),
            name,
            exe,
            exe_id: FileId::default(),
            args,
            args_truncated,
            cwd,
            is_deleted: exe_deleted,
            ..Self::default()
        }
    }
}

impl From<(&Exec, &str)> for Image {
    fn from((exec, name): (&Exec, &str)) -> Self {
        let Exec {
            parent: _,
            exe,
            exe_id,
            is_memfd,
            is_deleted,
            args,
            args_bytes: _,
            args_truncated,
            cwd,
            exe_changed: _,
            exe_writer: _,
        } = exec;
        Self {
            name: name.to_owned(),
            exe: exe.clone(),
            exe_id: *exe_id,
            args: args.clone(),
            args_truncated: *args_truncated,
            cwd: cwd.clone(),
            is_memfd: *is_memfd,
            is_deleted: *is_deleted,
            ..Self::default()
        }
    }
}

impl Enricher {
    /// The process of an event: who acted, or who owns the flow where nobody's context was left.
    /// One that no record told of is looked up in `/proc`; failing that, only its name is known.
    pub(super) fn subject(&mut self, event: &Event) -> Option<Handle<Process>> {
        if matches!(event.body, Body::Loss(_) | Body::SensorNote(_) | Body::GpuFault(_)) {
            return None;
        }
        let acted = event.actor.as_ref().filter(|actor| actor.process.tgid.0 != 0);
        let (key, actor) = match (acted, &event.body) {
            (Some(actor), _) => (actor.process, Some(actor)),
            (None, Body::Flow(flow)) if flow.owner.tgid.0 != 0 => (flow.owner, None),
            (None, _) => return None,
        };
        let handle = match (self.processes.find(key), &event.body) {
            (Some(handle), _) => handle,
            // These bring what is needed with them.
            (None, Body::Exec(exec)) => self.admit_exec(key, exec, actor),
            (None, Body::ProcessSeen(seen)) => self.admit_seen(key, seen, actor),
            (None, _) => self.admit_unknown(key, actor),
        };
        self.processes.touch(handle);
        if let Some(actor) = actor {
            self.notice_move(handle, actor);
        }
        Some(handle)
    }

    fn admit_unknown(&mut self, key: ProcessKey, actor: Option<&Actor>) -> Handle<Process> {
        let info =
            self.source.process(key.tgid).filter(|info| is_same_start(info.start, key.start));
        let cgroup = actor.map_or(CgroupId(0), |actor| actor.cgroup);
        let (uid, name) = actor.map_or((0, ""), |actor| (actor.uid, actor.comm.as_str()));
        let Some(info) = info else {
            self.partial += 1;
            let image = Image { name: name.to_owned(), is_partial: true, ..Image::default() };
            let process = Process::new(key, uid, Arc::new(image));
            return self.admit(key, process, None, cgroup);
        };
        let parent = self.known_parent(info.parent, PARENT_DEPTH_MAX);
        let process = Process::new(key, uid, Arc::new(info.into()));
        self.admit(key, process, parent, cgroup)
    }

    /// A process as the iterator or `/proc` told of it at start.
    fn admit_seen(
        &mut self,
        key: ProcessKey,
        seen: &ProcessSeen,
        actor: Option<&Actor>,
    ) -> Handle<Process> {
        let cgroup = actor.map_or(CgroupId(0), |actor| actor.cgroup);
        let mut image = Image {
            name: actor.map(|actor| actor.comm.clone()).unwrap_or_default(),
            exe: seen.exe.clone(),
            args: seen.args.clone(),
            cwd: seen.cwd.clone(),
            ..Image::default()
        };
        // The iterator tells identities, `/proc` the text.
        if seen.exe.is_empty()
            && let Some(info) = self.source.process(key.tgid)
            && is_same_start(info.start, key.start)
        {
            image = info.into();
        }
        image.exe_id = seen.exe_id;
        let uid = actor.map_or(0, |actor| actor.uid);
        let process = Process::new(key, uid, Arc::new(image));
        let parent = self.recorded_parent(seen.parent);
        self.admit(key, process, parent, cgroup)
    }

    /// A process whose birth was not seen, at its first program.
    fn admit_exec(
        &mut self,
        key: ProcessKey,
        exec: &Exec,
        actor: Option<&Actor>,
    ) -> Handle<Process> {
        let cgroup = actor.map_or(CgroupId(0), |actor| actor.cgroup);
        let uid = actor.map_or(0, |actor| actor.uid);
        let name = actor.map_or("", |actor| actor.comm.as_str());
        let image: Image = (exec, name).into();
        let process = Process::new(key, uid, Arc::new(image));
        let parent = self.recorded_parent(exec.parent);
        self.admit(key, process, parent, cgroup)
    }

    fn recorded_parent(&mut self, parent: ProcessKey) -> Option<Handle<Process>> {
        if parent.tgid.0 == 0 {
            return None;
        }
        match self.processes.find(parent) {
            Some(handle) => Some(handle),
            None => self.known_parent(parent.tgid, PARENT_DEPTH_MAX),
        }
    }

    /// The living process with this id; where no record told of it, as `/proc` does.
    fn known_parent(&mut self, tgid: Tgid, depth: usize) -> Option<Handle<Process>> {
        if tgid.0 == 0 || depth == 0 {
            return None;
        }
        let living = self.processes.find_tgid(tgid).filter(|handle| {
            self.processes.get(*handle).is_some_and(|process| process.ended.is_none())
        });
        if living.is_some() {
            return living;
        }
        let info = self.source.process(tgid)?;
        let key = ProcessKey { tgid, start: info.start };
        if let Some(handle) = self.processes.find(key) {
            return Some(handle);
        }
        let parent = self.known_parent(info.parent, depth - 1);
        let mut process = Process::new(key, info.uid, Arc::new(info.into()));
        process.is_approximate = true;
        Some(self.admit(key, process, parent, CgroupId(0)))
    }

    /// Puts a process into the table, below its parent and into its workload.
    fn admit(
        &mut self,
        key: ProcessKey,
        mut process: Process,
        parent: Option<Handle<Process>>,
        cgroup: CgroupId,
    ) -> Handle<Process> {
        // Looking for its parents may have brought in the process itself: of an id that was used
        // again, `/proc` may tell of a parent that was its child.
        if let Some(handle) = self.processes.find(key) {
            if let Some(known) = self.processes.get_mut(handle) {
                known.image = process.image;
            }
            return handle;
        }
        process.cgroup = cgroup;
        let place = self.place(key.tgid, cgroup);
        self.inherit(&mut process, key, parent);
        let handle = self.insert(key, process);
        self.settle(handle, place);
        handle
    }

    /// Gives a new process its lineage, and the tree, place and workload of its parent. The
    /// handle of the parent may have gone stale by the parents admitted in between.
    fn inherit(&mut self, process: &mut Process, key: ProcessKey, parent: Option<Handle<Process>>) {
        let Some(parent_handle) = parent else { return };
        let Some(parent_key) = self.processes.key(parent_handle) else { return };
        let Some(parent) = self.processes.get_mut(parent_handle) else { return };
        process.parent = parent_key;
        process.lineage = parent.lineage_for_child(parent_key);
        process.place = Arc::clone(&parent.place);
        process.has_read_weights |= parent.has_read_weights;
        process.has_entered = parent.has_entered;
        let splits = parent.place.kind == WorkloadKind::Tree
            && splits_tree(parent_key, parent.parent, parent.image.exe_name());
        if splits {
            process.tree = key;
        } else {
            process.tree = parent.tree;
            process.workload = parent.workload;
        }
    }

    fn insert(&mut self, key: ProcessKey, process: Process) -> Handle<Process> {
        // Whoever had this id before has ended, whether its end was seen or not.
        if let Some(before) = self.processes.find_tgid(key.tgid) {
            self.ended(before, key.start);
        }
        let workload = process.workload;
        let (handle, victim) = self.processes.insert(key, process);
        if let Some(victim) = victim {
            self.forgotten(&victim);
        }
        if let Some(workload) = workload.and_then(|handle| self.workloads.get_mut(handle)) {
            workload.live += 1;
        }
        handle
    }

    /// Follows births, programs and ends.
    pub(super) fn follow(&mut self, event: &Event, seen: &mut Observation) {
        let Some(handle) = seen.process else { return };
        match &event.body {
            Body::TaskNew(task) if !task.is_thread => {
                self.born(handle, task);
                self.inherit_segments(handle, task.child);
            }
            Body::Exec(exec) => {
                self.drop_segments(handle);
                self.executed(handle, exec, event);
            }
            Body::Exit(_) => {
                self.drop_segments(handle);
                self.ended(handle, event.time);
            }
            Body::CgroupMove(moved) => self.moved(moved),
            _ => {}
        }
    }

    /// A child takes over what its creator runs and whom it works for.
    fn born(&mut self, creator: Handle<Process>, task: &TaskNew) {
        let Some(parent) = self.processes.get(creator) else { return };
        let (image, uid, cgroup) = (Arc::clone(&parent.image), parent.uid, parent.cgroup);
        let streams = parent.streams.for_child();
        let known = self.processes.find(task.child);
        if let Some(handle) = known {
            // A record of the child overtook the one of its birth.
            self.adopt(handle, task.child, creator);
            return;
        }
        let mut process = Process::new(task.child, uid, image);
        process.cgroup = cgroup;
        process.streams = streams;
        self.inherit(&mut process, task.child, Some(creator));
        let is_settled = process.workload.is_some();
        let handle = self.insert(task.child, process);
        if !is_settled {
            let place = self.processes.get(creator).map(|parent| Arc::clone(&parent.place));
            self.settle(handle, place);
        }
    }

    /// Writes down the lineage of a process that was known before its birth was, and joins it to
    /// the tree of its creator where only the tree tells its workload.
    fn adopt(&mut self, child: Handle<Process>, key: ProcessKey, creator: Handle<Process>) {
        let Some(process) = self.processes.get(child) else { return };
        if process.parent.tgid.0 != 0 || self.processes.key(creator) == Some(key) {
            return;
        }
        let mut draft = Process::new(key, process.uid, Arc::clone(&process.image));
        self.inherit(&mut draft, key, Some(creator));
        let image = self.processes.get(creator).map(|parent| Arc::clone(&parent.image));
        let Some(process) = self.processes.get_mut(child) else { return };
        process.parent = draft.parent;
        process.lineage = draft.lineage;
        process.has_read_weights |= draft.has_read_weights;
        if process.image.is_partial
            && let Some(image) = image
        {
            process.image = image;
        }
        let is_tree =
            process.place.kind == WorkloadKind::Tree && draft.place.kind == process.place.kind;
        if !is_tree || draft.workload.is_none() || draft.workload == process.workload {
            return;
        }
        let (left, is_living) = (process.workload, process.ended.is_none());
        process.tree = draft.tree;
        process.workload = draft.workload;
        if is_living {
            self.leave(left);
            if let Some(workload) = draft.workload.and_then(|joined| self.workloads.get_mut(joined))
            {
                workload.live += 1;
            }
        }
    }

    fn executed(&mut self, handle: Handle<Process>, exec: &Exec, event: &Event) {
        let Some(key) = self.processes.key(handle) else { return };
        let name = event.actor.as_ref().map_or("", |actor| actor.comm.as_str());
        let Some(process) = self.processes.get_mut(handle) else { return };
        let workload = process.workload;
        let image = self.image(exec, name, event.time, key.tgid, workload);
        let Some(process) = self.processes.get_mut(handle) else { return };
        process.execute(image);
        process.streams.execute();
        if let Some(actor) = &event.actor {
            process.uid = actor.uid;
        }
        let (cgroup, is_orphan) = (process.cgroup, process.parent.tgid.0 == 0);
        if is_orphan && let Some(parent) = self.recorded_parent(exec.parent) {
            self.adopt(handle, key, parent);
        }
        // The cgroup id tells nothing where a job is in a v1 hierarchy, so it is read again.
        let place = self.place(key.tgid, cgroup);
        self.settle(handle, place);
        self.refresh_names(handle);
    }

    fn ended(&mut self, handle: Handle<Process>, time: BootNs) {
        if self.processes.end(handle, time) {
            let workload = self.processes.get(handle).and_then(|process| process.workload);
            self.leave(workload);
        }
    }
}
