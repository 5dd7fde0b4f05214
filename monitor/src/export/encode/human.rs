//! Lines for a person at a terminal.

use std::fmt::Write as _;

use super::Colour;
use super::text::{bytes, command, visible};
use crate::alert::{Activity, Alert};
use crate::model::{Completeness, Evidence, FlowEvidence, ProcessEvidence, Severity};

/// Width of the column of names in front of each line.
const NAME_COLUMNS: usize = 10;

/// The alert as some lines of text, the last one empty.
pub fn human(alert: &Alert, colour: Colour) -> String {
    let mut out = String::new();
    let severity = alert.severity.as_str().to_uppercase();
    let (on, off) = match colour {
        Colour::On => (paint(alert.severity), "\x1b[0m"),
        Colour::Off => ("", ""),
    };
    let time = alert.last_seen.to_rfc3339();
    let _ = write!(out, "{time} {on}{severity:<8}{off} {}", visible(&alert.rule.title));
    if alert.activity != Activity::New {
        let _ = write!(out, " ({}: {} times)", alert.activity.as_str(), alert.count);
    }
    out.push('\n');
    line(&mut out, "", &visible(&alert.summary));
    workload(&mut out, alert);
    evidence(&mut out, &alert.evidence);
    line(&mut out, "complete", &completeness(&alert.evidence.completeness));
    if !alert.runbook.is_empty() {
        for (at, step) in steps(&alert.runbook).into_iter().enumerate() {
            line(&mut out, if at == 0 { "runbook" } else { "" }, &visible(step));
        }
    }
    let rule = format!("{} version {}", alert.rule.id, alert.rule.version);
    line(&mut out, "rule", &visible(&rule));
    line(&mut out, "id", &alert.id);
    out.push('\n');
    out
}

const fn paint(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "\x1b[1;97;41m",
        Severity::High => "\x1b[1;31m",
        Severity::Medium => "\x1b[1;33m",
        Severity::Low => "\x1b[36m",
        Severity::Info => "\x1b[2m",
    }
}

fn line(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "  {name:<NAME_COLUMNS$}{text}");
}

fn workload(out: &mut String, alert: &Alert) {
    let Some(workload) = &alert.workload else { return };
    let mut text = format!("{} ({}", visible(&workload.name), workload.kind);
    if let (Some(namespace), Some(pod)) = (&workload.namespace, &workload.pod) {
        let _ = write!(text, ", pod {namespace}/{pod}");
    }
    if let Some(job) = &workload.slurm_job {
        let _ = write!(text, ", job {job}");
    }
    if let Some(profile) = &workload.profile {
        let _ = write!(text, ", profile {profile}");
    }
    text.push(')');
    line(out, "workload", &visible(&text));
    if workload.weight_bytes_read > 0 {
        let models = workload.models.join(", ");
        let read = bytes(workload.weight_bytes_read);
        let most = if workload.weight_bytes_are_bound { "up to " } else { "" };
        line(out, "weights", &format!("{most}{read} read of {}", visible(&models)));
    }
    if workload.egress_bytes > 0 {
        line(out, "egress", &format!("{} sent in all", bytes(workload.egress_bytes)));
    }
}

fn evidence(out: &mut String, evidence: &Evidence) {
    for (generation, process) in evidence.processes.iter().enumerate() {
        let name = if generation == 0 { "process" } else { "  parent" };
        line(out, name, &process_text(process));
    }
    for file in &evidence.files {
        let mut text = format!("{} ({}", visible(&file.path), bytes(file.size_bytes));
        for word in [&file.label, &file.format].into_iter().flatten() {
            let _ = write!(text, ", {}", visible(word));
        }
        text.push_str(if file.written { ", opened for writing)" } else { ")" });
        line(out, "file", &text);
    }
    for flow in &evidence.flows {
        line(out, "flow", &flow_text(flow));
    }
    for gpu in &evidence.gpus {
        let text = format!(
            "{} {}: {:.0} % mean, variation {:.2}, {} used",
            visible(&gpu.model),
            visible(&gpu.uuid),
            gpu.util_mean_percent,
            gpu.util_cv,
            bytes(gpu.mem_used_bytes),
        );
        line(out, "gpu", &text);
    }
}

fn process_text(process: &ProcessEvidence) -> String {
    let shown = if process.args.is_empty() {
        visible(&process.name).into_owned()
    } else {
        command(&process.args)
    };
    let ended = if process.ended { ", ended" } else { "" };
    let exe = visible(&process.exe);
    format!("{shown} (pid {}, uid {}, {exe}{ended})", process.pid, process.uid)
}

fn flow_text(flow: &FlowEvidence) -> String {
    let mut text = format!("{} {} ", flow.proto, flow.direction);
    if !flow.local.is_empty() {
        let _ = write!(text, "{} ", flow.local);
    }
    let remote = if flow.remote_ip.contains(':') {
        format!("[{}]:{}", flow.remote_ip, flow.remote_port)
    } else {
        format!("{}:{}", flow.remote_ip, flow.remote_port)
    };
    let _ = write!(text, "→ {remote}");
    if let Some(name) = &flow.remote_name {
        let _ = write!(text, " ({})", visible(name));
    }
    let _ = write!(text, ", {} out", bytes(flow.bytes_out));
    if let Some(proto) = &flow.app_proto {
        let _ = write!(text, ", speaks {}", visible(proto));
    }
    text
}

/// What is known to be missing, in one line: losses in full, sensors by name. Why a sensor sees
/// less is the same in each alert of a host; the alert as JSON has it, and `gpuwarden doctor`.
fn completeness(completeness: &Completeness) -> String {
    let Completeness { complete, losses, gaps, unknowns } = completeness;
    let mut parts = Vec::new();
    for loss in losses {
        parts.push(format!("{} {} records lost ({})", loss.lost, loss.sensor, loss.reason));
    }
    // Each state once, in the order of the first sensor in it.
    let mut states: Vec<(&str, Vec<&str>)> = Vec::new();
    for gap in gaps {
        match states.iter_mut().find(|(state, _)| *state == gap.state) {
            Some((_, sensors)) => sensors.push(&gap.sensor),
            None => states.push((&gap.state, vec![&gap.sensor])),
        }
    }
    for (state, sensors) in states {
        parts.push(format!("{state}: {}", sensors.join(", ")));
    }
    if let (false, Some(last)) = (gaps.is_empty(), parts.last_mut()) {
        last.push_str(" (`gpuwarden doctor` says what is not seen)");
    }
    for unknown in unknowns {
        parts.push(format!("unknown: {unknown}"));
    }
    match (complete, parts.is_empty()) {
        (true, true) => "yes".to_owned(),
        (true, false) => format!("yes; {}", visible(&parts.join("; "))),
        (false, true) => "no".to_owned(),
        (false, false) => format!("no; {}", visible(&parts.join("; "))),
    }
}

/// The numbered steps of a runbook, a line each; a text without numbers is one step.
fn steps(runbook: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut rest = runbook.trim();
    for number in 2.. {
        let Some(at) = rest.find(&format!(" {number}. ")) else { break };
        steps.push(rest[..at].trim_end());
        rest = &rest[at + 1..];
    }
    steps.push(rest);
    steps
}
