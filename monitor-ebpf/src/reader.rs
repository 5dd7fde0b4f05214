//! Bytes read of labelled files: summed per process and file, told in steps.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns};
use monitor_common::{
    FileReadRecord, KIND_FILE_READ, READ_MAPPED, READ_STEP_BYTES, READ_STEP_NS, ReaderKey,
    ReaderSum,
};

use crate::count::{Outcome, count};
use crate::emit;
use crate::globals::{OFF_INODE_SIZE, SELF_TGID};
use crate::label::{self, Labelled};
use crate::lane::Lane;
use crate::maps::READERS;
use crate::read::{Fault, field, file, task};

/// How bytes came to a process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Road {
    /// Copied to it, or moved on by it.
    Read,
    /// Mapped into it.
    Mapped,
}

/// Adds bytes that the current process read of the open file at `file`, and tells when it is time.
#[inline(always)]
pub(crate) fn add(file: u64, bytes: u64, road: Road) {
    add_once(file, bytes, road, false);
}

/// As [`add`]. Where `layers_tell`, what lies in a layer of an overlay tells for itself.
#[inline(always)]
pub(crate) fn add_once(file: u64, bytes: u64, road: Road, layers_tell: bool) {
    match sum(file, bytes, road, layers_tell) {
        Ok(None) => {}
        Ok(Some(read)) => tell(&read),
        Err(Fault) => count(KIND_FILE_READ, Outcome::ReadFault),
    }
}

/// What is told of bytes read.
struct Read {
    inode: u64,
    label: u32,
    bytes: u64,
    bytes_total: u64,
    flags: u32,
}

#[inline(always)]
fn sum(file: u64, bytes: u64, road: Road, layers_tell: bool) -> Result<Option<Read>, Fault> {
    if file == 0 {
        return Ok(None);
    }
    let Some(found) = label::of_file(file)? else { return Ok(None) };
    let Labelled { inode, key, label, is_in_layer } = found;
    if is_in_layer && layers_tell {
        return Ok(None);
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == SELF_TGID.load() {
        return Ok(None);
    }
    let flags = if road == Road::Mapped { READ_MAPPED } else { 0 };
    let bytes = if road == Road::Mapped {
        // A mapping may be longer than its file; there is no more to read than that.
        let size: u64 = field(inode, &OFF_INODE_SIZE)?;
        if bytes > size { size } else { bytes }
    } else {
        bytes
    };
    // Mapped and read bytes are two sums.
    let reader = ReaderKey { file: key, tgid, reserved: flags };
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(sum) = READERS.get_ptr_mut(reader) else {
        let first = ReaderSum { bytes, told: bytes, told_boot_ns: now };
        // A full map forgets who read longest ago: a sum that begins again is told as one.
        let _kept = READERS.insert(reader, first, u64::from(BPF_ANY));
        return Ok(Some(Read { inode, label, bytes, bytes_total: bytes, flags }));
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
    Ok(Some(Read { inode, label, bytes: untold, bytes_total: sum.bytes, flags }))
}

#[inline(always)]
fn tell(read: &Read) {
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    emit::fixed::<FileReadRecord>(KIND_FILE_READ, Lane::High, cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        let current = task::current();
        task::header(current, KIND_FILE_READ, size_of::<FileReadRecord>(), &mut record.header)?;
        record.file = file::id(read.inode)?;
        record.bytes = read.bytes;
        record.bytes_total = read.bytes_total;
        record.size = field(read.inode, &OFF_INODE_SIZE)?;
        record.flags = read.flags;
        record.label = read.label;
        record.reserved = 0;
        Ok(())
    });
}
