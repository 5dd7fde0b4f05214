//! Bytes that were seen on the wire, and what resolvers are asked and answer.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

/// Some of the first bytes that a flow sent, bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// TCP's number of the first of them.
    pub sequence: u32,
    /// How many the segment had.
    pub total: u32,
    /// Those that were kept: the first.
    pub bytes: Bytes,
}

/// A datagram or segment to or from a resolver. The actor asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Identity of the flow, or of a datagram's socket.
    pub flow_id: u64,
    /// Whether the bytes are a part of a stream, and not a message of their own.
    pub is_stream: bool,
    /// Whether they arrived, and were not sent.
    pub is_inward: bool,
    /// Here.
    pub local: SocketAddr,
    /// The resolver.
    pub server: SocketAddr,
    /// The bytes.
    pub payload: Payload,
}

/// A DNS query or answer. The actor is the process that asked, where known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Whether this is the question on its way out, and not an answer.
    pub is_query: bool,
    /// Type that was asked for (RFC 1035, section 3.2.2), as a number.
    pub query_type: u16,
    /// Bytes of the message.
    pub message_bytes: u32,
    /// The resolver.
    pub server: Option<IpAddr>,
    /// The name asked for, lower case, no final dot.
    pub name: String,
    /// What it was answered with.
    pub answers: Vec<DnsAnswer>,
}

/// One address in a DNS answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// The address.
    pub ip: IpAddr,
    /// Seconds it may be kept.
    pub ttl_seconds: u32,
}
