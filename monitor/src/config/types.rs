//! The checked configuration: plain data, every value within its bound.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::sink::SinkConfig;

/// Everything the daemon can be told. [`Config::default`] is what runs without a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Kernel side.
    pub kernel: KernelConfig,
    /// What is watched.
    pub watch: WatchConfig,
    /// Where rules come from.
    pub rules: RulesConfig,
    /// GPU sampling.
    pub gpu: GpuConfig,
    /// Names and allocations.
    pub cluster: ClusterConfig,
    /// Alerts.
    pub alert: AlertConfig,
    /// Where alerts go.
    pub export: ExportConfig,
    /// Metrics and health.
    pub telemetry: TelemetryConfig,
    /// The local store of events.
    pub store: StoreConfig,
    /// The daemon's own log.
    pub log: LogConfig,
}

/// Kernel side.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelConfig {
    /// Bytes of the high-priority ring; a power of two, at least a page.
    pub ring_high_bytes: u32,
    /// Bytes of the bulk ring; a power of two, at least a page.
    pub ring_bulk_bytes: u32,
    /// Bulk records a cgroup may cause per second and CPU; zero sets no limit.
    pub rate_per_cgroup_per_s: u64,
    /// Whether loopback flows leave the kernel.
    pub report_loopback: bool,
    /// Size from which a file without a known name is looked at, in bytes.
    pub big_file_bytes: u64,
    /// Where the cgroup v2 tree is mounted; `None` finds it.
    pub cgroup_root: Option<PathBuf>,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            ring_high_bytes: monitor_common::RING_HIGH_BYTES,
            ring_bulk_bytes: monitor_common::RING_BULK_BYTES,
            rate_per_cgroup_per_s: 500_000,
            report_loopback: false,
            big_file_bytes: 64 << 20,
            cgroup_root: None,
        }
    }
}

/// What is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchConfig {
    /// Globs of weight files: labelled at start and when opened.
    pub weights: Vec<String>,
    /// Globs of training data: counted as file bytes read.
    pub data: Vec<String>,
    /// Files labelled by the scan at start, at most.
    pub scan_files_max: u32,
    /// File-name extensions by class, lower case, without the dot.
    pub name_classes: NameClasses,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            weights: texts(&[
                "/models/**",
                "/mnt/models/**",
                "/opt/models/**",
                "/srv/models/**",
                "/var/lib/models/**",
                // Homes of users, and those of the administrator and of services.
                "/home/*/.cache/huggingface/hub/**",
                "/*/.cache/huggingface/hub/**",
            ]),
            data: texts(&["/data/**", "/datasets/**", "/mnt/data/**", "/mnt/datasets/**"]),
            scan_files_max: 16_384,
            name_classes: NameClasses::default(),
        }
    }
}

/// File-name extensions by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameClasses {
    /// Model weights.
    pub weights: Vec<String>,
    /// Archives and encrypted containers.
    pub archive: Vec<String>,
    /// Credentials.
    pub secret: Vec<String>,
}

impl Default for NameClasses {
    fn default() -> Self {
        Self {
            weights: texts(&[
                "safetensors",
                "gguf",
                "ggml",
                "pt",
                "pth",
                "bin",
                "ckpt",
                "onnx",
                "engine",
                "plan",
                "h5",
                "hdf5",
                "keras",
                "npz",
                "distcp",
                "tflite",
                "mar",
                "nemo",
                "llamafile",
                "pb",
            ]),
            archive: texts(&[
                "tar", "tgz", "gz", "xz", "zst", "bz2", "7z", "zip", "rar", "gpg", "age", "enc",
                "lz4",
            ]),
            secret: texts(&["pem", "key", "p12", "pfx", "kdbx", "keytab"]),
        }
    }
}

/// Where rules come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesConfig {
    /// Whether the rules built into the binary are loaded.
    pub shipped: bool,
    /// Files and directories of rules and profiles.
    pub paths: Vec<PathBuf>,
    /// Whether `paths` was written by a person: then each must exist.
    pub paths_given: bool,
    /// Ids of rules that are not run.
    pub disabled: Vec<String>,
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self {
            shipped: true,
            paths: vec![PathBuf::from("/etc/gpuwarden/rules.d")],
            paths_given: false,
            disabled: Vec::new(),
        }
    }
}

/// GPU sampling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuConfig {
    /// Whether GPUs are sampled.
    pub enabled: bool,
    /// Where NVML is looked for before the usual places.
    pub library_paths: Vec<PathBuf>,
    /// Time between two samples, in milliseconds.
    pub interval_ms: u64,
    /// How long one sample may take before the driver counts as hung, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for GpuConfig {
    fn default() -> Self {
        Self { enabled: true, library_paths: Vec::new(), interval_ms: 1_000, timeout_ms: 5_000 }
    }
}

/// Names of workloads and allocations of GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Whether pods are named by the Kubernetes API.
    pub kubernetes: bool,
    /// URL of the API; `None` takes the one that pods are told.
    pub api_server: Option<String>,
    /// Name of this node; `None` takes it from the environment.
    pub node_name: Option<String>,
    /// Where the kubelet tells which container has which GPU.
    pub pod_resources_socket: PathBuf,
    /// Whether jobs are named by `scontrol`, else by their environment.
    pub slurm: bool,
    /// Directory with one file per GPU index that lists its jobs.
    pub job_mapping_dir: Option<PathBuf>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            kubernetes: true,
            api_server: None,
            node_name: None,
            pod_resources_socket: PathBuf::from("/var/lib/kubelet/pod-resources/kubelet.sock"),
            slurm: true,
            job_mapping_dir: None,
        }
    }
}

/// Alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertConfig {
    /// Whether secrets in arguments are replaced before an alert leaves.
    pub redact: bool,
    /// More names of options and variables whose value is a secret, beside the built-in ones.
    pub redact_patterns: Vec<String>,
    /// Alerts per minute and rule; what is above is counted and announced.
    pub rate_per_minute: u32,
}

impl Default for AlertConfig {
    fn default() -> Self {
        Self { redact: true, redact_patterns: Vec::new(), rate_per_minute: 60 }
    }
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportConfig {
    /// Directory of the disk spool that every sink reads from.
    pub spool_dir: PathBuf,
    /// Bytes of the spool, at most.
    pub spool_bytes_max: u64,
    /// Age at which a spooled alert is dropped (and counted), in seconds.
    pub spool_age_max_s: u64,
    /// The sinks; names are unique.
    pub sinks: Vec<SinkConfig>,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            spool_dir: PathBuf::from("/var/lib/gpuwarden/spool"),
            spool_bytes_max: 256 << 20,
            spool_age_max_s: 7 * 24 * 3_600,
            sinks: vec![SinkConfig::stdout()],
        }
    }
}

/// Metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Whether `/metrics`, `/livez` and `/readyz` are served.
    pub enabled: bool,
    /// Address they are served at.
    pub listen: SocketAddr,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { enabled: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9753)) }
    }
}

/// The local store of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Whether events are kept.
    pub enabled: bool,
    /// Its directory.
    pub dir: PathBuf,
    /// Bytes on disk, at most.
    pub bytes_max: u64,
    /// Age at which events are dropped, in seconds.
    pub age_max_s: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            dir: PathBuf::from("/var/lib/gpuwarden/events"),
            bytes_max: 1 << 30,
            age_max_s: 7 * 24 * 3_600,
        }
    }
}

/// The daemon's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// The least level that is written.
    pub level: LogLevel,
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And what a person at the console wants to know.
    #[default]
    Info,
    /// And what a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// A word of the file and the value it stands for.
pub(super) type Words<T> = &'static [(&'static str, T)];

impl LogFormat {
    pub(super) const WORDS: Words<Self> = &[("text", Self::Text), ("json", Self::Json)];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, self)
    }
}

impl LogLevel {
    pub(super) const WORDS: Words<Self> = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The word in the file; `tracing` knows it too.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, self)
    }
}

/// The word for a value. Every value of these enums has one, which a test checks.
pub(super) fn word<T: Copy + PartialEq>(words: Words<T>, value: T) -> &'static str {
    words.iter().find(|(_, other)| *other == value).map_or("", |(word, _)| *word)
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}
