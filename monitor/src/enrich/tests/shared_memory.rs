//! System V shared memory that is handed from workload to workload.

use super::*;
use crate::enrich::limit::{DERIVED_BYTES_MIN, SEGMENT_HOLDERS_MAX, SHARED_SEGMENTS_MAX};

const MODEL_BYTES: u64 = 64 << 20;

/// A segment that a process attaches, to write or not.
fn attach(number: u64, size_bytes: u64, writes: bool) -> Body {
    let open_flags = if writes { 2 } else { 0 };
    let file_type = FileType::Segment;
    let inode = 0x6fff_ffff_u64 << 32 | number;
    Body::FileOpen(FileOpen { file_type, open_flags, ..open("/SYSV67777264", inode, size_bytes) })
}

fn id(number: u64) -> FileId {
    let Body::FileOpen(open) = attach(number, 0, false) else { unreachable!() };
    open.id
}

fn unit(stage: &mut Stage, pid: u32) {
    stage.cgroup(pid, &format!("/system.slice/u{pid}.service"));
    stage.exec(pid, "/usr/bin/x");
}

/// A host with processes 10, 20 and 30 in workloads of their own.
fn three() -> Stage {
    let mut stage = Stage::new();
    for pid in [10, 20, 30] {
        unit(&mut stage, pid);
    }
    stage
}

impl Stage {
    fn take(&mut self, pid: u32, body: Body) -> (Event, Observation) {
        let of = self.act(actor(pid), body);
        for found in self.enricher.take_found() {
            self.enricher.observe(&found);
        }
        of
    }

    fn reads(&mut self, pid: u32) {
        self.take(pid, Body::FileOpen(open("/m/a.safetensors", 1, MODEL_BYTES)));
    }

    /// What the workload of a process has read of weights.
    fn weights(&mut self, pid: u32) -> String {
        let of = self.take(pid, Body::Flow(flow(u64::from(pid), "198.51.100.2:443", 1)));
        self.text(&of, FieldId::WeightsBytesRead)
    }
}

#[test]
fn who_attaches_what_a_reader_may_have_filled_has_read_it() {
    let mut stage = three();
    stage.reads(10);
    stage.take(10, attach(3, MODEL_BYTES, true));
    let taken = stage.take(20, attach(3, MODEL_BYTES, false));
    assert_eq!(stage.text(&taken, FieldId::FileType), "segment");
    assert_eq!(stage.text(&taken, FieldId::FileLabel), "m");
    assert_eq!(stage.text(&taken, FieldId::FileDerivedFrom), "m");
    assert_eq!(stage.text(&taken, FieldId::WeightsOnlyDerived), "true");
    assert_eq!(stage.weights(20), MODEL_BYTES.to_string());
    // Another namespace has segments of the same number.
    let Body::FileOpen(other) = attach(3, MODEL_BYTES, false) else { unreachable!() };
    let inode = 0x7000_0001_u64 << 32 | 3;
    let other = FileOpen { id: FileId { inode, ..other.id }, ..other };
    stage.take(30, Body::FileOpen(other));
    assert_eq!(stage.weights(30), "0");
}

#[test]
fn who_had_it_attached_before_has_read_it_too() {
    let mut stage = three();
    stage.take(20, attach(3, MODEL_BYTES, false));
    stage.take(10, attach(3, MODEL_BYTES, true));
    assert_eq!(stage.weights(20), "0", "nobody has read anything yet");
    stage.reads(10);
    assert_eq!(stage.weights(20), MODEL_BYTES.to_string(), "the reader had it before it read");
    let mut stage = three();
    stage.take(20, attach(3, MODEL_BYTES, false));
    stage.reads(10);
    assert_eq!(stage.weights(20), "0");
    stage.take(10, attach(3, MODEL_BYTES, true));
    assert_eq!(stage.weights(20), MODEL_BYTES.to_string(), "the taker had it before the reader");
}

#[test]
fn every_cgroup_that_takes_it_is_marked_for_the_kernel_side() {
    let mut stage = three();
    let body = |writes| attach(3, MODEL_BYTES, writes);
    let mut marks: Vec<u64> = Vec::new();
    let in_cgroup = |cgroup, pid| Actor { cgroup: CgroupId(cgroup), ..actor(pid) };
    for (cgroup, pid) in [(200, 20), (300, 30)] {
        stage.act(in_cgroup(cgroup, pid), body(false));
    }
    stage.act(in_cgroup(100, 10), Body::FileOpen(open("/m/a.safetensors", 1, MODEL_BYTES)));
    stage.act(in_cgroup(100, 10), body(true));
    for found in stage.enricher.take_found() {
        marks.extend(stage.enricher.observe(&found).mark.map(|cgroup| cgroup.0));
    }
    for (cgroup, pid) in [(200, 20), (300, 30)] {
        let flow = Body::Flow(flow(u64::from(pid), "198.51.100.2:443", 1));
        marks.extend(stage.act(in_cgroup(cgroup, pid), flow).1.mark.map(|cgroup| cgroup.0));
    }
    marks.sort_unstable();
    assert_eq!(marks, [200, 300]);
}

#[test]
fn what_cannot_carry_weights_on_does_not() {
    let mut stage = three();
    stage.take(10, attach(3, MODEL_BYTES, true));
    stage.take(20, attach(3, MODEL_BYTES, true));
    assert_eq!(stage.weights(20), "0", "nobody has read weights");
    stage.reads(10);
    stage.take(10, attach(4, MODEL_BYTES, false));
    stage.take(30, attach(4, MODEL_BYTES, true));
    assert_eq!(stage.weights(30), "0", "the reader cannot write there");
    stage.take(10, attach(5, DERIVED_BYTES_MIN - 1, true));
    stage.take(30, attach(5, DERIVED_BYTES_MIN - 1, false));
    assert_eq!(stage.weights(30), "0", "too short");
}

#[test]
fn within_one_workload_it_is_nobodys_business() {
    let mut stage = three();
    stage.reads(10);
    for child in 50..54 {
        stage.fork(10, child);
        stage.cgroup(child, "/system.slice/u10.service");
    }
    stage.take(10, attach(3, MODEL_BYTES, true));
    assert_eq!(stage.weights(10), MODEL_BYTES.to_string(), "it does not read what it writes");
    for child in 50..54 {
        stage.take(child, attach(3, MODEL_BYTES, true));
    }
    assert_eq!(stage.weights(10), MODEL_BYTES.to_string(), "its own workers share memory");
}

#[test]
fn pieces_count_once_they_carry_a_model() {
    let mut stage = three();
    stage.reads(10);
    let piece = DERIVED_BYTES_MIN / 4;
    for number in 0..3 {
        stage.take(10, attach(number, piece, true));
    }
    stage.take(20, attach(0, piece, false));
    assert_eq!(stage.weights(20), "0", "three are few");
    stage.take(10, attach(3, piece, true));
    assert_eq!(stage.weights(20), piece.to_string(), "the one that it had");
    stage.take(20, attach(1, piece, false));
    assert_eq!(stage.weights(20), (2 * piece).to_string());
}

#[test]
fn a_child_has_what_its_parent_had_until_it_executes_something_or_ends() {
    let mut stage = three();
    stage.take(20, attach(3, MODEL_BYTES, false));
    for child in [21, 22, 23] {
        stage.fork(20, child);
    }
    assert_eq!(stage.enricher.segments.holders(&id(3)), 4);
    stage.exec(21, "/bin/x");
    stage.exit(22);
    stage.exit(20);
    assert_eq!(stage.enricher.segments.holders(&id(3)), 1);
    stage.reads(10);
    stage.take(10, attach(3, MODEL_BYTES, true));
    assert_eq!(stage.weights(20), MODEL_BYTES.to_string(), "a child of it is still there");
    let mut stage = three();
    stage.take(20, attach(3, MODEL_BYTES, false));
    stage.exec(20, "/bin/x");
    stage.reads(10);
    stage.take(10, attach(3, MODEL_BYTES, true));
    assert_eq!(stage.weights(20), "0", "it let go before");
}

#[test]
fn segments_and_who_has_them_are_bounded() {
    let mut stage = three();
    for number in 0..=SHARED_SEGMENTS_MAX as u64 {
        stage.take(20, attach(number, MODEL_BYTES, false));
    }
    assert_eq!(stage.enricher.segments.len(), SHARED_SEGMENTS_MAX);
    let last = SHARED_SEGMENTS_MAX as u64;
    for child in 0..=u32::try_from(SEGMENT_HOLDERS_MAX).unwrap() {
        stage.fork(20, 1000 + child);
    }
    assert_eq!(stage.enricher.segments.holders(&id(last)), SEGMENT_HOLDERS_MAX);
}
