//! `gpuwarden rules explain`: one rule in plain words.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};

use super::pushdown;
use super::rules::rule_json;
use crate::config;
use crate::kernel::support;
use crate::model::{EventKind, FieldId, RuleId};
use crate::pipeline::plan;
use crate::rule::spec::{CorrelationKind, Rule, Window};
use crate::rule::{Demand, Outline, RuleSet, format_span, is_gpu, kind_words, nearest};
use crate::sensor::{self, Status};

/// Says what a rule does, what it needs, and what the kernel side is told on its behalf; with
/// `host` also whether this host has the sensors.
pub(super) fn explain(
    set: &RuleSet,
    id: &str,
    host: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let id = RuleId::from(id);
    let Some(rule) = set.get(&id) else {
        let ids = set.rules.iter().map(|rule| rule.meta.id.as_str());
        if let Some(near) = nearest(id.as_str(), ids) {
            bail!("no rule has the id `{id}`; did you mean `{near}`?");
        }
        bail!("no rule has the id `{id}`; `gpuwarden rules list` shows all");
    };
    let sensors = if host { Some(try_sensors()?) } else { None };
    if as_json {
        writeln!(out, "{:#}", explain_json(set, rule, sensors.as_deref()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let outline = set.outline(&id).context("a loaded rule has a text")?;
    let meta = &rule.meta;
    writeln!(out, "{} ({}, version {})", meta.id, meta.severity, meta.version)?;
    writeln!(out, "{}\nfrom {}\n", meta.title, meta.source)?;
    writeln!(out, "It looks at {} events.", kind_words(rule.kinds))?;
    if !outline.when.is_empty() {
        writeln!(out, "An event counts when\n{}", indent(&outline.when))?;
    }
    for (name, when) in &outline.exceptions {
        writeln!(out, "but not ({name}) when\n{}", indent(when))?;
    }
    explain_window(rule, outline, out)?;
    match (rule.dedupe.for_ns, rule.dedupe.key.as_slice()) {
        (0, _) => writeln!(out, "Every match is an alert of its own.")?,
        (for_ns, []) => writeln!(out, "Matches within {} are one alert.", format_span(for_ns))?,
        (for_ns, key) => {
            let (span, key) = (format_span(for_ns), names(key));
            writeln!(out, "Matches within {span} with the same {key} are one alert.")?;
        }
    }
    writeln!(out, "The alert says\n{}", indent(&outline.message))?;
    if !set.responses(&id).is_empty() {
        let words = serde_json::to_string(set.responses(&id))?;
        writeln!(out, "It asks the daemon to respond with {words}, if that is switched on.")?;
    }
    writeln!(out, "\nIt reads {}.", names(&rule.fields))?;
    writeln!(out, "It needs:")?;
    for need in needs(rule) {
        writeln!(out, "  - {need}")?;
    }
    pushdown::explain(set, rule, out)?;
    if let Some(sensors) = &sensors {
        explain_host(rule, sensors, out)?;
    }
    explain_profiles(set, rule, out)?;
    for harmless in &meta.false_positives {
        writeln!(out, "It also fires on {harmless}.")?;
    }
    if !meta.runbook.is_empty() {
        writeln!(out, "What to do: {}", meta.runbook.trim())?;
    }
    writeln!(out, "It has {} tests.", rule.tests.len())?;
    Ok(ExitCode::SUCCESS)
}

fn explain_window(rule: &Rule, outline: &Outline, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(correlation) = &rule.correlation else {
        writeln!(out, "Each such event is a match.")?;
        return Ok(());
    };
    let span = match correlation.window {
        Window::Sliding { span_ns } => format!("the last {}", format_span(span_ns)),
        Window::Tumbling { span_ns } => format!("consecutive spans of {}", format_span(span_ns)),
        Window::Session { gap_ns, span_max_ns } => format!(
            "a session that ends after {} of silence, at the latest after {}",
            format_span(gap_ns),
            format_span(span_max_ns)
        ),
    };
    let what = match &correlation.kind {
        CorrelationKind::EventCount => "It counts such events (count)".to_owned(),
        CorrelationKind::ValueCount(id) => {
            format!("It counts the distinct values of {} (distinct)", id.name())
        }
        CorrelationKind::ValueSum(id) => format!("It adds up {} (sum)", id.name()),
        CorrelationKind::Temporal(_) => {
            format!("It waits for {} in any order", outline.rules.join(", "))
        }
        CorrelationKind::TemporalOrdered(_) => {
            format!("It waits for {} in this order", outline.rules.join(", "))
        }
    };
    let key = names(&correlation.group_by);
    writeln!(out, "{what} over {span}, apart for each {key}.")?;
    if let Some(condition) = &outline.condition {
        writeln!(out, "It matches when\n{}", indent(condition))?;
    }
    Ok(())
}

fn explain_profiles(set: &RuleSet, rule: &Rule, out: &mut dyn Write) -> anyhow::Result<()> {
    let linked = [
        FieldId::NetAllowed,
        FieldId::WorkloadProfile,
        FieldId::WorkloadRole,
        FieldId::WorkloadIsolated,
    ];
    if !rule.fields.iter().any(|id| linked.contains(id)) {
        return Ok(());
    }
    let ids: Vec<&str> = set.profiles.iter().map(|profile| profile.id.as_str()).collect();
    let ids = if ids.is_empty() { "none is loaded".to_owned() } else { ids.join(", ") };
    writeln!(out, "What is allowed, isolated or of which role, the profiles say: {ids}.")?;
    Ok(())
}

fn names(fields: &[FieldId]) -> String {
    let names: Vec<&str> = fields.iter().map(|id| id.name()).collect();
    names.join(", ")
}

fn indent(text: &str) -> String {
    let lines: Vec<String> = text.trim().lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

/// What a rule needs of this host, in words.
pub(super) fn needs(rule: &Rule) -> Vec<&'static str> {
    let mut needs: Vec<&'static str> = rule
        .kinds
        .iter()
        .map(|kind| match kind {
            EventKind::Exec => "the exec sensor",
            EventKind::Fork => "the task sensor",
            EventKind::Exit => "the exit sensor",
            EventKind::FileOpen | EventKind::FileRead | EventKind::FileChange => "the file sensors",
            EventKind::Flow => "the flow sensors",
            EventKind::Socket => "the socket sensor",
            EventKind::Dns => "the DNS sensor",
            EventKind::Stdio => "the standard-stream sensor",
            EventKind::MemoryAccess => "the memory-access sensors",
            EventKind::Tamper => "the tamper sensors",
            EventKind::Namespace => "the namespace sensor",
            EventKind::AsyncIo => "the async-I/O sensor",
            EventKind::GpuSample | EventKind::GpuFault => "the GPU driver",
            EventKind::Sensor => "nothing: the monitor speaks of itself",
        })
        .collect();
    for id in &rule.fields {
        let need = match id.name() {
            "gpu.tensor_util"
            | "gpu.tensor_mean_10m"
            | "gpu.int_util"
            | "gpu.int_mean_10m"
            | "gpu.float_util"
            | "gpu.float_mean_10m"
            | "gpu.dram_util"
            | "gpu.dram_mean_10m"
            | "gpu.sm_active" => "GPU performance metrics (Hopper and newer)",
            "gpu.allocated" | "gpu.allocated_to" => "a scheduler that tells its allocations",
            "net.dst.name" => "DNS answers seen on the wire",
            "net.app_proto" | "net.sni" | "workload.stratum_seen" => "first payloads of flows",
            "net.allowed" => "a profile that selects the workload",
            name if name.starts_with("weights.") => "labels on weight files",
            name if name.starts_with("k8s.") => "the Kubernetes API or kubelet",
            name if name.starts_with("slurm.") => "a SLURM cgroup",
            _ if is_gpu(*id) => "the GPU driver",
            _ => continue,
        };
        if !needs.contains(&need) {
            needs.push(need);
        }
    }
    needs
}

/// Tries the sensors as `doctor` does: attached for a moment.
fn try_sensors() -> anyhow::Result<Vec<Status>> {
    let config = config::load(None).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    support::check().context("the sensors cannot be tried on this host")?;
    let root = match &config.kernel.cgroup_root {
        Some(root) => root.clone(),
        None => support::cgroup2_root()?,
    };
    let loaded = sensor::load(&plan::kernel(&config.kernel), &root)?;
    Ok(loaded.status.clone())
}

/// Whether events of `kind` come from a sensor of this name.
fn feeds(kind: EventKind, sensor: &str) -> bool {
    match kind {
        EventKind::Exec => sensor == "process_exec",
        EventKind::Fork => sensor == "process",
        EventKind::Exit => sensor == "process_exit",
        EventKind::FileOpen | EventKind::FileRead | EventKind::FileChange => {
            sensor.starts_with("file_")
        }
        EventKind::Flow => matches!(sensor, "tcp_state" | "send_bytes" | "udp_peer" | "packet"),
        EventKind::Socket => sensor == "socket_new",
        EventKind::Dns => sensor.starts_with("dns"),
        EventKind::Stdio => sensor.starts_with("stdio"),
        EventKind::MemoryAccess => sensor.starts_with("memory_access"),
        EventKind::Tamper => sensor.starts_with("tamper"),
        EventKind::Namespace => sensor.starts_with("namespace"),
        EventKind::AsyncIo => sensor.starts_with("async_io"),
        EventKind::GpuSample | EventKind::GpuFault | EventKind::Sensor => false,
    }
}

fn explain_host(rule: &Rule, sensors: &[Status], out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "On this host:")?;
    for kind in Demand::of_rule(rule).kinds.iter() {
        match kind {
            EventKind::Sensor => continue,
            EventKind::GpuSample | EventKind::GpuFault => {
                writeln!(out, "  - {kind}: see the GPU lines of `gpuwarden doctor`")?;
                continue;
            }
            _ => {}
        }
        let mut found = false;
        for status in sensors.iter().filter(|status| feeds(kind, status.sensor.name)) {
            found = true;
            let (name, state) = (status.sensor.name, status.state.as_str());
            match status.state.reason() {
                "" => writeln!(out, "  - {kind}: {name} is {state}")?,
                reason => writeln!(out, "  - {kind}: {name} is {state}: {reason}")?,
            }
        }
        if !found {
            writeln!(out, "  - {kind}: this version has no sensor for it; the rule stays silent")?;
        }
    }
    Ok(())
}

fn explain_json(set: &RuleSet, rule: &Rule, sensors: Option<&[Status]>) -> Json {
    let demand = Demand::of_rule(rule);
    let mut json = rule_json(set, rule);
    json["pushdown"] = pushdown::json(set, rule);
    json["window"] = rule
        .correlation
        .as_ref()
        .map_or(Json::Null, |correlation| format!("{:?}", correlation.window).into());
    if let Some(sensors) = sensors {
        let needed =
            |status: &&Status| demand.kinds.iter().any(|kind| feeds(kind, status.sensor.name));
        json["sensors"] = sensors
            .iter()
            .filter(needed)
            .map(|status| {
                json!({"sensor": status.sensor.name, "state": status.state.as_str(),
                       "reason": status.state.reason()})
            })
            .collect();
    }
    json
}
