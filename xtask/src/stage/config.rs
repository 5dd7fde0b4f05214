//! The monitor's configuration for a play: the shipped rules, and profiles for the cgroups in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Time between two readings of the GPUs: a play lasts seconds.
const GPU_INTERVAL_MS: u32 = 250;

/// What a class of workload may do, by the cgroup that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) id: &'static str,
    /// training, inference, batch
    pub(crate) role: &'static str,
    pub(crate) is_isolated: bool,
    /// Directory of cgroups that it selects, as in `/gpuwarden/training/`.
    pub(crate) cgroups: &'static str,
    /// Networks it may send to.
    pub(crate) peers: Vec<String>,
    /// Names it may send to.
    pub(crate) names: &'static [&'static str],
}

/// A configuration to write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// Rule files beside the shipped ones.
    pub(crate) rules: Vec<PathBuf>,
    /// The directory whose files are weights.
    pub(crate) models: PathBuf,
    pub(crate) profiles: Vec<Profile>,
    /// A driver library to load instead of the host's.
    pub(crate) nvml: Option<PathBuf>,
    /// Milliseconds between two readings of the GPUs; four a second without.
    pub(crate) gpu_interval_ms: Option<u32>,
    /// Alerts a minute; the monitor's own limit without.
    pub(crate) alerts_per_minute: Option<u32>,
    /// Whether flows to loopback peers are told of.
    pub(crate) reports_loopback: bool,
    /// Sinks beside standard output, as in `export.sinks`.
    pub(crate) sinks: Vec<Value>,
}

impl Config {
    /// Writes configuration and profiles into `directory`; the path for `--config`.
    ///
    /// JSON is YAML, so that nothing has to be quoted by hand.
    pub(crate) fn write(&self, directory: &Path) -> Result<PathBuf> {
        // The first profile that matches is taken, in the order of file names.
        let profiles = directory.join("00-profiles.yaml");
        write(&profiles, &self.profiles())?;
        let mut rules = self.rules.clone();
        rules.push(profiles);
        let mut config = json!({
            "rules": { "shipped": true, "paths": rules },
            "export": { "spool_dir": directory.join("spool") },
        });
        if let Some(library) = &self.nvml {
            let interval_ms = self.gpu_interval_ms.unwrap_or(GPU_INTERVAL_MS);
            config["gpu"] = json!({ "library_paths": [library], "interval_ms": interval_ms });
        }
        if self.reports_loopback {
            config["kernel"] = json!({ "report_loopback": true });
        }
        if !self.sinks.is_empty() {
            config["export"]["sinks"] = json!(self.sinks);
        }
        if let Some(rate) = self.alerts_per_minute {
            config["alert"] = json!({ "rate_per_minute": rate });
        }
        let path = directory.join("gpuwarden.yaml");
        write(&path, &config)?;
        Ok(path)
    }

    fn profiles(&self) -> Value {
        let weights = format!("{}/**", self.models.display());
        let profile = |profile: &Profile| {
            let peers: Vec<Value> =
                profile.peers.iter().map(|cidr| json!({ "cidr": cidr })).collect();
            let names = profile.names;
            json!({
                "id": profile.id,
                "role": profile.role,
                "isolated": profile.is_isolated,
                "match": format!("workload.cgroup.startsWith(\"{}\")", profile.cgroups),
                "egress": { "peers": peers, "names": names },
                "weights": { "paths": [weights], "protect": true },
            })
        };
        let profiles: Vec<Value> = self.profiles.iter().map(profile).collect();
        json!({ "apiVersion": "gpuwarden.dev/v1", "profiles": profiles })
    }
}

fn write(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("encode a configuration")?;
    fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_files_are_yaml_and_name_each_other() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = Config {
            rules: vec![PathBuf::from("/own")],
            models: PathBuf::from("/models"),
            profiles: vec![Profile {
                id: "a",
                role: "training",
                is_isolated: true,
                cgroups: "/a/",
                peers: vec!["198.51.100.3/32".to_owned()],
                names: &[],
            }],
            ..Config::default()
        };
        let path = config.write(directory.path()).expect("write");
        let text = fs::read_to_string(path).expect("read");
        let read: Value = serde_saphyr::from_str(&text).expect("YAML");
        let profiles = directory.path().join("00-profiles.yaml");
        assert_eq!(read["rules"]["paths"][1], profiles.display().to_string());
        let text = fs::read_to_string(profiles).expect("read");
        let read: Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(read["profiles"][0]["match"], "workload.cgroup.startsWith(\"/a/\")");
        assert_eq!(read["profiles"][0]["weights"]["paths"][0], "/models/**");
    }
}
