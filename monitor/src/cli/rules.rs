//! `gpuwarden rules`: check, list, and the reference of the language.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value as Json, json};

use super::explain::{explain, needs};
use super::selection::Selection;
use crate::model::{CATALOGUE, EventKind};
use crate::rule::spec::Rule;
use crate::rule::{
    Diagnostics, RuleSet, fields_markdown, is_shipped, kind_words, rules_markdown, schema,
};

/// Work with rule files. Needs neither root nor a GPU.
#[derive(Clone, Debug, Subcommand)]
pub enum RulesCommand {
    /// Read, check and compile; print every mistake with its place
    Check {
        /// Which rules.
        #[command(flatten)]
        rules: Selection,
        /// Print a JSON array of mistakes
        #[arg(long)]
        json: bool,
    },
    /// One line a rule
    List {
        /// Which rules.
        #[command(flatten)]
        rules: Selection,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print a page for people, with false positives and what to do
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Every field a condition may use
    Fields {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print the reference page
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// One rule in plain words
    Explain {
        /// Id of the rule
        id: String,
        /// Which rules.
        #[command(flatten)]
        rules: Selection,
        /// Also try the sensors it needs on this host (needs root; changes nothing)
        #[arg(long)]
        host: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// JSON Schema of the rule file, for editors
    Schema,
}

/// Runs a command; what people read goes to `out`. The exit code is 1 when the rules are wrong.
pub fn run(command: &RulesCommand, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match command {
        RulesCommand::Check { rules, json } => check(rules.read()?, *json, out),
        RulesCommand::List { rules, json, markdown } => match rules.read()? {
            Ok(set) if *markdown => {
                write!(out, "{}", rules_markdown(&set))?;
                Ok(ExitCode::SUCCESS)
            }
            Ok(set) => list(&set, *json, out),
            Err(mistakes) => refuse(&mistakes, out),
        },
        RulesCommand::Fields { json, markdown } => fields(*json, *markdown, out),
        RulesCommand::Explain { id, rules, host, json } => match rules.read()? {
            Ok(set) => explain(&set, id, *host, *json, out),
            Err(mistakes) => refuse(&mistakes, out),
        },
        RulesCommand::Schema => {
            writeln!(out, "{:#}", schema())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(super) fn refuse(mistakes: &Diagnostics, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let count = mistakes.0.len();
    let word = if count == 1 { "mistake" } else { "mistakes" };
    writeln!(out, "{mistakes}\n\n{count} {word}; nothing was loaded")?;
    Ok(ExitCode::FAILURE)
}

fn check(
    rules: Result<RuleSet, Diagnostics>,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    match rules {
        Ok(_) if as_json => {
            writeln!(out, "[]")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(set) => {
            let tests: usize = set.rules.iter().map(|rule| rule.tests.len()).sum();
            // Tests of shipped rules are run where the rules are made; here they are left out.
            let untested: Vec<&str> = set
                .rules
                .iter()
                .filter(|rule| rule.tests.is_empty() && !is_shipped(&rule.meta.source))
                .map(|rule| rule.meta.id.as_str())
                .collect();
            let (rules, profiles) = (set.rules.len(), set.profiles.len());
            writeln!(out, "ok: {rules} rules with {tests} tests, {profiles} profiles")?;
            if !untested.is_empty() {
                writeln!(out, "without a test: {}", untested.join(", "))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) if as_json => {
            writeln!(out, "{:#}", mistakes.to_json())?;
            Ok(ExitCode::FAILURE)
        }
        Err(mistakes) => refuse(&mistakes, out),
    }
}

fn list(set: &RuleSet, as_json: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if as_json {
        let rules: Vec<Json> = set.rules.iter().map(|rule| rule_json(set, rule)).collect();
        let profiles: Vec<Json> = set
            .profiles
            .iter()
            .map(|profile| {
                json!({
                    "id": profile.id, "role": profile.role, "isolated": profile.isolated,
                    "match": profile.match_text, "source": profile.source,
                })
            })
            .collect();
        writeln!(out, "{:#}", json!({"rules": rules, "profiles": profiles}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = set.rules.iter().map(|rule| rule.meta.id.as_str().len()).max().unwrap_or(0);
    for rule in &set.rules {
        let meta = &rule.meta;
        let (id, severity, title) = (meta.id.as_str(), meta.severity.as_str(), &meta.title);
        writeln!(out, "{id:width$}  {severity:8}  {}  {title}", kind_words(rule.kinds))?;
    }
    for profile in set.profiles.iter() {
        let role = profile.role.map_or("no role", |role| role.as_str());
        let isolated = if profile.isolated { ", isolated" } else { "" };
        writeln!(out, "profile {}: {role}{isolated}", profile.id)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn rule_json(set: &RuleSet, rule: &Rule) -> Json {
    let kinds: Vec<&str> = rule.kinds.iter().map(EventKind::as_str).collect();
    let fields: Vec<&str> = rule.fields.iter().map(|id| id.name()).collect();
    let mut json = serde_json::to_value(&*rule.meta).unwrap_or_default();
    json["kinds"] = kinds.into();
    json["fields"] = fields.into();
    json["tests"] = rule.tests.len().into();
    json["text"] = serde_json::to_value(set.outline(&rule.meta.id)).unwrap_or_default();
    json["needs"] = needs(rule).into();
    json["respond"] = serde_json::to_value(set.responses(&rule.meta.id)).unwrap_or_default();
    json
}

fn fields(as_json: bool, markdown: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if markdown {
        write!(out, "{}", fields_markdown())?;
        return Ok(ExitCode::SUCCESS);
    }
    if as_json {
        let rows: Vec<Json> = CATALOGUE
            .iter()
            .map(|field| {
                let kinds: Vec<&str> = field.kinds.iter().map(EventKind::as_str).collect();
                json!({
                    "name": field.name, "type": field.field_type, "kinds": kinds,
                    "meaning": field.meaning, "example": field.example,
                })
            })
            .collect();
        writeln!(out, "{:#}", Json::from(rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    for field in CATALOGUE {
        let (name, kinds) = (field.name, kind_words(field.kinds));
        writeln!(out, "{name}  ({}; {kinds})", field.field_type)?;
        writeln!(out, "    {}\n    e.g. {}", field.meaning, field.example)?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: RulesCommand,
    }

    const RULES: &str = r"apiVersion: gpuwarden.dev/v1
rules:
- id: bulk
  title: Bulk egress
  severity: high
  on: [flow]
  when: '!net.allowed && weights.bytes_read > 0'
  correlate:
    type: value_sum
    field: net.bytes_out
    group_by: [workload.id]
    window: {kind: sliding, span: 10m}
    condition: sum > 64.mib
  exceptions: [{name: store, when: net.dst.port == 9000}]
  dedupe: {key: [workload.id], for: 1h}
  message: '{{sum|bytes}}'
  falsePositives: [a checkpoint]
  runbook: Ask the owner.
profiles:
- {id: p, match: has(slurm.job_id), role: training, isolated: true}
";

    fn run_line(line: &[&str]) -> (bool, String) {
        let all = ["rules"].iter().chain(line);
        let command = Line::parse_from(all).command;
        let mut out = Vec::new();
        let code = run(&command, &mut out).expect("runs");
        (code == ExitCode::SUCCESS, String::from_utf8(out).expect("text"))
    }

    fn folder(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("a.yaml"), text).expect("written");
        let path = dir.path().display().to_string();
        (dir, path)
    }

    #[test]
    fn a_rule_is_explained_in_words() {
        let (_dir, path) = folder(RULES);
        let (ok, text) = run_line(&["explain", "bulk", &path]);
        assert!(ok);
        for part in [
            "It looks at flow events.",
            "!net.allowed && weights.bytes_read > 0",
            "but not (store) when",
            "It adds up net.bytes_out (sum) over the last 10m, apart for each workload.id.",
            "Matches within 1h with the same workload.id are one alert.",
            "labels on weight files",
            "the profiles say: p.",
            "What to do: Ask the owner.",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn wrong_rules_fail_the_check_and_right_ones_pass() {
        let (_dir, path) = folder(RULES);
        let (ok, text) = run_line(&["check", &path]);
        assert!(ok && text.starts_with("ok: 1 rules with 0 tests, 1 profiles"), "{text}");
        let (_dir, path) = folder(&RULES.replace("net.dst.port", "net.dst.prot"));
        let (ok, text) = run_line(&["check", &path]);
        assert!(!ok && text.contains("a.yaml:14:36: error: unknown field"), "{text}");
        let (ok, text) = run_line(&["check", "--json", &path]);
        let mistakes: Json = serde_json::from_str(&text).expect("JSON");
        assert!(!ok && mistakes[0]["line"] == 14, "{text}");
    }

    #[test]
    fn rules_are_checked_as_the_monitor_would_load_them() {
        let (_dir, path) = folder(&RULES.replace("id: bulk", "id: weights-bulk-egress"));
        let (ok, text) = run_line(&["check", &path]);
        assert!(ok, "{text}");
        let (ok, text) = run_line(&["check", "--with-shipped", &path]);
        assert!(
            !ok && text.contains("weights-bulk-egress"),
            "an id that a shipped rule has: {text}"
        );
        let (_dir, path) = folder(RULES);
        let (ok, text) = run_line(&["check", "--with-shipped", &path]);
        assert!(ok && text.ends_with("without a test: bulk\n"), "{text}");
        let (ok, text) = run_line(&["list", "--config", "/dev/null"]);
        assert!(ok && text.contains("weights-bulk-egress"), "what `run` would load: {text}");
    }

    #[test]
    fn lists_are_for_people_and_for_machines() {
        let (_dir, path) = folder(RULES);
        let (_, text) = run_line(&["list", &path]);
        assert!(
            text.starts_with("bulk  high      flow  Bulk egress\nprofile p: training"),
            "{text}"
        );
        let (_, text) = run_line(&["list", "--json", &path]);
        let json: Json = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["rules"][0]["kinds"], json!(["flow"]));
        let (_, text) = run_line(&["fields", "--json"]);
        let json: Json = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json.as_array().map(Vec::len), Some(CATALOGUE.len()));
    }
}
