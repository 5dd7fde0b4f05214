//! Pipes and FIFOs: who reads what a workload that has read weights puts into them. Whoever opened
//! a FIFO for reading is told, and so are pipes that are standard input; of any other pipe the
//! descriptors of processes are looked through, once what went into it is enough to matter.

use super::enricher::{Enricher, Observation};
use super::limit::{FAR_AGAIN_NS, FAR_CANDIDATES_MAX, LINK_SPAN_NS, PIPE_READERS_MAX};
use super::process::Process;
use super::table::Handle;
use super::workload::Workload;
use crate::model::{BootNs, Channel, FileId, Link, Stdio, StreamKind, Tgid};

/// A pipe by its identity, as the kernel side tells it.
pub(super) type PipeId = u64;

/// What is known of one pipe.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe {
    /// Who has it open for reading, the latest last.
    pub(super) readers: Vec<Handle<Process>>,
    /// Bytes that were put into it since, and that nobody is known to have taken.
    bytes: u64,
    since: BootNs,
    /// When descriptors were looked through for its readers.
    looked: Option<BootNs>,
}

/// Identity of a FIFO, or of a pipe that was opened anew, as of any pipe's end.
pub(super) fn pipe_of(id: &FileId) -> PipeId {
    id.inode ^ (u64::from(id.device) << 40)
}

impl Enricher {
    /// A process opened a FIFO for reading, or began with a pipe as its standard input.
    pub(super) fn reads_pipe(&mut self, pipe: PipeId, reader: Handle<Process>) {
        let handle = self.pipe(pipe);
        let Some(pipe) = self.pipes.get_mut(handle) else { return };
        pipe.readers.retain(|known| *known != reader);
        if pipe.readers.len() >= PIPE_READERS_MAX {
            pipe.readers.remove(0);
        }
        pipe.readers.push(reader);
    }

    /// The pipe that is the standard input of a process.
    pub(super) fn pipe_is_input(&mut self, stdio: &Stdio, reader: Handle<Process>) {
        if let Some(Channel { kind: StreamKind::Pipe, id, .. }) = stdio.channels[0] {
            self.reads_pipe(id, reader);
        }
    }

    fn pipe(&mut self, pipe: PipeId) -> Handle<Pipe> {
        let handle = match self.pipes.find(&pipe) {
            Some(handle) => handle,
            None => self.pipes.insert(pipe, Pipe::default()).0,
        };
        self.pipes.touch(handle);
        handle
    }

    /// Takes in bytes that a process of the workload `from` put into a pipe.
    pub(super) fn piped(&mut self, link: &Link, time: BootNs, seen: &mut Observation) {
        let Some(from) = seen.workload else { return };
        let Some(least) = self.passed_from_bytes(from, link) else { return };
        let handle = self.pipe(link.peer_socket);
        let Some(pipe) = self.pipes.get_mut(handle) else { return };
        if time.since(pipe.since) >= LINK_SPAN_NS {
            (pipe.bytes, pipe.since) = (0, time);
        }
        pipe.bytes = pipe.bytes.saturating_add(link.bytes);
        let (bytes, looked) = (pipe.bytes, pipe.looked);
        let mut readers = self.strange_readers(handle, from);
        let may_look = looked.is_none_or(|looked| time.since(looked) >= FAR_AGAIN_NS);
        if readers.is_empty() && bytes >= least && may_look {
            self.look_for_reader(handle, from, time);
            readers = self.strange_readers(handle, from);
        }
        if readers.is_empty() {
            return;
        }
        if let Some(pipe) = self.pipes.get_mut(handle) {
            pipe.bytes = 0;
        }
        for (reader, to) in readers {
            let pair = (from, to, link.is_accepted);
            if let Some(cgroup) = self.passed(pair, (bytes, least), time, Some(reader)) {
                seen.mark = self.mark_cgroup(cgroup).then_some(cgroup);
            }
        }
    }

    /// Known readers of a pipe that are of other workloads, each workload once.
    fn strange_readers(
        &self,
        pipe: Handle<Pipe>,
        from: Handle<Workload>,
    ) -> Vec<(Handle<Process>, Handle<Workload>)> {
        let mut found: Vec<(Handle<Process>, Handle<Workload>)> = Vec::new();
        for reader in self.pipes.get(pipe).iter().flat_map(|pipe| &pipe.readers) {
            if let Some(to) = self.processes.get(*reader).and_then(|process| process.workload)
                && to != from
                && found.iter().all(|(_, known)| *known != to)
            {
                found.push((*reader, to));
            }
        }
        found
    }

    fn look_for_reader(&mut self, handle: Handle<Pipe>, from: Handle<Workload>, time: BootNs) {
        let Some(pipe) = self.pipes.key(handle).copied() else { return };
        let all = super::far::ANY_CGROUP;
        let living = self.processes.living_in(all, FAR_CANDIDATES_MAX);
        let strangers = living.iter().filter(|(_, workload)| *workload != Some(from));
        let strangers: Vec<Tgid> = strangers.map(|(process, _)| process.tgid).collect();
        let Some(left) = self.far_looks.left(time) else { return };
        let reader = self.source.pipe_reader(&strangers, pipe, left);
        let reader = reader.and_then(|reader| self.processes.find_tgid(reader));
        if let Some(reader) = reader {
            // It may not have acted since the monitor came.
            self.workload_of(reader, time);
            self.reads_pipe(pipe, reader);
        }
        if let Some(pipe) = self.pipes.get_mut(handle) {
            pipe.looked = Some(time);
        }
    }
}
