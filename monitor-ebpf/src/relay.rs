//! Local channels: what workloads that have read weights pass on to others on this host, by unix
//! sockets, over loopback and through pipes. Nothing is done for anybody else.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns};
use monitor_common::{
    DIRECTION_INGRESS, KIND_LINK, LINK_LOOPBACK, LINK_PIPE, LINK_STEP_BYTES, LINK_UNIX, LinkRecord,
};

use crate::emit;
use crate::filter::{self, is_loopback};
use crate::flow::{FlowKey, FlowState, peer_hash};
use crate::globals::FLOW_STEP_NS;
use crate::lane::Lane;
use crate::maps::{FLOWS, LINKS, LOOPBACK_ENDS};
use crate::read::pid::{self, Target};
use crate::read::{Fault, file, sock, stream, task};

/// What went through a channel.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LinkSum {
    bytes: u64,
    told: u64,
    told_boot_ns: u64,
}

/// What is told of a channel.
#[derive(Clone, Copy)]
pub(crate) struct Passed {
    kind: u8,
    /// Whether the other end connected.
    is_accepted: u8,
    /// The cgroup that the sender is in.
    cgroup: u64,
    far: Target,
    far_cgroup: u64,
    far_socket: u64,
    far_port: u16,
    bytes: u64,
}

/// Bytes that the current process sent on a unix socket.
#[inline(always)]
pub(crate) fn unix(sk: u64, bytes: u64) -> Result<Option<Passed>, Fault> {
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    if !filter::is_marked(|| cgroup) {
        return Ok(None);
    }
    let Some(bytes) = add(sk, bytes) else { return Ok(None) };
    let peer = sock::unix_peer(sk);
    let (far, far_cgroup) = match sock::peer_task(sk) {
        Ok(peer) => (pid::of_task(peer)?, task::cgroup_id(peer)?),
        // A datagram socket knows its peer, and not whose it is.
        Err(Fault) => (Target::default(), sock::cgroup_id(peer)?),
    };
    let far_socket = stream::socket_inode(peer);
    let is_accepted = u8::from(sock::is_unix_accepted(sk, peer));
    let (kind, far_port) = (LINK_UNIX, 0);
    Ok(Some(Passed { kind, is_accepted, cgroup, far, far_cgroup, far_socket, far_port, bytes }))
}

/// Bytes that the current process sent on a stream over loopback.
#[inline(always)]
pub(crate) fn loopback(sk: u64, state: &FlowState, bytes: u64) -> Option<Passed> {
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    if !filter::is_marked(|| cgroup) {
        return None;
    }
    let bytes = add(sk, bytes)?;
    let net = sock::net_number(sk).ok()?;
    let end = ends(peer_hash(&state.remote), peer_hash(&state.local), net);
    // SAFETY: the value is copied out at once.
    let key = unsafe { LOOPBACK_ENDS.get(end) }.copied()?;
    let other = FLOWS.get_ptr_mut(key)?;
    // SAFETY: the map's value lives while the program runs.
    let other = unsafe { &*other };
    let far = Target { tgid: other.owner_tgid, start_boot_ns: other.owner_start_boot_ns };
    let far_socket = stream::socket_inode(key.sock);
    let is_accepted = u8::from(state.direction == DIRECTION_INGRESS);
    let (kind, far_cgroup, far_port) = (LINK_LOOPBACK, other.socket_cgroup, 0);
    Some(Passed { kind, is_accepted, cgroup, far, far_cgroup, far_socket, far_port, bytes })
}

/// Bytes that the current process sent in datagrams over loopback. Nothing points from there to the
/// socket that they reach; its port does.
#[inline(always)]
pub(crate) fn datagram(sk: u64, state: &FlowState, bytes: u64) -> Option<Passed> {
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    if !filter::is_marked(|| cgroup) {
        return None;
    }
    let bytes = add(sk, bytes)?;
    let (far, far_port) = (Target::default(), state.remote.port);
    let (kind, is_accepted, far_cgroup, far_socket) = (LINK_LOOPBACK, 0, 0, 0);
    Some(Passed { kind, is_accepted, cgroup, far, far_cgroup, far_socket, far_port, bytes })
}

/// Bytes that the current process puts into a pipe. Nothing points from there to those who have its
/// other end open; its identity does.
#[inline(always)]
pub(crate) fn pipe(inode: u64, bytes: u64) -> Result<Option<Passed>, Fault> {
    let Some(bytes) = add(inode, bytes) else { return Ok(None) };
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let (far, far_cgroup, far_socket, far_port) = (Target::default(), 0, file::channel(inode)?, 0);
    let (kind, is_accepted) = (LINK_PIPE, 0);
    Ok(Some(Passed { kind, is_accepted, cgroup, far, far_cgroup, far_socket, far_port, bytes }))
}

/// Remembers an end of a stream over loopback, so that the other one finds it.
#[inline(always)]
pub(crate) fn remember_end(key: FlowKey, sk: u64, state: &FlowState) {
    if !is_loopback(&state.remote.address) {
        return;
    }
    let Ok(net) = sock::net_number(sk) else { return };
    let end = ends(peer_hash(&state.local), peer_hash(&state.remote), net);
    // A full map forgets the end that was asked for longest ago.
    let _kept = LOOPBACK_ENDS.insert(end, key, u64::from(BPF_ANY));
}

/// A name for one end of a stream: its own side, the other side, and whose loopback it is.
#[inline(always)]
fn ends(own: u64, other: u64, net: u32) -> u64 {
    own.rotate_left(17) ^ other ^ u64::from(net).rotate_left(40)
}

/// Adds to the sum of a channel, by the address of its socket or inode; what is untold, when it is
/// time to tell.
#[inline(always)]
fn add(key: u64, bytes: u64) -> Option<u64> {
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(sum) = LINKS.get_ptr_mut(key) else {
        let first = LinkSum { bytes, told: bytes, told_boot_ns: now };
        // A full map forgets the channel that was used longest ago: its untold rest is lost.
        let _kept = LINKS.insert(key, first, u64::from(BPF_ANY));
        return Some(bytes);
    };
    // SAFETY: the map's value lives while the program runs; a sum that two CPUs add to at once may
    // miss one of them.
    let sum = unsafe { &mut *sum };
    sum.bytes += bytes;
    let untold = sum.bytes - sum.told;
    if untold < LINK_STEP_BYTES && now.wrapping_sub(sum.told_boot_ns) < FLOW_STEP_NS.load() {
        return None;
    }
    sum.told = sum.bytes;
    sum.told_boot_ns = now;
    Some(untold)
}

/// Tells of a channel. Called in one place only: what is called in two may become a function of
/// its own, and the verifier refuses some of these.
#[inline(always)]
pub(crate) fn tell(passed: &Passed) {
    emit::fixed::<LinkRecord>(KIND_LINK, Lane::Life, passed.cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        let len = size_of::<LinkRecord>();
        task::header(task::current(), KIND_LINK, len, &mut record.header)?;
        record.kind = passed.kind;
        record.is_accepted = passed.is_accepted;
        record.peer_port = passed.far_port;
        record.peer_tgid = passed.far.tgid;
        record.peer_start_boot_ns = passed.far.start_boot_ns;
        record.peer_cgroup = passed.far_cgroup;
        record.bytes = passed.bytes;
        record.peer_socket = passed.far_socket;
        Ok(())
    });
}
