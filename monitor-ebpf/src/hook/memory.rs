//! Reaching into other processes: ptrace, `process_vm_readv` and its twin, `pidfd_getfd`, and
//! `/proc/PID/mem`.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::{
    ACCESS_PIDFD_GETFD, ACCESS_PROC_MEM, ACCESS_PTRACE, ACCESS_VM_READ, ACCESS_VM_WRITE,
    KIND_MEMORY_ACCESS, MemoryAccessRecord,
};

use super::call::{Arguments, Call, ended, keep};
use crate::count::{Outcome, count};
use crate::emit;
use crate::globals::SELF_TGID;
use crate::hook::returned;
use crate::lane::Lane;
use crate::maps::ACCESSES;
use crate::read::pid::{self, Target};
use crate::read::{Fault, file, task};

/// `PTRACE_ATTACH` and `PTRACE_SEIZE` (include/uapi/linux/ptrace.h).
const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;
/// How often one process's accesses to another are told: a job's ranks read each other's memory
/// thousands of times a second (UCX over cross-memory attach).
const TOLD_EVERY_NS: u64 = 1_000_000_000;

/// Who reaches into whom, and how.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AccessKey {
    tgid: u32,
    target: u32,
    method: u32,
    reserved: u32,
}

/// What was moved since it was told.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AccessState {
    bytes: u64,
    told_boot_ns: u64,
}

/// A ptrace call that takes hold of a process; the many others are not looked at.
#[inline(always)]
fn ptrace(asked: &impl Arguments) -> Option<Call> {
    let request = asked.get::<0>();
    let takes_hold = request == PTRACE_ATTACH || request == PTRACE_SEIZE;
    takes_hold.then(|| Call { args: [request, asked.get::<1>(), 0, 0, 0], what: 0 })
}

/// `process_vm_readv`, `process_vm_writev` and `pidfd_getfd`: whom it is about.
#[inline(always)]
fn first(asked: &impl Arguments) -> Option<Call> {
    Some(Call { args: [asked.get::<0>(), 0, 0, 0, 0], what: 0 })
}

#[tracepoint]
pub fn ptrace_entered(ctx: TracePointContext) -> u32 {
    keep(ptrace(&ctx));
    0
}

/// The newest tracee of the caller is the one it just took.
#[tracepoint]
pub fn ptrace_done(ctx: TracePointContext) -> u32 {
    let Some(call) = ended(ptrace) else { return 0 };
    if returned(&ctx) != 0 {
        return 0;
    }
    match pid::newest_tracee(task::current()) {
        Ok(target) => report(ACCESS_PTRACE, call.args[1] as u32, target, 0),
        Err(Fault) => count(KIND_MEMORY_ACCESS, Outcome::ReadFault),
    }
    0
}

/// `process_vm_readv` and `process_vm_writev`.
#[tracepoint]
pub fn vm_entered(ctx: TracePointContext) -> u32 {
    keep(first(&ctx));
    0
}

#[tracepoint]
pub fn vm_read_done(ctx: TracePointContext) -> u32 {
    vm_moved(ACCESS_VM_READ, returned(&ctx));
    0
}

#[tracepoint]
pub fn vm_write_done(ctx: TracePointContext) -> u32 {
    vm_moved(ACCESS_VM_WRITE, returned(&ctx));
    0
}

#[inline(always)]
fn vm_moved(method: u16, moved: i64) {
    let Some(call) = ended(first) else { return };
    if moved <= 0 {
        return;
    }
    let named = call.args[0] as u32;
    if named == (bpf_get_current_pid_tgid() >> 32) as u32 {
        return count(KIND_MEMORY_ACCESS, Outcome::Filtered);
    }
    match is_due(method, named, moved as u64) {
        // The target is the daemon's to find: the kernel keeps process ids in a tree that a
        // program cannot search.
        Some(bytes) => report(method, named, Target::default(), bytes),
        None => count(KIND_MEMORY_ACCESS, Outcome::Filtered),
    }
}

/// Adds what was moved; all of it when it is time to tell.
#[inline(always)]
fn is_due(method: u16, named: u32, bytes: u64) -> Option<u64> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let key = AccessKey { tgid, target: named, method: u32::from(method), reserved: 0 };
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(state) = ACCESSES.get_ptr_mut(key) else {
        let first = AccessState { bytes: 0, told_boot_ns: now };
        // A full map forgets the pair that moved longest ago, and tells of it once more.
        let _kept = ACCESSES.insert(key, first, u64::from(BPF_ANY));
        return Some(bytes);
    };
    // SAFETY: the map's value lives while the program runs. Threads of one process may add at
    // once and lose one of the two sums: bytes are a bound from below.
    let state = unsafe { &mut *state };
    state.bytes += bytes;
    if now.wrapping_sub(state.told_boot_ns) < TOLD_EVERY_NS {
        return None;
    }
    let bytes = state.bytes;
    state.bytes = 0;
    state.told_boot_ns = now;
    Some(bytes)
}

/// `pidfd_getfd`: the pidfd leads to the process, whatever its number is called elsewhere.
#[tracepoint]
pub fn pidfd_entered(ctx: TracePointContext) -> u32 {
    keep(first(&ctx));
    0
}

#[tracepoint]
pub fn pidfd_done(ctx: TracePointContext) -> u32 {
    let Some(call) = ended(first) else { return 0 };
    if returned(&ctx) < 0 {
        return 0;
    }
    match pid::of_pidfd(task::current(), call.args[0] as u32) {
        Ok(target) => report(ACCESS_PIDFD_GETFD, 0, target, 0),
        Err(Fault) => count(KIND_MEMORY_ACCESS, Outcome::ReadFault),
    }
    0
}

/// `/proc/PID/mem` was opened; called by the file sensor, which saw that it is such a file.
#[inline(always)]
pub(crate) fn proc_mem_opened(file: u64) {
    match file::inode(file).and_then(pid::of_proc_inode) {
        Ok(target) => report(ACCESS_PROC_MEM, 0, target, 0),
        Err(Fault) => count(KIND_MEMORY_ACCESS, Outcome::ReadFault),
    }
}

#[inline(always)]
fn report(method: u16, named: u32, target: Target, bytes: u64) {
    let current = task::current();
    let own = task::tgid(current).unwrap_or(0);
    if own == SELF_TGID.load() || own == target.tgid {
        return count(KIND_MEMORY_ACCESS, Outcome::Filtered);
    }
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { aya_ebpf::helpers::generated::bpf_get_current_cgroup_id() };
    emit::fixed::<MemoryAccessRecord>(KIND_MEMORY_ACCESS, Lane::High, cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        let len = size_of::<MemoryAccessRecord>();
        task::header(current, KIND_MEMORY_ACCESS, len, &mut record.header)?;
        record.method = method;
        record.pid_ns_level = pid::level(current)? as u16;
        record.target_tgid = target.tgid;
        record.target_start_boot_ns = target.start_boot_ns;
        record.bytes = bytes;
        record.named_pid = named;
        record.mode = 0;
        record.reserved = 0;
        Ok(())
    });
}
