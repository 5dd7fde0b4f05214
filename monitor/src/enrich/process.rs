//! The process table: who exists, what it runs, whose child it is.
//!
//! Lineage is written down when a process is born and never changed: when its parent ends, or
//! when it is given another parent, the recorded ancestors stay what they were.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use hashbrown::DefaultHashBuilder;

use super::interpreter;
use super::limit::{ENDED_GRACE_NS, LINEAGE_DEPTH_MAX, LINEAGE_ELDEST_KEPT, PROCESSES_MAX};
use super::place::Place;
use super::stream::Streams;
use super::table::{Handle, Table};
use super::workload::Workload;
use crate::model::{BootNs, CgroupId, FileId, ProcessKey, Tgid};

/// The program a process runs. Shared by a parent and the children that have not executed
/// anything else.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four facts, not a state in disguise")]
pub(super) struct Image {
    /// Name (comm) when it was executed.
    pub(super) name: String,
    pub(super) exe: String,
    pub(super) exe_id: FileId,
    pub(super) args: Vec<String>,
    pub(super) args_truncated: bool,
    pub(super) cwd: String,
    pub(super) is_memfd: bool,
    pub(super) is_deleted: bool,
    /// Whether neither an exec record nor `/proc` told anything beyond the name.
    pub(super) is_partial: bool,
    /// Seconds between the last change of the executable and its execution.
    pub(super) exe_age_seconds: Option<f64>,
    /// Whether the workload that runs it wrote it.
    pub(super) exe_written_here: Option<bool>,
    /// `LD_PRELOAD` at exec.
    pub(super) ld_preload: Option<String>,
    pub(super) cmdline: OnceLock<String>,
    pub(super) script: OnceLock<Option<String>>,
}

impl Image {
    /// Arguments joined by spaces; put together when first asked for.
    pub(super) fn cmdline(&self) -> &str {
        self.cmdline.get_or_init(|| self.args.join(" "))
    }

    /// The script that an interpreter runs; found when first asked for.
    pub(super) fn script(&self) -> Option<&str> {
        let find = || interpreter::script(&self.exe, &self.args, &self.cwd);
        self.script.get_or_init(find).as_deref()
    }

    /// Last part of the executable's path.
    pub(super) fn exe_name(&self) -> &str {
        self.exe.rsplit('/').next().unwrap_or("")
    }
}

/// One ancestor as it was when the line below it began.
#[derive(Clone, Debug)]
pub(super) struct Ancestor {
    pub(super) key: ProcessKey,
    pub(super) uid: u32,
    pub(super) image: Arc<Image>,
}

/// The ancestors of a process, parent first, bounded.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    ancestors: Vec<Ancestor>,
    names: OnceLock<Vec<String>>,
    exes: OnceLock<Vec<String>>,
}

impl Lineage {
    pub(super) fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }

    pub(super) fn names(&self) -> &[String] {
        self.names.get_or_init(|| self.each(|image| &image.name))
    }

    pub(super) fn exes(&self) -> &[String] {
        self.exes.get_or_init(|| self.each(|image| &image.exe))
    }

    fn each(&self, what: impl Fn(&Image) -> &str) -> Vec<String> {
        self.ancestors.iter().map(|ancestor| what(&ancestor.image).to_owned()).collect()
    }

    /// The lineage of a child of `parent`, whose own lineage this is.
    pub(super) fn below(&self, parent: Ancestor) -> Self {
        let mut ancestors = Vec::with_capacity((self.ancestors.len() + 1).min(LINEAGE_DEPTH_MAX));
        ancestors.push(parent);
        ancestors.extend(self.ancestors.iter().cloned());
        if ancestors.len() > LINEAGE_DEPTH_MAX {
            ancestors.remove(LINEAGE_DEPTH_MAX - LINEAGE_ELDEST_KEPT);
        }
        Self { ancestors, ..Self::default() }
    }
}

/// A process.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four facts, not a state in disguise")]
pub(super) struct Process {
    /// Creator, as recorded at birth; zero where not known.
    pub(super) parent: ProcessKey,
    pub(super) uid: u32,
    pub(super) image: Arc<Image>,
    pub(super) lineage: Arc<Lineage>,
    /// The lineage that children born now get; made with the first of them.
    for_children: Option<Arc<Lineage>>,
    /// cgroup of the latest record.
    pub(super) cgroup: CgroupId,
    pub(super) place: Arc<Place>,
    pub(super) workload: Option<Handle<Workload>>,
    /// Root of the process tree inside the workload.
    pub(super) tree: ProcessKey,
    pub(super) ended: Option<BootNs>,
    /// Whether it, or an ancestor before it was born, opened labelled weights for reading.
    pub(super) has_read_weights: bool,
    /// Whether it has segments of System V shared memory.
    pub(super) has_segments: bool,
    /// What its standard streams are.
    pub(super) streams: Streams,
    /// Whether it, or an ancestor, came into its container from outside.
    pub(super) has_entered: bool,
    /// Whether the start in the key came from `/proc`, cut to a tick.
    pub(super) is_approximate: bool,
}

impl Process {
    pub(super) fn new(key: ProcessKey, uid: u32, image: Arc<Image>) -> Self {
        Self {
            parent: ProcessKey::default(),
            uid,
            image,
            lineage: Arc::default(),
            for_children: None,
            cgroup: CgroupId(0),
            place: Arc::default(),
            workload: None,
            tree: key,
            ended: None,
            has_read_weights: false,
            has_segments: false,
            streams: Streams::default(),
            has_entered: false,
            is_approximate: false,
        }
    }

    /// Replaces the program. Children born before keep the old one in their lineage.
    pub(super) fn execute(&mut self, image: Image) {
        self.image = Arc::new(image);
        self.for_children = None;
    }

    /// The lineage of a child born now.
    pub(super) fn lineage_for_child(&mut self, key: ProcessKey) -> Arc<Lineage> {
        let Self { uid, image, lineage, for_children, .. } = self;
        let made = for_children.get_or_insert_with(|| {
            Arc::new(lineage.below(Ancestor { key, uid: *uid, image: Arc::clone(image) }))
        });
        Arc::clone(made)
    }
}

/// A clock tick of `/proc/PID/stat` on every Linux in use, in nanoseconds.
const TICK_NS: u64 = 10_000_000;

/// Every process that is known, bounded.
pub(super) struct Processes {
    table: Table<ProcessKey, Process>,
    by_tgid: HashMap<Tgid, Handle<Process>, DefaultHashBuilder>,
    /// Ended processes in the order of their end.
    ended: VecDeque<(BootNs, Handle<Process>)>,
}

impl Processes {
    pub(super) fn new(processes_max: usize) -> Self {
        Self {
            table: Table::new(processes_max.min(PROCESSES_MAX)),
            by_tgid: HashMap::default(),
            ended: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    pub(super) fn get(&self, handle: Handle<Process>) -> Option<&Process> {
        self.table.get(handle)
    }

    pub(super) fn get_mut(&mut self, handle: Handle<Process>) -> Option<&mut Process> {
        self.table.get_mut(handle)
    }

    pub(super) fn key(&self, handle: Handle<Process>) -> Option<ProcessKey> {
        self.table.key(handle).copied()
    }

    pub(super) fn touch(&mut self, handle: Handle<Process>) {
        self.table.touch(handle);
    }

    /// The process with this key. One that `/proc` told of is found by its tick, and from then on
    /// carries the exact key.
    pub(super) fn find(&mut self, key: ProcessKey) -> Option<Handle<Process>> {
        if let Some(handle) = self.table.find(&key) {
            return Some(handle);
        }
        let handle = *self.by_tgid.get(&key.tgid)?;
        let known = self.key(handle)?;
        let process = self.table.get_mut(handle)?;
        if !process.is_approximate || !is_same_start(known.start, key.start) {
            return None;
        }
        process.is_approximate = false;
        if process.tree == known {
            process.tree = key;
        }
        self.table.rekey(handle, key);
        Some(handle)
    }

    /// The process with exactly this key.
    pub(super) fn lookup(&self, key: ProcessKey) -> Option<&Process> {
        self.table.get(self.table.find(&key)?)
    }

    /// Living processes of a workload, the latest to act first, at most `processes_max`.
    pub(super) fn of_workload(
        &self,
        workload: Handle<Workload>,
        processes_max: usize,
    ) -> Vec<ProcessKey> {
        let living = self.table.oldest_first().filter_map(|handle| {
            let process = self.table.get(handle)?;
            let is_its = process.workload == Some(workload) && process.ended.is_none();
            is_its.then(|| self.table.key(handle).copied())?
        });
        let mut keys: Vec<ProcessKey> = living.collect();
        keys.reverse();
        keys.truncate(processes_max);
        keys
    }

    /// Living processes of a cgroup, or of any where it is zero, with their workloads; the latest
    /// to act first, at most `processes_max`.
    pub(super) fn living_in(
        &self,
        cgroup: CgroupId,
        processes_max: usize,
    ) -> Vec<(ProcessKey, Option<Handle<Workload>>)> {
        let living = self.table.oldest_first().filter_map(|handle| {
            let process = self.table.get(handle)?;
            let is_there = cgroup.0 == 0 || process.cgroup == cgroup;
            let key = (is_there && process.ended.is_none()).then(|| self.table.key(handle))??;
            Some((*key, process.workload))
        });
        let mut living: Vec<_> = living.collect();
        living.reverse();
        living.truncate(processes_max);
        living
    }

    /// Of the processes of a cgroup, the latest to act, whether it has ended or not.
    pub(super) fn latest_in(&self, cgroup: CgroupId) -> Option<&Process> {
        let all = self.table.oldest_first().filter_map(|handle| self.table.get(handle));
        all.filter(|process| process.cgroup == cgroup).last()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.table.oldest_first().filter_map(|handle| self.table.get(handle))
    }

    /// The latest process with this id, whatever its start.
    pub(super) fn find_tgid(&self, tgid: Tgid) -> Option<Handle<Process>> {
        self.by_tgid.get(&tgid).copied().filter(|handle| self.table.get(*handle).is_some())
    }

    /// Adds a process that is not in the table; returns what had to make room.
    pub(super) fn insert(
        &mut self,
        key: ProcessKey,
        process: Process,
    ) -> (Handle<Process>, Option<Process>) {
        let mut victim = None;
        while victim.is_none() && self.table.is_full() {
            // Those who have ended go first, then whoever was silent for the longest: if it is
            // alive, `/proc` tells of it again when it acts.
            victim = match self.ended.pop_front() {
                Some((_, handle)) => self.forget(handle, true),
                None => self.table.evict_oldest().map(|(key, process)| self.unlist(key, process)),
            };
        }
        let (handle, _) = self.table.insert(key, process);
        self.by_tgid.insert(key.tgid, handle);
        (handle, victim)
    }

    /// Notes the end of a process; true when it was not known to have ended.
    pub(super) fn end(&mut self, handle: Handle<Process>, time: BootNs) -> bool {
        let Some(process) = self.table.get_mut(handle) else { return false };
        if process.ended.is_some() {
            return false;
        }
        process.ended = Some(time);
        self.ended.push_back((time, handle));
        true
    }

    /// Forgets one process whose grace is over; `None` when none is left.
    pub(super) fn expire(&mut self, now: BootNs) -> Option<Process> {
        loop {
            let (ended, handle) = *self.ended.front()?;
            // The queue may hold as many as the table, not more: each was in it once.
            if now.since(ended) <= ENDED_GRACE_NS && self.ended.len() <= PROCESSES_MAX {
                return None;
            }
            self.ended.pop_front();
            if let Some(process) = self.forget(handle, false) {
                return Some(process);
            }
        }
    }

    fn forget(&mut self, handle: Handle<Process>, is_eviction: bool) -> Option<Process> {
        let taken = if is_eviction { self.table.evict(handle) } else { self.table.remove(handle) };
        taken.map(|(key, process)| self.unlist(key, process))
    }

    fn unlist(&mut self, key: ProcessKey, process: Process) -> Process {
        if self.by_tgid.get(&key.tgid).is_some_and(|handle| self.table.get(*handle).is_none()) {
            self.by_tgid.remove(&key.tgid);
        }
        process
    }
}

/// Whether two starts can be one: `/proc` tells ticks, and rounds as it likes.
pub(super) fn is_same_start(one: BootNs, other: BootNs) -> bool {
    (one.0 / TICK_NS).abs_diff(other.0 / TICK_NS) <= 1
}
