//! Every bound on what a rule file may say: the most is taken, one more is refused with the number.

use std::fmt::Write as _;

use super::{DESIGN_EXAMPLE, Vars, load, row, source};
use crate::rule::{
    RuleSet, Source, assembly, correlation, profile, set, source as files, template, trial,
};

/// The example with `from` replaced.
fn with(from: &str, to: &str) -> String {
    assert!(DESIGN_EXAMPLE.contains(from), "{from}");
    DESIGN_EXAMPLE.replacen(from, to, 1)
}

/// `most` is taken; `more` is refused, and the message says `want`.
fn assert_bound(most: &str, more: &str, want: &str) {
    if let Err(mistakes) = load(most) {
        panic!("refused, though it is at the bound of `{want}`: {mistakes}");
    }
    let Err(mistakes) = load(more) else { panic!("accepted beyond the bound of `{want}`") };
    let text = mistakes.to_string();
    assert!(text.contains(want), "`{want}` is not in\n{text}");
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

#[test]
fn parts_of_a_rule_are_bounded() {
    let id = |bytes: usize| with("id: weights-bulk-egress", &format!("id: {}", "a".repeat(bytes)));
    let most = assembly::RULE_ID_BYTES_MAX;
    assert_bound(&id(most), &id(most + 1), &format!("1 to {most} of"));

    let exceptions = |count: usize| {
        let mut all = String::from("exceptions:\n");
        for n in 0..count {
            writeln!(all, "  - {{name: e{n}, when: 'net.dst.name == \"n{n}\"'}}").unwrap();
        }
        with("exceptions:\n", &all)
    };
    // One is in the example.
    let most = assembly::EXCEPTIONS_MAX;
    assert_bound(&exceptions(most - 1), &exceptions(most), &format!("at most {most} exceptions"));

    assert_eq!(assembly::DEDUPE_NS_MAX, 30 * 24 * 3_600 * 1_000_000_000);
    let dedupe = |span: &str| with("for: 1h", &format!("for: {span}"));
    assert_bound(&dedupe("30d"), &dedupe("721h"), "at most 30d");
}

#[test]
fn windows_and_keys_are_bounded() {
    assert_eq!(correlation::WINDOW_SPAN_NS_MAX, 30 * 24 * 3_600 * 1_000_000_000);
    let span = |span: &str| with("span: 10m", &format!("span: {span}"));
    assert_bound(&span("30d"), &span("721h"), "1ms to 30d");

    let fields = ["workload.id", "workload.name", "proc.pid", "proc.name", "proc.exe", "proc.uid"];
    let more = ["net.dst.ip", "net.dst.port", "net.proto"];
    let keys: Vec<&str> = fields.into_iter().chain(more).collect();
    let keyed = |count: usize| {
        with("group_by: [workload.id]", &format!("group_by: [{}]", keys[..count].join(", ")))
    };
    let most = correlation::KEY_FIELDS_MAX;
    assert_bound(&keyed(most), &keyed(most + 1), &format!("more than {most} fields"));

    let temporal = |count: usize| {
        let mut text = String::from("apiVersion: gpuwarden.dev/v1\nrules:\n");
        let rule = "title: t, severity: low, message: m, on: [flow]";
        for n in 0..count {
            writeln!(text, "- {{id: r{n}, {rule}, when: net.dst.port == {n}}}").unwrap();
        }
        let names = list(count, |n| format!("r{n}"));
        writeln!(
            text,
            "- {{id: all, title: t, severity: low, message: m, correlate: {{type: temporal, \
             rules: [{names}], group_by: [workload.id], window: {{kind: sliding, span: 1m}}}}}}"
        )
        .unwrap();
        text
    };
    let most = correlation::TEMPORAL_RULES_MAX;
    assert_bound(&temporal(most), &temporal(most + 1), &format!("2 to {most} `rules`"));
}

#[test]
fn parts_of_a_profile_are_bounded() {
    let peers = |count: usize| {
        let ported =
            list(count, |n| format!("{{cidr: 10.0.{}.{}/32, ports: [1]}}", n / 256, n % 256));
        with("same_job, cidr: 10.42.0.0/16", &ported)
    };
    let most = profile::PEERS_MAX;
    assert_bound(&peers(most), &peers(most + 1), &format!("more than {most} peers"));

    let budgets = |count: usize| {
        let all = list(count, |n| format!("{{to: \"n{n}\", bytes: 1.gib, per: 1h}}"));
        with("{to: \"*.ckpt.internal\", bytes: 500.gib, per: 24h}", &all)
    };
    let most = profile::BUDGETS_MAX;
    assert_bound(&budgets(most), &budgets(most + 1), &format!("at most {most} budgets"));

    assert_eq!(profile::BUDGET_NS_MAX, 30 * 24 * 3_600 * 1_000_000_000);
    let per = |span: &str| with("per: 24h", &format!("per: {span}"));
    assert_bound(&per("30d"), &per("721h"), "30d");
}

#[test]
fn rules_of_one_load_are_bounded() {
    let mut text = String::from("apiVersion: gpuwarden.dev/v1\nrules:\n");
    // A file holds only so many: spread over several.
    let per_file = set::RULES_MAX / 10 + 1;
    for n in 0..per_file {
        let rule = "title: t, severity: low, message: m, on: [exit], when: proc.pid == 1";
        writeln!(text, "- {{id: rF-{n}, {rule}}}").unwrap();
    }
    let sources: Vec<Source> =
        (0..10).map(|file| source(&text.replace("rF-", &format!("r{file}-")))).collect();
    let mistakes = RuleSet::load(&sources).expect_err("too many").to_string();
    assert!(mistakes.contains(&format!("more than {} rules", set::RULES_MAX)), "{mistakes}");
}

#[test]
fn files_are_bounded_in_size_depth_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("long.yaml");
    let file = std::fs::File::create(&long).unwrap();
    file.set_len(files::SOURCE_BYTES_MAX + 1).unwrap();
    let (sources, mistakes) = files::read_paths(&[long]);
    assert!(sources.is_empty());
    assert!(mistakes[0].message.contains(&files::SOURCE_BYTES_MAX.to_string()), "{mistakes:?}");

    let deep = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(deep.path(), deep.path().join("up")).unwrap();
    let (_, mistakes) = files::read_paths(&[deep.path().to_owned()]);
    let want = format!("deeper than {} folders", files::SOURCE_DEPTH_MAX);
    assert!(mistakes.iter().any(|one| one.message.contains(&want)), "{mistakes:?}");

    let (sources, mistakes) = files::read_paths(&["/proc".into()]);
    assert!(sources.is_empty());
    let want = format!("more than {} entries", files::SOURCE_ENTRIES_MAX);
    assert!(mistakes.iter().any(|one| one.message.contains(&want)), "{mistakes:?}");

    let many = tempfile::tempdir().unwrap();
    for n in 0..=files::SOURCES_MAX {
        std::fs::write(many.path().join(format!("{n}.yaml")), "").unwrap();
    }
    let (sources, mistakes) = files::read_paths(&[many.path().to_owned()]);
    assert_eq!(sources.len(), files::SOURCES_MAX);
    let want = format!("at most {} are read", files::SOURCES_MAX);
    assert!(mistakes.iter().any(|one| one.message.contains(&want)), "{mistakes:?}");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("p.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::write(dir.path().join("good.yaml"), "").unwrap();
    let (sources, mistakes) = files::read_paths(&[dir.path().to_owned()]);
    assert_eq!((sources.len(), mistakes.len()), (1, 1));
    assert!(mistakes[0].to_string().ends_with("p.yaml: error: a pipe; expected a file"));
}

#[test]
fn a_fixture_beyond_its_bound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let long = std::fs::File::create(dir.path().join("long.jsonl")).unwrap();
    long.set_len(trial::FIXTURE_BYTES_MAX + 1).unwrap();
    let text = DESIGN_EXAMPLE.replacen(
        "    events:\n    - {evt.kind: flow, evt.time_ns: 1000000000, workload.id: \"k8s:1\", \
         net.dst.ip: 198.51.100.2}\n",
        "    events: long.jsonl\n",
        1,
    );
    let source = Source { dir: Some(dir.path().to_owned()), ..source(&text) };
    let mistakes = RuleSet::load(std::slice::from_ref(&source)).expect_err("too long").to_string();
    let want = format!("at most {} are read", trial::FIXTURE_BYTES_MAX);
    assert!(mistakes.contains(&want), "{mistakes}");
    let endless = source.text.replacen("long.jsonl", "/dev/zero", 1);
    let mistakes = RuleSet::load(&[Source { text: endless, ..source }]).expect_err("endless");
    assert!(mistakes.to_string().contains("not a plain file"), "{mistakes}");
}

#[test]
fn mistakes_show_nothing_that_a_terminal_obeys() {
    let text = "apiVersion: gpuwarden.dev/v1\nrules: [\"\u{202e}x\u{200b}\"]\n\"\\e[31mk\": 1\n";
    let shown = load(text).expect_err("wrong").to_string();
    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{200b}']), "{shown:?}");
    assert!(shown.contains('\u{fffd}') && shown.contains("\\u{1b}[31mk"), "{shown}");
}

#[test]
fn long_messages_are_cut() {
    let text = "apiVersion: gpuwarden.dev/v1\nrules:\n- {id: r, title: t, severity: low, \
                on: [exec], when: proc.pid == 1, message: '{{proc.args}} {{proc.cmdline}}'}\n";
    let set = load(text).unwrap();
    let args: Vec<String> = (0..20).map(|n| format!("arg-{n}")).collect();
    let event = row(serde_json::json!({
        "evt.kind": "exec", "evt.time_ns": 1, "proc.args": args, "proc.cmdline": "é".repeat(5_000),
    }));
    let message = (set.rules[0].message)(&event, &Vars::default());
    assert!(message.len() <= template::MESSAGE_BYTES_MAX && message.ends_with('…'), "{message}");
    let last = template::MESSAGE_ITEMS_MAX - 1;
    assert!(message.contains(&format!("arg-{last}")), "{message}");
    assert!(!message.contains(&format!("arg-{}", last + 1)), "{message}");
}

#[test]
fn yaml_is_bounded_in_nodes_depth_and_aliases() {
    let file = |value: &str| format!("apiVersion: gpuwarden.dev/v1\nlists: {{a: {value}}}\n");
    let refused = |value: &str| load(&file(value)).expect_err("beyond the bound").0.len();
    let entries = |count: usize| format!("[{}]", list(count, |_| "x".to_owned()));
    assert!(load(&file(&entries(100_000))).is_ok(), "a list of 100 000 names is a real one");
    assert_eq!(refused(&entries(crate::yaml::YAML_NODES_MAX + 1)), 1);
    let depth = crate::yaml::YAML_DEPTH_MAX + 1;
    assert_eq!(refused(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))), 1);
    let aliases = list(crate::yaml::YAML_ALIASES_MAX + 1, |_| "*x".to_owned());
    assert_eq!(refused(&format!("[&x y, {aliases}]")), 1);
}
