//! From what stands for a process to the process: pidfds, tracees, inodes of `/proc`.

use super::{Fault, at, field, file, member, task};
use crate::globals::{
    OFF_INODE_PRIVATE, OFF_PID_LEVEL, OFF_PID_TASKS, OFF_PROC_INODE_PID, OFF_PROC_INODE_VFS,
    OFF_TASK_PID_LINKS, OFF_TASK_PTRACE_ENTRY, OFF_TASK_PTRACED, OFF_TASK_THREAD_PID,
};
use monitor_common::OFFSET_ABSENT;

/// A process, as records name it; all zero where it is not known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Target {
    pub(crate) tgid: u32,
    pub(crate) start_boot_ns: u64,
}

/// How deep the pid namespace of a task is; zero for the first.
#[inline(always)]
pub(crate) fn level(task: u64) -> Result<u32, Fault> {
    let pid: u64 = field(task, &OFF_TASK_THREAD_PID)?;
    field(pid, &OFF_PID_LEVEL)
}

/// The process of a task.
#[inline(always)]
pub(crate) fn of_task(task: u64) -> Result<Target, Fault> {
    Ok(Target { tgid: task::tgid(task)?, start_boot_ns: task::process_start(task)? })
}

/// The tracee that a task took last: `__ptrace_link` adds it at the front (kernel/ptrace.c).
#[inline(always)]
pub(crate) fn newest_tracee(task: u64) -> Result<Target, Fault> {
    let list = member(task, &OFF_TASK_PTRACED)?;
    let first: u64 = at(list)?;
    let entry = OFF_TASK_PTRACE_ENTRY.load();
    if first == list || entry == OFFSET_ABSENT {
        return Err(Fault);
    }
    of_task(first - u64::from(entry))
}

/// The process behind a `struct pid`.
#[inline(always)]
fn of_pid(pid: u64) -> Result<Target, Fault> {
    of_task(task_of(pid)?)
}

/// The first task that a `struct pid` names, as a process or as a thread.
#[inline(always)]
pub(crate) fn task_of(pid: u64) -> Result<u64, Fault> {
    /// `PIDTYPE_TGID` (include/linux/pid_types.h); `PIDTYPE_PID` is zero.
    const TGID: u64 = 1;
    /// Bytes of a `struct hlist_head` and of a `struct hlist_node`.
    const HEAD_BYTES: u64 = 8;
    const NODE_BYTES: u64 = 16;
    let heads = member(pid, &OFF_PID_TASKS)?;
    let links = OFF_TASK_PID_LINKS.load();
    if links == OFFSET_ABSENT {
        return Err(Fault);
    }
    let process: u64 = at(heads + TGID * HEAD_BYTES)?;
    if process != 0 {
        return Ok(process - u64::from(links) - TGID * NODE_BYTES);
    }
    let thread: u64 = at(heads)?;
    if thread == 0 {
        // It has ended.
        return Err(Fault);
    }
    Ok(thread - u64::from(links))
}

/// The process that a pidfd of `task` stands for. From 6.9 on a pidfd is a file of its own file
/// system and its inode knows the process (fs/pidfs.c); before that the file did (kernel/fork.c).
#[inline(always)]
pub(crate) fn of_pidfd(task: u64, descriptor: u32) -> Result<Target, Fault> {
    let file = file::from_descriptor(task, descriptor)?;
    let kept: u64 = file::private(file)?;
    if kept != 0 {
        return of_pid(kept);
    }
    of_pid(field(file::inode(file)?, &OFF_INODE_PRIVATE)?)
}

/// The process that an inode below `/proc/PID` belongs to.
#[inline(always)]
pub(crate) fn of_proc_inode(inode: u64) -> Result<Target, Fault> {
    let offset = OFF_PROC_INODE_VFS.load();
    if offset == OFFSET_ABSENT {
        return Err(Fault);
    }
    of_pid(field(inode - u64::from(offset), &OFF_PROC_INODE_PID)?)
}
