//! One rule at work: its predicates, its keys, its counts.

use std::sync::Arc;

use super::Finding;
use super::key::{value_text, write_key, write_value};
use super::limit::CorrelateLimits;
use super::plan::Plan;
use super::state::Input;
use super::stats::RuleStats;
use super::table::KeyTable;
use crate::model::{BootNs, EventKind, Facts, FieldId, Value};
use crate::rule::spec::{Correlation, CorrelationKind, Rule, Vars};

/// How an event stands to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It does not match, or an exception holds.
    Out,
    /// It matches.
    In,
    /// It matches, and the exception at this place would hold if the guessed role were right.
    Doubted(usize),
}

/// Marks windows and incidents of events that a guessed role would excuse.
const DOUBTED: &str = "guessed role";

/// Text that is built for each match, kept so that it is not allocated anew.
#[derive(Default)]
pub(super) struct Scratch {
    key: String,
    value: String,
    /// For a temporal rule, the steps at which it waits for rules that the event matches.
    pub(super) steps: Vec<usize>,
}

/// One rule at work.
pub(super) struct Slot {
    pub(super) rule: Arc<Rule>,
    pub(super) table: Option<KeyTable>,
    stats: RuleStats,
    /// Events of its kinds before it was there.
    before: u64,
}

impl Slot {
    /// A rule that starts anew, after `before` events of its kinds.
    pub(super) fn new(rule: Arc<Rule>, limits: &CorrelateLimits, before: u64) -> Self {
        let table = rule.correlation.as_ref().map(|correlation| {
            let values_max = limits.values_per_key_max.max(1);
            let plan = Plan::new(correlation, &rule.dedupe, limits.lateness_ns, values_max);
            KeyTable::new(plan, limits)
        });
        let stats = RuleStats::new(rule.meta.id.clone());
        Self { rule, table, stats, before }
    }

    /// The same rule, loaded again: keeps its windows.
    pub(super) fn renew(self, rule: Arc<Rule>) -> Self {
        Self { rule, ..self }
    }

    /// Whether `rule` is this one, text and all.
    pub(super) fn is_same(&self, rule: &Rule) -> bool {
        self.rule.meta.id == rule.meta.id && self.rule.meta.version == rule.meta.version
    }

    /// Whether it looks at events itself and not at matches of other rules.
    pub(super) fn looks_at_events(&self) -> bool {
        self.rule.correlation.as_ref().is_none_or(|c| steps(&c.kind).is_empty())
    }

    /// Its counts, after `events` of its kinds. One that looks at events itself has seen them all,
    /// whether it was asked or the index knew the answer.
    pub(super) fn stats(&self, events: u64) -> RuleStats {
        let keys = self.table.as_ref().map(KeyTable::stats).unwrap_or_default();
        let asked = self.stats.seen;
        let seen = if self.looks_at_events() { events.saturating_sub(self.before) } else { asked };
        RuleStats { seen, keys, ..self.stats.clone() }
    }

    /// Counts an event that its condition is held against. For one that looks at events itself the
    /// engine knows the number.
    pub(super) fn see(&mut self) {
        self.stats.seen += 1;
    }

    /// Offers an event for which its condition holds, or (for a temporal rule, with
    /// `scratch.steps`) such a one that rules it waits for have matched. Returns whether this rule
    /// matches.
    pub(super) fn offer(
        &mut self,
        facts: &dyn Facts,
        watermark: BootNs,
        scratch: &mut Scratch,
        out: &mut Vec<Finding>,
    ) -> bool {
        self.stats.when += 1;
        let doubt = match self.weigh(facts) {
            Standing::Out => return false,
            Standing::In => None,
            Standing::Doubted(exception) => Some(exception),
        };
        let rule = &*self.rule;
        let Some((correlation, table)) = rule.correlation.as_ref().zip(self.table.as_mut()) else {
            self.stats.matches += 1;
            self.stats.findings += 1;
            let at = facts.time();
            out.push(finding(
                rule,
                facts,
                Vars::default(),
                at,
                doubt.map(|at| exception(rule, at)),
            ));
            return doubt.is_none();
        };
        let Some((key, input)) = input(correlation, facts, scratch, doubt.is_some()) else {
            self.stats.unkeyed += 1;
            return false;
        };
        let condition = |vars: &Vars| {
            correlation.condition.as_ref().is_none_or(|condition| condition(facts, vars))
        };
        let at = facts.time().0;
        let verdict = table.offer(key, at, watermark.0, input, condition);
        self.stats.matches += u64::from(verdict.is_match);
        if let Some((vars, first)) = verdict.fire {
            self.stats.findings += 1;
            let doubt = doubt.map(|at| exception(rule, at));
            out.push(finding(rule, facts, vars, BootNs(first), doubt));
        }
        verdict.is_match && doubt.is_none()
    }

    /// Whether an event that passes the condition passes no exception. Whoever can start a program
    /// can choose its name, and so the role that is guessed: a guess lowers a finding and hides
    /// none.
    fn weigh(&mut self, facts: &dyn Facts) -> Standing {
        let vars = Vars::default();
        let mut standing = Standing::In;
        for (at, exception) in self.rule.exceptions.iter().enumerate() {
            if !(exception.when)(facts, &vars) {
                continue;
            }
            if exception.on_role
                && role_is_guess(facts)
                && !(exception.when)(&Declared(facts), &vars)
            {
                standing = Standing::Doubted(at);
                continue;
            }
            self.stats.silenced += 1;
            return Standing::Out;
        }
        standing
    }
}

fn exception(rule: &Rule, at: usize) -> &str {
    rule.exceptions.get(at).map_or("", |exception| &exception.name)
}

fn role_is_guess(facts: &dyn Facts) -> bool {
    facts.field(FieldId::WorkloadRoleInferred) == Value::Bool(true)
}

/// An event without the role that was only guessed.
struct Declared<'a>(&'a dyn Facts);

impl Facts for Declared<'_> {
    fn kind(&self) -> EventKind {
        self.0.kind()
    }

    fn time(&self) -> BootNs {
        self.0.time()
    }

    fn field(&self, id: FieldId) -> Value<'_> {
        if id == FieldId::WorkloadRole { Value::Missing } else { self.0.field(id) }
    }
}

/// The rules that a temporal correlation waits for, in order; none for the others.
pub(super) fn steps(kind: &CorrelationKind) -> &[crate::model::RuleId] {
    match kind {
        CorrelationKind::Temporal(rules) | CorrelationKind::TemporalOrdered(rules) => rules,
        CorrelationKind::EventCount
        | CorrelationKind::ValueCount(_)
        | CorrelationKind::ValueSum(_) => &[],
    }
}

/// Writes the key and works out what the event adds; `None` when it lacks a field.
fn input<'a>(
    correlation: &Correlation,
    facts: &dyn Facts,
    scratch: &'a mut Scratch,
    is_doubted: bool,
) -> Option<(&'a str, Input<'a>)> {
    let Scratch { key, value, steps } = scratch;
    if !write_key(key, facts, &correlation.group_by) {
        return None;
    }
    if is_doubted {
        // Windows of their own: what a guess would excuse must neither add to what nothing excuses
        // nor lower it.
        key.push_str(DOUBTED);
    }
    let input = match &correlation.kind {
        CorrelationKind::Temporal(_) | CorrelationKind::TemporalOrdered(_) => Input::Steps(steps),
        CorrelationKind::ValueSum(field) => Input::Number(number(facts.field(*field))?),
        CorrelationKind::ValueCount(field) => {
            value.clear();
            write_value(value, facts.field(*field)).then_some(Input::Text(value))?
        }
        CorrelationKind::EventCount => Input::Number(0),
    };
    Some((key, input))
}

#[expect(clippy::cast_possible_truncation, reason = "a float beyond i64 saturates, as sums do")]
fn number(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::Float(number) => Some(number.round() as i64),
        _ => None,
    }
}

fn finding(
    rule: &Rule,
    facts: &dyn Facts,
    vars: Vars,
    first_time: BootNs,
    doubt: Option<&str>,
) -> Finding {
    let mut message = (rule.message)(facts, &vars);
    let mut dedupe_key: Vec<String> =
        rule.dedupe.key.iter().map(|field| value_text(facts.field(*field))).collect();
    if let Some(exception) = doubt {
        // An incident of its own: it must not take in a finding that nothing excuses.
        dedupe_key.push(DOUBTED.to_owned());
        message.push_str(" (low: if the guessed role is right, exception `");
        message.push_str(exception);
        message.push_str("` holds; a profile would settle it)");
    }
    Finding {
        rule: Arc::clone(&rule.meta),
        time: facts.time(),
        first_time,
        is_role_guessed: facts.field(FieldId::WorkloadRoleInferred) == Value::Bool(true),
        vars,
        message,
        is_doubted: doubt.is_some(),
        dedupe_key,
        dedupe_for_ns: rule.dedupe.for_ns,
    }
}
