//! The conditions of all rules, taken apart: what several rules ask in the same words is asked once
//! an event.

use std::collections::HashMap;
use std::ops::Range;

use crate::model::Facts;
use crate::rule::Part;
use crate::rule::spec::{Rule, Vars};

/// The conditions of all rules.
#[derive(Default)]
pub(super) struct Conditions {
    /// Every part, each once.
    parts: Vec<Part>,
    /// For each part the answer for an event: twice the event's number, and one for yes.
    answers: Vec<u64>,
    /// For each rule, its stretch of `order`.
    rows: Vec<Range<usize>>,
    /// Places of parts, rule after rule.
    order: Vec<usize>,
    /// Number of the event that is asked about, from one.
    event: u64,
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
        conditions
    }

    /// Goes on to another event: answers of the last one no longer count.
    pub(super) fn next_event(&mut self) {
        self.event += 1;
    }

    /// Whether the condition of `rule`, which is the one at place `at`, holds for this event.
    pub(super) fn hold(&mut self, at: usize, rule: &Rule, facts: &dyn Facts) -> bool {
        let places = &self.order[self.rows[at].clone()];
        if places.is_empty() {
            return (rule.when)(facts, &Vars::default());
        }
        let (event, parts, answers) = (self.event, &self.parts, &mut self.answers);
        places.iter().all(|place| {
            let answer = &mut answers[*place];
            if *answer >> 1 != event {
                *answer = event << 1 | u64::from(parts[*place].holds(facts));
            }
            *answer & 1 == 1
        })
    }

    /// How many parts there are, and how many the rules have in all.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.parts.len(), self.order.len())
    }
}
