//! The engine thread: one event after the other through decode → enrich → correlate → alert. It
//! owns all state, so nothing in it is locked, and the same events give the same alerts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use monitor_common::InodeKey;

use super::loss::LossMeter;
use super::notice::Desk;
use super::pushdown::Pushdown;
use super::state::WindowStore;
use super::{Control, next_order, report, scan};
use crate::alert::{Alert, Alerter};
use crate::cluster::Directory;
use crate::correlate::{Engine as Correlator, Finding};
use crate::decode::{self, DecodeStats};
use crate::enrich::{Enricher, LabelChange, gpu_minor};
use crate::export::{Exporter, Submitted};
use crate::gpu::{FeatureTable, GpuBatch, GpuSampler, TreeReading};
use crate::model::{
    Body, BootNs, Clock, Completeness, Delay, Event, FileId, GpuUuid, Severity, Tgid,
};
use crate::recording::Tap;
use crate::rule::RuleSet;
use crate::sensor::label_watch::LabelWatch;
use crate::sensor::{DrainStats, Frame, Frames, SharedMaps, Status};
use crate::telemetry::{Metrics, Readiness};

/// High-priority frames that are taken before anything else is looked at.
const HIGH_BATCH_MAX: usize = 1024;
/// Bulk frames that are taken before the high-priority queue is looked at again.
const BULK_BATCH_MAX: usize = 64;
/// Rows of the metric of GPU faults.
const FAULT_ROWS_MAX: usize = 1024;
/// How often counters are read, metrics are filled and windows are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often long windows are written to disk.
const SAVE_EVERY: Duration = Duration::from_mins(1);

/// Where events come from.
pub(super) struct Inputs {
    pub(super) high: Frames,
    pub(super) bulk: Frames,
    pub(super) orders: Receiver<Control>,
    pub(super) stats: Arc<DrainStats>,
}

/// What the engine thread owns.
pub(super) struct Stages {
    pub(super) enricher: Enricher,
    pub(super) correlator: Correlator,
    pub(super) alerter: Alerter,
    pub(super) exporter: Arc<Exporter>,
    pub(super) features: FeatureTable,
    pub(super) gpu: Option<GpuSampler>,
    pub(super) maps: SharedMaps,
    pub(super) status: Vec<Status>,
    pub(super) logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    pub(super) rules: RuleSet,
    pub(super) windows: Option<WindowStore>,
    pub(super) taps: Vec<Tap>,
    pub(super) pushdown: Pushdown,
    pub(super) label_watch: Option<LabelWatch>,
    /// Labels that were taken back and that the kernel side does not know yet.
    pub(super) restored: Vec<LabelChange>,
    pub(super) directory: Arc<Directory>,
}

/// When the kernel wrote a record, and when it was taken from its ring.
#[derive(Clone, Copy, Debug)]
struct RecordTimes {
    written: BootNs,
    taken: BootNs,
}

/// From a record in the kernel to its alert: how long until the record was taken, and until the
/// alert was made.
#[derive(Debug, Default)]
pub(super) struct Delays {
    pub(super) taken: Delay,
    pub(super) judged: Delay,
}

/// Counts that no stage keeps itself.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) decode: DecodeStats,
    pub(super) alerts: std::collections::BTreeMap<(String, Severity), u64>,
    pub(super) alerts_dropped: u64,
    pub(super) delays: Delays,
    pub(super) labels_refused: u64,
    pub(super) directories_refused: u64,
    pub(super) reload_failed: bool,
    pub(super) vital: super::vital::Vital,
    pub(super) opinions: super::opinion::Opinions,
    pub(super) rests: crate::sensor::ReadRests,
    pub(super) reloaded_wall_s: u64,
    /// Faults of GPUs by what they are; GPUs and kinds of faults are few, XIDs some hundred.
    pub(super) gpu_faults: std::collections::BTreeMap<FaultRow, u64>,
}

/// Index, UUID and product name of a GPU, the fault, and its XID number or nothing.
pub(super) type FaultRow = (u32, GpuUuid, String, &'static str, String);

/// The engine.
pub(super) struct Engine {
    inputs: Inputs,
    pub(super) stages: Stages,
    pub(super) tally: Tally,
    losses: LossMeter,
    pub(super) desk: Desk,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    findings: Vec<Finding>,
    /// The record that is at work, for the time that its alert takes.
    record: Option<RecordTimes>,
    pub(super) last_batch: Option<GpuBatch>,
    clock: Clock,
}

impl Engine {
    pub(super) fn new(
        inputs: Inputs,
        stages: Stages,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
    ) -> Self {
        let clock = Clock::measure();
        let wall_s = clock.wall(Clock::boot_now()).0 / 1_000_000_000;
        let tally = Tally { reloaded_wall_s: wall_s, ..Tally::default() };
        Self {
            inputs,
            stages,
            tally,
            losses: LossMeter::default(),
            desk: Desk::default(),
            metrics,
            readiness,
            findings: Vec::new(),
            record: None,
            last_batch: None,
            clock,
        }
    }

    /// Runs until told to stop, then takes what is left.
    pub(super) fn run(mut self) {
        let mut frame = Frame::new();
        let mut ticked = Instant::now();
        let mut saved = Instant::now();
        let mut end = End::default();
        let restored = std::mem::take(&mut self.stages.restored);
        self.apply_labels(&restored, Tgid(std::process::id()));
        self.tick();
        loop {
            let stop_ordered = self.take_orders();
            let moved = self.take_frames(&mut frame);
            self.take_gpu();
            self.take_notices(Clock::boot_now());
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick();
            }
            if saved.elapsed() >= SAVE_EVERY {
                saved = Instant::now();
                self.save_windows();
            }
            if end.is_due(stop_ordered, moved) {
                break;
            }
            if moved {
                continue;
            }
            std::thread::park_timeout(self.rest(TICK.saturating_sub(ticked.elapsed())));
        }
        self.finish();
    }

    fn finish(mut self) {
        self.tick();
        for alert in self.stages.alerter.close_all() {
            self.submit(alert);
        }
        self.save_windows();
        self.finish_recording();
        if self.stages.gpu.take().is_some_and(|gpu| !gpu.stop()) {
            tracing::warn!("the GPU driver hangs; its thread is left behind");
        }
    }

    fn save_windows(&self) {
        if let Some(windows) = &self.stages.windows {
            windows.save(&self.stages.correlator, &self.stages.enricher);
        }
    }

    fn finish_recording(&mut self) {
        for tap in std::mem::take(&mut self.stages.taps) {
            let lost = tap.counts().lost;
            match tap.stop() {
                Ok(rows) => tracing::info!(rows, lost, "the recording is complete"),
                Err(error) => tracing::error!(%error, "the recording is cut off"),
            }
        }
    }

    /// Follows orders. Returns whether to stop.
    fn take_orders(&mut self) -> bool {
        let mut stopping = false;
        while let Some(order) = next_order(&self.inputs.orders) {
            match order {
                Control::Found(found) => self.take_scanned(&found),
                Control::Held(held) => {
                    self.stages.enricher.held(&held, Clock::boot_now());
                }
                Control::Scanned(progress) => scan::report(&progress, &self.tally),
                Control::Rules(rules) => self.replace_rules(*rules),
                Control::Directories(of, found) => {
                    let stages = &mut self.stages;
                    stages.pushdown.found_directories(&of, found, &mut stages.maps);
                }
                Control::Note(event) => self.take_event(&event),
                Control::ReloadFailed => self.tally.reload_failed = true,
                Control::Stop => stopping = true,
            }
        }
        stopping
    }

    fn replace_rules(&mut self, rules: RuleSet) {
        self.stages.correlator.replace_rules(&rules.rules);
        self.stages.enricher.set_profiles(Arc::clone(&rules.profiles) as _);
        self.stages.pushdown.apply(&rules, &mut self.stages.maps);
        self.stages.rules = rules;
        self.tally.reload_failed = false;
        self.tally.reloaded_wall_s = self.clock.wall(Clock::boot_now()).0 / 1_000_000_000;
    }

    /// Takes frames, high priority first. Returns whether there were any.
    fn take_frames(&mut self, frame: &mut Frame) -> bool {
        let mut moved = false;
        for _ in 0..HIGH_BATCH_MAX {
            let Some(taken) = self.inputs.high.next(frame) else { break };
            moved = true;
            self.take_frame(frame, taken);
        }
        for _ in 0..BULK_BATCH_MAX {
            let Some(taken) = self.inputs.bulk.next(frame) else { break };
            moved = true;
            self.take_frame(frame, taken);
        }
        moved
    }

    fn take_frame(&mut self, frame: &Frame, taken: BootNs) {
        let result = decode::decode(frame);
        self.tally.decode.count(&result);
        match result {
            Ok(event) => {
                self.record = Some(RecordTimes { written: event.time, taken });
                self.take_record(event);
                self.record = None;
            }
            Err(error) => tracing::debug!(%error, "a record was refused"),
        }
    }

    pub(super) fn take_event(&mut self, event: &Event) {
        let stages = &mut self.stages;
        let mut seen = stages.enricher.observe(event);
        let changes = std::mem::take(&mut seen.label_changes);
        if let Some(cgroup) = seen.mark.take() {
            if stages.maps.mark_cgroup(cgroup.0) {
                stages.enricher.cgroup_is_marked(cgroup, event.time);
            } else {
                tracing::debug!(cgroup = cgroup.0, "the kernel side does not take this cgroup");
            }
        }
        match &event.body {
            Body::GpuSample(sample) => {
                if let Some(tree) = stages.enricher.tree(&seen) {
                    let reading = TreeReading {
                        util_percent: sample.attributed_util_percent,
                        mem_used_bytes: sample.mem_used_bytes,
                        power_watts: sample.power_watts,
                        activity: sample.activity,
                    };
                    stages.features.observe(tree, &sample.gpu, event.time, &reading);
                }
            }
            Body::GpuFault(fault) => {
                let xid = fault.xid.map(|xid| xid.to_string()).unwrap_or_default();
                let (index, uuid, model) = (fault.index, fault.gpu.clone(), fault.model.clone());
                let row = (index, uuid, model, fault.fault.as_str(), xid);
                if self.tally.gpu_faults.len() < FAULT_ROWS_MAX
                    || self.tally.gpu_faults.contains_key(&row)
                {
                    *self.tally.gpu_faults.entry(row).or_default() += 1;
                }
            }
            Body::CgroupMove(moved) => {
                stages.pushdown.masks.release(moved.to, &mut stages.maps);
            }
            Body::FileOpen(open) if gpu_minor(open).is_some() => {
                if let Some(gpu) = &stages.gpu {
                    gpu.hint();
                }
            }
            _ => {}
        }
        if event.body.kind().is_some() {
            let facts = stages.enricher.facts(event, &seen, &stages.features);
            for tap in &mut stages.taps {
                tap.offer(&facts);
            }
            stages.correlator.on_event(&facts, &mut self.findings);
        }
        self.note_files(event, &changes);
        // Building blocks have done their work inside the correlator.
        self.findings.retain(|finding| finding.rule.alerts);
        if self.findings.is_empty() {
            return;
        }
        for finding in std::mem::take(&mut self.findings) {
            let completeness = self.completeness(&finding);
            let stages = &mut self.stages;
            let (enricher, features) = (&stages.enricher, &stages.features);
            let alert = stages.alerter.on_finding_with(finding, || {
                enricher.evidence(event, &seen, features, completeness)
            });
            if let Some(alert) = alert {
                self.submit(alert);
            }
        }
    }

    /// How complete the data behind a finding is: what was lost lately, which sensors see less
    /// than they could, and for rules on GPU facts the state of the driver.
    fn completeness(&self, finding: &Finding) -> Completeness {
        let mut gaps: Vec<_> = self.stages.status.iter().filter_map(Status::gap).collect();
        // Where every open passes a program, a file that is not marked is missed by nobody.
        let needs_marks = gaps.iter().any(|gap| gap.sensor == "file_open");
        let watch = self.stages.label_watch.as_ref().filter(|_| needs_marks);
        gaps.extend(watch.and_then(|watch| watch.stats().marks.gap()));
        let rule = self.stages.rules.get(&finding.rule.id);
        gaps.extend(rule.into_iter().flat_map(|rule| self.gpu_gaps(&rule.fields)));
        let losses = self.losses.recent();
        Completeness {
            complete: losses.is_empty() && gaps.is_empty(),
            losses,
            gaps,
            unknowns: Vec::new(),
        }
    }

    fn submit(&mut self, alert: Alert) {
        if alert.activity == crate::alert::Activity::New {
            let key = (alert.rule.id.clone(), alert.severity);
            *self.tally.alerts.entry(key).or_default() += 1;
        }
        let written = self.record.map(|record| record.written);
        if let Some(record) = self.record {
            self.tally.delays.taken.add(record.taken.since(record.written));
            self.tally.delays.judged.add(Clock::boot_now().since(record.written));
        }
        if self.stages.exporter.submit(alert, written) == Submitted::Dropped {
            self.tally.alerts_dropped += 1;
        }
    }

    /// Once a second: losses become events, alerts get their counts, metrics are filled.
    fn tick(&mut self) {
        let now = Clock::boot_now();
        let counters = self.stages.maps.counters();
        let noisiest = self.stages.maps.noisiest().map(|(cgroup, _)| cgroup);
        let losses = self.losses.take(now, &counters, self.tally.decode, noisiest);
        for event in &losses {
            if let Body::Loss(loss) = &event.body {
                tracing::warn!(
                    sensor = loss.sensor,
                    reason = loss.reason.as_str(),
                    lost = loss.lost,
                    cgroup = loss.noisiest.map(|cgroup| cgroup.0),
                    "records were lost; see docs/metrics.md for what each reason means"
                );
            }
            self.take_event(event);
        }
        self.count_lost_notices(now);
        self.take_found(now, &counters);
        for alert in self.stages.alerter.tick(now) {
            self.submit(alert);
        }
        let stages = &mut self.stages;
        stages.features.expire(now);
        stages.pushdown.masks.look(now, &stages.enricher, &stages.rules, &mut stages.maps);
        self.flush_kernel_log();
        self.readiness.beat(now);
        let drained = [
            ("high", self.inputs.stats.high.load(Ordering::Relaxed)),
            ("bulk", self.inputs.stats.bulk.load(Ordering::Relaxed)),
            ("stalled", self.inputs.stats.stalls.load(Ordering::Relaxed)),
            ("oversized", self.inputs.stats.oversized.load(Ordering::Relaxed)),
        ];
        self.metrics.set(report::snapshot(self, &counters, &drained));
    }

    /// Hands the kernel side's own log on. The reader panics on a record it cannot read; that must
    /// not end the engine.
    fn flush_kernel_log(&mut self) {
        let Some(mut logger) = self.stages.logger.take() else { return };
        let flushed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            logger.flush();
            logger
        }));
        if let Ok(logger) = flushed {
            self.stages.logger = Some(logger);
        } else {
            tracing::warn!("the kernel side's log could not be read; it is closed");
        }
    }
}

/// The kernel's key of a file: without its generation, which is known only once it was opened.
pub(super) const fn inode_key(id: FileId) -> InodeKey {
    InodeKey { inode: id.inode, device: id.device, generation: 0 }
}

/// When the engine ends. The order to stop comes once, and often while frames still move: it is
/// kept until what was queued before it is taken.
#[derive(Debug, Default)]
struct End {
    is_ordered: bool,
}

impl End {
    fn is_due(&mut self, stop_ordered: bool, moved: bool) -> bool {
        self.is_ordered |= stop_ordered;
        self.is_ordered && !moved
    }
}

#[cfg(test)]
mod tests {
    use super::End;

    #[test]
    fn an_order_to_stop_is_kept_while_frames_move() {
        let mut end = End::default();
        assert!(!end.is_due(false, false), "nobody ordered it");
        assert!(!end.is_due(true, true), "frames that came before are taken first");
        assert!(!end.is_due(false, true));
        assert!(end.is_due(false, false), "the order came once, and was not forgotten");
    }
}
