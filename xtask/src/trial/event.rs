//! The monitor's file of events, read while it grows.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use super::case::Fact;

/// Bytes that are read at once.
const READ_BYTES: u64 = 1 << 20;

/// One event, its fields by catalogue name.
pub(super) type Event = Map<String, Value>;

/// The file.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    at: u64,
    /// A line that was half written when it was read.
    rest: Vec<u8>,
}

impl Events {
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), at: 0, rest: Vec::new() }
    }

    /// Events that were written since the last call.
    pub(super) fn read(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(events),
            Err(error) => return Err(error).context(self.path.display().to_string()),
        };
        file.seek(SeekFrom::Start(self.at)).context("seek in the file of events")?;
        loop {
            let mut block = Vec::new();
            let got = (&mut file).take(READ_BYTES).read_to_end(&mut block);
            let got = got.with_context(|| format!("read {}", self.path.display()))?;
            if got == 0 {
                return Ok(events);
            }
            self.at += got as u64;
            self.rest.append(&mut block);
            let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let half = self.rest.split_off(whole);
            for line in self.rest.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let event = serde_json::from_slice(line)
                    .with_context(|| format!("event `{}`", String::from_utf8_lossy(line)))?;
                events.push(event);
            }
            self.rest = half;
        }
    }
}

impl Fact {
    /// Whether an event is one of these, whoever caused it.
    pub(super) fn is(&self, event: &Event) -> bool {
        event.get("evt.kind").and_then(Value::as_str) == Some(self.kind.as_str())
            && self.fields.iter().all(|(name, wanted)| matches(event.get(name), wanted))
    }
}

/// Whether a value is what is wanted: the same, text like `*.pt`, or at least `{min: N}`. `null`
/// wants a field that is missing.
fn matches(value: Option<&Value>, wanted: &Value) -> bool {
    let Some(value) = value else { return wanted.is_null() };
    if let Some(min) = wanted.get("min").and_then(Value::as_f64) {
        return value.as_f64().is_some_and(|value| value >= min);
    }
    match (value.as_str(), wanted.as_str()) {
        (Some(value), Some(wanted)) => is_like(value, wanted),
        _ => value == wanted,
    }
}

fn is_like(text: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) if pattern.len() > 1 => text.contains(&pattern[1..pattern.len() - 1]),
        (Some(end), _) => text.ends_with(end),
        (_, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}

/// Text of a field.
pub(super) fn text<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    event.get(name)?.as_str()
}

/// Number of a field.
pub(super) fn number(event: &Event, name: &str) -> Option<u64> {
    event.get(name)?.as_u64()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn half_a_line_is_read_when_it_is_whole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("events.jsonl");
        let mut events = Events::of(&path);
        assert!(events.read().expect("no file yet").is_empty());
        let mut file = File::create(&path).expect("create");
        file.write_all(b"{\"evt.kind\":\"exec\"}\n{\"evt.ki").expect("write");
        assert_eq!(events.read().expect("one").len(), 1);
        file.write_all(b"nd\":\"exit\"}\n").expect("write");
        let read = events.read().expect("the other");
        assert_eq!(text(&read[0], "evt.kind"), Some("exit"));
    }

    #[test]
    fn fields_are_held_against_what_is_wanted() {
        let fact: Fact = serde_saphyr::from_str(
            "{kind: flow, where: {a: 'x*', b: '*y', c: '*z*', d: {min: 3}, e: true, f: null}}",
        )
        .expect("a fact");
        let event = |text: &str| serde_json::from_str::<Event>(text).expect("an event");
        let good = r#"{"evt.kind":"flow","a":"x1","b":"1y","c":"1z1","d":3,"e":true}"#;
        assert!(fact.is(&event(good)));
        for (from, to) in [("x1", "1x"), ("1y", "y1"), ("1z1", "1"), (":3", ":2"), ("true", "1")] {
            assert!(!fact.is(&event(&good.replace(from, to))), "{from} -> {to}");
        }
        assert!(!fact.is(&event(&good.replace("\"a\"", "\"f\":1,\"a\""))));
        assert!(!fact.is(&event(&good.replace("flow", "exec"))));
    }
}
