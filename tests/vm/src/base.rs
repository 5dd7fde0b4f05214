//! The base tier on every kernel.

use std::ffi::CString;
use std::path::Path;

use monitor::model::{Body, Event, FileType, FlowPhase, LinkKind};
use rustix::mount::MountFlags;

use crate::host;
use crate::suite::Test;
use crate::watch::Watch;

/// The tests, in order; the books are balanced last.
pub(crate) const TESTS: &[Test] = &[
    Test { name: "k5_10_tier_is_what_the_kernel_was_booted_with", sensor: "", run: tier },
    Test { name: "k5_10_canary_agrees_with_proc_self", sensor: "process_seen", run: canary },
    Test { name: "k5_10_exec_is_seen", sensor: "process_exec", run: exec },
    Test { name: "k5_10_exit_is_seen", sensor: "process_exit", run: exit },
    Test { name: "k5_10_memfd_exec_is_known_for_what_it_is", sensor: "process_exec", run: memfd },
    Test { name: "k5_10_thread_is_no_process", sensor: "process", run: thread },
    Test { name: "k5_10_tcp_flow_is_seen_with_its_peer", sensor: "tcp_state", run: tcp },
    Test { name: "k6_3_send_bytes_are_counted", sensor: "send_bytes", run: sent },
    Test {
        name: "k5_10_written_bytes_are_counted",
        sensor: "",
        run: |w| sends(w, "tcp", 70_000, &[]),
    },
    Test { name: "k5_10_bytes_of_sendfile_are_counted", sensor: "", run: sent_file },
    Test {
        name: "k5_10_datagrams_are_counted",
        sensor: "",
        run: |w| sends(w, "udp", 30_000, &["127.0.0.1"]),
    },
    Test {
        name: "k5_10_datagrams_over_ipv6_are_counted",
        sensor: "",
        run: |w| sends(w, "udp", 30_000, &["::1"]),
    },
    Test { name: "k5_10_frames_are_counted", sensor: "", run: frames },
    Test { name: "k5_10_rare_socket_is_seen", sensor: "", run: rare_socket },
    Test { name: "k5_10_open_of_weights_is_seen", sensor: "", run: open },
    Test { name: "k5_10_open_through_overlays_is_of_the_labelled_file", sensor: "", run: overlaid },
    Test {
        name: "k5_10_what_a_reader_of_weights_puts_into_a_pipe_is_told",
        sensor: "pipe_write",
        run: piped,
    },
    Test { name: "k5_10_segment_that_is_attached_is_told", sensor: "", run: segment },
];

pub(crate) fn by(event: &Event, pid: u32) -> bool {
    event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == pid)
}

/// `gpuwarden.lsm=` on the command line says what this machine was booted with.
fn tier(watch: &mut Watch) -> Result<(), String> {
    let tiers = &watch.loaded.tiers;
    if let Err(why) = &tiers.fentry {
        return Err(format!("function entries are off: {why}"));
    }
    let is_booted = host::command_line("gpuwarden.lsm").as_deref() == Some("yes");
    match (&tiers.lsm, is_booted) {
        (Ok(()), true) => Ok(()),
        (Err(why), true) => Err(format!("LSM hooks are off: {why}")),
        (Ok(()), false) => Err("LSM hooks are called, though bpf is not in lsm=".to_owned()),
        (Err(why), false) if why.contains("never called") => Ok(()),
        (Err(why), false) => Err(format!("the reason does not say that they are silent: {why}")),
    }
}

fn canary(watch: &mut Watch) -> Result<(), String> {
    let iterator = watch.loaded.take_iterator().ok_or("no iterator")?;
    let seeds = monitor::sensor::seed(iterator).map_err(|error| error.to_string())?;
    if seeds.events.is_empty() { Err("nobody was there".to_owned()) } else { Ok(()) }
}

fn exec(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("exec", &["a b"])?;
    let event = watch.wait("the exec", |event| {
        by(event, pid) && matches!(&event.body, Body::Exec(exec) if exec.args.len() == 3)
    })?;
    let Body::Exec(exec) = &event.body else { return Err("no exec".into()) };
    let expected = ["/init", "act", "nothing"].map(str::to_owned);
    if exec.args != expected || exec.exe != "/init" || exec.parent.tgid.0 != 1 {
        return Err(format!("{exec:?}"));
    }
    Ok(())
}

fn exit(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("nothing", &[])?;
    watch.wait("the exit", |event| by(event, pid) && matches!(event.body, Body::Exit(_)))?;
    Ok(())
}

fn memfd(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("memfd", &[])?;
    watch.wait("the memfd", |event| {
        by(event, pid) && matches!(&event.body, Body::Exec(exec) if exec.is_memfd)
    })?;
    Ok(())
}

fn thread(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("thread", &[])?;
    watch.wait("the thread", |event| {
        by(event, pid) && matches!(&event.body, Body::TaskNew(task) if task.is_thread)
    })?;
    Ok(())
}

fn tcp(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("tcp", &["70000"])?;
    let event = watch.wait("the flow", |event| {
        by(event, pid)
            && matches!(&event.body, Body::Flow(flow)
                if flow.phase == FlowPhase::Start && flow.egress == Some(true))
    })?;
    let Body::Flow(flow) = &event.body else { return Err("no flow".into()) };
    match flow.remote {
        Some(remote) if remote.ip().is_loopback() && remote.port() != 0 => Ok(()),
        other => Err(format!("peer {other:?}")),
    }
}

fn sent(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("tcp", &["70000"])?;
    watch.wait("70000 bytes", |event| {
        matches!(&event.body, Body::Flow(flow)
            if flow.owner.tgid.0 == pid && flow.phase == FlowPhase::End
                && flow.bytes_out_total == 70_000)
    })?;
    Ok(())
}

/// Below 6.3 the sensor is on a fallback, and counts the same.
fn sends(watch: &mut Watch, act: &str, bytes: u64, args: &[&str]) -> Result<(), String> {
    let count = bytes.to_string();
    let pid = Watch::play(act, &[&[count.as_str()], args].concat())?;
    ends_with(watch, pid, bytes)
}

fn sent_file(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/parcel";
    std::fs::write(path, vec![7; 300_000]).map_err(|error| error.to_string())?;
    let pid = Watch::play("tcp_sendfile", &[path, "300000"])?;
    ends_with(watch, pid, 300_000)
}

fn ends_with(watch: &mut Watch, pid: u32, bytes: u64) -> Result<(), String> {
    let is_end = |event: &Event| {
        matches!(&event.body, Body::Flow(flow)
            if flow.owner.tgid.0 == pid && flow.phase == FlowPhase::End && flow.bytes_out_total > 0)
    };
    let event = watch.wait("the end of the flow", is_end)?;
    match &event.body {
        Body::Flow(flow) if flow.bytes_out_total == bytes => Ok(()),
        other => Err(format!("{bytes} bytes were sent: {other:?}")),
    }
}

pub(crate) fn frames(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("frames", &["20000"])?;
    watch.wait("20000 bytes of frames", |event| {
        matches!(&event.body, Body::Flow(flow)
            if flow.owner.tgid.0 == pid && flow.bytes_out_total == 20_000)
    })?;
    Ok(())
}

fn rare_socket(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("raw_socket", &[])?;
    let raw = u16::try_from(libc::SOCK_RAW).unwrap_or_default();
    watch.wait("the raw socket", |event| {
        by(event, pid)
            && matches!(&event.body, Body::SocketNew(socket) if socket.socket_type == raw)
    })?;
    Ok(())
}

fn open(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/base.safetensors";
    std::fs::write(path, [7; 4096]).map_err(|error| error.to_string())?;
    watch.label(path, 7)?;
    let pid = Watch::play("open", &[path])?;
    let event = watch.wait("the open", |event| {
        by(event, pid) && matches!(&event.body, Body::FileOpen(open) if open.path == path)
    })?;
    let Body::FileOpen(open) = &event.body else { return Err("no open".into()) };
    if open.size_bytes == 4096 { Ok(()) } else { Err(format!("{open:?}")) }
}

/// A labelled file in a layer of an overlay, and in one of an overlay above that.
fn overlaid(watch: &mut Watch) -> Result<(), String> {
    let lower = "/tmp/base-layer";
    std::fs::create_dir_all(lower).map_err(|error| error.to_string())?;
    let path = format!("{lower}/blob");
    std::fs::write(&path, [7; 4096]).map_err(|error| error.to_string())?;
    let key = watch.label(&path, 7)?;
    let above = overlay("base-above", lower)?;
    let twice = overlay("base-twice", &above)?;
    for directory in [above, twice] {
        let path = format!("{directory}/blob");
        let pid = Watch::play("open", &[&path])?;
        let event = watch.wait(&path, |event| {
            by(event, pid) && matches!(&event.body, Body::FileOpen(open) if open.size_bytes == 4096)
        })?;
        let Body::FileOpen(open) = &event.body else { return Err("no open".into()) };
        if (open.id.inode, open.id.device) != (key.inode, key.device) {
            return Err(format!("{path}: {open:?}"));
        }
    }
    Ok(())
}

/// Mounts an overlay above a directory, and above nothing else; where.
pub(crate) fn overlay(name: &str, lower: &str) -> Result<String, String> {
    host::load_module(Path::new(host::OVERLAY_MODULE))?;
    let (place, empty) = (format!("/tmp/{name}"), format!("/tmp/{name}-empty"));
    for directory in [&place, &empty] {
        std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    }
    let options = CString::new(format!("lowerdir={empty}:{lower}")).map_err(|e| e.to_string())?;
    rustix::mount::mount("overlay", &*place, "overlay", MountFlags::empty(), &*options)
        .map_err(|error| format!("overlay on {place}: {error}"))?;
    Ok(place)
}

fn piped(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/piped.safetensors";
    std::fs::write(path, [7; 8192]).map_err(|error| error.to_string())?;
    watch.label(path, 7)?;
    for way in ["pipe_write", "pipe_writev", "pipe_splice", "pipe_sendfile", "pipe_vmsplice"] {
        let pid = Watch::play(way, &[path, "3000"])?;
        let event = watch.wait(way, |event| {
            by(event, pid) && matches!(&event.body, Body::Link(link) if link.kind == LinkKind::Pipe)
        })?;
        let Body::Link(link) = &event.body else { return Err("no link".into()) };
        if link.bytes != 3000 || link.peer_socket == 0 {
            return Err(format!("{way}: {link:?}"));
        }
    }
    Ok(())
}

/// A segment of the shortest length that is told, and one that is shorter.
fn segment(watch: &mut Watch) -> Result<(), String> {
    let least = monitor_common::SEGMENT_BYTES_MIN;
    let short = Watch::play("segment", &[&(least - 1).to_string()])?;
    let pid = Watch::play("segment", &[&least.to_string()])?;
    for writes in [true, false] {
        watch.wait("a segment", |event| {
            let Body::FileOpen(open) = &event.body else { return false };
            let is_segment = open.file_type == FileType::Segment && open.path == "/SYSV00000000";
            by(event, pid) && is_segment && open.size_bytes == least && open.writes() == writes
        })?;
    }
    let is_told = |event: &Event| by(event, short) && matches!(event.body, Body::FileOpen(_));
    if watch.events.iter().any(is_told) {
        return Err("one that is too short was told".to_owned());
    }
    Ok(())
}
