//! Configuration → what each stage is told. Everything here is checked already; this only
//! translates.

use std::path::PathBuf;
use std::time::Duration;

use crate::alert::{AlertConfig, Host};
use crate::cluster::{ApiServer, ClusterConfig as ClusterSources};
use crate::config::{self, KernelConfig, RulesConfig, SinkKind};
use crate::export::config::{
    ExportConfig, Format, RetryConfig, SinkConfig, SinkTarget, SyslogConfig, SyslogTransport,
    WebhookConfig,
};
use crate::export::spool::SpoolConfig;
use crate::recording::StoreConfig;
use crate::rule::{Diagnostics, RuleSet, shipped};
use crate::sensor::{Settings, State, Status};

/// High-priority records a second and CPU of one cgroup: twice what a fork bomb manages.
const RATE_HIGH_PER_S: u64 = 50_000;
/// No limit.
const RATE_NONE: u64 = u64::MAX;

/// What `run` was asked to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputChoice {
    /// Lines for people.
    Human,
    /// Native JSON lines.
    Json,
    /// OCSF JSON lines.
    Ocsf,
}

/// What the kernel side is told.
pub fn kernel(kernel: &KernelConfig) -> Settings {
    let bulk = kernel.rate_per_cgroup_per_s;
    Settings {
        ring_high_bytes: kernel.ring_high_bytes,
        ring_bulk_bytes: kernel.ring_bulk_bytes,
        rate_high_per_s: RATE_HIGH_PER_S,
        rate_bulk_per_s: if bulk == 0 { RATE_NONE } else { bulk },
        report_loopback: kernel.report_loopback,
        big_file_bytes: kernel.big_file_bytes,
        ..Settings::default()
    }
}

/// Shipped rules, where wanted, and those of the files; without the disabled ones.
pub fn rules(config: &RulesConfig) -> Result<RuleSet, Diagnostics> {
    let sources = if config.shipped { shipped() } else { Vec::new() };
    let paths: Vec<PathBuf> =
        config.paths.iter().filter(|path| config.paths_given || path.exists()).cloned().collect();
    let mut set = RuleSet::read_with(sources, &paths)?;
    for id in &config.disabled {
        if !set.rules.iter().any(|rule| rule.meta.id.as_str() == id) {
            tracing::warn!(rule = id, "`rules.disabled` names a rule that does not exist");
        }
    }
    set.rules.retain(|rule| !config.disabled.iter().any(|id| rule.meta.id.as_str() == id));
    Ok(set)
}

/// What the alerter is told.
pub fn alert(config: &config::AlertConfig) -> AlertConfig {
    AlertConfig {
        per_minute_max: config.rate_per_minute,
        redact: config.redact,
        ..AlertConfig::default()
    }
}

/// What the store of events is told.
pub fn store(config: &config::StoreConfig) -> StoreConfig {
    StoreConfig {
        dir: config.dir.clone(),
        bytes_max: config.bytes_max,
        age_max: Duration::from_secs(config.age_max_s),
    }
}

/// What the exporter is told.
pub fn export(config: &config::ExportConfig, host: &Host) -> ExportConfig {
    let mut spool = SpoolConfig::in_dir(config.spool_dir.clone());
    spool.bytes_max = config.spool_bytes_max;
    spool.age_max = Duration::from_secs(config.spool_age_max_s);
    ExportConfig {
        sinks: config.sinks.iter().map(sink).collect(),
        spool,
        retry: RetryConfig::default(),
        host: host.clone(),
    }
}

fn sink(sink: &config::SinkConfig) -> SinkConfig {
    let target = match &sink.kind {
        SinkKind::Stdout { format } => SinkTarget::Stdout {
            format: match format {
                config::OutputFormat::Human => Format::Human,
                config::OutputFormat::Json => Format::Json,
                config::OutputFormat::Ocsf => Format::Ocsf,
            },
        },
        SinkKind::File(file) => SinkTarget::File {
            path: file.path.clone(),
            format: format(file.format),
            rotate_bytes: file.rotate_bytes,
            keep: file.keep,
        },
        SinkKind::Syslog(syslog) => SinkTarget::Syslog(syslog_target(syslog)),
        SinkKind::Webhook(webhook) => SinkTarget::Webhook(WebhookConfig {
            url: webhook.url.clone(),
            format: format(webhook.format),
            headers: webhook.headers.iter().cloned().collect(),
            hmac_secret_file: webhook.hmac_secret_file.clone(),
            timeout: Duration::from_millis(webhook.timeout_ms),
            ca_file: webhook.ca_file.clone(),
        }),
    };
    SinkConfig { name: sink.name.clone(), min_severity: sink.min_severity, target }
}

const fn format(format: config::AlertFormat) -> Format {
    match format {
        config::AlertFormat::Json => Format::Json,
        config::AlertFormat::Ocsf => Format::Ocsf,
    }
}

fn syslog_target(syslog: &config::SyslogSinkConfig) -> SyslogConfig {
    SyslogConfig {
        transport: match syslog.transport {
            config::SyslogTransport::Tcp => SyslogTransport::Tcp,
            config::SyslogTransport::Tls => SyslogTransport::Tls,
            config::SyslogTransport::Udp => SyslogTransport::Udp,
        },
        address: syslog.address(),
        ca_file: syslog.ca_file.clone(),
        server_name: syslog.server_name.clone(),
        facility: syslog.facility.0,
        hostname: syslog.hostname.clone(),
        timeout: Duration::from_millis(syslog.timeout_ms),
    }
}

/// What orchestrators are asked.
pub fn cluster(config: &crate::config::ClusterConfig) -> ClusterSources {
    let env = |name: &str| std::env::var(name).ok();
    let api = match (&config.api_server, config.kubernetes) {
        (_, false) => None,
        (None, true) => ApiServer::in_cluster(env, config.node_name.clone()),
        (Some(url), true) => {
            let node = config.node_name.clone().or_else(|| env("NODE_NAME"));
            node.map(|node| ApiServer::at(url, node))
        }
    };
    ClusterSources {
        api,
        pod_resources_socket: config.kubernetes.then(|| config.pod_resources_socket.clone()),
        slurm: config.slurm,
        job_mapping_dir: config.job_mapping_dir.clone(),
    }
}

/// Whether every road by which bytes of labelled files are read is counted; where one is not, the
/// whole of an opened file counts.
pub fn reads_are_exact(status: &[Status]) -> bool {
    let is_on = |name: &str| {
        let mut rows = status.iter().filter(|row| row.sensor.name == name);
        rows.any(|row| !matches!(row.state, State::Off(_)))
    };
    is_on("file_read") && is_on("io_uring")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disabled_rule_is_left_out_and_the_rest_stays() {
        let all = rules(&RulesConfig { paths: Vec::new(), ..RulesConfig::default() })
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let disabled = vec!["stratum-handshake".to_owned()];
        let some = rules(&RulesConfig { paths: Vec::new(), disabled, ..RulesConfig::default() })
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(some.rules.len() + 1, all.rules.len());
    }

    #[test]
    fn reads_are_exact_only_where_every_road_is_counted() {
        let off = crate::sensor::all_off("none");
        assert!(!reads_are_exact(&off));
        let with = |names: &[&str]| -> Vec<Status> {
            let on = |row: &Status| {
                let mut row = row.clone();
                if names.contains(&row.sensor.name) {
                    row.state = State::Attached;
                }
                row
            };
            off.iter().map(on).collect()
        };
        assert!(reads_are_exact(&with(&["file_read", "io_uring"])));
        assert!(!reads_are_exact(&with(&["file_read"])), "reads by io_uring are not counted");
        assert!(!reads_are_exact(&with(&["io_uring"])), "the base tier");
    }

    #[test]
    fn missing_folder_is_an_error_only_when_a_person_named_it() {
        let paths = vec![PathBuf::from("/nonexistent/rules.d")];
        let config = RulesConfig { paths: paths.clone(), ..RulesConfig::default() };
        assert!(rules(&config).is_ok());
        assert!(rules(&RulesConfig { paths_given: true, ..config }).is_err());
    }
}
