//! One rule at work: its predicates, its keys, its counts.

use std::sync::Arc;

use super::Finding;
use super::key::{value_text, write_key, write_value};
use super::limit::CorrelateLimits;
use super::plan::Plan;
use super::state::{Input, Verdict};
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

/// Whether an event, and what came before it, matches a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// It does not.
    None,
    /// It does, but for what a guessed role would excuse.
    Doubtful,
    /// It does.
    Sure,
}

impl Match {
    fn of(is_match: bool, is_doubted: bool) -> Self {
        match (is_match, is_doubted) {
            (false, _) => Self::None,
            (true, true) => Self::Doubtful,
            (true, false) => Self::Sure,
        }
    }
}

/// Why a match is doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// The exception at this place would hold if the guessed role were right.
    Exception(usize),
    /// A rule that it waits for has a doubtful match.
    Steps,
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
    /// The same, with those of which the match is doubtful.
    pub(super) all_steps: Vec<usize>,
}

/// One rule at work.
pub(super) struct Slot {
    pub(super) rule: Arc<Rule>,
    pub(super) table: Option<KeyTable>,
    stats: RuleStats,
    /// Events of its kinds before it was there.
    before: u64,
    /// For a temporal rule: whether it, or a rule that it waits for at whatever remove, has an
    /// exception on the role, so that matches may be doubtful.
    pub(super) is_doubtable: bool,
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
        Self { rule, table, stats, before, is_doubtable: false }
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
        self.rule.correlation.as_ref().is_none_or(|c| c.kind.steps().is_empty())
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

    /// Offers an event for which its condition holds, or (for a temporal rule, with the steps in
    /// `scratch`) such a one that rules it waits for have matched. Returns whether this rule
    /// matches.
    pub(super) fn offer(
        &mut self,
        facts: &dyn Facts,
        watermark: BootNs,
        scratch: &mut Scratch,
        out: &mut Vec<Finding>,
    ) -> Match {
        self.stats.when += 1;
        let doubt = match self.weigh(facts) {
            Standing::Out => return Match::None,
            Standing::In => None,
            Standing::Doubted(exception) => Some(Doubt::Exception(exception)),
        };
        let found = if self.looks_at_events() {
            let verdict = self.count(facts, watermark, scratch, doubt.is_some());
            self.report(verdict.fire, facts, doubt, out);
            Match::of(verdict.is_match, doubt.is_some())
        } else {
            self.offer_steps(facts, watermark, scratch, doubt, out)
        };
        self.stats.matches += u64::from(found != Match::None);
        found
    }

    /// As [`Self::offer`], for a rule that waits for others. What is sure counts in the window of
    /// what is doubtful too, so that a doubtful match may complete it; who is told of a sure match
    /// need not hear of the doubtful one.
    fn offer_steps(
        &mut self,
        facts: &dyn Facts,
        watermark: BootNs,
        scratch: &mut Scratch,
        doubt: Option<Doubt>,
        out: &mut Vec<Finding>,
    ) -> Match {
        let mut sure = Verdict::default();
        if doubt.is_none() && !scratch.steps.is_empty() {
            sure = self.count(facts, watermark, scratch, false);
            self.report(sure.fire, facts, None, out);
        }
        if !self.is_doubtable {
            return Match::of(sure.is_match, false);
        }
        let doubtful = self.count(facts, watermark, scratch, true);
        if sure.is_match {
            return Match::Sure;
        }
        self.report(doubtful.fire, facts, Some(doubt.unwrap_or(Doubt::Steps)), out);
        Match::of(doubtful.is_match, true)
    }

    /// Adds an event to the windows of its key, those of doubtful ones or the others.
    fn count(
        &mut self,
        facts: &dyn Facts,
        watermark: BootNs,
        scratch: &mut Scratch,
        is_doubted: bool,
    ) -> Verdict {
        let at = facts.time().0;
        let rule = &*self.rule;
        let Some((correlation, table)) = rule.correlation.as_ref().zip(self.table.as_mut()) else {
            return Verdict { is_match: true, fire: Some((Vars::default(), at)) };
        };
        let Some((key, input)) = input(correlation, facts, scratch, is_doubted) else {
            self.stats.unkeyed += 1;
            return Verdict::default();
        };
        let condition = |vars: &Vars| {
            correlation.condition.as_ref().is_none_or(|condition| condition(facts, vars))
        };
        table.offer(key, at, watermark.0, input, condition)
    }

    fn report(
        &mut self,
        fire: Option<(Vars, u64)>,
        facts: &dyn Facts,
        doubt: Option<Doubt>,
        out: &mut Vec<Finding>,
    ) {
        let Some((vars, first)) = fire else { return };
        self.stats.findings += 1;
        out.push(finding(&self.rule, facts, vars, BootNs(first), doubt));
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

/// What a doubtful finding says of itself.
fn caveat(rule: &Rule, doubt: Doubt) -> String {
    let name = |at: usize| rule.exceptions.get(at).map_or("", |exception| &exception.name);
    match doubt {
        Doubt::Exception(at) => {
            let name = name(at);
            format!(
                " (low: if the guessed role is right, exception `{name}` holds; a profile would \
                 settle it)"
            )
        }
        Doubt::Steps => {
            " (low: if the guessed role is right, an exception of a rule that this one \
                         waits for holds; a profile would settle it)"
                .to_owned()
        }
    }
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

/// Writes the key and works out what the event adds; `None` when it lacks a field.
fn input<'a>(
    correlation: &Correlation,
    facts: &dyn Facts,
    scratch: &'a mut Scratch,
    is_doubted: bool,
) -> Option<(&'a str, Input<'a>)> {
    let Scratch { key, value, steps, all_steps } = scratch;
    if !write_key(key, facts, &correlation.group_by) {
        return None;
    }
    if is_doubted {
        // Windows of their own: what a guess would excuse must neither add to what nothing excuses
        // nor lower it.
        key.push_str(DOUBTED);
    }
    let input = match &correlation.kind {
        CorrelationKind::Temporal(_) | CorrelationKind::TemporalOrdered(_) => {
            Input::Steps(if is_doubted { all_steps } else { steps })
        }
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
    doubt: Option<Doubt>,
) -> Finding {
    let mut message = (rule.message)(facts, &vars);
    let mut dedupe_key: Vec<String> =
        rule.dedupe.key.iter().map(|field| value_text(facts.field(*field))).collect();
    if let Some(doubt) = doubt {
        // An incident of its own: it must not take in a finding that nothing excuses.
        dedupe_key.push(DOUBTED.to_owned());
        message.push_str(&caveat(rule, doubt));
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
