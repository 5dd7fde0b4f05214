//! The daemon's own use of the host, from `/proc/self`.

/// What `/proc/self` says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessStats {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
    pub(super) start_time_seconds: f64,
}

/// Units of the numbers in `/proc/self/stat`.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page_bytes: u64,
}

impl ProcessStats {
    /// Reads them; `None` where `/proc` is not what proc(5) says.
    pub(super) fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        let units = Units {
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            page_bytes: rustix::param::page_size() as u64,
        };
        let mut stats = parse_stat(&stat, units)?;
        stats.start_time_seconds += boot_time(&boot)?;
        stats.max_fds = max_fds(&limits)?;
        // One of them is the directory that is being read.
        let fds = std::fs::read_dir("/proc/self/fd").ok()?.count();
        stats.open_fds = (fds as u64).saturating_sub(1);
        Some(stats)
    }
}

/// proc(5): fields after the name in parentheses, which may hold anything, spaces and parentheses
/// included. The start time is since boot.
#[expect(clippy::cast_precision_loss, reason = "ticks of a process stay far below 2^53")]
fn parse_stat(stat: &str, units: Units) -> Option<ProcessStats> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Field 3 of proc(5) is the first here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let seconds = |ticks: u64| ticks as f64 / units.ticks_per_second as f64;
    Some(ProcessStats {
        cpu_seconds: seconds(number(14)? + number(15)?),
        threads: number(20)?,
        start_time_seconds: seconds(number(22)?),
        virtual_bytes: number(23)?,
        resident_bytes: number(24)?.saturating_mul(units.page_bytes),
        ..ProcessStats::default()
    })
}

/// `btime` of `/proc/stat`: Unix time of the boot.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ProcessStats, Units, boot_time, max_fds, parse_stat};

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "42 (a) b) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 7 0 1000 4096 3 0 0";
        let units = Units { ticks_per_second: 100, page_bytes: 4096 };
        let stats = parse_stat(stat, units).unwrap();
        assert!((stats.cpu_seconds - 3.0).abs() < 1e-9);
        assert_eq!((stats.threads, stats.virtual_bytes, stats.resident_bytes), (7, 4096, 12288));
        assert!((stats.start_time_seconds - 10.0).abs() < 1e-9);
        assert_eq!(parse_stat("42 (a", units), None);
        assert_eq!(parse_stat("42 (a) R 1", units), None);
    }

    #[test]
    fn limits_and_boot_time_are_found_by_name() {
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(max_fds("Max open files            1024  4096  files\n"), Some(1024));
        assert_eq!(max_fds("Max open files            unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(max_fds(""), None);
    }

    #[test]
    fn this_process_is_alive() {
        let stats = ProcessStats::read().unwrap();
        assert!(stats.resident_bytes > 0 && stats.threads > 0 && stats.open_fds > 0);
        assert!(stats.start_time_seconds > 1.6e9);
    }
}
