//! The programs, one file a subject. A program decides, reads, and ends in one counted outcome.

pub(crate) mod async_io;
pub(crate) mod call;
pub(crate) mod cgroup;
pub(crate) mod file;
pub(crate) mod full;
pub(crate) mod map;
pub(crate) mod memory;
pub(crate) mod namespace;
pub(crate) mod net;
pub(crate) mod packet;
pub(crate) mod packet_bytes;
mod payload;
pub(crate) mod pipe;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod rename;
pub(crate) mod segment;
pub(crate) mod socket;
pub(crate) mod stdio;
pub(crate) mod tamper;
pub(crate) mod uring;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::programs::TracePointContext;
use monitor_common::SYSCALL_RESULT_OFFSET;

/// What a system call returned, from its exit tracepoint.
#[inline(always)]
fn returned(ctx: &TracePointContext) -> i64 {
    // SAFETY: the context of a system call's exit tracepoint holds the result there; the daemon
    // compares with the tracepoint's format before it attaches. The verifier takes a constant only.
    unsafe { ctx.as_ptr().cast::<u8>().add(SYSCALL_RESULT_OFFSET).cast::<i64>().read() }
}
