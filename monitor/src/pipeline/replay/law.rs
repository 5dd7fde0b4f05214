//! The same recorded stream gives the same alerts, whatever the sizes of batches, the timing of
//! threads and the wall clock.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::tests::header;
use super::*;
use crate::recording::{Reader, Tap, TapSink, Target, Writer};

/// The shipped rules, and every event of their tests.
fn ground() -> &'static (RuleSet, Vec<FactRow>) {
    static GROUND: OnceLock<(RuleSet, Vec<FactRow>)> = OnceLock::new();
    GROUND.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
        let rules = RuleSet::read_paths(&[root]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let tests = rules.rules.iter().flat_map(|rule| &rule.tests);
        let rows = tests.flat_map(|test| test.events.iter().cloned()).collect();
        (rules, rows)
    })
}

/// Events of the rules' tests in any order, in bursts and after silences of up to an hour.
fn stream() -> impl Strategy<Value = Vec<FactRow>> {
    let pause = prop_oneof![4 => 0..2_u64, 3 => 0..2_000_u64, 1 => 0..3_600_000_u64];
    let step = (any::<prop::sample::Index>(), pause);
    prop::collection::vec(step, 20..200).prop_map(|steps| {
        let mut now_ms = 1_000;
        let at = |(index, pause_ms): (prop::sample::Index, u64)| {
            now_ms += pause_ms;
            index.get(&ground().1).clone().at(BootNs(now_ms * 1_000_000))
        };
        steps.into_iter().map(at).collect()
    })
}

/// Alerts over rows, on a host that booted at `wall_at_boot_ns`.
fn alerts(rows: impl Iterator<Item = FactRow>, wall_at_boot_ns: u64) -> Vec<Json> {
    let header = Header { wall_at_boot_ns, ..header() };
    let mut replay = Replay::of(&ground().0, AlertConfig::default(), &header);
    let mut alerts = Vec::new();
    for row in rows {
        replay.take(&row, &mut |alert, _| alerts.push(json!(alert)));
    }
    alerts.extend(replay.finish().into_iter().map(|alert| json!(alert)));
    alerts
}

/// The rows in batches, from another thread that rests between them.
fn in_batches(rows: &[FactRow], sizes: Vec<(usize, u64)>) -> impl Iterator<Item = FactRow> {
    let (sender, batches) = sync_channel::<Vec<FactRow>>(2);
    let mut rows = rows.to_vec();
    std::thread::spawn(move || {
        let mut sizes = sizes.into_iter().cycle();
        while !rows.is_empty()
            && let Some((size, rest_us)) = sizes.next()
        {
            let after = rows.split_off(size.min(rows.len()));
            std::thread::sleep(Duration::from_micros(rest_us));
            if sender.send(std::mem::replace(&mut rows, after)).is_err() {
                return;
            }
        }
    });
    batches.into_iter().flatten()
}

/// The rows over the recorder's thread and a file.
fn recorded(rows: &[FactRow]) -> impl Iterator<Item = FactRow> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.zst");
    let writer = Writer::create(&Target::of(&path), &header()).expect("creates");
    let mut tap = Tap::start(TapSink::File(writer)).expect("starts");
    for row in rows {
        tap.offer(row);
    }
    assert_eq!(tap.stop().expect("ends"), rows.len() as u64);
    let mut reader = Reader::open(&path).expect("opens");
    std::iter::from_fn(move || {
        let _kept = &dir;
        reader.next_row().expect("reads")
    })
}

/// An alert without the dates of the wall clock.
fn undated(mut alert: Json) -> Json {
    if let Some(alert) = alert.as_object_mut() {
        let before = alert.len();
        alert.retain(|key, _| key != "first_seen" && key != "last_seen");
        assert_eq!(alert.len() + 2, before, "an alert has both dates");
    }
    alert
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn same_stream_gives_the_same_alerts_for_any_batch_timing_and_wall_clock(
        rows in stream(),
        sizes in prop::collection::vec((1..40_usize, 0..300_u64), 1..6),
        wall_s in 1_000_000_000_u64..4_000_000_000,
    ) {
        let wall = header().wall_at_boot_ns;
        let whole = alerts(rows.iter().cloned(), wall);
        prop_assert_eq!(&alerts(in_batches(&rows, sizes), wall), &whole);
        prop_assert_eq!(&alerts(recorded(&rows), wall), &whole);
        let elsewhen = alerts(rows.into_iter(), wall_s * 1_000_000_000);
        let undate = |alerts: Vec<Json>| alerts.into_iter().map(undated).collect::<Vec<_>>();
        prop_assert_eq!(undate(elsewhen), undate(whole));
    }
}

#[test]
fn streams_of_this_law_raise_alerts() {
    let rows = &ground().1;
    let at = |(at, row): (usize, &FactRow)| row.clone().at(BootNs(at as u64 * 1_000_000));
    let found = alerts(rows.iter().enumerate().map(at), 0);
    assert!(found.len() > 20, "only {} alerts", found.len());
}
