//! Files: reported from the opened `struct file`, never from the string the user passed.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::{
    CLASS_WEIGHTS, COPIED_BYTES_MIN, DIR_NAMES, DIR_PRIVATE, DIR_WRITTEN, FileOpenRecord, InodeKey,
    KIND_FILE_OPEN, MAJOR_ALL, MAJOR_SOME, NAME_ANY, NAME_IN_DIR, NAME_WRITTEN, OPEN_BIG_FILE,
    OPEN_COPY, OPEN_DEVICE, OPEN_FIFO, OPEN_LABELLED, OPEN_MARKED, OPEN_NAME_CLASS,
    OPEN_WATCHED_DIR, OPEN_WATCHED_NAME, PATH_BYTES_MAX, PATH_TRUNCATED, Writer,
};

use crate::count::{Outcome, count};
use crate::emit::{self, OpenScratch};
use crate::filter;
use crate::globals::{
    BIG_FILE_BYTES, NAME_CLASS_BYTES, OFF_FILE_INODE, OFF_INODE_INO, OFF_INODE_SIZE,
    OPEN_REPEAT_NS, SELF_TGID,
};
use crate::hook::returned;
use crate::label;
use crate::lane::Lane;
use crate::maps::{
    DEVICE_NODES, DEVICES, MARKED_CGROUPS, MARKED_ON, NAME_CLASSES, NAME_FILTER, OPEN_SCRATCH,
    OPENS, WATCH_DIRS, WATCH_DIRS_ON, WATCH_NAMES, WRITERS,
};
use crate::read::file::{InodeHead, S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFREG};
use crate::read::name::NameHead;
use crate::read::{Fault, file, optional, task};

/// `O_ACCMODE` and one of its values (include/uapi/asm-generic/fcntl.h).
const O_ACCMODE: u32 = 3;
const O_WRONLY: u32 = 1;
/// `O_PATH`, of x86 and arm64 alike: a place in a tree, which can be neither read nor written.
const O_PATH: u32 = 0o10_000_000;

/// What is known of an opened file once it is wanted.
struct Opened {
    file: u64,
    dentry: u64,
    reason: u16,
    name_class: u16,
    label: u32,
}

impl Opened {
    /// The same, read from memory: from there the reasons are numbers like any other to the
    /// verifier, which else follows the whole path's walk for each combination of them.
    #[inline(always)]
    fn through(self, record: &mut FileOpenRecord) -> Self {
        // SAFETY: our own fields; volatile so that they go through memory.
        unsafe {
            core::ptr::write_volatile(&raw mut record.reason, self.reason);
            core::ptr::write_volatile(&raw mut record.name_class, self.name_class);
            core::ptr::write_volatile(&raw mut record.label, self.label);
            Self {
                reason: core::ptr::read_volatile(&raw const record.reason),
                name_class: core::ptr::read_volatile(&raw const record.name_class),
                label: core::ptr::read_volatile(&raw const record.label),
                ..self
            }
        }
    }
}

/// One program for `open`, `openat`, `openat2`, `creat`, `open_by_handle_at` and `memfd_create`:
/// what they return is a descriptor, and the file behind it is all that is looked at.
#[tracepoint]
pub fn file_opened(ctx: TracePointContext) -> u32 {
    descriptor_given(&ctx)
}

/// Looks at the descriptor that a system call returned.
#[inline(always)]
pub(crate) fn descriptor_given(ctx: &TracePointContext) -> u32 {
    let result = returned(ctx);
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
    opened(result as u32, scratch);
    0
}

/// Looks at a descriptor that the current task was just given, and ends in one counted outcome.
#[inline(always)]
pub(crate) fn opened(descriptor: u32, scratch: &mut OpenScratch) {
    match file::from_descriptor(task::current(), descriptor) {
        Ok(file) => opened_file(file, scratch),
        Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
    }
}

/// As [`opened`], for the open file itself.
#[inline(always)]
pub(crate) fn opened_file(file: u64, scratch: &mut OpenScratch) {
    match open_wanted(file, scratch) {
        Ok(None) => count(KIND_FILE_OPEN, Outcome::Filtered),
        Ok(Some(opened)) => match open_is_old(&opened, &scratch.head) {
            Ok(true) => count(KIND_FILE_OPEN, Outcome::Filtered),
            Ok(false) => open_report(opened.through(&mut scratch.record), scratch),
            Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
        },
        Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
    }
}

/// Decides with as few reads as it can: most files are not wanted.
#[inline(always)]
fn open_wanted(file: u64, scratch: &mut OpenScratch) -> Result<Option<Opened>, Fault> {
    let flags = file::open_flags(file)?;
    if flags & O_PATH != 0 {
        return Ok(None);
    }
    let head = &mut scratch.head;
    head.fill(file::inode(file)?)?;
    let kind = head.mode()? & S_IFMT;
    if kind == S_IFCHR || kind == S_IFBLK {
        if kind == S_IFCHR && !device_is_watched(head.rdev()?) {
            return Ok(None);
        }
        let dentry = file::dentry(file)?;
        return Ok(Some(Opened { file, dentry, reason: OPEN_DEVICE, name_class: 0, label: 0 }));
    }
    if kind == S_IFIFO {
        let dentry = file::dentry(file)?;
        return Ok(Some(Opened { file, dentry, reason: OPEN_FIFO, name_class: 0, label: 0 }));
    }
    if kind != S_IFREG {
        return Ok(None);
    }
    let size = head.size()?;
    if size == 0 && file::is_process_memory(file, head)? {
        super::memory::proc_mem_opened(file);
        return Ok(None);
    }
    let is_big = size >= BIG_FILE_BYTES.load();
    set_reason(&mut scratch.record, if is_big { OPEN_BIG_FILE } else { 0 });
    let label = label_of(file, scratch)?;
    let file = shown_as(file, size, label, scratch)?;
    if label != 0 {
        add_reason(&mut scratch.record, OPEN_LABELLED);
    }
    let access = flags & O_ACCMODE;
    if label != 0 && access != O_WRONLY {
        mark_cgroup();
    }
    let is_written = access != 0;
    if is_written && open_to_write(&scratch.head)? {
        add_reason(&mut scratch.record, OPEN_MARKED);
    }
    // It is told of for its label alone, so nothing else need be looked at to know that it was.
    if label != 0 && open_is_repeated(access, scratch.head.key()?) {
        return Ok(None);
    }
    let dentry = file::dentry(file)?;
    if WATCH_DIRS_ON.get(0).is_some_and(|on| *on != 0) && open_in_watched(dentry)? {
        add_reason(&mut scratch.record, OPEN_WATCHED_DIR);
    }
    if name_is_watched(dentry, is_written, scratch)? {
        add_reason(&mut scratch.record, OPEN_WATCHED_NAME);
    }
    let name_class =
        if size >= NAME_CLASS_BYTES.load() { named_class(dentry, size, label, access)? } else { 0 };
    if name_class != 0 {
        add_reason(&mut scratch.record, OPEN_NAME_CLASS);
    }
    let reason = reason(&scratch.record);
    if reason == 0 {
        return Ok(None);
    }
    Ok(Some(Opened { file, dentry, reason, name_class, label }))
}

/// Why an open is told, so far. In memory and never in a register: of each combination of reasons
/// that it knows the verifier followed all that comes after (a hundred times the look at the name).
#[inline(always)]
fn reason(record: &FileOpenRecord) -> u16 {
    // SAFETY: our own field; volatile so that it is read from memory.
    unsafe { core::ptr::read_volatile(&raw const record.reason) }
}

#[inline(always)]
fn set_reason(record: &mut FileOpenRecord, reason: u16) {
    // SAFETY: our own field; volatile so that it is written to memory.
    unsafe { core::ptr::write_volatile(&raw mut record.reason, reason) }
}

#[inline(always)]
fn add_reason(record: &mut FileOpenRecord, one: u16) {
    set_reason(record, reason(record) | one);
}

/// Class of a file by the end of its name; zero for none.
#[inline(always)]
fn named_class(dentry: u64, size: u64, label: u32, access: u32) -> Result<u16, Fault> {
    let Some(extension) = file::extension(dentry)? else { return Ok(0) };
    // SAFETY: the value is copied out at once.
    let class = unsafe { NAME_CLASSES.get(extension) }.map_or(0, |class| *class as u16);
    // Nobody has labelled it yet, and a copy does not wait for that.
    let is_model = class == CLASS_WEIGHTS && size >= COPIED_BYTES_MIN;
    if is_model && label == 0 && access != O_WRONLY {
        mark_cgroup();
    }
    Ok(class)
}

/// A file's label; zero for none. From here on an overlay's file is the one in its layer, where
/// that bears a label.
#[inline(always)]
fn label_of(file: u64, scratch: &mut OpenScratch) -> Result<u32, Fault> {
    let head = &mut scratch.head;
    let number = head.number()?;
    if head.fs_magic()? == file::OVERLAYFS_SUPER_MAGIC
        && let Some(found) = label::in_overlay(file, number)?
    {
        if found.is_copy {
            add_reason(&mut scratch.record, OPEN_COPY);
        } else {
            head.fill(found.layer)?;
        }
        return Ok(found.label);
    }
    let label = label::of_number(number, || head.key())?;
    if label != 0 || scratch.above == 0 {
        return Ok(label);
    }
    // Full tier: what is opened in the layer of the overlay's file may be a copy of a labelled one.
    let head = &scratch.head;
    let below = optional(optional(scratch.above, &OFF_FILE_INODE), &OFF_INODE_INO);
    let label = label::of_number(below, || Ok(InodeKey { inode: below, ..head.key()? }))?;
    if label != 0 {
        add_reason(&mut scratch.record, OPEN_COPY);
    }
    Ok(label)
}

/// The open file by whose path a file is told: the overlay's, where the same thread is opening
/// that and this is what lies in its layer under the label. An overlay opens the file in its layer
/// by a mount of its own, where paths begin anew.
#[inline(always)]
fn shown_as(file: u64, size: u64, label: u32, scratch: &mut OpenScratch) -> Result<u64, Fault> {
    let above = scratch.above;
    let inode = optional(above, &OFF_FILE_INODE);
    let is_above = above != 0 && optional(inode, &OFF_INODE_SIZE) == size;
    if scratch.head.fs_magic()? == file::OVERLAYFS_SUPER_MAGIC && file::private(file)? == 0 {
        // Of two overlays the upper one is what the process sees.
        if !is_above {
            scratch.above = file;
        }
        return Ok(file);
    }
    scratch.above = 0;
    Ok(if is_above && label != 0 { above } else { file })
}

/// Whether a character device is one of those that the daemon named.
#[inline(always)]
fn device_is_watched(rdev: u32) -> bool {
    match DEVICES.get(rdev >> 20) {
        Some(&MAJOR_ALL) => true,
        // SAFETY: only presence is asked.
        Some(&MAJOR_SOME) => unsafe { DEVICE_NODES.get(rdev) }.is_some(),
        _ => false,
    }
}

/// Remembers who opened a file for writing. Returns whether the cgroup is marked.
#[inline(always)]
fn open_to_write(head: &InodeHead) -> Result<bool, Fault> {
    // SAFETY: helpers without preconditions.
    let (cgroup_id, boot_ns) = unsafe { (bpf_get_current_cgroup_id(), bpf_ktime_get_boot_ns()) };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let writer = Writer { cgroup_id, boot_ns, tgid, reserved: 0 };
    // A full map forgets the file that was written longest ago.
    let _kept = WRITERS.insert(head.key()?, writer, u64::from(BPF_ANY));
    if MARKED_ON.get(0).is_none_or(|on| *on == 0) {
        return Ok(false);
    }
    // SAFETY: only presence is asked.
    Ok(unsafe { MARKED_CGROUPS.get(cgroup_id) }.is_some())
}

/// From now on every file opened for writing in this cgroup is told of: a labelled file, or one
/// that is weights by its name, was opened for reading in it. Here and not in the daemon, because a
/// copy opens its target microseconds later.
#[inline(always)]
fn mark_cgroup() {
    if (bpf_get_current_pid_tgid() >> 32) as u32 == SELF_TGID.load() {
        return;
    }
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: only presence is asked.
    if unsafe { MARKED_CGROUPS.get(cgroup) }.is_some() {
        return;
    }
    let marked = MARKED_CGROUPS.insert(cgroup, 1u32, u64::from(BPF_ANY));
    if let (Ok(()), Some(on)) = (marked, MARKED_ON.get_ptr_mut(0)) {
        // SAFETY: the map's value lives while the program runs; every writer writes the same.
        unsafe { *on = 1 };
    }
}

/// What the daemon said of the name of the dentry at `dentry`, which is read into `name`.
#[inline(always)]
fn name_bits(dentry: u64, name: &mut NameHead) -> Result<u32, Fault> {
    name.fill(dentry)?;
    let Some(slot) = name.slot()? else { return Ok(0) };
    if NAME_FILTER.get(slot).is_none_or(|taken| *taken == 0) {
        return Ok(0);
    }
    // SAFETY: the value is copied out at once.
    Ok(unsafe { WATCH_NAMES.get(name.key()?) }.map_or(0, |bits| *bits))
}

/// Whether the file's own name, or the name of its directory, is watched for this way of opening.
/// The directory is looked at only where it can matter.
#[inline(always)]
fn name_is_watched(
    dentry: u64,
    is_written: bool,
    scratch: &mut OpenScratch,
) -> Result<bool, Fault> {
    let bits = name_bits(dentry, &mut scratch.name)?;
    if bits & NAME_ANY != 0 || (is_written && bits & NAME_WRITTEN != 0) {
        return Ok(true);
    }
    let is_private = scratch.head.is_private()?;
    if !is_written && !is_private && bits & NAME_IN_DIR == 0 {
        return Ok(false);
    }
    let parent = scratch.name.parent()?;
    let directory = name_bits(parent, &mut scratch.name)?;
    Ok((is_written && directory & DIR_WRITTEN != 0)
        || (is_private && directory & DIR_PRIVATE != 0)
        || (bits & NAME_IN_DIR != 0 && directory & DIR_NAMES != 0))
}

#[inline(always)]
fn open_in_watched(dentry: u64) -> Result<bool, Fault> {
    let directory = file::parent_inode(dentry)?;
    if !filter::may_be_marked(file::number(directory)?) {
        return Ok(false);
    }
    // SAFETY: only presence is asked.
    Ok(unsafe { WATCH_DIRS.get(file::key(directory)?) }.is_some())
}

/// What tells one open from another: who, which file, and whether to read or to write. A process
/// that executes another program, or is in another cgroup, is somebody else: a container's first
/// process was the engine a moment ago.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OpenKey {
    inode: u64,
    cgroup_id: u64,
    device: u32,
    tgid: u32,
    access: u32,
    exec_id: u32,
}

/// Whether the same process opened the same file the same way a moment ago. Opening it again says
/// nothing new, and a loop that does nothing else must not cost a record each time.
#[inline(always)]
pub(crate) fn open_is_repeated(access: u32, file: InodeKey) -> bool {
    let span = OPEN_REPEAT_NS.load();
    if span == 0 {
        return false;
    }
    // SAFETY: helpers without preconditions.
    let (cgroup_id, now) = unsafe { (bpf_get_current_cgroup_id(), bpf_ktime_get_boot_ns()) };
    let key = OpenKey {
        inode: file.inode,
        cgroup_id,
        device: file.device,
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
        access,
        exec_id: task::exec_id(task::current()),
    };
    if let Some(last) = OPENS.get_ptr_mut(key) {
        // SAFETY: the map's value lives while the program runs.
        let last = unsafe { &mut *last };
        if now.wrapping_sub(*last) < span {
            return true;
        }
        *last = now;
        return false;
    }
    // A full map forgets who opened longest ago, and tells of it once more than needed.
    let _kept = OPENS.insert(key, now, u64::from(BPF_ANY));
    false
}

/// The same for a file without a label; of one with a label it was asked before.
#[inline(always)]
fn open_is_old(opened: &Opened, head: &InodeHead) -> Result<bool, Fault> {
    if opened.label != 0 {
        return Ok(false);
    }
    Ok(open_is_repeated(file::open_flags(opened.file)? & O_ACCMODE, head.key()?))
}

#[inline(always)]
fn open_report(opened: Opened, scratch: &mut OpenScratch) {
    match open_fill(&opened, scratch) {
        Err(Fault) => count(KIND_FILE_OPEN, Outcome::ReadFault),
        Ok(_) if scratch.record.header.actor.tgid == SELF_TGID.load() => {
            count(KIND_FILE_OPEN, Outcome::Filtered);
        }
        Ok(len) => {
            // Not before: the verifier follows the whole path's walk for each lane that it knows.
            let lane = open_lane(&opened, &scratch.head);
            if filter::within_rate(scratch.record.header.actor.cgroup_id, lane) {
                emit::scratch(KIND_FILE_OPEN, lane, (&raw const *scratch).cast(), len);
            } else {
                count(KIND_FILE_OPEN, Outcome::RateLimited);
            }
        }
    }
}

#[inline(always)]
fn open_lane(opened: &Opened, head: &InodeHead) -> Lane {
    // Labelled inodes carry verdicts. What is weights by its name is labelled by the daemon, which
    // must see it before the flows that follow; a flood of small files under such names must not
    // crowd verdicts out. Who opens a FIFO must be known before what goes through it. The rest may
    // wait for the poll.
    let is_model = opened.name_class == CLASS_WEIGHTS
        && head.size().is_ok_and(|size| size >= COPIED_BYTES_MIN);
    if opened.label != 0 {
        Lane::High
    } else if is_model || opened.reason == OPEN_FIFO {
        Lane::Life
    } else {
        Lane::Bulk
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
