//! What is wanted, and how much of it per cgroup.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use monitor_common::{
    FLOW_PORTS_NARROWED, RATE_HIGH_BIT, RATE_MESSAGE_BIT, RATE_MESSAGE_PART, RateWindow,
    UNWANTED_FAMILIES, UNWANTED_FLOWS, UNWANTED_KINDS, UNWANTED_SOMEWHERE, mark_of,
};

use crate::globals::{RATE_BULK, RATE_HIGH};
use crate::lane::Lane;
use crate::maps::{CGROUP_UNWANTED, FLOW_PORTS, MARKED_CGROUPS, MARKED_ON, MARKS, RATES, UNWANTED};

/// Length of a rate window.
const RATE_WINDOW_NS: u64 = 1_000_000_000;

/// The bits that keep the lanes of a cgroup apart in one map.
const HIGH_BIT: u64 = RATE_HIGH_BIT;
const MESSAGE_BIT: u64 = RATE_MESSAGE_BIT;

/// Whether some rule, profile or account needs records of `kind`. Ask it first: one read.
#[inline(always)]
pub(crate) fn wanted(kind: u16) -> bool {
    UNWANTED.get(UNWANTED_KINDS).is_none_or(|bits| *bits >> (kind & 63) & 1 == 0)
}

/// Whether some rule needs to know of a rare socket of `family`. Families beyond the set's bits
/// always count as wanted.
#[inline(always)]
pub(crate) fn family_wanted(family: u16) -> bool {
    family > 63
        || UNWANTED.get(UNWANTED_FAMILIES).is_none_or(|bits| *bits >> (family & 63) & 1 == 0)
}

/// Whether some rule may need records of `kind` from `cgroup`. One read where the kind is wanted of
/// every cgroup.
#[inline(always)]
pub(crate) fn wanted_of(kind: u16, cgroup: u64) -> bool {
    let is_needed_everywhere =
        UNWANTED.get(UNWANTED_SOMEWHERE).is_none_or(|bits| *bits >> (kind & 63) & 1 == 0);
    if is_needed_everywhere {
        return true;
    }
    // SAFETY: the value is copied out at once.
    unsafe { CGROUP_UNWANTED.get(cgroup) }.is_none_or(|bits| *bits >> (kind & 63) & 1 == 0)
}

/// Whether some rule or account needs to know of a flow of this family to this port. It is asked at
/// each record and not kept with the flow: after a reload, flows that are open count too.
#[inline(always)]
pub(crate) fn flow_wanted(family: u16, port: u16) -> bool {
    let unwanted = UNWANTED.get(UNWANTED_FLOWS).map_or(0, |bits| *bits);
    if unwanted == 0 {
        return true;
    }
    if family < 63 && unwanted >> (family & 63) & 1 != 0 {
        return false;
    }
    unwanted & FLOW_PORTS_NARROWED == 0
        || FLOW_PORTS.get(u32::from(port >> 6)).is_none_or(|bits| *bits >> (port & 63) & 1 != 0)
}

/// Whether `cgroup` may send one more record to `lane` in this second on this CPU.
#[inline(always)]
pub(crate) fn within_rate(cgroup: u64, lane: Lane) -> bool {
    match lane {
        Lane::High | Lane::Life => within(cgroup | HIGH_BIT, RATE_HIGH.load()),
        Lane::Bulk => within(cgroup, RATE_BULK.load()),
    }
}

/// The same for one more message to or from a resolver, or first bytes: whoever sends a flood of
/// those must not keep the records of its flows out.
#[inline(always)]
pub(crate) fn within_message_rate(cgroup: u64) -> bool {
    within(cgroup | MESSAGE_BIT, RATE_HIGH.load() / RATE_MESSAGE_PART)
}

#[inline(always)]
fn within(key: u64, limit: u64) -> bool {
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(window) = RATES.get_ptr_mut(key) else {
        let first = RateWindow { start_boot_ns: now, records: 1, refused: 0 };
        // A map that is full of other cgroups means no limit for this one, which is the safe side:
        // the ring itself still bounds what is kept, and counts what is not.
        let _full = RATES.insert(key, first, u64::from(BPF_ANY));
        return true;
    };
    // SAFETY: this CPU's value of a per-CPU map, valid while the program runs.
    let window = unsafe { &mut *window };
    if now.wrapping_sub(window.start_boot_ns) > RATE_WINDOW_NS {
        window.start_boot_ns = now;
        window.records = 0;
    }
    window.records += 1;
    if window.records > limit {
        window.refused += 1;
        return false;
    }
    true
}

/// Whether an inode of this number may be labelled, or be a watched directory. Two maps have to be
/// asked, by the file system too, only where this says yes; what is not wanted costs one bit.
#[inline(always)]
pub(crate) fn may_be_marked(number: u64) -> bool {
    let (word, bit) = mark_of(number);
    MARKS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// Whether weights were read in the cgroup that `cgroup` finds. One read where none is marked.
#[inline(always)]
pub(crate) fn is_marked(cgroup: impl FnOnce() -> u64) -> bool {
    if MARKED_ON.get(0).is_none_or(|on| *on == 0) {
        return false;
    }
    // SAFETY: only presence is asked.
    unsafe { MARKED_CGROUPS.get(cgroup()) }.is_some()
}

/// Whether an address, IPv6 or IPv4-mapped, is a loopback address.
#[inline(always)]
pub(crate) fn is_loopback(address: &[u8; 16]) -> bool {
    let high = u64::from_ne_bytes([
        address[0], address[1], address[2], address[3], address[4], address[5], address[6],
        address[7],
    ]);
    if high != 0 {
        return false;
    }
    let middle = u32::from_be_bytes([address[8], address[9], address[10], address[11]]);
    let low = u32::from_be_bytes([address[12], address[13], address[14], address[15]]);
    (middle == 0xffff && low >> 24 == 127) || (middle == 0 && low == 1)
}
