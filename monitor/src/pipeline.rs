//! The only place that knows every stage: it builds them from a checked configuration, joins them
//! by queues, and takes them down again in order.
//!
//! | thread | what it does |
//! |---|---|
//! | `ring-reader` | drains both rings |
//! | `engine` | decode → enrich → correlate → alert, one event after the other |
//! | `label-scan` | finds weight files at start, then ends |
//! | `gpu-sampler` | asks the driver; may hang there while nobody waits |
//! | `telemetry` | `/metrics`, `/livez`, `/readyz` |
//! | one per sink, and the spool's writer | deliver |
//!
//! | file | what it owns |
//! |---|---|
//! | [`plan`] | configuration → what each stage is told; rules and profiles |
//! | `engine` | the engine thread |
//! | `pushdown`, `mask`, `path` | what the kernel side need not send: at all, of a cgroup, of paths |
//! | `change` | whether rule files have changed |
//! | `notice` | notices about labelled files, told unless a record told the same |
//! | `loss` | what was lost, as events and as completeness |
//! | `replay` | recorded events through rules and alerts |
//! | `report`, `gpu` | the snapshot for metrics |
//! | `scan` | weight files that are there at start, and who holds them |
//! | `state` | long windows on disk |
//! | `stop` | the end, in order |

mod change;
mod engine;
mod gpu;
mod loss;
mod mask;
mod notice;
mod opinion;
mod path;
pub mod plan;
mod pushdown;
mod replay;
mod report;
mod scan;
mod state;
mod stop;
mod vital;

use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use monitor_common::InodeKey;
use thiserror::Error;

use crate::alert::{Alerter, Host};
use crate::cause::chain;
use crate::config::Config;
use crate::correlate::{CorrelateLimits, Engine as Correlator};
use crate::enrich::{self, EnrichConfig, Enricher, Found, Procfs};
use crate::export::{ExportError, Exporter};
use crate::gpu::fdinfo::{AnyDriver, FdinfoDriver};
use crate::gpu::{FeatureTable, GpuSampler, NvmlDriver, SamplerConfig};
use crate::kernel::support::{self, SupportError};
use crate::model::{Clock, Event, Tgid};
use crate::recording::{FORMAT, Header, SensorRow, Store, Tap, TapSink, Target, Writer};
use crate::rule::{Diagnostics, RuleSet};
use crate::sensor::label_watch::LabelWatch;
use crate::sensor::{self, Drain, DrainStats, LoadError, PathWatch, SeedError, Wake};
use crate::telemetry::{BuildInfo, Metrics, Readiness, Server, ServerError};

pub use change::{CHANGE_ENTRIES_MAX, ChangeWatch};
use engine::{Engine, Inputs, Stages};
pub use mask::CgroupMasks;
pub use plan::OutputChoice;
use pushdown::Pushdown;
pub use pushdown::wanted;
pub use replay::Replay;
use state::WindowStore;
pub use stop::STOP_FLUSH;

/// Messages to the engine that wait; label seeds are the only ones that come in numbers, and the
/// scan that finds them waits while the engine is behind.
pub const CONTROL_MAX: usize = 1_024;

/// Why the monitor does not run.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The host lacks something.
    #[error(transparent)]
    Support(#[from] SupportError),
    /// Rules or profiles are wrong.
    #[error("the rules have mistakes; nothing was started\n{0}")]
    Rules(Diagnostics),
    /// Sinks cannot be set up.
    #[error("alerts cannot be delivered:{}", lines(.0))]
    Export(Vec<ExportError>),
    /// The metrics address is taken.
    #[error(transparent)]
    Telemetry(#[from] ServerError),
    /// The kernel side does not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What the kernel side reads is not to be trusted.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A thread or descriptor could not be made.
    #[error("cannot start {what}: {source}; check the limits on threads and open files")]
    Start {
        /// What.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl PipelineError {
    /// The process's exit code for this error.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Support(error) | Self::Load(LoadError::Support(error)) => error.exit_code(),
            Self::Rules(_) => 65,
            Self::Export(_) => 73,
            Self::Telemetry(_) => 74,
            Self::Load(_) => 82,
            Self::Seed(_) => 83,
            Self::Start { .. } => 71,
        }
    }
}

fn lines(errors: &[ExportError]) -> String {
    errors.iter().fold(String::new(), |lines, error| lines + "\n  " + &chain(error))
}

/// What the engine is told from outside.
pub enum Control {
    /// A weight file was found, or a directory that holds weights or data.
    Found(Found),
    /// A process had such a file open or mapped before.
    Held(enrich::Held),
    /// The scan for them ended.
    Scanned(enrich::ScanProgress),
    /// Other rules and profiles.
    Rules(Box<RuleSet>),
    /// Where the prefixes that rules name lie now.
    Directories(BTreeSet<String>, HashSet<InodeKey>),
    /// Something to tell of a sensor.
    Note(Box<Event>),
    /// A reload failed; the old rules stay.
    ReloadFailed,
    /// Take what is left and end.
    Stop,
}

/// What a run does besides what its configuration says.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Where every event that reaches the rules is written.
    pub record: Option<Target>,
    /// Only look: no windows are taken from disk or written there, and the kernel side sends what
    /// no rule needs too.
    pub only_look: bool,
}

/// A running monitor.
pub struct Pipeline {
    config: Config,
    control: SyncSender<Control>,
    engine: JoinHandle<()>,
    reader: JoinHandle<()>,
    wake: Wake,
    readiness: Arc<Readiness>,
    server: Option<Server>,
    exporter: Arc<Exporter>,
    loaded: sensor::Loaded,
}

impl Pipeline {
    /// Builds and starts every stage. On an error nothing stays attached.
    pub fn start(config: Config) -> Result<Self, PipelineError> {
        Self::start_with(config, &Extras::default())
    }

    /// As [`Self::start`], with more to do.
    pub fn start_with(mut config: Config, extras: &Extras) -> Result<Self, PipelineError> {
        support::check()?;
        let rules = plan::rules(&config.rules).map_err(PipelineError::Rules)?;
        for profile in rules.profiles.iter() {
            config.watch.weights.extend(profile.weight_paths.iter().cloned());
        }
        let host = Host::read();
        let exporter = Exporter::start(&plan::export(&config.export, &host))
            .map(Arc::new)
            .map_err(PipelineError::Export)?;
        let readiness = Arc::new(Readiness::default());
        let metrics = Arc::new(Metrics::new(BUILD, Arc::clone(&readiness)));
        let server = start_server(&config, &metrics, &readiness)?;
        let mut loaded = load(&config)?;
        let rings = loaded.take_rings()?;
        let stats = Arc::new(DrainStats::default());
        let (drain, high, bulk) = Drain::new(rings, Arc::clone(&stats))
            .map_err(|source| PipelineError::Start { what: "the ring reader", source })?;
        let wake = drain.wake();
        let (control, orders) = sync_channel(CONTROL_MAX);
        let inputs = Inputs { high, bulk, orders, stats };
        let taps = start_taps(&config, extras, &host, &loaded)?;
        let mut stages = stages(&config, rules, host, &exporter, &mut loaded)?;
        stages.taps = taps;
        stages.pushdown.everything = extras.only_look;
        stages.pushdown.looker = path::PathLooker::start(control.clone())
            .map_err(|source| PipelineError::Start { what: "the look for paths", source })?;
        stages.pushdown.apply(&stages.rules, &mut stages.maps);
        if extras.only_look {
            stages.windows = None;
        } else if let Some(windows) = &stages.windows {
            stages.restored = windows.load(&mut stages.correlator, &mut stages.enricher);
        }
        let engine_thread = Arc::new(OnceLock::new());
        stages.label_watch = start_label_watch(&loaded.status, &engine_thread);
        let engine = Engine::new(inputs, stages, metrics, Arc::clone(&readiness));
        let engine = spawn("engine", move || engine.run())?;
        let notified = engine.thread().clone();
        // Set once, here: what was noticed before is taken at the first tick.
        let _first = engine_thread.set(notified.clone());
        let reader = spawn("ring-reader", move || drain.run(|| notified.unpark()))?;
        let named = scan::start(&config, &control)?;
        // Late is no fault, and neither is an end without a word.
        let _waited = named.recv_timeout(scan::LABELS_WAIT);
        readiness.set_ready();
        Ok(Self { config, control, engine, reader, wake, readiness, server, exporter, loaded })
    }

    /// Where metrics are served.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// What became of each sensor.
    pub fn status(&self) -> &[sensor::Status] {
        &self.loaded.status
    }

    /// Watches the files that rules were read from.
    pub fn change_watch(&self) -> ChangeWatch {
        ChangeWatch::new(self.config.rules.paths.clone())
    }

    /// Reads the rules again. Bad ones change nothing and are returned.
    pub fn reload(&self) -> Result<usize, Diagnostics> {
        match plan::rules(&self.config.rules) {
            Ok(rules) => {
                let count = rules.rules.len();
                self.order(Control::Rules(Box::new(rules)));
                Ok(count)
            }
            Err(mistakes) => {
                self.order(Control::ReloadFailed);
                Err(mistakes)
            }
        }
    }

    fn order(&self, order: Control) {
        if self.control.send(order).is_err() {
            tracing::error!("the engine thread is gone; restart the monitor");
        }
        self.engine.thread().unpark();
    }

    /// Whether the engine still runs; it ends early only by a fault of its own.
    pub fn is_running(&self) -> bool {
        !self.engine.is_finished()
    }
}

/// What this build is.
pub const BUILD: BuildInfo = BuildInfo {
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("GPUWARDEN_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    },
};

fn spawn(
    what: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, PipelineError> {
    std::thread::Builder::new()
        .name(what.to_owned())
        .spawn(run)
        .map_err(|source| PipelineError::Start { what, source })
}

fn start_server(
    config: &Config,
    metrics: &Arc<Metrics>,
    readiness: &Arc<Readiness>,
) -> Result<Option<Server>, PipelineError> {
    if !config.telemetry.enabled {
        return Ok(None);
    }
    let server =
        Server::start(config.telemetry.listen, Arc::clone(metrics), Arc::clone(readiness))?;
    Ok(Some(server))
}

fn load(config: &Config) -> Result<sensor::Loaded, PipelineError> {
    let root = match &config.kernel.cgroup_root {
        Some(root) => root.clone(),
        None => support::cgroup2_root()?,
    };
    let loaded = sensor::load(&plan::kernel(&config.kernel), &root)?;
    for status in &loaded.status {
        if let Some(gap) = status.gap() {
            tracing::warn!(sensor = gap.sensor, state = gap.state, reason = gap.reason, "sensor");
        }
    }
    Ok(loaded)
}

/// Builds what the engine thread owns, seeded with what ran before.
fn stages(
    config: &Config,
    rules: RuleSet,
    host: Host,
    exporter: &Arc<Exporter>,
    loaded: &mut sensor::Loaded,
) -> Result<Stages, PipelineError> {
    let clock = Clock::measure();
    let mut maps = loaded.take_maps()?;
    sensor::interest::tell(&mut maps);
    let enrich = EnrichConfig::new(&config.watch, &config.kernel, Tgid(std::process::id()));
    let profiles = Arc::clone(&rules.profiles) as _;
    let mut enricher = Enricher::new(&enrich, profiles, clock, Box::new(Procfs::default()));
    enricher.set_reads_exact(plan::reads_are_exact(&loaded.status));
    if let Some(iterator) = loaded.take_iterator() {
        let seeds = sensor::seed(iterator)?;
        if seeds.left_out > 0 {
            tracing::warn!(left_out = seeds.left_out, "older processes beyond the bound");
        }
        for event in &seeds.events {
            enricher.observe(event);
        }
    }
    let directory = crate::cluster::start(&plan::cluster(&config.cluster))
        .map_err(|source| PipelineError::Start { what: "the cluster's clients", source })?;
    enricher.set_names(Arc::clone(&directory) as _);
    enricher.set_allocations(Arc::clone(&directory) as _);
    let windows = WindowStore::new(&config.export.spool_dir, &host.boot_id);
    let correlator = Correlator::new(&rules.rules, CorrelateLimits::default());
    let gpu = config.gpu.enabled.then(|| start_gpu(config)).transpose()?;
    Ok(Stages {
        enricher,
        correlator,
        alerter: Alerter::new(plan::alert(&config.alert), host, clock),
        exporter: Arc::clone(exporter),
        features: FeatureTable::default(),
        gpu,
        maps,
        status: loaded.status.clone(),
        logger: loaded.logger(),
        rules,
        directory,
        windows: Some(windows),
        label_watch: None,
        restored: Vec::new(),
        taps: Vec::new(),
        pushdown: Pushdown {
            everything: false,
            accounts: config.telemetry.enabled,
            classes: config.watch.name_classes.clone(),
            paths: PathWatch::default(),
            masks: CgroupMasks::default(),
            prefixes: BTreeSet::new(),
            looker: path::PathLooker::default(),
        },
    })
}

/// Starts the threads that write a recording and the store of events.
fn start_taps(
    config: &Config,
    extras: &Extras,
    host: &Host,
    loaded: &sensor::Loaded,
) -> Result<Vec<Tap>, PipelineError> {
    let header = recording_header(host, loaded);
    let failed = |what| move |source| PipelineError::Start { what, source };
    let mut taps = Vec::new();
    if let Some(target) = &extras.record {
        let writer = Writer::create(target, &header).map(TapSink::File);
        taps.push(writer.and_then(Tap::start).map_err(failed("the recording"))?);
    }
    if config.store.enabled && !extras.only_look {
        let store = Store::open(plan::store(&config.store), header)
            .map(|store| TapSink::Store(Box::new(store)));
        taps.push(store.and_then(Tap::start).map_err(failed("the store of events"))?);
    }
    Ok(taps)
}

fn recording_header(host: &Host, loaded: &sensor::Loaded) -> Header {
    let sensors = loaded
        .status
        .iter()
        .map(|status| SensorRow {
            name: status.sensor.name.to_owned(),
            state: status.state.as_str().to_owned(),
            reason: status.state.reason().to_owned(),
        })
        .collect();
    Header {
        format: FORMAT,
        version: BUILD.version.to_owned(),
        revision: BUILD.revision.to_owned(),
        host: host.clone(),
        wall_at_boot_ns: Clock::measure().wall_at_boot_ns,
        sensors,
    }
}

/// Starts the watch on labelled files, where it is not off.
fn start_label_watch(
    status: &[sensor::Status],
    engine: &Arc<OnceLock<std::thread::Thread>>,
) -> Option<LabelWatch> {
    let row = status.iter().find(|row| row.sensor.name == "label_watch")?;
    if matches!(row.state, sensor::State::Off(_)) {
        return None;
    }
    let engine = Arc::clone(engine);
    let wake = move || {
        if let Some(thread) = engine.get() {
            thread.unpark();
        }
    };
    LabelWatch::start(wake)
        .inspect_err(|why| tracing::error!(why, "labelled files are not watched"))
        .ok()
}

fn start_gpu(config: &Config) -> Result<GpuSampler, PipelineError> {
    let nvml = NvmlDriver { paths: config.gpu.library_paths.clone(), is_exclusive: false };
    let driver = AnyDriver { nvml, fdinfo: FdinfoDriver::default() };
    let mut sampling = SamplerConfig::default();
    sampling.beat.steady_ns = config.gpu.interval_ms.saturating_mul(1_000_000);
    sampling.beat.fast_ns = sampling.beat.fast_ns.min(sampling.beat.steady_ns);
    sampling.stall_after_ns = config.gpu.timeout_ms.saturating_mul(1_000_000);
    GpuSampler::start(Box::new(driver), sampling)
        .map_err(|source| PipelineError::Start { what: "the GPU sampler", source })
}

/// The next order, without waiting.
fn next_order(orders: &Receiver<Control>) -> Option<Control> {
    orders.try_recv().ok()
}
