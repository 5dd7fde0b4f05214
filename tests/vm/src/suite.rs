//! The tests of a machine: which there are, which apply to this kernel, and what became of them.

use std::io::Write as _;

use monitor::kernel::support;
use monitor::sensor::State;

use crate::watch::Watch;
use crate::{attack, base, full, host, low, module};

/// A test. Its name starts with the kernel from which on the thing must be there.
pub(crate) struct Test {
    /// Name, `k5_10_…`.
    pub(crate) name: &'static str,
    /// The sensor that must be attached without loss from that kernel on.
    pub(crate) sensor: &'static str,
    /// The test.
    pub(crate) run: fn(&mut Watch) -> Result<(), String>,
}

/// The kernel that a test's name starts with.
fn minimum(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_prefix('k')?.split('_');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The kernel that runs.
pub(crate) fn version() -> (u32, u32) {
    let release = support::release();
    let mut parts = release.split(['.', '-', '+', '~']);
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// How many tests of a pass ended how.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    absent: u32,
}

/// Runs everything: with all that this kernel takes, and again on the base tier alone. `false` when
/// a test failed.
pub(crate) fn run() -> Result<bool, String> {
    let mut tally = Tally::default();
    pass(
        "",
        &mut load(true)?,
        base::TESTS.iter().chain(attack::TESTS).chain(module::TESTS).chain(full::TESTS),
        &mut tally,
    );
    pass(" (base tier)", &mut load(false)?, low::tests(), &mut tally);
    let Tally { passed, failed, absent } = tally;
    println!("init: {} passed, {failed} failed, {absent} of them absences", passed + absent);
    Ok(failed == 0 && passed > 0)
}

fn load(full_tier: bool) -> Result<Watch, String> {
    let started = std::time::Instant::now();
    let watch = Watch::start(full_tier)?;
    println!(
        "loaded in {} ms on {}: {}",
        started.elapsed().as_millis(),
        support::release(),
        watch.loaded.tiers.describe()
    );
    for status in &watch.loaded.status {
        println!("sensor {} {} {}", status.sensor.name, status.hook, status.state.as_str());
        if !status.state.reason().is_empty() || !status.refused.is_empty() {
            println!("  {} ({})", status.state.reason(), status.refused);
        }
    }
    Ok(watch)
}

fn pass(
    tier: &str,
    watch: &mut Watch,
    tests: impl Iterator<Item = &'static Test>,
    tally: &mut Tally,
) {
    let only = host::command_line("gpuwarden.only");
    for test in tests {
        let name = test.name;
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        if let Some(why) = full::cannot(name) {
            println!("test {name}{tier} ... skipped: {why}");
            continue;
        }
        let is_promised = minimum(name).is_some_and(|minimum| version() >= minimum);
        let result = if is_promised { present(watch, test) } else { below(watch, test) };
        match (result, is_promised) {
            (Ok(()), true) => {
                tally.passed += 1;
                println!("test {name}{tier} ... ok");
            }
            (Ok(()), false) => {
                tally.absent += 1;
                println!("test {name}{tier} ... ok, absent below it");
            }
            (Err(why), _) => {
                tally.failed += 1;
                println!("test {name}{tier} ... FAILED: {why}");
            }
        }
        let _flushed = std::io::stdout().flush();
    }
}

fn present(watch: &mut Watch, test: &Test) -> Result<(), String> {
    if !test.sensor.is_empty() && !watch.is_attached(test.sensor) {
        let state = watch.status(test.sensor).map(|status| format!("{:?}", status.state));
        return Err(format!("sensor {} is {}", test.sensor, state.unwrap_or_default()));
    }
    (test.run)(watch)
}

/// Below its minimum a sensor must say that it is off or on a fallback, and never claim more.
fn below(watch: &Watch, test: &Test) -> Result<(), String> {
    match watch.status(test.sensor).map(|status| &status.state) {
        Some(State::Off(_) | State::Fallback(_)) => Ok(()),
        Some(State::Attached) => Err(format!("sensor {} claims to be attached", test.sensor)),
        None => Err(format!("no sensor {}", test.sensor)),
    }
}
