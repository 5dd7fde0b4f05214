//! Checked settings of the exporter. `config` makes them from the file; nothing here is checked
//! again later.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::alert::Host;
use crate::export::spool::SpoolConfig;
use crate::model::Severity;

/// Default time for one delivery, connection included. A receiver that needs longer is down.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Default first pause after a failed delivery.
pub const RETRY_FIRST: Duration = Duration::from_millis(500);
/// Default longest pause between deliveries: a receiver that is back is used within a minute.
pub const RETRY_MAX: Duration = Duration::from_mins(1);
/// Default size in bytes at which an alert file is rotated.
pub const ROTATE_BYTES: u64 = 64 * 1024 * 1024;
/// Default number of rotated alert files that are kept.
pub const ROTATE_KEEP: u32 = 5;

/// Everything the exporter needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportConfig {
    /// The sinks; names are unique, of `a-z0-9_-`, at most 63 characters.
    pub sinks: Vec<SinkConfig>,
    /// The disk queue; opened only where a sink is remote.
    pub spool: SpoolConfig,
    /// Pauses after a failed delivery.
    pub retry: RetryConfig,
    /// The host, for alerts of the exporter about itself.
    pub host: Host,
}

/// Pauses after a failed delivery: they double from the first to the longest, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { first: RETRY_FIRST, max: RETRY_MAX }
    }
}

/// One place that alerts go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// Its name: in metrics, in health, and of its cursor file.
    pub name: String,
    /// Alerts below this are not sent.
    pub min_severity: Severity,
    /// Where to.
    pub target: SinkTarget,
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkTarget {
    /// Standard output.
    Stdout {
        /// The form of a line.
        format: Format,
    },
    /// A file, mode 0600, rotated.
    File {
        /// Its path; rotated files are `path.1` (newest) to `path.<keep>`.
        path: PathBuf,
        /// The form of a line.
        format: Format,
        /// Size in bytes at which it is rotated.
        rotate_bytes: u64,
        /// Rotated files that are kept.
        keep: u32,
    },
    /// A syslog receiver, RFC 5424.
    Syslog(SyslogConfig),
    /// An HTTP(S) receiver.
    Webhook(WebhookConfig),
}

impl SinkTarget {
    /// The word for its kind, in metrics and health.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Stdout { .. } => "stdout",
            Self::File { .. } => "file",
            Self::Syslog(_) => "syslog",
            Self::Webhook(_) => "webhook",
        }
    }

    /// Whether alerts for it go through the disk queue.
    pub const fn is_remote(&self) -> bool {
        match self {
            Self::Stdout { .. } | Self::File { .. } => false,
            Self::Syslog(_) | Self::Webhook(_) => true,
        }
    }
}

/// The form of an alert on a line or in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for a person at a terminal.
    Human,
    /// The native form, one JSON object a line.
    Json,
    /// An OCSF 1.8.0 Detection Finding, one JSON object a line.
    Ocsf,
}

/// How syslog lines travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogTransport {
    /// One datagram a line (RFC 5426): nobody ever knows whether it arrived.
    Udp,
    /// Octet counting over TCP (RFC 6587).
    Tcp,
    /// Octet counting over TLS (RFC 5425).
    Tls,
}

/// A syslog receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogConfig {
    /// How lines travel.
    pub transport: SyslogTransport,
    /// `host:port`.
    pub address: String,
    /// Certificates in PEM that the receiver's is checked against; the public ones without it.
    pub ca_file: Option<PathBuf>,
    /// Name that the receiver's certificate must carry; the host of `address` without it.
    pub server_name: Option<String>,
    /// Facility code, 0 to 23.
    pub facility: u8,
    /// Host name in the line; the alert's host without it.
    pub hostname: Option<String>,
    /// Time for one connection attempt or write.
    pub timeout: Duration,
}

/// An HTTP(S) receiver.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// `http://…` or `https://…`.
    pub url: String,
    /// The form of the body; [`Format::Human`] is sent as text.
    pub format: Format,
    /// Headers to add, e.g. `Authorization`.
    pub headers: BTreeMap<String, String>,
    /// File with the secret of the signature; read once at start, one line end at its end is cut.
    pub hmac_secret_file: Option<PathBuf>,
    /// Time for one delivery, connection included.
    pub timeout: Duration,
    /// Certificates in PEM that the receiver's is checked against; the public ones without it.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for WebhookConfig {
    /// Without URL and header values, which hold secrets more often than not.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("format", &self.format)
            .field("headers", &self.headers.keys())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
