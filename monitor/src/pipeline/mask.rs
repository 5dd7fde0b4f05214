//! Tells the kernel side, cgroup by cgroup, which kinds of event no rule can match there.
//!
//! A cgroup is spared something only while all is known of who lives in it. One that is new, or to
//! which a process of another workload was moved, sends everything until the next look.

use std::collections::{HashMap, HashSet};

use crate::enrich::{Enricher, Stamp};
use crate::model::{BootNs, CgroupId, Facts, KindSet};
use crate::rule::{RuleSet, Scopes};
use crate::sensor::SharedMaps;

/// Time from one look at the cgroups to the next.
const LOOK_EVERY_NS: u64 = 5_000_000_000;

/// What each cgroup is spared.
#[derive(Debug, Default)]
pub struct CgroupMasks {
    scopes: Scopes,
    known: HashMap<CgroupId, (Stamp, KindSet)>,
    looked: BootNs,
}

impl CgroupMasks {
    /// Gives every cgroup everything back, and goes by these scopes from the next look on.
    pub fn restart(&mut self, scopes: Scopes, maps: &mut SharedMaps) {
        for cgroup in self.known.keys() {
            maps.spare_cgroup(cgroup.0, KindSet::EMPTY);
        }
        *self = Self { scopes, ..Self::default() };
    }

    /// Gives a cgroup everything back: somebody else came into it.
    pub fn release(&mut self, cgroup: CgroupId, maps: &mut SharedMaps) {
        if self.known.remove(&cgroup).is_some() {
            maps.spare_cgroup(cgroup.0, KindSet::EMPTY);
        }
    }

    /// Looks at the cgroups, when it is time.
    pub fn look(
        &mut self,
        now: BootNs,
        enricher: &Enricher,
        rules: &RuleSet,
        maps: &mut SharedMaps,
    ) {
        if self.scopes.is_empty() || now.since(self.looked) < LOOK_EVERY_NS {
            return;
        }
        self.looked = now;
        let residents = enricher.residents();
        let there: HashSet<CgroupId> = residents.iter().map(|it| it.cgroup).collect();
        self.known.retain(|cgroup, _| {
            there.contains(cgroup) || !maps.spare_cgroup(cgroup.0, KindSet::EMPTY)
        });
        for resident in residents {
            let stamp = resident.stamp();
            if self.known.get(&resident.cgroup).is_some_and(|(before, _)| *before == stamp) {
                continue;
            }
            let worlds = resident.worlds();
            let worlds: Vec<&dyn Facts> = worlds.iter().map(|world| world as &dyn Facts).collect();
            let kinds = self.scopes.spared(rules, &worlds);
            if maps.spare_cgroup(resident.cgroup.0, kinds) {
                self.known.insert(resident.cgroup, (stamp, kinds));
            }
        }
    }

    /// Cgroups that are spared something.
    pub fn len(&self) -> usize {
        self.known.values().filter(|(_, kinds)| !kinds.is_empty()).count()
    }

    /// Whether no cgroup is spared anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
