//! System calls that are told of at their exit, with what they were asked at their entry.
//!
//! Arguments are read at the entry, so a string behind a pointer may change until the kernel reads
//! it. What decides is read from kernel objects at the exit; such strings are evidence.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::programs::TracePointContext;
use monitor_common::SYSCALL_ARGS_OFFSET;

use crate::maps::CALLS;

/// What a system call was asked.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) args: [u64; 5],
    /// Which of a sensor's calls.
    pub(crate) what: u64,
}

/// Argument `N` at the entry of a system call.
#[inline(always)]
pub(crate) fn argument<const N: usize>(ctx: &TracePointContext) -> u64 {
    // SAFETY: the context of a system call's entry tracepoint holds the arguments there, eight
    // bytes each; the daemon compares with the tracepoint's format before it attaches.
    unsafe { ctx.as_ptr().cast::<u8>().add(SYSCALL_ARGS_OFFSET + N * 8).cast::<u64>().read() }
}

/// Keeps a call for its exit.
#[inline(always)]
pub(crate) fn keep(what: u64, args: [u64; 5]) {
    let call = Call { args, what };
    // A full map forgets who waits longest.
    let _kept = CALLS.insert(bpf_get_current_pid_tgid(), call, u64::from(BPF_ANY));
}

/// Takes what was kept of this thread's call.
#[inline(always)]
pub(crate) fn take() -> Option<Call> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied out at once.
    let call = unsafe { CALLS.get(thread) }.copied();
    if call.is_some() {
        let _gone = CALLS.remove(thread);
    }
    call
}
