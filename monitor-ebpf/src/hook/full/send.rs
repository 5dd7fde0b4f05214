//! Bytes that are sent, where the kernel has no tracepoint for them (before 6.3): at the returns of
//! the functions that send, for every road to a socket passes them.
//!
//! These programs know a socket by its address alone. So each socket that is closed is looked at
//! before its memory is free, and its flows are ended there.

use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};

use super::slot;
use crate::flow::{self, Starter};
use crate::hook::net;
use crate::maps::{FLOW_SCRATCH, FLOW_SLOTS};
use crate::read::sock;
use crate::relay;

/// match-proto:v5.10:net/ipv4/af_inet.c:
/// `inet_sendmsg(struct socket *sock, struct msghdr *msg, size_t size) -> int`
#[fexit(function = "inet_sendmsg")]
pub fn inet_sent(ctx: FExitContext) -> i32 {
    sent_on(ctx.arg(0), ctx.arg(3))
}

/// match-proto:v5.10:net/ipv6/af_inet6.c:
/// `inet6_sendmsg(struct socket *sock, struct msghdr *msg, size_t size) -> int`
#[fexit(function = "inet6_sendmsg")]
pub fn inet6_sent(ctx: FExitContext) -> i32 {
    sent_on(ctx.arg(0), ctx.arg(3))
}

/// match-proto:v5.10:net/packet/af_packet.c:
/// `packet_sendmsg(struct socket *sock, struct msghdr *msg, size_t len) -> int`
#[fexit(function = "packet_sendmsg")]
pub fn packet_sent(ctx: FExitContext) -> i32 {
    sent_on(ctx.arg(0), ctx.arg(3))
}

/// Pages of a file or a pipe. Not `inet_sendpage`, which falls back on `inet_sendmsg` for other
/// protocols: those would be counted twice.
///
/// match-proto:v5.10:net/ipv4/tcp.c: `tcp_sendpage(struct sock *sk, struct page *page, int offset,
/// size_t size, int flags) -> int`
#[fexit(function = "tcp_sendpage")]
pub fn tcp_page_sent(ctx: FExitContext) -> i32 {
    sent(ctx.arg(0), ctx.arg(5))
}

/// match-proto:v5.10:net/ipv4/udp.c: `udp_sendpage(struct sock *sk, struct page *page, int offset,
/// size_t size, int flags) -> int`
#[fexit(function = "udp_sendpage")]
pub fn udp_page_sent(ctx: FExitContext) -> i32 {
    sent(ctx.arg(0), ctx.arg(5))
}

/// Local streams: what goes to another workload.
///
/// match-proto:v5.10:net/unix/af_unix.c:
/// `unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len) -> int`
#[fexit(function = "unix_stream_sendmsg")]
pub fn unix_sent(ctx: FExitContext) -> i32 {
    sent_on(ctx.arg(0), ctx.arg(3))
}

/// Local datagrams; `unix_seqpacket_sendmsg` calls it.
///
/// match-proto:v5.10:net/unix/af_unix.c:
/// `unix_dgram_sendmsg(struct socket *sock, struct msghdr *msg, size_t len) -> int`
#[fexit(function = "unix_dgram_sendmsg")]
pub fn unix_dgram_sent(ctx: FExitContext) -> i32 {
    sent_on(ctx.arg(0), ctx.arg(3))
}

/// match-proto:v5.10:net/unix/af_unix.c: `unix_stream_sendpage(struct socket *socket,
/// struct page *page, int offset, size_t size, int flags) -> ssize_t`
#[fexit(function = "unix_stream_sendpage")]
pub fn unix_page_sent(ctx: FExitContext) -> i32 {
    sent_on(ctx.arg(0), ctx.arg(5))
}

/// match-proto:v5.10:net/ipv4/af_inet.c: `inet_release(struct socket *sock)`, which
/// `inet6_release` calls
#[fentry(function = "inet_release")]
pub fn inet_closed(ctx: FEntryContext) -> i32 {
    closed(ctx.arg(0))
}

/// match-proto:v5.10:net/packet/af_packet.c: `packet_release(struct socket *sock)`
#[fentry(function = "packet_release")]
pub fn packet_closed(ctx: FEntryContext) -> i32 {
    closed(ctx.arg(0))
}

#[inline(always)]
fn sent_on(socket: u64, bytes: i32) -> i32 {
    match sock::of_socket(socket) {
        Ok(sk) => sent(sk, bytes),
        Err(fault) => {
            flow::fault(fault);
            0
        }
    }
}

/// One function for all roads: it is long.
#[inline(never)]
fn sent(sk: u64, bytes: i32) -> i32 {
    if bytes <= 0 {
        return 0;
    }
    let slot = || slot(&FLOW_SLOTS, FLOW_SCRATCH.get_ptr(Starter::Send as u32)?);
    match net::sent_add(sk, bytes as u64, || sk, slot) {
        Err(fault) => flow::fault(fault),
        Ok(Some(passed)) => relay::tell(&passed),
        Ok(None) => {}
    }
    net::nothing()
}

#[inline(always)]
fn closed(socket: u64) -> i32 {
    if let Ok(sk) = sock::of_socket(socket)
        && sk != 0
    {
        flow::close(sk);
    }
    0
}
