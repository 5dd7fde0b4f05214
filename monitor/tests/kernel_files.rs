//! Roads to files: whatever way a process takes to a file of interest, it is seen with the file's
//! true identity. Needs root.

mod watch;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use monitor::model::{Body, Event, FileOpen};
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
