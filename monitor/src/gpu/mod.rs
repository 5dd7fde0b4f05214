//! The GPU side: **sample → enrich**.
//!
//! | file | what it owns |
//! |---|---|
//! | [`backend`] | what a source of GPU facts must be able to say |
//! | [`NvmlDriver`] | NVML, found and loaded at run time |
//! | [`fdinfo`] | AMD and Intel, from the kernel's own files |
//! | [`round`] | one round over all GPUs: who came, who went, who is idle; pure |
//! | [`pace`] | how long to wait between rounds; pure |
//! | [`GpuSampler`] | the thread that may hang in the driver while nobody waits for it |
//! | [`feature`] | ten minutes of each process tree on each GPU, as numbers; pure |
//! | [`mining`] | how much those ten minutes look like mining, and why; pure |
//! | [`status`] | what `doctor`, metrics and alerts show |
//!
//! ```no_run
//! use monitor::gpu::{GpuSampler, NvmlDriver, SamplerConfig};
//! use monitor::model::Clock;
//!
//! let driver = Box::new(NvmlDriver::default());
//! let mut sampler = GpuSampler::start(driver, SamplerConfig::default())?;
//! while let Some(batch) = sampler.poll(Clock::boot_now()) {
//!     for event in batch.events(|_pid| None) {
//!         drop(event);
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod backend;
mod error;
pub mod fdinfo;
pub mod feature;
mod gpm;
mod health;
pub mod library;
pub mod mining;
mod nvml;
pub mod pace;
mod presence;
pub mod round;
mod sample;
mod sampler;
mod series;
mod session;
pub mod status;
mod watch;
mod xid;

pub use error::GpuError;
pub use feature::{FeatureTable, FeatureView, TreeReading};
pub use mining::MiningVerdict;
pub use nvml::{DRIVER_BRANCH_MIN, NvmlDriver};
pub use sample::{DeviceSample, Edge, GpuBatch, ProcessSample};
pub use sampler::{
    BATCHES_QUEUED_MAX, GpuSampler, REOPEN_NS_MAX, REOPEN_NS_MIN, STOP_WAIT, SamplerConfig,
};
pub use status::{BackendState, GpuCounters, GpuStatus};
