//! HTTP(S) POST, one alert a request.

use std::time::{Duration, SystemTime};

use ring::hmac;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{Deliver, DeliverError, SinkError, tls};
use crate::alert::{Activity, Alert, hex};
use crate::export::config::{Format, WebhookConfig};
use crate::export::encode::{Colour, encode};

/// Longest wait that a receiver can ask for: one that says "come back tomorrow" is asked sooner.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(15);
/// Bytes of a reply that are read to tell a person why an alert was refused.
pub const REPLY_BYTES_MAX: u64 = 512;

/// The header with the signature of the body.
const SIGNATURE_HEADER: &str = "Gpuwarden-Signature";

pub(super) struct WebhookSink {
    config: WebhookConfig,
    agent: Agent,
    key: Option<hmac::Key>,
}

impl WebhookSink {
    pub(super) fn new(sink: &str, config: &WebhookConfig) -> Result<Self, SinkError> {
        let roots = match &config.ca_file {
            None => RootCerts::WebPki,
            Some(path) => {
                let found = tls::certificates(sink, path)?;
                let found: Vec<_> =
                    found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
                RootCerts::new_with_certs(&found)
            }
        };
        let key = match &config.hmac_secret_file {
            None => None,
            Some(path) => {
                let secret = std::fs::read(path).map_err(|source| SinkError::Read {
                    sink: sink.to_owned(),
                    path: path.clone(),
                    source,
                })?;
                let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
                if secret.is_empty() {
                    return Err(SinkError::EmptySecret {
                        sink: sink.to_owned(),
                        path: path.clone(),
                    });
                }
                Some(hmac::Key::new(hmac::HMAC_SHA256, secret))
            }
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(config.timeout))
            .user_agent(concat!("gpuwarden/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build()
            .new_agent();
        Ok(Self { config: config.clone(), agent, key })
    }
}

impl Deliver for WebhookSink {
    fn deliver(&mut self, alert: &Alert) -> Result<(), DeliverError> {
        let body = encode(alert, self.config.format, Colour::Off);
        let mut request = self
            .agent
            .post(&self.config.url)
            .header("Content-Type", content_type(self.config.format))
            .header("Idempotency-Key", idempotency_key(alert));
        for (name, value) in &self.config.headers {
            request = request.header(name, value);
        }
        if let Some(key) = &self.key {
            let tag = hmac::sign(key, body.as_bytes());
            request = request.header(SIGNATURE_HEADER, format!("sha256={}", hex(tag.as_ref())));
        }
        let mut response =
            request.send(body.as_bytes()).map_err(|error| DeliverError::retry(&error))?;
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let after = after.and_then(|text| retry_after(text, SystemTime::now()));
        let reply = response.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_string();
        judge(status, after, &reply.unwrap_or_default())
    }
}

const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Human => "text/plain; charset=utf-8",
        Format::Json | Format::Ocsf => "application/json",
    }
}

/// The alert's id; an update has its count behind it, or a receiver that keeps the promise of the
/// header would throw it away.
fn idempotency_key(alert: &Alert) -> String {
    match alert.activity {
        Activity::New => alert.id.clone(),
        Activity::Update => format!("{}-{}", alert.id, alert.count),
    }
}

fn judge(status: u16, after: Option<Duration>, reply: &str) -> Result<(), DeliverError> {
    let reason = || {
        let reply = reply.trim();
        if reply.is_empty() {
            format!("status {status}")
        } else {
            format!("status {status}: {reply}")
        }
    };
    match status {
        200..=299 => Ok(()),
        408 | 429 | 500..=599 => Err(DeliverError::Retry { reason: reason(), after }),
        _ => Err(DeliverError::Refused { reason: reason() }),
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date. At most [`RETRY_AFTER_MAX`].
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_second()).ok()?);
    Some(at.duration_since(now).unwrap_or(Duration::ZERO).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{DeliverError, RETRY_AFTER_MAX, idempotency_key, judge, retry_after};
    use crate::alert::{Activity, Alert};
    use crate::export::encode::tests::sample;

    #[test]
    fn only_a_positive_reply_is_one() {
        for status in [200, 201, 202, 204] {
            assert_eq!(judge(status, None, ""), Ok(()));
        }
        for status in [408, 429, 500, 502, 503, 504] {
            let judged = judge(status, None, "");
            assert!(matches!(judged, Err(DeliverError::Retry { .. })), "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 410, 413, 422] {
            let judged = judge(status, None, "");
            assert!(matches!(judged, Err(DeliverError::Refused { .. })), "{status}");
        }
    }

    #[test]
    fn the_receivers_wish_to_wait_is_read_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 60);
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_mins(1)));
        assert_eq!(retry_after("99999999", now), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("soon", now), None);
        let later = now + Duration::from_hours(1);
        assert_eq!(retry_after(date, later), Some(Duration::ZERO));
    }

    #[test]
    fn an_update_is_not_taken_for_a_repetition() {
        let first = sample();
        let update = Alert { activity: Activity::Update, count: 9, ..sample() };
        assert_eq!(idempotency_key(&first), first.id);
        assert_eq!(idempotency_key(&update), format!("{}-9", first.id));
    }
}
