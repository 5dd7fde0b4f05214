//! Files by io_uring: opens, reads and writes that pass no system call of their own, whoever
//! submits them (the process, a worker, or the thread that polls the queue).

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::KIND_FILE_READ;

use crate::count::{Outcome, count};
use crate::globals::{IO_RESULT_IN_CQE, OFF_IO_FILE, OFF_IO_OPCODE};
use crate::hook::{file, pipe};
use crate::maps::OPEN_SCRATCH;
use crate::read::{Fault, at, field};
use crate::reader::{self, Road};

/// Operations (include/uapi/linux/io_uring.h, `enum io_uring_op`; the numbers are stable).
const READV: u8 = 1;
const READ_FIXED: u8 = 4;
const OPENAT: u8 = 18;
const READ: u8 = 22;
const OPENAT2: u8 = 28;
const READ_MULTISHOT: u8 = 49;
/// The same that put bytes into the request's file: `WRITEV` 2, `WRITE_FIXED` 5, `WRITE` 23,
/// `SPLICE` 30, `TEE` 33.
const WRITING: u64 = 1 << 2 | 1 << 5 | 1 << 23 | 1 << 30 | 1 << 33;

/// `res` of a `struct io_uring_cqe` (include/uapi/linux/io_uring.h).
const CQE_RESULT_OFFSET: u64 = 8;

/// match-proto:v6.18:include/trace/events/io_uring.h:
/// `io_uring_complete(struct io_ring_ctx *ctx, void *req, struct io_uring_cqe *cqe)`; from 5.19 to
/// 6.15 the third and fourth arguments are `u64 user_data, int res`. The daemon says which.
#[btf_tracepoint(function = "io_uring_complete")]
pub fn uring_done(ctx: BtfTracePointContext) -> i32 {
    let request: u64 = ctx.arg(1);
    if request == 0 {
        return 0;
    }
    let Ok(operation) = field::<u8>(request, &OFF_IO_OPCODE) else { return 0 };
    let is_open = operation == OPENAT || operation == OPENAT2;
    let is_read = operation == READ
        || operation == READ_FIXED
        || operation == READV
        || operation == READ_MULTISHOT;
    let is_write = operation < 64 && WRITING >> operation & 1 != 0;
    if !is_open && !is_read && !is_write {
        return 0;
    }
    let result = if IO_RESULT_IN_CQE.load() != 0 {
        let Ok(result) = at::<i32>(ctx.arg::<u64>(2) + CQE_RESULT_OFFSET) else { return 0 };
        result
    } else {
        ctx.arg::<i32>(3)
    };
    if is_open && result >= 0 {
        let Some(slot) = OPEN_SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: this CPU's slot; tracepoint programs run with preemption off, and an open does
        // not complete in an interrupt.
        let scratch = unsafe { &mut *slot };
        // A direct descriptor is none of the task's table: what stands there under its number is
        // looked at instead, and is nothing new.
        file::opened(result as u32, scratch);
    } else if is_read && result > 0 {
        read_done(request, result as u64);
    } else if is_write
        && result > 0
        && let Ok(file) = field(request, &OFF_IO_FILE)
    {
        pipe::ring_wrote(file, result as u64);
    }
    0
}

/// Adds what was read, whoever submitted it.
#[inline(always)]
fn read_done(request: u64, bytes: u64) {
    match field(request, &OFF_IO_FILE) {
        Ok(file) => reader::add(file, bytes, Road::Read),
        Err(Fault) => count(KIND_FILE_READ, Outcome::ReadFault),
    }
}
