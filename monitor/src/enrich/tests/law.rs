//! What holds for any sequence of events.

use proptest::prelude::*;

use super::*;
use crate::enrich::process::Processes;
use crate::enrich::workload::Workloads;
use crate::model::{
    CATALOGUE, Completeness, Dns, DnsAnswer, FieldType, GpuSample, GpuUuid, Loss, LossReason,
    Payload, ProcessSeen, SeenOrigin, SocketNew,
};

const PROCESSES: usize = 12;
const WORKLOADS: usize = 5;

fn any_file() -> impl Strategy<Value = FileOpen> {
    let paths = ["/models/m/a.safetensors", "/models/m/b.gguf", "/tmp/x", "/home/u/k.pem", ""];
    (0..paths.len(), 0..6u64, any::<u64>(), 0..4u32, any::<bool>(), 0..3u32).prop_map(
        move |(path, inode, size_bytes, open_flags, path_truncated, generation)| FileOpen {
            id: FileId { device: 1, inode, generation },
            path_truncated,
            open_flags,
            ..open(paths[path], inode, size_bytes)
        },
    )
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let phases = [FlowPhase::Start, FlowPhase::Progress, FlowPhase::Payload, FlowPhase::End];
    let payload = prop::option::of(prop::collection::vec(any::<u8>(), 0..80));
    let remote = prop::option::of((any::<u32>(), any::<u16>()));
    (0..4usize, 0..6u64, any::<u64>(), remote, payload, any::<u16>(), 0..8u32).prop_map(
        move |(phase, id, bytes, remote, payload, family, owner)| Flow {
            phase: phases[phase],
            family,
            protocol: family >> 3,
            remote: remote
                .map(|(ip, port)| SocketAddr::from((std::net::Ipv4Addr::from_bits(ip), port))),
            owner: if owner == 0 { ProcessKey::default() } else { key(owner) },
            payload: payload.map(|bytes| Payload {
                sequence: 0,
                total: u32::try_from(bytes.len()).expect("short"),
                bytes: bytes.into(),
            }),
            ..flow(id, "198.51.100.1:1", bytes)
        },
    )
}

fn any_body() -> impl Strategy<Value = Body> {
    let gpu = any::<f64>().prop_map(|util| {
        Body::GpuSample(GpuSample {
            gpu: GpuUuid::from("GPU-1"),
            index: 0,
            model: String::new(),
            util_percent: Some(util),
            proc_util_percent: Some(util),
            mem_used_bytes: Some(u64::MAX),
            is_edge: true,
            ..GpuSample::default()
        })
    });
    let dns = (any::<u32>(), any::<u32>()).prop_map(|(ip, ttl_seconds)| {
        let ip = std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(ip));
        let answers = vec![DnsAnswer { ip, ttl_seconds }];
        Body::Dns(Dns {
            server: Some(ip),
            name: "pool.nanopool.org".into(),
            answers,
            ..Dns::default()
        })
    });
    let seen = (0..30u32).prop_map(|parent| {
        Body::ProcessSeen(ProcessSeen {
            parent: key(parent),
            exe: String::new(),
            exe_id: FileId::default(),
            args: vec![],
            cwd: String::new(),
            origin: SeenOrigin::Proc,
        })
    });
    prop_oneof![
        4 => (0..30u32).prop_map(task_new),
        4 => (0..30u32, 0..4u32).prop_map(|(parent, exe)| exec(parent, &format!("/bin/{exe}"))),
        3 => Just(Body::Exit(Exit { code: 1 })),
        3 => any_file().prop_map(Body::FileOpen),
        3 => any_flow().prop_map(Body::Flow),
        1 => dns,
        1 => gpu,
        1 => seen,
        1 => (any::<u16>(), any::<u16>(), any::<u16>()).prop_map(|(family, socket_type, protocol)| {
            Body::SocketNew(SocketNew { family, socket_type, protocol })
        }),
        1 => Just(Body::Loss(Loss {
            sensor: "flow",
            reason: LossReason::MapFull,
            lost: 1,
            noisiest: Some(CgroupId(3)),
        })),
    ]
}

/// A step: who, in which cgroup, how long after the last, what.
fn any_step() -> impl Strategy<Value = (u32, u64, u64, Body)> {
    (0..30u32, 0..4u64, prop_oneof![Just(1u64), 0..40 * SECOND], any_body())
}

/// A host whose processes are spread over a few workloads.
fn host() -> Stage {
    let mut stage = Stage::new();
    let paths =
        ["/", "/a", "/b", "/system.slice/s.service", "/docker/0123456789abcdef0123456789abcdef"];
    for pid in (0..30u32).filter(|pid| pid % 3 != 2) {
        stage.cgroup(pid, paths[pid as usize % paths.len()]);
        if pid % 2 == 0 {
            let info = ProcInfo {
                parent: Tgid(pid / 2),
                start: key(pid).start,
                exe: format!("/bin/{pid}"),
                ..ProcInfo::default()
            };
            stage.host.0.lock().unwrap().processes.insert(pid, info);
        }
    }
    stage.enricher.processes = Processes::new(PROCESSES);
    stage.enricher.workloads = Workloads::with_bound(WORKLOADS);
    stage
}

fn is_of(value: &Value<'_>, field_type: FieldType) -> bool {
    match value {
        Value::Missing => true,
        Value::Bool(_) => field_type == FieldType::Bool,
        Value::Int(_) => field_type == FieldType::Int,
        Value::Float(_) => field_type == FieldType::Float,
        Value::Str(_) => field_type == FieldType::Str,
        Value::Ip(_) => field_type == FieldType::Ip,
        Value::List(_) => field_type == FieldType::List,
        Value::Map(_) => field_type == FieldType::Map,
    }
}

/// Each workload knows how many of its processes live.
fn check_live(enricher: &Enricher) {
    for (handle, workload) in enricher.workloads.iter() {
        let living = enricher
            .processes
            .iter()
            .filter(|process| process.ended.is_none() && process.workload == Some(handle))
            .count();
        assert_eq!(workload.live, living, "{}", workload.id);
    }
    let names: usize =
        enricher.workloads.iter().map(|(_, workload)| workload.account.names.len()).sum();
    assert_eq!(enricher.names_len, names);
}

proptest! {
    #[test]
    fn any_events_keep_the_bounds_and_the_catalogue(
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        let mut stage = host();
        for (pid, cgroup, wait, body) in steps {
            stage.now += wait;
            let actor = match pid {
                0 => Actor::default(),
                pid => Actor { cgroup: CgroupId(cgroup), ..actor(pid) },
            };
            let of = stage.act(actor, body);
            let facts = stage.enricher.facts(&of.0, &of.1, &NoGpu);
            for field in CATALOGUE {
                let value = facts.field(field.id);
                prop_assert!(is_of(&value, field.field_type), "{} is {value:?}", field.name);
                let carried = of.0.body.kind().is_none_or(|kind| field.kinds.contains(kind));
                prop_assert!(carried || value == Value::Missing, "{} is {value:?}", field.name);
            }
            stage.enricher.evidence(&of.0, &of.1, &NoGpu, Completeness::default());
            let counters = stage.enricher.counters();
            prop_assert!(counters.processes <= PROCESSES && counters.workloads <= WORKLOADS);
            check_live(&stage.enricher);
        }
    }
}

#[test]
fn full_tables_make_room_and_count_it() {
    let mut stage = host();
    for pid in 100..100 + 2 * u32::try_from(PROCESSES).unwrap() {
        stage.cgroup(pid, &format!("/{pid}"));
        stage.exec(pid, "/bin/x");
    }
    let counters = stage.enricher.counters();
    assert_eq!(counters.processes, PROCESSES);
    assert_eq!(counters.processes_evicted, PROCESSES as u64);
    assert_eq!(counters.workloads, WORKLOADS);
    assert_eq!(counters.workloads_evicted, 2 * PROCESSES as u64 - WORKLOADS as u64);
}

#[test]
fn the_ended_make_room_before_the_living() {
    let mut stage = host();
    stage.exec(100, "/bin/old");
    stage.exec(101, "/bin/ended");
    stage.exit(101);
    for pid in 102..102 + u32::try_from(PROCESSES).unwrap() - 1 {
        stage.exec(pid, "/bin/x");
    }
    assert!(stage.enricher.processes.lookup(key(100)).is_some());
    assert!(stage.enricher.processes.lookup(key(101)).is_none());
    assert_eq!(stage.enricher.counters().processes_evicted, 1);
}
