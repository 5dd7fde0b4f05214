//! What an event does to the account of its workload.

use std::sync::Arc;

use super::content::FileClass;
use super::enricher::{Enricher, Observation};
use super::file::ReadSum;
use super::flow::First;
use super::gpu::gpu_minor;
use super::limit::{NAMES_MAX, WEIGHTS_BYTES_MIN};
use super::net::{PeerClass, is_pool_name};
use super::payload::{AppProto, Reading};
use super::pipe::pipe_of;
use super::table::Handle;
use super::workload::Workload;
use crate::model::{
    Actor, Body, BootNs, Dns, Event, FileId, FileOpen, FileType, Flow, FlowPhase, GpuSample,
    ProcessKey, Tgid,
};

impl Enricher {
    /// Books an event on the account of its workload.
    pub(super) fn apply(&mut self, event: &Event, seen: &mut Observation) {
        let actor: Option<&Actor> = event.actor.as_ref();
        let process = actor.map(|actor| actor.process).unwrap_or_default();
        let tgid = process.tgid;
        match &event.body {
            Body::FileOpen(open) => self.opened(open, process, event.time, seen),
            Body::FileRead(read) => self.file_read(read, event.time, seen),
            Body::FileChange(change) => self.file_changed(change, process, event.time, seen),
            Body::Flow(flow) => {
                self.look_for_handed(event.time, seen);
                self.flowed(flow, tgid, event.time, seen);
                self.relayed(flow, event.time, seen);
                self.resolver_asked(flow.remote, tgid, event.time, seen);
            }
            Body::Dns(dns) => {
                self.learn_resolvers(tgid, event.time, seen);
                self.resolved(dns, event.time, seen);
            }
            Body::GpuSample(sample) => self.sampled(sample, event.time, seen),
            Body::Stdio(stdio) => self.streamed(stdio, event.time, seen),
            Body::Link(link) => self.linked(link, event.time, seen),
            Body::MemoryAccess(access) => self.reached(access, event.time, seen),
            _ => {}
        }
        if let Some(actor) = actor
            && let Some(workload) = seen.workload.and_then(|workload| self.workloads.get(workload))
            && workload.account.weights_read.is_some()
            && seen.mark.is_none()
        {
            seen.mark = self.mark_cgroup(actor.cgroup).then_some(actor.cgroup);
        }
    }

    fn opened(&mut self, open: &FileOpen, key: ProcessKey, time: BootNs, seen: &mut Observation) {
        let process = key.tgid;
        if open.file_type == FileType::Fifo {
            if let Some(reader) = seen.process.filter(|_| open.reads()) {
                self.reads_pipe(pipe_of(&open.id), reader);
            }
            return;
        }
        if open.file_type == FileType::Segment {
            if !self.is_own(process) {
                self.attached(open, key, time, seen);
            }
            return;
        }
        // The kernel side counts what is read of files that it knew to be labelled.
        let is_exact = self.reads_exact && self.labels.is_labelled(&open.id);
        if !self.is_own(process) {
            let (source, changes) = (&*self.source, &mut seen.label_changes);
            seen.label = self.labels.open(open, process, time, source, changes);
        }
        seen.class = self.labels.classes.of(&open.path);
        let Some(handle) = seen.workload else { return };
        let is_read = open.reads() && open.file_type == FileType::Regular;
        if is_read && seen.label.is_none() {
            seen.label = self.derive_now(&open.id, open.size_bytes, seen);
        }
        let is_new = is_read && self.is_first_read(handle, open.id);
        let label = seen.label.and_then(|label| self.labels.get(label)).cloned();
        if open.writes() && open.file_type == FileType::Regular && !self.is_own(process) {
            let tainted = self.derived_label(handle).is_some();
            if tainted {
                self.follow_file(open.id, &open.path, open.fs_magic, key, handle, time);
            }
        }
        // Where reads are counted, opening a file says nothing about its bytes.
        let is_counted = is_new && !is_exact;
        if label.is_some()
            && open.reads()
            && let Some(process) = seen.process.and_then(|process| self.processes.get_mut(process))
        {
            process.has_read_weights = true;
        }
        let Some(workload) = self.workloads.get_mut(handle) else { return };
        let account = &mut workload.account;
        account.is_gpu_user |= gpu_minor(open).is_some();
        if is_new {
            account.file_bytes = account.file_bytes.saturating_add(open.size_bytes);
        }
        let mut is_first = false;
        if let Some(label) = label.as_ref().filter(|_| open.reads()) {
            let name = self.labels.model(label.label).map_or("", |model| model.name.as_str());
            is_first = account.weights_read.is_none();
            let bytes = if is_counted { open.size_bytes } else { 0 };
            account.weights_are_bound |= is_counted;
            account.read_weights(label.label, name, is_new, bytes, time);
            account.read_derived(label, if is_new { open.size_bytes } else { 0 });
        }
        let is_notable = label.is_some()
            || seen.class != FileClass::None
            || (is_new && open.size_bytes >= WEIGHTS_BYTES_MIN);
        if is_notable {
            account.note_file(open, process, time);
        }
        if is_counted {
            self.count_whole(handle, open.id, open.size_bytes);
        }
        if is_first {
            self.follow_open_files(handle, time);
        }
    }

    /// Whether a workload reads a file for the first time.
    pub(super) fn is_first_read(&mut self, workload: Handle<Workload>, file: FileId) -> bool {
        let pair = self.read_pair(workload, file);
        if let Some(known) = self.reads.find(&pair) {
            self.reads.touch(known);
            return false;
        }
        self.reads.insert(pair, ReadSum::default());
        true
    }

    fn flowed(&mut self, flow: &Flow, sender: Tgid, time: BootNs, seen: &mut Observation) {
        let handle = self.flows.of(flow.flow_id);
        let reading = self.first_bytes(flow);
        seen.flow = Some(handle);
        if flow.phase == FlowPhase::End {
            self.flows.end(handle);
        }
        let Some(state) = self.flows.get_mut(handle) else { return };
        if let Some(reading) = reading {
            state.app_proto = reading.proto.or(state.app_proto);
            state.sni = reading.sni.map(Arc::from).or(state.sni.take());
        }
        let workload = seen.workload.and_then(|workload| self.workloads.get_mut(workload));
        let Some(workload) = workload else { return };
        let account = &mut workload.account;
        if state.name.is_none()
            && let Some(remote) = flow.remote
        {
            let known = account.names.get(remote.ip(), time);
            state.is_name_trusted = known.is_some_and(|(_, is_trusted)| is_trusted);
            state.name = known.map(|(name, _)| Arc::clone(name));
        }
        let is_mining = state.app_proto == Some(AppProto::Stratum)
            || (flow.payload.is_some() && state.sni.as_deref().is_some_and(is_pool_name));
        account.stratum_seen |= is_mining;
        let is_local =
            flow.remote.is_some_and(|remote| PeerClass::of(remote.ip()) == PeerClass::Loopback);
        if !is_local {
            account.egress_bytes = account.egress_bytes.saturating_add(flow.bytes_out);
            let is_approved = match (&workload.profile, flow.remote) {
                (Some(profile), Some(remote)) => {
                    let members = workload.names.as_ref().map(|names| &names.job_members);
                    let is_member = members
                        .is_some_and(|members| members.contains(&remote.ip().to_canonical()));
                    (profile.same_job && is_member)
                        || profile.peers.allows(remote.ip(), remote.port(), state.trusted_name())
                }
                (None, Some(remote)) => PeerClass::of(remote.ip()) != PeerClass::Public,
                // Whoever it is, nobody allowed it.
                (_, None) => false,
            };
            if !is_approved {
                let sent = account.unapproved_bytes.saturating_add(flow.bytes_out);
                account.unapproved_bytes = sent;
            }
        }
        account.note_flow(flow, sender, state.name.as_ref(), state.app_proto, time);
    }

    /// What the first bytes of a flow say, with those that were seen before.
    fn first_bytes(&mut self, flow: &Flow) -> Option<Reading> {
        if flow.phase == FlowPhase::End
            && let Some(first) = self.firsts.find(&flow.flow_id)
        {
            self.firsts.remove(first);
        }
        let payload = flow.payload.as_ref()?;
        let port = flow.remote.map_or(0, |remote| remote.port());
        let first = match self.firsts.find(&flow.flow_id) {
            Some(first) => first,
            None => self.firsts.insert(flow.flow_id, First::default()).0,
        };
        let reading = self.firsts.get_mut(first)?.take(payload, port);
        if reading.is_done() {
            self.firsts.remove(first);
        }
        Some(reading)
    }

    fn resolved(&mut self, dns: &Dns, time: BootNs, seen: &mut Observation) {
        let workload = seen.workload.and_then(|workload| self.workloads.get_mut(workload));
        let Some(workload) = workload else { return };
        workload.account.stratum_seen |= is_pool_name(&dns.name);
        let name: Arc<str> = Arc::from(dns.name.as_str());
        let is_trusted = dns.server.is_none_or(|server| workload.resolvers.trusts(server));
        for answer in &dns.answers {
            let may_grow = self.names_len < NAMES_MAX;
            let (grown, evicted) =
                workload.account.names.put(answer, (&name, is_trusted), time, may_grow);
            self.names_len += grown;
            self.names_evicted += u64::from(evicted);
        }
    }

    fn sampled(&mut self, sample: &GpuSample, time: BootNs, seen: &mut Observation) {
        let tree = self.tree(seen);
        let workload = seen.workload.and_then(|workload| self.workloads.get_mut(workload));
        if let (Some(workload), Some(tree)) = (workload, tree) {
            workload.account.note_gpu(sample, tree, time);
        }
    }
}
