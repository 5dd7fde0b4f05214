//! CPU time that the monitor adds to a system call: the generator's own, with and without it, in
//! turn, so that a drift of the host hits both alike.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::floor::{Floor, Kind};
use super::ground::{Ground, Order};
use super::peer::Peer;
use super::statistic::median;
use crate::actor::Operation;

/// What is measured: name, operation, whether it is watched, and the share of the operations that
/// its cost allows.
const SUBJECTS: &[(&str, Operation, bool, u32)] = &[
    ("open+read+close, unwatched", Operation::Open, false, 1),
    ("open+read+close, watched", Operation::Open, true, 1),
    ("open of a missing path", Operation::Openfail, false, 1),
    ("sendto 1 KiB", Operation::Sendto, false, 1),
    ("sendto 1 KiB, watched", Operation::Sendto, true, 1),
    ("pread 4 KiB", Operation::Pread, false, 1),
    ("getppid", Operation::Getppid, false, 1),
    ("write to /dev/null", Operation::Write, false, 1),
    ("write, weights read", Operation::Write, true, 1),
    ("write+read, pipe", Operation::Pipe, false, 1),
    ("write+read, pipe, weights read", Operation::Pipe, true, 1),
    ("connect+close", Operation::Connect, false, 10),
    ("refused connect", Operation::Refused, false, 10),
    ("fork+exec+wait", Operation::Exec, false, 200),
];

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Contender {
    Gpuwarden,
    /// Bare programs that count.
    Floor,
    /// Bare programs that send a record.
    FloorRing,
    Bpftrace,
}

/// One subject's figures.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    contender: Contender,
    subject: &'static str,
    pairs: u32,
    operations: u32,
    /// Medians, in nanoseconds of CPU time for one operation.
    without_ns: f64,
    with_ns: f64,
    /// Median of the differences within pairs.
    added_ns: f64,
    /// Median of the ratios within pairs.
    ratio: f64,
}

/// Pairs of one subject.
#[derive(Default)]
struct Pairs {
    without: Vec<f64>,
    with: Vec<f64>,
}

impl Pairs {
    fn row(&self, contender: Contender, subject: &'static str, operations: u32) -> Option<Row> {
        let pairs = || self.without.iter().zip(&self.with);
        let added: Vec<f64> = pairs().map(|(without, with)| with - without).collect();
        let ratios: Vec<f64> = pairs().map(|(without, with)| with / without).collect();
        Some(Row {
            contender,
            subject,
            pairs: u32::try_from(added.len()).ok()?,
            operations,
            without_ns: median(&self.without)?,
            with_ns: median(&self.with)?,
            added_ns: median(&added)?,
            ratio: median(&ratios)?,
        })
    }
}

pub(super) fn measure(ground: &Ground) -> Result<Vec<Row>> {
    let mut contenders = vec![Contender::Gpuwarden, Contender::Floor, Contender::FloorRing];
    if ground.with_peer {
        contenders.push(Contender::Bpftrace);
    }
    let rows = contenders.into_iter().map(|contender| measure_one(ground, contender));
    Ok(rows.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn measure_one(ground: &Ground, contender: Contender) -> Result<Vec<Row>> {
    let mut all: Vec<Pairs> = SUBJECTS.iter().map(|_| Pairs::default()).collect();
    for pair in 1..=ground.pairs {
        eprintln!("    … overhead of {contender:?}: pair {pair} of {}", ground.pairs);
        for (subject, pairs) in SUBJECTS.iter().zip(&mut all) {
            pairs.without.push(once(ground, subject)?);
        }
        let mut with = || -> Result<()> {
            for (subject, pairs) in SUBJECTS.iter().zip(&mut all) {
                pairs.with.push(once(ground, subject)?);
            }
            Ok(())
        };
        match contender {
            Contender::Gpuwarden => {
                let (monitor, _) = ground.monitor()?;
                with()?;
                monitor.stop()?;
            }
            Contender::Floor => {
                let _floor = floor(ground, Kind::Count)?;
                with()?;
            }
            Contender::FloorRing => {
                let _floor = floor(ground, Kind::Ring)?;
                with()?;
            }
            Contender::Bpftrace => {
                let _peer = Peer::start(&ground.interrupt)?;
                with()?;
            }
        }
    }
    SUBJECTS
        .iter()
        .zip(&all)
        .map(|(subject, pairs)| pairs.row(contender, subject.0, count(ground, subject)))
        .collect::<Option<_>>()
        .context("no pair was measured")
}

fn floor(ground: &Ground, kind: Kind) -> Result<Floor> {
    Floor::start(ground.floor.as_deref().context("the floor was not built")?, kind)
}

fn count(ground: &Ground, subject: &(&str, Operation, bool, u32)) -> u32 {
    (ground.operations / subject.3).max(100)
}

fn once(ground: &Ground, subject: &(&str, Operation, bool, u32)) -> Result<f64> {
    ground.interrupt.check()?;
    let order = Order {
        operation: subject.1,
        count: count(ground, subject),
        rate: None,
        is_watched: subject.2,
        is_unique: false,
        cpu: Some(ground.cpu),
    };
    let generated = ground.generate(order).with_context(|| subject.0.to_owned())?;
    Ok(generated.cpu_ns_per_operation)
}

pub(super) fn print(rows: &[Row]) {
    println!("\noverhead: CPU time of the caller for one operation, medians of pairs");
    println!("{:<39} {:>10} {:>10} {:>10} {:>7}", "", "without", "with", "added", "ratio");
    for row in rows {
        let contender = match row.contender {
            Contender::Gpuwarden => "gpuwarden",
            Contender::Floor => "floor",
            Contender::FloorRing => "floor-ring",
            Contender::Bpftrace => "bpftrace",
        };
        println!(
            "{contender:<10} {:<28} {:>7.0} ns {:>7.0} ns {:>7.0} ns {:>7.2}",
            row.subject, row.without_ns, row.with_ns, row.added_ns, row.ratio
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_time_is_the_median_of_differences_within_pairs() {
        // The host was twice as slow during the second pair: medians of each side would say 150.
        let pairs = Pairs { without: vec![100.0, 200.0, 100.0], with: vec![150.0, 300.0, 151.0] };
        let row = pairs.row(Contender::Gpuwarden, "x", 1).expect("three pairs");
        assert!((row.added_ns - 51.0).abs() < 1e-9);
        assert!((row.ratio - 1.5).abs() < 1e-9);
        assert!(Pairs::default().row(Contender::Gpuwarden, "x", 1).is_none());
    }
}
