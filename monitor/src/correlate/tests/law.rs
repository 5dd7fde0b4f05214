//! Same events in, same findings out; and sums are what a naive model says.

use std::collections::BTreeSet;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

const SPAN: u64 = 60;
const LATENESS: u64 = 5;

fn rules() -> Vec<Rule> {
    let waited = CorrelationKind::TemporalOrdered(vec![RuleId::from("p1"), RuleId::from("sum")]);
    vec![
        with_dedupe(sum_rule("sum", sliding(SPAN), 40), 30 * SECOND),
        port_rule("p1", 1),
        correlated("order", waited, sliding(SPAN), |_| true),
        correlated(
            "scan",
            CorrelationKind::ValueCount(FieldId::NetDstPort),
            Window::Tumbling { span_ns: 20 * SECOND },
            |vars| vars.distinct >= 3,
        ),
    ]
}

fn events() -> impl Strategy<Value = Vec<FactRow>> {
    let event = (0_u64..300, 0_u8..3, 0_i64..20, 0_i64..5);
    prop::collection::vec(event, 1..150).prop_map(|mut events| {
        events.sort_unstable();
        let row = |(at, key, bytes, port)| flow(at * SECOND, &format!("w{key}"), bytes, port);
        events.into_iter().map(row).collect()
    })
}

/// For each event, in time order, the sum over `(t - span, t]`, by looking at every other event.
fn naive_sums(rows: &[(u64, i64)], span: u64) -> Vec<i64> {
    let is_in = |at: u64, t: u64| at <= t && at + span > t;
    let sum_at = |t: u64| rows.iter().filter(|(at, _)| is_in(*at, t)).map(|row| row.1).sum();
    rows.iter().map(|(t, _)| sum_at(*t)).collect()
}

/// For each event, the sum that the engine sees over `window`; times in nanoseconds.
fn seen_sums(rows: &[(u64, i64)], window: Window) -> Vec<i64> {
    let seen = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&seen);
    let kind = CorrelationKind::ValueSum(FieldId::NetBytesOut);
    let rule = correlated("sum", kind, window, move |vars| {
        sink.lock().unwrap().push(vars.sum);
        false
    });
    let facts: Vec<_> = rows.iter().map(|(at, bytes)| flow(*at, "w", *bytes, 1)).collect();
    feed(&mut engine(vec![rule]), &facts);
    seen.lock().unwrap().clone()
}

/// Keys that fired, for rows of second, delay, workload and bytes.
fn fired_keys(rows: &[(u64, u64, u8, i64)]) -> BTreeSet<Vec<String>> {
    let row = |(at, _, key, bytes): &(u64, u64, u8, i64)| {
        flow(at * SECOND, &format!("w{key}"), *bytes, 1)
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let rule = with_dedupe(sum_rule("sum", sliding(SPAN), 60), HOUR);
    feed(&mut engine(vec![rule]), &rows).into_iter().map(|finding| finding.dedupe_key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn batches_make_no_difference(
        rows in events(),
        cuts in prop::collection::vec(0_usize..150, 0..6),
    ) {
        let whole = feed(&mut engine(rules()), &rows);
        prop_assert_eq!(whole, feed_in_batches(&mut engine(rules()), &rows, cuts));
    }

    #[test]
    fn the_order_of_rules_makes_no_difference(rows in events()) {
        let sorted = |mut findings: Vec<Finding>| {
            findings.sort_by_key(|f| (f.time, f.message.clone(), f.rule.id.clone()));
            findings
        };
        let forward = feed(&mut engine(rules()), &rows);
        let backward = feed(&mut engine(rules().into_iter().rev().collect()), &rows);
        prop_assert_eq!(sorted(forward), sorted(backward));
    }

    /// Where no moment must be merged (at most 64 in the window), every sum is exact.
    #[test]
    fn a_sparse_sliding_sum_equals_the_naive_model(
        mut rows in prop::collection::vec((0_u64..400, 0_i64..100), 1..120),
    ) {
        rows.sort_by_key(|row| row.0);
        // What is retained is the window and the lateness: 60 whole seconds, fewer than stretches.
        let span = SPAN - LATENESS;
        for row in &mut rows {
            row.0 *= SECOND;
        }
        let seen = seen_sums(&rows, sliding(span));
        // Of events at one moment, the last sees them all.
        let expected = naive_sums(&rows, span * SECOND);
        let is_last = |at: &usize| rows.get(at + 1).is_none_or(|next| next.0 > rows[*at].0);
        for at in (0..rows.len()).filter(is_last) {
            prop_assert_eq!(seen[at], expected[at]);
        }
    }

    /// A dense window never falls short, and reaches back one grain (1/31) too far at most.
    #[test]
    fn a_dense_sliding_sum_lies_between_the_span_and_the_span_and_a_grain(
        steps in prop::collection::vec((1_u64..900, 0_i64..100), 200..600),
    ) {
        let mut at = 0;
        let rows: Vec<(u64, i64)> = steps
            .into_iter()
            .map(|(step_ms, bytes)| {
                at += step_ms * SECOND / 1_000;
                (at, bytes)
            })
            .collect();
        let span = SPAN * SECOND;
        let grain = (span + LATENESS * SECOND).div_ceil(31);
        let (low, high) = (naive_sums(&rows, span), naive_sums(&rows, span + grain));
        for (at, sum) in seen_sums(&rows, sliding(SPAN)).iter().enumerate() {
            let (low, high) = (low[at], high[at]);
            prop_assert!((low..=high).contains(sum), "{} not in {}..={}", sum, low, high);
        }
    }

    /// Events that overtake each other by no more than the lateness fire for the same keys.
    #[test]
    fn a_shuffle_within_the_lateness_fires_for_the_same_keys(
        rows in prop::collection::vec((0_u64..300, 0_u64..5_000, 0_u8..3, 0_i64..20), 1..60),
    ) {
        let mut in_order = rows.clone();
        in_order.sort_unstable();
        let mut as_arrived = rows;
        as_arrived.sort_by_key(|(at, delay_ms, ..)| at * 1_000 + delay_ms);
        prop_assert_eq!(fired_keys(&in_order), fired_keys(&as_arrived));
    }
}
