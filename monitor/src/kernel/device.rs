//! Device numbers of file systems as the kernel programs read them (`s_dev`). stat(2) shows another
//! number where a file system has several behind one mount: btrfs has one for each subvolume
//! (`btrfs_getattr`), an overlay one for each of its layers (`ovl_map_dev_ino`). The mount knows.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Numbers that are kept: file systems without a block device of their own, and subvolumes.
pub const DEVICES_MAX: usize = 1_024;
/// Bytes of `mountinfo` that are read: some ten thousand mounts.
pub const MOUNTS_BYTES_MAX: u64 = 2 << 20;
/// Mounts of the reading thread (proc(5)).
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// As stat(2) shows it, to what the kernel has.
static KNOWN: RwLock<Option<HashMap<u32, u32>>> = RwLock::new(None);

/// A device number of stat(2) in the kernel's own encoding (`MKDEV`): major << 20 | minor; of the
/// file system itself, where [`learn`] was told of a file there.
pub fn kernel_device(device: u64) -> u32 {
    let shown = rustix::fs::major(device) << 20 | rustix::fs::minor(device) & 0x000f_ffff;
    known(shown).unwrap_or(shown)
}

/// Learns which file system a file is on, of which stat(2) showed this device. Costs a look at the
/// table of mounts, once for each number.
pub fn learn(path: &Path, device: u64) {
    // Numbers without a major one are given to whoever asks; a block device has its own.
    let shown = rustix::fs::major(device) << 20 | rustix::fs::minor(device) & 0x000f_ffff;
    if shown >> 20 != 0 || known(shown).is_some() {
        return;
    }
    let Some(found) = of_mount(path) else { return };
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if known.len() < DEVICES_MAX {
        known.insert(shown, found);
    }
}

fn known(shown: u32) -> Option<u32> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref()?.get(&shown).copied()
}

/// Device number of the file system behind a path's mount, from Linux 5.8 on; `None` for a mount of
/// another namespace.
fn of_mount(path: &Path) -> Option<u32> {
    let wanted = StatxFlags::MNT_ID;
    let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, wanted).ok()?;
    let mut rows = Vec::new();
    if found.stx_mask & wanted.bits() == 0 {
        return None;
    }
    File::open(MOUNTS).ok()?.take(MOUNTS_BYTES_MAX).read_to_end(&mut rows).ok()?;
    in_mounts(&rows, found.stx_mnt_id)
}

/// The device number in the row of a mount: its first word is the mount's number, its third
/// `major:minor`. Paths in other rows may be any bytes.
fn in_mounts(rows: &[u8], mount: u64) -> Option<u32> {
    String::from_utf8_lossy(rows).lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_it = words.next()?.parse() == Ok(mount);
        let (major, minor) = is_it.then(|| words.nth(1))??.split_once(':')?;
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        Some(major << 20 | minor & 0x000f_ffff)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn row_of_a_mount_tells_its_file_system() {
        let rows = b"36 35 98:3 / /mnt rw - ext3 /dev/root rw\n\
                    40 36 0:50 / /mnt/\xff rw - tmpfs tmpfs rw\n\
                    68 45 0:39 /@home /home rw shared:1 - btrfs /dev/nvme0n1p2 rw\n\
                    cut";
        assert_eq!(in_mounts(rows, 36), Some(98 << 20 | 3));
        assert_eq!(in_mounts(rows, 68), Some(39));
        assert_eq!(in_mounts(rows, 45), None, "the mount above it");
        assert_eq!(in_mounts(b"68", 68), None);
        assert_eq!(in_mounts(b"68 45 0:x / /", 68), None);
    }

    #[test]
    fn file_system_of_its_own_is_what_stat_says_and_a_block_device_is_not_looked_up() {
        let proc = std::fs::metadata("/proc").expect("it is there").dev();
        assert_eq!(of_mount(Path::new("/proc")), Some(kernel_device(proc)));
        learn(Path::new("/proc"), proc);
        assert_eq!(known(kernel_device(proc)), Some(kernel_device(proc)));
        let disk = rustix::fs::makedev(259, 7);
        learn(Path::new("/proc"), disk);
        assert_eq!(kernel_device(disk), 259 << 20 | 7);
        assert_eq!(of_mount(Path::new("/proc/self/ns/mnt")), None, "of no mount that is listed");
    }
}
