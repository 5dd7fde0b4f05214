//! The `tests:` of a rule: recorded events, inline or in a file beside the rule, and what they
//! must lead to.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::model::{FactRow, Severity};

use super::diagnostic::{Located, Reported, Sink, Span};
use super::file::RawTest;
use super::spec::{Expectation, RuleTest};
use super::yaml::{Entries, Node, Yaml, text};

/// Largest fixture file in bytes; a recording of an hour of a busy job has some 5 MiB.
pub(crate) const FIXTURE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most events of one test: what runs in a second.
pub(crate) const FIXTURE_EVENTS_MAX: usize = 1_000_000;

/// Reads a rule's test. `dir` is the folder of the rule's file, `None` where there is none.
pub(crate) fn read(
    raw: RawTest,
    severity: Option<Severity>,
    dir: Option<&Path>,
    sink: &Sink,
) -> Result<RuleTest, Reported> {
    let events = match raw.events {
        Some(Node { span, value: Yaml::Text(path) }) => {
            read_fixture(&Located { value: path, span }, dir, sink)
        }
        Some(Node { value: Yaml::List(items), .. }) => read_inline(items, sink),
        Some(node) => Err(sink.error(
            node.span,
            format!(
                "`events` is {}, expected a list or the path of a .jsonl file",
                node.value.kind()
            ),
        )),
        None => Err(Reported),
    };
    let expect = match raw.expect {
        Some(node) => read_expectations(node, severity, sink),
        None => Err(Reported),
    };
    let name = raw.name.ok_or(Reported)?.value;
    let line = line_of(raw.span, sink);
    Ok(RuleTest { name, line, events: events?, expect: expect? })
}

fn line_of(span: Span, sink: &Sink) -> u32 {
    let text = &sink.documents[span.document].text;
    let before = &text.as_bytes()[..span.start.min(text.len())];
    let lines = memchr::memchr_iter(b'\n', before).count();
    u32::try_from(lines + 1).unwrap_or(u32::MAX)
}

fn read_inline(items: Vec<Node>, sink: &Sink) -> Result<Vec<FactRow>, Reported> {
    let mut rows = Vec::with_capacity(items.len());
    let mut failed = None;
    for item in items {
        let span = match &item.value {
            Yaml::Map(entries) => entries.first().map_or(item.span, |(key, _)| key.span),
            _ => item.span,
        };
        match json(item) {
            Json::Object(object) => match FactRow::from_json(&object) {
                Ok(row) => rows.push(row),
                Err(error) => failed = Some(sink.error(span, format!("not an event: {error}"))),
            },
            _ => failed = Some(sink.error(span, "an event is a mapping of fields")),
        }
    }
    failed.map_or(Ok(rows), Err)
}

fn json(node: Node) -> Json {
    match node.value {
        Yaml::Null => Json::Null,
        Yaml::Bool(truth) => truth.into(),
        Yaml::Int(number) => number.into(),
        Yaml::Float(number) => number.into(),
        Yaml::Text(text) => text.into(),
        Yaml::List(items) => items.into_iter().map(json).collect(),
        Yaml::Map(entries) => {
            let pairs = entries.into_iter().map(|(key, value)| (key.value, json(value)));
            Json::Object(pairs.collect::<Map<_, _>>())
        }
    }
}

fn read_fixture(
    path: &Located<String>,
    dir: Option<&Path>,
    sink: &Sink,
) -> Result<Vec<FactRow>, Reported> {
    let Some(dir) = dir else {
        let message = "the rule does not come from a file, so there is no folder to look in";
        return Err(sink.error(path.span, message));
    };
    let full: PathBuf = dir.join(&path.value);
    let unreadable = |why: String| {
        sink.error(path.span, format!("cannot read the events at {}: {why}", full.display()))
    };
    let meta = fs::metadata(&full).map_err(|error| unreadable(error.to_string()))?;
    // A pipe or a device may have no end.
    if !meta.is_file() {
        return Err(unreadable("it is not a plain file".to_owned()));
    }
    let len = meta.len();
    if len > FIXTURE_BYTES_MAX {
        return Err(unreadable(format!("{len} bytes, at most {FIXTURE_BYTES_MAX} are read")));
    }
    let text = fs::read_to_string(&full).map_err(|error| unreadable(error.to_string()))?;
    parse_rows(&text).map_err(|(line, why)| {
        sink.error(path.span, format!("{}:{line}: not an event: {why}", full.display()))
    })
}

/// What the first and the last line of a recording have for a key, and no event has.
const RECORDING_KEYS: &str = "gpuwarden.";

/// Reads recorded events, one JSON object a line; empty lines, and what a recording says of itself,
/// are skipped. The error is the line, from 1, and why.
pub fn parse_rows(text: &str) -> Result<Vec<FactRow>, (usize, String)> {
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        if rows.len() >= FIXTURE_EVENTS_MAX {
            return Err((at + 1, format!("more than {FIXTURE_EVENTS_MAX} events")));
        }
        let object: Map<String, Json> =
            serde_json::from_str(line).map_err(|error| (at + 1, error.to_string()))?;
        if object.keys().any(|key| key.starts_with(RECORDING_KEYS)) {
            continue;
        }
        rows.push(FactRow::from_json(&object).map_err(|error| (at + 1, error.to_string()))?);
    }
    Ok(rows)
}

fn read_expectations(
    node: Node,
    severity: Option<Severity>,
    sink: &Sink,
) -> Result<Vec<Expectation>, Reported> {
    let mut all = Vec::new();
    let before = sink.len();
    for item in super::yaml::list(node, "`expect`", sink) {
        let Some(mut entries) = Entries::of(item, "an expectation", sink) else { continue };
        let head = entries.head();
        let wanted = entries.text("severity");
        let count = entries.take("count");
        let message_contains = entries.text("message_contains").map(|text| text.value);
        entries.finish();
        let severity = match wanted {
            Some(text) => read_severity(&text, sink).ok(),
            None => severity,
        };
        let count = match count {
            None => Some(1),
            Some(node) => read_count(node, sink),
        };
        match (severity, count) {
            (Some(severity), Some(count)) => {
                all.push(Expectation { severity, count, message_contains });
            }
            (None, _) if sink.len() == before => {
                sink.error(head, "the expectation has no `severity`");
            }
            _ => {}
        }
    }
    if sink.len() > before { Err(Reported) } else { Ok(all) }
}

fn read_count(node: Node, sink: &Sink) -> Option<u32> {
    let span = node.span;
    let text = text(node, "`count`", sink)?;
    let count = text.value.parse().ok();
    if count.is_none() {
        sink.error(span, format!("`count` is `{}`, expected a whole number", text.value));
    }
    count
}

/// Reads a severity.
pub(crate) fn read_severity(text: &Located<String>, sink: &Sink) -> Result<Severity, Reported> {
    const ALL: [Severity; 5] =
        [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    ALL.into_iter().find(|severity| severity.as_str() == text.value).ok_or_else(|| {
        let message = format!("unknown severity `{}`", text.value);
        let words = ALL.map(Severity::as_str);
        sink.error_help(text.span, message, super::diagnostic::suggest(&text.value, words))
    })
}
