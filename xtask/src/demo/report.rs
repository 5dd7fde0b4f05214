//! What a person, or a machine, gets to see of a play.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::alert::Alert;
use super::incident::Incident;
use super::play::Played;
use crate::actor::Ended;

/// Arguments of a process that are shown.
const SHOWN_ARGUMENTS: usize = 4;

/// A play, judged.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    name: &'static str,
    story: &'static str,
    expected: Option<&'static str>,
    passed: bool,
    /// From the act to the line of the expected alert.
    latency_ms: Option<f64>,
    /// Why it did not pass.
    faults: Vec<String>,
    alerts: Vec<Alert>,
    /// Alerts about workloads of this host that are not in the play.
    elsewhere: Vec<Alert>,
    /// What reached the far side.
    arrived: Vec<Ended>,
}

impl Outcome {
    /// Holds what was said against what was to be said.
    pub(super) fn judge(incident: &Incident, played: Played) -> Self {
        let Played { alerts, elsewhere, unreadable, pid, model, act_ns, arrived } = played;
        let mut faults = Vec::new();
        let expected =
            alerts.iter().find(|(_, alert)| incident.expected == Some(alert.rule.id.as_str()));
        if let (Some(rule), None) = (incident.expected, expected) {
            faults.push(format!("no alert of rule `{rule}` came"));
        }
        if let Some((read_ns, alert)) = expected {
            for lack in alert.lacks(incident.must_show(), &model, pid) {
                faults.push(format!("the evidence does not show {lack}"));
            }
            if *read_ns < act_ns {
                faults.push("the alert came before the act".to_owned());
            }
        }
        for (_, alert) in &alerts {
            let id = alert.rule.id.as_str();
            if incident.expected != Some(id) && !incident.also.contains(&id) {
                faults.push(format!("rule `{id}` fired, and must not: {}", alert.summary));
            }
        }
        let again =
            alerts.iter().filter(|(_, one)| incident.expected == Some(one.rule.id.as_str()));
        let again = again.count();
        if again > 1 {
            faults.push(format!("the alert came {again} times"));
        }
        for line in unreadable {
            faults.push(format!("the monitor printed a line that is no alert: {line}"));
        }
        let latency_ms = expected.map(|(read_ns, _)| milliseconds(read_ns.saturating_sub(act_ns)));
        Self {
            name: incident.name,
            story: incident.story,
            expected: incident.expected,
            passed: faults.is_empty(),
            latency_ms,
            faults,
            alerts: alerts.into_iter().map(|(_, alert)| alert).collect(),
            elsewhere,
            arrived,
        }
    }
}

impl Outcome {
    /// Why it did not pass; empty when it did.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// New alerts about the workload.
    pub(crate) fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    /// Bytes that reached the far side.
    pub(crate) fn arrived_bytes(&self) -> u64 {
        self.arrived.iter().map(|ended| ended.bytes).sum()
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes fit 53 bits")]
fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Prints one play.
pub(super) fn print(outcome: &Outcome) {
    let word = if outcome.passed { "ok    " } else { "FAILED" };
    println!("{word} {}: {}", outcome.name, outcome.story);
    match (outcome.expected, outcome.latency_ms) {
        (Some(_), Some(latency)) => println!("       alert after {latency:.1} ms"),
        (Some(_), None) => {}
        (None, _) => println!("       must be silent, and {} alerts came", outcome.alerts.len()),
    }
    for alert in &outcome.alerts {
        print_alert(alert);
    }
    for Ended { address, bytes } in &outcome.arrived {
        println!("       arrived at {address}: {}", size(*bytes));
    }
    for fault in &outcome.faults {
        println!("       fault: {fault}");
    }
    for alert in &outcome.elsewhere {
        println!("       elsewhere on this host: {} {}", alert.rule.id, alert.summary);
    }
    println!();
}

fn print_alert(alert: &Alert) {
    println!("       [{}] {}: {}", alert.severity, alert.rule.id, alert.summary);
    if let Some(workload) = &alert.workload {
        println!("         workload    {} ({})", workload.name, workload.cgroup);
    }
    for (depth, process) in alert.evidence.processes.iter().enumerate() {
        let arguments: Vec<_> =
            process.args.iter().take(SHOWN_ARGUMENTS).map(String::as_str).collect();
        let label = if depth == 0 { "process" } else { "" };
        let arrow = if depth == 0 { "" } else { "← " };
        let (name, pid) = (&process.name, process.pid);
        println!("         {label:<11} {arrow}{name} ({pid}) {}", arguments.join(" "));
    }
    for file in &alert.evidence.files {
        let format = file.format.as_deref().unwrap_or("unknown format");
        println!("         file        {} ({}, {format})", file.path, size(file.size_bytes));
    }
    for flow in &alert.evidence.flows {
        let app = flow.app_proto.as_deref().map(|app| format!(", {app}")).unwrap_or_default();
        println!(
            "         destination {}:{} ({}{app}), {} sent so far",
            flow.remote_ip,
            flow.remote_port,
            flow.proto,
            size(flow.bytes_out)
        );
    }
    for gpu in &alert.evidence.gpus {
        println!(
            "         gpu         {}, mean {:.0} %, {} used",
            gpu.model,
            gpu.util_mean_percent,
            size(gpu.mem_used_bytes)
        );
    }
    let complete = if alert.evidence.completeness.complete { "complete" } else { "with gaps" };
    println!("         evidence    {complete}");
}

/// Prints the table, or everything as JSON, and the closing line.
pub(super) fn close(outcomes: &[Outcome], json: bool) -> Result<ExitCode> {
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    let passed = outcomes.len() - failed;
    if json {
        let answer =
            serde_json::json!({ "incidents": outcomes, "passed": passed, "failed": failed });
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        println!("{:<22} {:<24} {:>10}  result", "incident", "alert", "latency");
        for outcome in outcomes {
            let latency =
                outcome.latency_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"));
            println!(
                "{:<22} {:<24} {latency:>10}  {}",
                outcome.name,
                outcome.expected.unwrap_or("(silence)"),
                if outcome.passed { "ok" } else { "FAILED" }
            );
        }
        println!("\n{passed} passed, {failed} failed");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Bytes as a person reads them: binary units, one digit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::super::incident::INCIDENTS;
    use super::*;

    fn alert(rule: &str) -> (u64, Alert) {
        let alert = serde_json::json!({
            "rule": { "id": rule },
            "severity": "high",
            "summary": "s",
            "evidence": {
                "processes": [{ "pid": 7 }, { "pid": 6 }],
                "files": [{ "path": "/m" }],
                "flows": [{ "remote_ip": "198.51.100.2", "remote_port": 443 }],
            },
        });
        (3_000_000, serde_json::from_value(alert).expect("an alert"))
    }

    fn played(alerts: Vec<(u64, Alert)>) -> Played {
        Played {
            alerts,
            elsewhere: vec![alert("elsewhere").1],
            unreadable: Vec::new(),
            pid: 7,
            model: "/m".to_owned(),
            act_ns: 1_000_000,
            arrived: Vec::new(),
        }
    }

    #[test]
    fn expected_alert_passes_with_its_latency() {
        let rule = INCIDENTS[0].expected.expect("it must fire");
        let outcome = Outcome::judge(&INCIDENTS[0], played(vec![alert(rule)]));
        assert!(outcome.passed, "{:?}", outcome.faults);
        assert!(outcome.latency_ms.is_some_and(|ms| (ms - 2.0).abs() < 1e-9));
    }

    #[test]
    fn alert_before_the_act_or_without_its_evidence_fails() {
        let rule = INCIDENTS[0].expected.expect("it must fire");
        let mut early = played(vec![alert(rule)]);
        early.act_ns = 4_000_000;
        assert!(!Outcome::judge(&INCIDENTS[0], early).passed);
        let mut other = played(vec![alert(rule)]);
        other.pid = 8;
        assert!(!Outcome::judge(&INCIDENTS[0], other).passed);
    }

    #[test]
    fn missing_second_and_foreign_alerts_fail() {
        let rule = INCIDENTS[0].expected.expect("it must fire");
        for alerts in [vec![], vec![alert(rule), alert(rule)], vec![alert(rule), alert("other")]] {
            assert!(!Outcome::judge(&INCIDENTS[0], played(alerts)).passed);
        }
    }

    #[test]
    fn twin_passes_in_silence_only() {
        let twin = &INCIDENTS[1];
        assert!(Outcome::judge(twin, played(vec![])).passed);
        assert!(!Outcome::judge(twin, played(vec![alert("isolated-training-egress")])).passed);
    }

    #[test]
    fn line_that_is_no_alert_fails() {
        let mut said = played(vec![]);
        said.unreadable.push("hello".to_owned());
        assert!(!Outcome::judge(&INCIDENTS[1], said).passed);
    }

    #[test]
    fn sizes_are_binary() {
        let shown: Vec<_> = [0, 1023, 1024, 64 << 20, 1536 << 20, 3 << 40].map(size).into();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "64.0 MiB", "1.5 GiB", "3.0 TiB"]);
    }
}
