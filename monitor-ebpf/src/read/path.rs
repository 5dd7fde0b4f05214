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
#[repr(C)]
pub(crate) struct PathBuffer {
    bytes: [u8; PATH_BYTES_MAX + NAME_BYTES_MAX],
}

/// A path that was put together: its place in the buffer.
#[derive(Clone, Copy)]
pub(crate) struct PathSpan {
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) truncated: bool,
}

impl PathBuffer {
    /// Walks from `dentry` on mount `vfsmount` to the root.
    ///
    /// Not inlined: two walks of 32 steps in one program come near the verifier's limit on 5.10.
    #[inline(always)]
    pub(crate) fn walk(&mut self, vfsmount: u64, dentry: u64) -> Result<PathSpan, Fault> {
        let mut vfsmount = vfsmount;
        let mut dentry = dentry;
        let mut position = PATH_BYTES_MAX as u32;
        let mut done = false;
        for _ in 0..PATH_DEPTH_MAX {
            let root: u64 = field(vfsmount, &OFF_VFSMNT_ROOT)?;
            let parent: u64 = field(dentry, &OFF_DENTRY_PARENT)?;
            if dentry == root || dentry == parent {
                let mount_offset = OFF_MOUNT_MNT.load();
                if mount_offset == OFFSET_ABSENT {
                    return Err(Fault);
                }
                let mount = vfsmount - u64::from(mount_offset);
                let above: u64 = field(mount, &OFF_MOUNT_PARENT)?;
                if above == mount || dentry != root {
                    done = true;
                    break;
                }
                dentry = field(mount, &OFF_MOUNT_POINT)?;
                vfsmount = above + u64::from(mount_offset);
                continue;
            }
            let length: u32 = field(dentry, &OFF_DENTRY_LEN)?;
            let name: u64 = field(dentry, &OFF_DENTRY_NAME)?;
            let length = length & (NAME_BYTES_MAX as u32 - 1);
            if length + 1 > position {
                return Ok(PathSpan {
                    start: position,
                    len: PATH_BYTES_MAX as u32 - position,
                    truncated: true,
                });
            }
            position -= length + 1;
            self.put(position, name, length)?;
            dentry = parent;
        }
        if position == PATH_BYTES_MAX as u32 {
            // The root itself.
            position -= 1;
            self.bytes[position as usize] = b'/';
        }
        Ok(PathSpan { start: position, len: PATH_BYTES_MAX as u32 - position, truncated: !done })
    }

    /// Writes `/name` at `position`.
    #[inline(always)]
    fn put(&mut self, position: u32, name: u64, length: u32) -> Result<(), Fault> {
        let position = position & (PATH_BYTES_MAX as u32 - 1);
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
