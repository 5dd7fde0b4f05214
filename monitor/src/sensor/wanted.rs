//! What somebody needs of the kernel side, as the bits that the hooks ask first.

use std::collections::BTreeSet;

use monitor_common::{
    KIND_ASYNC_IO, KIND_CGROUP_MOVE, KIND_COUNT, KIND_DNS, KIND_EXEC, KIND_EXIT, KIND_FILE_CHANGE,
    KIND_FILE_OPEN, KIND_FILE_READ, KIND_FLOW, KIND_LINK, KIND_MEMORY_ACCESS, KIND_NAMESPACE,
    KIND_PAYLOAD, KIND_SOCKET_NEW, KIND_STDIO, KIND_TAMPER, KIND_TASK_NEW, KIND_TASK_SEEN,
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
}

impl Default for Wanted {
    fn default() -> Self {
        Self { kinds: KindSet::ALL, payloads: true, families: None }
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
        let Some(families) = &self.families else { return 0 };
        (0..64_u16)
            .filter(|family| !families.contains(family))
            .fold(0, |bits, family| bits | 1 << family)
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
        let few = Wanted { kinds, payloads: false, families: Some(BTreeSet::from([17])) };
        let bits = few.unwanted_kinds();
        for kind in [KIND_FILE_OPEN, KIND_FLOW, KIND_SOCKET_NEW, KIND_PAYLOAD] {
            assert_ne!(bits >> kind & 1, 0, "{kind}");
        }
        for kind in [KIND_TASK_SEEN, KIND_TASK_NEW, KIND_EXEC, KIND_EXIT, KIND_DNS] {
            assert_eq!(bits >> kind & 1, 0, "{kind}");
        }
        assert_eq!(few.unwanted_families(), !(1 << 17));
    }
}
