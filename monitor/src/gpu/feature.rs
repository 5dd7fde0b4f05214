//! Ten minutes of a process tree on a GPU, as numbers. Pure: the time comes with each reading.
//!
//! Readings with the same time are of one round and are added: a tree with two processes on a GPU
//! uses the sum of both. Rounds within one second are averaged, so that a burst of fast readings
//! weighs no more than a steady one. What is kept is one point a second.

use std::collections::{HashMap, VecDeque};

use crate::model::{BootNs, GpuUuid, ProcessKey};

const SECOND_NS: u64 = 1_000_000_000;
/// Seconds that are looked back on.
pub const WINDOW_SECONDS: u32 = 600;
/// Points of the curve shown to people: one per ten seconds.
pub const CURVE_POINTS_MAX: usize = 60;
/// Process trees × GPUs that are kept; at 600 points of 12 bytes each, 7 MiB.
pub const TREES_MAX: usize = 1_024;
/// Points from which spread and trend are told: a minute. Of less, any load looks flat.
pub const SPREAD_POINTS_MIN: usize = 60;
/// Utilisation in percent at and above which a GPU counts as busy.
pub const BUSY_PERCENT_MIN: f64 = 85.0;
/// Longest silence within one busy stretch, in nanoseconds: a driver that hangs for a moment must
/// not make a miner look new, and an hour unseen must not count as busy.
pub const BUSY_GAP_NS_MAX: u64 = 60_000_000_000;

/// The numbers of one process tree on one GPU.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Seconds from the first reading of this tree on this GPU to the last.
    pub seconds_since_first_use: f64,
    /// Seconds for which the utilisation has stayed at or above [`BUSY_PERCENT_MIN`].
    pub busy_seconds: f64,
    /// Utilisation in percent, oldest first, one value per ten seconds from the first to the last
    /// reading in the window. Ten seconds without reading repeat the value before them.
    pub curve: Vec<f64>,
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

    /// Takes in one reading of one process of the tree with the root `tree`: utilisation in
    /// percent and memory in bytes, `None` where not known. Readings older than the round before
    /// are counted as late and left out.
    pub fn observe(
        &mut self,
        tree: ProcessKey,
        gpu: &GpuUuid,
        time: BootNs,
        util_percent: Option<f64>,
        mem_used_bytes: Option<u64>,
    ) {
        let key = (tree, gpu.clone());
        if !self.trees.contains_key(&key) && self.trees.len() >= self.trees_max {
            self.evict();
        }
        let series = self.trees.entry(key).or_insert_with(|| Series::new(time));
        if !series.observe(time, util_percent, mem_used_bytes) {
            self.late += 1;
        }
    }

    /// The numbers of a tree on a GPU, as of its last reading.
    pub fn features(&self, tree: ProcessKey, gpu: &GpuUuid) -> Option<FeatureView> {
        self.trees.get(&(tree, gpu.clone())).map(Series::view)
    }

    /// Forgets trees that were not read for the length of the window.
    pub fn expire(&mut self, now: BootNs) {
        self.trees
            .retain(|_, series| now.since(series.last) <= u64::from(WINDOW_SECONDS) * SECOND_NS);
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
        self.trees.values().map(|series| series.points.len()).sum()
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
        let oldest = self.trees.iter().min_by_key(|(key, series)| (series.last, *key));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.trees.remove(&key);
            self.evicted += 1;
        }
    }
}

/// One second. `NaN` where nothing was told.
#[derive(Clone, Copy, Debug)]
struct Point {
    second: u32,
    util_percent: f32,
    mem_used_mib: f32,
}

/// One round: the sum over the tree's processes.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    util_percent: Option<f64>,
    mem_used_bytes: Option<u64>,
}

/// The second that is being filled: sums over its complete rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Filling {
    util: (f64, u32),
    mem: (f64, u32),
}

#[derive(Debug)]
struct Series {
    first: BootNs,
    last: BootNs,
    points: VecDeque<Point>,
    filling: Filling,
    round: Sum,
    busy_since: Option<BootNs>,
    busy_seen: BootNs,
}

impl Series {
    fn new(time: BootNs) -> Self {
        Self {
            first: time,
            last: time,
            points: VecDeque::new(),
            filling: Filling::default(),
            round: Sum::default(),
            busy_since: None,
            busy_seen: time,
        }
    }

    /// Takes a reading in; false where it is older than the last.
    fn observe(&mut self, time: BootNs, util: Option<f64>, mem: Option<u64>) -> bool {
        if time < self.last {
            return false;
        }
        if time > self.last {
            self.close_round();
            if second_of(time) != second_of(self.last) {
                self.close_second();
            }
            self.last = time;
        }
        if let Some(util) = util.filter(|util| util.is_finite()) {
            let sum = self.round.util_percent.unwrap_or(0.0) + util.max(0.0);
            self.round.util_percent = Some(sum.min(100.0));
        }
        if let Some(mem) = mem {
            let sum = self.round.mem_used_bytes.unwrap_or(0).saturating_add(mem);
            self.round.mem_used_bytes = Some(sum);
        }
        true
    }

    fn close_round(&mut self) {
        (self.busy_since, self.busy_seen) = self.busy();
        self.filling = self.filled();
        self.round = Sum::default();
    }

    fn close_second(&mut self) {
        let point = self.point();
        self.filling = Filling::default();
        if !point.util_percent.is_nan() || !point.mem_used_mib.is_nan() {
            self.points.push_back(point);
        }
        while self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
    }

    /// The busy stretch with the current round taken in: its start, and when it was last seen.
    fn busy(&self) -> (Option<BootNs>, BootNs) {
        let Some(util) = self.round.util_percent else {
            let is_broken = self.last.since(self.busy_seen) > BUSY_GAP_NS_MAX;
            return (self.busy_since.filter(|_| !is_broken), self.busy_seen);
        };
        if util < BUSY_PERCENT_MIN {
            return (None, self.last);
        }
        let is_broken = self.last.since(self.busy_seen) > BUSY_GAP_NS_MAX;
        let since = self.busy_since.filter(|_| !is_broken).unwrap_or(self.last);
        (Some(since), self.last)
    }

    /// The current second with the current round taken in.
    fn filled(&self) -> Filling {
        let mut filling = self.filling;
        if let Some(util) = self.round.util_percent {
            filling.util = (filling.util.0 + util, filling.util.1 + 1);
        }
        if let Some(mem) = self.round.mem_used_bytes {
            filling.mem = (filling.mem.0 + mib(mem), filling.mem.1 + 1);
        }
        filling
    }

    /// The current second as a point.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a feature")]
    fn point(&self) -> Point {
        let mean = |(sum, count): (f64, u32)| {
            if count == 0 { f32::NAN } else { (sum / f64::from(count)) as f32 }
        };
        let filling = self.filled();
        Point {
            second: second_of(self.last),
            util_percent: mean(filling.util),
            mem_used_mib: mean(filling.mem),
        }
    }

    /// The points of the window that ends now, the current second included.
    fn window(&self) -> impl Iterator<Item = Point> + '_ {
        let end = second_of(self.last);
        let start = end.saturating_sub(WINDOW_SECONDS - 1);
        self.points
            .iter()
            .copied()
            .chain(std::iter::once(self.point()))
            .filter(move |point| point.second >= start)
    }

    fn view(&self) -> FeatureView {
        let util: Vec<(f64, f64)> = self
            .window()
            .filter(|point| !point.util_percent.is_nan())
            .map(|point| (f64::from(point.second), f64::from(point.util_percent)))
            .collect();
        let mem: Vec<f64> = self
            .window()
            .map(|point| f64::from(point.mem_used_mib))
            .filter(|mem| !mem.is_nan())
            .collect();
        let (busy_since, _) = self.busy();
        FeatureView {
            util_mean_10m: mean(util.iter().map(|(_, util)| *util)),
            util_cv_10m: spread(&util.iter().map(|(_, util)| *util).collect::<Vec<_>>()),
            mem_cv_10m: spread(&mem),
            util_trend_per_minute: slope(&util).map(|per_second| per_second * 60.0),
            seconds_since_first_use: seconds(self.last.since(self.first)),
            busy_seconds: busy_since.map_or(0.0, |since| seconds(self.last.since(since))),
            curve: curve(&util),
        }
    }
}

/// Points that are kept: the window less the second that is being filled.
const POINTS_MAX: usize = WINDOW_SECONDS as usize - 1;
const _: () = assert!(WINDOW_SECONDS <= 3_600 && WINDOW_SECONDS > 1);

/// Whole seconds since boot; 136 years fit.
fn second_of(time: BootNs) -> u32 {
    u32::try_from(time.0 / SECOND_NS).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 ns, which is 104 days")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 bytes, which is 8 PiB")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[expect(clippy::cast_precision_loss, reason = "at most 600 points")]
fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

/// Coefficient of variation.
fn spread(values: &[f64]) -> Option<f64> {
    if values.len() < SPREAD_POINTS_MIN {
        return None;
    }
    let middle = mean(values.iter().copied())?;
    let variance = mean(values.iter().map(|value| (value - middle).powi(2)))?;
    (middle > 0.0).then(|| variance.sqrt() / middle)
}

/// Slope of the least-squares line.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < SPREAD_POINTS_MIN {
        return None;
    }
    let x_mean = mean(points.iter().map(|(x, _)| *x))?;
    let y_mean = mean(points.iter().map(|(_, y)| *y))?;
    let across: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let along: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    (along > 0.0).then(|| across / along)
}

/// Ten-second means from the first point to the last.
fn curve(points: &[(f64, f64)]) -> Vec<f64> {
    let Some((start, _)) = points.first() else { return Vec::new() };
    let mut curve: Vec<f64> = Vec::new();
    let mut bin: (usize, f64, f64) = (0, 0.0, 0.0);
    for (second, util) in points {
        let at = bin_of(second - start);
        while bin.0 < at {
            curve.push(if bin.2 > 0.0 {
                bin.1 / bin.2
            } else {
                curve.last().copied().unwrap_or(0.0)
            });
            bin = (bin.0 + 1, 0.0, 0.0);
        }
        bin = (at, bin.1 + util, bin.2 + 1.0);
    }
    curve.push(bin.1 / bin.2);
    curve
}

/// Which ten seconds of the window.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole seconds from 0 to 599"
)]
fn bin_of(second: f64) -> usize {
    const BIN_SECONDS: usize = WINDOW_SECONDS as usize / CURVE_POINTS_MAX;
    (second as usize / BIN_SECONDS).min(CURVE_POINTS_MAX - 1)
}
