//! Maps of the sensors of acts.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use monitor_common::{
    ACCESSES_MAX, CALLS_MAX, NEW_NAMES_MAX, NewName, OWN_CGROUPS_MAX, OWN_OBJECTS_MAX, StdioRecord,
    TamperRecord, URING_USERS_MAX,
};

use crate::hook::call::Call;
use crate::hook::cgroup::MoveScratch;
use crate::hook::memory::{AccessKey, AccessState};
use crate::hook::namespace::NamespaceScratch;

/// System calls between entry and exit, by thread.
#[map]
pub(crate) static CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(CALLS_MAX, 0);

/// What processes moved from and to each other's memory since it was told.
#[map]
pub(crate) static ACCESSES: LruHashMap<AccessKey, AccessState> =
    LruHashMap::with_max_entries(ACCESSES_MAX, 0);

/// Operations on sockets that each process asked `io_uring` for, one bit each.
#[map]
pub(crate) static URING_USERS: LruHashMap<u32, u64> =
    LruHashMap::with_max_entries(URING_USERS_MAX, 0);

/// The monitor's own BPF objects, by kind and id; written by the daemon.
#[map]
pub(crate) static OWN_OBJECTS: HashMap<u64, u32> = HashMap::with_max_entries(OWN_OBJECTS_MAX, 0);

/// The monitor's own cgroup and those above it, by id; written by the daemon.
#[map]
pub(crate) static OWN_CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(OWN_CGROUPS_MAX, 0);

/// Where a record of standard streams is put together: one slot for exec, one for dup.
#[map]
pub(crate) static STDIO_SCRATCH: PerCpuArray<StdioRecord> = PerCpuArray::with_max_entries(2, 0);

/// Where a record of tampering is put together.
#[map]
pub(crate) static TAMPER_SCRATCH: PerCpuArray<TamperRecord> = PerCpuArray::with_max_entries(1, 0);

/// Where a record of a namespace is put together.
#[map]
pub(crate) static NAMESPACE_SCRATCH: PerCpuArray<NamespaceScratch> =
    PerCpuArray::with_max_entries(1, 0);

/// Where a record of a move is put together.
#[map]
pub(crate) static MOVE_SCRATCH: PerCpuArray<MoveScratch> = PerCpuArray::with_max_entries(1, 0);

/// The name that each process last asked to give a file; read by the daemon.
#[map]
pub(crate) static NEW_NAMES: LruHashMap<u32, NewName> =
    LruHashMap::with_max_entries(NEW_NAMES_MAX, 0);

/// Where such a name is put together.
#[map]
pub(crate) static NEW_NAME_SCRATCH: PerCpuArray<NewName> = PerCpuArray::with_max_entries(1, 0);
