//! How long something took, as a histogram that one thread adds to and another reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the classes in microseconds; a last class has none. Close together where the
/// promise on alerts is (150 µs at the median, 1 ms for all but one in a hundred).
pub const DELAY_BOUNDS_US: [u32; 20] = [
    10, 20, 30, 40, 50, 70, 100, 150, 200, 300, 400, 500, 700, 1_000, 2_000, 5_000, 10_000, 20_000,
    100_000, 1_000_000,
];

/// The histogram.
#[derive(Debug, Default)]
pub struct Delay {
    classes: [AtomicU64; DELAY_BOUNDS_US.len()],
    beyond: AtomicU64,
    sum_ns: AtomicU64,
}

/// What it held at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DelayCounts {
    /// How many were within each of [`DELAY_BOUNDS_US`] and beyond the bound before.
    pub classes: [u64; DELAY_BOUNDS_US.len()],
    /// How many were beyond the last bound.
    pub beyond: u64,
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
}

impl Delay {
    /// Adds one, in nanoseconds.
    pub fn add(&self, ns: u64) {
        let class = DELAY_BOUNDS_US.iter().position(|bound| ns <= u64::from(*bound) * 1_000);
        let class = class.and_then(|class| self.classes.get(class)).unwrap_or(&self.beyond);
        class.fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn read(&self) -> DelayCounts {
        DelayCounts {
            classes: std::array::from_fn(|class| self.classes[class].load(Ordering::Relaxed)),
            beyond: self.beyond.load(Ordering::Relaxed),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

impl DelayCounts {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.classes.iter().sum::<u64>() + self.beyond
    }
}

#[cfg(test)]
mod tests {
    use super::{DELAY_BOUNDS_US, Delay};

    #[test]
    fn each_is_in_the_class_that_it_does_not_exceed() {
        let delay = Delay::default();
        for ns in [0, 10_000, 10_001, 150_000, 2_000_000_000] {
            delay.add(ns);
        }
        let counts = delay.read();
        assert_eq!(counts.classes[0], 2);
        assert_eq!(counts.classes[1], 1);
        let promise = DELAY_BOUNDS_US.iter().position(|bound| *bound == 150);
        assert_eq!(promise.map(|class| counts.classes[class]), Some(1));
        assert_eq!((counts.beyond, counts.count()), (1, 5));
        assert_eq!(counts.sum_ns, 2_000_170_001);
        assert!(DELAY_BOUNDS_US.is_sorted());
    }
}
