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
        && let Some(found) = in_overlay(opened, file::number(own)?)?
    {
        label = found.label;
        if !found.is_copy {
            inode = found.layer;
        }
    }
    let is_in_layer = inode != own;
    if label == 0 {
        label = of_inode(own)?;
    }
    if label == 0 {
        return Ok(None);
    }
    Ok(Some(Labelled { inode, key: file::key(inode)?, label, is_in_layer }))
}

/// What an overlay's open file stands for.
pub(crate) struct Layered {
    /// Address of the inode in its layer.
    pub(crate) layer: u64,
    /// The label; never zero.
    pub(crate) label: u32,
    /// Whether the overlay has copied the labelled file up, and what lies in the layer is the copy.
    pub(crate) is_copy: bool,
}

/// The label of an overlay's open file of this number by what lies in its layer; `None` for none.
///
/// A file that is copied up keeps the number of the one below, where all layers are of one file
/// system (Documentation/filesystems/overlayfs.rst, "Inode properties"), and the copy has another.
#[inline(always)]
pub(crate) fn in_overlay(opened: u64, number: u64) -> Result<Option<Layered>, Fault> {
    let layer = file::layer_inode(opened)?;
    if layer == 0 {
        return Ok(None);
    }
    let label = of_inode(layer)?;
    if label != 0 {
        return Ok(Some(Layered { layer, label, is_copy: false }));
    }
    if file::number(layer)? == number {
        return Ok(None);
    }
    let below = || Ok(InodeKey { inode: number, ..file::key(layer)? });
    let label = of_number(number, below)?;
    if label == 0 { Ok(None) } else { Ok(Some(Layered { layer, label, is_copy: true })) }
}
