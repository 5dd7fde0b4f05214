//! How long to wait between rounds. No clock: everything that passes is an argument.

/// Share of the wall time that rounds may take on the steady beat: one part in this many.
pub const STEADY_DUTY_DIVISOR: u64 = 10;
/// Nanoseconds of fast beat that can be saved up, so that a host that starts a process each second
/// is not read ten times a second for ever.
pub const FAST_CREDIT_NS_MAX: u64 = 30_000_000_000;
/// Fast beat earned: one nanosecond per this many.
pub const FAST_CREDIT_DIVISOR: u64 = 5;
/// Jitter in percent of the interval to either side, so that a thousand hosts do not beat as one,
/// and a program cannot dodge a beat it knows.
pub const JITTER_PERCENT: u64 = 10;

/// The beat of the sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Nanoseconds between rounds on the steady beat.
    pub steady_ns: u64,
    /// Nanoseconds between rounds for the first moments of a process.
    pub fast_ns: u64,
    /// How long those first moments are, in nanoseconds.
    pub fast_for_ns: u64,
}

/// The wait between rounds.
#[derive(Clone, Debug)]
pub struct Pace {
    beat: Beat,
    fast_until_ns: u64,
    credit_ns: u64,
    last_ns: u64,
    random: u64,
}

impl Pace {
    /// A pace that begins at `now_ns`; `seed` chooses the jitter.
    pub fn new(beat: Beat, now_ns: u64, seed: u64) -> Self {
        // Zero is the one state that xorshift cannot leave.
        let random = seed | 1;
        Self { beat, fast_until_ns: 0, credit_ns: FAST_CREDIT_NS_MAX, last_ns: now_ns, random }
    }

    /// Something new happened: read often for a while.
    pub fn quicken(&mut self, now_ns: u64) {
        self.fast_until_ns = now_ns.saturating_add(self.beat.fast_for_ns);
    }

    /// Nanoseconds to wait, after a round that took `took_ns`.
    pub fn wait_ns(&mut self, now_ns: u64, took_ns: u64) -> u64 {
        let passed = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        let earned = passed / FAST_CREDIT_DIVISOR;
        self.credit_ns = self.credit_ns.saturating_add(earned).min(FAST_CREDIT_NS_MAX);
        let fast_ns = self.beat.fast_ns.max(took_ns);
        if now_ns < self.fast_until_ns && self.credit_ns >= fast_ns {
            self.credit_ns -= fast_ns;
            return fast_ns;
        }
        let jittered = self.jittered(self.beat.steady_ns);
        jittered.max(took_ns.saturating_mul(STEADY_DUTY_DIVISOR - 1))
    }

    fn jittered(&mut self, interval_ns: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let reach = interval_ns / 100 * JITTER_PERCENT;
        (interval_ns - reach).saturating_add(self.random % (2 * reach + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Beat =
        Beat { steady_ns: 1_000_000_000, fast_ns: 100_000_000, fast_for_ns: 5_000_000_000 };

    /// Plays `span_ns` and returns the number of rounds; `newcomer` tells when one appears.
    fn rounds_in(span_ns: u64, took_ns: u64, newcomer: impl Fn(u64) -> bool) -> u64 {
        let mut pace = Pace::new(BEAT, 0, 42);
        let (mut now, mut rounds) = (0, 0);
        while now < span_ns {
            now += took_ns;
            if newcomer(now) {
                pace.quicken(now);
            }
            now += pace.wait_ns(now, took_ns);
            rounds += 1;
        }
        rounds
    }

    #[test]
    fn a_quiet_host_is_read_once_a_second() {
        let rounds = rounds_in(600_000_000_000, 1_000_000, |_| false);
        assert!((540..=660).contains(&rounds), "{rounds} rounds in ten minutes");
    }

    #[test]
    fn a_newcomer_is_read_ten_times_a_second() {
        let rounds = rounds_in(5_000_000_000, 1_000_000, |now| now < 1_500_000);
        assert!((45..=51).contains(&rounds), "{rounds} rounds in five seconds");
    }

    #[test]
    fn endless_newcomers_cannot_keep_the_fast_beat() {
        let rounds = rounds_in(3_600_000_000_000, 1_000_000, |_| true);
        // One part in five may be fast (ten a second), the rest is steady: 2.8 a second.
        assert!(rounds < 3_600 * 3, "{rounds} rounds in an hour");
    }

    #[test]
    fn a_slow_driver_is_asked_less_often() {
        let rounds = rounds_in(600_000_000_000, 500_000_000, |_| false);
        assert!(rounds <= 120, "{rounds} rounds of half a second in ten minutes");
    }

    #[test]
    fn beats_are_spread() {
        let mut pace = Pace::new(BEAT, 0, 7);
        let waits: std::collections::BTreeSet<u64> = (0..100).map(|_| pace.wait_ns(0, 0)).collect();
        assert!(waits.len() > 90);
        assert!(waits.iter().all(|wait| (900_000_000..=1_100_000_000).contains(wait)));
    }
}
