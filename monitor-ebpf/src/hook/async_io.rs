//! Unusual ways into the kernel: `io_uring`, userfaultfd.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use monitor_common::{
    ASYNC_IO_URING, ASYNC_IO_URING_NET, ASYNC_SQPOLL, ASYNC_USERFAULTFD, AsyncIoRecord,
    KIND_ASYNC_IO,
};

use super::call::{Arguments, Call, ended, keep};
use crate::count::{Outcome, count};
use crate::emit;
use crate::globals::{OFF_KIOCB_OPCODE, SELF_TGID};
use crate::hook::returned;
use crate::lane::Lane;
use crate::maps::URING_USERS;
use crate::read::{self, Fault, task};

/// `IORING_SETUP_SQPOLL` (include/uapi/linux/io_uring.h).
const IORING_SETUP_SQPOLL: u32 = 1 << 1;
/// Operations on sockets (include/uapi/linux/io_uring.h, `enum io_uring_op`): `SENDMSG` 9,
/// `RECVMSG` 10, `ACCEPT` 13, `CONNECT` 16, `SEND` 26, `RECV` 27, `SOCKET` 45, `SEND_ZC` 47,
/// `SENDMSG_ZC` 48, `BIND` 56, `LISTEN` 57, `RECV_ZC` 58.
const NET_OPCODES: u64 = 1 << 9
    | 1 << 10
    | 1 << 13
    | 1 << 16
    | 1 << 26
    | 1 << 27
    | 1 << 45
    | 1 << 47
    | 1 << 48
    | 1 << 56
    | 1 << 57
    | 1 << 58;

/// match-proto:v6.18:include/trace/events/io_uring.h: `io_uring_create(int fd, void *ctx,
/// u32 sq_entries, u32 cq_entries, u32 flags)`
#[btf_tracepoint(function = "io_uring_create")]
pub fn uring_made(ctx: BtfTracePointContext) -> i32 {
    let flags: u32 = ctx.arg(4);
    let op = if flags & IORING_SETUP_SQPOLL == 0 { ASYNC_IO_URING } else { ASYNC_SQPOLL };
    report(op, 0, u64::from(flags));
    0
}

/// match-proto:v6.18:include/trace/events/io_uring.h:
/// `io_uring_submit_req(struct io_kiocb *req)`, 6.3 and newer
///
/// Each process is told of once for each operation: what it sends is seen at the socket.
#[btf_tracepoint(function = "io_uring_submit_req")]
pub fn uring_submit(ctx: BtfTracePointContext) -> i32 {
    let request: u64 = ctx.arg(0);
    let Ok(opcode) = read::field::<u8>(request, &OFF_KIOCB_OPCODE) else {
        count(KIND_ASYNC_IO, Outcome::ReadFault);
        return 0;
    };
    if opcode >= 64 || NET_OPCODES >> opcode & 1 == 0 {
        return 0;
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let bit = 1u64 << opcode;
    if let Some(seen) = URING_USERS.get_ptr_mut(tgid) {
        // SAFETY: the map's value lives while the program runs. Two threads at once may both tell.
        let seen = unsafe { &mut *seen };
        if *seen & bit != 0 {
            return 0;
        }
        *seen |= bit;
    } else {
        // A full map forgets who submitted longest ago, and tells of it once more. So does a
        // process id that is used again within the map's memory: then nothing is told.
        let _kept = URING_USERS.insert(tgid, bit, u64::from(BPF_ANY));
    }
    report(ASYNC_IO_URING_NET, u16::from(opcode), 0);
    0
}

/// `userfaultfd(flags)`.
#[inline(always)]
fn userfaultfd(asked: &impl Arguments) -> Option<Call> {
    Some(Call { args: [asked.get::<0>(), 0, 0, 0, 0], what: 0 })
}

#[tracepoint]
pub fn uffd_entered(ctx: TracePointContext) -> u32 {
    keep(userfaultfd(&ctx));
    0
}

#[tracepoint]
pub fn uffd_done(ctx: TracePointContext) -> u32 {
    let Some(call) = ended(userfaultfd) else { return 0 };
    if returned(&ctx) >= 0 {
        report(ASYNC_USERFAULTFD, 0, call.args[0]);
    }
    0
}

#[inline(always)]
fn report(op: u16, opcode: u16, flags: u64) {
    let current = task::current();
    if task::tgid(current).unwrap_or(0) == SELF_TGID.load() {
        return count(KIND_ASYNC_IO, Outcome::Filtered);
    }
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { aya_ebpf::helpers::generated::bpf_get_current_cgroup_id() };
    emit::fixed::<AsyncIoRecord>(KIND_ASYNC_IO, Lane::High, cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        let len = size_of::<AsyncIoRecord>();
        task::header(current, KIND_ASYNC_IO, len, &mut record.header)?;
        record.op = op;
        record.opcode = opcode;
        record.reserved = 0;
        record.call_flags = flags;
        Ok::<(), Fault>(())
    });
}
