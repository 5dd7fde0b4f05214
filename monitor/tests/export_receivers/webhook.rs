//! A webhook that is down and comes up, and an exporter that is killed in the middle.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Seen, config, free_port, numbered, receive, soon};
use monitor::alert::Alert;
use monitor::export::config::{Format, SinkTarget, WebhookConfig};
use monitor::export::{Exporter, Submitted};

/// Variables by which a test tells its child what to do.
const PORT: &str = "GPUWARDEN_TEST_PORT";
const DIR: &str = "GPUWARDEN_TEST_DIR";
const FIRST: &str = "GPUWARDEN_TEST_FIRST";

fn webhook(port: u16) -> WebhookConfig {
    WebhookConfig {
        url: format!("http://127.0.0.1:{port}/"),
        format: Format::Json,
        headers: std::collections::BTreeMap::default(),
        hmac_secret_file: None,
        timeout: Duration::from_secs(5),
        ca_file: None,
    }
}

fn id(seen: &Seen) -> String {
    serde_json::from_str::<Alert>(&seen.body).expect("the body is an alert").id
}

#[test]
fn a_receiver_that_was_down_gets_everything_once_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let config = config(dir.path(), "hook", SinkTarget::Webhook(webhook(port)));
    let exporter = Exporter::start(&config).expect("it starts");
    for n in 0..50 {
        assert!(matches!(exporter.submit(numbered(n), None), Submitted::Accepted(_)));
    }
    assert!(!exporter.flush(Instant::now() + Duration::from_millis(500)), "nobody listens");
    assert!(exporter.health().sinks[0].failed > 0);
    let seen = receive(port);
    for n in 50..100 {
        exporter.submit(numbered(n), None);
    }
    assert!(exporter.flush(soon()), "{:?}", exporter.health());
    let ids: Vec<String> = seen.try_iter().map(|seen| id(&seen)).collect();
    assert_eq!(ids, (0..100).map(|n| numbered(n).id).collect::<Vec<_>>());
    let sink = &exporter.health().sinks[0];
    assert_eq!((sink.sent, sink.pending, sink.dropped_spool, sink.is_up), (100, 0, 0, true));
}

#[test]
fn the_signature_is_one_that_openssl_makes() {
    let dir = tempfile::tempdir().expect("a folder");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "s3cret\n").expect("it can be written");
    let port = free_port();
    let seen = receive(port);
    let target = WebhookConfig { hmac_secret_file: Some(secret), ..webhook(port) };
    let config = config(dir.path(), "hook", SinkTarget::Webhook(target));
    let exporter = Exporter::start(&config).expect("it starts");
    exporter.submit(numbered(1), None);
    assert!(exporter.flush(soon()));
    let Seen { head, body } = seen.recv().expect("a request");
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", "s3cret", "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is needed (Debian: openssl)");
    openssl.stdin.take().expect("a pipe").write_all(body.as_bytes()).expect("openssl reads");
    let output = openssl.wait_with_output().expect("openssl ends");
    let digest = String::from_utf8_lossy(&output.stdout);
    let digest = digest.split_whitespace().next().expect("a digest");
    let head = head.to_lowercase();
    assert!(head.contains(&format!("gpuwarden-signature: sha256={digest}")), "{head}");
}

/// Submits alerts for ever and prints the number of each that is persisted. The test below runs
/// itself once more as this, in a process of its own, and kills it.
fn exporter_child() {
    let read = |name: &str| std::env::var(name).expect("set by the parent");
    let port: u16 = read(PORT).parse().expect("a port");
    let first: u64 = read(FIRST).parse().expect("a number");
    let dir = std::path::PathBuf::from(read(DIR));
    let config = config(&dir, "hook", SinkTarget::Webhook(webhook(port)));
    let exporter = Exporter::start(&config).expect("it starts");
    let mut out = std::io::stdout();
    for n in first.. {
        let Submitted::Accepted(number) = exporter.submit(numbered(n), None) else {
            panic!("a queue was full");
        };
        while exporter.persisted() < number {
            std::thread::sleep(Duration::from_micros(200));
        }
        writeln!(out, "persisted {n}").expect("the parent listens");
        out.flush().expect("the parent listens");
    }
}

fn child(port: u16, dir: &std::path::Path, first: u64) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args([KILL_TEST, "--exact", "--nocapture"])
        .env(PORT, port.to_string())
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child starts")
}

const KILL_TEST: &str = "webhook::kill_minus_nine_loses_nothing_that_was_persisted";

#[test]
fn kill_minus_nine_loses_nothing_that_was_persisted() {
    if std::env::var_os(FIRST).is_some() {
        return exporter_child();
    }
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let mut persisted = BTreeSet::new();
    let mut first = 0;
    let mut seen = None;
    for round in 0..6 {
        // Nobody listens in the first half.
        if round == 3 {
            seen = Some(receive(port));
        }
        let mut process = child(port, dir.path(), first);
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let enough = 20 + 13 * round;
        let numbers = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("persisted ")?.1.parse::<u64>().ok());
        for number in numbers.take(enough) {
            persisted.insert(number);
            first = number + 1;
        }
        process.kill().expect("SIGKILL");
        process.wait().expect("it is dead");
        // What was submitted and not yet reported may or may not be there: a new range.
        first += 1000;
    }
    let config = config(dir.path(), "hook", SinkTarget::Webhook(webhook(port)));
    let exporter = Exporter::start(&config).expect("it starts after every crash");
    assert!(exporter.flush(soon()), "{:?}", exporter.health());
    let seen = seen.expect("the receiver came up");
    let arrived: BTreeSet<String> = seen.try_iter().map(|seen| id(&seen)).collect();
    let lost: Vec<u64> =
        persisted.iter().copied().filter(|n| !arrived.contains(&numbered(*n).id)).collect();
    assert!(persisted.len() > 100, "the test did something: {}", persisted.len());
    assert_eq!(lost, Vec::<u64>::new(), "of {}", persisted.len());
}
