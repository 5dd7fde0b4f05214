//! Ten minutes of a process tree on a GPU, as numbers. Pure: the time comes with each reading.
//!
//! Readings with the same time are of one round and are added: a tree with two processes on a GPU
//! uses the sum of both. Rounds within one second are averaged, so that a burst of fast readings
//! weighs no more than a steady one. What is kept is one point a second.

use std::collections::HashMap;

use super::series::Series;
use crate::model::{BootNs, GpuActivity, GpuUuid, ProcessKey};

pub(super) const SECOND_NS: u64 = 1_000_000_000;
/// Seconds that are looked back on.
pub const WINDOW_SECONDS: u32 = 600;
/// Points of the curve shown to people: one per ten seconds.
pub const CURVE_POINTS_MAX: usize = 60;
/// Process trees × GPUs that are kept: eight GPUs with 64 processes each; at 600 points of 32
/// bytes, 9.4 MiB when every one of them has run for ten minutes.
pub const TREES_MAX: usize = 512;
/// Points from which spread and trend are told: a minute. Of less, any load looks flat.
pub const SPREAD_POINTS_MIN: usize = 60;
/// Utilisation in percent at and above which a GPU counts as busy.
pub const BUSY_PERCENT_MIN: f64 = 85.0;
/// Longest silence within one busy stretch, in nanoseconds: a driver that hangs for a moment must
/// not make a miner look new, and an hour unseen must not count as busy.
pub const BUSY_GAP_NS_MAX: u64 = 60_000_000_000;

/// What one round says of one process of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TreeReading {
    /// Utilisation by the process in percent; `None` where not known.
    pub util_percent: Option<f64>,
    /// Memory of the process in bytes; `None` where not known.
    pub mem_used_bytes: Option<u64>,
    /// Power of the whole GPU in watts.
    pub power_watts: Option<f64>,
    /// Activity of the whole GPU or instance.
    pub activity: GpuActivity,
}

/// The numbers of one process tree on one GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FeatureView {
    /// Mean utilisation in percent; `None` where none was told.
    pub util_mean_10m: Option<f64>,
    /// Standard deviation of the utilisation divided by its mean; `None` within the first minute
    /// and for a mean of zero.
    pub util_cv_10m: Option<f64>,
    /// The same of the memory used.
    pub mem_cv_10m: Option<f64>,
    /// Slope of a straight line through the utilisation, in percentage points per minute; `None`
    /// within the first minute.
    pub util_trend_per_minute: Option<f64>,
    /// Mean power of the GPU in watts.
    pub power_mean_10m: Option<f64>,
    /// Standard deviation of the power divided by its mean; `None` within the first minute.
    pub power_cv_10m: Option<f64>,
    /// Mean tensor-core activity in percent.
    pub tensor_mean_10m: Option<f64>,
    /// Mean integer activity in percent.
    pub int_mean_10m: Option<f64>,
    /// Mean activity of the busiest floating-point pipe in percent.
    pub float_mean_10m: Option<f64>,
    /// Mean DRAM bandwidth in use in percent.
    pub dram_mean_10m: Option<f64>,
    /// Mean bytes per second over `PCIe`.
    pub pcie_mean_10m: Option<f64>,
    /// Mean bytes per second over `NVLink`.
    pub nvlink_mean_10m: Option<f64>,
    /// Seconds from the first reading of this tree on this GPU to the last.
    pub seconds_since_first_use: f64,
    /// Seconds for which the utilisation has stayed at or above [`BUSY_PERCENT_MIN`].
    pub busy_seconds: f64,
}

/// The features of every process tree on every GPU, bounded.
#[derive(Debug)]
pub struct FeatureTable {
    trees: HashMap<(ProcessKey, GpuUuid), Series>,
    trees_max: usize,
    evicted: u64,
    late: u64,
}

impl Default for FeatureTable {
    fn default() -> Self {
        Self::with_bound(TREES_MAX)
    }
}

impl FeatureTable {
    /// A table of at most `trees_max` entries (at least one).
    pub fn with_bound(trees_max: usize) -> Self {
        Self { trees: HashMap::new(), trees_max: trees_max.max(1), evicted: 0, late: 0 }
    }

    /// Takes in one reading of one process of the tree with the root `tree`. Readings older than
    /// the round before are counted as late and left out.
    pub fn observe(
        &mut self,
        tree: ProcessKey,
        gpu: &GpuUuid,
        time: BootNs,
        reading: &TreeReading,
    ) {
        let key = (tree, gpu.clone());
        if !self.trees.contains_key(&key) && self.trees.len() >= self.trees_max {
            self.evict();
        }
        let series = self.trees.entry(key).or_insert_with(|| Series::new(time));
        if !series.observe(time, reading) {
            self.late += 1;
        }
    }

    /// The numbers of a tree on a GPU, as of its last reading.
    pub fn features(&self, tree: ProcessKey, gpu: &GpuUuid) -> Option<FeatureView> {
        self.trees.get(&(tree, gpu.clone())).map(Series::view)
    }

    /// Utilisation in percent, oldest first, one value per ten seconds from the first to the last
    /// reading in the window. Ten seconds without reading repeat the value before them. Empty for
    /// a tree that is not known.
    pub fn curve(&self, tree: ProcessKey, gpu: &GpuUuid) -> Vec<f64> {
        self.trees.get(&(tree, gpu.clone())).map(Series::curve).unwrap_or_default()
    }

    /// Forgets trees that were not read for the length of the window.
    pub fn expire(&mut self, now: BootNs) {
        self.trees
            .retain(|_, series| now.since(series.last()) <= u64::from(WINDOW_SECONDS) * SECOND_NS);
    }

    /// Trees × GPUs that are kept.
    pub fn len(&self) -> usize {
        self.trees.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// Points that are kept over all trees, the seconds being filled not counted: what the table
    /// weighs.
    pub fn points(&self) -> usize {
        self.trees.values().map(Series::len).sum()
    }

    /// Entries that had to go because the table was full.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Readings that came too late.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Lets the entry go that was read the longest ago; ties by key, so that runs repeat.
    fn evict(&mut self) {
        let oldest = self.trees.iter().min_by_key(|(key, series)| (series.last(), *key));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.trees.remove(&key);
            self.evicted += 1;
        }
    }
}
