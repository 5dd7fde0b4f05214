//! The second opinion: payload bytes by cgroup, as the socket layer says that it took them and as
//! packets show them. The daemon compares.

use aya_ebpf::bindings::BPF_NOEXIST;
use monitor_common::EgressSum;

use crate::flow::shared_add;
use crate::maps::EGRESS;

/// Bytes that a socket took.
#[inline(always)]
pub(crate) fn said(cgroup: u64, is_stream: bool, bytes: u64) {
    let Some(sum) = sum(cgroup) else { return };
    shared_add(if is_stream { &mut sum.said_stream } else { &mut sum.said_other }, bytes);
}

/// Bytes in a packet.
#[inline(always)]
pub(crate) fn seen(cgroup: u64, is_stream: bool, bytes: u64) {
    let Some(sum) = sum(cgroup) else { return };
    shared_add(if is_stream { &mut sum.seen_stream } else { &mut sum.seen_other }, bytes);
}

#[inline(always)]
fn sum(cgroup: u64) -> Option<&'static mut EgressSum> {
    if cgroup == 0 {
        return None;
    }
    let sum = match EGRESS.get_ptr_mut(cgroup) {
        Some(sum) => sum,
        None => {
            let zero = EgressSum { said_stream: 0, said_other: 0, seen_stream: 0, seen_other: 0 };
            // A full map forgets the cgroup that sent longest ago, with both of its opinions.
            let _kept = EGRESS.insert(cgroup, zero, u64::from(BPF_NOEXIST));
            EGRESS.get_ptr_mut(cgroup)?
        }
    };
    // SAFETY: the map's value lives while the program runs.
    Some(unsafe { &mut *sum })
}
