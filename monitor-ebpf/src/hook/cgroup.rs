//! Processes that are moved between cgroups.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::{CGROUP_PATH_BYTES_MAX, CgroupMoveRecord, KIND_CGROUP_MOVE};

use crate::count::{Outcome, count};
use crate::emit;
use crate::globals::SELF_TGID;
use crate::lane::Lane;
use crate::maps::{MOVE_SCRATCH, OWN_CGROUPS};
use crate::read::{Fault, task};

/// Where a record is put together.
#[repr(C)]
pub(crate) struct MoveScratch {
    record: CgroupMoveRecord,
    path: [u8; CGROUP_PATH_BYTES_MAX],
}

/// match-proto:v6.18:include/trace/events/cgroup.h: `cgroup_attach_task(struct cgroup *dst_cgrp,
/// const char *path, struct task_struct *task, bool threadgroup)`
///
/// Fires in the context of who moves, and also for the hierarchies of version 1.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_moved(ctx: BtfTracePointContext) -> i32 {
    let to: u64 = ctx.arg(0);
    let path: u64 = ctx.arg(1);
    let moved: u64 = ctx.arg(2);
    let Some(slot) = MOVE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's slot; the kernel moves one group of tasks at a time, under a lock.
    let scratch = unsafe { &mut *slot };
    match fill(to, path, moved, scratch) {
        Err(Fault) => count(KIND_CGROUP_MOVE, Outcome::ReadFault),
        Ok(len) if crate::filter::within_rate(scratch.record.to_cgroup, Lane::High) => {
            emit::scratch(KIND_CGROUP_MOVE, Lane::High, (&raw const *scratch).cast(), len);
        }
        Ok(_) => count(KIND_CGROUP_MOVE, Outcome::RateLimited),
    }
    0
}

#[inline(always)]
fn fill(to: u64, path: u64, moved: u64, scratch: &mut MoveScratch) -> Result<u32, Fault> {
    let record = &mut scratch.record;
    task::header(task::current(), KIND_CGROUP_MOVE, 0, &mut record.header)?;
    record.moved_tgid = task::tgid(moved)?;
    record.moved_start_boot_ns = task::process_start(moved)?;
    record.to_cgroup = task::cgroup_key(to)?;
    if record.moved_tgid == SELF_TGID.load() {
        // Freezing this one concerns the monitor from now on.
        let _kept = OWN_CGROUPS.insert(record.to_cgroup, 1, 0);
    }
    // SAFETY: the target is CGROUP_PATH_BYTES_MAX long; the helper accepts any address.
    let copied = unsafe {
        bpf_probe_read_kernel_str(
            scratch.path.as_mut_ptr().cast(),
            CGROUP_PATH_BYTES_MAX as u32,
            path as *const _,
        )
    };
    let copied = if copied < 0 { 0 } else { copied as u32 };
    let copied =
        if copied > CGROUP_PATH_BYTES_MAX as u32 { CGROUP_PATH_BYTES_MAX as u32 } else { copied };
    scratch.record.path_len = copied;
    let len = size_of::<CgroupMoveRecord>() as u32 + copied;
    scratch.record.header.len = len;
    Ok(len)
}
