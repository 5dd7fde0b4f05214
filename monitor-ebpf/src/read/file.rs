//! Files, inodes, file tables.

use monitor_common::{
    EXTENSION_BYTES, Extension, FileIdRecord, INODE_HEAD_BYTES, InodeKey, OFFSET_ABSENT,
};

use super::{Fault, field};
use crate::globals::{
    OFF_DENTRY_INODE, OFF_DENTRY_LEN, OFF_DENTRY_NAME, OFF_DENTRY_PARENT, OFF_FDT_FD, OFF_FDT_MAX,
    OFF_FILE_FLAGS, OFF_FILE_INODE, OFF_FILE_PATH, OFF_FILE_PRIVATE, OFF_FILES_FDT,
    OFF_INODE_CTIME, OFF_INODE_GEN, OFF_INODE_INO, OFF_INODE_MODE, OFF_INODE_NLINK, OFF_INODE_RDEV,
    OFF_INODE_SB, OFF_INODE_SIZE, OFF_PATH_DENTRY, OFF_PATH_MNT, OFF_SB_DEV, OFF_SB_MAGIC,
    OFF_TASK_FILES, Place, TYPE_CAST,
};

/// `S_IFMT` and five of its values (include/uapi/linux/stat.h).
pub(crate) const S_IFMT: u16 = 0o170_000;
pub(crate) const S_IFREG: u16 = 0o100_000;
pub(crate) const S_IFCHR: u16 = 0o020_000;
pub(crate) const S_IFBLK: u16 = 0o060_000;
pub(crate) const S_IFSOCK: u16 = 0o140_000;
pub(crate) const S_IFIFO: u16 = 0o010_000;

/// An inode. Where its fields cannot be read by plain loads, its start is read at once: one helper
/// instead of six. Lives in a scratch slot, for the BPF stack has 512 bytes.
#[repr(C)]
pub(crate) struct InodeHead {
    address: u64,
    bytes: [u8; INODE_HEAD_BYTES],
}

impl InodeHead {
    /// Looks at the inode at `address`.
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
        let offset = place.load();
        if offset == OFFSET_ABSENT {
            return Err(Fault);
        }
        if TYPE_CAST.load() != 0 || offset as usize > INODE_HEAD_BYTES - size_of::<T>() {
            return field(self.address, place);
        }
        // SAFETY: the offset was checked to lie inside the array; the read may be unaligned.
        Ok(unsafe { self.bytes.as_ptr().add(offset as usize).cast::<T>().read_unaligned() })
    }

    #[inline(always)]
    pub(crate) fn mode(&self) -> Result<u16, Fault> {
        self.get(&OFF_INODE_MODE)
    }

    #[inline(always)]
    pub(crate) fn size(&self) -> Result<u64, Fault> {
        self.get(&OFF_INODE_SIZE)
    }

    #[inline(always)]
    pub(crate) fn rdev(&self) -> Result<u32, Fault> {
        self.get(&OFF_INODE_RDEV)
    }

    #[inline(always)]
    pub(crate) fn superblock(&self) -> Result<u64, Fault> {
        self.get(&OFF_INODE_SB)
    }

    /// Inode number.
    #[inline(always)]
    pub(crate) fn number(&self) -> Result<u64, Fault> {
        self.get(&OFF_INODE_INO)
    }

    /// Key of the label map. Without the generation: the daemon cannot ask for it without opening
    /// the file, so it compares the generation of the record instead.
    #[inline(always)]
    pub(crate) fn key(&self) -> Result<InodeKey, Fault> {
        Ok(InodeKey {
            inode: self.get(&OFF_INODE_INO)?,
            device: field(self.superblock()?, &OFF_SB_DEV)?,
            generation: 0,
        })
    }

    /// Identity. The generation is beyond what was read at once.
    #[inline(always)]
    pub(crate) fn id(&self) -> Result<FileIdRecord, Fault> {
        Ok(FileIdRecord {
            inode: self.get(&OFF_INODE_INO)?,
            device: field(self.superblock()?, &OFF_SB_DEV)?,
            generation: field(self.address, &OFF_INODE_GEN)?,
        })
    }

    /// Whether only its owner may use it.
    #[inline(always)]
    pub(crate) fn is_private(&self) -> Result<bool, Fault> {
        Ok(self.mode()? & 0o077 == 0)
    }

    /// `s_magic`.
    #[inline(always)]
    pub(crate) fn fs_magic(&self) -> Result<u64, Fault> {
        field(self.superblock()?, &OFF_SB_MAGIC)
    }
}

/// Identity of an inode that is looked at once, without its head.
#[inline(always)]
pub(crate) fn id(inode: u64) -> Result<FileIdRecord, Fault> {
    Ok(FileIdRecord {
        inode: field(inode, &OFF_INODE_INO)?,
        device: field(field(inode, &OFF_INODE_SB)?, &OFF_SB_DEV)?,
        generation: field(inode, &OFF_INODE_GEN)?,
    })
}

/// Number of an inode that is looked at once, without its head.
#[inline(always)]
pub(crate) fn number(inode: u64) -> Result<u64, Fault> {
    field(inode, &OFF_INODE_INO)
}

/// Key of an inode that is looked at once, without its head.
#[inline(always)]
pub(crate) fn key(inode: u64) -> Result<InodeKey, Fault> {
    Ok(InodeKey {
        inode: field(inode, &OFF_INODE_INO)?,
        device: field(field(inode, &OFF_INODE_SB)?, &OFF_SB_DEV)?,
        generation: 0,
    })
}

/// `s_magic` of the file system an inode is on.
#[inline(always)]
pub(crate) fn fs_magic(inode: u64) -> Result<u64, Fault> {
    field(field(inode, &OFF_INODE_SB)?, &OFF_SB_MAGIC)
}

/// Identity of a pipe for its life, the same at both ends.
#[inline(always)]
pub(crate) fn channel(inode: u64) -> Result<u64, Fault> {
    let device: u32 = field(field(inode, &OFF_INODE_SB)?, &OFF_SB_DEV)?;
    Ok(number(inode)? ^ (u64::from(device) << 40))
}

/// Links of an inode.
#[inline(always)]
pub(crate) fn nlink(inode: u64) -> Result<u32, Fault> {
    field(inode, &OFF_INODE_NLINK)
}

/// When the inode was changed last, in seconds of wall-clock time (`i_ctime`).
#[inline(always)]
pub(crate) fn changed_s(inode: u64) -> Result<i64, Fault> {
    field(inode, &OFF_INODE_CTIME)
}

/// The open file behind a descriptor of `task`; a fault where there is none.
///
/// The bound is asked for even where the table itself gave the descriptor out: a number that is
/// read back at a call's end stands in the caller's memory, where another thread can write, and
/// one beyond the table would name some other process's file.
#[inline(always)]
pub(crate) fn from_descriptor(task: u64, descriptor: u32) -> Result<u64, Fault> {
    let files: u64 = field(task, &OFF_TASK_FILES)?;
    let table: u64 = field(files, &OFF_FILES_FDT)?;
    if descriptor >= field::<u32>(table, &OFF_FDT_MAX)? {
        return Err(Fault);
    }
    let slots: u64 = field(table, &OFF_FDT_FD)?;
    let file: u64 = super::word(slots + u64::from(descriptor) * 8)?;
    if file == 0 { Err(Fault) } else { Ok(file) }
}

/// The inode of an open file.
#[inline(always)]
pub(crate) fn inode(file: u64) -> Result<u64, Fault> {
    field(file, &OFF_FILE_INODE)
}

/// Flags of open(2).
#[inline(always)]
pub(crate) fn open_flags(file: u64) -> Result<u32, Fault> {
    field(file, &OFF_FILE_FLAGS)
}

/// What a file keeps for itself: for a socket, its `struct socket`.
#[inline(always)]
pub(crate) fn private(file: u64) -> Result<u64, Fault> {
    field(file, &OFF_FILE_PRIVATE)
}

/// `OVERLAYFS_SUPER_MAGIC` (include/uapi/linux/magic.h).
pub(crate) const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// The inode in the layer that an overlay's open file stands for; zero where it is still being
/// opened.
///
/// The overlay keeps the file that it opened in a layer: as `private_data` (fs/overlayfs/file.c,
/// 5.10 to 6.12), or as the first member of the `struct ovl_file` that leads to (6.13 and newer).
/// The overlay may be a module that is loaded after us, so its types are not asked for: a `struct
/// file` that is open begins with counts, flags or zeros, on no kernel with an address.
#[inline(always)]
pub(crate) fn layer_inode(file: u64) -> Result<u64, Fault> {
    let held = layer_file(file)?;
    if held == 0 {
        return Ok(0);
    }
    let layer = inode(held)?;
    // An overlay may be a layer of another, once (include/linux/fs.h,
    // `FILESYSTEM_MAX_STACK_DEPTH`).
    if fs_magic(layer)? == OVERLAYFS_SUPER_MAGIC { inode(layer_file(held)?) } else { Ok(layer) }
}

#[inline(always)]
fn layer_file(file: u64) -> Result<u64, Fault> {
    let held = private(file)?;
    if held == 0 {
        return Ok(0);
    }
    let first = super::word(held)?;
    let is_address = first >> 63 != 0;
    Ok(if is_address { first } else { held })
}

/// Mount of an open file.
#[inline(always)]
pub(crate) fn mount(file: u64) -> Result<u64, Fault> {
    field(super::member(file, &OFF_FILE_PATH)?, &OFF_PATH_MNT)
}

/// Dentry of an open file.
#[inline(always)]
pub(crate) fn dentry(file: u64) -> Result<u64, Fault> {
    field(super::member(file, &OFF_FILE_PATH)?, &OFF_PATH_DENTRY)
}

/// Address of the name of an open file, in its directory.
#[inline(always)]
pub(crate) fn name(file: u64) -> Result<u64, Fault> {
    field(dentry(file)?, &OFF_DENTRY_NAME)
}

/// Whether an open file is `/proc/PID/mem`, by whatever path: a file of that name on proc. Of all
/// empty files only those on proc cost more than two reads.
#[inline(always)]
pub(crate) fn is_process_memory(file: u64, head: &InodeHead) -> Result<bool, Fault> {
    /// `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h).
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    if head.fs_magic()? != PROC_SUPER_MAGIC {
        return Ok(false);
    }
    let dentry = dentry(file)?;
    let length: u32 = field(dentry, &OFF_DENTRY_LEN)?;
    if length != 3 {
        return Ok(false);
    }
    let name: [u8; 3] = super::at(field(dentry, &OFF_DENTRY_NAME)?)?;
    Ok(name == *b"mem")
}

/// Inode of the directory that a dentry stands in.
#[inline(always)]
pub(crate) fn parent_inode(dentry: u64) -> Result<u64, Fault> {
    let parent: u64 = field(dentry, &OFF_DENTRY_PARENT)?;
    field(parent, &OFF_DENTRY_INODE)
}

/// The lower-case extension of a dentry's name, right-justified; `None` without one, or when it is
/// too long to have a class.
#[inline(always)]
pub(crate) fn extension(dentry: u64) -> Result<Option<Extension>, Fault> {
    let length: u32 = field(dentry, &OFF_DENTRY_LEN)?;
    let name: u64 = field(dentry, &OFF_DENTRY_NAME)?;
    if length < 3 {
        return Ok(None);
    }
    // The last 16 bytes of the name. A name shorter than that lives inside its dentry, behind the
    // other members, so what is read before its start is memory of the same dentry, and is ignored.
    let tail: [u64; 2] = super::at(name + u64::from(length) - EXTENSION_BYTES as u64)?;
    Ok(Extension::of_tail(tail, length))
}
