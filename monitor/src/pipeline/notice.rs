//! Notices about labelled files become events, unless a kernel program has told the same.
//!
//! The two come by different ways and in any order, so a notice waits for a moment before it is
//! told. What is left then came by a road that no program watches. It waits no longer than until
//! bytes leave: what was read before them must be booked before them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::engine::{Engine, inode_key};
use crate::enrich::LabelChange;
use crate::model::{
    Actor, Body, BootNs, Clock, Event, FileChange, FileId, FileOp, FileOpen, FileType, Loss,
    LossReason, ProcessKey, Tgid, Tid,
};
use crate::sensor::label_watch::{LabelWatch, MarkRequest, Notice};

/// How long a notice waits for the record of the same open.
const PATIENCE_NS: u64 = 60_000_000;
/// How much later than a notice another process's bytes must have left for the notice to come
/// first. The record of an open is written some microseconds after the notice of it.
const OVERTAKEN_NS: u64 = 1_000_000;
/// For how long an open that was told makes a notice of it old: twice the time for which the
/// kernel side keeps a repeated open to itself.
const TOLD_NS: u64 = 2_000_000_000;
/// (Process, file) pairs that are remembered as told.
const TOLD_MAX: usize = 8_192;
/// Notices that wait at once; beyond, the oldest is told as it is.
const WAITING_MAX: usize = 4_096;
/// Label of memory without a name that is followed and belongs to no model yet.
const FOLLOWED_LABEL: u32 = u32::MAX;
/// Notices taken before frames are looked at again.
const NOTICE_BATCH_MAX: usize = 256;

/// What was told, and what waits.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// When a process was last told to have opened a file.
    told: HashMap<(Tgid, u64, u32), BootNs>,
    waiting: VecDeque<Notice>,
    /// Notices that were lost, as last told.
    lost: u64,
}

impl Desk {
    /// A record or a notice of an open was told.
    pub(super) fn tell(&mut self, process: Tgid, id: FileId, time: BootNs) {
        if self.told.len() >= TOLD_MAX {
            // Those that are old say nothing any more about opens; that they were readers is
            // forgotten, and told once more.
            self.told.retain(|_, told| time.since(*told) <= TOLD_NS);
            if self.told.len() >= TOLD_MAX {
                self.told.clear();
            }
        }
        self.told.insert((process, id.inode, id.device), time);
    }

    /// Takes a notice in. Gives back what must not wait any longer.
    fn wait(&mut self, notice: Notice) -> Option<Notice> {
        self.waiting.push_back(notice);
        (self.waiting.len() > WAITING_MAX).then(|| self.waiting.pop_front())?
    }

    /// Notices that have waited and that no record told.
    fn due(&mut self, now: BootNs) -> Vec<Notice> {
        // They wait in the order of their times.
        if self.next_due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.untold(|notice| now.since(notice.time) >= PATIENCE_NS)
    }

    /// Notices that bytes which left at `time`, sent by `process`, must not overtake. What the
    /// process opened before was put into the same ring before, so no record of it is to come.
    fn overtaken(&mut self, process: Tgid, time: BootNs) -> Vec<Notice> {
        self.untold(|notice| {
            notice.process == process || time.0 >= notice.time.0.saturating_add(OVERTAKEN_NS)
        })
    }

    /// Takes the notices that are due out of those that wait; the ones that were not told are given
    /// back, and count as told from now on.
    fn untold(&mut self, is_due: impl Fn(&Notice) -> bool) -> Vec<Notice> {
        if !self.waiting.iter().any(&is_due) {
            return Vec::new();
        }
        let (due, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_due);
        self.waiting = waiting;
        let mut untold = Vec::new();
        for notice in due {
            if !self.is_told(&notice) {
                self.tell(notice.process, notice.id, notice.time);
                untold.push(notice);
            }
        }
        untold
    }

    /// Whether a notice says nothing new. An open is old news for a while; that a process reads a
    /// file it was once told to have opened is none at all.
    fn is_told(&self, notice: &Notice) -> bool {
        let told = self.told.get(&(notice.process, notice.id.inode, notice.id.device));
        told.is_some_and(|told| !notice.is_opened || notice.time.since(*told) <= TOLD_NS)
    }

    /// When the next notice has waited long enough.
    pub(super) fn next_due(&self) -> Option<BootNs> {
        self.waiting.front().map(|first| BootNs(first.time.0.saturating_add(PATIENCE_NS)))
    }
}

impl Engine {
    /// How long to sleep at most: until the tick, or until a notice has waited long enough.
    pub(super) fn rest(&self, until_tick: Duration) -> Duration {
        let Some(due) = self.desk.next_due() else { return until_tick };
        until_tick.min(Duration::from_nanos(due.since(Clock::boot_now()).max(1_000_000)))
    }

    /// Takes notices, and tells of those that no record told.
    pub(super) fn take_notices(&mut self, now: BootNs) {
        self.gather_notices();
        for notice in self.desk.due(now) {
            self.noticed_open(&notice);
        }
    }

    /// Before bytes that left are booked: tells what was noticed before them.
    pub(super) fn take_notices_before(&mut self, event: &Event) {
        if let Some(watch) = &self.stages.label_watch {
            watch.sweep();
        }
        self.gather_notices();
        let process = event.actor.as_ref().map_or(Tgid(0), |actor| actor.process.tgid);
        for notice in self.desk.overtaken(process, event.time) {
            self.noticed_open(&notice);
        }
    }

    fn gather_notices(&mut self) {
        for _ in 0..NOTICE_BATCH_MAX {
            let Some(notice) = self.stages.label_watch.as_ref().and_then(LabelWatch::next) else {
                break;
            };
            if let Some(op) = notice.change {
                self.noticed_change(&notice, op);
            } else if notice.is_modified || notice.is_closed {
                self.noticed_writing(&notice);
            }
            if (notice.is_opened || notice.is_read)
                && let Some(oldest) = self.desk.wait(notice)
            {
                self.noticed_open(&oldest);
            }
        }
    }

    fn noticed_open(&mut self, notice: &Notice) {
        let open = FileOpen {
            id: notice.id,
            path: notice.path.clone(),
            path_truncated: false,
            file_type: FileType::Regular,
            rdev: 0,
            size_bytes: notice.size_bytes,
            // How it was opened is not told; that a labelled file may be read is what counts.
            open_flags: 0,
            fs_magic: notice.fs_magic,
        };
        self.tell_notice(notice, Body::FileOpen(open));
    }

    /// A labelled file was written or cut, or a followed one was closed; of one without a name, it
    /// is noticed when it grows too.
    fn noticed_writing(&mut self, notice: &Notice) {
        let enricher = &mut self.stages.enricher;
        if notice.is_closed || enricher.label_bytes(&notice.id).is_none() {
            let events = enricher.closed(&notice.id, &notice.path, notice.size_bytes, notice.time);
            if !events.is_empty() {
                for event in &events {
                    self.take_event(event);
                }
                return;
            }
        }
        let enricher = &self.stages.enricher;
        let Some(before) = enricher.label_bytes(&notice.id) else { return };
        let op = if notice.size_bytes < before {
            FileOp::Truncate
        } else if notice.is_closed {
            FileOp::Write
        } else {
            return;
        };
        let change = FileChange {
            op,
            id: notice.id,
            path: notice.path.clone(),
            new_path: String::new(),
            other: FileId::default(),
            size_bytes: notice.size_bytes,
            bytes: notice.size_bytes.abs_diff(before),
            fs_magic: notice.fs_magic,
        };
        self.tell_notice(notice, Body::FileChange(change));
    }

    /// A labelled file got another name, lost one, or was cut.
    fn noticed_change(&mut self, notice: &Notice, op: FileOp) {
        let before = self.stages.enricher.label_bytes(&notice.id).unwrap_or(notice.size_bytes);
        let bytes = if op == FileOp::Truncate { before.abs_diff(notice.size_bytes) } else { 0 };
        let new_path = match op {
            FileOp::Rename | FileOp::Link if notice.new_path.is_empty() => self.given_name(notice),
            _ => notice.new_path.clone(),
        };
        if op == FileOp::Rename
            && let Some(watch) = &self.stages.label_watch
        {
            watch.moved(notice.id, &new_path);
        }
        let change = FileChange {
            op,
            id: notice.id,
            path: notice.path.clone(),
            new_path,
            other: FileId::default(),
            size_bytes: notice.size_bytes,
            bytes,
            fs_magic: notice.fs_magic,
        };
        self.tell_notice(notice, Body::FileChange(change));
    }

    /// What the process that renamed or linked a file called it; empty where that is not known.
    fn given_name(&self, notice: &Notice) -> String {
        let given = self.stages.maps.new_name(notice.process.0).and_then(|given| {
            let name =
                std::str::from_utf8(given.as_bytes()).ok().filter(|name| !name.is_empty())?;
            let enricher = &self.stages.enricher;
            enricher.given_name(notice.process, given.directory, name, &notice.id)
        });
        given.unwrap_or_default()
    }

    fn tell_notice(&mut self, notice: &Notice, body: Body) {
        let actor = self.stages.enricher.actor_by_id(notice.process).unwrap_or_else(|| Actor {
            process: ProcessKey { tgid: notice.process, start: BootNs(0) },
            tid: Tid(notice.process.0),
            ..Actor::default()
        });
        self.take_event(&Event { time: notice.time, actor: Some(actor), body });
    }

    /// Lets the kernel's labels and marks follow what an event said of files.
    pub(super) fn note_files(&mut self, event: &Event, changes: &[LabelChange]) {
        let process = event.actor.as_ref().map_or(Tgid(0), |actor| actor.process.tgid);
        self.apply_labels(changes, process);
        if let Body::FileOpen(open) = &event.body
            && self.stages.enricher.label_bytes(&open.id).is_some()
        {
            self.desk.tell(process, open.id, event.time);
        }
        self.forget_followed();
        for (id, process, path) in self.stages.enricher.take_followed() {
            // The kernel side tells of everyone who attaches one.
            if self.stages.enricher.is_segment(&id) {
                continue;
            }
            // A memfd tells its marks nothing (from 6.13 on): the kernel side tells who opens or
            // maps it, and needs a label for that.
            if path.starts_with("/memfd:") && self.stages.enricher.label_bytes(&id).is_none() {
                self.stages.maps.label(inode_key(id), Some(FOLLOWED_LABEL));
            }
            self.request_mark(id, process, &path, false);
        }
    }

    fn forget_followed(&mut self) {
        for id in self.stages.enricher.take_unfollowed() {
            if self.stages.enricher.label_bytes(&id).is_none() {
                // Most had none.
                self.stages.maps.label(inode_key(id), None);
            }
        }
    }

    /// Keeps the kernel's label map as the daemon's, and has labelled files marked: `process` is
    /// one in whose view their paths lead to them.
    pub(super) fn apply_labels(&mut self, changes: &[LabelChange], process: Tgid) {
        for change in changes {
            let (LabelChange::Set(id, _) | LabelChange::Remove(id)) = change;
            if self.stages.enricher.is_segment(id) {
                continue;
            }
            if let LabelChange::Set(id, _) = change
                && let Some(path) = self.stages.enricher.label_path(id)
            {
                self.request_mark(*id, process, path, true);
            }
            let (id, label) = match change {
                LabelChange::Set(id, label) => (id, Some(label.0)),
                LabelChange::Remove(id) => (id, None),
            };
            if !self.stages.maps.label(inode_key(*id), label) && label.is_some() {
                self.tally.labels_refused += 1;
            }
        }
    }

    /// Notices that were lost are told like any other loss.
    pub(super) fn count_lost_notices(&mut self, now: BootNs) {
        let Some(watch) = &self.stages.label_watch else { return };
        let total = watch.stats().lost.load(Ordering::Relaxed);
        let lost = total.saturating_sub(self.desk.lost);
        self.desk.lost = total;
        if lost == 0 {
            return;
        }
        tracing::warn!(lost, "notices about labelled files were lost");
        let (sensor, reason) = ("label_watch", LossReason::RingFull);
        let body = Body::Loss(Loss { sensor, reason, lost, noisiest: None });
        self.take_event(&Event { time: now, actor: None, body });
    }

    /// Has a file marked.
    pub(super) fn request_mark(&self, id: FileId, process: Tgid, path: &str, is_labelled: bool) {
        if let Some(watch) = &self.stages.label_watch {
            watch.mark(MarkRequest { id, process, path: path.to_owned(), is_labelled });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn notice(process: u32, at_ms: u64, is_opened: bool) -> Notice {
        Notice {
            time: BootNs(at_ms * MS),
            process: Tgid(process),
            id: FileId { device: 1, inode: 5, generation: 2 },
            path: "/m/w".into(),
            size_bytes: 10,
            fs_magic: 0xef53,
            is_opened,
            is_read: !is_opened,
            is_modified: false,
            is_closed: false,
            change: None,
            new_path: String::new(),
        }
    }

    #[test]
    fn a_notice_that_a_record_tells_too_is_told_once_whichever_comes_first() {
        let mut desk = Desk::default();
        let id = notice(7, 0, true).id;
        desk.wait(notice(7, 1_000, true));
        assert!(desk.due(BootNs(1_010 * MS)).is_empty(), "it waits");
        desk.tell(Tgid(7), id, BootNs(1_020 * MS));
        assert!(desk.due(BootNs(1_100 * MS)).is_empty(), "the record came after it");
        desk.wait(notice(7, 2_000, true));
        assert!(desk.due(BootNs(2_100 * MS)).is_empty(), "the record came before it");
    }

    #[test]
    fn a_notice_that_nobody_tells_is_told_once() {
        let mut desk = Desk::default();
        desk.wait(notice(7, 1_000, true));
        desk.wait(notice(7, 1_001, true));
        desk.wait(notice(8, 1_002, false));
        assert_eq!(desk.next_due(), Some(BootNs(1_060 * MS)));
        let due: Vec<u32> =
            desk.due(BootNs(1_100 * MS)).iter().map(|notice| notice.process.0).collect();
        assert_eq!(due, [7, 8]);
        // Reading on is no news, opening again after a while is.
        desk.wait(notice(8, 60_000, false));
        desk.wait(notice(7, 60_001, true));
        let due: Vec<u32> =
            desk.due(BootNs(60_100 * MS)).iter().map(|notice| notice.process.0).collect();
        assert_eq!(due, [7]);
    }

    #[test]
    fn bytes_do_not_overtake_what_was_noticed_before_them() {
        let mut desk = Desk::default();
        desk.wait(notice(7, 1_000, true));
        desk.wait(notice(8, 1_000, true));
        assert!(desk.overtaken(Tgid(9), BootNs(1_000 * MS)).is_empty(), "a record may still come");
        let mut first = |process, at_ms| -> Vec<u32> {
            let overtaken = desk.overtaken(Tgid(process), BootNs(at_ms * MS));
            overtaken.iter().map(|notice| notice.process.0).collect()
        };
        assert_eq!(first(7, 1_000), [7], "its own record would have come before");
        assert_eq!(first(9, 1_001), [8], "through a pipe, another process sends");
        assert!(first(7, 1_100).is_empty(), "each is told once");
        let mut desk = Desk::default();
        desk.wait(notice(7, 1_000, true));
        desk.tell(Tgid(7), notice(7, 0, true).id, BootNs(1_000 * MS));
        assert!(desk.overtaken(Tgid(7), BootNs(1_001 * MS)).is_empty(), "a record told it");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut desk = Desk::default();
        let id = FileId::default();
        for process in 0..3 * u32::try_from(TOLD_MAX).expect("small") {
            desk.tell(Tgid(process), id, BootNs(u64::from(process)));
        }
        assert!(desk.told.len() <= TOLD_MAX);
        for n in 0..u64::try_from(WAITING_MAX).expect("small") + 5 {
            let oldest = desk.wait(notice(1, n, true));
            assert_eq!(oldest.is_some(), n >= WAITING_MAX as u64);
        }
        assert!(desk.waiting.len() <= WAITING_MAX);
    }
}
