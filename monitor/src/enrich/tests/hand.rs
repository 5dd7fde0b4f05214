//! What goes from hand to hand: pipes, FIFOs, memory and files without a name.

use super::reach::{link, stdio};
use super::*;
use crate::model::{AccessMethod, MemoryAccess};

/// So many bytes into a pipe.
fn piped(pipe: u64, bytes: u64) -> Body {
    let Body::Link(link) = link(0, bytes) else { unreachable!("it is one") };
    let (peer, peer_cgroup) = (ProcessKey::default(), CgroupId(0));
    let kind = crate::model::LinkKind::Pipe;
    Body::Link(crate::model::Link { kind, peer, peer_cgroup, peer_socket: pipe, ..link })
}

/// A reader of a model in a unit of its own, and two more units.
fn writer_and_strangers() -> Stage {
    let mut stage = Stage::new();
    for (pid, unit) in [(10, "reader"), (20, "taker"), (30, "idle")] {
        stage.cgroup(pid, &format!("/system.slice/{unit}.service"));
        stage.exec(pid, "/bin/x");
    }
    stage.act(actor(10), Body::FileOpen(open("/m/a.safetensors", 1, 1 << 30)));
    stage
}

fn has_read(stage: &mut Stage, pid: u32) -> String {
    let of = stage.act(actor(pid), Body::Flow(flow(u64::from(pid), "198.51.100.7:443", 1)));
    stage.text(&of, FieldId::WeightsBytesRead)
}

#[test]
fn who_reads_a_fifo_takes_over_what_goes_through_it() {
    use crate::enrich::limit::{LINK_SPAN_NS, PIPE_READERS_MAX, PIPED_BYTES_MIN};
    let mut stage = writer_and_strangers();
    let fifo = |inode, open_flags| {
        let file_type = FileType::Fifo;
        Body::FileOpen(FileOpen { file_type, open_flags, ..open("/run/fifo", inode, 0) })
    };
    let Body::FileOpen(opened) = fifo(77, 0) else { unreachable!("it is one") };
    let pipe = crate::enrich::pipe::pipe_of(&opened.id);
    stage.act(actor(20), fifo(77, 0));
    stage.act(actor(30), fifo(77, 1));
    stage.act(actor(10), piped(pipe, PIPED_BYTES_MIN - 1));
    assert_eq!(has_read(&mut stage, 20), "0", "little is what logs are too");
    stage.now += LINK_SPAN_NS;
    stage.act(actor(10), piped(pipe, PIPED_BYTES_MIN - 1));
    assert_eq!(has_read(&mut stage, 20), "0", "too slow");
    stage.act(actor(10), piped(pipe, 1));
    assert_eq!(has_read(&mut stage, 20), PIPED_BYTES_MIN.to_string());
    assert_eq!(has_read(&mut stage, 30), "0", "who only writes takes nothing");
    stage.act(actor(20), piped(pipe + 1, PIPED_BYTES_MIN));
    assert_eq!(stage.host.0.lock().unwrap().looks, 1, "nobody had opened that one");
    for pid in 100..=100 + u32::try_from(PIPE_READERS_MAX).unwrap() {
        stage.act(actor(pid), fifo(77, 0));
    }
    let known = stage.enricher.pipes.find(&pipe).unwrap();
    assert_eq!(stage.enricher.pipes.get(known).unwrap().readers.len(), PIPE_READERS_MAX);
}

#[test]
fn who_began_with_a_pipe_or_has_it_open_reads_it_and_the_own_workload_is_no_stranger() {
    use crate::enrich::limit::{FAR_AGAIN_NS, PIPED_BYTES_MIN};
    let mut stage = writer_and_strangers();
    stage.fork(10, 11);
    stage.act(actor(11), stdio([5, 0, 0]));
    stage.act(actor(10), piped(5, PIPED_BYTES_MIN));
    for pid in [20, 30] {
        assert_eq!(has_read(&mut stage, pid), "0", "a pipe within the workload, {pid}");
    }
    stage.act(actor(20), stdio([6, 0, 0]));
    stage.act(actor(10), piped(6, PIPED_BYTES_MIN));
    assert_eq!(has_read(&mut stage, 20), PIPED_BYTES_MIN.to_string(), "its standard input");
    stage.now += 1_000_000_000;
    let looks = |stage: &Stage| stage.host.0.lock().unwrap().looks;
    let before = looks(&stage);
    stage.act(actor(10), piped(7, PIPED_BYTES_MIN));
    stage.act(actor(10), piped(7, PIPED_BYTES_MIN));
    assert_eq!(looks(&stage), before + 1, "an answer stands for a while");
    stage.host.0.lock().unwrap().sockets.insert(7, 30);
    stage.now += FAR_AGAIN_NS;
    stage.act(actor(10), piped(7, 1));
    let all = 2 * PIPED_BYTES_MIN + 1;
    assert_eq!(has_read(&mut stage, 30), all.to_string(), "what nobody was known to take too");
}

#[test]
fn log_of_a_server_is_no_copy_before_it_is_as_long_as_its_model() {
    use crate::enrich::limit::DERIVED_BYTES_MIN;
    let mut stage = Stage::new();
    for (pid, unit) in [(10, "server"), (20, "shim")] {
        stage.cgroup(pid, &format!("/system.slice/{unit}.service"));
        stage.exec(pid, if pid == 10 { "/usr/bin/tritonserver" } else { "/bin/x" });
    }
    stage.act(actor(10), Body::FileOpen(open("/m/a.safetensors", 1, 4 * DERIVED_BYTES_MIN)));
    stage.act(actor(20), stdio([6, 0, 0]));
    // An eighth may be untold.
    let enough = 4 * DERIVED_BYTES_MIN / 8 * 7;
    stage.act(actor(10), piped(6, enough - 1));
    assert_eq!(has_read(&mut stage, 20), "0");
    stage.act(actor(10), piped(6, 1));
    assert_eq!(has_read(&mut stage, 20), enough.to_string());
}

#[test]
fn who_has_open_what_a_reader_wrote_without_a_name_takes_it_over() {
    use crate::enrich::limit::{DERIVED_BYTES_MIN, HANDED_MAX, HANDED_SPAN_NS};
    let mut stage = writer_and_strangers();
    let memory = FileOpen { open_flags: 2, ..open("/memfd:cache", 9, 0) };
    let id = FileId { generation: 0, ..memory.id };
    let hold = |stage: &Stage, pid, size| {
        stage.host.0.lock().unwrap().nameless.insert(pid, vec![(id, size)]);
    };
    hold(&stage, 20, DERIVED_BYTES_MIN);
    stage.act(actor(10), Body::FileOpen(memory.clone()));
    assert_eq!(has_read(&mut stage, 20), "0", "nothing was passed");
    hold(&stage, 20, DERIVED_BYTES_MIN - 1);
    stage.act(actor(10), link(20, 1));
    assert_eq!(has_read(&mut stage, 20), "0", "too short to carry weights");
    hold(&stage, 20, DERIVED_BYTES_MIN);
    stage.now += HANDED_SPAN_NS;
    assert_eq!(has_read(&mut stage, 20), "0", "too long ago");
    hold(&stage, 20, 0);
    stage.act(actor(10), link(20, 1));
    hold(&stage, 20, DERIVED_BYTES_MIN);
    assert_eq!(has_read(&mut stage, 20), DERIVED_BYTES_MIN.to_string());
    let again = stage.act(actor(20), Body::Flow(flow(20, "198.51.100.7:443", 1)));
    assert_eq!(stage.text(&again, FieldId::WeightsOnlyDerived), "true");
    assert_eq!(stage.text(&again, FieldId::WeightsDerivedBytes), DERIVED_BYTES_MIN.to_string());
    let opened = stage.act(actor(20), Body::FileOpen(FileOpen { open_flags: 0, ..memory }));
    assert_ne!(stage.text(&opened, FieldId::FileLabel), "", "it is a copy by now");
    stage.now += SECOND;
    hold(&stage, 30, DERIVED_BYTES_MIN);
    let (method, target) = (AccessMethod::PidfdGetfd, key(10));
    let taken = MemoryAccess { method, target, named_pid: 0, is_host_pid: true, bytes: 0 };
    stage.act(actor(30), Body::MemoryAccess(taken));
    assert_eq!(has_read(&mut stage, 30), DERIVED_BYTES_MIN.to_string(), "taken, not given");
    for pid in 100..150 + u32::try_from(HANDED_MAX).unwrap() {
        stage.cgroup(pid, &format!("/system.slice/{pid}.service"));
        stage.exec(pid, "/bin/x");
        stage.act(actor(10), link(pid, 1));
    }
    assert_eq!(stage.enricher.handed.len(), HANDED_MAX);
}

#[test]
fn memory_that_is_opened_or_mapped_before_its_size_was_looked_at_is_labelled_at_once() {
    use crate::model::FileRead;
    let mut stage = writer_and_strangers();
    let memory = FileOpen { open_flags: 2, ..open("/memfd:cache", 9, 0) };
    stage.act(actor(10), Body::FileOpen(memory.clone()));
    let again = |size_bytes| Body::FileOpen(FileOpen { size_bytes, ..open("/memfd:cache", 9, 0) });
    stage.act(actor(40), again(1 << 20));
    assert_eq!(has_read(&mut stage, 40), "0", "too short");
    let (bytes, id) = (64 << 20, memory.id);
    let mapped = FileRead { id, size_bytes: bytes, bytes, bytes_total: bytes, is_mapped: true };
    stage.act(actor(20), Body::FileRead(mapped));
    assert_eq!(has_read(&mut stage, 20), bytes.to_string());
    stage.act(actor(30), again(bytes));
    assert_eq!(has_read(&mut stage, 30), bytes.to_string());
}

#[test]
fn what_a_process_has_open_when_something_is_passed_is_looked_at_at_once() {
    use crate::enrich::limit::DERIVED_BYTES_MIN;
    let mut stage = writer_and_strangers();
    let memory = FileOpen { open_flags: 2, ..open("/memfd:cache", 9, 0) };
    let id = FileId { generation: 0, ..memory.id };
    stage.act(actor(10), Body::FileOpen(memory));
    let hold = |stage: &Stage, held| {
        stage.host.0.lock().unwrap().nameless.insert(20, held);
    };
    hold(&stage, vec![(id, DERIVED_BYTES_MIN)]);
    stage.act(actor(10), link(20, 1));
    // By the time its first bytes are told, it may have ended.
    hold(&stage, Vec::new());
    assert_eq!(has_read(&mut stage, 20), DERIVED_BYTES_MIN.to_string());
}

#[test]
fn what_was_opened_before_the_kernel_knew_the_cgroup_is_followed_as_well() {
    use crate::enrich::limit::DERIVED_BYTES_MIN;
    let mut stage = writer_and_strangers();
    let written = vec![("/out/copy".to_owned(), 9)];
    stage.host.0.lock().unwrap().written.insert(10, written);
    let opened = |stage: &mut Stage| {
        let open = FileOpen { size_bytes: DERIVED_BYTES_MIN * 8, ..open("/out/copy", 9, 0) };
        let of = stage.act(actor(20), Body::FileOpen(open));
        stage.text(&of, FieldId::FileLabel)
    };
    assert_eq!(opened(&mut stage), "");
    let cgroup = actor(10).cgroup;
    stage.enricher.cgroup_is_marked(cgroup, BootNs(stage.now));
    assert_ne!(opened(&mut stage), "");
}
