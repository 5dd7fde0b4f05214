//! One open NVML: the calls, and what their answers mean.

use std::collections::BTreeMap;

use nvml_wrapper::Nvml;
use nvml_wrapper::device::Device as Handle;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::GpuError;
use super::backend::{
    ACCOUNTED_MAX, Activity, BackendInfo, DEVICES_MAX, Device, DeviceList, DeviceReading, Gap,
    GpuBackend, Lifetime, MIG_INSTANCES_MAX, MigInstance, NVLINKS_MAX, PROCESSES_PER_DEVICE_MAX,
    ProcessMemory, ProcessRoles, ProcessUtil,
};
use super::gpm::GpmCounters;
use super::health;
use super::nvml::{self, bounded};
use super::xid::Faults;
use crate::model::GpuUuid;

/// An open NVML.
pub(super) struct Session<'nvml> {
    nvml: &'nvml Nvml,
    info: BackendInfo,
    faults: &'nvml Faults,
    gpm: GpmCounters<'nvml>,
}

impl GpuBackend for Session<'_> {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    fn devices(&mut self) -> Result<DeviceList, GpuError> {
        let count = self
            .nvml
            .device_count()
            .map_err(|error| self.error("nvmlDeviceGetCount_v2", None, error))?;
        let mut list = DeviceList::default();
        for index in 0..count.min(DEVICES_MAX) {
            match self.device(index) {
                Ok(device) => list.devices.push(device),
                Err(error) if error.ends_session() => return Err(error),
                Err(error) => list.missing.push(error),
            }
        }
        let is_there = |index: u32| list.devices.iter().any(|device| device.index == index);
        self.gpm.retain(is_there);
        Ok(list)
    }

    fn reading(&mut self, device: &Device) -> Result<DeviceReading, GpuError> {
        let handle = self.handle(device)?;
        let mut taker = Taker { session: self, device, gaps: Vec::new() };
        let util = taker.take(
            "util_percent",
            "nvmlDeviceGetUtilizationRates",
            handle.utilization_rates(),
        )?;
        let memory =
            taker.take("mem_used_bytes", "nvmlDeviceGetMemoryInfo_v2", handle.memory_info())?;
        let power = taker.take("power_watts", "nvmlDeviceGetPowerUsage", handle.power_usage())?;
        let limit = taker.take(
            "power_limit_watts",
            "nvmlDeviceGetEnforcedPowerLimit",
            handle.enforced_power_limit(),
        )?;
        let energy = taker.take(
            "energy_joules",
            "nvmlDeviceGetTotalEnergyConsumption",
            handle.total_energy_consumption(),
        )?;
        let temperature = taker.take(
            "temperature_celsius",
            "nvmlDeviceGetTemperature",
            handle.temperature(TemperatureSensor::Gpu),
        )?;
        let sm_clock =
            taker.take("sm_clock_mhz", "nvmlDeviceGetClockInfo", handle.clock_info(Clock::SM))?;
        let mem_clock = taker.take(
            "mem_clock_mhz",
            "nvmlDeviceGetClockInfo",
            handle.clock_info(Clock::Memory),
        )?;
        let throttle = taker.take(
            "throttle_reasons",
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            handle.current_throttle_reasons().map(|reasons| reasons.bits()),
        )?;
        let counters = health::read(&mut taker, &handle)?;
        let mut gaps = taker.gaps;
        let activity = self.device_activity(device, &handle, &mut gaps)?;
        Ok(DeviceReading {
            util_percent: util.as_ref().map(|util| f64::from(util.gpu)),
            mem_util_percent: util.as_ref().map(|util| f64::from(util.memory)),
            mem_used_bytes: memory.as_ref().map(|memory| memory.used),
            mem_total_bytes: memory.as_ref().map(|memory| memory.total),
            power_watts: power.map(|milliwatts| f64::from(milliwatts) / 1000.0),
            power_limit_watts: limit.map(|milliwatts| f64::from(milliwatts) / 1000.0),
            energy_joules: energy.map(millijoules),
            temperature_celsius: temperature.map(f64::from),
            sm_clock_mhz: sm_clock,
            mem_clock_mhz: mem_clock,
            throttle_reasons: throttle,
            activity,
            gaps,
            ..counters
        })
    }

    fn processes(&mut self, device: &Device) -> Result<Vec<ProcessMemory>, GpuError> {
        let handle = self.handle(device)?;
        self.processes_of(device, &handle)
    }

    fn process_util(
        &mut self,
        device: &Device,
        since_us: u64,
    ) -> Result<Vec<ProcessUtil>, GpuError> {
        let handle = self.handle(device)?;
        let samples = match handle.process_utilization_stats(since_us) {
            Ok(samples) => samples,
            // No samples: nothing ran. The list grew between the two calls: next time.
            Err(NvmlError::NotFound | NvmlError::InsufficientSize(_)) => Vec::new(),
            Err(error) => {
                return Err(self.error("nvmlDeviceGetProcessUtilization", Some(device), error));
            }
        };
        Ok(samples
            .into_iter()
            .map(|sample| ProcessUtil {
                pid: sample.pid,
                time_us: sample.timestamp,
                sm_percent: f64::from(sample.sm_util),
                mem_percent: f64::from(sample.mem_util),
            })
            .collect())
    }

    fn mig_instances(&mut self, device: &Device) -> Result<Vec<MigInstance>, GpuError> {
        if !device.is_mig {
            return Ok(Vec::new());
        }
        let parent = self.handle(device)?;
        let slots = parent
            .mig_device_count()
            .map_err(|error| self.error("nvmlDeviceGetMaxMigDeviceCount", Some(device), error))?;
        let mut instances = Vec::new();
        for slot in 0..slots.min(MIG_INSTANCES_MAX) {
            match parent.mig_device_by_index(slot) {
                Ok(handle) => instances.push(self.mig_instance(device, &parent, &handle)?),
                // An empty slot.
                Err(NvmlError::NotFound | NvmlError::InvalidArg) => {}
                Err(error) => {
                    let call = "nvmlDeviceGetMigDeviceHandleByIndex";
                    return Err(self.error(call, Some(device), error));
                }
            }
        }
        Ok(instances)
    }

    fn faults(&mut self, device: &Device) -> Result<Vec<u64>, GpuError> {
        if let Some(error) = self.faults.refusal(device.index) {
            return Err(self.error("nvmlDeviceRegisterEvents", Some(device), error));
        }
        Ok(self.faults.take(device.index))
    }

    fn accounted(&mut self, device: &Device) -> Result<Vec<u32>, GpuError> {
        if !device.has_accounting {
            return Ok(Vec::new());
        }
        let mut pids = self
            .handle(device)?
            .accounting_pids()
            .map_err(|error| self.error("nvmlDeviceGetAccountingPids", Some(device), error))?;
        pids.truncate(ACCOUNTED_MAX);
        Ok(pids)
    }

    fn lifetime(&mut self, device: &Device, pid: u32) -> Result<Option<Lifetime>, GpuError> {
        if !device.has_accounting {
            return Ok(None);
        }
        match self.handle(device)?.accounting_stats_for(pid) {
            Ok(stats) => Ok(Some(Lifetime {
                mem_used_bytes_max: stats.max_memory_usage,
                util_percent: stats.gpu_utilization,
                is_running: stats.is_running,
            })),
            Err(NvmlError::NotFound) => Ok(None),
            Err(error) => Err(self.error("nvmlDeviceGetAccountingStats", Some(device), error)),
        }
    }
}

impl<'nvml> Session<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml, info: BackendInfo, faults: &'nvml Faults) -> Self {
        Self { nvml, info, faults, gpm: GpmCounters::new(nvml) }
    }

    fn handle(&self, device: &Device) -> Result<Handle<'nvml>, GpuError> {
        self.nvml
            .device_by_index(device.index)
            .map_err(|error| self.error("nvmlDeviceGetHandleByIndex_v2", Some(device), error))
    }

    fn device(&self, index: u32) -> Result<Device, GpuError> {
        let unread = Device {
            index,
            uuid: GpuUuid::from(format!("index:{index}").as_str()),
            ..Device::default()
        };
        let handle = self.handle(&unread)?;
        let uuid =
            handle.uuid().map_err(|error| self.error("nvmlDeviceGetUUID", Some(&unread), error))?;
        Ok(Device {
            uuid: GpuUuid::from(bounded(uuid).as_str()),
            model: handle.name().map(bounded).unwrap_or_default(),
            pci_bus_id: handle.pci_info().map(|pci| bounded(pci.bus_id)).unwrap_or_default(),
            is_mig: handle.mig_mode().is_ok_and(|mode| mode.current != 0),
            has_gpm: handle.gpm_support().unwrap_or(false),
            minor: handle.minor_number().ok(),
            has_accounting: handle.is_accounting_enabled().unwrap_or(false),
            nvlinks_up: nvlinks_up(&handle),
            ..unread
        })
    }

    fn processes_of(
        &self,
        device: &Device,
        handle: &Handle<'nvml>,
    ) -> Result<Vec<ProcessMemory>, GpuError> {
        let compute = handle.running_compute_processes();
        let graphics = handle.running_graphics_processes();
        let mps = handle.mps_running_compute_processes();
        let role = |compute, graphics, mps| ProcessRoles { compute, graphics, mps };
        let mut found = BTreeMap::new();
        let call = "nvmlDeviceGetComputeRunningProcesses_v3";
        self.merge(device, &mut found, call, compute, role(true, false, false))?;
        for (call, listed, role) in [
            ("nvmlDeviceGetGraphicsRunningProcesses_v3", graphics, role(false, true, false)),
            ("nvmlDeviceGetMPSComputeRunningProcesses_v3", mps, role(false, false, true)),
        ] {
            match self.merge(device, &mut found, call, listed, role) {
                // Many GPUs have neither graphics nor MPS; the compute list is what counts.
                Ok(()) | Err(GpuError::Unsupported { .. } | GpuError::DriverTooOld { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found.into_values().take(PROCESSES_PER_DEVICE_MAX).collect())
    }

    fn merge(
        &self,
        device: &Device,
        found: &mut BTreeMap<(u32, Option<u32>), ProcessMemory>,
        call: &'static str,
        listed: Result<Vec<ProcessInfo>, NvmlError>,
        roles: ProcessRoles,
    ) -> Result<(), GpuError> {
        let listed = match listed {
            Ok(listed) => listed,
            // The list grew between asking for its size and for itself: next time.
            Err(NvmlError::InsufficientSize(_)) => return Ok(()),
            Err(error) => return Err(self.error(call, Some(device), error)),
        };
        for process in listed {
            let entry = found
                .entry((process.pid, process.gpu_instance_id))
                .or_insert(ProcessMemory { pid: process.pid, ..ProcessMemory::default() });
            entry.gpu_instance = process.gpu_instance_id;
            entry.roles.compute |= roles.compute;
            entry.roles.graphics |= roles.graphics;
            entry.roles.mps |= roles.mps;
            // A process in two lists is one process; both lists tell its whole memory.
            if let UsedGpuMemory::Used(bytes) = process.used_gpu_memory {
                entry.mem_used_bytes = entry.mem_used_bytes.max(Some(bytes));
            }
        }
        Ok(())
    }

    fn mig_instance(
        &mut self,
        device: &Device,
        parent: &Handle<'nvml>,
        handle: &Handle<'nvml>,
    ) -> Result<MigInstance, GpuError> {
        let uuid =
            handle.uuid().map_err(|error| self.error("nvmlDeviceGetUUID", Some(device), error))?;
        let mut taker = Taker { session: self, device, gaps: Vec::new() };
        let memory =
            taker.take("mem_used_bytes", "nvmlDeviceGetMemoryInfo_v2", handle.memory_info())?;
        let mut gaps = taker.gaps;
        let processes = self.processes_of(device, handle)?;
        let gpu_instance = processes.iter().find_map(|process| process.gpu_instance);
        let activity = match gpu_instance {
            Some(id) if device.has_gpm => {
                let read = self.gpm.read((device.index, Some(id)), parent.gpm_mig_sample(id));
                self.activity_or_gap("nvmlGpmMigSampleGet", device, read, &mut gaps)?
            }
            _ => None,
        };
        Ok(MigInstance {
            uuid: GpuUuid::from(bounded(uuid).as_str()),
            model: handle.name().map_or_else(|_| format!("{} MIG", device.model), bounded),
            gpu_instance,
            mem_used_bytes: memory.as_ref().map(|memory| memory.used),
            mem_total_bytes: memory.as_ref().map(|memory| memory.total),
            activity,
            processes,
            gaps,
        })
    }

    fn device_activity(
        &mut self,
        device: &Device,
        handle: &Handle<'nvml>,
        gaps: &mut Vec<Gap>,
    ) -> Result<Option<Activity>, GpuError> {
        // Under MIG the counters belong to the instances.
        if !device.has_gpm || device.is_mig {
            return Ok(None);
        }
        let read = self.gpm.read((device.index, None), handle.gpm_sample());
        self.activity_or_gap("nvmlGpmSampleGet", device, read, gaps)
    }

    fn activity_or_gap(
        &self,
        call: &'static str,
        device: &Device,
        read: Result<Option<Activity>, NvmlError>,
        gaps: &mut Vec<Gap>,
    ) -> Result<Option<Activity>, GpuError> {
        let mut taker = Taker { session: self, device, gaps: Vec::new() };
        let activity = taker.take("activity", call, read)?.flatten();
        gaps.append(&mut taker.gaps);
        Ok(activity)
    }

    fn error(&self, call: &'static str, device: Option<&Device>, error: NvmlError) -> GpuError {
        nvml::translate(&self.info, call, device, error)
    }
}

/// Turns the result of a call into a value or a gap; only a lost GPU or driver stays an error.
pub(super) struct Taker<'a, 'nvml> {
    session: &'a Session<'nvml>,
    device: &'a Device,
    gaps: Vec<Gap>,
}

impl Taker<'_, '_> {
    pub(super) fn take<T>(
        &mut self,
        value: &'static str,
        call: &'static str,
        result: Result<T, NvmlError>,
    ) -> Result<Option<T>, GpuError> {
        match result.map_err(|error| self.session.error(call, Some(self.device), error)) {
            Ok(value) => Ok(Some(value)),
            Err(why @ GpuError::GpuLost { .. }) => Err(why),
            Err(why) if why.ends_session() => Err(why),
            Err(why) => {
                self.gaps.push(Gap { value, why });
                Ok(None)
            }
        }
    }
}

/// Links that are up; `None` where there are none. A GPU has [`NVLINKS_MAX`] at most, and refuses
/// the first one that it does not have.
fn nvlinks_up(handle: &Handle<'_>) -> Option<u32> {
    let links = (0..NVLINKS_MAX).map_while(|link| handle.link_wrapper_for(link).is_active().ok());
    let states: Vec<bool> = links.collect();
    let up = states.iter().filter(|is_up| **is_up).count();
    (!states.is_empty()).then(|| u32::try_from(up).unwrap_or(NVLINKS_MAX))
}

/// Joules of a millijoule counter; exact below 2^53 mJ, which is 285 years at 1 kW.
#[expect(clippy::cast_precision_loss, reason = "the counter stays below 2^53")]
fn millijoules(counter: u64) -> f64 {
    counter as f64 / 1000.0
}
