//! What the kernel side sees of real processes: every test plays something with real system calls
//! and looks for the fact in the decoded stream. Needs root. Traffic stays on loopback.

#[path = "watch/sink.rs"]
mod sink;
mod watch;

use std::time::Duration;

use monitor::model::{Body, FlowPhase};
use monitor::sensor::Settings;
use sink::Sink;
use watch::{Watch, python};

/// Longer than the slowest poll of the bulk ring by far.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn exec_tells_arguments_identity_and_parent() {
    let watch = Watch::start();
    let long = "x".repeat(6000);
    let child = python(
        &watch,
        "import os,sys; os.execv('/bin/echo', ['echo', 'a b', sys.argv[1]])",
        &[&long],
    );
    let event = watch.wait(SOON, |event| {
        matches!(&event.body, Body::Exec(exec) if exec.exe.ends_with("/echo"))
            && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
    });
    let Body::Exec(exec) = &event.body else { unreachable!("matched above") };
    assert_eq!(exec.args[..2], ["echo", "a b"]);
    assert!(exec.args_truncated, "6000 bytes are more than leave the kernel");
    assert_eq!(exec.args_bytes, 4 + 1 + 3 + 1 + 6000 + 1);
    assert_eq!(exec.parent.tgid.0, std::process::id());
    let real = std::fs::metadata(&exec.exe).expect("the path is real");
    assert_eq!(exec.exe_id.inode, std::os::unix::fs::MetadataExt::ino(&real));
    watch.wait(SOON, |event| {
        matches!(event.body, Body::Exit(_))
            && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
    });
}

#[test]
fn memfd_exec_is_known_for_what_it_is() {
    let watch = Watch::start();
    let script = "
import os
fd = os.memfd_create('train')
os.write(fd, open('/bin/true','rb').read())
os.execve(fd, ['python3', 'train.py'], {})";
    let child = python(&watch, script, &[]);
    let event = watch.wait(SOON, |event| {
        matches!(&event.body, Body::Exec(exec) if exec.is_deleted)
            && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
    });
    let Body::Exec(exec) = &event.body else { unreachable!("matched above") };
    assert!(exec.is_memfd, "{exec:?}");
    assert!(exec.exe.contains("memfd:train"), "{}", exec.exe);
}

#[test]
fn thread_is_told_apart_from_process_and_group_exit_comes_once() {
    let watch = Watch::start();
    let script = "
import threading, time
t = threading.Thread(target=time.sleep, args=(0.2,)); t.start(); t.join()";
    let child = python(&watch, script, &[]);
    let event = watch.wait(SOON, |event| {
        matches!(&event.body, Body::TaskNew(task) if task.is_thread && task.child.tgid.0 == child)
    });
    let Body::TaskNew(task) = &event.body else { unreachable!("matched above") };
    assert_ne!(task.child_tid.0, child);
    let is_exit = |event: &monitor::model::Event| {
        matches!(event.body, Body::Exit(_))
            && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
    };
    watch.wait(SOON, is_exit);
    assert_eq!(watch.count(is_exit), 1, "the thread's end is not the process's end");
}

#[test]
fn opened_file_is_known_by_what_it_is_not_by_what_was_asked_for() {
    let watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let real = dir.path().join("model-00001-of-00002.safetensors");
    std::fs::write(&real, vec![7; 4096]).expect("a file");
    let script = "
import os, sys
os.symlink(sys.argv[1], sys.argv[1] + '.jpg')
os.chdir('/')
open(sys.argv[1] + '.jpg', 'rb').read()";
    let child = python(&watch, script, &[real.to_str().expect("utf-8")]);
    let event = watch.wait(SOON, |event| {
        matches!(&event.body, Body::FileOpen(open) if open.path.ends_with(".safetensors"))
            && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
    });
    let Body::FileOpen(open) = &event.body else { unreachable!("matched above") };
    let meta = std::fs::metadata(&real).expect("it is there");
    assert_eq!(open.id.inode, std::os::unix::fs::MetadataExt::ino(&meta));
    assert_eq!(open.size_bytes, 4096);
    assert_eq!(open.path, real.to_str().expect("utf-8"));
    assert!(open.reads() && !open.writes());
}

#[test]
fn labelled_file_is_seen_under_any_name() {
    let mut watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let real = dir.path().join("blob");
    std::fs::write(&real, b"weights").expect("a file");
    watch.label(&real, 7);
    let script = "import os,sys; os.rename(sys.argv[1], sys.argv[1]+'.x'); open(sys.argv[1]+'.x')";
    python(&watch, script, &[real.to_str().expect("utf-8")]);
    let ino = std::os::unix::fs::MetadataExt::ino(
        &std::fs::metadata(dir.path().join("blob.x")).expect("renamed"),
    );
    watch.wait(SOON, |event| {
        matches!(&event.body, Body::FileOpen(open)
            if open.id.inode == ino && open.path.ends_with("/blob.x"))
    });
}

/// Every road to a TCP peer, and what each sends in all.
#[test]
fn tcp_flow_is_seen_with_its_bytes_by_any_road() {
    let watch = Watch::start();
    let roads = [
        ("send", "s.connect(peer); s.sendall(b'x'*100000)"),
        ("fast open", "s.sendto(b'x'*100000, 0x20000000, peer); s.sendall(b'')"),
        (
            "sendfile",
            "import tempfile,os; f=tempfile.TemporaryFile(); f.write(b'x'*100000); f.seek(0)\n\
             s.connect(peer); s.sendfile(f)",
        ),
        (
            "splice",
            "import os; r,w=os.pipe(); os.write(w,b'x'*50000); s.connect(peer)\n\
             n=os.splice(r,s.fileno(),50000); s.sendall(b'x'*(100000-n))",
        ),
        ("zerocopy", "s.setsockopt(1,60,1); s.connect(peer); s.send(b'x'*100000, 0x4000000)"),
        (
            "passed socket",
            "import os; s.connect(peer); pid=os.fork()\n\
             if pid==0: os.write(s.fileno(), b'x'*100000); os._exit(0)\n\
             os.waitpid(pid,0)",
        ),
    ];
    for (road, action) in roads {
        let sink = Sink::start();
        let script = format!(
            "import socket,sys\ns=socket.socket()\n\
             peer=('127.0.0.1',int(sys.argv[1]))\n{action}\ns.close()"
        );
        let child = python(&watch, &script, &[&sink.port().to_string()]);
        let is_mine = |event: &monitor::model::Event, phase| {
            matches!(&event.body, Body::Flow(flow) if flow.phase == phase
                && flow.remote.is_some_and(|remote| remote.port() == sink.port()))
        };
        let start = watch.wait(SOON, |event| is_mine(event, FlowPhase::Start));
        let Body::Flow(flow) = &start.body else { unreachable!("matched above") };
        assert_eq!(flow.egress, Some(true), "{road}");
        assert_eq!(flow.owner.tgid.0, child, "{road}");
        let end = watch.wait(SOON, |event| is_mine(event, FlowPhase::End));
        let Body::Flow(flow) = &end.body else { unreachable!("matched above") };
        assert_eq!(flow.bytes_out_total, sink.received(), "{road}");
        assert!(flow.bytes_out_total > 0, "{road}");
        if road == "passed socket" {
            let sender = end.actor.as_ref().expect("a sender").process.tgid.0;
            assert!(sender == child || flow.owner.tgid.0 == child);
        }
    }
}

#[test]
fn first_payload_of_a_flow_is_shown() {
    let watch = Watch::start();
    let sink = Sink::start();
    let script = "
import socket,sys
s=socket.create_connection(('127.0.0.1',int(sys.argv[1])))
s.sendall(b'{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\\n')
s.sendall(b'later'); s.close()";
    python(&watch, script, &[&sink.port().to_string()]);
    let event = watch.wait(SOON, |event| {
        matches!(&event.body, Body::Flow(flow) if flow.phase == FlowPhase::Payload
            && flow.remote.is_some_and(|remote| remote.port() == sink.port()))
    });
    let Body::Flow(flow) = &event.body else { unreachable!("matched above") };
    let payload = flow.payload.as_ref().expect("a payload");
    assert!(payload.bytes.starts_with(b"{\"id\":1,\"method\":\"mining.subscribe\""));
}

#[test]
fn datagrams_are_seen_with_each_peer() {
    let watch = Watch::start();
    let script = "
import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
s.sendto(b'x'*700,('127.0.0.1',9)); s.sendto(b'x'*300,('127.0.0.9',19))
c=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); c.connect(('127.0.0.1',29)); c.send(b'x'*50)
m=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); m.sendto(b'x'*60,('::ffff:127.0.0.1',39))
v=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); v.sendto(b'x'*70,('::1',49))";
    let child = python(&watch, script, &[]);
    for peer in ["127.0.0.1:9", "127.0.0.9:19", "127.0.0.1:29", "127.0.0.1:39", "[::1]:49"] {
        let peer: std::net::SocketAddr = peer.parse().expect("an address");
        let event = watch.wait(SOON, |event| {
            matches!(&event.body, Body::Flow(flow) if flow.remote == Some(peer)
                && flow.owner.tgid.0 == child)
        });
        let Body::Flow(flow) = &event.body else { unreachable!("matched above") };
        assert_eq!((flow.protocol, flow.egress), (17, Some(true)), "{peer}");
    }
}

#[test]
fn raw_and_packet_sockets_are_seen_when_made_and_when_they_send() {
    let watch = Watch::start();
    let script = "
import socket
p=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,0)
r=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_ICMP)
r.sendto(b'\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00'+b'x'*100,('127.0.0.1',0))
p.bind(('lo',0)); p.send(b'\\x00'*12+b'\\x08\\x00'+b'x'*40)";
    let child = python(&watch, script, &[]);
    let mine = |event: &monitor::model::Event| {
        event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
    };
    watch.wait(SOON, |event| {
        mine(event) && matches!(&event.body, Body::SocketNew(new) if new.family == 17)
    });
    watch.wait(SOON, |event| {
        mine(event)
            && matches!(&event.body, Body::SocketNew(new)
                if new.socket_type == 3 && new.family == 2)
    });
    watch.wait(SOON, |event| {
        mine(event)
            && matches!(&event.body, Body::Flow(flow) if flow.protocol == 1
                && flow.remote.is_some_and(|remote| remote.ip().is_loopback()))
    });
    watch.wait(SOON, |event| {
        mine(event) && matches!(&event.body, Body::Flow(flow) if flow.family == 17)
    });
}

#[test]
fn accepted_flow_belongs_to_its_first_sender() {
    let watch = Watch::start();
    let script = "
import socket,os,time
l=socket.socket(); l.bind(('127.0.0.1',0)); l.listen()
pid=os.fork()
if pid==0:
    c=socket.create_connection(l.getsockname())
    while c.recv(65536): pass
    os._exit(0)
s,_=l.accept(); s.sendall(b'x'*2000000); s.close(); os.waitpid(pid,0)";
    let child = python(&watch, script, &[]);
    let event = watch.wait(SOON, |event| {
        matches!(&event.body, Body::Flow(flow) if flow.egress == Some(false)
            && flow.bytes_out_total > 0 && flow.owner.tgid.0 == child)
    });
    assert_eq!(event.actor.expect("a sender").process.tgid.0, child);
}

/// `seen = sent + filtered + lost`, while opens come as fast as they can.
#[test]
fn counters_balance_under_a_flood_of_opens_and_no_verdict_is_lost() {
    let mut watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("flood.safetensors");
    std::fs::write(&file, b"x").expect("a file");
    let labelled = dir.path().join("labelled");
    std::fs::write(&labelled, b"x").expect("a file");
    watch.label(&labelled, 9);
    let script = "
import os,sys
n=0
for i in range(200000):
    os.close(os.open(sys.argv[1],0))
    if i % 20000 == 0: os.close(os.open(sys.argv[2],0)); n+=1";
    let child =
        python(&watch, script, &[file.to_str().expect("utf-8"), labelled.to_str().expect("utf-8")]);
    let opens_of = |name: &str| {
        watch.count(|event| {
            matches!(&event.body, Body::FileOpen(open) if open.path.ends_with(name))
                && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
        })
    };
    watch.settle();
    assert_eq!(opens_of("/labelled"), 10, "a verdict was lost in the flood");
    let mut lost = 0;
    for row in watch.counters() {
        assert!(row.counters.is_balanced(), "{row:?}");
        if row.kind == monitor_common::KIND_FILE_OPEN {
            lost = row.counters.lost();
            assert!(row.counters.sent >= 200_010 - lost);
        }
    }
    assert_eq!(
        opens_of("/flood.safetensors") as u64 + lost,
        200_000,
        "what is missing is counted; {}",
        watch.accounts()
    );
    watch.assert_received_is_accounted_for();
}

#[test]
fn opening_a_file_over_and_over_costs_one_record_and_every_open_is_counted() {
    let watch = Watch::start_with(Settings { open_repeat_ns: 60_000_000_000, ..watch::settings() });
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("again.safetensors");
    std::fs::write(&file, b"x").expect("a file");
    let script = "
import os,sys
for i in range(1000): os.close(os.open(sys.argv[1], os.O_RDONLY))
os.close(os.open(sys.argv[1], os.O_WRONLY))";
    let child = python(&watch, script, &[file.to_str().expect("utf-8")]);
    watch.settle();
    let opens = watch.count(|event| {
        matches!(&event.body, Body::FileOpen(open) if open.path.ends_with("/again.safetensors"))
            && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
    });
    assert_eq!(opens, 2, "one to read, one to write");
    let counters = watch.counters();
    let row = counters.iter().find(|row| row.kind == monitor_common::KIND_FILE_OPEN);
    let counters = row.expect("opens are counted").counters;
    assert!(counters.is_balanced());
    assert!(counters.filtered >= 999, "{counters:?}");
}

#[test]
fn each_program_that_opens_a_file_is_told_of_and_a_look_at_its_place_is_no_open() {
    let watch = Watch::start_with(Settings { open_repeat_ns: 60_000_000_000, ..watch::settings() });
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("again.safetensors");
    std::fs::write(&file, b"x").expect("a file");
    // As the first process of a container is its engine before: it looks at the place of each
    // mount, and then executes the workload's program.
    let script = "
import os, sys
for _ in range(3):
    os.open(sys.argv[1], os.O_PATH)
    if len(sys.argv) > 2:
        os.open(sys.argv[1], os.O_RDONLY)
if len(sys.argv) < 4:
    os.execv(sys.executable, [*sys.orig_argv, 'again'])";
    let child = python(&watch, script, &[file.to_str().expect("utf-8")]);
    watch.settle();
    let opens = watch.count(|event| {
        matches!(&event.body, Body::FileOpen(open) if open.path.ends_with("/again.safetensors"))
            && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
    });
    assert_eq!(opens, 2, "one of each program that could read; {}", watch.accounts());
}

#[test]
fn cgroup_over_its_rate_is_cut_counted_and_named() {
    let watch = Watch::start_with(Settings { rate_bulk_per_s: 100, ..watch::settings() });
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("noisy.safetensors");
    std::fs::write(&file, b"x").expect("a file");
    let script = "
import os,sys
for i in range(5000): os.close(os.open(sys.argv[1], 0))";
    python(&watch, script, &[file.to_str().expect("utf-8")]);
    watch.settle();
    let counters = watch.counters();
    let row = counters.iter().find(|row| row.kind == monitor_common::KIND_FILE_OPEN);
    let counters = row.expect("opens are counted").counters;
    assert!(counters.is_balanced(), "{counters:?}");
    assert!(counters.rate_limited > 1_000, "{counters:?}");
    let (_, refused) = watch.noisiest().expect("a cgroup is named");
    assert!(refused >= counters.rate_limited);
}
