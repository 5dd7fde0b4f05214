//! The tests in rule files.

use super::super::{Rehearsal, rehearse};
use super::*;
use crate::rule::spec::{Expectation, RuleTest};

fn expect(count: u32, text: Option<&str>) -> Expectation {
    Expectation { severity: Severity::High, count, message_contains: text.map(Into::into) }
}

fn run(rules: Vec<Rule>, events: Vec<FactRow>, expect: Vec<Expectation>) -> Rehearsal {
    let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
    rehearse(&rules, &rules[0], &RuleTest { name: "t".into(), line: 1, events, expect })
}

#[test]
fn findings_with_one_key_are_one_alert_for_as_long_as_the_rule_says() {
    let rules = vec![with_dedupe(rule("a"), 10 * SECOND)];
    let rows: Vec<_> = [0, 9, 10, 11].map(|s| flow(s * SECOND, "w", 1, 1)).into();
    let result = run(rules, rows, vec![expect(2, None)]);
    assert!(result.is_passed(), "{result:?}");
    assert_eq!(result.alerts.iter().map(|alert| alert.findings).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_missing_alert_and_a_surplus_one_are_told() {
    let result = run(vec![port_rule("a", 9)], vec![flow(0, "w", 1, 1)], vec![expect(1, None)]);
    assert_eq!(result.failures, ["expected 1 high alert, found 0"]);
    let result = run(vec![rule("a")], vec![flow(0, "w", 1, 1)], vec![]);
    assert_eq!(result.failures, ["unexpected high alert: count 0 sum 0"]);
}

#[test]
fn a_message_that_says_something_else_is_no_match() {
    let rows = vec![flow(0, "w", 1, 1)];
    let result = run(vec![rule("a")], rows, vec![expect(1, Some("count 7"))]);
    assert_eq!(
        result.failures,
        [
            "unexpected high alert: count 0 sum 0",
            "expected 1 high alert whose message contains \"count 7\", found 0"
        ]
    );
}

#[test]
fn other_rules_take_part_and_their_alerts_do_not_count() {
    let waited = CorrelationKind::Temporal(vec![RuleId::from("x"), RuleId::from("y")]);
    let rules = vec![
        correlated("both", waited, sliding(60), |_| true),
        port_rule("x", 1),
        port_rule("y", 2),
    ];
    let rows = vec![flow(0, "w", 1, 1), flow(1, "w", 1, 2)];
    assert!(run(rules, rows, vec![expect(1, None)]).is_passed());
}
