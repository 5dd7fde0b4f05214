//! What somebody needs of the kernel side, as the bits that the hooks ask first.

use std::collections::BTreeSet;

use aya::maps::{Array, HashMap, MapData};
use monitor_common::{
    FLOW_PORT_WORDS, FLOW_PORTS_NARROWED, KIND_ASYNC_IO, KIND_CGROUP_MOVE, KIND_COUNT, KIND_DNS,
    KIND_EXEC, KIND_EXIT, KIND_FILE_CHANGE, KIND_FILE_OPEN, KIND_FILE_READ, KIND_FLOW, KIND_LINK,
    KIND_MEMORY_ACCESS, KIND_NAMESPACE, KIND_PAYLOAD, KIND_SOCKET_NEW, KIND_STDIO, KIND_TAMPER,
    KIND_TASK_NEW, KIND_TASK_SEEN, UNWANTED_FAMILIES, UNWANTED_FLOWS, UNWANTED_KINDS,
    UNWANTED_SOMEWHERE,
};

use crate::model::{EventKind, KindSet};

/// What is needed of the kernel side. What is not in here never enters a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Events that some rule, profile or account needs.
    pub kinds: KindSet,
    /// Whether first payloads of flows are needed.
    pub payloads: bool,
    /// Address families (`AF_*`) of rare sockets that are needed; `None` for all.
    pub families: Option<BTreeSet<u16>>,
    /// Address families of flows that are needed; `None` for all.
    pub flow_families: Option<BTreeSet<u16>>,
    /// Remote ports of flows that are needed; `None` for all.
    pub flow_ports: Option<BTreeSet<u16>>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            kinds: KindSet::ALL,
            payloads: true,
            families: None,
            flow_families: None,
            flow_ports: None,
        }
    }
}

/// Who needs a kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The process table, whatever the rules are.
    Always,
    /// Whoever needs events of this kind.
    Event(EventKind),
    /// Whoever needs first payloads.
    Payload,
}

/// Who needs records of `kind`; `None` for a kind that this list does not know, which is then
/// wanted.
const fn need(kind: u16) -> Option<Need> {
    Some(match kind {
        KIND_TASK_SEEN | KIND_TASK_NEW | KIND_EXEC | KIND_EXIT | KIND_LINK | KIND_CGROUP_MOVE => {
            Need::Always
        }
        KIND_FILE_READ => Need::Event(EventKind::FileRead),
        KIND_FILE_CHANGE => Need::Event(EventKind::FileChange),
        KIND_STDIO => Need::Event(EventKind::Stdio),
        KIND_MEMORY_ACCESS => Need::Event(EventKind::MemoryAccess),
        KIND_TAMPER => Need::Event(EventKind::Tamper),
        KIND_NAMESPACE => Need::Event(EventKind::Namespace),
        KIND_ASYNC_IO => Need::Event(EventKind::AsyncIo),
        KIND_FILE_OPEN => Need::Event(EventKind::FileOpen),
        KIND_FLOW => Need::Event(EventKind::Flow),
        KIND_SOCKET_NEW => Need::Event(EventKind::Socket),
        KIND_PAYLOAD => Need::Payload,
        KIND_DNS => Need::Event(EventKind::Dns),
        _ => return None,
    })
}

impl Wanted {
    /// A bit for each record kind that nobody needs.
    pub(super) fn unwanted_kinds(&self) -> u64 {
        let kinds =
            (0..u16::try_from(KIND_COUNT).unwrap_or(u16::MAX)).filter(|kind| match need(*kind) {
                None | Some(Need::Always) => false,
                Some(Need::Event(event)) => !self.kinds.contains(event),
                Some(Need::Payload) => !self.payloads,
            });
        kinds.fold(0, |bits, kind| bits | 1 << kind)
    }

    /// A bit for each address family below 64 that nobody needs.
    pub(super) fn unwanted_families(&self) -> u64 {
        self.families.as_ref().map_or(0, absent)
    }

    /// A bit for each address family of flows that nobody needs, and whether ports are narrowed.
    pub(super) fn unwanted_flows(&self) -> u64 {
        let families = self.flow_families.as_ref().map_or(0, absent) & !FLOW_PORTS_NARROWED;
        families | if self.flow_ports.is_some() { FLOW_PORTS_NARROWED } else { 0 }
    }

    /// A bit for each remote port of flows that is needed.
    fn port_words(&self) -> Vec<u64> {
        let mut words = vec![0; FLOW_PORT_WORDS as usize];
        for port in self.flow_ports.iter().flatten() {
            words[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        words
    }
}

/// A bit for each number below 64 that is not in a set.
fn absent(numbers: &BTreeSet<u16>) -> u64 {
    (0..64_u16).filter(|number| !numbers.contains(number)).fold(0, |bits, at| bits | 1 << at)
}

/// A bit for each record kind that only events of `kinds` are made of.
fn record_kinds(kinds: KindSet) -> u64 {
    let only = |kind: &u16| match need(*kind) {
        Some(Need::Event(event)) => kinds.contains(event),
        _ => false,
    };
    (0..u16::try_from(KIND_COUNT).unwrap_or(u16::MAX))
        .filter(only)
        .fold(0, |bits, kind| bits | 1 << kind)
}

/// The maps in which the kernel side looks for what is wanted.
pub(super) struct WantedMaps {
    unwanted: Array<MapData, u64>,
    ports: Array<MapData, u64>,
    /// What the map of ports holds: only this side writes it.
    port_words: Vec<u64>,
    cgroups: HashMap<MapData, u64, u64>,
    /// Record kinds that some cgroup was spared since the map was last empty.
    somewhere: u64,
}

impl WantedMaps {
    pub(super) fn new(
        unwanted: Array<MapData, u64>,
        ports: Array<MapData, u64>,
        cgroups: HashMap<MapData, u64, u64>,
    ) -> Self {
        Self {
            unwanted,
            ports,
            port_words: vec![0; FLOW_PORT_WORDS as usize],
            cgroups,
            somewhere: 0,
        }
    }

    /// Tells what is wanted of all cgroups. Whatever is refused on the way, more is sent and not
    /// less: ports are written while none are asked for.
    pub(super) fn tell(&mut self, wanted: &Wanted) -> bool {
        self.unwanted.set(UNWANTED_KINDS, wanted.unwanted_kinds(), 0).is_ok()
            && self.unwanted.set(UNWANTED_FAMILIES, wanted.unwanted_families(), 0).is_ok()
            && self.unwanted.set(UNWANTED_FLOWS, 0, 0).is_ok()
            && self.write_ports(&wanted.port_words())
            && self.unwanted.set(UNWANTED_FLOWS, wanted.unwanted_flows(), 0).is_ok()
    }

    fn write_ports(&mut self, words: &[u64]) -> bool {
        for ((index, known), word) in (0..).zip(&mut self.port_words).zip(words) {
            if known != word && self.ports.set(index, *word, 0).is_err() {
                return false;
            }
            *known = *word;
        }
        true
    }

    /// Spares a cgroup the records of these kinds of event, or with none gives all of them back.
    pub(super) fn spare_cgroup(&mut self, cgroup: u64, kinds: KindSet) -> bool {
        let bits = record_kinds(kinds);
        if bits == 0 {
            // One that is not there is spared nothing already.
            let _gone = self.cgroups.remove(&cgroup);
            return true;
        }
        self.somewhere |= bits;
        self.cgroups.insert(cgroup, bits, 0).is_ok()
            && self.unwanted.set(UNWANTED_SOMEWHERE, self.somewhere, 0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_record_has_somebody_who_may_need_it() {
        for kind in 1..u16::try_from(KIND_COUNT).expect("few kinds") {
            let Some(name) = monitor_common::kind_name(kind) else { continue };
            assert!(need(kind).is_some(), "{name}: say in `need` who needs it");
        }
    }

    #[test]
    fn what_nobody_needs_has_its_bit_and_the_process_table_is_always_fed() {
        let all = Wanted::default();
        assert_eq!((all.unwanted_kinds(), all.unwanted_families()), (0, 0));
        let kinds = KindSet::of(&[EventKind::Exec, EventKind::Dns]);
        let few = Wanted {
            kinds,
            payloads: false,
            families: Some(BTreeSet::from([17])),
            ..Wanted::default()
        };
        let bits = few.unwanted_kinds();
        for kind in [KIND_FILE_OPEN, KIND_FLOW, KIND_SOCKET_NEW, KIND_PAYLOAD] {
            assert_ne!(bits >> kind & 1, 0, "{kind}");
        }
        for kind in [KIND_TASK_SEEN, KIND_TASK_NEW, KIND_EXEC, KIND_EXIT, KIND_DNS] {
            assert_eq!(bits >> kind & 1, 0, "{kind}");
        }
        assert_eq!(few.unwanted_families(), !(1 << 17));
    }

    #[test]
    fn flows_are_narrowed_by_port_and_by_family_each_for_itself() {
        let all = Wanted::default();
        assert_eq!(all.unwanted_flows(), 0, "nothing is asked for");
        let ports = Some(BTreeSet::from([0, 63, 64, 443, 65_535]));
        let few = Wanted { flow_ports: ports, ..Wanted::default() };
        assert_eq!(few.unwanted_flows(), FLOW_PORTS_NARROWED, "of any family");
        let words = few.port_words();
        assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 5);
        assert_eq!((words[0], words[1]), (1 | 1 << 63, 1));
        assert_eq!((words[6], words[1023]), (1 << (443 - 384), 1 << 63));
        let packet = Some(BTreeSet::from([17]));
        let few = Wanted { flow_families: packet, ..Wanted::default() };
        assert_eq!(few.unwanted_flows(), !(1 << 17) & !FLOW_PORTS_NARROWED);
    }

    #[test]
    fn cgroup_is_spared_whole_kinds_and_never_what_the_process_table_needs() {
        let bits = record_kinds(KindSet::of(&[EventKind::Socket, EventKind::Namespace]));
        assert_eq!(bits, 1 << KIND_SOCKET_NEW | 1 << KIND_NAMESPACE);
        let all = record_kinds(KindSet::ALL);
        for kind in [KIND_TASK_NEW, KIND_EXEC, KIND_EXIT, KIND_LINK, KIND_PAYLOAD] {
            assert_eq!(all >> kind & 1, 0, "{kind}");
        }
    }
}
