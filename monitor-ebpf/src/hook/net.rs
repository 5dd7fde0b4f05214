//! Flows: destinations from socket state and the datagram hooks, bytes from the socket layer.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::{btf_tracepoint, cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{BtfTracePointContext, SockAddrContext, SockContext};
use monitor_common::{DIRECTION_EGRESS, DIRECTION_INGRESS, DIRECTION_UNKNOWN};

use crate::filter::is_loopback;
use crate::flow::{self, FlowKey, FlowState, Opening, Peer, Starter};
use crate::maps::{FLOW_SCRATCH, FLOWS, RAW_PEERS, SEND_PEERS};
use crate::read::sock::{self, AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, IPPROTO_MPTCP, IPPROTO_UDP};
use crate::read::{Fault, task};
use crate::relay::{self, Passed};

/// TCP states (include/net/tcp_states.h).
const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECV: i32 = 3;
const TCP_CLOSE: i32 = 7;

/// Nothing, as a program returns it, and put where results stand. What calls a program passes no
/// result on, so the compiler leaves there whatever was; where that is an address of the stack, the
/// verifier refuses the program ("cannot return stack pointer to the caller").
#[inline(always)]
pub(crate) fn nothing() -> i32 {
    // SAFETY: one instruction on a register.
    unsafe { core::arch::asm!("r0 = 0", out("r0") _) };
    0
}

/// match-proto:v6.18:include/trace/events/sock.h:
/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
///
/// Not `connect`: TCP Fast Open, MPTCP subflows and io_uring have none.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn tcp_state(ctx: BtfTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    if let Err(fault) = tcp_state_apply(sk, old, new) {
        flow::fault(fault);
    }
    nothing()
}

#[inline(always)]
fn tcp_state_apply(sk: u64, old: i32, new: i32) -> Result<(), Fault> {
    let key = FlowKey { sock: sk, peer: 0 };
    if new == TCP_SYN_SENT {
        let family = sock::family(sk)?;
        let mut slot = MaybeUninit::uninit();
        let remote = sock::nowhere(&mut slot);
        sock::remote(sk, family, remote)?;
        // The MPTCP socket itself changes state before its first subflow has an address; the
        // subflow is reported instead, and the bytes are joined on the first send.
        if !sock::is_set(remote) {
            return Ok(());
        }
        let opening = Opening {
            starter: Starter::Connect,
            task: task::current(),
            cookie: 0,
            family,
            direction: DIRECTION_EGRESS,
            fast_open: sock::is_fast_open(sk),
        };
        return flow::start(key, sk, opening, remote);
    }
    if new != TCP_ESTABLISHED && new != TCP_CLOSE {
        return Ok(());
    }
    let Some(state) = FLOWS.get_ptr_mut(key) else {
        // A passive open (net/ipv4/tcp_input.c, tcp_rcv_state_process). It runs in the network's
        // interrupt, so whoever is current has nothing to do with it: the first sender owns it.
        if old == TCP_SYN_RECV && new == TCP_ESTABLISHED {
            let family = sock::family(sk)?;
            let mut slot = MaybeUninit::uninit();
            let remote = sock::nowhere(&mut slot);
            sock::remote(sk, family, remote)?;
            let opening = Opening {
                starter: Starter::Accept,
                task: 0,
                cookie: 0,
                family,
                direction: DIRECTION_INGRESS,
                fast_open: false,
            };
            flow::start(key, sk, opening, remote)?;
            remember_end(key, sk);
        }
        return Ok(());
    };
    // SAFETY: the map's value lives while the program runs.
    let state = unsafe { &mut *state };
    if new == TCP_CLOSE {
        flow::end(key, state);
        return Ok(());
    }
    flow::refresh(sk, state)?;
    relay::remember_end(key, sk, state);
    Ok(())
}

#[inline(always)]
fn remember_end(key: FlowKey, sk: u64) {
    if let Some(state) = FLOWS.get_ptr_mut(key) {
        // SAFETY: the map's value lives while the program runs.
        relay::remember_end(key, sk, unsafe { &*state });
    }
}

/// match-proto:v6.18:include/trace/events/sock.h:
/// `sock_send_length(struct sock *sk, int ret, int flags)`, 6.3 and newer
///
/// Fires for every road to a socket: write, send, sendfile, splice, io_uring, passed sockets.
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_sent(ctx: BtfTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let sent: i32 = ctx.arg(1);
    if sent <= 0 {
        return 0;
    }
    let slot = || FLOW_SCRATCH.get_ptr_mut(Starter::Send as u32);
    match sent_add(sk, sent as u64, || flow::cookie(sk), slot) {
        Err(fault) => flow::fault(fault),
        Ok(Some(passed)) => relay::tell(&passed),
        Ok(None) => {}
    }
    nothing()
}

/// Counts bytes that were sent on a socket, and begins its flow where none is known. `name` tells
/// the socket from one that had its memory; `slot` is where a new flow is put together.
#[inline(always)]
pub(crate) fn sent_add(
    sk: u64,
    bytes: u64,
    name: impl Fn() -> u64,
    slot: impl FnOnce() -> Option<*mut FlowState>,
) -> Result<Option<Passed>, Fault> {
    let family = sock::family(sk)?;
    if family == AF_UNIX {
        return relay::unix(sk, bytes);
    }
    if family == AF_NETLINK {
        return Ok(None);
    }
    // A datagram's flow is found by its peer below, whether the socket is connected or not.
    if sock::protocol(sk)? != IPPROTO_UDP {
        let connected = FlowKey { sock: sk, peer: 0 };
        if let Some(state) = FLOWS.get_ptr_mut(connected) {
            // SAFETY: the map's value lives while the program runs.
            let state = unsafe { &mut *state };
            if flow::is_of(state, &name) {
                flow::add(state, bytes)?;
                let is_home = is_loopback(&state.remote.address);
                return Ok(if is_home { relay::loopback(sk, state, bytes) } else { None });
            }
            flow::end(connected, state);
        }
    }
    let mut place = MaybeUninit::uninit();
    let remote = sock::nowhere(&mut place);
    let peer = if family == AF_INET || family == AF_INET6 {
        flow::peer_of(sk, family, remote)?
    } else {
        1
    };
    let key = FlowKey { sock: sk, peer };
    if let Some(state) = FLOWS.get_ptr_mut(key) {
        // SAFETY: as above.
        let state = unsafe { &mut *state };
        if flow::is_of(state, &name) {
            flow::add(state, bytes)?;
            let is_home = is_loopback(&state.remote.address);
            return Ok(if is_home { relay::datagram(sk, state, bytes) } else { None });
        }
        flow::end(key, state);
    }
    let is_stream = sock::socket_type(sk)? == sock::SOCK_STREAM;
    let cookie = if is_stream { 0 } else { name() };
    let opening = Opening {
        starter: Starter::Send,
        task: task::current(),
        cookie,
        family,
        direction: direction(sk)?,
        fast_open: false,
    };
    let slot = slot().ok_or(Fault)?;
    flow::start_in(slot, key, sk, opening, remote)?;
    let Some(state) = FLOWS.get_ptr_mut(key) else { return Ok(None) };
    // SAFETY: as above.
    flow::add(unsafe { &mut *state }, bytes)?;
    Ok(None)
}

/// What the iterator over open files passes (kernel/bpf/task_iter.c, `struct bpf_iter__task_file`).
#[repr(C)]
struct FileIterContext {
    meta: u64,
    task: u64,
    fd: u32,
    reserved: u32,
    file: u64,
}

/// Streams that were connected before the monitor came, with who has them: of several, the process
/// with the lowest id.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub fn flow_seen(ctx: *mut c_void) -> i32 {
    let ctx: *const FileIterContext = ctx.cast();
    // SAFETY: the kernel passes a `struct bpf_iter__task_file`.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if task != 0
        && file != 0
        && let Err(fault) = flow_seen_start(task, file)
    {
        flow::fault(fault);
    }
    0
}

#[inline(always)]
fn flow_seen_start(task: u64, file: u64) -> Result<(), Fault> {
    let Some(sk) = sock::of_file(file)? else { return Ok(()) };
    let family = sock::family(sk)?;
    if (family != AF_INET && family != AF_INET6) || sock::socket_type(sk)? != sock::SOCK_STREAM {
        return Ok(());
    }
    let mut slot = MaybeUninit::uninit();
    let remote = sock::nowhere(&mut slot);
    sock::remote(sk, family, remote)?;
    let key = FlowKey { sock: sk, peer: 0 };
    if !sock::is_set(remote) || remote.port == 0 || FLOWS.get_ptr_mut(key).is_some() {
        return Ok(());
    }
    let opening = Opening {
        starter: Starter::Seen,
        task,
        cookie: 0,
        family,
        direction: DIRECTION_UNKNOWN,
        fast_open: false,
    };
    flow::start(key, sk, opening, remote)?;
    remember_end(key, sk);
    Ok(())
}

/// A socket is closed. Of a datagram or raw socket nothing else tells the end: its last bytes would
/// never be reported, and whoever gets its memory next would go on with its flows.
#[cgroup_sock(sock_release)]
pub fn sock_gone(ctx: SockContext) -> i32 {
    // SAFETY: the context is a socket, as the helper asks.
    flow::close(unsafe { bpf_get_socket_cookie(ctx.sock.cast()) });
    1
}

/// The direction of a socket that sends without having been seen to open: a stream is older than
/// the monitor or was accepted; anything else is opened by sending.
#[inline(always)]
fn direction(sk: u64) -> Result<u16, Fault> {
    let protocol = sock::protocol(sk)?;
    if sock::socket_type(sk)? != sock::SOCK_STREAM {
        return Ok(DIRECTION_EGRESS);
    }
    // A socket whose port is also listened on was accepted; that takes the listener table, which
    // the daemon reads. The kernel says no more than that it does not know.
    Ok(if protocol == IPPROTO_MPTCP { DIRECTION_EGRESS } else { DIRECTION_UNKNOWN })
}

/// The destination of a datagram on a socket without a fixed peer.
#[cgroup_sock_addr(sendmsg4)]
pub fn udp_peer4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the verifier checks each field of the context.
    let (address, port) = unsafe { ((*ctx.sock_addr).user_ip4, (*ctx.sock_addr).user_port) };
    keep_peer(sock::mapped_words(address), port);
    1
}

/// As above, IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn udp_peer6(ctx: SockAddrContext) -> i32 {
    // SAFETY: the verifier checks each field of the context.
    let (words, port) = unsafe {
        let addr = ctx.sock_addr;
        let words = [
            core::ptr::read_volatile(&raw const (*addr).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[3]),
        ];
        (words, (*addr).user_port)
    };
    // SAFETY: sixteen plain bytes either way.
    let address: [u64; 2] = unsafe { core::mem::transmute(words) };
    keep_peer(address, port);
    1
}

/// Keeps the peer of this thread's datagram, until its bytes are told.
#[inline(always)]
fn keep_peer(address: [u64; 2], port: u32) {
    let Some(slot) = SEND_PEERS.get_ptr_mut(flow::send_slot()) else { return };
    // SAFETY: the map's value lives while the program runs. A thread that has the same slot and
    // sends in this moment takes it away; then the peer of one datagram is not known.
    let slot = unsafe { &mut *slot };
    slot.holder = task::current();
    slot.peer.fill(address, u16::from_be(port as u16), IPPROTO_UDP);
}

/// Keeps where a packet of a raw socket goes, until its bytes are told.
#[inline(always)]
pub(crate) fn keep_raw_peer(sock: u64, address: [u64; 2], protocol: u16) {
    if let Some(slot) = RAW_PEERS.get_ptr_mut(sock) {
        // In place: an update of an LRU map costs five times the lookup.
        // SAFETY: the map's value lives while the program runs, and only its socket writes it.
        unsafe { &mut *slot }.fill(address, 0, protocol);
        return;
    }
    let mut peer = MaybeUninit::<Peer>::uninit();
    // SAFETY: `fill` writes each byte before any is read.
    let peer = unsafe { &mut *peer.as_mut_ptr() };
    peer.fill(address, 0, protocol);
    // A full map evicts the socket that sent longest ago: its hooks have run.
    let _kept = RAW_PEERS.insert(sock, &*peer, u64::from(BPF_ANY));
}
