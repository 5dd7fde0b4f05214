//! Pieces of a copy: files of one size that a workload which has read weights writes, each too
//! small to carry a model, and all of them together not. `split` makes such, and so does whoever
//! cuts by hand; the last of them is shorter, and is not missed.

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

    /// Files of one size that a workload wrote and that have not been told of, if all of that size
    /// are enough to carry a model.
    fn pieces(&self, workload: Handle<Workload>, size: u64) -> Option<Vec<FileId>> {
        let least = self.derived_from_bytes(workload)?;
        if size < PIECE_BYTES_MIN || size >= least {
            return None;
        }
        let is_one = |written: &Written| written.workload == workload && written.size_bytes == size;
        let mut untold = Vec::new();
        let mut count = 0;
        for handle in self.written.oldest_first() {
            let Some(written) = self.written.get(handle).filter(|written| is_one(written)) else {
                continue;
            };
            count += 1;
            if written.told_bytes < written.size_bytes {
                untold.extend(self.written.key(handle).copied());
            }
        }
        (count >= PIECES_MIN && count * size >= least).then_some(untold)
    }
}
