//! Pieces of a copy: files that a workload which has read weights writes, each too small to carry a
//! model, and all of them together not. `split` makes such of one size, and so does whoever cuts by
//! hand; the last of them is shorter, and is not missed. Files of differing sizes are logs, caches
//! and samples too: they are pieces once they are as long as a whole model within the minutes in
//! which their sizes are followed.

use super::derivation::Written;
use super::enricher::Enricher;
use super::limit::{PIECE_BYTES_MIN, PIECES_MIN};
use super::table::Handle;
use super::workload::Workload;
use crate::model::{BootNs, Event, FileId};

impl Enricher {
    /// What must be told of pieces, now that one more of them is known: nothing while they are few,
    /// all of them when they are enough, and each that comes after.
    pub(super) fn pieces_of(&mut self, id: FileId, now: BootNs) -> Vec<Event> {
        let known = self.written.find(&id).and_then(|known| self.written.get(known));
        let Some(piece) = known else { return Vec::new() };
        let (workload, size) = (piece.workload, piece.size_bytes);
        let Some(pieces) = self.pieces(workload, size) else { return Vec::new() };
        pieces.into_iter().filter_map(|piece| self.tell_written(piece, now)).collect()
    }

    /// Whether files of this size, written by a workload, are pieces of a copy.
    pub(super) fn are_pieces(&self, workload: Handle<Workload>, size: u64) -> bool {
        self.pieces(workload, size).is_some()
    }

    /// Files that a workload wrote and that have not been told of, if those of this size are enough
    /// to carry a model, or all together are as long as one.
    fn pieces(&self, workload: Handle<Workload>, size: u64) -> Option<Vec<FileId>> {
        let least = self.derived_from_bytes(workload)?;
        if size < PIECE_BYTES_MIN || size >= least {
            return None;
        }
        let alike = self.written_by(workload, |other| other == size);
        if alike.count >= PIECES_MIN && alike.bytes >= least {
            return Some(alike.untold);
        }
        let all = self.written_by(workload, |other| (PIECE_BYTES_MIN..least).contains(&other));
        let whole = least.max(self.smallest_model_bytes(workload));
        (all.count >= PIECES_MIN && all.bytes >= whole).then_some(all.untold)
    }

    /// Files of such sizes among those that a workload writes.
    fn written_by(&self, workload: Handle<Workload>, is_such: impl Fn(u64) -> bool) -> Files {
        let mut files = Files::default();
        for handle in self.written.oldest_first() {
            let of_workload = |written: &&Written| written.workload == workload;
            let Some(written) = self.written.get(handle).filter(of_workload) else { continue };
            if !is_such(written.size_bytes) {
                continue;
            }
            files.count += 1;
            files.bytes = files.bytes.saturating_add(written.size_bytes);
            if written.told_bytes < written.size_bytes {
                files.untold.extend(self.written.key(handle).copied());
            }
        }
        files
    }
}

/// Some of the files that a workload writes.
#[derive(Debug, Default)]
struct Files {
    count: u64,
    bytes: u64,
    untold: Vec<FileId>,
}
