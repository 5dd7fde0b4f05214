//! System V shared memory: from the number of a segment to the segment.

use super::{Fault, at, field, member, number_of, task};
use crate::globals::{
    OFF_IDS_HEAD, OFF_IPC_AFTER_IDS, OFF_IPC_IDS, OFF_IPC_INUM, OFF_NSPROXY_IPC, OFF_PERM_ID,
    OFF_SHM_FILE, OFF_SHM_PERM, OFF_TASK_NSPROXY, OFF_XA_SHIFT, OFF_XA_SLOTS,
};
use monitor_common::OFFSET_ABSENT;

/// Kinds of objects of System V, and which of them segments are (ipc/util.h, `IPC_SHM_IDS`).
const KINDS: u64 = 3;
const SEGMENTS: u64 = 2;
/// Bits of a number that say where its object is; the others count how often the place was used.
/// The second is for kernels that were started with `ipcmni_extend` (ipc/util.h).
const PLACE_BITS: u64 = 0x7fff;
const PLACE_BITS_EXTENDED: u64 = 0xff_ffff;
/// Nodes between the root of a tree of numbers and an object: six bits each (lib/xarray.c).
const DEPTH_MAX: u32 = 4;
const NODE_SLOTS: u64 = 64;
/// The two lowest bits of a pointer to a node, which one to an object does not have
/// (include/linux/xarray.h, `xa_is_internal`).
const NODE_TAG: u64 = 2;
const TAG_BITS: u64 = 3;

/// The IPC namespace of the current task.
#[inline(always)]
fn namespace() -> Result<u64, Fault> {
    field(field(task::current(), &OFF_TASK_NSPROXY)?, &OFF_NSPROXY_IPC)
}

/// Number of the IPC namespace of the current task.
#[inline(always)]
pub(crate) fn namespace_number() -> Result<u32, Fault> {
    field(namespace()?, &OFF_IPC_INUM)
}

/// The `struct kern_ipc_perm` of the segment that the current task knows by a number.
#[inline(always)]
pub(crate) fn segment(number: u32) -> Result<u64, Fault> {
    let (ids, after) = (OFF_IPC_IDS.load(), OFF_IPC_AFTER_IDS.load());
    if ids == OFFSET_ABSENT || after == OFFSET_ABSENT {
        return Err(Fault);
    }
    // What follows the three tables begins where they end.
    let table_bytes = u64::from(after - ids) / KINDS;
    let table = number_of(namespace()?) + u64::from(ids) + SEGMENTS * table_bytes;
    let root: u64 = at(member(table, &OFF_IDS_HEAD)?)?;
    for bits in [PLACE_BITS, PLACE_BITS_EXTENDED] {
        if let Ok(found) = object(root, u64::from(number) & bits)
            && field::<u32>(found, &OFF_PERM_ID)? == number
        {
            return Ok(found);
        }
    }
    Err(Fault)
}

/// The object at a place of a tree (`struct xarray`).
#[inline(always)]
fn object(root: u64, place: u64) -> Result<u64, Fault> {
    let mut entry = root;
    for _ in 0..DEPTH_MAX {
        if entry & TAG_BITS != NODE_TAG {
            break;
        }
        let node = entry - NODE_TAG;
        let shift: u8 = at(member(node, &OFF_XA_SHIFT)?)?;
        let slot = (place >> (shift & 63)) % NODE_SLOTS;
        entry = at(member(node, &OFF_XA_SLOTS)? + slot * 8)?;
    }
    if entry == 0 || entry & TAG_BITS != 0 { Err(Fault) } else { Ok(entry) }
}

/// The file that holds the memory of a segment.
#[inline(always)]
pub(crate) fn file(segment: u64) -> Result<u64, Fault> {
    let permissions = OFF_SHM_PERM.load();
    if permissions == OFFSET_ABSENT {
        return Err(Fault);
    }
    field(number_of(segment) - u64::from(permissions), &OFF_SHM_FILE)
}
