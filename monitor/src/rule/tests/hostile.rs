//! Rule files that somebody made to do harm, or that a machine wrote: each is refused with its
//! place and its bound, or loaded, and never takes long.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Far longer than any of these takes without optimisation on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// What the loader says; `None` when it loads.
fn said(text: &str) -> Option<String> {
    let started = Instant::now();
    let said = load(text).err().map(|mistakes| mistakes.to_string());
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
    said
}

fn listing(name: &str, items: &str, when: &str) -> String {
    format!(
        "apiVersion: gpuwarden.dev/v1\nlists:\n  {name}: [{items}]\nrules:\n- {{id: r, title: t, \
         severity: low, on: [flow], when: '{when}', message: m}}\n"
    )
}

#[test]
fn ten_mebibytes_of_yaml_are_refused_by_their_size() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("big.yaml");
    std::fs::write(&path, "# a line of a comment\n".repeat(10 * 1024 * 1024 / 22 + 1))
        .expect("written");
    let started = Instant::now();
    let mistakes = RuleSet::read_paths(std::slice::from_ref(&path)).expect_err("refused");
    assert!(started.elapsed() < LONG);
    let text = mistakes.to_string();
    assert!(text.contains("big.yaml") && text.contains("bytes"), "{text}");
}

#[test]
fn file_that_is_not_utf_8_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("odd.yaml");
    std::fs::write(&path, b"apiVersion: \xff\xfe\n").expect("written");
    let mistakes = RuleSet::read_paths(std::slice::from_ref(&path)).expect_err("refused");
    let text = mistakes.to_string();
    assert!(text.contains("odd.yaml") && text.contains("UTF-8"), "{text}");
}

#[test]
fn hundred_thousand_entries_of_a_list_load_and_are_found_by_hash() {
    let names: Vec<String> = (0..100_000).map(|at| format!("tool-{at}")).collect();
    let text = listing("tools", &names.join(", "), "proc.name in tools");
    let started = Instant::now();
    let set = load(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(started.elapsed() < LONG);
    let event = |name: &str| row(json!({"evt.kind": "flow", "proc.name": name}));
    let vars = crate::rule::spec::Vars::default();
    assert!((set.rules[0].when)(&event("tool-99999"), &vars));
    assert!(!(set.rules[0].when)(&event("tool-100000"), &vars));
}

#[test]
fn hundred_thousand_networks_load_and_are_found_by_halving() {
    let nets: Vec<String> =
        (0..100_000_u32).map(|at| format!("10.{}.{}.0/25", at / 256 % 256, at % 256)).collect();
    let text = listing("nets", &nets.join(", "), "net.dst.ip in cidr(nets)");
    assert_eq!(said(&text), None);
}

#[test]
fn million_entries_are_refused_by_the_bound_on_nodes() {
    let text = listing("tools", &"a, ".repeat(1_000_000), "proc.name in tools");
    let said = said(&text).expect("refused");
    assert!(said.contains("not YAML"), "{said}");
}

#[test]
fn patterns_that_ruin_other_engines_cost_nothing_here_and_large_ones_are_refused() {
    let rule = |pattern: &str| {
        format!(
            "apiVersion: gpuwarden.dev/v1\nrules:\n- id: r\n  title: t\n  severity: low\n  on: \
             [exec]\n  message: m\n  when: proc.cmdline.matches(r\"{pattern}\")\n"
        )
    };
    let set = load(&rule("^(a+)+$")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let hostile = row(json!({"evt.kind": "exec", "proc.cmdline": "a".repeat(50_000) + "!"}));
    let started = Instant::now();
    assert!(!(set.rules[0].when)(&hostile, &crate::rule::spec::Vars::default()));
    assert!(started.elapsed() < LONG, "time grows with the text, not with its square or power");
    let said = said(&rule("(\\\\w{1000}){1000}").replace("\\\\", "\\")).expect("refused");
    assert!(said.contains("not a regular expression") && said.contains(":8:"), "{said}");
}

#[test]
fn deep_nesting_and_alias_bombs_are_refused_at_once() {
    let deep = format!("rules: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(said(&deep).expect("refused").contains("not YAML"));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let aliases = format!("*a{}, ", level - 1).repeat(8);
        writeln!(bomb, "a{level}: &a{level} [{aliases}]").expect("a text takes more text");
    }
    assert!(said(&bomb).expect("refused").contains("not YAML"));
    let brackets = format!("{}true{}", "(".repeat(20_000), ")".repeat(20_000));
    let rule = format!(
        "apiVersion: gpuwarden.dev/v1\nrules:\n- {{id: r, title: t, severity: low, on: [exec], \
         message: m, when: '{brackets}'}}\n"
    );
    assert!(said(&rule).expect("refused").contains("bytes, at most"));
}
