//! How much a process tree on a GPU looks like mining, as a number and in words. Pure.
//!
//! What the GPU shows can give half of the score at most: a decoding server is as flat and as busy
//! as a miner, and a simulation uses as few tensor cores. The other half is what the host knows:
//! which files were read, and which flows are there.

use std::fmt::Write as _;

use super::feature::FeatureView;

/// Points that readings of the GPU give at most.
pub const GPU_POINTS_CAP: i64 = 50;
/// Points in all.
pub const POINTS_FULL: i64 = 100;
/// Seconds of use after which the readings of the GPU count in full: warm-up runs, tests and short
/// benchmarks are over by then.
pub const SETTLED_SECONDS: f64 = 1_200.0;
/// Mean utilisation in percent from which a GPU counts as kept busy; miners are measured at 92.
const BUSY_MEAN_MIN: f64 = 85.0;
/// Spread of the utilisation below which it counts as flat; published: miners below 0.034.
const FLAT_CV_BELOW: f64 = 0.05;
/// Spread of the memory below which it counts as constant.
const CONSTANT_CV_BELOW: f64 = 0.001;
/// Tensor activity in percent below which there is none.
const TENSOR_NONE_BELOW: f64 = 1.0;
/// Tensor activity in percent from which it is work: decoding with a small batch has some.
const TENSOR_WORK_MIN: f64 = 4.0;
/// Floating-point activity in percent from which it is work: hashing has none.
const FLOAT_WORK_MIN: f64 = 15.0;
/// Integer activity in percent from which it is what the GPU mainly does.
const INTEGER_MIN: f64 = 30.0;
/// DRAM bandwidth in percent from which the work is bound by memory.
const DRAM_MIN: f64 = 60.0;
/// Bytes per second over `PCIe` below which nothing is fed to the GPU.
const PCIE_QUIET_BELOW: f64 = 5.0 * MIB;
/// Bytes per second over `PCIe` from which data is fed to it.
const PCIE_FED_MIN: f64 = 50.0 * MIB;
/// Bytes per second over `NVLink` from which GPUs work together; a miner's do not.
const NVLINK_WORK_MIN: f64 = 50.0 * MIB;
/// Bytes of files from which a workload counts as having read data.
const DATA_BYTES_MIN: u64 = 1 << 30;
const MIB: f64 = 1_048_576.0;

/// Seconds for which a flow must have lived to count as long-lived.
pub const THIN_FLOW_SECONDS_MIN: f64 = 600.0;
/// Bytes per minute up to which a flow counts as thin; mining pools need less than 20 KB.
pub const THIN_FLOW_BYTES_PER_MINUTE: f64 = 20_000.0;

/// A flow that has lived long and carries little.
#[derive(Clone, Debug, PartialEq)]
pub struct ThinFlow {
    /// Name or address of the peer.
    pub peer: String,
    /// Bytes sent per minute.
    pub bytes_per_minute: f64,
}

/// What the score is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MiningInputs {
    /// Ten minutes on the GPU.
    pub view: FeatureView,
    /// Bytes of labelled weights that the workload read.
    pub weight_bytes: u64,
    /// Bytes of files that the workload opened for reading.
    pub file_bytes: u64,
    /// The one flow, where it is long-lived and thin and there is no other.
    pub thin_flow: Option<ThinFlow>,
    /// Whether a mining handshake or the name of a pool was seen.
    pub is_stratum_seen: bool,
    /// Whether a scheduler gave the GPU to somebody else or to nobody.
    pub is_unallocated: bool,
}

/// The score and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiningVerdict {
    /// 0 to [`POINTS_FULL`].
    pub score: i64,
    /// What speaks for it and what against it, in words.
    pub reasons: String,
}

/// Scores a process tree; `None` before anything can be said of its utilisation.
pub fn judge(inputs: &MiningInputs) -> Option<MiningVerdict> {
    let mean = inputs.view.util_mean_10m?;
    let mut case = Case::default();
    load(&mut case, &inputs.view, mean);
    pipes(&mut case, &inputs.view);
    let settled = (inputs.view.seconds_since_first_use / SETTLED_SECONDS).min(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "at most a hundred points"
    )]
    let gpu_points = (case.points.min(GPU_POINTS_CAP) as f64 * settled).round() as i64;
    case.points = gpu_points;
    host(&mut case, inputs);
    Some(MiningVerdict { score: case.points.clamp(0, POINTS_FULL), reasons: case.words() })
}

/// Points and words, for and against.
#[derive(Debug, Default)]
struct Case {
    points: i64,
    pros: Vec<String>,
    cons: Vec<String>,
}

impl Case {
    fn add(&mut self, points: i64, why: String) {
        self.points += points;
        if points > 0 { self.pros.push(why) } else { self.cons.push(why) }
    }

    fn words(&self) -> String {
        let mut words = self.pros.join(", ");
        if !self.cons.is_empty() {
            let lead = if words.is_empty() { "against it: " } else { "; against it: " };
            let _ = write!(words, "{lead}{}", self.cons.join(", "));
        }
        words
    }
}

/// Utilisation and memory over time.
fn load(case: &mut Case, view: &FeatureView, mean: f64) {
    let deviation = view.util_cv_10m.map(|cv| cv * mean);
    let spread = deviation.map_or(String::new(), |points| format!(" ± {points:.1} %"));
    let span = minutes(view.seconds_since_first_use);
    let is_flat = view.util_cv_10m.is_some_and(|cv| cv < FLAT_CV_BELOW);
    match (mean >= BUSY_MEAN_MIN, is_flat) {
        (true, true) => case.add(20, format!("{mean:.0} %{spread} for {span}")),
        (true, false) if view.util_cv_10m.is_none() => {}
        (_, false) => case.add(-10, format!("uneven use ({mean:.0} %{spread})")),
        (false, true) => case.add(-10, format!("not kept busy ({mean:.0} %{spread})")),
    }
    if view.mem_cv_10m.is_some_and(|cv| cv < CONSTANT_CV_BELOW) {
        case.add(5, "memory constant".to_owned());
    }
    match view.pcie_mean_10m {
        Some(rate) if rate < PCIE_QUIET_BELOW => {
            case.add(5, format!("PCIe {:.1} MiB/s", rate / MIB));
        }
        Some(rate) if rate >= PCIE_FED_MIN => {
            case.add(-10, format!("fed over PCIe ({:.0} MiB/s)", rate / MIB));
        }
        _ => {}
    }
    let nvlink = view.nvlink_mean_10m.filter(|rate| *rate >= NVLINK_WORK_MIN);
    if let Some(rate) = nvlink {
        case.add(-25, format!("works with other GPUs over NVLink ({:.0} MiB/s)", rate / MIB));
    }
    if view.power_cv_10m.is_some_and(|cv| cv < FLAT_CV_BELOW) && is_flat {
        case.add(5, "power flat".to_owned());
    }
}

/// What the pipes of the GPU do, where it counts that.
fn pipes(case: &mut Case, view: &FeatureView) {
    match view.tensor_mean_10m {
        Some(tensor) if tensor < TENSOR_NONE_BELOW => {
            case.add(15, format!("tensor {tensor:.0} %"));
        }
        Some(tensor) if tensor >= TENSOR_WORK_MIN => {
            case.add(-25, format!("tensor cores at work ({tensor:.0} %)"));
        }
        _ => {}
    }
    let float = view.float_mean_10m.filter(|percent| *percent >= FLOAT_WORK_MIN);
    if let Some(float) = float {
        case.add(-25, format!("floating-point work ({float:.0} %)"));
        return;
    }
    let integer = view.int_mean_10m.filter(|percent| *percent >= INTEGER_MIN);
    let dram = view.dram_mean_10m.filter(|percent| *percent >= DRAM_MIN);
    match (integer, dram) {
        (Some(integer), _) => case.add(5, format!("integer {integer:.0} %")),
        (None, Some(dram)) => case.add(5, format!("DRAM {dram:.0} %")),
        (None, None) => {}
    }
}

/// What the host knows of the workload.
fn host(case: &mut Case, inputs: &MiningInputs) {
    if inputs.weight_bytes > 0 {
        let bytes = size(inputs.weight_bytes);
        case.add(-30, format!("{bytes} of model files read"));
    } else if inputs.file_bytes >= DATA_BYTES_MIN {
        case.add(-20, format!("{} of data read", size(inputs.file_bytes)));
    } else {
        case.add(20, "no model or data file read".to_owned());
    }
    if inputs.is_stratum_seen {
        case.add(30, "a mining handshake or pool name was seen".to_owned());
    }
    if let Some(ThinFlow { peer, bytes_per_minute }) = &inputs.thin_flow {
        let kilobytes = bytes_per_minute / 1e3;
        case.add(15, format!("one {kilobytes:.0} KB/min flow to {peer}"));
    }
    if inputs.is_unallocated {
        case.add(10, "no scheduler gave it this GPU".to_owned());
    }
}

fn minutes(seconds: f64) -> String {
    if seconds < 60.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn size(bytes: u64) -> String {
    let gib = bytes as f64 / (1_u64 << 30) as f64;
    if gib >= 1.0 { format!("{gib:.0} GiB") } else { format!("{:.0} MiB", gib * 1024.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashing() -> FeatureView {
        FeatureView {
            util_mean_10m: Some(97.0),
            util_cv_10m: Some(0.0041),
            mem_cv_10m: Some(0.0),
            power_cv_10m: Some(0.01),
            tensor_mean_10m: Some(0.0),
            int_mean_10m: Some(61.0),
            float_mean_10m: Some(1.0),
            dram_mean_10m: Some(20.0),
            pcie_mean_10m: Some(0.2 * MIB),
            seconds_since_first_use: 1_320.0,
            ..FeatureView::default()
        }
    }

    #[test]
    fn a_miner_explains_itself() {
        let thin_flow = Some(ThinFlow { peer: "203.0.113.5".into(), bytes_per_minute: 14_000.0 });
        let inputs = MiningInputs { view: hashing(), thin_flow, ..MiningInputs::default() };
        let verdict = judge(&inputs).unwrap();
        assert_eq!(
            verdict.reasons,
            "97 % ± 0.4 % for 22 min, memory constant, PCIe 0.2 MiB/s, power flat, tensor 0 %, \
             integer 61 %, no model or data file read, one 14 KB/min flow to 203.0.113.5"
        );
        assert_eq!(verdict.score, 85);
    }

    #[test]
    fn work_speaks_against_it() {
        let view = FeatureView {
            tensor_mean_10m: Some(45.0),
            pcie_mean_10m: Some(200.0 * MIB),
            ..hashing()
        };
        let inputs = MiningInputs { view, weight_bytes: 140 << 30, ..MiningInputs::default() };
        let verdict = judge(&inputs).unwrap();
        assert_eq!(verdict.score, 0);
        assert!(verdict.reasons.contains("against it: fed over PCIe (200 MiB/s)"));
        assert!(verdict.reasons.ends_with("140 GiB of model files read"), "{}", verdict.reasons);
    }

    #[test]
    fn the_first_minutes_count_less() {
        let score = |seconds| {
            let view = FeatureView { seconds_since_first_use: seconds, ..hashing() };
            judge(&MiningInputs { view, ..MiningInputs::default() }).unwrap().score
        };
        assert_eq!((score(120.0), score(600.0), score(1_200.0)), (25, 45, 70));
    }

    fn share() -> impl Strategy<Value = Option<f64>> {
        prop::option::of(0.0..100.0)
    }

    proptest! {
        /// Whatever the GPU shows, with a host that says nothing for or against it, the score
        /// stays at what the GPU may give and what an unread file adds.
        #[test]
        fn the_gpu_alone_gives_half_at_most(
            mean in 0.0..100.0_f64, cv in prop::option::of(0.0..1.0_f64),
            (tensor, int, float, dram) in (share(), share(), share(), share()),
            pcie in prop::option::of(0.0..1e9_f64), seconds in 0.0..1e6_f64,
        ) {
            let view = FeatureView {
                util_mean_10m: Some(mean), util_cv_10m: cv, mem_cv_10m: cv, power_cv_10m: cv,
                tensor_mean_10m: tensor, int_mean_10m: int, float_mean_10m: float,
                dram_mean_10m: dram, pcie_mean_10m: pcie, seconds_since_first_use: seconds,
                ..FeatureView::default()
            };
            let silent = MiningInputs { view, file_bytes: 1, ..MiningInputs::default() };
            let verdict = judge(&silent).unwrap();
            prop_assert!((0..=GPU_POINTS_CAP + 20).contains(&verdict.score), "{verdict:?}");
        }
    }
}
