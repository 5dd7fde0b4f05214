//! The full tier: what only LSM hooks, or entries and returns of kernel functions, can see.

use std::io::ErrorKind;

use monitor::model::{AccessMethod, Body, FileOp};

use crate::base::{by, overlay};
use crate::suite::Test;
use crate::watch::Watch;

/// A test that needs a file system that takes `O_DIRECT`.
const DIRECT: &str = "k5_10_direct_read_is_counted_exactly";

/// The tests.
pub(crate) const TESTS: &[Test] = &[
    Test { name: "k5_10_open_is_seen", sensor: "file_open", run: |w| opens(w, "open") },
    Test {
        name: "k5_10_open_by_int80_is_seen",
        sensor: "file_open",
        run: |w| opens(w, "open_int80"),
    },
    Test {
        name: "k5_10_open_by_handle_is_seen",
        sensor: "file_open",
        run: |w| opens(w, "open_handle"),
    },
    Test {
        name: "k5_10_open_by_io_uring_is_seen",
        sensor: "file_open",
        run: |w| opens(w, "uring_open"),
    },
    Test {
        name: "k5_10_read_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "read", 300_000),
    },
    Test {
        name: "k5_10_pread_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "pread", 81_920),
    },
    Test {
        name: "k5_10_readv_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "readv", 3000),
    },
    Test {
        name: "k5_10_preadv2_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "preadv2", 3000),
    },
    Test {
        name: "k5_10_sendfile_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "sendfile", 300_000),
    },
    Test {
        name: "k5_10_splice_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "splice", 300_000),
    },
    Test {
        name: "k5_10_copy_in_the_kernel_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "copy", 300_000),
    },
    Test { name: DIRECT, sensor: "file_read", run: |w| reads(w, "direct", 16_384) },
    Test {
        name: "k5_10_asynchronous_read_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "aio", 70_001),
    },
    Test {
        name: "k5_19_read_by_io_uring_is_counted_exactly",
        sensor: "io_uring",
        run: |w| reads(w, "uring_read", 300_000),
    },
    Test {
        name: "k5_10_read_through_an_overlay_is_counted_exactly",
        sensor: "file_read",
        run: |w| overlaid(w, "read"),
    },
    Test {
        name: "k5_10_sendfile_through_an_overlay_is_counted_exactly",
        sensor: "file_read",
        run: |w| overlaid(w, "sendfile"),
    },
    Test { name: "k5_10_mapping_counts_with_its_length", sensor: "file_read", run: mapped },
    Test {
        name: "k5_10_rest_of_a_sum_is_told_while_its_reader_lives",
        sensor: "file_read",
        run: rest,
    },
    Test { name: "k5_10_unlabelled_reads_are_not_told", sensor: "file_read", run: unlabelled },
    Test { name: "k5_10_rename_is_seen_with_both_paths", sensor: "file_change", run: rename },
    Test {
        name: "k5_10_link_is_seen",
        sensor: "file_change",
        run: |w| changes(w, "link", FileOp::Link),
    },
    Test {
        name: "k5_10_unlink_is_seen",
        sensor: "file_change",
        run: |w| changes(w, "unlink", FileOp::Unlink),
    },
    Test {
        name: "k5_10_truncate_is_seen",
        sensor: "file_change",
        run: |w| changes(w, "truncate", FileOp::Truncate),
    },
    Test { name: "k5_10_toolkit_maps_code_of_an_image", sensor: "map_exec", run: map_exec },
    Test { name: "k5_10_fresh_code_is_seen_when_mapped", sensor: "map_exec", run: map_fresh },
    Test {
        name: "k5_10_reaching_into_a_process_is_seen_at_the_check",
        sensor: "access_check",
        run: access,
    },
    Test { name: "k5_10_socket_is_seen_when_it_is_made", sensor: "socket_new", run: socket },
    Test { name: "k5_10_books_balance", sensor: "", run: books },
];

/// A labelled file of 300 000 bytes.
fn weights(watch: &mut Watch, name: &str) -> Result<String, String> {
    let path = format!("/tmp/{name}.safetensors");
    std::fs::write(&path, vec![7; 300_000]).map_err(|error| format!("{path}: {error}"))?;
    watch.label(&path, 9)?;
    Ok(path)
}

fn opens(watch: &mut Watch, act: &str) -> Result<(), String> {
    let path = weights(watch, act)?;
    let pid = Watch::play(act, &[&path])?;
    watch.wait("the open", |event| {
        by(event, pid) && matches!(&event.body, Body::FileOpen(open) if open.path == path)
    })?;
    Ok(())
}

/// Why this kernel has no means to play a test; `None` where it has.
pub(crate) fn cannot(test: &str) -> Option<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if test != DIRECT {
        return None;
    }
    let path = "/tmp/direct";
    let mut open = std::fs::OpenOptions::new();
    let open = open.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
    let refused = open.open(path).err().filter(|error| error.kind() == ErrorKind::InvalidInput)?;
    Some(format!("the only file system here does not read past its cache before 6.6: {refused}"))
}

fn reads(watch: &mut Watch, act: &str, bytes: u64) -> Result<(), String> {
    let path = weights(watch, act)?;
    let argument = if act == "copy" { "/tmp/copy".to_owned() } else { bytes.to_string() };
    let pid = Watch::play(act, &[&path, &argument])?;
    sums(watch, pid, false, bytes)
}

fn overlaid(watch: &mut Watch, act: &str) -> Result<(), String> {
    let layer = format!("/tmp/layer-{act}");
    std::fs::create_dir_all(&layer).map_err(|error| error.to_string())?;
    let path = format!("{layer}/blob");
    std::fs::write(&path, vec![7; 300_000]).map_err(|error| error.to_string())?;
    watch.label(&path, 9)?;
    let above = overlay(&format!("above-{act}"), &layer)?;
    let pid = Watch::play(act, &[&format!("{above}/blob"), "300000"])?;
    sums(watch, pid, false, 300_000)
}

fn mapped(watch: &mut Watch) -> Result<(), String> {
    let path = weights(watch, "mmap")?;
    let pid = Watch::play("mmap", &[&path, "131072"])?;
    sums(watch, pid, true, 131_072)
}

/// All that a process read, once it has ended: to the byte, and in records that add up.
fn sums(watch: &mut Watch, pid: u32, is_mapped: bool, bytes: u64) -> Result<(), String> {
    watch.wait("the end", |event| by(event, pid) && matches!(event.body, Body::Exit(_)))?;
    let reads = read_by(watch, pid, is_mapped);
    let sum: u64 = reads.iter().map(|read| read.0).sum();
    match reads.last() {
        Some((_, total)) if sum == bytes && *total == bytes => Ok(()),
        _ => Err(format!("{bytes} bytes were expected, bytes and sums are {reads:?}")),
    }
}

/// Bytes and sums of the records of a process's reads, or of its mappings.
fn read_by(watch: &Watch, pid: u32, is_mapped: bool) -> Vec<(u64, u64)> {
    let own = watch.events.iter().filter(|event| by(event, pid));
    let reads = own.filter_map(|event| match &event.body {
        Body::FileRead(read) if read.is_mapped == is_mapped => Some(read),
        _ => None,
    });
    reads.map(|read| (read.bytes, read.bytes_total)).collect()
}

/// Ten blocks are read at once; the first has a record, the others are in the sum.
fn rest(watch: &mut Watch) -> Result<(), String> {
    let path = weights(watch, "rest")?;
    let mut child = Watch::spawn("read_and_stay", &[&path, "40960"])?;
    let pid = child.id();
    let told = watch.wait("all bytes", |event| {
        by(event, pid) && matches!(&event.body, Body::FileRead(read) if read.bytes_total == 40_960)
    });
    let lives = child.try_wait().map_err(|error| error.to_string())?.is_none();
    let _ended = child.kill();
    let _reaped = child.wait();
    told?;
    if lives { Ok(()) } else { Err("it had ended, which says nothing".to_owned()) }
}

fn unlabelled(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/notes.txt";
    std::fs::write(path, vec![7; 300_000]).map_err(|error| error.to_string())?;
    let pid = Watch::play("read", &[path, "300000"])?;
    watch.wait("the end", |event| by(event, pid) && matches!(event.body, Body::Exit(_)))?;
    let told =
        watch.events.iter().any(|event| by(event, pid) && matches!(event.body, Body::FileRead(_)));
    if told { Err("a file without a label is told".to_owned()) } else { Ok(()) }
}

fn rename(watch: &mut Watch) -> Result<(), String> {
    let path = weights(watch, "rename")?;
    let pid = Watch::play("rename", &[&path, "/tmp/cat.jpg"])?;
    let event = watch.wait("the rename", |event| {
        by(event, pid)
            && matches!(&event.body, Body::FileChange(change) if change.op == FileOp::Rename)
    })?;
    let Body::FileChange(change) = &event.body else { return Err("no change".into()) };
    if change.path == path && change.new_path == "/tmp/cat.jpg" && change.size_bytes == 300_000 {
        Ok(())
    } else {
        Err(format!("{change:?}"))
    }
}

fn changes(watch: &mut Watch, act: &str, op: FileOp) -> Result<(), String> {
    let path = weights(watch, &format!("change-{act}"))?;
    let pid = Watch::play(act, &[&path, &format!("/tmp/other-{act}")])?;
    watch.wait("the change", |event| {
        by(event, pid)
            && matches!(&event.body, Body::FileChange(change)
                if change.op == op && change.path == path)
    })?;
    Ok(())
}

fn map_exec(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/libhook.so";
    std::fs::write(path, [7; 8192]).map_err(|error| error.to_string())?;
    let pid = Watch::play("as_toolkit", &[path])?;
    watch.wait("the mapping", |event| {
        by(event, pid)
            && matches!(&event.body, Body::FileChange(change)
                if change.op == FileOp::MapExec && change.path == path)
    })?;
    Ok(())
}

fn map_fresh(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/fresh.bin";
    let pid = Watch::play("map_fresh", &[path])?;
    watch.wait("the mapping", |event| {
        by(event, pid)
            && matches!(&event.body, Body::FileChange(change)
                if change.op == FileOp::MapExec && change.path == path)
    })?;
    Ok(())
}

fn access(watch: &mut Watch) -> Result<(), String> {
    for road in ["ptrace", "vm_read", "proc_mem", "pidfd_getfd"] {
        let pid = Watch::play(road, &[])?;
        watch.wait(road, |event| {
            by(event, pid)
                && matches!(&event.body, Body::MemoryAccess(access)
                    if access.method == AccessMethod::Check && access.target.tgid.0 != 0)
        })?;
    }
    Ok(())
}

fn socket(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("packet_socket", &[])?;
    let family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    watch.wait("the packet socket", |event| {
        by(event, pid) && matches!(&event.body, Body::SocketNew(socket) if socket.family == family)
    })?;
    Ok(())
}

/// `seen = sent + filtered + lost` for every kind, once nothing is at work; and all was decoded.
pub(crate) fn books(watch: &mut Watch) -> Result<(), String> {
    watch.settle();
    if let Some(refused) = watch.refused.first() {
        return Err(format!("{} records were refused: {refused}", watch.refused.len()));
    }
    for counters in watch.maps.counters() {
        if !counters.counters.is_balanced() {
            return Err(format!("{counters:?}"));
        }
        if counters.counters.lost() > 0 {
            return Err(format!("lost: {counters:?}"));
        }
    }
    Ok(())
}
