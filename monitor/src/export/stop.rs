//! The word to stop, and pauses that hear it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::BackoffBuilder as _;

use crate::export::config::RetryConfig;

/// Said once, heard by every thread of the exporter.
#[derive(Debug, Default)]
pub(super) struct Stop {
    /// When threads must be done, once it is said.
    deadline: Mutex<Option<Instant>>,
    said: Condvar,
}

impl Stop {
    pub(super) fn say(&self, deadline: Instant) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self.said.notify_all();
    }

    /// The deadline, once it is said.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_said(&self) -> bool {
        self.deadline().is_some()
    }

    /// Waits; whether it was told to stop.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.said.wait_timeout_while(deadline, time, |deadline| deadline.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }
}

/// Pauses that double up to the longest, with jitter, so that a hundred hosts do not come back to
/// a receiver in the same second.
pub(super) struct Pauses {
    config: RetryConfig,
    row: backon::ExponentialBackoff,
}

impl Pauses {
    pub(super) fn new(config: RetryConfig) -> Self {
        Self { config, row: row(config) }
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        self.row.next().unwrap_or(self.config.max)
    }

    /// It went well: begin with the shortest again.
    pub(super) fn reset(&mut self) {
        self.row = row(self.config);
    }
}

fn row(config: RetryConfig) -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(config.first)
        .with_max_delay(config.max)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Pauses, Stop};
    use crate::export::config::RetryConfig;

    #[test]
    fn pauses_grow_to_the_longest_and_begin_again() {
        let config =
            RetryConfig { first: Duration::from_millis(10), max: Duration::from_millis(80) };
        let mut pauses = Pauses::new(config);
        let row: Vec<Duration> = (0..50).map(|_| pauses.next()).collect();
        assert!(row[0] >= config.first && row[0] <= config.first * 2);
        assert!(row[10..].iter().all(|pause| *pause >= config.max && *pause <= config.max * 2));
        pauses.reset();
        assert!(pauses.next() <= config.first * 2);
    }

    #[test]
    fn a_pause_ends_when_stop_is_said() {
        let stop = Stop::default();
        assert!(!stop.pause(Duration::from_millis(1)));
        stop.say(Instant::now());
        assert!(stop.pause(Duration::from_mins(10)));
    }
}
