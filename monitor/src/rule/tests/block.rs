//! The blocks around conditions: what each refuses, and that it refuses all at once.

use super::super::Source;
use super::{DESIGN_EXAMPLE, load, source};
use crate::rule::{Diagnostics, RuleSet};

/// The example with `from` replaced by `to`: what is wrong with it, as `line: message`.
fn broken(from: &str, to: &str) -> Vec<String> {
    assert!(DESIGN_EXAMPLE.contains(from), "{from}");
    let text = DESIGN_EXAMPLE.replacen(from, to, 1);
    let Err(mistakes) = load(&text) else { panic!("accepted: {to}") };
    lines(&mistakes)
}

fn lines(mistakes: &Diagnostics) -> Vec<String> {
    let help = |help: &Option<String>| help.clone().unwrap_or_default();
    let all = mistakes.0.iter();
    all.map(|one| format!("{}: {} {}", one.line, one.message, help(&one.help))).collect()
}

#[test]
fn each_block_refuses_what_it_does_not_know() {
    let mut wrong = Vec::new();
    for (from, to, want) in [
        ("gpuwarden.dev/v1", "gpuwarden.dev/v2", "1: apiVersion `gpuwarden.dev/v2` is not known"),
        ("severity: critical ", "severity: sever ", "9: unknown severity `sever`"),
        ("on: [flow]", "on: [flw]", "10: unknown kind of event `flw` did you mean `flow`?"),
        ("on: [flow]", "on: [flow, flow]", "`flow` is named twice"),
        ("on: [flow]", "on: []", "`on` names no kind"),
        ("  on: [flow]\n", "", "the rule has no `on`"),
        ("  when:", "  wenn:", "11: unknown key `wenn`"),
        ("id: weights-bulk", "id: Weights bulk", "is not a rule id"),
        ("type: value_sum", "type: value_avg", "unknown correlation type `value_avg`"),
        ("type: value_sum", "type: event_count", "`event_count` takes no `field`"),
        ("    field: net.bytes_out\n", "", "`value_sum` needs a `field`"),
        ("field: net.bytes_out", "field: net.dst.name", "a sum needs an int field"),
        ("field: net.bytes_out", "field: file.size_bytes", "no flow event has the field"),
        ("group_by: [workload.id]", "group_by: [workload.di]", "did you mean `workload.id`?"),
        ("group_by: [workload.id]", "group_by: [k8s.labels]", "is a map of strings, no key"),
        ("    group_by: [workload.id]\n", "", "`correlate` has no `group_by`"),
        ("kind: sliding, span: 10m", "kind: sliding", "the window has no bound"),
        ("kind: sliding, span: 10m", "kind: sliding, span: 31d", "allowed is 1ms to 30d"),
        ("kind: sliding, span: 10m", "kind: sliding, span: ten", "`ten` is not a span of time"),
        ("kind: sliding, span: 10m", "kind: session, span: 10m", "no bound: `gap` is missing"),
        ("kind: sliding, span: 10m", "kind: session, span: 1m, gap: 2m", "longer than `span`"),
        ("kind: sliding, span: 10m", "kind: sliding, span: 1m, gap: 2s", "only a session"),
        ("kind: sliding, span", "kind: hopping, span", "unknown kind of window `hopping`"),
        ("    window: {kind: sliding, span: 10m}\n", "", "`correlate` has no `window`"),
        ("'sum >= max", "'distinct >= max", "has no `distinct`, only count and sum"),
        ("64.mib, 0.01", "64.mb, 0.01", "17: unknown unit `mb`"),
        ("for: 1h", "for: 1 hour", "`1 hour` is not a span of time"),
        ("for: 1h", "for: 60d", "at most 30d are allowed"),
        ("{{sum|bytes}}", "{{sum|octets}}", "unknown format `octets`"),
        ("{{net.dst.name}}", "{{net.dst.nam}}", "unknown field `net.dst.nam`"),
        ("{{net.dst.name}}", "{{net.dst.name|bytes}}", "only numbers have formats"),
        ("{{weights.models}}", "{{weights.models", "`{{` is never closed"),
        ("when: 'net.dst.name.e", "when: 'true || net.dst.name.e", "swallows the rule"),
        ("net.dst.name.endsWith(\".ckpt.internal\")", "!net.allowed", "swallows the rule"),
        ("net.dst.name.endsWith(\".ckpt.internal\")", "1 > 2", "can never apply"),
        ("respond: []", "respond: [shoot]", "unknown response `shoot`"),
        ("workload.id: \"k8s:1\"", "workload.ids: x", "29: not an event: unknown field"),
        ("evt.kind: flow", "evt.kind: flows", "29: not an event: unknown event kind"),
        ("count: 1}", "count: many}", "`count` is `many`, expected a whole number"),
        ("    expect:", "    expects:", "the test has no `expect`"),
        ("role: training", "role: trainer", "unknown role `trainer`"),
        ("slurm.partition ==", "net.dst.name ==", "`net.dst.name` cannot select a profile"),
        ("slurm.partition ==", "workload.role ==", "`workload.role` cannot select a profile"),
        ("same_job,", "same_jobs,", "unknown peer `same_jobs`"),
        ("10.42.0.0/16", "10.42.0.0/99", "`10.42.0.0/99` is not a network"),
        ("cidr: 10.42.0.0/16", "ports: [1-2, 70000]", "`70000` is not a port"),
        ("500.gib", "500 GB", "`500 GB` is not an amount"),
        ("names: [\"*.ckpt", "names: [\"[.ckpt", "is not a glob"),
        ("leaves_host: 'net.dir", "leaves_host: 'net.dri", "5: unknown field"),
        ("leaves_host:", "transfer_tools:", "is already a list, at r.yaml:3:3"),
        ("leaves_host:", "sum:", "`sum` already has a meaning"),
        ("transfer_tools:", "transfer-tools:", "is not a name that a condition can use"),
        ("[curl, wget,", "[curl, true,", "an item of a list is a truth value"),
    ] {
        let found = broken(from, to);
        if !found.iter().any(|line| line.contains(want)) {
            wrong.push(format!("{to}: {want}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_are_shown_at_once_in_order() {
    let text = DESIGN_EXAMPLE
        .replace("severity: critical ", "severity: sever ")
        .replace("!net.allowed &&", "!net.alowed && proc.nam == 1 &&")
        .replace("span: 10m", "span: 99d")
        .replace("role: training", "role: x");
    let found = lines(&load(&text).expect_err("wrong"));
    let starts: Vec<&str> = found.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(starts, ["9", "11", "11", "16", "33"], "{found:?}");
}

#[test]
fn an_id_that_is_there_twice_is_told_at_both_places() {
    let named = |name: &str| Source { name: name.into(), ..source(DESIGN_EXAMPLE) };
    let mistakes = RuleSet::load(&[named("a.yaml"), named("b.yaml")]).expect_err("twice");
    let text = mistakes.to_string();
    for part in [
        "a.yaml:7:7: error: id `weights-bulk-egress` is there twice; also at b.yaml:7:7",
        "b.yaml:7:7: error: id `weights-bulk-egress` is there twice; also at a.yaml:7:7",
        "a.yaml:32:7: error: id `isolated-training` is there twice",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// A file with these macros and one rule.
fn with_macros(macros: &str, when: &str) -> String {
    format!(
        "apiVersion: gpuwarden.dev/v1\nmacros: {{{macros}}}\nrules:\n- {{id: r, title: t, \
         severity: low, message: m, on: [flow], when: '{when}'}}\n"
    )
}

#[test]
fn macros_expand_into_macros_but_never_into_themselves() {
    assert!(load(&with_macros("a: 'b && net.allowed', b: 'net.dst.port == 1'", "a || b")).is_ok());
    let text = with_macros("a: 'b && net.allowed', b: 'a'", "a");
    let text = load(&text).expect_err("a ring").to_string();
    assert!(text.contains("macro `a` uses itself: a → b → a"), "{text}");
    let text = with_macros("a: 'file.write'", "net.allowed && a");
    let text = load(&text).expect_err("a file field").to_string();
    assert!(text.contains("no flow event has the field `file.write` (in macro `a`)"), "{text}");
    assert!(text.contains("r.yaml:4:82"), "the place of use: {text}");
}

#[test]
fn a_condition_cannot_grow_without_bound() {
    let doubling: Vec<String> = (0..40)
        .map(|level| format!("m{level}: 'm{0} || m{0} && net.allowed'", level + 1))
        .chain(["m40: 'net.allowed'".to_owned()])
        .collect();
    let text = load(&with_macros(&doubling.join(", "), "m0")).expect_err("too large").to_string();
    assert!(text.contains("more than 4096 parts"), "{text}");
    let sums = format!("0{} > 1", " + proc.uid".repeat(60));
    let text = load(&with_macros("", &sums)).expect_err("too deep").to_string();
    assert!(text.contains("deeper than 48 levels"), "{text}");
    let long = format!("net.dst.port > {}1", "0".repeat(17 * 1024));
    let text = load(&with_macros("", &long)).expect_err("too long").to_string();
    assert!(text.contains("at most 16384 are allowed"), "{text}");
    let many = format!("net.dst.port > 1{}", " + 1".repeat(600));
    let text = load(&with_macros("", &many)).expect_err("too many").to_string();
    assert!(text.contains("at most 256 are read"), "{text}");
    let chain = format!("net.allowed{}", " || net.allowed".repeat(255));
    assert!(load(&with_macros("", &chain)).is_ok(), "a long chain is not deep");
}

/// The worst that passes the bounds on the text, whatever the parser makes of it.
#[test]
fn the_deepest_conditions_are_refused_without_harm() {
    let chain = |first: &str, link: &str, count: usize| format!("{first}{}", link.repeat(count));
    let mut all: Vec<String> = ["!", "-", "(", "[", "(!", "-(", "a.b(", "a?", "a?b:", "[[", "{1:"]
        .iter()
        .map(|open| chain("", open, 254 / open.len()))
        .collect();
    let closed = all.iter().map(|open| format!("{open}a{}", ")".repeat(254))).collect::<Vec<_>>();
    all.extend(closed);
    for link in [".a", " + a", " == a", "[0]", " ? a : a", ".a()", " in a"] {
        let operators = link.chars().filter(|c| "([{!-+*/%?.<>=".contains(*c)).count().max(1);
        all.push(chain("a", link, (254 / operators).min(3_000)));
    }
    for link in ["||a", "&&a", "||a&&a"] {
        all.push(chain("a", link, 255 / (link.len() / 3)));
    }
    for condition in all {
        let refused = load(&with_macros("", &condition)).expect_err("no field is called `a`");
        assert!(!refused.0.is_empty());
    }
}

#[test]
fn names_are_looked_up_in_the_own_file_first() {
    let file = |name: &str, lists: &str, id: &str| Source {
        name: name.into(),
        text: format!(
            "apiVersion: gpuwarden.dev/v1\n{lists}\nrules: [{{id: {id}, title: t, severity: low, \
             message: m, on: [flow], when: 'proc.name in tools'}}]\n"
        ),
        dir: None,
        untested: false,
    };
    let own = file("a.yaml", "lists: {tools: [a]}", "a");
    let other = file("b.yaml", "lists: {tools: [b]}", "b");
    let none = file("c.yaml", "", "c");
    assert!(RuleSet::load(&[own.clone(), other.clone()]).is_ok());
    assert!(RuleSet::load(&[own.clone(), none.clone()]).is_ok());
    let text = RuleSet::load(&[own, other, none]).expect_err("which one?").to_string();
    assert!(text.contains("c.yaml:3:"), "{text}");
    assert!(text.contains("defined at a.yaml:2:9 and b.yaml:2:9"), "{text}");
}

#[test]
fn temporal_rules_wait_for_rules_that_exist_and_not_for_themselves() {
    let file = |rules: &str| {
        format!(
            "apiVersion: gpuwarden.dev/v1\nrules:\n\
             - {{id: a, title: t, severity: low, message: m, on: [flow], when: net.allowed}}\n\
             - {{id: b, title: t, severity: low, message: m, on: [file_open], when: file.write}}\n\
             - {{id: c, title: t, severity: low, message: '{{{{count}}}}', correlate: {{type: \
             temporal_ordered, rules: [{rules}], group_by: [workload.id], window: {{kind: sliding, \
             span: 1h}}}}}}\n"
        )
    };
    let set = load(&file("b, a")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let kinds: Vec<&str> = set.rules[2].kinds.iter().map(crate::model::EventKind::as_str).collect();
    assert_eq!(kinds, ["file_open", "flow"]);
    for (rules, want) in [
        ("a, d", "no rule has the id `d`"),
        ("a, c", "rule `c` waits for itself"),
        ("a", "names 2 to 8 `rules`, this names 1"),
    ] {
        let text = load(&file(rules)).expect_err(rules).to_string();
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn a_rule_alerts_unless_it_says_that_it_is_a_block() {
    let plain = "apiVersion: gpuwarden.dev/v1\nrules:\n- id: r\n  title: t\n  severity: info\n  \
                 on: [exec]\n  when: 'proc.uid == 0'\n  message: m\n";
    for (line, alerts) in [("", true), ("  alert: true\n", true), ("  alert: false\n", false)] {
        let set = load(&format!("{plain}{line}")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(set.rules[0].meta.alerts, alerts, "{line}");
    }
    let mistakes = load(&format!("{plain}  alert: maybe\n")).unwrap_err();
    assert!(mistakes.to_string().contains("alert"), "{mistakes}");
}

#[test]
fn the_version_follows_what_a_rule_says_and_not_how_it_is_laid_out() {
    let version = |text: &str| {
        let set = load(text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        set.rules[0].meta.version.clone()
    };
    let one = with_macros("a: 'net.dst.port == 1'", "a");
    let first = version(&one);
    assert_eq!(first, version(&one.replace("title: t,", "title:   \"t\" ,")));
    assert_ne!(first, version(&one.replace("title: t,", "title: u,")));
    assert_ne!(first, version(&one.replace("== 1", "== 2")), "a macro is part of the rule");
}

/// The files in the guide load as they stand.
#[test]
fn the_examples_of_the_guide_load() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/writing-rules.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let blocks: Vec<&str> =
        guide.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in &blocks {
        load(block).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }
    let wrong = blocks[0].replace("net.allowed &&", "net.alowed &&");
    let shown = load(&wrong).expect_err("a slip").to_string();
    let shown = shown.replace("r.yaml", "broken.yaml");
    assert!(guide.contains(&shown), "the guide shows another message than\n{shown}");
}
