//! GPUs of AMD and Intel, from what the kernel's DRM drivers tell in `/proc/PID/fdinfo`
//! (Linux, Documentation/gpu/drm-usage-stats.rst) and in sysfs. No library of a vendor is needed.
//!
//! Each open descriptor of a render node is a client; a descriptor that was passed on or duplicated
//! shows the same client again, which is counted once. Engine time is told as a counter of busy
//! nanoseconds (amdgpu, i915) or of busy cycles beside the cycles that passed (xe).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::GpuError;
use super::backend::{
    BackendInfo, DEVICES_MAX, Device, DeviceList, DeviceReading, GpuBackend, GpuDriver,
    MigInstance, PROCESSES_PER_DEVICE_MAX, ProcessMemory, ProcessRoles, ProcessUtil,
};
use crate::model::{Clock, GpuUuid};

/// Drivers that tell what this backend needs.
const DRIVERS: [&str; 3] = ["amdgpu", "i915", "xe"];
/// Processes that are looked at in one round; a host runs some thousand.
pub const PROCESSES_SCANNED_MAX: usize = 32_768;
/// Descriptors of one process that are looked at.
pub const DESCRIPTORS_MAX: usize = 1_024;
/// Nanoseconds between two looks at all processes; in between, only those that are known.
const SCAN_NS: u64 = 5_000_000_000;

/// Reaches GPUs through the kernel's own files.
#[derive(Clone, Debug)]
pub struct FdinfoDriver {
    /// `/`, or where a recording of `proc` and `sys` lies.
    pub root: PathBuf,
    /// The clock, in nanoseconds since boot.
    pub now_ns: fn() -> u64,
}

impl Default for FdinfoDriver {
    fn default() -> Self {
        Self { root: PathBuf::from("/"), now_ns: || Clock::boot_now().0 }
    }
}

impl FdinfoDriver {
    /// Whether there is a GPU that this backend can read.
    pub fn has_devices(&self) -> bool {
        !devices(&self.root).is_empty()
    }
}

impl GpuDriver for FdinfoDriver {
    fn with_backend(&mut self, run: &mut dyn FnMut(&mut dyn GpuBackend)) -> Result<(), GpuError> {
        if !self.has_devices() {
            return Err(GpuError::NoLibrary {
                searched: vec![self.root.join("sys/class/drm")],
                detail: "no render node of amdgpu, i915 or xe".to_owned(),
            });
        }
        run(&mut FdinfoBackend::new(self.clone()));
        Ok(())
    }
}

/// What one client did, from one fdinfo file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// PCI address of the GPU.
    pub pdev: String,
    /// Number of the client, unique on its GPU.
    pub id: u64,
    /// The kernel driver.
    pub driver: String,
    /// Busy nanoseconds by engine.
    pub busy_ns: BTreeMap<String, u64>,
    /// Busy cycles and cycles that passed, by engine (xe).
    pub cycles: BTreeMap<String, (u64, u64)>,
    /// Engines of one name, where there are several (`drm-engine-capacity-*`): their time adds up.
    pub capacity: BTreeMap<String, u64>,
    /// Bytes of the GPU's own memory that the client's objects hold.
    pub memory_bytes: u64,
}

impl Client {
    /// How many engines have this name.
    fn engines(&self, engine: &str) -> u64 {
        self.capacity.get(engine).copied().unwrap_or(1).max(1)
    }

    /// Reads a fdinfo file; `None` where it is not of a DRM client with an address.
    pub fn parse(text: &str) -> Option<Self> {
        let mut client = Self::default();
        let mut regions: BTreeMap<&str, u64> = BTreeMap::new();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let number = || value.split_whitespace().next().and_then(|word| word.parse().ok());
            match key {
                "drm-driver" => value.clone_into(&mut client.driver),
                "drm-pdev" => value.clone_into(&mut client.pdev),
                "drm-client-id" => client.id = number()?,
                _ => {
                    if let Some(engine) = key.strip_prefix("drm-engine-capacity-") {
                        // A capacity that cannot be read counts as one.
                        client.capacity.extend(number().map(|count| (engine.to_owned(), count)));
                    } else if let (Some(engine), Some(ns)) =
                        (key.strip_prefix("drm-engine-"), number())
                    {
                        client.busy_ns.insert(engine.to_owned(), ns);
                    } else if let (Some(engine), Some(all)) =
                        (key.strip_prefix("drm-total-cycles-"), number())
                    {
                        client.cycles.entry(engine.to_owned()).or_default().1 = all;
                    } else if let (Some(engine), Some(busy)) =
                        (key.strip_prefix("drm-cycles-"), number())
                    {
                        client.cycles.entry(engine.to_owned()).or_default().0 = busy;
                    } else if let Some(region) = memory_region(key)
                        && let Some(bytes) = size(value)
                    {
                        // Older and newer keys may both be there for one region.
                        let known = regions.entry(region).or_default();
                        *known = (*known).max(bytes);
                    }
                }
            }
        }
        client.memory_bytes = regions.values().fold(0, |sum, bytes| sum.saturating_add(*bytes));
        (!client.pdev.is_empty() && DRIVERS.contains(&client.driver.as_str())).then_some(client)
    }
}

/// The region of a memory key, where it is the GPU's own (`vram` of amdgpu, `local` of i915,
/// `vram` of xe); what lies in the host's memory is not the GPU's.
fn memory_region(key: &str) -> Option<&str> {
    let region = ["drm-resident-", "drm-memory-"].iter().find_map(|lead| key.strip_prefix(lead))?;
    (region.starts_with("vram") || region.starts_with("local")).then_some(region)
}

/// `123 KiB` in bytes.
fn size(value: &str) -> Option<u64> {
    let mut words = value.split_whitespace();
    let count: u64 = words.next()?.parse().ok()?;
    let unit = match words.next() {
        None => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some(_) => return None,
    };
    count.checked_mul(unit)
}

/// A GPU and the folder of its device.
#[derive(Clone, Debug)]
struct Found {
    device: Device,
    driver: String,
    folder: PathBuf,
}

fn devices(root: &Path) -> Vec<Found> {
    let Ok(nodes) = fs::read_dir(root.join("sys/class/drm")) else { return Vec::new() };
    let mut names: Vec<String> =
        nodes.flatten().filter_map(|node| node.file_name().into_string().ok()).collect();
    names.sort();
    let nodes = names.iter().filter(|name| name.starts_with("renderD"));
    let mut found: Vec<Found> = Vec::new();
    for node in nodes.take(DEVICES_MAX as usize) {
        let folder = root.join("sys/class/drm").join(node).join("device");
        let uevent = fs::read_to_string(folder.join("uevent")).unwrap_or_default();
        let value =
            |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let (Some(driver), Some(pdev)) = (value("DRIVER"), value("PCI_SLOT_NAME")) else {
            continue;
        };
        if !DRIVERS.contains(&driver) {
            continue;
        }
        let name = value("PCI_ID").map_or_else(|| driver.to_owned(), |id| format!("{driver} {id}"));
        let unique = fs::read_to_string(folder.join("unique_id")).ok();
        let uuid = unique.map_or_else(|| format!("PCI-{pdev}"), |id| format!("GPU-{}", id.trim()));
        found.push(Found {
            device: Device {
                index: u32::try_from(found.len()).unwrap_or(u32::MAX),
                uuid: GpuUuid::from(uuid.as_str()),
                model: name,
                pci_bus_id: pdev.to_owned(),
                ..Device::default()
            },
            driver: driver.to_owned(),
            folder,
        });
    }
    found
}

struct FdinfoBackend {
    driver: FdinfoDriver,
    devices: Vec<Found>,
    /// Processes with a client, from the last look at all of them.
    known: BTreeSet<u32>,
    scanned_ns: Option<u64>,
    /// Clients of the round before, and when they were read.
    before: BTreeMap<(String, u64), (u64, Client)>,
    /// Clients by process, of this round.
    now: BTreeMap<u32, Vec<Client>>,
    read_ns: u64,
}

impl FdinfoBackend {
    fn new(driver: FdinfoDriver) -> Self {
        Self {
            driver,
            devices: Vec::new(),
            known: BTreeSet::new(),
            scanned_ns: None,
            before: BTreeMap::new(),
            now: BTreeMap::new(),
            read_ns: 0,
        }
    }

    fn found(&self, device: &Device) -> Option<&Found> {
        self.devices.iter().find(|found| found.device.uuid == device.uuid)
    }

    /// Reads the clients of all processes, or of those known.
    fn read_clients(&mut self) {
        let now_ns = (self.driver.now_ns)();
        let last = std::mem::take(&mut self.now);
        for client in last.into_values().flatten() {
            self.before.insert((client.pdev.clone(), client.id), (self.read_ns, client));
        }
        self.read_ns = now_ns;
        let is_due = self.scanned_ns.is_none_or(|at| now_ns.saturating_sub(at) >= SCAN_NS);
        let pids: Vec<u32> = if is_due {
            self.scanned_ns = Some(now_ns);
            self.before.retain(|_, (at, _)| now_ns.saturating_sub(*at) <= 2 * SCAN_NS);
            self.all_pids()
        } else {
            self.known.iter().copied().collect()
        };
        for pid in pids {
            let clients = self.clients_of(pid);
            if !clients.is_empty() {
                self.now.insert(pid, clients);
            }
        }
        self.known = self.now.keys().copied().collect();
    }

    fn all_pids(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(self.driver.root.join("proc")) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).take(PROCESSES_SCANNED_MAX).collect()
    }

    /// The clients of one process, each once.
    fn clients_of(&self, pid: u32) -> Vec<Client> {
        let process = self.driver.root.join("proc").join(pid.to_string());
        let Ok(entries) = fs::read_dir(process.join("fd")) else { return Vec::new() };
        let mut seen = BTreeSet::new();
        let mut clients = Vec::new();
        for entry in entries.flatten().take(DESCRIPTORS_MAX) {
            let is_node = fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().contains("/dev/dri/"));
            if !is_node {
                continue;
            }
            let text = fs::read_to_string(process.join("fdinfo").join(entry.file_name()));
            let Some(client) = text.ok().and_then(|text| Client::parse(&text)) else { continue };
            if seen.insert((client.pdev.clone(), client.id)) {
                clients.push(client);
            }
        }
        clients
    }

    /// The share of time that a client kept its busiest engine at work, in percent.
    fn util(&self, client: &Client) -> Option<f64> {
        let (at, before) = self.before.get(&(client.pdev.clone(), client.id))?;
        let passed = self.read_ns.checked_sub(*at).filter(|passed| *passed > 0)?;
        let by_time = client.busy_ns.iter().filter_map(|(engine, busy)| {
            let moved = busy.checked_sub(*before.busy_ns.get(engine)?)?;
            Some(share(moved, passed.saturating_mul(client.engines(engine))))
        });
        let by_cycles = client.cycles.iter().filter_map(|(engine, (busy, all))| {
            let (busy_before, all_before) = before.cycles.get(engine)?;
            let all = all.checked_sub(*all_before).filter(|all| *all > 0)?;
            let all = all.saturating_mul(client.engines(engine));
            Some(share(busy.checked_sub(*busy_before)?, all))
        });
        by_time.chain(by_cycles).reduce(f64::max)
    }

    fn clients_on<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = (u32, &'a Client)> {
        self.now.iter().flat_map(move |(pid, clients)| {
            let here = clients.iter().filter(|client| client.pdev == device.pci_bus_id);
            here.map(move |client| (*pid, client))
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 15 digits")]
fn share(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64 * 100.0).min(100.0)
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A file of the device's sensor chip (`hwmon/hwmon<n>/<name>`).
fn sensor(folder: &Path, name: &str) -> Option<f64> {
    let chips = fs::read_dir(folder.join("hwmon")).ok()?;
    chips.flatten().find_map(|chip| number(&chip.path().join(name)))
}

impl GpuBackend for FdinfoBackend {
    fn info(&self) -> BackendInfo {
        let mut drivers: Vec<&str> =
            self.devices.iter().map(|found| found.driver.as_str()).collect();
        drivers.dedup();
        BackendInfo {
            name: "fdinfo",
            driver: drivers.join(", "),
            library: self.driver.root.join("proc"),
        }
    }

    fn devices(&mut self) -> Result<DeviceList, GpuError> {
        self.devices = devices(&self.driver.root);
        let devices = self.devices.iter().map(|found| found.device.clone()).collect();
        Ok(DeviceList { devices, missing: Vec::new() })
    }

    fn reading(&mut self, device: &Device) -> Result<DeviceReading, GpuError> {
        // One look at all processes serves all GPUs.
        if device.index == 0 {
            self.read_clients();
        }
        let Some(found) = self.found(device) else {
            let detail = "its render node is gone".to_owned();
            return Err(GpuError::GpuLost { uuid: device.uuid.clone(), detail });
        };
        let folder = &found.folder;
        Ok(DeviceReading {
            util_percent: number(&folder.join("gpu_busy_percent")),
            mem_util_percent: number(&folder.join("mem_busy_percent")),
            mem_used_bytes: number(&folder.join("mem_info_vram_used")),
            mem_total_bytes: number(&folder.join("mem_info_vram_total")),
            power_watts: sensor(folder, "power1_average")
                .or_else(|| sensor(folder, "power1_input"))
                .map(|microwatts| microwatts / 1e6),
            temperature_celsius: sensor(folder, "temp1_input").map(|millis| millis / 1e3),
            ..DeviceReading::default()
        })
    }

    fn processes(&mut self, device: &Device) -> Result<Vec<ProcessMemory>, GpuError> {
        let mut found: BTreeMap<u32, u64> = BTreeMap::new();
        for (pid, client) in self.clients_on(device) {
            let memory = found.entry(pid).or_default();
            *memory = memory.saturating_add(client.memory_bytes);
        }
        let roles = ProcessRoles { compute: true, ..ProcessRoles::default() };
        let listed = found.into_iter().map(|(pid, bytes)| ProcessMemory {
            pid,
            mem_used_bytes: Some(bytes),
            roles,
            gpu_instance: None,
        });
        Ok(listed.take(PROCESSES_PER_DEVICE_MAX).collect())
    }

    fn process_util(
        &mut self,
        device: &Device,
        since_us: u64,
    ) -> Result<Vec<ProcessUtil>, GpuError> {
        let time_us = self.read_ns / 1_000;
        if time_us <= since_us {
            return Ok(Vec::new());
        }
        let mut found: BTreeMap<u32, f64> = BTreeMap::new();
        for (pid, client) in self.clients_on(device) {
            if let Some(util) = self.util(client) {
                let sum = found.entry(pid).or_default();
                *sum = (*sum + util).min(100.0);
            }
        }
        let util = found.into_iter();
        Ok(util
            .map(|(pid, sm_percent)| ProcessUtil { pid, time_us, sm_percent, mem_percent: 0.0 })
            .collect())
    }

    fn mig_instances(&mut self, _: &Device) -> Result<Vec<MigInstance>, GpuError> {
        Ok(Vec::new())
    }

    fn faults(&mut self, _: &Device) -> Result<Vec<u64>, GpuError> {
        Ok(Vec::new())
    }
}

/// NVML where it opens; else the kernel's own files, where they tell of a GPU.
#[derive(Clone, Debug, Default)]
pub struct AnyDriver {
    /// NVML.
    pub nvml: super::NvmlDriver,
    /// The kernel's own files.
    pub fdinfo: FdinfoDriver,
}

impl GpuDriver for AnyDriver {
    fn with_backend(&mut self, run: &mut dyn FnMut(&mut dyn GpuBackend)) -> Result<(), GpuError> {
        match self.nvml.with_backend(run) {
            Err(GpuError::NoLibrary { .. } | GpuError::NoDriver { .. })
                if self.fdinfo.has_devices() =>
            {
                self.fdinfo.with_backend(run)
            }
            other => other,
        }
    }
}
