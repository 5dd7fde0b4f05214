//! Putting processes into workloads.

use std::sync::Arc;

use super::account::Account;
use super::enricher::Enricher;
use super::limit::NAMES_RETRY_NS;
use super::place::{Place, ROOT_CGROUP, is_unified};
use super::process::Process;
use super::resolver::Resolvers;
use super::table::Handle;
use super::workload::{Workload, keeps_workload, workload_id, workload_name};
use crate::model::{Actor, BootNs, CgroupId, ProcessKey, Tgid};

impl Enricher {
    /// Where a process lives now; `None` when it has ended or nothing may be read.
    pub(super) fn place(&mut self, process: Tgid, cgroup: CgroupId) -> Option<Arc<Place>> {
        if let Some(handle) = self.places_by_id.find(&cgroup) {
            self.places_by_id.touch(handle);
            return self.places_by_id.get(handle).cloned();
        }
        let text = self.source.cgroup(process)?;
        let place = if let Some(handle) = self.places_by_text.find::<str>(&text) {
            self.places_by_text.touch(handle);
            self.places_by_text.get(handle).cloned()?
        } else {
            let place = Arc::new(Place::parse(&text));
            self.places_by_text.insert(text.clone().into_boxed_str(), Arc::clone(&place));
            place
        };
        // The process may have moved between the record and this read. An id is remembered only
        // when the path read now is that very directory; otherwise a runtime's own cgroup could be
        // taken for the container it was just starting.
        let is_lasting = cgroup.0 > ROOT_CGROUP.0
            && is_unified(&text)
            && self.source.cgroup_id(&place.cgroup) == Some(cgroup);
        if is_lasting {
            self.places_by_id.insert(cgroup, Arc::clone(&place));
        }
        Some(place)
    }

    /// Looks again where a process lives when its cgroup is another than before.
    pub(super) fn notice_move(&mut self, handle: Handle<Process>, actor: &Actor) {
        let Some(process) = self.processes.get_mut(handle) else { return };
        if process.cgroup == actor.cgroup || actor.cgroup.0 == 0 {
            return;
        }
        process.cgroup = actor.cgroup;
        let place = self.place(actor.process.tgid, actor.cgroup);
        self.settle(handle, place);
    }

    /// Puts a process into the workload of a place, unless it keeps the one it has
    /// ([`keeps_workload`]). Without a place it stays where it is.
    pub(super) fn settle(&mut self, handle: Handle<Process>, place: Option<Arc<Place>>) {
        let Some(key) = self.processes.key(handle) else { return };
        let Some(process) = self.processes.get(handle) else { return };
        let current = process.workload.and_then(|workload| self.workloads.get(workload));
        let place = place.unwrap_or_else(|| Arc::clone(&process.place));
        if let Some(current) = current {
            let same = *process.place == *place;
            if same {
                return;
            }
            let id = workload_id(&place, process.tree);
            if id == current.id {
                // Another container of the same pod, another step of the same job.
                if let Some(process) = self.processes.get_mut(handle) {
                    process.place = place;
                }
                return;
            }
            if keeps_workload(current, process, place.kind) {
                self.moves_refused += 1;
                return;
            }
        }
        let left = process.workload;
        let is_moved = current.is_some();
        let is_living = process.ended.is_none();
        let has_entered = self.enters(&place, key) && is_moved;
        if let Some(process) = self.processes.get_mut(handle) {
            process.place = place;
            process.has_entered = has_entered;
            if is_moved {
                process.tree = key;
            }
        }
        if is_moved && is_living {
            self.leave(left);
        }
        self.join(handle);
    }

    /// Whether a process that comes to a container finds somebody there. The first that comes is
    /// the container's own first process.
    fn enters(&mut self, place: &Place, key: ProcessKey) -> bool {
        let Some(container) = place.container_id.as_deref() else { return false };
        if let Some(known) = self.containers.find(container) {
            self.containers.touch(known);
            return self.containers.get(known).is_some_and(|first| *first != key);
        }
        self.containers.insert(container.into(), key);
        false
    }

    /// Puts a process that is in no workload into the one of its place.
    fn join(&mut self, handle: Handle<Process>) -> Option<Handle<Workload>> {
        let process = self.processes.get(handle)?;
        let (place, is_living) = (Arc::clone(&process.place), process.ended.is_none());
        let id = workload_id(&place, process.tree);
        let workload = if let Some(workload) = self.workloads.find(&id) {
            workload
        } else {
            let names = self.names.names(&place);
            let name = workload_name(&place, names.as_deref(), process);
            let (workload, victim) = self.workloads.insert(Workload {
                id,
                place,
                name,
                names,
                names_version: self.names.version(),
                names_asked: BootNs(0),
                profile: None,
                guessed_role: None,
                profiles_epoch: 0,
                live: 0,
                account: Account::default(),
                resolvers: Resolvers::default(),
            });
            if let Some(victim) = victim {
                self.names_len = self.names_len.saturating_sub(victim.account.names.len());
            }
            workload
        };
        if let Some(process) = self.processes.get_mut(handle) {
            process.workload = Some(workload);
        }
        if let Some(workload) = self.workloads.get_mut(workload) {
            workload.live += usize::from(is_living);
        }
        Some(workload)
    }

    /// The workload of a process. One that was evicted begins again.
    pub(super) fn workload_of(
        &mut self,
        handle: Handle<Process>,
        time: BootNs,
    ) -> Option<Handle<Workload>> {
        let workload = self.processes.get(handle)?.workload;
        let living = workload.filter(|workload| self.workloads.get(*workload).is_some());
        let workload = match living {
            Some(workload) => workload,
            None => self.join(handle)?,
        };
        self.workloads.touch(workload);
        self.renew_names(workload);
        let known = self.workloads.get_mut(workload)?;
        let is_named = known.names.is_some() || !known.kind().has_orchestrator();
        if !is_named && time.since(known.names_asked) >= NAMES_RETRY_NS {
            known.names_asked = time;
            self.refresh_names(handle);
        }
        Some(workload)
    }

    /// Takes names that have changed: a job has got or lost members. The profile stays: what once
    /// selected it is not shed by another label.
    fn renew_names(&mut self, workload: Handle<Workload>) {
        let version = self.names.version();
        let Some(known) = self.workloads.get_mut(workload) else { return };
        if known.names_version == version {
            return;
        }
        known.names_version = version;
        if known.names.is_some()
            && let Some(names) = self.names.names(&known.place)
        {
            known.names = Some(names);
        }
    }

    /// Asks for the names of a workload that had none yet.
    pub(super) fn refresh_names(&mut self, handle: Handle<Process>) {
        let Some(process) = self.processes.get(handle) else { return };
        let Some(workload) = process.workload else { return };
        let Some(known) = self.workloads.get(workload) else { return };
        if known.names.is_some() {
            return;
        }
        let Some(names) = self.names.names(&known.place) else { return };
        let name = workload_name(&known.place, Some(&names), process);
        if let Some(known) = self.workloads.get_mut(workload) {
            known.names = Some(names);
            known.name = name;
            // What profiles match on has changed.
            known.profiles_epoch = 0;
        }
    }
}
