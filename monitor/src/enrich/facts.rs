//! The facts of one event: every field of the catalogue, answered from the event and the state.

use std::cell::OnceCell;

use super::budget::Use;
use super::content::{FileClass, file_name};
use super::enricher::{Enricher, Observation};
use super::flow::FlowState;
use super::label::Labelled;
use super::net::{PeerClass, family_name, protocol_name, query_type_name, socket_type_name};
use super::payload::AppProto;
use super::place::{Place, WorkloadKind};
use super::process::{Image, Process};
use super::profile::{GpuFeatures, Names};
use super::workload::{Workload, seconds};
use crate::gpu::{FeatureView, MiningVerdict};
use crate::model::{
    Actor, Body, BootNs, Dns, Event, EventKind, Exec, Exit, Facts, FieldId, FileId, FileOpen, Flow,
    FlowPhase, Loss, ProcessKey, Tgid, Value,
};

/// One event with everything that is known around it.
pub struct Enriched<'e> {
    pub(super) enricher: &'e Enricher,
    pub(super) event: &'e Event,
    pub(super) key: Option<ProcessKey>,
    pub(super) process: Option<&'e Process>,
    pub(super) workload: Option<&'e Workload>,
    pub(super) flow: Option<&'e FlowState>,
    pub(super) label: Option<&'e Labelled>,
    pub(super) class: FileClass,
    budget: Option<Use>,
    pub(super) gpus: &'e dyn GpuFeatures,
    pub(super) features: OnceCell<Option<FeatureView>>,
    pub(super) holders: OnceCell<String>,
    pub(super) mining: OnceCell<Option<MiningVerdict>>,
    text: OnceCell<String>,
    type_text: OnceCell<String>,
    list: OnceCell<Vec<String>>,
    allowed: OnceCell<Option<bool>>,
}

impl<'e> Enriched<'e> {
    pub(super) fn new(
        enricher: &'e Enricher,
        event: &'e Event,
        seen: &Observation,
        gpus: &'e dyn GpuFeatures,
    ) -> Self {
        let process = seen.process.and_then(|handle| enricher.processes.get(handle));
        Self {
            enricher,
            event,
            key: seen.process.and_then(|handle| enricher.processes.key(handle)),
            process,
            workload: seen.workload.and_then(|handle| enricher.workloads.get(handle)),
            flow: seen.flow.and_then(|handle| enricher.flows.get(handle)),
            label: seen.label.and_then(|handle| enricher.labels.get(handle)),
            class: seen.class,
            budget: seen.budget,
            gpus,
            features: OnceCell::new(),
            holders: OnceCell::new(),
            mining: OnceCell::new(),
            text: OnceCell::new(),
            type_text: OnceCell::new(),
            list: OnceCell::new(),
            allowed: OnceCell::new(),
        }
    }

    fn actor(&self) -> Option<&'e Actor> {
        // What has no process here (a loss) is nobody's act, whatever the record says.
        self.event.actor.as_ref().filter(|actor| Some(actor.process) == self.key)
    }

    fn image(&self) -> Option<&'e Image> {
        self.process.map(|process| &*process.image)
    }

    fn exec(&self) -> Option<&'e Exec> {
        if let Body::Exec(exec) = &self.event.body { Some(exec) } else { None }
    }

    fn exit(&self) -> Option<&'e Exit> {
        if let Body::Exit(exit) = &self.event.body { Some(exit) } else { None }
    }

    pub(super) fn open(&self) -> Option<&'e FileOpen> {
        if let Body::FileOpen(open) = &self.event.body { Some(open) } else { None }
    }

    pub(super) fn file_path(&self) -> Option<&'e str> {
        self.open()
            .map(|open| open.path.as_str())
            .or_else(|| self.change().map(|change| change.path.as_str()))
            .or_else(|| self.read().and(self.label).map(|label| &*label.path))
    }

    fn file_size(&self) -> Option<u64> {
        match &self.event.body {
            Body::FileOpen(open) => Some(open.size_bytes),
            Body::FileRead(read) => Some(read.size_bytes),
            Body::FileChange(change) => Some(change.size_bytes),
            _ => None,
        }
    }

    pub(super) fn flow(&self) -> Option<&'e Flow> {
        if let Body::Flow(flow) = &self.event.body { Some(flow) } else { None }
    }

    pub(super) fn dns(&self) -> Option<&'e Dns> {
        if let Body::Dns(dns) = &self.event.body { Some(dns) } else { None }
    }

    fn loss(&self) -> Option<&'e Loss> {
        if let Body::Loss(loss) = &self.event.body { Some(loss) } else { None }
    }

    /// Family, type and protocol of a flow or a new socket.
    fn socket(&self) -> Option<(u16, u16, u16)> {
        match &self.event.body {
            Body::Flow(flow) => Some((flow.family, flow.socket_type, flow.protocol)),
            Body::SocketNew(socket) => Some((socket.family, socket.socket_type, socket.protocol)),
            _ => None,
        }
    }

    pub(super) fn place(&self) -> Option<&'e Place> {
        self.process.map(|process| &*process.place)
    }

    pub(super) fn names(&self) -> Option<&'e Names> {
        self.workload?.names.as_deref()
    }

    fn parent(&self) -> Option<&'e Image> {
        Some(&self.process?.lineage.ancestors().first()?.image)
    }

    /// Whether the profile allows the peer. Missing without a profile, and for a peer that is not
    /// known: nothing can be said of it.
    fn allowed(&self) -> Option<bool> {
        *self.allowed.get_or_init(|| {
            let remote = self.flow()?.remote?;
            let profile = self.workload?.profile.as_ref()?;
            let name = self.flow.and_then(FlowState::trusted_name);
            let of_job = profile.same_job && self.same_job() == Some(true);
            Some(of_job || profile.peers.allows(remote.ip(), remote.port(), name))
        })
    }

    /// Whether the peer is a member of the same job; missing where nobody told who they are.
    fn same_job(&self) -> Option<bool> {
        let remote = self.flow()?.remote?;
        let members = &self.names()?.job_members;
        (!members.is_empty()).then(|| members.contains(&remote.ip().to_canonical()))
    }

    fn smallest_model_bytes(&self) -> Option<u64> {
        let models = &self.workload?.account.models;
        let sizes = models.iter().filter_map(|label| self.enricher.labels.model(*label));
        sizes.map(|model| model.size_bytes).min()
    }

    /// Format by content; missing for a file whose content nobody looked at.
    fn file_format(&self, id: &FileId) -> Option<&'static str> {
        match self.label {
            Some(label) => Some(label.format.as_str()),
            None => self.enricher.labels.is_plain(id).then_some("unknown"),
        }
    }

    fn label_name(&self) -> Option<&'e str> {
        Some(self.enricher.labels.model(self.label?.label)?.name.as_str())
    }

    fn protocol(&self) -> Option<&str> {
        const INET: u16 = 2;
        const INET6: u16 = 10;
        let (family, socket_type, protocol) = self.socket()?;
        let named = if matches!(family, INET | INET6) {
            // Protocol zero is the usual one of the type.
            match (protocol, socket_type & 0xf) {
                (0, 1) => Some("tcp"),
                (0, 2) => Some("udp"),
                _ => protocol_name(socket_type, protocol),
            }
        } else {
            None
        };
        Some(named.unwrap_or_else(|| self.text.get_or_init(|| protocol.to_string())))
    }

    fn socket_type(&self) -> Option<&str> {
        let (_, socket_type, _) = self.socket()?;
        let number = || socket_type.to_string();
        Some(socket_type_name(socket_type).unwrap_or_else(|| self.type_text.get_or_init(number)))
    }

    fn family(&self) -> Option<&'static str> {
        family_name(self.socket()?.0)
    }

    fn socket_path(&self) -> Option<&'e str> {
        if let Body::SocketNew(socket) = &self.event.body { Some(&socket.path) } else { None }
    }

    fn noisiest(&self) -> Option<&'e str> {
        let cgroup = match self.note() {
            Some(note) => note.cgroup?,
            None => self.loss()?.noisiest?,
        };
        self.enricher.place_of(cgroup).map(|place| place.cgroup.as_str())
    }
}

fn phase(phase: FlowPhase) -> &'static str {
    match phase {
        FlowPhase::Start => "start",
        FlowPhase::Progress => "progress",
        FlowPhase::Payload => "payload",
        FlowPhase::End => "end",
    }
}

/// The word for a flow's direction.
pub(super) fn direction(egress: Option<bool>) -> &'static str {
    match egress {
        Some(true) => "egress",
        Some(false) => "ingress",
        None => "unknown",
    }
}

/// The last two labels of a name.
fn last_labels(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    match dots.nth(1) {
        Some(at) => &name[at + 1..],
        None => name,
    }
}

pub(super) fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Missing, Value::Str)
}

/// Text that is missing when empty: what could not be read is not known.
pub(super) fn known(text: Option<&str>) -> Value<'_> {
    text.filter(|text| !text.is_empty()).map_or(Value::Missing, Value::Str)
}

pub(super) fn truth<'v>(truth: Option<bool>) -> Value<'v> {
    truth.map_or(Value::Missing, Value::Bool)
}

pub(super) fn int<'v>(number: Option<impl TryInto<i64>>) -> Value<'v> {
    number.map_or(Value::Missing, |number| Value::Int(number.try_into().unwrap_or(i64::MAX)))
}

pub(super) fn float<'v>(number: Option<f64>) -> Value<'v> {
    number.filter(|number| number.is_finite()).map_or(Value::Missing, Value::Float)
}

fn list(list: Option<&[String]>) -> Value<'_> {
    list.map_or(Value::Missing, Value::List)
}

fn pid(tgid: Tgid) -> Option<u32> {
    (tgid.0 != 0).then_some(tgid.0)
}

impl Facts for Enriched<'_> {
    fn kind(&self) -> EventKind {
        // Facts of events without a kind are asked for by nobody but profiles, which match on
        // the process and its workload.
        self.event.body.kind().unwrap_or(EventKind::Exec)
    }

    fn time(&self) -> BootNs {
        self.event.time
    }

    #[expect(clippy::too_many_lines, reason = "one line a field: the catalogue, answered")]
    fn field(&self, id: FieldId) -> Value<'_> {
        let now = self.event.time;
        let process = self.process;
        let account = self.workload.map(|workload| &workload.account);
        let profile = self.workload.and_then(|workload| workload.profile.as_ref());
        match id {
            FieldId::EvtKind => Value::Str(self.kind().as_str()),
            FieldId::EvtTimeNs => int(Some(now.0)),

            FieldId::ProcPid => int(self.key.and_then(|key| pid(key.tgid))),
            FieldId::ProcTid => int(self.actor().map(|actor| actor.tid.0)),
            FieldId::ProcName => match self.actor() {
                Some(actor) => Value::Str(&actor.comm),
                None => known(self.image().map(|image| image.name.as_str())),
            },
            FieldId::ProcExe => known(self.image().map(|image| image.exe.as_str())),
            FieldId::ProcArgs => list(self.image().map(|image| image.args.as_slice())),
            FieldId::ProcCmdline => text(self.image().map(Image::cmdline)),
            FieldId::ProcArgsTruncated => truth(self.image().map(|image| image.args_truncated)),
            FieldId::ProcCwd => known(self.image().map(|image| image.cwd.as_str())),
            FieldId::ProcUid => match self.actor() {
                Some(actor) => int(Some(actor.uid)),
                None => int(process.map(|process| process.uid)),
            },
            FieldId::ProcExeMemfd => truth(self.image().map(|image| image.is_memfd)),
            FieldId::ProcExeDeleted => truth(self.image().map(|image| image.is_deleted)),
            FieldId::ProcExeAgeSeconds => {
                float(self.image().and_then(|image| image.exe_age_seconds))
            }
            FieldId::ProcExeWrittenHere => {
                truth(self.image().and_then(|image| image.exe_written_here))
            }
            FieldId::ProcScript => text(self.image().and_then(Image::script)),
            FieldId::ProcEnvPreload => {
                known(self.image().and_then(|image| image.ld_preload.as_deref()))
            }
            FieldId::ProcAgeSeconds => float(self.key.map(|key| seconds(key.start, now))),
            FieldId::ProcParentPid => int(process.and_then(|process| pid(process.parent.tgid))),
            FieldId::ProcParentName => known(self.parent().map(|image| image.name.as_str())),
            FieldId::ProcParentExe => known(self.parent().map(|image| image.exe.as_str())),
            FieldId::ProcAncestors => list(process.map(|process| process.lineage.names())),
            FieldId::ProcAncestorExes => list(process.map(|process| process.lineage.exes())),
            FieldId::ProcWorkloadAncestorExes => {
                list(process.map(|process| self.enricher.exes_within(process)))
            }
            FieldId::ProcExitCode => int(self.exit().map(|exit| exit.code)),

            FieldId::ExecArgsBytes => int(self.exec().map(|exec| exec.args_bytes)),

            FieldId::FilePath => known(self.file_path()),
            FieldId::FileName => known(self.file_path().map(file_name)),
            FieldId::FileInode => int(self.file_id().map(|id| id.inode)),
            FieldId::FileDevice => int(self.file_id().map(|id| id.device)),
            FieldId::FileSize => int(self.file_size()),
            FieldId::FileType => text(self.open().map(|open| open.file_type.as_str())),
            FieldId::FileWrite => truth(self.open().map(FileOpen::writes)),
            FieldId::FileRead => truth(self.open().map(FileOpen::reads)),
            FieldId::FileFormat => text(self.file_id().and_then(|id| self.file_format(&id))),
            FieldId::FileLabel => text(self.label_name()),

            FieldId::NetPhase => text(self.flow().map(|flow| phase(flow.phase))),
            FieldId::NetFamily => text(self.family()),
            FieldId::NetProto => text(self.protocol()),
            FieldId::NetPath => known(self.socket_path()),
            FieldId::NetSocketType => text(self.socket_type()),
            FieldId::NetDirection => text(self.flow().map(|flow| direction(flow.egress))),
            FieldId::NetSrcIp => {
                self.flow().map_or(Value::Missing, |flow| Value::Ip(flow.local.ip()))
            }
            FieldId::NetSrcPort => int(self.flow().map(|flow| flow.local.port())),
            FieldId::NetDstIp => match self.flow().and_then(|flow| flow.remote) {
                Some(remote) => Value::Ip(remote.ip()),
                None => Value::Missing,
            },
            FieldId::NetDstPort => {
                int(self.flow().and_then(|flow| flow.remote).map(|remote| remote.port()))
            }
            FieldId::NetDstName => text(self.flow.and_then(|flow| flow.name.as_deref())),
            FieldId::NetPeerClass => {
                let remote = self.flow().and_then(|flow| flow.remote);
                text(remote.map(|remote| PeerClass::of(remote.ip()).as_str()))
            }
            FieldId::NetAllowed => truth(self.allowed()),
            FieldId::NetBytesOut => int(self.flow().map(|flow| flow.bytes_out)),
            FieldId::NetBytesOutTotal => int(self.flow().map(|flow| flow.bytes_out_total)),
            FieldId::NetBytesInTotal => int(self.flow().map(|flow| flow.bytes_in_total)),
            FieldId::NetSends => int(self.flow().map(|flow| flow.sends)),
            FieldId::NetAgeSeconds => float(self.flow().map(|flow| seconds(flow.started, now))),
            FieldId::NetOwnerPid => int(self.flow().and_then(|flow| pid(flow.owner.tgid))),
            FieldId::NetFastOpen => truth(self.flow().map(|flow| flow.is_fast_open)),
            FieldId::NetOwnerIsSender => {
                truth(self.flow().zip(self.key).map(|(flow, key)| flow.owner == key))
            }
            FieldId::NetAppProto => {
                text(self.flow.and_then(|flow| flow.app_proto).map(AppProto::as_str))
            }
            FieldId::NetSni => text(self.flow.and_then(|flow| flow.sni.as_deref())),

            FieldId::DnsName => known(self.dns().map(|dns| dns.name.as_str())),
            FieldId::DnsAnswers => list(self.dns().map(|dns| {
                let ips = || dns.answers.iter().map(|answer| answer.ip.to_string()).collect();
                self.list.get_or_init(ips).as_slice()
            })),
            FieldId::DnsServer => match self.dns().and_then(|dns| dns.server) {
                Some(server) => Value::Ip(server),
                None => Value::Missing,
            },
            FieldId::DnsIsQuery => truth(self.dns().map(|dns| dns.is_query)),
            FieldId::DnsBytes => int(self.dns().map(|dns| dns.message_bytes)),
            FieldId::DnsDomain => known(self.dns().map(|dns| last_labels(&dns.name))),
            FieldId::DnsLongestLabel => {
                let longest = |dns: &Dns| dns.name.split('.').map(str::len).max().unwrap_or(0);
                int(self.dns().map(longest))
            }

            FieldId::WeightsBytesRead => int(account.map(|account| account.weight_bytes)),
            FieldId::WeightsFilesRead => int(account.map(|account| account.weight_files)),
            FieldId::WeightsModels => list(account.map(|account| account.model_names.as_slice())),
            FieldId::WeightsSmallestModelBytes => int(self.smallest_model_bytes()),
            FieldId::WeightsSecondsSinceRead => {
                let read = account.and_then(|account| account.weights_read);
                float(read.map(|read| seconds(read, now)))
            }

            FieldId::WorkloadId => text(self.workload.map(|workload| workload.id.as_str())),
            FieldId::WorkloadKind => text(self.workload.map(|workload| workload.kind().as_str())),
            FieldId::WorkloadName => known(self.workload.map(|workload| workload.name.as_str())),
            FieldId::WorkloadProfile => text(profile.map(|profile| profile.id.as_str())),
            FieldId::WorkloadRole => {
                text(self.workload.and_then(|workload| Some(workload.role()?.0)))
            }
            FieldId::WorkloadRoleInferred => {
                truth(self.workload.and_then(|workload| Some(workload.role()?.1)))
            }
            FieldId::NetBudgetUsed => float(self.budget.map(Use::ratio)),
            FieldId::NetBudgetBytes => int(self.budget.map(|budget| budget.bytes_max)),
            FieldId::NetSameJob => truth(self.same_job()),
            FieldId::WorkloadIsolated => truth(self.workload.map(Workload::is_isolated)),
            FieldId::WorkloadCgroup => known(self.place().map(|place| place.cgroup.as_str())),
            FieldId::WorkloadBytesReadFiles => int(account.map(|account| account.file_bytes)),
            FieldId::WorkloadEgressBytes => int(account.map(|account| account.egress_bytes)),
            FieldId::WorkloadUnapprovedBytes => {
                int(account.map(|account| account.unapproved_bytes))
            }
            FieldId::DnsType => {
                let number = self.dns().map(|dns| dns.query_type);
                text(number.map(|number| {
                    query_type_name(number)
                        .unwrap_or_else(|| self.text.get_or_init(|| number.to_string()))
                }))
            }
            FieldId::WorkloadStratumSeen => truth(account.map(|account| account.stratum_seen)),

            FieldId::K8sNamespace => {
                text(self.names().and_then(|names| names.namespace.as_deref()))
            }
            FieldId::K8sPodName => text(self.names().and_then(|names| names.pod.as_deref())),
            FieldId::K8sPodUid => text(self.place().and_then(|place| place.pod_uid.as_deref())),
            FieldId::K8sLabels => match self.names() {
                Some(names) if self.workload.is_some_and(is_pod) => Value::Map(&names.labels),
                _ => Value::Missing,
            },
            FieldId::ContainerId => {
                text(self.place().and_then(|place| place.container_id.as_deref()))
            }
            FieldId::ContainerRuntime => text(self.place().and_then(|place| place.runtime)),
            FieldId::SlurmJobId => text(self.place().and_then(|place| place.slurm_job.as_deref())),
            FieldId::SlurmStep => text(self.place().and_then(|place| place.slurm_step.as_deref())),
            FieldId::SlurmPartition => {
                text(self.names().and_then(|names| names.slurm_partition.as_deref()))
            }
            FieldId::SlurmUser => text(self.names().and_then(|names| names.slurm_user.as_deref())),
            FieldId::UnitName => text(self.place().and_then(|place| place.unit.as_deref())),

            FieldId::SensorName => {
                text(self.loss().map(|loss| loss.sensor).or(self.note().map(|note| note.sensor)))
            }
            FieldId::SensorState => {
                text(self.loss().map(|_| "loss").or(self.note().map(|note| note.state)))
            }
            FieldId::SensorReason => text(self.loss().map(|loss| loss.reason.as_str())),
            FieldId::SensorLost => int(self.loss().map(|loss| loss.lost)),
            FieldId::SensorCgroup => text(self.noisiest()),

            other => self.act(other),
        }
    }
}

fn is_pod(workload: &Workload) -> bool {
    workload.kind() == WorkloadKind::K8s
}
