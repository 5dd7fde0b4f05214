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
