//! Segments of System V shared memory, whatever system call attaches them.

use super::{slot, twin};
use crate::count::{Outcome, count};
use crate::hook::segment;
use crate::maps::{OPEN_SCRATCH, OPEN_SLOTS};
use monitor_common::KIND_FILE_OPEN;

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h: `shm_shmat(struct kern_ipc_perm *perm,
    /// char __user *shmaddr, int shmflg)`
    segment_lsm segment_fentry "shm_shmat" "security_shm_shmat" attaching
}

#[inline(always)]
fn attaching(arg: impl Fn(usize) -> u64) {
    let Some(filler) = OPEN_SCRATCH.get_ptr(0) else { return };
    match slot(&OPEN_SLOTS, filler) {
        // SAFETY: this thread's slot, see `slot`.
        Some(slot) => segment::attached(arg(0), arg(2), unsafe { &mut *slot }),
        None => count(KIND_FILE_OPEN, Outcome::MapFull),
    }
}
