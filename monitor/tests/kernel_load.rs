//! Loads every program into the running kernel. Needs root.

use monitor::kernel::support;
use monitor::sensor::{self, Settings, State, Tier};

#[test]
fn every_base_tier_sensor_attaches_on_this_kernel() {
    support::check().expect("run as root on a kernel with BTF");
    let root = support::cgroup2_root().expect("a cgroup v2 hierarchy");
    let mut loaded = sensor::load(&Settings::default(), &root).expect("loads");
    for status in &loaded.status {
        let has_base = status.sensor.roads.iter().any(|road| road.tier == Tier::Base);
        if has_base {
            // A kernel that is built without modules has nothing to watch there.
            let is_moot = status.sensor.name == "tamper_module"
                && !std::path::Path::new("/proc/modules").exists();
            let is_off = matches!(status.state, State::Off(_)) && !is_moot;
            assert!(!is_off, "{}: {:?}", status.sensor.name, status.state);
        }
        // What is refused says so in words that a person can use.
        assert_ne!(status.state.reason().is_empty(), status.state != State::Attached);
    }
    let iterator = loaded.take_iterator().expect("the iterator is attached");
    let seeds = sensor::seed(iterator).expect("the canary agrees with /proc/self");
    assert!(seeds.events.len() > 1);
}

/// A map with a value for each CPU that is small here may be large elsewhere.
#[test]
fn maps_stay_within_their_bound_on_two_and_on_192_cpus() {
    support::check().expect("run as root on a kernel with BTF");
    let root = support::cgroup2_root().expect("a cgroup v2 hierarchy");
    let loaded = sensor::load(&Settings::default(), &root).expect("loads");
    assert!(loaded.maps.len() > 20, "{:?}", loaded.maps);
    let table: Vec<String> = loaded
        .maps
        .iter()
        .map(|map| format!("{} {} {}", map.name, map.bytes(2), map.bytes(192)))
        .collect();
    for cpus in [2, 192] {
        let bytes = sensor::map_bytes(&loaded.maps, cpus);
        assert!(bytes <= sensor::MAP_BYTES_MAX, "{bytes} on {cpus} CPUs: {table:#?}");
    }
}
