//! Rounds over a scripted backend: answers that no well-behaved driver gives.
#![expect(clippy::unwrap_used, reason = "a test may end where it finds something wrong")]

use monitor::gpu::backend::{
    BackendInfo, Device, DeviceList, DeviceReading, GpuBackend, MigInstance,
    PROCESSES_PER_DEVICE_MAX, ProcessMemory, ProcessUtil,
};
use monitor::gpu::round::{Round, Rounds};
use monitor::gpu::status::GAPS_MAX;
use monitor::gpu::{Edge, GpuError};
use monitor::model::{BootNs, GpuUuid, Tgid};

/// Says what it was told to say.
#[derive(Default)]
struct Script {
    processes: Vec<ProcessMemory>,
    /// Returned whatever `since_us` asks for.
    util: Vec<ProcessUtil>,
    missing: Vec<GpuError>,
}

impl GpuBackend for Script {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "script", ..BackendInfo::default() }
    }

    fn devices(&mut self) -> Result<DeviceList, GpuError> {
        let device = Device {
            index: 0,
            uuid: GpuUuid::from("GPU-0"),
            model: "Script".into(),
            ..Device::default()
        };
        Ok(DeviceList { devices: vec![device], missing: self.missing.clone() })
    }

    fn reading(&mut self, _: &Device) -> Result<DeviceReading, GpuError> {
        Ok(DeviceReading::default())
    }

    fn processes(&mut self, _: &Device) -> Result<Vec<ProcessMemory>, GpuError> {
        Ok(self.processes.clone())
    }

    fn process_util(&mut self, _: &Device, _: u64) -> Result<Vec<ProcessUtil>, GpuError> {
        Ok(self.util.clone())
    }

    fn mig_instances(&mut self, _: &Device) -> Result<Vec<MigInstance>, GpuError> {
        Ok(Vec::new())
    }

    fn faults(&mut self, _: &Device) -> Result<Vec<u64>, GpuError> {
        Ok(Vec::new())
    }
}

fn process(pid: u32) -> ProcessMemory {
    ProcessMemory { pid, ..ProcessMemory::default() }
}

fn util(pid: u32, time_us: u64, sm_percent: f64) -> ProcessUtil {
    ProcessUtil { pid, time_us, sm_percent, mem_percent: 0.0 }
}

fn round(rounds: &mut Rounds, script: &mut Script, second: u64) -> Round {
    rounds.next(script, BootNs(second * 1_000_000_000)).unwrap()
}

fn told(round: &Round, pid: u32) -> Option<f64> {
    let found = round.batch.processes.iter().find(|process| process.pid == Tgid(pid));
    found.unwrap().proc_util_percent
}

#[test]
fn an_old_entry_is_not_told_again() {
    let mut script =
        Script { processes: vec![process(1)], util: vec![util(1, 500, 80.0)], ..Script::default() };
    let mut rounds = Rounds::default();
    assert_eq!(told(&round(&mut rounds, &mut script, 1), 1), Some(80.0));
    assert_eq!(told(&round(&mut rounds, &mut script, 2), 1), None);
    assert_eq!(told(&round(&mut rounds, &mut script, 3), 1), Some(0.0));
}

#[test]
fn the_history_before_the_first_round_is_not_now() {
    let mut script = Script {
        processes: vec![process(1)],
        util: vec![util(1, 600, 10.0), util(1, 500, 90.0), util(77, 400, 50.0)],
        ..Script::default()
    };
    let first = round(&mut Rounds::default(), &mut script, 1);
    assert_eq!(told(&first, 1), Some(10.0), "the newest entry");
    assert_eq!(first.batch.processes.len(), 1, "process 77 may be long gone");
}

#[test]
fn entries_since_the_last_round_are_averaged() {
    let mut script =
        Script { processes: vec![process(1)], util: vec![util(1, 500, 10.0)], ..Script::default() };
    let mut rounds = Rounds::default();
    round(&mut rounds, &mut script, 1);
    script.util = vec![util(1, 600, 20.0), util(1, 700, 60.0)];
    assert_eq!(told(&round(&mut rounds, &mut script, 2), 1), Some(40.0));
}

#[test]
fn processes_beyond_the_bound_are_counted() {
    let pids = 1..=u32::try_from(PROCESSES_PER_DEVICE_MAX).unwrap() + 5;
    let mut script = Script { processes: pids.map(process).collect(), ..Script::default() };
    let mut rounds = Rounds::default();
    let first = round(&mut rounds, &mut script, 1);
    assert_eq!(first.batch.processes.len(), PROCESSES_PER_DEVICE_MAX);
    assert_eq!(rounds.take_tally().processes_cut, 5);
    assert_eq!(rounds.take_tally().processes_cut, 0);
}

#[test]
fn gaps_are_bounded() {
    let missing = vec![GpuError::Timeout { call: "nvmlDeviceGetUUID" }; GAPS_MAX + 9];
    let mut script = Script { missing, ..Script::default() };
    let first = round(&mut Rounds::default(), &mut script, 1);
    assert_eq!(first.gaps.len(), GAPS_MAX);
}

#[test]
fn a_pid_that_moves_on_is_an_edge_each_time() {
    let mut script = Script::default();
    let mut rounds = Rounds::default();
    let mut edges = Vec::new();
    for (second, pids) in [(1, vec![]), (2, vec![9]), (3, vec![]), (4, vec![9]), (5, vec![9])] {
        script.processes = pids.into_iter().map(process).collect();
        let found = round(&mut rounds, &mut script, second);
        edges.push(found.batch.processes.first().and_then(|process| process.edge));
    }
    let (came, went) = (Some(Edge::Appeared), Some(Edge::Vanished));
    assert_eq!(edges, [None, came, went, came, None]);
}

#[test]
fn gauges_keep_what_the_driver_said_until_it_counts_as_zero() {
    let mut script =
        Script { processes: vec![process(1)], util: vec![util(1, 500, 80.0)], ..Script::default() };
    let mut rounds = Rounds::default();
    let first = round(&mut rounds, &mut script, 1);
    let second = round(&mut rounds, &mut script, 2);
    let shown = second.batch.keeping(Some(&first.batch));
    assert_eq!(shown.processes[0].proc_util_percent, Some(80.0));
    script.processes.push(process(2));
    let third = round(&mut rounds, &mut script, 3).batch.keeping(Some(&shown));
    let told: Vec<_> = third.processes.iter().map(|process| process.proc_util_percent).collect();
    assert_eq!(told, [Some(0.0), None], "quiet for too long, and never heard of");
}
