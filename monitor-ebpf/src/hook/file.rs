//! Files: reported from the opened `struct file`, never from the string the user passed.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::{
    FileOpenRecord, KIND_FILE_OPEN, OPEN_BIG_FILE, OPEN_DEVICE, OPEN_LABELLED, OPEN_NAME_CLASS,
    OPEN_WATCHED_DIR, PATH_BYTES_MAX, PATH_TRUNCATED,
};

use crate::count::{Lane, Outcome, count};
use crate::emit::{self, OpenScratch};
use crate::filter;
use crate::globals::{BIG_FILE_BYTES, NAME_CLASS_BYTES, OPEN_REPEAT_NS, SELF_TGID};
use crate::hook::returned;
use crate::maps::{
    LABELS, LABELS_ON, NAME_CLASSES, OPEN_SCRATCH, OPENS, WATCH_DIRS, WATCH_DIRS_ON,
};
use crate::read::file::{InodeHead, S_IFCHR, S_IFMT, S_IFREG};
use crate::read::{Fault, file, task};

/// Character-device majors of interest: NVIDIA's fixed one (Documentation/admin-guide/devices.txt).
const NVIDIA_MAJOR: u32 = 195;
/// `O_ACCMODE` (include/uapi/asm-generic/fcntl.h).
const O_ACCMODE: u32 = 3;

/// What is known of an opened file once it is wanted.
struct Opened {
    file: u64,
    dentry: u64,
    reason: u16,
    name_class: u16,
    label: u32,
}

/// One program for `open`, `openat`, `openat2`, `creat` and `open_by_handle_at`: what they return
/// is a descriptor, and the file behind it is all that is looked at.
#[tracepoint]
pub fn file_opened(ctx: TracePointContext) -> u32 {
    let result = returned(&ctx);
    if result < 0 {
        return 0;
    }
    if !filter::wanted(KIND_FILE_OPEN) {
        count(KIND_FILE_OPEN, Outcome::Filtered);
        return 0;
    }
    let Some(slot) = OPEN_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's slot; tracepoint programs run with preemption off.
    let scratch = unsafe { &mut *slot };
    match open_wanted(result as u32, &mut scratch.head) {
        Ok(None) => count(KIND_FILE_OPEN, Outcome::Filtered),
        Ok(Some(opened)) => match open_is_repeated(&opened, &scratch.head) {
            Ok(true) => count(KIND_FILE_OPEN, Outcome::Filtered),
            Ok(false) => open_report(&opened, scratch),
            Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
        },
        Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
    }
    0
}

/// Decides with as few reads as it can: most files are not wanted.
#[inline(always)]
fn open_wanted(descriptor: u32, head: &mut InodeHead) -> Result<Option<Opened>, Fault> {
    let file = file::from_descriptor(task::current(), descriptor)?;
    head.fill(file::inode(file)?)?;
    let kind = head.mode()? & S_IFMT;
    let mut reason = 0;
    if kind == S_IFCHR {
        if head.rdev()? >> 20 != NVIDIA_MAJOR {
            return Ok(None);
        }
        reason |= OPEN_DEVICE;
    } else if kind != S_IFREG {
        return Ok(None);
    }
    let size = head.size()?;
    if size >= BIG_FILE_BYTES.load() {
        reason |= OPEN_BIG_FILE;
    }
    let mut label = 0;
    if LABELS_ON.get(0).is_some_and(|on| *on != 0) {
        // SAFETY: the value is copied out at once.
        label = unsafe { LABELS.get(head.key()?) }.map_or(0, |label| *label);
        if label != 0 {
            reason |= OPEN_LABELLED;
        }
    }
    let watching = WATCH_DIRS_ON.get(0).is_some_and(|on| *on != 0);
    if reason == 0 && !watching && size < NAME_CLASS_BYTES.load() {
        return Ok(None);
    }
    let dentry = file::dentry(file)?;
    if watching && open_in_watched(dentry)? {
        reason |= OPEN_WATCHED_DIR;
    }
    let mut name_class = 0;
    if size >= NAME_CLASS_BYTES.load() {
        if let Some(extension) = file::extension(dentry)? {
            // SAFETY: the value is copied out at once.
            if let Some(class) = unsafe { NAME_CLASSES.get(extension) } {
                name_class = *class as u16;
                reason |= OPEN_NAME_CLASS;
            }
        }
    }
    if reason == 0 {
        return Ok(None);
    }
    Ok(Some(Opened { file, dentry, reason, name_class, label }))
}

#[inline(always)]
fn open_in_watched(dentry: u64) -> Result<bool, Fault> {
    let key = file::key(file::parent_inode(dentry)?)?;
    // SAFETY: only presence is asked.
    Ok(unsafe { WATCH_DIRS.get(key) }.is_some())
}

/// What tells one open from another: who, which file, and whether to read or to write.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OpenKey {
    inode: u64,
    device: u32,
    tgid: u32,
    access: u32,
    reserved: u32,
}

/// Whether the same process opened the same file the same way a moment ago. Opening it again says
/// nothing new, and a loop that does nothing else must not cost a record each time.
#[inline(always)]
fn open_is_repeated(opened: &Opened, head: &InodeHead) -> Result<bool, Fault> {
    let span = OPEN_REPEAT_NS.load();
    if span == 0 {
        return Ok(false);
    }
    let file = head.key()?;
    let key = OpenKey {
        inode: file.inode,
        device: file.device,
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
        access: file::open_flags(opened.file)? & O_ACCMODE,
        reserved: 0,
    };
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if let Some(last) = OPENS.get_ptr_mut(key) {
        // SAFETY: the map's value lives while the program runs.
        let last = unsafe { &mut *last };
        if now.wrapping_sub(*last) < span {
            return Ok(true);
        }
        *last = now;
        return Ok(false);
    }
    // A full map forgets who opened longest ago, and tells of it once more than needed.
    let _kept = OPENS.insert(key, now, u64::from(BPF_ANY));
    Ok(false)
}

#[inline(always)]
fn open_report(opened: &Opened, scratch: &mut OpenScratch) {
    // Labelled inodes carry verdicts; the rest may wait for the poll.
    let lane = if opened.label != 0 { Lane::High } else { Lane::Bulk };
    match open_fill(opened, scratch) {
        Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
        Ok(_) if scratch.record.header.actor.tgid == SELF_TGID.load() => {
            count(KIND_FILE_OPEN, Outcome::Filtered);
        }
        Ok(_) if !filter::within_rate(scratch.record.header.actor.cgroup_id, lane) => {
            count(KIND_FILE_OPEN, Outcome::RateLimited);
        }
        Ok(len) => emit::scratch(KIND_FILE_OPEN, lane, (&raw const *scratch).cast(), len),
    }
}

#[inline(always)]
fn open_fill(opened: &Opened, scratch: &mut OpenScratch) -> Result<u32, Fault> {
    let record = &mut scratch.record;
    task::header(task::current(), KIND_FILE_OPEN, 0, &mut record.header)?;
    record.file = scratch.head.id()?;
    record.size = scratch.head.size()?;
    record.fs_magic = scratch.head.fs_magic()?;
    record.mode = u32::from(scratch.head.mode()?);
    record.open_flags = file::open_flags(opened.file)?;
    record.rdev = scratch.head.rdev()?;
    record.reason = opened.reason;
    record.name_class = opened.name_class;
    record.label = opened.label;
    record.reserved = 0;
    let span = scratch.path.walk(file::mount(opened.file)?, opened.dentry)?;
    record.flags = if span.truncated { PATH_TRUNCATED } else { 0 };
    let path_len = scratch.path.copy_to(span, scratch.tail.as_mut_ptr(), PATH_BYTES_MAX as u32);
    record.path_len = path_len;
    let len = size_of::<FileOpenRecord>() as u32 + path_len;
    record.header.len = len;
    Ok(len)
}
