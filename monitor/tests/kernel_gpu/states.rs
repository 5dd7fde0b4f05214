//! Every state of the GPU side, as a person meets it: in `/metrics`, in `doctor`, and in an alert.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use monitor::gpu::library::{LIBRARY_NAME, candidates};
use serde_json::{Value, json};

use crate::daemon::{self, Daemon, Ground};
use crate::page::{doctor, row};
use crate::stage::Stage;

/// Until a state is shown: the library is opened again after one, two, four and eight seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const RULES: &str = "apiVersion: gpuwarden.dev/v1
rules:
- id: flow
  title: A flow, and whether its workload uses GPUs
  severity: medium
  on: [flow]
  when: net.phase == \"start\" && net.direction == \"egress\" && has(workload.gpu_user)
  dedupe: {key: [proc.pid], for: 1s}
  message: 'pid {{proc.pid}} connects'
- id: power
  title: What a process draws
  severity: medium
  on: [gpu_sample]
  when: gpu.uuid == \"GPU-a\" && (!has(gpu.power_watts) || gpu.power_watts >= 0.0)
  dedupe: {key: [gpu.uuid], for: 1s}
  message: 'pid {{proc.pid}} draws {{gpu.power_watts}}'
";

/// A monitor over a stage, and what it is asked.
struct Scene {
    stage: Stage,
    ground: Ground,
    daemon: Daemon,
    sink: TcpListener,
}

/// What a state must look like.
struct Look<'l> {
    state: &'l str,
    reason: &'l str,
    /// Of the source in `doctor`.
    verdict: &'l str,
    /// Part of the source's text in `doctor`, and of the gap in an alert where there is one.
    says: &'l str,
    /// How an alert counts the GPU side: nothing where all is well.
    in_alerts: Option<&'l str>,
}

impl Scene {
    fn set(scenario: &Value) -> Self {
        let stage = Stage::new(scenario);
        let ground = Ground::new();
        ground.write("rules.yaml", RULES);
        let more = format!(
            "gpu: {{library_paths: [{}], interval_ms: 200, timeout_ms: 1000}}\n\
             kernel: {{report_loopback: true}}\nrules: {{shipped: false, paths: [{}]}}\n",
            stage.path().display(),
            ground.path("rules.yaml").display(),
        );
        ground.write("config.yaml", &ground.config(&more));
        let mut command = ground.run();
        command.args(["--output", "json"]);
        let daemon = Daemon::start(command);
        let sink = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { stage, ground, daemon, sink }
    }

    fn row(&self, name: &str, labels: &[(&str, &str)]) -> Option<String> {
        row(&self.daemon.get("/metrics").1, name, labels)
    }

    /// Waits for a row of `/metrics`.
    fn shows(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let value = daemon::until(PATIENCE, || self.row(name, labels));
        value.unwrap_or_else(|| {
            let (_, page) = self.daemon.get("/metrics");
            let rows: Vec<&str> = page.lines().filter(|line| line.contains("_gpu_")).collect();
            panic!("no {name} {labels:?} in\n{}\n{}", rows.join("\n"), self.daemon.log())
        })
    }

    /// The GPU side in an alert about a flow that begins now.
    fn gap(&self) -> Value {
        let port = self.sink.local_addr().expect("an address").port();
        let script = format!("import socket; socket.create_connection((\"127.0.0.1\", {port}))");
        let mut child =
            Command::new("python3").args(["-c", &script]).spawn().expect("python3 runs");
        let said = format!("pid {} connects", child.id());
        assert!(child.wait().expect("it ends").success());
        let alert = self.daemon.wait_alert(|alert| alert["summary"] == said.as_str());
        let gaps = alert["evidence"]["completeness"]["gaps"].as_array().cloned();
        let of_gpu = gaps.into_iter().flatten().find(|gap| gap["sensor"] == "gpu");
        of_gpu.unwrap_or_default()
    }

    /// Holds metrics, doctor and an alert against what they must show. Gives the doctor's checks.
    fn assert_looks(&self, look: &Look<'_>) -> Vec<Value> {
        let Look { state, reason, verdict, says, in_alerts } = *look;
        let labels = [("state", state), ("reason", reason)];
        assert_eq!(self.shows("gpuwarden_gpu_backend_state", &labels), "1");
        let gap = self.gap();
        match in_alerts {
            None => assert_eq!(gap, Value::Null),
            Some(counts_as) => {
                assert_eq!(gap["state"], counts_as, "{gap:#}");
                let text = gap["reason"].as_str().unwrap_or_default();
                assert!(text.contains(says), "{says:?} is not in {text:?}");
            }
        }
        let checks = doctor(&self.ground);
        assert_eq!(checks[0]["verdict"], verdict, "{checks:#?}");
        let text = checks[0]["says"].as_str().unwrap_or_default();
        assert!(text.contains(says), "{says:?} is not in {text:?}");
        checks
    }
}

fn host() -> Value {
    let one = |uuid: &str, pid: u32| {
        json!({"uuid": uuid, "name": "NVIDIA H100", "util": 50, "power_mw": 300_000,
               "processes": [{"pid": pid, "mem_bytes": 4096, "sm_util": 50}]})
    };
    let pid = std::process::id();
    json!({"devices": [one("GPU-a", pid), one("GPU-b", pid), {
        "uuid": "GPU-m", "name": "NVIDIA H100", "gpm": {"sm": 1},
        "mig": {"instances": [{
            "uuid": "MIG-1", "name": "NVIDIA H100 MIG 1g.10gb", "gpu_instance": 9,
            "compute_instance": 0, "memory_total_bytes": 10_u64 << 30, "gpm": {"sm": 40},
            "processes": [{"pid": pid, "mem_bytes": 8192}],
        }]},
    }]})
}

fn with_calls(calls: &Value) -> Value {
    let mut host = host();
    host["calls"] = calls.clone();
    host
}

/// What a GPU cannot tell by its nature is told, and is no degradation; MIG is of that kind.
fn assert_natural_gaps(scene: &Scene) {
    let active = Look {
        state: "active",
        reason: "",
        verdict: "good",
        says: "active: 3 GPU(s), nvml driver 580.82.07",
        in_alerts: None,
    };
    let checks = scene.assert_looks(&active);
    let says = |at: usize| checks[at]["says"].as_str().unwrap_or_default().to_owned();
    assert!(says(3).contains("MIG with NVIDIA H100 MIG 1g.10gb"), "{}", says(3));
    assert!(says(3).contains("cannot tell util_percent, process_util"), "{}", says(3));
    let of_instance = [("gpu", "2"), ("UUID", "MIG-1"), ("modelName", "NVIDIA H100 MIG 1g.10gb")];
    assert_eq!(scene.shows("gpuwarden_gpu_memory_used_bytes", &of_instance), "8192");
    assert_eq!(scene.shows("gpuwarden_gpu_utilization_ratio", &of_instance), "0.4");
    let untold = [("UUID", "GPU-m"), ("value", "process_util"), ("reason", "unsupported")];
    assert_eq!(scene.shows("gpuwarden_gpu_value_missing", &untold), "1");

    let call = json!([{"call": "nvmlDeviceGetPowerUsage", "returns": "NOT_SUPPORTED"}]);
    scene.stage.play(&with_calls(&call));
    let untold = [("UUID", "GPU-a"), ("value", "power_watts"), ("reason", "unsupported")];
    assert_eq!(scene.shows("gpuwarden_gpu_value_missing", &untold), "1");
    let checks = scene.assert_looks(&active);
    let says = checks[1]["says"].as_str().unwrap_or_default();
    assert!(says.contains("cannot tell power_watts"), "{says}");
    // A rule that asks for it is told so.
    let why = "power_watts of GPU-a: nvmlDeviceGetPowerUsage is not supported on this GPU";
    scene.daemon.wait_alert(|alert| {
        let gaps = alert["evidence"]["completeness"]["gaps"].as_array().cloned();
        let mut of_gpu = gaps.into_iter().flatten().filter(|gap| gap["sensor"] == "gpu");
        alert["rule"]["id"] == "power"
            && of_gpu.any(|gap| gap["reason"].as_str().is_some_and(|text| text.contains(why)))
    });
}

fn assert_degraded(scene: &Scene) {
    let refused = json!([{"call": "nvmlDeviceGetComputeRunningProcesses_v3", "device": 1,
                          "returns": "NO_PERMISSION"}]);
    scene.stage.play(&with_calls(&refused));
    scene.assert_looks(&Look {
        state: "degraded",
        reason: "no_permission",
        verdict: "limited",
        says: "processes of GPU-b: nvmlDeviceGetComputeRunningProcesses_v3 was refused",
        in_alerts: Some("fallback"),
    });
    let too_old = json!([{"call": "nvmlDeviceGetMemoryInfo_v2", "device": 0,
                          "returns": "FUNCTION_NOT_FOUND"}]);
    scene.stage.play(&with_calls(&too_old));
    scene.assert_looks(&Look {
        state: "degraded",
        reason: "driver_too_old",
        verdict: "limited",
        says: "driver 580.82.07 is too old: nvmlDeviceGetMemoryInfo_v2",
        in_alerts: Some("fallback"),
    });
    let mut lost = host();
    lost["devices"][1]["lost_from_s"] = json!(0);
    scene.stage.play(&lost);
    scene.assert_looks(&Look {
        state: "degraded",
        reason: "gpu_lost",
        verdict: "limited",
        says: " is lost (",
        in_alerts: Some("fallback"),
    });
    let fault = [("UUID", "GPU-b"), ("fault", "lost")];
    assert_eq!(scene.shows("gpuwarden_gpu_faults_total", &fault), "1");
}

fn assert_off(scene: &Scene, reason: &str, says: &str) {
    let (verdict, in_alerts) = ("limited", Some("off"));
    scene.assert_looks(&Look { state: "off", reason, verdict, says, in_alerts });
}

#[test]
fn every_state_is_shown_in_metrics_in_doctor_and_in_alerts() {
    let scene = Scene::set(&host());
    assert_natural_gaps(&scene);
    assert_degraded(&scene);

    let hang = json!([{"call": "nvmlDeviceGetPowerUsage", "hang": true}]);
    scene.stage.play(&with_calls(&hang));
    scene.assert_looks(&Look {
        state: "stalled",
        reason: "",
        verdict: "limited",
        says: "stalled: reading has not returned",
        in_alerts: Some("off"),
    });

    let gone = json!([{"call": "*", "returns": "DRIVER_NOT_LOADED"},
                      {"call": "nvmlInitWithFlags", "returns": "DRIVER_NOT_LOADED"}]);
    scene.stage.play(&with_calls(&gone));
    assert_off(&scene, "no_driver", "the NVIDIA kernel module is not loaded");

    let refused = json!([{"call": "nvmlInitWithFlags", "returns": "NO_PERMISSION"}]);
    scene.stage.play(&with_calls(&refused));
    assert_off(&scene, "no_permission", "nvmlInitWithFlags was refused");

    let mut old = host();
    old["driver_version"] = json!("470.256.02");
    scene.stage.play(&old);
    assert_off(&scene, "driver_too_old", "driver 470.256.02 is too old");

    // On a host with a driver the real library would be found next.
    if !candidates(&[], false).iter().any(|path| path.exists()) {
        let library = scene.stage.path().join(LIBRARY_NAME);
        let aside = scene.stage.path().join("aside");
        fs::rename(&library, &aside).expect("the stage is writable");
        assert_off(&scene, "no_library", "no libnvidia-ml.so.1 could be loaded");
        fs::rename(&aside, &library).expect("the stage is writable");
    }

    scene.stage.play(&host());
    let active = [("state", "active"), ("reason", "")];
    assert_eq!(scene.shows("gpuwarden_gpu_backend_state", &active), "1");
}
