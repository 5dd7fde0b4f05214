//! Nothing grows without a ceiling, and the sums balance.

use proptest::prelude::*;

use super::super::limit::STRETCHES_PER_KEY_MAX;
use super::*;

fn tight() -> CorrelateLimits {
    CorrelateLimits {
        keys_per_rule_max: 8,
        cells_per_rule_max: 100,
        values_per_key_max: 4,
        ..CorrelateLimits::default()
    }
}

fn all_forms() -> Vec<Rule> {
    let ports = CorrelationKind::ValueCount(FieldId::NetDstPort);
    let session = Window::Session { gap_ns: SECOND, span_max_ns: 60 * SECOND };
    let waited = CorrelationKind::Temporal(vec![RuleId::from("sum"), RuleId::from("count")]);
    vec![
        sum_rule("sum", sliding(30), 50),
        correlated("count", CorrelationKind::EventCount, session, |vars| vars.count > 3),
        correlated("scan", ports.clone(), sliding(20), |vars| vars.distinct > 2),
        correlated("tumble", ports, Window::Tumbling { span_ns: 10 * SECOND }, |vars| {
            vars.distinct > 2
        }),
        correlated("both", waited, sliding(60), |_| true),
    ]
}

#[test]
fn the_least_recently_used_key_goes_first() {
    let limits = CorrelateLimits { keys_per_rule_max: 2, ..CorrelateLimits::default() };
    let mut engine = engine_within(vec![sum_rule("sum", sliding(60), 10)], limits);
    let rows = ["a", "b", "a", "c", "b"].map(|key| flow(0, key, 5, 1));
    // `a` was used after `b`, so `c` pushes `b` out, and `b` starts again from nothing.
    let findings = feed(&mut engine, &rows);
    assert_eq!(findings.iter().map(|f| f.vars.sum).collect::<Vec<_>>(), [10]);
    let keys = engine.stats().rules[0].keys;
    assert_eq!((keys.live, keys.created, keys.evicted, keys.expired), (2, 4, 2, 0));
}

#[test]
fn a_key_whose_windows_are_empty_expires() {
    let mut engine = engine(vec![sum_rule("sum", sliding(10), 100)]);
    feed(&mut engine, &[flow(0, "a", 1, 1), flow(60 * SECOND, "b", 1, 1)]);
    let keys = engine.stats().rules[0].keys;
    assert_eq!((keys.live, keys.expired, keys.evicted), (1, 1, 0));
}

#[test]
fn a_dense_window_takes_no_more_than_its_stretches() {
    let mut engine = engine(vec![sum_rule("sum", sliding(86_400), i64::MAX)]);
    let rows: Vec<_> = (0..20_000).map(|n| flow(n * 7 * SECOND, "w", 1, 1)).collect();
    feed(&mut engine, &rows);
    assert!(engine.stats().rules[0].keys.cells <= STRETCHES_PER_KEY_MAX);
}

#[test]
fn cells_are_bounded_over_all_keys_of_a_rule() {
    let mut engine = engine_within(vec![sum_rule("sum", sliding(3_600), 1_000)], tight());
    for key in ["a", "b", "c", "d"] {
        let rows: Vec<_> = (0..40).map(|s| flow(s * SECOND, key, 1, 1)).collect();
        feed(&mut engine, &rows);
    }
    let keys = engine.stats().rules[0].keys;
    assert_eq!((keys.cells, keys.live, keys.evicted), (80, 2, 2), "40 cells a key, 100 at most");
}

#[test]
fn distinct_saturates_at_its_bound_and_counts_what_it_dropped() {
    let kind = CorrelationKind::ValueCount(FieldId::NetDstPort);
    let rules = vec![correlated("scan", kind, sliding(60), |vars| vars.distinct > 4)];
    let mut engine = engine_within(rules, tight());
    let rows: Vec<_> = (0..10).map(|port| flow(SECOND, "w", 0, port)).collect();
    assert_eq!(feed(&mut engine, &rows), []);
    assert_eq!(engine.stats().rules[0].keys.values_dropped, 6);
}

#[test]
fn a_long_key_is_cut_and_not_lost() {
    let mut engine = engine(vec![sum_rule("sum", sliding(60), 10)]);
    let long = "é".repeat(100_000);
    let findings = feed(&mut engine, &[flow(0, &long, 5, 1), flow(1, &long, 5, 1)]);
    assert_eq!(findings.len(), 1);
}

#[test]
fn a_sum_beyond_its_type_saturates() {
    let mut engine = engine(vec![sum_rule("sum", sliding(60), i64::MAX)]);
    let rows = [flow(0, "w", i64::MAX, 1), flow(1, "w", i64::MAX, 1), flow(1, "w", i64::MAX, 1)];
    let findings = feed(&mut engine, &rows);
    assert_eq!(findings.iter().map(|f| f.vars.sum).collect::<Vec<_>>(), [i64::MAX]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_is_bounded_and_evictions_balance_under_random_keys(
        events in prop::collection::vec((any::<u16>(), 0_u64..90, 0_u8..40, 0_i64..9), 1..400),
    ) {
        let mut engine = engine_within(all_forms(), tight());
        for (jump, at, key, port) in events {
            let at = at * SECOND + u64::from(jump) * 1_000;
            feed(&mut engine, &[flow(at, &format!("w{key}"), port * 3, port)]);
            for stats in engine.stats().rules {
                let keys = stats.keys;
                prop_assert!(keys.live <= tight().keys_per_rule_max);
                prop_assert!(keys.cells <= tight().cells_per_rule_max.max(STRETCHES_PER_KEY_MAX));
                prop_assert_eq!(
                    keys.created + keys.restored,
                    keys.live as u64 + keys.evicted + keys.expired
                );
                prop_assert!(stats.findings <= stats.matches);
                prop_assert!(stats.matches <= stats.when - stats.silenced);
            }
        }
    }

    #[test]
    fn any_times_at_all_are_survived(
        events in prop::collection::vec((any::<u64>(), any::<i64>(), 0_u8..3), 1..60),
    ) {
        let mut engine = engine_within(all_forms(), tight());
        for (at, bytes, key) in events {
            feed(&mut engine, &[flow(at, &format!("w{key}"), bytes, bytes)]);
        }
    }
}
