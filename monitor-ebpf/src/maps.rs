//! Every map. Sizes are in `monitor_common::limits`, reasons in `LIMITS.md`.

mod act;

pub(crate) use act::*;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, LruPerCpuHashMap, PerCpuArray, RingBuf};
use monitor_common::{
    ASKED_MAX, CGROUP_MASKS_MAX, CHANGE_SLOTS_MAX, CHECKS_MAX, COUNTERS_LEN, DEVICE_MAJORS,
    DEVICE_NODES_MAX, EGRESS_CGROUPS_MAX, EgressSum, Extension, FLOW_PORT_WORDS, FLOW_SLOTS_MAX,
    FLOWS_MAX, InodeKey, KindCounters, LABELS_MAX, LINKS_MAX, LOOPBACK_ENDS_MAX, MARK_WORDS,
    MARKED_CGROUPS_MAX, NAME_CLASSES_MAX, NAME_SLOTS, OPEN_SLOTS_MAX, OPENS_MAX, RATE_CGROUPS_MAX,
    RAW_PEERS_MAX, READERS_MAX, RING_BULK_BYTES, RING_HIGH_BYTES, RateWindow, ReaderKey, ReaderSum,
    SEND_PEERS_MAX, SOCKETS_MAX, UNWANTED_LEN, WATCH_DIRS_MAX, WATCH_NAMES_MAX, WRITERS_MAX,
    WatchName, Writer,
};

use crate::emit::{ChangeScratch, ExecScratch, OpenScratch};
use crate::flow::{FlowKey, FlowState, Peer, STARTERS, SendPeer};
use crate::hook::file::OpenKey;
use crate::hook::packet::Asked;
use crate::relay::LinkSum;

/// Process life, flow starts, label hits.
#[map]
pub(crate) static RING_HIGH: RingBuf = RingBuf::with_byte_size(RING_HIGH_BYTES, 0);

/// Everything else.
#[map]
pub(crate) static RING_BULK: RingBuf = RingBuf::with_byte_size(RING_BULK_BYTES, 0);

/// Whether the reader sleeps until it is woken: one entry, set by the daemon, cleared by who wakes
/// it.
#[map]
pub(crate) static READER_IDLE: Array<u32> = Array::with_max_entries(1, 0);

/// The end of the high-priority ring when the reader was last woken for it: one entry.
#[map]
pub(crate) static WOKEN: Array<u64> = Array::with_max_entries(1, 0);

/// Counters by record kind.
#[map]
pub(crate) static COUNTERS: PerCpuArray<KindCounters> =
    PerCpuArray::with_max_entries(COUNTERS_LEN, 0);

/// One bit for each inode that is labelled or a watched directory, by a hash of its number; read
/// before one of those maps is asked.
#[map]
pub(crate) static MARKS: Array<u64> = Array::with_max_entries(MARK_WORDS, 0);

/// Labelled inodes; written by the daemon.
#[map]
pub(crate) static LABELS: HashMap<InodeKey, u32> = HashMap::with_max_entries(LABELS_MAX, 0);

/// Whether any directory is watched: one entry, read before the map below is asked.
#[map]
pub(crate) static WATCH_DIRS_ON: Array<u32> = Array::with_max_entries(1, 0);

/// Watched directories; written by the daemon.
#[map]
pub(crate) static WATCH_DIRS: HashMap<InodeKey, u32> = HashMap::with_max_entries(WATCH_DIRS_MAX, 0);

/// What no rule, profile or account needs, as sets of bits: record kinds, address families of rare
/// sockets, record kinds of some cgroup, address families of flows (`UNWANTED_*`). All is wanted
/// until the daemon says otherwise.
#[map]
pub(crate) static UNWANTED: Array<u64> = Array::with_max_entries(UNWANTED_LEN, 0);

/// Record kinds that no rule can need of a cgroup, a bit for each; written by the daemon. A cgroup
/// that is not in here is one of which everything is wanted.
#[map]
pub(crate) static CGROUP_UNWANTED: HashMap<u64, u64> =
    HashMap::with_max_entries(CGROUP_MASKS_MAX, 0);

/// Remote ports of flows that some rule needs, a bit for each; asked only where that is said.
#[map]
pub(crate) static FLOW_PORTS: Array<u64> = Array::with_max_entries(FLOW_PORT_WORDS, 0);

/// When each process last opened each wanted file: what repeats within a moment is counted only.
#[map]
pub(crate) static OPENS: LruHashMap<OpenKey, u64> = LruHashMap::with_max_entries(OPENS_MAX, 0);

/// File-name extensions with a class; written by the daemon.
#[map]
pub(crate) static NAME_CLASSES: HashMap<Extension, u32> =
    HashMap::with_max_entries(NAME_CLASSES_MAX, 0);

/// Which slots of names are taken: a read of one byte tells most names from watched ones.
#[map]
pub(crate) static NAME_FILTER: Array<u8> = Array::with_max_entries(NAME_SLOTS, 0);

/// Watched names of files and directories; written by the daemon.
#[map]
pub(crate) static WATCH_NAMES: HashMap<WatchName, u32> =
    HashMap::with_max_entries(WATCH_NAMES_MAX, 0);

/// What is watched of each major number of character devices (`MAJOR_*`); written by the daemon.
#[map]
pub(crate) static DEVICES: Array<u8> = Array::with_max_entries(DEVICE_MAJORS, 0);

/// Watched device nodes of majors that are not watched whole; written by the daemon.
#[map]
pub(crate) static DEVICE_NODES: HashMap<u32, u32> = HashMap::with_max_entries(DEVICE_NODES_MAX, 0);

/// Whether any cgroup is marked: one entry, read before the map below is asked.
#[map]
pub(crate) static MARKED_ON: Array<u32> = Array::with_max_entries(1, 0);

/// Cgroups whose files opened for writing are reported: those that labelled files were read in, as
/// this side sees it, and those that the daemon adds. A full map forgets the one that wrote longest
/// ago.
#[map]
pub(crate) static MARKED_CGROUPS: LruHashMap<u64, u32> =
    LruHashMap::with_max_entries(MARKED_CGROUPS_MAX, 0);

/// Who opened each file for writing last: asked when one is executed.
#[map]
pub(crate) static WRITERS: LruHashMap<InodeKey, Writer> =
    LruHashMap::with_max_entries(WRITERS_MAX, 0);

/// Bytes read through io_uring by process and labelled file.
#[map]
pub(crate) static READERS: LruHashMap<ReaderKey, ReaderSum> =
    LruHashMap::with_max_entries(READERS_MAX, 0);

/// Flows that are counted.
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, FlowState> =
    LruHashMap::with_max_entries(FLOWS_MAX, 0);

/// The last flow of each socket that is no stream, by the kernel's name for the socket.
#[map]
pub(crate) static SOCKETS: LruHashMap<u64, FlowKey> = LruHashMap::with_max_entries(SOCKETS_MAX, 0);

/// The peer of a thread's datagram, between the hook that knows it and the hook that knows its
/// length. An array: it is asked twice for each datagram, and a hash costs eight times that.
#[map]
pub(crate) static SEND_PEERS: Array<SendPeer> = Array::with_max_entries(SEND_PEERS_MAX, 0);

/// The same for a packet of a raw socket, by socket.
#[map]
pub(crate) static RAW_PEERS: LruHashMap<u64, Peer> = LruHashMap::with_max_entries(RAW_PEERS_MAX, 0);

/// Resolvers that were asked by datagram, by socket, and who asked last.
#[map]
pub(crate) static ASKED: LruHashMap<FlowKey, Asked> = LruHashMap::with_max_entries(ASKED_MAX, 0);

/// What a new entry of those is filled with, until who asked is written there.
#[map]
pub(crate) static ASKED_FILLER: Array<Asked> = Array::with_max_entries(1, 0);

/// Bytes by cgroup, twice.
#[map]
pub(crate) static EGRESS: LruHashMap<u64, EgressSum> =
    LruHashMap::with_max_entries(EGRESS_CGROUPS_MAX, 0);

/// Local channels of workloads that have read weights, by socket.
#[map]
pub(crate) static LINKS: LruHashMap<u64, LinkSum> = LruHashMap::with_max_entries(LINKS_MAX, 0);

/// Ends of streams over loopback.
#[map]
pub(crate) static LOOPBACK_ENDS: LruHashMap<u64, FlowKey> =
    LruHashMap::with_max_entries(LOOPBACK_ENDS_MAX, 0);

/// How often each probe of the full tier was called.
#[map]
pub(crate) static PROBE_CALLS: Array<u64> = Array::with_max_entries(2, 0);

/// Rate of each cgroup on each CPU.
#[map]
pub(crate) static RATES: LruPerCpuHashMap<u64, RateWindow> =
    LruPerCpuHashMap::with_max_entries(RATE_CGROUPS_MAX, 0);

/// Where an exec record is put together. One slot a CPU is enough: tracepoint programs run with
/// preemption off, and an exec does not interrupt an exec.
#[map]
pub(crate) static EXEC_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

/// Where a file record is put together; one slot a CPU for the same reason.
#[map]
pub(crate) static OPEN_SCRATCH: PerCpuArray<OpenScratch> = PerCpuArray::with_max_entries(1, 0);

/// Where the state of a new flow is put together; one slot a CPU and starter.
#[map]
pub(crate) static FLOW_SCRATCH: PerCpuArray<FlowState> = PerCpuArray::with_max_entries(STARTERS, 0);

/// Where the full tier puts records about opens together: a slot a thread.
#[map]
pub(crate) static OPEN_SLOTS: LruHashMap<u64, OpenScratch> =
    LruHashMap::with_max_entries(OPEN_SLOTS_MAX, 0);

/// Where the full tier puts the state of a new flow together: a slot a thread.
#[map]
pub(crate) static FLOW_SLOTS: LruHashMap<u64, FlowState> =
    LruHashMap::with_max_entries(FLOW_SLOTS_MAX, 0);

/// Where the full tier puts records about changes together: a slot a thread.
#[map]
pub(crate) static CHANGE_SLOTS: LruHashMap<u64, ChangeScratch> =
    LruHashMap::with_max_entries(CHANGE_SLOTS_MAX, 0);

/// What a new slot for changes is filled with.
#[map]
pub(crate) static CHANGE_FILLER: Array<ChangeScratch> = Array::with_max_entries(1, 0);

/// When each process was last told to check each other one.
#[map]
pub(crate) static CHECKS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(CHECKS_MAX, 0);
