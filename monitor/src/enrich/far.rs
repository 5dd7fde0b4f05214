//! Who is at the far end of a local channel. The kernel names the process that listened on a unix
//! socket, and the socket itself; of a stream over loopback, and of datagrams, the socket alone.
//! Whoever has it open is looked for among the processes that may have.

use super::enricher::Enricher;
use super::limit::{FAR_AGAIN_NS, FAR_CANDIDATES_MAX, FAR_DESCRIPTORS_PER_SECOND_MAX};
use super::place::{Place, ROOT_CGROUP};
use super::process::Process;
use super::table::Handle;
use super::workload::{Workload, workload_id};
use crate::model::{BootNs, CgroupId, Link, ProcessKey, Tgid};

/// Processes of all cgroups, as a cgroup.
pub(super) const ANY_CGROUP: CgroupId = CgroupId(0);

/// What is asked for: the cgroup that the socket was made in, and its inode.
pub(super) type FarKey = (CgroupId, u64);

/// Who was found, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct FarEnd {
    pub(super) workload: Option<Handle<Workload>>,
    pub(super) process: Option<Handle<Process>>,
    looked: BootNs,
}

/// What a look through descriptors came to.
enum Look {
    Found(Handle<Process>),
    Nobody,
    /// So many were looked through within this second that the next must come first.
    Refused,
}

/// How many more descriptors may be looked through within this second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FarLooks {
    since: BootNs,
    left: usize,
    is_begun: bool,
}

impl FarLooks {
    /// What is left of the bound, for one more look to take its part of; nothing once it is used
    /// up.
    pub(super) fn left(&mut self, time: BootNs) -> Option<&mut usize> {
        if !self.is_begun || time.since(self.since) >= 1_000_000_000 {
            *self = Self { since: time, left: FAR_DESCRIPTORS_PER_SECOND_MAX, is_begun: true };
        }
        (self.left > 0).then_some(&mut self.left)
    }
}

impl Enricher {
    /// The far end of a channel, as seen from a process of the workload `from`.
    pub(super) fn far_end(
        &mut self,
        link: &Link,
        sender: ProcessKey,
        from: Handle<Workload>,
        time: BootNs,
    ) -> FarEnd {
        // The first process of the host listens for others, which take over its sockets.
        if link.peer.tgid != Tgid(1)
            && let Some(process) = self.processes.find(link.peer)
        {
            let workload = self.workload_of(process, time);
            return FarEnd { workload, process: Some(process), looked: time };
        }
        let socket = match link.peer_socket {
            0 if link.peer_port != 0 => {
                self.source.datagram_socket(sender.tgid, link.peer_port).unwrap_or(0)
            }
            socket => socket,
        };
        let key = (link.peer_cgroup, socket);
        let known = self.far_ends.find(&key);
        let last = known.and_then(|known| self.far_ends.get(known)).copied();
        if let Some(end) = last.filter(|end| time.since(end.looked) < FAR_AGAIN_NS) {
            return end;
        }
        let process = match self.far_process(key, from, time) {
            Look::Found(process) => Some(process),
            Look::Nobody => None,
            // No answer that could stand for a while.
            Look::Refused => {
                let workload = self.workload_in(link.peer_cgroup);
                return FarEnd { workload, process: None, looked: time };
            }
        };
        let workload = match process {
            Some(process) => self.workload_of(process, time),
            None => self.workload_in(link.peer_cgroup),
        };
        let end = FarEnd { workload, process, looked: time };
        match known.and_then(|known| self.far_ends.get_mut(known)) {
            Some(known) => *known = end,
            None => drop(self.far_ends.insert(key, end)),
        }
        end
    }

    /// The process that has a socket open, among those of its cgroup; among all, where nobody
    /// knows its cgroup. Where all of a cgroup are of one workload, any of them will do.
    fn far_process(
        &mut self,
        (cgroup, socket): FarKey,
        from: Handle<Workload>,
        time: BootNs,
    ) -> Look {
        let living = self.processes.living_in(cgroup, FAR_CANDIDATES_MAX);
        let Some((newest, workload)) = living.first().copied() else { return Look::Nobody };
        let is_one = living.iter().all(|(_, other)| *other == workload);
        if cgroup.0 > ROOT_CGROUP.0 && is_one {
            return self.processes.find(newest).map_or(Look::Nobody, Look::Found);
        }
        if socket == 0 {
            return Look::Nobody;
        }
        let Some(left) = self.far_looks.left(time) else { return Look::Refused };
        // What a child inherited is in the sender's own workload too.
        let strangers = living.iter().filter(|(_, workload)| *workload != Some(from));
        let strangers: Vec<Tgid> = strangers.map(|(process, _)| process.tgid).collect();
        let holder = self.source.holder(&strangers, socket, left);
        holder.and_then(|holder| self.processes.find_tgid(holder)).map_or(Look::Nobody, Look::Found)
    }

    /// The workload that a cgroup is of, by its path.
    pub(super) fn workload_in(&self, cgroup: CgroupId) -> Option<Handle<Workload>> {
        let place = self.place_of(cgroup)?;
        place.workload_id()?;
        self.workloads.find(&workload_id(place, ProcessKey::default()))
    }

    /// What is known of a cgroup: by its id, and where an id does not tell everything (version 1 is
    /// in use too), by who was in it last. The root cgroup is nobody's.
    pub(super) fn place_of(&self, cgroup: CgroupId) -> Option<&Place> {
        if let Some(place) = self.places_by_id.find(&cgroup) {
            return self.places_by_id.get(place).map(AsRef::as_ref);
        }
        let is_someones = cgroup.0 > ROOT_CGROUP.0;
        is_someones.then(|| self.processes.latest_in(cgroup))?.map(|process| process.place.as_ref())
    }
}
