//! Which rules an event may match, found without asking each: by the cheapest test of a rule, the
//! one field that must be something for it to match.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use hashbrown::HashMap;

use super::pick::Picks;
use crate::model::{Facts, FieldId, Value};
use crate::rule::Guard;

/// The rules of one kind of event, by their cheapest test.
#[derive(Debug, Default)]
pub(super) struct KindIndex {
    /// Rules without a test of one field: always asked.
    always: Picks,
    texts: ByField<HashMap<Box<str>, Rules>>,
    ints: ByField<HashMap<i64, Rules>>,
    finds: Vec<Search>,
    starts: ByField<Vec<(Box<str>, usize)>>,
    truths: Vec<(FieldId, bool, Picks)>,
    present: ByField<Picks>,
    /// Rules there are, of this kind or not.
    rules: usize,
}

/// Places of rules.
type Rules = Vec<usize>;
/// A table for each of a few fields.
type ByField<T> = Vec<(FieldId, T)>;

/// The literals of many rules in one automaton.
#[derive(Debug)]
struct Search {
    field: FieldId,
    automaton: AhoCorasick,
    /// For each literal, the rules that look for it.
    rules: Vec<Vec<usize>>,
}

/// Fields of few values: knowing one of them says little.
const FEW_VALUES: [FieldId; 8] = [
    FieldId::NetDirection,
    FieldId::NetPhase,
    FieldId::NetPeerClass,
    FieldId::NetProto,
    FieldId::NetFamily,
    FieldId::FileType,
    FieldId::WorkloadRole,
    FieldId::WorkloadKind,
];

/// How little a test lets pass: lower is better. `None` for one that the index has no use for.
fn rank(guard: &Guard) -> Option<u8> {
    match guard {
        // Every event of a kind has it.
        Guard::TextIn(FieldId::EvtKind, _) | Guard::Has(FieldId::EvtKind | FieldId::EvtTimeNs) => {
            None
        }
        Guard::TextIn(field, _) if FEW_VALUES.contains(field) => Some(5),
        Guard::TextIn(..) => Some(0),
        Guard::IntIn(..) => Some(1),
        Guard::Finds(..) => Some(2),
        Guard::StartsWith(_, set) if set.iter().any(|part| part.is_empty()) => Some(6),
        Guard::StartsWith(..) => Some(3),
        Guard::Is(..) => Some(4),
        Guard::Has(_) => Some(6),
    }
}

impl KindIndex {
    /// The index of `rules`: their places and their tests.
    /// `count` is the number of all rules, of this kind or not.
    pub(super) fn new<'r>(rules: impl Iterator<Item = (usize, &'r [Guard])>, count: usize) -> Self {
        let always = Picks::none_of(count);
        let mut index = Self { always, rules: count, ..Self::default() };
        let mut literals: BTreeMap<FieldId, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for (at, guards) in rules {
            let best = guards.iter().filter_map(|guard| Some((rank(guard)?, guard)));
            match best.min_by_key(|(rank, _)| *rank).map(|(_, guard)| guard) {
                None => index.always.add(at),
                Some(Guard::Finds(field, set)) => {
                    for part in set {
                        literals.entry(*field).or_default().entry(part).or_default().push(at);
                    }
                }
                Some(guard) => index.add(at, guard),
            }
        }
        for (field, parts) in literals {
            let (parts, rules): (Vec<&str>, Vec<Vec<usize>>) = parts.into_iter().unzip();
            match AhoCorasick::new(&parts) {
                Ok(automaton) => index.finds.push(Search { field, automaton, rules }),
                // Too many literals for one automaton: those rules are asked each time.
                Err(_) => rules.into_iter().flatten().for_each(|at| index.always.add(at)),
            }
        }
        index
    }

    fn add(&mut self, at: usize, guard: &Guard) {
        match guard {
            Guard::TextIn(field, set) => {
                let table = slot(&mut self.texts, *field);
                for text in set {
                    table.entry(text.clone()).or_default().push(at);
                }
            }
            Guard::IntIn(field, set) => {
                let table = slot(&mut self.ints, *field);
                for number in set {
                    table.entry(*number).or_default().push(at);
                }
            }
            Guard::StartsWith(field, set) => {
                let parts = slot(&mut self.starts, *field);
                parts.extend(set.iter().map(|part| (part.clone(), at)));
            }
            Guard::Is(field, truth) => {
                let known = self.truths.iter().position(|row| (row.0, row.1) == (*field, *truth));
                let known = known.unwrap_or_else(|| {
                    self.truths.push((*field, *truth, Picks::none_of(self.rules)));
                    self.truths.len() - 1
                });
                self.truths[known].2.add(at);
            }
            Guard::Has(field) => {
                let none = || Picks::none_of(self.rules);
                slot_or(&mut self.present, *field, none).add(at);
            }
            Guard::Finds(..) => self.always.add(at),
        }
    }

    /// Makes `out` the rules that an event may match.
    pub(super) fn candidates(&self, facts: &dyn Facts, out: &mut Picks) {
        out.copy_from(&self.always);
        for (field, table) in &self.texts {
            if let Value::Str(text) = facts.field(*field)
                && let Some(rules) = table.get(text)
            {
                out.add_each(rules);
            }
        }
        for (field, table) in &self.ints {
            if let Value::Int(number) = facts.field(*field)
                && let Some(rules) = table.get(&number)
            {
                out.add_each(rules);
            }
        }
        for Search { field, automaton, rules } in &self.finds {
            if let Value::Str(text) = facts.field(*field) {
                for found in automaton.find_overlapping_iter(text) {
                    out.add_each(&rules[found.pattern().as_usize()]);
                }
            }
        }
        for (field, parts) in &self.starts {
            if let Value::Str(text) = facts.field(*field) {
                let fits = parts.iter().filter(|(part, _)| text.starts_with(&**part));
                fits.for_each(|(_, at)| out.add(*at));
            }
        }
        for (field, truth, rules) in &self.truths {
            if facts.field(*field) == Value::Bool(*truth) {
                out.add_all(rules);
            }
        }
        for (field, rules) in &self.present {
            if facts.field(*field) != Value::Missing {
                out.add_all(rules);
            }
        }
    }
}

/// The table of `field`, made where there is none.
fn slot<T: Default>(tables: &mut Vec<(FieldId, T)>, field: FieldId) -> &mut T {
    slot_or(tables, field, T::default)
}

fn slot_or<T>(tables: &mut Vec<(FieldId, T)>, field: FieldId, empty: impl FnOnce() -> T) -> &mut T {
    let at = tables.iter().position(|(known, _)| *known == field).unwrap_or_else(|| {
        tables.push((field, empty()));
        tables.len() - 1
    });
    &mut tables[at].1
}
