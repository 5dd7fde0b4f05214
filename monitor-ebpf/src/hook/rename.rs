//! New names of files. A file mark tells that a labelled file was renamed or linked, by whom, and
//! not where to: the daemon asks here what that process last called a file.
//!
//! A name is what the caller said at the entry of the call; the daemon believes it only where the
//! file stands under it.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_probe_read_user_str};
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::NEW_NAME_BYTES_MAX;

use super::call::Arguments as _;
use crate::maps::{NEW_NAME_SCRATCH, NEW_NAMES};

/// `AT_FDCWD` (include/uapi/linux/fcntl.h).
const AT_FDCWD: i32 = -100;

/// `rename(old, new)` and `link(old, new)`.
#[tracepoint]
pub fn name_given(ctx: TracePointContext) -> u32 {
    note(AT_FDCWD, ctx.get::<1>())
}

/// `renameat`, `renameat2` and `linkat`: `(old_dirfd, old, new_dirfd, new, ...)`.
#[tracepoint]
pub fn name_given_at(ctx: TracePointContext) -> u32 {
    note(ctx.get::<2>() as i32, ctx.get::<3>())
}

#[inline(always)]
fn note(directory: i32, address: u64) -> u32 {
    let Some(slot) = NEW_NAME_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's slot; tracepoint programs run with preemption off.
    let name = unsafe { &mut *slot };
    // SAFETY: a helper without preconditions.
    name.boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    name.directory = directory;
    name.reserved = 0;
    // SAFETY: the target is that long; the helper accepts any user address.
    let read = unsafe {
        bpf_probe_read_user_str(
            name.path.as_mut_ptr().cast(),
            NEW_NAME_BYTES_MAX as u32,
            address as *const _,
        )
    };
    if read < 0 {
        name.path[0] = 0;
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // A full map forgets who renamed longest ago.
    let _kept = NEW_NAMES.insert(tgid, &*name, u64::from(BPF_ANY));
    0
}
