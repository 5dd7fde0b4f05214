use super::*;
use crate::model::{GpuRole, GpuSample, GpuUuid};

/// Device number of `/dev/nvidia<minor>`, as the kernel keeps it.
fn nvidia(minor: u32) -> FileOpen {
    let rdev = 195 << 20 | minor;
    FileOpen { file_type: FileType::Char, rdev, ..open("/dev/nvidia", u64::from(minor), 0) }
}

fn gpu_node() -> GpuNode {
    GpuNode { minor: 3, index: 0, uuid: GpuUuid::from("GPU-1"), model: "H100".to_owned() }
}

/// The GPU was given to a job.
struct OfJob(&'static str);

impl Allocations for OfJob {
    fn holders(&self, gpu: &GpuUuid, _index: u32) -> Option<Vec<Holder>> {
        let is_ours = gpu.as_str() == "GPU-1";
        Some(is_ours.then(|| Holder::Job(self.0.to_owned())).into_iter().collect())
    }
}

/// A process that no reading of the driver has ever listed is known by what it opened.
#[test]
fn who_opens_a_gpu_uses_it_whatever_the_driver_lists() {
    let mut stage = Stage::new();
    stage.enricher.set_gpu_nodes(vec![gpu_node()]);
    stage.enricher.set_allocations(Arc::new(OfJob("7")));
    stage.cgroup(10, "/system.slice/slurmstepd.scope/job_8/step_0/user/task_0");
    stage.exec(10, "/usr/bin/stranger");
    let control = stage.act(actor(10), Body::FileOpen(nvidia(255)));
    assert_eq!(stage.text(&control, FieldId::GpuIndex), "", "nvidiactl is no GPU");
    assert_eq!(stage.text(&control, FieldId::WorkloadGpuUser), "false");
    let opened = stage.act(actor(10), Body::FileOpen(nvidia(3)));
    for (field, value) in [
        (FieldId::GpuUuid, "GPU-1"),
        (FieldId::GpuIndex, "0"),
        (FieldId::GpuModel, "H100"),
        (FieldId::GpuAllocated, "false"),
        (FieldId::GpuAllocatedTo, "slurm:7"),
        (FieldId::WorkloadGpuUser, "true"),
    ] {
        assert_eq!(stage.text(&opened, field), value, "{field:?}");
    }
    stage.enricher.set_allocations(Arc::new(OfJob("8")));
    let own = stage.act(actor(10), Body::FileOpen(nvidia(3)));
    assert_eq!(stage.text(&own, FieldId::GpuAllocated), "true");
}

#[test]
fn a_node_of_another_device_is_no_gpu() {
    let mut stage = Stage::new();
    stage.enricher.set_gpu_nodes(vec![gpu_node()]);
    stage.exec(10, "/usr/bin/x");
    let block = FileOpen { file_type: FileType::Block, ..nvidia(3) };
    let other = FileOpen { rdev: 4 << 20 | 3, ..nvidia(3) };
    for body in [block, other] {
        let of = stage.act(actor(10), Body::FileOpen(body));
        assert_eq!(stage.text(&of, FieldId::GpuUuid), "");
        assert_eq!(stage.text(&of, FieldId::WorkloadGpuUser), "false");
    }
}

#[test]
fn the_server_of_the_multi_process_service_and_its_clients_differ() {
    let mut stage = Stage::new();
    stage.exec(10, "/usr/bin/nvidia-cuda-mps-server");
    stage.exec(11, "/usr/bin/python3");
    let mut role = |pid, role| {
        let sample = GpuSample { gpu: GpuUuid::from("GPU-1"), role, ..GpuSample::default() };
        let of = stage.act(actor(pid), Body::GpuSample(sample));
        stage.text(&of, FieldId::GpuRole)
    };
    // The driver lists the server as it does any other process.
    assert_eq!(role(10, GpuRole::Compute), "mps_server");
    assert_eq!(role(11, GpuRole::MpsClient), "mps_client");
    assert_eq!(role(11, GpuRole::Compute), "compute");
}
