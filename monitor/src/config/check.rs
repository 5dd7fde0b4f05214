//! From the raw tree to checked types. Pure: it looks at no file, and notes every mistake.

use std::collections::HashSet;

use globset::Glob;
use monitor_common::{EXTENSION_BYTES, LABELS_MAX, NAME_CLASSES_MAX};

use super::key;
use super::node::{Node, Raw};
use super::section::{Issues, Key, Section};
use super::sink_check;
use super::types::{
    AlertConfig, ClusterConfig, Config, ExportConfig, GpuConfig, KernelConfig, LogConfig,
    LogFormat, LogLevel, NameClasses, RulesConfig, StoreConfig, TelemetryConfig, WatchConfig,
};

/// Bytes of one ring, at least: a page on every architecture the kernel side is built for.
const RING_BYTES_MIN: u64 = 64 << 10;
/// Bytes of one ring, at most: two of them stay below the promised 64 MiB of kernel maps.
const RING_BYTES_MAX: u64 = 16 << 20;
/// Sinks, at most: each is a thread and a cursor.
pub(super) const SINKS_MAX: usize = 16;

const MINUTE_MS: u64 = 60_000;

/// Checks a document; `issues` holds every mistake afterwards.
pub(super) fn check(node: &Node, issues: &mut Issues) -> Config {
    let names: Vec<Key> = key::SECTIONS
        .iter()
        .map(|section| Key { name: section.name, meaning: section.meaning })
        .collect();
    let root = Section::open("the file", Some(node), &[&names], issues);
    Config {
        kernel: kernel(
            &Section::open("kernel", root.get("kernel"), &[key::KERNEL], issues),
            issues,
        ),
        watch: watch(&Section::open("watch", root.get("watch"), &[key::WATCH], issues), issues),
        rules: rules(&Section::open("rules", root.get("rules"), &[key::RULES], issues), issues),
        gpu: gpu(&Section::open("gpu", root.get("gpu"), &[key::GPU], issues), issues),
        cluster: cluster(
            &Section::open("cluster", root.get("cluster"), &[key::CLUSTER], issues),
            issues,
        ),
        alert: alert(&Section::open("alert", root.get("alert"), &[key::ALERT], issues), issues),
        export: export(
            &Section::open("export", root.get("export"), &[key::EXPORT], issues),
            issues,
        ),
        telemetry: telemetry(
            &Section::open("telemetry", root.get("telemetry"), &[key::TELEMETRY], issues),
            issues,
        ),
        store: store(&Section::open("store", root.get("store"), &[key::STORE], issues), issues),
        log: log(&Section::open("log", root.get("log"), &[key::LOG], issues), issues),
    }
}

fn kernel(section: &Section<'_>, issues: &mut Issues) -> KernelConfig {
    let default = KernelConfig::default();
    let cgroup_root = match section.get("cgroup_root").map(|node| &node.raw) {
        Some(Raw::Text(text)) if text == "auto" => None,
        _ => section.path("cgroup_root", issues),
    };
    KernelConfig {
        ring_high_bytes: ring(section, "ring_high_bytes", default.ring_high_bytes, issues),
        ring_bulk_bytes: ring(section, "ring_bulk_bytes", default.ring_bulk_bytes, issues),
        rate_per_cgroup_per_s: section.count(
            "rate_per_cgroup_per_s",
            default.rate_per_cgroup_per_s,
            (0, 10_000_000),
            issues,
        ),
        report_loopback: section.truth("report_loopback", default.report_loopback, issues),
        big_file_bytes: section.bytes(
            "big_file_bytes",
            default.big_file_bytes,
            (1 << 20, 1 << 40),
            issues,
        ),
        cgroup_root,
    }
}

fn ring(section: &Section<'_>, key: &str, default: u32, issues: &mut Issues) -> u32 {
    let bounds = (RING_BYTES_MIN, RING_BYTES_MAX);
    let bytes = section.bytes(key, u64::from(default), bounds, issues);
    if !bytes.is_power_of_two()
        && let Some(node) = section.get(key)
    {
        let expected = format!(
            "expected a power of two; the nearest above is {}",
            bytes.next_power_of_two().min(RING_BYTES_MAX)
        );
        section.refuse(key, node, &expected, issues);
    }
    u32::try_from(bytes).unwrap_or(default)
}

fn watch(section: &Section<'_>, issues: &mut Issues) -> WatchConfig {
    let default = WatchConfig::default();
    let classes = Section::open(
        "watch.name_classes",
        section.get("name_classes"),
        &[key::NAME_CLASSES],
        issues,
    );
    WatchConfig {
        weights: globs(section, "weights", issues).unwrap_or(default.weights),
        data: globs(section, "data", issues).unwrap_or(default.data),
        scan_files_max: u32::try_from(section.count(
            "scan_files_max",
            u64::from(default.scan_files_max),
            (0, u64::from(LABELS_MAX)),
            issues,
        ))
        .unwrap_or(default.scan_files_max),
        name_classes: name_classes(&classes, section, issues),
    }
}

/// Globs that compile and begin at the root.
fn globs(section: &Section<'_>, key: &str, issues: &mut Issues) -> Option<Vec<String>> {
    let list = section.list(key, issues)?;
    for (node, text) in &list {
        if let Err(error) = Glob::new(text) {
            section.refuse(key, node, &format!("not a glob: {}", error.kind()), issues);
        } else if !text.starts_with('/') {
            section.refuse(key, node, "expected a glob that starts with `/`", issues);
        }
    }
    Some(list.into_iter().map(|(_, text)| text.to_owned()).collect())
}

fn name_classes(classes: &Section<'_>, watch: &Section<'_>, issues: &mut Issues) -> NameClasses {
    let default = NameClasses::default();
    let checked = NameClasses {
        weights: extensions(classes, "weights", issues).unwrap_or(default.weights),
        archive: extensions(classes, "archive", issues).unwrap_or(default.archive),
        secret: extensions(classes, "secret", issues).unwrap_or(default.secret),
    };
    let all = checked.weights.len() + checked.archive.len() + checked.secret.len();
    if let Some(node) = watch.get("name_classes")
        && all > NAME_CLASSES_MAX as usize
    {
        let expected = format!("expected at most {NAME_CLASSES_MAX} extensions, found {all}");
        watch.refuse("name_classes", node, &expected, issues);
    }
    checked
}

fn extensions(section: &Section<'_>, key: &str, issues: &mut Issues) -> Option<Vec<String>> {
    let list = section.list(key, issues)?;
    for (node, text) in &list {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain || text.len() > EXTENSION_BYTES {
            let expected = format!(
                "expected letters and digits without a dot, at most {EXTENSION_BYTES} bytes"
            );
            section.refuse(key, node, &expected, issues);
        }
    }
    Some(list.into_iter().map(|(_, text)| text.to_ascii_lowercase()).collect())
}

fn rules(section: &Section<'_>, issues: &mut Issues) -> RulesConfig {
    let default = RulesConfig::default();
    let paths = section.paths("paths", issues);
    RulesConfig {
        shipped: section.truth("shipped", default.shipped, issues),
        paths_given: paths.is_some(),
        paths: paths.unwrap_or(default.paths),
        disabled: section.texts("disabled", issues).unwrap_or_default(),
    }
}

fn gpu(section: &Section<'_>, issues: &mut Issues) -> GpuConfig {
    let default = GpuConfig::default();
    GpuConfig {
        enabled: section.truth("enabled", default.enabled, issues),
        library_paths: section.paths("library_paths", issues).unwrap_or_default(),
        interval_ms: section.count("interval_ms", default.interval_ms, (100, MINUTE_MS), issues),
        timeout_ms: section.count("timeout_ms", default.timeout_ms, (100, MINUTE_MS), issues),
    }
}

fn cluster(section: &Section<'_>, issues: &mut Issues) -> ClusterConfig {
    let default = ClusterConfig::default();
    let named = |key, absent: &str, issues: &mut Issues| {
        section.get(key).and_then(|_| section.text(key, issues)).filter(|text| *text != absent)
    };
    let job_mapping_dir = named("job_mapping_dir", "none", issues).map(|_| ());
    ClusterConfig {
        kubernetes: section.truth("kubernetes", default.kubernetes, issues),
        api_server: named("api_server", "auto", issues).map(str::to_owned),
        node_name: named("node_name", "auto", issues).map(str::to_owned),
        pod_resources_socket: section
            .path("pod_resources_socket", issues)
            .unwrap_or(default.pod_resources_socket),
        slurm: section.truth("slurm", default.slurm, issues),
        job_mapping_dir: job_mapping_dir.and_then(|()| section.path("job_mapping_dir", issues)),
    }
}

fn alert(section: &Section<'_>, issues: &mut Issues) -> AlertConfig {
    let default = AlertConfig::default();
    let rate = u64::from(default.rate_per_minute);
    AlertConfig {
        redact: section.truth("redact", default.redact, issues),
        redact_patterns: section.texts("redact_patterns", issues).unwrap_or_default(),
        rate_per_minute: u32::try_from(section.count(
            "rate_per_minute",
            rate,
            (1, 100_000),
            issues,
        ))
        .unwrap_or(default.rate_per_minute),
    }
}

fn export(section: &Section<'_>, issues: &mut Issues) -> ExportConfig {
    let default = ExportConfig::default();
    let sinks = section.get("sinks").map(|node| sinks(section, node, issues));
    ExportConfig {
        spool_dir: section.path("spool_dir", issues).unwrap_or(default.spool_dir),
        spool_bytes_max: section.bytes(
            "spool_bytes_max",
            default.spool_bytes_max,
            (1 << 20, 1 << 40),
            issues,
        ),
        spool_age_max_s: section.count(
            "spool_age_max_s",
            default.spool_age_max_s,
            (60, 366 * 24 * 3_600),
            issues,
        ),
        sinks: sinks.unwrap_or(default.sinks),
    }
}

fn sinks(section: &Section<'_>, node: &Node, issues: &mut Issues) -> Vec<super::sink::SinkConfig> {
    let Raw::List(items) = &node.raw else {
        section.refuse("sinks", node, "expected a list of sinks", issues);
        return Vec::new();
    };
    if items.len() > SINKS_MAX {
        section.refuse("sinks", node, &format!("expected at most {SINKS_MAX} sinks"), issues);
        return Vec::new();
    }
    let mut names = HashSet::new();
    let mut sinks = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let Some(sink) = sink_check::check(at, item, issues) else { continue };
        if !names.insert(sink.name.clone()) {
            let expected = format!("the name `{}` is taken; give each sink its own", sink.name);
            section.refuse("sinks", item, &expected, issues);
        }
        sinks.push(sink);
    }
    sinks
}

fn telemetry(section: &Section<'_>, issues: &mut Issues) -> TelemetryConfig {
    let default = TelemetryConfig::default();
    let mut listen = default.listen;
    if let Some(text) = section.text("listen", issues) {
        match (text.parse(), section.get("listen")) {
            (Ok(address), _) => listen = address,
            (Err(_), Some(node)) => {
                section.refuse("listen", node, "expected ip:port, e.g. 127.0.0.1:9753", issues);
            }
            (Err(_), None) => {}
        }
    }
    TelemetryConfig { enabled: section.truth("enabled", default.enabled, issues), listen }
}

fn store(section: &Section<'_>, issues: &mut Issues) -> StoreConfig {
    let default = StoreConfig::default();
    StoreConfig {
        enabled: section.truth("enabled", default.enabled, issues),
        dir: section.path("dir", issues).unwrap_or(default.dir),
        bytes_max: section.bytes("bytes_max", default.bytes_max, (1 << 20, 1 << 40), issues),
        age_max_s: section.count("age_max_s", default.age_max_s, (60, 366 * 24 * 3_600), issues),
    }
}

fn log(section: &Section<'_>, issues: &mut Issues) -> LogConfig {
    LogConfig {
        format: section.word("format", LogFormat::WORDS, issues).unwrap_or_default(),
        level: section.word("level", LogLevel::WORDS, issues).unwrap_or_default(),
    }
}
