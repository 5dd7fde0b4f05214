//! watch the same calls. They count; or, told so, they send a bare record without waking anybody.
//! Nothing that watches these calls can cost less than the first, and nothing that tells of each
//! less than the second.
#![no_std]
#![no_main]

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::{btf_tracepoint, map, tracepoint};
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};

/// `BPF_RB_NO_WAKEUP` (include/uapi/linux/bpf.h).
const NO_WAKEUP: u64 = 1;

/// Whether each call is told of; else it is counted.
#[unsafe(no_mangle)]
static RECORDS: Global<u32> = Global::new(0);

/// One entry for each call that is watched.
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(4, 0);

#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 22, 0);

/// A record as small as one that is of use.
#[repr(C)]
struct Bare {
    time_boot_ns: u64,
    pid_tgid: u64,
    call: u64,
}

#[inline(always)]
fn note(call: u32) {
    if RECORDS.load() == 0 {
        if let Some(count) = COUNTS.get_ptr_mut(call) {
            // SAFETY: this CPU's value; the programs run with preemption off.
            unsafe { *count += 1 };
        }
        return;
    }
    let Some(mut slot) = RING.reserve::<Bare>(0) else { return };
    // SAFETY: a helper without preconditions.
    let time_boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    slot.write(Bare { time_boot_ns, pid_tgid: bpf_get_current_pid_tgid(), call: u64::from(call) });
    slot.submit(NO_WAKEUP);
}

#[tracepoint]
pub fn floor_open(_ctx: TracePointContext) -> u32 {
    note(0);
    0
}

#[tracepoint]
pub fn floor_send(_ctx: TracePointContext) -> u32 {
    note(1);
    0
}

#[tracepoint]
pub fn floor_connect(_ctx: TracePointContext) -> u32 {
    note(2);
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn floor_exec(_ctx: BtfTracePointContext) -> i32 {
    note(3);
    0
}

/// The verifier refuses an endless loop, so a reachable panic is a load failure and not silence.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
