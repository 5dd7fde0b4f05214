//! From the raw form of a sink to its checked type.

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::key;
use super::node::{Node, Raw};
use super::section::{Issues, Key, Section};
use super::sink::{
    AlertFormat, FileSinkConfig, OutputFormat, SEVERITIES, SinkConfig, SinkKind, SyslogFacility,
    SyslogSinkConfig, SyslogTransport, WebhookSinkConfig,
};
use crate::model::Severity;

/// Time for one delivery where none is written, in milliseconds: a receiver that needs longer is
/// down.
const TIMEOUT_MS: u64 = 10_000;
/// Least and most time for one delivery, in milliseconds.
const TIMEOUT_MS_BOUNDS: (u64, u64) = (100, 300_000);

#[derive(Clone, Copy)]
enum Kind {
    Stdout,
    File,
    Syslog,
    Webhook,
}

impl Kind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("stdout", Self::Stdout),
        ("file", Self::File),
        ("syslog", Self::Syslog),
        ("webhook", Self::Webhook),
    ];

    const fn keys(self) -> &'static [Key] {
        match self {
            Self::Stdout => key::SINK_STDOUT,
            Self::File => key::SINK_FILE,
            Self::Syslog => key::SINK_SYSLOG,
            Self::Webhook => key::SINK_WEBHOOK,
        }
    }
}

/// Checks the sink at position `at`; `None` when a mistake leaves nothing to go on with.
pub(super) fn check(at: usize, node: &Node, issues: &mut Issues) -> Option<SinkConfig> {
    let name = format!("export.sinks[{at}]");
    // The keys depend on the type, so the type is looked at before the keys are checked.
    let every: &[&[Key]] =
        &[key::SINK, key::SINK_STDOUT, key::SINK_FILE, key::SINK_SYSLOG, key::SINK_WEBHOOK];
    let kind = match &node.raw {
        Raw::Map(entries) => entries
            .iter()
            .find(|entry| entry.key == "type")
            .and_then(|entry| match &entry.node.raw {
                Raw::Text(text) => Kind::WORDS.iter().find(|(word, _)| word == text),
                _ => None,
            })
            .map(|(_, kind)| *kind),
        _ => None,
    };
    let Some(kind) = kind else {
        let section = Section::open(&name, Some(node), every, issues);
        if section.get("type").is_none() {
            section.missing(key::SINK[0], issues);
        } else {
            section.word("type", Kind::WORDS, issues);
        }
        return None;
    };
    let section = Section::open(&name, Some(node), &[key::SINK, kind.keys()], issues);
    let checked = match kind {
        Kind::Stdout => {
            let format = section.word("format", OutputFormat::WORDS, issues).unwrap_or_default();
            Some(SinkKind::Stdout { format })
        }
        Kind::File => file(&section, issues),
        Kind::Syslog => syslog(&section, issues),
        Kind::Webhook => webhook(&section, issues),
    };
    let label = sink_name(&section, issues);
    let min_severity = section.word("min_severity", SEVERITIES, issues).unwrap_or(Severity::Info);
    let kind = checked?;
    let name = label.unwrap_or_else(|| kind.as_str().to_owned());
    Some(SinkConfig { name, min_severity, kind })
}

/// A name becomes part of a file name and of a metric label.
fn sink_name(section: &Section<'_>, issues: &mut Issues) -> Option<String> {
    /// Bytes of a sink's name: it becomes a file name in the spool.
    const NAME_BYTES_MAX: usize = 63;
    let text = section.text("name", issues)?;
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let plain = text.bytes().all(is_plain);
    if !plain || text.len() > NAME_BYTES_MAX {
        let expected = "expected lower-case letters, digits, `-` and `_`, at most 63";
        section.get("name").into_iter().for_each(|node| {
            section.refuse("name", node, expected, issues);
        });
        return None;
    }
    Some(text.to_owned())
}

fn alert_format(section: &Section<'_>, issues: &mut Issues) -> AlertFormat {
    section.word("format", AlertFormat::WORDS, issues).unwrap_or_default()
}

fn file(section: &Section<'_>, issues: &mut Issues) -> Option<SinkKind> {
    let format = alert_format(section, issues);
    let rotate_bytes = section.bytes("rotate_bytes", 64 << 20, (1 << 16, 1 << 40), issues);
    let keep = u32::try_from(section.count("keep", 5, (0, 1_000), issues)).unwrap_or(5);
    if section.get("path").is_none() {
        section.missing(key::SINK_FILE[0], issues);
    }
    let path = section.path("path", issues)?;
    Some(SinkKind::File(FileSinkConfig { path, format, rotate_bytes, keep }))
}

fn syslog(section: &Section<'_>, issues: &mut Issues) -> Option<SinkKind> {
    let transport = section.word("transport", SyslogTransport::WORDS, issues).unwrap_or_default();
    let ca_file = section.path("ca_file", issues);
    let server_name = section.text("server_name", issues).map(str::to_owned);
    let facility = section.word("facility", SyslogFacility::WORDS, issues).unwrap_or_default();
    let hostname = section.text("hostname", issues).map(str::to_owned);
    if transport != SyslogTransport::Tls {
        for name in ["ca_file", "server_name"] {
            if let Some(node) = section.get(name) {
                section.refuse(name, node, "it has a meaning only with transport: tls", issues);
            }
        }
    }
    let timeout_ms = section.count("timeout_ms", TIMEOUT_MS, TIMEOUT_MS_BOUNDS, issues);
    if section.get("address").is_none() {
        section.missing(key::SINK_SYSLOG[1], issues);
    }
    let text = section.text("address", issues)?;
    let Some((host, port)) = host_port(text, transport.default_port()) else {
        let node = section.get("address")?;
        section.refuse("address", node, "expected host:port, e.g. siem.example.com:6514", issues);
        return None;
    };
    Some(SinkKind::Syslog(SyslogSinkConfig {
        transport,
        host,
        port,
        ca_file,
        server_name,
        facility,
        hostname,
        timeout_ms,
    }))
}

/// `host:port`, `host`, `[v6]:port` or a bare IPv6 address.
fn host_port(text: &str, port: u16) -> Option<(String, u16)> {
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some((text.to_owned(), port));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) => (host, digits.parse().ok().filter(|port| *port != 0)?),
        None => (text, port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    let named = host.contains(':') == host.parse::<std::net::Ipv6Addr>().is_ok();
    (!host.is_empty() && named && host.bytes().all(plain)).then(|| (host.to_owned(), port))
}

fn webhook(section: &Section<'_>, issues: &mut Issues) -> Option<SinkKind> {
    let format = alert_format(section, issues);
    let timeout_ms = section.count("timeout_ms", TIMEOUT_MS, TIMEOUT_MS_BOUNDS, issues);
    let hmac_secret_file = section.path("hmac_secret_file", issues);
    let ca_file = section.path("ca_file", issues);
    let headers = headers(section, issues);
    if section.get("url").is_none() {
        section.missing(key::SINK_WEBHOOK[0], issues);
    }
    let url = section.text("url", issues)?;
    let node = section.get("url")?;
    let valid = url.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
    });
    if !valid {
        section.refuse("url", node, "expected http://host/… or https://host/…", issues);
        return None;
    }
    let url = url.to_owned();
    Some(SinkKind::Webhook(WebhookSinkConfig {
        url,
        format,
        headers,
        hmac_secret_file,
        timeout_ms,
        ca_file,
    }))
}

fn headers(section: &Section<'_>, issues: &mut Issues) -> Vec<(String, String)> {
    let Some(node) = section.get("headers") else { return Vec::new() };
    let Raw::Map(entries) = &node.raw else {
        section.refuse("headers", node, "expected a mapping of names to values", issues);
        return Vec::new();
    };
    let mut headers = Vec::with_capacity(entries.len());
    for entry in entries {
        let value = match &entry.node.raw {
            Raw::Text(text) => text.clone(),
            Raw::Int(number) => number.to_string(),
            Raw::Bool(truth) => truth.to_string(),
            Raw::Null | Raw::Float(_) | Raw::List(_) | Raw::Map(_) => String::new(),
        };
        let name_ok = HeaderName::try_from(entry.key.as_str()).is_ok();
        let value_ok = !value.is_empty() && HeaderValue::try_from(value.as_str()).is_ok();
        if name_ok && value_ok {
            headers.push((entry.key.clone(), value));
        } else {
            let expected = format!("`{}` is not an HTTP header with a value", entry.key);
            section.refuse("headers", &entry.node, &expected, issues);
        }
    }
    headers
}
