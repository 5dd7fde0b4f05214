//! Packets, where nothing else will do: the first payload of a flow, answers of resolvers, and the
//! destination of raw sockets, which pass neither a TCP state nor the datagram hooks.
//!
//! The programs always let the packet pass.

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use monitor_common::{
    DIRECTION_EGRESS, Endpoint, KIND_DNS, KIND_PAYLOAD, PAYLOAD_BYTES_MAX, PayloadRecord,
};

use crate::count::{Outcome, count};
use crate::filter;
use crate::flow::{FlowKey, FlowState, peer_hash};
use crate::hook::net::keep_peer;
use crate::lane::{Lane, QUIET};
use crate::maps::FLOWS;
use crate::read::sock::{IPPROTO_TCP, IPPROTO_UDP, mapped};

/// Let the packet pass.
const PASS: i32 = 1;
/// `ETH_P_IP` and `ETH_P_IPV6` (include/uapi/linux/if_ether.h).
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// The resolver's port (RFC 1035).
const DNS_PORT: u16 = 53;
/// Bytes of an IPv6 header (RFC 8200) and of a UDP header (RFC 768).
const IPV6_HEADER_BYTES: u32 = 40;
const UDP_HEADER_BYTES: u32 = 8;
/// A record with the longest payload.
const RECORD_BYTES: usize = size_of::<PayloadRecord>() + PAYLOAD_BYTES_MAX;

/// A payload record with its bytes.
#[repr(C)]
struct PayloadSlot {
    record: PayloadRecord,
    bytes: [u8; PAYLOAD_BYTES_MAX],
}

const _: () = assert!(size_of::<PayloadSlot>() == RECORD_BYTES);

/// Where the parts of a packet are.
struct Packet {
    protocol: u16,
    version6: bool,
    transport: u32,
    total: u32,
}

/// Reads the network header; `None` for anything but IPv4 and IPv6.
///
/// Straight from the packet: each helper call would cost as much as all of this.
#[inline(always)]
fn packet(ctx: &SkBuffContext) -> Option<Packet> {
    let total = ctx.len();
    // SAFETY: a context field.
    let kind = u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16);
    if kind == ETH_P_IP {
        let [first, protocol] = bytes_at(ctx, [0, 9])?;
        let transport = u32::from(first & 0xf) * 4;
        return Some(Packet { protocol: u16::from(protocol), version6: false, transport, total });
    }
    if kind == ETH_P_IPV6 {
        let [protocol, _] = bytes_at(ctx, [6, 0])?;
        let transport = IPV6_HEADER_BYTES;
        return Some(Packet { protocol: u16::from(protocol), version6: true, transport, total });
    }
    None
}

/// Two bytes of the first ten of a packet; `None` when they are not in its linear part.
#[inline(always)]
fn bytes_at(ctx: &SkBuffContext, at: [usize; 2]) -> Option<[u8; 2]> {
    // SAFETY: context fields; the verifier knows them as the packet's bounds, and checks that the
    // reads stay below the end that was compared with.
    unsafe {
        let data = (*ctx.skb.skb).data as usize;
        let end = (*ctx.skb.skb).data_end as usize;
        if data + 10 > end {
            return None;
        }
        Some([*((data + at[0]) as *const u8), *((data + at[1]) as *const u8)])
    }
}

/// Source (`first`) or destination address of the packet.
#[inline(always)]
fn address(ctx: &SkBuffContext, packet: &Packet, source: bool) -> Option<[u8; 16]> {
    if packet.version6 {
        ctx.load(if source { 8 } else { 24 }).ok()
    } else {
        Some(mapped(ctx.load(if source { 12 } else { 16 }).ok()?))
    }
}

/// The kernel address of the packet's socket, used as a name only.
#[inline(always)]
fn socket_of(ctx: &SkBuffContext) -> u64 {
    // SAFETY: a context field; a program with CAP_PERFMON may keep the pointer as a number.
    unsafe { core::ptr::read_volatile(&raw const (*ctx.skb.skb).__bindgen_anon_2.sk) as u64 }
}

/// What leaves.
#[cgroup_skb(egress)]
pub fn packet_out(ctx: SkBuffContext) -> i32 {
    let _ignored = packet_out_look(&ctx);
    PASS
}

#[inline(always)]
fn packet_out_look(ctx: &SkBuffContext) -> Option<()> {
    let packet = packet(ctx)?;
    if packet.protocol == IPPROTO_UDP {
        return None;
    }
    if packet.protocol != IPPROTO_TCP {
        // The socket layer counts the bytes of a raw socket right after this.
        keep_peer(socket_of(ctx), address(ctx, &packet, false)?, 0, packet.protocol);
        return None;
    }
    let key = FlowKey { sock: socket_of(ctx), peer: 0 };
    let state = FLOWS.get_ptr_mut(key)?;
    // SAFETY: the map's value lives while the program runs.
    let state = unsafe { &mut *state };
    if !filter::wanted(KIND_PAYLOAD)
        || state.payload_seen != 0
        || state.muted != 0
        || state.direction != DIRECTION_EGRESS
    {
        return None;
    }
    let offset: u8 = ctx.load(packet.transport as usize + 12).ok()?;
    let payload = packet.transport + u32::from(offset >> 4) * 4;
    if packet.total <= payload {
        return None;
    }
    state.payload_seen = 1;
    payload_report(ctx, KIND_PAYLOAD, state, payload, packet.total - payload);
    Some(())
}

/// What arrives: answers of resolvers.
#[cgroup_skb(ingress)]
pub fn packet_in(ctx: SkBuffContext) -> i32 {
    let _ignored = packet_in_look(&ctx);
    PASS
}

#[inline(always)]
fn packet_in_look(ctx: &SkBuffContext) -> Option<()> {
    let packet = packet(ctx)?;
    if packet.protocol != IPPROTO_UDP {
        return None;
    }
    if !filter::wanted(KIND_DNS) {
        return None;
    }
    let port: u16 = ctx.load(packet.transport as usize).ok()?;
    if u16::from_be(port) != DNS_PORT {
        return None;
    }
    let payload = packet.transport + UDP_HEADER_BYTES;
    if packet.total <= payload {
        return None;
    }
    let server =
        Endpoint { address: address(ctx, &packet, true)?, port: DNS_PORT, reserved: [0; 6] };
    let sock = socket_of(ctx);
    let connected = FlowKey { sock, peer: 0 };
    let unconnected = FlowKey { sock, peer: peer_hash(&server) };
    let state = match FLOWS.get_ptr_mut(connected) {
        Some(state) => state,
        None => FLOWS.get_ptr_mut(unconnected)?,
    };
    // SAFETY: the map's value lives while the program runs.
    let state = unsafe { &mut *state };
    payload_report(ctx, KIND_DNS, state, payload, packet.total - payload);
    Some(())
}

/// Sends the first bytes of a packet's payload, under the name of the flow's last sender: who is
/// current when a packet moves says nothing.
#[inline(always)]
fn payload_report(ctx: &SkBuffContext, kind: u16, state: &FlowState, offset: u32, total: u32) {
    if !filter::within_rate(state.actor.cgroup_id, Lane::High) {
        return count(kind, Outcome::RateLimited);
    }
    let Some(mut entry) = Lane::High.ring().reserve::<PayloadSlot>(0) else {
        return count(kind, Outcome::RingFull);
    };
    // SAFETY: the slot is as long as the type; every field of the record is written, and the
    // daemon reads no more bytes behind it than `payload_len` says.
    let slot = unsafe { &mut *entry.as_mut_ptr() };
    let record = &mut slot.record;
    record.header.kind = kind;
    record.header.reserved = 0;
    record.header.len = RECORD_BYTES as u32;
    // SAFETY: a helper without preconditions.
    record.header.boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    record.header.actor = state.actor;
    record.flow_id = state.flow_id;
    record.local = state.local;
    record.remote = state.remote;
    record.owner_tgid = state.owner_tgid;
    record.owner_start_boot_ns = state.owner_start_boot_ns;
    record.payload_total = total;
    record.protocol = state.protocol;
    record.reserved = 0;
    let wanted = bounded(total);
    record.payload_len = wanted as u32;
    // SAFETY: the target is PAYLOAD_BYTES_MAX long and `wanted` is between one and that.
    let loaded = unsafe {
        bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            offset,
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

/// At least one and at most [`PAYLOAD_BYTES_MAX`] bytes of `total`, which is not zero.
///
/// In assembly, because the compiler knows that `total` is not zero, drops the lower bound, and the
/// verifier then refuses the read ("invalid zero-sized read", 6.18).
#[inline(always)]
fn bounded(total: u32) -> u64 {
    const LAST: u32 = PAYLOAD_BYTES_MAX as u32 - 1;
    let last = total - 1;
    let mut bytes = u64::from(if last > LAST { LAST } else { last });
    // SAFETY: two instructions on a register.
    unsafe {
        core::arch::asm!("{bytes} &= 511", "{bytes} += 1", bytes = inout(reg) bytes);
    }
    bytes
}

const _: () = assert!(PAYLOAD_BYTES_MAX == 512);
