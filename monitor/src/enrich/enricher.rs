//! The state of this stage, and what an event does to it.

use std::sync::Arc;

use super::budget::{Budgets, Use};
use super::content::{Classes, FileClass};
use super::derivation::Written;
use super::facts::Enriched;
use super::far::{FarEnd, FarKey, FarLooks};
use super::file::ReadSum;
use super::flow::{First, Flows};
use super::gpu::GpuNode;
use super::handed::Handed;
use super::label::{LabelChange, LabelSeed, Labelled, Labels};
use super::limit::{
    CONTAINERS_MAX, FIRST_BYTES_FLOWS_MAX, LINK_PAIRS_MAX, PIPES_MAX, PLACES_MAX, PROCESSES_MAX,
    READS_MAX, WRITTEN_MAX,
};
use super::link::{Pair, Passed};
use super::pipe::{Pipe, PipeId};
use super::place::Place;
use super::process::{Process, Processes};
use super::profile::{Allocations, GpuFeatures, NoAllocations, NoNames, Profiles, WorkloadNames};
use super::question::Questions;
use super::shared_memory::Segments;
use super::source::ProcSource;
use super::stream::Relays;
use super::table::{Handle, Table};
use super::workload::{Workload, Workloads};
use crate::config::{KernelConfig, NameClasses, WatchConfig};
use crate::model::{Body, BootNs, CgroupId, Clock, Event, FileId, ProcessKey, Tgid, WorkloadId};

/// What this stage is told at start.
#[derive(Clone, Debug, Default)]
pub struct EnrichConfig {
    /// Globs of weight files.
    pub weights: Vec<String>,
    /// File-name extensions by class.
    pub name_classes: NameClasses,
    /// Size from which a file is looked at whatever its name, in bytes.
    pub big_file_bytes: u64,
    /// The daemon's own process, whose reads are not looked into.
    pub own: Tgid,
}

impl EnrichConfig {
    /// What the configuration says of this stage.
    pub fn new(watch: &WatchConfig, kernel: &KernelConfig, own: Tgid) -> Self {
        Self {
            weights: watch.weights.clone(),
            name_classes: watch.name_classes.clone(),
            big_file_bytes: kernel.big_file_bytes,
            own,
        }
    }
}

/// Where an event found its process, workload, flow and label. It stays good until the next
/// event is observed.
#[derive(Debug, Default)]
pub struct Observation {
    pub(super) process: Option<Handle<Process>>,
    pub(super) workload: Option<Handle<Workload>>,
    pub(super) flow: Option<Handle<super::flow::FlowState>>,
    pub(super) label: Option<Handle<Labelled>>,
    pub(super) class: FileClass,
    /// The fullest budget of the profile that covers the peer.
    pub(super) budget: Option<Use>,
    /// What the kernel's label map must follow.
    pub label_changes: Vec<LabelChange>,
    /// A cgroup in which the kernel side must tell of every file opened for writing from now on.
    pub mark: Option<CgroupId>,
}

/// How full the tables are, and what had to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnrichCounters {
    /// Processes known now.
    pub processes: usize,
    /// Processes that made room for others.
    pub processes_evicted: u64,
    /// Processes of which only the name is known.
    pub processes_partial: u64,
    /// Workloads known now.
    pub workloads: usize,
    /// Workloads that made room for others.
    pub workloads_evicted: u64,
    /// Moves to another cgroup that did not change the workload.
    pub moves_refused: u64,
    /// Flows known now.
    pub flows: usize,
    /// Flows that made room for others.
    pub flows_evicted: u64,
    /// Labelled files.
    pub labels: usize,
    /// Labels that made room for others.
    pub labels_evicted: u64,
    /// Files left unlabelled because there were too many models.
    pub labels_refused: u64,
    /// Files not looked into because too many were opened at once.
    pub heads_unread: u64,
    /// Names of addresses known now.
    pub names: usize,
    /// Names that were still good and made room for others.
    pub names_evicted: u64,
    /// Answers of resolvers that nobody had asked for.
    pub answers_refused: u64,
    /// Messages and streams of resolvers that could not be read.
    pub dns_unread: u64,
    /// Budgets whose bytes are counted.
    pub budgets: usize,
    /// Budgets that made room for others.
    pub budgets_evicted: u64,
    /// (workload, file) pairs that made room for others.
    pub reads_evicted: u64,
}

/// Joins every event with what is known of its process, workload, files and GPUs.
///
/// For each event: [`Enricher::observe`], then [`Enricher::facts`] for the rules, and
/// [`Enricher::evidence`] for those that matched.
pub struct Enricher {
    pub(super) clock: Clock,
    pub(super) own: Tgid,
    /// Inode of the mount namespace of process 1; `None` where it cannot be read.
    pub(super) host_mount_ns: Option<u32>,
    pub(super) source: Box<dyn ProcSource>,
    pub(super) profiles: Arc<dyn Profiles>,
    pub(super) profiles_epoch: u64,
    pub(super) names: Arc<dyn WorkloadNames>,
    pub(super) allocations: Arc<dyn Allocations>,
    pub(super) gpu_nodes: Vec<GpuNode>,
    pub(super) processes: Processes,
    pub(super) partial: u64,
    pub(super) workloads: Workloads,
    pub(super) moves_refused: u64,
    pub(super) places_by_id: Table<CgroupId, Arc<Place>>,
    pub(super) places_by_text: Table<Box<str>, Arc<Place>>,
    pub(super) labels: Labels,
    pub(super) reads: Table<(Handle<Workload>, FileId), ReadSum>,
    /// Whether bytes read are counted, so that an open does not stand for the whole file.
    pub(super) reads_exact: bool,
    /// Files being written by workloads that have read weights.
    pub(super) written: Table<FileId, Written>,
    /// Of these, the ones that nobody has marked yet.
    pub(super) followed: Vec<(FileId, Tgid, String)>,
    /// Cgroups in which every file opened for writing is told of.
    pub(super) marked: Table<CgroupId, ()>,
    pub(super) flows: Flows,
    /// First bytes of flows that do not say yet what they are.
    pub(super) firsts: Table<u64, First>,
    pub(super) questions: Questions,
    /// What workloads that have read weights passed on to others, and whether these had asked.
    pub(super) links: Table<Pair, Passed>,
    /// Who may have been given memory without a name.
    pub(super) handed: Handed,
    /// System V shared memory, by who has it attached.
    pub(super) segments: Segments,
    /// Files that are followed no longer.
    pub(super) unfollowed: Vec<FileId>,
    /// Pipes, by who reads them.
    pub(super) pipes: Table<PipeId, Pipe>,
    /// Who was found at the far end of a local channel.
    pub(super) far_ends: Table<FarKey, FarEnd>,
    pub(super) far_looks: FarLooks,
    /// Events that followed from the one that was completed last.
    pub(super) found: Vec<Event>,
    pub(super) relays: Relays,
    /// First process seen of each container, by its id.
    pub(super) containers: Table<Box<str>, ProcessKey>,
    pub(super) budgets: Budgets,
    /// Names of addresses over all workloads.
    pub(super) names_len: usize,
    pub(super) names_evicted: u64,
}

impl Enricher {
    /// An empty state.
    pub fn new(
        config: &EnrichConfig,
        profiles: Arc<dyn Profiles>,
        clock: Clock,
        source: Box<dyn ProcSource>,
    ) -> Self {
        let classes = Classes::new(&config.name_classes);
        Self {
            clock,
            own: config.own,
            host_mount_ns: source.mount_ns(Tgid(1)),
            source,
            profiles,
            profiles_epoch: 1,
            names: Arc::new(NoNames),
            allocations: Arc::new(NoAllocations),
            gpu_nodes: Vec::new(),
            processes: Processes::new(PROCESSES_MAX),
            partial: 0,
            workloads: Workloads::new(),
            moves_refused: 0,
            places_by_id: Table::new(PLACES_MAX),
            places_by_text: Table::new(PLACES_MAX),
            labels: Labels::new(&config.weights, classes, config.big_file_bytes),
            reads: Table::new(READS_MAX),
            reads_exact: false,
            written: Table::new(WRITTEN_MAX),
            followed: Vec::new(),
            marked: Table::new(monitor_common::MARKED_CGROUPS_MAX as usize),
            flows: Flows::new(),
            firsts: Table::new(FIRST_BYTES_FLOWS_MAX),
            questions: Questions::new(),
            links: Table::new(LINK_PAIRS_MAX),
            handed: Handed::default(),
            segments: Segments::default(),
            unfollowed: Vec::new(),
            pipes: Table::new(PIPES_MAX),
            far_ends: Table::new(LINK_PAIRS_MAX),
            far_looks: FarLooks::default(),
            found: Vec::new(),
            relays: Relays::default(),
            containers: Table::new(CONTAINERS_MAX),
            budgets: Budgets::new(),
            names_len: 0,
            names_evicted: 0,
        }
    }

    /// Asks these for the names of workloads from now on.
    pub fn set_names(&mut self, names: Arc<dyn WorkloadNames>) {
        self.names = names;
    }

    /// Asks these for the allocations of GPUs from now on.
    pub fn set_allocations(&mut self, allocations: Arc<dyn Allocations>) {
        self.allocations = allocations;
    }

    /// Takes the GPUs of this host, so that an opened device node tells which GPU it is.
    pub fn set_gpu_nodes(&mut self, nodes: Vec<GpuNode>) {
        self.gpu_nodes = nodes;
    }

    /// Takes a new set of profiles; each workload is asked again at its next event.
    pub fn set_profiles(&mut self, profiles: Arc<dyn Profiles>) {
        self.profiles = profiles;
        self.profiles_epoch += 1;
    }

    /// Labels a file that the scan at start found.
    pub fn label(&mut self, seed: &LabelSeed) -> Vec<LabelChange> {
        let mut changes = Vec::new();
        self.labels.add(seed, &mut changes);
        changes
    }

    /// Takes an event in. After this, its facts and evidence can be asked for.
    pub fn observe(&mut self, event: &Event) -> Observation {
        self.expire(event.time);
        let mut seen = Observation { process: self.subject(event), ..Observation::default() };
        self.follow(event, &mut seen);
        seen.workload = seen.process.and_then(|process| self.workload_of(process, event.time));
        if let Body::SensorNote(note) = &event.body {
            seen.workload = note.cgroup.and_then(|cgroup| self.workload_in(cgroup));
        }
        self.apply(event, &mut seen);
        self.select_profile(event, &seen);
        self.guess_role(event, &seen);
        self.spend(event, &mut seen);
        seen
    }

    /// What rules may ask about an event that was just observed.
    pub fn facts<'e>(
        &'e self,
        event: &'e Event,
        seen: &Observation,
        gpus: &'e dyn GpuFeatures,
    ) -> Enriched<'e> {
        Enriched::new(self, event, seen, gpus)
    }

    /// Root of the process tree of an event that was just observed: what GPU features are kept by.
    pub fn tree(&self, seen: &Observation) -> Option<ProcessKey> {
        Some(self.processes.get(seen.process?)?.tree)
    }

    /// Workload of an event that was just observed.
    pub fn workload_id(&self, seen: &Observation) -> Option<&WorkloadId> {
        Some(&self.workloads.get(seen.workload?)?.id)
    }

    /// How full the tables are.
    pub fn counters(&self) -> EnrichCounters {
        EnrichCounters {
            processes: self.processes.len(),
            processes_evicted: self.processes.evicted(),
            processes_partial: self.partial,
            workloads: self.workloads.len(),
            workloads_evicted: self.workloads.evicted(),
            moves_refused: self.moves_refused,
            flows: self.flows.len(),
            flows_evicted: self.flows.evicted(),
            labels: self.labels.len(),
            labels_evicted: self.labels.evicted(),
            labels_refused: self.labels.refused,
            heads_unread: self.labels.unread,
            names: self.names_len,
            names_evicted: self.names_evicted,
            answers_refused: self.questions.answers_refused,
            dns_unread: self.questions.unread,
            budgets: self.budgets.len(),
            budgets_evicted: self.budgets.evicted(),
            reads_evicted: self.reads.evicted(),
        }
    }

    fn expire(&mut self, now: BootNs) {
        while let Some(process) = self.processes.expire(now) {
            self.forgotten(&process);
        }
        self.flows.forget_ended();
    }

    /// A process left the table.
    pub(super) fn forgotten(&mut self, process: &Process) {
        if process.ended.is_none() {
            self.leave(process.workload);
        }
    }

    /// One living process less for a workload.
    pub(super) fn leave(&mut self, workload: Option<Handle<Workload>>) {
        if let Some(workload) = workload.and_then(|handle| self.workloads.get_mut(handle)) {
            workload.live = workload.live.saturating_sub(1);
        }
    }

    /// Asks the profiles, when nobody has been asked for this workload yet or when a program was
    /// executed in it. A workload keeps the profile that first selected it: executing a shell must
    /// not shed a declaration. Only a stricter one, that isolates, replaces it.
    fn select_profile(&mut self, event: &Event, seen: &Observation) {
        let Some(handle) = seen.workload else { return };
        let Some(workload) = self.workloads.get(handle) else { return };
        let is_new = workload.profiles_epoch != self.profiles_epoch;
        if !is_new && !matches!(event.body, crate::model::Body::Exec(_)) {
            return;
        }
        let profile = self.profiles.select(&self.facts(event, seen, &super::profile::NoGpu));
        let epoch = self.profiles_epoch;
        let Some(workload) = self.workloads.get_mut(handle) else { return };
        workload.profiles_epoch = epoch;
        let replaces = match (&workload.profile, &profile) {
            (_, None) => is_new,
            (None, Some(_)) => true,
            (Some(_), Some(new)) => is_new || (new.isolated && !workload.is_isolated()),
        };
        if replaces {
            workload.profile = profile;
        }
    }
}
