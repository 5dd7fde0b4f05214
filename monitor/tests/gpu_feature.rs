//! The features against a model that keeps everything and counts everything anew.
#![expect(clippy::unwrap_used, reason = "a test may end where it finds something wrong")]
#![expect(clippy::cast_precision_loss, reason = "far below 2^53")]

use std::collections::BTreeMap;

use monitor::gpu::feature::{
    BUSY_GAP_NS_MAX, BUSY_PERCENT_MIN, CURVE_POINTS_MAX, SPREAD_POINTS_MIN, WINDOW_SECONDS,
};
use monitor::gpu::{FeatureTable, FeatureView, TreeReading};
use monitor::model::{BootNs, GpuUuid, ProcessKey, Tgid};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn tree(tgid: u32) -> ProcessKey {
    ProcessKey { tgid: Tgid(tgid), start: BootNs(1) }
}

fn gpu(name: &str) -> GpuUuid {
    GpuUuid::from(name)
}

fn of(util_percent: Option<f64>, mem_used_bytes: Option<u64>) -> TreeReading {
    TreeReading { util_percent, mem_used_bytes, ..TreeReading::default() }
}

#[derive(Clone, Debug)]
struct Reading {
    time: u64,
    util: Option<f64>,
    mem: Option<u64>,
}

/// Rounds: readings of one time added up.
fn rounds(readings: &[Reading]) -> BTreeMap<u64, (Option<f64>, Option<u64>)> {
    let mut rounds: BTreeMap<u64, (Option<f64>, Option<u64>)> = BTreeMap::new();
    for Reading { time, util, mem } in readings {
        let round = rounds.entry(*time).or_default();
        if let Some(util) = util {
            round.0 = Some((round.0.unwrap_or(0.0) + util).min(100.0));
        }
        if let Some(mem) = mem {
            round.1 = Some(round.1.unwrap_or(0) + mem);
        }
    }
    rounds
}

fn by_second(values: impl Iterator<Item = (u64, f64)>) -> BTreeMap<u64, f64> {
    let mut seconds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (time, value) in values {
        seconds.entry(time / SECOND).or_default().push(value);
    }
    seconds.into_iter().map(|(second, all)| (second, mean(&all))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn cv(values: &[f64]) -> Option<f64> {
    let middle = mean(values);
    if values.len() < SPREAD_POINTS_MIN || middle <= 0.0 {
        return None;
    }
    let squares: f64 = values.iter().map(|value| (value - middle) * (value - middle)).sum();
    Some((squares / values.len() as f64).sqrt() / middle)
}

/// Everything from the definition, nothing remembered.
fn model(readings: &[Reading]) -> (FeatureView, Vec<f64>) {
    let rounds = rounds(readings);
    let last = *rounds.keys().last().unwrap();
    let end = last / SECOND;
    let in_window = |second: &u64| *second + u64::from(WINDOW_SECONDS) > end;
    let util = by_second(rounds.iter().filter_map(|(time, (util, _))| Some((*time, (*util)?))));
    let util: BTreeMap<u64, f64> =
        util.into_iter().filter(|(second, _)| in_window(second)).collect();
    let mem = by_second(rounds.iter().filter_map(|(time, (_, mem))| Some((*time, (*mem)? as f64))));
    let mem: Vec<f64> =
        mem.into_iter().filter(|(second, _)| in_window(second)).map(|(_, mem)| mem).collect();
    let values: Vec<f64> = util.values().copied().collect();

    let mut busy_since: Option<u64> = None;
    let mut told_at: Option<u64> = None;
    for (time, (util, _)) in &rounds {
        let Some(util) = util else { continue };
        let is_broken = told_at.is_some_and(|at| time - at > BUSY_GAP_NS_MAX);
        busy_since = match busy_since {
            _ if *util < BUSY_PERCENT_MIN => None,
            Some(since) if !is_broken => Some(since),
            _ => Some(*time),
        };
        told_at = Some(*time);
    }
    if told_at.is_some_and(|at| last - at > BUSY_GAP_NS_MAX) {
        busy_since = None;
    }

    let mut curve: Vec<f64> = Vec::new();
    if let Some(start) = util.keys().next() {
        let bins = (util.keys().last().unwrap() - start) / 10;
        for bin in 0..=bins {
            let inside: Vec<f64> = util
                .iter()
                .filter(|(second, _)| (*second - start) / 10 == bin)
                .map(|(_, util)| *util)
                .collect();
            curve.push(if inside.is_empty() { *curve.last().unwrap() } else { mean(&inside) });
        }
    }
    let slope = (values.len() >= SPREAD_POINTS_MIN).then(|| {
        let n = values.len() as f64;
        let x: Vec<f64> =
            util.keys().map(|second| (*second - util.keys().next().unwrap()) as f64).collect();
        let (sx, sy): (f64, f64) = (x.iter().sum(), values.iter().sum());
        let sxy: f64 = x.iter().zip(&values).map(|(x, y)| x * y).sum();
        let sxx: f64 = x.iter().map(|x| x * x).sum();
        (n * sxy - sx * sy) / (n * sxx - sx * sx) * 60.0
    });
    let view = FeatureView {
        util_mean_10m: (!values.is_empty()).then(|| mean(&values)),
        util_cv_10m: if values.is_empty() { None } else { cv(&values) },
        mem_cv_10m: if mem.is_empty() { None } else { cv(&mem) },
        util_trend_per_minute: slope,
        seconds_since_first_use: (last - rounds.keys().next().unwrap()) as f64 / 1e9,
        busy_seconds: busy_since.map_or(0.0, |since| (last - since) as f64 / 1e9),
        ..FeatureView::default()
    };
    (view, curve)
}

fn near(ours: Option<f64>, theirs: Option<f64>) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() <= 1e-3 * theirs.abs().max(1.0),
        (ours, theirs) => ours.is_none() && theirs.is_none(),
    }
}

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    // Steps that make rounds of several readings, bursts, steady beats, and long silences.
    let step = prop_oneof![
        3 => Just(0),
        3 => 50_000_000..200_000_000_u64,
        10 => 900_000_000..1_100_000_000_u64,
        1 => 5 * SECOND..200 * SECOND,
    ];
    let util = prop_oneof![
        1 => Just(None),
        4 => (84.0..100.0_f64).prop_map(Some),
        2 => (0.0..100.0_f64).prop_map(Some),
    ];
    let mem = prop_oneof![1 => Just(None), 5 => (0..80_u64 << 30).prop_map(Some)];
    let reading = (step, util, mem);
    prop::collection::vec(reading, 1..900).prop_map(|steps| {
        let mut time = 3_600 * SECOND;
        let place = |(step, util, mem)| {
            time += step;
            Reading { time, util, mem }
        };
        steps.into_iter().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn features_follow_from_the_readings(readings in readings()) {
        let mut table = FeatureTable::default();
        for Reading { time, util, mem } in &readings {
            table.observe(tree(1), &gpu("GPU-0"), BootNs(*time), &of(*util, *mem));
        }
        let ours = table.features(tree(1), &gpu("GPU-0")).unwrap();
        let (theirs, their_curve) = model(&readings);
        let our_curve = table.curve(tree(1), &gpu("GPU-0"));
        prop_assert!(near(ours.util_mean_10m, theirs.util_mean_10m), "{ours:?} {theirs:?}");
        prop_assert!(near(ours.util_cv_10m, theirs.util_cv_10m), "{ours:?} {theirs:?}");
        prop_assert!(near(ours.mem_cv_10m, theirs.mem_cv_10m), "{ours:?} {theirs:?}");
        prop_assert!(
            near(ours.util_trend_per_minute, theirs.util_trend_per_minute), "{ours:?} {theirs:?}"
        );
        let seconds = |view: &FeatureView| (view.seconds_since_first_use, view.busy_seconds);
        prop_assert_eq!(seconds(&ours), seconds(&theirs));
        prop_assert_eq!(our_curve.len(), their_curve.len());
        prop_assert!(our_curve.len() <= CURVE_POINTS_MAX);
        for (ours, theirs) in our_curve.iter().zip(&their_curve) {
            prop_assert!(near(Some(*ours), Some(*theirs)), "{ours} {theirs}");
        }
        prop_assert_eq!(table.late(), 0);
    }

    #[test]
    fn trees_do_not_mix(readings in readings(), other in 0.0..100.0_f64) {
        let mut alone = FeatureTable::default();
        let mut mixed = FeatureTable::default();
        for Reading { time, util, mem } in &readings {
            alone.observe(tree(1), &gpu("GPU-0"), BootNs(*time), &of(*util, *mem));
            mixed.observe(tree(2), &gpu("GPU-0"), BootNs(*time), &of(Some(other), Some(1)));
            mixed.observe(tree(1), &gpu("GPU-0"), BootNs(*time), &of(*util, *mem));
            mixed.observe(tree(1), &gpu("GPU-1"), BootNs(*time), &of(Some(other), None));
        }
        let view = |table: &FeatureTable| table.features(tree(1), &gpu("GPU-0"));
        prop_assert_eq!(view(&alone), view(&mixed));
    }

    #[test]
    fn the_table_never_exceeds_its_bound(
        bound in 1..20_usize,
        seen in prop::collection::vec((0..40_u32, 0..5_u64), 1..300),
    ) {
        let mut table = FeatureTable::with_bound(bound);
        let mut time = 0;
        let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
        for (at, step) in seen {
            time += step * SECOND + 1;
            table.observe(tree(at), &gpu("GPU-0"), BootNs(time), &of(Some(1.0), None));
            newest.insert(at, time);
            prop_assert!(table.len() <= bound);
        }
        // What is kept is what was read last.
        let mut by_time: Vec<(u64, u32)> =
            newest.into_iter().map(|(at, time)| (time, at)).collect();
        by_time.sort_unstable_by(|a, b| b.cmp(a));
        for (_, at) in by_time.iter().take(bound) {
            prop_assert!(table.features(tree(*at), &gpu("GPU-0")).is_some());
        }
        for (_, at) in by_time.iter().skip(bound) {
            prop_assert!(table.features(tree(*at), &gpu("GPU-0")).is_none());
        }
    }
}

#[test]
fn an_eviction_is_counted() {
    let mut table = FeatureTable::with_bound(2);
    for at in 1..=3_u32 {
        table.observe(tree(at), &gpu("GPU-0"), BootNs(u64::from(at)), &of(Some(1.0), None));
    }
    assert_eq!((table.len(), table.evicted()), (2, 1));
    assert_eq!(table.features(tree(1), &gpu("GPU-0")), None);
}

#[test]
fn a_reading_from_the_past_is_counted_and_left_out() {
    let mut table = FeatureTable::default();
    table.observe(tree(1), &gpu("GPU-0"), BootNs(10 * SECOND), &of(Some(50.0), None));
    table.observe(tree(1), &gpu("GPU-0"), BootNs(9 * SECOND), &of(Some(100.0), None));
    assert_eq!(table.late(), 1);
    let view = table.features(tree(1), &gpu("GPU-0")).unwrap();
    assert_eq!(view.util_mean_10m, Some(50.0));
}

#[test]
fn what_is_not_read_for_the_window_is_forgotten() {
    let mut table = FeatureTable::default();
    table.observe(tree(1), &gpu("GPU-0"), BootNs(SECOND), &of(Some(50.0), None));
    table.expire(BootNs((u64::from(WINDOW_SECONDS) + 1) * SECOND));
    assert_eq!(table.len(), 1);
    table.expire(BootNs((u64::from(WINDOW_SECONDS) + 1) * SECOND + 1));
    assert!(table.is_empty());
}

#[test]
fn points_are_bounded_by_the_window() {
    let mut table = FeatureTable::default();
    for tenth in 0..u64::from(WINDOW_SECONDS) * 40 {
        let time = BootNs(tenth * SECOND / 10);
        table.observe(tree(1), &gpu("GPU-0"), time, &of(Some(99.0), Some(1)));
    }
    assert_eq!(table.points(), WINDOW_SECONDS as usize - 1);
}

#[test]
fn the_first_minute_has_no_spread() {
    let mut table = FeatureTable::default();
    for second in 0..SPREAD_POINTS_MIN as u64 {
        assert_eq!(table.features(tree(1), &gpu("GPU-0")).and_then(|view| view.util_cv_10m), None);
        table.observe(tree(1), &gpu("GPU-0"), BootNs(second * SECOND), &of(Some(99.0), Some(1)));
    }
    let view = table.features(tree(1), &gpu("GPU-0")).unwrap();
    assert_eq!((view.util_cv_10m, view.mem_cv_10m), (Some(0.0), Some(0.0)));
}

#[test]
fn what_the_gpu_shows_is_of_the_gpu_and_not_summed_over_processes() {
    let mut table = FeatureTable::default();
    let activity = monitor::model::GpuActivity {
        tensor_percent: Some(12.345),
        integer_percent: Some(40.0),
        float_percent: Some(0.0),
        dram_percent: None,
        pcie_bytes_per_second: Some(3_000.0),
        ..monitor::model::GpuActivity::default()
    };
    for second in 0..120_u64 {
        let power_watts = Some(if second % 2 == 0 { 300.0 } else { 500.0 });
        for _process in 0..3 {
            let reading = TreeReading { power_watts, activity, ..of(Some(10.0), Some(1)) };
            table.observe(tree(1), &gpu("GPU-0"), BootNs(second * SECOND), &reading);
        }
    }
    let view = table.features(tree(1), &gpu("GPU-0")).unwrap();
    assert_eq!(view.util_mean_10m, Some(30.0), "three processes of ten percent");
    assert_eq!(view.power_mean_10m, Some(400.0));
    assert!(near(view.power_cv_10m, Some(0.25)), "{view:?}");
    assert!(near(view.tensor_mean_10m, Some(12.35)), "hundredths are kept: {view:?}");
    assert_eq!((view.int_mean_10m, view.float_mean_10m), (Some(40.0), Some(0.0)));
    assert_eq!((view.dram_mean_10m, view.pcie_mean_10m), (None, Some(3_000.0)));
}
