//! What a window remembers of the past: counts and sums over stretches of time, in bounded space.
//!
//! Up to [`STRETCHES_PER_KEY_MAX`] different moments are kept as they are, and every sum over a
//! window is exact. When there are more, moments in the same grain of time become one stretch. A
//! stretch counts as long as its newest moment lies in the window, so a dense window may reach back
//! up to one grain too far and never falls short: a grain is 1/31 of a sliding window (20 s for ten
//! minutes, 47 min for a day) and 1/15 of a tumbling one.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::limit::STRETCHES_PER_KEY_MAX;

/// Grains in the time that a sliding or session window retains.
const SLIDING_GRAINS: u64 = 31;
/// Grains in one tumbling window, of which two are retained.
const TUMBLING_GRAINS: u64 = 15;

/// How finely dense stretches are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grain {
    /// Length of a grain in nanoseconds.
    ns: u64,
    /// No stretch crosses a multiple of this, in nanoseconds: the ends of tumbling windows.
    fence_ns: u64,
}

impl Grain {
    /// For a window that slides or ends by silence and retains `retained_ns`.
    pub(super) fn sliding(retained_ns: u64) -> Self {
        Self { ns: retained_ns.div_ceil(SLIDING_GRAINS).max(1), fence_ns: u64::MAX }
    }

    /// For tumbling windows of `span_ns`.
    pub(super) fn tumbling(span_ns: u64) -> Self {
        Self { ns: span_ns.div_ceil(TUMBLING_GRAINS).max(1), fence_ns: span_ns.max(1) }
    }

    fn holds_both(self, first: u64, last: u64) -> bool {
        first / self.ns == last / self.ns && first / self.fence_ns == last / self.fence_ns
    }
}

/// Events from `first` to `last`, both in nanoseconds since boot and both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    first: u64,
    last: u64,
    count: u64,
    sum: i64,
}

/// What lies in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Events.
    pub(super) count: u64,
    /// Sum of their values, saturating.
    pub(super) sum: i64,
    /// The first of them; `None` when there is none.
    pub(super) first: Option<u64>,
}

/// Counts and sums by time, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct History {
    stretches: VecDeque<Stretch>,
}

impl History {
    /// Adds one event. Call [`Self::forget`] first, so that what no window can need does not take
    /// space.
    pub(super) fn add(&mut self, at: u64, value: i64, grain: Grain) {
        let after = self.stretches.partition_point(|stretch| stretch.first <= at);
        let before = after.checked_sub(1).and_then(|index| self.stretches.get_mut(index));
        if let Some(stretch) = before.filter(|stretch| at <= stretch.last) {
            stretch.count = stretch.count.saturating_add(1);
            stretch.sum = stretch.sum.saturating_add(value);
            return;
        }
        self.stretches.insert(after, Stretch { first: at, last: at, count: 1, sum: value });
        if self.stretches.len() > STRETCHES_PER_KEY_MAX {
            self.coalesce(grain);
        }
    }

    /// Drops what ended before `oldest`.
    pub(super) fn forget(&mut self, oldest: u64) {
        while self.stretches.front().is_some_and(|stretch| stretch.last < oldest) {
            self.stretches.pop_front();
        }
    }

    /// What lies from `from` to `to`, both included.
    pub(super) fn totals(&self, from: u64, to: u64) -> Totals {
        let mut count = 0_u64;
        let mut sum = 0_i128;
        let mut first = None;
        for stretch in self.between(from, to) {
            count = count.saturating_add(stretch.count);
            sum += i128::from(stretch.sum);
            first = first.or(Some(stretch.first));
        }
        let sum = sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Totals { count, sum: i64::try_from(sum).expect("a clamped sum is an i64"), first }
    }

    /// The first moment from `from` to `to` at which an event may have happened.
    pub(super) fn first_between(&self, from: u64, to: u64) -> Option<u64> {
        self.between(from, to).next().map(|stretch| stretch.first.max(from))
    }

    /// The ends of stretches from `from` to `to`, oldest first.
    pub(super) fn ends_between(&self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        self.stretches
            .iter()
            .map(|stretch| stretch.last)
            .filter(move |end| (from..=to).contains(end))
    }

    /// Space taken, in cells.
    pub(super) fn cells(&self) -> usize {
        self.stretches.len()
    }

    /// Whether it could have come from this code: read from disk it may be anything.
    pub(super) fn is_sound(&self) -> bool {
        self.stretches.len() <= STRETCHES_PER_KEY_MAX
            && self.stretches.iter().all(|stretch| stretch.first <= stretch.last)
            && self
                .stretches
                .iter()
                .zip(self.stretches.iter().skip(1))
                .all(|(before, after)| before.last < after.first)
    }

    fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter().filter(move |stretch| stretch.last >= from && stretch.first <= to)
    }

    fn coalesce(&mut self, grain: Grain) {
        let mut kept: VecDeque<Stretch> = VecDeque::with_capacity(STRETCHES_PER_KEY_MAX + 1);
        for next in self.stretches.drain(..) {
            match kept.back_mut() {
                Some(stretch) if grain.holds_both(stretch.first, next.last) => {
                    stretch.last = next.last;
                    stretch.count = stretch.count.saturating_add(next.count);
                    stretch.sum = stretch.sum.saturating_add(next.sum);
                }
                _ => kept.push_back(next),
            }
        }
        self.stretches = kept;
    }
}
