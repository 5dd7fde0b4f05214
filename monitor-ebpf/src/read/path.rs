//! Paths, walked from the file to the root of its mount tree: what the kernel resolved, not what
//! the user wrote.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use monitor_common::{NAME_BYTES_MAX, OFFSET_ABSENT, PATH_BYTES_MAX, PATH_DEPTH_MAX};

use super::{Fault, field};
use crate::globals::{
    OFF_DENTRY_LEN, OFF_DENTRY_NAME, OFF_DENTRY_PARENT, OFF_MOUNT_MNT, OFF_MOUNT_PARENT,
    OFF_MOUNT_POINT, OFF_VFSMNT_ROOT,
};

/// Where a path is put together, from its end: the last component is read first.
///
/// The room beyond [`PATH_BYTES_MAX`] lets the verifier see that a whole component fits at any
/// position that the mask allows.
///
/// `position` stands in memory and not in a register: with its value known, the verifier follows
/// every way through 32 steps that each may or may not cross a mount, and gives up after a million
/// instructions (6.18: "Argument list too long"). From memory it is a number like any other, and
/// the ways through one step meet again. So do `vfsmount` and `dentry`, for the same reason.
#[repr(C)]
pub(crate) struct PathBuffer {
    position: u32,
    reserved: u32,
    vfsmount: u64,
    dentry: u64,
    bytes: [u8; PATH_BYTES_MAX + NAME_BYTES_MAX],
}

/// A path that was put together: its place in the buffer.
#[derive(Clone, Copy)]
pub(crate) struct PathSpan {
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) truncated: bool,
    /// Whether the file never had a place in a directory tree: a memfd, a socket, a pipe.
    pub(crate) unplaced: bool,
}

impl PathBuffer {
    #[inline(always)]
    fn position(&self) -> u32 {
        // SAFETY: our own field; volatile so that it is read from memory.
        unsafe { core::ptr::read_volatile(&raw const self.position) }
    }

    #[inline(always)]
    fn set_position(&mut self, position: u32) {
        // SAFETY: our own field; volatile so that it is written to memory.
        unsafe { core::ptr::write_volatile(&raw mut self.position, position) }
    }

    /// The step that the walk is at: mount and dentry.
    #[inline(always)]
    fn step(&self) -> (u64, u64) {
        // SAFETY: our own fields; volatile so that they are read from memory.
        unsafe {
            (
                core::ptr::read_volatile(&raw const self.vfsmount),
                core::ptr::read_volatile(&raw const self.dentry),
            )
        }
    }

    #[inline(always)]
    fn set_step(&mut self, vfsmount: u64, dentry: u64) {
        // SAFETY: our own fields; volatile so that they are written to memory.
        unsafe {
            core::ptr::write_volatile(&raw mut self.vfsmount, vfsmount);
            core::ptr::write_volatile(&raw mut self.dentry, dentry);
        }
    }

    /// Walks from `dentry` on mount `vfsmount` to the root.
    #[inline(always)]
    pub(crate) fn walk(&mut self, vfsmount: u64, dentry: u64) -> Result<PathSpan, Fault> {
        self.set_step(vfsmount, dentry);
        let mut truncated = true;
        let mut unplaced = false;
        self.set_position(PATH_BYTES_MAX as u32);
        for _ in 0..PATH_DEPTH_MAX {
            let (vfsmount, dentry) = self.step();
            let root: u64 = field(vfsmount, &OFF_VFSMNT_ROOT)?;
            let parent: u64 = field(dentry, &OFF_DENTRY_PARENT)?;
            if dentry == parent && dentry != root {
                // A dentry of its own (fs/dcache.c, d_alloc_pseudo): its name is all there is.
                unplaced = true;
                truncated = false;
            } else if dentry == root {
                let mount_offset = OFF_MOUNT_MNT.load();
                if mount_offset == OFFSET_ABSENT {
                    return Err(Fault);
                }
                let mount = vfsmount - u64::from(mount_offset);
                let above: u64 = field(mount, &OFF_MOUNT_PARENT)?;
                if above == mount {
                    truncated = false;
                    break;
                }
                let point: u64 = field(mount, &OFF_MOUNT_POINT)?;
                self.set_step(above + u64::from(mount_offset), point);
                continue;
            }
            let length: u32 = field(dentry, &OFF_DENTRY_LEN)?;
            let name: u64 = field(dentry, &OFF_DENTRY_NAME)?;
            let length = length & (NAME_BYTES_MAX as u32 - 1);
            let position = self.position();
            if length + 1 > position {
                break;
            }
            self.set_position(position - length - 1);
            self.put(name, length)?;
            if unplaced {
                break;
            }
            self.set_step(vfsmount, parent);
        }
        if self.position() == PATH_BYTES_MAX as u32 {
            // The root itself.
            self.set_position(PATH_BYTES_MAX as u32 - 1);
            self.bytes[PATH_BYTES_MAX - 1] = b'/';
        }
        let start = self.position() & (PATH_BYTES_MAX as u32 - 1);
        Ok(PathSpan { start, len: PATH_BYTES_MAX as u32 - start, truncated, unplaced })
    }

    /// Writes `/name` at the position.
    #[inline(always)]
    fn put(&mut self, name: u64, length: u32) -> Result<(), Fault> {
        let position = self.position() & (PATH_BYTES_MAX as u32 - 1);
        // SAFETY: the position is masked below PATH_BYTES_MAX and the buffer is NAME_BYTES_MAX
        // longer than that; the length was masked below NAME_BYTES_MAX.
        unsafe {
            let slot = self.bytes.as_mut_ptr().add(position as usize);
            *slot = b'/';
            let read = bpf_probe_read_kernel(
                slot.add(1).cast(),
                length & (NAME_BYTES_MAX as u32 - 1),
                name as *const _,
            );
            if read == 0 { Ok(()) } else { Err(Fault) }
        }
    }

    /// Copies a path to `target`, which must have room for [`PATH_BYTES_MAX`] bytes.
    #[inline(always)]
    pub(crate) fn copy_to(&self, span: PathSpan, target: *mut u8, max: u32) -> u32 {
        let start = span.start & (PATH_BYTES_MAX as u32 - 1);
        let len = if span.len > max { max } else { span.len };
        // SAFETY: the start is masked below PATH_BYTES_MAX; the caller vouches for `target`. The
        // source is our own map value, which the helper reads like any kernel address.
        let read = unsafe {
            bpf_probe_read_kernel(
                target.cast(),
                len,
                self.bytes.as_ptr().add(start as usize).cast(),
            )
        };
        if read == 0 { len } else { 0 }
    }
}
