//! Rules of others in our form: Falco's and Sigma's common subset, and a list of what did not
//! convert and why. Nothing is guessed: a rule of which a part has no counterpart is left out.
//!
//! | file | what it owns |
//! |---|---|
//! | `expression` | Falco's condition language: text to a tree |
//! | `falco` | rules, lists, macros and exceptions of Falco |
//! | `falco_field` | what a test of a Falco field is here |
//! | `sigma` | rules and correlations of Sigma |
//! | `sigma_detection` | selections and conditions of Sigma |
//! | `sheet` | a converted rule as YAML |

mod expression;
mod falco;
mod falco_field;
mod sheet;
mod sigma;
mod sigma_detection;

#[cfg(test)]
mod tests;

pub use falco::falco;
pub use sheet::Sheet;
pub use sigma::sigma;

use serde::Serialize;

use crate::rule::{RuleSet, Source};

/// Bytes of one file of rules that is read, at most: Falco's whole set has a fifth of a mebibyte.
pub const IMPORT_BYTES_MAX: usize = 16 << 20;
/// Parts of one condition, macros expanded, at most.
pub const IMPORT_NODES_MAX: usize = 20_000;
/// Deepest nesting of one condition, macros expanded.
pub const IMPORT_DEPTH_MAX: usize = 64;

/// A rule that was not converted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Its name in the file it comes from.
    pub rule: String,
    /// Why.
    pub why: String,
}

/// What came of an import.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Rules that were converted.
    pub sheets: Vec<Sheet>,
    /// Rules that were not.
    pub refused: Vec<Refusal>,
    /// What is different here though it was converted.
    pub notes: Vec<String>,
}

impl Import {
    /// Moves rules that our loader refuses (they could never match, or compare what cannot be
    /// compared) to those that were not converted.
    #[must_use]
    pub fn checked(mut self) -> Self {
        loop {
            let refused: Vec<(usize, String)> = (0..self.sheets.len())
                .filter_map(|at| Some((at, refusal(&self.sheets, at)?)))
                .collect();
            if refused.is_empty() {
                return self;
            }
            for (at, why) in refused.into_iter().rev() {
                let sheet = self.sheets.remove(at);
                self.refused.push(Refusal { rule: sheet.origin, why });
            }
        }
    }

    /// The converted rules as one file.
    pub fn to_yaml(&self) -> String {
        file(&self.sheets.iter().collect::<Vec<_>>())
    }

    fn refuse(&mut self, rule: &str, why: impl Into<String>) {
        self.refused.push(Refusal { rule: rule.to_owned(), why: why.into() });
    }

    fn note(&mut self, note: &str) {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
        }
    }
}

fn file(sheets: &[&Sheet]) -> String {
    let rules: String = sheets.iter().map(|sheet| sheet.to_yaml()).collect();
    let rules = if rules.is_empty() { " []\n".to_owned() } else { format!("\n{rules}") };
    format!("apiVersion: gpuwarden.dev/v1\nrules:{rules}")
}

/// What our loader says of a rule, with those it waits for.
fn refusal(sheets: &[Sheet], at: usize) -> Option<String> {
    let sheet = &sheets[at];
    let waited: Vec<&Sheet> =
        sheets.iter().filter(|other| sheet.waits_for.contains(&other.id)).collect();
    let all: Vec<&Sheet> = waited.into_iter().chain([sheet]).collect();
    let source =
        Source { name: "imported".to_owned(), text: file(&all), dir: None, untested: true };
    let mistakes = RuleSet::load(&[source]).err()?;
    let first = mistakes.0.first()?;
    Some(format!("our loader refuses it: {}", first.message))
}

/// A name as an id: lower case, `-` between words.
fn slug(name: &str) -> String {
    let mut id = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            id.push(c.to_ascii_lowercase());
        } else if !id.ends_with('-') && !id.is_empty() {
            id.push('-');
        }
        if id.len() >= 78 {
            break;
        }
    }
    let id = id.trim_end_matches('-');
    if id.is_empty() { "rule".to_owned() } else { id.to_owned() }
}

/// A constant of CEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
