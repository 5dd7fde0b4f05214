//! The sampler's thread: nobody waits for it, nothing it loses goes uncounted.

use std::thread;
use std::time::{Duration, Instant};

use crate::stage::{SECOND, Stage};
use monitor::gpu::pace::Beat;
use monitor::gpu::{
    BATCHES_QUEUED_MAX, BackendState, Edge, GpuBatch, GpuError, GpuSampler, SamplerConfig,
};
use monitor::model::{Clock, Tgid};
use serde_json::json;

/// Longest a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(stage: &Stage, steady_ms: u64) -> GpuSampler {
    let beat = Beat { steady_ns: steady_ms * 1_000_000, fast_ns: 10_000_000, fast_for_ns: SECOND };
    let config = SamplerConfig { beat, stall_after_ns: 200_000_000 };
    GpuSampler::start(Box::new(stage.driver()), config).unwrap()
}

/// Polls until a batch fits; the longest a single poll took comes with it.
fn await_batch(sampler: &mut GpuSampler, fits: impl Fn(&GpuBatch) -> bool) -> (GpuBatch, Duration) {
    let deadline = Instant::now() + PATIENCE;
    let mut longest = Duration::ZERO;
    loop {
        let began = Instant::now();
        let batch = sampler.poll(Clock::boot_now());
        longest = longest.max(began.elapsed());
        match batch {
            Some(batch) if fits(&batch) => return (batch, longest),
            _ => thread::sleep(Duration::from_millis(2)),
        }
        assert!(
            Instant::now() < deadline,
            "no such batch; {:?}",
            sampler.status(Clock::boot_now())
        );
    }
}

fn is_active(batch: &GpuBatch) -> bool {
    matches!(batch.state, BackendState::Active { .. })
}

#[test]
fn a_hung_driver_stalls_nobody_and_recovers() {
    let calm = json!({"devices": [{"util": 5}]});
    let stage = Stage::new(&calm);
    let mut sampler = start(&stage, 20);
    await_batch(&mut sampler, is_active);

    let mut hung = calm.clone();
    hung["calls"] = json!([{"call": "nvmlDeviceGetPowerUsage", "hang": true}]);
    stage.play(&hung);
    let is_stalled = |batch: &GpuBatch| matches!(batch.state, BackendState::Stalled { .. });
    let (batch, longest) = await_batch(&mut sampler, is_stalled);
    assert!(longest < Duration::from_millis(150), "a poll took {longest:?}");
    assert_eq!(batch.devices, []);
    let BackendState::Stalled { call, since } = batch.state else { panic!("{}", batch.state) };
    assert_eq!(call, "reading");
    let status = sampler.status(Clock::boot_now());
    assert_eq!(status.state, BackendState::Stalled { since, call });
    assert_eq!(status.counters.stalls, 1);
    assert_eq!(status.sensor_gap().unwrap().state, "off");
    // One stall is told once.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(sampler.poll(Clock::boot_now()), None);

    stage.play(&calm);
    await_batch(&mut sampler, is_active);
    assert_eq!(sampler.status(Clock::boot_now()).state.as_str(), "active");
    assert!(sampler.stop());
}

#[test]
fn a_hung_thread_is_left_behind() {
    let stage = Stage::new(&json!({"calls": [{"call": "nvmlInitWithFlags", "hang": true}]}));
    let mut sampler = start(&stage, 20);
    let (batch, _) = await_batch(&mut sampler, |_| true);
    assert!(matches!(batch.state, BackendState::Stalled { call: "open", .. }), "{}", batch.state);
    let began = Instant::now();
    assert!(!sampler.stop());
    assert!(began.elapsed() < Duration::from_secs(5));
    // Lets the thread end before the library's file goes.
    stage.play(&json!({"calls": [{"call": "nvmlInitWithFlags", "returns": "UNKNOWN"}]}));
    thread::sleep(Duration::from_millis(200));
}

#[test]
fn a_full_queue_is_counted() {
    let stage = Stage::new(&json!({"devices": [{}]}));
    let sampler = start(&stage, 1);
    let deadline = Instant::now() + PATIENCE;
    let counters = loop {
        let counters = sampler.status(Clock::boot_now()).counters;
        if counters.dropped > 3 {
            break counters;
        }
        assert!(Instant::now() < deadline, "{counters:?}");
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(counters.sent, BATCHES_QUEUED_MAX as u64);
    assert_eq!(counters.rounds, counters.sent + counters.dropped);
}

#[test]
fn a_driver_that_comes_later_is_found() {
    let stage = Stage::new(&json!({
        "calls": [{"call": "nvmlInitWithFlags", "returns": "DRIVER_NOT_LOADED"}],
    }));
    let mut sampler = start(&stage, 20);
    let (batch, _) = await_batch(&mut sampler, |_| true);
    assert!(matches!(batch.state, BackendState::Off(GpuError::NoDriver { .. })));
    let status = sampler.status(Clock::boot_now());
    assert_eq!(status.counters.errors.get("no_driver"), Some(&1));
    assert_eq!(status.age_ns(Clock::boot_now()), None);
    stage.play(&json!({"devices": [{}]}));
    await_batch(&mut sampler, is_active);
    assert!(sampler.status(Clock::boot_now()).age_ns(Clock::boot_now()).is_some());
}

#[test]
fn a_driver_that_is_reloaded_is_opened_again() {
    let calm = json!({"devices": [{}]});
    let stage = Stage::new(&calm);
    let mut sampler = start(&stage, 20);
    await_batch(&mut sampler, is_active);
    let mut gone = calm.clone();
    gone["calls"] = json!([{"call": "*", "returns": "DRIVER_NOT_LOADED"}]);
    stage.play(&gone);
    await_batch(&mut sampler, |batch| {
        matches!(batch.state, BackendState::Off(GpuError::NoDriver { .. }))
    });
    stage.play(&calm);
    await_batch(&mut sampler, is_active);
}

#[test]
fn a_hint_makes_a_newcomer_seen_at_once() {
    let stage = Stage::new(&json!({"devices": [{}]}));
    let mut sampler = start(&stage, 600_000);
    await_batch(&mut sampler, is_active);
    stage.play(&json!({"devices": [{"processes": [{"pid": 77, "mem_bytes": 1}]}]}));
    sampler.hint();
    let (batch, _) = await_batch(&mut sampler, |batch| !batch.processes.is_empty());
    assert_eq!((batch.processes[0].pid, batch.processes[0].edge), (Tgid(77), Some(Edge::Appeared)));
    // Its first moments are read often although the beat is ten minutes.
    for _ in 0..5 {
        await_batch(&mut sampler, is_active);
    }
}

#[test]
fn a_newcomer_is_read_often_without_a_hint() {
    let mut scenario = json!({
        "devices": [{}],
        "calls": [{"call": "nvmlDeviceGetPowerUsage", "returns": "NOT_SUPPORTED"}],
    });
    let stage = Stage::new(&scenario);
    let mut sampler = start(&stage, 1_000);
    await_batch(&mut sampler, is_active);
    scenario["devices"] = json!([{"processes": [{"pid": 77, "mem_bytes": 1}]}]);
    stage.play(&scenario);
    let (first, _) = await_batch(&mut sampler, |batch| !batch.processes.is_empty());
    assert_eq!(first.processes[0].edge, Some(Edge::Appeared));
    let (second, _) = await_batch(&mut sampler, |_| true);
    let passed_ns = second.time.since(first.time);
    assert!(passed_ns < SECOND / 2, "{passed_ns} ns to the next round");
    // What the GPU cannot tell is listed and is no failure.
    let status = sampler.status(Clock::boot_now());
    assert_eq!(status.gaps.first().map(|gap| gap.value), Some("power_watts"));
    assert!(status.counters.errors.is_empty(), "{:?}", status.counters);
}
