//! The client of the kubelet's pod-resources socket against a server of another make: grpcio, with
//! code generated from the vendored `.proto`.

mod kubelet;

use std::time::{Duration, Instant};

use monitor::cluster::{self, ClusterConfig, SourceState};
use monitor::enrich::Allocations as _;
use monitor::model::GpuUuid;

#[test]
fn allocations_are_read_from_a_server_of_another_make() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kubelet.sock");
    let config = ClusterConfig { pod_resources_socket: Some(socket), ..ClusterConfig::default() };
    // The kubelet comes later than the monitor: nothing is known until then.
    let directory = cluster::start(&config).unwrap();
    let gpu = GpuUuid::from("GPU-1");
    assert_eq!(directory.holders(&gpu, 0), None);
    let server = kubelet::serve(folder.path());
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
