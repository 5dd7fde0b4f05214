//! The client of the kubelet's pod-resources socket against a server of another make: grpcio, with
//! code generated from the vendored `.proto`.
#![expect(clippy::unwrap_used, reason = "a test may end where it finds something wrong")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use monitor::cluster::{self, ClusterConfig, SourceState};
use monitor::enrich::Allocations as _;
use monitor::model::GpuUuid;

const PACKAGES: [&str; 2] = ["grpcio==1.76.0", "grpcio-tools==1.76.0"];

/// A Python with gRPC, in a virtual environment beside the test programs.
fn python() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let home = exe.ancestors().nth(3).unwrap().join("grpcio");
    let python = home.join("bin/python3");
    let works = || {
        let import = Command::new(&python).args(["-c", "import grpc_tools.protoc, grpc"]).output();
        import.is_ok_and(|import| import.status.success())
    };
    if !works() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&home).status();
        assert!(made.is_ok_and(|made| made.success()), "this test needs python3 with venv");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let put = Command::new(&python).args(pip).args(PACKAGES).status().unwrap();
        assert!(put.success() && works(), "this test needs a package index with grpcio");
    }
    python
}

/// Ends the server with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.kill().and_then(|()| self.0.wait().map(drop)).unwrap_or_default();
    }
}

fn serve(folder: &Path) -> Server {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new(python())
        .arg(here.join("tests/cluster_kubelet.py"))
        .arg(folder)
        .arg(here.join("proto/podresources.proto"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    Server(child)
}

#[test]
fn allocations_are_read_from_a_server_of_another_make() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kubelet.sock");
    let config = ClusterConfig { pod_resources_socket: Some(socket), ..ClusterConfig::default() };
    // The kubelet comes later than the monitor: nothing is known until then.
    let directory = cluster::start(&config).unwrap();
    let gpu = GpuUuid::from("GPU-1");
    assert_eq!(directory.holders(&gpu, 0), None);
    let server = serve(folder.path());
    let deadline = Instant::now() + Duration::from_secs(90);
    let holders = loop {
        if let Some(holders) = directory.holders(&gpu, 0) {
            break holders;
        }
        assert!(Instant::now() < deadline, "{:?}", directory.sources());
        std::thread::sleep(Duration::from_millis(50));
    };
    let shown: Vec<String> = holders.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["k8s:training/trainer-0"], "told twice, held once");
    assert!(holders[0].is_pod("training", "trainer-0"));
    let of = |uuid: &str, index| directory.holders(&GpuUuid::from(uuid), index).unwrap();
    assert_eq!(of("GPU-other", 2).len(), 1, "a claim names the GPU by its index");
    assert_eq!(of("GPU-9", 9), [], "what is no GPU is left out");
    assert_eq!(directory.sources(), [("kubelet_pod_resources", SourceState::Active)]);
    drop(server);
}
