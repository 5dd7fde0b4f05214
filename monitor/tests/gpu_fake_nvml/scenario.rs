//! Known loads, played for eleven minutes, and what the features say of them.

use std::fs;
use std::path::Path;

use monitor::gpu::round::Rounds;
use monitor::gpu::{FeatureTable, FeatureView, TreeReading};
use monitor::model::{BootNs, ProcessKey};

use crate::stage::Stage;

/// Long enough to fill the window.
const SECONDS: u32 = 660;

/// What was seen of a load.
struct Seen {
    view: FeatureView,
    curve: Vec<f64>,
    /// Mean tensor-core activity over the run.
    tensor_percent: f64,
}

fn play(name: &str) -> Seen {
    let stage = Stage::of_fixture(name);
    let mut table = FeatureTable::default();
    let mut tensor = (0.0, 0.0);
    let mut place = None;
    stage.open(|backend| {
        let mut rounds = Rounds::default();
        for second in 0..=SECONDS {
            let round = stage.round(&mut rounds, backend, f64::from(second));
            for process in &round.batch.processes {
                let tree = ProcessKey { tgid: process.pid, start: BootNs(1) };
                let util = process.attributed_util();
                let reading = TreeReading {
                    util_percent: util,
                    mem_used_bytes: process.mem_used_bytes,
                    ..TreeReading::default()
                };
                table.observe(tree, &process.gpu, round.batch.time, &reading);
                place = Some((tree, process.gpu.clone()));
                if let Some(percent) = process.activity.tensor_percent {
                    tensor = (tensor.0 + percent, tensor.1 + 1.0);
                }
            }
        }
    });
    let (tree, gpu) = place.expect("a fixture has a process");
    let view = table.features(tree, &gpu).expect("it was observed");
    let curve = table.curve(tree, &gpu);
    Seen { view, curve, tensor_percent: tensor.0 / tensor.1 }
}

/// The row of the table in the document.
fn row(name: &str, seen: &Seen) -> String {
    let FeatureView { util_mean_10m, util_cv_10m, mem_cv_10m, busy_seconds, .. } = &seen.view;
    let number = |value: Option<f64>| value.map_or("none".into(), |value| format!("{value:.4}"));
    let mean = util_mean_10m.map_or("none".into(), |mean| format!("{mean:.1}"));
    format!(
        "| `{name}` | {mean} | {} | {} | {busy_seconds:.0} | {:.1} |",
        number(*util_cv_10m),
        number(*mem_cv_10m),
        seen.tensor_percent,
    )
}

/// Plays a fixture and holds the document to what came out.
fn documented(name: &str) -> Seen {
    let seen = play(name);
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gpu-mining.md");
    let text = fs::read_to_string(&document).unwrap_or_default();
    let row = row(name, &seen);
    assert!(text.contains(&row), "{} must hold this row:\n{row}", document.display());
    assert_eq!(seen.curve.len(), 60);
    assert!((seen.view.seconds_since_first_use - f64::from(SECONDS)).abs() < 1e-6);
    seen
}

#[test]
fn training_is_not_flat() {
    let seen = documented("training");
    assert!(seen.view.util_cv_10m > Some(0.15), "evaluations and checkpoints show");
    assert!(seen.view.mem_cv_10m > Some(0.01), "the allocator moves");
    assert!(seen.view.busy_seconds < 120.0);
    assert!(seen.tensor_percent > 40.0);
}

#[test]
fn decoding_looks_like_mining_but_for_the_tensor_cores() {
    let seen = documented("vllm_decode");
    assert!(seen.view.util_cv_10m < Some(0.05) && seen.view.mem_cv_10m == Some(0.0));
    assert!(seen.view.busy_seconds > 600.0);
    assert!(seen.tensor_percent > 5.0);
}

#[test]
fn a_burn_test_looks_like_mining_but_for_the_tensor_cores() {
    let seen = documented("gpu_burn");
    assert!(seen.view.util_cv_10m < Some(0.01) && seen.view.mem_cv_10m == Some(0.0));
    assert!(seen.tensor_percent > 80.0);
}

#[test]
fn mining_is_flat_busy_and_without_tensor_cores() {
    let seen = documented("ethash_mining");
    assert!(seen.view.util_mean_10m > Some(97.0));
    assert!(seen.view.util_cv_10m < Some(0.031), "the published bound");
    assert_eq!(seen.view.mem_cv_10m, Some(0.0));
    assert!(seen.view.busy_seconds > 600.0);
    assert!(seen.tensor_percent < 1.0);
}

#[test]
fn idleness_has_no_spread_and_is_never_busy() {
    let seen = documented("idle");
    assert_eq!(seen.view.util_mean_10m, Some(0.0));
    assert_eq!(seen.view.util_cv_10m, None);
    assert!(seen.view.busy_seconds.abs() < f64::EPSILON);
}
