//! Answers of resolvers (RFC 1035), as far as names and addresses need them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::Packet;
use simple_dns::rdata::RData;

use crate::model::{Dns, DnsAnswer};

/// Addresses of one answer that are kept.
pub(super) const DNS_ANSWERS_MAX: usize = 32;

/// Reads an answer. `None` for anything else: a question, an error, bytes that are no message.
///
/// An answer that was cut at the recorded length is refused whole: half an answer would name some
/// addresses and not others.
pub(super) fn answer(server: IpAddr, bytes: &[u8]) -> Option<Dns> {
    let packet = Packet::parse(bytes).ok()?;
    if !packet.has_flags(simple_dns::PacketFlag::RESPONSE) {
        return None;
    }
    let question = packet.questions.first()?;
    let query_type = u16::from(question.qtype);
    let name = question.qname.to_string();
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let answers = packet
        .answers
        .iter()
        .filter_map(|record| {
            let ip = match &record.rdata {
                RData::A(address) => IpAddr::V4(Ipv4Addr::from(address.address)),
                RData::AAAA(address) => IpAddr::V6(Ipv6Addr::from(address.address)),
                _ => return None,
            };
            Some(DnsAnswer { ip, ttl_seconds: record.ttl })
        })
        .take(DNS_ANSWERS_MAX)
        .collect();
    let message_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    Some(Dns { is_query: false, query_type, message_bytes, server: Some(server), name, answers })
}
