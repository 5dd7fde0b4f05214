//! Who held files before the monitor looked on: mappings and descriptors in `/proc`, looked through
//! once, after the scan at start. Part of the rim; bounded in processes, bytes and descriptors.

use std::collections::{HashMap, HashSet};

use super::label::LabelSeed;
use super::limit::{HOLDERS_LOOKED_AT_MAX, MAPS_BYTES_MAX};
use super::procfs::Procfs;
use crate::model::{FileId, Tgid};

/// A process that has a weight file mapped or open for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which process.
    pub process: Tgid,
    /// Which file, as the scan named it.
    pub id: FileId,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// Files by inode number: identity and size.
pub type HeldFiles = HashMap<u64, (FileId, u64)>;

/// Notes a file that the scan found, for [`find_held`].
pub fn note_held(files: &mut HeldFiles, seed: &LabelSeed) {
    files.insert(seed.id.inode, (seed.id, seed.size_bytes));
}

/// Finds who has one of these files mapped, or open for reading. Each goes to `found` once.
pub fn find_held(procfs: &Procfs, files: &HeldFiles, found: &mut dyn FnMut(Held)) {
    if files.is_empty() {
        return;
    }
    let own = std::process::id();
    let others = procfs.processes().into_iter().filter(|process| process.0 != own);
    for process in others.take(HOLDERS_LOOKED_AT_MAX) {
        let mut held = HashSet::new();
        let maps = procfs.bytes(process, "maps", MAPS_BYTES_MAX).unwrap_or_default().0;
        let maps = String::from_utf8_lossy(&maps);
        held.extend(maps.lines().filter_map(mapped).filter_map(|file| known(files, file)));
        held.extend(procfs.read_by(process).filter_map(|file| known(files, file)));
        for inode in held {
            if let Some((id, size_bytes)) = files.get(&inode).copied() {
                found(Held { process, id, size_bytes });
            }
        }
    }
}

/// The inode number of a file that is one of those looked for.
fn known(files: &HeldFiles, (device, inode): (u32, u64)) -> Option<u64> {
    files.get(&inode).is_some_and(|(id, _)| id.device == device).then_some(inode)
}

/// Device and inode of a line of `/proc/PID/maps` (proc(5)).
fn mapped(line: &str) -> Option<(u32, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    let (major, minor) = fields.next()?.split_once(':')?;
    let major = u32::from_str_radix(major, 16).ok()?;
    let minor = u32::from_str_radix(minor, 16).ok()?;
    let inode = fields.next()?.parse().ok()?;
    (inode != 0).then_some((major << 20 | minor, inode))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::kernel::device::kernel_device;

    #[test]
    fn a_line_of_maps_names_its_file_and_what_has_none_is_left_out() {
        let line = "7f12-7f34 r--s 00001000 fd:0a 4711                       /models/a b.gguf";
        assert_eq!(mapped(line), Some((0xfd << 20 | 0xa, 4711)));
        assert_eq!(mapped("7f12-7f34 rw-p 00000000 00:00 0   [heap]"), None);
        assert_eq!(mapped(""), None);
        assert_eq!(mapped("x y z"), None);
    }

    #[test]
    fn who_has_a_file_open_for_reading_is_found_and_a_writer_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut files = HeldFiles::new();
        for name in ["read", "written"] {
            let path = directory.path().join(name);
            fs::write(&path, b"GGUF").expect("a file");
            let meta = fs::metadata(&path).expect("it is there");
            let device = kernel_device(meta.dev());
            let id = FileId { device, inode: meta.ino(), generation: 0 };
            files.insert(meta.ino(), (id, meta.len()));
        }
        let mut holder = Command::new("/bin/sh")
            .args(["-c", "exec 8<read 9>>written; echo; read _"])
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let out = holder.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it is ready");
        let mut found = Vec::new();
        find_held(&Procfs::default(), &files, &mut |held| found.push(held));
        drop(holder.stdin.take());
        holder.wait().expect("it ends");
        let inode = fs::metadata(directory.path().join("read")).expect("it is there").ino();
        let (id, size_bytes) = files[&inode];
        assert_eq!(found, [Held { process: Tgid(holder.id()), id, size_bytes }]);
    }
}
