//! One round over all GPUs: asks the backend, compares with the previous round. No clock, no
//! thread: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::GpuError;
use super::backend::{
    Activity, BackendInfo, Device, DeviceReading, GpuBackend, MigInstance,
    PROCESSES_PER_DEVICE_MAX, ProcessMemory, ProcessRoles,
};
use super::sample::{DeviceSample, Edge, GpuBatch, GpuFault, ProcessSample};
use super::status::{BackendState, DeviceGap, GAPS_MAX};
use crate::model::{BootNs, GpuUuid, Tgid};

/// Nanoseconds without an entry after which a process counts as idle. The driver refreshes its
/// buffer about once a second; asked more often, an empty answer means "nothing new", not zero.
/// Twice that period, so that two beats that drift against each other never make a false zero.
pub const UTIL_SETTLE_NS: u64 = 2_000_000_000;
/// Nanoseconds between two listings of the GPUs: MIG may be switched, a GPU may be lost or back.
pub const DEVICES_REFRESH_NS: u64 = 60_000_000_000;

/// What is remembered from round to round. Bounded by
/// [`super::backend::DEVICES_MAX`] × [`PROCESSES_PER_DEVICE_MAX`].
#[derive(Debug, Default)]
pub struct Rounds {
    devices: Vec<Known>,
    missing: Vec<GpuError>,
    listed_at: Option<BootNs>,
    tally: Tally,
}

/// Things left out since the last [`Rounds::take_tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Utilisation entries above 100 percent.
    pub implausible: u64,
    /// Processes beyond the bound.
    pub processes_cut: u64,
}

/// What a round found.
#[derive(Debug)]
pub struct Round {
    /// For the rest of the program.
    pub batch: GpuBatch,
    /// Everything that is missing, expected or not; [`GAPS_MAX`] at most.
    pub gaps: Vec<DeviceGap>,
    /// Whether a process appeared that was not there before.
    pub has_newcomer: bool,
}

#[derive(Debug)]
struct Known {
    device: Arc<Device>,
    model: Arc<str>,
    /// Newest utilisation entry seen, by the driver's clock.
    since_us: u64,
    /// `None` until the first complete process list: what is there then did not appear.
    processes: Option<BTreeMap<(u32, GpuUuid), Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When the driver last had something to say of it, or when it appeared.
    entry_at: BootNs,
    roles: ProcessRoles,
}

/// A GPU or MIG instance with its processes: where a process is judged.
struct Place {
    gpu: GpuUuid,
    model: Arc<str>,
    util_percent: Option<f64>,
    activity: Option<Activity>,
    processes: Vec<ProcessMemory>,
}

/// The utilisation of a process since the previous round.
type UtilByPid = BTreeMap<u32, f64>;

impl Rounds {
    /// Things left out since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Asks every GPU once. An error means that the backend must be opened again.
    pub fn next(&mut self, backend: &mut dyn GpuBackend, now: BootNs) -> Result<Round, GpuError> {
        self.list_if_due(backend, now)?;
        let mut round = Round {
            batch: GpuBatch::of_state(now, BackendState::Starting),
            gaps: self.missing.iter().map(lost).collect(),
            has_newcomer: false,
        };
        for known in &mut self.devices {
            let device = Arc::clone(&known.device);
            match visit(known, backend, now, &mut self.tally, &mut round) {
                Ok(()) => {}
                Err(why) if why.ends_session() => return Err(why),
                Err(why) => {
                    round.gaps.push(DeviceGap { gpu: device.uuid.clone(), value: "device", why });
                }
            }
        }
        round.gaps.truncate(GAPS_MAX);
        round.batch.state = self.state(backend.info(), &round);
        Ok(round)
    }

    fn state(&self, info: BackendInfo, round: &Round) -> BackendState {
        if self.devices.is_empty()
            && let Some(why) = self.missing.first()
        {
            return BackendState::Off(why.clone());
        }
        BackendState::of(info, round.batch.devices.len(), &round.gaps)
    }

    fn list_if_due(&mut self, backend: &mut dyn GpuBackend, now: BootNs) -> Result<(), GpuError> {
        if self.listed_at.is_some_and(|at| now.since(at) < DEVICES_REFRESH_NS) {
            return Ok(());
        }
        let list = backend.devices()?;
        let mut before = std::mem::take(&mut self.devices);
        for device in list.devices {
            let known = before.iter().position(|known| *known.device == device);
            self.devices.push(known.map_or_else(
                || Known {
                    model: device.model.as_str().into(),
                    device: Arc::new(device),
                    since_us: 0,
                    processes: None,
                },
                |at| before.swap_remove(at),
            ));
        }
        self.missing = list.missing;
        self.listed_at = Some(now);
        Ok(())
    }
}

fn lost(why: &GpuError) -> DeviceGap {
    let gpu = match why {
        GpuError::GpuLost { uuid, .. } => uuid.clone(),
        _ => GpuUuid::from("unknown"),
    };
    DeviceGap { gpu, value: "device", why: why.clone() }
}

/// Reads one GPU, its instances and processes.
fn visit(
    known: &mut Known,
    backend: &mut dyn GpuBackend,
    now: BootNs,
    tally: &mut Tally,
    round: &mut Round,
) -> Result<(), GpuError> {
    let device = Arc::clone(&known.device);
    let gap = |value, why| DeviceGap { gpu: device.uuid.clone(), value, why };
    let reading = backend.reading(&device)?;
    round.gaps.extend(reading.gaps.iter().map(|found| gap(found.value, found.why.clone())));

    match backend.faults(&device) {
        Ok(xids) => round
            .batch
            .faults
            .extend(xids.into_iter().map(|xid| GpuFault { gpu: device.uuid.clone(), xid })),
        Err(why) => round.gaps.push(gap("faults", soft(why)?)),
    }
    let instances = match backend.mig_instances(&device) {
        Ok(instances) => instances,
        Err(why) => {
            round.gaps.push(gap("mig_instances", soft(why)?));
            Vec::new()
        }
    };
    let places = if device.is_mig {
        for instance in &instances {
            round.gaps.extend(instance.gaps.iter().map(|found| DeviceGap {
                gpu: instance.uuid.clone(),
                value: found.value,
                why: found.why.clone(),
            }));
        }
        Some(instances.iter().map(|instance| instance_place(&device, instance)).collect())
    } else {
        match backend.processes(&device) {
            Ok(processes) => Some(vec![device_place(known, &reading, processes)]),
            Err(why) => {
                round.gaps.push(gap("processes", soft(why)?));
                None
            }
        }
    };
    let util = match process_util(known, backend, tally) {
        Ok(util) => Some(util),
        Err(why) => {
            round.gaps.push(gap("process_util", soft(why)?));
            None
        }
    };
    if let Some(places) = places {
        compare(known, &places, util.as_ref(), &reading, now, tally, round);
    }
    round.batch.devices.push(DeviceSample { device, reading, instances });
    Ok(())
}

/// The error, unless it ends the visit or the session.
fn soft(why: GpuError) -> Result<GpuError, GpuError> {
    if matches!(why, GpuError::GpuLost { .. }) || why.ends_session() { Err(why) } else { Ok(why) }
}

fn device_place(known: &Known, reading: &DeviceReading, processes: Vec<ProcessMemory>) -> Place {
    Place {
        gpu: known.device.uuid.clone(),
        model: Arc::clone(&known.model),
        util_percent: reading.util_percent,
        activity: reading.activity,
        processes,
    }
}

fn instance_place(device: &Device, instance: &MigInstance) -> Place {
    let model = if instance.model.is_empty() { &device.model } else { &instance.model };
    Place {
        gpu: instance.uuid.clone(),
        model: model.as_str().into(),
        util_percent: instance.activity.and_then(|activity| activity.sm_percent),
        activity: instance.activity,
        processes: instance.processes.clone(),
    }
}

/// Mean utilisation by process since the previous round. Not asked under MIG, where the driver
/// has no answer (nvml.h, nvmlDeviceGetProcessUtilization).
fn process_util(
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
    let mut sums: BTreeMap<u32, (f64, u32)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.time_us > since_us) {
        // Some drivers return uninitialised entries; nvtop leaves them out for the same reason.
        if !(0.0..=100.0).contains(&entry.sm_percent) {
            tally.implausible += 1;
            continue;
        }
        let sum = sums.entry(entry.pid).or_insert((0.0, 0));
        if since_us == 0 {
            // The first answer is the whole history: only the newest entry speaks of now.
            let at = newest.entry(entry.pid).or_insert(0);
            if entry.time_us >= *at {
                (*at, *sum) = (entry.time_us, (entry.sm_percent, 1));
            }
        } else {
            sum.0 += entry.sm_percent;
            sum.1 += 1;
        }
        known.since_us = known.since_us.max(entry.time_us);
    }
    Ok(sums.into_iter().map(|(pid, (sum, count))| (pid, sum / f64::from(count))).collect())
}

/// Makes the process samples of one GPU and notes who came and went.
fn compare(
    known: &mut Known,
    places: &[Place],
    util: Option<&UtilByPid>,
    reading: &DeviceReading,
    now: BootNs,
    tally: &mut Tally,
    round: &mut Round,
) {
    let index = known.device.index;
    let before = known.processes.take();
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
            let entry = util.and_then(|util| util.get(&process.pid)).copied();
            let entry_at = match (entry, seen) {
                (None, Some(seen)) => seen.entry_at,
                (Some(_), _) | (None, None) => now,
            };
            let is_settled = now.since(entry_at) >= UTIL_SETTLE_NS;
            let mut sample = sample_of(place, process, index, reading);
            sample.is_alone = is_alone;
            sample.tells_proc_util = util.is_some();
            sample.proc_util_percent =
                entry.or(if util.is_some() && is_settled { Some(0.0) } else { None });
            sample.edge = is_new.then_some(Edge::Appeared);
            round.has_newcomer |= is_new;
            round.batch.processes.push(sample);
            living.insert(process.pid);
            after.insert(key, Seen { entry_at, roles: process.roles });
        }
    }
    if let Some(before) = &before {
        let gone = before.iter().filter(|(key, _)| !after.contains_key(key));
        for ((pid, gpu), seen) in gone {
            let place = places.iter().find(|place| place.gpu == *gpu);
            let mut sample = ended(known, place, *pid, gpu, reading);
            sample.roles = seen.roles;
            sample.proc_util_percent = util.and_then(|util| util.get(pid)).copied();
            sample.edge = Some(Edge::Vanished);
            round.batch.processes.push(sample);
            living.insert(*pid);
        }
        let strangers = util.into_iter().flatten().filter(|(pid, _)| !living.contains(pid));
        for (pid, util) in strangers.take(PROCESSES_PER_DEVICE_MAX) {
            let mut sample = ended(known, places.first(), *pid, &known.device.uuid, reading);
            sample.proc_util_percent = Some(*util);
            sample.edge = Some(Edge::Brief);
            round.batch.processes.push(sample);
        }
    }
    known.processes = Some(after);
}

fn sample_of(
    place: &Place,
    process: &ProcessMemory,
    index: u32,
    reading: &DeviceReading,
) -> ProcessSample {
    ProcessSample {
        pid: Tgid(process.pid),
        gpu: place.gpu.clone(),
        index,
        model: Arc::clone(&place.model),
        util_percent: place.util_percent,
        proc_util_percent: None,
        mem_used_bytes: process.mem_used_bytes,
        power_watts: reading.power_watts,
        temperature_celsius: reading.temperature_celsius,
        activity: place.activity,
        roles: process.roles,
        is_alone: false,
        tells_proc_util: true,
        edge: None,
    }
}

/// The sample of a process that is no longer listed. Its memory is not known any more.
fn ended(
    known: &Known,
    place: Option<&Place>,
    pid: u32,
    gpu: &GpuUuid,
    reading: &DeviceReading,
) -> ProcessSample {
    let unplaced = Place {
        gpu: gpu.clone(),
        model: Arc::clone(&known.model),
        util_percent: None,
        activity: None,
        processes: Vec::new(),
    };
    let process = ProcessMemory { pid, ..ProcessMemory::default() };
    sample_of(place.unwrap_or(&unplaced), &process, known.device.index, reading)
}
