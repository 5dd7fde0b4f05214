//! Segments of System V shared memory that are attached: told as opened files, which they are
//! inside the kernel. Nobody opens them, and no descriptor leads to them.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::{
    FileIdRecord, FileOpenRecord, InodeKey, KIND_FILE_OPEN, OPEN_SEGMENT, PATH_BYTES_MAX,
    PATH_TRUNCATED, SEGMENT_BYTES_MIN,
};

use super::call::{Arguments, Call, ended, keep};
use super::file::open_is_repeated;
use super::returned;
use crate::count::{Outcome, count};
use crate::emit::{self, OpenScratch};
use crate::filter;
use crate::globals::SELF_TGID;
use crate::lane::Lane;
use crate::maps::OPEN_SCRATCH;
use crate::read::{Fault, file, ipc, task};

/// `SHM_RDONLY` (include/uapi/linux/shm.h).
const SHM_RDONLY: u64 = 0o10000;
/// `O_RDONLY` and `O_RDWR` (include/uapi/asm-generic/fcntl.h).
const O_RDONLY: u32 = 0;
const O_RDWR: u32 = 2;

/// `shmat(number, address, flags)`.
#[inline(always)]
fn asked(asked: &impl Arguments) -> Option<Call> {
    Some(Call { args: [asked.get::<0>(), asked.get::<2>(), 0, 0, 0], what: 0 })
}

#[tracepoint]
pub fn segment_entered(ctx: TracePointContext) -> u32 {
    keep(asked(&ctx));
    0
}

#[tracepoint]
pub fn segment_done(ctx: TracePointContext) -> u32 {
    let Some(call) = ended(asked) else { return 0 };
    // An error is a small negative number (include/linux/err.h); anything else is an address.
    if (-4095..0).contains(&returned(&ctx)) {
        return 0;
    }
    let Some(slot) = OPEN_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's slot; tracepoint programs run with preemption off.
    let scratch = unsafe { &mut *slot };
    match ipc::segment(call.args[0] as u32) {
        Ok(segment) => attached(segment, call.args[1], scratch),
        Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
    }
    0
}

/// The current task attaches the segment whose `struct kern_ipc_perm` this is.
#[inline(always)]
pub(crate) fn attached(segment: u64, flags: u64, scratch: &mut OpenScratch) {
    if !filter::wanted(KIND_FILE_OPEN) {
        return count(KIND_FILE_OPEN, Outcome::Filtered);
    }
    scratch.record.open_flags = if flags & SHM_RDONLY != 0 { O_RDONLY } else { O_RDWR };
    match fill(segment, scratch) {
        Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
        Ok(None) => count(KIND_FILE_OPEN, Outcome::Filtered),
        // In the order of what is read and what is sent.
        Ok(Some(len)) if filter::within_rate(scratch.record.header.actor.cgroup_id, Lane::Life) => {
            emit::scratch(KIND_FILE_OPEN, Lane::Life, (&raw const *scratch).cast(), len);
        }
        Ok(Some(_)) => count(KIND_FILE_OPEN, Outcome::RateLimited),
    }
}

#[inline(always)]
fn fill(segment: u64, scratch: &mut OpenScratch) -> Result<Option<u32>, Fault> {
    let file = ipc::file(segment)?;
    let head = &mut scratch.head;
    head.fill(file::inode(file)?)?;
    let size = head.size()?;
    if size < SEGMENT_BYTES_MIN {
        return Ok(None);
    }
    let id = identity(head.id()?)?;
    let record = &mut scratch.record;
    let key = InodeKey { inode: id.inode, device: id.device, generation: 0 };
    if open_is_repeated(record.open_flags, key) {
        return Ok(None);
    }
    task::header(task::current(), KIND_FILE_OPEN, 0, &mut record.header)?;
    if record.header.actor.tgid == SELF_TGID.load() {
        return Ok(None);
    }
    record.file = id;
    record.size = size;
    record.fs_magic = head.fs_magic()?;
    record.mode = u32::from(head.mode()?);
    record.rdev = 0;
    record.reason = OPEN_SEGMENT;
    record.name_class = 0;
    record.label = 0;
    record.reserved = 0;
    let span = scratch.path.walk(file::mount(file)?, file::dentry(file)?)?;
    record.flags = if span.truncated { PATH_TRUNCATED } else { 0 };
    let path_len = scratch.path.copy_to(span, scratch.tail.as_mut_ptr(), PATH_BYTES_MAX as u32);
    record.path_len = path_len;
    let len = size_of::<FileOpenRecord>() as u32 + path_len;
    record.header.len = len;
    Ok(Some(len))
}

/// All segments of a host are on one file system, and numbers start anew in each IPC namespace: the
/// namespace's own number stands above the segment's, where inode numbers of memory do not reach.
/// Without its highest bit, which all of them have (include/uapi/linux/nsfs.h): that would make a
/// negative number of it in rules.
#[inline(always)]
fn identity(file: FileIdRecord) -> Result<FileIdRecord, Fault> {
    let namespace = u64::from(ipc::namespace_number()? & 0x7fff_ffff) << 32;
    Ok(FileIdRecord { inode: namespace | file.inode & 0xffff_ffff, ..file })
}
