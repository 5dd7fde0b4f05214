//! The NVML backend: `nvml-wrapper` over `libnvidia-ml.so.1`, found at run time.
//!
//! Every call here may block in the kernel driver for as long as it likes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::InitFlags;
use nvml_wrapper::error::NvmlError;

use super::backend::{BackendInfo, Device, GpuBackend, GpuDriver, NAME_BYTES_MAX};
use super::session::Session;
use super::xid::Faults;
use super::{GpuError, library};

/// The oldest driver branch that works: R510 brought the `_v3` process calls and `_v2` memory.
pub const DRIVER_BRANCH_MIN: u32 = 510;
/// `NVML_ERROR_ARGUMENT_VERSION_MISMATCH` (nvml.h): the driver does not know the structure.
const ARGUMENT_VERSION_MISMATCH: u32 = 25;
/// `NVML_ERROR_GPU_NOT_FOUND` (nvml.h).
const GPU_NOT_FOUND: u32 = 28;

/// How to find NVML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NvmlDriver {
    /// Directories, or libraries, that are tried first. They must belong to root: what is loaded
    /// from there runs as the monitor does.
    pub paths: Vec<PathBuf>,
    /// Whether nothing but `paths` is tried.
    pub is_exclusive: bool,
}

impl GpuDriver for NvmlDriver {
    fn with_backend(&mut self, run: &mut dyn FnMut(&mut dyn GpuBackend)) -> Result<(), GpuError> {
        let (nvml, library) = open(&library::candidates(&self.paths, self.is_exclusive))?;
        let driver = nvml.sys_driver_version().unwrap_or_else(|_| "unknown".to_owned());
        if let Some(branch) = branch_of(&driver)
            && branch < DRIVER_BRANCH_MIN
        {
            return Err(GpuError::DriverTooOld {
                driver,
                needs: "nvmlDeviceGetComputeRunningProcesses_v3".to_owned(),
                minimum: DRIVER_BRANCH_MIN,
            });
        }
        let info = BackendInfo { name: "nvml", driver: bounded(driver), library };
        let faults = Faults::default();
        std::thread::scope(|scope| {
            // Joined before the first round, so that no fault between the two goes unheard.
            if let Some(set) = faults.join(&nvml) {
                let listener = std::thread::Builder::new().name("gpu-faults".to_owned());
                let listening = listener.spawn_scoped(scope, || {
                    let set = set;
                    faults.listen(&set);
                });
                if let Err(error) = listening {
                    tracing::warn!(%error, "no thread for GPU faults (XID); they are not seen");
                }
            }
            run(&mut Session::new(&nvml, info, &faults));
            faults.stop();
        });
        Ok(())
    }
}

fn open(candidates: &[PathBuf]) -> Result<(Nvml, PathBuf), GpuError> {
    let mut detail = String::new();
    let mut nearest = None;
    for path in candidates {
        let opened = Nvml::builder().lib_path(OsStr::new(path)).flags(InitFlags::NO_GPUS).init();
        match opened {
            Ok(nvml) => return Ok((nvml, path.clone())),
            Err(NvmlError::LibloadingError(error)) => {
                if detail.is_empty() || path.exists() {
                    detail = error.to_string();
                }
            }
            Err(error) => {
                nearest.get_or_insert_with(|| open_error(path, error));
            }
        }
    }
    Err(nearest.unwrap_or_else(|| GpuError::NoLibrary { searched: candidates.to_vec(), detail }))
}

fn open_error(library: &Path, error: NvmlError) -> GpuError {
    let library = library.to_owned();
    match error {
        NvmlError::DriverNotLoaded => GpuError::NoDriver { library },
        NvmlError::LibRmVersionMismatch => GpuError::VersionMismatch { library },
        NvmlError::FailedToLoadSymbol(needs) => GpuError::DriverTooOld {
            driver: "unknown".to_owned(),
            needs,
            minimum: DRIVER_BRANCH_MIN,
        },
        NvmlError::NoPermission | NvmlError::OperatingSystem => {
            GpuError::NoPermission { call: "nvmlInitWithFlags" }
        }
        other => GpuError::Other { call: "nvmlInitWithFlags", detail: other.to_string() },
    }
}

/// The branch of a driver version: 580 of `580.82.07`.
fn branch_of(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// What an error of a call on an open library means.
pub(super) fn translate(
    info: &BackendInfo,
    call: &'static str,
    device: Option<&Device>,
    error: NvmlError,
) -> GpuError {
    let library = || info.library.clone();
    let too_old = |needs: String| GpuError::DriverTooOld {
        driver: info.driver.clone(),
        needs,
        minimum: DRIVER_BRANCH_MIN,
    };
    let is_lost = matches!(
        error,
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::UnexpectedVariant(GPU_NOT_FOUND)
    );
    match (error, device) {
        (error, Some(device)) if is_lost => {
            GpuError::GpuLost { uuid: device.uuid.clone(), detail: error.to_string() }
        }
        (NvmlError::DriverNotLoaded | NvmlError::Uninitialized, _) => {
            GpuError::NoDriver { library: library() }
        }
        (NvmlError::LibRmVersionMismatch, _) => GpuError::VersionMismatch { library: library() },
        (NvmlError::FailedToLoadSymbol(needs), _) => too_old(needs),
        (
            NvmlError::FunctionNotFound | NvmlError::UnexpectedVariant(ARGUMENT_VERSION_MISMATCH),
            _,
        ) => too_old(call.to_owned()),
        (NvmlError::NotSupported, _) => GpuError::Unsupported { call },
        (NvmlError::NoPermission | NvmlError::OperatingSystem, _) => {
            GpuError::NoPermission { call }
        }
        (NvmlError::Timeout, _) => GpuError::Timeout { call },
        (error, _) => GpuError::Other { call, detail: error.to_string() },
    }
}

/// The text, cut at [`NAME_BYTES_MAX`].
pub(super) fn bounded(mut text: String) -> String {
    if text.len() > NAME_BYTES_MAX {
        let end = (0..=NAME_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_is_the_first_number() {
        assert_eq!(branch_of("580.82.07"), Some(580));
        assert_eq!(branch_of("unknown"), None);
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let cut = bounded("é".repeat(NAME_BYTES_MAX));
        assert_eq!(cut.len(), NAME_BYTES_MAX);
        assert_eq!(bounded("H100".to_owned()), "H100");
    }
}
