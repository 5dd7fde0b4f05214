//! The whole way of an event on the engine's thread: decode, enrich, rules. What is measured starts
//! with the bytes that the kernel wrote and ends with the findings; facts are asked of the live
//! state ([`Enriched`](monitor::enrich::Enriched)) and not of recorded rows.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use monitor::correlate::{CorrelateLimits, Engine, Finding};
use monitor::decode;
use monitor::enrich::{EnrichConfig, Enricher, FileHead, NoGpu, ProcInfo, ProcSource, Profiles};
use monitor::model::{CgroupId, Clock, Event, Tgid};
use monitor::rule::ProfileSet;
use monitor::rule::spec::Rule;
use monitor_common::{
    ActorRecord, CLASS_WEIGHTS, DIRECTION_EGRESS, Endpoint, ExecRecord, ExitRecord, FLOW_PROGRESS,
    FLOW_START, FileIdRecord, FileOpenRecord, FlowRecord, KIND_DNS, KIND_EXEC, KIND_EXIT,
    KIND_FILE_OPEN, KIND_FLOW, KIND_TASK_NEW, OPEN_NAME_CLASS, PayloadRecord, RecordHeader,
    TaskNewRecord,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::{EVENT_NS, MEASURED};

/// Frames of the mix: what comes to the engine between two looks at the clock of a busy host.
const FRAMES: usize = 1_000;
/// Workloads of the host.
const WORKLOADS: usize = 40;
/// Processes that live through the measurement, in these workloads.
const PROCESSES: usize = 500;
/// Start of the processes in nanoseconds since boot, and of the events.
const BORN_NS: u64 = 1_000_000_000;

/// Where frames carry the time (`RecordHeader::boot_ns`).
const TIME_AT: usize = std::mem::offset_of!(RecordHeader, boot_ns);
/// Where they carry the start of whoever acted.
const START_AT: usize =
    std::mem::offset_of!(RecordHeader, actor) + std::mem::offset_of!(ActorRecord, start_boot_ns);
/// Where a birth carries the start of the child.
const CHILD_START_AT: usize = std::mem::offset_of!(TaskNewRecord, child_start_boot_ns);

/// A host whose cgroups are pods, and that tells nothing else.
struct Host;

impl ProcSource for Host {
    fn cgroup(&self, process: Tgid) -> Option<String> {
        Some(format!("0::{}\n", path(process.0 as usize % WORKLOADS)))
    }

    fn cgroup_id(&self, path_of: &str) -> Option<CgroupId> {
        (0..WORKLOADS).find(|at| path(*at) == path_of).map(|at| CgroupId(100 + at as u64))
    }

    fn process(&self, _process: Tgid) -> Option<ProcInfo> {
        None
    }

    fn head(&self, _process: Tgid, _path: &str, _into: &mut [u8]) -> Option<FileHead> {
        None
    }
}

fn path(workload: usize) -> String {
    format!("/system.slice/trainer-{workload}-isolated-training.service")
}

/// A frame of the mix.
struct Frame {
    bytes: Vec<u8>,
    /// Whether it is of a process that was born in the same round: its start moves with the time.
    is_of_child: bool,
}

/// Events a second through decode, enrich and `rules`, and findings a round.
pub(crate) fn events_per_second(rules: &[Arc<Rule>], profiles: &Arc<ProfileSet>) -> (f64, usize) {
    let mut engine = Engine::new(rules, CorrelateLimits::default());
    let profiles = Arc::clone(profiles) as Arc<dyn Profiles>;
    let config = monitor::config::load(None).expect("the defaults");
    let config = EnrichConfig::new(&config.watch, &config.kernel, Tgid(1));
    let mut enricher = Enricher::new(&config, profiles, Clock::default(), Box::new(Host));
    for at in 0..PROCESSES {
        enricher.observe(&decode::decode(&exec(actor(at), at)).expect("decodes"));
    }
    let mut frames = mix();
    let (mut findings, mut events, mut out) = (0, 0_u32, Vec::new());
    let mut now = BORN_NS * 100;
    let mut play = |findings: &mut usize| {
        for slot in frames.chunks_mut(20) {
            let born = now;
            for frame in slot {
                now += EVENT_NS;
                frame.bytes[TIME_AT..TIME_AT + 8].copy_from_slice(&now.to_ne_bytes());
                if frame.is_of_child {
                    let at = match frame.bytes[0] {
                        kind if u16::from(kind) == KIND_TASK_NEW => CHILD_START_AT,
                        _ => START_AT,
                    };
                    frame.bytes[at..at + 8].copy_from_slice(&born.to_ne_bytes());
                }
                let mut event = decode::decode(black_box(&frame.bytes)).expect("decodes");
                enricher.complete(&mut event);
                take(&mut enricher, &mut engine, &event, &mut out);
                for found in enricher.take_found() {
                    take(&mut enricher, &mut engine, &found, &mut out);
                }
                *findings += out.len();
                out.clear();
            }
        }
        u32::try_from(FRAMES).unwrap_or(u32::MAX)
    };
    play(&mut findings);
    findings = 0;
    let (started, mut rounds) = (Instant::now(), 0);
    while started.elapsed() < MEASURED {
        events += play(&mut findings);
        rounds += 1;
    }
    (f64::from(events) / started.elapsed().as_secs_f64(), findings / rounds)
}

/// One event, as the engine's thread takes it.
fn take(enricher: &mut Enricher, engine: &mut Engine, event: &Event, out: &mut Vec<Finding>) {
    let seen = enricher.observe(event);
    if event.body.kind().is_some() {
        engine.on_event(&enricher.facts(event, &seen, &NoGpu), out);
    }
}

/// The same mix as of the recorded rows, as the kernel writes it: half flows, a quarter opens, a
/// birth, a program and an end in twenty, a question to the resolver.
fn mix() -> Vec<Frame> {
    (0..FRAMES)
        .map(|at| {
            let child = ActorRecord { tgid: tgid(PROCESSES + at / 20), ..actor(at / 20) };
            let (bytes, is_of_child) = match at % 20 {
                0 => (birth(actor(at / 20), child.tgid), true),
                1 => (exec(ActorRecord { tid: child.tgid, ..child }, at / 20), true),
                2 => (end(ActorRecord { tid: child.tgid, ..child }), true),
                3..=7 => (open(at), false),
                8 => (question(at), false),
                _ => (flow(at), false),
            };
            Frame { bytes, is_of_child }
        })
        .collect()
}

fn tgid(at: usize) -> u32 {
    10_000 + u32::try_from(at).expect("few")
}

fn actor(at: usize) -> ActorRecord {
    const NAMES: [&str; 5] = ["python3", "pt_data_worker", "nccl", "node", "containerd"];
    let at = at % PROCESSES;
    let mut actor = ActorRecord::new_zeroed();
    (actor.tgid, actor.tid) = (tgid(at), tgid(at));
    actor.start_boot_ns = BORN_NS;
    actor.cgroup_id = 100 + u64::from(tgid(at)) % WORKLOADS as u64;
    actor.uid = 1000;
    let name = NAMES[at % NAMES.len()];
    actor.comm[..name.len()].copy_from_slice(name.as_bytes());
    actor
}

fn header(kind: u16, actor: ActorRecord) -> RecordHeader {
    let mut header = RecordHeader::new_zeroed();
    (header.kind, header.actor) = (kind, actor);
    header
}

fn birth(creator: ActorRecord, child: u32) -> Vec<u8> {
    let mut record = TaskNewRecord::new_zeroed();
    record.header = header(KIND_TASK_NEW, creator);
    (record.child_tgid, record.child_tid) = (child, child);
    record.as_bytes().to_vec()
}

fn exec(actor: ActorRecord, parent: usize) -> Vec<u8> {
    let (exe, args, cwd) =
        ("/usr/bin/python3.11", "python3\0train.py\0--epochs\x003\0", "/workspace");
    let mut record = ExecRecord::new_zeroed();
    record.header = header(KIND_EXEC, actor);
    record.parent_tgid = tgid(parent % PROCESSES);
    record.parent_start_boot_ns = BORN_NS;
    record.exe = FileIdRecord { inode: 77, device: 8, generation: 1 };
    record.nlink = 1;
    record.exe_len = u32::try_from(exe.len()).expect("short");
    record.args_len = u32::try_from(args.len()).expect("short");
    (record.args_total, record.cwd_len) = (record.args_len, cwd.len().try_into().expect("short"));
    [record.as_bytes(), exe.as_bytes(), args.as_bytes(), cwd.as_bytes()].concat()
}

fn end(actor: ActorRecord) -> Vec<u8> {
    let mut record = ExitRecord::new_zeroed();
    record.header = header(KIND_EXIT, actor);
    record.as_bytes().to_vec()
}

fn open(at: usize) -> Vec<u8> {
    let path = format!("/models/llama/model-{:05}.safetensors", at % 30);
    let mut record = FileOpenRecord::new_zeroed();
    record.header = header(KIND_FILE_OPEN, actor(at));
    record.file = FileIdRecord { inode: 5_000 + at as u64 % 30, device: 8, generation: 1 };
    (record.size, record.mode) = (5 << 30, 0o100_644);
    (record.reason, record.name_class) = (OPEN_NAME_CLASS, CLASS_WEIGHTS);
    record.path_len = u32::try_from(path.len()).expect("short");
    [record.as_bytes(), path.as_bytes()].concat()
}

fn question(at: usize) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["store", "ckpt", "internal"] {
        message.push(u8::try_from(label.len()).expect("short"));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let mut record = PayloadRecord::new_zeroed();
    record.header = header(KIND_DNS, actor(at));
    record.flow_id = 900_000 + at as u64;
    (record.local, record.remote) = (address([10, 42, 0, 9], 40_000), address([10, 0, 0, 2], 53));
    record.payload_len = u32::try_from(message.len()).expect("short");
    (record.payload_total, record.protocol) = (record.payload_len, 17);
    [record.as_bytes(), &message[..]].concat()
}

/// A flow of its process: one in forty records is its start.
fn flow(at: usize) -> Vec<u8> {
    let ip = if at.is_multiple_of(5) { [198, 51, 100, 7] } else { [10, 42, 0, 7] };
    let actor = actor(at);
    let mut record = FlowRecord::new_zeroed();
    record.header = header(KIND_FLOW, actor);
    record.flow_id = 1_000 + at as u64 % PROCESSES as u64;
    (record.owner_tgid, record.owner_start_boot_ns) = (actor.tgid, BORN_NS);
    record.phase = if at.is_multiple_of(40) { FLOW_START } else { FLOW_PROGRESS };
    record.direction = DIRECTION_EGRESS;
    (record.local, record.remote) = (address([10, 42, 0, 9], 40_000), address(ip, 443));
    (record.bytes_out, record.bytes_out_before, record.sends) = (90_000, 88_500, 60);
    record.started_boot_ns = BORN_NS;
    (record.family, record.socket_type, record.protocol) = (2, 1, 6);
    record.as_bytes().to_vec()
}

fn address(ip: [u8; 4], port: u16) -> Endpoint {
    let mut end = Endpoint::new_zeroed();
    end.address[10..].copy_from_slice(&[0xff, 0xff, ip[0], ip[1], ip[2], ip[3]]);
    end.port = port;
    end
}
