//! Facts of GPUs: what one process does on one GPU, and what a GPU reports of itself.

use super::GpuUuid;

/// One process on one GPU at one moment. The actor is the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuSample {
    /// The GPU or MIG instance.
    pub gpu: GpuUuid,
    /// Index on this host.
    pub index: u32,
    /// Product name.
    pub model: String,
    /// How the process uses the GPU.
    pub role: GpuRole,
    /// Utilisation of the GPU in percent; `None` where unsupported.
    pub util_percent: Option<f64>,
    /// SM utilisation by the process in percent; `None` where unsupported.
    pub proc_util_percent: Option<f64>,
    /// Memory utilisation by the process in percent; `None` where unsupported.
    pub proc_mem_util_percent: Option<f64>,
    /// Utilisation to judge the process by, in percent: its own where the driver tells it on this
    /// GPU, else that of the GPU where the process is alone on it. Never a mix of the two.
    pub attributed_util_percent: Option<f64>,
    /// Memory used by the process in bytes; `None` where unsupported.
    pub mem_used_bytes: Option<u64>,
    /// Power of the GPU in watts.
    pub power_watts: Option<f64>,
    /// Temperature of the GPU in degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// Activity of the GPU or instance.
    pub activity: GpuActivity,
    /// Whether this reading was made because a process appeared or vanished.
    pub is_edge: bool,
}

/// What the parts of a GPU did between two readings. `None` where the GPU does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GpuActivity {
    /// SMs with at least one warp, in percent of the time.
    pub sm_percent: Option<f64>,
    /// Tensor cores, any precision, in percent of the time.
    pub tensor_percent: Option<f64>,
    /// Integer pipe, in percent of the time.
    pub integer_percent: Option<f64>,
    /// The busiest of the FP64, FP32 and FP16 pipes, in percent of the time.
    pub float_percent: Option<f64>,
    /// DRAM bandwidth, in percent.
    pub dram_percent: Option<f64>,
    /// Bytes over `PCIe` per second, both ways.
    pub pcie_bytes_per_second: Option<f64>,
    /// Bytes over `NVLink` per second, both ways.
    pub nvlink_bytes_per_second: Option<f64>,
}

/// How a process uses a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuRole {
    /// With a compute context of its own.
    #[default]
    Compute,
    /// For drawing only.
    Graphics,
    /// Through the multi-process service.
    MpsClient,
    /// As the server of the multi-process service: what it does is done for its clients.
    MpsServer,
}

impl GpuRole {
    /// The word used in rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Graphics => "graphics",
            Self::MpsClient => "mps_client",
            Self::MpsServer => "mps_server",
        }
    }
}

/// A GPU reported a fault. Nobody's act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuFault {
    /// The GPU.
    pub gpu: GpuUuid,
    /// Index on this host.
    pub index: u32,
    /// Product name.
    pub model: String,
    /// What.
    pub fault: FaultKind,
    /// XID number as in the kernel log, for [`FaultKind::Xid`].
    pub xid: Option<u64>,
}

/// What went wrong with a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The driver logged a critical error.
    Xid,
    /// It fell off the bus or needs a reset.
    Lost,
    /// Uncorrectable memory errors were counted since the previous reading.
    EccUncorrectable,
    /// Rows could not be remapped: the memory is worn.
    RowRemapFailure,
}

impl FaultKind {
    /// The word used in rules and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xid => "xid",
            Self::Lost => "lost",
            Self::EccUncorrectable => "ecc_uncorrectable",
            Self::RowRemapFailure => "row_remap_failure",
        }
    }
}
