//! A kubelet's pod-resources socket of another make: grpcio, with code generated from the vendored
//! `.proto`. It gives `GPU-1` to the container `main` of the pod `training/trainer-0`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PACKAGES: [&str; 2] = ["grpcio==1.76.0", "grpcio-tools==1.76.0"];

/// A Python with gRPC, in a virtual environment beside the test programs.
fn python() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own path");
    let home = exe.ancestors().nth(3).expect("<target>/<profile>/deps/<test>").join("grpcio");
    let python = home.join("bin/python3");
    let works = || {
        let import = Command::new(&python).args(["-c", "import grpc_tools.protoc, grpc"]).output();
        import.is_ok_and(|import| import.status.success())
    };
    if !works() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&home).status();
        assert!(made.is_ok_and(|made| made.success()), "this test needs python3 with venv");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let put = Command::new(&python).args(pip).args(PACKAGES).status();
        let is_put = put.is_ok_and(|put| put.success()) && works();
        assert!(is_put, "this test needs a package index with grpcio");
    }
    python
}

/// Ends the server with the test.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.kill().and_then(|()| self.0.wait().map(drop)).unwrap_or_default();
    }
}

/// Serves `kubelet.sock` in `folder`.
pub(crate) fn serve(folder: &Path) -> Server {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new(python())
        .arg(here.join("tests/kubelet/serve.py"))
        .arg(folder)
        .arg(here.join("proto/podresources.proto"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("it speaks");
    assert_eq!(line, "ready\n");
    Server(child)
}
