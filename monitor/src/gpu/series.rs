//! The seconds of one process tree on one GPU, and what they come to.

use std::collections::VecDeque;

use super::feature::{
    BUSY_GAP_NS_MAX, BUSY_PERCENT_MIN, CURVE_POINTS_MAX, FeatureView, SECOND_NS, SPREAD_POINTS_MIN,
    TreeReading, WINDOW_SECONDS,
};
use crate::model::{BootNs, GpuActivity};

/// Points that are kept: the window less the second that is being filled.
const POINTS_MAX: usize = WINDOW_SECONDS as usize - 1;
const _: () = assert!(WINDOW_SECONDS <= 3_600 && WINDOW_SECONDS > 1);
/// A share that was not told, among hundredths of a percent.
const UNTOLD: u16 = u16::MAX;

/// One second. `NaN` and [`UNTOLD`] where nothing was told.
#[derive(Clone, Copy, Debug)]
struct Point {
    second: u32,
    util_percent: f32,
    mem_used_mib: f32,
    power_watts: f32,
    pcie_bytes_per_second: f32,
    nvlink_bytes_per_second: f32,
    /// Hundredths of a percent: that is finer than any counter, and half the room.
    tensor: u16,
    integer: u16,
    float: u16,
    dram: u16,
}

const _: () = assert!(size_of::<Point>() == 32, "what `TREES_MAX` says of memory");

/// One round: the sum over the tree's processes, and the state of the GPU they share.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    util_percent: Option<f64>,
    mem_used_bytes: Option<u64>,
    power_watts: Option<f64>,
    activity: GpuActivity,
}

/// A mean that is being made.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn with(self, value: Option<f64>) -> Self {
        match value.filter(|value| value.is_finite()) {
            Some(value) => Self { sum: self.sum + value, count: self.count + 1 },
            None => self,
        }
    }

    fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a feature")]
    fn single(self) -> f32 {
        self.get().map_or(f32::NAN, |mean| mean as f32)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10 000")]
    fn hundredths(self) -> u16 {
        self.get().map_or(UNTOLD, |mean| (mean.clamp(0.0, 100.0) * 100.0).round() as u16)
    }
}

/// The second that is being filled: means over its complete rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Filling {
    util: Mean,
    mem: Mean,
    power: Mean,
    pcie: Mean,
    nvlink: Mean,
    tensor: Mean,
    integer: Mean,
    float: Mean,
    dram: Mean,
}

#[derive(Debug)]
pub(super) struct Series {
    first: BootNs,
    last: BootNs,
    points: VecDeque<Point>,
    filling: Filling,
    round: Sum,
    busy_since: Option<BootNs>,
    busy_seen: BootNs,
}

impl Series {
    pub(super) fn new(time: BootNs) -> Self {
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

    /// When it was read last.
    pub(super) const fn last(&self) -> BootNs {
        self.last
    }

    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    /// Takes a reading in; false where it is older than the last.
    pub(super) fn observe(&mut self, time: BootNs, reading: &TreeReading) -> bool {
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
        let TreeReading { util_percent, mem_used_bytes, power_watts, activity } = *reading;
        if let Some(util) = util_percent.filter(|util| util.is_finite()) {
            let sum = self.round.util_percent.unwrap_or(0.0) + util.max(0.0);
            self.round.util_percent = Some(sum.min(100.0));
        }
        if let Some(mem) = mem_used_bytes {
            let sum = self.round.mem_used_bytes.unwrap_or(0).saturating_add(mem);
            self.round.mem_used_bytes = Some(sum);
        }
        // These are of the GPU, whichever of the tree's processes the reading came with.
        self.round.power_watts = power_watts.or(self.round.power_watts);
        self.round.activity = activity;
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
        let Filling { util, mem, power, pcie, nvlink, tensor, integer, float, dram } = self.filling;
        let Sum { util_percent, mem_used_bytes, power_watts, activity } = self.round;
        Filling {
            util: util.with(util_percent),
            mem: mem.with(mem_used_bytes.map(mib)),
            power: power.with(power_watts),
            pcie: pcie.with(activity.pcie_bytes_per_second),
            nvlink: nvlink.with(activity.nvlink_bytes_per_second),
            tensor: tensor.with(activity.tensor_percent),
            integer: integer.with(activity.integer_percent),
            float: float.with(activity.float_percent),
            dram: dram.with(activity.dram_percent),
        }
    }

    /// The current second as a point.
    fn point(&self) -> Point {
        let Filling { util, mem, power, pcie, nvlink, tensor, integer, float, dram } =
            self.filled();
        Point {
            second: second_of(self.last),
            util_percent: util.single(),
            mem_used_mib: mem.single(),
            power_watts: power.single(),
            pcie_bytes_per_second: pcie.single(),
            nvlink_bytes_per_second: nvlink.single(),
            tensor: tensor.hundredths(),
            integer: integer.hundredths(),
            float: float.hundredths(),
            dram: dram.hundredths(),
        }
    }

    /// The points of the window that ends now, the current second included.
    fn window(&self) -> impl Iterator<Item = Point> + Clone + '_ {
        let end = second_of(self.last);
        let start = end.saturating_sub(WINDOW_SECONDS - 1);
        self.points
            .iter()
            .copied()
            .chain(std::iter::once(self.point()))
            .filter(move |point| point.second >= start)
    }

    pub(super) fn view(&self) -> FeatureView {
        let points = self.window();
        let util = points.clone().filter_map(|point| told(point.util_percent));
        let mem = points.clone().filter_map(|point| told(point.mem_used_mib));
        let power = points.clone().filter_map(|point| told(point.power_watts));
        let share = |of: fn(Point) -> u16| {
            let told = points.clone().map(of).filter(|share| *share != UNTOLD);
            mean(told.map(|share| f64::from(share) / 100.0))
        };
        let (busy_since, _) = self.busy();
        FeatureView {
            util_mean_10m: mean(util.clone()),
            util_cv_10m: spread(util),
            mem_cv_10m: spread(mem),
            util_trend_per_minute: slope(
                points
                    .clone()
                    .filter_map(|point| Some((f64::from(point.second), told(point.util_percent)?))),
            )
            .map(|per_second| per_second * 60.0),
            power_mean_10m: mean(power.clone()),
            power_cv_10m: spread(power),
            tensor_mean_10m: share(|point| point.tensor),
            int_mean_10m: share(|point| point.integer),
            float_mean_10m: share(|point| point.float),
            dram_mean_10m: share(|point| point.dram),
            pcie_mean_10m: mean(
                points.clone().filter_map(|point| told(point.pcie_bytes_per_second)),
            ),
            nvlink_mean_10m: mean(
                points.clone().filter_map(|point| told(point.nvlink_bytes_per_second)),
            ),
            seconds_since_first_use: seconds(self.last.since(self.first)),
            busy_seconds: busy_since.map_or(0.0, |since| seconds(self.last.since(since))),
        }
    }

    /// Ten-second means of the utilisation from the first point to the last.
    pub(super) fn curve(&self) -> Vec<f64> {
        let mut points = self
            .window()
            .filter_map(|point| Some((point.second, told(point.util_percent)?)))
            .peekable();
        let Some((start, _)) = points.peek().copied() else { return Vec::new() };
        let mut curve: Vec<f64> = Vec::with_capacity(CURVE_POINTS_MAX);
        let mut bin = Mean::default();
        for (second, util) in points {
            let at = bin_of(second - start);
            while curve.len() < at {
                curve.push(bin.get().or(curve.last().copied()).unwrap_or(0.0));
                bin = Mean::default();
            }
            bin = bin.with(Some(util));
        }
        curve.push(bin.get().unwrap_or(0.0));
        curve
    }
}

fn told(value: f32) -> Option<f64> {
    (!value.is_nan()).then(|| f64::from(value))
}

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

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.fold(Mean::default(), |mean, value| mean.with(Some(value))).get()
}

/// Coefficient of variation. Two passes: the difference of two large sums would not be zero for a
/// value that never changes.
fn spread(values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let middle = mean(values.clone())?;
    let squares = values.fold(Mean::default(), |squares, value| {
        squares.with(Some((value - middle) * (value - middle)))
    });
    let variance = squares.get()?;
    let is_told = squares.count as usize >= SPREAD_POINTS_MIN && middle > 0.0;
    is_told.then(|| variance.sqrt() / middle)
}

/// Slope of the least-squares line.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let x_mean = mean(points.clone().map(|(x, _)| x))?;
    let y_mean = mean(points.clone().map(|(_, y)| y))?;
    let (mut across, mut along, mut count) = (0.0, 0.0, 0);
    for (x, y) in points {
        across += (x - x_mean) * (y - y_mean);
        along += (x - x_mean) * (x - x_mean);
        count += 1;
    }
    (count >= SPREAD_POINTS_MIN && along > 0.0).then(|| across / along)
}

/// Which ten seconds of the window.
fn bin_of(second: u32) -> usize {
    const BIN_SECONDS: usize = WINDOW_SECONDS as usize / CURVE_POINTS_MAX;
    (second as usize / BIN_SECONDS).min(CURVE_POINTS_MAX - 1)
}
