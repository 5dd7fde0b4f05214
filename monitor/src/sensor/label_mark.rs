//! Which labelled files are watched, and which could not be: counts, and what they take away from
//! an alert.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use super::label_watch::MARKS_MAX;
use crate::model::SensorGap;

/// Why a file is not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The file had gone, or its name led to another one.
    Gone,
    /// Its file system takes no marks.
    FileSystem,
    /// As many files as may be are watched already.
    Bound,
    /// More requests waited than may.
    Behind,
}

impl Refusal {
    /// Every reason, with the word for it in metrics.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Gone, "gone"),
        (Self::FileSystem, "file_system"),
        (Self::Bound, "bound"),
        (Self::Behind, "behind"),
    ];

    /// What an error of `fanotify_mark(2)` means. Of those that it lists, all but these say that
    /// the file is not there any more.
    pub(super) fn of(error: Errno) -> Self {
        match error {
            Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EXDEV | Errno::EINVAL => Self::FileSystem,
            Errno::ENOSPC | Errno::ENOMEM => Self::Bound,
            _ => Self::Gone,
        }
    }
}

/// Marks by what became of them.
#[derive(Debug, Default)]
pub struct MarkCounts {
    set: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    /// Refusals of labelled files for which nobody can be blamed but this host and our bounds.
    unwatched: AtomicU64,
}

impl MarkCounts {
    /// A file is marked.
    pub(super) fn set(&self) {
        self.set.fetch_add(1, Ordering::Relaxed);
    }

    /// A file is not. One that has gone is missed by nobody, nor is one without a label.
    pub(super) fn refuse(&self, why: Refusal, is_labelled: bool) {
        if let Some(count) = self.refused.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if is_labelled && why != Refusal::Gone {
            self.unwatched.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Files marked so far.
    pub fn marked(&self) -> u64 {
        self.set.load(Ordering::Relaxed)
    }

    /// Files that could not be marked for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused.get(why as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// What alerts must say where the marks are all that sees some roads to a file: none while
    /// every labelled file is watched.
    pub fn gap(&self) -> Option<SensorGap> {
        let files = self.unwatched.load(Ordering::Relaxed);
        (files > 0).then(|| SensorGap {
            sensor: "label_watch".to_owned(),
            state: "fallback".to_owned(),
            reason: format!(
                "{files} labelled files are not watched ({} on file systems without marks, {} \
                 beyond {MARKS_MAX}, {} asked for too fast): opens of them by 32-bit system calls \
                 and reads by passed descriptors are not seen",
                self.refused(Refusal::FileSystem),
                self.refused(Refusal::Bound),
                self.refused(Refusal::Behind),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_watched_are_counted_and_leave_a_gap_where_they_matter() {
        let counts = MarkCounts::default();
        counts.set();
        counts.refuse(Refusal::Gone, true);
        counts.refuse(Refusal::FileSystem, false);
        assert_eq!(counts.gap(), None, "one is gone, the other has no label");
        counts.refuse(Refusal::of(Errno::ENODEV), true);
        counts.refuse(Refusal::of(Errno::ENOSPC), true);
        counts.refuse(Refusal::of(Errno::ENOENT), true);
        let told = Refusal::ALL.map(|(why, _)| counts.refused(why));
        assert_eq!((counts.marked(), told), (1, [2, 2, 1, 0]));
        let gap = counts.gap().expect("two labelled files");
        assert!(gap.reason.starts_with("2 labelled files are not watched (2 on"), "{}", gap.reason);
    }
}
