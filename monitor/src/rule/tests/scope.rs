//! What the kernel side need not send: by port, by family, by workload.

use std::fmt::Write as _;

use super::row;
use crate::model::{EventKind, FactRow, Facts, KindSet};
use crate::rule::{Demand, RuleSet, Scopes, Source};

fn set(rules: &[(&str, &str, &str)], rest: &str) -> RuleSet {
    let mut text = "apiVersion: gpuwarden.dev/v1\nrules:\n".to_owned();
    for (id, on, when) in rules {
        let rest = "title: t, severity: low, message: m";
        writeln!(text, "- {{id: {id}, {rest}, on: [{on}], when: '{when}'}}").expect("it grows");
    }
    let source = Source { name: "r.yaml".into(), text: text + rest, dir: None, untested: true };
    RuleSet::load(&[source]).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn ports(rules: &[(&str, &str, &str)], accounts: bool) -> Option<Vec<u16>> {
    Some(Demand::of(&set(rules, ""), accounts).flow_ports?.into_iter().collect())
}

#[test]
fn flows_are_asked_for_by_the_ports_that_some_rule_can_match() {
    let ssh = ("a", "flow", "net.dst.port == 22 && proc.uid != 0");
    let pools = ("b", "flow", "net.dst.port in [3333, 4444] || net.dst.port == 14444");
    assert_eq!(ports(&[ssh], false), Some(vec![22]));
    assert_eq!(ports(&[ssh, pools], false), Some(vec![22, 3333, 4444, 14444]));
    let any = ("c", "flow", "net.dst.port == 22 || proc.uid == 0");
    assert_eq!(ports(&[ssh, any], false), None, "one that matches any port needs them all");
    assert_eq!(ports(&[ssh], true), None, "metrics count every flow");
    for sum in ["workload.egress_bytes > 1", "net.budget_used > 0.5", "workload.stratum_seen"] {
        let when = format!("net.dst.port == 22 && {sum}");
        assert_eq!(ports(&[("a", "flow", &when)], false), None, "{sum} is made of every flow");
    }
    let exec = ("d", "exec", "workload.egress_bytes > 1");
    assert_eq!(ports(&[ssh, exec], false), None, "whatever the event is on");
}

#[test]
fn rule_that_waits_for_others_asks_for_what_they_ask_for() {
    let ssh = ("a", "flow", "net.dst.port == 22");
    let dns = ("b", "flow", "net.dst.port == 53");
    let both = "- {id: c, title: t, severity: low, message: m, correlate: {type: temporal, rules: \
                [a, b], group_by: [workload.id], window: {kind: sliding, span: 1m}}}\n";
    let demand = Demand::of(&set(&[ssh, dns], both), false);
    assert_eq!(demand.flow_ports, Some([22, 53].into()));
}

#[test]
fn flows_are_asked_for_by_the_families_that_some_rule_can_match() {
    let packet = ("a", "flow", "net.family == \"packet\" && net.bytes_out > 0");
    let demand = Demand::of(&set(&[packet], ""), false);
    assert_eq!(demand.flow_families, Some(["packet".to_owned()].into()));
    assert_eq!(demand.flow_ports, None);
    assert!(demand.spared().filters.iter().any(|words| words.contains("families than packet")));
    let any = ("b", "flow", "net.bytes_out > 0");
    assert_eq!(Demand::of(&set(&[packet, any], ""), false).flow_families, None);
}

/// A workload as facts: its unit, and its role with whether that is a guess.
fn world(unit: &str, role: Option<(&str, bool)>) -> FactRow {
    let mut facts = serde_json::json!({"evt.kind": "exec", "evt.time_ns": 1, "unit.name": unit,
        "workload.kind": "unit", "workload.isolated": false});
    if let Some((role, inferred)) = role {
        facts["workload.role"] = role.into();
        facts["workload.role_inferred"] = inferred.into();
    }
    row(facts)
}

fn spared(set: &RuleSet, worlds: &[FactRow]) -> KindSet {
    let worlds: Vec<&dyn Facts> = worlds.iter().map(|world| world as &dyn Facts).collect();
    Scopes::of(set, true).spared(set, &worlds)
}

#[test]
fn workload_is_spared_what_no_rule_can_match_there() {
    let sockets = ("a", "socket", "unit.name == \"job.service\" && net.family == \"packet\"");
    let spaces = ("b", "namespace", "unit.name.startsWith(\"job\")");
    let one = set(&[sockets, spaces], "");
    let both = KindSet::of(&[EventKind::Socket, EventKind::Namespace]);
    assert_eq!(spared(&one, &[world("ssh.service", None)]), both);
    assert_eq!(spared(&one, &[world("jobs.service", None)]), KindSet::of(&[EventKind::Socket]));
    assert_eq!(spared(&one, &[world("job.service", None)]), KindSet::EMPTY);
    let any = ("c", "socket", "net.family == \"vsock\"");
    let two = set(&[sockets, spaces, any], "");
    let left = spared(&two, &[world("ssh.service", None)]);
    assert_eq!(left, KindSet::of(&[EventKind::Namespace]), "a rule on any workload needs it");
}

#[test]
fn what_may_still_become_of_a_workload_counts() {
    let job = ("a", "socket", "has(workload.role) && workload.role != \"system\"");
    let set = set(&[job], "");
    let none = || world("x.service", None);
    assert_eq!(spared(&set, &[none()]), KindSet::of(&[EventKind::Socket]));
    let guessed = world("x.service", Some(("training", true)));
    assert_eq!(spared(&set, &[none(), guessed]), KindSet::EMPTY, "it may be guessed to train");
}

#[test]
fn profile_that_selects_by_what_runs_leaves_its_fields_open() {
    let isolated = ("a", "socket", "workload.isolated && net.family == \"packet\"");
    let by =
        |matched: &str| format!("profiles:\n- {{id: p, isolated: true, match: '{matched}'}}\n");
    let by_unit = set(&[isolated], &by("unit.name == \"job.service\""));
    assert!(!Scopes::of(&by_unit, true).is_empty());
    let by_program = set(&[isolated], &by("proc.name == \"torchrun\""));
    assert!(Scopes::of(&by_program, true).is_empty(), "the next program may make it isolated");
    let why = Scopes::explain(&by_program, true);
    let why = why
        .iter()
        .find(|scope| scope.kind == "socket")
        .and_then(|scope| scope.everywhere.as_deref())
        .unwrap_or_default();
    assert!(why.contains("rule a") && why.contains("profile p"), "{why}");
}

#[test]
fn what_lasts_is_sent_of_every_workload() {
    let opens = ("a", "file_open", "unit.name == \"job.service\" && file.write");
    assert!(Scopes::of(&set(&[opens], ""), true).is_empty(), "metrics are made of opens");
    assert!(!Scopes::of(&set(&[opens], ""), false).is_empty());
    let reads = ("b", "exec", "weights.bytes_read > 0");
    assert!(Scopes::of(&set(&[opens, reads], ""), false).is_empty(), "labels are made of them");
    let access = ("c", "memory_access", "unit.name == \"job.service\"");
    assert!(!Scopes::of(&set(&[access], ""), false).is_empty());
    assert!(Scopes::of(&set(&[access, reads], ""), false).is_empty(), "who takes weights so");
    let tamper = ("d", "tamper", "unit.name == \"job.service\" && tamper.self");
    let demand = Demand::of(&set(&[tamper], ""), false);
    assert!(demand.lasting.contains(EventKind::FileOpen), "some is done by writing to a file");
}
