//! Known loads through the real wrapper, the features and the score, kept as recordings in
//! `tests/fixtures/gpu/streams`, and each recording through the shipped rules, with the verdict
//! that it must get. The streams are made here, from what is published about such loads: no
//! data-centre GPU has been measured (docs/gpu-mining.md).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use monitor::alert::{AlertConfig, Host as Origin};
use monitor::gpu::mining::{self, MiningInputs, ThinFlow};
use monitor::gpu::round::Rounds;
use monitor::gpu::{FeatureTable, FeatureView, TreeReading};
use monitor::model::{BootNs, FactRow, Facts as _, FieldId, ProcessKey, Severity, Tgid};
use monitor::pipeline::Replay;
use monitor::recording::{FORMAT, Header, Reader, Target, Writer};
use monitor::rule::{RuleSet, shipped};
use serde_json::{Map, Value, json};

use crate::stage::Stage;

/// Half an hour, a reading every five seconds.
const SECONDS: u32 = 1_800;
const STEP: usize = 5;
/// Makes the recordings anew.
const BLESS: &str = "GPUWARDEN_BLESS";
/// The process that is judged.
const PID: u32 = 4_242;

/// What the host knows of the workload.
#[derive(Clone, Default)]
struct Host {
    weight_bytes: u64,
    file_bytes: u64,
    has_thin_flow: bool,
    is_stratum_seen: bool,
    is_unallocated: bool,
}

/// What was said of a load in the end.
struct Verdict {
    score: i64,
    reasons: String,
    /// Rules that fired, and how severe they are.
    fired: Vec<(String, Severity)>,
    /// Whether more than a GPU told of it: a thin flow, a pool, or nobody's allocation.
    is_corroborated: bool,
}

fn steps(points: &[(u32, f64)], repeat_s: u32) -> Value {
    json!({"steps": {"points": points, "repeat_s": repeat_s}})
}

fn noisy(mean: f64, amplitude: f64) -> Value {
    json!({"sum": [mean, {"noise": {"amplitude": amplitude, "seed": 7}}]})
}

/// One GPU with one process; `util` is that of both, `more` goes over the rest.
fn load(util: &Value, gpm: &Value, more: &Value) -> Value {
    let mut device = json!({
        "uuid": "GPU-5a1e0000-0000-4000-8000-000000000001", "name": "NVIDIA H100 80GB HBM3",
        "util": util, "gpm": gpm, "power_mw": noisy(640_000.0, 8_000.0),
        "processes": [{"pid": PID, "mem_bytes": 8_u64 << 30, "sm_util": util}],
    });
    for (key, value) in more.as_object().expect("an object") {
        device[key] = value.clone();
    }
    json!({"devices": [device]})
}

fn row(
    second: u32,
    view: &FeatureView,
    host: &Host,
    verdict: &mining::MiningVerdict,
) -> Map<String, Value> {
    let row = json!({
        "evt.kind": "gpu_sample", "evt.time_ns": u64::from(second) * 1_000_000_000,
        "gpu.uuid": "GPU-5a1e", "gpu.index": 0, "gpu.model": "NVIDIA H100 80GB HBM3",
        "gpu.util_mean_10m": view.util_mean_10m, "gpu.util_cv_10m": view.util_cv_10m,
        "gpu.mem_cv_10m": view.mem_cv_10m, "gpu.busy_seconds": view.busy_seconds,
        "gpu.seconds_since_first_use": view.seconds_since_first_use,
        "gpu.tensor_util": view.tensor_mean_10m, "gpu.tensor_mean_10m": view.tensor_mean_10m,
        "gpu.int_mean_10m": view.int_mean_10m, "gpu.float_mean_10m": view.float_mean_10m,
        "gpu.dram_mean_10m": view.dram_mean_10m, "gpu.power_cv_10m": view.power_cv_10m,
        "gpu.mining_score": verdict.score, "gpu.mining_reasons": verdict.reasons,
        "weights.bytes_read": host.weight_bytes, "workload.file_bytes_read": host.file_bytes,
        "workload.id": "slurm:42", "workload.name": "job 42",
        "workload.stratum_seen": host.is_stratum_seen,
        "proc.pid": PID, "proc.exe": "/opt/run", "proc.name": "run",
    });
    let row = row.as_object().expect("an object");
    row.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// What the network tells before the first reading: the miner logs in at its pool.
fn handshake() -> Map<String, Value> {
    let row = json!({
        "evt.kind": "flow", "evt.time_ns": 0, "net.phase": "payload", "net.app_proto": "stratum",
        "net.dst.ip": "203.0.113.5", "net.dst.port": 3333, "workload.id": "slurm:42",
        "workload.name": "job 42", "workload.stratum_seen": true,
        "proc.pid": PID, "proc.exe": "/opt/run", "proc.name": "run",
    });
    row.as_object().expect("an object").clone()
}

/// Plays half an hour, and writes down what rules see of it.
fn record(scenario: &Value, host: &Host, to: &Path) {
    let header = Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: "played".to_owned(),
        host: Origin { name: "played".to_owned(), boot_id: "played".to_owned() },
        wall_at_boot_ns: 1_700_000_000_000_000_000,
        sensors: Vec::new(),
    };
    let mut writer = Writer::create(&Target::of(to), &header).expect("a new file");
    if host.is_stratum_seen {
        writer.row(handshake()).expect("room for a row");
    }
    let mut table = FeatureTable::default();
    let stage = Stage::new(scenario);
    stage.open(|backend| {
        let mut rounds = Rounds::default();
        for second in (0..=SECONDS).step_by(STEP) {
            let round = stage.round(&mut rounds, backend, f64::from(second));
            for process in round.batch.processes.iter().filter(|process| process.pid == Tgid(PID)) {
                let tree = ProcessKey { tgid: process.pid, start: BootNs(1) };
                let reading = TreeReading {
                    util_percent: process.attributed_util(),
                    mem_used_bytes: process.mem_used_bytes,
                    power_watts: process.power_watts,
                    activity: process.activity,
                };
                table.observe(tree, &process.gpu, round.batch.time, &reading);
                let view = table.features(tree, &process.gpu).expect("it was observed");
                let flow = ThinFlow { peer: "203.0.113.5".into(), bytes_per_minute: 14_000.0 };
                let verdict = mining::judge(&MiningInputs {
                    view,
                    weight_bytes: host.weight_bytes,
                    file_bytes: host.file_bytes,
                    thin_flow: host.has_thin_flow.then_some(flow),
                    is_stratum_seen: host.is_stratum_seen,
                    is_unallocated: host.is_unallocated,
                });
                let Some(verdict) = verdict else { continue };
                writer.row(row(second, &view, host, &verdict)).expect("room for a row");
            }
        }
    });
    writer.finish(0).expect("room for the end");
}

fn read(path: &Path) -> Vec<FactRow> {
    let mut reader = open(path);
    std::iter::from_fn(|| reader.next_row().expect("a whole recording")).collect()
}

fn open(path: &Path) -> Reader {
    Reader::open(path).unwrap_or_else(|error| {
        panic!("{}: {error}; {BLESS}=1 makes the recordings anew", path.display())
    })
}

/// Plays a load, holds it against its recording, and judges the recording.
fn play(name: &str, scenario: &Value, host: &Host) -> Verdict {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/gpu/streams");
    let kept = root.join(format!("{name}.rec"));
    if std::env::var_os(BLESS).is_some() {
        fs::create_dir_all(&root).expect("a folder");
        let _none_yet = fs::remove_file(&kept);
        record(scenario, host, &kept);
    } else {
        let folder = tempfile::tempdir().expect("a folder");
        let made = folder.path().join("made.rec");
        record(scenario, host, &made);
        let is_same = read(&made) == read(&kept);
        assert!(is_same, "{name} no longer gives what was recorded; {BLESS}=1 records it anew");
    }
    judge(&kept, host)
}

/// What the shipped rules say of a recording.
fn judge(recording: &Path, host: &Host) -> Verdict {
    let rules = RuleSet::load(&shipped()).unwrap_or_else(|errors| panic!("{errors}"));
    let mut reader = open(recording);
    let mut replay = Replay::of(&rules, AlertConfig::default(), &reader.header);
    let mut fired: Vec<(String, Severity)> = Vec::new();
    let mut last = None;
    while let Some(row) = reader.next_row().expect("a whole recording") {
        replay.take(&row, &mut |alert, _| fired.push((alert.rule.id, alert.severity)));
        last = Some(row);
    }
    let last = last.expect("the process was there");
    let score = match last.field(FieldId::GpuMiningScore) {
        monitor::model::Value::Int(score) => score,
        other => panic!("no score but {other:?}"),
    };
    let reasons = match last.field(FieldId::GpuMiningReasons) {
        monitor::model::Value::Str(reasons) => reasons.to_owned(),
        other => panic!("no reasons but {other:?}"),
    };
    fired.sort();
    fired.dedup();
    let is_corroborated = host.has_thin_flow || host.is_stratum_seen || host.is_unallocated;
    Verdict { score, reasons, fired, is_corroborated }
}

/// Rules that may fire here, and how severe they are.
const BUSY: (&str, Severity) = ("gpu-busy-without-model", Severity::Medium);
const LIKELY: (&str, Severity) = ("gpu-mining-likely", Severity::High);
const HANDSHAKE: (&str, Severity) = ("stratum-handshake", Severity::Critical);

impl Verdict {
    /// Exactly these rules fired. Readings of a GPU alone never make a high alert, whatever load.
    fn assert_fired(self, expected: &[(&str, Severity)]) -> Self {
        let Self { score, reasons, fired, .. } = &self;
        let fired: Vec<(&str, Severity)> =
            fired.iter().map(|(rule, severity)| (rule.as_str(), *severity)).collect();
        assert_eq!(fired, expected, "{score}: {reasons}");
        let is_high = fired.iter().any(|(_, severity)| *severity >= Severity::High);
        assert!(!is_high || self.is_corroborated, "{fired:?}: {reasons}");
        self
    }

    fn assert_work(self) {
        let Self { score, reasons, .. } = self.assert_fired(&[]);
        assert!(score < 40, "{score}: {reasons}");
    }

    /// Looks like mining, and one thin flow agrees: two rules say so.
    fn assert_suspected(self, from: i64) -> String {
        let Self { score, reasons, .. } = self.assert_fired(&[BUSY, LIKELY]);
        assert!(score >= from, "{score}: {reasons}");
        reasons
    }
}

const MODEL: Host = Host {
    weight_bytes: 140 << 30,
    file_bytes: 140 << 30,
    has_thin_flow: false,
    is_stratum_seen: false,
    is_unallocated: false,
};

fn mining() -> Host {
    Host { file_bytes: 20 << 20, has_thin_flow: true, ..Host::default() }
}

#[test]
fn training_with_evaluations_and_checkpoints_is_work() {
    let util = json!({"sum": [
        noisy(95.0, 4.0),
        steps(&[(0, 0.0), (104, -45.0)], 120),
        steps(&[(0, 0.0), (290, -92.0)], 300),
    ]});
    let gpm = json!({"sm": 90, "tensor": 45, "integer": 10, "fp32": 12, "dram": 60,
                     "pcie_rx_mib": 250, "nvlink_tx_mib": 9_000, "nvlink_rx_mib": 9_000});
    play("training", &load(&util, &gpm, &json!({})), &MODEL).assert_work();
}

#[test]
fn decoding_flat_and_with_constant_memory_is_work() {
    let gpm = json!({"sm": 85, "tensor": 11, "integer": 14, "fp16": 6, "dram": 80});
    play("decoding", &load(&noisy(93.0, 3.0), &gpm, &json!({})), &MODEL).assert_work();
}

#[test]
fn a_burn_test_is_work_by_its_pipes() {
    let gpm = json!({"sm": 99, "tensor": 88, "integer": 8, "fp16": 30, "dram": 70});
    let scenario = load(&noisy(99.5, 0.5), &gpm, &json!({}));
    play("gpu_burn", &scenario, &Host::default()).assert_work();
}

#[test]
fn a_communication_benchmark_is_told_by_nvlink_and_by_nothing_else() {
    let gpm = json!({"sm": 97, "tensor": 0, "integer": 12, "dram": 35,
                     "nvlink_tx_mib": 180_000, "nvlink_rx_mib": 180_000});
    let scenario = load(&noisy(99.0, 0.5), &gpm, &json!({}));
    let verdict = play("nccl_tests", &scenario, &Host::default()).assert_fired(&[BUSY]);
    assert!(verdict.score < 50, "{}: {}", verdict.score, verdict.reasons);
    assert!(verdict.reasons.contains("works with other GPUs over NVLink"), "{}", verdict.reasons);
}

#[test]
fn a_simulation_in_double_precision_is_told_by_its_pipes() {
    let gpm = json!({"sm": 95, "tensor": 0, "integer": 15, "fp64": 62, "dram": 70});
    let host = Host { file_bytes: 3 << 30, ..Host::default() };
    play("hpc_fp64", &load(&noisy(97.0, 1.0), &gpm, &json!({})), &host).assert_work();
}

#[test]
fn a_memory_bound_miner_is_suspected() {
    let gpm = json!({"sm": 60, "tensor": 0, "integer": 22, "dram": 92, "pcie_rx_mib": 0.1});
    let scenario = load(&noisy(98.0, 1.0), &gpm, &json!({}));
    let reasons = play("ethash", &scenario, &mining()).assert_suspected(80);
    assert!(reasons.contains("DRAM 92 %") && reasons.contains("no model or data file read"));
    assert!(reasons.contains("one 14 KB/min flow to 203.0.113.5"), "{reasons}");
}

/// The same readings, and nothing of the host against it: suspected, but never high.
#[test]
fn a_gpu_alone_is_suspected_at_medium() {
    let gpm = json!({"sm": 99, "tensor": 0, "integer": 83, "dram": 3, "pcie_rx_mib": 0.1});
    let host = Host { has_thin_flow: false, ..mining() };
    let scenario = load(&noisy(99.0, 0.5), &gpm, &json!({}));
    let verdict = play("gpu_alone", &scenario, &host).assert_fired(&[BUSY]);
    assert!(verdict.score <= 70, "{}: {}", verdict.score, verdict.reasons);
}

#[test]
fn a_core_bound_miner_is_suspected() {
    let gpm = json!({"sm": 99, "tensor": 0, "integer": 83, "dram": 3, "pcie_rx_mib": 0.1});
    let scenario = load(&noisy(99.0, 0.5), &gpm, &json!({}));
    let reasons = play("kheavyhash", &scenario, &mining()).assert_suspected(80);
    assert!(reasons.contains("tensor 0 %, integer 83 %"), "{reasons}");
}

/// The driver tells utilisation by process, but activity of the whole GPU: the training job's
/// tensor cores hide the miner. What finds it is the network.
#[test]
fn a_miner_beside_a_training_job_is_found_by_its_handshake_alone() {
    let gpm = json!({"sm": 97, "tensor": 38, "integer": 35, "fp32": 9, "dram": 70});
    let beside = json!({"processes": [
        {"pid": PID, "mem_bytes": 2_u64 << 30, "sm_util": noisy(30.0, 1.0)},
        {"pid": 1_000, "mem_bytes": 60_u64 << 30, "sm_util": 65},
    ]});
    let scenario = load(&noisy(97.0, 1.0), &gpm, &beside);
    let quiet = play("miner_beside_training", &scenario, &mining()).assert_fired(&[]);
    assert!(quiet.score < 40, "{}: {}", quiet.score, quiet.reasons);
    let told = Host { is_stratum_seen: true, is_unallocated: true, ..mining() };
    let loud = play("miner_beside_training_with_pool", &scenario, &told).assert_fired(&[HANDSHAKE]);
    assert!(loud.score >= 40, "{}: {}", loud.score, loud.reasons);
    assert!(loud.reasons.contains("a mining handshake"), "{}", loud.reasons);
}

/// Thirty seconds in five minutes are below everything that a threshold on utilisation can tell
/// from an idle notebook.
#[test]
fn a_miner_that_runs_in_short_bursts_is_found_by_its_handshake_alone() {
    let util = steps(&[(0, 98.0), (30, 0.0)], 300);
    let gpm = json!({"sm": util, "tensor": 0, "integer": util, "dram": 5});
    let quiet =
        play("miner_in_bursts", &load(&util, &gpm, &json!({})), &mining()).assert_fired(&[]);
    assert!(quiet.score < 60, "{}: {}", quiet.score, quiet.reasons);
    let told = Host { is_stratum_seen: true, ..mining() };
    let scenario = load(&util, &gpm, &json!({}));
    let loud = play("miner_in_bursts_with_pool", &scenario, &told).assert_fired(&[HANDSHAKE]);
    assert!(loud.score >= 60, "{}: {}", loud.score, loud.reasons);
    assert!(loud.reasons.contains("uneven use"), "{}", loud.reasons);
}

#[test]
fn the_shipped_rules_are_those_that_are_tested() {
    let rules = RuleSet::load(&shipped()).unwrap_or_else(|errors| panic!("{errors}"));
    let on_gpu = rules
        .rules
        .iter()
        .filter(|rule| rule.fields.iter().any(|field| monitor::rule::is_gpu(*field)));
    assert!(on_gpu.map(Arc::clone).count() > 0);
}
