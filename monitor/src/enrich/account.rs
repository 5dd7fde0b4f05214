//! What a workload did: weights read, bytes sent, files, flows, names, GPUs. Bounded.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use super::label::{LabelId, Labelled};
use super::limit::{
    LARGEST_FLOWS_MAX, NAME_TTL_MAX_S, NAME_TTL_MIN_S, RECENT_FILES_MAX, WORKLOAD_GPUS_MAX,
    WORKLOAD_MODELS_MAX, WORKLOAD_NAMES_MAX,
};
use super::payload::AppProto;
use crate::model::{
    BootNs, DnsAnswer, FileId, FileOpen, Flow, GpuSample, GpuUuid, ProcessKey, Tgid,
};

/// The account of one workload.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a workload, any of them together")]
pub(super) struct Account {
    /// Bytes of labelled files read, each file at most once. Where reads are not counted, the sum
    /// of the sizes of those opened for reading: an upper bound.
    pub(super) weight_bytes: u64,
    /// Whether that sum holds whole files, of which less may have been read.
    pub(super) weights_are_bound: bool,
    /// Whether some of them were open or mapped before the monitor looked on.
    pub(super) has_held_weights: bool,
    /// Bytes of files made from weights that were written or read here.
    pub(super) derived_bytes: u64,
    /// Whether a labelled file was read here that is a model's own and no copy of one.
    pub(super) has_read_original: bool,
    /// Distinct labelled files opened for reading.
    pub(super) weight_files: u64,
    /// Labels of the models read, in the order of the first read.
    pub(super) models: Vec<LabelId>,
    /// Their names, in the same order.
    pub(super) model_names: Vec<String>,
    /// When labelled weights were last opened for reading.
    pub(super) weights_read: Option<BootNs>,
    /// Sum of the sizes of the distinct regular files opened for reading. An upper bound, and only
    /// of files that the kernel side reports.
    pub(super) file_bytes: u64,
    /// Payload bytes sent to peers other than loopback.
    pub(super) egress_bytes: u64,
    /// Of those, bytes to peers that the profile does not allow; without one, to public peers.
    pub(super) unapproved_bytes: u64,
    /// Whether a mining handshake or a pool's name was seen.
    pub(super) stratum_seen: bool,
    /// Whether a process opened a GPU's device node or was seen on a GPU.
    pub(super) is_gpu_user: bool,
    pub(super) files: VecDeque<RecentFile>,
    pub(super) flows: Vec<LargeFlow>,
    pub(super) gpus: Vec<UsedGpu>,
    pub(super) names: NameCache,
}

/// A file the workload opened.
#[derive(Clone, Debug)]
pub(super) struct RecentFile {
    pub(super) id: FileId,
    pub(super) path: String,
    pub(super) size_bytes: u64,
    pub(super) written: bool,
    pub(super) process: Tgid,
    pub(super) time: BootNs,
}

/// A flow of the workload.
#[derive(Clone, Debug)]
pub(super) struct LargeFlow {
    pub(super) flow_id: u64,
    pub(super) socket_type: u16,
    pub(super) protocol: u16,
    pub(super) egress: Option<bool>,
    pub(super) local: SocketAddr,
    pub(super) remote: Option<SocketAddr>,
    pub(super) name: Option<Arc<str>>,
    pub(super) bytes_out: u64,
    pub(super) owner: Tgid,
    pub(super) sender: Tgid,
    pub(super) started: BootNs,
    /// When it was told of last.
    pub(super) last: BootNs,
    pub(super) app_proto: Option<AppProto>,
}

/// A GPU the workload used.
#[derive(Clone, Debug)]
pub(super) struct UsedGpu {
    pub(super) uuid: GpuUuid,
    pub(super) model: String,
    pub(super) mem_used_bytes: u64,
    /// Root of the process tree seen on it last.
    pub(super) tree: ProcessKey,
    pub(super) time: BootNs,
}

impl Account {
    /// Takes in that a labelled file was opened for reading.
    pub(super) fn read_weights(
        &mut self,
        label: LabelId,
        name: &str,
        is_new: bool,
        bytes: u64,
        time: BootNs,
    ) {
        self.weights_read = Some(time);
        self.weight_bytes = self.weight_bytes.saturating_add(bytes);
        self.weight_files = self.weight_files.saturating_add(u64::from(is_new));
        if !self.models.contains(&label) && self.models.len() < WORKLOAD_MODELS_MAX {
            self.models.push(label);
            self.model_names.push(name.to_owned());
        }
    }

    /// Takes in whether what was read is a model's own file or one made from it, `bytes` long
    /// where for the first time.
    pub(super) fn read_derived(&mut self, file: &Labelled, bytes: u64) {
        if file.is_derived {
            self.derived_bytes = self.derived_bytes.saturating_add(bytes);
        } else {
            self.has_read_original = true;
        }
    }

    /// Whether weights were read here, and nothing but copies of them.
    pub(super) fn has_only_copies(&self) -> bool {
        self.weights_read.is_some() && !self.has_read_original
    }

    /// Puts a file at the front of the recent ones, reusing the memory of the one that goes.
    pub(super) fn note_file(&mut self, open: &FileOpen, process: Tgid, time: BootNs) {
        let known = self.files.iter().position(|file| file.id == open.id);
        let full = self.files.len() >= RECENT_FILES_MAX;
        let taken = match known {
            Some(at) => self.files.remove(at),
            None if full => self.files.pop_back(),
            None => None,
        };
        let written_before = known.is_some() && taken.as_ref().is_some_and(|file| file.written);
        let mut path = taken.map(|file| file.path).unwrap_or_default();
        path.clear();
        path.push_str(&open.path);
        self.files.push_front(RecentFile {
            id: open.id,
            path,
            size_bytes: open.size_bytes,
            written: open.writes() || written_before,
            process,
            time,
        });
    }

    /// Keeps the flow among the largest, if it is one of them.
    pub(super) fn note_flow(
        &mut self,
        flow: &Flow,
        sender: Tgid,
        name: Option<&Arc<str>>,
        app_proto: Option<AppProto>,
        time: BootNs,
    ) {
        let at = match self.flows.iter().position(|known| known.flow_id == flow.flow_id) {
            Some(at) => at,
            None if self.flows.len() < LARGEST_FLOWS_MAX => self.flows.len(),
            None => {
                let smallest = self.flows.iter().enumerate().min_by_key(|(_, flow)| flow.bytes_out);
                match smallest {
                    Some((at, known)) if known.bytes_out < flow.bytes_out_total => at,
                    _ => return,
                }
            }
        };
        // The record of a first payload carries no counters.
        let known = self.flows.get(at).filter(|known| known.flow_id == flow.flow_id);
        let (bytes_before, started) =
            known.map_or((0, flow.started), |known| (known.bytes_out, known.started));
        let noted = LargeFlow {
            flow_id: flow.flow_id,
            socket_type: flow.socket_type,
            protocol: flow.protocol,
            egress: flow.egress,
            local: flow.local,
            remote: flow.remote,
            name: name.cloned(),
            bytes_out: flow.bytes_out_total.max(bytes_before),
            owner: flow.owner.tgid,
            sender,
            started: started.min(flow.started),
            last: time,
            app_proto,
        };
        match self.flows.get_mut(at) {
            Some(known) => *known = noted,
            None => self.flows.push(noted),
        }
    }

    /// Takes in one reading of one process on one GPU.
    pub(super) fn note_gpu(&mut self, sample: &GpuSample, tree: ProcessKey, time: BootNs) {
        self.is_gpu_user = true;
        let at = self.gpus.iter().position(|gpu| gpu.uuid == sample.gpu);
        if at.is_none() && self.gpus.len() >= WORKLOAD_GPUS_MAX {
            let oldest = self.gpus.iter().enumerate().min_by_key(|(_, gpu)| gpu.time);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.gpus.swap_remove(at);
            }
        }
        match at.and_then(|at| self.gpus.get_mut(at)) {
            Some(gpu) => {
                gpu.mem_used_bytes = sample.mem_used_bytes.unwrap_or(gpu.mem_used_bytes);
                (gpu.tree, gpu.time) = (tree, time);
            }
            None => self.gpus.push(UsedGpu {
                uuid: sample.gpu.clone(),
                model: sample.model.clone(),
                mem_used_bytes: sample.mem_used_bytes.unwrap_or(0),
                tree,
                time,
            }),
        }
    }
}

#[derive(Debug)]
struct Name {
    text: Arc<str>,
    until: BootNs,
    /// Whether a resolver that the workload is configured with gave it.
    is_trusted: bool,
}

/// Names that a workload resolved addresses from.
#[derive(Debug, Default)]
pub(super) struct NameCache {
    names: HashMap<IpAddr, Name, DefaultHashBuilder>,
    /// Addresses in the order they were first answered.
    order: VecDeque<IpAddr>,
}

impl NameCache {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Keeps an answer, replacing the oldest at the bound or when `may_grow` is false. Returns by
    /// how much the cache grew, and whether a name that was still good had to go.
    pub(super) fn put(
        &mut self,
        answer: &DnsAnswer,
        (name, is_trusted): (&Arc<str>, bool),
        time: BootNs,
        may_grow: bool,
    ) -> (usize, bool) {
        let ip = answer.ip;
        let ttl = answer.ttl_seconds.clamp(NAME_TTL_MIN_S, NAME_TTL_MAX_S);
        let until = BootNs(time.0.saturating_add(u64::from(ttl) * 1_000_000_000));
        let new = Name { text: Arc::clone(name), until, is_trusted };
        if let Some(known) = self.names.get_mut(&ip) {
            *known = new;
            return (0, false);
        }
        let mut evicted = false;
        let mut grown = 1;
        if self.names.len() >= WORKLOAD_NAMES_MAX || !may_grow {
            let Some(oldest) = self.order.pop_front() else { return (0, true) };
            let gone = self.names.remove(&oldest);
            evicted = gone.is_some_and(|gone| gone.until > time);
            grown = 0;
        }
        self.names.insert(ip, new);
        self.order.push_back(ip);
        (grown, evicted)
    }

    /// The name of an address, while it is good, and whether a profile may go by it.
    pub(super) fn get(&self, ip: IpAddr, time: BootNs) -> Option<(&Arc<str>, bool)> {
        let known = self.names.get(&ip)?;
        (time <= known.until).then_some((&known.text, known.is_trusted))
    }
}
