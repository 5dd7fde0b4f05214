//! Bytes sent, from packets: where the socket layer tells nothing (before 6.3) and no program may
//! be on a function. Streams are counted by TCP's own numbers, so that what is sent again counts
//! once; datagrams as they are put on their way, before they are cut into fragments.
//!
//! The program always lets the packet pass.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use monitor_common::{DIRECTION_EGRESS, Endpoint};

use super::packet::{
    PASS, Packet, Segment, UDP_HEADER_BYTES, address, packet, ports, segment, socket_of,
};
use crate::flow::{self, FlowKey, FlowState, Opening, Starter, peer_hash};
use crate::maps::{FLOW_SCRATCH, FLOWS};
use crate::read::sock::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use crate::read::{Fault, number_of, task};

/// Counts what leaves.
#[cgroup_skb(egress)]
pub fn packet_counted(ctx: SkBuffContext) -> i32 {
    if let Some(Err(fault)) = look(&ctx) {
        flow::fault(fault);
    }
    PASS
}

#[inline(always)]
fn look(ctx: &SkBuffContext) -> Option<Result<(), Fault>> {
    let packet = packet(ctx)?;
    if packet.protocol == IPPROTO_TCP {
        let segment = segment(ctx, &packet)?;
        let state = FLOWS.get_ptr_mut(FlowKey { sock: socket_of(ctx), peer: 0 })?;
        // SAFETY: the map's value lives while the program runs.
        let state = unsafe { &mut *state };
        let bytes = new_bytes(state, &segment);
        return Some(add(ctx, state, bytes));
    }
    let (header, port) = if packet.protocol == IPPROTO_UDP {
        (UDP_HEADER_BYTES, ports(ctx, &packet)?.1)
    } else {
        (0, 0)
    };
    let bytes = packet.total.saturating_sub(packet.transport + header);
    let remote = Endpoint { address: address(ctx, &packet, false)?, port, reserved: [0; 6] };
    Some(datagram(ctx, &packet, &remote, bytes))
}

/// Bytes of a segment that were not counted before.
#[inline(always)]
fn new_bytes(state: &mut FlowState, segment: &Segment) -> u32 {
    let end = segment.sequence.wrapping_add(segment.total);
    let new = end.wrapping_sub(state.counted_until);
    if state.counted_until == 0 || new > segment.total && new as i32 > 0 {
        state.counted_until = end;
        return segment.total;
    }
    if new as i32 <= 0 {
        return 0;
    }
    state.counted_until = end;
    new
}

/// A datagram leaves in the context of the thread that sends it. So does a packet of a raw socket,
/// but not what the kernel itself answers with, on sockets of its own.
#[inline(always)]
fn datagram(
    ctx: &SkBuffContext,
    packet: &Packet,
    remote: &Endpoint,
    bytes: u32,
) -> Result<(), Fault> {
    let sk = number_of(socket_of(ctx));
    if sk == 0 || bytes == 0 {
        return Ok(());
    }
    let key = FlowKey { sock: sk, peer: peer_hash(remote) };
    // SAFETY: the context is a packet, as the helper asks.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    if let Some(state) = FLOWS.get_ptr_mut(key) {
        // SAFETY: the map's value lives while the program runs.
        let state = unsafe { &mut *state };
        if flow::is_of(state, || cookie) {
            return add(ctx, state, bytes);
        }
        flow::end(key, state);
    }
    if packet.protocol != IPPROTO_UDP && !is_sender(ctx) {
        return Ok(());
    }
    let opening = Opening {
        starter: Starter::Packet,
        task: task::current(),
        cookie,
        family: if packet.version6 { AF_INET6 } else { AF_INET },
        direction: DIRECTION_EGRESS,
        fast_open: false,
    };
    let slot = FLOW_SCRATCH.get_ptr_mut(Starter::Packet as u32).ok_or(Fault)?;
    flow::start_in(slot, key, sk, opening, remote)?;
    let Some(state) = FLOWS.get_ptr_mut(key) else { return Ok(()) };
    // SAFETY: as above.
    add(ctx, unsafe { &mut *state }, bytes)
}

#[inline(always)]
fn add(ctx: &SkBuffContext, state: &mut FlowState, bytes: u32) -> Result<(), Fault> {
    if bytes == 0 {
        return Ok(());
    }
    flow::add_by(state, u64::from(bytes), |task, actor| {
        if is_sender(ctx) { task::packet_actor(task, actor) } else { Ok(()) }
    })
}

/// Whether the current task may be the one whose bytes these are: it is in the cgroup of the
/// socket. Segments also leave when somebody else's acknowledgement comes in.
#[inline(always)]
fn is_sender(ctx: &SkBuffContext) -> bool {
    // SAFETY: the context is a packet, as the helper asks.
    let owner = unsafe { bpf_skb_cgroup_id(ctx.skb.skb) };
    task::cgroup_id(task::current()).is_ok_and(|own| own == owner)
}
