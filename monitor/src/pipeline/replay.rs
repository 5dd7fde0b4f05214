//! Recorded events through rules and alerts: the same code as live, with the clocks of the
//! recording. The same file and rules give the same alerts, byte for byte.

use crate::alert::{Alert, AlertConfig, Alerter, Host};
use crate::correlate::{CorrelateLimits, Engine, Finding};
use crate::model::{
    BootNs, Clock, Completeness, Evidence, FactRow, Facts, FieldId, FlowEvidence, ProcessEvidence,
    SensorGap, Value, WorkloadEvidence,
};
use crate::recording::Header;
use crate::rule::RuleSet;

/// How often, in event time, counts of repeats are looked at: as the engine does.
const TICK_NS: u64 = 1_000_000_000;

/// Rules at work on recorded events.
pub struct Replay {
    engine: Engine,
    alerter: Alerter,
    gaps: Vec<SensorGap>,
    findings: Vec<Finding>,
    ticked: BootNs,
    events: u64,
}

impl Replay {
    /// Rules before any event.
    pub fn new(rules: &RuleSet, config: AlertConfig, host: Host, clock: Clock) -> Self {
        Self {
            engine: Engine::new(&rules.rules, CorrelateLimits::default()),
            alerter: Alerter::new(config, host, clock),
            gaps: Vec::new(),
            findings: Vec::new(),
            ticked: BootNs(0),
            events: 0,
        }
    }

    /// Rules over one recording, with its host and its clock.
    pub fn of(rules: &RuleSet, config: AlertConfig, header: &Header) -> Self {
        let clock = Clock { wall_at_boot_ns: header.wall_at_boot_ns };
        let mut replay = Self::new(rules, config, header.host.clone(), clock);
        replay.gaps = header.gaps();
        replay
    }

    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Takes one event; each alert goes to `each`, with the event that completed it.
    pub fn take(&mut self, row: &FactRow, each: &mut dyn FnMut(Alert, &FactRow)) {
        self.events += 1;
        // The engine ticks while it waits; here only events move time.
        if row.time().since(self.ticked) >= TICK_NS {
            self.ticked = row.time();
            for alert in self.alerter.tick(row.time()) {
                each(alert, row);
            }
        }
        self.engine.on_event(row, &mut self.findings);
        for finding in self.findings.drain(..).filter(|finding| finding.rule.alerts) {
            let gaps = &self.gaps;
            let alert = self.alerter.on_finding_with(finding, || evidence(row, gaps));
            if let Some(alert) = alert {
                each(alert, row);
            }
        }
    }

    /// The last word on everything open.
    pub fn finish(mut self) -> Vec<Alert> {
        self.alerter.close_all()
    }
}

/// What a recorded event says of itself; the state around it was not recorded.
fn evidence(row: &FactRow, gaps: &[SensorGap]) -> Evidence {
    let text = |id| match row.field(id) {
        Value::Str(text) => text.to_owned(),
        Value::Ip(ip) => ip.to_string(),
        _ => String::new(),
    };
    let number = |id| match row.field(id) {
        Value::Int(number) => u64::try_from(number).unwrap_or(0),
        _ => 0,
    };
    let some = |id| Some(text(id)).filter(|text| !text.is_empty());
    let list = |id| match row.field(id) {
        Value::List(items) => items.to_vec(),
        _ => Vec::new(),
    };
    let small = |id| u32::try_from(number(id)).unwrap_or(0);
    let process = ProcessEvidence {
        pid: small(FieldId::ProcPid),
        name: text(FieldId::ProcName),
        exe: text(FieldId::ProcExe),
        args: list(FieldId::ProcArgs),
        cwd: text(FieldId::ProcCwd),
        uid: small(FieldId::ProcUid),
        ..ProcessEvidence::default()
    };
    let flow = some(FieldId::NetDstIp).map(|remote_ip| FlowEvidence {
        proto: text(FieldId::NetProto),
        direction: text(FieldId::NetDirection),
        remote_ip,
        remote_port: u16::try_from(number(FieldId::NetDstPort)).unwrap_or(0),
        remote_name: some(FieldId::NetDstName),
        bytes_out: number(FieldId::NetBytesOutTotal),
        owner_pid: small(FieldId::NetOwnerPid),
        sender_pid: small(FieldId::ProcPid),
        app_proto: some(FieldId::NetAppProto),
        ..FlowEvidence::default()
    });
    let workload = some(FieldId::WorkloadId).map(|id| WorkloadEvidence {
        id,
        kind: text(FieldId::WorkloadKind),
        name: text(FieldId::WorkloadName),
        cgroup: text(FieldId::WorkloadCgroup),
        profile: some(FieldId::WorkloadProfile),
        namespace: some(FieldId::K8sNamespace),
        pod: some(FieldId::K8sPodName),
        pod_uid: some(FieldId::K8sPodUid),
        container: None,
        container_id: some(FieldId::ContainerId),
        slurm_job: some(FieldId::SlurmJobId),
        weight_bytes_read: number(FieldId::WeightsBytesRead),
        // A recording does not tell; less is not claimed.
        weight_bytes_are_bound: true,
        models: list(FieldId::WeightsModels),
        egress_bytes: number(FieldId::WorkloadEgressBytes),
    });
    Evidence {
        processes: (process.pid != 0).then_some(process).into_iter().collect(),
        flows: flow.into_iter().collect(),
        workload,
        completeness: Completeness {
            complete: false,
            gaps: gaps.to_vec(),
            unknowns: vec!["replayed: the state around the event was not recorded".to_owned()],
            ..Completeness::default()
        },
        ..Evidence::default()
    }
}

#[cfg(test)]
mod law;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{FORMAT, Reader, Target, Writer};
    use crate::rule::{parse_rows, shipped};

    const UPLOAD: &str = include_str!("../../../rules/weights/fixtures/weights_upload.jsonl");

    pub(super) fn header() -> Header {
        Header {
            format: FORMAT,
            version: "1".into(),
            revision: "r".into(),
            host: Host { name: "node-1".into(), boot_id: "b".into() },
            wall_at_boot_ns: 1_700_000_000_000_000_000,
            sensors: Vec::new(),
        }
    }

    /// Alerts of the shipped rules over rows, as they would be printed.
    fn alerts(rows: impl Iterator<Item = FactRow>) -> Vec<String> {
        let rules = RuleSet::load(&shipped()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let mut replay = Replay::of(&rules, AlertConfig::default(), &header());
        let mut alerts = Vec::new();
        for row in rows {
            replay.take(&row, &mut |alert, _| alerts.push(serde_json::json!(alert).to_string()));
        }
        alerts.extend(replay.finish().iter().map(|alert| serde_json::json!(alert).to_string()));
        alerts
    }

    #[test]
    fn same_recording_gives_the_same_alerts_byte_for_byte() {
        let rows = parse_rows(UPLOAD).expect("the fixture reads");
        let direct = alerts(rows.iter().cloned());
        assert!(direct.iter().any(|alert| alert.contains("weights-bulk-egress")), "{direct:?}");
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.zst");
        let mut writer = Writer::create(&Target::of(&path), &header()).expect("creates");
        for row in &rows {
            writer.row(row.to_json()).expect("writes");
        }
        writer.finish(0).expect("ends");
        for _ in 0..3 {
            let mut reader = Reader::open(&path).expect("opens");
            let recorded = std::iter::from_fn(|| reader.next_row().expect("reads"));
            assert_eq!(alerts(recorded), direct);
        }
    }
}
