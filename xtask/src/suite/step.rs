//! The steps of `cargo xtask test`, and the table they end in.

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

use super::count::{self, Count};
use crate::child::{self, Outcome};
use crate::setup::{self, Toolchain};
use crate::tree::Tree;

/// First letters of the test targets that need root.
const KERNEL_PREFIX: &str = "kernel_";

/// A step, in the order in which they are run: what is cheap and often wrong comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StepName {
    /// The layout of the code (cargo fmt)
    Fmt,
    /// The house rules
    Tidy,
    /// The lints, with warnings refused
    Clippy,
    /// Every test that needs neither root nor a kernel program
    Unit,
    /// The optimised daemon with its kernel programs
    Build,
    /// The tests inside the rule files
    Rules,
    /// The test targets named kernel_*: they load programs into this kernel
    Kernel,
    /// The sensors on other kernels, each booted in an emulator
    Vm,
    /// The scripted incidents and their harmless twins
    Demo,
    /// Every known way of dodging the monitor
    Evasion,
    /// The same on the full tier, in an emulated machine
    FullTier,
    /// Everything harmless that looks like an attack
    Benign,
    /// Metrics, rules and dashboard of a monitored host, in a real Prometheus
    Observe,
    /// Alerts to a real rsyslog over TLS and to a webhook, through an outage and a kill
    Deliver,
    /// Chart, unit, Prometheus rules, dashboard, image, pages, with the daemon itself
    Deploy,
}

impl StepName {
    /// All of them.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Fmt,
        Self::Tidy,
        Self::Clippy,
        Self::Unit,
        Self::Build,
        Self::Rules,
        Self::Kernel,
        Self::Vm,
        Self::Demo,
        Self::Evasion,
        Self::FullTier,
        Self::Benign,
        Self::Observe,
        Self::Deliver,
        Self::Deploy,
    ];

    /// Whether it loads programs into the kernel.
    pub(crate) const fn needs_root(self) -> bool {
        self.plays() || matches!(self, Self::Kernel | Self::Vm | Self::Deploy)
    }

    /// Whether it runs against other programs.
    pub(crate) const fn needs_packages(self) -> bool {
        self.plays() || matches!(self, Self::Unit | Self::Kernel)
    }

    /// Whether it is another command of this tool, which plays something before a real monitor.
    const fn plays(self) -> bool {
        matches!(
            self,
            Self::Demo
                | Self::Evasion
                | Self::FullTier
                | Self::Benign
                | Self::Observe
                | Self::Deliver
        )
    }

    /// Whether it builds the kernel programs.
    pub(crate) const fn needs_toolchain(self) -> bool {
        !matches!(self, Self::Fmt | Self::Tidy)
    }

    /// What it runs. [`StepName::Tidy`] runs in this process.
    pub(crate) fn command(self, tree: &Tree, toolchain: Option<&Toolchain>) -> Command {
        let mut cargo = setup::cargo(tree, toolchain);
        // monitor-ebpf compiles for the kernel only.
        let members = ["--workspace", "--exclude", "monitor-ebpf"];
        match self {
            Self::Fmt => cargo.args(["fmt", "--all", "--check"]),
            Self::Clippy => cargo.arg("clippy").args(members).args([
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ]),
            Self::Unit => {
                cargo.arg("test").args(members).args(["--no-fail-fast", "--lib", "--bins"]);
                let targets = test_targets(&tree.path("monitor/tests"));
                for target in targets.iter().filter(|name| !name.starts_with(KERNEL_PREFIX)) {
                    cargo.args(["--test", target]);
                }
                &mut cargo
            }
            Self::Build => cargo.args(["build", "--release", "-p", "monitor", "-p", "fake-nvml"]),
            // One at a time: they watch each other's work otherwise.
            Self::Kernel => cargo
                .args(["test", "--package", "monitor", "--no-fail-fast", "--test"])
                .args([&format!("{KERNEL_PREFIX}*"), "--", "--test-threads=1"]),
            Self::Rules => cargo
                .args(["run", "--quiet", "--release", "--package", "monitor", "--bin", "gpuwarden"])
                .args(["--", "rules", "test", "rules/"]),
            Self::Deploy => {
                let mut checks = child::command(tree.path("deploy/check/run.sh"));
                checks.current_dir(tree.root()).arg("--gpuwarden").arg(tree.daemon());
                return checks;
            }
            Self::FullTier => {
                let mut own = child::command(std::env::current_exe().unwrap_or_default());
                own.current_dir(tree.root()).args(["evasion", "--vm"]);
                return own;
            }
            Self::Demo
            | Self::Evasion
            | Self::Benign
            | Self::Observe
            | Self::Deliver
            | Self::Vm
            | Self::Tidy => {
                let mut own = child::command(std::env::current_exe().unwrap_or_default());
                own.current_dir(tree.root()).arg(self.to_string());
                return own;
            }
        };
        cargo
    }
}

/// The test targets in a folder, as cargo finds them: a file, or a folder with a main.rs.
fn test_targets(folder: &Path) -> Vec<String> {
    let name = |path: &Path| {
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        let is_target = is_file || path.join("main.rs").is_file();
        is_target.then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))?
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut targets: Vec<String> = entries.filter_map(|entry| name(&entry.path())).collect();
    targets.sort();
    targets
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Clippy => "clippy",
            Self::Unit => "unit",
            Self::Build => "build",
            Self::Rules => "rules",
            Self::Kernel => "kernel",
            Self::Vm => "vm",
            Self::Demo => "demo",
            Self::Evasion => "evasion",
            Self::FullTier => "full-tier",
            Self::Benign => "benign",
            Self::Observe => "observe",
            Self::Deliver => "deliver",
            Self::Deploy => "deploy",
        })
    }
}

/// How a step ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepResult {
    pub(crate) name: StepName,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    pub(crate) is_left_out: bool,
    /// What a person needs when it failed or was left out.
    pub(crate) detail: String,
}

impl StepResult {
    /// A step that could not even start.
    pub(crate) fn failed(name: StepName, why: &str) -> Self {
        let detail = why.to_owned();
        Self { name, passed: 0, failed: 1, seconds: 0.0, is_left_out: false, detail }
    }

    /// A step that this person cannot run.
    pub(crate) fn left_out(name: StepName, why: &str) -> Self {
        let detail = why.to_owned();
        Self { name, passed: 0, failed: 0, seconds: 0.0, is_left_out: true, detail }
    }

    /// Reads the counts off a log. A step that counts nothing is one test; a step that failed has
    /// at least one failed test, whatever it counted.
    pub(crate) fn from_log(name: StepName, outcome: Outcome, log: &Path) -> Result<Self> {
        let bytes = std::fs::read(log).with_context(|| format!("read {}", log.display()))?;
        let Count { passed, failed } = count::in_output(&String::from_utf8_lossy(&bytes));
        let is_ok = outcome.status.success() && failed == 0;
        let detail = if is_ok {
            String::new()
        } else {
            let end = child::tail(log, child::TAIL_LINES_MAX);
            format!("{} ({}):\n{end}", log.display(), outcome.status)
        };
        Ok(Self {
            name,
            passed: if is_ok { passed.max(1) } else { passed },
            failed: if is_ok { 0 } else { failed.max(1) },
            seconds: outcome.took.as_secs_f64(),
            is_left_out: false,
            detail,
        })
    }

    /// One word for the table.
    pub(crate) const fn word(&self) -> &'static str {
        match (self.is_left_out, self.failed) {
            (true, _) => "left out",
            (false, 0) => "passed",
            (false, _) => "FAILED",
        }
    }
}

/// Prints the table and the closing line.
pub(crate) fn report(results: &[StepResult], json: bool) -> ExitCode {
    let passed: u64 = results.iter().map(|result| result.passed).sum();
    let failed: u64 = results.iter().map(|result| result.failed).sum();
    if json {
        let answer = serde_json::json!({ "steps": results, "passed": passed, "failed": failed });
        println!("{answer}");
    } else {
        println!("\n{:<9} {:>9} {:>8} {:>8}  result", "step", "time", "passed", "failed");
        for result in results {
            let why = if result.is_left_out { result.detail.as_str() } else { "" };
            println!(
                "{:<9} {:>7.1} s {:>8} {:>8}  {} {why}",
                result.name.to_string(),
                result.seconds,
                result.passed,
                result.failed,
                result.word()
            );
        }
        println!("\n{passed} passed, {failed} failed");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::*;

    fn step(output: &str, status: i32) -> StepResult {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = directory.path().join("log");
        std::fs::write(&log, output).expect("write");
        let status = ExitStatus::from_raw(status << 8);
        let outcome = Outcome { status, took: Duration::ZERO };
        StepResult::from_log(StepName::Unit, outcome, &log).expect("the log is there")
    }

    #[test]
    fn targets_are_files_and_folders_with_a_main() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for file in ["b.rs", "kernel_a.rs", "notes.md", "c/main.rs", "support/mod.rs"] {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("create");
            std::fs::write(path, "").expect("write");
        }
        assert_eq!(test_targets(directory.path()), ["b", "c", "kernel_a"]);
        assert!(test_targets(&directory.path().join("nowhere")).is_empty());
    }

    #[test]
    fn step_that_fails_before_its_tests_has_one_failed() {
        let result = step("error: could not compile\n", 101);
        assert_eq!((result.passed, result.failed), (0, 1));
        assert!(result.detail.contains("could not compile"));
    }

    #[test]
    fn failed_test_fails_the_step_whatever_its_exit_status() {
        let result = step("3 passed, 1 failed\n", 0);
        assert_eq!((result.passed, result.failed), (3, 1));
        assert_eq!(result.word(), "FAILED");
    }

    #[test]
    fn step_without_counts_is_one_test() {
        let result = step("", 0);
        assert_eq!((result.passed, result.failed), (1, 0));
    }

    #[test]
    fn table_order_is_the_declared_order() {
        let shown: Vec<String> = StepName::ALL.iter().map(ToString::to_string).collect();
        let declared: Vec<String> = StepName::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value)
            .map(|value| value.get_name().to_owned())
            .collect();
        assert_eq!(shown, declared);
    }
}
