//! Questions to resolvers and their answers on the running kernel, in a network namespace of their
//! own with a small server: datagrams and streams, both families. Needs root.

#[expect(dead_code, reason = "other targets use the rest")]
mod watch;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use monitor::config::{KernelConfig, WatchConfig};
use monitor::enrich::{EnrichConfig, Enricher, NoProfiles, NoSource};
use monitor::model::{Body, Clock, Dns, Event, FlowPhase, Tgid};
use watch::{Watch, python};

/// Longer than the slowest poll of the bulk ring by far.
const SOON: Duration = Duration::from_secs(5);

/// A namespace with a server on both families. It answers every question with 198.51.100.7, and a
/// liar answers before it with 203.0.113.66: from another port, and with another number. The client
/// is the process itself, the server its child.
const SCENE: &str = r#"
import ctypes, fcntl, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x40000000) == 0
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
def question(number, name):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
def answer(q, ip, number=None):
    number = q[:2] if number is None else number
    record = struct.pack(">3HIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(ip)
    return number + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + q[12:] + record
def server(kind, family, address, port=53):
    s = socket.socket(family, kind); s.bind((address, port)); return s
udp4 = server(socket.SOCK_DGRAM, socket.AF_INET, "127.0.0.1")
udp6 = server(socket.SOCK_DGRAM, socket.AF_INET6, "::1")
liar = server(socket.SOCK_DGRAM, socket.AF_INET, "127.0.0.1", 5353)
tcp = server(socket.SOCK_STREAM, socket.AF_INET, "127.0.0.1"); tcp.listen()
def whole(c, n):
    got = b""
    while len(got) < n: got += c.recv(n - len(got))
    return got
if os.fork() == 0:
    q, who = udp4.recvfrom(512)
    liar.sendto(answer(q, "203.0.113.66"), who)
    udp4.sendto(answer(q, "203.0.113.66", b"\x99\x99"), who)
    udp4.sendto(answer(q, "198.51.100.7"), who)
    q, who = udp4.recvfrom(512); udp4.sendto(answer(q, "198.51.100.7"), who)
    q, who = udp6.recvfrom(512); udp6.sendto(answer(q, "198.51.100.7"), who)
    c, _ = tcp.accept()
    for _ in range(2):
        q = whole(c, int.from_bytes(whole(c, 2), "big"))
        a = answer(q, "198.51.100.7")
        c.sendall(len(a).to_bytes(2, "big")); time.sleep(0.02); c.sendall(a)
    os._exit(0)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
    c.sendto(question(1, "Loose.test"), ("127.0.0.1", 53))
    for _ in range(3): c.recv(512)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
    c.connect(("127.0.0.1", 53)); c.send(question(2, "fixed.test")); c.recv(512)
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as c:
    c.sendto(question(3, "six.test"), ("::1", 53)); c.recv(512)
with socket.create_connection(("127.0.0.1", 53)) as c:
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    both = [question(4, "first.test"), question(5, "second.test")]
    for part in b"".join(len(q).to_bytes(2, "big") + q for q in both)[:9], None:
        data = b"".join(len(q).to_bytes(2, "big") + q for q in both)
        c.sendall(part or data[9:]); time.sleep(0.02)
    for _ in range(2): whole(c, int.from_bytes(whole(c, 2), "big"))
os.wait()
"#;

fn by(event: &Event, process: u32) -> bool {
    event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == process)
}

/// What bytes on the wire say, as the daemon reads them.
fn said(watch: &Watch, process: u32) -> Vec<Dns> {
    let wires = RefCell::new(Vec::new());
    watch.count(|event| {
        let is_wire = by(event, process) && matches!(event.body, Body::Wire(_));
        if is_wire {
            wires.borrow_mut().push(event.clone());
        }
        is_wire
    });
    let config = EnrichConfig::new(&WatchConfig::default(), &KernelConfig::default(), Tgid(0));
    let mut enricher =
        Enricher::new(&config, Arc::new(NoProfiles), Clock::default(), Box::new(NoSource));
    let mut said = Vec::new();
    for mut event in wires.into_inner() {
        enricher.complete(&mut event);
        said.push(event);
        said.extend(enricher.take_found());
    }
    let dns = |event: Event| if let Body::Dns(dns) = event.body { Some(dns) } else { None };
    said.into_iter().filter_map(dns).collect()
}

#[test]
fn questions_and_their_answers_are_seen_over_datagrams_and_streams_and_lies_are_not_believed() {
    let watch = Watch::start();
    let client = python(&watch, SCENE, &[]);
    watch.wait(SOON, |event| by(event, client) && matches!(event.body, Body::Exit(_)));
    watch.settle();
    let said = said(&watch, client);
    let names = ["loose.test", "fixed.test", "six.test", "first.test", "second.test"];
    let questions: Vec<_> =
        said.iter().filter(|dns| dns.is_query).map(|dns| dns.name.as_str()).collect();
    assert_eq!(questions, names, "{said:?}");
    for name in names {
        let answers: Vec<_> = said.iter().filter(|dns| !dns.is_query && dns.name == name).collect();
        let [answer] = answers[..] else { panic!("{name}: {answers:?}") };
        let ips: Vec<_> = answer.answers.iter().map(|answer| answer.ip.to_string()).collect();
        assert_eq!(ips, ["198.51.100.7"], "{name}");
        let server = if name == "six.test" { "::1" } else { "127.0.0.1" };
        assert_eq!(answer.server.map(|ip| ip.to_string()).as_deref(), Some(server));
    }
    watch.assert_received_is_accounted_for();
}

/// The first bytes of a flow, a few at a time.
const SLOW_START: &str = "
import socket, time
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()
s = socket.create_connection(l.getsockname()); c, _ = l.accept()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
hello = b'{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}'
for at in range(0, len(hello), 7):
    s.sendall(hello[at:at+7]); time.sleep(0.005)
for _ in range(200): s.sendall(b'x' * 100)
";

#[test]
fn first_bytes_of_a_flow_are_seen_in_as_many_segments_as_they_come_in_and_no_further() {
    let watch = Watch::start();
    let child = python(&watch, SLOW_START, &[]);
    watch.wait(SOON, |event| by(event, child) && matches!(event.body, Body::Exit(_)));
    watch.settle();
    let told = RefCell::new(Vec::new());
    watch.count(|event| {
        let Body::Flow(flow) = &event.body else { return false };
        if by(event, child) && flow.phase == FlowPhase::Payload {
            told.borrow_mut().push(flow.payload.clone().expect("a payload has bytes"));
        }
        true
    });
    let told = told.into_inner();
    let bytes: Vec<u8> = told.iter().flat_map(|payload| payload.bytes.to_vec()).collect();
    let hello = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}";
    assert!(bytes.starts_with(hello), "{}", String::from_utf8_lossy(&bytes));
    assert!(told.len() <= usize::from(monitor_common::PAYLOAD_SEGMENTS_MAX), "{}", told.len());
    assert_eq!(bytes.len(), monitor_common::PAYLOAD_BYTES_MAX, "and no further");
    let starts: Vec<_> = told.iter().map(|payload| payload.sequence).collect();
    assert!(starts.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) < 512), "{starts:?}");
}
