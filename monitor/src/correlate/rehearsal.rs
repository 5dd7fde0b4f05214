//! Runs the tests that stand in a rule's file: the engine over recorded events, and a small dedupe.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::{CorrelateLimits, Engine, Finding, RuleStats};
use crate::model::Severity;
use crate::rule::spec::{Expectation, Rule, RuleTest};

/// What came of one test.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    /// Alerts of the rule, after dedupe, in order of time.
    pub alerts: Vec<RehearsedAlert>,
    /// Each expectation that was not met, and each alert that nobody expected, in words.
    pub failures: Vec<String>,
    /// What the rule saw of the events.
    pub stats: RuleStats,
}

impl Rehearsal {
    /// Whether everything came as expected.
    pub fn is_passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// An alert of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RehearsedAlert {
    /// Its severity.
    pub severity: Severity,
    /// The sentence of its first finding.
    pub message: String,
    /// Findings that it stands for.
    pub findings: u32,
    /// Time of its first finding, in nanoseconds since boot.
    pub time_ns: u64,
}

/// Runs one test of `rule`. All rules of the set take part, since a temporal rule waits for others;
/// only the alerts of `rule` are looked at.
pub fn rehearse(rules: &[Arc<Rule>], rule: &Rule, test: &RuleTest) -> Rehearsal {
    let mut engine = Engine::new(rules, CorrelateLimits::default());
    let mut findings = Vec::new();
    let mut alerts = Vec::new();
    let mut open: HashMap<Vec<String>, usize> = HashMap::new();
    for event in &test.events {
        engine.on_event(event, &mut findings);
        for finding in findings.drain(..).filter(|finding| finding.rule.id == rule.meta.id) {
            merge(finding, &mut alerts, &mut open);
        }
    }
    let stats = engine.stats().rules.into_iter().find(|stats| stats.id == rule.meta.id);
    let failures = compare(&test.expect, &alerts);
    let stats = stats.unwrap_or_else(|| RuleStats::new(rule.meta.id.clone()));
    Rehearsal { alerts, failures, stats }
}

/// Adds a finding to the alert with its key, or makes a new one when that is too old.
fn merge(
    finding: Finding,
    alerts: &mut Vec<RehearsedAlert>,
    open: &mut HashMap<Vec<String>, usize>,
) {
    let known = open.get(&finding.dedupe_key).and_then(|at| alerts.get_mut(*at));
    if let Some(alert) = known
        && finding.time.0.abs_diff(alert.time_ns) < finding.dedupe_for_ns
    {
        alert.findings = alert.findings.saturating_add(1);
        return;
    }
    let severity = finding.severity();
    open.insert(finding.dedupe_key, alerts.len());
    alerts.push(RehearsedAlert {
        severity,
        message: finding.message,
        findings: 1,
        time_ns: finding.time.0,
    });
}

/// Gives each alert to the first expectation that it meets and that is not full. What is left on
/// either side is a failure.
fn compare(expect: &[Expectation], alerts: &[RehearsedAlert]) -> Vec<String> {
    let mut found = vec![0_u32; expect.len()];
    let mut failures = Vec::new();
    for alert in alerts {
        let fits = |(at, wanted): &(usize, &Expectation)| {
            found[*at] < wanted.count && meets(alert, wanted)
        };
        let taken = expect.iter().enumerate().find(fits).map(|(at, _)| at);
        match taken {
            Some(at) => found[at] += 1,
            None => failures.push(format!(
                "unexpected {} alert: {}",
                alert.severity.as_str(),
                alert.message
            )),
        }
    }
    for (wanted, found) in expect.iter().zip(found).filter(|(wanted, found)| *found < wanted.count)
    {
        failures.push(format!("expected {}, found {found}", words(wanted)));
    }
    failures
}

fn meets(alert: &RehearsedAlert, wanted: &Expectation) -> bool {
    let says = |text: &String| alert.message.contains(text.as_str());
    alert.severity == wanted.severity && wanted.message_contains.as_ref().is_none_or(says)
}

fn words(wanted: &Expectation) -> String {
    let Expectation { severity, count, message_contains } = wanted;
    let alerts = if *count == 1 { "alert" } else { "alerts" };
    let with = message_contains.as_ref().map(|text| format!(" whose message contains {text:?}"));
    format!("{count} {} {alerts}{}", severity.as_str(), with.unwrap_or_default())
}
