//! A converted rule as YAML. Scalars are JSON strings, which YAML reads as they are.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// A converted rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// Its id here.
    pub id: String,
    /// Its name in the file it comes from.
    pub origin: String,
    /// One line.
    pub title: String,
    /// info to critical.
    pub severity: String,
    /// Kinds of event; empty for a temporal rule.
    pub on: Vec<String>,
    /// The condition; empty for a temporal rule.
    pub when: String,
    /// The message.
    pub message: String,
    /// ATT&CK ids.
    pub attack: Vec<String>,
    /// Named conditions under which it stays silent.
    pub exceptions: Vec<(String, String)>,
    /// What fires it without harm.
    pub false_positives: Vec<String>,
    /// The lines of a `correlate:` block, without indentation.
    pub correlate: Vec<String>,
    /// Rules that a correlation waits for.
    pub waits_for: Vec<String>,
    /// Whether it makes no alerts of its own.
    pub is_silent: bool,
}

impl Sheet {
    /// The rule as an item of `rules:`.
    pub fn to_yaml(&self) -> String {
        let text = |text: &str| Json::from(text).to_string();
        let list = |all: &[String]| {
            let all: Vec<String> = all.iter().map(|item| text(item)).collect();
            format!("[{}]", all.join(", "))
        };
        let mut out = format!("# {}\n- id: {}\n", self.origin.replace('\n', " "), self.id);
        let mut line = |key: &str, value: String| {
            let _ = writeln!(out, "  {key}: {value}");
        };
        line("title", text(&self.title));
        line("severity", self.severity.clone());
        if !self.on.is_empty() {
            line("on", format!("[{}]", self.on.join(", ")));
        }
        if !self.when.is_empty() {
            line("when", text(&self.when));
        }
        if !self.correlate.is_empty() {
            line("correlate", format!("\n    {}", self.correlate.join("\n    ")));
        }
        line("message", text(&self.message));
        if self.is_silent {
            line("alert", "false".to_owned());
        }
        if !self.attack.is_empty() {
            line("tags", format!("{{attack: {}}}", list(&self.attack)));
        }
        if !self.false_positives.is_empty() {
            line("falsePositives", list(&self.false_positives));
        }
        if !self.exceptions.is_empty() {
            let all = self.exceptions.iter().map(|(name, when)| {
                format!("\n  - {{name: {}, when: {}}}", text(name), text(when))
            });
            line("exceptions", all.collect());
        }
        out
    }
}
