//! RFC 5424: a header, structured data with what a receiver sorts by, and the sentence.

use std::fmt::Write as _;

use super::text::{cut, visible};
use crate::alert::Alert;
use crate::model::Severity;

/// Longest line in bytes: what RFC 5425 says a receiver should take, and rsyslog's default.
pub const SYSLOG_LINE_BYTES_MAX: usize = 8192;
/// Longest value of one parameter in bytes, so that the parameters together stay well inside
/// the line.
const VALUE_BYTES_MAX: usize = 256;
/// RFC 5424, 6: bounds of HOSTNAME and MSGID in characters.
const HOSTNAME_CHARS_MAX: usize = 255;
const MSGID_CHARS_MAX: usize = 32;
/// Name of the structured data; 32473 is the number set aside for examples (RFC 5612), which is
/// what a product without a number of its own can use.
const SD_ID: &str = "gpuwarden@32473";

/// What of the header does not come from the alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogHeader {
    /// Facility code, 0 to 23.
    pub facility: u8,
    /// Host name; the alert's host without it.
    pub hostname: Option<String>,
    /// Process id of the daemon.
    pub pid: u32,
}

/// The alert as one line without its end, at most [`SYSLOG_LINE_BYTES_MAX`] bytes.
pub fn syslog(alert: &Alert, header: &SyslogHeader) -> String {
    let priority = u32::from(header.facility) * 8 + severity(alert.severity);
    let host = header.hostname.as_deref().unwrap_or(&alert.host.name);
    let mut line = format!(
        "<{priority}>1 {} {} gpuwarden {} {} [{SD_ID}",
        alert.last_seen.to_rfc3339(),
        word(host, HOSTNAME_CHARS_MAX),
        header.pid,
        word(&alert.rule.id, MSGID_CHARS_MAX),
    );
    for (name, value) in params(alert) {
        let _ = write!(line, " {name}=\"{}\"", escape(&value));
    }
    // The byte order mark says that the message is UTF-8 (RFC 5424, 6.4).
    let _ = write!(line, "] \u{feff}{}", visible(&alert.summary));
    cut(&line, SYSLOG_LINE_BYTES_MAX).to_owned()
}

/// The line as a frame of a stream: its length in bytes, a space, the line (RFC 6587, 3.4.1).
pub fn octet_counted(line: &str) -> Vec<u8> {
    let mut frame = format!("{} ", line.len()).into_bytes();
    frame.extend_from_slice(line.as_bytes());
    frame
}

const fn severity(severity: Severity) -> u32 {
    match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}

fn params(alert: &Alert) -> Vec<(&'static str, String)> {
    let mut params = vec![
        ("id", alert.id.clone()),
        ("activity", alert.activity.as_str().to_owned()),
        ("rule", alert.rule.id.clone()),
        ("rule_version", alert.rule.version.clone()),
        ("severity", alert.severity.as_str().to_owned()),
        ("count", alert.count.to_string()),
        ("first_seen", alert.first_seen.to_rfc3339()),
        ("attack", alert.tags.attack.join(",")),
        ("atlas", alert.tags.atlas.join(",")),
    ];
    if let Some(workload) = &alert.workload {
        params.push(("workload", workload.id.clone()));
        params.push(("workload_name", workload.name.clone()));
        params.push(("namespace", workload.namespace.clone().unwrap_or_default()));
        params.push(("pod", workload.pod.clone().unwrap_or_default()));
        params.push(("slurm_job", workload.slurm_job.clone().unwrap_or_default()));
    }
    if let Some(process) = alert.evidence.processes.first() {
        params.push(("pid", process.pid.to_string()));
        params.push(("uid", process.uid.to_string()));
        params.push(("exe", process.exe.clone()));
        params.push(("cmdline", super::text::command(&process.args)));
    }
    if let Some(file) = alert.evidence.files.first() {
        params.push(("file", file.path.clone()));
    }
    if let Some(flow) = alert.evidence.flows.first() {
        params.push(("dst_ip", flow.remote_ip.clone()));
        params.push(("dst_port", flow.remote_port.to_string()));
        params.push(("dst_name", flow.remote_name.clone().unwrap_or_default()));
        params.push(("bytes_out", flow.bytes_out.to_string()));
    }
    params.push(("complete", alert.evidence.completeness.complete.to_string()));
    params.retain(|(_, value)| !value.is_empty());
    params
}

/// A header word: printable ASCII without spaces, never empty.
fn word(text: &str, chars_max: usize) -> String {
    let word: String =
        text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(chars_max).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// RFC 5424, 6.3.3: `"`, `\` and `]` take a backslash; control characters are written out. At most
/// [`VALUE_BYTES_MAX`] bytes, so that the end of the structured data is always inside the line.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in visible(value).chars() {
        let is_special = matches!(c, '"' | '\\' | ']');
        if out.len() + c.len_utf8() + usize::from(is_special) > VALUE_BYTES_MAX {
            break;
        }
        if is_special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{SYSLOG_LINE_BYTES_MAX, SyslogHeader, octet_counted, syslog};
    use crate::export::encode::tests::sample;

    fn header() -> SyslogHeader {
        SyslogHeader { facility: 13, hostname: None, pid: 42 }
    }

    #[test]
    fn the_line_reads_as_rfc_5424() {
        insta::assert_snapshot!(syslog(&sample(), &header()));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_line(
            text in any::<String>(), path in "\\PC{0,400}|[\\x00-\\x7f]{0,400}",
        ) {
            let mut alert = sample();
            alert.summary = text.repeat(50);
            alert.evidence.files[0].path = path.clone();
            alert.host.name = path;
            let line = syslog(&alert, &header());
            prop_assert!(line.len() <= SYSLOG_LINE_BYTES_MAX);
            prop_assert!(!line.chars().any(char::is_control));
            let has_end = line.contains("\"] \u{feff}");
            prop_assert!(has_end);
            let words: Vec<&str> = line.splitn(8, ' ').collect();
            prop_assert_eq!(words[6], "[gpuwarden@32473");
        }
    }

    #[test]
    fn values_are_escaped() {
        let mut alert = sample();
        alert.evidence.files[0].path = r#"/a"b]c\d"#.into();
        assert!(syslog(&alert, &header()).contains(r#"file="/a\"b\]c\\d""#));
    }

    #[test]
    fn frames_count_bytes_and_not_characters() {
        assert_eq!(octet_counted("é"), "2 é".as_bytes());
    }
}
