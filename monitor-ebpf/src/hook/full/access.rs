//! Reaching into another process, at the kernel's own check: ptrace, `process_vm_readv`,
//! `pidfd_getfd`, `/proc/PID/mem`, and whatever comes next.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns};
use monitor_common::{ACCESS_CHECK, KIND_MEMORY_ACCESS, MemoryAccessRecord};

use super::twin;
use crate::count::{Outcome, count};
use crate::emit;
use crate::globals::SELF_TGID;
use crate::lane::Lane;
use crate::maps::CHECKS;
use crate::read::{Fault, task};

/// `PTRACE_MODE_ATTACH` (include/linux/ptrace.h): more than a look at what /proc shows anyway.
const MODE_ATTACH: u32 = 2;
/// How often one process's checks of another are told.
const TOLD_EVERY_NS: u64 = 1_000_000_000;

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h:
    /// `ptrace_access_check(struct task_struct *child, unsigned int mode)`
    access_lsm access_fentry "ptrace_access_check" "security_ptrace_access_check" checking
}

#[inline(always)]
fn checking(arg: impl Fn(usize) -> u64) {
    let mode = arg(1) as u32;
    if mode & MODE_ATTACH == 0 {
        return;
    }
    let own = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Ok(target) = task::tgid(arg(0)) else {
        return count(KIND_MEMORY_ACCESS, Outcome::ReadFault);
    };
    if own == SELF_TGID.load() || own == target || is_told(own, target) {
        return count(KIND_MEMORY_ACCESS, Outcome::Filtered);
    }
    report(arg(0), target, mode);
}

/// Whether the same was told a moment ago: a job's ranks check each other with every message.
#[inline(always)]
fn is_told(own: u32, target: u32) -> bool {
    let pair = u64::from(own) << 32 | u64::from(target);
    // SAFETY: a helper without preconditions; the value is copied out at once.
    let (now, last) = unsafe { (bpf_ktime_get_boot_ns(), CHECKS.get(pair).copied()) };
    if last.is_some_and(|last| now.wrapping_sub(last) < TOLD_EVERY_NS) {
        return true;
    }
    // A full map forgets the pair that was told longest ago, and tells of it once more.
    let _kept = CHECKS.insert(pair, now, u64::from(BPF_ANY));
    false
}

#[inline(always)]
fn report(target: u64, tgid: u32, mode: u32) {
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    emit::fixed::<MemoryAccessRecord>(KIND_MEMORY_ACCESS, Lane::High, cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        let len = size_of::<MemoryAccessRecord>();
        task::header(task::current(), KIND_MEMORY_ACCESS, len, &mut record.header)?;
        record.method = ACCESS_CHECK;
        record.pid_ns_level = 0;
        record.target_tgid = tgid;
        record.target_start_boot_ns = task::process_start(target)?;
        record.bytes = 0;
        record.named_pid = 0;
        record.mode = mode;
        record.reserved = 0;
        Ok::<(), Fault>(())
    });
}
