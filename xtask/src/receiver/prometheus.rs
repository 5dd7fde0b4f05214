//! A real Prometheus on loopback, with the shipped rules, and promtool.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::json;

use crate::child;
use crate::demo::Scene;
use crate::stage::free_address;

/// Patience with its start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two scrapes, and between two rounds of rules: the daemon renews what it shows once
/// a second.
const INTERVAL: &str = "1s";

/// The programs that the deployment checks run with.
#[derive(Debug)]
pub(super) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Finds or fetches them.
    pub(super) fn find(scene: &Scene<'_>) -> Result<Self> {
        let mut script = child::command(scene.source("deploy/check/tools.sh"));
        let folder = child::capture(&mut script)?;
        Ok(Self { folder: PathBuf::from(folder.trim()) })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// What `promtool check metrics` has against a page; empty when nothing.
    pub(super) fn complaints(&self, page: &str) -> Result<Vec<String>> {
        let mut promtool = Command::new(self.program("promtool"))
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start promtool")?;
        let mut stdin = promtool.stdin.take().context("promtool's input is a pipe")?;
        stdin.write_all(page.as_bytes()).context("hand the page to promtool")?;
        drop(stdin);
        let output = promtool.wait_with_output().context("wait for promtool")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let complaints: Vec<String> = said
            .lines()
            // `UUID` and `modelName` are dcgm-exporter's own names, on purpose.
            .filter(|line| !line.trim().is_empty() && !line.contains("camelCase"))
            .map(str::to_owned)
            .collect();
        if complaints.is_empty() && !output.status.success() && !said.contains("camelCase") {
            bail!("promtool failed ({}) and said nothing", output.status);
        }
        Ok(complaints)
    }
}

/// A Prometheus that runs. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Prometheus {
    child: Child,
    address: SocketAddr,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    /// Time, and the number as text.
    value: (f64, String),
}

impl Prometheus {
    /// Starts one that scrapes `target`, and waits until it answers.
    pub(super) fn start(scene: &Scene<'_>, tools: &Tools, target: SocketAddr) -> Result<Self> {
        let folder = scene.folder("prometheus")?;
        let config = folder.join("prometheus.yaml");
        // As deploy/prometheus/prometheus.yaml has it, with short times.
        let text = json!({
            "global": { "scrape_interval": INTERVAL, "evaluation_interval": INTERVAL },
            "rule_files": [scene.source("deploy/prometheus/gpuwarden.rules.yaml")],
            "scrape_configs": [{
                "job_name": "gpuwarden",
                "honor_labels": true,
                "static_configs": [{ "targets": [target.to_string()] }],
            }],
        });
        fs::write(&config, text.to_string())
            .with_context(|| format!("write {}", config.display()))?;
        let address = free_address()?;
        let log = folder.join("log");
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = child::command(tools.program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("start Prometheus")?;
        let mut prometheus = Self { child, address };
        let is_up = scene.interrupt().wait(START_TIMEOUT, || {
            if let Some(status) = prometheus.child.try_wait().context("wait for Prometheus")? {
                bail!("Prometheus ended ({status}):\n{}", child::tail(&log, 20));
            }
            Ok(prometheus.query("up == 1").is_ok_and(|values| !values.is_empty()))
        })?;
        if !is_up {
            let said = child::tail(&log, 20);
            bail!("Prometheus did not scrape {target} within {START_TIMEOUT:?}:\n{said}");
        }
        Ok(prometheus)
    }

    /// Its address as a URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The values that an expression has now.
    pub(super) fn query(&self, expression: &str) -> Result<Vec<f64>> {
        let text = curl(&[
            "--get",
            "--data-urlencode",
            &format!("query={expression}"),
            &format!("{}/api/v1/query", self.url()),
        ])?;
        let answer: Answer = serde_json::from_str(&text)
            .with_context(|| format!("Prometheus answered `{expression}` with {text:.200}"))?;
        answer
            .data
            .result
            .iter()
            .map(|series| series.value.1.parse().context("a value that is no number"))
            .collect()
    }

    /// Waits until an expression has a value that `is_it`; says the values.
    pub(super) fn wait_for(
        &self,
        scene: &Scene<'_>,
        patience: Duration,
        expression: &str,
        is_it: impl Fn(f64) -> bool,
    ) -> Result<String> {
        let mut last = Vec::new();
        let came = scene.interrupt().wait(patience, || {
            last = self.query(expression)?;
            Ok(last.iter().copied().any(&is_it))
        })?;
        if !came {
            bail!("`{expression}` is {last:?} after {patience:?}");
        }
        Ok(format!("{last:?}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data is thrown away, so nothing has to be saved.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What curl gets, as a person would ask.
pub(super) fn curl(arguments: &[&str]) -> Result<String> {
    let mut curl = child::command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "10"]).args(arguments);
    child::capture(&mut curl)
}

/// Runs every query of the dashboard; how many there were.
pub(super) fn dashboard(
    scene: &Scene<'_>,
    url: &str,
    must_have: &[&str],
    wait: Duration,
) -> Result<String> {
    let script: &Path = &scene.source("deploy/check/dashboard.py");
    let mut python = child::command("python3");
    python.arg("-B").arg(script).arg(url).args(["--wait", &wait.as_secs().to_string()]);
    for title in must_have {
        python.args(["--must-have", title]);
    }
    let output = python.output().with_context(|| format!("start {}", script.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // Only what failed; the counts are this step's own.
        let failed: Vec<&str> = said
            .lines()
            .filter(|line| !line.starts_with("ok") && !line.contains(" passed"))
            .collect();
        bail!("{}\n{}", failed.join("\n"), String::from_utf8_lossy(&output.stderr));
    }
    let answered = said.lines().filter(|line| line.starts_with("ok")).count();
    Ok(format!("{answered} queries are answered, {} panels must have data", must_have.len()))
}
