//! How the C library keeps the heap of a process that runs for months.
//!
//! Left alone, glibc gives each thread an arena of its own and, once a large block was freed, keeps
//! megabytes at the end of the heap for the next one: what parsing the kernel's type information
//! needs for half a second stays for good. It takes its settings from the environment, when a
//! process begins (mallopt(3)); so the program executes itself once more with them.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Says that it was done: a process with more rights than its caller does not see the others.
const SETTLED: &str = "GPUWARDEN_HEAP_SETTLED";

/// One arena: threads share little, and have caches of their own. Blocks from 128 KiB go back to
/// the system when they are freed, and so does what is free beyond that at the end of the heap.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Settles the heap: where that takes a new start of the program, this returns only if there can be
/// none. What the user has set stays.
pub(super) fn settle() {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let missing = missing(is_set);
    if is_set(SETTLED) || missing.is_empty() {
        return;
    }
    // By its path: the process is named after what it executes. Where that is gone, all stays.
    let Ok(path) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(path);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    again.args(arguments).env(SETTLED, "1");
    again.envs(missing);
    let error = again.exec();
    tracing::debug!(%error, "the heap stays as it is");
}

/// The settings that nobody has made.
fn missing(is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, &'static OsStr)> {
    SETTINGS
        .into_iter()
        .filter(|(name, _)| !is_set(name))
        .map(|(name, value)| (name, OsStr::new(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_set_stays() {
        let set = |name: &str| name == "MALLOC_ARENA_MAX";
        let names: Vec<_> = missing(set).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"]);
        assert!(missing(|_| true).is_empty());
    }
}
