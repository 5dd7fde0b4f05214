//! The keys of one rule: bounded in number and in space, the least recently used given up first.

use hashbrown::DefaultHashBuilder;
use lru::LruCache;

use super::limit::CorrelateLimits;
use super::plan::Plan;
use super::state::{Added, Input, KeyState, Verdict};
use super::stats::KeyStats;
use crate::rule::spec::Vars;

/// Idle keys looked at for each new key: two, so that they go faster than new ones come.
const IDLE_KEYS_PER_NEW_KEY: usize = 2;

/// The keys of one rule.
pub(super) struct KeyTable {
    plan: Plan,
    keys: LruCache<Box<str>, KeyState, DefaultHashBuilder>,
    cells: usize,
    keys_max: usize,
    cells_max: usize,
    stats: KeyStats,
}

impl KeyTable {
    pub(super) fn new(plan: Plan, limits: &CorrelateLimits) -> Self {
        Self {
            plan,
            keys: LruCache::unbounded_with_hasher(DefaultHashBuilder::default()),
            cells: 0,
            keys_max: limits.keys_per_rule_max.max(1),
            cells_max: limits.cells_per_rule_max.max(1),
            stats: KeyStats::default(),
        }
    }

    /// Adds one event to the windows of `key` and judges them. `watermark` is the newest event time
    /// of all.
    pub(super) fn offer(
        &mut self,
        key: &str,
        at: u64,
        watermark: u64,
        input: Input<'_>,
        condition: impl Fn(&Vars) -> bool,
    ) -> Verdict {
        if !self.keys.contains(key) {
            self.expire(watermark);
            self.insert(key, KeyState::new(&self.plan, at));
            self.stats.created += 1;
        }
        let Some(state) = self.keys.get_mut(key) else { return Verdict::default() };
        let cells_before = state.cells();
        let added = state.add(&self.plan, at, input);
        let cells_after = state.cells();
        let verdict = match added {
            Added::Late => {
                self.stats.late += 1;
                Verdict::default()
            }
            Added::ValueDropped | Added::Counted => state.judge(&self.plan, at, condition),
        };
        self.stats.values_dropped += u64::from(added == Added::ValueDropped);
        self.cells = (self.cells + cells_after).saturating_sub(cells_before);
        self.evict();
        verdict
    }

    /// Counts, with the keys of this moment.
    pub(super) fn stats(&self) -> KeyStats {
        KeyStats { live: self.keys.len(), cells: self.cells, ..self.stats }
    }

    /// The longest window in nanoseconds.
    pub(super) fn span_ns(&self) -> u64 {
        self.plan.span_ns
    }

    /// The keys, the most recently used first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &KeyState)> {
        self.keys.iter().map(|(key, state)| (&**key, state))
    }

    /// Takes a key read from disk; `false` when it is not sound. The key becomes the most recently
    /// used one.
    pub(super) fn restore(&mut self, key: &str, state: KeyState) -> bool {
        if !state.is_sound(&self.plan) || self.keys.contains(key) {
            return false;
        }
        self.cells += state.cells();
        self.insert(key, state);
        self.stats.restored += 1;
        self.evict();
        true
    }

    fn insert(&mut self, key: &str, state: KeyState) {
        self.keys.put(key.into(), state);
    }

    /// Drops keys whose state no longer matters.
    fn expire(&mut self, watermark: u64) {
        let idle_ns = self.plan.idle_ns();
        for _ in 0..IDLE_KEYS_PER_NEW_KEY {
            let is_idle = |state: &KeyState| watermark.saturating_sub(state.newest()) > idle_ns;
            if !self.keys.peek_lru().is_some_and(|(_, state)| is_idle(state)) {
                return;
            }
            self.drop_oldest();
            self.stats.expired += 1;
        }
    }

    /// Gives keys up until the bounds hold; the newest key stays, whatever its size.
    fn evict(&mut self) {
        while self.keys.len() > self.keys_max
            || (self.cells > self.cells_max && self.keys.len() > 1)
        {
            self.drop_oldest();
            self.stats.evicted += 1;
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, state)) = self.keys.pop_lru() {
            self.cells = self.cells.saturating_sub(state.cells());
        }
    }
}
