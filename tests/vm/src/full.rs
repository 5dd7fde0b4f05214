//! The full tier: what only LSM hooks, or entries and returns of kernel functions, can see.

use monitor::model::{AccessMethod, Body, FileOp};

use crate::base::by;
use crate::suite::Test;
use crate::watch::Watch;

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
        run: |w| reads(w, "read", 300_000, false),
    },
    Test {
        name: "k5_10_pread_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "pread", 81_920, false),
    },
    Test {
        name: "k5_10_readv_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "readv", 3000, false),
    },
    Test {
        name: "k5_10_sendfile_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "sendfile", 300_000, false),
    },
    Test {
        name: "k5_10_splice_is_counted_exactly",
        sensor: "file_read",
        run: |w| reads(w, "splice", 300_000, false),
    },
    Test {
        name: "k5_10_mapping_counts_with_its_length",
        sensor: "file_read",
        run: |w| reads(w, "mmap", 131_072, true),
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

fn reads(watch: &mut Watch, act: &str, bytes: u64, is_mapped: bool) -> Result<(), String> {
    let path = weights(watch, act)?;
    // Sums leave in steps: what is left after the last step leaves with a read after a pause.
    let pid = Watch::play("paused", &[act, &path, &bytes.to_string()])?;
    let last = u64::from(!is_mapped);
    let wanted = bytes + last;
    let total = watch.wait("all bytes", |event| {
        by(event, pid)
            && matches!(&event.body, Body::FileRead(read)
                if read.is_mapped == is_mapped && read.bytes_total >= wanted)
    });
    let sums: Vec<u64> = watch
        .events
        .iter()
        .filter(|event| by(event, pid))
        .filter_map(|event| match &event.body {
            Body::FileRead(read) if read.is_mapped == is_mapped => Some(read.bytes_total),
            _ => None,
        })
        .collect();
    total.map_err(|_| format!("{wanted} bytes were expected, sums are {sums:?}"))?;
    if sums.last() == Some(&wanted) {
        Ok(())
    } else {
        Err(format!("{wanted} bytes were expected, sums are {sums:?}"))
    }
}

fn unlabelled(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/notes.txt";
    std::fs::write(path, vec![7; 300_000]).map_err(|error| error.to_string())?;
    let pid = Watch::play("read", &[path, "", "300000"])?;
    watch.settle();
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
fn books(watch: &mut Watch) -> Result<(), String> {
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
