//! Labelled files that get, lose or change a name or are cut, and code that a container toolkit
//! maps. At the hooks that know the mount, so that paths are as the kernel resolved them.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_current_comm};
use monitor_common::{
    CHANGE_LINK, CHANGE_MAP_EXEC, CHANGE_RENAME, CHANGE_TRUNCATE, CHANGE_UNLINK, COMM_BYTES,
    FileChangeRecord, FileIdRecord, KIND_FILE_CHANGE, PATH_BYTES_MAX, PATH_TRUNCATED,
};

use super::{slot, twin};
use crate::count::{Outcome, count};
use crate::emit::{self, ChangeScratch};
use crate::filter;
use crate::globals::{
    OFF_DENTRY_INODE, OFF_FILE_PATH, OFF_INODE_MODE, OFF_INODE_SIZE, OFF_PATH_DENTRY, OFF_PATH_MNT,
    SELF_TGID,
};
use crate::label;
use crate::lane::Lane;
use crate::maps::{CHANGE_FILLER, CHANGE_SLOTS, WRITERS};
use crate::read::{Fault, field, file, member, task};

/// `PROT_EXEC` (include/uapi/asm-generic/mman-common.h).
pub(crate) const PROT_EXEC: u64 = 4;
/// What the names of NVIDIA's container tools begin with: nvidia-ctk, nvidia-container-cli,
/// nvidia-cdi-hook. They run with the host's rights and look into images.
const TOOLKIT: [u8; 8] = *b"nvidia-c";

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h: `path_rename(const struct path *old_dir,
    /// struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry,
    /// unsigned int flags)`
    rename_lsm rename_fentry "path_rename" "security_path_rename" renaming
}

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h: `path_link(struct dentry *old_dentry,
    /// const struct path *new_dir, struct dentry *new_dentry)`
    link_lsm link_fentry "path_link" "security_path_link" linking
}

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h:
    /// `path_unlink(const struct path *dir, struct dentry *dentry)`
    unlink_lsm unlink_fentry "path_unlink" "security_path_unlink" unlinking
}

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h: `path_truncate(const struct path *path)`
    cut_lsm cut_fentry "path_truncate" "security_path_truncate" cutting
}

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h: `file_truncate(struct file *file)`, 6.2
    /// and newer
    fcut_lsm fcut_fentry "file_truncate" "security_file_truncate" cutting_file
}

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h: `mmap_file(struct file *file,
    /// unsigned long reqprot, unsigned long prot, unsigned long flags)`
    exec_map_lsm exec_map_fentry "mmap_file" "security_mmap_file" mapping
}

/// A name: where its directory is mounted, and the name's dentry.
#[derive(Clone, Copy)]
struct Place {
    mount: u64,
    dentry: u64,
}

const NOWHERE: Place = Place { mount: 0, dentry: 0 };

/// What is told.
struct Change {
    op: u16,
    inode: u64,
    label: u32,
    other: u64,
    before: Place,
    after: Place,
}

#[inline(always)]
fn renaming(arg: impl Fn(usize) -> u64) {
    let (old, new) = (arg(1), arg(3));
    judge(|| {
        let inode: u64 = field(old, &OFF_DENTRY_INODE)?;
        let replaced: u64 = field(new, &OFF_DENTRY_INODE)?;
        let mut label = label::of_inode(inode)?;
        if label == 0 && replaced != 0 {
            label = label::of_inode(replaced)?;
        }
        let before = Place { mount: field(arg(0), &OFF_PATH_MNT)?, dentry: old };
        let after = Place { mount: field(arg(2), &OFF_PATH_MNT)?, dentry: new };
        Ok(Change { op: CHANGE_RENAME, inode, label, other: replaced, before, after })
    });
}

#[inline(always)]
fn linking(arg: impl Fn(usize) -> u64) {
    let (old, new) = (arg(0), arg(2));
    judge(|| {
        let inode: u64 = field(old, &OFF_DENTRY_INODE)?;
        let mount: u64 = field(arg(1), &OFF_PATH_MNT)?;
        // A hard link stays on its file system; most often on its mount, which the hook tells of
        // the new name only.
        let (before, after) = (Place { mount, dentry: old }, Place { mount, dentry: new });
        Ok(Change {
            op: CHANGE_LINK,
            inode,
            label: label::of_inode(inode)?,
            other: 0,
            before,
            after,
        })
    });
}

#[inline(always)]
fn unlinking(arg: impl Fn(usize) -> u64) {
    let dentry = arg(1);
    judge(|| {
        let inode: u64 = field(dentry, &OFF_DENTRY_INODE)?;
        let before = Place { mount: field(arg(0), &OFF_PATH_MNT)?, dentry };
        let label = label::of_inode(inode)?;
        Ok(Change { op: CHANGE_UNLINK, inode, label, other: 0, before, after: NOWHERE })
    });
}

#[inline(always)]
fn cutting(arg: impl Fn(usize) -> u64) {
    let path = arg(0);
    judge(|| cut(path));
}

#[inline(always)]
fn cutting_file(arg: impl Fn(usize) -> u64) {
    let opened = arg(0);
    judge(|| cut(member(opened, &OFF_FILE_PATH)?));
}

#[inline(always)]
fn cut(path: u64) -> Result<Change, Fault> {
    let dentry: u64 = field(path, &OFF_PATH_DENTRY)?;
    let before = Place { mount: field(path, &OFF_PATH_MNT)?, dentry };
    let inode: u64 = field(dentry, &OFF_DENTRY_INODE)?;
    let label = label::of_inode(inode)?;
    Ok(Change { op: CHANGE_TRUNCATE, inode, label, other: 0, before, after: NOWHERE })
}

/// Code that a container toolkit maps, wherever it lies, and code that the same workload wrote and
/// still remembers: few files, and each is told.
#[inline(always)]
fn mapping(arg: impl Fn(usize) -> u64) {
    // The function lacks the third argument of the hook: what was asked for is the second of both.
    if arg(0) == 0 || arg(1) & PROT_EXEC == 0 || !filter::wanted(KIND_FILE_CHANGE) {
        return;
    }
    map_judge(arg(0));
}

/// Tells of an open file that is mapped to be executed, where it is one of those.
#[inline(always)]
pub(crate) fn map_judge(opened: u64) {
    if opened == 0 {
        return;
    }
    let change = || -> Result<Option<Change>, Fault> {
        let inode = file::inode(opened)?;
        if !is_toolkit() && !is_written_here(inode)? {
            return Ok(None);
        }
        let before = Place { mount: file::mount(opened)?, dentry: file::dentry(opened)? };
        let label = label::of_inode(inode)?;
        let op = CHANGE_MAP_EXEC;
        Ok(Some(Change { op, inode, label, other: 0, before, after: NOWHERE }))
    };
    match change() {
        Ok(Some(change)) => report(&change),
        Ok(None) => {}
        Err(Fault) => count(KIND_FILE_CHANGE, Outcome::ReadFault),
    }
}

/// Whether a file was opened for writing lately by the workload that maps it.
#[inline(always)]
fn is_written_here(inode: u64) -> Result<bool, Fault> {
    // SAFETY: the value is copied out at once.
    let Some(writer) = (unsafe { WRITERS.get(file::key(inode)?) }) else { return Ok(false) };
    // SAFETY: a helper without preconditions.
    Ok(writer.cgroup_id == unsafe { bpf_get_current_cgroup_id() })
}

#[inline(always)]
fn is_toolkit() -> bool {
    let mut comm = [0u8; COMM_BYTES];
    // SAFETY: the buffer is as long as is said.
    let read = unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), COMM_BYTES as u32) };
    let [a, b, c, d, e, f, g, h, ..] = comm;
    read == 0 && u64::from_ne_bytes([a, b, c, d, e, f, g, h]) == u64::from_ne_bytes(TOOLKIT)
}

/// Tells of a change of a labelled file; of others it is counted that they were seen.
#[inline(always)]
fn judge(change: impl FnOnce() -> Result<Change, Fault>) {
    if !filter::wanted(KIND_FILE_CHANGE) {
        return count(KIND_FILE_CHANGE, Outcome::Filtered);
    }
    match change() {
        Ok(change) if change.label == 0 => count(KIND_FILE_CHANGE, Outcome::Filtered),
        Ok(change) => report(&change),
        Err(Fault) => count(KIND_FILE_CHANGE, Outcome::ReadFault),
    }
}

#[inline(always)]
fn report(change: &Change) {
    if (bpf_get_current_pid_tgid() >> 32) as u32 == SELF_TGID.load() {
        return count(KIND_FILE_CHANGE, Outcome::Filtered);
    }
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    if !filter::within_rate(cgroup, Lane::High) {
        return count(KIND_FILE_CHANGE, Outcome::RateLimited);
    }
    let Some(filler) = CHANGE_FILLER.get_ptr(0) else { return };
    let Some(slot) = slot(&CHANGE_SLOTS, filler) else {
        return count(KIND_FILE_CHANGE, Outcome::MapFull);
    };
    // SAFETY: this thread's slot, see `slot`.
    let scratch = unsafe { &mut *slot };
    match fill(change, scratch) {
        Ok(len) => {
            emit::page(KIND_FILE_CHANGE, Lane::High, (&raw const *scratch).cast(), len);
        }
        Err(Fault) => count(KIND_FILE_CHANGE, Outcome::ReadFault),
    }
}

#[inline(always)]
fn fill(change: &Change, scratch: &mut ChangeScratch) -> Result<u32, Fault> {
    let record = &mut scratch.record;
    task::header(task::current(), KIND_FILE_CHANGE, 0, &mut record.header)?;
    record.file = file::id(change.inode)?;
    record.other = FileIdRecord { inode: 0, device: 0, generation: 0 };
    if change.other != 0 {
        record.other = file::id(change.other)?;
    }
    record.size = field(change.inode, &OFF_INODE_SIZE)?;
    record.bytes = 0;
    record.fs_magic = file::fs_magic(change.inode)?;
    record.op = change.op;
    record.reserved = 0;
    record.mode = u32::from(field::<u16>(change.inode, &OFF_INODE_MODE)?);
    record.label = change.label;
    let mut flags = 0;
    let tail = scratch.tail.as_mut_ptr();
    let span = scratch.path.walk(change.before.mount, change.before.dentry)?;
    if span.truncated {
        flags |= PATH_TRUNCATED;
    }
    let path_len = scratch.path.copy_to(span, tail, PATH_BYTES_MAX as u32);
    record.path_len = path_len;
    let mut new_path_len = 0;
    if change.after.dentry != 0 {
        let span = scratch.path.walk(change.after.mount, change.after.dentry)?;
        if span.truncated {
            flags |= PATH_TRUNCATED;
        }
        let at = if path_len > PATH_BYTES_MAX as u32 { PATH_BYTES_MAX as u32 } else { path_len };
        // SAFETY: the position is at most PATH_BYTES_MAX, and as much is behind it.
        let target = unsafe { tail.add(at as usize) };
        new_path_len = scratch.path.copy_to(span, target, PATH_BYTES_MAX as u32);
    }
    record.new_path_len = new_path_len;
    record.flags = flags;
    let len = size_of::<FileChangeRecord>() as u32 + path_len + new_path_len;
    record.header.len = len;
    Ok(len)
}
