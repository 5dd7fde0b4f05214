//! The sampler: a thread of its own that may hang in the driver without anybody waiting for it.
//!
//! Batches leave through a bounded queue. When it is full the newest is dropped and counted: a
//! later one says the same better. Whether the thread hangs is worked out by whoever asks, from
//! the moment its current call began; a hung thread cannot tell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use super::GpuError;
use super::backend::{GpuBackend, GpuDriver};
use super::pace::{Beat, Pace};
use super::round::Rounds;
use super::sample::GpuBatch;
use super::status::{BackendState, GpuStatus};
use super::watch::{Watch, Watched};
use crate::model::{BootNs, Clock};

/// Batches that wait for the pipeline: some seconds of the fast beat.
pub const BATCHES_QUEUED_MAX: usize = 64;
/// Longest wait before the library is opened again, in nanoseconds. A driver that is installed or
/// reloaded later is found within this time.
pub const REOPEN_NS_MAX: u64 = 60_000_000_000;
/// First wait before the library is opened again, in nanoseconds; doubles up to the longest.
pub const REOPEN_NS_MIN: u64 = 1_000_000_000;
/// How long [`GpuSampler::stop`] and dropping it wait for the thread; one that hangs is left
/// behind.
pub const STOP_WAIT: Duration = Duration::from_millis(500);

/// How the sampler beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerConfig {
    /// The beat.
    pub beat: Beat,
    /// Nanoseconds after which a call that has not returned counts as stalled.
    pub stall_after_ns: u64,
}

impl Default for SamplerConfig {
    /// Once a second, ten times a second for a process's first five seconds, stalled after five.
    fn default() -> Self {
        Self {
            beat: Beat {
                steady_ns: 1_000_000_000,
                fast_ns: 100_000_000,
                fast_for_ns: 5_000_000_000,
            },
            stall_after_ns: 5_000_000_000,
        }
    }
}

/// A running sampler.
#[derive(Debug)]
pub struct GpuSampler {
    batches: Receiver<GpuBatch>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    stall_after_ns: u64,
    /// The stall that was already told of.
    told_stall: Option<BootNs>,
}

/// What the thread and its owner both touch. Never locked during a call into the driver.
#[derive(Debug, Default)]
struct Shared {
    stops: AtomicBool,
    hinted: AtomicBool,
    watch: Watch,
    status: Mutex<GpuStatus>,
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, GpuStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> bool {
        self.stops.load(Ordering::Acquire)
    }
}

impl GpuSampler {
    /// Starts the thread. It opens `driver` at once and again whenever it is lost; an error here
    /// only says that no thread could be made.
    pub fn start(driver: Box<dyn GpuDriver>, config: SamplerConfig) -> io::Result<Self> {
        let (sender, batches) = sync_channel(BATCHES_QUEUED_MAX);
        let shared = Arc::new(Shared::default());
        let worker = Worker { shared: Arc::clone(&shared), sender, config };
        let thread =
            thread::Builder::new().name("gpu-sampler".into()).spawn(move || worker.run(driver))?;
        Ok(Self {
            batches,
            shared,
            thread: Some(thread),
            stall_after_ns: config.stall_after_ns,
            told_stall: None,
        })
    }

    /// The next batch, without waiting. When the driver hangs, one empty batch with the state
    /// [`BackendState::Stalled`] is returned per stall.
    pub fn poll(&mut self, now: BootNs) -> Option<GpuBatch> {
        match self.batches.try_recv() {
            Ok(batch) => return Some(batch),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        let (since, call) = self.stalled(now)?;
        if self.told_stall == Some(since) {
            return None;
        }
        self.told_stall = Some(since);
        self.shared.status().counters.stalls += 1;
        Some(GpuBatch::of_state(now, BackendState::Stalled { since, call }))
    }

    /// How the GPU side is now.
    pub fn status(&self, now: BootNs) -> GpuStatus {
        let mut status = self.shared.status().clone();
        if let Some((since, call)) = self.stalled(now) {
            status.state = BackendState::Stalled { since, call };
        }
        status
    }

    /// A process opened a GPU's device node: look soon, and often for a while.
    pub fn hint(&self) {
        if !self.shared.hinted.swap(true, Ordering::AcqRel)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }

    /// Stops the thread. Returns whether it ended; one that hangs in the driver is left behind.
    pub fn stop(mut self) -> bool {
        self.end(STOP_WAIT)
    }

    fn stalled(&self, now: BootNs) -> Option<(BootNs, &'static str)> {
        let (since, call) = self.shared.watch.current()?;
        (now.since(since) >= self.stall_after_ns).then_some((since, call))
    }

    fn end(&mut self, wait: Duration) -> bool {
        self.shared.stops.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return true };
        thread.thread().unpark();
        let deadline = Instant::now() + wait;
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        thread.join().is_ok()
    }
}

impl Drop for GpuSampler {
    fn drop(&mut self) {
        self.end(STOP_WAIT);
    }
}

struct Worker {
    shared: Arc<Shared>,
    sender: SyncSender<GpuBatch>,
    config: SamplerConfig,
}

impl Worker {
    fn run(&self, mut driver: Box<dyn GpuDriver>) {
        let mut wait_ns = REOPEN_NS_MIN;
        while !self.shared.stops() {
            let mut failure = None;
            self.shared.watch.enter("open");
            let opened = driver.with_backend(&mut |backend| {
                self.shared.watch.leave();
                wait_ns = REOPEN_NS_MIN;
                failure = self.session(backend).err();
                self.shared.watch.enter("close");
            });
            self.shared.watch.leave();
            if let Some(why) = opened.err().or(failure) {
                self.off(why);
            }
            self.back_off(wait_ns);
            wait_ns = wait_ns.saturating_mul(2).min(REOPEN_NS_MAX);
        }
    }

    /// Rounds until told to stop or the backend is lost.
    fn session(&self, backend: &mut dyn GpuBackend) -> Result<(), GpuError> {
        let mut backend = Watched { inner: backend, watch: &self.shared.watch };
        let mut rounds = Rounds::default();
        let seed = Clock::boot_now().0;
        let mut pace = Pace::new(self.config.beat, seed, seed);
        while !self.shared.stops() {
            let began = Clock::boot_now();
            let round = rounds.next(&mut backend, began)?;
            let ended = Clock::boot_now();
            if round.has_newcomer {
                pace.quicken(ended.0);
            }
            let tally = rounds.take_tally();
            {
                let mut status = self.shared.status();
                status.counters.implausible += tally.implausible;
                status.counters.processes_cut += tally.processes_cut;
                status.last_round = Some(began);
                // What a GPU cannot tell by its nature is listed, not counted as a failure.
                let is_failure = |why: &GpuError| !matches!(why, GpuError::Unsupported { .. });
                for gap in round.gaps.iter().filter(|gap| is_failure(&gap.why)) {
                    *status.counters.errors.entry(gap.why.reason()).or_insert(0) += 1;
                }
                status.gaps = round.gaps;
            }
            self.send(round.batch);
            self.rest(&mut pace, ended, ended.since(began));
        }
        Ok(())
    }

    fn off(&self, why: GpuError) {
        {
            let mut status = self.shared.status();
            *status.counters.errors.entry(why.reason()).or_insert(0) += 1;
            status.gaps.clear();
        }
        self.send(GpuBatch::of_state(Clock::boot_now(), BackendState::Off(why)));
    }

    /// Hands a batch on, or counts it as dropped. The status follows either way.
    fn send(&self, batch: GpuBatch) {
        let state = batch.state.clone();
        let sent = self.sender.try_send(batch);
        let mut status = self.shared.status();
        status.state = state;
        status.counters.rounds += 1;
        match sent {
            Ok(()) => status.counters.sent += 1,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                status.counters.dropped += 1;
                mem::drop(batch);
            }
        }
    }

    /// Waits for the next round. A hint shortens the wait as far as the pace allows, once.
    fn rest(&self, pace: &mut Pace, ended: BootNs, took_ns: u64) {
        let start = Instant::now();
        let mut deadline = start + Duration::from_nanos(pace.wait_ns(ended.0, took_ns));
        let mut heeds_hints = true;
        while !self.shared.stops() {
            if heeds_hints && self.shared.hinted.swap(false, Ordering::AcqRel) {
                heeds_hints = false;
                let now_ns = Clock::boot_now().0;
                pace.quicken(now_ns);
                let hurried = start + Duration::from_nanos(pace.wait_ns(now_ns, took_ns));
                deadline = deadline.min(hurried);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
    }

    /// Waits before the library is opened again. Hints do not shorten this.
    fn back_off(&self, wait_ns: u64) {
        let deadline = Instant::now() + Duration::from_nanos(wait_ns);
        while !self.shared.stops() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
    }
}
