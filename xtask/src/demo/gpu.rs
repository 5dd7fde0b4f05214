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

/// Utilisation of a GPU that hashes, in percent: flat.
const HASHING_PERCENT: u32 = 97;

/// The file.
#[derive(Debug)]
pub(crate) struct Scenario {
    path: PathBuf,
    /// Who is on the GPU while no incident uses it.
    resident: Option<(GpuLoad, u32)>,
}

impl Scenario {
    /// Writes a scenario with nobody on the GPU.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let scenario = Self { path: path.to_path_buf(), resident: None };
        scenario.write(&scene(GpuLoad::Idle, 0))?;
        Ok(scenario)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a process on the GPU; an idle GPU is left to the resident.
    pub(crate) fn play(&self, load: GpuLoad, pid: u32) -> Result<()> {
        let (load, pid) = match self.resident {
            Some(resident) if load == GpuLoad::Idle => resident,
            _ => (load, pid),
        };
        self.write(&scene(load, pid))
    }

    /// Puts a process on the GPU that stays there whenever no incident uses it.
    pub(super) fn settle(&mut self, load: GpuLoad, pid: u32) -> Result<()> {
        self.resident = Some((load, pid));
        self.play(GpuLoad::Idle, 0)
    }

    /// A reader must never see half a file.
    fn write(&self, scene: &Value) -> Result<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, scene.to_string()).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, &self.path).with_context(|| format!("replace {}", self.path.display()))
    }
}

/// As tests/fake-nvml reads it.
fn scene(load: GpuLoad, pid: u32) -> Value {
    // Seconds and percent, over and over.
    let steps = [98, 61, 99, 12, 95, 74, 100, 33];
    let points: Vec<_> =
        steps.iter().zip(0..).map(|(util, second)| json!([second, util])).collect();
    let (util, memory_bytes, power_watts) = match load {
        GpuLoad::Idle => (json!(0), 0, 70),
        GpuLoad::Hashing => (json!(HASHING_PERCENT), MINER_BYTES, 640),
        GpuLoad::Training => {
            let steps = json!({ "points": points, "repeat_s": points.len() });
            (json!({ "steps": steps }), TRAINER_BYTES, 520)
        }
    };
    let process = json!({ "pid": pid, "mem_bytes": memory_bytes, "sm_util": util });
    let processes = if load == GpuLoad::Idle { json!([]) } else { json!([process]) };
    json!({
        "devices": [{
            "uuid": "GPU-11111111-2222-3333-4444-555555555555",
            "name": "NVIDIA H100 80GB HBM3",
            "util": util,
            "power_mw": power_watts * 1000,
            "memory_total_bytes": 80_u64 << 30,
            "processes": processes,
        }],
    })
}
