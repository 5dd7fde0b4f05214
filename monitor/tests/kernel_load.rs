//! Loads every program into the running kernel. Needs root.

use monitor::kernel::support;
use monitor::sensor::{self, Settings, State};

#[test]
fn every_base_tier_sensor_attaches_on_this_kernel() {
    support::check().expect("run as root on a kernel with BTF");
    let root = support::cgroup2_root().expect("a cgroup v2 hierarchy");
    let mut loaded = sensor::load(&Settings::default(), &root).expect("loads");
    for status in &loaded.status {
        assert_eq!(status.state, State::Attached, "{}", status.sensor.name);
    }
    let iterator = loaded.take_iterator().expect("the iterator is attached");
    let seeds = sensor::seed(iterator).expect("the canary agrees with /proc/self");
    assert!(seeds.events.len() > 1);
}
