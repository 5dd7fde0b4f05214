//! Files by io_uring: opens and reads that pass no system call of their own, whoever submits them
//! (the process, a worker, or the thread that polls the queue).

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::{
    FileReadRecord, InodeKey, KIND_FILE_READ, READ_STEP_BYTES, ReaderKey, ReaderSum,
};

use crate::count::{Outcome, count};
use crate::emit;
use crate::filter;
use crate::globals::{IO_RESULT_IN_CQE, OFF_INODE_SIZE, OFF_IO_FILE, OFF_IO_OPCODE, SELF_TGID};
use crate::hook::file;
use crate::lane::Lane;
use crate::maps::{LABELS, OPEN_SCRATCH, READERS};
use crate::read::file as files;
use crate::read::{Fault, at, field, task};

/// Operations (include/uapi/linux/io_uring.h, `enum io_uring_op`; the numbers are stable).
const READV: u8 = 1;
const READ_FIXED: u8 = 4;
const OPENAT: u8 = 18;
const READ: u8 = 22;
const OPENAT2: u8 = 28;
const READ_MULTISHOT: u8 = 49;

/// `res` of a `struct io_uring_cqe` (include/uapi/linux/io_uring.h).
const CQE_RESULT_OFFSET: u64 = 8;

/// Reads by one process and file that come sooner after a record than this are summed.
const READ_STEP_NS: u64 = 10_000_000;

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
    if !is_open && !is_read {
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
    }
    0
}

/// Sums what was read of a labelled file, and tells of it in steps.
#[inline(always)]
fn read_done(request: u64, bytes: u64) {
    match read_sum(request, bytes) {
        Ok(None) => {}
        Ok(Some(read)) => read_tell(&read),
        Err(Fault) => count(KIND_FILE_READ, Outcome::ReadFault),
    }
}

/// What is told of bytes read.
struct Read {
    inode: u64,
    label: u32,
    bytes: u64,
    bytes_total: u64,
}

#[inline(always)]
fn read_sum(request: u64, bytes: u64) -> Result<Option<Read>, Fault> {
    let file: u64 = field(request, &OFF_IO_FILE)?;
    if file == 0 {
        return Ok(None);
    }
    let inode = files::inode(file)?;
    if !filter::may_be_marked(files::number(inode)?) {
        return Ok(None);
    }
    let key: InodeKey = files::key(inode)?;
    // SAFETY: the value is copied out at once.
    let Some(label) = (unsafe { LABELS.get(key) }).copied() else { return Ok(None) };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == SELF_TGID.load() {
        return Ok(None);
    }
    let reader = ReaderKey { file: key, tgid, reserved: 0 };
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(sum) = READERS.get_ptr_mut(reader) else {
        let first = ReaderSum { bytes, told: bytes, told_boot_ns: now };
        // A full map forgets who read longest ago: a sum that begins again is told as one.
        let _kept = READERS.insert(reader, first, u64::from(BPF_ANY));
        return Ok(Some(Read { inode, label, bytes, bytes_total: bytes }));
    };
    // SAFETY: the map's value lives while the program runs; a sum that two CPUs add to at once may
    // miss one of them, which the bound in the catalog says.
    let sum = unsafe { &mut *sum };
    sum.bytes += bytes;
    let untold = sum.bytes - sum.told;
    if untold < READ_STEP_BYTES && now.wrapping_sub(sum.told_boot_ns) < READ_STEP_NS {
        count(KIND_FILE_READ, Outcome::Filtered);
        return Ok(None);
    }
    sum.told = sum.bytes;
    sum.told_boot_ns = now;
    Ok(Some(Read { inode, label, bytes: untold, bytes_total: sum.bytes }))
}

#[inline(always)]
fn read_tell(read: &Read) {
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    emit::fixed::<FileReadRecord>(KIND_FILE_READ, Lane::High, cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        let current = task::current();
        task::header(current, KIND_FILE_READ, size_of::<FileReadRecord>(), &mut record.header)?;
        record.file = files::id(read.inode)?;
        record.bytes = read.bytes;
        record.bytes_total = read.bytes_total;
        record.size = field(read.inode, &OFF_INODE_SIZE)?;
        record.flags = 0;
        record.label = read.label;
        record.reserved = 0;
        Ok(())
    });
}
