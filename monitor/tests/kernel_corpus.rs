//! Holds the stored inputs of the fuzz target `decode` against records of the running kernel, the
//! first of each kind that a played process causes: a stored one that is no longer what the kernel
//! side sends exercises nothing. Needs root. When a record has changed:
//!
//! `GPUWARDEN_BLESS=1 cargo test -p monitor --test kernel_corpus`

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use monitor::decode;
use monitor::kernel::support;
use monitor::sensor::{self, Drain, DrainStats, Frame, Settings};

/// Records kept of each kind: a flow has a start, an end and what is between.
const RECORDS_PER_KIND: usize = 2;

const SCRIPT: &str = "
import os, socket, threading
t = threading.Thread(target=lambda: None); t.start(); t.join()
if os.fork() == 0: os.execv('/bin/echo', ['echo', 'a b', 'x' * 50])
os.wait()
d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
d.bind(('127.0.0.1', 53))
q = b'\\x12\\x34\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0\\1a\\4test\\0\\0\\1\\0\\1'
a = b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xc6\\x33\\x64\\2'
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.sendto(b'question', ('127.0.0.1', 53))
d.sendto(q + a, c.getsockname()); c.recv(600)
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()
s = socket.create_connection(l.getsockname()); s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n'); s.close()
socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
f = open('/tmp/model.safetensors', 'wb'); f.truncate(1 << 20); f.close()
open('/tmp/model.safetensors').close()
os.unlink('/tmp/model.safetensors')
";

#[test]
fn stored_inputs_are_what_the_kernel_side_sends() {
    support::check().expect("run as root on a kernel with BTF");
    let root = support::cgroup2_root().expect("a cgroup v2 hierarchy");
    let settings = Settings { report_loopback: true, ..Settings::default() };
    let mut loaded = sensor::load(&settings, &root).expect("the sensors load");
    let mut maps = loaded.take_maps().expect("the maps are there");
    assert!(maps.name_class("safetensors", monitor_common::CLASS_WEIGHTS));
    let rings = loaded.take_rings().expect("the rings are there");
    let (drain, mut high, mut bulk) =
        Drain::new(rings, Arc::new(DrainStats::default())).expect("a reader");
    let wake = drain.wake();
    let reader = std::thread::spawn(move || drain.run(|| {}));
    let mut child = Command::new("/usr/bin/env")
        .args(["-i", "PATH=/usr/bin:/bin", "python3", "-I", "-c", SCRIPT])
        .current_dir("/")
        // A pipe is told of at exec, whatever this test was started with.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("python3 is there");
    let mut kept: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    let mut frame = Frame::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut tree = vec![child.id()];
    while Instant::now() < deadline {
        while high.next(&mut frame).or_else(|| bulk.next(&mut frame)).is_some() {
            let Ok(event) = decode::decode(&frame) else { continue };
            let Some(actor) = &event.actor else { continue };
            if !tree.contains(&actor.process.tgid.0) {
                continue;
            }
            if let monitor::model::Body::TaskNew(task) = &event.body {
                tree.push(task.child.tgid.0);
            }
            let kind = u16::from_le_bytes([frame[0], frame[1]]);
            let records = kept.entry(kind).or_default();
            if records.len() < RECORDS_PER_KIND {
                records.push(frame.clone());
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().expect("it ends").success());
    wake.stop();
    assert!(reader.join().is_ok());
    assert!(kept.len() >= 8, "kinds {:?}", kept.keys());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/decode");
    if std::env::var_os("GPUWARDEN_BLESS").is_some() {
        store(&folder, &kept);
    }
    for (kind, records) in &kept {
        let stored = folder.join(format!("kind-{kind}-0"));
        let bytes = std::fs::read(&stored).unwrap_or_else(|error| {
            panic!("{}: {error}; GPUWARDEN_BLESS=1 makes it", stored.display())
        });
        let event = decode::decode(&bytes).unwrap_or_else(|error| {
            panic!("{}: {error}; GPUWARDEN_BLESS=1 renews it", stored.display())
        });
        let sent = decode::decode(&records[0]).expect("it was decoded before");
        assert_eq!(
            std::mem::discriminant(&event.body),
            std::mem::discriminant(&sent.body),
            "{}",
            stored.display()
        );
    }
}

fn store(folder: &Path, kept: &BTreeMap<u16, Vec<Vec<u8>>>) {
    std::fs::create_dir_all(folder).expect("a folder");
    for (kind, records) in kept {
        for (n, record) in records.iter().enumerate() {
            std::fs::write(folder.join(format!("kind-{kind}-{n}")), record).expect("written");
        }
    }
}
