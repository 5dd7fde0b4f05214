//! The scenario that the fake driver library plays: one GPU, and whoever is on it. The library
//! reads the file again on each call, so that a process can be put on the GPU once it has an id.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::incident::GpuLoad;

/// Bytes of GPU memory that a miner needs.
const MINER_BYTES: u64 = 2 << 30;
/// Bytes of GPU memory that a training job takes.
const TRAINER_BYTES: u64 = 60 << 30;

/// The file.
#[derive(Debug)]
pub(crate) struct Scenario {
    path: PathBuf,
}

impl Scenario {
    /// Writes a scenario with nobody on the GPU.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let scenario = Self { path: path.to_path_buf() };
        scenario.write(&scene(GpuLoad::Idle, 0))?;
        Ok(scenario)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a process on the GPU.
    pub(super) fn play(&self, load: GpuLoad, pid: u32) -> Result<()> {
        self.write(&scene(load, pid))
    }

    /// A reader must never see half a file.
    fn write(&self, scene: &Value) -> Result<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, scene.to_string()).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, &self.path).with_context(|| format!("replace {}", self.path.display()))
    }
}

fn scene(load: GpuLoad, pid: u32) -> Value {
    let (util, power_watts) = match load {
        GpuLoad::Idle => (vec![0], 70),
        GpuLoad::Hashing => (vec![97], 640),
        GpuLoad::Training => (vec![98, 61, 99, 12, 95, 74, 100, 33], 520),
    };
    let memory_bytes = match load {
        GpuLoad::Idle => 0,
        GpuLoad::Hashing => MINER_BYTES,
        GpuLoad::Training => TRAINER_BYTES,
    };
    let processes = if load == GpuLoad::Idle {
        json!([])
    } else {
        json!([{ "pid": pid, "memory_bytes": memory_bytes, "util_percent": util }])
    };
    json!({
        "devices": [{
            "uuid": "GPU-11111111-2222-3333-4444-555555555555",
            "name": "NVIDIA H100 80GB HBM3",
            "util_percent": util,
            "power_watts": power_watts,
            "memory_total_bytes": 80_u64 << 30,
            "processes": processes,
        }],
    })
}
