//! The conditions of all rules, taken apart: what several rules ask in the same words is asked once
//! an event, and a no drops every rule that needs a yes.

use std::collections::HashMap;
use std::ops::Range;

use super::pick::Picks;
use crate::model::{EventKind, Facts};
use crate::rule::Part;
use crate::rule::spec::{Rule, Vars};

/// The conditions of all rules.
#[derive(Default)]
pub(super) struct Conditions {
    /// Every part, each once.
    parts: Vec<Part>,
    /// For each part the answer for an event: twice the event's number, and one for yes.
    answers: Vec<u64>,
    /// For each part that several rules need, those rules.
    needed_by: Vec<Option<Picks>>,
    /// For each rule, its stretch of `order`.
    rows: Vec<Range<usize>>,
    /// Places of parts, rule after rule.
    order: Vec<usize>,
    /// For each rule and kind of event, the part that last said no, counted from the start of the
    /// rule's stretch. It is asked first: what failed for one event fails for most of its kind.
    hints: Vec<u16>,
    /// Number of the event that is asked about, from one.
    event: u64,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It does.
    Yes,
    /// It does not; this part of it said no, where it has parts.
    No(Option<usize>),
}

impl Conditions {
    /// Takes the conditions of `rules` apart, in their order.
    pub(super) fn new<'r>(rules: impl Iterator<Item = &'r Rule>) -> Self {
        let mut conditions = Self::default();
        let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
        for rule in rules {
            let start = conditions.order.len();
            for part in &rule.parts {
                let alike = known.entry(part.fingerprint()).or_default();
                let same = alike.iter().copied().find(|at| conditions.parts[*at] == *part);
                let at = same.unwrap_or_else(|| {
                    conditions.parts.push(part.clone());
                    alike.push(conditions.parts.len() - 1);
                    conditions.parts.len() - 1
                });
                conditions.order.push(at);
            }
            conditions.rows.push(start..conditions.order.len());
        }
        conditions.answers = vec![0; conditions.parts.len()];
        conditions.hints = vec![0; conditions.rows.len() * EventKind::ALL.len()];
        conditions.needed_by = conditions.needs();
        conditions
    }

    fn needs(&self) -> Vec<Option<Picks>> {
        let mut needed = vec![0_usize; self.parts.len()];
        self.order.iter().for_each(|part| needed[*part] += 1);
        let none = || Picks::none_of(self.rows.len());
        let mut by: Vec<_> = needed.iter().map(|rules| (*rules > 1).then(none)).collect();
        for (rule, row) in self.rows.iter().enumerate() {
            for part in &self.order[row.clone()] {
                if let Some(rules) = &mut by[*part] {
                    rules.add(rule);
                }
            }
        }
        by
    }

    /// Goes on to another event: answers of the last one no longer count.
    pub(super) fn next_event(&mut self) {
        self.event += 1;
    }

    /// Whether the condition of `rule`, which is the one at place `at`, holds for this event. The
    /// order in which parts are asked makes no difference to the answer: an error is a no.
    pub(super) fn ask(&mut self, at: usize, rule: &Rule, facts: &dyn Facts) -> Answer {
        let row = self.rows[at].clone();
        if row.is_empty() {
            let holds = (rule.when)(facts, &Vars::default());
            return if holds { Answer::Yes } else { Answer::No(None) };
        }
        let hint = at * EventKind::ALL.len() + facts.kind() as usize;
        let first = row.start + usize::from(self.hints[hint]);
        let part = self.order[first];
        if !self.part_holds(part, facts) {
            return Answer::No(Some(part));
        }
        for (place, asked) in row.enumerate() {
            let part = self.order[asked];
            if !self.part_holds(part, facts) {
                self.hints[hint] = u16::try_from(place).unwrap_or(0);
                return Answer::No(Some(part));
            }
        }
        Answer::Yes
    }

    /// Drops from `candidates` all that needs `part`, which said no for this event.
    pub(super) fn drop_refuted(&self, part: usize, candidates: &mut Picks) {
        if let Some(rules) = &self.needed_by[part] {
            candidates.drop_all(rules);
        }
    }

    fn part_holds(&mut self, part: usize, facts: &dyn Facts) -> bool {
        let answer = &mut self.answers[part];
        if *answer >> 1 != self.event {
            *answer = self.event << 1 | u64::from(self.parts[part].holds(facts));
        }
        *answer & 1 == 1
    }

    /// How many parts there are, and how many the rules have in all.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.parts.len(), self.order.len())
    }
}
