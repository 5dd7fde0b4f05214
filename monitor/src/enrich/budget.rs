//! Bytes sent against the budgets of a profile, by workload, in event time, bounded.
//!
//! A budget counts the bytes of any period of its length: a window that slides in steps of 1/32 of
//! the period. What is counted reaches back up to one step too far and never falls short.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::enricher::{Enricher, Observation};
use super::limit::BUDGETS_KEPT_MAX;
use super::table::Table;
use crate::model::{Body, BootNs, Event, ProfileId, WorkloadId};

/// Steps of one period.
const STEPS: u64 = 32;

/// A budget of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetView<'a> {
    /// The destination, as the profile writes it.
    pub to: &'a str,
    /// Most bytes in any period.
    pub bytes_max: u64,
    /// The period in nanoseconds.
    pub per_ns: u64,
}

/// How far a budget is used after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
}

impl Use {
    /// The used share; one is all of it.
    #[expect(clippy::cast_precision_loss, reason = "a share to 15 digits is exact enough")]
    pub(super) fn ratio(self) -> f64 {
        self.bytes as f64 / self.bytes_max.max(1) as f64
    }
}

/// Whose bytes to whom: the same budget under another profile is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Key {
    workload: WorkloadId,
    profile: ProfileId,
    to: Arc<str>,
    per_ns: u64,
}

/// Bytes by step of time, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Spent {
    steps: VecDeque<(u64, u64)>,
}

impl Spent {
    /// Adds bytes sent at `at` and gives the sum over the period before it.
    fn add(&mut self, at: BootNs, bytes: u64, per_ns: u64) -> u64 {
        let step = at.0 / per_ns.div_ceil(STEPS).max(1);
        // The newest step ends the period, whoever comes late.
        let newest = self.steps.back().map_or(step, |(newest, _)| step.max(*newest));
        while self.steps.front().is_some_and(|(oldest, _)| oldest + STEPS < newest) {
            self.steps.pop_front();
        }
        if step + STEPS >= newest {
            let place = self.steps.partition_point(|(known, _)| *known < step);
            match self.steps.get_mut(place) {
                Some((known, sum)) if *known == step => *sum = sum.saturating_add(bytes),
                _ => self.steps.insert(place, (step, bytes)),
            }
        }
        self.steps.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Whether it could have come from this code: read from disk it may be anything.
    fn is_sound(&self) -> bool {
        let steps = || self.steps.iter().map(|(step, _)| *step);
        self.steps.len() as u64 <= STEPS + 1 && steps().zip(steps().skip(1)).all(|(a, b)| a < b)
    }
}

/// What was sent against budgets, over all workloads.
pub(super) struct Budgets {
    table: Table<Key, Spent>,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self { table: Table::new(BUDGETS_KEPT_MAX) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    fn spend(&mut self, key: Key, at: BootNs, bytes: u64) -> u64 {
        let per_ns = key.per_ns;
        let handle = match self.table.find(&key) {
            Some(handle) => {
                self.table.touch(handle);
                handle
            }
            None => self.table.insert(key, Spent::default()).0,
        };
        self.table.get_mut(handle).map_or(0, |spent| spent.add(at, bytes, per_ns))
    }
}

/// Budgets on disk: a day's worth of bytes must survive a restart of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSnapshot {
    /// Event times mean nothing in another boot.
    boot_id: String,
    rows: Vec<(Key, Spent)>,
}

impl Enricher {
    /// Counts the bytes of a flow against the budgets of the workload's profile. The fullest of
    /// those that cover the peer is what rules see.
    pub(super) fn spend(&mut self, event: &Event, seen: &mut Observation) {
        let Body::Flow(flow) = &event.body else { return };
        let Some(remote) = flow.remote else { return };
        let Some(workload) = seen.workload.and_then(|handle| self.workloads.get(handle)) else {
            return;
        };
        let Some(profile) = &workload.profile else { return };
        let state = seen.flow.and_then(|flow| self.flows.get(flow));
        let name = state.and_then(super::flow::FlowState::trusted_name);
        let mut fullest: Option<Use> = None;
        let budgets = &mut self.budgets;
        profile.peers.budgets(remote.ip(), name, &mut |budget: BudgetView<'_>| {
            let key = Key {
                workload: workload.id.clone(),
                profile: profile.id.clone(),
                to: budget.to.into(),
                per_ns: budget.per_ns,
            };
            let bytes = budgets.spend(key, event.time, flow.bytes_out);
            let used = Use { bytes, bytes_max: budget.bytes_max };
            if fullest.is_none_or(|other| used.ratio() > other.ratio()) {
                fullest = Some(used);
            }
        });
        seen.budget = fullest;
    }

    /// What was sent against budgets, for the disk.
    pub fn budget_snapshot(&self, boot_id: &str) -> BudgetSnapshot {
        let table = &self.budgets.table;
        let row = |handle| Some((table.key(handle)?.clone(), table.get(handle)?.clone()));
        let rows = table.oldest_first().filter_map(row).collect();
        BudgetSnapshot { boot_id: boot_id.to_owned(), rows }
    }

    /// Takes back what was sent against budgets in this boot; gives how many budgets that were.
    pub fn restore_budgets(&mut self, snapshot: BudgetSnapshot, boot_id: &str) -> usize {
        if snapshot.boot_id != boot_id {
            return 0;
        }
        let sound = snapshot.rows.into_iter().filter(|(_, spent)| spent.is_sound());
        let mut restored = 0;
        for (key, spent) in sound.take(BUDGETS_KEPT_MAX) {
            if self.budgets.table.find(&key).is_none() {
                self.budgets.table.insert(key, spent);
                restored += 1;
            }
        }
        restored
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400_000_000_000;

    #[test]
    fn bytes_leave_the_budget_when_its_period_has_passed() {
        let mut spent = Spent::default();
        assert_eq!(spent.add(BootNs(DAY), 10, DAY), 10);
        assert_eq!(spent.add(BootNs(DAY + DAY / 2), 5, DAY), 15);
        assert_eq!(spent.add(BootNs(2 * DAY + DAY / 16), 1, DAY), 6, "the first is a day old");
        assert_eq!(spent.add(BootNs(9 * DAY), 0, DAY), 0);
        assert!(spent.steps.len() as u64 <= STEPS + 1);
    }

    proptest! {
        /// Never less than the bytes of the period, and one step more at most.
        #[test]
        fn sum_lies_between_the_period_and_the_period_and_a_step(
            mut rows in prop::collection::vec((0_u64..4_000, 0_u64..100), 1..200),
        ) {
            let per_ns = 1_000_u64;
            let step_ns = per_ns.div_ceil(STEPS);
            rows.sort_unstable();
            let mut spent = Spent::default();
            for at in 0..rows.len() {
                let (now, bytes) = rows[at];
                let sum = spent.add(BootNs(now), bytes, per_ns);
                let since = |from: u64| {
                    let before = rows[..=at].iter().filter(|row| row.0 + from > now);
                    before.map(|row| row.1).sum::<u64>()
                };
                prop_assert!(sum >= since(per_ns), "{} < {}", sum, since(per_ns));
                prop_assert!(sum <= since(per_ns + 2 * step_ns));
                prop_assert!(spent.is_sound());
            }
        }
    }
}
