//! Standard streams: what they are when a program is executed, and when one is replaced.

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use monitor_common::{KIND_STDIO, STDIO_DUP, STDIO_EXEC, STREAM_OTHER, STREAM_SOCKET, StdioRecord};

use crate::count::{Outcome, count};
use crate::emit;
use crate::globals::CALL_REGISTERS;
use crate::hook::call::{Arguments as _, Registers};
use crate::hook::returned;
use crate::lane::Lane;
use crate::maps::STDIO_SCRATCH;
use crate::read::sock::AF_UNIX;
use crate::read::stream::stream;
use crate::read::{Fault, task};

/// Commands of fcntl(2) that return a descriptor (include/uapi/linux/fcntl.h).
const F_DUPFD: u32 = 0;
const F_DUPFD_CLOEXEC: u32 = 1030;

/// The highest standard stream.
const STDERR: i64 = 2;

/// match-proto:v6.18:include/trace/events/sched.h:
/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn stdio_exec(ctx: BtfTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let Some(slot) = STDIO_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's slot; an exec does not interrupt an exec on one CPU.
    let record = unsafe { &mut *slot };
    match exec_fill(task, record) {
        Err(Fault) => count(KIND_STDIO, Outcome::ReadFault),
        Ok(false) => count(KIND_STDIO, Outcome::Filtered),
        Ok(true) => send(record),
    }
    0
}

/// Whether any stream is worth telling of.
#[inline(always)]
fn exec_fill(task: u64, record: &mut StdioRecord) -> Result<bool, Fault> {
    stream(task, 0, &mut record.streams[0])?;
    stream(task, 1, &mut record.streams[1])?;
    stream(task, 2, &mut record.streams[2])?;
    let told = record.streams[0].kind | record.streams[1].kind | record.streams[2].kind;
    if told == STREAM_OTHER {
        return Ok(false);
    }
    record.cause = STDIO_EXEC;
    record.count = 3;
    record.reserved = 0;
    task::header(task, KIND_STDIO, size_of::<StdioRecord>(), &mut record.header)?;
    Ok(true)
}

/// One program for `dup`, `dup2` and `dup3`: what they return is a descriptor.
#[tracepoint]
pub fn stdio_dup(ctx: TracePointContext) -> u32 {
    replaced(returned(&ctx));
    0
}

/// `fcntl(fd, command, argument)` returns a descriptor for two commands. What any other returns is
/// a small number as well, and such calls are made for each file that a library opens.
///
/// Where the command cannot be read, the stream of that number is looked at in vain, and what is
/// told of it is true all the same.
#[tracepoint]
pub fn stdio_fcntl(ctx: TracePointContext) -> u32 {
    let result = returned(&ctx);
    if result < 0 || result > STDERR {
        return 0;
    }
    if CALL_REGISTERS.load() != 0 {
        let command = Registers::current().get::<1>() as u32;
        if command != F_DUPFD && command != F_DUPFD_CLOEXEC {
            return 0;
        }
    }
    replaced(result);
    0
}

/// Looks at what a call returned that may have replaced a standard stream.
#[inline(always)]
fn replaced(result: i64) {
    if result < 0 || result > STDERR {
        return;
    }
    let Some(slot) = STDIO_SCRATCH.get_ptr_mut(1) else { return };
    // SAFETY: this CPU's slot; tracepoint programs run with preemption off.
    let record = unsafe { &mut *slot };
    match dup_fill(result as u32, record) {
        Err(Fault) => count(KIND_STDIO, Outcome::ReadFault),
        Ok(false) => count(KIND_STDIO, Outcome::Filtered),
        Ok(true) => send(record),
    }
}

/// Whether the stream is a socket that leads out. Pipes are told at exec: a shell that is joined
/// with a pipe is executed.
#[inline(always)]
fn dup_fill(fd: u32, record: &mut StdioRecord) -> Result<bool, Fault> {
    let current = task::current();
    stream(current, fd, &mut record.streams[0])?;
    if record.streams[0].kind != STREAM_SOCKET || record.streams[0].family == AF_UNIX {
        return Ok(false);
    }
    record.cause = STDIO_DUP;
    record.count = 1;
    record.reserved = 0;
    task::header(current, KIND_STDIO, size_of::<StdioRecord>(), &mut record.header)?;
    Ok(true)
}

#[inline(always)]
fn send(record: &mut StdioRecord) {
    let lane = Lane::High;
    if !crate::filter::within_rate(record.header.actor.cgroup_id, lane) {
        return count(KIND_STDIO, Outcome::RateLimited);
    }
    let len = size_of::<StdioRecord>() as u32;
    emit::scratch(KIND_STDIO, lane, (&raw const *record).cast(), len);
}
