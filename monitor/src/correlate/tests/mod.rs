//! Laws of correlation, over rules built by hand.

mod baseline;
mod bound;
mod fire;
mod index;
mod law;
mod rehearsal;
mod restart;
mod temporal;
mod upheaval;

use std::sync::Arc;

use serde_json::json;

use super::{CorrelateLimits, Engine, Finding};
use crate::model::{EventKind, FactRow, Facts, FieldId, KindSet, RuleId, Severity, Value};
use crate::rule::spec::{
    Correlation, CorrelationKind, Dedupe, Exception, Rule, RuleMeta, Tags, Window,
};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const HOUR: u64 = 3_600 * SECOND;

/// A flow of `bytes` at `at_ns` by `workload` to port `port`.
pub(super) fn flow(at_ns: u64, workload: &str, bytes: i64, port: i64) -> FactRow {
    row(&json!({
        "evt.kind": "flow", "evt.time_ns": at_ns, "workload.id": workload,
        "net.bytes_out": bytes, "net.dst.port": port,
    }))
}

pub(super) fn row(object: &serde_json::Value) -> FactRow {
    FactRow::from_json(object.as_object().unwrap()).unwrap()
}

/// A rule that matches every flow, fires on each, and never merges.
pub(super) fn rule(id: &str) -> Rule {
    Rule {
        meta: Arc::new(RuleMeta {
            id: RuleId::from(id),
            version: "000000000001".into(),
            title: id.into(),
            severity: Severity::High,
            alerts: true,
            on_role: false,
            tags: Tags::default(),
            false_positives: vec![],
            runbook: String::new(),
            source: "test".into(),
        }),
        kinds: KindSet::of(&[EventKind::Flow]),
        fields: vec![],
        guards: vec![],
        parts: vec![],
        when: Box::new(|_, _| true),
        exceptions: vec![],
        correlation: None,
        dedupe: Dedupe::default(),
        message: Box::new(|_, vars| format!("count {} sum {}", vars.count, vars.sum)),
        tests: vec![],
    }
}

/// A rule that sums `net.bytes_out` per workload and fires at `sum_min`.
pub(super) fn sum_rule(id: &str, window: Window, sum_min: i64) -> Rule {
    correlated(id, CorrelationKind::ValueSum(FieldId::NetBytesOut), window, move |vars| {
        vars.sum >= sum_min
    })
}

pub(super) fn correlated(
    id: &str,
    kind: CorrelationKind,
    window: Window,
    condition: impl Fn(&crate::rule::spec::Vars) -> bool + Send + Sync + 'static,
) -> Rule {
    Rule {
        correlation: Some(Correlation {
            kind,
            group_by: vec![FieldId::WorkloadId],
            window,
            condition: Some(Box::new(move |_, vars| condition(vars))),
        }),
        ..rule(id)
    }
}

/// A rule that matches flows to `port`.
pub(super) fn port_rule(id: &str, port: i64) -> Rule {
    Rule {
        when: Box::new(move |facts, _| facts.field(FieldId::NetDstPort) == Value::Int(port)),
        ..rule(id)
    }
}

pub(super) fn with_dedupe(rule: Rule, for_ns: u64) -> Rule {
    Rule { dedupe: Dedupe { key: vec![FieldId::WorkloadId], for_ns }, ..rule }
}

pub(super) fn with_exception(rule: Rule, port: i64) -> Rule {
    let when = Box::new(move |facts: &dyn Facts, _: &_| {
        facts.field(FieldId::NetDstPort) == Value::Int(port)
    });
    Rule { exceptions: vec![Exception { name: "port".into(), when, on_role: false }], ..rule }
}

pub(super) fn sliding(seconds: u64) -> Window {
    Window::Sliding { span_ns: seconds * SECOND }
}

pub(super) fn engine(rules: Vec<Rule>) -> Engine {
    engine_within(rules, CorrelateLimits::default())
}

pub(super) fn engine_within(rules: Vec<Rule>, limits: CorrelateLimits) -> Engine {
    let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
    Engine::new(&rules, limits)
}

pub(super) fn feed(engine: &mut Engine, rows: &[FactRow]) -> Vec<Finding> {
    let mut out = vec![];
    for row in rows {
        engine.on_event(row, &mut out);
    }
    out
}

/// What `feed` gives in batches of `cuts` rows and a rest. Between them is done what a daemon does
/// between batches: it looks at the counts and writes a snapshot.
pub(super) fn feed_in_batches(
    engine: &mut Engine,
    rows: &[FactRow],
    cuts: Vec<usize>,
) -> Vec<Finding> {
    let (mut findings, mut rest) = (vec![], rows);
    for cut in cuts {
        let (batch, after) = rest.split_at(cut.min(rest.len()));
        findings.extend(feed(engine, batch));
        let _ = (engine.stats(), engine.snapshot("boot"));
        rest = after;
    }
    findings.extend(feed(engine, rest));
    findings
}

/// Rule ids and whole seconds of the findings.
pub(super) fn fired(findings: &[Finding]) -> Vec<(&str, u64)> {
    findings.iter().map(|f| (f.rule.id.as_str(), f.time.0 / SECOND)).collect()
}
