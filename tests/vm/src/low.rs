//! The base tier alone, on kernels that would take more: what it sees, and what it
//! says it does not.

use monitor::sensor::State;

use crate::suite::{self, Test};
use crate::watch::Watch;
use crate::{attack, base, full, module};

/// Tests of `base` that say something else here.
const OTHERWISE: &[&str] =
    &["k5_10_tier_is_what_the_kernel_was_booted_with", "k5_10_frames_are_counted"];

/// Sensors that have no road on this tier, and those that lose something on it.
const OFF: &[&str] = &["file_read", "file_change", "access_check"];
const ON_A_FALLBACK: &[&str] = &["file_open", "socket_new", "map_exec", "segment"];
/// Sensors that want a newer kernel, and which; before, they say so.
const LATER: &[(&str, (u32, u32))] =
    &[("send_bytes", (6, 3)), ("io_uring", (5, 19)), ("io_uring_net", (6, 4))];

/// The tests: those of both tiers, and these.
pub(crate) fn tests() -> impl Iterator<Item = &'static Test> {
    let both = base::TESTS.iter().filter(|test| !OTHERWISE.contains(&test.name));
    both.chain(attack::TESTS).chain(module::TESTS).chain(TESTS)
}

const TESTS: &[Test] = &[
    Test { name: "k5_10_what_needs_the_full_tier_says_so", sensor: "", run: says },
    Test { name: "k5_10_sensors_are_on_and_say_where_they_are_not", sensor: "", run: states },
    Test { name: "k6_3_frames_are_counted", sensor: "send_bytes", run: base::frames },
    Test { name: "k5_10_books_balance", sensor: "", run: full::books },
];

/// Every other sensor watches without loss, on every kernel.
fn states(watch: &mut Watch) -> Result<(), String> {
    let special = [OFF, ON_A_FALLBACK].concat();
    for status in &watch.loaded.status {
        let name = status.sensor.name;
        let later = LATER.iter().find(|(sensor, _)| *sensor == name);
        let is_there = later.is_none_or(|(_, minimum)| suite::version() >= *minimum);
        let is_right = special.contains(&name) || (status.state == State::Attached) == is_there;
        if !is_right {
            return Err(format!("{name} is {:?}", status.state));
        }
    }
    Ok(())
}

fn says(watch: &mut Watch) -> Result<(), String> {
    let state = |sensor: &str| watch.status(sensor).map(|status| status.state.clone());
    for sensor in OFF {
        match state(sensor) {
            Some(State::Off(why)) if !why.is_empty() => {}
            other => return Err(format!("{sensor} is {other:?}")),
        }
    }
    for sensor in ON_A_FALLBACK {
        match state(sensor) {
            Some(State::Fallback(lost)) if !lost.is_empty() => {}
            other => return Err(format!("{sensor} is {other:?}")),
        }
    }
    let described = watch.loaded.tiers.describe();
    if described.starts_with("base tier") { Ok(()) } else { Err(described) }
}
