//! Names of files and directories, looked at without walking a path.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use monitor_common::{OFFSET_ABSENT, WATCH_NAME_BYTES, WatchName, name_slot};

use super::{Fault, field, word};
use crate::globals::{OFF_DENTRY_LEN, OFF_DENTRY_NAME, OFF_DENTRY_PARENT, Place, TYPE_CAST};
use crate::words;

/// Bytes read at once from the start of a `struct dentry`: parent, name and a short name's text.
const DENTRY_HEAD_BYTES: usize = 64;

/// A name as a key, aligned so that it can be cleared by its words.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Key(WatchName);

/// A dentry, and room for its name. Where its fields cannot be read by plain loads, its start is
/// read at once. Lives in a scratch slot.
#[repr(C)]
pub(crate) struct NameHead {
    key: Key,
    address: u64,
    bytes: [u8; DENTRY_HEAD_BYTES],
}

impl NameHead {
    /// Looks at the dentry at `address`.
    #[inline(always)]
    pub(crate) fn fill(&mut self, address: u64) -> Result<(), Fault> {
        self.address = address;
        if TYPE_CAST.load() != 0 {
            return Ok(());
        }
        super::into(address, &mut self.bytes)
    }

    #[inline(always)]
    fn get<T: Copy>(&self, place: &Place) -> Result<T, Fault> {
        if TYPE_CAST.load() != 0 {
            return field(self.address, place);
        }
        let offset = place.load();
        if offset == OFFSET_ABSENT || offset as usize > DENTRY_HEAD_BYTES - size_of::<T>() {
            return Err(Fault);
        }
        // SAFETY: the offset was checked to lie inside the array; the read may be unaligned.
        Ok(unsafe { self.bytes.as_ptr().add(offset as usize).cast::<T>().read_unaligned() })
    }

    /// The dentry of the directory it stands in.
    #[inline(always)]
    pub(crate) fn parent(&self) -> Result<u64, Fault> {
        self.get(&OFF_DENTRY_PARENT)
    }

    /// Bytes of the name.
    #[inline(always)]
    pub(crate) fn len(&self) -> Result<u32, Fault> {
        self.get(&OFF_DENTRY_LEN)
    }

    #[inline(always)]
    fn text(&self) -> Result<u64, Fault> {
        self.get(&OFF_DENTRY_NAME)
    }

    /// The name's slot in the filter; `None` for a name too long to be watched.
    #[inline(always)]
    pub(crate) fn slot(&self) -> Result<Option<u32>, Fault> {
        let len = self.len()?;
        if len == 0 || len as usize >= WATCH_NAME_BYTES {
            return Ok(None);
        }
        let start = word(self.text()?)?;
        Ok(Some(name_slot(start, len)))
    }

    /// The name as a key.
    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<&WatchName, Fault> {
        let text = self.text()?;
        words::clear(&mut self.key);
        // SAFETY: the key is that many bytes long; the helper accepts any source address.
        let read = unsafe {
            bpf_probe_read_kernel_str(
                self.key.0.0.as_mut_ptr().cast(),
                WATCH_NAME_BYTES as u32,
                text as *const core::ffi::c_void,
            )
        };
        if read < 0 { Err(Fault) } else { Ok(&self.key.0) }
    }
}
