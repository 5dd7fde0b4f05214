//! Acts beyond files and flows, played with real system calls and looked for in the decoded
//! stream. Needs root. Namespaces are made and left by the actors themselves.

#[expect(dead_code, reason = "other targets use the rest")]
mod watch;

use std::time::Duration;

use monitor::model::{AccessMethod, AsyncOp, Body, Event, NamespaceOp, StreamKind, TamperOp};
use watch::{Watch, python};

/// Longer than the slowest poll of the bulk ring by far.
const SOON: Duration = Duration::from_secs(5);

/// What every actor starts with: the C library by its system calls.
const CTYPES: &str = "
import ctypes, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def syscall(*args):
    done = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if done < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done
";

fn act(watch: &Watch, script: &str, args: &[&str]) -> u32 {
    python(watch, &format!("{CTYPES}\n{script}"), args)
}

fn by(event: &Event, process: u32) -> bool {
    event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == process)
}

#[test]
fn shell_on_a_socket_is_seen_at_dup_and_at_exec_with_its_peer() {
    let watch = Watch::start();
    let script = "
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()
s = socket.create_connection(l.getsockname()); p = s.getpeername()
os.dup2(s.fileno(), 0); os.dup2(s.fileno(), 1)
os.execv('/bin/true', ['true', str(p[1])])";
    let child = act(&watch, script, &[]);
    for is_whole in [false, true] {
        let event = watch.wait(SOON, |event| {
            by(event, child)
                && matches!(&event.body, Body::Stdio(stdio)
                if stdio.family == 2 && stdio.is_whole == is_whole)
        });
        let Body::Stdio(stdio) = &event.body else { unreachable!("matched above") };
        let remote = stdio.remote.expect("a connected socket has a peer");
        assert!(remote.ip().is_loopback() && remote.port() != 0, "{remote}");
        assert_eq!(stdio.fd, 0);
    }
}

#[test]
fn both_ends_of_a_pipe_and_of_a_unix_pair_have_one_identity() {
    let watch = Watch::start();
    let script = "
a, b = socket.socketpair()
r, w = os.pipe()
for fd0, fd1 in ((r, a.fileno()), (b.fileno(), w)):
    if os.fork() == 0:
        os.dup2(fd0, 0); os.dup2(fd1, 1)
        os.execv('/bin/true', ['true'])
    os.wait()
os.execv('/bin/true', ['true', str(os.getpid())])";
    let parent = act(&watch, script, &[]);
    let is_child = |event: &Event, first: StreamKind| {
        matches!(&event.body, Body::Stdio(stdio) if stdio.is_whole
            && stdio.channels[0].is_some_and(|channel| channel.kind == first)
            && stdio.channels[1].is_some())
            && !by(event, parent)
            && event.actor.as_ref().is_some_and(|actor| actor.comm == "true")
    };
    let first = watch.wait(SOON, |event| is_child(event, StreamKind::Pipe));
    let second = watch.wait(SOON, |event| is_child(event, StreamKind::Unix));
    let (Body::Stdio(first), Body::Stdio(second)) = (&first.body, &second.body) else {
        unreachable!("matched above")
    };
    let id = |channel: Option<monitor::model::Channel>| channel.expect("matched above").id;
    assert_eq!(id(first.channels[0]), id(second.channels[1]), "the pipe");
    assert_eq!(id(first.channels[1]), id(second.channels[0]), "the pair");
    assert_ne!(id(first.channels[0]), 0);
    assert_ne!(id(first.channels[1]), 0);
}

/// Roads into another process; each script gets the victim's process id.
#[test]
fn reaching_into_a_process_is_seen_by_any_road_with_its_target() {
    let watch = Watch::start();
    let mut victim = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    let pid = victim.id();
    let roads = [
        (
            AccessMethod::Ptrace,
            "syscall(101, 16, pid, 0, 0); os.waitpid(pid, 0x40000000); syscall(101, 17, pid, 0, 0)",
        ),
        (AccessMethod::Ptrace, "syscall(101, 0x4206, pid, 0, 0)"),
        (
            AccessMethod::VmRead,
            "
at = int(open(f'/proc/{pid}/maps').readline().split('-')[0], 16)
buf = ctypes.create_string_buffer(64)
iov = struct.pack('PN', ctypes.addressof(buf), 64); rem = struct.pack('PN', at, 64)
assert syscall(310, pid, ctypes.c_char_p(iov), 1, ctypes.c_char_p(rem), 1, 0) == 64",
        ),
        (AccessMethod::PidfdGetfd, "syscall(438, syscall(434, pid, 0), 2, 0)"),
        (AccessMethod::ProcMem, "open(f'/proc/{pid}/mem', 'rb')"),
    ];
    let mut actors = Vec::new();
    for (method, road) in roads {
        let actor = act(&watch, &format!("pid = int(sys.argv[1])\n{road}"), &[&pid.to_string()]);
        actors.push((method, actor));
    }
    for (method, actor) in actors {
        let event = watch.wait(SOON, |event| {
            by(event, actor)
                && matches!(&event.body, Body::MemoryAccess(access) if access.method == method)
        });
        let Body::MemoryAccess(access) = &event.body else { unreachable!("matched above") };
        if method == AccessMethod::VmRead {
            assert_eq!((access.named_pid, access.bytes), (pid, 64));
            assert!(access.is_host_pid);
        } else {
            assert_eq!(access.target.tgid.0, pid, "{method:?}");
            assert_ne!(access.target.start.0, 0);
        }
    }
    victim.kill().expect("it lives");
    victim.wait().expect("it ends");
}

#[test]
fn repeated_reads_of_memory_are_summed_and_told_once_a_second() {
    let watch = Watch::start();
    let mut victim = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    let script = "
pid = int(sys.argv[1])
at = int(open(f'/proc/{pid}/maps').readline().split('-')[0], 16)
buf = ctypes.create_string_buffer(64)
iov = struct.pack('PN', ctypes.addressof(buf), 64); rem = struct.pack('PN', at, 64)
def read(): assert syscall(310, pid, ctypes.c_char_p(iov), 1, ctypes.c_char_p(rem), 1, 0) == 64
for _ in range(500): read()
time.sleep(1.1)
read()";
    let actor = act(&watch, script, &[&victim.id().to_string()]);
    let is_read = |event: &Event| by(event, actor) && matches!(&event.body, Body::MemoryAccess(_));
    watch.wait(SOON, |event| {
        by(event, actor)
            && matches!(&event.body, Body::MemoryAccess(access) if access.bytes == 500 * 64)
    });
    assert!(watch.count(is_read) <= 4, "{} records", watch.count(is_read));
    victim.kill().expect("it lives");
    victim.wait().expect("it ends");
}

#[test]
fn signal_that_stops_the_monitor_is_seen_and_one_that_speaks_to_it_is_not() {
    let watch = Watch::start();
    let own = std::process::id();
    let script = "pid = int(sys.argv[1])\nos.kill(pid, 18)\nos.kill(pid, 28)";
    let actor = act(&watch, script, &[&own.to_string()]);
    let event = watch.wait(SOON, |event| {
        by(event, actor) && matches!(&event.body, Body::Tamper(tamper) if tamper.signal == 18)
    });
    let Body::Tamper(tamper) = &event.body else { unreachable!("matched above") };
    assert_eq!((tamper.op, tamper.is_self), (TamperOp::Signal, true));
    assert_eq!(tamper.target.tgid.0, own);
    let winch = |event: &Event| matches!(&event.body, Body::Tamper(tamper) if tamper.signal == 28);
    assert_eq!(watch.count(winch), 0, "SIGWINCH harms nobody");
}

#[test]
fn loading_a_bpf_program_is_seen_with_its_name() {
    let watch = Watch::start();
    // A socket filter that returns zero: `mov r0, 0; exit`.
    let script = "
prog = struct.pack('<BBhiBBhi', 0xb7, 0, 0, 0, 0x95, 0, 0, 0)
code = ctypes.create_string_buffer(prog); lic = ctypes.create_string_buffer(b'GPL')
attr = struct.pack('<IIQQIIQII16s', 1, 2, ctypes.addressof(code), ctypes.addressof(lic),
                   0, 0, 0, 0, 0, b'not_ours')
syscall(321, 5, ctypes.c_char_p(attr), len(attr))";
    let actor = act(&watch, script, &[]);
    let event = watch.wait(SOON, |event| {
        by(event, actor)
            && matches!(&event.body, Body::Tamper(tamper) if tamper.op == TamperOp::BpfLoad)
    });
    let Body::Tamper(tamper) = &event.body else { unreachable!("matched above") };
    assert_eq!(tamper.object, "not_ours");
    assert!(!tamper.is_self && tamper.object_id != 0);
}

#[test]
fn namespaces_mounts_and_roots_are_told_with_their_texts() {
    let watch = Watch::start();
    let script = "
os.mkdir(sys.argv[1] + '/m')
libc.unshare(0x20000)
libc.mount(b'none', b'/', None, 0x44000, None)
assert libc.mount(b'tmp_src', (sys.argv[1] + '/m').encode(), b'tmpfs', 2, None) == 0
os.chroot(sys.argv[1])";
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("utf-8");
    let actor = act(&watch, script, &[path]);
    let find = |op: NamespaceOp, part: &str| {
        watch.wait(SOON, |event| {
            by(event, actor)
                && matches!(&event.body, Body::Namespace(change)
                if change.op == op && change.path.ends_with(part))
        })
    };
    let Body::Namespace(unshare) = find(NamespaceOp::Unshare, "").body else { unreachable!() };
    let own = std::fs::metadata("/proc/self/ns/mnt").expect("a namespace");
    let own = std::os::unix::fs::MetadataExt::ino(&own);
    assert_eq!(unshare.flags, 0x20000);
    assert_ne!(u64::from(unshare.mount_ns), own, "it is elsewhere now");
    assert_ne!(unshare.mount_ns, 0);
    let Body::Namespace(mount) = find(NamespaceOp::Mount, "/m").body else { unreachable!() };
    assert_eq!((mount.source.as_str(), mount.fs_type.as_str()), ("tmp_src", "tmpfs"));
    assert_eq!(mount.flags, 2);
    let Body::Namespace(chroot) = find(NamespaceOp::Chroot, path).body else { unreachable!() };
    assert_eq!(chroot.path, path);
}

#[test]
fn io_uring_is_told_with_its_flags_and_its_operations_on_sockets_once() {
    let watch = Watch::start();
    // A ring of two entries, memory-mapped, and the submission of one operation as often as asked.
    let script = "
import mmap
params = ctypes.create_string_buffer(120)
struct.pack_into('<I', params, 8, int(sys.argv[1]))
ring = syscall(425, 2, params)
sq = struct.unpack_from('<10I', params, 40)
head, tail, mask, entries, flags, dropped, array = sq[:7]
rings = mmap.mmap(ring, 4096, offset=0)
sqes = mmap.mmap(ring, 4096, offset=0x10000000)
for n in range(3):
    at = struct.unpack_from('<I', rings, tail)[0]
    # IORING_OP_SOCKET (45): fd = domain, off = type.
    entry = struct.pack('<BBHiQQII', 45, 0, 0, 2, 2, 0, 0, 0) + bytes(32)
    sqes[(at & 1) * 64:(at & 1) * 64 + 64] = entry
    struct.pack_into('<I', rings, array + 4 * (at & 1), at & 1)
    struct.pack_into('<I', rings, tail, at + 1)
    syscall(426, ring, 1, 0, 0 if int(sys.argv[1]) == 0 else 2, 0, 0)
    time.sleep(0.05)
syscall(323, 1)";
    for (flags, op) in [("0", AsyncOp::IoUring), ("2", AsyncOp::Sqpoll)] {
        let actor = act(&watch, script, &[flags]);
        let is = |event: &Event, op: AsyncOp| {
            by(event, actor) && matches!(&event.body, Body::AsyncIo(io) if io.op == op)
        };
        let event = watch.wait(SOON, |event| is(event, op));
        let Body::AsyncIo(made) = &event.body else { unreachable!("matched above") };
        assert_eq!(made.flags & 2, flags.parse::<u64>().expect("a number"));
        let event = watch.wait(SOON, |event| is(event, AsyncOp::IoUringNet));
        let Body::AsyncIo(net) = &event.body else { unreachable!("matched above") };
        assert_eq!(net.opcode, 45);
        watch.wait(SOON, |event| is(event, AsyncOp::Userfaultfd));
        assert_eq!(watch.count(|event| is(event, AsyncOp::IoUringNet)), 1, "once a process");
    }
}

#[test]
fn move_to_another_cgroup_and_its_freezing_are_told() {
    let watch = Watch::start();
    let root = monitor::kernel::support::cgroup2_root().expect("a cgroup v2 hierarchy");
    let name = format!("gpuwarden-acts-{}", std::process::id());
    let place = root.join(&name);
    std::fs::create_dir(&place).expect("a cgroup");
    let mut moved = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    std::fs::write(place.join("cgroup.procs"), moved.id().to_string()).expect("it moves");
    std::fs::write(place.join("cgroup.freeze"), "1").expect("it freezes");
    std::fs::write(place.join("cgroup.freeze"), "0").expect("it thaws");
    let id = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&place).expect("there"));
    let event = watch.wait(
        SOON,
        |event| matches!(&event.body, Body::CgroupMove(to) if to.moved.tgid.0 == moved.id()),
    );
    let Body::CgroupMove(to) = &event.body else { unreachable!("matched above") };
    assert_eq!((to.to.0, to.path.as_str()), (id, format!("/{name}").as_str()));
    assert!(by(&event, std::process::id()));
    let event = watch.wait(SOON, |event| {
        matches!(&event.body, Body::Tamper(tamper)
            if tamper.op == TamperOp::Freeze && tamper.object.ends_with(&name))
    });
    let Body::Tamper(freeze) = &event.body else { unreachable!("matched above") };
    assert!(!freeze.is_self, "the monitor is not in it");
    moved.kill().expect("it lives");
    moved.wait().expect("it ends");
    while std::fs::remove_dir(&place).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn link_that_others_detach_is_told_and_put_back() {
    let mut watch = Watch::start();
    assert_eq!(watch.loaded.mend(), [], "nothing is amiss");
    let script = "
import glob
for path in glob.glob(f'/proc/{sys.argv[1]}/fdinfo/*'):
    info = dict(line.split(':\\t') for line in open(path).read().splitlines() if ':\\t' in line)
    if info.get('link_type') == 'cgroup':
        fd = syscall(321, 30, ctypes.c_char_p(struct.pack('<III', int(info['link_id']), 0, 0)), 12)
        syscall(321, 34, ctypes.c_char_p(struct.pack('<I', fd)), 4)";
    let actor = act(&watch, script, &[&std::process::id().to_string()]);
    for op in [TamperOp::BpfOpen, TamperOp::BpfDetach] {
        watch.wait(SOON, |event| {
            by(event, actor)
                && matches!(&event.body, Body::Tamper(tamper)
                if tamper.op == op && tamper.is_self && tamper.object_id != 0)
        });
    }
    let mended = watch.loaded.mend();
    for sensor in ["udp_peer", "packet", "dns"] {
        let told = mended.iter().find(|(name, _)| *name == sensor);
        assert!(told.is_some_and(|(_, detail)| detail.contains("attached again")), "{mended:?}");
    }
    assert_eq!(watch.loaded.mend(), [], "all is as it was");
}
