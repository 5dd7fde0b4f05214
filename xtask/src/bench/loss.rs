//! Records that are lost while two processes open files as fast as they can, by the monitor's own
//! books, which must balance.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::ground::{self, Ground, Order};
use crate::actor::Operation;
use crate::stage::Metrics;

/// Opens of one process, in operations of a measurement.
const OPENS_FACTOR: u32 = 5;
/// Processes that open at once.
const PROCESSES: u32 = 2;
/// Time for the rings to run empty before the books are read.
const SETTLE: Duration = Duration::from_secs(1);

/// What the kernel side counts, per kind and outcome.
const KERNEL: &str = "gpuwarden_kernel_records_total";
/// Outcomes that are no loss.
const KEPT: &[&str] = &["sent", "filtered"];
/// Outcomes that are.
const LOST: &[&str] = &["ring_full", "too_long", "map_full", "read_fault", "rate_limited"];

/// The books after the flood, less the books before.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    opens: u64,
    opens_per_second: f64,
    seen: f64,
    sent: f64,
    filtered: f64,
    /// By reason.
    lost: Vec<(&'static str, f64)>,
    /// Whether seen = sent + filtered + lost.
    is_balanced: bool,
    /// CPU time that the daemon took for it, in percent of one core.
    daemon_cpu_percent: f64,
}

pub(super) fn measure(ground: &Ground) -> Result<Row> {
    eprintln!("    … loss: {PROCESSES} processes open files at full speed");
    let (monitor, _) = ground.monitor()?;
    let before = monitor.metrics()?;
    let (cpu, wall) = (monitor.cpu_ns()?, crate::stage::mono_ns());
    let order = Order {
        operation: Operation::Open,
        count: ground.operations.saturating_mul(OPENS_FACTOR),
        rate: None,
        is_watched: true,
        is_unique: false,
        cpu: None,
    };
    let processes: Vec<_> = (0..PROCESSES).map(|_| ground.start(order)).collect::<Result<_>>()?;
    let mut opens_per_second = 0.0;
    let mut opens = 0;
    for process in processes {
        let generated = ground::finish(process)?;
        opens += u64::from(generated.count);
        opens_per_second += generated.operations_per_second;
    }
    sleep(SETTLE);
    let (cpu, wall) = (monitor.cpu_ns()? - cpu, crate::stage::mono_ns() - wall);
    let after = monitor.metrics()?;
    monitor.stop()?;
    let difference = |outcome: &str| difference(&before, &after, outcome);
    let seen = difference("seen")?;
    let kept: Vec<f64> = KEPT.iter().map(|outcome| difference(outcome)).collect::<Result<_>>()?;
    let lost = LOST
        .iter()
        .map(|outcome| Ok((*outcome, difference(outcome)?)))
        .collect::<Result<Vec<_>>>()?;
    let total: f64 = kept.iter().sum::<f64>() + lost.iter().map(|(_, lost)| lost).sum::<f64>();
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes fit 53 bits")]
    let daemon_cpu_percent = cpu as f64 / wall as f64 * 100.0;
    Ok(Row {
        opens,
        opens_per_second,
        seen,
        sent: kept[0],
        filtered: kept[1],
        lost,
        is_balanced: (seen - total).abs() < 0.5,
        daemon_cpu_percent,
    })
}

fn difference(before: &Metrics, after: &Metrics, outcome: &str) -> Result<f64> {
    let labels = [r#"kind="file_open""#.to_owned(), format!("outcome=\"{outcome}\"")];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let at = |metrics: &Metrics| {
        metrics
            .sum(KERNEL, &labels)
            .ok_or_else(|| anyhow!("/metrics has no {KERNEL}{{{}}}", labels.join(",")))
    };
    Ok(at(after)? - at(before)?)
}

pub(super) fn print(row: &Row) {
    println!("\nloss: {} opens at {:.0} a second", row.opens, row.opens_per_second);
    println!("  seen {:.0} = sent {:.0} + filtered {:.0} + lost", row.seen, row.sent, row.filtered);
    for (reason, lost) in &row.lost {
        println!("  lost, {reason}: {lost:.0}");
    }
    println!("  balanced: {}", if row.is_balanced { "yes" } else { "NO" });
    println!("  daemon: {:.1} % of one core", row.daemon_cpu_percent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_are_compared_and_a_missing_one_is_an_error() {
        let line = |outcome: &str, value: u32| {
            format!("{KERNEL}{{kind=\"file_open\",outcome=\"{outcome}\"}} {value}\n")
        };
        let before = Metrics::parse(&line("seen", 10));
        let after = Metrics::parse(&line("seen", 25));
        let seen = difference(&before, &after, "seen").expect("both have it");
        assert!((seen - 15.0).abs() < f64::EPSILON);
        assert!(difference(&before, &after, "sent").is_err());
    }
}
