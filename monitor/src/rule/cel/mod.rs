//! Conditions: the `cel` crate parses them, `check` types them against the field catalogue, and
//! `eval` runs the typed tree.

mod call;
mod check;
mod compare;
mod conjunction;
mod eval;
mod guard;
mod name;
mod node;
#[cfg(test)]
mod oracle;
mod part;
mod sequence;
mod syntax;

use std::collections::BTreeSet;

use crate::model::{BootNs, EventKind, Facts, FieldId, KindSet, Value};
use crate::rule::diagnostic::{Located, Reported, Sink};
use crate::rule::spec::{Predicate, Vars};

pub(crate) use check::{check, is_variable, nearest_field, no_variable, words};
pub(crate) use eval::{Scene, widen};
pub use guard::Guard;
pub(crate) use name::{ListDef, Literal, MacroDef, Names};
pub(crate) use node::{Truth, Typed};
pub use part::Part;

/// Longest condition, in bytes; the longest shipped one has some 500.
pub(crate) const CONDITION_BYTES_MAX: usize = 16 * 1024;
/// Most operators, dots and brackets in the text of one condition or macro, `&&` and `||` not
/// counted: the parser recurses once for each in the worst case, and its time grows faster.
pub(crate) const CONDITION_OPERATORS_MAX: usize = 256;
/// Most `&&` and `||` in the text of one condition or macro; the parser's time grows with their
/// square.
pub(crate) const CONDITION_JUNCTIONS_MAX: usize = 256;
/// Most nodes of a condition, macros expanded; bounds load time and the work per event.
pub(crate) const CONDITION_NODES_MAX: usize = 4_096;
/// Deepest nesting of a condition, macros expanded; bounds the stack.
pub(crate) const CONDITION_DEPTH_MAX: usize = 48;

/// What a condition may speak of.
pub(crate) struct Context<'a> {
    pub(crate) sink: &'a Sink,
    pub(crate) names: &'a Names,
    /// Kinds of event it will see.
    pub(crate) kinds: KindSet,
    /// Which of `count`, `sum` and `distinct` exist.
    pub(crate) vars: &'a [&'static str],
}

/// A checked condition.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) truth: Truth,
    pub(crate) fields: BTreeSet<FieldId>,
    /// Text of every list and macro it uses, for the rule's version.
    pub(crate) used: BTreeSet<String>,
}

impl Condition {
    /// Checks `text`; every mistake is reported.
    pub(crate) fn of(text: &Located<String>, context: &Context<'_>) -> Result<Self, Reported> {
        let checked = check(text, context)?;
        match checked.typed {
            Typed::Truth(truth) => Ok(Self { truth, fields: checked.fields, used: checked.used }),
            other => Err(context.sink.error(
                text.span,
                format!("the condition is {}, expected bool", article(other.kind())),
            )),
        }
    }

    /// The condition that every event passes.
    pub(crate) fn always() -> Self {
        Self { truth: Truth::Const(true), fields: BTreeSet::new(), used: BTreeSet::new() }
    }

    /// Whether it cannot be true for any event of `kinds`, and why.
    pub(crate) fn impossible(&self, kinds: KindSet) -> Option<String> {
        conjunction::impossible(&self.truth, kinds)
    }

    /// Whether every event that matches `other` matches this one too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        conjunction::implies(&other.truth, &self.truth) || self.covers_values(other)
    }

    /// Whether this condition speaks of one field only, `other` leaves that field a few values, and
    /// each of them passes.
    fn covers_values(&self, other: &Self) -> bool {
        let Some(field) = self.fields.first().filter(|_| self.fields.len() == 1) else {
            return false;
        };
        let passes = |value: Value<'_>| {
            let facts = One { field: *field, value };
            let scene = Scene { facts: &facts, ..nowhere() };
            self.truth.eval(&scene) == Ok(true)
        };
        other.guards().iter().filter(|guard| guard.field() == *field).any(|guard| match guard {
            Guard::TextIn(_, texts) => texts.iter().all(|text| passes(Value::Str(text))),
            Guard::IntIn(_, numbers) => numbers.iter().all(|number| passes(Value::Int(*number))),
            Guard::Is(_, truth) => passes(Value::Bool(*truth)),
            Guard::Finds(..) | Guard::StartsWith(..) | Guard::Has(_) => false,
        })
    }

    /// What must hold of single fields for it to be true, the most telling first.
    pub(crate) fn guards(&self) -> Vec<Guard> {
        guard::guards(&self.truth)
    }

    /// The parts that must all hold, those that cost little first.
    pub(crate) fn into_parts(self) -> Vec<Part> {
        part::parts(self.truth)
    }

    /// The closure that the pipeline runs.
    pub(crate) fn predicate(self) -> Predicate {
        let truth = self.truth;
        Box::new(move |facts, vars| truth.holds(&Scene { facts, vars, item: None }))
    }
}

/// `an int`, `a string`.
pub(crate) fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

/// Facts of no event, to evaluate constants.
struct Nothing;

impl Facts for Nothing {
    fn kind(&self) -> EventKind {
        EventKind::Sensor
    }

    fn time(&self) -> BootNs {
        BootNs(0)
    }

    fn field(&self, _: FieldId) -> Value<'_> {
        Value::Missing
    }
}

/// Facts of an event with one field.
struct One<'a> {
    field: FieldId,
    value: Value<'a>,
}

impl Facts for One<'_> {
    fn kind(&self) -> EventKind {
        EventKind::Sensor
    }

    fn time(&self) -> BootNs {
        BootNs(0)
    }

    fn field(&self, id: FieldId) -> Value<'_> {
        if id == self.field { self.value } else { Value::Missing }
    }
}

/// The scene of no event.
fn nowhere() -> Scene<'static> {
    const NO_VARS: &Vars = &Vars { count: 0, sum: 0, distinct: 0 };
    Scene { facts: &Nothing, vars: NO_VARS, item: None }
}
