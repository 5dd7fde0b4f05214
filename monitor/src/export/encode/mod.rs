//! Alert → bytes. Pure.

mod human;
mod ocsf;
mod syslog;
mod text;

use crate::alert::Alert;
use crate::export::config::Format;

pub use human::human;
pub use ocsf::{OCSF_VERSION, ocsf};
pub use syslog::{SYSLOG_LINE_BYTES_MAX, SyslogHeader, octet_counted, syslog};

/// Whether a person's terminal shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Escape sequences are written.
    On,
    /// Plain text.
    Off,
}

/// The alert in the form asked for, line end included.
pub fn encode(alert: &Alert, format: Format, colour: Colour) -> String {
    let mut text = match format {
        Format::Human => return human(alert, colour),
        Format::Json => json(alert),
        Format::Ocsf => ocsf(alert).to_string(),
    };
    text.push('\n');
    text
}

/// The native form, one line of JSON without its end.
pub fn json(alert: &Alert) -> String {
    // Its parts are texts, numbers and lists of these, none of which can fail to be written; by
    // way of a value it would be the same in three times the time.
    serde_json::to_string(alert).unwrap_or_else(|_| serde_json::json!(alert).to_string())
}

#[cfg(test)]
pub(crate) mod tests;
