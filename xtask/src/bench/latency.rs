//! Time from just before a system call to the line of its alert, on one clock, matched by an id in
//! the path that was opened or the address that was connected to.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use super::ground::{self, Ground, MARK, Order};
use super::statistic::quantile;
use crate::actor::Operation;
use crate::stage::{Metrics, Monitor};

/// Operations that are measured in each case.
const OPERATIONS: u32 = 500;
/// Operations a second: far from every rate limit.
const PER_SECOND: f64 = 50.0;
/// Opens a second beside them, in the loaded case.
const LOAD_PER_SECOND: f64 = 200_000.0;
/// Time for the labelling of files that are there.
const SETTLE: Duration = Duration::from_secs(1);
/// What the monitor says of the way of an alert: the time from the record in the kernel until each
/// stage was reached.
const DELAY: &str = "gpuwarden_alert_delay_seconds";
const STAGES: [&str; 3] = ["taken", "judged", "written"];
/// Longer than the monitor takes to bring its page up to date.
const PAGE: Duration = Duration::from_millis(1_200);
/// Patience with the last alert.
const LAST_TIMEOUT: Duration = Duration::from_secs(5);

/// One case.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    case: &'static str,
    operations: u32,
    /// Operations whose alert came.
    alerts: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Of the monitor's own count, from the record in the kernel: median until the record was
    /// taken from its ring, until the alert was made, until its line was written.
    stages_ms: [f64; 3],
}

pub(super) fn measure(ground: &Ground) -> Result<Vec<Row>> {
    // Its files are made while the monitor runs, so they have no label yet.
    let (mut monitor, _) = ground.monitor_of(true)?;
    let other = case(ground, &mut monitor, Operation::Open, "open of a file without a label");
    monitor.stop()?;
    // Now they are there when it starts, and are labelled.
    let (mut monitor, _) = ground.monitor_of(true)?;
    sleep(SETTLE);
    let labelled = case(ground, &mut monitor, Operation::Open, "open of a labelled file");
    let flow = case(ground, &mut monitor, Operation::Connect, "start of a flow");
    let load = Order {
        operation: Operation::Open,
        count: load_count(),
        rate: Some(LOAD_PER_SECOND),
        is_watched: false,
        is_unique: false,
        cpu: None,
    };
    let mut load = ground.start(load)?;
    let name = "the same beside 200 000 opens a second";
    let loaded = case(ground, &mut monitor, Operation::Connect, name);
    // It has done its part, finished or not.
    let _ = load.kill();
    let _ = load.wait();
    monitor.stop()?;
    Ok(vec![flow?, labelled?, other?, loaded?])
}

/// As many as the load makes while the measured opens last, and a third more.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a product of small positive constants"
)]
fn load_count() -> u32 {
    (f64::from(OPERATIONS) / PER_SECOND * LOAD_PER_SECOND * 1.3) as u32
}

fn case(
    ground: &Ground,
    monitor: &mut Monitor,
    operation: Operation,
    name: &'static str,
) -> Result<Row> {
    eprintln!("    … latency: {name}");
    monitor.lines()?;
    sleep(PAGE);
    let before = monitor.metrics()?;
    ground.generate(Order {
        operation,
        count: OPERATIONS,
        rate: Some(PER_SECOND),
        is_watched: true,
        is_unique: true,
        cpu: Some(ground.cpu),
    })?;
    let starts = ground::read_starts(&ground.log())?;
    let mut read: HashMap<u32, u64> = HashMap::new();
    ground.interrupt.wait(LAST_TIMEOUT, || {
        for line in monitor.lines()? {
            if let Some(id) = id(&line.text) {
                read.entry(id).or_insert(line.mono_ns);
            }
        }
        Ok(read.len() >= starts.len())
    })?;
    sleep(PAGE);
    let after = monitor.metrics()?;
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes fit 53 bits")]
    let latencies: Vec<f64> = starts
        .iter()
        .filter_map(|(id, start)| Some(read.get(id)?.saturating_sub(*start) as f64 / 1e6))
        .collect();
    let at = |share| quantile(&latencies, share);
    let (Some(p50_ms), Some(p99_ms), Some(max_ms)) = (at(0.5), at(0.99), at(1.0)) else {
        bail!(
            "no alert came for {} operations; the monitor said:\n{}",
            starts.len(),
            monitor.said()
        );
    };
    let stages_ms = STAGES.map(|stage| median_ms(&before, &after, stage));
    let alerts = latencies.len();
    Ok(Row { case: name, operations: OPERATIONS, alerts, p50_ms, p99_ms, max_ms, stages_ms })
}

/// The median of what was added to a histogram between two pages, within its class by proportion.
fn median_ms(before: &Metrics, after: &Metrics, stage: &str) -> f64 {
    let series = format!("{DELAY}_bucket");
    let stage = format!("stage=\"{stage}\"");
    let mut classes: Vec<(f64, f64)> = after
        .values_of(&series, "le")
        .iter()
        .filter_map(|le| {
            let labels = [stage.clone(), format!("le=\"{le}\"")];
            let labels = labels.each_ref().map(String::as_str);
            let count = after.sum(&series, &labels)? - before.sum(&series, &labels).unwrap_or(0.0);
            Some((le.parse().ok()?, count))
        })
        .collect();
    classes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = classes.last().map_or(0.0, |(_, all)| all / 2.0);
    let mut lower = (0.0, 0.0);
    for (bound, below) in classes {
        if below >= half && below > lower.1 {
            let share = (half - lower.1) / (below - lower.1);
            return (lower.0 + (bound - lower.0) * share) * 1e3;
        }
        lower = (bound, below);
    }
    f64::NAN
}

/// The id in an alert's summary.
fn id(line: &str) -> Option<u32> {
    let alert: serde_json::Value = serde_json::from_str(line).ok()?;
    let name = alert["summary"].as_str()?.strip_prefix(MARK)?;
    if let Some(address) = name.strip_prefix("127.1.") {
        let (high, low) = address.split_once('.')?;
        return Some(high.parse::<u32>().ok()? << 8 | low.parse::<u32>().ok()?);
    }
    name.strip_prefix("lat-")?.strip_suffix(".bin")?.parse().ok()
}

pub(super) fn print(rows: &[Row]) {
    println!("\nlatency: from just before the system call to the alert's line, quiet host");
    println!("{:<40} {:>10} {:>10} {:>10} {:>12}", "", "p50", "p99", "max", "alerts");
    for row in rows {
        println!(
            "{:<40} {:>7.3} ms {:>7.3} ms {:>7.3} ms {:>5} / {}",
            row.case, row.p50_ms, row.p99_ms, row.max_ms, row.alerts, row.operations
        );
    }
    println!("\nof which, from the record in the kernel, medians of the monitor's own count");
    println!("{:<40} {:>10} {:>10} {:>10}", "until", "taken", "judged", "written");
    for Row { case, stages_ms: [taken, judged, written], .. } in rows {
        println!("{case:<40} {taken:>7.3} ms {judged:>7.3} ms {written:>7.3} ms");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_that_of_what_came_between() {
        let page = |within: [u32; 3]| {
            let line =
                |(le, count)| format!("{DELAY}_bucket{{stage=\"judged\",le=\"{le}\"}} {count}");
            let lines: Vec<_> = ["0.0001", "0.0002", "+Inf"].iter().zip(within).map(line).collect();
            Metrics::parse(&lines.join("\n"))
        };
        let median = median_ms(&page([50, 50, 50]), &page([50, 70, 70]), "judged");
        assert!((median - 0.15).abs() < 1e-9, "{median}");
        let none = median_ms(&page([5, 5, 5]), &page([5, 5, 5]), "judged");
        assert!(none.is_nan(), "{none}");
    }

    #[test]
    fn id_is_read_off_the_summary() {
        assert_eq!(id(r#"{"summary":"opened lat-000123.bin"}"#), Some(123));
        assert_eq!(id(r#"{"summary":"opened 127.1.1.2"}"#), Some(258));
        assert_eq!(id(r#"{"summary":"opened weights.bin"}"#), None);
        assert_eq!(id("not json"), None);
    }
}
