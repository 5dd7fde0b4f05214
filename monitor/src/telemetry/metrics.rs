//! The registry: takes snapshots, answers scrapes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder as _, Registry, TextEncoder};
use thiserror::Error;

use super::family::{self, FAMILIES, Family, Kind};
use super::process::ProcessStats;
use super::ready::Readiness;
use super::sheet::{Rows, Sheet};
use super::snapshot::Snapshot;
use crate::model::{DELAY_BOUNDS_US, DelayCounts};

/// Series of one metric at most. With some forty metrics a scrape stays under some 5 MB and a
/// Prometheus is not surprised; a node runs far fewer than a thousand workloads.
pub const SERIES_MAX: usize = 1000;
/// Value of every label of the series that holds what is over the bound.
pub const OVERFLOW: &str = "__overflow__";

/// Why a scrape failed.
#[derive(Debug, Error)]
#[error("cannot write the metrics")]
pub struct ScrapeError(#[from] prometheus::Error);

/// Which build runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version.
    pub version: &'static str,
    /// Revision of the source, or `unknown`.
    pub revision: &'static str,
}

/// All metrics of the daemon.
pub struct Metrics {
    shared: Arc<Shared>,
    registry: Registry,
}

struct Shared {
    build: BuildInfo,
    readiness: Arc<Readiness>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    snapshot: Snapshot,
    admission: Admission,
}

impl Metrics {
    /// Metrics of this build; ready or not as `readiness` says.
    #[expect(clippy::missing_panics_doc, reason = "a test makes one: the table does not change")]
    pub fn new(build: BuildInfo, readiness: Arc<Readiness>) -> Self {
        let shared = Arc::new(Shared { build, readiness, state: Mutex::default() });
        let registry = Registry::new();
        let collector = SnapshotCollector { shared: Arc::clone(&shared), descs: descs() };
        registry
            .register(Box::new(collector))
            .expect("the names in the table are valid and unique");
        Self { shared, registry }
    }

    /// Replaces everything that is measured. Cheap; about once a second is enough.
    pub fn set(&self, snapshot: Snapshot) {
        self.shared.lock().snapshot = snapshot;
    }

    /// Changes part of what is measured.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.shared.lock().snapshot);
    }

    /// The metrics in Prometheus' text format.
    pub fn scrape(&self) -> Result<String, ScrapeError> {
        let mut bytes = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A snapshot is replaced whole or changed in fields that stand alone.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn descs() -> Vec<Desc> {
    FAMILIES
        .iter()
        .map(|family| {
            let labels = family.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(family.name.into(), family.help.into(), labels, HashMap::new())
                .expect("the names in the table are valid")
        })
        .collect()
}

struct SnapshotCollector {
    shared: Arc<Shared>,
    descs: Vec<Desc>,
}

impl Collector for SnapshotCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Shared { build, readiness, .. } = &*self.shared;
        let mut sheet = Sheet::default();
        sheet.add(&family::BUILD_INFO, [build.version, build.revision], 1.0);
        sheet.add(&family::READY, [], if readiness.check().is_ok() { 1.0 } else { 0.0 });
        if let Some(stats) = ProcessStats::read() {
            sheet.process(&stats);
        }
        let mut state = self.shared.lock();
        let State { snapshot, admission } = &mut *state;
        sheet.fill(snapshot);
        admission.bound(&mut sheet);
        let delays = snapshot.delays.clone();
        drop(state);
        FAMILIES
            .iter()
            .filter_map(|family| match family.kind {
                Kind::Histogram => histograms_of(family, &delays),
                Kind::Counter | Kind::Gauge => {
                    let rows = sheet.families.remove(family.name)?;
                    (!rows.is_empty()).then(|| family_of(family, rows))
                }
            })
            .collect()
    }
}

/// A family without metrics.
fn head_of(family: &Family) -> MetricFamily {
    let mut out = MetricFamily::default();
    out.set_name(family.name.to_owned());
    out.set_help(family.help.to_owned());
    out.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    out
}

/// One histogram a stage; there are as many as the daemon has stages, so no bound is asked.
fn histograms_of(family: &Family, rows: &[(&str, DelayCounts)]) -> Option<MetricFamily> {
    let mut out = head_of(family);
    let metrics = rows.iter().map(|(stage, counts)| {
        let mut below = 0;
        let classes = DELAY_BOUNDS_US.iter().zip(counts.classes).map(|(bound_us, count)| {
            below += count;
            let mut class = Bucket::default();
            class.set_upper_bound(f64::from(*bound_us) / 1e6);
            class.set_cumulative_count(below);
            class
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(classes.collect());
        histogram.set_sample_count(counts.count());
        #[expect(clippy::cast_precision_loss, reason = "the text format has floats only")]
        histogram.set_sample_sum(counts.sum_ns as f64 / 1e9);
        let mut pair = LabelPair::default();
        pair.set_name(family.labels.first().copied().unwrap_or_default().to_owned());
        pair.set_value((*stage).to_owned());
        let mut metric = Metric::from_label(vec![pair]);
        metric.set_histogram(histogram);
        metric
    });
    out.set_metric(metrics.collect());
    (!rows.is_empty()).then_some(out)
}

fn family_of(family: &Family, rows: Rows) -> MetricFamily {
    let mut out = head_of(family);
    let metrics = rows.into_iter().map(|(labels, value)| {
        let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value);
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        match family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        metric
    });
    out.set_metric(metrics.collect());
    out
}

/// Who has a series of their own. First come, first served, and kept for as long as they live: a
/// counter that moved in and out of the overflow would look like a reset each time.
#[derive(Default)]
struct Admission {
    admitted: BTreeMap<&'static str, BTreeSet<Vec<String>>>,
    folded: BTreeMap<&'static str, BTreeSet<u64>>,
    dropped: BTreeMap<&'static str, u64>,
}

impl Admission {
    fn bound(&mut self, sheet: &mut Sheet) {
        for family in FAMILIES {
            let Some(rows) = sheet.families.get_mut(family.name) else {
                self.admitted.remove(family.name);
                continue;
            };
            self.bound_family(family, rows);
        }
        for (name, count) in &self.dropped {
            #[expect(clippy::cast_precision_loss, reason = "the text format has floats only")]
            sheet.add(&family::SERIES_DROPPED, [name], *count as f64);
        }
    }

    fn bound_family(&mut self, family: &Family, rows: &mut Rows) {
        let admitted = self.admitted.entry(family.name).or_default();
        admitted.retain(|labels| rows.contains_key(labels));
        // One place is for the overflow.
        let room = SERIES_MAX - 1 - admitted.len();
        let fresh: Vec<Vec<String>> =
            rows.keys().filter(|labels| !admitted.contains(*labels)).take(room).cloned().collect();
        admitted.extend(fresh);
        if rows.len() == admitted.len() {
            self.folded.remove(family.name);
            return;
        }
        let mut overflow: Option<f64> = None;
        let mut folded = BTreeSet::new();
        rows.retain(|labels, value| {
            let is_kept = admitted.contains(labels);
            if !is_kept {
                overflow = Some(overflow.map_or(*value, |sum| family.fold(sum, *value)));
                folded.insert(hash(labels));
            }
            is_kept
        });
        let before = self.folded.remove(family.name).unwrap_or_default();
        let news = folded.difference(&before).count() as u64;
        *self.dropped.entry(family.name).or_default() += news;
        self.folded.insert(family.name, folded);
        if let Some(value) = overflow {
            rows.insert(vec![OVERFLOW.to_owned(); family.labels.len()], value);
        }
    }
}

fn hash(labels: &[String]) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
