//! The reader of notices about labelled files, and how often it looks.
//!
//! What costs whoever opens a marked file is the wake-up of a reader that waits for it; a notice
//! that finds one of the same process and file in the queue is merged into it. So the reader waits
//! only while nothing comes. After that it looks every [`ROUND`], and whoever must know sooner what
//! waits takes it out himself ([`Reader::sweep_if_busy`]).
//!
//! A file that is opened or read in every round for [`HOT_ROUNDS`] of them gets a rest: for
//! [`REST`] the mark asks for everything but that, for one round it asks for it again, and so on
//! until a round goes by without. Even a merged notice costs a sixth of the open.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::fanotify::{Fanotify, MarkFlags, MaskFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{fstat, fstatfs};

use super::label_change::{Change, Changes};
use super::label_watch::{Known, LabelWatchStats, Notice};
use crate::model::{BootNs, Clock, FileId, Tgid};

/// How long the reader lets notices wait while they keep coming.
const ROUND: Duration = Duration::from_millis(10);
/// Rounds one after the other in which a file is opened, or read, until its mark rests.
const HOT_ROUNDS: u8 = 10;
/// How long a mark rests.
const REST: Duration = Duration::from_millis(90);
/// Marks that rest at once, each with an open descriptor; more stay awake.
const RESTING_MAX: usize = 256;
/// Reads of the queue in one sweep, of up to [`READ_NOTICES`] each.
const SWEEP_READS_MAX: usize = 32;
/// Notices that one read takes: records of 24 bytes (fanotify(7)) in the page that nix reads into.
const READ_NOTICES: usize = 4_096 / 24;
/// How often the reader looks whether it is to end.
const LOOK: Duration = Duration::from_millis(500);

/// What a mark asks for only while it does not rest.
const RESTLESS: MaskFlags = MaskFlags::FAN_OPEN.union(MaskFlags::FAN_ACCESS);

/// How a marked file was used lately.
#[derive(Debug)]
struct Heat {
    /// Rounds one after the other, up to the last one, in which it was opened and read.
    opened: u8,
    read: u8,
    /// What was done to it in this round.
    seen: MaskFlags,
    /// The file, once it may be about to rest.
    file: Option<OwnedFd>,
}

impl Default for Heat {
    fn default() -> Self {
        Self { opened: 0, read: 0, seen: MaskFlags::empty(), file: None }
    }
}

impl Heat {
    /// Ends the round. What has gone on for too long.
    fn end_round(&mut self) -> MaskFlags {
        let mut hot = MaskFlags::empty();
        for (rounds, bit) in
            [(&mut self.opened, MaskFlags::FAN_OPEN), (&mut self.read, MaskFlags::FAN_ACCESS)]
        {
            *rounds = if self.seen.contains(bit) { rounds.saturating_add(1) } else { 0 };
            if *rounds >= HOT_ROUNDS {
                hot |= bit;
            }
        }
        self.seen = MaskFlags::empty();
        hot
    }

    /// As it is after a rest from `bits`: one more round, and it rests again.
    fn rested(bits: MaskFlags) -> Self {
        let rounds = |bit| if bits.contains(bit) { HOT_ROUNDS - 1 } else { 0 };
        let (opened, read) = (rounds(MaskFlags::FAN_OPEN), rounds(MaskFlags::FAN_ACCESS));
        Self { opened, read, ..Self::default() }
    }

    const fn is_cold(&self) -> bool {
        self.opened == 0 && self.read == 0
    }

    const fn is_nearly_hot(&self) -> bool {
        self.opened + 1 >= HOT_ROUNDS || self.read + 1 >= HOT_ROUNDS
    }
}

/// A file whose mark rests from `bits`.
#[derive(Debug)]
struct Rest {
    id: FileId,
    file: OwnedFd,
    bits: MaskFlags,
    until: Instant,
}

/// Notices of one sweep, those of one process and file as one: as the kernel merges what waits in
/// its queue (`fanotify_merge`, fs/notify/fanotify/fanotify.c), but not what comes while it is
/// read.
#[derive(Debug, Default)]
struct Merged {
    /// Whether the queue held anything.
    is_any: bool,
    notices: Vec<Notice>,
    places: HashMap<(Tgid, FileId), usize>,
}

impl Merged {
    fn add(&mut self, notice: Notice) {
        let place = *self.places.entry((notice.process, notice.id)).or_insert(self.notices.len());
        let Some(before) = self.notices.get_mut(place) else { return self.notices.push(notice) };
        // What was done is the sum; the name and the size are the latest.
        let done = Notice {
            time: before.time,
            is_opened: before.is_opened || notice.is_opened,
            is_read: before.is_read || notice.is_read,
            is_modified: before.is_modified || notice.is_modified,
            is_closed: before.is_closed || notice.is_closed,
            ..notice
        };
        *before = done;
    }
}

/// What whoever reads the queue must hold.
#[derive(Debug, Default)]
struct Queue {
    /// When it was read last.
    read: BootNs,
    heats: HashMap<FileId, Heat>,
    resting: Vec<Rest>,
}

/// The reader. Whoever holds it may sweep; one thread runs it.
pub(super) struct Reader {
    group: Arc<Fanotify>,
    changes: Option<Arc<Changes>>,
    known: Known,
    stats: Arc<LabelWatchStats>,
    found: SyncSender<Notice>,
    own: u32,
    queue: Mutex<Queue>,
    /// Whether notices are let wait.
    is_busy: AtomicBool,
    is_stopped: AtomicBool,
}

impl Reader {
    pub(super) fn new(
        group: Arc<Fanotify>,
        changes: Option<Arc<Changes>>,
        known: Known,
        stats: Arc<LabelWatchStats>,
        found: SyncSender<Notice>,
    ) -> Self {
        Self {
            group,
            changes,
            known,
            stats,
            found,
            own: std::process::id(),
            queue: Mutex::default(),
            is_busy: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Reads until it is stopped. `wake` is called when there is something to take.
    pub(super) fn run(&self, wake: &dyn Fn()) {
        let mut round_ends = Instant::now();
        while !self.is_stopped.load(Ordering::Acquire) {
            let is_busy = self.is_busy.load(Ordering::Acquire);
            self.wait(if is_busy { round_ends - Instant::now().min(round_ends) } else { LOOK });
            self.read_changes();
            if is_busy && Instant::now() < round_ends {
                continue;
            }
            let mut queue = self.queue();
            let found = self.sweep(&mut queue);
            let is_watched = self.end_round(&mut queue);
            drop(queue);
            if found {
                wake();
            }
            round_ends = Instant::now() + ROUND;
            self.is_busy.store(found || is_watched, Ordering::Release);
        }
    }

    /// Ends the thread that runs it, within [`LOOK`].
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Takes what waits, where notices are let wait.
    pub(super) fn sweep_if_busy(&self) {
        if self.is_busy.load(Ordering::Acquire) {
            self.sweep(&mut self.queue());
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for changes of names, and while nothing is let wait for notices too. Whoever learns a
    /// file's handle waits for such a change.
    fn wait(&self, pause: Duration) {
        let timeout = Timespec::try_from(pause).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        let group = self.group.as_fd();
        let changes = self.changes.as_ref().map_or(group, |changes| changes.as_fd());
        let mut both = [PollFd::new(&changes, PollFlags::IN), PollFd::new(&group, PollFlags::IN)];
        let is_busy = self.is_busy.load(Ordering::Acquire);
        let waited = match (is_busy, self.changes.is_some()) {
            (false, _) => poll(&mut both, Some(&timeout)),
            (true, true) => poll(&mut both[..1], Some(&timeout)),
            (true, false) => poll(&mut [], Some(&timeout)),
        };
        if let Err(error) = waited
            && error != rustix::io::Errno::INTR
        {
            tracing::debug!(%error, "waiting for notices about labelled files failed");
            std::thread::sleep(ROUND);
        }
    }

    /// Takes what waits in the queue. Whether there was anything.
    fn sweep(&self, queue: &mut Queue) -> bool {
        let now = Clock::boot_now();
        // One that was let wait came at some time since the queue was read last.
        let time = if self.is_busy.load(Ordering::Acquire) { queue.read } else { now };
        queue.read = now;
        let mut found = Merged::default();
        for _ in 0..SWEEP_READS_MAX {
            match self.group.read_events() {
                Ok(events) if events.is_empty() => break,
                Ok(events) => {
                    found.is_any = true;
                    for event in &events {
                        let what = (event.mask(), time);
                        if let Some(notice) = self.take(queue, event.fd(), event.pid(), what) {
                            found.add(notice);
                        }
                    }
                    // The queue was empty then. Whoever goes on opening fills it again at once, and
                    // to read each of those apart is what the waiting is to spare.
                    if events.len() < READ_NOTICES {
                        break;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => {
                    // A file that may not be opened for us is gone or on a server that is.
                    self.stats.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, "a notice about a labelled file could not be read");
                }
            }
        }
        for notice in found.notices {
            self.send(notice);
        }
        found.is_any
    }

    fn read_changes(&self) {
        let Some(changes) = &self.changes else { return };
        let lost = changes.read(&mut |change| self.send(changed(change)));
        // Nothing to read is an error of its own (EAGAIN), and none that matters.
        self.stats.lost.fetch_add(lost.unwrap_or(0), Ordering::Relaxed);
    }

    fn take(
        &self,
        queue: &mut Queue,
        file: Option<BorrowedFd<'_>>,
        process: i32,
        (mask, time): (MaskFlags, BootNs),
    ) -> Option<Notice> {
        let Some(file) = file else {
            // FAN_Q_OVERFLOW: the kernel's queue was full.
            self.stats.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let process = u32::try_from(process).unwrap_or(0);
        if process == self.own || process == 0 {
            return None;
        }
        let notice = self.notice(file, process, mask, time)?;
        if mask.intersects(RESTLESS) {
            let heat = queue.heats.entry(notice.id).or_default();
            heat.seen |= mask;
            if heat.file.is_none() && heat.is_nearly_hot() {
                heat.file = file.try_clone_to_owned().ok();
            }
        }
        Some(notice)
    }

    /// Ends a round: marks that have rested are set again, and files that have gone on for too long
    /// get a rest. Whether the next round must go by before notices are waited for again.
    fn end_round(&self, queue: &mut Queue) -> bool {
        let now = Instant::now();
        let mut heats = std::mem::take(&mut queue.heats);
        heats.retain(|id, heat| {
            let hot = heat.end_round();
            if !hot.is_empty()
                && queue.resting.len() < RESTING_MAX
                && let Some(file) = heat.file.take()
                && self.mark(MarkFlags::FAN_MARK_REMOVE, hot, &file)
            {
                self.stats.rested.fetch_add(1, Ordering::Relaxed);
                queue.resting.push(Rest { id: *id, file, bits: hot, until: now + REST });
                return false;
            }
            heat.file = None;
            !heat.is_cold()
        });
        let due: Vec<_> = queue.resting.extract_if(.., |rest| rest.until <= now).collect();
        for rest in due {
            if self.mark(MarkFlags::FAN_MARK_ADD, rest.bits, &rest.file) {
                heats.insert(rest.id, Heat::rested(rest.bits));
            }
        }
        queue.heats = heats;
        !queue.heats.is_empty() || !queue.resting.is_empty()
    }

    fn mark(&self, how: MarkFlags, bits: MaskFlags, file: &OwnedFd) -> bool {
        self.group
            .mark(how, bits, file, None::<&Path>)
            .inspect_err(|error| tracing::debug!(%error, "the mark of a labelled file stays"))
            .is_ok()
    }

    fn send(&self, notice: Notice) {
        if let Err(TrySendError::Full(_)) = self.found.try_send(notice) {
            self.stats.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn notice(
        &self,
        file: BorrowedFd<'_>,
        process: u32,
        mask: MaskFlags,
        time: BootNs,
    ) -> Option<Notice> {
        let stat = fstat(file).ok()?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let id = known.get(&(stat.st_dev, stat.st_ino)).copied()?;
        drop(known);
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let path = path.to_string_lossy();
        Some(Notice {
            time,
            process: Tgid(process),
            id,
            path: path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned(),
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            fs_magic: fstatfs(file).map_or(0, |found| found.f_type.cast_unsigned()),
            is_opened: mask.contains(MaskFlags::FAN_OPEN),
            is_read: mask.contains(MaskFlags::FAN_ACCESS),
            is_modified: mask.contains(MaskFlags::FAN_MODIFY),
            is_closed: mask.contains(MaskFlags::FAN_CLOSE_WRITE),
            change: None,
            new_path: String::new(),
        })
    }
}

fn changed(change: Change) -> Notice {
    Notice {
        time: Clock::boot_now(),
        process: Tgid(change.process),
        id: change.id,
        path: change.path,
        size_bytes: change.size_bytes,
        fs_magic: 0,
        is_opened: false,
        is_read: false,
        is_modified: false,
        is_closed: false,
        change: Some(change.op),
        new_path: change.new_path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_one_process_and_file_are_one_and_keep_what_was_done() {
        let notice = |process: u32, inode: u64, is_opened: bool, size_bytes: u64| Notice {
            time: BootNs(size_bytes),
            process: Tgid(process),
            id: FileId { inode, ..FileId::default() },
            path: String::new(),
            size_bytes,
            fs_magic: 0,
            is_opened,
            is_read: !is_opened,
            is_modified: false,
            is_closed: false,
            change: None,
            new_path: String::new(),
        };
        let mut merged = Merged::default();
        for (process, inode, is_opened, size) in
            [(1, 7, true, 1), (2, 7, true, 2), (1, 8, true, 3), (1, 7, false, 4)]
        {
            merged.add(notice(process, inode, is_opened, size));
        }
        let told = merged.notices.iter().map(|it| (it.process.0, it.id.inode, it.size_bytes));
        assert_eq!(told.collect::<Vec<_>>(), [(1, 7, 4), (2, 7, 2), (1, 8, 3)]);
        let first = &merged.notices[0];
        assert!(first.is_opened && first.is_read && first.time == BootNs(1));
    }

    #[test]
    fn what_goes_on_in_every_round_rests_and_what_pauses_does_not() {
        let (open, read) = (MaskFlags::FAN_OPEN, MaskFlags::FAN_ACCESS);
        let mut heat = Heat::default();
        let mut round = |seen| {
            heat.seen = seen;
            heat.end_round()
        };
        for _ in 1..HOT_ROUNDS {
            assert_eq!(round(open | read), MaskFlags::empty());
        }
        assert_eq!(round(read), read, "the round without an open began anew");
        let mut heat = Heat::rested(read);
        assert!(!heat.is_cold() && heat.is_nearly_hot());
        heat.seen = open | read;
        assert_eq!(heat.end_round(), read, "one more round is enough after a rest");
        let mut heat = Heat::rested(read);
        assert_eq!(heat.end_round(), MaskFlags::empty());
        assert!(heat.is_cold());
    }
}
