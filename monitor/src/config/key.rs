//! Every key of the file and what it means: the reader refuses what is not here, and the
//! annotated print takes its comments from here.

use super::section::Key;

const fn key(name: &'static str, meaning: &'static str) -> Key {
    Key { name, meaning }
}

/// A section and its keys.
pub(super) struct SectionKeys {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) keys: &'static [Key],
}

pub(super) const SECTIONS: &[SectionKeys] = &[
    SectionKeys { name: "kernel", meaning: "Kernel side.", keys: KERNEL },
    SectionKeys { name: "watch", meaning: "What is watched.", keys: WATCH },
    SectionKeys { name: "rules", meaning: "Where rules and profiles come from.", keys: RULES },
    SectionKeys { name: "gpu", meaning: "GPU sampling through NVML.", keys: GPU },
    SectionKeys {
        name: "cluster",
        meaning: "Names of workloads and allocations of GPUs, from Kubernetes and SLURM.",
        keys: CLUSTER,
    },
    SectionKeys { name: "alert", meaning: "Alerts.", keys: ALERT },
    SectionKeys { name: "export", meaning: "Where alerts go.", keys: EXPORT },
    SectionKeys { name: "telemetry", meaning: "Metrics and health over HTTP.", keys: TELEMETRY },
    SectionKeys {
        name: "store",
        meaning: "Events kept on this host, for `gpuwarden rules backtest`; off by default.",
        keys: STORE,
    },
    SectionKeys { name: "log", meaning: "The daemon's own log.", keys: LOG },
];

pub(super) const KERNEL: &[Key] = &[
    key("ring_high_bytes", "Ring for process life, flow starts and label hits; a power of two."),
    key("ring_bulk_bytes", "Ring for everything else; a power of two."),
    key("rate_per_cgroup_per_s", "Bulk records per cgroup, CPU and second; 0 sets no limit."),
    key("report_loopback", "Whether flows to 127.0.0.0/8 and ::1 leave the kernel."),
    key("big_file_bytes", "Size from which a file is looked at whatever its name."),
    key("cgroup_root", "Where cgroup v2 is mounted; `auto` finds it."),
];
pub(super) const WATCH: &[Key] = &[
    key("weights", "Globs of weight files. They are labelled by inode, at start and when opened."),
    key("data", "Globs of training data; counted as file bytes read."),
    key("scan_files_max", "Files labelled by the scan at start, at most."),
    key("name_classes", "File-name extensions by class, without the dot."),
];
pub(super) const NAME_CLASSES: &[Key] = &[
    key("weights", "Model weights."),
    key("archive", "Archives and encrypted containers."),
    key("secret", "Credentials."),
];
pub(super) const RULES: &[Key] = &[
    key("shipped", "Whether the rules built into the binary are loaded."),
    key("paths", "Files and directories; each must exist once written here."),
    key("disabled", "Ids of rules that are not run."),
];
pub(super) const GPU: &[Key] = &[
    key("enabled", "Whether GPUs are sampled."),
    key("library_paths", "Where libnvidia-ml.so.1 is looked for before the usual places."),
    key("interval_ms", "Time between two samples."),
    key("timeout_ms", "How long one sample may take before the driver counts as hung."),
];
pub(super) const CLUSTER: &[Key] = &[
    key("kubernetes", "Whether pods are named by the Kubernetes API, where the monitor is in one."),
    key("api_server", "URL of the API; `auto` takes the one that pods are told."),
    key("node_name", "Name of this node; `auto` takes it from the variable NODE_NAME."),
    key("pod_resources_socket", "Where the kubelet tells which container has which GPU."),
    key("slurm", "Whether jobs are named by scontrol, else by their environment."),
    key("job_mapping_dir", "Directory with one file per GPU index that lists its jobs; or `none`."),
];
pub(super) const ALERT: &[Key] = &[
    key("redact", "Whether secrets in arguments are replaced before an alert leaves."),
    key("redact_patterns", "More names of options and variables whose value is a secret."),
    key("rate_per_minute", "Alerts per minute and rule; the rest is counted and announced."),
];
pub(super) const EXPORT: &[Key] = &[
    key("spool_dir", "Directory of the disk spool; alerts wait there until a sink has taken them."),
    key("spool_bytes_max", "Bytes of the spool, at most."),
    key("spool_age_max_s", "Age at which a spooled alert is dropped and counted."),
    key("sinks", "The sinks: type stdout, file, syslog or webhook."),
];
pub(super) const TELEMETRY: &[Key] = &[
    key("enabled", "Whether /metrics, /livez and /readyz are served."),
    key("listen", "Address and port they are served at."),
];
pub(super) const STORE: &[Key] = &[
    key("enabled", "Whether events are kept: arguments and paths are among them."),
    key("dir", "Its directory; readable by its owner only."),
    key("bytes_max", "Bytes on disk, at most; the oldest go first."),
    key("age_max_s", "Age at which events are dropped."),
];
pub(super) const LOG: &[Key] =
    &[key("format", "text or json."), key("level", "error, warn, info, debug or trace.")];

pub(super) const SINK: &[Key] = &[
    key("type", "stdout, file, syslog or webhook."),
    key("name", "Unique; the type where not given."),
    key("min_severity", "Alerts below this are not sent: info, low, medium, high, critical."),
];
pub(super) const SINK_STDOUT: &[Key] = &[key("format", "human, json or ocsf.")];
pub(super) const SINK_FILE: &[Key] = &[
    key("path", "The file."),
    key("format", "json or ocsf."),
    key("rotate_bytes", "Length at which it is rotated."),
    key("keep", "Rotated files that are kept."),
];
pub(super) const SINK_SYSLOG: &[Key] = &[
    key("transport", "tcp, tls or udp."),
    key("address", "host:port of the receiver."),
    key("ca_file", "Trusted certificates (PEM), for tls; the public ones where not given."),
    key("server_name", "Name in the receiver's certificate, for tls."),
    key("facility", "Facility of the messages, e.g. local0."),
    key("hostname", "Host name in the messages; this host's own where not given."),
    key("timeout_ms", "How long one connection or message may take."),
];
pub(super) const SINK_WEBHOOK: &[Key] = &[
    key("url", "Where alerts are posted; http or https."),
    key("format", "json or ocsf."),
    key("headers", "Further headers by name."),
    key("hmac_secret_file", "File with the key that signs each body."),
    key("timeout_ms", "How long one post may take."),
    key("ca_file", "Trusted certificates (PEM), for https; the public ones where not given."),
];
