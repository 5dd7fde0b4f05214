use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;
use crate::telemetry::metrics::BuildInfo;

fn start() -> (Server, Arc<Readiness>) {
    let readiness = Arc::new(Readiness::default());
    let build = BuildInfo { version: "0.1.0", revision: "abc" };
    let metrics = Arc::new(Metrics::new(build, Arc::clone(&readiness)));
    let address = "127.0.0.1:0".parse().unwrap();
    (Server::start(address, metrics, Arc::clone(&readiness)).unwrap(), readiness)
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

#[test]
fn metrics_and_probes_are_answered() {
    let (server, readiness) = start();
    let address = server.address();
    let metrics = get(address, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("gpuwarden_build_info{version=\"0.1.0\",revision=\"abc\"} 1"));
    assert!(metrics.contains("gpuwarden_ready 0"));
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
    let answer = get(address, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("starting\n"), "{answer}");
    readiness.set_ready();
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/metrics").contains("gpuwarden_ready 1"));
    assert!(get(address, "/x").starts_with("HTTP/1.1 404"));
    let post = ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
}

#[test]
fn an_address_in_use_is_named_with_what_to_do() {
    let (server, readiness) = start();
    let build = BuildInfo { version: "0.1.0", revision: "abc" };
    let metrics = Arc::new(Metrics::new(build, Arc::clone(&readiness)));
    let error = Server::start(server.address(), metrics, readiness).unwrap_err();
    assert!(matches!(error, ServerError::InUse { .. }));
    let message = error.to_string();
    assert!(message.contains("in use") && message.contains("telemetry.listen"), "{message}");
}

#[test]
fn silent_clients_cannot_take_every_place_for_ever() {
    let (server, _) = start();
    let silent: Vec<TcpStream> =
        (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(100));
    let begin = std::time::Instant::now();
    assert!(get(server.address(), "/livez").starts_with("HTTP/1.1 200"));
    assert!(begin.elapsed() < HEAD_TIMEOUT * 2, "{:?}", begin.elapsed());
    drop(silent);
}

#[test]
fn a_head_without_end_is_refused() {
    let (server, _) = start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ");
    let _ = stream.write_all(&vec![b'a'; 4 * HEAD_BYTES_MAX]);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(get(server.address(), "/livez").starts_with("HTTP/1.1 200"));
}
