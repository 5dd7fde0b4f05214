//! NVIDIA's own Python binding loads the same library: the layouts are not only what we believe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use monitor::gpu::round::Rounds;
use serde_json::{Value, json};

use crate::stage::{Stage, library};

/// The binding and the version it is checked with.
const BINDING: &str = "nvidia-ml-py==13.615.71";

/// A monitor for people that is built on the binding, and the version it is checked with.
const MONITOR: &str = "nvitop==1.7.2";

/// A Python that has both, in a virtual environment below `target/`.
fn python() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let target = library().ancestors().nth(2).expect("<target>/<profile>/<library>");
        let home = target.join(BINDING.replace("==", "-"));
        let python = home.join("bin/python3");
        let has_binding = || {
            let import = Command::new(&python).args(["-c", "import pynvml, nvitop"]).output();
            import.is_ok_and(|import| import.status.success())
        };
        if !has_binding() {
            must("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(&home));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            must("pip install", Command::new(&python).args(pip).args([BINDING, MONITOR]));
            assert!(
                has_binding(),
                "{BINDING} is installed but cannot be imported by {}",
                python.display()
            );
        }
        python
    })
}

/// The binding's source.
pub(crate) fn binding() -> PathBuf {
    let script = "import pynvml; print(pynvml.__file__)";
    let output = must("the binding", Command::new(python()).args(["-c", script]));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn must(step: &str, command: &mut Command) -> Output {
    let advice = "this test needs python3 with venv and pip, and a package index with the binding";
    let output = command
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap_or_else(|error| panic!("{step} cannot be run ({error}); {advice}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{step} failed ({advice}): {errors}");
    output
}

/// Runs a script that imports the binding on a stage; it prints one JSON value.
fn run(stage: &Stage, script: &str) -> Value {
    let output = Command::new(python())
        .args(["-c", script])
        .env("LD_LIBRARY_PATH", stage.path())
        .env("STAGE", stage.path())
        .output()
        .expect("the virtual environment has a Python");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}

#[test]
fn the_vendor_binding_reads_the_same_values() {
    let stage = Stage::of_fixture("training");
    stage.at(30.0);
    let theirs = run(&stage, include_str!("client/read.py"));
    let ours = stage.open(|backend| {
        let mut rounds = Rounds::default();
        stage.round(&mut rounds, backend, 30.0)
    });
    let device = &ours.batch.devices[0];
    let process = &ours.batch.processes[0];
    let memory = device.reading.mem_used_bytes.unwrap();
    assert!(device.reading.util_percent > Some(0.0) && memory > 0, "the fixture plays nothing");
    let whole = |value: Option<f64>| value.map(|value| format!("{value:.3}"));
    let expected = json!({
        "driver": "580.82.07",
        "count": 1,
        "name": device.device.model,
        "uuid": device.device.uuid.as_str(),
        "bus_id": device.device.pci_bus_id,
        "util": whole(device.reading.util_percent),
        "mem_util": whole(device.reading.mem_util_percent),
        "mem_used": memory,
        "mem_used_v2": memory,
        "mem_total": device.reading.mem_total_bytes,
        "power_watts": whole(device.reading.power_watts),
        "energy_joules": whole(device.reading.energy_joules),
        "temperature": whole(device.reading.temperature_celsius),
        "sm_clock": device.reading.sm_clock_mhz,
        "mem_clock": device.reading.mem_clock_mhz,
        "processes": [[process.pid.0, process.mem_used_bytes]],
        "process_util": [[process.pid.0, whole(process.proc_util_percent)]],
        "mig": [0, 0],
        "has_gpm": device.device.has_gpm,
    });
    assert_eq!(theirs, expected);
}

#[test]
fn the_vendor_binding_below_another_monitor_reads_the_same_values() {
    let stage = Stage::of_fixture("training");
    stage.at(30.0);
    let theirs = run(&stage, include_str!("client/nvitop.py"));
    let ours = stage.open(|backend| {
        let mut rounds = Rounds::default();
        stage.round(&mut rounds, backend, 30.0)
    });
    let device = &ours.batch.devices[0];
    let (reading, process) = (&device.reading, &ours.batch.processes[0]);
    for (key, value) in [
        ("name", json!(device.device.model)),
        ("uuid", json!(device.device.uuid.as_str())),
        ("mem_used", json!(reading.mem_used_bytes)),
        ("mem_total", json!(reading.mem_total_bytes)),
        ("sm_clock", json!(reading.sm_clock_mhz)),
        ("uncorrected", json!(reading.ecc_uncorrected)),
        ("processes", json!([[process.pid.0, process.mem_used_bytes, "C"]])),
    ] {
        assert_eq!(theirs[key], value, "{key}");
    }
    for (key, value, unit) in [
        ("util", reading.util_percent, 1.0),
        ("power_mw", reading.power_watts, 1_000.0),
        ("temperature", reading.temperature_celsius, 1.0),
    ] {
        let theirs = theirs[key].as_f64().map(|value| value / unit);
        assert_eq!(theirs, value, "{key}");
    }
    assert!(theirs["pcie_kib"][1].as_u64() > Some(0), "{}", theirs["pcie_kib"]);
}

#[test]
fn the_vendor_binding_sees_the_same_refusals() {
    let stage = Stage::new(&json!({
        "calls": [
            {"call": "nvmlDeviceGetPowerUsage", "returns": "NOT_SUPPORTED"},
            {"call": "nvmlDeviceGetTemperature", "returns": "NO_PERMISSION"},
        ],
        "devices": [{"processes": [{"pid": 3}]}, {"lost_from_s": 0.0}],
    }));
    let refusals = run(&stage, include_str!("client/refuse.py"));
    assert_eq!(
        refusals,
        json!({
            "before_init": "NVMLError_Uninitialized",
            "power": "NVMLError_NotSupported",
            "temperature": "NVMLError_NoPermission",
            "idle": "NVMLError_NotFound",
            "lost": "NVMLError_GpuIsLost",
            "no_such_gpu": "NVMLError_InvalidArgument",
            "wild_handle": "NVMLError_InvalidArgument",
            "null_handle": "NVMLError_InvalidArgument",
            "null_place": "NVMLError_InvalidArgument",
            "short_name": "NVMLError_InsufficientSize",
            "unknown_memory": null,
            "freed_set": "NVMLError_InvalidArgument",
            "text": "GPU is lost",
        })
    );
}

#[test]
fn the_vendor_binding_reads_instances_activity_and_faults() {
    let stage = Stage::new(&json!({"devices": [
        {"gpm": {"sm": 80, "tensor": {"ramp": {"from": 0, "to": 100, "start_s": 0, "end_s": 10}}},
         "xids": [{"at_s": 5, "xid": 48}]},
        {"mig": {"instances": [
            {"uuid": "MIG-1", "name": "NVIDIA Fake GPU MIG 1g.10gb", "gpu_instance": 9,
             "compute_instance": 0, "memory_total_bytes": 10_737_418_240_u64,
             "processes": [{"pid": 12, "mem_bytes": 4096}]},
        ]}},
    ]}));
    let read = run(&stage, include_str!("client/instances.py"));
    assert_eq!(
        read,
        json!({
            "sm": "80.000",
            "tensor": "50.000",
            "unknown_metric": 3,
            "xid": 48,
            "no_more": "NVMLError_Timeout",
            "mig": [1, 1],
            "mig_uuid": "MIG-1",
            "mig_memory": [4096, 10_737_418_240_u64],
            "mig_processes": [[12, 4096, 9, 0]],
            "parent_processes": [[12, 4096, 9, 0]],
            "mig_slots": [7, 1],
            "mig_util": "NVMLError_NotSupported",
        })
    );
}

/// Where no real library can be fetched, the list of one stands in (see `driver.rs`).
#[test]
fn every_exported_call_is_in_the_list_of_a_real_driver() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let real = root.join("tests/fixtures/gpu/nvml-535.261.03.txt");
    let real = fs::read_to_string(real).expect("the list of a real driver's functions");
    let fake = crate::driver::exported(library());
    let invented: Vec<_> =
        fake.iter().filter(|name| !real.lines().any(|line| line == name.as_str())).collect();
    assert!(invented.is_empty(), "no driver exports {invented:?}");
    assert!(fake.len() > 300, "only {} calls found", fake.len());
}
