//! The real wrapper over the fake library: every state a driver can be in.

use std::path::PathBuf;

use crate::stage::{Stage, boot};
use monitor::gpu::backend::{GpuDriver, NvlinkErrors, ProcessRoles, RemappedRows};
use monitor::gpu::round::Rounds;
use monitor::gpu::{BackendState, DRIVER_BRANCH_MIN, Edge, GpuError, NvmlDriver, ProcessSample};
use monitor::model::{Actor, Body, FaultKind, GpuUuid, ProcessKey, Tgid};
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;

fn training(pid: u32) -> Value {
    json!({
        "devices": [{
            "uuid": "GPU-11111111-2222-3333-4444-555555555555",
            "name": "NVIDIA H100 80GB HBM3",
            "pci_bus_id": "00000000:3B:00.0",
            "util": 97, "mem_util": 41,
            "power_mw": 650_500, "temperature": 61,
            "memory_base_bytes": GIB,
            "throttle_reasons": 4,
            "gpm": {"sm": 91, "tensor": 44.5, "integer": 12, "dram": 63,
                    "pcie_tx_mib": 3, "pcie_rx_mib": 250, "fp64": 2, "fp32": 31, "fp16": 5,
                    "nvlink_tx_mib": 9, "nvlink_rx_mib": 8},
            "ecc_corrected": 11, "pcie_replays": 2, "nvlinks": 18, "nvlinks_up": 17,
            "nvlink_errors": {"crc_flit": 4, "crc_data": 5, "replay": 6, "recovery": 7},
            "remapped": {"correctable": 3, "uncorrectable": 1, "pending": 1},
            "processes": [{"pid": pid, "mem_bytes": 60 * GIB, "sm_util": 95, "mem_util": 40}],
        }],
    })
}

pub(crate) fn only(processes: &[ProcessSample]) -> &ProcessSample {
    assert_eq!(processes.len(), 1, "{processes:?}");
    &processes[0]
}

fn opening(stage: &Stage) -> GpuError {
    stage.driver().with_backend(&mut |_| panic!("it must not open")).unwrap_err()
}

#[test]
fn every_value_of_a_gpu_is_read() {
    let stage = Stage::new(&training(4242));
    let rounds = stage.rounds(&[0.0, 1.0, 2.0]);
    let batch = &rounds[2].batch;

    let BackendState::Active { info, devices: 1 } = &batch.state else {
        panic!("{:?}", batch.state);
    };
    assert_eq!((info.name, info.driver.as_str()), ("nvml", "580.82.07"));
    assert_eq!(info.library, stage.path().join("libnvidia-ml.so.1"));

    let device = &batch.devices[0];
    assert_eq!(device.device.uuid.as_str(), "GPU-11111111-2222-3333-4444-555555555555");
    assert_eq!(device.device.model, "NVIDIA H100 80GB HBM3");
    assert_eq!(device.device.pci_bus_id, "00000000:3B:00.0");
    assert!(device.device.has_gpm && !device.device.is_mig);
    let reading = &device.reading;
    assert_eq!(reading.gaps, []);
    assert_eq!((reading.util_percent, reading.mem_util_percent), (Some(97.0), Some(41.0)));
    assert_eq!(reading.mem_used_bytes, Some(61 * GIB));
    assert_eq!(reading.mem_total_bytes, Some(80 * GIB));
    assert_eq!(reading.power_watts, Some(650.5));
    assert_eq!(reading.power_limit_watts, Some(700.0));
    assert_eq!(reading.energy_joules, Some(1_301.0));
    assert_eq!(reading.temperature_celsius, Some(61.0));
    assert_eq!((reading.sm_clock_mhz, reading.mem_clock_mhz), (Some(1_980), Some(2_619)));
    assert_eq!(reading.throttle_reasons, Some(4));
    let activity = reading.activity.unwrap();
    assert_eq!((activity.sm_percent, activity.tensor_percent), (Some(91.0), Some(44.5)));
    assert_eq!((activity.integer_percent, activity.dram_percent), (Some(12.0), Some(63.0)));
    assert_eq!(activity.float_percent, Some(31.0), "the busiest of three pipes");
    assert_eq!(activity.nvlink_tx_bytes_per_second, Some(9.0 * 1_048_576.0));
    assert_eq!(activity.nvlink_rx_bytes_per_second, Some(8.0 * 1_048_576.0));
    assert_eq!((reading.pcie_replays, reading.ecc_corrected), (Some(2), Some(11)));
    assert_eq!(reading.ecc_uncorrected, Some(0));
    let errors = NvlinkErrors { crc_flit: 4, crc_data: 5, replay: 6, recovery: 7 };
    assert_eq!(reading.nvlink_errors, Some(errors));
    let rows =
        RemappedRows { correctable: 3, uncorrectable: 1, is_pending: true, has_failed: false };
    assert_eq!(reading.remapped_rows, Some(rows));
    assert_eq!((device.device.minor, device.device.nvlinks_up), (Some(0), Some(17)));
    assert!(!device.device.has_accounting);
    assert_eq!(activity.pcie_rx_bytes_per_second, Some(250.0 * 1_048_576.0));

    let process = only(&batch.processes);
    assert_eq!((process.pid, process.index), (Tgid(4242), 0));
    assert_eq!(process.proc_util_percent, Some(95.0));
    assert_eq!(process.proc_mem_util_percent, Some(40.0));
    assert_eq!(process.activity.pcie_bytes_per_second, Some(253.0 * 1_048_576.0));
    assert_eq!(process.mem_used_bytes, Some(60 * GIB));
    assert_eq!(process.power_watts, Some(650.5));
    assert_eq!(process.roles, ProcessRoles { compute: true, ..ProcessRoles::default() });
    assert_eq!(process.edge, None);
}

#[test]
fn activity_needs_two_samples() {
    let rounds = Stage::new(&training(1)).rounds(&[0.0, 1.0]);
    assert_eq!(rounds[0].batch.devices[0].reading.activity, None);
    assert!(rounds[1].batch.devices[0].reading.activity.is_some());
}

#[test]
fn what_is_there_first_did_not_appear() {
    let rounds = Stage::new(&training(1)).rounds(&[0.0]);
    assert_eq!(only(&rounds[0].batch.processes).edge, None);
    assert!(!rounds[0].has_newcomer);
}

#[test]
fn no_entry_is_idle_only_after_two_seconds() {
    let scenario = json!({"devices": [{"util": 50, "processes": [
        {"pid": 7, "mem_bytes": 10, "sm_util": {"steps": {"points": [[0, 90], [2, 0]]}}},
    ]}]});
    // Ten rounds a second see one new entry; the others must not read as zero.
    let seconds: Vec<f64> = (0..40).map(|tenth| 0.5 + f64::from(tenth) / 10.0).collect();
    let rounds = Stage::new(&scenario).rounds(&seconds);
    let told = |at: usize| only(&rounds[at].batch.processes).proc_util_percent;
    assert_eq!(told(0), Some(90.0));
    assert_eq!(told(1), None);
    assert_eq!(told(5), Some(90.0), "a new entry at 1.0 s");
    assert!((6..25).all(|at| told(at).is_none()), "1.1 s to 2.9 s");
    assert_eq!(told(25), Some(0.0), "two seconds after the last entry");
    // The GPU's own utilisation does not fill the gap.
    let unknown = only(&rounds[6].batch.processes);
    assert_eq!((unknown.util_percent, unknown.attributed_util()), (Some(50.0), None));
    assert_eq!(told(39), Some(0.0));
}

#[test]
fn coming_and_going_are_edges() {
    let scenario = json!({"devices": [{"processes": [
        {"pid": 7, "mem_bytes": 10, "sm_util": 50},
        {"pid": 8, "mem_bytes": 20, "sm_util": 30, "from_s": 1.5, "until_s": 3.5},
    ]}]});
    let rounds = Stage::new(&scenario).rounds(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let edge = |at: usize, pid| {
        let all = &rounds[at].batch.processes;
        all.iter().find(|process| process.pid == Tgid(pid)).map(|process| process.edge)
    };
    assert_eq!(edge(1, 8), None);
    assert_eq!(edge(2, 8), Some(Some(Edge::Appeared)));
    assert!(rounds[2].has_newcomer && !rounds[3].has_newcomer);
    assert_eq!(edge(3, 8), Some(None));
    assert_eq!(edge(4, 8), Some(Some(Edge::Vanished)));
    assert_eq!(edge(5, 8), None);
    for at in 0..6 {
        assert_eq!(edge(at, 7), Some(None));
    }
    let is_alone = |at: usize| rounds[at].batch.processes[0].is_alone;
    assert_eq!((is_alone(1), is_alone(2), is_alone(5)), (true, false, true));
}

#[test]
fn a_process_between_two_rounds_is_still_known() {
    let scenario = json!({"devices": [{"processes": [
        {"pid": 9, "sm_util": 66, "from_s": 1.0, "until_s": 1.2, "is_listed": false},
    ]}]});
    let rounds = Stage::new(&scenario).rounds(&[0.5, 1.5, 2.5]);
    assert_eq!(rounds[0].batch.processes, []);
    let brief = only(&rounds[1].batch.processes);
    assert_eq!((brief.pid, brief.edge), (Tgid(9), Some(Edge::Brief)));
    assert_eq!((brief.proc_util_percent, brief.mem_used_bytes), (Some(66.0), None));
    assert_eq!(rounds[2].batch.processes, []);
}

#[test]
fn one_process_in_two_lists_is_one_process() {
    let scenario = json!({"devices": [{"processes": [
        {"pid": 5, "kind": "compute", "mem_bytes": 100},
        {"pid": 5, "kind": "graphics", "mem_bytes": 100},
        {"pid": 6, "kind": "mps"},
    ]}]});
    let rounds = Stage::new(&scenario).rounds(&[0.0]);
    let found = &rounds[0].batch.processes;
    assert_eq!(found.len(), 2);
    let both = ProcessRoles { compute: true, graphics: true, mps: false };
    assert_eq!((found[0].roles, found[0].mem_used_bytes), (both, Some(100)));
    assert_eq!((found[1].roles.mps, found[1].mem_used_bytes), (true, None));
}

#[test]
fn mig_is_read_by_instance() {
    let scenario = json!({"devices": [{
        "uuid": "GPU-a", "name": "NVIDIA H100", "util": 90,
        "mig": {"instances": [
            {"uuid": "MIG-1", "name": "NVIDIA H100 MIG 1g.10gb", "gpu_instance": 7,
             "memory_total_bytes": 10 * GIB, "gpm": {"sm": 77, "tensor": 3},
             "processes": [{"pid": 70, "mem_bytes": 4 * GIB, "sm_util": 80}]},
            {"uuid": "MIG-2", "name": "NVIDIA H100 MIG 1g.10gb", "gpu_instance": 8,
             "memory_total_bytes": 10 * GIB},
        ]},
    }]});
    let rounds = Stage::new(&scenario).rounds(&[0.0, 1.0]);
    let batch = &rounds[1].batch;
    // What MIG cannot tell is listed, and is no degradation.
    assert_eq!(batch.state.as_str(), "active", "{}", batch.state);
    let gaps: Vec<&str> = rounds[1].gaps.iter().map(|gap| gap.value).collect();
    assert_eq!(gaps, ["util_percent", "process_util"]);
    assert_eq!(batch.devices[0].reading.util_percent, None);

    let instances = &batch.devices[0].instances;
    assert_eq!(instances.len(), 2);
    assert_eq!(instances[0].uuid, GpuUuid::from("MIG-1"));
    assert_eq!(instances[0].gpu_instance, Some(7));
    assert_eq!(instances[0].mem_used_bytes, Some(4 * GIB));
    assert_eq!(instances[0].mem_total_bytes, Some(10 * GIB));
    assert_eq!((instances[1].gpu_instance, instances[1].activity), (None, None));

    let process = only(&batch.processes);
    assert_eq!((process.gpu.as_str(), process.pid), ("MIG-1", Tgid(70)));
    assert_eq!(&*process.model, "NVIDIA H100 MIG 1g.10gb");
    assert_eq!(process.proc_util_percent, None);
    assert_eq!(process.attributed_util(), Some(77.0), "alone on its instance");
    assert_eq!(process.mem_used_bytes, Some(4 * GIB));
}

#[test]
fn one_lost_gpu_leaves_the_others() {
    let scenario = json!({"devices": [
        {"uuid": "GPU-0", "lost_from_s": 1.0, "processes": [{"pid": 1, "mem_bytes": 1}]},
        {"uuid": "GPU-1", "util": 12, "processes": [{"pid": 2, "mem_bytes": 1}]},
    ]});
    let rounds = Stage::new(&scenario).rounds(&[0.0, 2.0, 3.0, 70.0]);
    assert_eq!(rounds[0].batch.state.as_str(), "active");
    let lost: Vec<usize> = rounds.iter().map(|round| round.batch.faults.len()).collect();
    assert_eq!(lost, [0, 1, 0, 0], "told once");
    assert_eq!(rounds[1].batch.faults[0].fault, FaultKind::Lost);
    for round in &rounds[1..] {
        let BackendState::Degraded { devices: 1, gaps, .. } = &round.batch.state else {
            panic!("{}", round.batch.state);
        };
        assert!(matches!(&gaps[0].why, GpuError::GpuLost { .. }), "{gaps:?}");
        assert_eq!(round.batch.devices[0].reading.util_percent, Some(12.0));
        assert_eq!(only(&round.batch.processes).pid, Tgid(2));
    }
    // At 70 s the GPUs are listed again, and the UUID can no longer be read.
    assert!(rounds[1].batch.state.to_string().contains("GPU-0"));
    assert!(rounds[3].batch.state.to_string().contains("index:0"));
}

#[test]
fn a_host_whose_only_gpu_is_lost_is_off() {
    let scenario = json!({"devices": [{"lost_from_s": 0.0}]});
    let rounds = Stage::new(&scenario).rounds(&[1.0]);
    assert!(matches!(&rounds[0].batch.state, BackendState::Off(GpuError::GpuLost { .. })));
}

#[test]
fn a_host_without_gpus_is_active_with_none() {
    let rounds = Stage::new(&json!({"devices": []})).rounds(&[0.0]);
    assert!(matches!(&rounds[0].batch.state, BackendState::Active { devices: 0, .. }));
}

/// Plays one wrong call and returns the state word, the gap it left, and the round.
fn with_call(call: &str, code: &str) -> (monitor::gpu::round::Round, Option<GpuError>) {
    let mut scenario = training(1);
    scenario["calls"] = json!([{"call": call, "returns": code}]);
    let round = Stage::new(&scenario).rounds(&[0.0, 1.0]).pop().unwrap();
    let why = round.gaps.first().map(|gap| gap.why.clone());
    (round, why)
}

#[test]
fn an_unsupported_value_is_none_and_listed() {
    let (round, why) = with_call("nvmlDeviceGetPowerUsage", "NOT_SUPPORTED");
    assert_eq!(round.batch.devices[0].reading.power_watts, None);
    assert_eq!(why, Some(GpuError::Unsupported { call: "nvmlDeviceGetPowerUsage" }));
    assert_eq!(round.batch.state.as_str(), "active");
}

#[test]
fn a_refused_process_list_is_a_degradation_and_no_exit() {
    let call = "nvmlDeviceGetComputeRunningProcesses_v3";
    let mut scenario = training(1);
    scenario["calls"] = json!([
        {"call": call, "returns": "NO_PERMISSION", "from_s": 1.0, "until_s": 2.0},
    ]);
    let rounds = Stage::new(&scenario).rounds(&[0.0, 1.0, 2.0]);
    assert_eq!(rounds[1].batch.state.as_str(), "degraded");
    assert_eq!(rounds[1].gaps[0].why, GpuError::NoPermission { call });
    assert_eq!(rounds[1].batch.processes, [], "not knowing is not seeing it end");
    assert_eq!(only(&rounds[2].batch.processes).edge, None);
}

#[test]
fn a_driver_without_the_call_is_too_old_for_it() {
    for code in ["FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH"] {
        let (round, why) = with_call("nvmlDeviceGetMemoryInfo_v2", code);
        assert!(
            matches!(&why, Some(GpuError::DriverTooOld { driver, needs, .. })
                if driver == "580.82.07" && needs == "nvmlDeviceGetMemoryInfo_v2"),
            "{code}: {why:?}"
        );
        assert_eq!(round.batch.state.as_str(), "degraded");
    }
}

#[test]
fn a_call_that_times_out_is_told() {
    let (_, why) = with_call("nvmlDeviceGetTemperature", "TIMEOUT");
    assert_eq!(why, Some(GpuError::Timeout { call: "nvmlDeviceGetTemperature" }));
    let (_, why) = with_call("nvmlDeviceGetTemperature", "UNKNOWN");
    assert!(matches!(why, Some(GpuError::Other { .. })), "{why:?}");
}

#[test]
fn a_slow_call_delays_its_reading_only() {
    let mut scenario = training(1);
    scenario["calls"] = json!([{"call": "nvmlDeviceGetPowerUsage", "delay_ms": 80}]);
    let stage = Stage::new(&scenario);
    let began = std::time::Instant::now();
    let rounds = stage.rounds(&[0.0]);
    assert!(began.elapsed() >= std::time::Duration::from_millis(80));
    assert_eq!(rounds[0].batch.devices[0].reading.power_watts, Some(650.5));
    assert_eq!(rounds[0].batch.state.as_str(), "active");
}

#[test]
fn an_impossible_utilisation_is_counted_and_left_out() {
    let scenario = json!({"devices": [{"processes": [
        {"pid": 3, "mem_bytes": 1, "sm_util": 4_000_000},
    ]}]});
    let stage = Stage::new(&scenario);
    stage.open(|backend| {
        let mut rounds = Rounds::default();
        let round = stage.round(&mut rounds, backend, 1.0);
        assert_eq!(only(&round.batch.processes).proc_util_percent, None);
        assert_eq!(rounds.take_tally().implausible, 1);
    });
}

#[test]
fn an_old_driver_is_refused_with_its_version() {
    let stage = Stage::new(&json!({"driver_version": "470.256.02"}));
    let error = opening(&stage);
    assert!(
        matches!(&error, GpuError::DriverTooOld { driver, minimum, .. }
            if driver == "470.256.02" && *minimum == DRIVER_BRANCH_MIN),
        "{error}"
    );
    assert!(error.to_string().contains("upgrade to 510"), "{error}");
}

#[test]
fn a_library_without_kernel_module_says_so() {
    let library = |stage: &Stage| stage.path().join("libnvidia-ml.so.1");
    let failing =
        |code| Stage::new(&json!({"calls": [{"call": "nvmlInitWithFlags", "returns": code}]}));
    let stage = failing("DRIVER_NOT_LOADED");
    assert_eq!(opening(&stage), GpuError::NoDriver { library: library(&stage) });
    let stage = failing("LIB_RM_VERSION_MISMATCH");
    assert_eq!(opening(&stage), GpuError::VersionMismatch { library: library(&stage) });
    let stage = failing("NO_PERMISSION");
    assert_eq!(opening(&stage), GpuError::NoPermission { call: "nvmlInitWithFlags" });
}

#[test]
fn a_driver_that_goes_away_ends_the_session() {
    let mut scenario = training(1);
    scenario["calls"] = json!([{"call": "*", "returns": "DRIVER_NOT_LOADED", "from_s": 1.0}]);
    let stage = Stage::new(&scenario);
    stage.open(|backend| {
        let mut rounds = Rounds::default();
        stage.round(&mut rounds, backend, 0.0);
        stage.at(1.0);
        let error = rounds.next(backend, boot(1.0)).unwrap_err();
        assert!(error.ends_session(), "{error}");
    });
}

#[test]
fn no_library_names_every_place_searched() {
    let nowhere = tempfile::tempdir().unwrap();
    let paths = vec![nowhere.path().join("a"), nowhere.path().join("b")];
    let mut driver = NvmlDriver { paths: paths.clone(), is_exclusive: true };
    let error = driver.with_backend(&mut |_| panic!("there is none")).unwrap_err();
    let expected: Vec<PathBuf> = paths.iter().map(|path| path.join("libnvidia-ml.so.1")).collect();
    let GpuError::NoLibrary { searched, detail } = &error else { panic!("{error}") };
    assert_eq!(*searched, expected);
    assert!(!detail.is_empty());
    for path in expected {
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_library_that_is_none_is_passed_over() {
    let broken = tempfile::tempdir().unwrap();
    std::fs::write(broken.path().join("libnvidia-ml.so.1"), "not a library").unwrap();
    let stage = Stage::new(&training(1));
    let paths = vec![broken.path().to_owned(), stage.path().to_owned()];
    let mut driver = NvmlDriver { paths, is_exclusive: true };
    let mut library = PathBuf::new();
    driver.with_backend(&mut |backend| library = backend.info().library).unwrap();
    assert!(library.starts_with(stage.path()));
}

#[test]
fn pids_may_come_from_running_processes() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let scenario = json!({"devices": [{"processes": [
        {"pid": {"pid_file": "pid"}, "mem_bytes": 5, "sm_util": 10},
    ]}]});
    let stage = Stage::new(&scenario);
    let (before, after) = stage.open(|backend| {
        let mut rounds = Rounds::default();
        let before = stage.round(&mut rounds, backend, 1.0);
        stage.put("pid", &child.id().to_string());
        (before, stage.round(&mut rounds, backend, 2.0))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(before.batch.processes, []);

    let key = ProcessKey { tgid: Tgid(child.id()), start: boot(0.0) };
    let events: Vec<_> = after
        .batch
        .events(|pid| (pid == key.tgid).then(|| Actor { process: key, ..Actor::default() }))
        .collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].time, boot(2.0));
    assert_eq!(events[0].actor.as_ref().map(|actor| actor.process), Some(key));
    let Body::GpuSample(sample) = &events[0].body else { panic!("{events:?}") };
    assert_eq!((sample.mem_used_bytes, sample.is_edge), (Some(5), true));
    assert!(after.batch.events(|_| None).all(|event| event.actor.is_none()));
}
