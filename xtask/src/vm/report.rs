//! What the machines said, and the table of it.

use std::process::ExitCode;

use serde::Serialize;

/// What became of one machine.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct BootResult {
    pub(super) name: String,
    pub(super) kernel: String,
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    pub(super) seconds: f64,
    /// Each test that failed, or why the machine was not booted.
    pub(super) findings: Vec<String>,
    /// Where its serial port is kept, when something failed.
    pub(super) log: String,
}

impl BootResult {
    /// A kernel that could not be had.
    pub(super) fn skipped(name: &str, why: &str) -> Self {
        let findings = vec![why.to_owned()];
        Self { name: name.to_owned(), skipped: 1, findings, ..Self::default() }
    }

    /// Something that failed beside the machines.
    pub(super) fn failed(name: &str, why: &str) -> Self {
        let findings = vec![why.to_owned()];
        Self { name: name.to_owned(), failed: 1, findings, ..Self::default() }
    }

    /// Counts a failure of the machine itself.
    pub(super) fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.findings.push(why.to_owned());
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let Self { name, kernel, passed, failed, skipped, seconds, .. } = self;
        let word = match (failed, skipped) {
            (0, _) if *passed > 0 || *skipped == 0 => "passed ",
            (0, _) => "SKIPPED",
            _ => "FAILED ",
        };
        format!("{word} {name:<24} {passed:>3} tests {failed:>2} bad {seconds:>6.1} s  {kernel}")
    }
}

/// Reads a serial port. Only the last line of a complete run makes a machine pass.
pub(super) fn read(name: &str, kernel: &str, text: &str) -> BootResult {
    let (name, kernel) = (name.to_owned(), kernel.to_owned());
    let mut result = BootResult { name, kernel, ..BootResult::default() };
    let mut is_complete = false;
    for line in text.lines().map(str::trim) {
        if line == "init: success" {
            is_complete = true;
        }
        let Some((case, verdict)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            continue;
        };
        if verdict.starts_with("ok") {
            result.passed += 1;
        } else if verdict.starts_with("skipped") {
            result.skipped += 1;
            result.findings.push(format!("{case}: {verdict}"));
        } else {
            result.fail(&format!("{case}: {verdict}"));
        }
    }
    if !is_complete && result.failed == 0 {
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("nothing");
        result.fail(&format!("it did not say that it is done; its last line is: {last}"));
    }
    result
}

/// Prints the table and the closing line.
pub(super) fn print(results: &[BootResult], json: bool) -> ExitCode {
    let sum = |count: fn(&BootResult) -> u64| results.iter().map(count).sum::<u64>();
    let (passed, failed, skipped) = (sum(|r| r.passed), sum(|r| r.failed), sum(|r| r.skipped));
    if json {
        let answer = serde_json::json!({
            "machines": results, "passed": passed, "failed": failed, "skipped": skipped,
        });
        println!("{answer}");
    } else {
        println!();
        for result in results {
            println!("{}", result.line());
            for finding in &result.findings {
                println!("        {finding}");
            }
            if !result.log.is_empty() {
                println!("        {}", result.log);
            }
        }
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_run_passes() {
        let whole = "noise\r\ntest k5_10_a ... ok\r\ntest k6_3_b ... ok, absent below it\r\n\
                     test k5_10_c ... skipped: no means\r\ninit: success\r\n";
        let result = read("6.1", "6.1.0", whole);
        assert_eq!((result.passed, result.failed, result.skipped), (2, 0, 1));
        assert!(result.line().starts_with("passed"), "{}", result.line());
        let cut = read("6.1", "6.1.0", "test k5_10_a ... ok\r\n[ 1.0] Kernel panic\r\n");
        assert_eq!((cut.passed, cut.failed), (1, 1));
        assert!(cut.findings[0].contains("Kernel panic"), "{:?}", cut.findings);
    }

    #[test]
    fn a_failed_test_is_named_with_its_reason() {
        let result = read("7", "7.3", "test k5_10_a ... FAILED: not seen\ninit: failure\n");
        assert_eq!(result.failed, 1);
        assert_eq!(result.findings, ["k5_10_a: FAILED: not seen"]);
    }
}
