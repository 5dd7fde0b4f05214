//! One round over all GPUs: asks the backend, compares with the previous round. No clock, no
//! thread: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::GpuError;
use super::backend::{
    BackendInfo, Device, DeviceReading, GpuBackend, MigInstance, ProcessMemory, ProcessRoles,
};
use super::presence::{self, Visit};
use super::sample::{DeviceSample, GpuBatch};
use super::status::{BackendState, DeviceGap, GAPS_MAX};
use crate::model::{BootNs, FaultKind, GpuActivity, GpuFault, GpuUuid};

/// Nanoseconds without an entry after which a process counts as idle. The driver refreshes its
/// buffer about once a second; asked more often, an empty answer means "nothing new", not zero.
/// Twice that period, so that two beats that drift against each other never make a false zero.
pub const UTIL_SETTLE_NS: u64 = 2_000_000_000;
/// Nanoseconds between two listings of the GPUs: MIG may be switched, a GPU may be lost or back.
pub const DEVICES_REFRESH_NS: u64 = 60_000_000_000;

/// What is remembered from round to round. Bounded by
/// [`super::backend::DEVICES_MAX`] × [`super::backend::PROCESSES_PER_DEVICE_MAX`].
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
pub(super) struct Known {
    pub(super) device: Arc<Device>,
    pub(super) model: Arc<str>,
    /// Newest utilisation entry seen, by the driver's clock.
    pub(super) since_us: u64,
    /// `None` until the first complete process list: what is there then did not appear.
    pub(super) processes: Option<BTreeMap<(u32, GpuUuid), Seen>>,
    /// What accounting knew in the round before; `None` until it was asked.
    pub(super) accounted: Option<BTreeSet<u32>>,
    /// Counters of the round before, and when they were read.
    counters: Option<(BootNs, Counters)>,
    /// Whether it was told that the GPU is lost.
    is_lost: bool,
}

/// Counters whose differences say something.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    pcie_bytes: Option<u64>,
    ecc_uncorrected: Option<u64>,
    remap_failed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// When the driver last had something to say of it, or when it appeared.
    pub(super) entry_at: BootNs,
    pub(super) roles: ProcessRoles,
}

/// A GPU or MIG instance with its processes: where a process is judged.
pub(super) struct Place {
    pub(super) gpu: GpuUuid,
    pub(super) model: Arc<str>,
    pub(super) util_percent: Option<f64>,
    pub(super) activity: GpuActivity,
    pub(super) processes: Vec<ProcessMemory>,
}

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
                    let is_lost = matches!(why, GpuError::GpuLost { .. });
                    if is_lost && !known.is_lost {
                        round.batch.faults.push(fault(&device, FaultKind::Lost, None));
                    }
                    known.is_lost |= is_lost;
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
                    accounted: None,
                    counters: None,
                    is_lost: false,
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
    known.is_lost = false;
    let pcie = compare_counters(known, &reading, now, round);
    round.gaps.extend(reading.gaps.iter().map(|found| gap(found.value, found.why.clone())));

    match backend.faults(&device) {
        Ok(xids) => {
            let told = xids.into_iter().map(|xid| fault(&device, FaultKind::Xid, Some(xid)));
            round.batch.faults.extend(told);
        }
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
            Ok(processes) => Some(vec![device_place(known, &reading, pcie, processes)]),
            Err(why) => {
                round.gaps.push(gap("processes", soft(why)?));
                None
            }
        }
    };
    let util = match presence::process_util(known, backend, tally) {
        Ok(util) => Some(util),
        Err(why) => {
            round.gaps.push(gap("process_util", soft(why)?));
            None
        }
    };
    if let Some(places) = places {
        let mut visit = Visit { known, util: util.as_ref(), reading: &reading, now };
        visit.compare(&places, tally, round);
        accounts(&mut visit, backend, &places, round)?;
    }
    round.batch.devices.push(DeviceSample { device, reading, instances });
    Ok(())
}

/// What the driver's accounting adds: of processes that ended, and of those nobody saw.
fn accounts(
    visit: &mut Visit<'_>,
    backend: &mut dyn GpuBackend,
    places: &[Place],
    round: &mut Round,
) -> Result<(), GpuError> {
    let device = Arc::clone(&visit.known.device);
    let gap = |value, why| DeviceGap { gpu: device.uuid.clone(), value, why };
    let over = round.batch.processes.iter_mut().filter(|sample| sample.needs_account(&device));
    for sample in over {
        match backend.lifetime(&device, sample.pid.0) {
            Ok(lifetime) => sample.account(lifetime),
            Err(why) => round.gaps.push(gap("lifetime", soft(why)?)),
        }
    }
    match backend.accounted(&device) {
        Ok(pids) => visit.compare_accounts(&pids, places, round),
        Err(why) => round.gaps.push(gap("accounted", soft(why)?)),
    }
    Ok(())
}

/// The error, unless it ends the visit or the session.
fn soft(why: GpuError) -> Result<GpuError, GpuError> {
    if matches!(why, GpuError::GpuLost { .. }) || why.ends_session() { Err(why) } else { Ok(why) }
}

fn fault(device: &Device, fault: FaultKind, xid: Option<u64>) -> GpuFault {
    let (gpu, model) = (device.uuid.clone(), device.model.clone());
    GpuFault { gpu, index: device.index, model, fault, xid }
}

/// Notes what the counters say that the round before did not; bytes per second over `PCIe`.
fn compare_counters(
    known: &mut Known,
    reading: &DeviceReading,
    now: BootNs,
    round: &mut Round,
) -> Option<f64> {
    let pcie_bytes =
        reading.pcie_tx_bytes.zip(reading.pcie_rx_bytes).map(|(tx, rx)| tx.saturating_add(rx));
    let counters = Counters {
        pcie_bytes,
        ecc_uncorrected: reading.ecc_uncorrected,
        remap_failed: reading.remapped_rows.is_some_and(|rows| rows.has_failed),
    };
    let (at, before) = known.counters.replace((now, counters))?;
    if counters.ecc_uncorrected > before.ecc_uncorrected && before.ecc_uncorrected.is_some() {
        round.batch.faults.push(fault(&known.device, FaultKind::EccUncorrectable, None));
    }
    if counters.remap_failed && !before.remap_failed {
        round.batch.faults.push(fault(&known.device, FaultKind::RowRemapFailure, None));
    }
    // A counter that went back began anew: the driver was loaded again.
    let moved = counters.pcie_bytes?.checked_sub(before.pcie_bytes?)?;
    let passed_ns = now.since(at);
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 15 digits")]
    let rate = (passed_ns > 0).then(|| moved as f64 / (passed_ns as f64 / 1e9));
    rate
}

fn device_place(
    known: &Known,
    reading: &DeviceReading,
    pcie: Option<f64>,
    processes: Vec<ProcessMemory>,
) -> Place {
    let mut activity = reading.activity.map(GpuActivity::from).unwrap_or_default();
    activity.pcie_bytes_per_second = activity.pcie_bytes_per_second.or(pcie);
    Place {
        gpu: known.device.uuid.clone(),
        model: Arc::clone(&known.model),
        util_percent: reading.util_percent,
        activity,
        processes,
    }
}

fn instance_place(device: &Device, instance: &MigInstance) -> Place {
    let model = if instance.model.is_empty() { &device.model } else { &instance.model };
    Place {
        gpu: instance.uuid.clone(),
        model: model.as_str().into(),
        util_percent: instance.activity.and_then(|activity| activity.sm_percent),
        activity: instance.activity.map(GpuActivity::from).unwrap_or_default(),
        processes: instance.processes.clone(),
    }
}
