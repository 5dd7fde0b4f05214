//! What can go wrong between the monitor and a GPU, as types: decisions never read a message.

use std::path::PathBuf;

use thiserror::Error;

use crate::model::GpuUuid;

/// Why a GPU or its library did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GpuError {
    /// The driver's library is in none of the places searched.
    #[error(
        "no libnvidia-ml.so.1 could be loaded; searched {}; install the NVIDIA driver or name its \
         directory in the configuration ({detail})",
        paths(.searched)
    )]
    NoLibrary {
        /// Every path that was tried, in order.
        searched: Vec<PathBuf>,
        /// What the loader said about the last one that exists, else about the last one.
        detail: String,
    },
    /// The library is there, the kernel module is not.
    #[error("{library} is installed but the NVIDIA kernel module is not loaded; check `lsmod`")]
    NoDriver {
        /// The library that was loaded.
        library: PathBuf,
    },
    /// Library and kernel module are of different versions.
    #[error(
        "{library} and the loaded NVIDIA kernel module are of different versions; reload the \
         module or reboot"
    )]
    VersionMismatch {
        /// The library that was loaded.
        library: PathBuf,
    },
    /// The driver does not know a call that the monitor needs.
    #[error("driver {driver} is too old: {needs}; upgrade to {minimum} or newer")]
    DriverTooOld {
        /// Version the driver gives, `unknown` where it gives none.
        driver: String,
        /// What it lacks.
        needs: String,
        /// The oldest driver branch that has it.
        minimum: u32,
    },
    /// A GPU fell off the bus, or needs a reset.
    #[error("GPU {uuid} is lost ({detail}); see `dmesg | grep Xid`, then reset it or reboot")]
    GpuLost {
        /// The GPU; `index:<n>` where its UUID can no longer be read.
        uuid: GpuUuid,
        /// What the driver said.
        detail: String,
    },
    /// The GPU cannot tell this.
    #[error("{call} is not supported on this GPU")]
    Unsupported {
        /// The library call.
        call: &'static str,
    },
    /// The monitor may not ask.
    #[error("{call} was refused; run as root and let the device cgroup allow /dev/nvidia*")]
    NoPermission {
        /// The library call.
        call: &'static str,
    },
    /// The driver gave up waiting.
    #[error("{call} timed out in the driver")]
    Timeout {
        /// The library call.
        call: &'static str,
    },
    /// Anything else.
    #[error("{call} failed: {detail}")]
    Other {
        /// The library call.
        call: &'static str,
        /// What the driver said.
        detail: String,
    },
}

impl GpuError {
    /// A word for metrics: bounded, without values.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => "no_library",
            Self::NoDriver { .. } => "no_driver",
            Self::VersionMismatch { .. } => "version_mismatch",
            Self::DriverTooOld { .. } => "driver_too_old",
            Self::GpuLost { .. } => "gpu_lost",
            Self::Unsupported { .. } => "unsupported",
            Self::NoPermission { .. } => "no_permission",
            Self::Timeout { .. } => "timeout",
            Self::Other { .. } => "other",
        }
    }

    /// Whether nothing more can be asked before the library is opened again.
    pub const fn ends_session(&self) -> bool {
        matches!(
            self,
            Self::NoLibrary { .. } | Self::NoDriver { .. } | Self::VersionMismatch { .. }
        )
    }
}

fn paths(searched: &[PathBuf]) -> String {
    let texts: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
    texts.join(", ")
}
