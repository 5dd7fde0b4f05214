//! Bytes of packets, on their way to the daemon.

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_load_bytes};
use aya_ebpf::programs::SkBuffContext;
use monitor_common::{
    ActorRecord, Endpoint, LONG_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_INWARD, PayloadRecord,
};

use crate::count::{Outcome, count};
use crate::filter;
use crate::lane::{Lane, QUIET};
use crate::words;

/// A payload record with its bytes.
#[repr(C)]
struct Slot<const BYTES: usize> {
    record: PayloadRecord,
    bytes: [u8; BYTES],
}

/// Whose bytes they are.
pub(super) struct Sides<'a> {
    pub(super) actor: &'a ActorRecord,
    pub(super) flow_id: u64,
    pub(super) local: &'a Endpoint,
    pub(super) remote: &'a Endpoint,
    pub(super) owner_tgid: u32,
    pub(super) owner_start_boot_ns: u64,
    pub(super) protocol: u16,
}

/// Which bytes.
pub(super) struct Part {
    /// Where in the packet they begin.
    pub(super) offset: u32,
    /// How many there are; not zero.
    pub(super) total: u32,
    /// How many are wanted at most; not zero.
    pub(super) most: u32,
    /// TCP's number of the first.
    pub(super) sequence: u32,
    pub(super) inward: bool,
}

/// Sends bytes of a packet, in the shorter of two slots where that is enough.
#[inline(always)]
pub(super) fn report(ctx: &SkBuffContext, kind: u16, sides: &Sides<'_>, part: &Part) {
    if !filter::within_message_rate(sides.actor.cgroup_id) {
        return count(kind, Outcome::RateLimited);
    }
    let wanted = if part.total < part.most { part.total } else { part.most };
    if wanted as usize <= PAYLOAD_BYTES_MAX {
        send::<PAYLOAD_BYTES_MAX>(ctx, kind, sides, part, wanted);
    } else {
        send::<LONG_PAYLOAD_BYTES_MAX>(ctx, kind, sides, part, wanted);
    }
}

#[inline(always)]
fn send<const BYTES: usize>(
    ctx: &SkBuffContext,
    kind: u16,
    sides: &Sides<'_>,
    part: &Part,
    wanted: u32,
) {
    let Some(mut entry) = Lane::High.ring().reserve::<Slot<BYTES>>(0) else {
        return count(kind, Outcome::RingFull);
    };
    // SAFETY: the slot is as long as the type; every field of the record is written, and the
    // daemon reads no more bytes behind it than `payload_len` says.
    let slot = unsafe { &mut *entry.as_mut_ptr() };
    let record = &mut slot.record;
    record.header.kind = kind;
    record.header.reserved = 0;
    record.header.len = size_of::<Slot<BYTES>>() as u32;
    // SAFETY: a helper without preconditions.
    record.header.boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    words::copy(sides.actor, &mut record.header.actor);
    record.flow_id = sides.flow_id;
    words::copy(sides.local, &mut record.local);
    words::copy(sides.remote, &mut record.remote);
    record.owner_tgid = sides.owner_tgid;
    record.owner_start_boot_ns = sides.owner_start_boot_ns;
    record.payload_total = part.total;
    record.protocol = sides.protocol;
    record.flags = if part.inward { PAYLOAD_INWARD } else { 0 };
    record.sequence = part.sequence;
    record.reserved = 0;
    let wanted = bounded::<BYTES>(wanted);
    record.payload_len = wanted as u32;
    // SAFETY: the target is BYTES long and `wanted` is between one and that.
    let loaded = unsafe {
        bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            part.offset,
            slot.bytes.as_mut_ptr().cast(),
            wanted as u32,
        )
    };
    if loaded == 0 {
        entry.submit(QUIET);
        Lane::High.knock();
        count(kind, Outcome::Sent);
    } else {
        entry.discard(QUIET);
        count(kind, Outcome::ReadFault);
    }
}

/// At least one and at most `BYTES` of `total`, which is not zero.
///
/// In assembly, because the compiler knows that `total` is not zero, drops the lower bound, and the
/// verifier then refuses the read ("invalid zero-sized read", 6.18).
#[inline(always)]
fn bounded<const BYTES: usize>(total: u32) -> u64 {
    const { assert!(BYTES.is_power_of_two()) };
    let last = total.wrapping_sub(1);
    let most = BYTES as u32 - 1;
    let mut bytes = u64::from(if last > most { most } else { last });
    // SAFETY: two instructions on a register.
    unsafe {
        core::arch::asm!(
            "{bytes} &= {mask}",
            "{bytes} += 1",
            bytes = inout(reg) bytes,
            mask = const BYTES as i32 - 1,
        );
    }
    bytes
}
