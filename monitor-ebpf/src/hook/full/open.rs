//! Every open, whatever road led to it: 32-bit system calls, io_uring, handles, the kernel itself
//! on a process's behalf.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::KIND_FILE_OPEN;

use super::{slot, twin};
use crate::count::{Outcome, count};
use crate::filter;
use crate::globals::SELF_TGID;
use crate::hook::file;
use crate::maps::{OPEN_SCRATCH, OPEN_SLOTS};

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h: `file_open(struct file *file)`
    open_lsm open_fentry "file_open" "security_file_open" opening
}

#[inline(always)]
fn opening(arg: impl Fn(usize) -> u64) {
    if !filter::wanted(KIND_FILE_OPEN)
        || (bpf_get_current_pid_tgid() >> 32) as u32 == SELF_TGID.load()
    {
        return count(KIND_FILE_OPEN, Outcome::Filtered);
    }
    let Some(filler) = OPEN_SCRATCH.get_ptr(0) else { return };
    match slot(&OPEN_SLOTS, filler) {
        // SAFETY: this thread's slot, see `slot`.
        Some(slot) => file::opened_file(arg(0), unsafe { &mut *slot }),
        None => count(KIND_FILE_OPEN, Outcome::MapFull),
    }
}

/// `memfd_create`: a file that is made open, and that nobody opens.
#[tracepoint]
pub fn memory_made(ctx: TracePointContext) -> u32 {
    file::descriptor_given(&ctx)
}
