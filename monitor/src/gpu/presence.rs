//! Who is on a GPU, who came, who went, and who was there between two rounds. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::GpuError;
use super::backend::{
    Device, DeviceReading, GpuBackend, Lifetime, PROCESSES_PER_DEVICE_MAX, ProcessMemory,
};
use super::round::{Known, Place, Round, Seen, Tally, UTIL_SETTLE_NS};
use super::sample::{Edge, ProcessSample};
use crate::model::{BootNs, GpuActivity, GpuUuid, Tgid};

/// Utilisation of a process since the previous round, in percent: SMs, and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Util {
    sm: f64,
    mem: f64,
}

/// The utilisation of processes since the previous round.
type UtilByPid = BTreeMap<u32, Util>;

/// Mean utilisation by process since the previous round. Not asked under MIG, where the driver
/// has no answer (nvml.h, nvmlDeviceGetProcessUtilization).
pub(super) fn process_util(
    known: &mut Known,
    backend: &mut dyn GpuBackend,
    tally: &mut Tally,
) -> Result<UtilByPid, GpuError> {
    if known.device.is_mig {
        return Err(GpuError::Unsupported { call: "nvmlDeviceGetProcessUtilization" });
    }
    let since_us = known.since_us;
    let entries = backend.process_util(&known.device, since_us)?;
    let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
    let mut sums: BTreeMap<u32, (Util, u32)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.time_us > since_us) {
        // Some drivers return uninitialised entries; nvtop leaves them out for the same reason.
        if !(0.0..=100.0).contains(&entry.sm_percent) {
            tally.implausible += 1;
            continue;
        }
        let util = Util { sm: entry.sm_percent, mem: entry.mem_percent.clamp(0.0, 100.0) };
        let sum = sums.entry(entry.pid).or_default();
        if since_us == 0 {
            // The first answer is the whole history: only the newest entry speaks of now.
            let at = newest.entry(entry.pid).or_insert(0);
            if entry.time_us >= *at {
                (*at, *sum) = (entry.time_us, (util, 1));
            }
        } else {
            sum.0.sm += util.sm;
            sum.0.mem += util.mem;
            sum.1 += 1;
        }
        known.since_us = known.since_us.max(entry.time_us);
    }
    let mean = |(pid, (sum, count)): (u32, (Util, u32))| {
        let count = f64::from(count);
        (pid, Util { sm: sum.sm / count, mem: sum.mem / count })
    };
    Ok(sums.into_iter().map(mean).collect())
}

/// One GPU in one round.
pub(super) struct Visit<'v> {
    pub(super) known: &'v mut Known,
    pub(super) util: Option<&'v UtilByPid>,
    pub(super) reading: &'v DeviceReading,
    pub(super) now: BootNs,
}

impl Visit<'_> {
    /// Makes the process samples of one GPU and notes who came and went.
    pub(super) fn compare(&mut self, places: &[Place], tally: &mut Tally, round: &mut Round) {
        let before = self.known.processes.take();
        let mut after: BTreeMap<(u32, GpuUuid), Seen> = BTreeMap::new();
        let mut living = BTreeSet::new();
        for place in places {
            let is_alone = place.processes.len() == 1;
            for process in &place.processes {
                if after.len() >= PROCESSES_PER_DEVICE_MAX {
                    tally.processes_cut += 1;
                    continue;
                }
                let key = (process.pid, place.gpu.clone());
                let seen = before.as_ref().and_then(|before| before.get(&key));
                let is_new = before.is_some() && seen.is_none();
                let (mut sample, entry_at) = self.living(place, process, seen);
                sample.is_alone = is_alone;
                sample.edge = is_new.then_some(Edge::Appeared);
                round.has_newcomer |= is_new;
                round.batch.processes.push(sample);
                living.insert(process.pid);
                after.insert(key, Seen { entry_at, roles: process.roles });
            }
        }
        if let Some(before) = before {
            self.gone(&before, &after, places, &mut living, round);
        }
        self.known.processes = Some(after);
    }

    /// The sample of a process that is listed, and when the driver last spoke of it.
    fn living(
        &self,
        place: &Place,
        process: &ProcessMemory,
        seen: Option<&Seen>,
    ) -> (ProcessSample, BootNs) {
        let entry = self.util.and_then(|util| util.get(&process.pid)).copied();
        let entry_at = match (entry, seen) {
            (None, Some(seen)) => seen.entry_at,
            (Some(_), _) | (None, None) => self.now,
        };
        let is_settled = self.now.since(entry_at) >= UTIL_SETTLE_NS;
        let mut sample = self.sample(place, process);
        sample.tells_proc_util = self.util.is_some();
        let told = entry.or((self.util.is_some() && is_settled).then(Util::default));
        sample.proc_util_percent = told.map(|util| util.sm);
        sample.proc_mem_util_percent = told.map(|util| util.mem);
        (sample, entry_at)
    }

    /// Those that are no longer listed, and those that only the driver's samples remember.
    fn gone(
        &self,
        before: &BTreeMap<(u32, GpuUuid), Seen>,
        after: &BTreeMap<(u32, GpuUuid), Seen>,
        places: &[Place],
        living: &mut BTreeSet<u32>,
        round: &mut Round,
    ) {
        for ((pid, gpu), seen) in before.iter().filter(|(key, _)| !after.contains_key(key)) {
            let place = places.iter().find(|place| place.gpu == *gpu);
            let mut sample = self.ended(place, *pid, gpu);
            sample.roles = seen.roles;
            let util = self.util.and_then(|util| util.get(pid));
            sample.proc_util_percent = util.map(|util| util.sm);
            sample.proc_mem_util_percent = util.map(|util| util.mem);
            sample.edge = Some(Edge::Vanished);
            round.batch.processes.push(sample);
            living.insert(*pid);
        }
        let strangers = self.util.into_iter().flatten().filter(|(pid, _)| !living.contains(pid));
        for (pid, util) in strangers.take(PROCESSES_PER_DEVICE_MAX) {
            let mut sample = self.brief(places, *pid);
            sample.proc_util_percent = Some(util.sm);
            sample.proc_mem_util_percent = Some(util.mem);
            round.batch.processes.push(sample);
        }
    }

    /// Notes processes that only accounting remembers: they came and went between two rounds.
    pub(super) fn compare_accounts(&mut self, pids: &[u32], places: &[Place], round: &mut Round) {
        let now: BTreeSet<u32> = pids.iter().copied().collect();
        let Some(before) = self.known.accounted.replace(now.clone()) else { return };
        let told: BTreeSet<u32> =
            round.batch.processes.iter().map(|process| process.pid.0).collect();
        let strangers = now.difference(&before).filter(|pid| !told.contains(pid));
        for pid in strangers.take(PROCESSES_PER_DEVICE_MAX) {
            round.batch.processes.push(self.brief(places, *pid));
        }
    }

    fn brief(&self, places: &[Place], pid: u32) -> ProcessSample {
        let mut sample = self.ended(places.first(), pid, &self.known.device.uuid);
        sample.edge = Some(Edge::Brief);
        sample
    }

    fn sample(&self, place: &Place, process: &ProcessMemory) -> ProcessSample {
        ProcessSample {
            pid: Tgid(process.pid),
            gpu: place.gpu.clone(),
            index: self.known.device.index,
            model: Arc::clone(&place.model),
            util_percent: place.util_percent,
            proc_util_percent: None,
            proc_mem_util_percent: None,
            mem_used_bytes: process.mem_used_bytes,
            power_watts: self.reading.power_watts,
            temperature_celsius: self.reading.temperature_celsius,
            activity: place.activity,
            roles: process.roles,
            is_alone: false,
            tells_proc_util: true,
            edge: None,
        }
    }

    /// The sample of a process that is no longer listed. Its memory is not known any more.
    fn ended(&self, place: Option<&Place>, pid: u32, gpu: &GpuUuid) -> ProcessSample {
        let unplaced = Place {
            gpu: gpu.clone(),
            model: Arc::clone(&self.known.model),
            util_percent: None,
            activity: GpuActivity::default(),
            processes: Vec::new(),
        };
        let process = ProcessMemory { pid, ..ProcessMemory::default() };
        self.sample(place.unwrap_or(&unplaced), &process)
    }
}

impl ProcessSample {
    /// Whether accounting can say what nobody else can any more.
    pub(super) fn needs_account(&self, device: &Device) -> bool {
        let is_over = matches!(self.edge, Some(Edge::Vanished | Edge::Brief));
        device.has_accounting && self.index == device.index && is_over
    }

    /// Takes in what accounting says: the most memory the process held.
    pub(super) fn account(&mut self, lifetime: Option<Lifetime>) {
        if let Some(lifetime) = lifetime {
            self.mem_used_bytes = self.mem_used_bytes.or(lifetime.mem_used_bytes_max);
            let util = lifetime.util_percent.map(f64::from);
            self.proc_util_percent = self.proc_util_percent.or(util);
        }
    }
}
