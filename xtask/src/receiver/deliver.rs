//! Every alert of a real daemon arrives at a real rsyslog over TLS and at a webhook, each once,
//! although the webhook is down for a while and the daemon is killed meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::observe::judged;
use super::rsyslog::Rsyslog;
use super::tally::Tally;
use super::webhook::Webhook;
use crate::demo::{self, Scene};
use crate::stage::{Monitor, MonitorOptions};

/// Names of the sinks.
const SIEM: &str = "siem";
const HOOK: &str = "hook";
/// Patience with an arrival: the longest pause between two tries that an outage of this length
/// brings about, and a slow machine.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which nothing more may arrive once everything has.
const QUIET: Duration = Duration::from_secs(2);

/// How often each message came: its id, and the count of an update.
type Arrivals = BTreeMap<String, u32>;

/// Runs the whole play.
pub(super) fn check(scene: &mut Scene<'_>, tally: &mut Tally) -> Result<()> {
    let first = demo::incident("isolated-egress")?;
    let second = demo::incident("weight-exfiltration")?;
    scene.prepare(first)?;
    scene.prepare(second)?;
    let rsyslog = Rsyslog::start(scene)?;
    let mut webhook = Webhook::reserve()?;
    let options = scene.options("json", vec![rsyslog.sink(SIEM), webhook.sink(HOOK)])?;

    // The webhook is down in the first half, and comes up.
    let (mut monitor, _) = Monitor::start_ready(&options, scene.interrupt())?;
    let outcome = scene.play(first, &mut monitor)?;
    tally.note("the first incident raises its alert", judged(&outcome));
    let raised = raised(&options)?;
    tally.note("syslog has it while the webhook is down", at_syslog(scene, &rsyslog, &raised));
    tally.note("the webhook's alerts wait", waiting(scene, &monitor, raised.len()));
    webhook.up(scene)?;
    tally.note("the webhook gets what it missed", at_webhook(scene, &mut webhook, &raised));

    // It is down again, and the daemon is killed with an alert in the spool.
    webhook.down();
    let outcome = scene.play(second, &mut monitor)?;
    tally.note("the second incident raises its alert", judged(&outcome));
    let all = self::raised(&options)?;
    tally.note("its alert waits on disk", waiting(scene, &monitor, all.len() - raised.len()));
    // What rsyslog got is sent again when the daemon cannot know that it arrived.
    tally.note("syslog has settled", settled(scene, &monitor));
    monitor.kill()?;
    // A new log, for `raised` reads the old one.
    let options = MonitorOptions { logs: scene.folder("after")?, ..options };
    let (monitor, _) = Monitor::start_ready(&options, scene.interrupt())?;
    webhook.up(scene)?;
    tally.note("an alert outlives kill -9", at_webhook(scene, &mut webhook, &all));
    tally.note("syslog has all, none twice", at_syslog(scene, &rsyslog, &all));
    tally.note("posts are keyed, and JSON", well_formed(&mut webhook));
    let status = monitor.stop()?;
    if !status.success() {
        bail!("the monitor ended with {status} when it was asked to stop");
    }
    Ok(())
}

/// What was raised so far: the daemon's own output.
fn raised(options: &MonitorOptions) -> Result<Vec<String>> {
    let path = options.logs.join("monitor.out");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    text.lines()
        .map(|line| {
            let alert = serde_json::from_str(line).with_context(|| format!("no alert: {line}"))?;
            key(&alert).with_context(|| format!("no id: {line}"))
        })
        .collect()
}

/// What tells messages apart: as `Idempotency-Key` does.
fn key(alert: &Value) -> Option<String> {
    let id = alert["id"].as_str()?;
    Some(match alert["activity"].as_str()? {
        "update" => format!("{id}-{}", alert["count"]),
        _ => id.to_owned(),
    })
}

/// The same, of structured data (RFC 5424) as our own encoder writes it.
fn syslog_key(line: &str) -> Option<String> {
    let param = |name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let id = param("id")?;
    Some(match param("activity")? {
        "update" => format!("{id}-{}", param("count")?),
        _ => id.to_owned(),
    })
}

fn counted(keys: impl Iterator<Item = String>) -> Arrivals {
    let mut arrivals = Arrivals::new();
    for key in keys {
        *arrivals.entry(key).or_default() += 1;
    }
    arrivals
}

/// Waits until every key is there, then a while for what must not come.
fn each_once(
    scene: &Scene<'_>,
    wanted: &[String],
    mut arrived: impl FnMut() -> Arrivals,
) -> Result<String> {
    let begin = Instant::now();
    let came = scene.interrupt().wait(ARRIVAL_TIMEOUT, || {
        let arrivals = arrived();
        Ok(wanted.iter().all(|key| arrivals.contains_key(key)))
    })?;
    let took = begin.elapsed();
    scene.interrupt().wait(QUIET, || Ok(false))?;
    let arrivals = arrived();
    if !came {
        bail!("of {wanted:?} only {arrivals:?} came within {ARRIVAL_TIMEOUT:?}");
    }
    if wanted.is_empty() || arrivals.len() != wanted.len() {
        bail!("{wanted:?} were raised and {arrivals:?} came");
    }
    if let Some((key, times)) = arrivals.iter().find(|(_, times)| **times != 1) {
        bail!("{key} came {times} times");
    }
    Ok(format!("{} of {}, once each, after {} ms", arrivals.len(), wanted.len(), took.as_millis()))
}

fn at_syslog(scene: &Scene<'_>, rsyslog: &Rsyslog, wanted: &[String]) -> Result<String> {
    each_once(scene, wanted, || {
        let lines = rsyslog.received();
        counted(lines.iter().map(|line| syslog_key(line).unwrap_or_else(|| line.clone())))
    })
}

fn at_webhook(scene: &Scene<'_>, webhook: &mut Webhook, wanted: &[String]) -> Result<String> {
    each_once(scene, wanted, || {
        let posts = webhook.received();
        counted(posts.iter().map(|post| key(&post["alert"]).unwrap_or_else(|| post.to_string())))
    })
}

/// So many alerts wait for the webhook, and it counts as down.
fn waiting(scene: &Scene<'_>, monitor: &Monitor, alerts: usize) -> Result<String> {
    let sink = format!("sink=\"{HOOK}\"");
    let mut last = (None, None, None);
    let is_so = scene.interrupt().wait(ARRIVAL_TIMEOUT, || {
        let metrics = monitor.metrics()?;
        let sum = |name: &str| metrics.sum(name, &[&sink]);
        last = (
            sum("gpuwarden_sink_up"),
            sum("gpuwarden_sink_pending_alerts"),
            sum("gpuwarden_sink_failures_total"),
        );
        let (up, pending, failures) = last;
        Ok(up == Some(0.0) && pending == Some(small(alerts)) && failures > Some(0.0))
    })?;
    if !is_so {
        bail!("up, pending, failures are {last:?}, and {alerts} alerts must wait");
    }
    Ok(format!("{alerts} pending, {} failed tries", last.2.unwrap_or_default()))
}

/// Nothing waits for syslog.
fn settled(scene: &Scene<'_>, monitor: &Monitor) -> Result<String> {
    let sink = format!("sink=\"{SIEM}\"");
    let is_so = scene.interrupt().wait(ARRIVAL_TIMEOUT, || {
        let pending = monitor.metrics()?.sum("gpuwarden_sink_pending_alerts", &[&sink]);
        Ok(pending == Some(0.0))
    })?;
    if !is_so {
        bail!("alerts still wait for syslog after {ARRIVAL_TIMEOUT:?}");
    }
    Ok("0 pending".to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "a handful of alerts")]
fn small(count: usize) -> f64 {
    count as f64
}

/// Each post is JSON, and its key is that of the alert in it.
fn well_formed(webhook: &mut Webhook) -> Result<String> {
    let posts = webhook.received();
    for post in &posts {
        if post["content_type"] != "application/json" {
            bail!("a post's content type is {}", post["content_type"]);
        }
        if post["key"].as_str() != key(&post["alert"]).as_deref() {
            bail!("the key {} is not that of {}", post["key"], post["alert"]["id"]);
        }
    }
    Ok(format!("{} posts", posts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_told_by_the_same_key_everywhere() {
        let alert = serde_json::json!({ "id": "a", "activity": "new", "count": 1 });
        let line = r#"gpuwarden [x@1 id="a" activity="new" rule="r" count="1"]"#;
        assert_eq!(key(&alert).as_deref(), Some("a"));
        assert_eq!(syslog_key(line), key(&alert));
        let alert = serde_json::json!({ "id": "a", "activity": "update", "count": 7 });
        let line = r#"gpuwarden [x@1 id="a" activity="update" rule="r" count="7"]"#;
        assert_eq!(key(&alert).as_deref(), Some("a-7"));
        assert_eq!(syslog_key(line), key(&alert));
        assert_eq!(syslog_key("noise"), None);
    }
}
