//! The scenario file.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::code::Code;
use crate::signal::Signal;

/// What the library plays.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Scenario {
    /// For people; not used.
    pub(crate) about: String,
    pub(crate) driver_version: String,
    pub(crate) nvml_version: String,
    /// 1000 × major + 10 × minor.
    pub(crate) cuda_version: i32,
    pub(crate) clock: ScenarioClock,
    /// Calls that behave otherwise than they should; the first that fits counts.
    pub(crate) calls: Vec<CallRule>,
    pub(crate) devices: Vec<DeviceSpec>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            about: String::new(),
            driver_version: "580.82.07".into(),
            nvml_version: "13.580.82.07".into(),
            cuda_version: 13_000,
            clock: ScenarioClock::default(),
            calls: Vec::new(),
            devices: Vec::new(),
        }
    }
}

/// Where the time comes from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScenarioClock {
    /// A file that holds the seconds; else the time since the scenario was first read.
    pub(crate) file: Option<PathBuf>,
}

/// A call that behaves otherwise than it should.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CallRule {
    /// The call, or `*` for all but init and shutdown.
    pub(crate) call: String,
    /// Only for this GPU.
    pub(crate) device: Option<usize>,
    /// Only from this second on.
    pub(crate) from_s: f64,
    /// Only before this second.
    pub(crate) until_s: Option<f64>,
    /// Sleep first.
    pub(crate) delay_ms: u64,
    /// Do not return until the scenario no longer says so.
    pub(crate) hang: bool,
    /// Return this, e.g. `NOT_SUPPORTED`.
    pub(crate) returns: Option<String>,
}

/// One GPU.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DeviceSpec {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) pci_bus_id: String,
    pub(crate) memory_total_bytes: u64,
    /// Memory that belongs to no process.
    pub(crate) memory_base_bytes: Signal,
    pub(crate) util: Signal,
    pub(crate) mem_util: Signal,
    pub(crate) power_mw: Signal,
    pub(crate) power_limit_mw: u32,
    pub(crate) temperature: Signal,
    pub(crate) sm_clock_mhz: Signal,
    pub(crate) mem_clock_mhz: Signal,
    pub(crate) throttle_reasons: u64,
    /// Memory errors since the driver was loaded.
    pub(crate) ecc_corrected: Signal,
    pub(crate) ecc_uncorrected: Signal,
    pub(crate) remapped: RemapSpec,
    pub(crate) pcie_replays: Signal,
    /// Bytes over `PCIe` since the driver was loaded; the GPU does not count them where left out.
    pub(crate) pcie_tx_bytes: Option<Signal>,
    pub(crate) pcie_rx_bytes: Option<Signal>,
    /// `NVLink` links, and how many of them are up.
    pub(crate) nvlinks: u32,
    pub(crate) nvlinks_up: u32,
    /// Errors on all links together.
    pub(crate) nvlink_errors: LinkErrorSpec,
    /// Whether the driver keeps accounts of processes.
    pub(crate) accounting: bool,
    pub(crate) processes: Vec<ProcessSpec>,
    /// Present: the GPU has GPM counters.
    pub(crate) gpm: Option<GpmSpec>,
    /// Present: MIG is on.
    pub(crate) mig: Option<MigSpec>,
    pub(crate) xids: Vec<XidSpec>,
    /// The second from which on the GPU is lost.
    pub(crate) lost_from_s: Option<f64>,
}

impl Default for DeviceSpec {
    fn default() -> Self {
        Self {
            uuid: "GPU-00000000-0000-0000-0000-000000000000".into(),
            name: "NVIDIA Fake GPU".into(),
            pci_bus_id: "00000000:01:00.0".into(),
            memory_total_bytes: 80 << 30,
            memory_base_bytes: Signal::Constant(0.0),
            util: Signal::Constant(0.0),
            mem_util: Signal::Constant(0.0),
            power_mw: Signal::Constant(60_000.0),
            power_limit_mw: 700_000,
            temperature: Signal::Constant(35.0),
            sm_clock_mhz: Signal::Constant(1_980.0),
            mem_clock_mhz: Signal::Constant(2_619.0),
            throttle_reasons: 0,
            ecc_corrected: zero(),
            ecc_uncorrected: zero(),
            remapped: RemapSpec::default(),
            pcie_replays: zero(),
            pcie_tx_bytes: None,
            pcie_rx_bytes: None,
            nvlinks: 0,
            nvlinks_up: 0,
            nvlink_errors: LinkErrorSpec::default(),
            accounting: false,
            processes: Vec::new(),
            gpm: None,
            mig: None,
            xids: Vec::new(),
            lost_from_s: None,
        }
    }
}

/// Rows of memory that were replaced.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemapSpec {
    pub(crate) correctable: Signal,
    pub(crate) uncorrectable: Signal,
    pub(crate) pending: Signal,
    pub(crate) failed: Signal,
}

impl Default for RemapSpec {
    fn default() -> Self {
        Self { correctable: zero(), uncorrectable: zero(), pending: zero(), failed: zero() }
    }
}

/// Errors on all links together, since the driver was loaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LinkErrorSpec {
    pub(crate) crc_flit: Signal,
    pub(crate) crc_data: Signal,
    pub(crate) replay: Signal,
    pub(crate) recovery: Signal,
}

impl Default for LinkErrorSpec {
    fn default() -> Self {
        Self { crc_flit: zero(), crc_data: zero(), replay: zero(), recovery: zero() }
    }
}

/// How a process uses the GPU.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProcessKind {
    #[default]
    Compute,
    Graphics,
    Mps,
}

/// One process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessSpec {
    pub(crate) pid: PidSpec,
    #[serde(default)]
    pub(crate) kind: ProcessKind,
    /// Memory; the driver does not say where left out.
    #[serde(default)]
    pub(crate) mem_bytes: Option<Signal>,
    #[serde(default = "zero")]
    pub(crate) sm_util: Signal,
    #[serde(default = "zero")]
    pub(crate) mem_util: Signal,
    /// The second it appears.
    #[serde(default)]
    pub(crate) from_s: f64,
    /// The second it is gone.
    #[serde(default)]
    pub(crate) until_s: Option<f64>,
    /// Whether it is in the process list; false for one that only left utilisation behind.
    #[serde(default = "yes")]
    pub(crate) is_listed: bool,
}

/// A pid, or the file that holds it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum PidSpec {
    Number(u32),
    File { pid_file: PathBuf },
}

/// Activity counters in percent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GpmSpec {
    pub(crate) sm: Signal,
    pub(crate) tensor: Signal,
    pub(crate) integer: Signal,
    pub(crate) dram: Signal,
    pub(crate) fp64: Signal,
    pub(crate) fp32: Signal,
    pub(crate) fp16: Signal,
    pub(crate) nvlink_tx_mib: Signal,
    pub(crate) nvlink_rx_mib: Signal,
    pub(crate) pcie_tx_mib: Signal,
    pub(crate) pcie_rx_mib: Signal,
}

impl Default for GpmSpec {
    fn default() -> Self {
        Self {
            sm: zero(),
            tensor: zero(),
            integer: zero(),
            dram: zero(),
            fp64: zero(),
            fp32: zero(),
            fp16: zero(),
            nvlink_tx_mib: zero(),
            nvlink_rx_mib: zero(),
            pcie_tx_mib: zero(),
            pcie_rx_mib: zero(),
        }
    }
}

/// MIG is on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MigSpec {
    pub(crate) instances: Vec<InstanceSpec>,
}

/// One MIG instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstanceSpec {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) gpu_instance: u32,
    #[serde(default)]
    pub(crate) compute_instance: u32,
    pub(crate) memory_total_bytes: u64,
    #[serde(default)]
    pub(crate) processes: Vec<ProcessSpec>,
    #[serde(default)]
    pub(crate) gpm: Option<GpmSpec>,
}

/// A fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct XidSpec {
    pub(crate) at_s: f64,
    pub(crate) xid: u64,
}

fn zero() -> Signal {
    Signal::Constant(0.0)
}

const fn yes() -> bool {
    true
}

impl Scenario {
    /// Reads a scenario; the error says what is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read scenario {}: {error}", path.display()))?;
        let mut scenario: Self = serde_json::from_str(&text)
            .map_err(|error| format!("scenario {}: {error}", path.display()))?;
        for name in scenario.calls.iter().filter_map(|rule| rule.returns.as_deref()) {
            if Code::from_name(name).is_none() {
                return Err(format!("scenario {}: unknown return code {name}", path.display()));
            }
        }
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        scenario.anchor(directory);
        Ok(scenario)
    }

    /// Makes paths relative to the scenario's directory absolute.
    fn anchor(&mut self, directory: &Path) {
        if let Some(file) = &mut self.clock.file {
            *file = directory.join(&file);
        }
        for device in &mut self.devices {
            let instances = device.mig.iter_mut().flat_map(|mig| &mut mig.instances);
            let within = instances.flat_map(|instance| &mut instance.processes);
            for process in device.processes.iter_mut().chain(within) {
                if let PidSpec::File { pid_file } = &mut process.pid {
                    *pid_file = directory.join(&pid_file);
                }
            }
        }
    }
}

impl ProcessSpec {
    /// The pid, while the process is there; none while its file is missing or has no number.
    pub(crate) fn pid_at(&self, now_s: f64) -> Option<u32> {
        if now_s < self.from_s || self.until_s.is_some_and(|until_s| now_s >= until_s) {
            return None;
        }
        match &self.pid {
            PidSpec::Number(pid) => Some(*pid),
            PidSpec::File { pid_file } => {
                std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()
            }
        }
    }
}

impl CallRule {
    /// Whether the rule speaks of this call on this GPU at this moment.
    pub(crate) fn fits(&self, call: &str, device: Option<usize>, now_s: f64) -> bool {
        let is_bracket =
            matches!(call, "nvmlInit" | "nvmlInit_v2" | "nvmlInitWithFlags" | "nvmlShutdown");
        (self.call == call || (self.call == "*" && !is_bracket))
            && (self.device.is_none() || self.device == device)
            && now_s >= self.from_s
            && self.until_s.is_none_or(|until_s| now_s < until_s)
    }
}
