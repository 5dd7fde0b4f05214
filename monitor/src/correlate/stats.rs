//! What correlation counts of itself.

use crate::model::RuleId;

/// Counts since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorrelateStats {
    /// Events offered.
    pub events: u64,
    /// One row a rule, in the order of the rules.
    pub rules: Vec<RuleStats>,
}

/// Counts of one rule since it was loaded. `matched = when − silenced`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleStats {
    /// The rule.
    pub id: RuleId,
    /// Events of its kinds (temporal rules: matches of the rules it waits for).
    pub seen: u64,
    /// Events that its `when` was true of.
    pub when: u64,
    /// Of those, events that an exception silenced.
    pub silenced: u64,
    /// Of the rest, events that lack a field of `group_by` or the field to count.
    pub unkeyed: u64,
    /// Times it matched: its `when`, or with a correlation its condition.
    pub matches: u64,
    /// Findings made.
    pub findings: u64,
    /// Counts of its keys.
    pub keys: KeyStats,
}

/// Counts of the keys of one rule. `created + restored = live + evicted + expired`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyStats {
    /// Keys now.
    pub live: usize,
    /// Stretches of time and distinct values now, over all keys.
    pub cells: usize,
    /// Keys made by an event.
    pub created: u64,
    /// Keys taken from a snapshot.
    pub restored: u64,
    /// Keys given up though their windows were not empty, for want of space.
    pub evicted: u64,
    /// Keys dropped because their windows were empty.
    pub expired: u64,
    /// Events that came too late for any window.
    pub late: u64,
    /// Distinct values given up for want of space.
    pub values_dropped: u64,
}

impl RuleStats {
    pub(super) fn new(id: RuleId) -> Self {
        Self {
            id,
            seen: 0,
            when: 0,
            silenced: 0,
            unkeyed: 0,
            matches: 0,
            findings: 0,
            keys: KeyStats::default(),
        }
    }
}
