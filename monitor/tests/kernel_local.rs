//! Local channels of workloads that have read weights, flows that are older than the monitor, unix
//! sockets that are connected, and the second opinion on bytes, on the running kernel. Needs root.

#[expect(dead_code, reason = "other targets use the rest")]
mod watch;

use std::cell::Cell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use monitor::model::{Body, Event, Flow, FlowPhase, LinkKind};
use watch::{Watch, python};

/// Longer than the slowest poll of the bulk ring by far.
const SOON: Duration = Duration::from_secs(5);
const MIB: u64 = 1 << 20;

/// What every actor starts with: a network namespace of its own, whose loopback also has an address
/// that is none.
const SCENE: &str = r#"
import ctypes, fcntl, os, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x40000000) == 0
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
    sin = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton("10.99.0.1"))
    fcntl.ioctl(s, 0x8916, struct.pack("16s16s8x", b"lo:1", sin))
def swallow(c):
    while c.recv(1 << 18): pass
"#;

fn by(event: &Event, process: u32) -> bool {
    event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == process)
}

/// A program that has said a line, and waits for one.
struct Waiting(Child);

impl Waiting {
    fn start(script: &str, args: &[&str]) -> (Self, String) {
        let mut child = Command::new("/usr/bin/env")
            .args(["python3", "-c", &format!("{SCENE}\n{script}")])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("it says a line");
        (Self(child), line.trim().to_owned())
    }

    fn go_on(mut self) {
        writeln!(self.0.stdin.take().expect("piped"), "go").expect("it reads");
        assert!(self.0.wait().expect("it ends").success());
    }
}

const RELAY: &str = r#"
kind, model, path = sys.argv[1:]
if kind == "loopback":
    l = socket.create_server(("127.0.0.1", 0)); to = l.getsockname()
elif kind == "datagram":
    l = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); l.bind(path); to = path
else:
    l = socket.socket(socket.AF_UNIX); l.bind(path); l.listen(); to = path
far = os.fork()
if far == 0:
    if kind == "datagram":
        while l.recv(1 << 17): pass
    else: swallow(l.accept()[0])
    os._exit(0)
open(model, "rb").read()
c = socket.socket(l.family, l.type); c.connect(to)
block = b"w" * (1 << 16)
for _ in range(64): c.sendall(block)
if kind == "datagram": c.send(b"")
c.close(); os.wait()
"#;

#[test]
fn what_a_reader_of_weights_passes_on_is_told_with_its_bytes_and_the_far_end() {
    let mut watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let model = dir.path().join("m.safetensors");
    std::fs::write(&model, vec![7; 4096]).expect("a file");
    watch.label(&model, 1);
    let text = |path: &Path| path.to_str().expect("utf-8").to_owned();
    for (name, kind) in
        [("unix", LinkKind::Unix), ("datagram", LinkKind::Unix), ("loopback", LinkKind::Loopback)]
    {
        let path = text(&dir.path().join(name));
        let reader = python(&watch, &format!("{SCENE}\n{RELAY}"), &[name, &text(&model), &path]);
        watch.wait(SOON, |event| by(event, reader) && matches!(event.body, Body::Exit(_)));
        watch.settle();
        let (bytes, named) = (Cell::new(0), Cell::new(0));
        watch.count(|event| {
            let Body::Link(link) = &event.body else { return false };
            if by(event, reader) && link.kind == kind {
                bytes.set(bytes.get() + link.bytes);
                assert_ne!(link.peer_cgroup.0, 0, "{name}: {link:?}");
                named.set(link.peer.tgid.0);
            }
            true
        });
        let bytes = bytes.get();
        assert!(bytes > 3 * MIB && bytes <= 4 * MIB, "{name}: {bytes}");
        // Who listens is known of a unix stream only; of the others the cgroup.
        assert_eq!(named.get() == reader, name == "unix", "{name}: {}", named.get());
    }
}

const OLDER: &str = r#"
l = socket.create_server(("10.99.0.1", 4444))
c = socket.create_connection(("10.99.0.1", 4444)); a, _ = l.accept()
print(c.getsockname()[1], flush=True); sys.stdin.readline()
c.sendall(b"x" * 5000); c.close(); swallow(a)
"#;

#[test]
fn flow_that_is_older_than_the_monitor_is_told_at_start_with_its_owner_and_goes_on() {
    let (older, port) = Waiting::start(OLDER, &[]);
    let process = older.0.id();
    let port: u16 = port.parse().expect("a port");
    let watch = Watch::start();
    let is_its = |flow: &Flow| {
        flow.local.port() == port
            && flow.remote.is_some_and(|to| to.to_string() == "10.99.0.1:4444")
    };
    let start = watch.wait(SOON, |event| {
        matches!(&event.body, Body::Flow(flow) if is_its(flow) && flow.phase == FlowPhase::Start)
    });
    assert!(by(&start, process));
    let Body::Flow(start) = &start.body else { unreachable!("matched above") };
    assert_eq!((start.owner.tgid.0, start.bytes_out_total, start.egress), (process, 0, None));
    older.go_on();
    let end = watch.wait(SOON, |event| {
        matches!(&event.body, Body::Flow(flow)
            if flow.flow_id == start.flow_id && flow.phase == FlowPhase::End)
    });
    let Body::Flow(end) = &end.body else { unreachable!("matched above") };
    assert_eq!((end.bytes_out_total, end.owner.tgid.0), (5000, process));
}

const CONNECT: &str = r#"
directory = sys.argv[1]
real, link = directory + "/docker.sock", directory + "/innocent"
l = socket.socket(socket.AF_UNIX); l.bind(real); l.listen()
os.symlink(real, link); os.chdir(directory)
for path in (real, link, "./innocent"):
    with socket.socket(socket.AF_UNIX) as c: c.connect(path)
with socket.socket(socket.AF_UNIX) as c:
    try: c.connect(directory + "/missing")
    except OSError: pass
a, b = socket.socketpair()
"#;

#[test]
fn unix_socket_is_told_by_the_path_of_who_listens_whatever_name_it_was_reached_by() {
    let watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().to_str().expect("utf-8");
    let child = python(&watch, &format!("{SCENE}\n{CONNECT}"), &[dir]);
    watch.wait(SOON, |event| by(event, child) && matches!(event.body, Body::Exit(_)));
    watch.settle();
    let path = format!("{dir}/docker.sock");
    let is_told = |event: &Event| by(event, child) && matches!(event.body, Body::SocketNew(_));
    let told = watch.count(|event| {
        matches!(&event.body, Body::SocketNew(socket) if socket.family == 1 && socket.path == path)
            && is_told(event)
    });
    assert_eq!((told, watch.count(is_told)), (3, 3));
}

const SEND: &str = r#"
if sys.argv[1] == "frames":
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0); s.bind(("lo", 0x88b5))
    for _ in range(6000): s.sendto(b"w" * 2000, ("lo", 0x88b5, 0, 0, b"\0" * 6))
else:
    l = socket.create_server(("10.99.0.1", 0))
    if os.fork() == 0: swallow(l.accept()[0]); os._exit(0)
    with socket.create_connection(l.getsockname()) as c:
        for _ in range(200): c.sendall(b"w" * 60000)
    os.wait()
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(200): u.sendto(b"w" * 20000, ("10.99.0.1", 9))
"#;

#[test]
fn sockets_and_packets_agree_on_bytes_but_for_frames_past_the_network_layer() {
    let watch = Watch::start();
    for status in &watch.loaded.status {
        if ["send_bytes", "packet"].contains(&status.sensor.name) {
            assert_eq!(status.state.as_str(), "attached", "{}", status.state.reason());
        }
    }
    let sums = || {
        let sums = watch.egress().into_iter().map(|(_, sum)| sum);
        sums.fold([0; 4], |all, sum| {
            let one = [sum.said_stream, sum.seen_stream, sum.said_other, sum.seen_other];
            std::array::from_fn(|at| all[at] + one[at])
        })
    };
    let grown = |what: &str| {
        let before: [u64; 4] = sums();
        python(&watch, &format!("{SCENE}\n{SEND}"), &[what]);
        let after: [u64; 4] = sums();
        std::array::from_fn::<u64, 4, _>(|at| after[at] - before[at])
    };
    let near = |bytes: u64, expected: u64| bytes >= expected && bytes < expected + expected / 20;
    let [said_stream, seen_stream, said_other, seen_other] = grown("packets");
    assert!(
        near(said_stream, 12_000_000) && near(seen_stream, 12_000_000),
        "{said_stream} {seen_stream}"
    );
    assert!(
        near(said_other, 4_000_000) && near(seen_other, 4_000_000),
        "{said_other} {seen_other}"
    );
    let [_, _, said_other, seen_other] = grown("frames");
    assert!(near(said_other, 12_000_000) && seen_other < 1_000_000, "{said_other} {seen_other}");
}
