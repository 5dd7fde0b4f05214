//! Roads to files: whatever way a process takes to a file of interest, it is seen with the file's
//! true identity. Needs root.

mod watch;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use monitor::model::{Body, Event, FileId, FileOp, FileOpen, Tgid};
use monitor::sensor::label_watch::{LabelWatch, MarkRequest, Notice};
use watch::{Watch, python};

/// Longer than the slowest poll of the bulk ring by far.
const SOON: Duration = Duration::from_secs(5);

/// An `io_uring` made by hand: open, read, direct descriptors, with or without a polling thread.
const URING: &str = include_str!("actor/uring.py");

fn opened<'e>(event: &'e Event, process: u32, ends: &str) -> Option<&'e FileOpen> {
    let is_its = event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == process);
    match &event.body {
        Body::FileOpen(open) if is_its && open.path.ends_with(ends) => Some(open),
        _ => None,
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

#[test]
fn small_credentials_are_seen_when_read_and_start_up_hooks_when_written() {
    let watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let script = "
import os, sys
def put(path, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
home, site = sys.argv[1] + '/home', sys.argv[1] + '/venv/site-packages'
put(home + '/.aws/credentials'); put(home + '/.ssh/deploy', 0o600); put(home + '/x/config')
put(site + '/evil.pth'); put(sys.argv[1] + '/plain.txt')
for path in ['.aws/credentials', '.ssh/deploy', 'x/config']: open(home + '/' + path).read()
open(site + '/evil.pth').read(); open(sys.argv[1] + '/plain.txt').read()";
    let child = python(&watch, script, &[text(dir.path())]);
    for ends in ["/.aws/credentials", "/.ssh/deploy"] {
        let event =
            watch.wait(SOON, |event| opened(event, child, ends).is_some_and(FileOpen::reads));
        assert!(opened(&event, child, ends).is_some_and(|open| open.size_bytes == 0));
    }
    watch.wait(SOON, |event| opened(event, child, "/evil.pth").is_some_and(FileOpen::writes));
    watch.settle();
    let read_hook = |event: &Event| opened(event, child, "/evil.pth").is_some_and(|o| !o.writes());
    assert_eq!(watch.count(read_hook), 0, "every interpreter reads these");
    for ends in ["/x/config", "/plain.txt"] {
        assert_eq!(watch.count(|event| opened(event, child, ends).is_some()), 0, "{ends}");
    }
}

#[test]
fn what_is_written_after_weights_were_read_is_seen_whatever_its_size() {
    let mut watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let weights = dir.path().join("w");
    std::fs::write(&weights, b"weights").expect("a file");
    watch.label(&weights, 7);
    let script = "
import os, sys
d = sys.argv[1]
open(d + '/w').read()
os.close(os.open(d + '/copy', os.O_CREAT | os.O_WRONLY))";
    let child = python(&watch, script, &[text(dir.path())]);
    let event = watch.wait(SOON, |event| opened(event, child, "/copy").is_some());
    let copy = opened(&event, child, "/copy").expect("matched above");
    let real = std::fs::metadata(dir.path().join("copy")).expect("it is there");
    assert_eq!((copy.id.inode, copy.size_bytes), (real.ino(), 0));
    watch.assert_received_is_accounted_for();
}

#[test]
fn a_program_that_was_just_written_names_its_writer() {
    let watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let script = "
import os, shutil, sys
shutil.copy('/bin/true', sys.argv[1] + '/fresh')
os.execv(sys.argv[1] + '/fresh', ['fresh'])";
    let child = python(&watch, script, &[text(dir.path())]);
    let event = watch.wait(
        SOON,
        |event| matches!(&event.body, Body::Exec(exec) if exec.exe.ends_with("/fresh")),
    );
    let Body::Exec(exec) = &event.body else { unreachable!("matched above") };
    let writer = exec.exe_writer.expect("its writer was seen");
    assert_eq!(writer.process.0, child);
    let changed = exec.exe_changed.expect("the kernel knows").0 / 1_000_000_000;
    let real = std::fs::metadata(dir.path().join("fresh")).expect("it is there");
    assert_eq!(i64::try_from(changed).expect("a time"), real.ctime());
}

#[test]
fn a_file_opened_and_read_by_io_uring_is_seen_with_its_bytes() {
    let mut watch = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let weights = dir.path().join("w");
    std::fs::write(&weights, vec![7; 300_000]).expect("a file");
    watch.label(&weights, 7);
    let inode = std::fs::metadata(&weights).expect("it is there").ino();
    for way in ["plain", "sqpoll", "direct"] {
        let child = python(&watch, URING, &[text(&weights), way]);
        if way != "direct" {
            let event = watch.wait(SOON, |event| opened(event, child, "/w").is_some());
            assert_eq!(opened(&event, child, "/w").map(|open| open.id.inode), Some(inode));
        }
        let event = watch.wait(SOON, |event| {
            matches!(&event.body, Body::FileRead(read) if read.bytes_total == 300_000)
                && event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
        });
        let Body::FileRead(read) = &event.body else { unreachable!("matched above") };
        assert_eq!((read.id.inode, read.size_bytes, read.is_mapped), (inode, 300_000, false));
    }
}

/// Ways to the file `w` in the folder that is given; each leaves a descriptor in `fd` and reads it.
const ROADS: [(&str, &str); 11] = [
    ("symlink", "os.symlink(w, d + '/s'); fd = os.open(d + '/s', 0)"),
    ("hard link", "os.link(w, d + '/l'); fd = os.open(d + '/l', 0)"),
    (
        "rename",
        "os.rename(w, d + '/cat.jpg'); fd = os.open(d + '/cat.jpg', 0)\n\
                os.rename(d + '/cat.jpg', w)",
    ),
    ("own root", "fd = os.open('/proc/self/root' + w, 0)"),
    ("root of the parent", "fd = os.open('/proc/%d/root' % os.getppid() + w, 0)"),
    ("relative", "os.chdir(d); fd = os.open('.//./w', 0)"),
    (
        "openat2",
        "p = ctypes.create_string_buffer(w.encode())\n\
                 how = (ctypes.c_uint64 * 3)(0, 0, 4)\n\
                 fd = libc.syscall(437, -100, p, how, 24)",
    ),
    ("path descriptor", "o = os.open(w, os.O_PATH); fd = os.open('/proc/self/fd/%d' % o, 0)"),
    (
        "file handle",
        "h = ctypes.create_string_buffer(136)\n\
                     h[0:4] = (128).to_bytes(4, 'little'); m = ctypes.c_int()\n\
                     assert libc.name_to_handle_at(-100, w.encode(), h, ctypes.byref(m), 0) == 0\n\
                     fd = libc.open_by_handle_at(os.open(d, 0), h, 0)",
    ),
    (
        "bind mount",
        "assert libc.unshare(0x20000) == 0\n\
                    assert libc.mount(b'none', b'/', None, 0x44000, None) == 0\n\
                    os.mkdir(d + '/m')\n\
                    assert libc.mount(d.encode(), (d + '/m').encode(), None, 0x1000, None) == 0\n\
                    fd = os.open(d + '/m/w', 0)",
    ),
    ("chroot", "os.chroot(d); fd = os.open('/w', 0)"),
];

#[test]
fn every_road_by_a_system_call_leads_to_the_same_file() {
    let mut watch = Watch::start();
    for (road, how) in ROADS {
        let dir = tempfile::tempdir().expect("a directory");
        let weights = dir.path().join("w");
        std::fs::write(&weights, b"weights").expect("a file");
        watch.label(&weights, 7);
        let inode = std::fs::metadata(&weights).expect("it is there").ino();
        let script = format!(
            "import ctypes, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n\
             d = sys.argv[1]; w = d + '/w'\n{how}\nassert fd > 2, road\nos.read(fd, 10)"
        );
        let child = python(&watch, &script, &[text(dir.path())]);
        let is_it = |event: &Event| {
            opened(event, child, "").is_some_and(|open| open.id.inode == inode && open.reads())
        };
        let end = Instant::now() + SOON;
        while watch.count(is_it) == 0 {
            assert!(Instant::now() < end, "{road} is not seen; {}", watch.accounts());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A mark on `path`, set before it returns.
fn marked(path: &Path) -> (LabelWatch, FileId) {
    let watch = LabelWatch::start(|| {}).expect("run as root");
    let id = FileId {
        device: 1,
        inode: std::fs::metadata(path).expect("it is there").ino(),
        generation: 0,
    };
    let process = Tgid(std::process::id());
    watch.mark(MarkRequest { id, process, path: text(path).to_owned(), is_labelled: true });
    while watch.stats().marks.marked() == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    // The mark follows its count.
    std::thread::sleep(Duration::from_millis(20));
    (watch, id)
}

fn noticed(watch: &LabelWatch, is_it: impl Fn(&Notice) -> bool) -> Notice {
    let end = Instant::now() + SOON;
    loop {
        match watch.next() {
            Some(notice) if is_it(&notice) => return notice,
            Some(_) => {}
            None => {
                assert!(Instant::now() < end, "nothing was noticed");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[test]
fn a_32_bit_system_call_opens_nothing_unnoticed() {
    let kernel = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let weights = dir.path().join("w");
    std::fs::write(&weights, b"weights").expect("a file");
    let (watch, id) = marked(&weights);
    let script = "
import ctypes, mmap, os, struct, sys
low = 0x40  # MAP_32BIT: a 32-bit system call takes 32-bit addresses
page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | low, 7)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
page[256:256 + len(sys.argv[1]) + 1] = sys.argv[1].encode() + bytes(1)
code = bytes([0x53, 0xb8, 5, 0, 0, 0, 0xbb]) + struct.pack('<I', at + 256)
code += bytes([0x31, 0xc9, 0x31, 0xd2, 0xcd, 0x80, 0x5b, 0xc3])
page[0:len(code)] = code
fd = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
assert fd > 2, fd
assert os.read(fd, 10) == b'weights'";
    let child = python(&kernel, script, &[text(&weights)]);
    let notice = noticed(&watch, |notice| notice.is_opened);
    assert_eq!((notice.process.0, notice.id, notice.path.as_str()), (child, id, text(&weights)));
    kernel.settle();
    assert_eq!(kernel.count(|event| opened(event, child, "/w").is_some()), 0, "the other way");
}

#[test]
fn a_descriptor_that_was_passed_is_noticed_when_its_new_owner_reads() {
    let kernel = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let weights = dir.path().join("w");
    std::fs::write(&weights, b"weights").expect("a file");
    let (watch, _) = marked(&weights);
    let script = "
import os, socket, sys
a, b = socket.socketpair(socket.AF_UNIX)
if os.fork() == 0:
    _, fds, _, _ = socket.recv_fds(b, 1, 1)
    open(sys.argv[1] + '.pid', 'w').write(str(os.getpid()))
    os.read(fds[0], 10); os._exit(0)
socket.send_fds(a, [b'x'], [os.open(sys.argv[1], 0)]); os.wait()";
    python(&kernel, script, &[text(&weights)]);
    let pid = std::fs::read_to_string(dir.path().join("w.pid")).expect("it wrote its id");
    let reader: u32 = pid.parse().expect("a number");
    let notice = noticed(&watch, |notice| notice.process.0 == reader);
    assert!(notice.is_read && !notice.is_opened);
}

#[test]
fn writing_and_cutting_a_labelled_file_is_noticed_with_its_new_size() {
    let kernel = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let weights = dir.path().join("w");
    std::fs::write(&weights, b"weights").expect("a file");
    let (watch, _) = marked(&weights);
    let child = python(&kernel, "import os,sys; os.truncate(sys.argv[1], 3)", &[text(&weights)]);
    let notice = noticed(&watch, |notice| notice.change == Some(FileOp::Truncate));
    assert_eq!((notice.process.0, notice.size_bytes), (child, 3));
    let script = "import sys; f = open(sys.argv[1], 'ab'); f.write(b'x' * 100); f.close()";
    let child = python(&kernel, script, &[text(&weights)]);
    let notice = noticed(&watch, |notice| notice.is_closed);
    assert_eq!((notice.process.0, notice.size_bytes), (child, 103));
}

#[test]
fn names_that_a_labelled_file_gets_and_loses_are_noticed_with_who_did_it() {
    let kernel = Watch::start();
    let dir = tempfile::tempdir().expect("a directory");
    let weights = dir.path().join("w");
    std::fs::write(&weights, b"weights").expect("a file");
    let (watch, id) = marked(&weights);
    for (op, act, path, new_path) in [
        (FileOp::Link, "os.link(w, w + '2')", "/w", "/w2"),
        (FileOp::Unlink, "os.unlink(w + '2')", "/w", ""),
        (FileOp::Rename, "os.rename(w, w + '.jpg')", "/w", "/w.jpg"),
        (FileOp::Unlink, "os.unlink(w + '.jpg')", "/w.jpg", ""),
    ] {
        let script = format!("import os, sys; w = sys.argv[1]; {act}");
        let child = python(&kernel, &script, &[text(&weights)]);
        let notice = noticed(&watch, |notice| notice.change.is_some());
        assert_eq!((notice.change, notice.process.0, notice.id), (Some(op), child, id), "{act}");
        assert!(notice.path.ends_with(path) && notice.new_path.ends_with(new_path), "{notice:?}");
    }
}
