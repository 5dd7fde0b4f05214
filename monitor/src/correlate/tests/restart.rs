//! Windows over reloads and restarts.

use proptest::prelude::*;

use super::super::{Snapshot, SnapshotError};
use super::*;

fn long_rules() -> Vec<Rule> {
    let ports = CorrelationKind::ValueCount(FieldId::NetDstPort);
    let waited = CorrelationKind::TemporalOrdered(vec![RuleId::from("p1"), RuleId::from("sum")]);
    vec![
        with_dedupe(sum_rule("sum", sliding(86_400), 400), HOUR),
        correlated("scan", ports, sliding(7_200), |vars| vars.distinct >= 4),
        port_rule("p1", 1),
        correlated("order", waited, sliding(86_400), |_| true),
        correlated(
            "session",
            CorrelationKind::EventCount,
            Window::Session { gap_ns: HOUR, span_max_ns: 24 * HOUR },
            |vars| vars.count >= 5,
        ),
    ]
}

fn through_disk(engine: &Engine) -> Snapshot {
    let text = serde_json::to_string(&engine.snapshot("boot")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn only_long_windows_are_written() {
    let rules = vec![sum_rule("short", sliding(600), 10), sum_rule("long", sliding(3_600), 10)];
    let mut engine = engine(rules);
    feed(&mut engine, &[flow(0, "w", 5, 1)]);
    let text = serde_json::to_string(&engine.snapshot("boot")).unwrap();
    assert!(text.contains(r#""long""#) && !text.contains(r#""short""#), "{text}");
}

#[test]
fn a_snapshot_of_another_boot_or_format_is_refused() {
    let snapshot = engine(long_rules()).snapshot("monday");
    let mut after = engine(long_rules());
    let error = after.restore(snapshot.clone(), "tuesday").unwrap_err();
    assert_eq!(
        error.to_string(),
        "window snapshot is from boot monday, the host is in boot tuesday; windows start empty"
    );
    let mut other = serde_json::to_value(snapshot).unwrap();
    other["format"] = json!(9);
    let error = after.restore(serde_json::from_value(other).unwrap(), "monday").unwrap_err();
    assert_eq!(error, SnapshotError::Format { found: 9 });
}

#[test]
fn a_changed_rule_starts_empty() {
    let mut before = engine(vec![sum_rule("sum", sliding(3_600), 10)]);
    feed(&mut before, &[flow(0, "w", 5, 1)]);
    let mut changed = sum_rule("sum", sliding(3_600), 10);
    Arc::get_mut(&mut changed.meta).unwrap().version = "000000000002".into();
    let mut after = engine(vec![changed]);
    let restored = after.restore(through_disk(&before), "boot").unwrap();
    assert_eq!((restored.keys, restored.outdated, restored.refused), (0, 1, 0));
    assert_eq!(feed(&mut after, &[flow(1, "w", 5, 1)]), []);
}

#[test]
fn a_key_that_is_not_sound_is_refused() {
    let rules = || vec![sum_rule("sum", sliding(3_600), 10)];
    let mut before = engine(rules());
    feed(&mut before, &[flow(0, "w", 5, 1)]);
    let stretch =
        |first: u64, last: u64| json!({"first": first, "last": last, "count": 1, "sum": 5});
    for (field, wrong) in [
        ("histories", json!([])),
        ("histories", json!([[stretch(9, 8)]])),
        ("histories", json!([[stretch(1, 3), stretch(2, 4)]])),
        ("newest", json!(SECOND)),
        ("edge", json!({"fired_at": SECOND, "fired_window": null, "holds": false})),
    ] {
        let mut snapshot = serde_json::to_value(before.snapshot("boot")).unwrap();
        snapshot["rules"][0]["keys"][0][1][field] = wrong.clone();
        let mut after = engine(rules());
        let restored = after.restore(serde_json::from_value(snapshot).unwrap(), "boot").unwrap();
        assert_eq!((restored.keys, restored.refused), (0, 1), "{field}: {wrong}");
        assert_eq!(feed(&mut after, &[flow(1, "w", 5, 1)]), []);
    }
}

#[test]
fn a_snapshot_is_bounded_and_says_what_it_left_out() {
    let limits = CorrelateLimits { snapshot_keys_max: 3, ..CorrelateLimits::default() };
    let mut engine = engine_within(vec![sum_rule("sum", sliding(3_600), 10)], limits);
    let rows: Vec<_> = (0..5).map(|n| flow(n, &format!("w{n}"), 1, 1)).collect();
    feed(&mut engine, &rows);
    let snapshot = engine.snapshot("boot");
    assert_eq!(snapshot.left_out, 2);
    let text = serde_json::to_string(&snapshot).unwrap();
    assert!(text.contains("w4") && !text.contains("w0"), "the most recently used are kept: {text}");
}

#[test]
fn a_reload_keeps_the_windows_of_unchanged_rules() {
    let kept = Arc::new(sum_rule("kept", sliding(60), 10));
    let mut changed = sum_rule("changed", sliding(60), 10);
    let mut engine = Engine::new(
        &[Arc::clone(&kept), Arc::new(sum_rule("changed", sliding(60), 10))],
        CorrelateLimits::default(),
    );
    feed(&mut engine, &[flow(0, "w", 6, 1)]);
    Arc::get_mut(&mut changed.meta).unwrap().version = "000000000002".into();
    // Loaded again: the same text makes another value.
    let reloaded = Arc::new(sum_rule("kept", sliding(60), 10));
    engine.replace_rules(&[Arc::new(changed), Arc::new(rule("new")), reloaded]);
    let findings = feed(&mut engine, &[flow(SECOND, "w", 6, 1)]);
    assert_eq!(fired(&findings), [("new", 1), ("kept", 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_restart_makes_no_difference_to_long_windows(
        mut moments in
            prop::collection::vec((0_u64..200_000, 0_u8..3, 0_i64..60, 0_i64..6), 2..200),
        cut in 0_usize..200,
    ) {
        moments.sort_unstable();
        let rows: Vec<_> = moments
            .into_iter()
            .map(|(at, key, bytes, port)| flow(at * SECOND, &format!("w{key}"), bytes, port))
            .collect();
        let (first, second) = rows.split_at(cut.min(rows.len()));
        let mut through = engine(long_rules());
        let mut expected = feed(&mut through, first);
        expected.extend(feed(&mut through, second));

        let mut before = engine(long_rules());
        let mut found = feed(&mut before, first);
        let mut after = engine(long_rules());
        after.restore(through_disk(&before), "boot").unwrap();
        prop_assert_eq!(after.snapshot("boot"), before.snapshot("boot"));
        found.extend(feed(&mut after, second));
        prop_assert_eq!(expected, found);
    }
}
