//! Facts of acts beyond opens and flows: changed files, memory, tampering, namespaces, unusual
//! ways into the kernel, and what the monitor says of itself.

use std::net::IpAddr;

use super::facts::{Enriched, int, known, text, truth};
use super::net::family_name;
use super::process::{Process, is_same_start};
use super::workload::Workload;
use crate::model::{
    AsyncIo, Body, Facts as _, FieldId, FileChange, FileId, FileRead, MemoryAccess,
    NamespaceChange, ProcessKey, SensorNote, Stdio, Tamper, Value,
};

macro_rules! body {
    ($name:ident $variant:ident) => {
        pub(super) fn $name(&self) -> Option<&'e $variant> {
            if let Body::$variant(body) = &self.event.body { Some(body) } else { None }
        }
    };
    ($name:ident $variant:ident $body:ident) => {
        pub(super) fn $name(&self) -> Option<&'e $body> {
            if let Body::$variant(body) = &self.event.body { Some(body) } else { None }
        }
    };
}

impl<'e> Enriched<'e> {
    body!(read FileRead);
    body!(change FileChange);
    body!(stdio Stdio);
    body!(access MemoryAccess);
    body!(tamper Tamper);
    body!(namespace Namespace NamespaceChange);
    body!(async_io AsyncIo);
    body!(note SensorNote);

    /// The file that an open, a read or a change is about.
    pub(super) fn file_id(&self) -> Option<FileId> {
        match &self.event.body {
            Body::FileOpen(open) => Some(open.id),
            Body::FileRead(read) => Some(read.id),
            Body::FileChange(change) => Some(change.id),
            _ => None,
        }
    }

    fn target(&self) -> Option<ProcessKey> {
        let key = self
            .access()
            .map(|access| access.target)
            .or_else(|| self.tamper().map(|tamper| tamper.target))?;
        (key.tgid.0 != 0).then_some(key)
    }

    fn target_process(&self) -> Option<&'e Process> {
        let key = self.target()?;
        let processes = &self.enricher.processes;
        let handle = processes.find_tgid(key.tgid)?;
        let known = processes.key(handle)?;
        is_same_start(known.start, key.start).then(|| processes.get(handle))?
    }

    fn target_workload(&self) -> Option<&'e Workload> {
        self.enricher.workloads.get(self.target_process()?.workload?)
    }

    /// Whether the file lies where the profile expects weights; a renamed file or a copy by where
    /// it went.
    fn is_in_weight_paths(&self) -> Option<bool> {
        let peers = &self.workload?.profile.as_ref()?.peers;
        let moved_to = self.change().map(|change| change.new_path.as_str());
        match (moved_to.filter(|path| !path.is_empty()), self.field(FieldId::FilePath)) {
            (Some(path), _) | (None, Value::Str(path)) => Some(peers.holds_weights(path)),
            _ => None,
        }
    }

    fn is_same_workload(&self) -> Option<bool> {
        Some(self.target_workload()?.id == self.workload?.id)
    }

    /// Whether the process, or an ancestor, came into its container from outside; missing outside
    /// of containers.
    fn has_entered(&self) -> Option<bool> {
        let process = self.process?;
        process.place.container_id.as_ref().map(|_| process.has_entered)
    }

    /// Whether the process is in the mount namespace of process 1 afterwards.
    fn is_host_namespace(&self) -> Option<bool> {
        let after = self.namespace()?.mount_ns;
        let host = self.enricher.host_mount_ns?;
        (after != 0).then_some(after == host)
    }

    /// The facts of this file; [`Value::Missing`] for any other.
    pub(super) fn act(&self, id: FieldId) -> Value<'_> {
        let ip = |ip: Option<IpAddr>| ip.map_or(Value::Missing, Value::Ip);
        let remote = self.stdio().and_then(|stdio| stdio.remote);
        match id {
            FieldId::FileOp => text(self.change().map(|change| change.op.as_str())),
            FieldId::FileNewPath => known(self.change().map(|change| change.new_path.as_str())),
            FieldId::FileBytes => match (self.read(), self.change()) {
                (Some(read), _) => int(Some(read.bytes)),
                (_, change) => int(change.map(|change| change.bytes)),
            },
            FieldId::FileInWeightPaths => truth(self.is_in_weight_paths()),
            FieldId::FileSecretClass
            | FieldId::FileFs
            | FieldId::FileDerivedFrom
            | FieldId::FileClass
            | FieldId::WeightsDerivedBytes
            | FieldId::WeightsOnlyDerived => self.file_field(id),
            FieldId::FileMapped => truth(self.read().map(|read| read.is_mapped)),
            FieldId::ProcStdioSocket => truth(self.process.map(|it| it.streams.is_socket)),
            FieldId::ProcStdioRelay => truth(self.process.map(|it| it.streams.is_relay)),
            FieldId::ProcEntered => truth(self.has_entered()),
            FieldId::NetIsResolver => truth(self.is_resolver()),
            FieldId::DnsServerIsOwn => truth(self.is_own_resolver()),
            FieldId::StdioFd => int(self.stdio().map(|stdio| stdio.fd)),
            FieldId::StdioFamily => text(self.stdio().and_then(|stdio| family_name(stdio.family))),
            FieldId::StdioPeerIp => ip(remote.map(|remote| remote.ip())),
            FieldId::StdioPeerPort => int(remote.map(|remote| remote.port())),
            FieldId::AccessMethod => text(self.access().map(|access| access.method.as_str())),
            FieldId::AccessBytes => int(self.access().map(|access| access.bytes)),
            FieldId::TamperOp => text(self.tamper().map(|tamper| tamper.op.as_str())),
            FieldId::TamperSignal => {
                let signal = self.tamper().map(|tamper| tamper.signal);
                int(signal.filter(|signal| *signal != 0))
            }
            FieldId::TamperObject => known(self.tamper().map(|tamper| tamper.object.as_str())),
            FieldId::TamperSelf => truth(self.tamper().map(|tamper| tamper.is_self)),
            FieldId::TargetPid => int(self.target().map(|key| key.tgid.0)),
            FieldId::TargetName => known(self.target_process().map(|it| it.image.name.as_str())),
            FieldId::TargetExe => known(self.target_process().map(|it| it.image.exe.as_str())),
            FieldId::TargetWorkloadId => text(self.target_workload().map(|it| it.id.as_str())),
            FieldId::TargetSameWorkload => truth(self.is_same_workload()),
            FieldId::TargetWeightsBytesRead => {
                int(self.target_workload().map(|workload| workload.account.weight_bytes))
            }
            FieldId::NsOp => text(self.namespace().map(|change| change.op.as_str())),
            FieldId::NsFlags => int(self.namespace().map(|change| change.flags)),
            FieldId::NsPath => known(self.namespace().map(|change| change.path.as_str())),
            FieldId::NsSource => known(self.namespace().map(|change| change.source.as_str())),
            FieldId::NsFsType => known(self.namespace().map(|change| change.fs_type.as_str())),
            FieldId::NsHost => truth(self.is_host_namespace()),
            FieldId::AsyncOp => text(self.async_io().map(|io| io.op.as_str())),
            FieldId::AsyncFlags => int(self.async_io().map(|io| io.flags)),
            FieldId::SensorDetail => known(self.note().map(|note| note.detail.as_str())),
            other => self.gpu_field(other),
        }
    }
}
