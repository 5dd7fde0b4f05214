//! Labels of files, by the inode that holds their bytes.

use monitor_common::InodeKey;

use crate::filter;
use crate::maps::LABELS;
use crate::read::file::OVERLAYFS_SUPER_MAGIC;
use crate::read::{Fault, file};

/// What bears the label of an open file.
pub(crate) struct Labelled {
    /// Address of the inode.
    pub(crate) inode: u64,
    /// Key of it.
    pub(crate) key: InodeKey,
    /// Its label; never zero.
    pub(crate) label: u32,
    /// Whether it lies in a layer of the overlay that the file was opened in.
    pub(crate) is_in_layer: bool,
}

/// Label of an inode with this number; zero for none. Its key is asked for only where it matters.
#[inline(always)]
pub(crate) fn of_number(
    number: u64,
    key: impl FnOnce() -> Result<InodeKey, Fault>,
) -> Result<u32, Fault> {
    if !filter::may_be_marked(number) {
        return Ok(0);
    }
    // SAFETY: the value is copied out at once.
    Ok(unsafe { LABELS.get(key()?) }.map_or(0, |label| *label))
}

/// Label of an inode; zero for none.
#[inline(always)]
pub(crate) fn of_inode(inode: u64) -> Result<u32, Fault> {
    of_number(file::number(inode)?, || file::key(inode))
}

/// The label of an open file; `None` for none. Of an overlay's file, what lies in its layer comes
/// first: it is the same to every overlay above it.
#[inline(always)]
pub(crate) fn of_file(opened: u64) -> Result<Option<Labelled>, Fault> {
    let own = file::inode(opened)?;
    let mut inode = own;
    let mut label = 0;
    if file::fs_magic(own)? == OVERLAYFS_SUPER_MAGIC
        && let Some((layer, found)) = in_layer(opened)?
    {
        (inode, label) = (layer, found);
    }
    let is_in_layer = label != 0;
    if !is_in_layer {
        label = of_inode(own)?;
    }
    if label == 0 {
        return Ok(None);
    }
    Ok(Some(Labelled { inode, key: file::key(inode)?, label, is_in_layer }))
}

/// The inode and its label that an overlay's open file stands for; `None` where that has no label.
#[inline(always)]
pub(crate) fn in_layer(opened: u64) -> Result<Option<(u64, u32)>, Fault> {
    let inode = file::layer_inode(opened)?;
    if inode == 0 {
        return Ok(None);
    }
    let label = of_inode(inode)?;
    if label == 0 { Ok(None) } else { Ok(Some((inode, label))) }
}
