//! The state as a whole, over a host that is made up.

mod budget;
mod derived;
mod dns;
mod gpu;
mod hand;
mod label;
mod law;
mod lineage;
mod network;
mod place;
mod reach;
mod shared_memory;
mod standing;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::{KernelConfig, WatchConfig};
use crate::model::{
    Actor, Body, BootNs, CgroupId, Clock, Event, Exec, Exit, Facts, FieldId, FileId, FileOpen,
    FileType, Flow, FlowPhase, ProcessKey, TaskNew, Tgid, Tid, Value,
};

const SECOND: u64 = 1_000_000_000;
/// Descriptors that each look goes through.
const LOOK_COST: usize = super::limit::FAR_DESCRIPTORS_MAX;
const UID: &str = "8f3f1f0c-9c1e-4a53-8d3b-0f2a5f6f7a10";

/// A host that is made up.
#[derive(Default)]
struct Host {
    cgroups: HashMap<u32, String>,
    /// Id by path of cgroups that are there.
    ids: HashMap<String, u64>,
    processes: HashMap<u32, ProcInfo>,
    /// Inode and first bytes by path.
    files: HashMap<String, (u64, Vec<u8>)>,
    /// Size by path of files that are being written.
    sizes: HashMap<String, (u64, u64)>,
    /// Files without a name that each process has open, with their sizes.
    nameless: HashMap<u32, Vec<(FileId, u64)>>,
    /// Size by inode of files that have no name and are open.
    open_files: HashMap<u64, u64>,
    /// What each process has open for writing: path and inode.
    written: HashMap<u32, Vec<(String, u64)>>,
    /// `LD_PRELOAD` of each process.
    preload: HashMap<u32, String>,
    /// Resolvers that every process is configured with.
    resolvers: Vec<std::net::IpAddr>,
    /// Who has a socket open, by its inode.
    sockets: HashMap<u64, u32>,
    /// Times that was looked for.
    looks: usize,
    /// Times the start of a file was read.
    heads: usize,
}

#[derive(Clone, Default)]
struct FakeSource(Arc<Mutex<Host>>);

impl ProcSource for FakeSource {
    fn cgroup(&self, process: Tgid) -> Option<String> {
        self.0.lock().unwrap().cgroups.get(&process.0).cloned()
    }

    fn cgroup_id(&self, path: &str) -> Option<CgroupId> {
        self.0.lock().unwrap().ids.get(path).copied().map(CgroupId)
    }

    fn process(&self, process: Tgid) -> Option<ProcInfo> {
        self.0.lock().unwrap().processes.get(&process.0).cloned()
    }

    fn stat(&self, _process: Tgid, path: &str) -> Option<FileHead> {
        let (inode, size_bytes) = *self.0.lock().unwrap().sizes.get(path)?;
        Some(FileHead { inode, size_bytes, filled: 0, modified_ns: 1 })
    }

    fn written(&self, process: Tgid) -> Vec<(String, FileId, u64)> {
        let host = self.0.lock().unwrap();
        let files = host.written.get(&process.0).cloned().unwrap_or_default();
        let id = |inode| FileId { device: 7, inode, generation: 0 };
        files.into_iter().map(|(path, inode)| (path, id(inode), 0)).collect()
    }

    fn variable(&self, process: Tgid, name: &str) -> Option<String> {
        assert_eq!(name, "LD_PRELOAD");
        self.0.lock().unwrap().preload.get(&process.0).cloned()
    }

    fn holder(&self, processes: &[Tgid], socket: u64, left: &mut usize) -> Option<Tgid> {
        *left = left.saturating_sub(LOOK_COST);
        let mut host = self.0.lock().unwrap();
        host.looks += 1;
        let holder = Tgid(*host.sockets.get(&socket)?);
        processes.contains(&holder).then_some(holder)
    }

    fn nameless(&self, process: Tgid, left: &mut usize) -> Vec<(FileId, u64)> {
        *left = left.saturating_sub(LOOK_COST);
        self.0.lock().unwrap().nameless.get(&process.0).cloned().unwrap_or_default()
    }

    fn open_size(&self, _process: Tgid, id: &FileId) -> Option<u64> {
        self.0.lock().unwrap().open_files.get(&id.inode).copied()
    }

    fn pipe_reader(&self, processes: &[Tgid], pipe: u64, left: &mut usize) -> Option<Tgid> {
        self.holder(processes, pipe, left)
    }

    fn datagram_socket(&self, _process: Tgid, port: u16) -> Option<u64> {
        Some(u64::from(port) + 1000)
    }

    fn resolvers(&self, _process: Option<Tgid>) -> Vec<std::net::IpAddr> {
        self.0.lock().unwrap().resolvers.clone()
    }

    fn head(&self, _process: Tgid, path: &str, into: &mut [u8]) -> Option<FileHead> {
        let mut host = self.0.lock().unwrap();
        host.heads += 1;
        let (inode, bytes) = host.files.get(path)?;
        let filled = bytes.len().min(into.len());
        into[..filled].copy_from_slice(&bytes[..filled]);
        Some(FileHead { inode: *inode, size_bytes: 0, filled, modified_ns: 0 })
    }
}

/// An enricher over a made-up host, and the time.
struct Stage {
    enricher: Enricher,
    host: FakeSource,
    now: u64,
}

impl Stage {
    fn new() -> Self {
        Self::with_profiles(Arc::new(NoProfiles))
    }

    fn with_profiles(profiles: Arc<dyn Profiles>) -> Self {
        let host = FakeSource::default();
        let config = EnrichConfig::new(&WatchConfig::default(), &KernelConfig::default(), Tgid(0));
        let source = Box::new(host.clone());
        let enricher = Enricher::new(&config, profiles, Clock::default(), source);
        Self { enricher, host, now: 100 * SECOND }
    }

    fn cgroup(&self, pid: u32, path: &str) {
        self.host.0.lock().unwrap().cgroups.insert(pid, format!("0::{path}\n"));
    }

    fn file(&self, path: &str, inode: u64, bytes: &[u8]) {
        self.host.0.lock().unwrap().files.insert(path.into(), (inode, bytes.to_vec()));
    }

    /// Observes what a process does, a millisecond after the last.
    fn act(&mut self, actor: Actor, body: Body) -> (Event, Observation) {
        self.now += SECOND / 1_000;
        let event = Event { time: BootNs(self.now), actor: Some(actor), body };
        let seen = self.enricher.observe(&event);
        (event, seen)
    }

    fn exec(&mut self, pid: u32, exe: &str) -> (Event, Observation) {
        self.act(actor(pid), exec(0, exe))
    }

    fn fork(&mut self, parent: u32, child: u32) {
        self.act(actor(parent), task_new(child));
    }

    fn exit(&mut self, pid: u32) {
        self.act(actor(pid), Body::Exit(Exit { code: 0 }));
    }

    fn with_facts<T>(&self, of: &(Event, Observation), ask: impl Fn(&Enriched<'_>) -> T) -> T {
        ask(&self.enricher.facts(&of.0, &of.1, &NoGpu))
    }

    /// The text of a field; empty when it is missing.
    fn text(&self, of: &(Event, Observation), id: FieldId) -> String {
        self.with_facts(of, |facts| match facts.field(id) {
            Value::Missing => String::new(),
            Value::Str(text) => text.to_owned(),
            Value::Int(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Ip(ip) => ip.to_string(),
            Value::List(list) => list.join(","),
            Value::Float(number) => number.to_string(),
            Value::Map(map) => format!("{map:?}"),
        })
    }
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey { tgid: Tgid(pid), start: BootNs(u64::from(pid) * SECOND / 10 + 1) }
}

fn actor(pid: u32) -> Actor {
    Actor {
        process: key(pid),
        tid: Tid(pid),
        cgroup: CgroupId(1),
        uid: 1000,
        comm: format!("comm{pid}"),
    }
}

fn exec(parent: u32, exe: &str) -> Body {
    Body::Exec(Exec {
        parent: if parent == 0 { ProcessKey::default() } else { key(parent) },
        exe: exe.into(),
        exe_id: FileId::default(),
        is_memfd: false,
        is_deleted: false,
        args: vec![exe.into(), "-x".into()],
        args_bytes: 10,
        args_truncated: false,
        cwd: "/".into(),
        exe_changed: None,
        exe_writer: None,
    })
}

fn task_new(child: u32) -> Body {
    Body::TaskNew(TaskNew {
        child: key(child),
        child_tid: Tid(child),
        child_comm: "child".into(),
        clone_flags: 0,
        is_thread: false,
        is_io_worker: false,
    })
}

fn open(path: &str, inode: u64, size_bytes: u64) -> FileOpen {
    FileOpen {
        id: FileId { device: 7, inode, generation: 3 },
        path: path.into(),
        path_truncated: false,
        file_type: FileType::Regular,
        rdev: 0,
        size_bytes,
        open_flags: 0,
        fs_magic: 0xef53,
    }
}

fn flow(flow_id: u64, remote: &str, bytes_out: u64) -> Flow {
    Flow {
        phase: FlowPhase::Progress,
        flow_id,
        family: 2,
        socket_type: 1,
        protocol: 6,
        egress: Some(true),
        local: "10.0.0.9:40000".parse().unwrap(),
        remote: Some(remote.parse::<SocketAddr>().unwrap()),
        owner: ProcessKey::default(),
        bytes_out_total: bytes_out,
        bytes_out,
        bytes_in_total: 0,
        sends: 1,
        started: BootNs(SECOND),
        is_fast_open: false,
        payload: None,
    }
}
