//! The counters that must balance: `seen = sent + filtered + lost`.

use monitor_common::KindCounters;

use crate::maps::COUNTERS;

/// What became of one thing a hook saw. Every hook ends in exactly one of these per thing seen.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Sent,
    Filtered,
    RingFull,
    MapFull,
    ReadFault,
    RateLimited,
}

/// Counts one thing seen and its outcome.
#[inline(always)]
pub(crate) fn count(kind: u16, outcome: Outcome) {
    let Some(slot) = COUNTERS.get_ptr_mut(u32::from(kind)) else { return };
    // SAFETY: the pointer is this CPU's slot of a per-CPU array, valid while the program runs. A
    // program of another kind may interrupt this one, but it counts in another slot.
    let counters: &mut KindCounters = unsafe { &mut *slot };
    counters.seen += 1;
    match outcome {
        Outcome::Sent => counters.sent += 1,
        Outcome::Filtered => counters.filtered += 1,
        Outcome::RingFull => counters.ring_full += 1,
        Outcome::MapFull => counters.map_full += 1,
        Outcome::ReadFault => counters.read_fault += 1,
        Outcome::RateLimited => counters.rate_limited += 1,
    }
}
