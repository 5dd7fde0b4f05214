//! Where alerts go: one checked type per kind of sink.

use std::fmt;
use std::path::PathBuf;

use super::types::{Words, word};
use crate::model::Severity;

/// One sink.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// Unique name: metrics, logs and the spool's cursor are kept under it.
    pub name: String,
    /// Alerts below this are not sent here.
    pub min_severity: Severity,
    /// What kind of sink it is.
    pub kind: SinkKind,
}

impl SinkConfig {
    /// What runs without configuration: every alert, for people, on standard output.
    pub fn stdout() -> Self {
        Self {
            name: "stdout".into(),
            min_severity: Severity::Info,
            kind: SinkKind::Stdout { format: OutputFormat::Human },
        }
    }
}

/// What kind of sink it is.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// Standard output.
    Stdout {
        /// How alerts look.
        format: OutputFormat,
    },
    /// A file, one alert a line, rotated.
    File(FileSinkConfig),
    /// A syslog receiver (RFC 5424).
    Syslog(SyslogSinkConfig),
    /// An HTTP endpoint.
    Webhook(WebhookSinkConfig),
}

impl SinkKind {
    /// The word in the file and in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stdout { .. } => "stdout",
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Webhook(_) => "webhook",
        }
    }
}

/// A rotated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSinkConfig {
    /// The file; older ones get a number.
    pub path: PathBuf,
    /// How alerts look.
    pub format: AlertFormat,
    /// Length at which it is rotated, in bytes.
    pub rotate_bytes: u64,
    /// Rotated files that are kept.
    pub keep: u32,
}

/// A syslog receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogSinkConfig {
    /// How it is reached.
    pub transport: SyslogTransport,
    /// Host name or address of the receiver, without brackets.
    pub host: String,
    /// Port of the receiver.
    pub port: u16,
    /// Certificates that are trusted (PEM); the public ones where not given.
    pub ca_file: Option<PathBuf>,
    /// Name the receiver's certificate must carry; the host where not given.
    pub server_name: Option<String>,
    /// Facility of the messages.
    pub facility: SyslogFacility,
    /// Host name in the messages; this host's own where not given.
    pub hostname: Option<String>,
    /// How long one connection or message may take, in milliseconds.
    pub timeout_ms: u64,
}

/// An HTTP endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSinkConfig {
    /// Where alerts are posted; http or https.
    pub url: String,
    /// How alerts look.
    pub format: AlertFormat,
    /// Further headers, in the order of the file.
    pub headers: Vec<(String, String)>,
    /// File with the key that signs each body (HMAC-SHA256).
    pub hmac_secret_file: Option<PathBuf>,
    /// How long one post may take, in milliseconds.
    pub timeout_ms: u64,
    /// Certificates that are trusted (PEM); the public ones where not given.
    pub ca_file: Option<PathBuf>,
}

impl SyslogSinkConfig {
    /// `host:port`, with an IPv6 address in brackets.
    pub fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Debug for WebhookSinkConfig {
    /// Without URL and header values, which hold secrets more often than not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("WebhookSinkConfig")
            .field("format", &self.format)
            .field("headers", &names)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// How alerts look on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Human,
    /// Native JSON, one object a line.
    Json,
    /// OCSF Detection Finding, one object a line.
    Ocsf,
}

/// How alerts look to machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlertFormat {
    /// Native JSON.
    #[default]
    Json,
    /// OCSF Detection Finding.
    Ocsf,
}

/// How a syslog receiver is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyslogTransport {
    /// Octet-counted frames (RFC 6587).
    #[default]
    Tcp,
    /// The same inside TLS (RFC 5425).
    Tls,
    /// One datagram a message (RFC 5426); a lost one is not noticed.
    Udp,
}

/// Facility number of RFC 5424, table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyslogFacility(pub u8);

impl Default for SyslogFacility {
    /// `local0`.
    fn default() -> Self {
        Self(16)
    }
}

impl OutputFormat {
    pub(super) const WORDS: Words<Self> =
        &[("human", Self::Human), ("json", Self::Json), ("ocsf", Self::Ocsf)];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, self)
    }
}

impl AlertFormat {
    pub(super) const WORDS: Words<Self> = &[("json", Self::Json), ("ocsf", Self::Ocsf)];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, self)
    }
}

impl SyslogTransport {
    pub(super) const WORDS: Words<Self> =
        &[("tcp", Self::Tcp), ("tls", Self::Tls), ("udp", Self::Udp)];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, self)
    }

    /// The port where none is written (RFC 5425, RFC 6587).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Tls => 6514,
            Self::Tcp | Self::Udp => 514,
        }
    }
}

impl SyslogFacility {
    pub(super) const WORDS: Words<Self> = &[
        ("kern", Self(0)),
        ("user", Self(1)),
        ("mail", Self(2)),
        ("daemon", Self(3)),
        ("auth", Self(4)),
        ("syslog", Self(5)),
        ("lpr", Self(6)),
        ("news", Self(7)),
        ("uucp", Self(8)),
        ("cron", Self(9)),
        ("authpriv", Self(10)),
        ("ftp", Self(11)),
        ("ntp", Self(12)),
        ("audit", Self(13)),
        ("alert", Self(14)),
        ("clock", Self(15)),
        ("local0", Self(16)),
        ("local1", Self(17)),
        ("local2", Self(18)),
        ("local3", Self(19)),
        ("local4", Self(20)),
        ("local5", Self(21)),
        ("local6", Self(22)),
        ("local7", Self(23)),
    ];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, self)
    }
}

/// Words for severities.
pub(super) const SEVERITIES: Words<Severity> = &[
    ("info", Severity::Info),
    ("low", Severity::Low),
    ("medium", Severity::Medium),
    ("high", Severity::High),
    ("critical", Severity::Critical),
];
