//! The engine: offers each event to the rules of its kind, and each match to the rules that wait
//! for it.

use std::collections::HashMap;
use std::sync::Arc;

use super::condition::{Answer, Conditions};
use super::index::KindIndex;
use super::limit::CorrelateLimits;
use super::pick::Picks;
use super::slot::{Match, Scratch, Slot};
use super::stats::CorrelateStats;
use super::{Finding, snapshot};
use crate::model::{BootNs, EventKind, Facts, RuleId};
use crate::rule::spec::Rule;

/// Holds events against rules. Its only clock is the events' own time, and its state depends on
/// nothing but the events and their order: batches make no difference.
pub struct Engine {
    limits: CorrelateLimits,
    slots: Vec<Slot>,
    /// For each kind, the rules that look at it.
    by_kind: Vec<KindIndex>,
    /// For each kind, how many events there were.
    seen_by_kind: Vec<u64>,
    /// Rules that this event may match.
    candidates: Picks,
    conditions: Conditions,
    /// For each rule, the temporal rules that wait for it, and at which step.
    waiting: Vec<Vec<(usize, usize)>>,
    newest: BootNs,
    events: u64,
    scratch: Scratch,
    /// Rules that match this event, and how surely.
    matched: Vec<(usize, Match)>,
    /// Temporal rules and steps reached by this event, and how surely.
    reached: Vec<(usize, usize, Match)>,
}

impl Engine {
    /// An engine without state.
    pub fn new(rules: &[Arc<Rule>], limits: CorrelateLimits) -> Self {
        let mut engine = Self {
            limits,
            slots: Vec::new(),
            by_kind: Vec::new(),
            seen_by_kind: vec![0; EventKind::ALL.len()],
            candidates: Picks::default(),
            conditions: Conditions::default(),
            waiting: Vec::new(),
            newest: BootNs::default(),
            events: 0,
            scratch: Scratch::default(),
            matched: Vec::new(),
            reached: Vec::new(),
        };
        engine.replace_rules(rules);
        engine
    }

    /// Takes new rules. A rule whose id and version are unchanged keeps its windows and counts.
    pub fn replace_rules(&mut self, rules: &[Arc<Rule>]) {
        let mut old: HashMap<RuleId, Slot> =
            self.slots.drain(..).map(|slot| (slot.rule.meta.id.clone(), slot)).collect();
        self.slots = rules
            .iter()
            .map(|rule| match old.remove(&rule.meta.id) {
                Some(slot) if slot.is_same(rule) => slot.renew(Arc::clone(rule)),
                _ => {
                    let before = events_of(rule, &self.seen_by_kind);
                    Slot::new(Arc::clone(rule), &self.limits, before)
                }
            })
            .collect();
        self.by_kind = index_kinds(&self.slots);
        self.conditions = Conditions::new(self.slots.iter().map(|slot| &*slot.rule));
        self.waiting = index_steps(&self.slots);
        mark_doubtable(&mut self.slots, &self.waiting);
    }

    /// Holds one event against every rule of its kind. Every rule that matches fires; findings are
    /// added to `out`.
    pub fn on_event(&mut self, facts: &dyn Facts, out: &mut Vec<Finding>) {
        self.events += 1;
        self.newest = self.newest.max(facts.time());
        self.matched.clear();
        let kind = facts.kind() as usize;
        self.seen_by_kind[kind] += 1;
        self.by_kind[kind].candidates(facts, &mut self.candidates);
        self.conditions.next_event();
        for word in 0..self.candidates.words() {
            while let Some(at) = self.candidates.take_from(word) {
                let slot = &mut self.slots[at];
                match self.conditions.ask(at, &slot.rule, facts) {
                    Answer::Yes => {
                        let found = slot.offer(facts, self.newest, &mut self.scratch, out);
                        if found != Match::None {
                            self.matched.push((at, found));
                        }
                    }
                    Answer::No(Some(part)) => {
                        self.conditions.drop_refuted(part, &mut self.candidates);
                    }
                    Answer::No(None) => {}
                }
            }
        }
        self.pass_on(facts, out);
    }

    /// Counts since start.
    pub fn stats(&self) -> CorrelateStats {
        let rules = self
            .slots
            .iter()
            .map(|slot| slot.stats(events_of(&slot.rule, &self.seen_by_kind)))
            .collect();
        CorrelateStats { events: self.events, rules }
    }

    /// The state of long windows, for the disk. `boot_id` names the boot of this host
    /// (`/proc/sys/kernel/random/boot_id`): event times mean nothing in another one.
    pub fn snapshot(&self, boot_id: &str) -> snapshot::Snapshot {
        snapshot::take(&self.slots, self.newest, boot_id, self.limits.snapshot_keys_max)
    }

    /// Takes back the state of long windows. Call it before the first event; keys that are there
    /// already stay as they are.
    pub fn restore(
        &mut self,
        snapshot: snapshot::Snapshot,
        boot_id: &str,
    ) -> Result<snapshot::Restored, snapshot::SnapshotError> {
        let newest = snapshot::newest(&snapshot);
        let restored = snapshot::put_back(&mut self.slots, snapshot, boot_id)?;
        self.newest = self.newest.max(newest);
        Ok(restored)
    }

    /// Offers matches to the temporal rules that wait for them, in rounds: a temporal rule can be
    /// waited for in turn. A match is passed on once an event, so rules that wait for each other do
    /// not loop; a round takes all that this event matches, so the order of rules does not matter.
    fn pass_on(&mut self, facts: &dyn Facts, out: &mut Vec<Finding>) {
        let mut passed_on = 0;
        while passed_on < self.matched.len() {
            self.reached.clear();
            for (rule, found) in &self.matched[passed_on..] {
                let waiting = self.waiting[*rule].iter();
                self.reached.extend(waiting.map(|(at, step)| (*at, *step, *found)));
            }
            passed_on = self.matched.len();
            self.reached.sort_unstable_by_key(|(at, step, _)| (*at, *step));
            for reached in self.reached.chunk_by(|before, after| before.0 == after.0) {
                let at = reached[0].0;
                let slot = &mut self.slots[at];
                let kinds = slot.rule.kinds;
                if !kinds.is_empty() && !kinds.contains(facts.kind()) {
                    continue;
                }
                slot.see();
                if self.conditions.ask(at, &slot.rule, facts) != Answer::Yes {
                    continue;
                }
                let sure = reached.iter().filter(|(.., found)| *found == Match::Sure);
                self.scratch.steps.clear();
                self.scratch.steps.extend(sure.map(|(_, step, _)| *step));
                self.scratch.all_steps.clear();
                self.scratch.all_steps.extend(reached.iter().map(|(_, step, _)| *step));
                let found = slot.offer(facts, self.newest, &mut self.scratch, out);
                if found != Match::None && !self.matched.contains(&(at, found)) {
                    self.matched.push((at, found));
                }
            }
        }
    }
}

/// Events of the kinds that `rule` looks at.
fn events_of(rule: &Rule, seen_by_kind: &[u64]) -> u64 {
    rule.kinds.iter().map(|kind| seen_by_kind[kind as usize]).sum()
}

fn index_kinds(slots: &[Slot]) -> Vec<KindIndex> {
    let looks_at = |slot: &Slot, kind| slot.looks_at_events() && slot.rule.kinds.contains(kind);
    EventKind::ALL
        .iter()
        .map(|kind| {
            let rules = slots.iter().enumerate().filter(|(_, slot)| looks_at(slot, *kind));
            let guards = rules.map(|(at, slot)| (at, slot.rule.guards.as_slice()));
            KindIndex::new(guards, slots.len())
        })
        .collect()
}

fn index_steps(slots: &[Slot]) -> Vec<Vec<(usize, usize)>> {
    let by_id: HashMap<&RuleId, usize> =
        slots.iter().enumerate().map(|(at, slot)| (&slot.rule.meta.id, at)).collect();
    let mut waiting = vec![Vec::new(); slots.len()];
    for (at, slot) in slots.iter().enumerate() {
        let Some(correlation) = &slot.rule.correlation else { continue };
        for (step, id) in correlation.kind.steps().iter().enumerate() {
            if let Some(waited_for) = by_id.get(id) {
                waiting[*waited_for].push((at, step));
            }
        }
    }
    waiting
}

/// Marks the temporal rules whose matches may be doubtful, from the rules with an exception on the
/// role to whoever waits for them.
fn mark_doubtable(slots: &mut [Slot], waiting: &[Vec<(usize, usize)>]) {
    let on_role = |slot: &Slot| slot.rule.exceptions.iter().any(|exception| exception.on_role);
    let mut next: Vec<usize> = (0..slots.len()).filter(|at| on_role(&slots[*at])).collect();
    for slot in slots.iter_mut() {
        slot.is_doubtable = on_role(slot);
    }
    while let Some(at) = next.pop() {
        for (waiter, _) in &waiting[at] {
            if !std::mem::replace(&mut slots[*waiter].is_doubtable, true) {
                next.push(*waiter);
            }
        }
    }
}
