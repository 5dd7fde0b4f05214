//! Finding → alert: merges repeats, counts them, and keeps a flood from drowning the receivers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::bucket::Bucket;
use super::{
    Activity, Alert, AlertRule, AlertTags, Host, IdParts, OWN_RULE_PREFIX, SCHEMA_VERSION,
    redact_args, redact_text,
};
use crate::correlate::Finding;
use crate::model::{BootNs, Clock, Evidence, Severity, WallNs};
use crate::rule::spec::RuleMeta;

/// Default bound on incidents remembered for dedupe. At some 4 KiB each this is 16 MiB at worst;
/// a host with more open incidents than this has one incident: the host.
pub const DEDUPE_KEYS_MAX: usize = 4096;
/// Default alerts per minute in the long run: more than a person or a ticket system can take.
pub const ALERTS_PER_MINUTE_MAX: u32 = 60;
/// Default alerts at once, before the rate above applies.
pub const ALERTS_BURST_MAX: u32 = 120;
/// Share of the burst that only high and critical alerts may use: one quarter, so that a flood of
/// small ones never hides a big one.
pub const BURST_RESERVE_DIVISOR: u32 = 4;
/// Time between two updates of the count of one incident, in nanoseconds: five minutes.
pub const UPDATE_EVERY_NS: u64 = 300_000_000_000;
/// Messages that wait for the next [`Alerter::tick`]; the oldest is dropped and counted.
pub const PENDING_MAX: usize = 4096;
/// Rules named in the announcement of the rate limit.
const ANNOUNCED_RULES_MAX: usize = 10;
/// The rate limit is called over after this much event time without a suppressed alert.
const LIMIT_QUIET_NS: u64 = 60_000_000_000;

/// Bounds and switches of the [`Alerter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertConfig {
    /// Incidents remembered for dedupe.
    pub dedupe_keys_max: usize,
    /// Alerts per minute of event time in the long run.
    pub per_minute_max: u32,
    /// Alerts at once.
    pub burst_max: u32,
    /// Time between two updates of one incident's count, in nanoseconds of event time.
    pub update_every_ns: u64,
    /// Whether secrets are taken out of arguments and sentences.
    pub redact: bool,
}

impl Default for AlertConfig {
    fn default() -> Self {
        Self {
            dedupe_keys_max: DEDUPE_KEYS_MAX,
            per_minute_max: ALERTS_PER_MINUTE_MAX,
            burst_max: ALERTS_BURST_MAX,
            update_every_ns: UPDATE_EVERY_NS,
            redact: true,
        }
    }
}

/// What became of the findings so far. `findings = alerted + repeated + rate_limited`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertStats {
    /// Findings taken in.
    pub findings: u64,
    /// Findings that became a new alert.
    pub alerted: u64,
    /// Findings merged into an alert that was there.
    pub repeated: u64,
    /// Findings held back by the rate limit.
    pub rate_limited: u64,
    /// Incidents forgotten early because the table was full.
    pub evicted: u64,
    /// Updates dropped because nobody called [`Alerter::tick`].
    pub updates_dropped: u64,
    /// Incidents in the table now.
    pub open: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    rule: String,
    values: Vec<String>,
}

/// An incident inside its dedupe time.
struct Incident {
    /// The alert as first sent; count and last time move on.
    alert: Alert,
    expires: BootNs,
    next_update: BootNs,
    reported: u64,
}

/// A stretch of time in which alerts were held back.
struct Suppression {
    announcement: Alert,
    by_rule: BTreeMap<String, u64>,
    other: u64,
    last: BootNs,
    next_update: BootNs,
    reported: u64,
}

/// Turns findings into alerts. Deterministic: time is the time of events and of
/// [`Alerter::tick`], never a clock of its own.
pub struct Alerter {
    config: AlertConfig,
    host: Host,
    clock: Clock,
    open: HashMap<Key, Incident>,
    /// Keys by end of their dedupe time, for eviction and closing.
    by_expiry: BTreeMap<(BootNs, u64), Key>,
    expiry_of: HashMap<Key, (BootNs, u64)>,
    serial: u64,
    bucket: Bucket,
    suppression: Option<Suppression>,
    pending: VecDeque<Alert>,
    stats: AlertStats,
}

impl Alerter {
    /// An alerter that has seen nothing yet.
    pub fn new(config: AlertConfig, host: Host, clock: Clock) -> Self {
        let bucket = Bucket::new(config.per_minute_max, config.burst_max);
        Self {
            config,
            host,
            clock,
            open: HashMap::new(),
            by_expiry: BTreeMap::new(),
            expiry_of: HashMap::new(),
            serial: 0,
            bucket,
            suppression: None,
            pending: VecDeque::new(),
            stats: AlertStats::default(),
        }
    }

    /// Takes a finding; gives the alert where it is the first of its incident and the rate limit
    /// lets it pass. Repeats are counted and come out of [`Alerter::tick`].
    pub fn on_finding(&mut self, finding: Finding, evidence: Evidence) -> Option<Alert> {
        self.on_finding_with(finding, || evidence)
    }

    /// As [`Alerter::on_finding`]; gathers the evidence only where it is needed.
    pub fn on_finding_with(
        &mut self,
        finding: Finding,
        evidence: impl FnOnce() -> Evidence,
    ) -> Option<Alert> {
        self.stats.findings += 1;
        let key =
            Key { rule: finding.rule.id.as_str().to_owned(), values: finding.dedupe_key.clone() };
        let last_seen = wall_ms(self.clock, finding.time);
        if let Some(incident) = self.open.get_mut(&key) {
            if finding.time < incident.expires {
                incident.alert.count += 1;
                incident.alert.last_seen = incident.alert.last_seen.max(last_seen);
                self.stats.repeated += 1;
                return None;
            }
            self.close(&key);
        }
        let severity = finding.severity();
        let reserve = if severity >= Severity::High {
            0
        } else {
            self.config.burst_max / BURST_RESERVE_DIVISOR
        };
        if !self.bucket.take(finding.time, reserve) {
            self.suppress(&key.rule, finding.time);
            return None;
        }
        let (time, dedupe_for_ns) = (finding.time, finding.dedupe_for_ns);
        let alert = self.alert(finding, evidence());
        self.stats.alerted += 1;
        if dedupe_for_ns > 0 {
            self.remember(key, alert.clone(), time, dedupe_for_ns);
        }
        Some(alert)
    }

    /// Counts that are due at `now`: updates of incidents that repeated, the last word on those
    /// whose dedupe time is over, and the state of the rate limit. Call it about once a second.
    pub fn tick(&mut self, now: BootNs) -> Vec<Alert> {
        while let Some((&(expires, _), _)) = self.by_expiry.first_key_value() {
            if expires > now {
                break;
            }
            let Some((_, key)) = self.by_expiry.pop_first() else { break };
            self.close(&key);
        }
        let mut updates = Vec::new();
        let every = self.config.update_every_ns;
        for incident in self.open.values_mut() {
            if now < incident.next_update {
                continue;
            }
            incident.next_update = BootNs(now.0.saturating_add(every));
            if incident.alert.count > incident.reported {
                incident.reported = incident.alert.count;
                updates.push(Alert { activity: Activity::Update, ..incident.alert.clone() });
            }
        }
        updates.sort_by(|a, b| (a.first_seen, &a.id).cmp(&(b.first_seen, &b.id)));
        for update in updates {
            self.push_pending(update);
        }
        self.tick_suppression(now);
        self.pending.drain(..).collect()
    }

    /// The last word on everything open, for a clean shutdown.
    pub fn close_all(&mut self) -> Vec<Alert> {
        self.tick(BootNs(u64::MAX))
    }

    /// What became of the findings so far.
    pub fn stats(&self) -> AlertStats {
        AlertStats { open: self.open.len() as u64, ..self.stats }
    }

    fn alert(&self, finding: Finding, mut evidence: Evidence) -> Alert {
        let severity = finding.severity();
        let Finding { rule, time, first_time, message, mut dedupe_key, .. } = finding;
        let id = IdParts {
            host: &self.host,
            rule_id: rule.id.as_str(),
            dedupe_key: &dedupe_key,
            first_boot_ns: first_time.0,
        }
        .id();
        let mut summary = message;
        if self.config.redact {
            summary = redact_text(&summary);
            for process in &mut evidence.processes {
                process.args = redact_args(&process.args);
            }
            for value in &mut dedupe_key {
                *value = redact_text(value);
            }
        }
        finite(&mut evidence);
        Alert {
            schema_version: SCHEMA_VERSION.to_owned(),
            id,
            activity: Activity::New,
            rule: AlertRule {
                id: rule.id.as_str().to_owned(),
                version: rule.version.clone(),
                title: rule.title.clone(),
            },
            severity,
            tags: tags(&rule),
            summary,
            first_seen: wall_ms(self.clock, first_time),
            last_seen: wall_ms(self.clock, time),
            count: 1,
            host: self.host.clone(),
            workload: evidence.workload.take(),
            evidence,
            false_positives: rule.false_positives.clone(),
            runbook: rule.runbook.clone(),
            dedupe_key,
        }
    }

    fn remember(&mut self, key: Key, alert: Alert, time: BootNs, for_ns: u64) {
        while self.open.len() >= self.config.dedupe_keys_max.max(1) {
            let Some((_, oldest)) = self.by_expiry.pop_first() else { break };
            self.stats.evicted += 1;
            self.close(&oldest);
        }
        let expires = BootNs(time.0.saturating_add(for_ns));
        let next_update = BootNs(time.0.saturating_add(self.config.update_every_ns));
        self.serial += 1;
        self.by_expiry.insert((expires, self.serial), key.clone());
        self.expiry_of.insert(key.clone(), (expires, self.serial));
        self.open.insert(key, Incident { reported: alert.count, alert, expires, next_update });
    }

    /// Ends an incident; reports its count where somebody has yet to hear of the last repeats.
    fn close(&mut self, key: &Key) {
        if let Some(at) = self.expiry_of.remove(key) {
            self.by_expiry.remove(&at);
        }
        let Some(incident) = self.open.remove(key) else { return };
        if incident.alert.count > incident.reported {
            self.push_pending(Alert { activity: Activity::Update, ..incident.alert });
        }
    }

    fn push_pending(&mut self, alert: Alert) {
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
            self.stats.updates_dropped += 1;
        }
        self.pending.push_back(alert);
    }

    fn suppress(&mut self, rule: &str, at: BootNs) {
        self.stats.rate_limited += 1;
        if self.suppression.is_none() {
            let announcement = self.own_alert("rate_limit", "Alerts are being held back", at);
            let next_update = at;
            self.suppression = Some(Suppression {
                announcement: Alert { count: 0, ..announcement },
                by_rule: BTreeMap::new(),
                other: 0,
                last: at,
                next_update,
                reported: 0,
            });
        }
        let Some(suppression) = &mut self.suppression else { return };
        suppression.last = suppression.last.max(at);
        suppression.announcement.count += 1;
        suppression.announcement.last_seen =
            suppression.announcement.last_seen.max(wall_ms(self.clock, at));
        if suppression.by_rule.len() < ANNOUNCED_RULES_MAX || suppression.by_rule.contains_key(rule)
        {
            *suppression.by_rule.entry(rule.to_owned()).or_default() += 1;
        } else {
            suppression.other += 1;
        }
    }

    fn tick_suppression(&mut self, now: BootNs) {
        let Some(suppression) = &mut self.suppression else { return };
        let is_over = now.since(suppression.last) >= LIMIT_QUIET_NS;
        let count = suppression.announcement.count;
        let is_news = count > suppression.reported;
        let is_due = is_news && now >= suppression.next_update;
        if is_due || (is_over && is_news) {
            let mut alert = suppression.announcement.clone();
            alert.activity =
                if suppression.reported == 0 { Activity::New } else { Activity::Update };
            alert.summary = suppression_summary(suppression, &self.config);
            suppression.reported = count;
            suppression.next_update = BootNs(now.0.saturating_add(self.config.update_every_ns));
            self.push_pending(alert);
        }
        if is_over {
            self.suppression = None;
        }
    }

    /// An alert of the monitor about itself.
    fn own_alert(&self, name: &str, title: &str, at: BootNs) -> Alert {
        let rule_id = format!("{OWN_RULE_PREFIX}{name}");
        let parts =
            IdParts { host: &self.host, rule_id: &rule_id, dedupe_key: &[], first_boot_ns: at.0 };
        Alert::own(&self.host, parts.id(), rule_id, title, wall_ms(self.clock, at))
    }
}

impl Alert {
    /// An alert of the monitor about itself: high, since somebody may be blind.
    pub(crate) fn own(host: &Host, id: String, rule_id: String, title: &str, at: WallNs) -> Self {
        let mut evidence = Evidence::default();
        evidence.completeness.complete = true;
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            id,
            activity: Activity::New,
            rule: AlertRule {
                id: rule_id,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                title: title.to_owned(),
            },
            severity: Severity::High,
            tags: AlertTags::default(),
            summary: title.to_owned(),
            first_seen: at,
            last_seen: at,
            count: 1,
            host: host.clone(),
            workload: None,
            evidence,
            false_positives: Vec::new(),
            runbook: "docs/alerts.md#alerts-about-the-monitor".to_owned(),
            dedupe_key: Vec::new(),
        }
    }
}

fn suppression_summary(suppression: &Suppression, config: &AlertConfig) -> String {
    let mut rules: Vec<String> =
        suppression.by_rule.iter().map(|(rule, count)| format!("{rule} ({count})")).collect();
    if suppression.other > 0 {
        rules.push(format!("others ({})", suppression.other));
    }
    format!(
        "{} alerts were held back by the limit of {} per minute (burst {}): {}",
        suppression.announcement.count,
        config.per_minute_max,
        config.burst_max,
        rules.join(", "),
    )
}

/// Wall time in whole milliseconds, which is what alerts are written with.
fn wall_ms(clock: Clock, at: BootNs) -> WallNs {
    WallNs(clock.wall(at).0 / 1_000_000 * 1_000_000)
}

/// JSON has no word for a number that is none; one in an alert would make it unreadable.
fn finite(evidence: &mut Evidence) {
    for gpu in &mut evidence.gpus {
        for number in [&mut gpu.util_mean_percent, &mut gpu.util_cv] {
            if !number.is_finite() {
                *number = 0.0;
            }
        }
        gpu.util_curve.retain(|number| number.is_finite());
    }
}

fn tags(rule: &RuleMeta) -> AlertTags {
    // The code is for the catalogue's readers; an alert has the rule's id.
    let crate::rule::spec::Tags { attack, atlas, attack_version, atlas_version, code: _ } =
        &rule.tags;
    AlertTags {
        attack: attack.clone(),
        atlas: atlas.clone(),
        attack_version: attack_version.clone(),
        atlas_version: atlas_version.clone(),
    }
}

#[cfg(test)]
mod tests;
