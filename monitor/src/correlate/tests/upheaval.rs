//! The same laws where it is not calm: events that come late, tables that overflow, rules that are
//! loaded again in the middle; and windows that end by themselves against naive models.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

const SPAN: u64 = 20 * SECOND;
const GAP: u64 = 7 * SECOND;

/// A rule for each kind of window and of correlation.
fn rules() -> Vec<Rule> {
    let waited = || vec![RuleId::from("p1"), RuleId::from("sum")];
    let session = Window::Session { gap_ns: GAP, span_max_ns: SPAN };
    let distinct = CorrelationKind::ValueCount(FieldId::NetDstPort);
    vec![
        with_dedupe(sum_rule("sum", sliding(30), 30), 10 * SECOND),
        port_rule("p1", 1),
        sum_rule("tumbling", Window::Tumbling { span_ns: SPAN }, 25),
        correlated("session", CorrelationKind::EventCount, session, |vars| vars.count >= 3),
        correlated("scan", distinct.clone(), sliding(30), |vars| vars.distinct >= 3),
        correlated("scan-session", distinct, session, |vars| vars.distinct >= 2),
        correlated("both", CorrelationKind::Temporal(waited()), sliding(30), |_| true),
        correlated("order", CorrelationKind::TemporalOrdered(waited()), session, |_| true),
    ]
}

/// Tables so small that keys, stretches and values are given up all the time.
fn cramped() -> CorrelateLimits {
    CorrelateLimits {
        keys_per_rule_max: 2,
        cells_per_rule_max: 12,
        values_per_key_max: 2,
        ..CorrelateLimits::default()
    }
}

/// Events of five workloads, up to twelve seconds late: more than is waited for.
fn events() -> impl Strategy<Value = Vec<FactRow>> {
    let event = (0_u64..200, 0_u64..12, 0_u8..5, 0_i64..20, 0_i64..4);
    prop::collection::vec(event, 1..150).prop_map(|mut events| {
        events.sort_by_key(|(at, delay, ..)| at + delay);
        let row = |(at, _, key, bytes, port)| flow(at * SECOND, &format!("w{key}"), bytes, port);
        events.into_iter().map(row).collect()
    })
}

/// What a model says that looks at every event again: for each, a count and a sum.
type Seen = Vec<(i64, i64)>;

/// For each event, what the engine sees over `window`.
fn seen(rows: &[(u64, i64)], window: Window) -> Seen {
    let seen = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&seen);
    let kind = CorrelationKind::ValueSum(FieldId::NetBytesOut);
    let rule = correlated("sum", kind, window, move |vars| {
        sink.lock().unwrap().push((vars.count, vars.sum));
        false
    });
    let facts: Vec<_> = rows.iter().map(|(at, bytes)| flow(*at, "w", *bytes, 1)).collect();
    feed(&mut engine(vec![rule]), &facts);
    seen.lock().unwrap().clone()
}

/// The same where `begins` says of each event whether a window begins with it.
fn naive(rows: &[(u64, i64)], begins: &[bool]) -> Seen {
    (0..rows.len())
        .map(|at| {
            let first = (0..=at).rev().find(|it| begins[*it]).unwrap_or(0);
            let inside = &rows[first..=at];
            (i64::try_from(inside.len()).unwrap(), inside.iter().map(|row| row.1).sum())
        })
        .collect()
}

/// Moments in order, each of its own, few enough for no two to become one stretch.
fn moments() -> impl Strategy<Value = Vec<(u64, i64)>> {
    prop::collection::vec((1_u64..9_000, 0_i64..100), 1..60).prop_map(|steps| {
        let mut at = 0;
        let mut step = |(step_ms, bytes): (u64, i64)| {
            at += step_ms * SECOND / 1_000;
            (at, bytes)
        };
        steps.into_iter().map(&mut step).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn late_events_and_full_tables_are_the_same_in_any_batches(
        rows in events(),
        cuts in prop::collection::vec(0_usize..60, 0..6),
    ) {
        let mut whole = engine_within(rules(), cramped());
        let expected = feed(&mut whole, &rows);
        let mut in_batches = engine_within(rules(), cramped());
        prop_assert_eq!(expected, feed_in_batches(&mut in_batches, &rows, cuts));
        prop_assert_eq!(whole.stats(), in_batches.stats(), "what was given up is counted alike");
    }

    #[test]
    fn rules_loaded_again_in_the_middle_make_no_difference_to_those_that_stay(
        rows in events(),
        cuts in prop::collection::vec((0_usize..60, any::<bool>(), any::<bool>()), 1..5),
    ) {
        let expected = feed(&mut engine_within(rules(), cramped()), &rows);
        let mut reloaded = engine_within(rules(), cramped());
        let (mut findings, mut rest) = (vec![], &rows[..]);
        for (cut, is_backward, has_more) in cuts {
            let (batch, after) = rest.split_at(cut.min(rest.len()));
            findings.extend(feed(&mut reloaded, batch));
            let mut next = rules();
            if has_more {
                next.insert(0, sum_rule("other", sliding(5), 1));
            }
            if is_backward {
                next.reverse();
            }
            reloaded.replace_rules(&next.into_iter().map(Arc::new).collect::<Vec<_>>());
            rest = after;
        }
        findings.extend(feed(&mut reloaded, rest));
        let sorted = |mut findings: Vec<Finding>| {
            findings.retain(|finding| finding.rule.id.as_str() != "other");
            findings.sort_by_key(|f| (f.time, f.message.clone(), f.rule.id.clone()));
            findings
        };
        prop_assert_eq!(sorted(expected), sorted(findings));
    }

    #[test]
    fn session_is_what_lies_between_silences(rows in moments()) {
        let (mut start, mut begins) = (0, Vec::new());
        for (at, (time, _)) in rows.iter().enumerate() {
            let is_new = at == 0 || time - rows[at - 1].0 > GAP || time - start >= SPAN;
            if is_new {
                start = *time;
            }
            begins.push(is_new);
        }
        let window = Window::Session { gap_ns: GAP, span_max_ns: SPAN };
        prop_assert_eq!(seen(&rows, window), naive(&rows, &begins));
    }

    #[test]
    fn tumbling_window_is_what_lies_in_one_span(rows in moments()) {
        let begins: Vec<bool> = (0..rows.len())
            .map(|at| at == 0 || rows[at].0 / SPAN != rows[at - 1].0 / SPAN)
            .collect();
        prop_assert_eq!(seen(&rows, Window::Tumbling { span_ns: SPAN }), naive(&rows, &begins));
    }
}
