//! Standard streams, and who sits behind them: a shell whose pipes lead to a process that talks to
//! another host is as good as a shell on a socket.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::enricher::{Enricher, Observation};
use super::limit::{RELAY_SUSPECTS_MAX, RELAY_TALKERS_MAX, RELAYS_TOLD_MAX};
use super::net::PeerClass;
use super::process::Process;
use super::table::Handle;
use super::workload::Workload;
use crate::model::{
    Actor, Body, BootNs, Channel, Event, Flow, ProcessKey, Stdio, StreamKind, Tgid, Tid,
};

/// What is known of the standard streams of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streams {
    /// Whether one of them is a network socket.
    pub(super) is_socket: bool,
    /// Whether they lead to a process with a flow to another host.
    pub(super) is_relay: bool,
    pub(super) channels: [Option<Channel>; 3],
    /// Whether the socket was a stream of the parent, and none was made one here since.
    is_socket_inherited: bool,
}

impl Streams {
    /// What a child begins with.
    pub(super) fn for_child(self) -> Self {
        Self { is_socket_inherited: self.is_socket, ..self }
    }

    /// A program is executed, and its streams are told next. Until then a socket is believed only
    /// if this process made it a stream: that a shell took one off its own again, as it does after
    /// `echo >/dev/tcp/host/port`, nobody tells.
    pub(super) fn execute(&mut self) {
        self.is_socket &= !self.is_socket_inherited;
        self.is_socket_inherited = false;
    }

    fn take(&mut self, stdio: &Stdio) {
        if stdio.is_relay {
            self.is_relay = true;
            return;
        }
        if stdio.is_whole {
            *self = Self { channels: stdio.channels, ..Self::default() };
        } else {
            for (mine, told) in self.channels.iter_mut().zip(&stdio.channels) {
                *mine = told.or(*mine);
            }
        }
        if stdio.family != 0 {
            self.is_socket = true;
            self.is_socket_inherited = false;
        }
    }

    /// The channels that output goes to, when input comes from a channel too. A program that only
    /// reads from a pipe, or only writes to one, is no shell.
    fn outward(&self) -> Option<[Option<Channel>; 2]> {
        let is_local = |channel: Option<Channel>| {
            channel.is_some_and(|channel| channel.kind != StreamKind::Socket)
        };
        let [input, output, errors] = self.channels;
        let is_suspect = is_local(input) && (is_local(output) || is_local(errors));
        is_suspect.then(|| [output, errors].map(|channel| channel.filter(|it| is_local(Some(*it)))))
    }
}

/// Processes with local channels on their streams, and relays that were found.
#[derive(Debug, Default)]
pub(super) struct Relays {
    suspects: VecDeque<(Handle<Process>, Handle<Workload>)>,
    /// Processes with a socket to another host on a stream: whoever made the connection may have
    /// left it to them, as a shell does that started `cat` on both sides of a FIFO.
    speakers: VecDeque<(Handle<Process>, Handle<Workload>)>,
    /// Rises with each suspect: a flow that has been held against fewer is looked at again.
    generation: u64,
    found: Vec<Event>,
}

impl Enricher {
    /// Takes in what the streams of a process are; looks whether somebody who talks to another
    /// host is behind them.
    pub(super) fn streamed(&mut self, stdio: &Stdio, time: BootNs, seen: &Observation) {
        let (Some(handle), Some(workload)) = (seen.process, seen.workload) else { return };
        let Some(process) = self.processes.get_mut(handle) else { return };
        process.streams.take(stdio);
        self.pipe_is_input(stdio, handle);
        let Some(process) = self.processes.get(handle) else { return };
        let is_suspect = process.streams.outward().is_some();
        if leads_out(stdio.remote) {
            self.speaks(handle, workload, time);
        }
        if stdio.is_relay || !is_suspect {
            return;
        }
        if self.relays.suspects.len() >= RELAY_SUSPECTS_MAX {
            self.relays.suspects.pop_front();
        }
        self.relays.suspects.push_back((handle, workload));
        self.relays.generation += 1;
        for talker in self.talkers(workload) {
            if self.is_behind(talker, handle) {
                self.relay_found(handle, time);
                return;
            }
        }
    }

    /// A process got a socket to another host as a stream: the newest suspects of its workload
    /// are held against it.
    fn speaks(&mut self, handle: Handle<Process>, workload: Handle<Workload>, time: BootNs) {
        let speaker = (handle, workload);
        if !self.relays.speakers.contains(&speaker) {
            if self.relays.speakers.len() >= RELAY_SUSPECTS_MAX {
                self.relays.speakers.pop_front();
            }
            self.relays.speakers.push_back(speaker);
        }
        let Some(talker) = self.processes.key(handle) else { return };
        let suspects = self.relays.suspects.iter().rev().filter(|(_, of)| *of == workload);
        let suspects: Vec<_> = suspects.map(|it| it.0).take(RELAY_TALKERS_MAX).collect();
        for suspect in suspects {
            if self.is_behind(talker.tgid, suspect) {
                self.relay_found(suspect, time);
            }
        }
    }

    /// Processes of a workload that have a socket to another host on a stream, then those that
    /// have or had a flow to one; newest first.
    fn talkers(&self, of: Handle<Workload>) -> Vec<Tgid> {
        let Some(workload) = self.workloads.get(of) else { return Vec::new() };
        let speakers = self.relays.speakers.iter().rev().filter(|(_, theirs)| *theirs == of);
        let mut talkers: Vec<_> = speakers
            .filter_map(|(speaker, _)| self.processes.key(*speaker))
            .map(|key| key.tgid)
            .take(RELAY_TALKERS_MAX)
            .collect();
        let flows = workload.account.flows.iter().rev().filter(|flow| leads_out(flow.remote));
        let mut of_flows = 0;
        for talker in flows.flat_map(|flow| [flow.sender, flow.owner]) {
            if talker.0 != 0 && !talkers.contains(&talker) && of_flows < RELAY_TALKERS_MAX {
                talkers.push(talker);
                of_flows += 1;
            }
        }
        talkers
    }

    /// Looks at a flow to another host: is its sender behind the streams of a process of the
    /// same workload? Each flow is held against each suspect once.
    pub(super) fn relayed(&mut self, flow: &Flow, time: BootNs, seen: &Observation) {
        let (Some(sender), Some(workload)) = (seen.process, seen.workload) else { return };
        let leads_out = leads_out(flow.remote);
        let generation = self.relays.generation;
        let Some(state) = seen.flow.and_then(|handle| self.flows.get_mut(handle)) else { return };
        let before = std::mem::replace(&mut state.suspects_seen, generation);
        if !leads_out || before == generation {
            return;
        }
        let Some(talker) = self.processes.key(sender) else { return };
        let fresh = usize::try_from(generation - before).unwrap_or(usize::MAX);
        let suspects: Vec<_> = self.relays.suspects.iter().rev().take(fresh).copied().collect();
        for (suspect, of) in suspects {
            if of == workload && suspect != sender && self.is_behind(talker.tgid, suspect) {
                self.relay_found(suspect, time);
            }
        }
    }

    /// Whether a process holds the other end of what a suspect writes to: by its own standard
    /// streams, else by any of its descriptors.
    fn is_behind(&self, talker: Tgid, suspect: Handle<Process>) -> bool {
        let Some(process) = self.processes.get(suspect) else { return false };
        let is_self = self.processes.key(suspect).is_some_and(|key| key.tgid == talker);
        let Some(outward) = process.streams.outward().filter(|_| !is_self) else { return false };
        if process.ended.is_some() || process.streams.is_relay {
            return false;
        }
        let known = self.processes.find_tgid(talker).and_then(|it| self.processes.get(it));
        let held = known.map(|it| it.streams.channels).unwrap_or_default();
        outward.into_iter().flatten().any(|channel| {
            let is_stream = held.iter().flatten().any(|it| it.id == channel.id && it.id != 0);
            is_stream || self.source.holds(talker, channel)
        })
    }

    fn relay_found(&mut self, handle: Handle<Process>, time: BootNs) {
        let Some(key) = self.processes.key(handle) else { return };
        let Some(process) = self.processes.get_mut(handle) else { return };
        process.streams.is_relay = true;
        if self.relays.found.len() >= RELAYS_TOLD_MAX {
            return;
        }
        let stdio =
            Stdio { channels: process.streams.channels, is_relay: true, ..Stdio::default() };
        let actor = actor_of(process, key);
        let body = Body::Stdio(stdio);
        self.relays.found.push(Event { time, actor: Some(actor), body });
    }

    /// Events that this stage found out by itself since it was asked last.
    pub fn take_found(&mut self) -> Vec<Event> {
        let mut found = std::mem::take(&mut self.found);
        found.append(&mut self.relays.found);
        found
    }
}

/// Whether an address is another host's.
fn leads_out(remote: Option<SocketAddr>) -> bool {
    remote.is_some_and(|peer| PeerClass::of(peer.ip()) != PeerClass::Loopback)
}

/// A process as the one who acts.
fn actor_of(process: &Process, key: ProcessKey) -> Actor {
    Actor {
        process: key,
        tid: Tid(key.tgid.0),
        cgroup: process.cgroup,
        uid: process.uid,
        comm: process.image.name.clone(),
    }
}
