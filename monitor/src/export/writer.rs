//! The thread between the queue and the spool; it also says aloud what was lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::encode::json;
use super::exporter::Shared;
use super::spool::RECORD_BYTES_MAX;
use super::stop::Stop;
use crate::alert::{Alert, Host, IdParts, OWN_RULE_PREFIX};
use crate::model::{Clock, Evidence};

/// Alerts written and synced at once.
const BATCH_MAX: usize = 256;
/// How often bounds are applied, a full disk is tried again, and the word to stop is looked for.
const WAKE_EVERY: Duration = Duration::from_millis(200);
/// Time between two announcements of losses: the loss of announcements is no news.
pub const ANNOUNCE_EVERY: Duration = Duration::from_mins(1);

pub(super) struct Writer {
    shared: Arc<Shared>,
    stop: Arc<Stop>,
    host: Host,
    /// Losses that were announced, by sink.
    announced: BTreeMap<String, u64>,
    announced_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, stop: Arc<Stop>, host: Host) -> Self {
        Self { shared, stop, host, announced: BTreeMap::new(), announced_at: None }
    }

    pub(super) fn run(mut self) {
        loop {
            let alerts = self.shared.queue.take(BATCH_MAX, WAKE_EVERY);
            if alerts.is_empty() && self.stop.is_said() {
                return;
            }
            let count = alerts.len();
            if let Some(spool) = &self.shared.spool {
                if alerts.is_empty() {
                    spool.tick(SystemTime::now());
                } else {
                    let payloads = alerts.iter().map(|alert| payload(alert)).collect();
                    spool.append(payloads, SystemTime::now());
                }
            }
            self.shared.queue.done(count);
            self.announce();
        }
    }

    /// Sends an alert about alerts that were lost, once in [`ANNOUNCE_EVERY`] at most.
    fn announce(&mut self) {
        if self.announced_at.is_some_and(|at| at.elapsed() < ANNOUNCE_EVERY) {
            return;
        }
        let mut parts = Vec::new();
        let mut total = 0;
        for slot in &self.shared.slots {
            let health = slot.health();
            let lost = health.dropped_queue + health.dropped_spool;
            let before = self.announced.insert(health.name.clone(), lost).unwrap_or(0);
            if lost > before {
                total += lost - before;
                parts.push(format!("{} ({})", health.name, lost - before));
            }
        }
        if parts.is_empty() {
            return;
        }
        self.announced_at = Some(Instant::now());
        let at = Clock::boot_now();
        let rule_id = format!("{OWN_RULE_PREFIX}export_loss");
        let id =
            IdParts { host: &self.host, rule_id: &rule_id, dedupe_key: &[], first_boot_ns: at.0 }
                .id();
        let wall = Clock::measure().wall(at);
        let mut alert = Alert::own(&self.host, id, rule_id, "Alerts were lost on their way", wall);
        alert.count = total;
        alert.summary = format!("alerts were lost before they were sent: {}", parts.join(", "));
        tracing::error!(summary = alert.summary, "alerts were lost");
        self.shared.submit(Arc::new(alert), None, Duration::ZERO);
    }
}

/// The alert as a record. One that is larger than a record can be goes without its long evidence,
/// and says so.
fn payload(alert: &Alert) -> Vec<u8> {
    let whole = json(alert).into_bytes();
    if whole.len() <= RECORD_BYTES_MAX {
        return whole;
    }
    let mut completeness = alert.evidence.completeness.clone();
    completeness.complete = false;
    completeness.losses.truncate(8);
    completeness.gaps.truncate(8);
    completeness.unknowns = vec![format!(
        "the evidence had {} bytes, more than the {RECORD_BYTES_MAX} that can be sent",
        whole.len()
    )];
    let short = Alert {
        evidence: Evidence { completeness, ..Evidence::default() },
        summary: alert.summary.chars().take(1000).collect(),
        false_positives: Vec::new(),
        workload: None,
        dedupe_key: Vec::new(),
        ..alert.clone()
    };
    let mut bytes = json(&short).into_bytes();
    if bytes.len() > RECORD_BYTES_MAX {
        // Only a rule file can have made it so long.
        bytes = json(&Alert { runbook: String::new(), ..short }).into_bytes();
    }
    bytes.truncate(RECORD_BYTES_MAX);
    bytes
}

#[cfg(test)]
mod tests {
    use super::payload;
    use crate::alert::Alert;
    use crate::export::encode::tests::sample;
    use crate::export::spool::RECORD_BYTES_MAX;

    #[test]
    fn an_alert_that_is_too_large_goes_without_its_evidence_and_says_so() {
        let mut alert = sample();
        alert.evidence.processes[0].args = vec!["x".repeat(2 * RECORD_BYTES_MAX)];
        let short: Alert = serde_json::from_slice(&payload(&alert)).unwrap();
        assert_eq!((&short.id, short.severity), (&alert.id, alert.severity));
        assert!(!short.evidence.completeness.complete);
        assert!(short.evidence.completeness.unknowns[0].contains("bytes"));
    }

    #[test]
    fn any_other_alert_goes_whole() {
        let alert = sample();
        assert_eq!(serde_json::from_slice::<Alert>(&payload(&alert)).unwrap(), alert);
    }
}
