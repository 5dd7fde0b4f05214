//! Two clocks, never mixed: events carry boot time, people read wall time.

use serde::{Deserialize, Serialize};

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`, `bpf_ktime_get_boot_ns`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootNs(pub u64);

/// Nanoseconds since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallNs(pub u64);

impl BootNs {
    /// Time from `earlier` to `self`, zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl WallNs {
    /// RFC 3339 text in UTC with millisecond digits, e.g. `2026-11-22T09:30:01.250Z`.
    pub fn to_rfc3339(self) -> String {
        let ns = i128::from(self.0);
        match jiff::Timestamp::from_nanosecond(ns) {
            Ok(stamp) => format!("{stamp:.3}"),
            Err(_) => format!("@{ns}ns"),
        }
    }
}

/// Turns boot time into wall time. The difference is measured once and passed in, so that the
/// stages that use it stay pure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Wall time at boot, in nanoseconds since the Unix epoch.
    pub wall_at_boot_ns: u64,
}

impl Clock {
    /// Reads both clocks once.
    pub fn measure() -> Self {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self { wall_at_boot_ns: nanoseconds(wall).saturating_sub(nanoseconds(boot)) }
    }

    /// Boot time now.
    pub fn boot_now() -> BootNs {
        BootNs(nanoseconds(rustix::time::clock_gettime(rustix::time::ClockId::Boottime)))
    }

    /// Wall time of a moment in boot time.
    pub const fn wall(self, at: BootNs) -> WallNs {
        WallNs(self.wall_at_boot_ns.saturating_add(at.0))
    }
}

fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
