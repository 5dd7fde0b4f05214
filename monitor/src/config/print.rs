//! The configuration as an annotated file.

use std::fmt::Write as _;
use std::path::Path;

use super::key::{self, SECTIONS};
use super::sink::{SinkConfig, SinkKind};
use super::types::Config;

impl Config {
    /// The configuration as YAML, each key under a comment that says what it means. Reading the
    /// text back gives the same configuration.
    pub fn to_annotated_yaml(&self) -> String {
        let mut out = String::from(
            "# gpuwarden configuration. Every key may be left out; the values here are in force.\n",
        );
        for section in SECTIONS {
            let _ = write!(out, "\n# {}\n{}:\n", section.meaning, section.name);
            for key in section.keys {
                let _ = writeln!(out, "  # {}", key.meaning);
                // A key whose default depends on its absence is shown, but commented out.
                let mark = if self.is_implicit(section.name, key.name) { "# " } else { "" };
                let _ = writeln!(out, "  {mark}{}:{}", key.name, self.show(section.name, key.name));
            }
        }
        out
    }

    fn is_implicit(&self, section: &str, key: &str) -> bool {
        section == "rules" && key == "paths" && !self.rules.paths_given
    }

    /// The value of one key, with the space or line break before it.
    fn show(&self, section: &str, key: &str) -> String {
        // The file of events is asked for on the command line, and no key of the file.
        let Self { kernel, watch, rules, gpu, cluster, alert, export, telemetry, store, log } =
            self;
        match (section, key) {
            ("kernel", "ring_high_bytes") => bytes(kernel.ring_high_bytes.into()),
            ("kernel", "ring_bulk_bytes") => bytes(kernel.ring_bulk_bytes.into()),
            ("kernel", "rate_per_cgroup_per_s") => plain(kernel.rate_per_cgroup_per_s),
            ("kernel", "report_loopback") => plain(kernel.report_loopback),
            ("kernel", "big_file_bytes") => bytes(kernel.big_file_bytes),
            ("kernel", "cgroup_root") => match &kernel.cgroup_root {
                Some(path) => text(&path.to_string_lossy()),
                None => plain("auto"),
            },
            ("watch", "weights") => list(&watch.weights),
            ("watch", "data") => list(&watch.data),
            ("watch", "scan_files_max") => plain(watch.scan_files_max),
            ("watch", "name_classes") => self.show_name_classes(),
            ("rules", "shipped") => plain(rules.shipped),
            ("rules", "paths") => {
                list(&rules.paths.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>())
            }
            ("rules", "disabled") => list(&rules.disabled),
            ("gpu", "enabled") => plain(gpu.enabled),
            ("gpu", "library_paths") => {
                list(&gpu.library_paths.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>())
            }
            ("gpu", "interval_ms") => plain(gpu.interval_ms),
            ("gpu", "timeout_ms") => plain(gpu.timeout_ms),
            ("cluster", "kubernetes") => plain(cluster.kubernetes),
            ("cluster", "api_server") => or_word(cluster.api_server.as_deref(), "auto"),
            ("cluster", "node_name") => or_word(cluster.node_name.as_deref(), "auto"),
            ("cluster", "pod_resources_socket") => {
                text(&cluster.pod_resources_socket.to_string_lossy())
            }
            ("cluster", "slurm") => plain(cluster.slurm),
            ("cluster", "job_mapping_dir") => {
                or_word(cluster.job_mapping_dir.as_deref().and_then(Path::to_str), "none")
            }
            ("alert", "redact") => plain(alert.redact),
            ("alert", "redact_patterns") => list(&alert.redact_patterns),
            ("alert", "rate_per_minute") => plain(alert.rate_per_minute),
            ("export", "spool_dir") => text(&export.spool_dir.to_string_lossy()),
            ("export", "spool_bytes_max") => bytes(export.spool_bytes_max),
            ("export", "spool_age_max_s") => plain(export.spool_age_max_s),
            ("export", "sinks") => sinks(&export.sinks),
            ("telemetry", "enabled") => plain(telemetry.enabled),
            ("telemetry", "listen") => text(&telemetry.listen.to_string()),
            ("store", "enabled") => plain(store.enabled),
            ("store", "dir") => text(&store.dir.to_string_lossy()),
            ("store", "bytes_max") => bytes(store.bytes_max),
            ("store", "age_max_s") => plain(store.age_max_s),
            ("log", "format") => plain(log.format.as_str()),
            ("log", "level") => plain(log.level.as_str()),
            // A key of the table without a value here; a test reads the print back and finds it.
            _ => String::new(),
        }
    }

    fn show_name_classes(&self) -> String {
        let classes = &self.watch.name_classes;
        let mut out = String::new();
        for (key, extensions) in
            key::NAME_CLASSES.iter().zip([&classes.weights, &classes.archive, &classes.secret])
        {
            let _ = write!(
                out,
                "\n    # {}\n    {}: [{}]",
                key.meaning,
                key.name,
                extensions.join(", ")
            );
        }
        out
    }
}

fn sinks(sinks: &[SinkConfig]) -> String {
    let mut out = String::new();
    if sinks.is_empty() {
        return " []".into();
    }
    for sink in sinks {
        let _ = write!(out, "\n    - type: {}", sink.kind.as_str());
        let mut put = |key: &str, value: String| {
            let _ = write!(out, "\n      {key}:{value}");
        };
        put("name", text(&sink.name));
        put("min_severity", plain(sink.min_severity));
        match &sink.kind {
            SinkKind::Stdout { format } => put("format", plain(format.as_str())),
            SinkKind::File(file) => {
                put("path", text(&file.path.to_string_lossy()));
                put("format", plain(file.format.as_str()));
                put("rotate_bytes", bytes(file.rotate_bytes));
                put("keep", plain(file.keep));
            }
            SinkKind::Syslog(syslog) => {
                put("transport", plain(syslog.transport.as_str()));
                put("address", text(&syslog.address()));
                if let Some(path) = &syslog.ca_file {
                    put("ca_file", text(&path.to_string_lossy()));
                }
                if let Some(name) = &syslog.server_name {
                    put("server_name", text(name));
                }
                put("facility", plain(syslog.facility.as_str()));
                put("timeout_ms", plain(syslog.timeout_ms));
                if let Some(name) = &syslog.hostname {
                    put("hostname", text(name));
                }
            }
            SinkKind::Webhook(webhook) => {
                put("url", text(&webhook.url));
                put("format", plain(webhook.format.as_str()));
                put("timeout_ms", plain(webhook.timeout_ms));
                if let Some(path) = &webhook.hmac_secret_file {
                    put("hmac_secret_file", text(&path.to_string_lossy()));
                }
                if let Some(path) = &webhook.ca_file {
                    put("ca_file", text(&path.to_string_lossy()));
                }
                for (at, (name, value)) in webhook.headers.iter().enumerate() {
                    let lead = if at == 0 { "\n      headers:" } else { "" };
                    let _ = write!(out, "{lead}\n        {}:{}", quote(name), text(value));
                }
            }
        }
    }
    out
}

fn plain(value: impl std::fmt::Display) -> String {
    format!(" {value}")
}

fn text(value: &str) -> String {
    format!(" {}", quote(value))
}

/// A double-quoted scalar; JSON's escapes are YAML's.
fn quote(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

fn bytes(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!(" {}{unit}", bytes >> shift);
        }
    }
    format!(" {bytes}")
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quote(item.as_ref())).collect();
    format!(" [{}]", items.join(", "))
}

/// The value, or the word that stands for having none.
fn or_word(value: Option<&str>, word: &str) -> String {
    value.map_or_else(|| plain(word), text)
}
