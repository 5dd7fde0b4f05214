//! What an alert shows a person, gathered when a rule matched.

use super::account::{LargeFlow, RecentFile, UsedGpu};
use super::enricher::{Enricher, Observation};
use super::facts::direction;
use super::net::protocol_name;
use super::process::{Image, Process};
use super::profile::GpuFeatures;
use super::workload::Workload;
use crate::model::{
    Body, BootNs, Completeness, Event, Evidence, FileEvidence, FlowEvidence, GpuEvidence,
    ProcessEvidence, ProcessKey, Tgid, WorkloadEvidence,
};

impl Enricher {
    /// Gathers the evidence of an event that was just observed. The caller says how complete the
    /// data was; what this stage does not know is added to it.
    pub fn evidence(
        &self,
        event: &Event,
        seen: &Observation,
        gpus: &dyn GpuFeatures,
        completeness: Completeness,
    ) -> Evidence {
        let process = seen
            .process
            .and_then(|handle| Some((self.processes.key(handle)?, self.processes.get(handle)?)));
        let workload = seen.workload.and_then(|handle| self.workloads.get(handle));
        let mut evidence = Evidence { completeness, ..Evidence::default() };
        if let Some((key, process)) = process {
            evidence.processes = self.processes_evidence(key, process, event);
        }
        if let Some(workload) = workload {
            let account = &workload.account;
            evidence.files = account.files.iter().map(|file| self.file_evidence(file)).collect();
            evidence.flows = self.flows_evidence(workload, event);
            evidence.gpus = account.gpus.iter().map(|gpu| gpu_evidence(gpu, gpus)).collect();
            evidence.workload =
                Some(workload_evidence(workload, process.map(|(_, process)| process)));
        }
        note_unknowns(process, event, &mut evidence.completeness);
        if workload.is_some_and(|workload| workload.account.has_held_weights) {
            let text = "weights that were open or mapped before the monitor started count as read";
            evidence.completeness.unknowns.push(text.to_owned());
            evidence.completeness.complete = false;
        }
        evidence
    }

    fn processes_evidence(
        &self,
        key: ProcessKey,
        process: &Process,
        event: &Event,
    ) -> Vec<ProcessEvidence> {
        let name = event.actor.as_ref().filter(|actor| actor.process == key);
        let mut first = image_evidence(key, &process.image, process.uid, process.ended.is_some());
        if let Some(actor) = name {
            first.name.clone_from(&actor.comm);
            first.uid = actor.uid;
        }
        let ancestors = process.lineage.ancestors().iter().map(|ancestor| {
            let now = self.processes.lookup(ancestor.key);
            let ended = now.is_none_or(|process| process.ended.is_some());
            image_evidence(ancestor.key, &ancestor.image, ancestor.uid, ended)
        });
        std::iter::once(first).chain(ancestors).collect()
    }

    fn file_evidence(&self, file: &RecentFile) -> FileEvidence {
        let label = self.labels.lookup(&file.id);
        FileEvidence {
            path: file.path.clone(),
            device: file.id.device,
            inode: file.id.inode,
            size_bytes: file.size_bytes,
            label: label
                .and_then(|label| self.labels.model(label.label))
                .map(|model| model.name.clone()),
            format: label.map(|label| label.format.as_str().to_owned()),
            written: file.written,
            pid: file.process.0,
            time: self.wall(file.time),
        }
    }

    /// The flow of the event alone, else the largest of the workload, largest first.
    fn flows_evidence(&self, workload: &Workload, event: &Event) -> Vec<FlowEvidence> {
        let flows = &workload.account.flows;
        if let Body::Flow(flow) = &event.body
            && let Some(known) = flows.iter().find(|known| known.flow_id == flow.flow_id)
        {
            return vec![self.flow_evidence(known)];
        }
        let mut largest: Vec<&LargeFlow> = flows.iter().collect();
        largest.sort_by_key(|flow| std::cmp::Reverse(flow.bytes_out));
        largest.into_iter().map(|flow| self.flow_evidence(flow)).collect()
    }

    fn flow_evidence(&self, flow: &LargeFlow) -> FlowEvidence {
        FlowEvidence {
            proto: protocol_name(flow.socket_type, flow.protocol)
                .map_or_else(|| flow.protocol.to_string(), str::to_owned),
            direction: direction(flow.egress).to_owned(),
            local: flow.local.to_string(),
            remote_ip: flow.remote.map(|remote| remote.ip().to_string()).unwrap_or_default(),
            remote_port: flow.remote.map_or(0, |remote| remote.port()),
            remote_name: flow.name.as_deref().map(str::to_owned),
            bytes_out: flow.bytes_out,
            owner_pid: flow.owner.0,
            sender_pid: flow.sender.0,
            started: self.wall(flow.started),
            app_proto: flow.app_proto.map(|proto| proto.as_str().to_owned()),
        }
    }

    fn wall(&self, at: BootNs) -> String {
        self.clock.wall(at).to_rfc3339()
    }
}

fn note_unknowns(
    process: Option<(ProcessKey, &Process)>,
    event: &Event,
    completeness: &mut Completeness,
) {
    // The first process and the kernel's own have no ancestors.
    const ROOT: Tgid = Tgid(2);
    let mut note = |text: &str| completeness.unknowns.push(text.to_owned());
    match process {
        None if event.actor.is_some() => note("the process was not known"),
        Some((_, process)) if process.image.is_partial => {
            note("the process ended before its executable and arguments could be read");
        }
        Some((key, process)) if key.tgid > ROOT && process.lineage.ancestors().is_empty() => {
            note("the ancestors of the process are not known");
        }
        None | Some(_) => {}
    }
    if !completeness.unknowns.is_empty() {
        completeness.complete = false;
    }
}

fn image_evidence(key: ProcessKey, image: &Image, uid: u32, ended: bool) -> ProcessEvidence {
    ProcessEvidence {
        pid: key.tgid.0,
        start_boot_ns: key.start.0,
        name: image.name.clone(),
        exe: image.exe.clone(),
        args: image.args.clone(),
        cwd: image.cwd.clone(),
        uid,
        ended,
    }
}

fn gpu_evidence(gpu: &UsedGpu, gpus: &dyn GpuFeatures) -> GpuEvidence {
    let view = gpus.features(gpu.tree, &gpu.uuid).unwrap_or_default();
    GpuEvidence {
        uuid: gpu.uuid.as_str().to_owned(),
        model: gpu.model.clone(),
        util_mean_percent: view.util_mean_10m.unwrap_or(0.0),
        util_cv: view.util_cv_10m.unwrap_or(0.0),
        mem_used_bytes: gpu.mem_used_bytes,
        util_curve: gpus.curve(gpu.tree, &gpu.uuid),
    }
}

pub(super) fn workload_evidence(
    workload: &Workload,
    process: Option<&Process>,
) -> WorkloadEvidence {
    let names = workload.names.as_deref();
    // Where the acting process is, which in a pod is one container of several.
    let place = process.map_or(&workload.place, |process| &process.place);
    WorkloadEvidence {
        id: workload.id.as_str().to_owned(),
        kind: workload.kind().as_str().to_owned(),
        name: workload.name.clone(),
        cgroup: place.cgroup.clone(),
        profile: workload.profile.as_ref().map(|profile| profile.id.as_str().to_owned()),
        namespace: names.and_then(|names| names.namespace.clone()),
        pod: names.and_then(|names| names.pod.clone()),
        pod_uid: place.pod_uid.clone(),
        container: place.container_id.as_ref().and_then(|id| names?.containers.get(id).cloned()),
        container_id: place.container_id.clone(),
        slurm_job: place.slurm_job.clone(),
        weight_bytes_read: workload.account.weight_bytes,
        weight_bytes_are_bound: workload.account.weights_are_bound,
        models: workload.account.model_names.clone(),
        egress_bytes: workload.account.egress_bytes,
    }
}
