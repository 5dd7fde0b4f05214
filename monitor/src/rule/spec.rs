//! What a rule is once it has passed every check: predicates over facts, and the shape of its
//! correlation. `correlate` runs these; nothing in here is text any more.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::cel::{Guard, Part};
use crate::model::{Facts, FieldId, KindSet, RuleId, Severity};

/// Values that exist only while a rule is evaluated: the state of its correlation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vars {
    /// Events in the window (`count`).
    pub count: i64,
    /// Sum of the correlated field over the window (`sum`).
    pub sum: i64,
    /// Distinct values of the correlated field in the window (`distinct`).
    pub distinct: i64,
}

/// A compiled condition. An evaluation error (missing field, CEL semantics) counts as no match.
pub type Predicate = Box<dyn Fn(&dyn Facts, &Vars) -> bool + Send + Sync>;
/// A compiled message template.
pub type Render = Box<dyn Fn(&dyn Facts, &Vars) -> String + Send + Sync>;

/// What people and alerts need of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleMeta {
    /// Unique id.
    pub id: RuleId,
    /// First 12 hex digits of a hash over the rule's text: changes when the rule does.
    pub version: String,
    /// One line for people.
    pub title: String,
    /// How much a finding matters.
    pub severity: Severity,
    /// Whether its findings are alerts. A rule with `alert: false` is a building block: temporal
    /// rules wait for it, and nobody is told of it alone.
    pub alerts: bool,
    /// Whether its conditions (not its exceptions), or those of a rule that it waits for, read the
    /// workload's role, which may be a guess.
    #[serde(skip)]
    pub on_role: bool,
    /// Framework ids.
    pub tags: Tags,
    /// What fires it without harm.
    pub false_positives: Vec<String>,
    /// What to do when it fires.
    pub runbook: String,
    /// File it was read from.
    pub source: String,
}

/// Framework ids, with the version they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tags {
    /// MITRE ATT&CK techniques.
    pub attack: Vec<String>,
    /// MITRE ATLAS techniques.
    pub atlas: Vec<String>,
    /// Version of ATT&CK.
    pub attack_version: Option<String>,
    /// Version of ATLAS.
    pub atlas_version: Option<String>,
    /// Short codes of a catalogue of detections, such as `E-01`; several rules may share one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<String>,
}

/// A checked, compiled rule.
pub struct Rule {
    /// What people need of it.
    pub meta: Arc<RuleMeta>,
    /// Kinds of event it looks at.
    pub kinds: KindSet,
    /// Fields it reads, in any of its parts.
    pub fields: Vec<FieldId>,
    /// What must hold of single fields for the condition to be true, the most telling first.
    pub guards: Vec<Guard>,
    /// The condition on one event.
    pub when: Predicate,
    /// The same condition in parts that must all hold; empty where it does not come from a text.
    pub parts: Vec<Part>,
    /// Named conditions under which it stays silent.
    pub exceptions: Vec<Exception>,
    /// How events are brought together; `None` fires on each match.
    pub correlation: Option<Correlation>,
    /// When two findings are one alert.
    pub dedupe: Dedupe,
    /// The sentence of the alert.
    pub message: Render,
    /// Its tests.
    pub tests: Vec<RuleTest>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("meta", &self.meta)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

/// A named condition under which a rule stays silent.
pub struct Exception {
    /// Its name.
    pub name: String,
    /// The condition.
    pub when: Predicate,
    /// Whether it reads the workload's role, which may be a guess.
    pub on_role: bool,
}

/// How events are brought together.
pub struct Correlation {
    /// What is counted.
    pub kind: CorrelationKind,
    /// Fields whose values form the key of a window; an event that misses one is not counted.
    pub group_by: Vec<FieldId>,
    /// The window, in event time.
    pub window: Window,
    /// The condition on the window (and the event that moved it); `None` only for temporal forms.
    pub condition: Option<Predicate>,
}

/// What a correlation counts (Sigma's correlation types).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorrelationKind {
    /// Events.
    EventCount,
    /// Distinct values of a field.
    ValueCount(FieldId),
    /// The sum of a field.
    ValueSum(FieldId),
    /// Every named rule matched within the window, in any order.
    Temporal(Vec<RuleId>),
    /// Every named rule matched within the window, in this order.
    TemporalOrdered(Vec<RuleId>),
}

impl CorrelationKind {
    /// The rules that a temporal correlation waits for, in order; none for the others.
    pub fn steps(&self) -> &[RuleId] {
        match self {
            Self::Temporal(rules) | Self::TemporalOrdered(rules) => rules,
            Self::EventCount | Self::ValueCount(_) | Self::ValueSum(_) => &[],
        }
    }
}

/// A window in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last `span_ns` before each event.
    Sliding {
        /// Length in nanoseconds.
        span_ns: u64,
    },
    /// Consecutive spans aligned to boot.
    Tumbling {
        /// Length in nanoseconds.
        span_ns: u64,
    },
    /// From the first event until none has come for `gap_ns`, at most `span_max_ns`.
    Session {
        /// Silence that ends it.
        gap_ns: u64,
        /// The longest it may last.
        span_max_ns: u64,
    },
}

/// When two findings are one alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dedupe {
    /// Fields whose values form the key.
    pub key: Vec<FieldId>,
    /// For how long, in nanoseconds of event time; zero never merges.
    pub for_ns: u64,
}

/// A test written in the rule's file.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTest {
    /// What it shows.
    pub name: String,
    /// Line of the file it stands at.
    pub line: u32,
    /// The recorded events, already read and checked.
    pub events: Vec<crate::model::FactRow>,
    /// What must come out for this rule.
    pub expect: Vec<Expectation>,
}

/// What a test expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Severity of the alerts.
    pub severity: Severity,
    /// How many alerts, after dedupe.
    pub count: u32,
    /// Text the message must contain, if any.
    pub message_contains: Option<String>,
}
