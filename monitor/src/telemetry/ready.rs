//! Whether the daemon is ready, and whether it is alive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::BootNs;

/// Longest silence of the pipeline, in nanoseconds, before `/livez` says that it hangs: a minute,
/// since it beats every second and nothing it does takes longer than a few.
pub const BEAT_SILENCE_MAX_NS: u64 = 60_000_000_000;

/// What `/readyz` and `/livez` say. Not ready at first.
#[derive(Debug)]
pub struct Readiness {
    /// Why not ready; `None` when ready.
    reason: Mutex<Option<String>>,
    /// Boot time of the pipeline's last beat; zero before the first.
    beat: AtomicU64,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { reason: Mutex::new(Some("starting".to_owned())), beat: AtomicU64::new(0) }
    }
}

impl Readiness {
    /// Every sensor that can be attached is, and alerts leave.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// Not ready, and why.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// Ready, or why not.
    pub fn check(&self) -> Result<(), String> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone().map_or(Ok(()), Err)
    }

    /// The pipeline is going round. Call it about once a second.
    pub fn beat(&self, now: BootNs) {
        self.beat.store(now.0, Ordering::Relaxed);
    }

    /// Alive, or since when not. Alive before the first beat: starting is not hanging.
    pub fn alive(&self, now: BootNs) -> Result<(), String> {
        let beat = BootNs(self.beat.load(Ordering::Relaxed));
        let silent_ns = now.since(beat);
        if beat.0 == 0 || silent_ns <= BEAT_SILENCE_MAX_NS {
            return Ok(());
        }
        Err(format!("the pipeline has not gone round for {} s", silent_ns / 1_000_000_000))
    }

    fn set(&self, reason: Option<String>) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

#[cfg(test)]
mod tests {
    use super::{BEAT_SILENCE_MAX_NS, Readiness};
    use crate::model::BootNs;

    #[test]
    fn it_is_ready_only_when_told_so() {
        let readiness = Readiness::default();
        assert_eq!(readiness.check(), Err("starting".to_owned()));
        readiness.set_ready();
        assert_eq!(readiness.check(), Ok(()));
        readiness.set_not_ready("stopping");
        assert_eq!(readiness.check(), Err("stopping".to_owned()));
    }

    #[test]
    fn silence_is_death_only_after_the_first_beat() {
        let readiness = Readiness::default();
        assert_eq!(readiness.alive(BootNs(u64::MAX)), Ok(()));
        readiness.beat(BootNs(5));
        assert_eq!(readiness.alive(BootNs(5 + BEAT_SILENCE_MAX_NS)), Ok(()));
        assert!(readiness.alive(BootNs(6 + BEAT_SILENCE_MAX_NS)).is_err());
    }
}
