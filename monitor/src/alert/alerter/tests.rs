use std::sync::Arc;

use super::*;
use crate::model::{GpuEvidence, ProcessEvidence, RuleId};
use crate::rule::spec::Tags;

const SECOND_NS: u64 = 1_000_000_000;

fn finding(rule: &str, key: &str, at_s: u64, severity: Severity) -> Finding {
    let meta = RuleMeta {
        id: RuleId::from(rule),
        version: "0123456789ab".into(),
        title: "a title".into(),
        severity,
        alerts: true,
        on_role: false,
        tags: Tags::default(),
        false_positives: Vec::new(),
        runbook: String::new(),
        source: "rules/x.yaml".into(),
    };
    Finding {
        rule: Arc::new(meta),
        time: BootNs(at_s * SECOND_NS),
        first_time: BootNs(at_s * SECOND_NS),
        is_role_guessed: false,
        vars: crate::rule::spec::Vars::default(),
        message: "it ran --token abc".into(),
        is_doubted: false,
        dedupe_key: vec![key.into()],
        dedupe_for_ns: 3600 * SECOND_NS,
    }
}

fn alerter(config: AlertConfig) -> Alerter {
    let host = Host { name: "node-1".into(), boot_id: "b".into() };
    Alerter::new(config, host, Clock { wall_at_boot_ns: 1_700_000_000 * SECOND_NS })
}

fn medium(key: &str, at_s: u64) -> Finding {
    finding("r", key, at_s, Severity::Medium)
}

#[test]
fn the_first_finding_is_an_alert_and_repeats_are_counted() {
    let mut alerter = alerter(AlertConfig::default());
    let first = alerter.on_finding(medium("a", 10), Evidence::default()).unwrap();
    assert_eq!((first.activity, first.count), (Activity::New, 1));
    for at in 11..20 {
        assert_eq!(alerter.on_finding(medium("a", at), Evidence::default()), None);
    }
    assert!(alerter.on_finding(medium("b", 20), Evidence::default()).is_some());
    assert_eq!(alerter.tick(BootNs(21 * SECOND_NS)), []);
    let updates = alerter.tick(BootNs(400 * SECOND_NS));
    assert_eq!(updates.len(), 1);
    assert_eq!((updates[0].activity, updates[0].count), (Activity::Update, 10));
    assert_eq!(updates[0].id, first.id);
    assert_eq!(updates[0].last_seen.0 - updates[0].first_seen.0, 9 * SECOND_NS);
    assert_eq!(alerter.tick(BootNs(800 * SECOND_NS)), [], "no news, no update");
}

#[test]
fn the_last_word_has_the_final_count() {
    let mut alerter = alerter(AlertConfig::default());
    let first = alerter.on_finding(medium("a", 10), Evidence::default()).unwrap();
    alerter.on_finding(medium("a", 11), Evidence::default());
    let closed = alerter.tick(BootNs(3611 * SECOND_NS));
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].activity, closed[0].count), (Activity::Update, 2));
    assert_eq!(closed[0].id, first.id);
    assert_eq!(alerter.stats().open, 0);
}

#[test]
fn a_finding_after_the_dedupe_time_is_a_new_alert() {
    let mut alerter = alerter(AlertConfig::default());
    let first = alerter.on_finding(medium("a", 10), Evidence::default()).unwrap();
    alerter.on_finding(medium("a", 11), Evidence::default());
    let second = alerter.on_finding(medium("a", 3610), Evidence::default()).unwrap();
    assert_ne!(first.id, second.id);
    let closed = alerter.tick(BootNs(3611 * SECOND_NS));
    assert_eq!(closed.iter().map(|alert| &alert.id).collect::<Vec<_>>(), [&first.id]);
}

#[test]
fn the_same_findings_give_the_same_ids() {
    let run = || {
        let mut alerter = alerter(AlertConfig::default());
        (0..50)
            .filter_map(|at| {
                alerter.on_finding(medium(&format!("{}", at % 7), at), Evidence::default())
            })
            .map(|alert| alert.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
    assert_eq!(run().len(), 7);
}

#[test]
fn a_full_table_forgets_the_oldest_and_counts_it() {
    let mut alerter = alerter(AlertConfig { dedupe_keys_max: 2, ..AlertConfig::default() });
    for (at, key) in ["a", "a", "b", "c"].into_iter().enumerate() {
        alerter.on_finding(medium(key, at as u64), Evidence::default());
    }
    assert_eq!((alerter.stats().evicted, alerter.stats().open), (1, 2));
    let said = alerter.tick(BootNs(5 * SECOND_NS));
    assert_eq!(said.len(), 1, "the evicted incident still reports its count");
    assert_eq!((said[0].activity, said[0].count), (Activity::Update, 2));
    assert!(alerter.on_finding(medium("a", 6), Evidence::default()).is_some());
}

#[test]
fn zero_dedupe_never_merges() {
    let mut alerter = alerter(AlertConfig::default());
    for at in 0..3 {
        let finding = Finding { dedupe_for_ns: 0, ..medium("a", at) };
        assert!(alerter.on_finding(finding, Evidence::default()).is_some());
    }
    assert_eq!(alerter.stats().open, 0);
}

#[test]
fn the_rate_limit_announces_itself_once_and_says_what_it_held_back() {
    let config = AlertConfig { per_minute_max: 1, burst_max: 4, ..AlertConfig::default() };
    let mut alerter = alerter(config);
    let passed = (0..20)
        .filter(|n| alerter.on_finding(medium(&format!("{n}"), 100), Evidence::default()).is_some())
        .count();
    assert_eq!(passed, 3, "burst less the reserve");
    let critical = finding("big", "x", 100, Severity::Critical);
    assert!(alerter.on_finding(critical, Evidence::default()).is_some(), "the reserve is for it");
    let said = alerter.tick(BootNs(101 * SECOND_NS));
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].rule.id, "gpuwarden.rate_limit");
    assert_eq!((said[0].activity, said[0].count), (Activity::New, 17));
    assert!(said[0].summary.contains("r (17)"), "{}", said[0].summary);
    alerter.on_finding(medium("more", 102), Evidence::default());
    assert_eq!(alerter.tick(BootNs(103 * SECOND_NS)), [], "once, not each second");
    let over = alerter.tick(BootNs(200 * SECOND_NS));
    assert_eq!((over.len(), over[0].count), (1, 18));
    assert_eq!((over[0].activity, &over[0].id), (Activity::Update, &said[0].id));
    let stats = alerter.stats();
    assert_eq!(stats.findings, stats.alerted + stats.repeated + stats.rate_limited);
}

#[test]
fn a_suppressed_finding_is_not_remembered() {
    let config = AlertConfig { per_minute_max: 60, burst_max: 1, ..AlertConfig::default() };
    let mut alerter = alerter(config);
    assert!(alerter.on_finding(medium("a", 100), Evidence::default()).is_some());
    assert!(alerter.on_finding(medium("b", 100), Evidence::default()).is_none());
    assert!(alerter.on_finding(medium("b", 102), Evidence::default()).is_some());
}

#[test]
fn secrets_do_not_reach_the_alert() {
    let mut alerter = alerter(AlertConfig::default());
    let evidence = Evidence {
        processes: vec![ProcessEvidence {
            args: vec!["x".into(), "--password".into(), "hunter2".into()],
            ..ProcessEvidence::default()
        }],
        ..Evidence::default()
    };
    let alert = alerter.on_finding(medium("HF_TOKEN=abc", 1), evidence).unwrap();
    let json = serde_json::to_string(&alert).unwrap();
    assert!(!json.contains("hunter2") && !json.contains("abc"), "{json}");
}

#[test]
fn an_alert_reads_back_as_it_was_written() {
    let mut alerter = alerter(AlertConfig::default());
    let finding = Finding { time: BootNs(1_234_567_891), ..medium("a", 1) };
    let gpu = GpuEvidence {
        util_cv: f64::NAN,
        util_curve: vec![1.0, f64::INFINITY],
        ..GpuEvidence::default()
    };
    let evidence = Evidence { gpus: vec![gpu], ..Evidence::default() };
    let alert = alerter.on_finding(finding, evidence).unwrap();
    let json = serde_json::to_string(&alert).unwrap();
    assert_eq!(serde_json::from_str::<Alert>(&json).unwrap(), alert);
    assert!(json.contains("\"last_seen\":\"2023-11-14T22:13:21.234Z\""), "{json}");
}

#[test]
fn repeats_do_not_gather_evidence() {
    let mut alerter = alerter(AlertConfig::default());
    alerter.on_finding(medium("a", 1), Evidence::default());
    let alert = alerter.on_finding_with(medium("a", 2), || panic!("not needed"));
    assert_eq!(alert, None);
}

#[test]
fn rule_that_rests_on_a_guessed_role_makes_no_more_than_a_medium_alert() {
    let with_role = |on_role: bool, inferred: bool| {
        let mut finding = finding("r", "a", 10, Severity::Critical);
        finding.rule = Arc::new(RuleMeta { on_role, ..(*finding.rule).clone() });
        finding.is_role_guessed = inferred;
        let mut alerter = alerter(AlertConfig::default());
        alerter.on_finding(finding, Evidence::default()).unwrap().severity
    };
    assert_eq!(with_role(true, true), Severity::Medium);
    assert_eq!(with_role(true, false), Severity::Critical, "a profile declared it");
    assert_eq!(with_role(false, true), Severity::Critical, "the rule does not ask for it");
}
