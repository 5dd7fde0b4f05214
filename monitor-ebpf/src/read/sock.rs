//! Sockets.

use core::mem::MaybeUninit;

use monitor_common::Endpoint;

use super::{Fault, field, file, into, member, pid, task};
use crate::globals::{
    OFF_INODE_MODE, OFF_NET_INUM, OFF_SK_CGROUP, OFF_SK_DADDR, OFF_SK_DPORT, OFF_SK_FAMILY,
    OFF_SK_NET, OFF_SK_NUM, OFF_SK_PEER_PID, OFF_SK_PROTOCOL, OFF_SK_SADDR, OFF_SK_TYPE,
    OFF_SK_V6_DADDR, OFF_SK_V6_SADDR, OFF_SOCKET_SK, OFF_TCP_FASTOPEN, OFF_UNIX_ADDR,
    OFF_UNIX_NAME, OFF_UNIX_PEER,
};

/// Address families (include/linux/socket.h).
pub(crate) const AF_UNIX: u16 = 1;
pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
pub(crate) const AF_NETLINK: u16 = 16;

/// Socket types (include/linux/net.h).
pub(crate) const SOCK_STREAM: u16 = 1;
pub(crate) const SOCK_DGRAM: u16 = 2;
pub(crate) const SOCK_SEQPACKET: u16 = 5;

/// Protocols (include/uapi/linux/in.h).
pub(crate) const IPPROTO_TCP: u16 = 6;
pub(crate) const IPPROTO_UDP: u16 = 17;
pub(crate) const IPPROTO_MPTCP: u16 = 262;

/// The `struct sock` of a `struct socket`.
#[inline(always)]
pub(crate) fn of_socket(socket: u64) -> Result<u64, Fault> {
    field(socket, &OFF_SOCKET_SK)
}

/// The `struct sock` behind an open file; `None` for a file that is no socket.
#[inline(always)]
pub(crate) fn of_file(file: u64) -> Result<Option<u64>, Fault> {
    let mode: u16 = field(file::inode(file)?, &OFF_INODE_MODE)?;
    if mode & file::S_IFMT != file::S_IFSOCK {
        return Ok(None);
    }
    of_socket(file::private(file)?).map(Some)
}

/// `AF_*`.
#[inline(always)]
pub(crate) fn family(sock: u64) -> Result<u16, Fault> {
    field(sock, &OFF_SK_FAMILY)
}

/// `SOCK_*`.
#[inline(always)]
pub(crate) fn socket_type(sock: u64) -> Result<u16, Fault> {
    field(sock, &OFF_SK_TYPE)
}

/// Whether a TCP socket that leaves `TCP_CLOSE` does so to send: `tcp_sendmsg_fastopen` hangs the
/// request on it before it connects (net/ipv4/tcp.c, 6.18), and connect(2) never does.
#[inline(always)]
pub(crate) fn is_fast_open(sock: u64) -> bool {
    super::optional(sock, &OFF_TCP_FASTOPEN) != 0
}

/// `IPPROTO_*`.
#[inline(always)]
pub(crate) fn protocol(sock: u64) -> Result<u16, Fault> {
    field(sock, &OFF_SK_PROTOCOL)
}

/// Id of the cgroup v2 directory that a socket was made in; of one that was accepted, the
/// listener's.
#[inline(always)]
pub(crate) fn cgroup_id(sock: u64) -> Result<u64, Fault> {
    task::cgroup_key(field(sock, &OFF_SK_CGROUP)?)
}

/// Number of the network namespace.
#[inline(always)]
pub(crate) fn net_number(sock: u64) -> Result<u32, Fault> {
    let net: u64 = field(sock, &OFF_SK_NET)?;
    field(net, &OFF_NET_INUM)
}

/// The task at the far end of a connected unix socket when it was connected: who listened, who
/// connected, or who made the pair (net/unix/af_unix.c, `init_peercred` and `copy_peercred`).
#[inline(always)]
pub(crate) fn peer_task(sock: u64) -> Result<u64, Fault> {
    pid::task_of(field(sock, &OFF_SK_PEER_PID)?)
}

/// The socket at the far end of a connected unix socket, or zero.
#[inline(always)]
pub(crate) fn unix_peer(sock: u64) -> u64 {
    super::optional(sock, &OFF_UNIX_PEER)
}

/// Whether a connected unix socket was accepted: it has the address that was listened on, and who
/// connected has none unless it asked for one (net/unix/af_unix.c, `unix_stream_connect`).
#[inline(always)]
pub(crate) fn is_unix_accepted(sock: u64, peer: u64) -> bool {
    let address = |sock| super::optional(sock, &OFF_UNIX_ADDR);
    peer != 0 && address(sock) != 0 && address(peer) == 0
}

/// Address of the path that a unix socket is bound to: `sun_path`, behind the family.
#[inline(always)]
pub(crate) fn unix_path(sock: u64) -> Result<u64, Fault> {
    let address: u64 = field(sock, &OFF_UNIX_ADDR)?;
    Ok(member(address, &OFF_UNIX_NAME)? + 2)
}

/// An IPv4 address as IPv4-mapped IPv6.
#[inline(always)]
pub(crate) fn mapped(address: u32) -> [u8; 16] {
    let [a, b, c, d] = address.to_ne_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The same as two words in memory.
#[inline(always)]
pub(crate) fn mapped_words(address: u32) -> [u64; 2] {
    let [a, b, c, d] = address.to_ne_bytes();
    [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])]
}

/// Writes an end by its words: of arrays of zeros the compiler makes a call that writes each byte.
#[inline(always)]
pub(crate) fn fill(out: &mut Endpoint, address: [u64; 2], port: u16) {
    const { assert!(size_of::<Endpoint>() == 24 && align_of::<Endpoint>() == 8) };
    let [low, high] = port.to_ne_bytes();
    let words = core::ptr::from_mut(out).cast::<u64>();
    // SAFETY: an end is three aligned words, and the reference says that they are there; volatile
    // so that each stays one store.
    unsafe {
        core::ptr::write_volatile(words, address[0]);
        core::ptr::write_volatile(words.add(1), address[1]);
        let port = u64::from_ne_bytes([low, high, 0, 0, 0, 0, 0, 0]);
        core::ptr::write_volatile(words.add(2), port);
    }
}

/// An end without address and port, in a place of the caller's.
#[inline(always)]
pub(crate) fn nowhere(slot: &mut MaybeUninit<Endpoint>) -> &mut Endpoint {
    // SAFETY: `fill` writes each byte before it reads any.
    let end = unsafe { &mut *slot.as_mut_ptr() };
    fill(end, [0, 0], 0);
    end
}

/// The address of an end as two words in memory.
#[inline(always)]
fn words(end: &Endpoint) -> [u64; 2] {
    let words = core::ptr::from_ref(end).cast::<u64>();
    // SAFETY: an end is aligned and begins with its address.
    unsafe { [core::ptr::read_volatile(words), core::ptr::read_volatile(words.add(1))] }
}

/// The far end; all zero when the socket is not connected.
#[inline(always)]
pub(crate) fn remote(sock: u64, family: u16, out: &mut Endpoint) -> Result<(), Fault> {
    let port = u16::from_be(field(sock, &OFF_SK_DPORT)?);
    if family == AF_INET6 {
        fill(out, [0, 0], port);
        into(super::member(sock, &OFF_SK_V6_DADDR)?, &mut out.address)
    } else {
        fill(out, mapped_words(field(sock, &OFF_SK_DADDR)?), port);
        Ok(())
    }
}

/// The near end.
#[inline(always)]
pub(crate) fn local(sock: u64, family: u16, out: &mut Endpoint) -> Result<(), Fault> {
    let port: u16 = field(sock, &OFF_SK_NUM)?;
    if family == AF_INET6 {
        fill(out, [0, 0], port);
        into(super::member(sock, &OFF_SK_V6_SADDR)?, &mut out.address)
    } else {
        fill(out, mapped_words(field(sock, &OFF_SK_SADDR)?), port);
        Ok(())
    }
}

/// Whether an end has an address.
#[inline(always)]
pub(crate) fn is_set(end: &Endpoint) -> bool {
    let [high, low] = words(end);
    let [_, low_zero] = mapped_words(0);
    // IPv4-mapped zero is no address either.
    high != 0 || (low != 0 && low != low_zero)
}
