//! What a record leaves open and the host can still tell, and what an opened file means: before an
//! event is observed.

use super::content::file_name;
use super::enricher::Enricher;
use crate::model::{Actor, Body, Event, FileOpen, Flow, Tamper, TamperOp, Tgid};

/// Files of a cgroup through which everybody in it is ended or stopped: `cgroup.kill` (version 2,
/// 5.14) and `freezer.state` (version 1). Writing to them passes no tracepoint of its own.
const ENDS_CGROUP: [&str; 2] = ["cgroup.kill", "freezer.state"];
/// The switch of the kernel's tracing.
const TRACING_SWITCH: &str = "tracing_on";

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

    /// An act against the monitor that is done by writing to a file: told beside the open.
    pub(super) fn read_tampering(&mut self, event: &Event) {
        let Body::FileOpen(open) = &event.body else { return };
        if !open.writes() {
            return;
        }
        let Some(tamper) = self.tampering(open) else { return };
        let (time, actor) = (event.time, event.actor.clone());
        self.found.push(Event { time, actor, body: Body::Tamper(tamper) });
    }

    fn tampering(&self, open: &FileOpen) -> Option<Tamper> {
        let name = file_name(&open.path);
        let (op, is_self) = if ENDS_CGROUP.contains(&name) {
            (TamperOp::Freeze, self.is_of_own_cgroup(&open.path))
        } else if name == TRACING_SWITCH {
            (TamperOp::TracingOff, false)
        } else {
            return None;
        };
        // Runtimes pause and end their own containers all day.
        (is_self || op == TamperOp::TracingOff).then(|| Tamper {
            op,
            target: crate::model::ProcessKey::default(),
            signal: 0,
            object: open.path.clone(),
            object_id: 0,
            is_self,
        })
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
