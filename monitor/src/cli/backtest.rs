//! `gpuwarden rules backtest`: what rules would have found in the local store of events.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::rules::refuse;
use super::selection::Selection;
use crate::alert::{Activity, Alert, AlertConfig, Host};
use crate::model::{BootNs, Clock, FactRow, Facts as _, WallNs};
use crate::pipeline::Replay;
use crate::recording::{StoredSegment, segments};
use crate::rule::{RuleSet, parse_span};

/// Workloads that are named for each rule, those with most alerts first.
const NAMED_MAX: usize = 5;

/// What `backtest` takes.
#[derive(Clone, Debug, Args)]
pub(super) struct BacktestArgs {
    #[command(flatten)]
    rules: Selection,
    /// How far back, such as 7d, 12h or 30m
    #[arg(long, default_value = "7d")]
    since: String,
    /// Only this rule; may be given more than once
    #[arg(long, value_name = "ID")]
    rule: Vec<String>,
    /// Directory of the store of events
    #[arg(long, value_name = "DIR", default_value = "/var/lib/gpuwarden/events")]
    store: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one rule would have done.
#[derive(Clone, Debug, Default, Serialize)]
struct Row {
    rule: String,
    severity: String,
    alerts: u64,
    first: Option<String>,
    last: Option<String>,
    workloads: BTreeMap<String, u64>,
    example: String,
}

/// Runs the rules over the store.
pub(super) fn run(args: &BacktestArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let rules = match args.rules.read()? {
        Ok(rules) => rules,
        Err(mistakes) => return refuse(&mistakes, out),
    };
    let Some(since_ns) = parse_span(&args.since) else {
        bail!("`--since {}` is not a time; write a number and s, m, h or d", args.since);
    };
    let now = SystemTime::now();
    let from = now.checked_sub(Duration::from_nanos(since_ns)).unwrap_or(SystemTime::UNIX_EPOCH);
    let stored: Vec<StoredSegment> = segments(&args.store)
        .with_context(|| {
            let dir = args.store.display();
            format!("{dir}: no store of events; switch it on with `store: {{enabled: true}}`")
        })?
        .into_iter()
        .filter(|segment| segment.written >= from)
        .collect();
    let oldest_wall_ns = nanoseconds(from);
    let mut rows: BTreeMap<String, Row> = rules
        .rules
        .iter()
        .filter(|rule| {
            args.rule.is_empty() || args.rule.iter().any(|id| rule.meta.id.as_str() == id)
        })
        .map(|rule| {
            let (rule, severity) = (rule.meta.id.to_string(), rule.meta.severity.to_string());
            (rule.clone(), Row { rule, severity, ..Row::default() })
        })
        .collect();
    if let Some(id) = args.rule.iter().find(|id| !rows.contains_key(*id)) {
        bail!("no rule has the id `{id}`; `gpuwarden rules list` shows all");
    }
    let (events, span) = replay(&rules, &stored, oldest_wall_ns, &mut rows)?;
    if args.json {
        let rows: Vec<&Row> = rows.values().collect();
        let json = serde_json::json!({
            "events": events, "segments": stored.len(), "rules": rows,
            "from": span.map(|span| WallNs(span.0).to_rfc3339()),
            "to": span.map(|span| WallNs(span.1).to_rfc3339()),
        });
        writeln!(out, "{json:#}")?;
    } else {
        print(&rows, events, span, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Plays the segments in order. Segments may come from several boots, so time is wall time here.
fn replay(
    rules: &RuleSet,
    stored: &[StoredSegment],
    oldest_wall_ns: u64,
    rows: &mut BTreeMap<String, Row>,
) -> anyhow::Result<(u64, Option<(u64, u64)>)> {
    let host = Host { name: "store".to_owned(), boot_id: String::new() };
    let config =
        AlertConfig { per_minute_max: u32::MAX, burst_max: u32::MAX, ..Default::default() };
    let mut replay = Replay::new(rules, config, host, Clock::default());
    let mut span: Option<(u64, u64)> = None;
    for segment in stored {
        let name = segment.path.display();
        let mut reader = segment.open().with_context(|| name.to_string())?;
        let boot = reader.header.wall_at_boot_ns;
        while let Some(row) = reader.next_row().with_context(|| name.to_string())? {
            let at = row.time().0.saturating_add(boot);
            if at < oldest_wall_ns {
                continue;
            }
            span = Some(span.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
            let row = row.at(BootNs(at));
            replay.take(&row, &mut |alert, row| count(rows, &alert, row));
        }
    }
    Ok((replay.events(), span))
}

fn count(rows: &mut BTreeMap<String, Row>, alert: &Alert, _event: &FactRow) {
    if alert.activity != Activity::New {
        return;
    }
    let Some(row) = rows.get_mut(&alert.rule.id) else { return };
    row.alerts += 1;
    let when = alert.last_seen.to_rfc3339();
    row.first.get_or_insert_with(|| when.clone());
    row.last = Some(when);
    if row.example.is_empty() {
        row.example.clone_from(&alert.summary);
    }
    let name = alert.workload.as_ref().map_or_else(
        || "no workload".to_owned(),
        |workload| match workload.name.as_str() {
            "" => workload.id.clone(),
            name => name.to_owned(),
        },
    );
    *row.workloads.entry(name).or_default() += 1;
}

fn print(
    rows: &BTreeMap<String, Row>,
    events: u64,
    span: Option<(u64, u64)>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match span {
        Some((from, to)) => {
            let (from, to) = (WallNs(from).to_rfc3339(), WallNs(to).to_rfc3339());
            writeln!(out, "{events} events from {from} to {to}\n")?;
        }
        None => writeln!(out, "the store holds no events of that time\n")?,
    }
    let width = rows.keys().map(String::len).max().unwrap_or(0);
    let mut sorted: Vec<&Row> = rows.values().collect();
    sorted.sort_by_key(|row| (std::cmp::Reverse(row.alerts), &row.rule));
    for row in sorted.iter().filter(|row| row.alerts > 0) {
        let mut named: Vec<(&String, &u64)> = row.workloads.iter().collect();
        named.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
        let more = named.len().saturating_sub(NAMED_MAX);
        let mut words: Vec<String> =
            named.iter().take(NAMED_MAX).map(|(name, count)| format!("{name} ({count})")).collect();
        if more > 0 {
            words.push(format!("{more} more"));
        }
        let (id, severity, alerts) = (&row.rule, &row.severity, row.alerts);
        writeln!(out, "{id:width$}  {severity:8}  {alerts:6} alerts  {}", words.join(", "))?;
        writeln!(out, "{:width$}  e.g. {}", "", row.example)?;
    }
    let silent = sorted.iter().filter(|row| row.alerts == 0).count();
    if silent > 0 {
        writeln!(out, "{silent} rules would have been silent")?;
    }
    Ok(())
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{FORMAT, Header, Store, StoreConfig};
    use crate::rule::parse_rows;

    const UPLOAD: &str = include_str!("../../../rules/weights/fixtures/weights_upload.jsonl");

    /// A store in which the upload happened twice: in this boot, and ten days ago in another one.
    fn fill(dir: &std::path::Path) {
        let now = nanoseconds(SystemTime::now());
        let day = 86_400_000_000_000;
        for wall_at_boot_ns in [now - 10 * day, now - 3_600_000_000_000] {
            let header = Header {
                format: FORMAT,
                version: "1".into(),
                revision: "r".into(),
                host: Host { name: "node-1".into(), boot_id: "b".into() },
                wall_at_boot_ns,
                sensors: Vec::new(),
            };
            let age_max = Duration::from_hours(1_000);
            let config = StoreConfig { dir: dir.to_owned(), bytes_max: 1 << 30, age_max };
            let mut store = Store::open(config, header).expect("opens");
            for row in parse_rows(UPLOAD).expect("the fixture reads") {
                store.row(row.to_json()).expect("writes");
            }
            store.finish(0).expect("ends");
        }
    }

    fn backtest(store: &std::path::Path, since: &str) -> serde_json::Value {
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../rules");
        let args = BacktestArgs {
            rules: Selection::of(vec![rules.into()]),
            since: since.to_owned(),
            rule: vec!["weights-bulk-egress".to_owned()],
            store: store.to_owned(),
            json: true,
        };
        let mut out = Vec::new();
        run(&args, &mut out).expect("runs");
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn rules_are_asked_of_the_stored_events_of_the_time_that_was_named() {
        let dir = tempfile::tempdir().expect("a folder");
        fill(dir.path());
        for (since, alerts) in [("7d", 1), ("20d", 2), ("1m", 0)] {
            let found = backtest(dir.path(), since);
            assert_eq!(found["rules"][0]["alerts"], alerts, "{since}: {found}");
        }
        let found = backtest(dir.path(), "7d");
        let workloads = found["rules"][0]["workloads"].as_object().expect("workloads");
        assert_eq!(workloads.len(), 1, "{found}");
    }

    #[test]
    fn missing_store_is_told_with_its_cure() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = segments(&dir.path().join("none")).expect_err("it is missing");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        let args = BacktestArgs {
            rules: Selection::of(Vec::new()),
            since: "7d".into(),
            rule: Vec::new(),
            store: dir.path().join("none"),
            json: false,
        };
        let error = run(&args, &mut Vec::new()).expect_err("there is no store");
        assert!(error.to_string().contains("store: {enabled: true}"), "{error}");
    }
}
