//! The rule language as its users meet it: files in, rules or mistakes out.

mod block;
mod bound;
mod hostile;
mod message;
mod peer;
mod scope;
mod slip;

use serde_json::json;

use super::spec::{CorrelationKind, Rule, Vars, Window};
use super::*;
use crate::model::{EventKind, FactRow, FieldId, KindSet, RuleId, Severity};

const DESIGN_EXAMPLE: &str = r#"apiVersion: gpuwarden.dev/v1
lists:
  transfer_tools: [curl, wget, scp, rsync, rclone, aws, gsutil, azcopy, nc, socat]
macros:
  leaves_host: 'net.direction == "egress" && net.peer_class == "public"'
rules:
- id: weights-bulk-egress
  title: Bulk egress by a workload that read protected weights
  severity: critical                     # info low medium high critical
  on: [flow]
  when: '!net.allowed && weights.bytes_read > 0'
  correlate:
    type: value_sum
    field: net.bytes_out
    group_by: [workload.id]
    window: {kind: sliding, span: 10m}
    condition: 'sum >= max(64.mib, 0.01 * weights.smallest_model_bytes)'
  dedupe: {key: [workload.id, net.dst.ip], for: 1h}
  message: >-
    {{workload.name}} sent {{sum|bytes}} to {{net.dst.name}} after reading {{weights.models}}
  tags: {attack: [T1048], atlas: [AML.T0025], attack_version: "19", atlas_version: "5.6.0"}
  exceptions:
  - {name: checkpoint-store, when: 'net.dst.name.endsWith(".ckpt.internal")'}
  respond: []
  falsePositives: [a checkpoint upload missing from the profile]
  tests:
  - name: an upload fires once
    events:
    - {evt.kind: flow, evt.time_ns: 1000000000, workload.id: "k8s:1", net.dst.ip: 198.51.100.2}
    expect: [{severity: critical, count: 1}]
profiles:
- id: isolated-training
  role: training
  match: 'k8s.labels["gpuwarden.dev/profile"] == "isolated-training" || slurm.partition == "train"'
  egress:
    peers: [same_job, cidr: 10.42.0.0/16]
    names: ["*.ckpt.internal"]
    budgets: [{to: "*.ckpt.internal", bytes: 500.gib, per: 24h}]
  weights: {paths: ["/models/**", "/mnt/ckpt/**"], protect: true}
"#;

pub(super) fn source(text: &str) -> Source {
    Source { name: "r.yaml".into(), text: text.into(), dir: None, untested: false }
}

pub(super) fn load(text: &str) -> Result<RuleSet, Diagnostics> {
    RuleSet::load(&[source(text)])
}

#[expect(clippy::needless_pass_by_value, reason = "reads better with `json!` at the call")]
pub(super) fn row(value: serde_json::Value) -> FactRow {
    FactRow::from_json(value.as_object().expect("an object")).expect("an event")
}

/// A rule file with one rule on `on` whose condition is `when`.
fn rule_text(on: &str, when: &str) -> String {
    format!(
        "apiVersion: gpuwarden.dev/v1\nrules:\n- id: r\n  title: t\n  severity: low\n  \
         message: m\n  on: [{on}]\n  when: |-\n    {when}\n"
    )
}

fn rule(on: &str, when: &str) -> Rule {
    let set = load(&rule_text(on, when)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    std::sync::Arc::into_inner(set.rules.into_iter().next().expect("a rule")).expect("only owner")
}

fn matches(when: &str, event: serde_json::Value) -> bool {
    (rule("exec, flow, file_open, gpu_sample", when).when)(&row(event), &Vars::default())
}

/// The only mistake in a condition: column in the condition, and the message.
fn mistake(on: &str, when: &str) -> (u32, String, String) {
    let mistakes = load(&rule_text(on, when)).expect_err(when).0;
    assert_eq!(mistakes.len(), 1, "{when}: {mistakes:?}");
    assert_eq!(mistakes[0].line, 9, "{when}: {mistakes:?}");
    let help = mistakes[0].help.clone().unwrap_or_default();
    (mistakes[0].column - 5, mistakes[0].message.clone(), help)
}

#[test]
fn the_example_of_the_language_loads_and_says_what_it_says() {
    let set = load(DESIGN_EXAMPLE).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let rule = set.get(&RuleId::from("weights-bulk-egress")).expect("the rule");
    assert_eq!(rule.kinds, KindSet::of(&[EventKind::Flow]));
    assert_eq!(rule.meta.severity, Severity::Critical);
    assert_eq!(rule.meta.version.len(), 12);
    let correlation = rule.correlation.as_ref().expect("correlated");
    assert_eq!(correlation.kind, CorrelationKind::ValueSum(FieldId::NetBytesOut));
    assert_eq!(correlation.window, Window::Sliding { span_ns: 600_000_000_000 });
    let event = row(json!({
        "evt.kind": "flow", "net.allowed": false, "weights.bytes_read": 1,
        "weights.smallest_model_bytes": 100_i64 << 30, "workload.name": "trainer-0",
        "weights.models": ["llama", "qwen"], "net.dst.name": "a.ckpt.internal",
    }));
    let vars = |sum| Vars { count: 1, sum, distinct: 0 };
    assert!((rule.when)(&event, &vars(0)));
    assert!((rule.exceptions[0].when)(&event, &vars(0)));
    let condition = correlation.condition.as_ref().expect("a condition");
    assert!(!condition(&event, &vars(1 << 29)));
    assert!(condition(&event, &vars((1 << 30) + (1 << 25))));
    assert_eq!(
        (rule.message)(&event, &vars(3 << 30)),
        "trainer-0 sent 3 GiB to a.ckpt.internal after reading llama, qwen"
    );
    assert_eq!(
        (rule.message)(&row(json!({"evt.kind": "flow"})), &vars(1)),
        "? sent 1 B to ? after reading ?"
    );
    assert_eq!(rule.tests[0].events.len(), 1);
    assert_eq!(set.kinds_needed(), rule.kinds);
    assert!(set.fields_needed().contains(&FieldId::SlurmPartition));
    assert!(!set.gpu_needed());
}

#[test]
fn conditions_mean_what_they_say() {
    let flow = json!({
        "evt.kind": "flow", "proc.name": "Curl", "net.dst.ip": "10.1.2.3", "net.dst.port": 443,
        "proc.age_seconds": 61.0, "proc.ancestors": ["bash", "sshd"], "net.bytes_out": 65536,
        "k8s.labels": {"app": "trainer", "a.b/c": "x"}, "net.dst.name": "files.hf.co",
        "net.allowed": false, "proc.cwd": "/models/llama/1",
    });
    for (when, want) in [
        (r#"net.dst.ip in cidr("10.0.0.0/8")"#, true),
        (r#"net.dst.ip in cidr("192.168.0.0/16", "10.1.2.3")"#, true),
        (r#"net.dst.ip in ["10.1.0.0/16"]"#, true),
        (r#"net.dst.ip == "10.1.2.3" && "10.1.2.4" != net.dst.ip"#, true),
        (r#"!(net.dst.ip in cidr("::/0"))"#, true),
        ("net.bytes_out == 64.kib && net.bytes_out < 1.mib", true),
        ("proc.age_seconds > 1.minute && proc.age_seconds < 0.5.hours", true),
        (r#"proc.name.lowerAscii() in ["curl", "wget"]"#, true),
        (r#"proc.name in ["curl", "wget"]"#, false),
        (r#""sshd" in proc.ancestors && proc.ancestors.size() == 2"#, true),
        (r#"proc.ancestors[1] == "sshd" && proc.ancestors[0] != "sshd""#, true),
        (r#"proc.ancestors.exists(a, a.startsWith("ss"))"#, true),
        (r#"proc.ancestors.all(a, a.contains("sh"))"#, true),
        (r#"["x", ".hf.co"].exists(s, net.dst.name.endsWith(s))"#, true),
        (r#"k8s.labels["a.b/c"] == "x" && k8s.labels.app == "trainer""#, true),
        (r#"has(k8s.labels.app) && !has(k8s.labels.other) && "app" in k8s.labels"#, true),
        (r#"k8s.labels["no"] == "x""#, false),
        (r#"glob(proc.cwd, "/models/**")"#, true),
        (r#"glob(proc.cwd, "/models/*")"#, false),
        (r#"net.dst.name.matches("^[a-z]+\\.hf\\.co$")"#, true),
        ("net.dst.port in [80, 443] && net.dst.port in [80.0, 443.0]", true),
        (r#"(net.dst.port == 443 ? "tls" : "other") == "tls""#, true),
        ("max(net.dst.port, 1000) == 1000 && min(1, 2.5, net.dst.port) == 1.0", true),
        (r#"proc.name + "!" == "Curl!" && size(proc.name) == 4"#, true),
        ("net.bytes_out * 2 - 1 == 131071 && net.bytes_out / 3 % 7 == 5", true),
        ("0.5 * net.bytes_out == 32768", true),
        (r#""CURL".lowerAscii() == "curl" && !net.allowed"#, true),
    ] {
        assert_eq!(matches(when, flow.clone()), want, "{when}");
    }
}

#[test]
fn a_missing_value_is_an_error_that_only_a_decided_junction_absorbs() {
    let empty = json!({"evt.kind": "flow"});
    for (when, want) in [
        ("net.allowed", false),
        ("!net.allowed", false),
        ("net.dst.port != 443", false),
        ("!(net.dst.port == 443)", false),
        ("has(net.dst.port)", false),
        ("!has(net.dst.port)", true),
        ("net.dst.port == 443 || !has(net.dst.port)", true),
        ("!(net.dst.port == 443 && has(net.dst.port))", true),
        ("!(net.dst.port == 443 || has(net.dst.port))", false),
        ("net.dst.port == 443 ? true : true", false),
        ("net.dst.port / 0 == 1 || evt.time_ns == 0", true),
    ] {
        assert_eq!(matches(when, empty.clone()), want, "{when}");
    }
}

#[test]
fn each_mistake_in_a_condition_is_named_at_its_place() {
    let mut wrong = Vec::new();
    for (when, column, message, help) in [
        ("proc.nam == \"x\"", 0, "unknown field `proc.nam`", "did you mean `proc.name`?"),
        ("1 == 1 && dst.port == 1", 10, "unknown field `dst.port`", "`net.dst.port`"),
        ("net.dst.port == \"x\"", 13, "`==` cannot compare an int with a string", ""),
        ("file.path == \"x\"", 0, "no flow event has the field `file.path`", "file_open"),
        ("proc.name in tools", 13, "no list or macro is called `tools`", "`lists:`"),
        ("net.dst.ip in cidr(\"10.0.0/8\")", 19, "`10.0.0/8` is not a network", "10.0.0.0/8"),
        ("net.dst.ip == \"10.0.0.0/8\"", 14, "is a network, not an address", "in cidr"),
        ("net.dst.ip.startsWith(\"10.\")", 0, "is an ip, expected a string", "cidr"),
        ("proc.name.upperAscii() == \"x\"", 0, "the function `upperAscii` is not", "did you"),
        ("proc.args.map(a, a) == proc.args", 10, "`map` is not part of the rule language", ""),
        ("proc.args.exists_one(a, a == \"x\")", 10, "`exists_one` is not part", "docs/"),
        ("proc.args.contains(\"x\")", 0, "`contains` is for strings", "in list"),
        ("net.dst.port == 1u", 16, "an unsigned literal such as `1u` is not part", ""),
        ("proc.name == 'é' && proc.nam == 'ü'", 20, "unknown field", "proc.name"),
        ("proc.name == null", 13, "`null` is not part", "has(field)"),
        ("proc.name == {\"a\": 1}", 13, "a map literal", ""),
        ("proc.name.matches(\"(\")", 18, "not a regular expression", ""),
        ("proc.name.matches(proc.cwd)", 18, "the pattern must be a constant", ""),
        ("glob(proc.name, \"a[\")", 16, "not a glob", ""),
        ("net.bytes_out > 64.mb", 16, "unknown unit `mb`", ""),
        ("net.bytes_out > 1.3.kib", 16, "not a whole number of bytes", ""),
        ("net.dst.port", 0, "the condition is an int, expected bool", ""),
        ("net.dst.port && true", 0, "this is an int, expected bool", ""),
        ("!proc.name", 1, "this is a string, expected bool", ""),
        ("sum > 1", 0, "`sum` exists only in `correlate.condition`", ""),
        ("net.dst.port == ", 15, "not a CEL expression: mismatched input the end", ""),
        ("net.dst.port # 1", 13, "token recognition error", ""),
        ("net.dst.port == 1 / 0", 18, "divides by zero", ""),
        ("net.dst.port + 1.5 % 2 > 1", 19, "`%` is for whole numbers", ""),
        ("proc.name in [\"a\", 1]", 13, "mixes text and numbers", ""),
        ("proc.name in [proc.cwd]", 14, "must be a constant", ""),
        ("net.dst.port in proc.args", 13, "`in` cannot look for an int in a list", ""),
        ("1 == 2", 0, "the rule can never match: it is constant: false", ""),
        ("net.dst.port == 1 && net.dst.port == 2", 0, "no value of `net.dst.port`", ""),
        ("proc.name == \"a\" && proc.name == \"b\"", 0, "cannot be", ""),
        ("net.allowed && !net.allowed", 0, "one part is the opposite of another", ""),
        ("evt.kind == \"exec\"", 0, "`evt.kind` is never \"exec\" here", ""),
        ("proc.name in []", 0, "the list is empty", ""),
        ("net.dst.port > 10 && net.dst.port < 11", 0, "no value of `net.dst.port`", ""),
        ("size(1) == 1", 5, "`size` is for strings and lists", ""),
        ("max(proc.name) == 1", 4, "`max` and `min` take numbers", ""),
        ("proc.name.contains(\"a\", \"b\")", 0, "`contains` is not called like this", ""),
        ("has(proc.nam)", 4, "unknown field `proc.nam`", ""),
        ("(net.allowed ? 1 : \"x\") == 1", 13, "the two sides of `?:`", ""),
        ("k8s.labels[1] == \"x\"", 11, "a map is indexed by a string", ""),
        ("(proc.name + proc.cwd).foo == 1", 11, "a selection from the result", ""),
    ] {
        let (at, text, advice) = mistake("flow", when);
        if !text.contains(message) || !advice.contains(help) || at != column {
            wrong.push(format!("{when}: {at}: {text} ({advice})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
