//! What a record leaves open and the host can still tell, and what an opened file means: before an
//! event is observed.

use super::content::file_name;
use super::enricher::Enricher;
use crate::model::{
    Actor, Body, CgroupMove, Event, FileOpen, Flow, ProcessKey, Tamper, TamperOp, Tgid,
};

/// Files of a cgroup through which everybody in it is ended or stopped: `cgroup.kill` (version 2,
/// 5.14) and `freezer.state` (version 1). Writing to them passes no tracepoint of its own.
const ENDS_CGROUP: [&str; 2] = ["cgroup.kill", "freezer.state"];
/// Switches of the kernel's tracing. `ftrace_enabled` takes the patches out of every function, and
/// with them what is attached to functions and to LSM hooks.
const TRACING_SWITCHES: [&str; 2] = ["tracing_on", "ftrace_enabled"];

impl Enricher {
    /// Who opened an older stream is not known to the kernel side. A port that is listened on was
    /// accepted; any other was connected. Asked once a flow.
    pub(super) fn find_direction(&mut self, flow: &mut Flow, actor: Option<&Actor>) {
        if flow.egress.is_some() || !matches!(flow.family, 2 | 10) {
            return;
        }
        let handle = self.flows.of(flow.flow_id);
        let known = self.flows.get(handle).and_then(|state| state.is_egress);
        let is_egress = known.or_else(|| {
            let process = actor.map_or(flow.owner.tgid, |actor| actor.process.tgid);
            self.source.listens(process, flow.local.port()).map(|listens| !listens)
        });
        flow.egress = is_egress;
        if let Some(state) = self.flows.get_mut(handle) {
            state.is_egress = is_egress;
        }
    }

    /// An act against the monitor that is done by writing to a file, or by moving it: told beside
    /// the open, or the move.
    pub(super) fn read_tampering(&mut self, event: &Event) {
        let tamper = match &event.body {
            Body::FileOpen(open) if open.writes() => self.tampering(open),
            Body::CgroupMove(moved) => self.dragging(moved, event.actor.as_ref()),
            _ => None,
        };
        let Some(tamper) = tamper else { return };
        let (time, actor) = (event.time, event.actor.clone());
        self.found.push(Event { time, actor, body: Body::Tamper(tamper) });
    }

    /// Service managers place the monitor before it begins. Whoever moves it later may have frozen
    /// the new cgroup before, and then nothing else is told.
    fn dragging(&self, moved: &CgroupMove, actor: Option<&Actor>) -> Option<Tamper> {
        let is_other = actor.is_none_or(|actor| actor.process.tgid != self.own);
        let is_self = self.own != Tgid(0) && moved.moved.tgid == self.own;
        (is_self && is_other).then(|| against(TamperOp::CgroupMove, &moved.path, true))
    }

    fn tampering(&self, open: &FileOpen) -> Option<Tamper> {
        let name = file_name(&open.path);
        let (op, is_self) = if ENDS_CGROUP.contains(&name) {
            (TamperOp::Freeze, self.is_of_own_cgroup(&open.path))
        } else if TRACING_SWITCHES.contains(&name) {
            (TamperOp::TracingOff, false)
        } else {
            return None;
        };
        // Runtimes pause and end their own containers all day.
        (is_self || op == TamperOp::TracingOff).then(|| against(op, &open.path, is_self))
    }

    /// Whether a file lies in the monitor's own cgroup or in one above it, in any hierarchy. Paths
    /// of `/proc/self/cgroup` begin at the hierarchy's mount.
    fn is_of_own_cgroup(&self, path: &str) -> bool {
        let Some((directory, _)) = path.rsplit_once('/') else { return false };
        if self.own == Tgid(0) {
            return false;
        }
        let Some(text) = self.source.cgroup(self.own) else { return false };
        text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|own| {
            let mut above = own;
            while above.len() > 1 {
                if directory.ends_with(above) {
                    return true;
                }
                above = above.rsplit_once('/').map_or("", |(above, _)| above);
            }
            false
        })
    }
}

/// An act on something that has a path.
fn against(op: TamperOp, object: &str, is_self: bool) -> Tamper {
    let (target, object) = (ProcessKey::default(), object.to_owned());
    Tamper { op, target, signal: 0, object, object_id: 0, is_self }
}
