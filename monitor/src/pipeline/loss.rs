//! What was lost. A loss is a fact: it enters the event stream, and every alert made within ten
//! minutes of it says so.

use std::collections::VecDeque;

use monitor_common::{KindCounters, kind_name};

use crate::decode::DecodeStats;
use crate::model::{BootNs, CgroupId, Event, Loss, LossEvidence, LossReason};
use crate::sensor::KernelCounters;

/// How long a loss is told in alerts.
const TOLD_FOR_NS: u64 = 600_000_000_000;
/// Losses that are told at once; the oldest is left out.
pub(super) const LOSSES_TOLD_MAX: usize = 64;
/// Kinds of record that the kernel counts.
const KINDS: usize = monitor_common::KIND_COUNT;

/// Compares counters with what they were, and keeps what was lost lately.
#[derive(Debug)]
pub(super) struct LossMeter {
    kernel: [KindCounters; KINDS],
    decode: DecodeStats,
    recent: VecDeque<(BootNs, LossEvidence)>,
}

impl Default for LossMeter {
    fn default() -> Self {
        Self {
            kernel: [KindCounters::default(); KINDS],
            decode: DecodeStats::default(),
            recent: VecDeque::new(),
        }
    }
}

impl LossMeter {
    /// Takes new counters; gives an event for each thing lost since the last ones.
    pub(super) fn take(
        &mut self,
        now: BootNs,
        kernel: &[KernelCounters],
        decode: DecodeStats,
        noisiest: Option<u64>,
    ) -> Vec<Event> {
        let mut losses = Vec::new();
        for row in kernel {
            let Some(before) = self.kernel.get_mut(usize::from(row.kind)) else { continue };
            let sensor = kind_name(row.kind).unwrap_or("unknown");
            for (reason, now, before) in reasons(&row.counters, before) {
                losses.push((sensor, reason, now.saturating_sub(before)));
            }
            *before = row.counters;
        }
        let malformed = decode.malformed.saturating_sub(self.decode.malformed);
        losses.push(("decode", LossReason::Malformed, malformed));
        let unknown = decode.unknown.saturating_sub(self.decode.unknown);
        losses.push(("decode", LossReason::Unknown, unknown));
        self.decode = decode;
        self.recent.retain(|(at, _)| now.since(*at) <= TOLD_FOR_NS);
        losses
            .into_iter()
            .filter(|(_, _, lost)| *lost > 0)
            .map(|(sensor, reason, lost)| self.event(now, sensor, reason, lost, noisiest))
            .collect()
    }

    fn event(
        &mut self,
        now: BootNs,
        sensor: &'static str,
        reason: LossReason,
        lost: u64,
        noisiest: Option<u64>,
    ) -> Event {
        if self.recent.len() >= LOSSES_TOLD_MAX {
            self.recent.pop_front();
        }
        let told = LossEvidence { sensor: sensor.into(), reason: reason.as_str().into(), lost };
        self.recent.push_back((now, told));
        let noisiest = noisiest.map(CgroupId);
        Event {
            time: now,
            actor: None,
            body: crate::model::Body::Loss(Loss { sensor, reason, lost, noisiest }),
        }
    }

    /// What was lost lately, one entry a sensor and reason.
    pub(super) fn recent(&self) -> Vec<LossEvidence> {
        let mut sums: Vec<LossEvidence> = Vec::new();
        for (_, loss) in &self.recent {
            let same =
                sums.iter_mut().find(|sum| sum.sensor == loss.sensor && sum.reason == loss.reason);
            match same {
                Some(sum) => sum.lost += loss.lost,
                None => sums.push(loss.clone()),
            }
        }
        sums
    }
}

/// Each reason for a loss with its count now and before.
fn reasons(now: &KindCounters, before: &KindCounters) -> [(LossReason, u64, u64); 5] {
    [
        (LossReason::RingFull, now.ring_full, before.ring_full),
        (LossReason::TooLong, now.too_long, before.too_long),
        (LossReason::MapFull, now.map_full, before.map_full),
        (LossReason::ReadFault, now.read_fault, before.read_fault),
        (LossReason::RateLimited, now.rate_limited, before.rate_limited),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Body;

    fn counters(ring_full: u64) -> [KernelCounters; 1] {
        let counters = KindCounters { seen: 10, ring_full, ..KindCounters::default() };
        [KernelCounters { kind: monitor_common::KIND_FLOW, counters }]
    }

    #[test]
    fn each_loss_is_told_once_as_an_event_and_for_ten_minutes_in_alerts() {
        let mut meter = LossMeter::default();
        let decode = DecodeStats::default();
        let events = meter.take(BootNs(1), &counters(3), decode, Some(7));
        let Body::Loss(loss) = &events[0].body else { panic!("not a loss") };
        assert_eq!((loss.sensor, loss.lost, loss.noisiest), ("flow", 3, Some(CgroupId(7))));
        assert!(meter.take(BootNs(2), &counters(3), decode, None).is_empty());
        assert_eq!(meter.take(BootNs(3), &counters(5), decode, None).len(), 1);
        assert_eq!(meter.recent()[0].lost, 5);
        meter.take(BootNs(4 + TOLD_FOR_NS), &counters(5), decode, None);
        assert!(meter.recent().is_empty());
    }

    #[test]
    fn refused_records_are_losses_too() {
        let mut meter = LossMeter::default();
        let decode = DecodeStats { received: 5, decoded: 2, malformed: 2, unknown: 1 };
        assert_eq!(meter.take(BootNs(1), &[], decode, None).len(), 2);
    }

    #[test]
    fn losses_that_are_told_are_bounded() {
        let mut meter = LossMeter::default();
        for round in 1..=(LOSSES_TOLD_MAX as u64 + 10) {
            meter.take(BootNs(round), &counters(round), DecodeStats::default(), None);
        }
        assert_eq!(meter.recent.len(), LOSSES_TOLD_MAX);
    }
}
