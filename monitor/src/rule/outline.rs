//! What a rule's file says, kept as text for people: `rules explain` and `rules list`.

use serde::Serialize;

use super::file::RawRule;

/// What a rule asks the daemon to do besides telling somebody. Nothing is done unless the
/// daemon's configuration allows it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// Refuse the action where a hook can.
    Deny,
    /// Kill the process.
    Kill,
    /// Limit the workload's rate.
    Quota,
}

impl Response {
    /// The words used in rule files.
    pub const NAMES: [&'static str; 3] = ["deny", "kill", "quota"];

    /// The response named `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "deny" => Self::Deny,
            "kill" => Self::Kill,
            "quota" => Self::Quota,
            _ => return None,
        })
    }
}

/// The texts of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The condition on one event; empty for a temporal rule without one.
    pub when: String,
    /// The condition on the window.
    pub condition: Option<String>,
    /// The type of correlation.
    pub correlation: Option<String>,
    /// Fields of the key of a window.
    pub group_by: Vec<String>,
    /// Rules that a temporal correlation names.
    pub rules: Vec<String>,
    /// The message template.
    pub message: String,
    /// Names and conditions of the exceptions.
    pub exceptions: Vec<(String, String)>,
}

impl Outline {
    pub(crate) fn of(raw: &RawRule) -> Self {
        let text = |part: &Option<super::diagnostic::Located<String>>| {
            part.as_ref().map(|text| text.value.trim().to_owned())
        };
        let correlate = raw.correlate.as_ref();
        let texts = |all: &[super::diagnostic::Located<String>]| {
            all.iter().map(|text| text.value.clone()).collect()
        };
        Self {
            when: text(&raw.when).unwrap_or_default(),
            condition: correlate.and_then(|block| text(&block.condition)),
            correlation: correlate.and_then(|block| text(&block.kind)),
            group_by: correlate.map(|block| texts(&block.group_by)).unwrap_or_default(),
            rules: correlate.map(|block| texts(&block.rules)).unwrap_or_default(),
            message: text(&raw.message).unwrap_or_default(),
            exceptions: raw
                .exceptions
                .iter()
                .filter_map(|exception| Some((text(&exception.name)?, text(&exception.when)?)))
                .collect(),
        }
    }
}
