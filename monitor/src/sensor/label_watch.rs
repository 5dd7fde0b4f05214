//! The watch on labelled inodes: fanotify marks on the files themselves, so that every road to them
//! is seen. System calls by other numbers (`int 0x80`), descriptors that were passed or opened
//! before, mounts, roots and names make no difference to an inode.
//!
//! It only takes notice (`FAN_CLASS_NOTIF`): nobody ever waits for the monitor. What the kernel
//! programs have told already is told once (`pipeline::notice`).

use std::collections::HashMap;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::{CWD, Mode, OFlags, fstat, fstatfs, open};

use super::label_change::Changes;
use super::label_mark::{MarkCounts, Refusal};
use super::label_reader::Reader;
use crate::enrich::Procfs;
use crate::model::{BootNs, Clock, FileId, FileOp, Tgid};

/// Marks that are set at most. Each keeps its inode in memory: some kibibyte of the kernel's.
pub const MARKS_MAX: usize = 8_192;
/// Requests for marks that wait; the scan at start is the only one that makes many.
const REQUESTS_MAX: usize = 16_384;
/// Notices that wait for the engine; more are dropped and counted.
const NOTICES_MAX: usize = 4_096;

/// What happened to a marked file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the bits of one event, any of them together")]
pub struct Notice {
    /// When it was read from the queue; of one that may have waited there, when it can have come
    /// first.
    pub time: BootNs,
    /// Who did it.
    pub process: Tgid,
    /// Which file: the identity that the mark was asked for.
    pub id: FileId,
    /// Its path as this process sees it.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// `s_magic`.
    pub fs_magic: u64,
    /// Whether it was opened.
    pub is_opened: bool,
    /// Whether bytes were read.
    pub is_read: bool,
    /// Whether it was written or cut.
    pub is_modified: bool,
    /// Whether somebody who could write closed it.
    pub is_closed: bool,
    /// What was done to its name or length; its path is the one before.
    pub change: Option<FileOp>,
    /// Its path afterwards, where it is known.
    pub new_path: String,
}

/// A file to be marked, and where it is found.
#[derive(Clone, Debug)]
pub struct MarkRequest {
    /// Which file.
    pub id: FileId,
    /// A process in whose view the path leads to it.
    pub process: Tgid,
    /// Its path.
    pub path: String,
    /// Whether reading it matters, or only how it grows.
    pub is_labelled: bool,
}

/// What the watch counts.
#[derive(Debug, Default)]
pub struct LabelWatchStats {
    /// Files that are marked, and those that could not be.
    pub marks: MarkCounts,
    /// Notices dropped because the engine was behind, or the kernel's queue was full.
    pub lost: AtomicU64,
    /// Times that the mark of a file rested, because it was opened or read without a pause.
    pub rested: AtomicU64,
}

/// Identity of a marked inode as stat(2) tells it, to the identity that the kernel programs tell:
/// device numbers differ on btrfs and overlayfs.
pub(super) type Known = Arc<Mutex<HashMap<(u64, u64), FileId>>>;

/// The running watch.
pub struct LabelWatch {
    requests: Option<SyncSender<MarkRequest>>,
    notices: Receiver<Notice>,
    changes: Option<Arc<Changes>>,
    stats: Arc<LabelWatchStats>,
    reader: Arc<Reader>,
    threads: Vec<JoinHandle<()>>,
}

/// Whether this process may watch at all: the reason, where not.
pub fn probe() -> Result<(), String> {
    group().map(drop)
}

fn group() -> Result<Fanotify, String> {
    let flags = InitFlags::FAN_CLASS_NOTIF
        | InitFlags::FAN_CLOEXEC
        | InitFlags::FAN_NONBLOCK
        | InitFlags::FAN_UNLIMITED_MARKS;
    let events = EventFFlags::O_RDONLY
        | EventFFlags::O_LARGEFILE
        | EventFFlags::O_CLOEXEC
        | EventFFlags::O_NONBLOCK;
    Fanotify::init(flags, events).map_err(|error| match error {
        Errno::EPERM => "fanotify_init: EPERM; it needs CAP_SYS_ADMIN".to_owned(),
        Errno::ENOSYS => "fanotify_init: the kernel is built without CONFIG_FANOTIFY".to_owned(),
        error => format!("fanotify_init: {error}"),
    })
}

impl LabelWatch {
    /// Starts the threads that mark and read. `wake` is called when there is something to take.
    pub fn start(wake: impl Fn() + Send + Sync + 'static) -> Result<Self, String> {
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(wake);
        let group = Arc::new(group()?);
        let known = Known::default();
        let stats = Arc::new(LabelWatchStats::default());
        let (requests, wanted) = sync_channel(REQUESTS_MAX);
        let (found, notices) = sync_channel(NOTICES_MAX);
        // Without handles (before 5.1) names and lengths are not watched, opens are.
        let changes = Changes::start().inspect_err(|why| tracing::warn!(why, "label_watch")).ok();
        let changes = changes.map(Arc::new);
        let marker = Marker {
            group: Arc::clone(&group),
            changes: changes.clone(),
            known: Arc::clone(&known),
            stats: Arc::clone(&stats),
            found: found.clone(),
            wake: Arc::clone(&wake),
        };
        let reader =
            Arc::new(Reader::new(group, changes.clone(), known, Arc::clone(&stats), found));
        let runner = Arc::clone(&reader);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(|error| format!("thread {name}: {error}"))
        };
        let threads = vec![
            spawn("label-marker", Box::new(move || marker.run(&wanted)))?,
            spawn("label-watch", Box::new(move || runner.run(&*wake)))?,
        ];
        Ok(Self { requests: Some(requests), notices, changes, stats, reader, threads })
    }

    /// Asks for a mark, without waiting.
    pub fn mark(&self, request: MarkRequest) {
        let Some(requests) = &self.requests else { return };
        let is_labelled = request.is_labelled;
        if requests.try_send(request).is_err() {
            self.stats.marks.refuse(Refusal::Behind, is_labelled);
        }
    }

    /// Takes what waits in the kernel's queue now, where the reader lets it wait.
    pub fn sweep(&self) {
        self.reader.sweep_if_busy();
    }

    /// The next notice, without waiting.
    pub fn next(&self) -> Option<Notice> {
        self.notices.try_recv().ok()
    }

    /// A marked file has this path by now.
    pub fn moved(&self, id: FileId, path: &str) {
        if let Some(changes) = &self.changes
            && !path.is_empty()
        {
            changes.moved(id, path);
        }
    }

    /// What it counts.
    pub fn stats(&self) -> &LabelWatchStats {
        &self.stats
    }
}

impl Drop for LabelWatch {
    fn drop(&mut self) {
        self.requests = None;
        self.reader.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the watch on labelled files panicked");
            }
        }
    }
}

struct Marker {
    group: Arc<Fanotify>,
    changes: Option<Arc<Changes>>,
    known: Known,
    stats: Arc<LabelWatchStats>,
    found: SyncSender<Notice>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Marker {
    fn run(&self, wanted: &Receiver<MarkRequest>) {
        while let Ok(request) = wanted.recv() {
            match self.mark(&request) {
                Ok(()) => {}
                Err((refusal, why)) => {
                    self.stats.marks.refuse(refusal, request.is_labelled);
                    tracing::debug!(path = %request.path, why, "a labelled file is not watched");
                }
            }
        }
    }

    /// Marks the inode that a path leads to, once it has proved to be the one that is meant.
    fn mark(&self, request: &MarkRequest) -> Result<(), (Refusal, String)> {
        let gone = |why| (Refusal::Gone, why);
        let (file, is_named) = match by_name(request) {
            Ok(file) => (file, true),
            Err(why) => (by_descriptor(request).ok_or_else(|| gone(why))?, false),
        };
        let stat = fstat(&file).map_err(|error| gone(error.to_string()))?;
        let key = (stat.st_dev, stat.st_ino);
        let is_new = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = known.insert(key, request.id).is_none();
            if is_new && known.len() > MARKS_MAX {
                known.remove(&key);
                let why = format!("{MARKS_MAX} files are marked already");
                return Err((Refusal::Bound, why));
            }
            is_new
        };
        // Of a file without a name nothing but its inode is left once whoever made it lets go: it
        // is watched from the start as if it had a label.
        let mask = if request.is_labelled || !is_named {
            MaskFlags::FAN_OPEN
                | MaskFlags::FAN_ACCESS
                | MaskFlags::FAN_MODIFY
                | MaskFlags::FAN_CLOSE_WRITE
        } else {
            MaskFlags::FAN_CLOSE_WRITE
        };
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.group
            .mark(MarkFlags::FAN_MARK_ADD, mask, CWD, Some(path.as_str()))
            .map_err(|error| (Refusal::of(error), format!("fanotify_mark: {error}")))?;
        if request.is_labelled
            && let Some(changes) = &self.changes
            && let Err(why) = changes.mark(request.id, &request.path, &path)
        {
            tracing::debug!(path = %request.path, why, "changes of its name are not watched");
        }
        if is_new {
            self.stats.marks.set();
        }
        if !request.is_labelled {
            self.tell_size(request, &file).map_err(gone)?;
        }
        Ok(())
    }

    /// Whoever wrote a file may have closed it before it was marked. From the mark on, its end is
    /// noticed; what it is by now is told here, as if it had been closed at this moment.
    fn tell_size(&self, request: &MarkRequest, file: impl std::os::fd::AsFd) -> Result<(), String> {
        let stat = fstat(&file).map_err(|error| error.to_string())?;
        let notice = Notice {
            time: Clock::boot_now(),
            process: request.process,
            id: request.id,
            path: request.path.clone(),
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            fs_magic: fstatfs(&file).map_or(0, |found| found.f_type.cast_unsigned()),
            is_opened: false,
            is_read: false,
            is_modified: false,
            is_closed: true,
            change: None,
            new_path: String::new(),
        };
        if let Err(TrySendError::Full(_)) = self.found.try_send(notice) {
            self.stats.lost.fetch_add(1, Ordering::Relaxed);
        }
        (self.wake)();
        Ok(())
    }
}

/// The file that a path leads to, if it is the one that is meant.
fn by_name(request: &MarkRequest) -> Result<OwnedFd, String> {
    let look = OFlags::PATH | OFlags::CLOEXEC;
    let inside = PathBuf::from(format!("/proc/{}/root", request.process.0))
        .join(request.path.trim_start_matches('/'));
    let file = open(&inside, look, Mode::empty())
        .or_else(|_| open(request.path.as_str(), look, Mode::empty()))
        .map_err(|error| error.to_string())?;
    let stat = fstat(&file).map_err(|error| error.to_string())?;
    let is_it = stat.st_ino == request.id.inode;
    is_it.then_some(file).ok_or_else(|| "another file has its name by now".to_owned())
}

/// The same among what the process has open: a file in memory, one without a name yet or any more.
fn by_descriptor(request: &MarkRequest) -> Option<OwnedFd> {
    let look = OFlags::PATH | OFlags::CLOEXEC;
    let link = Procfs::default().descriptor_of(request.process, &request.id)?.link;
    let file = open(&link, look, Mode::empty()).ok()?;
    (fstat(&file).ok()?.st_ino == request.id.inode).then_some(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::time::{Duration, Instant};

    use super::*;

    fn wait(watch: &LabelWatch, is_it: impl Fn(&Notice) -> bool) -> Option<Notice> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            match watch.next() {
                Some(notice) if is_it(&notice) => return Some(notice),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        None
    }

    /// A watch; without root there is none, which must be the reason, and must not be in a CI.
    fn started() -> Option<LabelWatch> {
        let may = std::env::var_os("CI").is_none();
        let reason = |why: &String| assert!(may && why.contains("fanotify_init"), "{why}");
        LabelWatch::start(|| {}).inspect_err(reason).ok()
    }

    /// A file in a directory of its own.
    fn weights() -> (tempfile::TempDir, std::path::PathBuf, FileId) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("w");
        std::fs::write(&path, b"weights").expect("a file");
        let meta = std::fs::metadata(&path).expect("it is there");
        (dir, path, FileId { device: 1, inode: meta.ino(), generation: 9 })
    }

    #[test]
    fn a_marked_file_tells_of_other_processes_and_not_of_this_one() {
        let Some(watch) = started() else { return };
        let (_dir, path, id) = weights();
        let request = |inode| MarkRequest {
            id: FileId { inode, ..id },
            process: Tgid(std::process::id()),
            path: path.to_string_lossy().into_owned(),
            is_labelled: true,
        };
        watch.mark(request(id.inode + 1));
        watch.mark(request(id.inode));
        while watch.stats().marks.marked() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(watch.stats().marks.refused(Refusal::Gone), 1, "another inode is refused");
        std::fs::read(&path).expect("readable");
        let mut child = std::process::Command::new("cat")
            .arg(&path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("cat is there");
        let notice = wait(&watch, |notice| notice.is_opened).expect("the open is noticed");
        assert_eq!((notice.process.0, notice.id, notice.size_bytes), (child.id(), id, 7));
        assert_eq!(notice.path, path.to_string_lossy());
        assert!(child.wait().expect("it ends").success());
    }

    #[test]
    fn a_file_without_a_name_is_marked_by_its_descriptor_and_tells_of_its_readers() {
        let Some(watch) = started() else { return };
        let file = tempfile::tempfile().expect("a file without a name");
        std::io::Write::write_all(&mut &file, b"weights").expect("written");
        let meta = file.metadata().expect("it is open");
        let device = crate::kernel::device::kernel_device(meta.dev());
        let id = FileId { device, inode: meta.ino(), generation: 0 };
        let (path, process) = ("/#1234".to_owned(), Tgid(std::process::id()));
        watch.mark(MarkRequest { id, process, path, is_labelled: false });
        let size = wait(&watch, |notice| notice.is_closed).expect("its size is told");
        assert_eq!((size.id, size.size_bytes), (id, 7));
        std::io::Seek::rewind(&mut &file).expect("it can be sought in");
        // The child is given the descriptor, and opens nothing.
        let mut child = std::process::Command::new("cat")
            .stdin(file)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("cat is there");
        let notice = wait(&watch, |notice| notice.is_read).expect("the read is noticed");
        assert_eq!((notice.process.0, notice.id, notice.is_opened), (child.id(), id, false));
        assert!(child.wait().expect("it ends").success());
    }

    #[test]
    fn a_file_that_is_opened_without_a_pause_rests_and_is_noticed_again() {
        let Some(watch) = started() else { return };
        let (dir, path, id) = weights();
        let (text, process) = (path.to_string_lossy().into_owned(), Tgid(std::process::id()));
        watch.mark(MarkRequest { id, process, path: text, is_labelled: true });
        let shell = |command: &str| {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.args(["-c", command]).current_dir(dir.path()).spawn().expect("a shell")
        };
        let mut busy = shell("while :; do read x < w; done");
        let rested = || watch.stats().rested.load(Ordering::Relaxed);
        let (mut noticed, start) = (0, Instant::now());
        while rested() < 2 && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
            noticed += std::iter::from_fn(|| watch.next()).count();
        }
        let took = start.elapsed();
        busy.kill().expect("it runs");
        busy.wait().expect("it ends");
        assert!(rested() >= 2, "it rests, and rests again");
        let each = noticed as u128 * 1_000 / took.as_millis().max(1);
        assert!(each <= 150, "{noticed} notices in {took:?}: one a round at most");
        std::thread::sleep(Duration::from_millis(300));
        while watch.next().is_some() {}
        let mut other = shell("exec cat w > /dev/null");
        let notice = wait(&watch, |notice| notice.is_opened).expect("the next open is noticed");
        assert_eq!((notice.process.0, notice.id), (other.id(), id));
        assert!(other.wait().expect("it ends").success());
    }

    #[test]
    fn a_file_that_goes_to_another_directory_is_renamed_and_not_removed() {
        let Some(watch) = started() else { return };
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("w"), dir.path().join("other"));
        std::fs::create_dir(&other).expect("a directory");
        std::fs::write(&path, b"weights").expect("a file");
        let meta = std::fs::metadata(&path).expect("it is there");
        let id = FileId { device: 1, inode: meta.ino(), generation: 9 };
        let (text, process) = (path.to_string_lossy().into_owned(), Tgid(std::process::id()));
        watch.mark(MarkRequest { id, process, path: text.clone(), is_labelled: true });
        while watch.stats().marks.marked() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let run = |command: &str| {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.args(["-c", command]).current_dir(dir.path());
            assert!(shell.status().expect("a shell").success());
        };
        run("mv w other/cat.jpg; chmod 600 other/cat.jpg");
        let changed = || wait(&watch, |notice| notice.change.is_some()).expect("it is noticed");
        let moved = changed();
        assert_eq!((moved.change, moved.path, moved.id), (Some(FileOp::Rename), text, id));
        let now = other.join("cat.jpg").to_string_lossy().into_owned();
        watch.moved(id, &now);
        run("truncate -s 3 other/cat.jpg");
        let cut = changed();
        assert_eq!((cut.change, cut.path, cut.size_bytes), (Some(FileOp::Truncate), now, 3));
    }
}
