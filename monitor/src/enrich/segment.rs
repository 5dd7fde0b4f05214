//! The bytes of a TCP stream in their order, as far as single segments tell: what came twice is
//! left out, what came early waits, and what was not kept is told as missing.

use bytes::Bytes;

use super::limit::SEGMENTS_HELD_MAX;
use crate::model::Payload;

/// A stretch of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes.
    Bytes(Bytes),
    /// So many bytes that nobody kept.
    Missing(u32),
}

/// One direction of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// TCP's number of the byte that comes next; `None` before the first.
    next: Option<u32>,
    held: Vec<Payload>,
}

impl Order {
    /// Takes a segment in and gives what is in order now. `None` when the stream is lost: a segment
    /// was missed.
    pub(super) fn take(&mut self, segment: &Payload) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut next = *self.next.get_or_insert(segment.sequence);
        let mut waiting = Some(segment.clone());
        while let Some(segment) = waiting.take() {
            let ahead = segment.sequence.wrapping_sub(next).cast_signed();
            if ahead > 0 {
                if self.held.len() >= SEGMENTS_HELD_MAX {
                    return None;
                }
                self.held.push(segment);
            } else {
                next = put(&segment, ahead.unsigned_abs(), next, &mut pieces);
            }
            let ready = |held: &Payload| held.sequence.wrapping_sub(next).cast_signed() <= 0;
            let at = self.held.iter().position(ready);
            waiting = at.map(|at| self.held.swap_remove(at));
        }
        self.next = Some(next);
        Some(pieces)
    }
}

/// What of a segment is new, behind its first `known` bytes. Returns the number that comes next.
fn put(segment: &Payload, known: u32, next: u32, pieces: &mut Vec<Piece>) -> u32 {
    let kept = u32::try_from(segment.bytes.len()).unwrap_or(u32::MAX).min(segment.total);
    if known >= segment.total {
        return next;
    }
    let new = known.min(kept) as usize..kept as usize;
    if !new.is_empty() {
        pieces.push(Piece::Bytes(segment.bytes.slice(new)));
    }
    let missing = segment.total - kept.max(known);
    if missing > 0 {
        pieces.push(Piece::Missing(missing));
    }
    next.wrapping_add(segment.total - known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(sequence: u32, bytes: &[u8]) -> Payload {
        let total = u32::try_from(bytes.len()).expect("short");
        Payload { sequence, total, bytes: Bytes::copy_from_slice(bytes) }
    }

    fn text(pieces: Option<Vec<Piece>>) -> String {
        let Some(pieces) = pieces else { return "lost".into() };
        let show = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Piece::Missing(count) => format!("<{count}>"),
        };
        pieces.iter().map(show).collect()
    }

    #[test]
    fn what_came_early_waits_and_what_came_twice_is_left_out() {
        let mut order = Order::default();
        // The numbers go round.
        let start = u32::MAX - 1;
        assert_eq!(text(order.take(&part(start, b"ab"))), "ab");
        assert_eq!(text(order.take(&part(2, b"ef"))), "");
        assert_eq!(text(order.take(&part(start, b"abc"))), "c");
        assert_eq!(text(order.take(&part(1, b"d"))), "def");
        assert_eq!(text(order.take(&part(start, b"abcd"))), "");
    }

    #[test]
    fn what_was_not_kept_is_told_as_missing() {
        let mut order = Order::default();
        let cut = Payload { sequence: 10, total: 5, bytes: Bytes::from_static(b"ab") };
        assert_eq!(text(order.take(&cut)), "ab<3>");
        assert_eq!(text(order.take(&part(15, b"f"))), "f");
    }

    #[test]
    fn stream_with_a_gap_is_given_up_after_so_many_segments() {
        let mut order = Order::default();
        assert_eq!(text(order.take(&part(0, b"a"))), "a");
        for at in 0..SEGMENTS_HELD_MAX {
            let sequence = 10 + u32::try_from(at).expect("few");
            assert_eq!(text(order.take(&part(sequence, b"x"))), "");
        }
        assert_eq!(text(order.take(&part(99, b"x"))), "lost");
    }

    proptest! {
        #[test]
        fn any_split_in_any_near_order_gives_the_same_bytes(
            bytes in prop::collection::vec(any::<u8>(), 1..60),
            cuts in prop::collection::vec(1usize..9, 1..60),
            swaps in prop::collection::vec(any::<bool>(), 60),
            start in any::<u32>(),
        ) {
            let mut parts = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                let from = start.wrapping_add(u32::try_from(at).expect("short"));
                parts.push(part(from, &bytes[at..end]));
                at = end;
                if at == bytes.len() { break; }
            }
            // The first stays first: it says where the stream begins.
            for (pair, swap) in parts[1..].chunks_exact_mut(2).zip(&swaps) {
                if *swap { pair.swap(0, 1); }
            }
            let mut order = Order::default();
            let mut got = Vec::new();
            for part in &parts {
                for piece in order.take(part).expect("near its place") {
                    let Piece::Bytes(bytes) = piece else { panic!("nothing is missing") };
                    got.extend_from_slice(&bytes);
                }
            }
            prop_assert_eq!(got, bytes);
        }
    }
}
