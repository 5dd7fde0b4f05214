//! Tells the kernel side what the loaded rules can need, so that the rest never leaves it. Applied
//! at start and after each reload.

use std::collections::{BTreeSet, HashSet};

use monitor_common::{CLASS_ARCHIVE, CLASS_SECRET, CLASS_WEIGHTS, InodeKey};

use super::mask::CgroupMasks;
use super::path::PathLooker;
use crate::config::NameClasses;
use crate::enrich::family_name;
use crate::rule::{Demand, RuleSet, Scopes};
use crate::sensor::{PathWatch, SharedMaps, Wanted};

/// What is wanted beside the rules.
#[derive(Debug)]
pub(super) struct Pushdown {
    /// Everything, whatever the rules are: a recording is made.
    pub(super) everything: bool,
    /// What metrics of workloads are made of.
    pub(super) accounts: bool,
    /// File-name extensions by class.
    pub(super) classes: NameClasses,
    /// Files that rules name by path.
    pub(super) paths: PathWatch,
    /// Prefixes of paths that rules name now.
    pub(super) prefixes: BTreeSet<String>,
    /// Looks where these files lie, again and again.
    pub(super) looker: PathLooker,
    /// What single cgroups are spared.
    pub(super) masks: CgroupMasks,
}

impl Pushdown {
    /// Tells the kernel side. What it refuses is said; it sends more then, never less.
    pub(super) fn apply(&mut self, rules: &RuleSet, maps: &mut SharedMaps) {
        let demand = Demand::of(rules, self.accounts);
        let wanted = if self.everything { Wanted::default() } else { wanted(&demand) };
        if !maps.want(&wanted) {
            tracing::warn!("the kernel side does not take what is wanted; it sends everything");
        }
        let spared = demand.spared();
        if !self.everything {
            let (kinds, filters) = (spared.kinds, spared.filters);
            tracing::info!(?kinds, ?filters, "not sent by the kernel");
        }
        let scopes =
            if self.everything { Scopes::default() } else { Scopes::of(rules, self.accounts) };
        self.masks.restart(scopes, maps);
        self.name_classes(&demand, maps);
        if !self.paths.apply(&demand.paths, &demand.prefixes, maps) {
            tracing::warn!(
                "the rules' paths are more, or their names longer, than the kernel side watches; \
                 see PATH_DIRECTORIES_MAX in LIMITS.md"
            );
        }
        self.looker.look_for(&demand.prefixes);
        self.prefixes = demand.prefixes;
    }

    /// Watches the directories that prefixes were found to mean, unless other rules came since.
    pub(super) fn found_directories(
        &mut self,
        of: &BTreeSet<String>,
        found: HashSet<InodeKey>,
        maps: &mut SharedMaps,
    ) {
        if *of == self.prefixes && !self.paths.watch(found, maps) {
            tracing::warn!("the kernel side does not take all directories of the rules' paths");
        }
    }

    /// Tells the kernel side which extensions have a class that somebody needs. Weights are always
    /// needed: labels are found by them.
    fn name_classes(&self, demand: &Demand, maps: &mut SharedMaps) {
        let named = [
            ("weights", &self.classes.weights, CLASS_WEIGHTS),
            ("archive", &self.classes.archive, CLASS_ARCHIVE),
            ("secret", &self.classes.secret, CLASS_SECRET),
        ];
        for (name, extensions, class) in named {
            let needed = self.everything
                || class == CLASS_WEIGHTS
                || demand.classes.as_ref().is_none_or(|classes| classes.contains(name));
            for extension in extensions {
                if !needed {
                    maps.unname_class(extension);
                } else if !maps.name_class(extension, class) {
                    tracing::warn!(extension, "the kernel side does not take this extension");
                }
            }
        }
    }
}

/// The same demand in the kernel side's words.
pub fn wanted(demand: &Demand) -> Wanted {
    let numbers = |names: &BTreeSet<String>| {
        let named = |family: &u16| family_name(*family).is_none_or(|name| names.contains(name));
        (0..64).filter(named).collect::<BTreeSet<u16>>()
    };
    Wanted {
        kinds: demand.kinds,
        payloads: demand.payloads,
        families: demand.families.as_ref().map(numbers),
        flow_families: demand.flow_families.as_ref().map(numbers),
        flow_ports: demand.flow_ports.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventKind, KindSet};
    use crate::rule::Source;

    fn demand(rules: &str) -> Demand {
        let text = format!("apiVersion: gpuwarden.dev/v1\nrules:\n{rules}");
        let set =
            RuleSet::load(&[Source { name: "a.yaml".into(), text, dir: None, untested: true }]);
        Demand::of(&set.unwrap_or_else(|mistakes| panic!("{mistakes}")), false)
    }

    fn rule(id: &str, on: &str, when: &str) -> String {
        format!("- {{id: {id}, title: t, severity: low, on: [{on}], when: '{when}', message: m}}\n")
    }

    #[test]
    fn families_of_rare_sockets_are_those_that_some_rule_can_match() {
        let packet = rule("a", "socket", "net.family == \"packet\" && proc.uid != 0");
        let two = rule("b", "socket", "net.family in [\"vsock\", \"xdp\"]");
        let families = wanted(&demand(&format!("{packet}{two}"))).families.expect("narrowed");
        assert!(families.is_superset(&BTreeSet::from([17, 40, 44])), "{families:?}");
        assert!(!families.contains(&31), "bluetooth has a name that nobody asks for");
        assert!(families.contains(&50), "a family without a name is in doubt sent");
        let any = rule("c", "socket", "proc.uid != 0");
        assert_eq!(wanted(&demand(&format!("{packet}{any}"))).families, None);
    }

    #[test]
    fn rule_that_is_gone_takes_its_kinds_with_it() {
        let exec = rule("a", "exec", "proc.name == \"x\"");
        let flow = rule("b", "flow", "net.sni == \"x\"");
        let both = demand(&format!("{exec}{flow}"));
        assert!(both.kinds.contains(EventKind::Flow) && both.payloads);
        let one = demand(&exec);
        assert_eq!((one.kinds, one.payloads), (KindSet::of(&[EventKind::Exec]), false));
        assert!(one.spared().kinds.contains(&"flow"));
    }

    #[test]
    fn rule_on_one_kind_needs_what_its_fields_are_made_of() {
        let rule = rule("a", "flow", "weights.bytes_read > 0 && workload.stratum_seen");
        let demand = demand(&rule);
        for kind in [EventKind::FileOpen, EventKind::FileRead, EventKind::Dns] {
            assert!(demand.kinds.contains(kind), "{kind}");
        }
        assert!(demand.payloads && !demand.kinds.contains(EventKind::Socket));
    }
}
