//! OCSF 1.8.0, class Detection Finding (2004).
//!
//! What OCSF has no place for (GPU curves, completeness, the workload) goes into `unmapped`, where
//! the schema allows it.

use serde_json::{Map, Value, json};

use super::text::command;
use crate::alert::{Activity, Alert};
use crate::model::{FileEvidence, FlowEvidence, ProcessEvidence, Severity, WallNs};

/// Version of the schema that the event follows.
pub const OCSF_VERSION: &str = "1.8.0";
/// Class Detection Finding, and its category Findings.
const CLASS_UID: u32 = 2004;
const CATEGORY_UID: u32 = 2;
/// Milliseconds are what OCSF counts time in.
const MS_NS: u64 = 1_000_000;

/// The alert as an OCSF event.
pub fn ocsf(alert: &Alert) -> Value {
    let (activity_id, activity_name) = match alert.activity {
        Activity::New => (1, "Create"),
        Activity::Update => (2, "Update"),
    };
    let (severity_id, severity) = severity(alert.severity);
    let mut event = json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": CATEGORY_UID,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": CLASS_UID * 100 + activity_id,
        "type_name": format!("Detection Finding: {activity_name}"),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": if alert.activity == Activity::New { 1 } else { 2 },
        "time": ms(alert.last_seen),
        "start_time": ms(alert.first_seen),
        "end_time": ms(alert.last_seen),
        "count": alert.count,
        "is_alert": true,
        "message": alert.summary,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": alert.id,
            "correlation_uid": alert.id,
            "product": {
                "name": "gpuwarden",
                "vendor_name": "gpuwarden",
                "version": env!("CARGO_PKG_VERSION"),
            },
        },
        "finding_info": finding_info(alert),
        "device": {
            "type_id": 1,
            "hostname": alert.host.name,
            "boot_uid": alert.host.boot_id,
        },
        "unmapped": { "gpuwarden": {
            "schema_version": alert.schema_version,
            "workload": alert.workload,
            "gpus": alert.evidence.gpus,
            "completeness": alert.evidence.completeness,
            "false_positives": alert.false_positives,
            "dedupe_key": alert.dedupe_key,
        }},
    });
    let evidences = evidences(alert);
    if !evidences.is_empty() {
        event["evidences"] = evidences.into();
    }
    if let Some(workload) = &alert.workload {
        event["resources"] = json!([without_nulls(json!({
            "uid": workload.id,
            "name": workload.name,
            "type": workload.kind,
            "namespace": workload.namespace,
        }))]);
    }
    if !alert.runbook.is_empty() {
        event["remediation"] = json!({ "desc": alert.runbook });
    }
    event
}

const fn ms(time: WallNs) -> u64 {
    time.0 / MS_NS
}

const fn severity(severity: Severity) -> (u32, &'static str) {
    match severity {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    }
}

fn finding_info(alert: &Alert) -> Value {
    let tags = &alert.tags;
    let attacks: Vec<Value> = tags
        .attack
        .iter()
        .map(|id| attack(id, tags.attack_version.as_ref()))
        .chain(tags.atlas.iter().map(|id| attack(id, tags.atlas_version.as_ref())))
        .collect();
    let mut info = json!({
        "uid": alert.id,
        "title": alert.rule.title,
        "desc": alert.summary,
        "analytic": {
            "type_id": 1,
            "type": "Rule",
            "uid": alert.rule.id,
            "name": alert.rule.title,
            "version": alert.rule.version,
        },
        "created_time": ms(alert.first_seen),
        "first_seen_time": ms(alert.first_seen),
        "last_seen_time": ms(alert.last_seen),
    });
    if !attacks.is_empty() {
        info["attacks"] = attacks.into();
    }
    info
}

/// `T1048` is a technique, `T1048.003` and `AML.T0048.004` are techniques with a part.
fn attack(id: &str, version: Option<&String>) -> Value {
    let digits = id.rfind('T').map_or(id, |at| &id[at..]);
    let mut attack = Map::new();
    if let Some(dot) = digits.find('.') {
        let technique = &id[..id.len() - digits.len() + dot];
        attack.insert("technique".into(), json!({ "uid": technique }));
        attack.insert("sub_technique".into(), json!({ "uid": id }));
    } else {
        attack.insert("technique".into(), json!({ "uid": id }));
    }
    if let Some(version) = version {
        attack.insert("version".into(), version.as_str().into());
    }
    attack.into()
}

fn evidences(alert: &Alert) -> Vec<Value> {
    let mut evidences = Vec::new();
    let container = container(alert);
    if let Some((first, ancestors)) = alert.evidence.processes.split_first() {
        let mut evidence = json!({ "process": process(first, ancestors) });
        if let Some(container) = &container {
            evidence["container"] = container.clone();
        }
        evidences.push(evidence);
    }
    evidences.extend(alert.evidence.files.iter().map(|found| json!({ "file": file(found) })));
    evidences.extend(alert.evidence.flows.iter().map(flow));
    evidences
}

/// The container; only a pod's id that has the form of a UUID may be called one (static pods have
/// a hash).
fn container(alert: &Alert) -> Option<Value> {
    let workload = alert.workload.as_ref()?;
    let uid = workload.container_id.as_ref()?;
    let pod = workload.pod_uid.as_ref().filter(|uid| is_uuid(uid));
    let orchestrator = workload.pod.as_ref().map(|_| "kubernetes");
    Some(without_nulls(json!({ "uid": uid, "pod_uuid": pod, "orchestrator": orchestrator })))
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn process(process: &ProcessEvidence, ancestors: &[ProcessEvidence]) -> Value {
    let mut object = process_entity(process);
    object["user"] = json!({ "uid": process.uid.to_string() });
    if !process.cwd.is_empty() {
        object["working_directory"] = process.cwd.as_str().into();
    }
    if !process.exe.is_empty() {
        object["file"] =
            json!({ "name": base_name(&process.exe), "path": process.exe, "type_id": 8 });
    }
    if !ancestors.is_empty() {
        object["ancestry"] = ancestors.iter().map(process_entity).collect();
    }
    object
}

fn process_entity(process: &ProcessEvidence) -> Value {
    json!({
        "pid": process.pid,
        "uid": format!("{}:{}", process.pid, process.start_boot_ns),
        "name": process.name,
        "path": process.exe,
        "cmd_line": command(&process.args),
    })
}

fn file(file: &FileEvidence) -> Value {
    json!({
        "name": base_name(&file.path),
        "path": file.path,
        "size": file.size_bytes,
        "type_id": 1,
        "uid": format!("{}:{}", file.device, file.inode),
    })
}

fn flow(flow: &FlowEvidence) -> Value {
    let (direction_id, direction) = match flow.direction.as_str() {
        "egress" => (2, "Outbound"),
        "ingress" => (1, "Inbound"),
        _ => (0, "Unknown"),
    };
    let mut evidence = json!({
        "connection_info": {
            "direction_id": direction_id,
            "direction": direction,
            "protocol_name": flow.proto,
        },
        "data": {
            "bytes_out": flow.bytes_out,
            "owner_pid": flow.owner_pid,
            "sender_pid": flow.sender_pid,
            "app_proto": flow.app_proto,
        },
    });
    if !flow.remote_ip.is_empty() {
        evidence["dst_endpoint"] = without_nulls(json!({
            "ip": flow.remote_ip,
            "port": flow.remote_port,
            "hostname": flow.remote_name,
        }));
    }
    if let Ok(local) = flow.local.parse::<std::net::SocketAddr>() {
        evidence["src_endpoint"] = json!({ "ip": local.ip(), "port": local.port() });
    }
    evidence
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(object) = &mut value {
        object.retain(|_, value| !value.is_null());
    }
    value
}
