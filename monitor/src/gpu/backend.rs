//! What a source of GPU facts must be able to say. NVML is one; a script in a test is another.
//!
//! A backend lives on the sampler's thread and may block: the driver behind it does. Nobody but
//! the sampler waits for it.

use std::path::PathBuf;

use super::GpuError;
use crate::model::GpuUuid;

/// GPUs that are looked at on one host; the largest hosts have 16.
pub const DEVICES_MAX: u32 = 64;
/// Processes that are kept per GPU and reading; MPS allows 60 clients on one GPU.
pub const PROCESSES_PER_DEVICE_MAX: usize = 256;
/// MIG instances per GPU; hardware allows 7 GPU instances with 8 compute instances each at most.
pub const MIG_INSTANCES_MAX: u32 = 56;
/// Fault events taken from the driver per GPU and reading; the rest wait for the next one.
pub const FAULTS_PER_READING_MAX: usize = 16;
/// Links of one GPU that are asked for their state; `NVML_NVLINK_MAX_LINKS` is 18.
pub const NVLINKS_MAX: u32 = 18;
/// Processes that accounting is asked for per GPU; the driver's ring holds 4000 of them.
pub const ACCOUNTED_MAX: usize = 4_096;
/// Bytes of a name or version text that are kept; `NVML_DEVICE_NAME_V2_BUFFER_SIZE` is 96.
pub const NAME_BYTES_MAX: usize = 96;

/// A way to reach GPUs: opens the library, lends it out, closes it.
pub trait GpuDriver: Send {
    /// Opens the library and runs `run` on it; closes it when `run` returns. Called on the
    /// sampler's thread; fails where the library cannot be opened.
    fn with_backend(&mut self, run: &mut dyn FnMut(&mut dyn GpuBackend)) -> Result<(), GpuError>;
}

/// An open library.
pub trait GpuBackend {
    /// What was opened.
    fn info(&self) -> BackendInfo;

    /// The GPUs of this host, and what kept others from being listed.
    fn devices(&mut self) -> Result<DeviceList, GpuError>;

    /// One reading of a GPU. A value that cannot be had is `None` and listed in `gaps`; an error
    /// means the whole GPU or driver is gone.
    fn reading(&mut self, device: &Device) -> Result<DeviceReading, GpuError>;

    /// Processes that hold a context on the GPU, with their memory. Under MIG this lists those of
    /// all instances.
    fn processes(&mut self, device: &Device) -> Result<Vec<ProcessMemory>, GpuError>;

    /// Utilisation by process, of samples newer than `since_us` (the driver's clock, as returned
    /// in [`ProcessUtil::time_us`]). Processes that did nothing are not listed.
    fn process_util(
        &mut self,
        device: &Device,
        since_us: u64,
    ) -> Result<Vec<ProcessUtil>, GpuError>;

    /// The MIG instances of the GPU, each with its processes; empty where MIG is off.
    fn mig_instances(&mut self, device: &Device) -> Result<Vec<MigInstance>, GpuError>;

    /// Critical faults (XID) since the last call.
    fn faults(&mut self, device: &Device) -> Result<Vec<u64>, GpuError>;

    /// Processes that the driver's accounting knows, ended ones included; empty where accounting
    /// is off.
    fn accounted(&mut self, _device: &Device) -> Result<Vec<u32>, GpuError> {
        Ok(Vec::new())
    }

    /// What accounting says of one process over its life; `None` where it says nothing.
    fn lifetime(&mut self, _device: &Device, _pid: u32) -> Result<Option<Lifetime>, GpuError> {
        Ok(None)
    }
}

/// A process over its life, from the driver's accounting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// Most memory it held, in bytes.
    pub mem_used_bytes_max: Option<u64>,
    /// Share of its life in which its kernels ran, in percent.
    pub util_percent: Option<u32>,
    /// Whether it still runs.
    pub is_running: bool,
}

/// What was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendInfo {
    /// Kind of backend: `nvml`.
    pub name: &'static str,
    /// Version of the driver, e.g. `580.82.07`.
    pub driver: String,
    /// The library that was loaded.
    pub library: PathBuf,
}

/// The GPUs of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceList {
    /// Those that answered.
    pub devices: Vec<Device>,
    /// Why others did not, one entry each.
    pub missing: Vec<GpuError>,
}

/// One GPU: what does not change while the driver is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Index the driver gives it.
    pub index: u32,
    /// UUID.
    pub uuid: GpuUuid,
    /// Product name.
    pub model: String,
    /// PCI bus id, e.g. `00000000:3B:00.0`; empty where unknown.
    pub pci_bus_id: String,
    /// Whether it is split into MIG instances.
    pub is_mig: bool,
    /// Whether it has GPM counters (Hopper and newer).
    pub has_gpm: bool,
    /// Minor number of its device node; `None` where unknown.
    pub minor: Option<u32>,
    /// Whether the driver keeps accounts of processes.
    pub has_accounting: bool,
    /// `NVLink` links that are up; `None` where it has none.
    pub nvlinks_up: Option<u32>,
}

/// Why one value is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The value, by the name of its field in [`DeviceReading`].
    pub value: &'static str,
    /// Why.
    pub why: GpuError,
}

/// One reading of a GPU. `None` where it cannot be had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceReading {
    /// Share of time in which a kernel ran, in percent, over the driver's last sample period.
    pub util_percent: Option<f64>,
    /// Share of time in which memory was read or written, in percent.
    pub mem_util_percent: Option<f64>,
    /// Memory in use, in bytes.
    pub mem_used_bytes: Option<u64>,
    /// Memory installed, in bytes.
    pub mem_total_bytes: Option<u64>,
    /// Power drawn, in watts.
    pub power_watts: Option<f64>,
    /// Power limit in force, in watts.
    pub power_limit_watts: Option<f64>,
    /// Energy since the driver was loaded, in joules.
    pub energy_joules: Option<f64>,
    /// Temperature of the die, in degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// SM clock, in MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Memory clock, in MHz.
    pub mem_clock_mhz: Option<u32>,
    /// Bits of `nvmlClocksThrottleReasons`.
    pub throttle_reasons: Option<u64>,
    /// Bytes sent over `PCIe` since the driver was loaded.
    pub pcie_tx_bytes: Option<u64>,
    /// Bytes received over `PCIe` since the driver was loaded.
    pub pcie_rx_bytes: Option<u64>,
    /// `PCIe` packets that had to be sent again.
    pub pcie_replays: Option<u64>,
    /// Errors on `NVLink`, all links together, since the driver was loaded.
    pub nvlink_errors: Option<NvlinkErrors>,
    /// Memory errors that were corrected since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    /// Memory errors that could not be corrected since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
    /// Rows of memory that were replaced by spare ones; Ampere and newer.
    pub remapped_rows: Option<RemappedRows>,
    /// Activity counters since the previous reading; `None` on the first and where unsupported.
    pub activity: Option<Activity>,
    /// Why values are missing.
    pub gaps: Vec<Gap>,
}

/// Errors on `NVLink`, all links together. A link that is bad shows here before it goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NvlinkErrors {
    /// Checksums of flow-control units that did not match.
    pub crc_flit: u64,
    /// Checksums of data that did not match.
    pub crc_data: u64,
    /// Packets that were sent again.
    pub replay: u64,
    /// Times a link was brought up again after a failure.
    pub recovery: u64,
}

/// Rows of memory that were replaced by spare ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemappedRows {
    /// Because of errors that were corrected.
    pub correctable: u64,
    /// Because of errors that could not be corrected.
    pub uncorrectable: u64,
    /// Whether a reset is needed before the next replacement takes effect.
    pub is_pending: bool,
    /// Whether a replacement failed: no spare row was left.
    pub has_failed: bool,
}

/// Activity between two readings, in percent of the time (GPM).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// SMs with at least one warp.
    pub sm_percent: Option<f64>,
    /// Tensor cores, any precision.
    pub tensor_percent: Option<f64>,
    /// Integer pipe.
    pub integer_percent: Option<f64>,
    /// The busiest of the FP64, FP32 and FP16 pipes.
    pub float_percent: Option<f64>,
    /// DRAM bandwidth.
    pub dram_percent: Option<f64>,
    /// Bytes sent over `PCIe` per second.
    pub pcie_tx_bytes_per_second: Option<f64>,
    /// Bytes received over `PCIe` per second.
    pub pcie_rx_bytes_per_second: Option<f64>,
    /// Bytes sent over all `NVLink` links per second.
    pub nvlink_tx_bytes_per_second: Option<f64>,
    /// Bytes received over all `NVLink` links per second.
    pub nvlink_rx_bytes_per_second: Option<f64>,
}

/// A process that holds a context on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Process id in the host's pid namespace.
    pub pid: u32,
    /// Memory it uses in bytes; `None` where the driver does not say.
    pub mem_used_bytes: Option<u64>,
    /// How it uses the GPU.
    pub roles: ProcessRoles,
    /// MIG GPU instance it runs on.
    pub gpu_instance: Option<u32>,
}

/// How a process uses a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRoles {
    /// Compute context.
    pub compute: bool,
    /// Graphics context.
    pub graphics: bool,
    /// Client of the multi-process service.
    pub mps: bool,
}

/// What a process did on a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUtil {
    /// Process id in the host's pid namespace.
    pub pid: u32,
    /// Time of the sample by the driver's clock, in microseconds.
    pub time_us: u64,
    /// SM utilisation in percent.
    pub sm_percent: f64,
    /// Memory utilisation in percent.
    pub mem_percent: f64,
}

/// One MIG instance.
#[derive(Clone, Debug, PartialEq)]
pub struct MigInstance {
    /// UUID (`MIG-…`).
    pub uuid: GpuUuid,
    /// Name, e.g. `NVIDIA H100 MIG 1g.10gb`.
    pub model: String,
    /// GPU instance id; known once a process runs on it.
    pub gpu_instance: Option<u32>,
    /// Memory in use, in bytes.
    pub mem_used_bytes: Option<u64>,
    /// Memory it has, in bytes.
    pub mem_total_bytes: Option<u64>,
    /// Activity counters since the previous reading.
    pub activity: Option<Activity>,
    /// Its processes.
    pub processes: Vec<ProcessMemory>,
    /// Why values are missing.
    pub gaps: Vec<Gap>,
}
