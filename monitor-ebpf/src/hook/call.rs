//! System calls that are told of at their exit, with what they were asked.
//!
//! Where the kernel gives a program the caller's registers (`bpf_task_pt_regs`, 5.15 and newer),
//! the arguments are read at the exit. Elsewhere they are kept from the entry: a second tracepoint
//! for each call, which costs the caller and which takes long to let go of.
//!
//! A string behind a pointer may be another one by the time the kernel reads it. What decides is
//! read from kernel objects at the exit; such strings are evidence.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::programs::TracePointContext;
use monitor_common::{OFFSET_ABSENT, SYSCALL_ARGS_OFFSET, SYSCALL_NUMBER_OFFSET};

use crate::globals::{
    CALL_REGISTERS, OFF_REGS_0, OFF_REGS_1, OFF_REGS_2, OFF_REGS_3, OFF_REGS_4, OFF_REGS_ALL, Place,
};
use crate::maps::CALLS;
use crate::read;

/// What a system call was asked.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) args: [u64; 5],
    /// Which of a sensor's calls.
    pub(crate) what: u64,
}

/// Arguments of a system call.
pub(crate) trait Arguments {
    /// Argument `N`; zero where it cannot be read.
    fn get<const N: usize>(&self) -> u64;
}

impl Arguments for TracePointContext {
    #[inline(always)]
    fn get<const N: usize>(&self) -> u64 {
        // SAFETY: the context of a system call's entry tracepoint holds the arguments there, eight
        // bytes each; the daemon compares with the tracepoint's format before it attaches.
        unsafe { self.as_ptr().cast::<u8>().add(SYSCALL_ARGS_OFFSET + N * 8).cast::<u64>().read() }
    }
}

/// The registers that a thread entered the kernel with.
pub(crate) struct Registers(u64);

impl Registers {
    #[inline(always)]
    pub(crate) fn current() -> Self {
        // SAFETY: helpers without preconditions; the verifier knows the task's type.
        Self(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64)
    }
}

impl Arguments for Registers {
    #[inline(always)]
    fn get<const N: usize>(&self) -> u64 {
        let place: &Place = match N {
            0 => &OFF_REGS_0,
            1 => &OFF_REGS_1,
            2 => &OFF_REGS_2,
            3 => &OFF_REGS_3,
            _ => &OFF_REGS_4,
        };
        if place.load() != OFFSET_ABSENT {
            return read::field(self.0, place).unwrap_or(0);
        }
        read::member(self.0, &OFF_REGS_ALL)
            .and_then(|all| read::at(all + N as u64 * 8))
            .unwrap_or(0)
    }
}

/// Keeps a call for its exit.
#[inline(always)]
pub(crate) fn keep(call: Option<Call>) {
    if let Some(call) = call {
        // A full map forgets who waits longest.
        let _kept = CALLS.insert(bpf_get_current_pid_tgid(), call, u64::from(BPF_ANY));
    }
}

/// What the call that ends was asked: `read` reads it, unless it was kept at the entry.
#[inline(always)]
pub(crate) fn ended(read: impl FnOnce(&Registers) -> Option<Call>) -> Option<Call> {
    if CALL_REGISTERS.load() != 0 {
        return read(&Registers::current());
    }
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied out at once.
    let call = unsafe { CALLS.get(thread) }.copied();
    if call.is_some() {
        let _gone = CALLS.remove(thread);
    }
    call
}

/// The number of the system call that ends.
#[inline(always)]
pub(crate) fn number(ctx: &TracePointContext) -> u32 {
    // SAFETY: the context of every system call's tracepoint holds the number there
    // (include/trace/syscall.h, `struct syscall_trace_exit`); the daemon compares with the format.
    unsafe { ctx.as_ptr().cast::<u8>().add(SYSCALL_NUMBER_OFFSET).cast::<u32>().read() }
}
