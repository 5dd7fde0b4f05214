//! Pipes and FIFOs that workloads which have read weights write into. No tracepoint tells what goes
//! through a pipe, so the calls that write are looked at; for anybody else they cost one look at a
//! bit.
//!
//! A write is told of at its entry, with what it asks for: it may not return before the other end
//! has read, and sent, all of it. Calls that move pages return when the pipe is full, and are told
//! of then, with what they moved.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::KIND_LINK;

use super::call::{Arguments, Call, ended, keep};
use super::returned;
use crate::count::{Outcome, count};
use crate::filter;
use crate::globals::OFF_INODE_MODE;
use crate::read::file::{self, S_IFIFO, S_IFMT};
use crate::read::{Fault, field, task};
use crate::relay;

/// `O_NONBLOCK` (include/uapi/asm-generic/fcntl.h).
const O_NONBLOCK: u32 = 0o4000;
/// What one call can put into a pipe without waiting: as large as it may be made by anybody
/// (fs/pipe.c, `pipe_max_size`).
const PIPE_BYTES_MAX: u64 = 1 << 20;
/// Pieces of one vector (include/uapi/linux/uio.h, `UIO_MAXIOV`).
const VECTOR_PIECES_MAX: u64 = 1024;

/// A pipe that is written into.
struct Pipe {
    inode: u64,
    /// Whether a write into a full one returns at once.
    is_impatient: bool,
}

/// `write(fd, buf, count)`, at its entry.
#[tracepoint]
pub fn pipe_written(ctx: TracePointContext) -> u32 {
    if is_watched() {
        asked(ctx.get::<0>(), || ctx.get::<2>());
    }
    0
}

/// `writev` and `pwritev2(fd, iov, count, ...)`, at their entry.
#[tracepoint]
pub fn pipe_gathered(ctx: TracePointContext) -> u32 {
    if is_watched() {
        asked(ctx.get::<0>(), || vector_bytes(ctx.get::<1>(), ctx.get::<2>()));
    }
    0
}

/// A pair of programs for calls that move pages into a pipe: what they were asked, where that has
/// to be kept, and what they moved.
macro_rules! moving {
    ($(#[$doc:meta])* $entered:ident $done:ident $argument:literal) => {
        $(#[$doc])*
        #[tracepoint]
        pub fn $entered(ctx: TracePointContext) -> u32 {
            if is_watched() {
                keep(descriptor::<$argument>(&ctx));
            }
            0
        }

        $(#[$doc])*
        #[tracepoint]
        pub fn $done(ctx: TracePointContext) -> u32 {
            let moved = returned(&ctx);
            if moved > 0
                && is_watched()
                && let Some(call) = ended(descriptor::<$argument>)
            {
                filled(call.args[0], moved as u64);
            }
            0
        }
    };
}

moving! {
    /// `vmsplice(fd, ...)` and `sendfile(out_fd, ...)`.
    page_entered page_done 0
}

moving! {
    /// `tee(fd_in, fd_out, ...)`.
    tee_entered tee_done 1
}

moving! {
    /// `splice(fd_in, off_in, fd_out, ...)`.
    splice_entered splice_done 2
}

#[inline(always)]
fn descriptor<const N: usize>(asked: &impl Arguments) -> Option<Call> {
    Some(Call { args: [asked.get::<N>(), 0, 0, 0, 0], what: 0 })
}

/// Whether the current process is of a workload that has read weights.
#[inline(always)]
fn is_watched() -> bool {
    // SAFETY: a helper without preconditions.
    filter::is_marked(|| unsafe { bpf_get_current_cgroup_id() })
}

/// A write of so many bytes begins: if the pipe may not be waited for, no more than fits into one.
#[inline(always)]
fn asked(descriptor: u64, bytes: impl FnOnce() -> u64) {
    let Ok(Some(pipe)) = of_descriptor(descriptor) else { return };
    let bytes = bytes();
    let is_whole = !pipe.is_impatient || bytes < PIPE_BYTES_MAX;
    told(pipe.inode, if is_whole { bytes } else { PIPE_BYTES_MAX });
}

#[inline(always)]
fn filled(descriptor: u64, bytes: u64) {
    if let Ok(Some(pipe)) = of_descriptor(descriptor) {
        told(pipe.inode, bytes);
    }
}

/// The pipe behind a descriptor of the current process; what cannot be read is none.
#[inline(always)]
fn of_descriptor(descriptor: u64) -> Result<Option<Pipe>, Fault> {
    of_file(file::from_descriptor(task::current(), descriptor as u32)?)
}

/// The pipe behind an open file; nothing for any other file.
#[inline(always)]
fn of_file(file: u64) -> Result<Option<Pipe>, Fault> {
    let inode = file::inode(file)?;
    let mode: u16 = field(inode, &OFF_INODE_MODE)?;
    if mode & S_IFMT != S_IFIFO {
        return Ok(None);
    }
    let is_impatient = file::open_flags(file)? & O_NONBLOCK != 0;
    Ok(Some(Pipe { inode, is_impatient }))
}

#[inline(always)]
fn told(inode: u64, bytes: u64) {
    match relay::pipe(inode, bytes) {
        Ok(Some(passed)) => relay::tell(&passed),
        Ok(None) => {}
        Err(Fault) => count(KIND_LINK, Outcome::ReadFault),
    }
}

/// Bytes that io_uring put into an open file, which most often is no pipe.
#[inline(always)]
pub(crate) fn ring_wrote(file: u64, bytes: u64) {
    if is_watched()
        && let Ok(Some(pipe)) = of_file(file)
    {
        told(pipe.inode, bytes);
    }
}

/// Bytes of all pieces of a vector, as many as the kernel takes in one.
#[inline(always)]
fn vector_bytes(vector: u64, count: u64) -> u64 {
    /// `iov_len` of a `struct iovec`, and its size (include/uapi/linux/uio.h).
    const LENGTH_OFFSET: u64 = 8;
    const PIECE_BYTES: u64 = 16;
    let mut bytes: u64 = 0;
    let mut at: u64 = 0;
    while at < VECTOR_PIECES_MAX && at < count {
        let length = (vector + at * PIECE_BYTES + LENGTH_OFFSET) as *const u64;
        // SAFETY: the helper accepts any user address, and the value is plain.
        bytes = bytes.saturating_add(unsafe { bpf_probe_read_user(length) }.unwrap_or(0));
        at += 1;
    }
    bytes
}
