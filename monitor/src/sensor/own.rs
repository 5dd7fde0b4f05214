//! The monitor's own BPF objects: known to the kernel side, so that it tells who touches them, and
//! counted by the daemon, so that a link that was taken away is put back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya::maps::HashMap;
use aya::programs::Program;
use aya::{Btf, Ebpf};
use monitor_common::{OWN_LINK, OWN_MAP, OWN_PROGRAM};

use super::attach::{self, Place};
use super::catalog::{CATALOG, Sensor};
use super::loader::Loaded;
use super::memory;
use super::status::State;
use crate::kernel::tracefs::Tracefs;

/// Descriptors of the monitor that are looked at; it has some 200.
pub(crate) const OWN_DESCRIPTORS_MAX: usize = 4_096;

/// Programs that are attached, by id: their names, and how many links each has.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) programs: BTreeMap<u32, (String, usize)>,
}

impl Own {
    /// Looks at what is loaded now, and tells the kernel side.
    pub(super) fn register(ebpf: &mut Ebpf, cgroup_root: &Path) -> Result<Self, String> {
        let mut own = Self::default();
        let mut keys: Vec<u64> = Vec::new();
        for (name, program) in ebpf.programs() {
            // A program of a road that is not taken is not loaded, and has no id.
            if let Ok(info) = program.info() {
                own.programs.insert(info.id(), (name.to_owned(), 0));
                keys.push(key(OWN_PROGRAM, info.id()));
            }
        }
        for (_, map) in ebpf.maps() {
            if let Some(info) = memory::data(map).and_then(|data| data.info().ok()) {
                keys.push(key(OWN_MAP, info.id()));
            }
        }
        for (id, program) in links() {
            if let Some((name, count)) = own.programs.get_mut(&program) {
                // The link of an iterator ends when it was read.
                let is_once = matches!(ebpf.program(name), Some(Program::Iter(_)));
                *count += usize::from(!is_once);
                keys.push(key(OWN_LINK, id));
            }
        }
        fill(ebpf, "OWN_OBJECTS", &keys)?;
        fill(ebpf, "OWN_CGROUPS", &cgroups(cgroup_root))?;
        Ok(own)
    }

    /// Programs that have fewer links than they had.
    pub(super) fn loosened(&self) -> Vec<&str> {
        let mut now: BTreeMap<u32, usize> = BTreeMap::new();
        for (_, program) in links() {
            *now.entry(program).or_default() += 1;
        }
        self.programs
            .iter()
            .filter(|(id, (_, links))| now.get(id).copied().unwrap_or(0) < *links)
            .map(|(_, (name, _))| name.as_str())
            .collect()
    }
}

const fn key(kind: u32, id: u32) -> u64 {
    (kind as u64) << 32 | id as u64
}

/// The monitor's links that are in force: their ids and their programs'. Read from its own
/// descriptors (kernel/bpf/syscall.c, `bpf_link_show_fdinfo`, 5.8 and newer).
fn links() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc/self/fdinfo") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .take(OWN_DESCRIPTORS_MAX)
        .filter_map(|entry| link(&fs::read_to_string(entry.path()).ok()?))
        .collect()
}

/// The link in a descriptor's description; `None` for anything else, and for a link to a cgroup
/// that was detached: it stays an object that is attached to nothing.
fn link(text: &str) -> Option<(u32, u32)> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.strip_prefix(':')).map(str::trim)
    };
    let number = |name: &str| field(name).and_then(|value| value.parse::<u32>().ok());
    let ids = (number("link_id")?, number("prog_id")?);
    (field("cgroup_id") != Some("0")).then_some(ids)
}

impl Loaded {
    /// Puts back what somebody took away since the programs were attached. Gives, for each sensor
    /// that this was done to, a sentence for a person.
    pub fn mend(&mut self) -> Vec<(&'static str, String)> {
        let loosened = self.own.loosened();
        if loosened.is_empty() {
            return Vec::new();
        }
        let is_loosened = |sensor: &Sensor| {
            let mut programs = sensor.roads.iter().flat_map(|road| road.programs);
            programs.any(|program| loosened.contains(&program.name))
        };
        let sensors: Vec<_> = CATALOG.iter().filter(|sensor| is_loosened(sensor)).collect();
        let mut told = Vec::new();
        for sensor in sensors {
            let state = self.attach_again(sensor).unwrap_or_else(State::Off);
            let detail = match &state {
                State::Off(why) => format!(
                    "somebody detached its programs and they cannot be attached again: {why}"
                ),
                state => format!(
                    "somebody detached its programs; they were attached again ({})",
                    state.as_str()
                ),
            };
            told.push((sensor.name, detail));
        }
        match Own::register(&mut self.ebpf, &self.cgroup_root) {
            Ok(own) => self.own = own,
            Err(why) => tracing::warn!(why, "the kernel side does not know what is the monitor's"),
        }
        told
    }

    fn attach_again(&mut self, sensor: &'static Sensor) -> Result<State, String> {
        let btf = Btf::from_sys_fs().map_err(|error| error.to_string())?;
        let cgroup = File::open(&self.cgroup_root).map_err(|error| error.to_string())?;
        let tracefs = Tracefs::open();
        let (tracefs, tiers) = (tracefs.as_ref(), &self.tiers);
        let (has_request, has_registers) = (self.has_request, self.has_registers);
        let place =
            Place { btf: &btf, cgroup: &cgroup, tracefs, tiers, has_request, has_registers };
        for program in sensor.roads.iter().flat_map(|road| road.programs) {
            self.held.release(program.name);
            attach::detach(&mut self.ebpf, program.name);
        }
        let offsets = &self.offsets;
        let found = attach::sensor(&mut self.ebpf, sensor, offsets, &place, &mut self.held);
        let state = found.state.clone();
        if let Some(known) = self.status.iter_mut().find(|known| known.sensor == found.sensor) {
            *known = found;
        }
        Ok(state)
    }
}

fn fill(ebpf: &mut Ebpf, name: &str, keys: &[u64]) -> Result<(), String> {
    let map = ebpf.map_mut(name).ok_or_else(|| format!("the object has no map {name}"))?;
    let mut map: HashMap<_, u64, u32> =
        HashMap::try_from(map).map_err(|error| format!("{name}: {error}"))?;
    for key in keys {
        map.insert(key, 1, 0).map_err(|error| {
            format!("{name} does not take all of {} entries: {error}", keys.len())
        })?;
    }
    Ok(())
}

/// Ids of the monitor's own cgroup and of those above it: freezing one of them freezes it.
fn cgroups(root: &Path) -> Vec<u64> {
    let Ok(text) = fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let place = root.join(own);
    place
        .ancestors()
        .take_while(|place| place.starts_with(root))
        .filter_map(|place| Some(fs::metadata(place).ok()?.ino()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_and_one_that_leads_nowhere_is_none() {
        let text = "pos:\t0\nflags:\t02000002\nlink_type:\tcgroup\nlink_id:\t12\n\
                    prog_tag:\t6deef7357e7b4530\nprog_id:\t34\ncgroup_id:\t1\nattach_type:\t1\n";
        assert_eq!(link(text), Some((12, 34)));
        assert_eq!(link(&text.replace("cgroup_id:\t1", "cgroup_id:\t0")), None);
        assert_eq!(link("pos:\t0\nprog_id:\t34\n"), None, "a program is no link");
    }
}
