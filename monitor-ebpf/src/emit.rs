//! From a filled record to a ring, and the accounts of that.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use monitor_common::{
    ARGS_BYTES_MAX, CWD_BYTES_MAX, ExecRecord, FileChangeRecord, FileOpenRecord, PATH_BYTES_MAX,
    RECORD_BYTES_MAX, RecordHeader,
};

use crate::count::{Outcome, count};
use crate::filter;
use crate::lane::{Lane, QUIET};
use crate::read::Fault;
use crate::read::file::InodeHead;
use crate::read::name::NameHead;
use crate::read::path::PathBuffer;

/// Where an exec record is put together.
#[repr(C)]
pub(crate) struct ExecScratch {
    pub(crate) record: ExecRecord,
    pub(crate) tail: [u8; PATH_BYTES_MAX + ARGS_BYTES_MAX + CWD_BYTES_MAX],
    pub(crate) path: PathBuffer,
}

/// Where a file record is put together.
#[repr(C)]
pub(crate) struct OpenScratch {
    pub(crate) record: FileOpenRecord,
    pub(crate) tail: [u8; PATH_BYTES_MAX],
    pub(crate) path: PathBuffer,
    pub(crate) head: InodeHead,
    pub(crate) name: NameHead,
    /// The overlay's file that this thread is opening, until the one in its layer is opened; zero
    /// for none.
    pub(crate) above: u64,
}

/// Where a record about a changed file is put together.
#[repr(C)]
pub(crate) struct ChangeScratch {
    pub(crate) record: FileChangeRecord,
    pub(crate) tail: [u8; 2 * PATH_BYTES_MAX],
    pub(crate) path: PathBuffer,
    /// Makes the slot a page long, which is the bound that [`page`] says.
    room: [u8; 640],
}

const _: () = assert!(size_of::<ChangeScratch>() >= PAGE_BYTES);

/// What [`page`] masks a length with, plus one.
const PAGE_BYTES: usize = 4096;

/// Reserves a record of fixed size, lets `fill` write it in place, and submits it. Counts the
/// outcome under `kind`. Whether it was sent, or nobody wants it.
#[inline(always)]
pub(crate) fn fixed<T: 'static>(
    kind: u16,
    lane: Lane,
    cgroup: u64,
    fill: impl FnOnce(&mut MaybeUninit<T>) -> Result<(), Fault>,
) -> bool {
    // Most hooks have asked before they did any work; no record leaves that nobody needs.
    if !filter::wanted(kind) || !filter::wanted_of(kind, cgroup) {
        count(kind, Outcome::Filtered);
        return true;
    }
    if !filter::within_rate(cgroup, lane) {
        count(kind, Outcome::RateLimited);
        return false;
    }
    let Some(mut entry) = lane.ring().reserve::<T>(0) else {
        count(kind, Outcome::RingFull);
        return false;
    };
    if fill(&mut entry).is_err() {
        entry.discard(QUIET);
        count(kind, Outcome::ReadFault);
        return false;
    }
    entry.submit(QUIET);
    lane.knock();
    count(kind, Outcome::Sent);
    true
}

/// As [`scratch`], of a slot that is at least a page long. The bound is said in the last moment:
/// through two walks of a path the verifiers of 5.10 and 6.1 forget what the copies returned, and
/// what was bounded before ("R2 min value is outside of the allowed memory range").
#[inline(always)]
pub(crate) fn page(kind: u16, lane: Lane, record: *const u8, len: u32) {
    let mut len = u64::from(len);
    // SAFETY: one instruction on a register.
    unsafe {
        core::arch::asm!("{len} &= 4095", len = inout(reg) len);
    }
    // SAFETY: the record is the start of a slot that is at least a page long.
    let sent = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(lane.ring()).cast_mut().cast(),
            record.cast_mut().cast(),
            len,
            QUIET,
        )
    };
    if sent != 0 {
        return count(kind, Outcome::RingFull);
    }
    lane.knock();
    count(kind, Outcome::Sent);
}

/// Sends the first `len` bytes of a record that was put together in a scratch slot.
#[inline(always)]
pub(crate) fn scratch(kind: u16, lane: Lane, record: *const u8, len: u32) {
    // SAFETY: every record begins with its header, which has been filled.
    let cgroup = unsafe { (*record.cast::<RecordHeader>()).actor.cgroup_id };
    if !filter::wanted(kind) || !filter::wanted_of(kind, cgroup) {
        return count(kind, Outcome::Filtered);
    }
    let len = if len as usize > RECORD_BYTES_MAX { RECORD_BYTES_MAX as u32 } else { len };
    // SAFETY: the record is the start of a map value at least RECORD_BYTES_MAX or its own maximum
    // long; the verifier checks the bound against the value's size.
    let sent = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(lane.ring()).cast_mut().cast(),
            record.cast_mut().cast(),
            u64::from(len),
            QUIET,
        )
    };
    if sent != 0 {
        return count(kind, Outcome::RingFull);
    }
    lane.knock();
    count(kind, Outcome::Sent);
}
