//! Holds what was seen against what was done.

use anyhow::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Suite;
use super::case::{Case, Fact};
use super::event::{Event, number, text};
use super::play::{Played, is_below};

/// Severities that a person is called for.
const LOUD: &[&str] = &["medium", "high", "critical"];

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Passed,
    Failed,
    Skipped,
}

/// A case with its outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) id: String,
    pub(super) does: String,
    pub(super) state: State,
    pub(super) expected: Vec<String>,
    pub(super) seen: Vec<String>,
    /// What was seen, but said of somebody else.
    pub(super) misattributed: Vec<String>,
    /// What was not seen.
    pub(super) missing: Vec<String>,
    /// Other rules that alerted about the case.
    pub(super) also: Vec<String>,
    pub(super) lost: u64,
    pub(super) seconds: f64,
    /// Why it failed or was not run.
    pub(super) why: String,
    pub(super) scaled: Option<String>,
}

impl Verdict {
    fn new(case: &Case) -> Self {
        let rules = case.expect.rules.iter().map(|rule| format!("rule {rule}"));
        Self {
            id: case.id.clone(),
            does: case.does.clone(),
            state: State::Failed,
            expected: rules.chain(case.expect.events.iter().map(Fact::shown)).collect(),
            seen: Vec::new(),
            misattributed: Vec::new(),
            missing: Vec::new(),
            also: Vec::new(),
            lost: 0,
            seconds: 0.0,
            why: String::new(),
            scaled: case.scaled.clone(),
        }
    }

    /// A case that cannot be run on this host.
    pub(super) fn skipped(case: &Case, why: &str) -> Self {
        Self { state: State::Skipped, why: why.to_owned(), ..Self::new(case) }
    }

    /// A case that could not be played to its end.
    pub(super) fn broken(case: &Case, error: &Error) -> Self {
        Self { why: format!("could not be played: {error:#}"), ..Self::new(case) }
    }

    /// Whether waiting longer changes nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.missing.is_empty() && self.misattributed.is_empty()
    }
}

/// Judges a case.
pub(super) fn judge(case: &Case, played: &Played, suite: Suite) -> Verdict {
    let mut verdict = Verdict { lost: played.lost, seconds: played.seconds, ..Verdict::new(case) };
    if let Some(why) = played.cannot() {
        return Verdict::skipped(case, why);
    }
    for rule in &case.expect.rules {
        judge_rule(rule, played, &mut verdict);
    }
    for fact in &case.expect.events {
        judge_fact(fact, played, &mut verdict);
    }
    let about = |alert: &&crate::demo::Alert| {
        let expected = case.expect.rules.iter().any(|rule| rule == alert.rule());
        !expected && is_about(alert, played)
    };
    let mut loud = Vec::new();
    for alert in played.alerts.iter().filter(about) {
        let also = format!("{} ({})", alert.rule(), alert.severity());
        if LOUD.contains(&alert.severity()) {
            loud.push(format!("{also}: {}", alert.summary()));
        }
        if !verdict.also.contains(&also) {
            verdict.also.push(also);
        }
    }
    let mut reasons = Vec::new();
    if suite == Suite::Benign {
        if !played.events.iter().any(|event| is_of(event, &played.cgroup)) {
            verdict.missing.push("any event of this case".to_owned());
        }
        reasons.extend(loud.iter().map(|alert| format!("alerted: {alert}")));
    }
    let lists = [("not seen", &verdict.missing), ("seen, but", &verdict.misattributed)];
    for (word, list) in lists {
        reasons.extend(list.iter().map(|item| format!("{word} {item}")));
    }
    if verdict.lost > 0 && !case.expect.may_lose {
        reasons.push(format!("{} records were lost", verdict.lost));
    }
    settle(case, &reasons, &mut verdict);
    verdict
}

/// The last word: a known gap is not run in vain, and not forgotten once it is closed.
fn settle(case: &Case, reasons: &[String], verdict: &mut Verdict) {
    match (&case.gap, reasons.is_empty()) {
        (None, true) => verdict.state = State::Passed,
        (None, false) => verdict.why = reasons.join("; "),
        (Some(gap), false) => {
            verdict.state = State::Skipped;
            verdict.why = format!("known gap: {gap} ({})", reasons.join("; "));
        }
        (Some(_), true) => {
            verdict.why.push_str("the gap is closed: take `gap` out of the case");
        }
    }
}

fn judge_rule(rule: &str, played: &Played, verdict: &mut Verdict) {
    let shown = format!("rule {rule}");
    let mut alerts = played.alerts.iter().filter(|alert| alert.rule() == rule).peekable();
    if alerts.peek().is_none() {
        verdict.missing.push(shown);
    } else if alerts.any(|alert| is_about(alert, played)) {
        verdict.seen.push(shown);
    } else {
        let of = played.alerts.iter().find(|alert| alert.rule() == rule);
        let cgroup = of.map_or("", crate::demo::Alert::cgroup);
        verdict.misattributed.push(format!("{shown} is said of `{cgroup}`"));
    }
}

/// By its workload, else by a process that the actors named.
fn is_about(alert: &crate::demo::Alert, played: &Played) -> bool {
    is_below(alert.cgroup(), &played.cgroup)
        || pids(played, None)
            .iter()
            .any(|pid| u32::try_from(*pid).is_ok_and(|pid| alert.names(pid)))
}

fn judge_fact(fact: &Fact, played: &Played, verdict: &mut Verdict) {
    let shown = fact.shown();
    let such: Vec<&Event> = played.events.iter().filter(|event| fact.is(event)).collect();
    let pids = pids(played, fact.by.as_deref());
    let is_by = |event: &&&Event| {
        let here = is_of(event, &played.cgroup);
        let named = number(event, "proc.pid").is_some_and(|pid| pids.contains(&pid));
        (here || fact.elsewhere) && (named || fact.by.is_none() && here)
    };
    let own: Vec<&&Event> = such.iter().filter(is_by).collect();
    let Some(first) = such.first() else {
        verdict.missing.push(shown);
        return;
    };
    if own.is_empty() {
        let pid = number(first, "proc.pid").unwrap_or(0);
        let cgroup = text(first, "workload.cgroup").unwrap_or("?");
        verdict.misattributed.push(format!("{shown} is said of pid {pid} in `{cgroup}`"));
        return;
    }
    if let Some(total) = &fact.total {
        let seen: u64 = own.iter().filter_map(|event| number(event, &total.field)).sum();
        let lines = played.said.iter().filter(|line| line["act"] == total.said.as_str());
        let said: u64 = lines.filter_map(|line| line["bytes"].as_u64()).sum();
        let is_right = if total.at_least { seen >= said } else { seen == said };
        if !is_right || said == 0 {
            verdict.missing.push(format!("{shown}: {seen} of {said} bytes"));
            return;
        }
    }
    verdict.seen.push(shown);
}

/// Whether an event is of the case's cgroup. What a sensor says of itself has no process, and may
/// name a cgroup.
fn is_of(event: &Event, cgroup: &str) -> bool {
    let of = text(event, "workload.cgroup").or_else(|| text(event, "sensor.noisiest_cgroup"));
    of.is_some_and(|path| is_below(path, cgroup))
}

/// Process ids that the actors named, all or those of one act.
fn pids(played: &Played, act: Option<&str>) -> Vec<u64> {
    let is_it = |line: &&Value| act.is_none_or(|act| line["act"] == act);
    played.said.iter().filter(is_it).filter_map(|line| line["pid"].as_u64()).collect()
}
