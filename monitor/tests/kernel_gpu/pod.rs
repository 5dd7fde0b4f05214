//! A pod's GPU from end to end: a process in a pod's cgroup, on a GPU that the kubelet gave to that
//! pod, and a stranger on the same GPU.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use monitor::kernel::support;
use serde_json::{Value, json};

use crate::daemon::{self, Daemon, Ground, SOON};
use crate::kubelet;
use crate::page::{doctor, row};
use crate::stage::Stage;

const UID: &str = "5d3a1c77-0c4e-4be6-9d53-2f9a30b1c6e4";
const CONTAINER: &str = "c0ffee0000000000000000000000000000000000000000000000000000c0ffee";
const MODEL: &str = "NVIDIA H100 80GB HBM3";
/// As `serve.py` gives it to the pod.
const GPU: &str = "GPU-1";

/// Reads a file of weights, waits for a line, and then sends something.
const TRAINER: &str = "
import socket, sys, time
weights = open(sys.argv[1], 'rb').read()
print('loaded', flush=True)
sys.stdin.readline()
peer = socket.create_connection(('127.0.0.1', int(sys.argv[2])))
peer.sendall(b'x' * 2000)
time.sleep(120)
";

const RULES: &str = "apiVersion: gpuwarden.dev/v1
rules:
- id: busy-in-pod
  title: A pod keeps its GPU busy
  severity: medium
  on: [gpu_sample]
  when: gpu.util_mean_10m >= 80.0 && has(gpu.allocated) && gpu.allocated
  dedupe: {key: [proc.pid], for: 1h}
  message: '{{k8s.ns.name}}/{{k8s.pod.name}}/{{container.name}} pid {{proc.pid}} on {{gpu.uuid}}'
- id: stranger
  title: Somebody uses a GPU that is another's
  severity: medium
  on: [gpu_sample]
  when: has(gpu.allocated) && !gpu.allocated
  dedupe: {key: [proc.pid], for: 1h}
  message: 'pid {{proc.pid}} on a GPU of {{gpu.allocated_to}}'
- id: sends
  title: A user of GPUs sends
  severity: medium
  on: [flow]
  when: net.phase == \"start\" && net.direction == \"egress\" && workload.gpu_user
  dedupe: {key: [proc.pid], for: 1h}
  message: 'pid {{proc.pid}} sends to {{net.dst.port}}'
";

/// The cgroup of a container of the pod, removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        let root = support::cgroup2_root().expect("a cgroup v2 hierarchy");
        let path = root
            .join("kubepods.slice/kubepods-burstable.slice")
            .join(slice)
            .join(format!("cri-containerd-{CONTAINER}.scope"));
        fs::create_dir_all(&path).expect("a cgroup");
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last process may just be ending; a slice that others use stays.
        let emptied = daemon::until(Duration::from_secs(2), || fs::remove_dir(&self.0).ok());
        if emptied.is_some() {
            for slice in self.0.ancestors().skip(1).take(3) {
                let _in_use = fs::remove_dir(slice);
            }
        }
    }
}

/// A child that ends with the test.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ended_before = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Part {
    /// The trainer, in the container; it has read the weights.
    fn trainer(cgroup: &Cgroup, weights: &Path, port: u16) -> Self {
        let enter = "echo $$ > \"$1/cgroup.procs\" && shift && exec python3 -c \"$@\"";
        let mut child = Command::new("sh")
            .args(["-c", enter, "sh"])
            .arg(&cgroup.0)
            .arg(TRAINER)
            .arg(weights)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("it speaks");
        assert_eq!(line, "loaded\n", "python3 runs in the cgroup");
        Self(child)
    }

    fn stranger() -> Self {
        Self(Command::new("sleep").arg("300").spawn().expect("sleep runs"))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

/// An API server that knows the pod: one list, and watches that say nothing. It ends with the test
/// program.
fn api_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let id = format!("containerd://{CONTAINER}");
    let containers = json!([{"name": "main", "containerID": id, "ready": true}]);
    let pod = json!({
        "metadata": {"uid": UID, "name": "trainer-0", "namespace": "training",
                     "resourceVersion": "7", "labels": {"app": "trainer"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "x"}]},
        "status": {"phase": "Running", "containerStatuses": containers},
    });
    let list = json!({"metadata": {"resourceVersion": "7"}, "items": [pod]}).to_string();
    std::thread::spawn(move || {
        let mut watches: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            while reader.read_line(&mut head).expect("a request") > 2 {}
            let length = if head.contains("watch=true") { 1 << 20 } else { list.len() };
            let status = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(status.as_bytes()).expect("an answer");
            if head.contains("watch=true") {
                watches.push(stream);
            } else {
                stream.write_all(list.as_bytes()).expect("an answer");
            }
        }
    });
    port
}

/// One GPU with these processes: pid, GiB, percent.
fn scenario(processes: &[(u32, u64, u32)]) -> Value {
    let process = |(pid, gib, percent): &(u32, u64, u32)| {
        let mem_bytes = gib << 30;
        json!({"pid": pid, "mem_bytes": mem_bytes, "sm_util": percent})
    };
    json!({"devices": [{
        "uuid": GPU, "name": MODEL, "util": 93, "power_mw": 612_000,
        "gpm": {"sm": 91, "tensor": 44, "dram": 50},
        "processes": processes.iter().map(process).collect::<Vec<_>>(),
    }]})
}

fn config(ground: &Ground, stage: &Stage, api: u16, kubelet: &Path, weights: &Path) -> String {
    let more = format!(
        "gpu: {{library_paths: [{}], interval_ms: 200}}\n\
         cluster: {{api_server: 'http://127.0.0.1:{api}', node_name: node-1, \
         pod_resources_socket: {}}}\n\
         watch: {{weights: ['{}']}}\nkernel: {{report_loopback: true}}\n\
         rules: {{shipped: false, paths: [{}]}}\n",
        stage.path().display(),
        kubelet.join("kubelet.sock").display(),
        weights.display(),
        ground.path("rules.yaml").display(),
    );
    ground.config(&more)
}

/// The alert with this summary.
fn alert(daemon: &Daemon, summary: &str) -> Value {
    daemon.wait_alert(|alert| alert["summary"] == summary)
}

#[test]
fn a_pod_and_its_gpu_are_joined_in_metrics_doctor_and_evidence() {
    let ground = Ground::new();
    let weights = ground.path("model.safetensors");
    fs::write(&weights, vec![7_u8; 3 << 20]).expect("a file");
    ground.write("rules.yaml", RULES);
    let folder = tempfile::tempdir().expect("a folder");
    let _kubelet = kubelet::serve(folder.path());
    let sink = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = sink.local_addr().expect("an address").port();

    let stage = Stage::new(&scenario(&[]));
    let api = api_server();
    ground.write("config.yaml", &config(&ground, &stage, api, folder.path(), &weights));
    let mut command = ground.run();
    command.args(["--output", "json"]);
    let daemon = Daemon::start(command);

    // Both start under the eyes of the monitor.
    let cgroup = Cgroup::new();
    let mut trainer = Part::trainer(&cgroup, &weights, port);
    let stranger = Part::stranger();
    // By the library's own clock: utilisation by process is renewed each second.
    let busy = scenario(&[(trainer.id(), 60, 90), (stranger.id(), 1, 3)]);
    stage.put("scenario.json", &busy.to_string());

    assert_labelled(&daemon);
    let pid = trainer.id();
    let busy = alert(&daemon, &format!("training/trainer-0/main pid {pid} on {GPU}"));
    assert_of_pod(&busy, pid);
    alert(&daemon, &format!("pid {} on a GPU of k8s:training/trainer-0", stranger.id()));
    // What it did on the GPU is told with what it sends.
    trainer.0.stdin.take().expect("piped").write_all(b"\n").expect("it waits");
    let (mut peer, _) = sink.accept().expect("it connects");
    let mut sent = [0; 2_000];
    peer.read_exact(&mut sent).expect("it sends");
    let sends = alert(&daemon, &format!("pid {pid} sends to {port}"));
    assert_of_pod(&sends, pid);
    assert_eq!(sends["workload"]["weight_bytes_read"], 3 << 20, "{sends:#}");

    assert_doctor(&ground, pid, stranger.id());
}

/// What an alert about the trainer must say of it.
fn assert_of_pod(alert: &Value, pid: u32) {
    let evidence = &alert["evidence"];
    let gpu = &evidence["gpus"][0];
    assert_eq!((&gpu["uuid"], &gpu["model"]), (&json!(GPU), &json!(MODEL)), "{alert:#}");
    assert_eq!(gpu["mem_used_bytes"], 60_u64 << 30, "{alert:#}");
    assert_eq!(gpu["util_mean_percent"], 90.0, "{alert:#}");
    let curve = gpu["util_curve"].as_array().expect("a curve");
    assert!(!curve.is_empty() && curve.iter().all(|percent| *percent == 90.0), "{alert:#}");
    assert_eq!(evidence["processes"][0]["pid"], pid, "{alert:#}");
    let workload = &alert["workload"];
    for (key, value) in [
        ("id", format!("k8s:{UID}")),
        ("namespace", "training".to_owned()),
        ("pod", "trainer-0".to_owned()),
        ("container", "main".to_owned()),
        ("container_id", CONTAINER.to_owned()),
    ] {
        assert_eq!(workload[key], value, "{key} of {alert:#}");
    }
}

/// The rows of the GPU and of both its users, under the labels of GPU dashboards.
fn assert_labelled(daemon: &Daemon) {
    let shown = |name: &str, labels: &[(&str, &str)]| {
        let value = daemon::until(SOON, || row(&daemon.get("/metrics").1, name, labels));
        let value = value.and_then(|value| value.parse::<f64>().ok());
        let page = || {
            let (_, page) = daemon.get("/metrics");
            page.lines().filter(|line| line.contains("gpu_")).collect::<Vec<_>>().join("\n")
        };
        value.unwrap_or_else(|| panic!("no {name} with {labels:?} in\n{}", page()))
    };
    let of_pod = [
        ("gpu", "0"),
        ("UUID", GPU),
        ("modelName", MODEL),
        ("namespace", "training"),
        ("pod", "trainer-0"),
        ("container", "main"),
    ];
    let near = |value: f64, expected: f64| (value - expected).abs() < 1e-6;
    assert!(near(shown("gpuwarden_gpu_utilization_ratio", &of_pod), 0.93));
    assert!(near(shown("gpuwarden_gpu_power_watts", &of_pod), 612.0));
    let memory = shown("gpuwarden_workload_gpu_memory_used_bytes", &of_pod);
    assert!(near(memory, f64::from(60_u32 << 10) * 1_048_576.0), "{memory}");
    assert!(near(shown("gpuwarden_workload_gpu_utilization_ratio", &of_pod), 0.9));
    let tensor = [&of_pod[..], &[("part", "tensor")]].concat();
    assert!(near(shown("gpuwarden_gpu_activity_ratio", &tensor), 0.44));
    // The stranger uses the same GPU under its own name, and under no pod's.
    let of_stranger = [("UUID", GPU), ("namespace", ""), ("pod", ""), ("container", "")];
    let memory = shown("gpuwarden_workload_gpu_memory_used_bytes", &of_stranger);
    assert!(near(memory, f64::from(1_u32 << 10) * 1_048_576.0), "{memory}");
}

/// What `doctor` says, for programs and for people.
fn assert_doctor(ground: &Ground, pid: u32, stranger: u32) {
    let checks = doctor(ground);
    assert_eq!(checks[0]["verdict"], "good", "{checks:#?}");
    assert_eq!(checks[0]["says"], "active: 1 GPU(s), nvml driver 580.82.07");
    let says = checks[1]["says"].as_str().expect("a text");
    for part in [
        &format!("{MODEL} {GPU}, 93 % busy, 62464 of 81920 MiB, 612 W, activity counters"),
        &format!("{pid} python3 (k8s:{UID})"),
        &format!("{stranger} sleep ("),
    ] {
        assert!(says.contains(part), "{part:?} is not in {says:?}");
    }
    let mut human = daemon::binary();
    human.args(["doctor", "--config"]).arg(ground.path("config.yaml"));
    let human = daemon::end(human).stdout;
    assert!(human.contains("gpu 0") && human.contains(GPU), "{human}");
}
