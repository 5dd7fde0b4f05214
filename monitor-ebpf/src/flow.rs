//! The state of flows: bytes are counted here and leave as records only at the start, when a step
//! of bytes or time has passed, and at the end.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_map_update_elem,
};
use monitor_common::{
    ActorRecord, DIRECTION_EGRESS, DIRECTION_INGRESS, Endpoint, FLOW_END, FLOW_FAST_OPEN,
    FLOW_PROGRESS, FLOW_START, FlowRecord, KIND_FLOW, SEND_PEERS_MAX, SOCKET_PEERS_MAX,
};

use crate::count::{Outcome, count};
use crate::emit;
use crate::filter::{self, is_loopback};
use crate::globals::{FLOW_STEP_BYTES, FLOW_STEP_NS, REPORT_LOOPBACK, SELF_TGID};
use crate::lane::Lane;
use crate::maps::{FLOW_SCRATCH, FLOWS, RAW_PEERS, SEND_PEERS, SOCKETS};
use crate::opinion;
use crate::read::{self, Fault, sock, task};
use crate::words;

/// Key of a flow: the socket, and for one that is no stream a hash of the peer.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FlowKey {
    pub(crate) sock: u64,
    pub(crate) peer: u64,
}

/// The peer of one datagram.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) end: Endpoint,
    pub(crate) protocol: u16,
    pub(crate) reserved: [u16; 3],
}

impl Peer {
    /// Writes each field.
    #[inline(always)]
    pub(crate) fn fill(&mut self, address: [u64; 2], port: u16, protocol: u16) {
        sock::fill(&mut self.end, address, port);
        let [low, high] = protocol.to_ne_bytes();
        let word = u64::from_ne_bytes([low, high, 0, 0, 0, 0, 0, 0]);
        // SAFETY: the protocol and what is reserved behind it are one aligned word.
        unsafe { core::ptr::write_volatile((&raw mut self.protocol).cast::<u64>(), word) };
    }
}

/// The peer of a datagram that a thread is about to send.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SendPeer {
    /// The thread.
    pub(crate) holder: u64,
    pub(crate) peer: Peer,
}

/// The slot of the current thread among those that send. By its number: threads that send at the
/// same moment have numbers near each other far more often than the same one.
#[inline(always)]
pub(crate) fn send_slot() -> u32 {
    const { assert!(SEND_PEERS_MAX.is_power_of_two()) };
    bpf_get_current_pid_tgid() as u32 & (SEND_PEERS_MAX - 1)
}

/// What is kept of a flow.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FlowState {
    /// Who sent last; the opener before that.
    pub(crate) actor: ActorRecord,
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
    /// Identity of the flow for its life. Not the socket's address: that is reused, and the
    /// verifier allows no arithmetic on it.
    pub(crate) flow_id: u64,
    pub(crate) owner_start_boot_ns: u64,
    pub(crate) owner_tgid: u32,
    pub(crate) direction: u16,
    pub(crate) family: u16,
    pub(crate) socket_type: u16,
    pub(crate) protocol: u16,
    /// Whether the flow is counted but not reported.
    pub(crate) muted: u16,
    /// Segments with first bytes that were told; [`FIRST_DONE`] when no more are wanted.
    pub(crate) first_segments: u8,
    /// Whether it was opened by sending (TCP Fast Open).
    pub(crate) fast_open: u8,
    /// The kernel's name for the socket, unlike its address never used again; zero for a stream,
    /// whose end the state of the connection tells. Where no tracepoint of sends hands over the
    /// socket, its address: each socket that is closed is seen there before its memory is free.
    pub(crate) cookie: u64,
    /// First bytes that are still wanted.
    pub(crate) first_left: u32,
    /// TCP's number behind the last byte that was seen in a packet; zero before the first.
    pub(crate) sent_until: u32,
    /// The same of what was counted, where packets are all that bytes are counted by.
    pub(crate) counted_until: u32,
    pub(crate) reserved: u32,
    /// Id of the cgroup that the socket was made in; zero where it cannot be read.
    pub(crate) socket_cgroup: u64,
    /// Peer of the flow that this socket had before, or [`NO_PEER`].
    pub(crate) previous: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_reported: u64,
    pub(crate) sends: u64,
    pub(crate) started_boot_ns: u64,
    pub(crate) reported_boot_ns: u64,
}

/// FNV-1a over an end, to tell the peers of one datagram socket apart.
#[inline(always)]
pub(crate) fn peer_hash(end: &Endpoint) -> u64 {
    let word = |at: usize| {
        u64::from(u32::from_ne_bytes([
            end.address[at],
            end.address[at + 1],
            end.address[at + 2],
            end.address[at + 3],
        ]))
    };
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    hash = (hash ^ word(0)).wrapping_mul(0x0100_0000_01b3);
    hash = (hash ^ word(4)).wrapping_mul(0x0100_0000_01b3);
    hash = (hash ^ word(8)).wrapping_mul(0x0100_0000_01b3);
    hash = (hash ^ word(12)).wrapping_mul(0x0100_0000_01b3);
    hash = (hash ^ u64::from(end.port)).wrapping_mul(0x0100_0000_01b3);
    hash | 1
}

/// Where a new flow's state is put together: the BPF stack is too small for it. The three starters
/// can interrupt each other on one CPU, so each has a slot. A fourth is for older flows, a
/// fifth for packets.
#[derive(Clone, Copy)]
pub(crate) enum Starter {
    /// A send on a socket that was not seen to open.
    Send = 0,
    /// A connect, in the caller's context.
    Connect = 1,
    /// A passive open, in the network's interrupt.
    Accept = 2,
    /// A flow that is older than the monitor.
    Seen = 3,
    /// A datagram in a packet, which may leave while an interrupted send puts one together.
    Packet = 4,
}

/// Slots of [`Starter`].
pub(crate) const STARTERS: u32 = 5;

/// [`FlowState::first_segments`]: no more first bytes are wanted.
pub(crate) const FIRST_DONE: u8 = u8::MAX;

/// No other flow of a socket. A hash of a peer is odd, and zero is the peer of a connected socket.
pub(crate) const NO_PEER: u64 = 2;

/// What a flow starts with.
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) starter: Starter,
    /// The task whose flow it is, unless it was accepted.
    pub(crate) task: u64,
    /// As in [`FlowState`].
    pub(crate) cookie: u64,
    pub(crate) family: u16,
    pub(crate) direction: u16,
    /// Whether the flow is opened by sending and not by connect.
    pub(crate) fast_open: bool,
}

/// Starts a flow: fills its state, keeps it, and reports it unless it is muted or accepted.
///
/// The task is the actor, but for a flow that was accepted: the first sender is, later.
#[inline(always)]
pub(crate) fn start(
    key: FlowKey,
    sk: u64,
    opening: Opening,
    remote: &Endpoint,
) -> Result<(), Fault> {
    let Some(slot) = FLOW_SCRATCH.get_ptr_mut(opening.starter as u32) else { return Err(Fault) };
    start_in(slot, key, sk, opening, remote)
}

/// As [`start`], put together in a slot of the caller's: this CPU's for its starter, or this
/// thread's.
#[inline(always)]
pub(crate) fn start_in(
    slot: *mut FlowState,
    key: FlowKey,
    sk: u64,
    opening: Opening,
    remote: &Endpoint,
) -> Result<(), Fault> {
    // SAFETY: a live map value that nobody else writes now; see `Starter`.
    let state = unsafe { &mut *slot };
    words::clear(state);
    if opening.direction != DIRECTION_INGRESS {
        match opening.starter {
            Starter::Packet => task::packet_actor(opening.task, &mut state.actor)?,
            _ => task::actor(opening.task, &mut state.actor)?,
        }
    }
    state.family = opening.family;
    state.socket_type = sock::socket_type(sk)?;
    state.protocol = sock::protocol(sk)?;
    sock::local(sk, opening.family, &mut state.local)?;
    state.remote = *remote;
    state.direction = opening.direction;
    state.fast_open = u8::from(opening.fast_open);
    if opening.direction == DIRECTION_EGRESS || matches!(opening.starter, Starter::Seen) {
        state.owner_tgid = state.actor.tgid;
        state.owner_start_boot_ns = state.actor.start_boot_ns;
    }
    let hushed = state.actor.tgid == SELF_TGID.load()
        || (REPORT_LOOPBACK.load() == 0 && is_loopback(&remote.address));
    state.muted = u16::from(hushed);
    // SAFETY: a helper without preconditions.
    state.started_boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    state.reported_boot_ns = state.started_boot_ns;
    // SAFETY: a helper without preconditions.
    let random = unsafe { bpf_get_prandom_u32() };
    state.flow_id = state.started_boot_ns ^ u64::from(random).rotate_left(32);
    state.socket_cgroup = sock::cgroup_id(sk).unwrap_or(0);
    state.cookie = opening.cookie;
    state.previous = NO_PEER;
    if opening.cookie != 0 {
        chain(key, state);
    }
    // SAFETY: the map copies the value before the call returns.
    let kept = unsafe {
        bpf_map_update_elem(
            core::ptr::from_ref(&FLOWS).cast_mut().cast(),
            (&raw const key).cast(),
            (&raw const *state).cast(),
            u64::from(BPF_ANY),
        )
    };
    if kept != 0 {
        count(KIND_FLOW, Outcome::MapFull);
    } else if opening.direction != DIRECTION_INGRESS {
        report(state, FLOW_START, 0);
    }
    Ok(())
}

/// Makes this flow the last one of its socket, so that all of them are found when it is closed.
#[inline(always)]
fn chain(key: FlowKey, state: &mut FlowState) {
    if let Some(last) = SOCKETS.get_ptr_mut(state.cookie) {
        // SAFETY: the map's value lives while the program runs.
        let last = unsafe { &mut *last };
        state.previous = last.peer;
        last.peer = key.peer;
    } else {
        // A full map forgets the socket that was looked up longest ago: the end of its flows is
        // then told when its memory is used again.
        let _kept = SOCKETS.insert(state.cookie, key, u64::from(BPF_ANY));
    }
}

/// Whether a flow is of the socket of this name, and not of one whose memory that has got.
#[inline(always)]
pub(crate) fn is_of(state: &FlowState, name: impl FnOnce() -> u64) -> bool {
    state.cookie == 0 || state.cookie == name()
}

/// The kernel's name for a socket. `sk` must be as the tracepoint gave it: the verifier knows the
/// pointer.
#[inline(always)]
pub(crate) fn cookie(sk: u64) -> u64 {
    // SAFETY: the verifier proves that the pointer is a socket's.
    unsafe { bpf_get_socket_cookie(sk as *mut c_void) }
}

/// Ends every flow of a socket that is closed, newest first.
#[inline(always)]
pub(crate) fn close(cookie: u64) {
    // SAFETY: the value is copied out at once.
    let Some(last) = (unsafe { SOCKETS.get(cookie) }) else { return };
    let mut key = *last;
    let _gone = SOCKETS.remove(cookie);
    for _ in 0..SOCKET_PEERS_MAX {
        let Some(state) = FLOWS.get_ptr_mut(key) else { return };
        // SAFETY: the map's value lives while the program runs.
        let state = unsafe { &*state };
        if state.cookie != cookie {
            return;
        }
        let previous = state.previous;
        end(key, state);
        if previous == NO_PEER {
            return;
        }
        key.peer = previous;
    }
}

/// Adds bytes that were sent, and reports when a step has passed.
#[inline(always)]
pub(crate) fn add(state: &mut FlowState, bytes: u64) -> Result<(), Fault> {
    add_by(state, bytes, task::actor)
}

/// As [`add`], where `sender` writes who the current task is, if it may be the one that sends.
#[inline(always)]
pub(crate) fn add_by(
    state: &mut FlowState,
    bytes: u64,
    sender: impl FnOnce(u64, &mut ActorRecord) -> Result<(), Fault>,
) -> Result<(), Fault> {
    shared_add(&mut state.bytes_out, bytes);
    shared_add(&mut state.sends, 1);
    if !is_loopback(&state.remote.address) {
        opinion::said(state.socket_cgroup, is_stream(state), bytes);
    }
    if state.muted != 0 {
        return Ok(());
    }
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let unreported = state.bytes_out.wrapping_sub(state.bytes_reported);
    let due = unreported >= FLOW_STEP_BYTES.load()
        || now.wrapping_sub(state.reported_boot_ns) >= FLOW_STEP_NS.load();
    // An accepted flow has no sender yet, and may end before a step has passed.
    if !due && state.actor.tgid != 0 {
        return Ok(());
    }
    let current = task::current();
    if task::tgid(current)? != state.actor.tgid {
        sender(current, &mut state.actor)?;
        if state.owner_tgid == 0 {
            state.owner_tgid = state.actor.tgid;
            state.owner_start_boot_ns = state.actor.start_boot_ns;
        }
    }
    if !due {
        return Ok(());
    }
    let before = state.bytes_reported;
    state.bytes_reported = state.bytes_out;
    state.reported_boot_ns = now;
    if !report(state, FLOW_PROGRESS, before) {
        // The next send tells them: bytes are not lost because their sender also made a flood of
        // something else.
        state.bytes_reported = before;
    }
    Ok(())
}

/// Reports the end of a flow and forgets it.
#[inline(always)]
pub(crate) fn end(key: FlowKey, state: &FlowState) {
    report(state, FLOW_END, state.bytes_reported);
    let _gone = FLOWS.remove(key);
}

/// Sends one record about a flow, or counts why not. Whether nothing is left to be told.
#[inline(always)]
pub(crate) fn report(state: &FlowState, phase: u16, before: u64) -> bool {
    if state.muted != 0 || !filter::flow_wanted(state.family, state.remote.port) {
        count(KIND_FLOW, Outcome::Filtered);
        return true;
    }
    emit::fixed::<FlowRecord>(KIND_FLOW, Lane::High, state.actor.cgroup_id, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        record.header.kind = KIND_FLOW;
        record.header.reserved = 0;
        record.header.len = size_of::<FlowRecord>() as u32;
        // SAFETY: a helper without preconditions.
        record.header.boot_ns = unsafe { bpf_ktime_get_boot_ns() };
        words::copy(&state.actor, &mut record.header.actor);
        record.flow_id = state.flow_id;
        record.owner_tgid = state.owner_tgid;
        record.phase = phase;
        record.direction = state.direction;
        record.owner_start_boot_ns = state.owner_start_boot_ns;
        words::copy(&state.local, &mut record.local);
        words::copy(&state.remote, &mut record.remote);
        record.bytes_out = state.bytes_out;
        record.bytes_out_before = before;
        record.sends = state.sends;
        record.started_boot_ns = state.started_boot_ns;
        record.family = state.family;
        record.socket_type = state.socket_type;
        record.protocol = state.protocol;
        record.flags = if state.fast_open == 0 { 0 } else { FLOW_FAST_OPEN };
        Ok(())
    })
}

/// Whether the bytes of a flow leave in TCP packets.
#[inline(always)]
fn is_stream(state: &FlowState) -> bool {
    let is_inet = state.family == sock::AF_INET || state.family == sock::AF_INET6;
    is_inet && (state.protocol == sock::IPPROTO_TCP || state.protocol == sock::IPPROTO_MPTCP)
}

/// Adds to a counter in a map value that several CPUs add to.
#[inline(always)]
pub(crate) fn shared_add(counter: &mut u64, amount: u64) {
    // SAFETY: one BPF instruction, an atomic add (BPF_ATOMIC | BPF_ADD, on every kernel) to an
    // aligned u64 that the reference proves is there.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {amount}",
            counter = in(reg) core::ptr::from_mut(counter),
            amount = in(reg) amount,
        );
    }
}

/// The end of a flow whose peer is read from the socket again: MPTCP fills it in late.
#[inline(always)]
pub(crate) fn refresh(sk: u64, state: &mut FlowState) -> Result<(), Fault> {
    sock::local(sk, state.family, &mut state.local)?;
    if sock::is_set(&state.remote) {
        return Ok(());
    }
    sock::remote(sk, state.family, &mut state.remote)
}

/// The peer a socket is connected to; else the one the datagram hook left for this thread, or the
/// packet hook for this raw socket. A thread would not do for a raw socket: the kernel answers
/// with packets of its own (ICMP errors) in the context of the thread that sent.
#[inline(always)]
pub(crate) fn peer_of(sk: u64, family: u16, remote: &mut Endpoint) -> Result<u64, Fault> {
    sock::remote(sk, family, remote)?;
    if sock::is_set(remote) {
        // A socket of datagrams may be connected to one peer after the other: each is a flow.
        let is_stream = sock::socket_type(sk)? == sock::SOCK_STREAM;
        return Ok(if is_stream { 0 } else { peer_hash(remote) });
    }
    if sock::protocol(sk)? == sock::IPPROTO_UDP {
        let Some(kept) = SEND_PEERS.get(send_slot()) else { return Ok(1) };
        if kept.holder != task::current() {
            return Ok(1);
        }
        words::copy(&kept.peer.end, remote);
    } else {
        // SAFETY: the value is copied out at once.
        let Some(peer) = (unsafe { RAW_PEERS.get(sk) }) else { return Ok(1) };
        words::copy(&peer.end, remote);
    }
    Ok(peer_hash(remote))
}

/// A fault of a flow hook.
#[inline(always)]
pub(crate) fn fault(_fault: read::Fault) {
    count(KIND_FLOW, Outcome::ReadFault);
}
