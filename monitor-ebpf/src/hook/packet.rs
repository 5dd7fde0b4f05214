//! Packets, where nothing else will do: first bytes of a flow, what is asked of resolvers and what
//! they answer, and the destination of raw sockets, which pass neither a TCP state nor the datagram
//! hooks.
//!
//! The programs always let the packet pass.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use monitor_common::{
    ActorRecord, DIRECTION_EGRESS, Endpoint, KIND_DNS, KIND_PAYLOAD, LONG_PAYLOAD_BYTES_MAX,
    PAYLOAD_BYTES_MAX, PAYLOAD_SEGMENTS_MAX,
};

use super::payload::{self, Part, Sides};
use crate::count::{Outcome, count};
use crate::filter;
use crate::flow::{FIRST_DONE, FlowKey, FlowState, peer_hash};
use crate::globals::SELF_TGID;
use crate::hook::net::keep_raw_peer;
use crate::maps::{ASKED, ASKED_FILLER, FLOWS};
use crate::opinion;
use crate::read::sock::{IPPROTO_TCP, IPPROTO_UDP, mapped};
use crate::read::{Fault, task};

/// Let the packet pass.
pub(super) const PASS: i32 = 1;
/// `ETH_P_IP` and `ETH_P_IPV6` (include/uapi/linux/if_ether.h).
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// Ports of resolvers (RFC 1035) and of multicast names (RFC 6762).
const DNS_PORT: u16 = 53;
const MDNS_PORT: u16 = 5353;
/// Bytes of an IPv4 header without options (RFC 791), of an IPv6 header (RFC 8200) and of a UDP
/// header (RFC 768).
const IPV4_HEADER_BYTES: u32 = 20;
const IPV6_HEADER_BYTES: u32 = 40;
pub(super) const UDP_HEADER_BYTES: u32 = 8;
/// `SYN` in the flags of a TCP header (RFC 9293): it takes a number of its own.
const TCP_SYN: u8 = 2;
/// First byte of a TLS handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Who asked a resolver by datagram last.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    actor: ActorRecord,
    local: Endpoint,
    remote: Endpoint,
    cookie: u64,
}

/// Where the parts of a packet are.
pub(super) struct Packet {
    pub(super) protocol: u16,
    pub(super) version6: bool,
    pub(super) transport: u32,
    pub(super) total: u32,
}

/// Reads the network header; `None` for anything but IPv4 and IPv6.
///
/// Straight from the packet: each helper call would cost as much as all of this.
#[inline(always)]
pub(super) fn packet(ctx: &SkBuffContext) -> Option<Packet> {
    let total = ctx.len();
    // SAFETY: a context field.
    let kind = u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16);
    if kind == ETH_P_IP {
        let ([first, ..], [_, protocol, ..]) = (bytes_at::<0>(ctx)?, bytes_at::<8>(ctx)?);
        let transport = u32::from(first & 0xf) * 4;
        return Some(Packet { protocol: u16::from(protocol), version6: false, transport, total });
    }
    if kind == ETH_P_IPV6 {
        let [protocol, ..] = bytes_at::<6>(ctx)?;
        let transport = IPV6_HEADER_BYTES;
        return Some(Packet { protocol: u16::from(protocol), version6: true, transport, total });
    }
    None
}

/// Four bytes of a packet at a constant place; `None` when they are not in its linear part.
#[inline(always)]
fn bytes_at<const AT: usize>(ctx: &SkBuffContext) -> Option<[u8; 4]> {
    // SAFETY: context fields; the verifier knows them as the packet's bounds, and checks that the
    // reads stay below the end that was compared with.
    unsafe {
        let data = (*ctx.skb.skb).data as usize;
        let end = (*ctx.skb.skb).data_end as usize;
        if data + AT + 4 > end {
            return None;
        }
        let byte = |at: usize| core::ptr::read_volatile((data + AT + at) as *const u8);
        Some([byte(0), byte(1), byte(2), byte(3)])
    }
}

/// Source and destination port.
#[inline(always)]
pub(super) fn ports(ctx: &SkBuffContext, packet: &Packet) -> Option<(u16, u16)> {
    let near = match packet.transport {
        IPV4_HEADER_BYTES => bytes_at::<20>(ctx),
        IPV6_HEADER_BYTES => bytes_at::<40>(ctx),
        _ => None,
    };
    let [a, b, c, d] = match near {
        Some(bytes) => bytes,
        None => ctx.load(packet.transport as usize).ok()?,
    };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Whether resolvers listen at a port.
#[inline(always)]
fn is_dns(port: u16) -> bool {
    port == DNS_PORT || port == MDNS_PORT
}

/// Source or destination address of the packet.
#[inline(always)]
pub(super) fn address(ctx: &SkBuffContext, packet: &Packet, source: bool) -> Option<[u8; 16]> {
    if packet.version6 {
        ctx.load(if source { 8 } else { 24 }).ok()
    } else {
        Some(mapped(ctx.load(if source { 12 } else { 16 }).ok()?))
    }
}

/// The kernel address of the packet's socket, used as a name only.
#[inline(always)]
pub(super) fn socket_of(ctx: &SkBuffContext) -> u64 {
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
    match packet.protocol {
        IPPROTO_TCP => stream_out(ctx, &packet),
        IPPROTO_UDP => {
            let bytes = packet.total.saturating_sub(packet.transport + UDP_HEADER_BYTES);
            seen(ctx, &packet, false, bytes);
            let (from, to) = ports(ctx, &packet)?;
            if !is_dns(to) || !filter::wanted(KIND_DNS) || packet.total <= packet.transport + 8 {
                return None;
            }
            if ask(ctx, &packet, from, to)?.is_err() {
                count(KIND_DNS, Outcome::ReadFault);
            }
            Some(())
        }
        protocol => {
            seen(ctx, &packet, false, packet.total.saturating_sub(packet.transport));
            // The socket layer counts the bytes of a raw socket right after this.
            let address = address(ctx, &packet, false)?;
            // SAFETY: sixteen plain bytes either way.
            let address: [u64; 2] = unsafe { core::mem::transmute(address) };
            keep_raw_peer(socket_of(ctx), address, protocol);
            None
        }
    }
}

/// A datagram to a resolver. It leaves in the context of the thread that sends it: who that is, is
/// kept for the answer.
#[inline(always)]
fn ask(ctx: &SkBuffContext, packet: &Packet, from: u16, to: u16) -> Option<Result<(), Fault>> {
    let local = Endpoint { address: address(ctx, packet, true)?, port: from, reserved: [0; 6] };
    let remote = Endpoint { address: address(ctx, packet, false)?, port: to, reserved: [0; 6] };
    let current = task::current();
    match task::tgid(current) {
        Ok(tgid) if tgid != SELF_TGID.load() => {}
        Ok(_) => return None,
        Err(fault) => return Some(Err(fault)),
    }
    let key = FlowKey { sock: socket_of(ctx), peer: peer_hash(&remote) };
    if ASKED.get_ptr_mut(key).is_none() {
        // A full map forgets who asked longest ago: the answer to that gives no names.
        let _kept = ASKED.insert(key, ASKED_FILLER.get(0)?, u64::from(BPF_ANY));
    }
    // In place: the stack has no room for it on kernels where fields are read into it (5.10).
    // SAFETY: the map's value lives while the program runs.
    let asked = unsafe { &mut *ASKED.get_ptr_mut(key)? };
    if let Err(fault) = task::packet_actor(current, &mut asked.actor) {
        return Some(Err(fault));
    }
    (asked.local, asked.remote) = (local, remote);
    // SAFETY: the context is a packet, as the helper asks.
    asked.cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    datagram(ctx, packet, asked, false);
    Some(Ok(()))
}

#[inline(always)]
fn datagram(ctx: &SkBuffContext, packet: &Packet, asked: &Asked, inward: bool) {
    let sides = Sides {
        actor: &asked.actor,
        flow_id: asked.cookie,
        local: &asked.local,
        remote: &asked.remote,
        owner_tgid: asked.actor.tgid,
        owner_start_boot_ns: asked.actor.start_boot_ns,
        protocol: IPPROTO_UDP,
    };
    let offset = packet.transport + UDP_HEADER_BYTES;
    let total = packet.total - offset;
    payload::report(
        ctx,
        KIND_DNS,
        &sides,
        &Part { offset, total, most: total, sequence: 0, inward },
    );
}

/// A segment: where its bytes are, and TCP's number of the first.
pub(super) struct Segment {
    offset: u32,
    pub(super) total: u32,
    pub(super) sequence: u32,
}

/// A segment that carries bytes.
#[inline(always)]
pub(super) fn segment(ctx: &SkBuffContext, packet: &Packet) -> Option<Segment> {
    let near = match packet.transport {
        IPV4_HEADER_BYTES => Some((bytes_at::<24>(ctx)?, bytes_at::<32>(ctx)?)),
        IPV6_HEADER_BYTES => Some((bytes_at::<44>(ctx)?, bytes_at::<52>(ctx)?)),
        _ => None,
    };
    let (first, [offset, flags, ..]) = match near {
        Some(near) => near,
        None => {
            let transport = packet.transport as usize;
            (ctx.load(transport + 4).ok()?, ctx.load(transport + 12).ok()?)
        }
    };
    let offset = packet.transport + u32::from(offset >> 4) * 4;
    if packet.total <= offset {
        return None;
    }
    let sequence = u32::from_be_bytes(first).wrapping_add(u32::from(flags & TCP_SYN != 0));
    Some(Segment { offset, total: packet.total - offset, sequence })
}

/// Counts bytes that leave for another host, under the cgroup of their socket.
#[inline(always)]
fn seen(ctx: &SkBuffContext, packet: &Packet, is_stream: bool, bytes: u32) {
    if bytes == 0 || leads_home(ctx, packet) {
        return;
    }
    // SAFETY: the context is a packet, as the helper asks; without a socket it says zero.
    let cgroup = unsafe { bpf_skb_cgroup_id(ctx.skb.skb) };
    opinion::seen(cgroup, is_stream, u64::from(bytes));
}

/// Whether a packet goes to a loopback address.
#[inline(always)]
fn leads_home(ctx: &SkBuffContext, packet: &Packet) -> bool {
    if !packet.version6 {
        return bytes_at::<16>(ctx).is_some_and(|[first, ..]| first == 127);
    }
    // Loopback, and IPv4 within IPv6, begin with zero bytes; hardly anything else does.
    bytes_at::<24>(ctx) == Some([0; 4])
        && address(ctx, packet, false).is_some_and(|address| filter::is_loopback(&address))
}

/// A segment of a flow: one of the first, or one to a resolver.
#[inline(always)]
fn stream_out(ctx: &SkBuffContext, packet: &Packet) -> Option<()> {
    let segment = segment(ctx, packet)?;
    let key = FlowKey { sock: socket_of(ctx), peer: 0 };
    let Some(state) = FLOWS.get_ptr_mut(key) else {
        seen(ctx, packet, true, segment.total);
        return None;
    };
    // SAFETY: the map's value lives while the program runs.
    let state = unsafe { &mut *state };
    seen(ctx, packet, true, new_bytes(state, &segment));
    let is_question = state.remote.port == DNS_PORT;
    if is_question && filter::wanted(KIND_DNS) {
        return stream_part(ctx, &segment, state, false);
    }
    if state.first_segments == FIRST_DONE
        || state.muted != 0
        || state.direction != DIRECTION_EGRESS
        || !filter::wanted(KIND_PAYLOAD)
    {
        return None;
    }
    if state.first_segments == 0 {
        let first: u8 = ctx.load(segment.offset as usize).ok()?;
        // A hello with keys for the time after the quantum computer has its name far behind.
        let most = if first == TLS_HANDSHAKE { LONG_PAYLOAD_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
        state.first_left = most as u32;
    }
    let left = state.first_left;
    state.first_left = left.saturating_sub(segment.total);
    state.first_segments += 1;
    if state.first_left == 0 || state.first_segments >= PAYLOAD_SEGMENTS_MAX {
        state.first_segments = FIRST_DONE;
    }
    let Segment { offset, total, sequence } = segment;
    let part = Part { offset, total, most: left, sequence, inward: false };
    payload::report(ctx, KIND_PAYLOAD, &sides(state), &part);
    Some(())
}

/// Bytes of a segment that were not sent before.
#[inline(always)]
fn new_bytes(state: &mut FlowState, segment: &Segment) -> u32 {
    let end = segment.sequence.wrapping_add(segment.total);
    let new = end.wrapping_sub(state.sent_until);
    if state.sent_until != 0 && new as i32 <= 0 {
        return 0;
    }
    let is_first = state.sent_until == 0;
    state.sent_until = end;
    if is_first || new > segment.total { segment.total } else { new }
}

/// A segment to or from a resolver, whole or in part.
#[inline(always)]
fn stream_part(
    ctx: &SkBuffContext,
    segment: &Segment,
    state: &FlowState,
    inward: bool,
) -> Option<()> {
    if state.owner_tgid == SELF_TGID.load() {
        return None;
    }
    let Segment { offset, total, sequence } = *segment;
    let part = Part { offset, total, most: total, sequence, inward };
    payload::report(ctx, KIND_DNS, &sides(state), &part);
    Some(())
}

/// The flow's last sender is who the bytes are told of: who is current when a packet moves says
/// nothing.
#[inline(always)]
fn sides(state: &FlowState) -> Sides<'_> {
    Sides {
        actor: &state.actor,
        flow_id: state.flow_id,
        local: &state.local,
        remote: &state.remote,
        owner_tgid: state.owner_tgid,
        owner_start_boot_ns: state.owner_start_boot_ns,
        protocol: state.protocol,
    }
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
    if packet.protocol != IPPROTO_UDP && packet.protocol != IPPROTO_TCP {
        return None;
    }
    let (from, _) = ports(ctx, &packet)?;
    if !is_dns(from) || !filter::wanted(KIND_DNS) {
        return None;
    }
    if packet.protocol == IPPROTO_TCP {
        let segment = segment(ctx, &packet)?;
        let state = FLOWS.get_ptr_mut(FlowKey { sock: socket_of(ctx), peer: 0 })?;
        // SAFETY: the map's value lives while the program runs.
        return stream_part(ctx, &segment, unsafe { &*state }, true);
    }
    if packet.total <= packet.transport + UDP_HEADER_BYTES {
        return None;
    }
    let server = Endpoint { address: address(ctx, &packet, true)?, port: from, reserved: [0; 6] };
    let key = FlowKey { sock: socket_of(ctx), peer: peer_hash(&server) };
    let asked = ASKED.get_ptr_mut(key)?;
    // SAFETY: the map's value lives while the program runs.
    datagram(ctx, &packet, unsafe { &*asked }, true);
    Some(())
}
