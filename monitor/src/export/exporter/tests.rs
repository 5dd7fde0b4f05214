use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::alert::Host;
use crate::export::config::*;
use crate::export::encode::tests::sample;
use crate::export::spool::SpoolConfig;

fn config(dir: &Path, sinks: Vec<(&str, SinkTarget)>) -> ExportConfig {
    let sinks = sinks.into_iter().map(|(name, target)| SinkConfig {
        name: name.into(),
        min_severity: Severity::Low,
        target,
    });
    ExportConfig {
        sinks: sinks.collect(),
        spool: SpoolConfig::in_dir(dir.join("spool")),
        retry: RetryConfig { first: Duration::from_millis(5), max: Duration::from_millis(40) },
        host: Host { name: "node-1".into(), boot_id: "b".into() },
    }
}

fn file(dir: &Path) -> SinkTarget {
    let path = dir.join("alerts.jsonl");
    SinkTarget::File { path, format: Format::Json, rotate_bytes: 1 << 30, keep: 1 }
}

fn webhook(port: u16) -> SinkTarget {
    SinkTarget::Webhook(WebhookConfig {
        url: format!("http://127.0.0.1:{port}/alerts"),
        format: Format::Json,
        headers: [("X-Team".to_owned(), "ml".to_owned())].into(),
        hmac_secret_file: None,
        timeout: Duration::from_secs(2),
        ca_file: None,
    })
}

fn syslog(transport: SyslogTransport, port: u16) -> SinkTarget {
    SinkTarget::Syslog(SyslogConfig {
        transport,
        address: format!("127.0.0.1:{port}"),
        ca_file: None,
        server_name: None,
        facility: 13,
        hostname: None,
        timeout: Duration::from_secs(2),
    })
}

fn numbered(n: u64) -> Alert {
    Alert { id: format!("{n:032x}"), ..sample() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// The next connection, in bounded time.
fn accept(listener: &TcpListener) -> std::net::TcpStream {
    listener.set_nonblocking(true).unwrap();
    let end = soon();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return stream;
        }
        assert!(Instant::now() < end, "nobody connects");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Answers every request with what `answer` says; gives the requests.
fn http_server(
    answer: impl Fn(u64) -> String + Send + 'static,
) -> (u16, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut chunk = [0; 4096];
            let (head, body) = loop {
                let count = stream.read(&mut chunk).unwrap();
                if count == 0 {
                    return;
                }
                bytes.extend_from_slice(&chunk[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>())
                });
                if body.len() >= length.unwrap().unwrap() {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let text = answer(number as u64);
            if sender.send((head, body)).is_err() {
                return;
            }
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
    (port, receiver)
}

fn reply(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

#[test]
fn every_sink_gets_every_alert() {
    let dir = tempfile::tempdir().unwrap();
    let (port, requests) = http_server(|_| reply("204 No Content"));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sinks = vec![
        ("file", file(dir.path())),
        ("hook", webhook(port)),
        ("udp", syslog(SyslogTransport::Udp, udp.local_addr().unwrap().port())),
    ];
    let exporter = Exporter::start(&config(dir.path(), sinks)).unwrap();
    for n in 0..5 {
        assert!(matches!(exporter.submit(numbered(n), None), Submitted::Accepted(_)));
    }
    assert!(exporter.flush(soon()));
    assert_eq!(exporter.persisted(), 5);
    let health = exporter.health();
    for sink in &health.sinks {
        assert_eq!((sink.sent, sink.pending, sink.is_up), (5, 0, true), "{sink:?}");
    }
    assert!(exporter.stop(soon()));
    let (head, body) = requests.recv().unwrap();
    let head = head.to_lowercase();
    assert!(head.contains("x-team: ml"), "{head}");
    assert!(head.contains(&format!("idempotency-key: {:032x}", 0)), "{head}");
    assert_eq!(serde_json::from_str::<Alert>(&body).unwrap(), numbered(0));
    let mut datagram = [0; 9000];
    let count = udp.recv(&mut datagram).unwrap();
    assert!(datagram[..count].starts_with(b"<106>1 "));
}

#[test]
fn a_dead_sink_holds_nobody_up_and_keeps_its_alerts() {
    let dir = tempfile::tempdir().unwrap();
    let (port, requests) = http_server(|_| reply("200 OK"));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sinks =
        vec![("dead", webhook(closed)), ("hook", webhook(port)), ("file", file(dir.path()))];
    let exporter = Exporter::start(&config(dir.path(), sinks.clone())).unwrap();
    let start = Instant::now();
    for n in 0..20 {
        exporter.submit(numbered(n), None);
    }
    assert!(start.elapsed() < Duration::from_secs(1));
    let end = soon();
    while exporter.health().sinks[1..].iter().any(|sink| sink.sent < 20) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!exporter.flush(Instant::now() + Duration::from_millis(100)));
    let health = exporter.health();
    assert!(!health.sinks[0].is_up && health.sinks[0].failed > 0);
    assert!(health.sinks[0].last_error.is_some());
    assert_eq!((health.sinks[0].pending, health.sinks[1].sent, health.sinks[2].sent), (20, 20, 20));
    assert!(!exporter.stop(Instant::now() + Duration::from_millis(300)));
    drop(requests);
    // The receiver comes back, and so does the daemon.
    let (port, requests) = http_server(|_| reply("200 OK"));
    let exporter = Exporter::start(&config(dir.path(), vec![("dead", webhook(port))])).unwrap();
    assert!(exporter.flush(soon()));
    let ids: Vec<String> = requests
        .try_iter()
        .map(|(_, body)| serde_json::from_str::<Alert>(&body).unwrap().id)
        .collect();
    assert_eq!(ids, (0..20).map(|n| numbered(n).id).collect::<Vec<_>>());
}

#[test]
fn a_refused_alert_is_put_aside_and_the_next_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (port, requests) =
        http_server(|n| reply(if n == 0 { "422 Unprocessable" } else { "200 OK" }));
    let sinks = vec![("hook", webhook(port))];
    let exporter = Exporter::start(&config(dir.path(), sinks)).unwrap();
    exporter.submit(numbered(1), None);
    exporter.submit(numbered(2), None);
    assert!(exporter.flush(soon()));
    let health = &exporter.health().sinks[0];
    assert_eq!((health.refused, health.sent), (1, 1));
    assert_eq!(requests.try_iter().count(), 2);
    let letters = std::fs::read_to_string(dir.path().join("spool/hook.dead.jsonl")).unwrap();
    assert!(letters.contains("status 422") && letters.contains(&numbered(1).id), "{letters}");
}

#[test]
fn the_receivers_retry_after_is_honoured() {
    let dir = tempfile::tempdir().unwrap();
    let (port, requests) = http_server(|n| {
        if n == 0 {
            "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                .into()
        } else {
            reply("200 OK")
        }
    });
    let exporter = Exporter::start(&config(dir.path(), vec![("hook", webhook(port))])).unwrap();
    let start = Instant::now();
    exporter.submit(numbered(1), None);
    assert!(exporter.flush(soon()));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(requests.try_iter().count(), 2);
}

#[test]
fn lines_on_a_stream_that_breaks_are_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sinks = vec![("log", syslog(SyslogTransport::Tcp, listener.local_addr().unwrap().port()))];
    let exporter = Exporter::start(&config(dir.path(), sinks)).unwrap();
    for n in 0..3 {
        exporter.submit(numbered(n), None);
    }
    // The first connection is taken and dies with everything in it.
    let stream = accept(&listener);
    std::thread::sleep(Duration::from_millis(100));
    drop(stream);
    let mut stream = accept(&listener);
    let mut text = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut chunk = [0; 4096];
    while (0..3).any(|n| !text.contains(&numbered(n).id)) {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0);
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    assert!(exporter.flush(soon()), "{:?}", exporter.health());
}

#[test]
fn a_clean_stop_needs_no_settling_time() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sinks = vec![("log", syslog(SyslogTransport::Tcp, port))];
    let exporter = Exporter::start(&config(dir.path(), sinks.clone())).unwrap();
    exporter.submit(numbered(1), None);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        accept(&listener).read_to_string(&mut text).unwrap();
        text
    });
    std::thread::sleep(Duration::from_millis(200));
    let is_done = exporter.stop(Instant::now() + Duration::from_millis(800));
    assert!(is_done, "sooner than the settling time");
    let text = reader.join().unwrap();
    assert!(text.contains(&numbered(1).id));
    let exporter = Exporter::start(&config(dir.path(), sinks)).unwrap();
    assert_eq!(exporter.health().sinks[0].pending, 0, "acknowledged by the receiver's close");
}

#[test]
fn a_sink_gets_only_what_matters_enough_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (port, requests) = http_server(|_| reply("200 OK"));
    let mut config = config(dir.path(), vec![("file", file(dir.path())), ("hook", webhook(port))]);
    config.sinks[1].min_severity = Severity::Critical;
    let exporter = Exporter::start(&config).unwrap();
    exporter.submit(Alert { severity: Severity::Medium, ..numbered(1) }, None);
    exporter.submit(Alert { severity: Severity::Critical, ..numbered(2) }, None);
    exporter.submit(Alert { severity: Severity::Info, ..numbered(3) }, None);
    assert!(exporter.flush(soon()));
    let health = exporter.health();
    assert_eq!((health.sinks[0].sent, health.sinks[0].filtered), (2, 1));
    assert_eq!((health.sinks[1].sent, health.sinks[1].filtered), (1, 2));
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn a_full_local_queue_drops_counts_and_announces() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = SinkTarget::File {
        path: dir.path().join("missing/alerts.jsonl"),
        format: Format::Json,
        rotate_bytes: 1,
        keep: 1,
    };
    let sinks = vec![("stuck", blocked), ("file", file(dir.path()))];
    let exporter = Exporter::start(&config(dir.path(), sinks)).unwrap();
    let mut dropped = 0;
    for n in 0..LOCAL_QUEUE_MAX as u64 + 100 {
        dropped += u64::from(exporter.submit(numbered(n), None) == Submitted::Dropped);
    }
    assert!(dropped > 0);
    let end = soon();
    let path = dir.path().join("alerts.jsonl");
    while !std::fs::read_to_string(&path).unwrap_or_default().contains("gpuwarden.export_loss") {
        assert!(Instant::now() < end, "no announcement");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(exporter.health().sinks[0].dropped_queue >= dropped);
}

#[test]
fn every_sink_that_cannot_be_set_up_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let SinkTarget::Webhook(hook) = webhook(1) else { unreachable!() };
    let bad_ca = WebhookConfig { ca_file: Some(dir.path().join("no-ca.pem")), ..hook.clone() };
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "\n").unwrap();
    let bad_secret = WebhookConfig { hmac_secret_file: Some(secret), ..hook };
    let sinks =
        vec![("one", SinkTarget::Webhook(bad_ca)), ("two", SinkTarget::Webhook(bad_secret))];
    let errors = Exporter::start(&config(dir.path(), sinks)).err().unwrap();
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 2);
    assert!(text[0].contains("`one`") && text[0].contains("no-ca.pem"), "{text:?}");
    assert!(text[1].contains("`two`") && text[1].contains("is empty"), "{text:?}");
}
