//! Every bound of correlation, with its unit and its reason.

/// Keys (windows) kept for one rule. A host runs at most some hundred workloads; a rule that groups
/// by address sees more, and the least recently used key is given up first, counted.
pub const KEYS_PER_RULE_MAX: usize = 4_096;
/// Cells (stretches of time and distinct values) kept for one rule over all its keys: 2 MiB of
/// stretches. Beyond it the least recently used keys are given up, counted.
pub const CELLS_PER_RULE_MAX: usize = 65_536;
/// Stretches of time kept for one key. Up to this many moments a window is exact; beyond it,
/// moments closer than a grain become one stretch (see [`super::history`]).
pub const STRETCHES_PER_KEY_MAX: usize = 64;
/// Distinct values kept for one key; `distinct` goes no higher. The oldest value is given up first,
/// counted.
pub const VALUES_PER_KEY_MAX: usize = 1_024;
/// Bytes of one value in a key; longer values are cut, so that two values that agree so far are one
/// key. Workload ids, addresses and names are shorter.
pub const KEY_VALUE_BYTES_MAX: usize = 256;
/// How far behind the newest event of its key an event may come and still be judged as if it had
/// come in order, in nanoseconds. The rings are drained every few milliseconds and the GPU is read
/// every second, so five seconds are far more than a healthy host needs.
pub const LATENESS_NS: u64 = 5_000_000_000;
/// Windows at least this long survive a restart of the daemon, in nanoseconds: shorter ones fill
/// again before anybody misses them.
pub const SNAPSHOT_SPAN_NS_MIN: u64 = 3_600_000_000_000;
/// Keys written to a snapshot over all rules, the most recently used first; the rest is counted.
/// A full key takes about 4 KiB of JSON, so a snapshot stays below 16 MiB.
pub const SNAPSHOT_KEYS_MAX: usize = 4_096;

/// The bounds an [`super::Engine`] works within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrelateLimits {
    /// Keys for one rule.
    pub keys_per_rule_max: usize,
    /// Cells for one rule.
    pub cells_per_rule_max: usize,
    /// Distinct values for one key.
    pub values_per_key_max: usize,
    /// How late an event may be, in nanoseconds of event time.
    pub lateness_ns: u64,
    /// Keys in a snapshot.
    pub snapshot_keys_max: usize,
}

impl Default for CorrelateLimits {
    fn default() -> Self {
        Self {
            keys_per_rule_max: KEYS_PER_RULE_MAX,
            cells_per_rule_max: CELLS_PER_RULE_MAX,
            values_per_key_max: VALUES_PER_KEY_MAX,
            lateness_ns: LATENESS_NS,
            snapshot_keys_max: SNAPSHOT_KEYS_MAX,
        }
    }
}
