//! The only user of `EbpfLoader`: offsets and settings in, attached sensors out.
//!
//! A program that the kernel refuses turns its sensor off with the kernel's own words. Dropping
//! [`Loaded`] detaches everything; so does the end of the process, however it ends.

use std::collections::HashMap as HashTable;
use std::fs::File;
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuHashMap, RingBuf};
use aya::programs::ProgramType;
use aya::sys::BpfHelper;
use aya::{Btf as AyaBtf, Ebpf, EbpfLoader};
use monitor_common::{
    COUNTERS_LEN, EgressSum, Extension, InodeKey, KindCounters, NewName, RateWindow, ReaderKey,
    ReaderSum, WatchName,
};
use thiserror::Error;
use zerocopy::IntoBytes as _;

use super::attach::{self, Place, chain};
use super::catalog::CATALOG;
use super::held::Held;
use super::memory::{self, MapSize};
use super::own::Own;
use super::probe::{self, Tiers};
use super::wanted::WantedMaps;
use super::{Rings, State, Status, Wanted, object, preload};
use crate::kernel::btf::{Btf, BtfError};
use crate::kernel::offset::{self, Resolved};
use crate::kernel::support::SupportError;
use crate::kernel::tracefs::Tracefs;
use crate::model::KindSet;

/// The kernel programs.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gpuwarden-bpf"));

/// Length from which a file's name is looked at: no model is a mebibyte long, and small files are
/// what most programs open.
pub const NAME_CLASS_BYTES_MIN: u64 = 1 << 20;
/// Time for which further opens of a file by the same process are counted only: a second, as for
/// flows.
pub const OPEN_REPEAT_NS: u64 = 1_000_000_000;

/// What the kernel side is told before it is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of the high-priority ring; a power of two, at least a page.
    pub ring_high_bytes: u32,
    /// Bytes of the bulk ring; a power of two, at least a page.
    pub ring_bulk_bytes: u32,
    /// High-priority records a second that one cgroup may send on one CPU.
    pub rate_high_per_s: u64,
    /// Bulk records a second that one cgroup may send on one CPU.
    pub rate_bulk_per_s: u64,
    /// Whether flows to loopback peers are reported.
    pub report_loopback: bool,
    /// Length from which an opened file is reported whatever its name.
    pub big_file_bytes: u64,
    /// Length from which an opened file's name is looked at.
    pub name_class_bytes: u64,
    /// Time for which further opens of a file by the same process are counted only.
    pub open_repeat_ns: u64,
    /// Whether programs on functions and LSM hooks may be used, where the kernel takes them.
    pub full_tier: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ring_high_bytes: monitor_common::RING_HIGH_BYTES,
            ring_bulk_bytes: monitor_common::RING_BULK_BYTES,
            rate_high_per_s: 50_000,
            rate_bulk_per_s: 500_000,
            report_loopback: false,
            big_file_bytes: 64 << 20,
            name_class_bytes: NAME_CLASS_BYTES_MIN,
            open_repeat_ns: OPEN_REPEAT_NS,
            full_tier: true,
        }
    }
}

/// Why nothing was loaded at all.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Something that must be there is not.
    #[error(transparent)]
    Support(#[from] SupportError),
    /// The kernel's type information is of no use.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The maps could not be made, or the object is not one.
    #[error("the kernel programs could not be loaded: {0}")]
    Object(String),
    /// A sensor without which watching makes no sense is off.
    #[error("sensor {sensor} is required and off: {why}")]
    Required {
        /// The sensor.
        sensor: &'static str,
        /// Why.
        why: String,
    },
    /// The cgroup hierarchy cannot be opened.
    #[error("{path}: {source}; expected the root of the cgroup v2 hierarchy")]
    Cgroup {
        /// The directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Sensors that are attached, and the maps they share with the daemon.
pub struct Loaded {
    /// Keeps every program and link.
    pub(super) ebpf: Ebpf,
    /// Unmounts tracefs when we mounted it.
    _tracefs: Option<Tracefs>,
    /// What became of each sensor.
    pub status: Vec<Status>,
    /// Which tiers the kernel takes.
    pub tiers: Tiers,
    /// The maps, as far as their memory goes.
    pub maps: Vec<MapSize>,
    /// The fields of the running kernel.
    pub offsets: Vec<Resolved>,
    pub(super) held: Held,
    /// What is attached, to see whether somebody takes it away.
    pub(super) own: Own,
    pub(super) cgroup_root: PathBuf,
    pub(super) has_request: bool,
    pub(super) has_registers: bool,
}

/// What the daemon writes for the kernel side to read.
pub struct SharedMaps {
    labels: HashMap<MapData, InodeKey, u32>,
    marks: Array<MapData, u64>,
    /// What the map of marks holds: only this side writes it.
    mark_words: HashTable<u32, u64>,
    classes: HashMap<MapData, Extension, u32>,
    directories: HashMap<MapData, InodeKey, u32>,
    directories_on: Array<MapData, u32>,
    names: HashMap<MapData, WatchName, u32>,
    name_filter: Array<MapData, u8>,
    devices: Array<MapData, u8>,
    device_nodes: HashMap<MapData, u32, u32>,
    marked: HashMap<MapData, u64, u32>,
    marked_on: Array<MapData, u32>,
    rates: PerCpuHashMap<MapData, u64, RateWindow>,
    counters: PerCpuArray<MapData, KindCounters>,
    filters: WantedMaps,
    egress: HashMap<MapData, u64, EgressSum>,
    new_names: HashMap<MapData, u32, NewName>,
    readers: HashMap<MapData, ReaderKey, ReaderSum>,
}

/// Counters of one record kind, over all CPUs.
#[derive(Clone, Copy, Debug)]
pub struct KernelCounters {
    /// The kind.
    pub kind: u16,
    /// Its counters.
    pub counters: KindCounters,
}

/// Loads and attaches everything that this kernel takes.
pub fn load(settings: &Settings, cgroup_root: &Path) -> Result<Loaded, LoadError> {
    if OBJECT.is_empty() {
        return Err(SupportError::NoObject.into());
    }
    let types = Btf::from_kernel()?;
    let offsets = offset::resolve(&types);
    let shape = Shape {
        cast: types.function_id("bpf_rdonly_cast"),
        in_cqe: types.tracepoint_argument("io_uring_complete", 2) == Some("io_uring_cqe"),
        has_registers: has_registers(&offsets),
    };
    let has_registers = shape.has_registers;
    let has_request = types.tracepoint_takes_pointer("io_uring_complete", 1);
    drop(types);
    let tracefs = Tracefs::open();
    let mut ebpf = load_object(settings, &offsets, &shape)?;
    let btf = AyaBtf::from_sys_fs().map_err(|error| LoadError::Object(error.to_string()))?;
    let cgroup = File::open(cgroup_root)
        .map_err(|source| LoadError::Cgroup { path: cgroup_root.display().to_string(), source })?;
    let tiers = if settings.full_tier { probe::tiers(&mut ebpf, &btf) } else { Tiers::left_out() };
    let place = Place {
        btf: &btf,
        cgroup: &cgroup,
        tracefs: tracefs.as_ref(),
        tiers: &tiers,
        has_request,
        has_registers,
    };
    preload::all(&mut ebpf, &offsets, &place);
    let mut status = Vec::with_capacity(CATALOG.len());
    let mut held = Held::default();
    for sensor in CATALOG {
        let found = attach::sensor(&mut ebpf, sensor, &offsets, &place, &mut held);
        if sensor.required
            && let State::Off(why) = found.state
        {
            return Err(LoadError::Required { sensor: sensor.name, why });
        }
        status.push(found);
    }
    // Without it the monitor watches all the same; only what touches it goes untold.
    let own = Own::register(&mut ebpf, cgroup_root).unwrap_or_else(|why| {
        tracing::warn!(why, "the kernel side does not know what is the monitor's own");
        Own::default()
    });
    let maps = memory::sizes(&ebpf);
    let tracefs = tracefs.ok();
    let cgroup_root = cgroup_root.to_owned();
    Ok(Loaded {
        ebpf,
        maps,
        _tracefs: tracefs,
        status,
        tiers,
        offsets,
        held,
        own,
        cgroup_root,
        has_request,
        has_registers,
    })
}

/// What the kernel is like, beside the places of fields.
struct Shape {
    /// The kernel function that gives an address a type (6.2): fields are read by plain loads then.
    cast: Option<u32>,
    /// Whether the completion tracepoint of `io_uring` hands over a struct third (6.16).
    in_cqe: bool,
    /// Whether the exit of a system call tells what it was asked.
    has_registers: bool,
}

/// Whether a program at the exit of a system call can read the caller's registers: the helper is
/// there (5.15 and newer), and the registers are where they are looked for.
fn has_registers(offsets: &[Resolved]) -> bool {
    let registers = offsets.iter().filter(|field| field.offset.strukt == "pt_regs");
    let names: Vec<_> =
        registers.filter(|field| field.found.is_ok()).map(|field| field.offset.global).collect();
    let first = names.contains(&"OFF_REGS_0");
    let others = ["OFF_REGS_1", "OFF_REGS_2", "OFF_REGS_3", "OFF_REGS_4"];
    let has_places = first
        && (names.contains(&"OFF_REGS_ALL") || others.iter().all(|name| names.contains(name)));
    has_places
        && aya::sys::is_helper_supported(ProgramType::TracePoint, BpfHelper::BPF_FUNC_task_pt_regs)
            .inspect_err(|error| tracing::debug!(%error, "helpers cannot be asked for"))
            .unwrap_or(false)
}

fn load_object(
    settings: &Settings,
    offsets: &[Resolved],
    shape: &Shape,
) -> Result<Ebpf, LoadError> {
    let places: Vec<_> = offsets.iter().map(|field| (field.offset.global, field.place())).collect();
    let type_cast = u32::from(shape.cast.is_some());
    let in_cqe = u32::from(shape.in_cqe);
    let registers = u32::from(shape.has_registers);
    let rewritten = shape.cast.map(|id| object::with_cast(OBJECT, id));
    let bytes = rewritten.as_ref().map_or(OBJECT, |words| words.as_bytes());
    let own = std::process::id();
    let loopback = u32::from(settings.report_loopback);
    let mut loader = EbpfLoader::new();
    for (name, place) in &places {
        loader.override_global(name, place, true);
    }
    loader
        .override_global("SELF_TGID", &own, true)
        .override_global("TYPE_CAST", &type_cast, true)
        .override_global("IO_RESULT_IN_CQE", &in_cqe, true)
        .override_global("CALL_REGISTERS", &registers, true)
        .override_global("REPORT_LOOPBACK", &loopback, true)
        .override_global("BIG_FILE_BYTES", &settings.big_file_bytes, true)
        .override_global("NAME_CLASS_BYTES", &settings.name_class_bytes, true)
        .override_global("OPEN_REPEAT_NS", &settings.open_repeat_ns, true)
        .override_global("RATE_HIGH", &settings.rate_high_per_s, true)
        .override_global("RATE_BULK", &settings.rate_bulk_per_s, true)
        .map_max_entries("RING_HIGH", settings.ring_high_bytes)
        .map_max_entries("RING_BULK", settings.ring_bulk_bytes);
    loader.load(bytes).map_err(|error| LoadError::Object(chain(&error)))
}

impl Loaded {
    /// Takes a ring by its map's name. Each ring has one reader.
    fn take_ring(&mut self, name: &'static str) -> Result<RingBuf<MapData>, LoadError> {
        let map = self.ebpf.take_map(name).ok_or_else(|| missing_map(name))?;
        RingBuf::try_from(map).map_err(|error| LoadError::Object(chain(&error)))
    }

    /// Takes both rings and what their reader needs.
    pub fn take_rings(&mut self) -> Result<Rings, LoadError> {
        let idle = self.ebpf.take_map("READER_IDLE").ok_or_else(|| missing_map("READER_IDLE"))?;
        let idle = Array::try_from(idle).map_err(|error| LoadError::Object(chain(&error)))?;
        Ok(Rings { high: self.take_ring("RING_HIGH")?, bulk: self.take_ring("RING_BULK")?, idle })
    }

    /// Takes the maps the daemon writes and reads.
    pub fn take_maps(&mut self) -> Result<SharedMaps, LoadError> {
        let mut take =
            |name: &'static str| self.ebpf.take_map(name).ok_or_else(|| missing_map(name));
        let wrong = |error: aya::maps::MapError| LoadError::Object(chain(&error));
        Ok(SharedMaps {
            labels: HashMap::try_from(take("LABELS")?).map_err(wrong)?,
            marks: Array::try_from(take("MARKS")?).map_err(wrong)?,
            mark_words: HashTable::new(),
            classes: HashMap::try_from(take("NAME_CLASSES")?).map_err(wrong)?,
            directories: HashMap::try_from(take("WATCH_DIRS")?).map_err(wrong)?,
            directories_on: Array::try_from(take("WATCH_DIRS_ON")?).map_err(wrong)?,
            names: HashMap::try_from(take("WATCH_NAMES")?).map_err(wrong)?,
            name_filter: Array::try_from(take("NAME_FILTER")?).map_err(wrong)?,
            devices: Array::try_from(take("DEVICES")?).map_err(wrong)?,
            device_nodes: HashMap::try_from(take("DEVICE_NODES")?).map_err(wrong)?,
            marked: HashMap::try_from(take("MARKED_CGROUPS")?).map_err(wrong)?,
            marked_on: Array::try_from(take("MARKED_ON")?).map_err(wrong)?,
            rates: PerCpuHashMap::try_from(take("RATES")?).map_err(wrong)?,
            counters: PerCpuArray::try_from(take("COUNTERS")?).map_err(wrong)?,
            filters: WantedMaps::new(
                Array::try_from(take("UNWANTED")?).map_err(wrong)?,
                Array::try_from(take("FLOW_PORTS")?).map_err(wrong)?,
                HashMap::try_from(take("CGROUP_UNWANTED")?).map_err(wrong)?,
            ),
            egress: HashMap::try_from(take("EGRESS")?).map_err(wrong)?,
            new_names: HashMap::try_from(take("NEW_NAMES")?).map_err(wrong)?,
            readers: HashMap::try_from(take("READERS")?).map_err(wrong)?,
        })
    }

    /// Takes the task iterator's output; `None` when it is off or was taken.
    pub const fn take_iterator(&mut self) -> Option<File> {
        self.held.iterator.take()
    }

    /// Starts reading the kernel side's own log; `None` when it has none.
    pub fn logger(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        aya_log::EbpfLogger::init(&mut self.ebpf)
            .inspect_err(|error| tracing::debug!(%error, "the kernel side has no log"))
            .ok()
    }
}

fn missing_map(name: &'static str) -> LoadError {
    LoadError::Object(format!("the object has no map {name}, or it was taken"))
}

impl SharedMaps {
    /// Labels an inode, or with `None` forgets it. `false` when the map is full or refuses.
    pub fn label(&mut self, inode: InodeKey, label: Option<u32>) -> bool {
        match label {
            Some(label) => self.labels.insert(inode, label, 0).is_ok() && self.mark(inode),
            None => self.labels.remove(&inode).is_ok(),
        }
    }

    /// Gives file names with an extension a class. `false` when the map is full or the extension
    /// is longer than its bound.
    pub fn name_class(&mut self, extension: &str, class: u16) -> bool {
        Extension::new(extension.as_bytes())
            .is_some_and(|key| self.classes.insert(key, u32::from(class), 0).is_ok())
    }

    /// Takes the class of an extension back, where it has one.
    pub fn unname_class(&mut self, extension: &str) {
        if let Some(key) = Extension::new(extension.as_bytes()) {
            // One that was never there is as good as removed.
            drop(self.classes.remove(&key));
        }
    }

    /// Watches a directory: every file opened in it is reported. `false` when the map is full.
    pub fn watch_directory(&mut self, inode: InodeKey) -> bool {
        self.directories.insert(inode, 1, 0).is_ok()
            && self.mark(inode)
            && self.directories_on.set(0, 1, 0).is_ok()
    }

    /// Watches a directory no longer.
    pub fn unwatch_directory(&mut self, inode: InodeKey) {
        // One that was never there is as good as removed.
        drop(self.directories.remove(&inode));
    }

    /// Sets the bit of an inode's number. It stays when the inode's label goes: it may be another's
    /// too, and costs a look into a map.
    fn mark(&mut self, inode: InodeKey) -> bool {
        let (word, bit) = monitor_common::mark_of(inode.inode);
        let bits = self.mark_words.entry(word).or_insert(0);
        *bits |= bit;
        self.marks.set(word, *bits, 0).is_ok()
    }

    /// Watches a name of files or directories. `false` when the map is full.
    pub fn watch_name(&mut self, name: WatchName, bits: u32) -> bool {
        self.names.insert(name, bits, 0).is_ok() && self.name_filter.set(name.slot(), 1, 0).is_ok()
    }

    /// Watches a name no longer. Its slot in the filter stays: it may be another's too.
    pub fn unwatch_name(&mut self, name: WatchName) {
        drop(self.names.remove(&name));
    }

    /// Watches a major number of character devices, whole or in part. `false` for a number beyond
    /// what the kernel gives out.
    pub fn watch_major(&mut self, major: u32, how: u8) -> bool {
        self.devices.set(major, how, 0).is_ok()
    }

    /// Watches one device node of a major that is watched in part. `false` when the map is full.
    pub fn watch_node(&mut self, rdev: u32) -> bool {
        self.device_nodes.insert(rdev, 1, 0).is_ok()
    }

    /// Has every file told of that is opened for writing in a cgroup. The map forgets the cgroup
    /// that was looked for longest ago.
    pub fn mark_cgroup(&mut self, cgroup: u64) -> bool {
        self.marked.insert(cgroup, 1, 0).is_ok() && self.marked_on.set(0, 1, 0).is_ok()
    }

    /// The name that a process last asked to give a file.
    pub fn new_name(&self, tgid: u32) -> Option<NewName> {
        self.new_names.get(&tgid, 0).ok()
    }

    /// What a process read of a labelled file so far.
    pub fn bytes_read(&self, reader: &ReaderKey) -> Option<ReaderSum> {
        self.readers.get(reader, 0).ok()
    }

    /// The same of a process that has ended, whose sum is of no more use.
    pub fn bytes_read_at_end(&mut self, reader: &ReaderKey) -> Option<ReaderSum> {
        let sum = self.bytes_read(reader);
        // One that the map forgot is as good as removed.
        drop(self.readers.remove(reader));
        sum
    }

    /// Tells the kernel side what nobody needs. `false` when it refuses.
    pub fn want(&mut self, wanted: &Wanted) -> bool {
        self.filters.tell(wanted)
    }

    /// Tells the kernel side which kinds of event nobody needs of a cgroup; with an empty set that
    /// all are wanted. `false` when the map is full or refuses: all are wanted then.
    pub fn spare_cgroup(&mut self, cgroup: u64, kinds: KindSet) -> bool {
        self.filters.spare_cgroup(cgroup, kinds)
    }

    /// The counters of every kind, summed over CPUs.
    pub fn counters(&self) -> Vec<KernelCounters> {
        (0..COUNTERS_LEN)
            .filter_map(|index| {
                let kind = u16::try_from(index).ok()?;
                monitor_common::kind_name(kind)?;
                let mut counters = KindCounters::default();
                for cpu in self.counters.get(&index, 0).ok()?.iter() {
                    counters.add(cpu);
                }
                Some(KernelCounters { kind, counters })
            })
            .collect()
    }

    /// Payload bytes by cgroup of the socket, as the socket layer and as packets have it.
    pub fn egress(&self) -> Vec<(u64, EgressSum)> {
        self.egress.iter().filter_map(Result::ok).collect()
    }

    /// The cgroup whose records were refused most often, and how often.
    pub fn noisiest(&self) -> Option<(u64, u64)> {
        const LANE_BITS: u64 = monitor_common::RATE_HIGH_BIT | monitor_common::RATE_MESSAGE_BIT;
        self.rates
            .iter()
            .filter_map(Result::ok)
            .map(|(key, windows)| {
                (key & !LANE_BITS, windows.iter().map(|window| window.refused).sum::<u64>())
            })
            .filter(|(_, refused)| *refused > 0)
            .max_by_key(|(_, refused)| *refused)
    }
}
