//! What converts means the same, and what does not is refused with its reason.

use serde_json::json;

use super::*;
use crate::correlate::{CorrelateLimits, Engine};
use crate::model::FactRow;

fn findings(import: &Import, rows: &[serde_json::Value]) -> Vec<String> {
    let text = import.to_yaml();
    let source = Source { name: "a.yaml".into(), text: text.clone(), dir: None, untested: true };
    let set = RuleSet::load(&[source]).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
    let mut engine = Engine::new(&set.rules, CorrelateLimits::default());
    let mut found = Vec::new();
    for row in rows {
        let row = FactRow::from_json(row.as_object().expect("an object")).expect("a row");
        engine.on_event(&row, &mut found);
    }
    found.iter().map(|finding| finding.rule.id.to_string()).collect()
}

const FALCO: &str = r#"
- list: shells
  items: [bash, sh]
- list: more_shells
  items: [shells, "zsh"]
- macro: spawned_process
  condition: (evt.type in (execve, execveat) and evt.dir=<)
- macro: never_true
  condition: (evt.num=0)
- macro: container
  condition: (container.id != host)
- rule: Shell in container
  desc: a shell
  condition: >
    spawned_process and container and proc.name in (more_shells)
    and not proc.pname startswith "containerd" and not never_true
  output: shell (%proc.name)
  priority: NOTICE
  tags: [container, T1059]
  exceptions:
  - name: known
    fields: [proc.name, proc.cmdline]
    comps: [=, contains]
    values:
    - [sh, "health check"]
- rule: Sensitive file
  desc: a file
  condition: >
    evt.type in (open, openat) and evt.is_open_read=true and fd.name in (/etc/shadow)
    and (proc.aname = sshd or fd.directory = /etc)
  output: file
  priority: WARNING
- rule: Outbound
  desc: a flow
  condition: >
    evt.type = connect and evt.dir = < and fd.sip in ("10.0.0.0/8", "192.0.2.1")
    and fd.sport in (22, 2222)
  output: flow
  priority: CRITICAL
- rule: Terminal
  desc: no counterpart
  condition: spawned_process and proc.tty != 0
  output: x
  priority: INFO
- rule: Mode
  desc: no counterpart
  condition: evt.type = chmod
  output: x
  priority: INFO
- rule: Endless
  desc: uses itself
  condition: loop_a
  output: x
  priority: INFO
- macro: loop_a
  condition: (loop_b)
- macro: loop_b
  condition: (loop_a)
"#;

#[test]
fn falco_rules_mean_the_same_here() {
    let import = falco(&[FALCO.to_owned()]).expect("reads");
    let ids: Vec<&str> = import.sheets.iter().map(|sheet| sheet.id.as_str()).collect();
    assert_eq!(ids, ["shell-in-container", "sensitive-file", "outbound"]);
    let shell = |name: &str, cmdline: &str, parent: &str| {
        json!({"evt.kind": "exec", "container.id": "c", "proc.name": name,
               "proc.cmdline": cmdline, "proc.parent.name": parent})
    };
    let found = findings(
        &import,
        &[
            shell("bash", "bash", "python3"),
            shell("zsh", "zsh", "python3"),
            shell("python3", "python3", "bash"),
            shell("bash", "bash", "containerd-shim"),
            shell("sh", "sh -c health check", "python3"),
            json!({"evt.kind": "exec", "proc.name": "bash", "proc.parent.name": "sshd"}),
            json!({"evt.kind": "exec", "container.id": "c", "proc.name": "sh",
                   "proc.cmdline": "sh"}),
            json!({"evt.kind": "file_open", "file.path": "/etc/shadow", "file.read": true,
                   "proc.ancestors": ["bash"]}),
            json!({"evt.kind": "file_open", "file.path": "/etc/shadow", "file.read": false,
                   "proc.ancestors": ["sshd"]}),
            json!({"evt.kind": "flow", "net.phase": "start", "net.direction": "egress",
                   "net.dst.ip": "10.1.2.3", "net.dst.port": 22}),
            json!({"evt.kind": "flow", "net.phase": "start", "net.direction": "egress",
                   "net.dst.ip": "192.0.2.2", "net.dst.port": 22}),
        ],
    );
    assert_eq!(
        found,
        ["shell-in-container"; 3]
            .into_iter()
            .chain(["sensitive-file", "outbound"])
            .collect::<Vec<_>>()
    );
    assert_eq!(import.sheets[0].attack, ["T1059"]);
}

#[test]
fn falco_rules_without_a_counterpart_are_refused_by_name() {
    let import = falco(&[FALCO.to_owned()]).expect("reads");
    let why: Vec<(&str, &str)> =
        import.refused.iter().map(|row| (row.rule.as_str(), row.why.as_str())).collect();
    assert_eq!(
        why,
        [
            ("Terminal", "the field `proc.tty` has no counterpart"),
            ("Mode", "there is no event for the system call chmod"),
            ("Endless", "its macros nest too deeply, or use themselves"),
        ]
    );
}

const SIGMA: &str = r"
title: Netcat
name: netcat
id: 1
logsource: {product: linux, category: process_creation}
detection:
  selection_name:
    Image|endswith: ['/nc', '/ncat']
  selection_args:
    CommandLine|contains|all: [' -e ', 'sh']
  filter:
    ParentImage: '/usr/bin/tes?'
  condition: all of selection_* and not filter
level: high
tags: [attack.execution, attack.t1059.004]
falsepositives: [Unknown, tests]
---
title: Odd port
id: 2
logsource: {product: linux, category: network_connection}
detection:
  one: {DestinationPort: [4444, 31337], Initiated: 'true'}
  two: {DestinationIp|cidr: 192.0.2.0/24}
  condition: 1 of them
level: medium
---
title: Cron
id: 3
logsource: {product: linux, category: file_event}
detection:
  selection: [{TargetFilename|startswith: /etc/cron.d/}, {TargetFilename: '/var/*/crontabs/*'}]
  condition: selection
level: low
---
title: Many netcats
correlation:
  type: event_count
  rules: [netcat]
  group-by: [host.name]
  timespan: 5m
  condition: {gte: 2}
level: critical
---
title: Netcat then cron
correlation: {type: temporal_ordered, rules: [netcat, '3'], timespan: 10m}
level: critical
---
title: Windows
logsource: {product: windows, category: process_creation}
detection: {selection: {Image: x}, condition: selection}
---
title: Keywords
logsource: {product: linux, category: process_creation}
detection: {keywords: [a, b], condition: keywords}
---
title: Encoded
logsource: {product: linux, category: process_creation}
detection: {selection: {CommandLine|base64offset|contains: x}, condition: selection}
";

#[test]
fn sigma_rules_and_correlations_mean_the_same_here() {
    let import = sigma(&[SIGMA.replace("id: 3", "id: '3'")]).expect("reads");
    assert_eq!(import.refused.len(), 3, "{:?}", import.refused);
    let exec = |at: u64, exe: &str, cmdline: &str, parent: &str| {
        json!({"evt.kind": "exec", "evt.time_ns": at, "proc.exe": exe, "proc.cmdline": cmdline,
               "proc.parent.exe": parent, "workload.id": "w"})
    };
    let found = findings(
        &import,
        &[
            exec(1, "/bin/nc", "nc -e /bin/sh", "/bin/bash"),
            exec(2, "/bin/nc", "nc -l", "/bin/bash"),
            exec(3, "/bin/nc", "nc -e /bin/sh", "/usr/bin/test"),
            exec(4, "/bin/ncat", "ncat -e /bin/sh", "/bin/bash"),
            json!({"evt.kind": "flow", "net.phase": "start", "net.direction": "egress",
                   "net.dst.port": 4444, "net.dst.ip": "198.51.100.1"}),
            json!({"evt.kind": "flow", "net.phase": "start", "net.direction": "ingress",
                   "net.dst.port": 4444, "net.dst.ip": "198.51.100.1"}),
            json!({"evt.kind": "file_open", "evt.time_ns": 9, "file.write": true,
                   "file.path": "/var/spool/crontabs/root", "workload.id": "w"}),
        ],
    );
    let alerts: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(
        alerts,
        ["netcat", "netcat", "many-netcats", "odd-port", "cron", "netcat-then-cron"],
        "building blocks match too, though they make no alerts"
    );
    let silent: Vec<&str> = import
        .sheets
        .iter()
        .filter(|sheet| sheet.is_silent)
        .map(|sheet| sheet.id.as_str())
        .collect();
    assert_eq!(silent, ["netcat", "cron"], "the correlations speak for them");
    assert_eq!(import.sheets[0].attack, ["T1059.004"]);
    assert_eq!(import.sheets[0].false_positives, ["tests"]);
}

#[test]
fn sigma_rules_without_a_counterpart_are_refused_by_name() {
    let import = sigma(&[SIGMA.to_owned()]).expect("reads");
    let why = |rule: &str| {
        let row = import.refused.iter().find(|row| row.rule == rule);
        row.map_or_else(|| panic!("{rule} was converted"), |row| row.why.clone())
    };
    assert_eq!(why("Windows"), "its product is `windows`, not linux");
    assert_eq!(why("Keywords"), "keywords without a field have no counterpart");
    assert_eq!(why("Encoded"), "the modifier `base64offset|contains` has no counterpart");
}

#[test]
fn what_is_no_rule_file_is_refused_and_bounds_hold() {
    assert!(falco(&["- [".to_owned()]).is_err());
    assert!(sigma(&["a: [".to_owned()]).is_err());
    assert!(falco(&["x".repeat(IMPORT_BYTES_MAX + 1)]).is_err());
    let deep = "(".repeat(5_000) + "evt.num=0" + &")".repeat(5_000);
    let long = vec!["proc.pid = 1"; 30_000].join(" or ");
    for condition in [deep, long] {
        let rule = json!([{"rule": "r", "condition": condition, "priority": "INFO"}]);
        let import = falco(&[rule.to_string()]).expect("reads");
        assert_eq!(import.refused.len(), 1, "{:?}", import.sheets);
    }
}

proptest::proptest! {
    #[test]
    fn any_condition_is_converted_or_refused(text in "[-a-z.=<>()'\", !_*|]{0,60}") {
        let rule = json!([{"rule": "r", "condition": text, "priority": "INFO"}]);
        let import = falco(&[rule.to_string()]).expect("reads");
        assert_eq!(import.sheets.len() + import.refused.len(), 1);
        let detection = json!({"selection": {"Image": text}, "condition": text});
        let rule = json!({"title": "r", "detection": detection,
            "logsource": {"product": "linux", "category": "process_creation"}});
        let import = sigma(&[rule.to_string()]).expect("reads");
        assert_eq!(import.sheets.len() + import.refused.len(), 1);
    }
}
