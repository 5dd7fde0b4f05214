//! Sinks: one file each. Local ones write lines, remote ones hand over one alert at a time and say
//! what became of it.

mod file;
mod stdout;
mod syslog;
mod tls;
mod webhook;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::alert::Alert;
use crate::export::config::{SinkConfig, SinkTarget};

pub use syslog::SETTLE;
pub use webhook::{REPLY_BYTES_MAX, RETRY_AFTER_MAX};

use file::FileSink;
use stdout::StdoutSink;
use syslog::SyslogSink;
use webhook::WebhookSink;

/// Why a sink cannot be set up.
#[derive(Debug, Error)]
pub enum SinkError {
    /// A file that the sink needs cannot be read.
    #[error(
        "sink `{sink}`: cannot read `{}`; it must be a file the daemon may read",
        path.display()
    )]
    Read {
        /// The sink.
        sink: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of certificates holds none that can be used.
    #[error("sink `{sink}`: `{}` holds no usable certificate in PEM: {reason}", path.display())]
    Certificate {
        /// The sink.
        sink: String,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A name that no certificate can carry.
    #[error("sink `{sink}`: `{name}` is not a host name or IP address; set `server_name`")]
    ServerName {
        /// The sink.
        sink: String,
        /// The name.
        name: String,
    },
    /// The file of the signature's secret is empty.
    #[error(
        "sink `{sink}`: `{}` is empty; it must hold the secret of the signature",
        path.display()
    )]
    EmptySecret {
        /// The sink.
        sink: String,
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("sink `{sink}`: cannot set up TLS")]
    Tls {
        /// The sink.
        sink: String,
        /// Why.
        source: rustls::Error,
    },
}

/// A sink on this host: takes a line, or fails and is asked again with the same alert.
pub(super) trait Write: Send {
    fn write(&mut self, alert: &Alert) -> io::Result<()>;
}

/// Why an alert was not delivered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeliverError {
    /// Try again, after this time where the receiver named one.
    Retry { reason: String, after: Option<Duration> },
    /// This alert will never be taken: put it aside and go on.
    Refused { reason: String },
}

impl DeliverError {
    pub(super) fn retry(reason: &impl ToString) -> Self {
        Self::Retry { reason: reason.to_string(), after: None }
    }
}

/// A sink across a network.
pub(super) trait Deliver: Send {
    /// Hands one alert over.
    fn deliver(&mut self, alert: &Alert) -> Result<(), DeliverError>;

    /// Time after which something handed over without an answer may be believed to have arrived,
    /// if [`Deliver::check`] finds the connection sound; zero where `deliver` had a positive
    /// reply, or where no certainty can ever be had.
    fn settle(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the connection is sound: the receiver has neither closed nor reset it.
    fn check(&mut self) -> Result<(), DeliverError> {
        Ok(())
    }

    /// Ends the connection and waits until the receiver has read all of it, at most to `deadline`.
    fn close(&mut self, deadline: Instant) -> Result<(), DeliverError> {
        let _ = deadline;
        Ok(())
    }
}

/// A sink, ready to run.
pub(super) enum Sink {
    Local(Box<dyn Write>),
    Remote(Box<dyn Deliver>),
}

impl Sink {
    /// Sets a sink up; touches files, but no network.
    pub(super) fn build(config: &SinkConfig) -> Result<Self, SinkError> {
        Ok(match &config.target {
            SinkTarget::Stdout { format } => Self::Local(Box::new(StdoutSink::new(*format))),
            SinkTarget::File { path, format, rotate_bytes, keep } => {
                let file = FileSink::new(path.clone(), *format, *rotate_bytes, *keep);
                Self::Local(Box::new(file))
            }
            SinkTarget::Syslog(target) => {
                Self::Remote(Box::new(SyslogSink::new(&config.name, target)?))
            }
            SinkTarget::Webhook(target) => {
                Self::Remote(Box::new(WebhookSink::new(&config.name, target)?))
            }
        })
    }
}
