//! A finding: a rule matched.

use std::sync::Arc;

use crate::model::{BootNs, Severity};
use crate::rule::spec::{RuleMeta, Vars};

/// A rule matched, once, before dedupe.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The rule.
    pub rule: Arc<RuleMeta>,
    /// Time of the event that completed the match.
    pub time: BootNs,
    /// Time of the first event in the window; `time` without one.
    pub first_time: BootNs,
    /// Whether the role of the workload, at that moment, was guessed.
    pub is_role_guessed: bool,
    /// The window's values at that moment.
    pub vars: Vars,
    /// The rendered sentence.
    pub message: String,
    /// Whether an exception of the rule would hold, if the workload's guessed role were right.
    pub is_doubted: bool,
    /// Values of the dedupe key, in the order of the rule.
    pub dedupe_key: Vec<String>,
    /// For how long findings with this key are one alert, in nanoseconds of event time.
    pub dedupe_for_ns: u64,
}

impl Finding {
    /// How much it matters: what its rule says, no more than medium where the rule rests on a role
    /// that was guessed, and no more than low where such a role would excuse it.
    pub fn severity(&self) -> Severity {
        if self.is_doubted {
            return self.rule.severity.min(Severity::Low);
        }
        if self.rule.on_role && self.is_role_guessed {
            self.rule.severity.min(Severity::Medium)
        } else {
            self.rule.severity
        }
    }
}
