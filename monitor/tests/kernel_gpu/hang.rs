//! The daemon with a driver that hangs.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{self, Daemon, Ground};
use crate::page::row;
use crate::stage::Stage;

/// The promise for an alert, with room for a busy machine.
const ALERT_AT_MOST: Duration = Duration::from_secs(2);

#[test]
fn a_hung_driver_does_not_delay_an_egress_alert() {
    let calm = json!({"devices": [{"util": 5, "uuid": "GPU-x", "name": "NVIDIA H100"}]});
    let stage = Stage::new(&calm);
    let ground = Ground::new();
    ground.write(
        "egress.yaml",
        "apiVersion: gpuwarden.dev/v1
rules:
- id: any-egress
  title: A flow to the test's port
  severity: high
  on: [flow]
  when: net.phase == \"start\" && net.direction == \"egress\" && proc.name == \"python3\"
  dedupe: {key: [proc.pid], for: 1s}
  message: 'pid {{proc.pid}} to {{net.dst.port}}'
",
    );
    let more = format!(
        "gpu: {{library_paths: [{}], interval_ms: 100, timeout_ms: 300}}\n\
         kernel: {{report_loopback: true}}\nrules: {{shipped: false, paths: [{}]}}\n",
        stage.path().display(),
        ground.path("egress.yaml").display(),
    );
    ground.write("config.yaml", &ground.config(&more));
    let mut command = ground.run();
    command.args(["--output", "json"]);
    let daemon = Daemon::start(command);
    let shows = |state: &str| {
        daemon::until(Duration::from_secs(30), || {
            row(&daemon.get("/metrics").1, "gpuwarden_gpu_backend_state", &[("state", state)])
        })
    };
    assert!(shows("active").is_some(), "{}", daemon.get("/metrics").1);

    let mut hung = calm.clone();
    hung["calls"] = json!([{"call": "nvmlDeviceGetPowerUsage", "hang": true}]);
    stage.play(&hung);
    assert!(shows("stalled").is_some(), "{}", daemon.get("/metrics").1);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for _ in 0..3 {
        let script = format!("import socket; socket.create_connection((\"127.0.0.1\", {port}))");
        let began = Instant::now();
        let mut child =
            Command::new("python3").args(["-c", &script]).spawn().expect("python3 runs");
        let said = format!("pid {} to {port}", child.id());
        assert!(child.wait().expect("it ends").success());
        daemon.wait_alert(|alert| alert["summary"] == said.as_str());
        let took = began.elapsed();
        assert!(took < ALERT_AT_MOST, "{took:?} from the start of the process to its alert");
    }
    assert!(shows("stalled").is_some(), "it hung all the while");

    // Lets the thread go on, so that the library may be unloaded.
    stage.play(&calm);
    assert!(shows("active").is_some(), "it goes on by itself");
}
