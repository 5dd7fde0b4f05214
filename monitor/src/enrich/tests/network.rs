use super::*;
use crate::enrich::limit::{LARGEST_FLOWS_MAX, NAME_TTL_MIN_S, WORKLOAD_NAMES_MAX};
use crate::gpu::FeatureView;
use crate::model::{Completeness, Dns, DnsAnswer, GpuSample, GpuUuid, Loss, LossReason, Payload};

fn dns(name: &str, ip: &str, ttl_seconds: u32) -> Body {
    Body::Dns(Dns {
        server: Some("10.0.0.2".parse().unwrap()),
        name: name.into(),
        answers: vec![DnsAnswer { ip: ip.parse().unwrap(), ttl_seconds }],
        ..Dns::default()
    })
}

#[test]
fn a_flow_carries_the_name_its_workload_resolved() {
    let mut stage = Stage::new();
    let answer = stage.act(actor(10), dns("files.example.com", "198.51.100.7", 0));
    assert_eq!(stage.text(&answer, FieldId::DnsAnswers), "198.51.100.7");
    let of = stage.act(actor(10), Body::Flow(flow(1, "198.51.100.7:443", 1)));
    assert_eq!(stage.text(&of, FieldId::NetDstName), "files.example.com");
    let other = stage.act(actor(500), Body::Flow(flow(2, "198.51.100.7:443", 1)));
    assert_eq!(stage.text(&other, FieldId::NetDstName), "", "another workload did not ask");

    stage.now += u64::from(NAME_TTL_MIN_S + 1) * SECOND;
    let of = stage.act(actor(10), Body::Flow(flow(1, "198.51.100.7:443", 1)));
    assert_eq!(stage.text(&of, FieldId::NetDstName), "files.example.com", "the flow keeps it");
    let new = stage.act(actor(10), Body::Flow(flow(3, "198.51.100.7:443", 1)));
    assert_eq!(stage.text(&new, FieldId::NetDstName), "", "the answer is too old for a new one");
}

#[test]
fn names_are_bounded_and_what_made_room_is_counted() {
    let mut stage = Stage::new();
    let bound = u32::try_from(WORKLOAD_NAMES_MAX).unwrap();
    for number in 0..bound + 3 {
        let ip = std::net::Ipv4Addr::from_bits(0xc633_0000 + number).to_string();
        stage.act(actor(10), dns("x.example.com", &ip, 3600));
    }
    let counters = stage.enricher.counters();
    assert_eq!((counters.names, counters.names_evicted), (WORKLOAD_NAMES_MAX, 3));
}

fn first(of: &Flow, bytes: &'static [u8]) -> Body {
    segment(of, 0, bytes)
}

fn segment(of: &Flow, sequence: u32, bytes: &'static [u8]) -> Body {
    let total = u32::try_from(bytes.len()).unwrap();
    let payload = Some(Payload { sequence, total, bytes: bytes::Bytes::from_static(bytes) });
    Body::Flow(Flow {
        phase: FlowPhase::Payload,
        payload,
        bytes_out_total: 0,
        bytes_out: 0,
        ..of.clone()
    })
}

#[test]
fn a_mining_handshake_marks_the_flow_and_the_workload() {
    let mut stage = Stage::new();
    stage.act(actor(10), Body::Flow(flow(1, "198.51.100.7:3333", 900)));
    let hello = br#"{"id":1,"method":"mining.subscribe","params":[]}"#;
    let of = stage.act(actor(10), first(&flow(1, "198.51.100.7:3333", 0), hello));
    assert_eq!(stage.text(&of, FieldId::NetAppProto), "stratum");
    let later = stage.act(actor(10), Body::Flow(flow(1, "198.51.100.7:3333", 950)));
    assert_eq!(stage.text(&later, FieldId::NetAppProto), "stratum");
    let gpu = stage.act(actor(10), sample(50.0));
    assert_eq!(stage.text(&gpu, FieldId::WorkloadStratumSeen), "true");
    let other = stage.act(actor(500), Body::Flow(flow(2, "198.51.100.7:3333", 1)));
    assert_eq!(stage.text(&other, FieldId::WorkloadStratumSeen), "false");
    let pool = stage.act(actor(500), dns("eu.nanopool.org", "198.51.100.9", 60));
    assert_eq!(stage.text(&pool, FieldId::WorkloadStratumSeen), "true");
}

#[test]
fn first_bytes_in_many_segments_say_what_they_say_in_one() {
    let mut stage = Stage::new();
    let of = flow(1, "198.51.100.7:3333", 0);
    let hello = br#"{"id":1,"method":"mining.subscribe","params":[]}"#;
    let mut said = Vec::new();
    for (at, byte) in hello.chunks(3).enumerate() {
        let sequence = u32::try_from(at * 3).unwrap();
        let event = stage.act(actor(10), segment(&of, sequence, byte));
        said.push(stage.text(&event, FieldId::NetAppProto));
    }
    assert_eq!((said[0].as_str(), said.last().unwrap().as_str()), ("", "stratum"));
    // A segment was missed: what follows is not put behind what came before.
    let of = flow(2, "198.51.100.7:3333", 0);
    stage.act(actor(10), segment(&of, 0, b"{\"method\":\"min"));
    let event = stage.act(actor(10), segment(&of, 40, b"ing.subscribe"));
    assert_eq!(stage.text(&event, FieldId::NetAppProto), "");
}

#[test]
fn a_first_payload_does_not_reset_the_bytes_of_its_flow() {
    let mut stage = Stage::new();
    stage.act(actor(10), Body::Flow(flow(1, "198.51.100.7:443", 900)));
    let of = stage.act(actor(10), first(&flow(1, "198.51.100.7:443", 0), b"SSH-2.0-x"));
    let evidence = stage.enricher.evidence(&of.0, &of.1, &NoGpu, Completeness::default());
    assert_eq!(evidence.flows[0].bytes_out, 900);
    assert_eq!(evidence.flows[0].app_proto.as_deref(), Some("ssh"));
}

#[test]
fn an_ended_flow_is_known_for_its_last_event_and_not_longer() {
    let mut stage = Stage::new();
    stage.act(actor(10), first(&flow(1, "198.51.100.7:22", 0), b"SSH-2.0-x"));
    let end = Flow { phase: FlowPhase::End, ..flow(1, "198.51.100.7:22", 5) };
    let of = stage.act(actor(10), Body::Flow(end));
    assert_eq!(stage.text(&of, FieldId::NetAppProto), "ssh");
    let reused = stage.act(actor(10), Body::Flow(flow(1, "198.51.100.8:80", 5)));
    assert_eq!(stage.text(&reused, FieldId::NetAppProto), "");
}

#[test]
fn the_largest_flows_are_kept() {
    let mut stage = Stage::new();
    let count = LARGEST_FLOWS_MAX as u64 + 5;
    for number in 1..=count {
        stage.act(actor(10), Body::Flow(flow(number, "198.51.100.7:443", number * 10)));
    }
    let of = stage.exec(10, "/bin/x");
    let evidence = stage.enricher.evidence(&of.0, &of.1, &NoGpu, Completeness::default());
    let bytes: Vec<u64> = evidence.flows.iter().map(|flow| flow.bytes_out).collect();
    let expected: Vec<u64> = (6..=count).rev().map(|number| number * 10).collect();
    assert_eq!(bytes, expected);
}

#[test]
fn a_flow_that_ends_in_nobodys_context_belongs_to_its_owner() {
    let mut stage = Stage::new();
    stage.exec(10, "/usr/bin/curl");
    let body = Flow { phase: FlowPhase::End, owner: key(10), ..flow(1, "198.51.100.7:443", 70) };
    let of = stage.act(Actor::default(), Body::Flow(body));
    assert_eq!(stage.text(&of, FieldId::ProcExe), "/usr/bin/curl");
    assert_eq!(stage.text(&of, FieldId::ProcPid), "10");
    assert_eq!(stage.text(&of, FieldId::WorkloadEgressBytes), "70");
}

fn sample(util_percent: f64) -> Body {
    Body::GpuSample(GpuSample {
        gpu: GpuUuid::from("GPU-1"),
        index: 0,
        model: "H100".into(),
        util_percent: Some(util_percent),
        mem_used_bytes: Some(1 << 30),
        is_edge: false,
        ..GpuSample::default()
    })
}

struct Features(ProcessKey);

impl GpuFeatures for Features {
    fn features(&self, tree: ProcessKey, gpu: &GpuUuid) -> Option<FeatureView> {
        (tree == self.0 && gpu.as_str() == "GPU-1").then(|| FeatureView {
            util_mean_10m: Some(95.0),
            busy_seconds: 1_300.0,
            ..FeatureView::default()
        })
    }

    fn curve(&self, _: ProcessKey, _: &GpuUuid) -> Vec<f64> {
        vec![95.0]
    }
}

#[test]
fn features_are_those_of_the_process_tree() {
    let mut stage = Stage::new();
    stage.cgroup(10, "/system.slice/t.service");
    stage.exec(10, "/usr/bin/launcher");
    stage.fork(10, 11);
    let (event, seen) = stage.act(actor(11), sample(90.0));
    let gpus = Features(key(10));
    let facts = stage.enricher.facts(&event, &seen, &gpus);
    assert_eq!(facts.field(FieldId::GpuUtilMean10m), Value::Float(95.0));
    assert_eq!(facts.field(FieldId::GpuUtilCv10m), Value::Missing);
    assert_eq!(facts.field(FieldId::GpuUtil), Value::Float(90.0));
    let evidence = stage.enricher.evidence(&event, &seen, &gpus, Completeness::default());
    assert_eq!(evidence.gpus[0].util_curve, [95.0]);
    assert_eq!(evidence.gpus[0].mem_used_bytes, 1 << 30);
}

#[test]
fn a_loss_speaks_of_its_sensor() {
    let mut stage = Stage::new();
    let body = Body::Loss(Loss {
        sensor: "file_open",
        reason: LossReason::RingFull,
        lost: 7,
        noisiest: None,
    });
    let event = Event { time: BootNs(1), actor: None, body };
    let of = (event.clone(), stage.enricher.observe(&event));
    assert_eq!(stage.text(&of, FieldId::SensorName), "file_open");
    assert_eq!(stage.text(&of, FieldId::SensorReason), "ring_full");
    assert_eq!(stage.text(&of, FieldId::SensorLost), "7");
    assert_eq!(stage.text(&of, FieldId::WorkloadId), "");
}
