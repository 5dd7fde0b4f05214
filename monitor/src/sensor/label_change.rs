//! Renames, links, removals and cuts of labelled files: a second fanotify group, which names inodes
//! by file handle, because these acts have no open file that the first one could hand over.
//!
//! Which handle is which file is learnt: the file is marked, opened once by the monitor itself, and
//! the handle in the notice of that is the file's.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::CWD;

use crate::model::{FileId, FileOp};

/// `FAN_REPORT_FID` (include/uapi/linux/fanotify.h, 5.1 and newer).
const FAN_REPORT_FID: u32 = 0x200;
/// `FAN_EVENT_INFO_TYPE_FID`.
const INFO_FID: u8 = 1;
/// Bytes of `struct fanotify_event_metadata` and of `struct fanotify_event_info_header`.
const METADATA_BYTES: usize = 24;
const INFO_HEADER_BYTES: usize = 4;
/// Bytes read from the queue at once.
const READ_BYTES: usize = 8_192;
/// How long the notice of the monitor's own open is waited for: on a busy host whoever reads it may
/// be late. Nobody waits but the thread that marks.
const LEARN: Duration = Duration::from_secs(2);
/// Entries of a directory that are looked through for a new name.
const ENTRIES_MAX: usize = 4_096;

/// One labelled file, as it was last seen.
#[derive(Clone, Debug)]
struct Place {
    id: FileId,
    path: String,
    links: u64,
    size_bytes: u64,
}

/// What was done to a labelled file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) process: u32,
    pub(super) op: FileOp,
    pub(super) id: FileId,
    pub(super) path: String,
    pub(super) new_path: String,
    pub(super) size_bytes: u64,
}

/// The group, and which handle is which file.
pub(super) struct Changes {
    group: Fanotify,
    known: Mutex<HashMap<Box<[u8]>, Place>>,
    own: u32,
    learnt: SyncSender<Box<[u8]>>,
    lessons: Mutex<Receiver<Box<[u8]>>>,
}

/// One event as the kernel wrote it: mask, process, and the handle of the inode.
#[derive(Debug, PartialEq, Eq)]
struct RawEvent<'b> {
    mask: u64,
    process: u32,
    handle: Option<&'b [u8]>,
}

/// Takes the first event off the bytes that were read; `None` at their end or where they make no
/// sense, which ends the reading.
fn take_event<'b>(bytes: &mut &'b [u8]) -> Option<RawEvent<'b>> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let len = word(0)? as usize;
    let metadata_len = usize::from(u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?));
    let mask = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    let process = word(20)?;
    if metadata_len < METADATA_BYTES || len < metadata_len {
        return None;
    }
    let event = bytes.get(..len)?;
    let mut infos = event.get(metadata_len..)?;
    let mut handle = None;
    while let Some(header) = infos.get(..INFO_HEADER_BYTES) {
        let info_len = usize::from(u16::from_ne_bytes([header[2], header[3]]));
        if info_len < INFO_HEADER_BYTES || info_len > infos.len() {
            break;
        }
        if header[0] == INFO_FID {
            handle = infos.get(INFO_HEADER_BYTES..info_len);
        }
        infos = &infos[info_len..];
    }
    *bytes = &bytes[len..];
    Some(RawEvent { mask, process, handle })
}

impl Changes {
    /// A group; why not, where the kernel has none of that sort.
    pub(super) fn start() -> Result<Self, String> {
        let flags = InitFlags::FAN_CLASS_NOTIF
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_MARKS
            | InitFlags::from_bits_retain(FAN_REPORT_FID);
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY)
            .map_err(|error| format!("fanotify_init with file handles: {error}"))?;
        let (learnt, lessons) = sync_channel(16);
        Ok(Self {
            group,
            known: Mutex::default(),
            own: std::process::id(),
            learnt,
            lessons: Mutex::new(lessons),
        })
    }

    /// Marks the file that `link` leads to, and learns its handle. The caller has proved that it is
    /// `id`. The queue must be read by another thread meanwhile.
    pub(super) fn mark(&self, id: FileId, path: &str, link: &str) -> Result<(), String> {
        let told = |error: Errno| format!("fanotify_mark with file handles: {error}");
        let lasting = MaskFlags::FAN_ATTRIB
            | MaskFlags::FAN_MODIFY
            | MaskFlags::FAN_MOVE_SELF
            | MaskFlags::FAN_DELETE_SELF;
        let lessons = self.lessons.lock().unwrap_or_else(PoisonError::into_inner);
        // A lesson that came too late belongs to a file before this one.
        while lessons.try_recv().is_ok() {}
        let all = lasting | MaskFlags::FAN_OPEN;
        self.group.mark(MarkFlags::FAN_MARK_ADD, all, CWD, Some(link)).map_err(told)?;
        let opened = File::open(link).and_then(|file| file.metadata());
        let handle = lessons.recv_timeout(LEARN);
        let open = MaskFlags::FAN_OPEN;
        self.group.mark(MarkFlags::FAN_MARK_REMOVE, open, CWD, Some(link)).map_err(told)?;
        let meta = opened.map_err(|error| error.to_string())?;
        let handle = handle.map_err(|_| "its file handle was not told".to_owned())?;
        let place =
            Place { id, path: path.to_owned(), links: meta.nlink(), size_bytes: meta.len() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, place);
        Ok(())
    }

    /// Reads what waits. Events of the monitor's own teach; the rest is given to `found`. Returns
    /// how many were lost because the kernel's queue was full.
    pub(super) fn read(&self, found: &mut dyn FnMut(Change)) -> io::Result<u64> {
        let mut buffer = [0; READ_BYTES];
        let read = rustix::io::read(&self.group, &mut buffer)?;
        let mut bytes = &buffer[..read];
        let mut lost = 0;
        while let Some(event) = take_event(&mut bytes) {
            let mask = MaskFlags::from_bits_truncate(event.mask);
            if mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
                lost += 1;
            }
            let Some(handle) = event.handle else { continue };
            if event.process == self.own {
                if mask.contains(MaskFlags::FAN_OPEN) {
                    // Whoever learns has room for one and takes the first.
                    let _kept = self.learnt.try_send(handle.into());
                }
                continue;
            }
            for change in self.changes(handle, event.process, mask) {
                found(change);
            }
        }
        Ok(lost)
    }

    /// A marked file has this path by now.
    pub(super) fn moved(&self, id: FileId, path: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.values_mut().find(|place| place.id == id) {
            path.clone_into(&mut place.path);
        }
    }

    fn changes(&self, handle: &[u8], process: u32, mask: MaskFlags) -> Vec<Change> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = known.get_mut(handle) else { return Vec::new() };
        let mut changes = Vec::new();
        let now = fs::symlink_metadata(&place.path).ok();
        let now = now.filter(|meta| meta.ino() == place.id.inode);
        let mut told = |place: &Place, op, new_path: String| {
            changes.push(Change {
                process,
                op,
                id: place.id,
                path: place.path.clone(),
                new_path,
                size_bytes: place.size_bytes,
            });
        };
        if mask.contains(MaskFlags::FAN_MOVE_SELF) {
            let new_path = other_name(&place.path, place.id.inode).unwrap_or_default();
            told(place, FileOp::Rename, new_path.clone());
            // Empty until somebody tells where it went.
            place.path = new_path;
        } else if mask.contains(MaskFlags::FAN_ATTRIB) && !place.path.is_empty() {
            match links_changed(place, now.as_ref()) {
                Some(FileOp::Link) => {
                    let new_path = other_name(&place.path, place.id.inode).unwrap_or_default();
                    told(place, FileOp::Link, new_path);
                }
                Some(op) => told(place, op, String::new()),
                None => {}
            }
        }
        if let Some(meta) = &now {
            if mask.contains(MaskFlags::FAN_MODIFY) && meta.len() < place.size_bytes {
                place.size_bytes = meta.len();
                told(place, FileOp::Truncate, String::new());
            }
            (place.links, place.size_bytes) = (meta.nlink(), meta.len());
        }
        if mask.contains(MaskFlags::FAN_DELETE_SELF) {
            if place.links > 0 {
                told(place, FileOp::Unlink, String::new());
            }
            known.remove(handle);
        }
        changes
    }
}

/// Whether a change of attributes was one of links: which.
fn links_changed(place: &mut Place, now: Option<&Metadata>) -> Option<FileOp> {
    let Some(meta) = now else {
        // Its name is gone. That is told once; the end of the inode says nothing more.
        let is_told = place.links == 0;
        place.links = 0;
        return (!is_told).then_some(FileOp::Unlink);
    };
    let before = place.links;
    place.links = meta.nlink();
    match meta.nlink().cmp(&before) {
        std::cmp::Ordering::Greater => Some(FileOp::Link),
        std::cmp::Ordering::Less => Some(FileOp::Unlink),
        std::cmp::Ordering::Equal => None,
    }
}

/// Another name of an inode in the directory of `path`; where it went elsewhere, nobody tells.
fn other_name(path: &str, inode: u64) -> Option<String> {
    let path = Path::new(path);
    let entries = fs::read_dir(path.parent()?).ok()?;
    let is_it = |entry: &fs::DirEntry| {
        std::os::unix::fs::DirEntryExt::ino(entry) == inode && entry.path() != path
    };
    let found = entries.take(ENTRIES_MAX).flatten().find(is_it)?;
    Some(found.path().to_string_lossy().into_owned())
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(mask: u64, process: u32, handle: &[u8]) -> Vec<u8> {
        let info_len = u16::try_from(INFO_HEADER_BYTES + handle.len()).expect("short");
        let len = u32::try_from(METADATA_BYTES).expect("small") + u32::from(info_len);
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend([3, 0]);
        bytes.extend(u16::try_from(METADATA_BYTES).expect("small").to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend((-1_i32).to_ne_bytes());
        bytes.extend(process.to_ne_bytes());
        bytes.extend([INFO_FID, 0]);
        bytes.extend(info_len.to_ne_bytes());
        bytes.extend(handle);
        bytes
    }

    #[test]
    fn events_are_read_one_after_the_other() {
        let both = [event(4, 7, b"handle-a"), event(0x800, 9, b"b")].concat();
        let mut bytes = both.as_slice();
        let first = take_event(&mut bytes).expect("the first");
        assert_eq!((first.mask, first.process, first.handle), (4, 7, Some(&b"handle-a"[..])));
        let second = take_event(&mut bytes).expect("the second");
        assert_eq!((second.mask, second.handle), (0x800, Some(&b"b"[..])));
        assert_eq!(take_event(&mut bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..200_usize,
        ) {
            let whole = event(4, 7, &bytes.clone()[..bytes.len().min(60)]);
            bytes.splice(at.min(bytes.len())..at.min(bytes.len()), whole);
            let mut rest = bytes.as_slice();
            let mut events = 0;
            while take_event(&mut rest).is_some() {
                events += 1;
                prop_assert!(events <= bytes.len() / METADATA_BYTES);
            }
        }
    }
}
