//! What a GPU says of its own health, of its bus, and of processes that are gone.

use monitor::gpu::backend::GpuBackend;
use monitor::gpu::round::Rounds;
use monitor::gpu::{Edge, GpuError};
use monitor::model::{Body, FaultKind, Tgid};
use serde_json::json;

use crate::stage::Stage;
use crate::state::only;

/// Rounds at this second until a fault is told, and what was told; the thread that waits for
/// faults needs a moment.
fn faults_at(stage: &Stage, rounds: &mut Rounds, backend: &mut dyn GpuBackend, at: f64) -> Told {
    for _ in 0..400 {
        let round = stage.round(rounds, backend, at);
        if !round.batch.faults.is_empty() {
            let told = round.batch.faults.iter();
            return told.map(|fault| (fault.gpu.to_string(), fault.fault, fault.xid)).collect();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Vec::new()
}

type Told = Vec<(String, FaultKind, Option<u64>)>;

#[test]
fn a_fault_is_told_once() {
    let scenario = json!({"devices": [{"uuid": "GPU-w"}, {"uuid": "GPU-x", "xids": [
        {"at_s": 0.5, "xid": 13}, {"at_s": 1.5, "xid": 79},
    ]}]});
    let stage = Stage::new(&scenario);
    // The first happened before anybody listened.
    stage.at(1.0);
    stage.open(|backend| {
        let mut rounds = Rounds::default();
        let first = stage.round(&mut rounds, backend, 1.0);
        assert_eq!(first.batch.faults, []);
        let told = faults_at(&stage, &mut rounds, backend, 2.0);
        assert_eq!(told, [("GPU-x".to_owned(), FaultKind::Xid, Some(79))]);
        let after = stage.round(&mut rounds, backend, 3.0);
        assert_eq!(after.batch.faults, []);
        let events: Vec<_> = after.batch.events(|_| None).collect();
        assert_eq!(events, []);
    });
}

#[test]
fn a_gpu_that_tells_no_faults_leaves_those_of_others() {
    let scenario = json!({
        "calls": [{"call": "nvmlDeviceRegisterEvents", "device": 0, "returns": "NOT_SUPPORTED"}],
        "devices": [{"uuid": "GPU-w"}, {"uuid": "GPU-x", "xids": [{"at_s": 1.5, "xid": 48}]}],
    });
    let stage = Stage::new(&scenario);
    stage.open(|backend| {
        let mut rounds = Rounds::default();
        let first = stage.round(&mut rounds, backend, 0.0);
        let gap = first.gaps.iter().find(|gap| gap.value == "faults").expect("it is listed");
        assert_eq!(gap.why, GpuError::Unsupported { call: "nvmlDeviceRegisterEvents" });
        let told = faults_at(&stage, &mut rounds, backend, 2.0);
        assert_eq!(told, [("GPU-x".to_owned(), FaultKind::Xid, Some(48))]);
    });
}

#[test]
fn memory_that_fails_is_a_fault_when_it_happens() {
    let step = |at: u32| json!({"steps": {"points": [[0, 0], [at, 1]]}});
    let scenario = json!({"devices": [
        {"uuid": "GPU-x", "ecc_uncorrected": step(2), "remapped": {"failed": step(3)}},
    ]});
    let rounds = Stage::new(&scenario).rounds(&[0.0, 1.0, 2.0, 3.0, 4.0]);
    let told: Vec<Vec<&str>> = rounds
        .iter()
        .map(|round| round.batch.faults.iter().map(|fault| fault.fault.as_str()).collect())
        .collect();
    let none: Vec<&str> = Vec::new();
    let expected =
        [none.clone(), none.clone(), vec!["ecc_uncorrectable"], vec!["row_remap_failure"], none];
    assert_eq!(told, expected);
    let event = rounds[2].batch.events(|_| None).next().expect("a fault is an event");
    assert!(matches!(&event.body, Body::GpuFault(fault) if fault.gpu.as_str() == "GPU-x"));
    assert_eq!(event.actor, None);
}

#[test]
fn bytes_over_pcie_are_a_rate_between_two_rounds() {
    let ramp = |to: u64| json!({"ramp": {"from": 0, "to": to, "start_s": 0, "end_s": 10}});
    let scenario = json!({"devices": [{
        "pcie_tx_bytes": ramp(10_000), "pcie_rx_bytes": ramp(50_000),
        "processes": [{"pid": 7, "mem_bytes": 1}],
    }]});
    let rounds = Stage::new(&scenario).rounds(&[0.0, 2.0]);
    let rate = |at: usize| only(&rounds[at].batch.processes).activity.pcie_bytes_per_second;
    assert_eq!((rate(0), rate(1)), (None, Some(6_000.0)));
}

#[test]
fn accounting_remembers_what_nobody_saw() {
    let scenario = json!({"devices": [{"accounting": true, "processes": [
        {"pid": 8, "mem_bytes": 20, "sm_util": 30, "until_s": 1.5},
        {"pid": 9, "mem_bytes": 33, "sm_util": 0, "from_s": 2.1, "until_s": 2.9},
    ]}]});
    let rounds = Stage::new(&scenario).rounds(&[0.0, 1.0, 2.0, 3.0, 4.0]);
    let gone = only(&rounds[2].batch.processes);
    assert_eq!((gone.pid, gone.edge), (Tgid(8), Some(Edge::Vanished)));
    assert_eq!(gone.mem_used_bytes, Some(20), "the most it held");
    let brief = only(&rounds[3].batch.processes);
    assert_eq!((brief.pid, brief.edge), (Tgid(9), Some(Edge::Brief)));
    assert_eq!(rounds[4].batch.processes, [], "told once");
}
