//! Rules that wait for other rules.

use super::*;

fn ids(names: &[&str]) -> Vec<RuleId> {
    names.iter().map(|name| RuleId::from(*name)).collect()
}

fn both(kind: fn(Vec<RuleId>) -> CorrelationKind) -> Vec<Rule> {
    vec![
        correlated("both", kind(ids(&["a", "b"])), sliding(10), |_| true),
        port_rule("a", 1),
        port_rule("b", 2),
    ]
}

fn moments(kind: fn(Vec<RuleId>) -> CorrelationKind, rows: &[(u64, &str, i64)]) -> Vec<u64> {
    let rows: Vec<_> = rows.iter().map(|(s, key, port)| flow(s * SECOND, key, 0, *port)).collect();
    let findings = feed(&mut engine(both(kind)), &rows);
    findings.iter().filter(|f| f.rule.id.as_str() == "both").map(|f| f.time.0 / SECOND).collect()
}

#[test]
fn a_temporal_rule_fires_when_all_have_matched_in_any_order() {
    assert_eq!(moments(CorrelationKind::Temporal, &[(0, "w", 1), (3, "w", 2)]), [3]);
    assert_eq!(moments(CorrelationKind::Temporal, &[(0, "w", 2), (3, "w", 1)]), [3]);
    assert_eq!(moments(CorrelationKind::Temporal, &[(0, "w", 1), (3, "w", 1)]), [0_u64; 0]);
}

#[test]
fn a_temporal_rule_needs_one_key_and_one_window() {
    assert_eq!(moments(CorrelationKind::Temporal, &[(0, "v", 1), (3, "w", 2)]), [0_u64; 0]);
    assert_eq!(moments(CorrelationKind::Temporal, &[(0, "w", 1), (10, "w", 2)]), [0_u64; 0]);
}

#[test]
fn an_ordered_rule_fires_only_in_order() {
    assert_eq!(moments(CorrelationKind::TemporalOrdered, &[(0, "w", 1), (3, "w", 2)]), [3]);
    assert_eq!(moments(CorrelationKind::TemporalOrdered, &[(0, "w", 2), (3, "w", 1)]), [0_u64; 0]);
}

#[test]
fn a_late_match_completes_an_order() {
    let late = [(3, "w", 2), (1, "w", 1)];
    assert_eq!(moments(CorrelationKind::TemporalOrdered, &late), [1]);
    let after = [(3, "w", 2), (4, "w", 1)];
    assert_eq!(moments(CorrelationKind::TemporalOrdered, &after), [0_u64; 0]);
}

#[test]
fn a_temporal_rule_may_wait_for_a_sum() {
    let rules = vec![
        correlated("both", CorrelationKind::Temporal(ids(&["sum", "b"])), sliding(60), |_| true),
        sum_rule("sum", sliding(60), 10),
        port_rule("b", 2),
    ];
    let rows = [flow(0, "w", 6, 2), flow(SECOND, "w", 6, 1)];
    let findings = feed(&mut engine(rules), &rows);
    assert_eq!(fired(&findings), [("b", 0), ("sum", 1), ("both", 1)]);
    assert_eq!(findings[2].first_time.0, 0);
}

#[test]
fn an_event_that_several_rules_match_counts_for_all_of_them_at_once() {
    let waits =
        |id| correlated(id, CorrelationKind::Temporal(ids(&["x", "y"])), sliding(60), |_| true);
    let rules = vec![waits("one"), waits("two"), port_rule("y", 2), rule("x")];
    let findings = feed(&mut engine(rules), &[flow(0, "w", 0, 1), flow(SECOND, "w", 0, 2)]);
    let waited: Vec<_> = findings.iter().filter(|f| f.vars.count > 0).collect();
    assert_eq!(waited.iter().map(|f| f.vars.count).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn a_silenced_rule_completes_nothing() {
    let mut rules = both(CorrelationKind::Temporal);
    let silenced = with_exception(rules.remove(1), 1);
    rules.push(silenced);
    let rows = [flow(0, "w", 0, 1), flow(SECOND, "w", 0, 2)];
    assert_eq!(fired(&feed(&mut engine(rules), &rows)), [("b", 1)]);
}

#[test]
fn rules_that_wait_for_each_other_never_fire_and_never_loop() {
    let waits = |id: &str, other: &str| {
        correlated(id, CorrelationKind::Temporal(ids(&[other, "a"])), sliding(60), |_| true)
    };
    let rules = vec![waits("x", "y"), waits("y", "x"), port_rule("a", 1)];
    let rows = [flow(0, "w", 0, 1), flow(SECOND, "w", 0, 1)];
    assert_eq!(fired(&feed(&mut engine(rules), &rows)), [("a", 0), ("a", 1)]);
}

#[test]
fn a_temporal_rule_that_waits_for_a_missing_rule_stays_silent() {
    let kind = CorrelationKind::Temporal(ids(&["a", "gone"]));
    let rules = vec![correlated("both", kind, sliding(60), |_| true), port_rule("a", 1)];
    assert_eq!(fired(&feed(&mut engine(rules), &[flow(0, "w", 0, 1)])), [("a", 0)]);
}

/// As [`port_rule`], excused for servers.
fn excused(id: &str, port: i64) -> Rule {
    let when = Box::new(|facts: &dyn Facts, _: &_| {
        facts.field(FieldId::WorkloadRole) == Value::Str("inference")
    });
    let exception = Exception { name: "server".into(), when, on_role: true };
    Rule { exceptions: vec![exception], ..port_rule(id, port) }
}

/// A flow of a workload that is taken for a server, rightly or by a guess.
fn server(at_s: u64, port: i64, guess: bool) -> FactRow {
    row(&json!({
        "evt.kind": "flow", "evt.time_ns": at_s * SECOND, "workload.id": "w",
        "workload.role": "inference", "workload.role_inferred": guess, "net.dst.port": port,
    }))
}

/// Seconds and severities of a rule that waits for `a` and `b`; `b` is excused for servers.
fn waited(
    kind: fn(Vec<RuleId>) -> CorrelationKind,
    rows: &[FactRow],
) -> Vec<(u64, Severity, bool)> {
    let rules = vec![
        correlated("both", kind(ids(&["a", "b"])), sliding(60), |_| true),
        port_rule("a", 1),
        excused("b", 2),
    ];
    let found = feed(&mut engine(rules), rows);
    let both = found.iter().filter(|finding| finding.rule.id.as_str() == "both");
    both.map(|it| (it.time.0 / SECOND, it.severity(), it.is_doubted)).collect()
}

#[test]
fn a_doubtful_match_completes_a_temporal_rule_with_doubt() {
    for kind in [CorrelationKind::Temporal, CorrelationKind::TemporalOrdered] {
        // In either order of sure and doubtful: the guess may be made in between.
        let sure_first = [flow(0, "w", 0, 1), server(3, 2, true)];
        assert_eq!(waited(kind, &sure_first), [(3, Severity::Low, true)]);
        assert_eq!(waited(kind, &[server(0, 1, true), server(3, 2, true)]).len(), 1);
        let declared = [server(0, 1, false), server(3, 2, false)];
        assert_eq!(waited(kind, &declared), [], "declared: the exception holds");
    }
    let doubtful_first = [server(0, 2, true), flow(3 * SECOND, "w", 0, 1)];
    assert_eq!(waited(CorrelationKind::Temporal, &doubtful_first), [(3, Severity::Low, true)]);
}

#[test]
fn a_sure_match_is_told_once_and_not_lowered_by_a_doubtful_one() {
    let kind = CorrelationKind::Temporal;
    let sure = [flow(0, "w", 0, 1), flow(SECOND, "w", 0, 2)];
    assert_eq!(waited(kind, &sure), [(1, Severity::High, false)]);
    let after = [server(0, 2, true), server(1, 1, true), flow(2 * SECOND, "w", 0, 2)];
    assert_eq!(waited(kind, &after), [(1, Severity::Low, true), (2, Severity::High, false)]);
    let before = [sure[0].clone(), sure[1].clone(), server(2, 2, true)];
    assert_eq!(waited(kind, &before), [(1, Severity::High, false)], "it is known already");
}

#[test]
fn doubt_goes_through_rules_that_wait_for_rules() {
    let chain = |id: &str, other: &str| {
        correlated(id, CorrelationKind::Temporal(ids(&[other, "a"])), sliding(60), |_| true)
    };
    let rules = vec![chain("far", "near"), chain("near", "b"), port_rule("a", 1), excused("b", 2)];
    let found = feed(&mut engine(rules), &[server(0, 1, true), server(1, 2, true)]);
    let told: Vec<_> = found.iter().map(|it| (it.rule.id.as_str(), it.severity())).collect();
    let low = |id| (id, Severity::Low);
    assert_eq!(told, [("a", Severity::High), low("b"), low("near"), low("far")]);
}

#[test]
fn what_follows_from_a_guessed_role_is_as_little_sure_as_the_guess() {
    let waits = |id: &str, other: &str| {
        format!(
            "- {{id: {id}, title: t, severity: high, message: m, correlate: {{type: temporal, \
             rules: [{other}, plain], group_by: [workload.id], \
             window: {{kind: sliding, span: 1m}}}}}}\n"
        )
    };
    let asks = |id: &str, when: &str| {
        format!(
            "- {{id: {id}, title: t, severity: high, on: [flow], message: m, when: '{when}'}}\n"
        )
    };
    let rules = [
        waits("far", "near"),
        waits("near", "served"),
        asks("served", "workload.role == \"inference\""),
        asks("plain", "net.dst.port == 1"),
    ];
    let text = format!("apiVersion: gpuwarden.dev/v1\nrules:\n{}", rules.concat());
    let source = crate::rule::Source { name: "a.yaml".into(), text, dir: None, untested: true };
    let set = crate::rule::RuleSet::load(&[source]).unwrap_or_else(|found| panic!("{found}"));
    for (guess, severity) in [(true, Severity::Medium), (false, Severity::High)] {
        let mut engine = Engine::new(&set.rules, CorrelateLimits::default());
        let found = feed(&mut engine, &[server(0, 1, guess)]);
        let told: Vec<_> = found.iter().map(|it| (it.rule.id.as_str(), it.severity())).collect();
        let plain = ("plain", Severity::High);
        let rest = ["served", "near", "far"].map(|id| (id, severity));
        assert_eq!(told, [rest[0], plain, rest[1], rest[2]], "{guess}");
    }
}
