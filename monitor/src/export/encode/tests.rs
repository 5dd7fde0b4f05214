use super::{Colour, human, json, ocsf};
use crate::alert::{Activity, Alert, AlertRule, AlertTags, Host, SCHEMA_VERSION};
use crate::model::{
    Completeness, Evidence, FileEvidence, FlowEvidence, GpuEvidence, LossEvidence, ProcessEvidence,
    SensorGap, Severity, WallNs, WorkloadEvidence,
};

fn process(pid: u32, name: &str, args: &[&str]) -> ProcessEvidence {
    ProcessEvidence {
        pid,
        start_boot_ns: 1_000_000_000 + u64::from(pid),
        name: name.into(),
        exe: format!("/usr/bin/{name}"),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: "/srv/job".into(),
        uid: 1000,
        ended: false,
    }
}

fn evidence() -> Evidence {
    Evidence {
        processes: vec![
            process(4711, "rclone", &["rclone", "copy", "/models", "remote:x y"]),
            process(4700, "bash", &["bash", "run.sh"]),
        ],
        files: vec![FileEvidence {
            path: "/models/llama-70b/model-00001.safetensors".into(),
            device: 271_581_186,
            inode: 42,
            size_bytes: 4_976_698_672,
            label: Some("weights".into()),
            format: Some("safetensors".into()),
            written: false,
            pid: 4711,
            time: "2026-11-22T09:29:58.000Z".into(),
        }],
        flows: vec![FlowEvidence {
            proto: "tcp".into(),
            direction: "egress".into(),
            local: "10.42.0.7:51234".into(),
            remote_ip: "198.51.100.2".into(),
            remote_port: 443,
            remote_name: Some("drop.example".into()),
            bytes_out: 15_247_133_900,
            owner_pid: 4711,
            sender_pid: 4711,
            started: "2026-11-22T09:28:00.000Z".into(),
            app_proto: Some("tls".into()),
        }],
        gpus: vec![GpuEvidence {
            uuid: "GPU-5d3f".into(),
            model: "NVIDIA H100 80GB HBM3".into(),
            util_mean_percent: 91.5,
            util_cv: 0.08,
            mem_used_bytes: 68_719_476_736,
            util_curve: vec![90.0, 93.0],
        }],
        workload: None,
        completeness: Completeness {
            complete: false,
            losses: vec![LossEvidence {
                sensor: "flow".into(),
                reason: "ring_full".into(),
                lost: 12,
            }],
            gaps: vec![SensorGap {
                sensor: "file_read".into(),
                state: "fallback".into(),
                reason: "no BPF LSM: bytes read through mmap are not seen".into(),
            }],
            unknowns: vec!["labels of the pod".into()],
        },
    }
}

fn workload() -> WorkloadEvidence {
    WorkloadEvidence {
        id: "k8s:8a6cf2b4-59a7-4f0c-9f5c-3f3d5c2b1a00".into(),
        kind: "k8s".into(),
        name: "ml/trainer-0".into(),
        cgroup: "/kubepods/burstable/pod8a6cf2b4-59a7-4f0c-9f5c-3f3d5c2b1a00/c0ffee".into(),
        profile: Some("isolated-training".into()),
        namespace: Some("ml".into()),
        pod: Some("trainer-0".into()),
        pod_uid: Some("8a6cf2b4-59a7-4f0c-9f5c-3f3d5c2b1a00".into()),
        container: None,
        container_id: Some("c0ffee".into()),
        slurm_job: None,
        weight_bytes_read: 140_000_000_000,
        weight_bytes_are_bound: true,
        models: vec!["llama-70b".into()],
        egress_bytes: 15_300_000_000,
    }
}

/// An alert with something in every field.
pub(crate) fn sample() -> Alert {
    Alert {
        schema_version: SCHEMA_VERSION.into(),
        id: "0123456789abcdef0123456789abcdef".into(),
        activity: Activity::New,
        rule: AlertRule {
            id: "weights-bulk-egress".into(),
            version: "a1b2c3d4e5f6".into(),
            title: "Bulk egress by a workload that read protected weights".into(),
        },
        severity: Severity::Critical,
        tags: AlertTags {
            attack: vec!["T1048".into(), "T1567.002".into()],
            atlas: vec!["AML.T0025".into(), "AML.T0048.004".into()],
            attack_version: Some("19".into()),
            atlas_version: Some("5.6.0".into()),
        },
        summary: "trainer-0 sent 14.2 GiB to drop.example after reading llama-70b".into(),
        first_seen: WallNs(1_795_339_680_000_000_000),
        last_seen: WallNs(1_795_339_800_250_000_000),
        count: 1,
        host: Host {
            name: "gpu-node-7".into(),
            boot_id: "6f1f2a52-0c5d-4b0e-9d53-1f8f3cf9a111".into(),
        },
        workload: Some(workload()),
        evidence: evidence(),
        false_positives: vec!["a checkpoint upload missing from the profile".into()],
        runbook: "Ask the owner of ml/trainer-0; block drop.example".into(),
        dedupe_key: vec!["k8s:8a6c".into(), "198.51.100.2".into()],
    }
}

#[test]
fn the_native_form_is_stable() {
    let alert = sample();
    insta::assert_snapshot!(serde_json::to_string_pretty(&alert).unwrap());
    assert_eq!(serde_json::from_str::<Alert>(&json(&alert)).unwrap(), alert);
    assert!(!json(&alert).contains('\n'));
}

#[test]
fn the_ocsf_form_is_stable() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&ocsf(&sample())).unwrap());
}

#[test]
fn a_person_sees_who_what_where_and_how_complete() {
    insta::assert_snapshot!(human(&sample(), Colour::Off));
}

#[test]
fn a_person_sees_each_step_of_a_runbook_on_a_line_and_each_state_of_sensors_once() {
    let mut alert = sample();
    alert.runbook = "1. Ask for version 2.0 of the job. 2. Cut it off. 4. Not a step.".into();
    let gap = |sensor: &str, state: &str| SensorGap {
        sensor: sensor.into(),
        state: state.into(),
        reason: "a long reason".into(),
    };
    let gaps = vec![gap("a", "off"), gap("b", "fallback"), gap("c", "off")];
    alert.evidence.completeness.gaps = gaps;
    let text = human(&alert, Colour::Off);
    assert!(text.contains("  runbook   1. Ask for version 2.0 of the job.\n"), "{text}");
    assert!(text.contains("\n            2. Cut it off. 4. Not a step.\n"), "{text}");
    assert!(
        text.contains("; off: a, c; fallback: b (`gpuwarden doctor` says what is not seen); "),
        "{text}"
    );
    assert!(!text.contains("a long reason"), "{text}");
}

#[test]
fn colours_only_add_escapes() {
    let coloured = human(&sample(), Colour::On);
    assert!(coloured.contains("\x1b[1;97;41mCRITICAL\x1b[0m"));
    let plain = coloured.replace("\x1b[1;97;41m", "").replace("\x1b[0m", "");
    assert_eq!(plain, human(&sample(), Colour::Off));
}

#[test]
fn a_process_cannot_write_to_the_terminal() {
    let mut alert = sample();
    let evil = "\x1b]0;x\x07\n  rule      fake";
    alert.summary = evil.into();
    alert.rule.title = evil.into();
    alert.evidence.processes[0].args = vec![evil.into()];
    alert.evidence.processes[0].exe = evil.into();
    alert.evidence.files[0].path = evil.into();
    alert.evidence.flows[0].remote_name = Some(evil.into());
    alert.evidence.completeness.unknowns = vec![evil.into()];
    let workload = alert.workload.as_mut().unwrap();
    workload.name = evil.into();
    workload.pod = Some(evil.into());
    workload.models = vec![evil.into()];
    let text = human(&alert, Colour::Off);
    assert!(!text.contains(['\x1b', '\x07']), "{text}");
    assert!(!text.lines().any(|line| line == "  rule      fake"), "{text}");
}

#[test]
fn a_static_pods_hash_is_not_called_a_uuid() {
    let mut alert = sample();
    alert.workload.as_mut().unwrap().pod_uid = Some("d41d8cd98f00b204e9800998ecf8427e".into());
    assert_eq!(ocsf(&alert)["evidences"][0]["container"].get("pod_uuid"), None);
}
