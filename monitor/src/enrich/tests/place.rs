use super::*;
use crate::enrich::profile::{Peers, ProfileView};
use crate::model::{FileChange, FileOp};

const POD: &str = "/kubepods/burstable/pod8f3f1f0c-9c1e-4a53-8d3b-0f2a5f6f7a10";

fn container(digit: char) -> String {
    format!("{POD}/{}", digit.to_string().repeat(64))
}

fn at(pid: u32, cgroup: u64) -> Actor {
    Actor { cgroup: CgroupId(cgroup), ..actor(pid) }
}

fn sends(bytes: u64) -> Body {
    Body::Flow(flow(bytes, "198.51.100.1:443", bytes))
}

/// Isolates whatever runs `/opt/train`.
struct Isolate;

struct Nobody;

impl Peers for Nobody {
    fn allows(&self, _ip: std::net::IpAddr, _port: u16, _name: Option<&str>) -> bool {
        false
    }

    fn holds_weights(&self, path: &str) -> bool {
        path.starts_with("/mnt/ckpt/")
    }
}

impl Profiles for Isolate {
    fn select(&self, facts: &dyn Facts) -> Option<ProfileView> {
        (facts.field(FieldId::ProcExe) == Value::Str("/opt/train")).then(|| ProfileView {
            id: "isolated-training".into(),
            role: Some("training"),
            isolated: true,
            same_job: false,
            peers: Arc::new(Nobody),
        })
    }
}

#[test]
fn egress_is_summed_over_the_containers_of_a_pod() {
    let mut stage = Stage::new();
    stage.cgroup(30, &container('a'));
    stage.cgroup(31, &container('b'));
    stage.exec(30, "/opt/train");
    stage.exec(31, "/opt/sidecar");
    stage.act(actor(30), sends(100));
    let of = stage.act(actor(31), sends(20));
    assert_eq!(stage.text(&of, FieldId::WorkloadId), format!("k8s:{UID}"));
    assert_eq!(stage.text(&of, FieldId::WorkloadEgressBytes), "120");
    assert_eq!(stage.text(&of, FieldId::ContainerId), "b".repeat(64));
    assert_eq!(stage.enricher.counters().workloads, 1);
}

#[test]
fn loopback_is_no_egress() {
    let mut stage = Stage::new();
    stage.exec(30, "/bin/x");
    let of = stage.act(actor(30), Body::Flow(flow(1, "127.0.0.1:80", 5)));
    assert_eq!(stage.text(&of, FieldId::WorkloadEgressBytes), "0");
    assert_eq!(stage.text(&of, FieldId::NetPeerClass), "loopback");
}

#[test]
fn a_runtime_moves_its_child_into_the_pod() {
    let mut stage = Stage::new();
    stage.cgroup(40, "/system.slice/containerd.service");
    stage.act(at(40, 50), exec(0, "/usr/bin/containerd-shim-runc-v2"));
    stage.act(at(40, 50), task_new(41));
    let before = stage.act(at(41, 50), sends(1));
    assert_eq!(stage.text(&before, FieldId::WorkloadId), "unit:containerd.service");
    stage.cgroup(41, &container('c'));
    let after = stage.act(at(41, 60), exec(40, "/app"));
    assert_eq!(stage.text(&after, FieldId::WorkloadId), format!("k8s:{UID}"));
    assert_eq!(stage.enricher.counters().moves_refused, 0);
}

#[test]
fn leaving_the_pod_does_not_shed_its_name() {
    let mut stage = Stage::new();
    stage.cgroup(30, &container('a'));
    stage.act(at(30, 60), exec(0, "/opt/train"));
    for path in ["/", "/system.slice/cron.service", "/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        stage.cgroup(30, path);
        let escaped = stage.act(at(30, stage.now), exec(0, "/bin/sh"));
        assert_eq!(stage.text(&escaped, FieldId::WorkloadId), format!("k8s:{UID}"), "{path}");
    }
    assert!(stage.enricher.counters().moves_refused >= 3);
}

#[test]
fn an_isolated_unit_cannot_be_left_but_a_plain_one_can() {
    for (profiles, expected) in [
        (Arc::new(Isolate) as Arc<dyn Profiles>, "unit:train.service"),
        (Arc::new(NoProfiles), "unit:other.service"),
    ] {
        let mut stage = Stage::with_profiles(profiles);
        stage.cgroup(30, "/system.slice/train.service");
        stage.act(at(30, 60), exec(0, "/opt/train"));
        stage.cgroup(30, "/system.slice/other.service");
        let moved = stage.act(at(30, 61), sends(1));
        assert_eq!(stage.text(&moved, FieldId::WorkloadId), expected);
    }
}

#[test]
fn a_profile_is_kept_when_a_shell_is_executed() {
    let mut stage = Stage::with_profiles(Arc::new(Isolate));
    stage.cgroup(30, "/system.slice/train.service");
    let started = stage.exec(30, "/bin/prepare");
    assert_eq!(stage.text(&started, FieldId::WorkloadProfile), "");
    assert_eq!(stage.text(&started, FieldId::WorkloadIsolated), "false");
    stage.exec(30, "/opt/train");
    let shell = stage.exec(30, "/bin/sh");
    assert_eq!(stage.text(&shell, FieldId::WorkloadProfile), "isolated-training");
    assert_eq!(stage.text(&shell, FieldId::WorkloadRole), "training");
    let sent = stage.act(actor(30), sends(1));
    assert_eq!(stage.text(&sent, FieldId::NetAllowed), "false");

    stage.enricher.set_profiles(Arc::new(NoProfiles));
    let sent = stage.act(actor(30), sends(1));
    assert_eq!(stage.text(&sent, FieldId::WorkloadProfile), "", "a new set is asked anew");
    assert_eq!(stage.text(&sent, FieldId::NetAllowed), "");
}

#[test]
fn a_file_lies_in_the_weight_paths_by_where_it_ended_up() {
    let moved = |to: &str| {
        Body::FileChange(FileChange {
            op: FileOp::Rename,
            id: FileId::default(),
            path: "/tmp/step.pt.tmp".into(),
            new_path: to.into(),
            other: FileId::default(),
            size_bytes: 0,
            bytes: 0,
            fs_magic: 0,
        })
    };
    let mut stage = Stage::with_profiles(Arc::new(Isolate));
    stage.cgroup(30, "/system.slice/train.service");
    stage.exec(30, "/opt/train");
    for (to, expected) in [("/mnt/ckpt/step.pt", "true"), ("/mnt/usb/x", "false"), ("", "false")] {
        let seen = stage.act(actor(30), moved(to));
        assert_eq!(stage.text(&seen, FieldId::FileInWeightPaths), expected, "{to}");
    }
    stage.cgroup(40, "/system.slice/other.service");
    stage.exec(40, "/bin/other");
    let seen = stage.act(actor(40), moved("/mnt/ckpt/step.pt"));
    assert_eq!(stage.text(&seen, FieldId::FileInWeightPaths), "", "no profile, no places");
}

#[test]
fn a_job_that_only_the_freezer_knows_is_found_at_exec() {
    let mut stage = Stage::new();
    stage.cgroup(30, "/");
    stage.exec(30, "/usr/sbin/slurmstepd");
    stage.fork(30, 31);
    let text = "3:freezer:/slurm_vm/uid_0/job_4/step_batch\n0::/\n".to_owned();
    stage.host.0.lock().unwrap().cgroups.insert(31, text);
    let of = stage.exec(31, "/bin/bash");
    assert_eq!(stage.text(&of, FieldId::WorkloadId), "slurm:4");
    assert_eq!(stage.text(&of, FieldId::SlurmStep), "batch");
    stage.fork(31, 32);
    let of = stage.act(actor(32), sends(1));
    assert_eq!(stage.text(&of, FieldId::WorkloadId), "slurm:4", "a child inherits");
}

#[test]
fn without_cgroups_a_tree_holds_together_when_it_daemonizes() {
    let mut stage = Stage::new();
    stage.exec(1, "/sbin/init");
    stage.fork(1, 10);
    stage.exec(10, "/usr/sbin/sshd");
    stage.fork(10, 11);
    stage.fork(10, 21);
    stage.exec(11, "/bin/bash");
    stage.fork(11, 12);
    stage.exit(11);
    let mine = stage.act(actor(12), sends(1));
    let session = format!("tree:11:{}", key(11).start.0);
    assert_eq!(stage.text(&mine, FieldId::WorkloadId), session);
    assert_eq!(stage.enricher.tree(&mine.1), Some(key(11)));
    let other = stage.act(actor(21), sends(1));
    assert_ne!(stage.text(&other, FieldId::WorkloadId), session, "another session");
}

#[test]
fn names_that_come_later_are_taken_up() {
    struct Late(Mutex<Option<Arc<Names>>>);
    impl WorkloadNames for Late {
        fn names(&self, _place: &Place) -> Option<Arc<Names>> {
            self.0.lock().unwrap().clone()
        }
    }
    let late = Arc::new(Late(Mutex::new(None)));
    let mut stage = Stage::new();
    stage.enricher.set_names(late.clone());
    stage.cgroup(30, &container('a'));
    let of = stage.exec(30, "/opt/train");
    assert_eq!(stage.text(&of, FieldId::WorkloadName), format!("pod {UID}"));
    assert_eq!(stage.text(&of, FieldId::K8sLabels), "");
    let labels = [("team".to_owned(), "a".to_owned())].into();
    let names = Names { pod: Some("trainer-0".into()), labels, ..Names::default() };
    *late.0.lock().unwrap() = Some(Arc::new(names));
    stage.now += 2 * SECOND;
    let of = stage.act(actor(30), sends(1));
    assert_eq!(stage.text(&of, FieldId::WorkloadName), "trainer-0");
    assert!(stage.text(&of, FieldId::K8sLabels).contains("team"));
}

#[test]
fn an_id_is_remembered_only_for_the_path_it_belongs_to() {
    struct Racing;
    impl ProcSource for Racing {
        fn cgroup(&self, process: Tgid) -> Option<String> {
            // Process 41 has moved on by the time its first record is looked at.
            let path =
                if process.0 == 41 { container('a') } else { "/runtime.slice/r.service".into() };
            Some(format!("0::{path}\n"))
        }
        fn cgroup_id(&self, path: &str) -> Option<CgroupId> {
            Some(CgroupId(if path.contains("kubepods") { 60 } else { 50 }))
        }
        fn process(&self, _process: Tgid) -> Option<ProcInfo> {
            None
        }
        fn head(&self, _process: Tgid, _path: &str, _into: &mut [u8]) -> Option<FileHead> {
            None
        }
    }
    let mut stage = Stage::new();
    stage.enricher.source = Box::new(Racing);
    stage.act(at(41, 50), exec(0, "/runc"));
    let of = stage.act(at(42, 50), exec(0, "/runtime"));
    assert_eq!(stage.text(&of, FieldId::WorkloadId), "unit:r.service");
}

/// Process 11 is a shell in `home` that starts a job in a cgroup of its own.
fn job_of(home: &str, read_weights: impl Fn(&mut Stage)) -> String {
    let mut stage = Stage::new();
    for pid in [11, 12, 13] {
        stage.cgroup(pid, home);
    }
    stage.act(at(11, 50), exec(0, "/bin/bash"));
    stage.enricher.label(&LabelSeed {
        id: FileId { device: 7, inode: 5, generation: 0 },
        path: "/models/llama/w.safetensors".into(),
        size_bytes: 1 << 20,
        format: Format::Safetensors,
    });
    read_weights(&mut stage);
    stage.act(at(11, 50), task_new(13));
    stage.cgroup(13, "/jobs/1");
    let job = stage.act(at(13, 60), exec(11, "/opt/train"));
    stage.text(&job, FieldId::WorkloadId)
}

fn weights() -> Body {
    Body::FileOpen(open("/models/llama/w.safetensors", 5, 1 << 20))
}

#[test]
fn a_login_where_a_model_was_checked_still_starts_jobs() {
    for home in ["/", "/user.slice/user-1000.slice/session-3.scope", "/build/7"] {
        let job = job_of(home, |stage| {
            stage.act(at(11, 50), task_new(12));
            stage.act(at(12, 50), exec(11, "/usr/bin/sha256sum"));
            stage.act(at(12, 50), weights());
        });
        assert_eq!(job, "cgroup:/jobs/1", "from {home}");
    }
}

#[test]
fn who_has_read_weights_takes_them_along_out_of_a_login() {
    for home in ["/", "/user.slice/user-1000.slice/session-3.scope", "/other"] {
        let job = job_of(home, |stage| {
            stage.act(at(11, 50), weights());
        });
        assert_ne!(job, "cgroup:/jobs/1", "the child of a reader, from {home}");
    }
}
