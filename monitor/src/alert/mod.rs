//! A finding after dedupe, redaction and the rate limit, ready to leave.
//!
//! | file | what it owns |
//! |---|---|
//! | here | [`Alert`], the one internal form that every encoder reads |
//! | `alerter` | finding → alert: dedupe, repeats, the rate limit that announces itself |
//! | `bucket` | the token bucket behind the rate limit |
//! | `redact` | secrets out of arguments and sentences: pure |

mod alerter;
mod bucket;
mod redact;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::model::{Evidence, Severity, WallNs, WorkloadEvidence};

pub use alerter::{
    ALERTS_BURST_MAX, ALERTS_PER_MINUTE_MAX, AlertConfig, AlertStats, Alerter,
    BURST_RESERVE_DIVISOR, DEDUPE_KEYS_MAX, PENDING_MAX, UPDATE_EVERY_NS,
};
pub use redact::{REDACTED, redact_args, redact_text};

/// Version of the alert's form: changes when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: &str = "1.0";
/// Hex digits of an alert id: 128 bits, so that ids never meet by chance.
pub const ALERT_ID_HEX: usize = 32;
/// Alerts of the monitor about itself have rule ids that start so.
pub const OWN_RULE_PREFIX: &str = "gpuwarden.";

/// What a receiver is told about something that a rule found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// [`SCHEMA_VERSION`] of the monitor that wrote it.
    pub schema_version: String,
    /// Stable id: two deliveries with one id speak of one incident.
    pub id: String,
    /// First word on the incident, or a later count of it.
    pub activity: Activity,
    /// The rule.
    pub rule: AlertRule,
    /// How much it matters.
    pub severity: Severity,
    /// Framework ids.
    pub tags: AlertTags,
    /// One sentence for a person, secrets redacted.
    pub summary: String,
    /// Time of the first event, RFC 3339, UTC, milliseconds.
    #[serde(with = "rfc3339")]
    pub first_seen: WallNs,
    /// Time of the last event, RFC 3339, UTC, milliseconds.
    #[serde(with = "rfc3339")]
    pub last_seen: WallNs,
    /// Findings merged into this alert so far.
    pub count: u64,
    /// The host.
    pub host: Host,
    /// The workload, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workload: Option<WorkloadEvidence>,
    /// What was seen, and how complete that is. Its `workload` is moved out to the alert.
    pub evidence: Evidence,
    /// What fires the rule without harm.
    pub false_positives: Vec<String>,
    /// What to do.
    pub runbook: String,
    /// Values of the rule's dedupe key.
    pub dedupe_key: Vec<String>,
}

/// Where in the life of an incident a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// The first message of this id.
    New,
    /// A later message of the same id: a new count and a new last time. The last one comes when
    /// the dedupe time is over.
    Update,
}

impl Activity {
    /// The word used in alerts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Update => "update",
        }
    }
}

/// The rule behind an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRule {
    /// Id, as written in its file.
    pub id: String,
    /// Version: a hash over the rule's text.
    pub version: String,
    /// One line for people.
    pub title: String,
}

/// Framework ids, with the version they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTags {
    /// MITRE ATT&CK techniques.
    pub attack: Vec<String>,
    /// MITRE ATLAS techniques.
    pub atlas: Vec<String>,
    /// Version of ATT&CK.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attack_version: Option<String>,
    /// Version of ATLAS.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub atlas_version: Option<String>,
}

/// The host that an alert comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// `/proc/sys/kernel/random/boot_id`: boot times are comparable within one boot only.
    pub boot_id: String,
}

impl Host {
    /// Reads name and boot id of this host; what cannot be read is `unknown`.
    pub fn read() -> Self {
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        Self {
            name: read("/proc/sys/kernel/hostname"),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
        }
    }
}

/// What the id of an alert is made of.
pub(crate) struct IdParts<'a> {
    pub(crate) host: &'a Host,
    pub(crate) rule_id: &'a str,
    pub(crate) dedupe_key: &'a [String],
    pub(crate) first_boot_ns: u64,
}

impl IdParts<'_> {
    /// The first 128 bits of a SHA-256 over the parts, each with its length before it, so that
    /// no two different lists of parts give the same bytes.
    pub(crate) fn id(&self) -> String {
        let mut hash = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(self.host.name.as_bytes());
        part(self.host.boot_id.as_bytes());
        part(self.rule_id.as_bytes());
        part(&self.first_boot_ns.to_be_bytes());
        for value in self.dedupe_key {
            part(value.as_bytes());
        }
        hex(&hash.finish().as_ref()[..ALERT_ID_HEX / 2])
    }
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Wall time as text with milliseconds; reading it back gives the same milliseconds.
mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::model::WallNs;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
    pub(super) fn serialize<S: Serializer>(
        time: &WallNs,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<WallNs, D::Error> {
        let text = String::deserialize(deserializer)?;
        let stamp: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        u64::try_from(stamp.as_nanosecond()).map(WallNs).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, IdParts};

    fn id(rule_id: &str, key: &[&str], first_boot_ns: u64) -> String {
        let host = Host { name: "node-1".into(), boot_id: "b".into() };
        let dedupe_key: Vec<String> = key.iter().map(|text| (*text).to_owned()).collect();
        IdParts { host: &host, rule_id, dedupe_key: &dedupe_key, first_boot_ns }.id()
    }

    #[test]
    fn the_id_is_a_function_of_its_parts() {
        assert_eq!(id("r", &["a", "b"], 7), id("r", &["a", "b"], 7));
        assert_eq!(id("r", &["a", "b"], 7).len(), super::ALERT_ID_HEX);
    }

    #[test]
    fn parts_that_join_to_the_same_text_give_different_ids() {
        assert_ne!(id("r", &["ab", "c"], 7), id("r", &["a", "bc"], 7));
        assert_ne!(id("ra", &["b"], 7), id("r", &["ab"], 7));
        assert_ne!(id("r", &["a"], 7), id("r", &["a"], 8));
        assert_ne!(id("r", &["a", ""], 7), id("r", &["a"], 7));
    }
}
