//! Where a program that is executed comes from: how old it is, who wrote it, and what was loaded
//! into it before its own code.

use super::enricher::Enricher;
use super::place::ROOT_CGROUP;
use super::process::{Image, Process};
use super::table::Handle;
use super::workload::Workload;
use crate::model::{BootNs, Exec, Tgid};

impl Enricher {
    /// The program of a process that has just executed it.
    pub(super) fn image(
        &self,
        exec: &Exec,
        name: &str,
        time: BootNs,
        process: Tgid,
        workload: Option<Handle<Workload>>,
    ) -> Image {
        let mut image = Image::from((exec, name));
        let now = self.clock.wall(time);
        image.exe_age_seconds = exec.exe_changed.map(|changed| {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a file's age")]
            let age = now.0.saturating_sub(changed.0) as f64 / 1e9;
            age
        });
        image.exe_written_here = self.is_written_here(exec, process, workload);
        image.ld_preload = self.source.variable(process, "LD_PRELOAD");
        image
    }

    /// Whether the workload that executes a program wrote it. A memfd is always its own. The
    /// cgroup tells where it is one of its own; in the root cgroup the writer must still be known.
    fn is_written_here(
        &self,
        exec: &Exec,
        process: Tgid,
        workload: Option<Handle<Workload>>,
    ) -> Option<bool> {
        if exec.is_memfd {
            return Some(true);
        }
        let Some(writer) = exec.exe_writer else { return Some(false) };
        if writer.process == process {
            return Some(true);
        }
        let by_id = |tgid: Tgid| self.processes.get(self.processes.find_tgid(tgid)?);
        if let Some(known) = by_id(writer.process)
            && self.was_alive_at(writer.process, writer.time)
        {
            return Some(known.workload.is_some() && known.workload == workload);
        }
        let cgroup = by_id(process).map(|process: &Process| process.cgroup)?;
        if writer.cgroup.0 <= ROOT_CGROUP.0 {
            return None;
        }
        Some(writer.cgroup == cgroup)
    }

    /// Whether the process that has this id now had it then.
    fn was_alive_at(&self, process: Tgid, time: BootNs) -> bool {
        let key = self.processes.find_tgid(process).and_then(|handle| self.processes.key(handle));
        key.is_some_and(|key| key.start <= time)
    }
}
