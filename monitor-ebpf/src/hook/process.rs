//! Process life: exec, new task, exit, and the tasks that were there first.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_seq_write};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::{
    ARGS_BYTES_MAX, ARGS_FAULT, CWD_BYTES_MAX, EXEC_DELETED, EXEC_MEMFD, ExecRecord, ExitRecord,
    FileIdRecord, InodeKey, KIND_EXEC, KIND_EXIT, KIND_TASK_NEW, KIND_TASK_SEEN, PATH_BYTES_MAX,
    PATH_TRUNCATED, TASK_IO_WORKER, TASK_KTHREAD, TaskNewRecord, TaskSeenRecord, Writer,
};

use crate::count::{Outcome, count};
use crate::emit::{self, ExecScratch};
use crate::filter;
use crate::globals::{
    OFF_BPRM_FILE, OFF_FS_PWD, OFF_MM_ARG_END, OFF_MM_ARG_START, OFF_PATH_DENTRY, OFF_PATH_MNT,
    OFF_TASK_FS,
};
use crate::lane::Lane;
use crate::maps::{EXEC_SCRATCH, WRITERS};
use crate::read::{self, Fault, field, file, task};

/// `TMPFS_MAGIC` (include/uapi/linux/magic.h): a memfd lives on an internal tmpfs.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// match-proto:v6.18:include/trace/events/sched.h:
/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec_done(ctx: BtfTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let bprm: u64 = ctx.arg(2);
    let Some(slot) = EXEC_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's slot; an exec does not interrupt an exec on one CPU.
    let scratch = unsafe { &mut *slot };
    match exec_fill(task, bprm, scratch) {
        Err(Fault) => {
            count(KIND_EXEC, Outcome::ReadFault);
            aya_log_ebpf::warn!(&ctx, "exec by pid {} was seen but could not be read", ctx.tgid());
        }
        Ok(_) if !filter::within_rate(scratch.record.header.actor.cgroup_id, Lane::Life) => {
            count(KIND_EXEC, Outcome::RateLimited);
        }
        Ok(len) => emit::scratch(KIND_EXEC, Lane::Life, (&raw const *scratch).cast(), len),
    }
    0
}

#[inline(always)]
fn exec_fill(task: u64, bprm: u64, scratch: &mut ExecScratch) -> Result<u32, Fault> {
    let record = &mut scratch.record;
    task::header(task, KIND_EXEC, 0, &mut record.header)?;
    let parent = task::parent(task)?;
    record.parent_tgid = task::tgid(parent)?;
    record.parent_start_boot_ns = task::process_start(parent)?;
    record.flags = 0;
    record.reserved = 0;

    let exe: u64 = field(bprm, &OFF_BPRM_FILE)?;
    let inode = file::inode(exe)?;
    record.exe = file::id(inode)?;
    record.nlink = file::nlink(inode)?;
    record.exe_changed_s = file::changed_s(inode).unwrap_or(0);
    exec_writer(record);
    let span = scratch.path.walk(file::mount(exe)?, file::dentry(exe)?)?;
    if span.truncated {
        record.flags |= PATH_TRUNCATED;
    }
    if record.nlink == 0 {
        // A memfd is a file of the kernel's own tmpfs that never had a place in a directory.
        let memfd = span.unplaced && file::fs_magic(inode)? == TMPFS_MAGIC;
        record.flags |= if memfd { EXEC_DELETED | EXEC_MEMFD } else { EXEC_DELETED };
    }
    let tail = scratch.tail.as_mut_ptr();
    let exe_len = scratch.path.copy_to(span, tail, PATH_BYTES_MAX as u32);
    record.exe_len = exe_len;

    let args_len = exec_args(task, record, tail, exe_len)?;
    record.args_len = args_len;

    let cwd_len = exec_cwd(task, scratch, exe_len + args_len).unwrap_or(0);
    scratch.record.cwd_len = cwd_len;
    let len = size_of::<ExecRecord>() as u32 + exe_len + args_len + cwd_len;
    scratch.record.header.len = len;
    Ok(len)
}

/// Notes who opened the executable for writing last, as far as it is remembered.
#[inline(always)]
fn exec_writer(record: &mut ExecRecord) {
    let key = InodeKey { inode: record.exe.inode, device: record.exe.device, generation: 0 };
    // SAFETY: the value is copied out at once.
    let writer = unsafe { WRITERS.get(key) }.copied();
    let writer = writer.unwrap_or(Writer { cgroup_id: 0, boot_ns: 0, tgid: 0, reserved: 0 });
    record.writer_tgid = writer.tgid;
    record.writer_cgroup_id = writer.cgroup_id;
    record.writer_boot_ns = writer.boot_ns;
}

/// Copies the arguments behind the exe path; what does not fit is left out and its length told.
#[inline(always)]
fn exec_args(
    task: u64,
    record: &mut ExecRecord,
    tail: *mut u8,
    exe_len: u32,
) -> Result<u32, Fault> {
    let mm = task::mm(task)?;
    let start: u64 = field(mm, &OFF_MM_ARG_START)?;
    let end: u64 = field(mm, &OFF_MM_ARG_END)?;
    let total = end.saturating_sub(start);
    record.args_total = if total > u64::from(u32::MAX) { u32::MAX } else { total as u32 };
    let len = if total > ARGS_BYTES_MAX as u64 { ARGS_BYTES_MAX as u32 } else { total as u32 };
    let at = if exe_len > PATH_BYTES_MAX as u32 { PATH_BYTES_MAX as u32 } else { exe_len };
    if len == 0 {
        return Ok(0);
    }
    // SAFETY: the position is at most PATH_BYTES_MAX and the length at most ARGS_BYTES_MAX; the
    // tail is longer than both together. The helper accepts any user address.
    let read =
        unsafe { bpf_probe_read_user(tail.add(at as usize).cast(), len, start as *const c_void) };
    if read == 0 {
        Ok(len)
    } else {
        record.flags |= ARGS_FAULT;
        Ok(0)
    }
}

/// Copies the working directory behind the arguments.
#[inline(always)]
fn exec_cwd(task: u64, scratch: &mut ExecScratch, at: u32) -> Result<u32, Fault> {
    let fs: u64 = field(task, &OFF_TASK_FS)?;
    let pwd = read::member(fs, &OFF_FS_PWD)?;
    let span = scratch.path.walk(field(pwd, &OFF_PATH_MNT)?, field(pwd, &OFF_PATH_DENTRY)?)?;
    let most = (PATH_BYTES_MAX + ARGS_BYTES_MAX) as u32;
    let at = if at > most { most } else { at };
    // SAFETY: the position is at most PATH_BYTES_MAX + ARGS_BYTES_MAX and CWD_BYTES_MAX follow.
    let target = unsafe { scratch.tail.as_mut_ptr().add(at as usize) };
    Ok(scratch.path.copy_to(span, target, CWD_BYTES_MAX as u32))
}

/// match-proto:v6.18:include/trace/events/task.h:
/// `task_newtask(struct task_struct *task, unsigned long clone_flags)`
///
/// Not `sched_process_fork`: the threads of io_uring (SQPOLL, workers) never pass it.
#[btf_tracepoint(function = "task_newtask")]
pub fn task_new(ctx: BtfTracePointContext) -> i32 {
    let child: u64 = ctx.arg(0);
    let clone_flags: u64 = ctx.arg(1);
    let creator = task::current();
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { aya_ebpf::helpers::generated::bpf_get_current_cgroup_id() };
    emit::fixed::<TaskNewRecord>(KIND_TASK_NEW, Lane::Life, cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        task::header(creator, KIND_TASK_NEW, size_of::<TaskNewRecord>(), &mut record.header)?;
        record.child_tgid = task::tgid(child)?;
        record.child_tid = task::tid(child)?;
        record.child_start_boot_ns = task::process_start(child)?;
        record.clone_flags = clone_flags;
        record.flags = task_bits(task::flags(child)?);
        record.reserved = 0;
        record.reserved2 = 0;
        Ok(())
    });
    0
}

/// match-proto:v6.18:include/trace/events/sched.h:
/// `sched_process_exit(struct task_struct *p, bool group_dead)`; before 6.16 without `group_dead`,
/// so the count of live threads is read instead, which says the same on every kernel.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn task_exit(ctx: BtfTracePointContext) -> i32 {
    let dying: u64 = ctx.arg(0);
    match task::live_threads(dying) {
        Err(Fault) => {
            count(KIND_EXIT, Outcome::ReadFault);
            return 0;
        }
        Ok(live) if live > 0 => {
            count(KIND_EXIT, Outcome::Filtered);
            return 0;
        }
        Ok(_) => {}
    }
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { aya_ebpf::helpers::generated::bpf_get_current_cgroup_id() };
    emit::fixed::<ExitRecord>(KIND_EXIT, Lane::Life, cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        task::header(dying, KIND_EXIT, size_of::<ExitRecord>(), &mut record.header)?;
        record.code = task::exit_code(dying)?;
        record.reserved = 0;
        Ok(())
    });
    0
}

#[inline(always)]
fn task_bits(flags: u32) -> u32 {
    let worker = if flags & task::PF_IO_WORKER != 0 { TASK_IO_WORKER } else { 0 };
    let kernel = if flags & task::PF_KTHREAD != 0 { TASK_KTHREAD } else { 0 };
    worker | kernel
}

/// The context of a task iterator (`struct bpf_iter__task`, kernel/bpf/task_iter.c).
#[repr(C)]
struct TaskIterContext {
    meta: *const IterMeta,
    task: u64,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
struct IterMeta {
    seq: *mut aya_ebpf::bindings::seq_file,
}

/// Writes every process that exists: what ran before the monitor, and the canary that proves the
/// offsets on the monitor's own task.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn task_seen(ctx: *mut c_void) -> i32 {
    let ctx: *const TaskIterContext = ctx.cast();
    // SAFETY: the kernel passes a `struct bpf_iter__task`.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task == 0 {
        return 0;
    }
    // SAFETY: as above; the members of `meta` are checked by the verifier.
    let seq = unsafe { (*meta).seq };
    // SAFETY: all members are integers.
    let mut record: TaskSeenRecord = unsafe { core::mem::zeroed() };
    match task_seen_fill(task, &mut record) {
        Ok(true) => {
            // SAFETY: the record is a whole, initialised value on the stack.
            let written = unsafe {
                bpf_seq_write(seq, (&raw const record).cast(), size_of::<TaskSeenRecord>() as u32)
            };
            count(KIND_TASK_SEEN, if written == 0 { Outcome::Sent } else { Outcome::RingFull });
        }
        Ok(false) => count(KIND_TASK_SEEN, Outcome::Filtered),
        Err(Fault) => count(KIND_TASK_SEEN, Outcome::ReadFault),
    }
    0
}

#[inline(always)]
fn task_seen_fill(task: u64, record: &mut TaskSeenRecord) -> Result<bool, Fault> {
    if task::tgid(task)? != task::tid(task)? {
        return Ok(false);
    }
    task::header(task, KIND_TASK_SEEN, size_of::<TaskSeenRecord>(), &mut record.header)?;
    let parent = task::parent(task)?;
    record.parent_tgid = task::tgid(parent)?;
    record.parent_start_boot_ns = task::process_start(parent)?;
    record.flags = task_bits(task::flags(task)?);
    // A kernel thread has neither memory nor, when dying, namespaces: zero then.
    record.mount_ns = task::mount_ns(task).unwrap_or(0);
    record.exe = task_exe(task).unwrap_or(FileIdRecord { inode: 0, device: 0, generation: 0 });
    Ok(true)
}

#[inline(always)]
fn task_exe(task: u64) -> Result<FileIdRecord, Fault> {
    file::id(file::inode(task::exe_file(task)?)?)
}
