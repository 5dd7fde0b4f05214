//! What is everyday in each class of workload, held against every shipped rule and profile at once:
//! nobody may be told of it with severity medium or more.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::*;
use crate::model::FactRow;
use crate::rule::{Profile, Role, RuleSet};

fn shipped() -> RuleSet {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    RuleSet::read_paths(&[rules]).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn baseline(profile: &str) -> Vec<Map<String, Json>> {
    let file = format!("../rules/profiles/fixtures/{profile}.jsonl");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the enricher would say with `profile`: the recordings leave out what follows from it, so
/// that a profile which forgets a peer is found.
fn judged(mut event: Map<String, Json>, profile: &Profile) -> FactRow {
    let role = profile.role.map(Role::as_str);
    event.insert("workload.profile".into(), profile.id.as_str().into());
    event.insert("workload.role".into(), role.into());
    event.insert("workload.role_inferred".into(), false.into());
    event.insert("workload.isolated".into(), profile.isolated.into());
    if let Some(ip) = event.get("net.dst.ip").and_then(Json::as_str) {
        let ip: IpAddr = ip.parse().unwrap();
        let port = event["net.dst.port"].as_u64().unwrap().try_into().unwrap();
        let name = event.get("net.dst.name").and_then(Json::as_str);
        let in_job = event.get("net.same_job").is_some_and(|same| same == true);
        let is_allowed = profile.allows(ip, port, name) || profile.same_job && in_job;
        event.insert("net.allowed".into(), is_allowed.into());
    }
    let path = event.get("file.new_path").or_else(|| event.get("file.path"));
    if let Some(path) = path.and_then(Json::as_str) {
        let expected = profile.is_weight(path);
        event.insert("file.in_weight_paths".into(), expected.into());
    }
    FactRow::from_json(&event).unwrap()
}

/// Alerts of severity medium or more, as rule and message.
fn alerts(set: &RuleSet, rows: &[FactRow]) -> Vec<String> {
    let mut engine = Engine::new(&set.rules, CorrelateLimits::default());
    let mut findings = Vec::new();
    for row in rows {
        engine.on_event(row, &mut findings);
    }
    findings
        .into_iter()
        .filter(|finding| finding.rule.alerts && finding.rule.severity >= Severity::Medium)
        .map(|finding| format!("{}: {}", finding.rule.id, finding.message))
        .collect()
}

#[test]
fn what_is_everyday_in_each_profile_alerts_nobody() {
    let set = shipped();
    for profile in set.profiles.iter() {
        let events = baseline(profile.id.as_str());
        let selecting = FactRow::from_json(&events[0]).unwrap();
        let selected = set.profiles.select(&selecting).map(|profile| profile.id.to_string());
        assert_eq!(selected.as_deref(), Some(profile.id.as_str()));
        let rows: Vec<FactRow> = events.into_iter().map(|event| judged(event, profile)).collect();
        assert!(rows.len() > 15, "{}: {} events are no day", profile.id, rows.len());
        let alerts = alerts(&set, &rows);
        assert!(alerts.is_empty(), "{}: {alerts:#?}", profile.id);
    }
}

/// The same days with one act among them that is not everyday: the silence above is no deafness.
#[test]
fn one_act_that_is_not_everyday_alerts_in_each_profile_but_the_platforms() {
    let set = shipped();
    for profile in set.profiles.iter().filter(|profile| profile.id.as_str() != "system") {
        let events = baseline(profile.id.as_str());
        let mut act = events[events.len() / 2].clone();
        for (field, value) in [
            ("evt.kind", json!("flow")),
            ("net.phase", json!("progress")),
            ("net.direction", json!("egress")),
            ("net.dst.ip", json!("198.51.100.2")),
            ("net.dst.port", json!(443)),
            ("net.peer_class", json!("public")),
            ("net.bytes_out", json!(8_u64 << 30)),
            ("weights.bytes_read", json!(16_u64 << 30)),
            ("weights.smallest_model_bytes", json!(16_u64 << 30)),
        ] {
            act.insert(field.into(), value);
        }
        act.retain(|field, _| !field.starts_with("file.") && field != "net.same_job");
        act.remove("net.dst.name");
        let alerts = alerts(&set, &[judged(act, profile)]);
        let is_told = alerts.iter().any(|alert| alert.starts_with("weights-bulk-egress"));
        assert!(is_told, "{}: {alerts:?}", profile.id);
    }
}

#[test]
fn a_label_of_ours_wins_over_a_guess_by_a_chart() {
    let set = shipped();
    for chart in ["vllm", "ollama", "triton", "tgi"] {
        let row = |labels: Json| {
            let event = json!({"evt.kind": "exec", "k8s.labels": labels});
            FactRow::from_json(event.as_object().unwrap()).unwrap()
        };
        let selected = |labels| set.profiles.select(&row(labels)).map(|it| it.id.to_string());
        let ours = selected(json!({"app": chart, "gpuwarden.dev/profile": "isolated-training"}));
        assert_eq!(ours.as_deref(), Some("isolated-training"));
        let guessed = selected(json!({"app": chart})).unwrap();
        assert_eq!(guessed, format!("inference-{chart}"));
    }
}
