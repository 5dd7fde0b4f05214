//! Streams behind relays, memory that is read, and processes that come from outside.

use super::*;
use crate::model::{
    AccessMethod, CgroupMove, Channel, MemoryAccess, Stdio, StreamKind, Tamper, TamperOp,
};

pub(super) fn stdio(pipes: [u64; 3]) -> Body {
    let pipe = |id| (id != 0).then_some(Channel { kind: StreamKind::Pipe, id, inode: id });
    Body::Stdio(Stdio { is_whole: true, channels: pipes.map(pipe), ..Stdio::default() })
}

fn sends(pid: u32, to: &str, phase: FlowPhase) -> Body {
    let remote = format!("{to}:4444");
    Body::Flow(Flow { phase, owner: key(pid), ..flow(u64::from(pid), &remote, 10) })
}

/// A shell between two pipes and `nc` at the far end of both, as `mkfifo` relays are built.
fn relay(stage: &mut Stage, flow_first: bool) -> (Event, Observation) {
    stage.exec(10, "/bin/bash");
    stage.fork(10, 11);
    stage.fork(10, 12);
    let talks = |stage: &mut Stage| {
        stage.exec(12, "/bin/nc");
        stage.act(actor(12), stdio([2, 1, 0]));
        stage.act(actor(12), sends(12, "198.51.100.7", FlowPhase::Start));
    };
    if flow_first {
        talks(stage);
    }
    stage.exec(11, "/bin/sh");
    let shell = stage.act(actor(11), stdio([1, 2, 2]));
    if !flow_first {
        talks(stage);
    }
    shell
}

#[test]
fn a_shell_behind_a_relay_is_found_whoever_comes_first() {
    for flow_first in [false, true] {
        let mut stage = Stage::new();
        let shell = relay(&mut stage, flow_first);
        assert_eq!(stage.text(&shell, FieldId::ProcStdioRelay), "true", "{flow_first}");
        assert_eq!(stage.text(&shell, FieldId::ProcStdioSocket), "false");
        let found = stage.enricher.take_found();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].actor.as_ref().unwrap().process, key(11));
        assert_eq!(found[0].body.kind(), Some(crate::model::EventKind::Stdio));
        let seen = stage.enricher.observe(&found[0]);
        assert_eq!(stage.text(&(found[0].clone(), seen), FieldId::ProcStdioRelay), "true");
        assert!(stage.enricher.take_found().is_empty(), "told once");
    }
}

#[test]
fn a_relay_that_was_left_the_connection_of_its_parent_is_found_whoever_comes_first() {
    for speaker_first in [false, true] {
        let mut stage = Stage::new();
        stage.exec(10, "/bin/bash");
        stage.act(actor(10), sends(10, "198.51.100.7", FlowPhase::Start));
        stage.fork(10, 11);
        stage.fork(10, 12);
        let speaks = |stage: &mut Stage| {
            stage.exec(12, "/bin/cat");
            let Body::Stdio(streams) = stdio([2, 0, 0]) else { unreachable!() };
            let remote = "198.51.100.7:4444".parse().ok();
            stage.act(actor(12), Body::Stdio(Stdio { fd: 1, family: 2, remote, ..streams }));
        };
        if speaker_first {
            speaks(&mut stage);
        }
        stage.exec(11, "/bin/sh");
        let shell = stage.act(actor(11), stdio([1, 2, 2]));
        if !speaker_first {
            speaks(&mut stage);
        }
        assert_eq!(stage.text(&shell, FieldId::ProcStdioRelay), "true", "{speaker_first}");
        assert_eq!(stage.enricher.take_found().len(), 1);
    }
}

#[test]
fn pipes_that_lead_nowhere_and_loopback_are_no_relay() {
    let mut stage = Stage::new();
    stage.exec(10, "/bin/bash");
    stage.fork(10, 11);
    stage.fork(10, 12);
    stage.exec(11, "/bin/sh");
    let shell = stage.act(actor(11), stdio([1, 2, 2]));
    stage.exec(12, "/bin/nc");
    stage.act(actor(12), stdio([2, 1, 0]));
    stage.act(actor(12), sends(12, "127.0.0.1", FlowPhase::Start));
    stage.act(actor(12), stdio([7, 8, 0]));
    stage.act(actor(12), sends(12, "198.51.100.7", FlowPhase::Progress));
    assert_eq!(stage.text(&shell, FieldId::ProcStdioRelay), "false");
    // A program that only reads from the talker, as in `curl … | sh`, writes elsewhere.
    stage.exec(11, "/bin/sh");
    let shell = stage.act(actor(11), stdio([8, 0, 0]));
    stage.act(actor(12), sends(12, "198.51.100.7", FlowPhase::Progress));
    assert_eq!(stage.text(&shell, FieldId::ProcStdioRelay), "false");
}

#[test]
fn a_socket_on_a_stream_stays_with_the_children_until_they_execute() {
    let mut stage = Stage::new();
    stage.exec(10, "/bin/bash");
    let remote = "198.51.100.7:4444".parse().ok();
    let body = Body::Stdio(Stdio { family: 2, remote, ..Stdio::default() });
    let shell = stage.act(actor(10), body);
    assert_eq!(stage.text(&shell, FieldId::ProcStdioSocket), "true");
    stage.fork(10, 11);
    let child = stage.act(actor(11), Body::Exit(Exit { code: 0 }));
    assert_eq!(stage.text(&child, FieldId::ProcStdioSocket), "true");
    let shell = stage.act(actor(10), stdio([1, 0, 0]));
    assert_eq!(stage.text(&shell, FieldId::ProcStdioSocket), "false");
}

#[test]
fn a_socket_that_the_parent_had_as_a_stream_is_not_believed_of_the_childs_program() {
    let socket = || {
        let remote = "198.51.100.7:4444".parse().ok();
        Body::Stdio(Stdio { family: 2, remote, ..Stdio::default() })
    };
    let mut stage = Stage::new();
    stage.exec(10, "/bin/bash");
    stage.act(actor(10), socket());
    stage.fork(10, 11);
    let shell = stage.exec(11, "/bin/sh");
    assert_eq!(stage.text(&shell, FieldId::ProcStdioSocket), "false");
    stage.fork(10, 12);
    stage.act(actor(12), socket());
    let shell = stage.exec(12, "/bin/sh");
    assert_eq!(stage.text(&shell, FieldId::ProcStdioSocket), "true", "its own doing");
}

fn access(named_pid: u32, bytes: u64) -> Body {
    let method = AccessMethod::VmRead;
    let target = ProcessKey::default();
    Body::MemoryAccess(MemoryAccess { method, target, named_pid, is_host_pid: true, bytes })
}

#[test]
fn who_reads_the_memory_of_a_reader_of_weights_is_marked() {
    let mut stage = Stage::new();
    stage.exec(30, "/usr/bin/python3");
    stage.exec(40, "/usr/bin/thief");
    let mut event =
        Event { time: BootNs(stage.now + 1), actor: Some(actor(40)), body: access(30, 4096) };
    stage.enricher.complete(&mut event);
    let Body::MemoryAccess(done) = &event.body else { unreachable!() };
    assert_eq!(done.target, key(30), "the process behind the id is found");
    let seen = stage.enricher.observe(&event);
    let of = (event.clone(), seen);
    assert_eq!(stage.text(&of, FieldId::TargetPid), "30");
    assert_eq!(stage.text(&of, FieldId::WeightsBytesRead), "0", "it has read nothing");
    let handle = stage.enricher.processes.find(key(30)).unwrap();
    stage.enricher.processes.get_mut(handle).unwrap().has_read_weights = true;
    let workload = stage.enricher.processes.get(handle).unwrap().workload.unwrap();
    let account = &mut stage.enricher.workloads.get_mut(workload).unwrap().account;
    account.read_weights(crate::enrich::LabelId(1), "llama", true, 1 << 30, BootNs(stage.now));
    let seen = stage.enricher.observe(&event);
    let of = (event, seen);
    assert_eq!(stage.text(&of, FieldId::WeightsModels), "llama");
    assert_eq!(stage.text(&of, FieldId::WeightsBytesRead), "4096");
    assert_eq!(stage.text(&of, FieldId::TargetWeightsBytesRead), (1u64 << 30).to_string());
}

#[test]
fn whose_memory_a_reader_of_weights_writes_into_is_marked() {
    let mut stage = listeners();
    let write = |target, bytes| {
        let (method, target) = (AccessMethod::VmWrite, key(target));
        Body::MemoryAccess(MemoryAccess { method, target, named_pid: 0, is_host_pid: true, bytes })
    };
    let has_read = |stage: &mut Stage| {
        let of = stage.act(actor(20), Body::Flow(flow(20, "198.51.100.7:443", 1)));
        stage.text(&of, FieldId::WeightsBytesRead)
    };
    stage.act(actor(30), write(20, 4096));
    assert_eq!(has_read(&mut stage), "0", "who has read nothing has nothing to hand over");
    stage.act(actor(10), write(20, 0));
    assert_eq!(has_read(&mut stage), "0", "nothing was moved");
    stage.act(actor(20), write(10, 4096));
    assert_eq!(has_read(&mut stage), "0", "to write into a reader is not to read");
    stage.act(actor(10), write(20, 4096));
    assert_eq!(has_read(&mut stage), "4096");
}

#[test]
fn an_act_against_the_monitors_own_process_is_told_as_such() {
    let mut stage = Stage::new();
    stage.enricher.own = Tgid(77);
    let tamper = |target| Tamper {
        op: TamperOp::Signal,
        target: key(target),
        signal: 19,
        object: String::new(),
        object_id: 0,
        is_self: false,
    };
    for (target, expected) in [(77, true), (78, false)] {
        let body = Body::Tamper(tamper(target));
        let mut event = Event { time: BootNs(stage.now), actor: Some(actor(5)), body };
        stage.enricher.complete(&mut event);
        let Body::Tamper(tamper) = event.body else { unreachable!() };
        assert_eq!(tamper.is_self, expected);
    }
}

#[test]
fn who_is_moved_into_a_running_container_has_entered_it_and_its_first_process_has_not() {
    let mut stage = Stage::new();
    let container = format!("/system.slice/docker-{}.scope", "ab".repeat(32));
    for pid in [50, 51] {
        stage.exec(pid, "/usr/bin/runc");
        stage.cgroup(pid, &container);
        let moved = CgroupMove { moved: key(pid), to: CgroupId(9), path: container.clone() };
        stage.act(actor(5), Body::CgroupMove(moved));
    }
    stage.fork(51, 52);
    for (pid, expected) in [(50, "false"), (51, "true"), (52, "true")] {
        let act = stage.act(actor(pid), Body::Exit(Exit { code: 0 }));
        assert_eq!(stage.text(&act, FieldId::ProcEntered), expected, "{pid}");
        assert!(stage.text(&act, FieldId::WorkloadId).starts_with("container:"));
    }
}

pub(super) fn link(peer: u32, bytes: u64) -> Body {
    use crate::model::{Link, LinkKind};
    Body::Link(Link {
        kind: LinkKind::Unix,
        peer: key(peer),
        peer_cgroup: CgroupId(9),
        bytes,
        is_accepted: false,
        peer_socket: 0,
        peer_port: 0,
    })
}

#[test]
fn what_is_passed_on_counts_when_it_is_enough_to_carry_a_model() {
    use crate::enrich::limit::{DERIVED_BYTES_MIN, LINK_SPAN_NS};
    let mut stage = Stage::new();
    for (pid, unit) in [(10, "reader"), (20, "proxy"), (30, "idle")] {
        stage.cgroup(pid, &format!("/system.slice/{unit}.service"));
        stage.exec(pid, "/bin/x");
    }
    let read = |stage: &mut Stage, pid| {
        let of = stage.act(actor(pid), Body::Flow(flow(u64::from(pid), "198.51.100.7:443", 1)));
        stage.text(&of, FieldId::WeightsBytesRead)
    };
    stage.act(actor(30), link(20, 4 * DERIVED_BYTES_MIN));
    assert_eq!(read(&mut stage, 20), "0", "who read nothing passes nothing on");
    stage.act(actor(10), Body::FileOpen(open("/m/a.safetensors", 1, 1 << 30)));
    stage.act(actor(10), link(20, DERIVED_BYTES_MIN - 1));
    stage.now += LINK_SPAN_NS;
    let (_, seen) = stage.act(actor(10), link(20, DERIVED_BYTES_MIN - 1));
    assert_eq!((read(&mut stage, 20).as_str(), seen.mark), ("0", None), "too slow");
    let (_, seen) = stage.act(actor(10), link(20, 1));
    assert_eq!(read(&mut stage, 20), DERIVED_BYTES_MIN.to_string());
    assert_eq!(seen.mark, Some(CgroupId(9)), "its files are watched from now on");
    stage.act(actor(10), link(20, 5));
    assert_eq!(read(&mut stage, 20), (DERIVED_BYTES_MIN + 5).to_string());
    stage.act(actor(10), link(1, 4 * DERIVED_BYTES_MIN));
}

/// What a process without a name took over a channel of which only the socket is known.
fn nameless(cgroup: u64, socket: u64, port: u16) -> Body {
    use crate::enrich::limit::DERIVED_BYTES_MIN;
    use crate::model::{Link, LinkKind};
    Body::Link(Link {
        kind: LinkKind::Loopback,
        peer: ProcessKey::default(),
        peer_cgroup: CgroupId(cgroup),
        bytes: DERIVED_BYTES_MIN,
        is_accepted: false,
        peer_socket: socket,
        peer_port: port,
    })
}

/// A reader in a cgroup of its own, and who may have listened: 20 alone in cgroup 8; 30, 31 and 40
/// in the root cgroup, of which 30 and 31 are one tree.
fn listeners() -> Stage {
    let mut stage = Stage::new();
    let text = |path: &str| format!("1:cpu:/\n0::{path}\n");
    for (pid, cgroup, path) in
        [(10, 9, "/reader"), (20, 8, "/relay"), (30, 1, "/"), (40, 1, "/"), (31, 1, "/")]
    {
        stage.host.0.lock().unwrap().cgroups.insert(pid, text(path));
        if pid == 31 {
            stage.fork(30, 31);
            continue;
        }
        let by = Actor { cgroup: CgroupId(cgroup), ..actor(pid) };
        stage.act(by, exec(1, "/bin/x"));
    }
    let by = Actor { cgroup: CgroupId(9), ..actor(10) };
    stage.act(by, Body::FileOpen(open("/m/a.safetensors", 1, 1 << 30)));
    stage
}

#[test]
fn far_end_is_the_one_workload_of_a_plain_cgroup_or_whoever_has_the_socket_open() {
    let mut stage = listeners();
    let reader = Actor { cgroup: CgroupId(9), ..actor(10) };
    let read = |stage: &mut Stage, pid, cgroup| {
        let by = Actor { cgroup: CgroupId(cgroup), ..actor(pid) };
        let of = stage.act(by, Body::Flow(flow(u64::from(pid), "198.51.100.7:443", 1)));
        stage.text(&of, FieldId::WeightsBytesRead) != "0"
    };
    let (_, seen) = stage.act(reader.clone(), nameless(8, 0, 0));
    assert_eq!(seen.mark, Some(CgroupId(8)));
    assert!(read(&mut stage, 20, 8), "alone in its cgroup");
    assert_eq!(stage.host.0.lock().unwrap().looks, 0, "nobody had to be asked");
    stage.act(reader.clone(), nameless(1, 77, 0));
    assert!(!read(&mut stage, 30, 1) && !read(&mut stage, 40, 1), "nobody has it open");
    stage.host.0.lock().unwrap().sockets.extend([(78, 31), (1000 + 5353, 40)]);
    stage.act(reader.clone(), nameless(1, 78, 0));
    assert!(read(&mut stage, 30, 1), "the workload of the child that has it open");
    assert!(!read(&mut stage, 40, 1), "and no other");
    stage.act(reader.clone(), nameless(0, 0, 5353));
    assert!(read(&mut stage, 40, 1), "a datagram socket is found by its port");
}

#[test]
fn descriptors_are_looked_through_a_few_times_a_second_and_answers_stand_for_a_while() {
    use crate::enrich::limit::{FAR_AGAIN_NS, FAR_DESCRIPTORS_PER_SECOND_MAX};
    const LOOKS_MAX: usize = FAR_DESCRIPTORS_PER_SECOND_MAX / LOOK_COST;
    let mut stage = listeners();
    let reader = Actor { cgroup: CgroupId(9), ..actor(10) };
    let looks = |stage: &Stage| stage.host.0.lock().unwrap().looks;
    for _ in 0..3 {
        stage.act(reader.clone(), nameless(1, 77, 0));
    }
    assert_eq!(looks(&stage), 1);
    for socket in 100..200 {
        stage.act(reader.clone(), nameless(1, socket, 0));
    }
    assert_eq!(looks(&stage), LOOKS_MAX);
    stage.now += SECOND;
    stage.act(reader.clone(), nameless(1, 199, 0));
    assert_eq!(looks(&stage), LOOKS_MAX + 1, "a refused look is no answer that stands");
    stage.now += FAR_AGAIN_NS;
    stage.act(reader, nameless(1, 77, 0));
    assert_eq!(looks(&stage), LOOKS_MAX + 2);
}

#[test]
fn disagreement_of_a_cgroup_is_told_of_its_workload_also_where_an_id_does_not_tell_everything() {
    use crate::model::SensorNote;
    let mut stage = listeners();
    let note = |cgroup| {
        let detail = "in TCP".to_owned();
        let cgroup = Some(CgroupId(cgroup));
        Body::SensorNote(SensorNote { sensor: "send_bytes", state: "disagreement", detail, cgroup })
    };
    stage.act(Actor { cgroup: CgroupId(8), ..actor(20) }, Body::Exit(Exit { code: 0 }));
    let told = stage.act(Actor::default(), note(8));
    assert_eq!(stage.text(&told, FieldId::SensorCgroup), "/relay");
    assert_eq!(stage.text(&told, FieldId::WorkloadId), "cgroup:/relay");
    let told = stage.act(Actor::default(), note(1));
    assert_eq!(stage.text(&told, FieldId::SensorCgroup), "", "the root is nobody's");
}

#[test]
fn answers_of_a_server_count_from_the_size_of_its_model_and_what_it_pushes_as_of_anybody() {
    use crate::enrich::limit::DERIVED_BYTES_MIN;
    let mut stage = Stage::new();
    for (pid, unit) in [(10, "server"), (20, "proxy"), (30, "thief")] {
        stage.cgroup(pid, &format!("/system.slice/{unit}.service"));
        stage.exec(pid, if pid == 10 { "/usr/bin/tritonserver" } else { "/bin/x" });
    }
    let read = |stage: &mut Stage, pid| {
        let of = stage.act(actor(pid), Body::Flow(flow(u64::from(pid), "198.51.100.7:443", 1)));
        stage.text(&of, FieldId::WeightsBytesRead)
    };
    stage.act(actor(10), Body::FileOpen(open("/m/a.safetensors", 1, 4 * DERIVED_BYTES_MIN)));
    let answer = |bytes| {
        let Body::Link(link) = link(20, bytes) else { unreachable!("it is one") };
        Body::Link(crate::model::Link { is_accepted: true, ..link })
    };
    stage.act(actor(10), answer(4 * DERIVED_BYTES_MIN - 1));
    assert_eq!(read(&mut stage, 20), "0", "answers, and not yet as long as a model");
    stage.act(actor(10), answer(1));
    assert_eq!(read(&mut stage, 20), (4 * DERIVED_BYTES_MIN).to_string());
    stage.act(actor(10), link(30, DERIVED_BYTES_MIN));
    assert_eq!(read(&mut stage, 30), DERIVED_BYTES_MIN.to_string(), "nobody asked for it");
}
