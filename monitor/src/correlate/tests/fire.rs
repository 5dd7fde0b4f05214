//! When a rule fires, form by form.

use super::*;

fn sum_over(window: Window, moments: &[(u64, i64)]) -> Vec<(u64, i64)> {
    let rows: Vec<_> = moments.iter().map(|(s, bytes)| flow(s * SECOND, "w", *bytes, 1)).collect();
    let findings = feed(&mut engine(vec![sum_rule("sum", window, 10)]), &rows);
    findings.iter().map(|f| (f.time.0 / SECOND, f.vars.sum)).collect()
}

#[test]
fn every_matching_rule_fires_on_each_match() {
    let rules = vec![rule("a"), rule("b"), port_rule("c", 2)];
    let findings =
        feed(&mut engine(rules), &[flow(SECOND, "w", 1, 1), flow(2 * SECOND, "w", 1, 2)]);
    assert_eq!(fired(&findings), [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 2)]);
}

#[test]
fn a_rule_sees_only_events_of_its_kinds() {
    let mut engine = engine(vec![rule("flow")]);
    let dns = row(&json!({"evt.kind": "dns", "dns.name": "x"}));
    assert_eq!(feed(&mut engine, &[dns]), []);
    assert_eq!(engine.stats().rules[0].seen, 0);
}

#[test]
fn an_exception_silences_and_is_counted() {
    let mut engine = engine(vec![with_exception(rule("a"), 443)]);
    let findings = feed(&mut engine, &[flow(0, "w", 1, 443), flow(SECOND, "w", 1, 80)]);
    assert_eq!(fired(&findings), [("a", 1)]);
    let stats = &engine.stats().rules[0];
    assert_eq!((stats.seen, stats.when, stats.silenced, stats.findings), (2, 2, 1, 1));
}

#[test]
fn a_finding_carries_time_message_and_dedupe_key() {
    let rules = vec![with_dedupe(sum_rule("sum", sliding(60), 10), HOUR)];
    let rows = [flow(SECOND, "w", 4, 1), flow(2 * SECOND, "w", 6, 1)];
    let findings = feed(&mut engine(rules), &rows);
    let [finding] = &findings[..] else { panic!("one finding, not {findings:?}") };
    assert_eq!((finding.first_time.0, finding.time.0), (SECOND, 2 * SECOND));
    assert_eq!(finding.message, "count 2 sum 10");
    assert_eq!((finding.dedupe_key.as_slice(), finding.dedupe_for_ns), (&["w".into()][..], HOUR));
}

#[test]
fn a_sum_fires_when_it_turns_true_and_not_on_each_later_event() {
    assert_eq!(sum_over(sliding(60), &[(1, 6), (2, 6), (3, 6), (4, 6)]), [(2, 12)]);
}

#[test]
fn an_event_leaves_a_sliding_window_after_its_span() {
    assert_eq!(sum_over(sliding(60), &[(0, 6), (60, 6)]), []);
    assert_eq!(sum_over(sliding(60), &[(1, 6), (60, 6)]), [(60, 12)]);
}

#[test]
fn a_late_event_is_judged_in_the_windows_it_would_have_been_in() {
    // In order the sum would have been 12 at second 58; the window of second 62 never holds it.
    assert_eq!(sum_over(sliding(60), &[(0, 6), (62, 1), (58, 6)]), [(58, 12)]);
    assert_eq!(sum_over(sliding(60), &[(0, 6), (90, 1), (58, 6)]), [], "32 seconds late");
}

#[test]
fn a_window_fires_again_after_it_fell_and_rested() {
    assert_eq!(sum_over(sliding(10), &[(0, 10), (20, 1), (21, 10)]), [(0, 10), (21, 11)]);
    assert_eq!(sum_over(sliding(10), &[(0, 10), (20, 10)]), [(0, 10), (20, 10)]);
}

#[test]
fn a_condition_that_flips_does_not_storm() {
    let moments: Vec<(u64, i64)> =
        (0..100).map(|s| (s, if s % 2 == 0 { 10 } else { -10 })).collect();
    // Eleven events in the window: the sum is 10, -10, 10, -10 and so on.
    let fired = sum_over(sliding(11), &moments);
    assert!(fired.len() <= 10, "{fired:?}");
    assert!(fired.len() >= 2, "{fired:?}");
}

#[test]
fn a_condition_that_stays_true_fires_again_after_the_dedupe_time() {
    let rules = vec![with_dedupe(sum_rule("sum", sliding(60), 10), 100 * SECOND)];
    let rows: Vec<_> = (0..25).map(|n| flow(n * 10 * SECOND, "w", 10, 1)).collect();
    let findings = feed(&mut engine(rules), &rows);
    assert_eq!(fired(&findings), [("sum", 0), ("sum", 100), ("sum", 200)]);
}

#[test]
fn keys_do_not_share_a_window() {
    let rows = [flow(0, "a", 6, 1), flow(1, "b", 6, 1), flow(2, "a", 6, 1)];
    let findings = feed(&mut engine(vec![sum_rule("sum", sliding(60), 10)]), &rows);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].time, rows[2].time());
}

#[test]
fn an_event_without_its_key_or_its_value_is_counted_as_unkeyed() {
    let mut engine = engine(vec![sum_rule("sum", sliding(60), 1)]);
    let no_key = row(&json!({"evt.kind": "flow", "net.bytes_out": 5}));
    let no_value = row(&json!({"evt.kind": "flow", "workload.id": "w"}));
    assert_eq!(feed(&mut engine, &[no_key, no_value]), []);
    let stats = &engine.stats().rules[0];
    assert_eq!((stats.unkeyed, stats.keys.created), (2, 0));
}

#[test]
fn a_tumbling_window_starts_anew_at_each_multiple() {
    let window = Window::Tumbling { span_ns: 10 * SECOND };
    assert_eq!(sum_over(window, &[(9, 6), (10, 6)]), []);
    assert_eq!(sum_over(window, &[(11, 6), (12, 6), (13, 6), (21, 10)]), [(12, 12), (21, 10)]);
}

#[test]
fn a_late_event_joins_its_own_tumbling_window() {
    let window = Window::Tumbling { span_ns: 10 * SECOND };
    assert_eq!(sum_over(window, &[(8, 6), (11, 6), (9, 6)]), [(9, 12)]);
    assert_eq!(sum_over(window, &[(8, 6), (18, 6), (9, 6)]), [], "nine seconds late");
}

#[test]
fn a_session_ends_by_silence_or_by_length() {
    let window = Window::Session { gap_ns: 5 * SECOND, span_max_ns: 20 * SECOND };
    assert_eq!(sum_over(window, &[(0, 4), (5, 4), (10, 4)]), [(10, 12)]);
    assert_eq!(sum_over(window, &[(0, 4), (6, 4), (12, 4)]), []);
    let steady: Vec<_> = (0..41).map(|s| (s, 1)).collect();
    assert_eq!(sum_over(window, &steady), [(9, 10), (29, 10)]);
}

#[test]
fn a_late_event_extends_a_session_backwards() {
    let window = Window::Session { gap_ns: 5 * SECOND, span_max_ns: 20 * SECOND };
    assert_eq!(sum_over(window, &[(10, 6), (7, 6)]), [(7, 12)]);
    assert_eq!(sum_over(window, &[(10, 6), (4, 6)]), []);
}

#[test]
fn events_are_counted_whatever_their_value() {
    let rules =
        vec![correlated("count", CorrelationKind::EventCount, sliding(60), |vars| vars.count >= 3)];
    let rows: Vec<_> = (0..3).map(|s| flow(s * SECOND, "w", 0, 1)).collect();
    assert_eq!(fired(&feed(&mut engine(rules), &rows)), [("count", 2)]);
}

#[test]
fn distinct_counts_values_that_were_seen_in_the_window() {
    let kind = CorrelationKind::ValueCount(FieldId::NetDstPort);
    let rules = || vec![correlated("scan", kind.clone(), sliding(10), |vars| vars.distinct >= 3)];
    let rows = |moments: &[(u64, i64)]| -> Vec<_> {
        moments.iter().map(|(s, port)| flow(s * SECOND, "w", 0, *port)).collect()
    };
    let findings = feed(&mut engine(rules()), &rows(&[(0, 1), (1, 1), (2, 2), (3, 3)]));
    assert_eq!(fired(&findings), [("scan", 3)]);
    assert_eq!((findings[0].vars.count, findings[0].vars.distinct), (4, 3));
    let findings = feed(&mut engine(rules()), &rows(&[(0, 1), (6, 2), (12, 3)]));
    assert_eq!(fired(&findings), []);
}

#[test]
fn a_guessed_role_lowers_a_finding_and_hides_none() {
    let server = |guess: bool, at_s: u64, bytes: i64| {
        row(&json!({
            "evt.kind": "flow", "evt.time_ns": at_s * SECOND, "workload.id": "w",
            "workload.role": "inference", "workload.role_inferred": guess, "net.bytes_out": bytes,
        }))
    };
    let rules = || {
        let when = Box::new(|facts: &dyn Facts, _: &_| {
            facts.field(FieldId::WorkloadRole) == Value::Str("inference")
        });
        let exception = Exception { name: "server".into(), when, on_role: true };
        vec![Rule { exceptions: vec![exception], ..sum_rule("sum", sliding(60), 10) }]
    };
    assert_eq!(feed(&mut engine(rules()), &[server(false, 1, 99)]), [], "declared");
    let findings = feed(&mut engine(rules()), &[server(true, 1, 99)]);
    assert_eq!((findings.len(), findings[0].severity()), (1, Severity::Low));
    assert!(findings[0].message.contains("exception `server` holds"), "{}", findings[0].message);
    // What is excused by a guess does not add to what is not.
    let rows = [server(true, 1, 9), flow(2 * SECOND, "w", 9, 1), flow(3 * SECOND, "w", 1, 1)];
    let findings = feed(&mut engine(rules()), &rows);
    assert_eq!(fired(&findings), [("sum", 3)]);
    assert_eq!(findings[0].severity(), Severity::High);
}
