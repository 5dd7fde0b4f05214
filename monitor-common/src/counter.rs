//! What the kernel side counts, per record kind. The balance
//! `seen = sent + filtered + lost` holds at every moment that no program is running.

use crate::record::KIND_COUNT;

/// Counters of one record kind on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounters {
    /// Times the hook had something of this kind before it.
    pub seen: u64,
    /// Records handed to a ring.
    pub sent: u64,
    /// Not wanted by any rule, profile or label.
    pub filtered: u64,
    /// The ring was full.
    pub ring_full: u64,
    /// The record would have been longer than its bound.
    pub too_long: u64,
    /// A map was full.
    pub map_full: u64,
    /// Kernel or user memory could not be read.
    pub read_fault: u64,
    /// The cgroup was over its rate.
    pub rate_limited: u64,
}

impl KindCounters {
    /// Records lost, for whatever reason.
    pub const fn lost(&self) -> u64 {
        self.ring_full + self.too_long + self.map_full + self.read_fault + self.rate_limited
    }

    /// Whether nothing is unaccounted for.
    pub const fn is_balanced(&self) -> bool {
        self.seen == self.sent + self.filtered + self.lost()
    }

    /// Adds the counters of another CPU.
    pub const fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        self.sent += other.sent;
        self.filtered += other.filtered;
        self.ring_full += other.ring_full;
        self.too_long += other.too_long;
        self.map_full += other.map_full;
        self.read_fault += other.read_fault;
        self.rate_limited += other.rate_limited;
    }
}

/// Entries of the counter map: one per kind, index = kind.
#[expect(clippy::cast_possible_truncation, reason = "there are fewer than 65536 kinds")]
pub const COUNTERS_LEN: u32 = KIND_COUNT as u32;

const _: () = assert!(size_of::<KindCounters>() == 64);
