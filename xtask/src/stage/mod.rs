//! What demos and benchmarks stand on: a monitor that runs, cgroups, a network with another end,
//! processes that talk. Each part cleans up after itself when it is dropped.

mod cgroup;
mod config;
mod interrupt;
mod monitor;
mod network;
mod player;

use rustix::time::{ClockId, clock_gettime};

pub(crate) use self::cgroup::Cgroup;
pub(crate) use self::config::{Config, Profile};
pub(crate) use self::interrupt::Interrupt;
pub(crate) use self::monitor::{Line, Metrics, Monitor, MonitorOptions, free_address};
pub(crate) use self::network::Network;
pub(crate) use self::player::Player;

/// Nanoseconds of the monotonic clock: what Python's `time.monotonic_ns` reads too.
pub(crate) fn mono_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
