//! `gpuwarden rules test`: runs the tests that stand in rule files. Needs no root and no GPU.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::correlate::{Rehearsal, RehearsedAlert, RuleStats, rehearse};
use crate::model::{FactRow, Facts};
use crate::rule::spec::{CorrelationKind, Rule, RuleTest};
use crate::rule::{RuleSet, is_shipped, shipped};

/// Exit code when a test failed; 2 is for files that cannot be loaded.
const FAILED: u8 = 1;
/// Where rules are looked for when no path is given.
const RULES_DIR: &str = "/etc/gpuwarden/rules.d";
/// Exit code when the rules cannot be loaded, or nothing is there to be tested.
const UNUSABLE: u8 = 2;

/// Runs the tests that stand in rule files.
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// Rule files, or folders of them. Rules that wait for other rules need those too.
    #[arg(default_value = RULES_DIR)]
    pub paths: Vec<PathBuf>,
    /// Load the shipped rules beside them, as `run` does; their own tests are not run.
    #[arg(long)]
    pub with_shipped: bool,
    /// Test only the rules whose id contains this.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the results as `JUnit` XML as well.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// One test and what came of it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    rule: &'a str,
    test: &'a str,
    /// File and line of the test.
    place: String,
    events: usize,
    is_passed: bool,
    failures: Vec<String>,
    /// What the rule saw, when the test failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trace: Vec<String>,
    alerts: Vec<RehearsedAlert>,
}

/// All tests.
#[derive(Debug, Serialize)]
struct Results<'a> {
    passed: usize,
    failed: usize,
    /// Rules without any test.
    untested: Vec<&'a str>,
    tests: Vec<Row<'a>>,
}

/// Runs the tests and writes the results to `out`. Exit code 0 when all passed, 1 when one failed,
/// 2 when the rules cannot be loaded or no test was found. An error is one of the output's.
pub fn run(args: &TestArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let beside = if args.with_shipped { shipped() } else { Vec::new() };
    let set = match RuleSet::read_with(beside, &args.paths) {
        Ok(set) => set,
        Err(mistakes) if args.json => {
            writeln!(out, "{}", serde_json::json!({ "mistakes": mistakes.to_json() }))?;
            return Ok(ExitCode::from(UNUSABLE));
        }
        Err(mistakes) => {
            writeln!(out, "{mistakes}")?;
            return Ok(ExitCode::from(UNUSABLE));
        }
    };
    let results = test(&set, args.only.as_deref());
    if let Some(path) = &args.junit {
        let why = || format!("cannot write JUnit results to {}", path.display());
        std::fs::write(path, junit(&results)).with_context(why)?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &results)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&results).as_bytes())?;
    }
    Ok(match (results.failed, results.passed) {
        (0, 0) => ExitCode::from(UNUSABLE),
        (0, _) => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    })
}

fn test<'a>(set: &'a RuleSet, only: Option<&str>) -> Results<'a> {
    let is_chosen = |rule: &&'a std::sync::Arc<Rule>| {
        only.is_none_or(|only| rule.meta.id.as_str().contains(only))
    };
    let chosen: Vec<_> = set.rules.iter().filter(is_chosen).collect();
    let has_none = |rule: &Rule| rule.tests.is_empty() && !is_shipped(&rule.meta.source);
    let untested = chosen.iter().filter(|rule| has_none(rule));
    let untested = untested.map(|rule| rule.meta.id.as_str()).collect();
    let tests: Vec<_> = chosen
        .iter()
        .flat_map(|rule| rule.tests.iter().map(move |test| (rule, test)))
        .map(|(rule, test)| row(set, rule, test, rehearse(&set.rules, rule, test)))
        .collect();
    let passed = tests.iter().filter(|row| row.is_passed).count();
    Results { passed, failed: tests.len() - passed, untested, tests }
}

fn row<'a>(set: &RuleSet, rule: &'a Rule, test: &'a RuleTest, result: Rehearsal) -> Row<'a> {
    let is_passed = result.is_passed();
    Row {
        rule: rule.meta.id.as_str(),
        test: &test.name,
        place: format!("{}:{}", rule.meta.source, test.line),
        events: test.events.len(),
        is_passed,
        trace: if is_passed { vec![] } else { trace(set, rule, test, &result.stats) },
        failures: result.failures,
        alerts: result.alerts,
    }
}

/// Where the events were stopped, in the order in which a rule asks.
fn trace(set: &RuleSet, rule: &Rule, test: &RuleTest, stats: &RuleStats) -> Vec<String> {
    let RuleStats { seen, when, silenced, unkeyed, matches, findings, .. } = stats;
    let kind = rule.correlation.as_ref().map(|correlation| &correlation.kind);
    let is_temporal =
        matches!(kind, Some(CorrelationKind::Temporal(_) | CorrelationKind::TemporalOrdered(_)));
    let what = if is_temporal { "matches of rules it waits for" } else { "events of its kinds" };
    let mut lines = vec![format!("`when` was true of {when} of {seen} {what}")];
    if when < seen && !is_temporal {
        let of_kind = |row: &&FactRow| rule.kinds.contains(row.kind());
        for clause in set.clauses(&rule.meta.id) {
            let holds = test.events.iter().filter(of_kind).filter(|row| clause.holds(*row)).count();
            lines.push(format!("  {holds} of {seen}: {}", clause.text));
        }
    }
    if !rule.exceptions.is_empty() {
        lines.push(format!("exceptions silenced {silenced}"));
    }
    if rule.correlation.is_some() {
        lines.push(format!("{unkeyed} lacked a field of the window"));
        let condition = set.outline(&rule.meta.id).and_then(|outline| outline.condition.as_deref());
        lines.push(match condition {
            Some(shown) => format!("the window's condition was true of {matches}: {shown}"),
            None => format!("all rules it waits for had matched at {matches}"),
        });
    }
    lines.push(format!("{findings} findings before dedupe"));
    lines
}

fn text(results: &Results<'_>) -> String {
    let mut text = String::new();
    for row in &results.tests {
        let verdict = if row.is_passed { "ok  " } else { "FAIL" };
        let _ = writeln!(text, "{verdict} {}: {}", row.rule, row.test);
        if row.is_passed {
            continue;
        }
        let _ = writeln!(text, "       at {}, {} events", row.place, row.events);
        for line in row.failures.iter().chain(&row.trace) {
            let _ = writeln!(text, "       {line}");
        }
    }
    for rule in &results.untested {
        let _ = writeln!(text, "note {rule} has no tests");
    }
    let Results { passed, failed, .. } = results;
    let total = passed + failed;
    let _ = match (total, failed) {
        (0, _) => writeln!(text, "no test was found"),
        (_, 0) => writeln!(text, "{total} tests passed"),
        _ => writeln!(text, "{failed} of {total} tests failed"),
    };
    text
}

/// The results as `JUnit` XML: one suite a rule, in the order of the rules.
fn junit(results: &Results<'_>) -> String {
    let Results { passed, failed, tests, .. } = results;
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let total = passed + failed;
    let _ =
        writeln!(xml, r#"<testsuites name="gpuwarden rules" tests="{total}" failures="{failed}">"#);
    for suite in tests.chunk_by(|before, after| before.rule == after.rule) {
        let name = escape(suite[0].rule);
        let failed = suite.iter().filter(|row| !row.is_passed).count();
        let total = suite.len();
        let counts = format!(r#"tests="{total}" failures="{failed}""#);
        let _ = writeln!(xml, r#"  <testsuite name="{name}" {counts}>"#);
        for row in suite {
            let test = escape(row.test);
            let _ = write!(xml, r#"    <testcase classname="{name}" name="{test}""#);
            if row.is_passed {
                xml.push_str("/>\n");
                continue;
            }
            let message = escape(row.failures.first().map_or("", |line| line));
            let _ = writeln!(xml, ">\n      <failure message=\"{message}\">");
            for line in std::iter::once(&row.place).chain(&row.failures).chain(&row.trace) {
                let _ = writeln!(xml, "{}", escape(line));
            }
            xml.push_str("      </failure>\n    </testcase>\n");
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text for XML: markup escaped, characters that XML 1.0 cannot hold replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            c if c < ' ' || c == '\u{7f}' || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A rule whose test passes or fails with `count`.
    fn rule_file(count: u32) -> String {
        format!(
            r"
apiVersion: gpuwarden.dev/v1
rules:
- id: big-flow
  title: A big flow
  severity: high
  on: [flow]
  when: net.bytes_out > 10 && net.dst.port == 443
  message: 'sent {{{{net.bytes_out}}}} & more'
  tests:
  - name: eleven bytes to <443>
    events: [{{evt.kind: flow, net.bytes_out: 11, net.dst.port: 80}}]
    expect: [{{severity: high, count: {count}}}]
  - name: nothing
    events: []
    expect: []
"
        )
    }

    fn run_on(text: &str, json: bool) -> (ExitCode, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rule.yaml");
        std::fs::write(&file, text).unwrap();
        let junit = dir.path().join("junit.xml");
        let args = TestArgs {
            paths: vec![file],
            with_shipped: false,
            only: None,
            json,
            junit: Some(junit.clone()),
        };
        let mut out = vec![];
        let code = run(&args, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap().replace(dir.path().to_str().unwrap(), "DIR");
        let xml = std::fs::read_to_string(junit).unwrap_or_default();
        (code, out, xml.replace(dir.path().to_str().unwrap(), "DIR"))
    }

    #[test]
    fn tests_that_pass_exit_with_zero() {
        let (code, out, xml) = run_on(&rule_file(0), false);
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(out.ends_with("2 tests passed\n"), "{out}");
        assert!(xml.contains(r#"<testsuite name="big-flow" tests="2" failures="0">"#), "{xml}");
    }

    #[test]
    fn a_test_that_fails_says_where_and_why() {
        let (code, out, xml) = run_on(&rule_file(1), false);
        assert_eq!(code, ExitCode::from(FAILED));
        insta::assert_snapshot!(out, @r"
        FAIL big-flow: eleven bytes to <443>
               at DIR/rule.yaml:11, 1 events
               expected 1 high alert, found 0
               `when` was true of 0 of 1 events of its kinds
                 1 of 1: net.bytes_out > 10
                 0 of 1: net.dst.port == 443
               0 findings before dedupe
        ok   big-flow: nothing
        1 of 2 tests failed
        ");
        insta::assert_snapshot!(xml, @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="gpuwarden rules" tests="2" failures="1">
          <testsuite name="big-flow" tests="2" failures="1">
            <testcase classname="big-flow" name="eleven bytes to &lt;443&gt;">
              <failure message="expected 1 high alert, found 0">
        DIR/rule.yaml:11
        expected 1 high alert, found 0
        `when` was true of 0 of 1 events of its kinds
          1 of 1: net.bytes_out &gt; 10
          0 of 1: net.dst.port == 443
        0 findings before dedupe
              </failure>
            </testcase>
            <testcase classname="big-flow" name="nothing"/>
          </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn json_carries_the_same() {
        let (_, out, _) = run_on(&rule_file(1), true);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&json["passed"], &json["failed"]), (&1.into(), &1.into()));
        assert_eq!(json["tests"][0]["failures"][0], "expected 1 high alert, found 0");
    }

    #[test]
    fn rules_that_do_not_load_exit_with_two_and_show_their_mistakes() {
        let (code, out, _) = run_on(&rule_file(0).replace("net.bytes_out >", "net.bytes >"), false);
        assert_eq!(code, ExitCode::from(UNUSABLE));
        assert!(out.contains("unknown field `net.bytes`"), "{out}");
    }

    #[test]
    fn no_test_at_all_is_not_a_success() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rule.yaml"), rule_file(0)).unwrap();
        let only = Some("other".to_owned());
        let args = TestArgs {
            paths: vec![dir.path().into()],
            with_shipped: false,
            only,
            json: false,
            junit: None,
        };
        assert_eq!(run(&args, &mut vec![]).unwrap(), ExitCode::from(UNUSABLE));
    }

    #[test]
    fn control_characters_do_not_break_the_xml() {
        assert_eq!(escape("a\u{0}<\u{1b}b\n"), "a\u{fffd}&lt;\u{fffd}b&#10;");
    }

    fn shipped() -> RuleSet {
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../rules");
        RuleSet::read_paths(&[rules.into()]).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    #[test]
    fn shipped_rules_pass_their_tests() {
        let set = shipped();
        let results = test(&set, None);
        assert_eq!(results.failed, 0, "{}", text(&results));
    }

    #[test]
    fn a_shipped_rule_has_something_to_catch_something_to_leave_alone_and_what_people_need() {
        for rule in shipped().rules {
            let meta = &rule.meta;
            let fires = |test: &RuleTest| test.expect.iter().any(|wanted| wanted.count > 0);
            assert!(rule.tests.iter().any(fires), "{} has no test that fires", meta.id);
            assert!(!rule.tests.iter().all(fires), "{} has no silent test", meta.id);
            if !meta.alerts {
                continue;
            }
            assert!(!meta.runbook.is_empty() && !meta.false_positives.is_empty(), "{}", meta.id);
            assert_eq!(meta.tags.attack_version.as_deref(), Some("19"), "{}", meta.id);
            assert_eq!(meta.tags.atlas_version.as_deref(), Some("5.6.0"), "{}", meta.id);
        }
    }

    /// An isolated job reads a model and uploads it: one alert for the contact, one for the bytes.
    #[test]
    fn an_upload_from_an_isolated_job_is_two_alerts_of_all_shipped_rules() {
        let set = shipped();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../rules/weights/fixtures/");
        let rows = std::fs::read_to_string(format!("{fixture}isolated_upload.jsonl")).unwrap();
        let events = crate::rule::parse_rows(&rows).unwrap();
        let incident = RuleTest { name: String::new(), line: 0, events, expect: vec![] };
        let mut alerts = vec![];
        for rule in set.rules.iter().filter(|rule| rule.meta.alerts) {
            let found = rehearse(&set.rules, rule, &incident).alerts.len();
            alerts.extend(std::iter::repeat_n(rule.meta.id.as_str(), found));
        }
        assert_eq!(alerts, ["isolated-training-egress", "weights-bulk-egress"]);
    }

    #[test]
    fn shipped_profiles_select_by_label_cgroup_unit_and_partition() {
        let set = shipped();
        let selected = |fields: serde_json::Value| {
            let mut object = fields.as_object().unwrap().clone();
            object.insert("evt.kind".into(), "exec".into());
            let row = FactRow::from_json(&object).unwrap();
            set.profiles.select(&row).map(|profile| profile.id.to_string())
        };
        let label = |value: &str| selected(json!({"k8s.labels": {"gpuwarden.dev/profile": value}}));
        for id in ["isolated-training", "training", "inference", "notebook", "batch", "system"] {
            let cgroup = format!("/gpuwarden/{id}/job-1");
            assert_eq!(selected(json!({"workload.cgroup": cgroup})).as_deref(), Some(id));
            assert_eq!(label(id).as_deref(), Some(id));
        }
        let unit = json!({"unit.name": "llm-isolated-training.service"});
        assert_eq!(selected(unit).as_deref(), Some("isolated-training"));
        assert_eq!(
            selected(json!({"unit.name": "llm-training.service"})).as_deref(),
            Some("training")
        );
        assert_eq!(selected(json!({"slurm.partition": "train"})).as_deref(), Some("training"));
        assert_eq!(selected(json!({"workload.cgroup": "/system.slice/cron.service"})), None);
    }

    #[test]
    fn an_isolated_job_may_talk_to_itself_only() {
        let set = shipped();
        let profile = set.profiles.get(&"isolated-training".into()).unwrap();
        assert!(profile.isolated && profile.same_job);
        assert!(profile.allows("127.0.0.1".parse().unwrap(), 29_500, None));
        for (ip, port) in [("10.42.0.7", 29_500), ("192.0.2.53", 53), ("169.254.169.254", 80)] {
            assert!(!profile.allows(ip.parse().unwrap(), port, Some("a.ckpt.internal")), "{ip}");
        }
    }
}
