//! Reaching into other processes, and being moved: what the records leave to be found out.

use super::enricher::{Enricher, Observation};
use crate::model::{
    AccessMethod, Body, BootNs, CgroupId, CgroupMove, Event, MemoryAccess, ProcessKey, Tgid,
};

impl Enricher {
    /// Completes a record with what the kernel side could not tell: the process behind an id that
    /// a caller named, and whether an act is aimed at the monitor. Before [`Enricher::observe`].
    pub fn complete(&mut self, event: &mut Event) {
        self.read_wire(event);
        self.read_tampering(event);
        let caller = event.actor.as_ref().map_or(Tgid(0), |actor| actor.process.tgid);
        match &mut event.body {
            Body::Flow(flow) => self.find_direction(flow, event.actor.as_ref()),
            Body::MemoryAccess(access) if access.target.tgid.0 == 0 && access.named_pid != 0 => {
                if let Some(target) = self.named(caller, access) {
                    access.target = target;
                }
            }
            Body::Tamper(tamper) if tamper.target.tgid == self.own && self.own.0 != 0 => {
                tamper.is_self = true;
            }
            _ => {}
        }
    }

    fn named(&mut self, caller: Tgid, access: &MemoryAccess) -> Option<ProcessKey> {
        let tgid = if access.is_host_pid {
            Tgid(access.named_pid)
        } else {
            self.source.process_in_namespace(caller, access.named_pid)?
        };
        let living = self.processes.find_tgid(tgid).filter(|handle| {
            self.processes.get(*handle).is_some_and(|process| process.ended.is_none())
        });
        if let Some(handle) = living {
            return self.processes.key(handle);
        }
        let info = self.source.process(tgid)?;
        Some(ProcessKey { tgid, start: info.start })
    }

    /// Whoever reads the memory of a process that has read weights has, as far as anybody can
    /// tell, read them too: process and workload are marked, with the bytes where counted.
    pub(super) fn reached(&mut self, access: &MemoryAccess, time: BootNs, seen: &mut Observation) {
        if access.method == AccessMethod::PidfdGetfd {
            let theirs = self.processes.find(access.target);
            let theirs = theirs.and_then(|target| self.processes.get(target)?.workload);
            if let Some(theirs) = theirs {
                self.may_have_handed(theirs, seen.process, time, seen);
            }
            return;
        }
        if access.method == AccessMethod::VmWrite {
            return self.pushed(access, time, seen);
        }
        let takes = matches!(
            access.method,
            AccessMethod::VmRead
                | AccessMethod::ProcMem
                | AccessMethod::Ptrace
                | AccessMethod::Check
        );
        if !takes {
            return;
        }
        let Some(target) = self.processes.find(access.target) else { return };
        let Some(target) = self.processes.get(target) else { return };
        let Some(theirs) = target.workload.filter(|_| target.has_read_weights) else { return };
        if let Some(process) = seen.process.and_then(|handle| self.processes.get_mut(handle)) {
            process.has_read_weights = true;
        }
        let Some(mine) = seen.workload.filter(|mine| *mine != theirs) else { return };
        self.take_over(theirs, mine, access.bytes, time);
    }

    /// Whoever has read weights and writes into the memory of another workload hands them over. The
    /// kernel side tells the first call at once and sums once a second, so bytes are a bound from
    /// below; nothing but that moves memory between workloads this way.
    fn pushed(&mut self, access: &MemoryAccess, time: BootNs, seen: &mut Observation) {
        let mine = seen.workload.filter(|mine| self.derived_label(*mine).is_some());
        let Some(target) = self.processes.find(access.target) else { return };
        let theirs = self.workload_of(target, time);
        let (Some(mine), Some(theirs)) = (mine, theirs.filter(|_| access.bytes > 0)) else {
            return;
        };
        if mine == theirs {
            return;
        }
        self.take_over(mine, theirs, access.bytes, time);
        let Some(process) = self.processes.get_mut(target) else { return };
        process.has_read_weights = true;
        let cgroup = process.cgroup;
        seen.mark = seen.mark.or_else(|| self.mark_cgroup(cgroup).then_some(cgroup));
    }

    /// A process that somebody moved to another cgroup. Which hierarchy it was is not told, so
    /// where it is now is read again; what it keeps of its workload, `settle` decides.
    pub(super) fn moved(&mut self, moved: &CgroupMove) {
        let Some(handle) = self.processes.find(moved.moved) else { return };
        let place = self.place(moved.moved.tgid, CgroupId(0));
        self.settle(handle, place);
    }
}
