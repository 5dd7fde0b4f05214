//! The index finds every rule that an event matches, and asks few others.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::correlate::condition::Conditions;
use crate::correlate::pick::Picks;
use crate::rule::spec::Vars;
use crate::rule::{RuleSet, Source};

const CONDITIONS: [&str; 16] = [
    "proc.name == \"a\"",
    "proc.name in [\"a\", \"b\", \"c\"] && net.dst.port == 443",
    "net.dst.port in [22, 443]",
    "net.dst.port == 22 || net.dst.port == 80",
    "net.dst.port == 22 || proc.name == \"b\"",
    "proc.cmdline.contains(\"strat\") || proc.cmdline.contains(\"pool\")",
    "[\"ab\", \"b\"].exists(s, proc.cmdline.contains(s)) && net.allowed",
    "!net.allowed",
    "net.allowed ? proc.name == \"a\" : net.dst.port == 22",
    "has(net.dst.name) && net.dst.name.endsWith(\"x\")",
    "!has(net.dst.name)",
    "proc.cwd.startsWith(\"/a\") || proc.cwd.startsWith(\"/b\")",
    "glob(proc.cwd, \"/a/*\")",
    "net.bytes_out > 3 && net.direction == \"egress\"",
    "net.direction == \"egress\" && proc.name == \"c\"",
    "proc.name.lowerAscii() == \"a\" || net.bytes_out + 1 == 3",
];

/// Loaded once: that takes longer than asking them.
fn rules() -> &'static RuleSet {
    static RULES: LazyLock<RuleSet> = LazyLock::new(load_rules);
    &RULES
}

fn load_rules() -> RuleSet {
    let mut text = "apiVersion: gpuwarden.dev/v1\nrules:\n".to_owned();
    for (at, when) in CONDITIONS.iter().enumerate() {
        let rest = "title: t, severity: low, on: [flow], message: m";
        writeln!(text, "- {{id: r{at}, {rest}, when: '{when}'}}").unwrap();
    }
    let source = Source { name: "a.yaml".into(), text, dir: None, untested: true };
    RuleSet::load(&[source]).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn event() -> impl Strategy<Value = FactRow> {
    fn maybe(of: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
        prop::option::weighted(0.8, prop::sample::select(of))
    }
    let texts = (
        maybe(&["a", "b", "c", "A"]),
        maybe(&["stratum", "xpool", "ab", ""]),
        maybe(&["/a/b", "/b", "/c", ""]),
        maybe(&["x", "yx", "y"]),
        maybe(&["egress", "ingress"]),
    );
    let port = prop::option::weighted(0.8, prop::sample::select(&[22_i64, 80, 443, 9][..]));
    let bytes = prop::option::weighted(0.8, 0_i64..6);
    (texts, port, bytes, prop::option::weighted(0.8, any::<bool>())).prop_map(
        |((name, cmdline, cwd, dst, direction), port, bytes, allowed)| {
            let all = json!({
                "evt.kind": "flow", "evt.time_ns": 1, "proc.name": name, "proc.cmdline": cmdline,
                "proc.cwd": cwd, "net.dst.name": dst, "net.direction": direction,
                "net.dst.port": port, "net.bytes_out": bytes, "net.allowed": allowed,
            });
            let mut object = all.as_object().expect("an object").clone();
            object.retain(|_, value: &mut Json| !value.is_null());
            FactRow::from_json(&object).expect("a row")
        },
    )
}

proptest! {
    #[test]
    fn index_finds_what_asking_every_rule_finds(event in event()) {
        let set = rules();
        let mut engine = Engine::new(&set.rules, CorrelateLimits::default());
        let found = feed(&mut engine, std::slice::from_ref(&event));
        let found: BTreeSet<&str> = found.iter().map(|finding| finding.rule.id.as_str()).collect();
        let asked = set.rules.iter().filter(|rule| (rule.when)(&event, &Vars::default()));
        let asked: BTreeSet<&str> = asked.map(|rule| rule.meta.id.as_str()).collect();
        prop_assert_eq!(found, asked);
        let counts = engine.stats();
        prop_assert!(counts.rules.iter().all(|rule| rule.seen == 1), "each has seen the event");
    }
}

/// Rules that the engine finds, event by event, and those whose whole condition holds.
fn found_and_asked(events: &[FactRow]) -> Vec<(BTreeSet<String>, BTreeSet<String>)> {
    let set = rules();
    // Two of each: what one part says decides for all that need it.
    let twice: Vec<_> = set.rules.iter().chain(&set.rules).map(Arc::clone).collect();
    let mut engine = Engine::new(&twice, CorrelateLimits::default());
    let id = |rule: &RuleMeta| rule.id.as_str().to_owned();
    events
        .iter()
        .map(|event| {
            let found = feed(&mut engine, std::slice::from_ref(event));
            let asked = set.rules.iter().filter(|rule| (rule.when)(event, &Vars::default()));
            let asked: BTreeSet<String> = asked.map(|rule| id(&rule.meta)).collect();
            assert_eq!(found.len(), 2 * asked.len(), "each of the two fires");
            (found.iter().map(|finding| id(&finding.rule)).collect(), asked)
        })
        .collect()
}

proptest! {
    /// What was asked first for an event before, and what other rules were told, changes nothing.
    #[test]
    fn answers_kept_for_other_rules_and_events_change_nothing(
        events in prop::collection::vec(event(), 1..40),
    ) {
        for (found, asked) in found_and_asked(&events) {
            prop_assert_eq!(found, asked);
        }
    }
}

#[test]
fn thousand_rules_on_names_cost_no_more_than_the_few_that_can_match() {
    let mut text = "apiVersion: gpuwarden.dev/v1\nrules:\n".to_owned();
    for at in 0..1_000 {
        let when = format!("proc.name == \"tool-{at}\" && net.bytes_out > 0");
        let rest = "title: t, severity: low, on: [flow], message: m";
        writeln!(text, "- {{id: r{at}, {rest}, when: '{when}'}}").unwrap();
    }
    let source = Source { name: "a.yaml".into(), text, dir: None, untested: true };
    let set = RuleSet::load(&[source]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let index = crate::correlate::index::KindIndex::new(
        set.rules.iter().enumerate().map(|(at, rule)| (at, rule.guards.as_slice())),
        set.rules.len(),
    );
    let event = row(&json!({"evt.kind": "flow", "proc.name": "tool-7", "net.bytes_out": 1}));
    let mut candidates = Picks::default();
    index.candidates(&event, &mut candidates);
    assert_eq!(candidates.iter().collect::<Vec<_>>(), [7]);
}

#[test]
fn what_rules_ask_in_the_same_words_is_asked_once() {
    let set = rules();
    let twice: Vec<_> = set.rules.iter().chain(&set.rules).map(|rule| &**rule).collect();
    let once = Conditions::new(set.rules.iter().map(|rule| &**rule)).counts();
    let doubled = Conditions::new(twice.into_iter()).counts();
    assert_eq!((doubled.0, doubled.1), (once.0, 2 * once.1));
    assert!(once.0 < once.1, "direction and allowed are asked by several: {once:?}");
}
