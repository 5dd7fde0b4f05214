//! What is seen of a monitored host: `/metrics` as promtool, Prometheus, its rules and the
//! dashboard's queries see it while an incident is played.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::prometheus::{Prometheus, Tools, curl, dashboard};
use super::tally::Tally;
use super::webhook::Webhook;
use crate::demo::{self, Outcome, Scene};
use crate::stage::{Metrics, Monitor};

/// Seconds that the job on the GPU goes on: longer than everything else here.
const RESIDENT_S: u32 = 120;
/// Patience with a value that must come: a few scrapes.
const VALUE_TIMEOUT: Duration = Duration::from_secs(15);
/// Patience with queries of the dashboard that are still empty.
const DASHBOARD_TIMEOUT: Duration = Duration::from_secs(20);

/// Panels that must have data beside those that always have: there is a GPU, a job on it, and an
/// alert.
const MUST_HAVE: &[&str] = &[
    "Alerts since start",
    "Workload timeline",
    "Egress by workload",
    "Weights read by workload",
    "GPU use by workload",
    "GPU memory by workload",
    "GPU utilisation",
    "GPU memory",
    "GPU power",
    "New alerts",
    "Alerts by rule",
    "Rule matches",
    "Tables",
    "Spool",
];

/// Outcomes of a record in the kernel; all but `seen` make up the whole.
const OUTCOMES: &[&str] =
    &["sent", "filtered", "ring_full", "too_long", "map_full", "read_fault", "rate_limited"];
/// The metric that counts them.
const RECORDS: &str = "gpuwarden_kernel_records_total";

/// Runs the whole play.
pub(super) fn check(scene: &mut Scene<'_>, tally: &mut Tally) -> Result<()> {
    let tools = Tools::find(scene)?;
    let (egress, resident) = (demo::incident("isolated-egress")?, demo::incident("training-gpu")?);
    scene.prepare(egress)?;
    scene.prepare(resident)?;
    let mut webhook = Webhook::reserve()?;
    webhook.up(scene)?;
    let options = scene.options("json", vec![webhook.sink("hook")])?;
    let (mut monitor, _) = Monitor::start_ready(&options, scene.interrupt())?;
    let prometheus = Prometheus::start(scene, &tools, monitor.address())?;
    let _resident = scene.settle(resident, RESIDENT_S)?;
    let outcome = scene.play(egress, &mut monitor)?;
    tally.note("the incident raises its alert and no other", judged(&outcome));

    values(scene, &prometheus, outcome.arrived_bytes(), tally);
    let board = dashboard(scene, &prometheus.url(), MUST_HAVE, DASHBOARD_TIMEOUT);
    tally.note("the dashboard's queries have data", board);
    let page = curl(&[&format!("http://{}/metrics", monitor.address())]);
    let complaints = page.and_then(|page| clean(&tools, &page));
    tally.note("curl /metrics | promtool check metrics", complaints);
    tally.note("records in the kernel add up", balance(scene, &monitor));
    let status = monitor.stop()?;
    if !status.success() {
        bail!("the monitor ended with {status} when it was asked to stop");
    }
    Ok(())
}

/// An incident that went as it must.
pub(super) fn judged(outcome: &Outcome) -> Result<String> {
    if !outcome.faults().is_empty() {
        bail!("{}", outcome.faults().join("; "));
    }
    Ok(format!("{} alerts", outcome.alerts().len()))
}

/// What Prometheus has stored is what really happened.
fn values(scene: &Scene<'_>, prometheus: &Prometheus, arrived: u64, tally: &mut Tally) {
    #[expect(clippy::cast_precision_loss, reason = "megabytes fit 53 bits")]
    let arrived = arrived as f64;
    let mut check = |name: &str, expression: &str, is_it: &dyn Fn(f64) -> bool| {
        tally.note(name, prometheus.wait_for(scene, VALUE_TIMEOUT, expression, is_it));
    };
    check(
        "Prometheus has the alert",
        r#"sum(gpuwarden_alerts_total{rule="isolated-training-egress"})"#,
        &|alerts| (alerts - 1.0).abs() < f64::EPSILON,
    );
    check(
        "Prometheus fires on the finding",
        r#"sum(ALERTS{alertname=~"Gpuwarden(Critical|High)Finding",alertstate="firing",
            rule="isolated-training-egress"})"#,
        &|firing| firing > 0.0,
    );
    check(
        "the workload's egress is what arrived at the far side",
        r#"max(max_over_time(gpuwarden_workload_egress_bytes_total{workload=~".*job-1.*"}[5m]))"#,
        &|bytes| (bytes - arrived).abs() < 1.0,
    );
    check(
        "the resident's share of the GPU is that of the scenario",
        r#"max(avg_over_time(
            gpuwarden_workload_gpu_utilization_ratio{workload=~".*job-6.*"}[1m]))"#,
        &|ratio| ratio > 0.3 && ratio <= 1.0,
    );
    check("no scrape failed", "min(min_over_time(up[5m]))", &|up| (up - 1.0).abs() < f64::EPSILON);
}

fn clean(tools: &Tools, page: &str) -> Result<String> {
    let complaints = tools.complaints(page)?;
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    let samples = page.lines().filter(|line| !line.starts_with('#')).count();
    Ok(format!("{samples} samples"))
}

/// For every kind: seen = sent + filtered + lost. A record that is counted in this very moment is
/// in one of the sums and not in the other, so a kind may take a few looks; one that leaks never
/// adds up.
fn balance(scene: &Scene<'_>, monitor: &Monitor) -> Result<String> {
    let mut open: Vec<String> = Vec::new();
    let mut kinds: Option<Vec<String>> = None;
    let came = scene.interrupt().wait(VALUE_TIMEOUT, || {
        let metrics = monitor.metrics()?;
        let left = match &kinds {
            Some(kinds) => kinds.clone(),
            None => metrics.values_of(RECORDS, "kind"),
        };
        if left.is_empty() && kinds.is_none() {
            bail!("/metrics has no {RECORDS}");
        }
        let left: Vec<String> =
            left.into_iter().filter(|kind| difference(&metrics, kind) != Some(0)).collect();
        open = left.iter().map(|kind| shown(&metrics, kind)).collect();
        let is_over = left.is_empty();
        kinds = Some(left);
        Ok(is_over)
    })?;
    if !came {
        bail!("{}", open.join("; "));
    }
    let metrics = monitor.metrics()?;
    let seen = metrics.sum(RECORDS, &["outcome=\"seen\""]).context("no record was seen")?;
    if seen <= 0.0 {
        bail!("no record was seen");
    }
    let kinds = metrics.values_of(RECORDS, "kind");
    Ok(format!("{} kinds, {seen} records: {}", kinds.len(), kinds.join(" ")))
}

/// Seen less all that became of it; `None` where a number is missing.
#[expect(clippy::cast_possible_truncation, reason = "counts of a test are far below 2^53")]
fn difference(metrics: &Metrics, kind: &str) -> Option<i64> {
    let count = |outcome: &str| {
        let labels = [format!("kind=\"{kind}\""), format!("outcome=\"{outcome}\"")];
        metrics.sum(RECORDS, &[labels[0].as_str(), labels[1].as_str()])
    };
    let rest: Option<f64> = OUTCOMES.iter().map(|outcome| count(outcome)).sum();
    Some((count("seen")? - rest?) as i64)
}

fn shown(metrics: &Metrics, kind: &str) -> String {
    match difference(metrics, kind) {
        Some(more) => format!("{kind}: {more} more were seen than sent, filtered and lost"),
        None => format!("{kind}: an outcome is missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(sent: u32) -> Metrics {
        let line = |outcome: &str, count: u32| {
            format!("{RECORDS}{{kind=\"flow\",outcome=\"{outcome}\"}} {count}\n")
        };
        let rest = OUTCOMES.iter().map(|&outcome| match outcome {
            "sent" => line(outcome, sent),
            _ => line(outcome, 1),
        });
        let text: String = std::iter::once(line("seen", 10)).chain(rest).collect();
        Metrics::parse(&text)
    }

    #[test]
    fn every_outcome_is_in_the_balance() {
        assert_eq!(difference(&page(4), "flow"), Some(0));
        assert_eq!(difference(&page(3), "flow"), Some(1));
        assert_eq!(difference(&page(4), "exec"), None);
    }
}
