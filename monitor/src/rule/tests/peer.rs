//! Profiles: which is selected, and what it allows.

use std::net::IpAddr;

use serde_json::json;

use super::{load, row};
use crate::rule::{Profile, RuleSet};

fn set(profiles: &str) -> RuleSet {
    let text = format!("apiVersion: gpuwarden.dev/v1\nprofiles:\n{profiles}");
    load(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn allows(profile: &Profile, ip: &str, port: u16, name: Option<&str>) -> bool {
    profile.allows(ip.parse::<IpAddr>().expect("an address"), port, name)
}

#[test]
fn the_first_profile_that_matches_is_selected() {
    let set = set("- {id: a, match: 'slurm.partition == \"train\"'}\n\
                   - {id: b, match: has(slurm.job_id)}\n");
    let select = |event| set.profiles.select(&row(event)).map(|profile| profile.id.to_string());
    let both = json!({"evt.kind": "exec", "slurm.partition": "train", "slurm.job_id": "1"});
    let second = json!({"evt.kind": "exec", "slurm.job_id": "1"});
    assert_eq!(select(both).as_deref(), Some("a"));
    assert_eq!(select(second).as_deref(), Some("b"));
    assert_eq!(select(json!({"evt.kind": "exec"})), None);
}

#[test]
fn only_listed_peers_are_allowed() {
    let set = set("- id: a\n  match: has(slurm.job_id)\n  isolated: true\n  egress:\n    \
                   peers: [same_job, cidr: 10.42.0.0/16, {cidr: [192.0.2.0/24, \
                   \"2001:db8::/32\"], ports: [443, 8000-8100]}, 203.0.113.7, {ports: [123]}]\n    \
                   names: [\"*.ckpt.internal\"]\n");
    let profile = set.profiles.iter().next().expect("a profile");
    assert!(profile.isolated && profile.same_job);
    for (ip, port, name, want) in [
        ("10.42.7.7", 9, None, true),
        ("::ffff:10.42.7.7", 9, None, true),
        ("10.43.0.0", 9, None, false),
        ("192.0.2.1", 443, None, true),
        ("192.0.2.1", 8050, None, true),
        ("192.0.2.1", 80, None, false),
        ("2001:db8::1", 8100, None, true),
        ("2001:db9::1", 8100, None, false),
        ("203.0.113.7", 1, None, true),
        ("203.0.113.8", 1, None, false),
        ("203.0.113.8", 123, None, true),
        ("203.0.113.8", 1, Some("a.ckpt.internal"), true),
        ("203.0.113.8", 1, Some("A.b.CKPT.internal"), true),
        ("203.0.113.8", 1, Some("ckpt.internal"), false),
        ("203.0.113.8", 1, Some("a.ckpt.internal.evil.example"), false),
        ("203.0.113.8", 53, None, false),
        ("127.0.0.1", 1, None, true),
        ("::1", 1, None, true),
    ] {
        assert_eq!(allows(profile, ip, port, name), want, "{ip} {port} {name:?}");
    }
}

#[test]
fn dns_and_loopback_are_switches() {
    let set = set("- {id: a, match: has(slurm.job_id), egress: {dns: true, loopback: false}}\n");
    let profile = set.profiles.iter().next().expect("a profile");
    assert!(allows(profile, "198.51.100.1", 53, None));
    assert!(!allows(profile, "198.51.100.1", 54, None));
    assert!(!allows(profile, "127.0.0.1", 1, None));
}

#[test]
fn budgets_and_weights_are_read() {
    let set = set("- id: a\n  role: training\n  match: has(slurm.job_id)\n  egress: {budgets: \
                   [{to: \"*.ckpt.internal\", bytes: 500.gib, per: 24h}, {to: 10.0.0.0/8, bytes: \
                   1024, per: 1m}]}\n  weights: {paths: [\"/models/**\", \"/mnt/*/x\"], protect: \
                   true}\n");
    let profile = set.profiles.iter().next().expect("a profile");
    let [names, nets] = profile.budgets.as_slice() else { panic!("two budgets") };
    assert_eq!((names.bytes_max, names.per_ns), (500 << 30, 86_400_000_000_000));
    let ip = "10.1.2.3".parse().expect("an address");
    assert!(names.covers(ip, Some("x.ckpt.internal")) && !names.covers(ip, None));
    assert!(nets.covers(ip, None));
    assert!(profile.weights_protected && profile.is_weight("/models/a/b.safetensors"));
    assert!(profile.is_weight("/mnt/a/x") && !profile.is_weight("/mnt/a/b/x"));
}
