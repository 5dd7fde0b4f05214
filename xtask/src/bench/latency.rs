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
use crate::stage::Monitor;

/// Operations that are measured in each case.
const OPERATIONS: u32 = 500;
/// Operations a second: far from every rate limit.
const PER_SECOND: f64 = 50.0;
/// Opens a second beside them, in the loaded case.
const LOAD_PER_SECOND: f64 = 200_000.0;
/// Time for the labelling of files that are there.
const SETTLE: Duration = Duration::from_secs(1);
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
    Ok(Row { case: name, operations: OPERATIONS, alerts: latencies.len(), p50_ms, p99_ms, max_ms })
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
            "{:<40} {:>7.2} ms {:>7.2} ms {:>7.2} ms {:>5} / {}",
            row.case, row.p50_ms, row.p99_ms, row.max_ms, row.alerts, row.operations
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_read_off_the_summary() {
        assert_eq!(id(r#"{"summary":"opened lat-000123.bin"}"#), Some(123));
        assert_eq!(id(r#"{"summary":"opened 127.1.1.2"}"#), Some(258));
        assert_eq!(id(r#"{"summary":"opened weights.bin"}"#), None);
        assert_eq!(id("not json"), None);
    }
}
