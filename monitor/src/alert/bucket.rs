//! A token bucket in event time.

use crate::model::BootNs;

/// Nanoseconds in a minute.
const MINUTE_NS: u64 = 60_000_000_000;

/// Lets `burst` through at once and `per_minute` in the long run.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per_minute: u32,
    burst: u32,
    /// Tokens in units of one `MINUTE_NS`-th, so that no rounding loses one.
    level: u128,
    at: BootNs,
}

impl Bucket {
    pub(super) fn new(per_minute: u32, burst: u32) -> Self {
        let level = u128::from(burst) * u128::from(MINUTE_NS);
        Self { per_minute, burst, level, at: BootNs(0) }
    }

    /// Takes one token unless that would leave fewer than `reserve`.
    pub(super) fn take(&mut self, now: BootNs, reserve: u32) -> bool {
        self.refill(now);
        let needed = (u128::from(reserve) + 1) * u128::from(MINUTE_NS);
        if self.level < needed {
            return false;
        }
        self.level -= u128::from(MINUTE_NS);
        true
    }

    fn refill(&mut self, now: BootNs) {
        let gained = u128::from(now.since(self.at)) * u128::from(self.per_minute);
        let full = u128::from(self.burst) * u128::from(MINUTE_NS);
        self.level = full.min(self.level + gained);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Bucket, MINUTE_NS};
    use crate::model::BootNs;

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            steps in proptest::collection::vec(0u64..MINUTE_NS, 1..300),
            per_minute in 1u32..100,
            burst in 1u32..50,
        ) {
            let mut bucket = Bucket::new(per_minute, burst);
            let mut now = 0;
            let mut passed: u64 = 0;
            for step in steps {
                now += step;
                passed += u64::from(bucket.take(BootNs(now), 0));
                let most = u128::from(burst)
                    + u128::from(now) * u128::from(per_minute) / u128::from(MINUTE_NS);
                prop_assert!(u128::from(passed) <= most);
            }
        }
    }

    #[test]
    fn the_reserve_is_kept_for_those_who_may_use_it() {
        let mut bucket = Bucket::new(1, 4);
        assert!(bucket.take(BootNs(0), 2));
        assert!(bucket.take(BootNs(0), 2));
        assert!(!bucket.take(BootNs(0), 2));
        assert!(bucket.take(BootNs(0), 0));
        assert!(bucket.take(BootNs(0), 0));
        assert!(!bucket.take(BootNs(0), 0));
    }

    #[test]
    fn an_older_event_gives_no_tokens_back() {
        let mut bucket = Bucket::new(60, 1);
        assert!(bucket.take(BootNs(MINUTE_NS), 0));
        assert!(!bucket.take(BootNs(0), 0));
        assert!(!bucket.take(BootNs(MINUTE_NS), 0));
    }
}
