//! Sockets.

use monitor_common::Endpoint;

use super::{Fault, field, into};
use crate::globals::{
    OFF_SK_DADDR, OFF_SK_DPORT, OFF_SK_FAMILY, OFF_SK_NUM, OFF_SK_PROTOCOL, OFF_SK_SADDR,
    OFF_SK_TYPE, OFF_SK_V6_DADDR, OFF_SK_V6_SADDR, OFF_SOCKET_SK, OFF_TCP_FASTOPEN,
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

/// The `struct sock` of a `struct socket`.
#[inline(always)]
pub(crate) fn of_socket(socket: u64) -> Result<u64, Fault> {
    field(socket, &OFF_SOCKET_SK)
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

/// An IPv4 address as IPv4-mapped IPv6.
#[inline(always)]
pub(crate) fn mapped(address: u32) -> [u8; 16] {
    let [a, b, c, d] = address.to_ne_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The far end; all zero when the socket is not connected.
#[inline(always)]
pub(crate) fn remote(sock: u64, family: u16, out: &mut Endpoint) -> Result<(), Fault> {
    let port: u16 = field(sock, &OFF_SK_DPORT)?;
    out.port = u16::from_be(port);
    out.reserved = [0; 6];
    if family == AF_INET6 {
        into(super::member(sock, &OFF_SK_V6_DADDR)?, &mut out.address)
    } else {
        out.address = mapped(field(sock, &OFF_SK_DADDR)?);
        Ok(())
    }
}

/// The near end.
#[inline(always)]
pub(crate) fn local(sock: u64, family: u16, out: &mut Endpoint) -> Result<(), Fault> {
    out.port = field(sock, &OFF_SK_NUM)?;
    out.reserved = [0; 6];
    if family == AF_INET6 {
        into(super::member(sock, &OFF_SK_V6_SADDR)?, &mut out.address)
    } else {
        out.address = mapped(field(sock, &OFF_SK_SADDR)?);
        Ok(())
    }
}

/// Whether an end has an address.
#[inline(always)]
pub(crate) fn is_set(end: &Endpoint) -> bool {
    let [_, _, _, _, _, _, _, _, _, _, x, y, a, b, c, d] = end.address;
    let low = u32::from_ne_bytes([a, b, c, d]);
    if x == 0xff && y == 0xff {
        return low != 0;
    }
    let mut any = low | u32::from(x) | u32::from(y);
    let mut at = 0;
    while at < 10 {
        any |= u32::from(end.address[at]);
        at += 1;
    }
    any != 0
}
