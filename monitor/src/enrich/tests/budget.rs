//! Budgets of a profile, the members of a job, and roles that nobody declared.

use super::*;
use crate::enrich::limit::BUDGETS_KEPT_MAX;
use crate::rule::{RuleSet, Source};

const PROFILES: &str = r#"apiVersion: gpuwarden.dev/v1
profiles:
- id: trainer
  match: proc.exe == "/opt/train"
  egress:
    peers: [same_job]
    names: ["*.ckpt.internal"]
    budgets:
    - {to: 198.51.100.0/24, bytes: 1000, per: 1h}
    - {to: 198.51.100.7, bytes: 100, per: 1h}
"#;

fn stage() -> Stage {
    let text = PROFILES.to_owned();
    let source = Source { name: "a.yaml".into(), text, dir: None, untested: true };
    let set = RuleSet::load(&[source]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let mut stage = Stage::with_profiles(set.profiles);
    stage.exec(10, "/opt/train");
    stage
}

fn used(stage: &mut Stage, pid: u32, flow_id: u64, remote: &str, bytes: u64) -> (String, String) {
    let of = stage.act(actor(pid), Body::Flow(flow(flow_id, remote, bytes)));
    (stage.text(&of, FieldId::NetBudgetUsed), stage.text(&of, FieldId::NetBudgetBytes))
}

#[test]
fn fullest_budget_that_covers_the_peer_is_shown_and_empties_with_time() {
    let mut stage = stage();
    assert_eq!(used(&mut stage, 10, 1, "198.51.100.9:443", 250), ("0.25".into(), "1000".into()));
    assert_eq!(used(&mut stage, 10, 2, "198.51.100.7:443", 50), ("0.5".into(), "100".into()));
    assert_eq!(used(&mut stage, 10, 2, "198.51.100.7:443", 100), ("1.5".into(), "100".into()));
    assert_eq!(used(&mut stage, 10, 3, "203.0.113.1:443", 9), (String::new(), String::new()));
    stage.now += 2 * 3_600 * SECOND;
    assert_eq!(used(&mut stage, 10, 2, "198.51.100.7:443", 10), ("0.1".into(), "100".into()));
    let other = used(&mut stage, 500, 4, "198.51.100.7:443", 10);
    assert_eq!(other, (String::new(), String::new()), "it has no profile");
}

#[test]
fn budget_survives_a_restart_within_one_boot_only() {
    let mut before = stage();
    used(&mut before, 10, 1, "198.51.100.7:443", 90);
    let saved = serde_json::to_string(&before.enricher.budget_snapshot("boot")).unwrap();
    for (boot, share) in [("boot", "1"), ("other", "0.1")] {
        let mut after = stage();
        let restored = after.enricher.restore_budgets(serde_json::from_str(&saved).unwrap(), boot);
        assert_eq!(restored, if boot == "boot" { 2 } else { 0 });
        assert_eq!(used(&mut after, 10, 1, "198.51.100.7:443", 10).0, share);
    }
}

#[test]
fn budgets_are_bounded_and_what_made_room_is_counted() {
    let mut stage = stage();
    let rows: Vec<String> = (0..BUDGETS_KEPT_MAX + 5)
        .map(|at| format!(r#"[{{"workload":"w{at}","profile":"p","to":"x","per_ns":1}},[]]"#))
        .collect();
    let text = format!(r#"{{"boot_id":"b","rows":[{}]}}"#, rows.join(","));
    let restored = stage.enricher.restore_budgets(serde_json::from_str(&text).unwrap(), "b");
    assert_eq!(restored, BUDGETS_KEPT_MAX);
    used(&mut stage, 10, 1, "198.51.100.9:443", 1);
    let counters = stage.enricher.counters();
    assert_eq!((counters.budgets, counters.budgets_evicted), (BUDGETS_KEPT_MAX, 1));
}

/// A job whose members come to be as many as its version says.
struct Job(std::sync::atomic::AtomicU64);

impl WorkloadNames for Job {
    fn names(&self, _place: &Place) -> Option<Arc<Names>> {
        let member = |at| format!("10.1.2.{}", 2 + at).parse().unwrap();
        let job_members = (1..=self.version()).map(member).collect();
        Some(Arc::new(Names { job_members, ..Names::default() }))
    }

    fn version(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn members_of_the_job_are_peers_once_somebody_tells_who_they_are() {
    let mut stage = stage();
    let of = stage.act(actor(10), Body::Flow(flow(1, "10.1.2.3:29500", 1)));
    assert_eq!(stage.text(&of, FieldId::NetSameJob), "", "nobody told");
    assert_eq!(stage.text(&of, FieldId::NetAllowed), "false");
    let job = Arc::new(Job(1.into()));
    stage.enricher.set_names(job.clone());
    stage.cgroup(30, &format!("/kubepods/burstable/pod{UID}/{}", "a".repeat(64)));
    stage.exec(30, "/opt/train");
    let of = stage.act(actor(30), Body::Flow(flow(2, "10.1.2.3:29500", 1)));
    assert_eq!(stage.text(&of, FieldId::NetSameJob), "true");
    assert_eq!(stage.text(&of, FieldId::NetAllowed), "true");
    let of = stage.act(actor(30), Body::Flow(flow(3, "10.1.2.4:29500", 1)));
    assert_eq!(stage.text(&of, FieldId::NetSameJob), "false");
    assert_eq!(stage.text(&of, FieldId::NetAllowed), "false");
    job.0.store(2, std::sync::atomic::Ordering::Relaxed);
    let of = stage.act(actor(30), Body::Flow(flow(4, "10.1.2.4:29500", 1)));
    assert_eq!(stage.text(&of, FieldId::NetAllowed), "true", "it has joined the job since");
}

#[test]
fn role_that_nobody_declared_is_guessed_and_says_so() {
    let mut stage = Stage::new();
    let of = stage.exec(20, "/usr/bin/vllm");
    assert_eq!(stage.text(&of, FieldId::WorkloadRole), "inference");
    assert_eq!(stage.text(&of, FieldId::WorkloadRoleInferred), "true");
    let of = stage.exec(20, "/usr/bin/torchrun");
    assert_eq!(stage.text(&of, FieldId::WorkloadRole), "inference", "the first guess stays");
    let of = stage.exec(600, "/usr/bin/ls");
    assert_eq!(stage.text(&of, FieldId::WorkloadRoleInferred), "", "there is no role");
}

#[test]
fn name_from_a_resolver_of_ones_own_choice_allows_nothing() {
    use crate::model::{Dns, DnsAnswer};
    let mut stage = stage();
    let configured: std::net::IpAddr = "10.0.0.2".parse().unwrap();
    stage.host.0.lock().unwrap().resolvers = vec![configured];
    for (number, (server, allowed)) in
        [("203.0.113.53", "false"), ("10.0.0.2", "true")].into_iter().enumerate()
    {
        let ip = "198.51.100.7".parse().unwrap();
        stage.act(
            actor(10),
            Body::Dns(Dns {
                server: Some(server.parse().unwrap()),
                name: "a.ckpt.internal".into(),
                answers: vec![DnsAnswer { ip, ttl_seconds: 60 }],
                ..Dns::default()
            }),
        );
        let id = u64::try_from(number).unwrap();
        let of = stage.act(actor(10), Body::Flow(flow(id, "198.51.100.7:443", 1)));
        assert_eq!(stage.text(&of, FieldId::NetDstName), "a.ckpt.internal", "it is shown");
        assert_eq!(stage.text(&of, FieldId::NetAllowed), allowed, "{server}");
    }
}
