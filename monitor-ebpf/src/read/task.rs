//! Tasks.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_task, bpf_ktime_get_boot_ns,
};
use monitor_common::{ActorRecord, COMM_BYTES, RecordHeader};

use super::{Fault, field, member};
use crate::globals::{
    OFF_CGROUP_KN, OFF_CRED_EGID, OFF_CRED_EUID, OFF_CSS_SET_DFL, OFF_KN_ID, OFF_MM_EXE_FILE,
    OFF_MNTNS_INUM, OFF_NSPROXY_MNT, OFF_SIGNAL_LIVE, OFF_TASK_CGROUPS, OFF_TASK_COMM,
    OFF_TASK_CRED, OFF_TASK_EXEC_ID, OFF_TASK_EXIT_CODE, OFF_TASK_FLAGS, OFF_TASK_LEADER,
    OFF_TASK_MM, OFF_TASK_NSPROXY, OFF_TASK_PARENT, OFF_TASK_PID, OFF_TASK_SIGNAL, OFF_TASK_START,
    OFF_TASK_TGID,
};

/// `PF_IO_WORKER` (include/linux/sched.h, 5.12 and newer).
pub(crate) const PF_IO_WORKER: u32 = 0x10;
/// `PF_KTHREAD` (include/linux/sched.h).
pub(crate) const PF_KTHREAD: u32 = 0x0020_0000;

/// Address of the current task.
#[inline(always)]
pub(crate) fn current() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_get_current_task() }
}

/// Process id.
#[inline(always)]
pub(crate) fn tgid(task: u64) -> Result<u32, Fault> {
    field(task, &OFF_TASK_TGID)
}

/// Thread id.
#[inline(always)]
pub(crate) fn tid(task: u64) -> Result<u32, Fault> {
    field(task, &OFF_TASK_PID)
}

/// When the task's process started: `start_boottime` of the group leader.
#[inline(always)]
pub(crate) fn process_start(task: u64) -> Result<u64, Fault> {
    let leader: u64 = field(task, &OFF_TASK_LEADER)?;
    field(leader, &OFF_TASK_START)
}

/// Which program of its process runs: a number that each exec makes another (fs/exec.c,
/// `begin_new_exec`); zero where it cannot be read.
#[inline(always)]
pub(crate) fn exec_id(task: u64) -> u32 {
    super::optional(task, &OFF_TASK_EXEC_ID) as u32
}

/// The parent's task.
#[inline(always)]
pub(crate) fn parent(task: u64) -> Result<u64, Fault> {
    field(task, &OFF_TASK_PARENT)
}

/// `PF_*` flags.
#[inline(always)]
pub(crate) fn flags(task: u64) -> Result<u32, Fault> {
    field(task, &OFF_TASK_FLAGS)
}

/// Status as wait(2) encodes it.
#[inline(always)]
pub(crate) fn exit_code(task: u64) -> Result<i32, Fault> {
    field(task, &OFF_TASK_EXIT_CODE)
}

/// Threads of the process that still live. `do_exit` takes the dying one off before the exit
/// tracepoint (kernel/exit.c), so zero there means that the whole group is dead.
#[inline(always)]
pub(crate) fn live_threads(task: u64) -> Result<i32, Fault> {
    let signal: u64 = field(task, &OFF_TASK_SIGNAL)?;
    field(signal, &OFF_SIGNAL_LIVE)
}

/// The memory of the task; zero for a kernel thread.
#[inline(always)]
pub(crate) fn mm(task: u64) -> Result<u64, Fault> {
    field(task, &OFF_TASK_MM)
}

/// The executable of the task.
#[inline(always)]
pub(crate) fn exe_file(task: u64) -> Result<u64, Fault> {
    field(mm(task)?, &OFF_MM_EXE_FILE)
}

/// Inode of the mount namespace.
#[inline(always)]
pub(crate) fn mount_ns(task: u64) -> Result<u32, Fault> {
    let nsproxy: u64 = field(task, &OFF_TASK_NSPROXY)?;
    let mounts: u64 = field(nsproxy, &OFF_NSPROXY_MNT)?;
    field(mounts, &OFF_MNTNS_INUM)
}

/// Id of the cgroup v2 directory of any task.
#[inline(always)]
pub(crate) fn cgroup_id(task: u64) -> Result<u64, Fault> {
    let set: u64 = field(task, &OFF_TASK_CGROUPS)?;
    cgroup_key(field(set, &OFF_CSS_SET_DFL)?)
}

/// Id of a `struct cgroup`.
#[inline(always)]
pub(crate) fn cgroup_key(cgroup: u64) -> Result<u64, Fault> {
    let node: u64 = field(cgroup, &OFF_CGROUP_KN)?;
    field(node, &OFF_KN_ID)
}

/// Writes who `task` is. Works for any task, not only for the current one.
#[inline(always)]
pub(crate) fn actor(task: u64, out: &mut ActorRecord) -> Result<(), Fault> {
    let cgroup = if task == current() {
        // SAFETY: a helper without preconditions.
        unsafe { bpf_get_current_cgroup_id() }
    } else {
        cgroup_id(task)?
    };
    actor_in(task, cgroup, out)
}

/// As [`actor`], in programs on packets, which older kernels (5.10, 6.1) do not let ask for the
/// current cgroup: "unknown func `bpf_get_current_cgroup_id`".
#[inline(always)]
pub(crate) fn packet_actor(task: u64, out: &mut ActorRecord) -> Result<(), Fault> {
    actor_in(task, cgroup_id(task)?, out)
}

#[inline(always)]
fn actor_in(task: u64, cgroup: u64, out: &mut ActorRecord) -> Result<(), Fault> {
    out.tgid = tgid(task)?;
    out.tid = tid(task)?;
    out.start_boot_ns = process_start(task)?;
    out.cgroup_id = cgroup;
    let cred: u64 = field(task, &OFF_TASK_CRED)?;
    out.uid = field(cred, &OFF_CRED_EUID)?;
    out.gid = field(cred, &OFF_CRED_EGID)?;
    out.comm = super::at::<[u8; COMM_BYTES]>(member(task, &OFF_TASK_COMM)?)?;
    Ok(())
}

/// Writes the start of a record about `task`.
#[inline(always)]
pub(crate) fn header(
    task: u64,
    kind: u16,
    len: usize,
    out: &mut RecordHeader,
) -> Result<(), Fault> {
    out.kind = kind;
    out.reserved = 0;
    out.len = len as u32;
    // SAFETY: a helper without preconditions.
    out.boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    actor(task, &mut out.actor)
}
