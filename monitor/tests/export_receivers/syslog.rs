//! Alerts to a real rsyslog over TLS, through its death and return.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{config, free_port, numbered, soon};
use monitor::export::Exporter;
use monitor::export::config::{SinkTarget, SyslogConfig, SyslogTransport};

/// A running rsyslogd, killed when dropped.
struct Rsyslog {
    process: Child,
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes a CA and a certificate for `localhost`; the PEM files lie in `dir`.
fn certificates(dir: &Path) {
    let write = |name: &str, text: String| {
        std::fs::write(dir.join(name), text).expect("the folder can be written");
    };
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("a CA");
    write("ca.pem", ca.pem());
    let issuer = rcgen::Issuer::new(params, key);
    let server_key = rcgen::KeyPair::generate().expect("a key");
    let server = rcgen::CertificateParams::new(vec!["localhost".into()])
        .expect("parameters")
        .signed_by(&server_key, &issuer)
        .expect("a certificate");
    write("server.pem", server.pem());
    write("server.key", server_key.serialize_pem());
}

fn rsyslog(dir: &Path, port: u16) -> Rsyslog {
    let at = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        r#"global(workDirectory="{dir}" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{cert}"
  defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="out" type="string"
  string="%pri%|%timereported:::date-rfc3339%|%hostname%|%app-name%|{rest}")
action(type="omfile" file="{out}" template="out")
"#,
        rest = r"%msgid%|%structured-data%|%msg%\n",
        dir = dir.display(),
        ca = at("ca.pem"),
        cert = at("server.pem"),
        key = at("server.key"),
        out = at("received"),
    );
    std::fs::write(dir.join("rsyslog.conf"), text).expect("the folder can be written");
    let process = Command::new("rsyslogd")
        .args(["-n", "-f", &at("rsyslog.conf"), "-i", &at("rsyslog.pid")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect(
            "rsyslogd is missing: `cargo xtask setup` installs it (Debian: rsyslog rsyslog-gnutls)",
        );
    let rsyslog = Rsyslog { process };
    let end = soon();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "rsyslogd does not listen; is rsyslog-gnutls installed?");
        std::thread::sleep(Duration::from_millis(20));
    }
    rsyslog
}

fn syslog(port: u16, ca_file: Option<PathBuf>) -> SinkTarget {
    SinkTarget::Syslog(SyslogConfig {
        transport: SyslogTransport::Tls,
        address: format!("localhost:{port}"),
        ca_file,
        server_name: None,
        facility: 13,
        hostname: None,
        timeout: Duration::from_secs(5),
    })
}

fn received(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("received")).unwrap_or_default()
}

fn wait_for(dir: &Path, n: u64) {
    let end = soon();
    while !received(dir).contains(&numbered(n).id) {
        assert!(Instant::now() < end, "alert {n} did not arrive:\n{}", received(dir));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rsyslog_gets_every_alert_over_tls_through_its_death() {
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path());
    let port = free_port();
    let first = rsyslog(dir.path(), port);
    let ca = Some(dir.path().join("ca.pem"));
    let exporter =
        Exporter::start(&config(dir.path(), "siem", syslog(port, ca))).expect("it starts");
    for n in 0..10 {
        exporter.submit(numbered(n), None);
    }
    wait_for(dir.path(), 9);
    drop(first);
    for n in 10..20 {
        exporter.submit(numbered(n), None);
    }
    std::thread::sleep(Duration::from_millis(300));
    let _second = rsyslog(dir.path(), port);
    assert!(exporter.flush(soon()), "{:?}", exporter.health());
    (0..20).for_each(|n| wait_for(dir.path(), n));
    let text = received(dir.path());
    let line = text.lines().find(|line| line.contains(&numbered(0).id)).expect("the first alert");
    let parts: Vec<&str> = line.splitn(7, '|').collect();
    assert_eq!(parts[0], "106", "facility 13, critical");
    assert_eq!(parts[1], "2026-11-22T09:30:00.250Z");
    assert_eq!(parts[2..5], ["gpu-node-7", "gpuwarden", "weights-bulk-egress"]);
    assert!(parts[5].starts_with("[gpuwarden@32473 id=\"") && parts[5].ends_with(']'), "{line}");
    assert!(parts[5].contains(r#"file="/models/llama-70b/model \"1\"\].safetensors""#), "{line}");
    assert!(parts[6].contains("trainer-0 sent 14.2 GiB to \"drop.example\" [x]"), "{line}");
}

#[test]
fn a_receiver_with_a_strange_certificate_gets_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path());
    let port = free_port();
    let _rsyslog = rsyslog(dir.path(), port);
    let other = tempfile::tempdir().expect("a folder");
    certificates(other.path());
    let ca = Some(other.path().join("ca.pem"));
    let exporter =
        Exporter::start(&config(dir.path(), "siem", syslog(port, ca))).expect("it starts");
    exporter.submit(numbered(1), None);
    assert!(!exporter.flush(Instant::now() + Duration::from_secs(1)));
    let sink = &exporter.health().sinks[0];
    let reason = sink.last_error.as_deref().unwrap_or_default();
    assert!(!sink.is_up && reason.contains("certificate"), "{reason}");
    assert_eq!((sink.pending, received(dir.path()).as_str()), (1, ""));
}
