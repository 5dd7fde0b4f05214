//! DNS messages (RFC 1035), as far as names and addresses need them. Total over any bytes: a walk
//! never goes past the end, and a pointer only ever leads towards the front.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::limit::{DNS_ANSWERS_MAX, DNS_RECORDS_MAX};
use crate::model::DnsAnswer;

/// Bytes of a header, and of a name with its lengths (RFC 1035, sections 4.1.1 and 2.3.4).
const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 255;
/// Pointers that one name may follow.
const POINTERS_MAX: usize = 16;
/// Aliases that lead from the name asked for to an address.
const ALIASES_MAX: usize = 8;
/// `QR` in the second word of the header, and the operation.
const IS_ANSWER: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
/// Types of records.
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
/// Class of the internet, without the bit that multicast names put before it.
const CLASS_IN: u16 = 1;
const CLASS_BITS: u16 = 0x7fff;

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: u16,
    pub(super) is_answer: bool,
    /// The name asked for, lower case, no final dot; what is not a printable letter is written as
    /// its number behind a backslash (RFC 4343).
    pub(super) name: String,
    pub(super) query_type: u16,
    /// Addresses of that name, or of a name that the same answer makes an alias of it.
    pub(super) answers: Vec<DnsAnswer>,
}

struct Record {
    owner: String,
    ttl_seconds: u32,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(String),
}

/// Reads a message with one question, a standard query or its answer. `None` for anything else.
///
/// Of an answer that is cut off no addresses are taken: half of it would name some and not others.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let id = u16_at(bytes, 0)?;
    let flags = u16_at(bytes, 2)?;
    if flags & OPERATION != 0 || u16_at(bytes, 4)? != 1 {
        return None;
    }
    let (name, at) = name_at(bytes, HEADER_BYTES)?;
    let query_type = u16_at(bytes, at)?;
    let class = u16_at(bytes, at + 2)?;
    if class & CLASS_BITS != CLASS_IN {
        return None;
    }
    let is_answer = flags & IS_ANSWER != 0;
    let count = if is_answer { usize::from(u16_at(bytes, 6)?) } else { 0 };
    let records = records(bytes, at + 4, count.min(DNS_RECORDS_MAX)).unwrap_or_default();
    let answers = addresses(&name, &records);
    Some(Message { id, is_answer, name, query_type, answers })
}

/// Addresses that the name leads to, through aliases in the same answer.
fn addresses(name: &str, records: &[Record]) -> Vec<DnsAnswer> {
    let mut names: HashSet<&str> = HashSet::from([name]);
    for _ in 0..ALIASES_MAX {
        let before = names.len();
        for record in records {
            if let Data::Alias(target) = &record.data
                && names.contains(record.owner.as_str())
            {
                names.insert(target);
            }
        }
        if names.len() == before {
            break;
        }
    }
    let found = records.iter().filter_map(|record| match record.data {
        Data::Address(ip) if names.contains(record.owner.as_str()) => {
            Some(DnsAnswer { ip, ttl_seconds: record.ttl_seconds })
        }
        _ => None,
    });
    found.take(DNS_ANSWERS_MAX).collect()
}

fn records(bytes: &[u8], mut at: usize, count: usize) -> Option<Vec<Record>> {
    let mut found = Vec::new();
    for _ in 0..count {
        let (owner, after) = name_at(bytes, at)?;
        let kind = u16_at(bytes, after)?;
        let class = u16_at(bytes, after + 2)?;
        let ttl_seconds = u32_at(bytes, after + 4)?;
        let start = after + 10;
        let end = start + usize::from(u16_at(bytes, after + 8)?);
        let body = bytes.get(start..end)?;
        at = end;
        let data = match kind {
            _ if class & CLASS_BITS != CLASS_IN => continue,
            TYPE_A => Data::Address(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(body).ok()?))),
            TYPE_AAAA => {
                Data::Address(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(body).ok()?)))
            }
            TYPE_CNAME => Data::Alias(name_at(bytes, start)?.0),
            _ => continue,
        };
        found.push(Record { owner, ttl_seconds, data });
    }
    Some(found)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The name at a place, and where what follows it begins.
fn name_at(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut length = 1;
    let mut after = None;
    let mut pointers = 0;
    loop {
        let first = *bytes.get(at)?;
        match first >> 6 {
            0 if first == 0 => {
                return Some((name, after.unwrap_or(at + 1)));
            }
            0 => {
                let label = bytes.get(at + 1..at + 1 + usize::from(first))?;
                length += label.len() + 1;
                if length > NAME_BYTES_MAX {
                    return None;
                }
                if !name.is_empty() {
                    name.push('.');
                }
                for byte in label {
                    push(&mut name, *byte);
                }
                at += 1 + label.len();
            }
            3 => {
                let target = usize::from(u16_at(bytes, at)? & 0x3fff);
                pointers += 1;
                if target >= at || pointers > POINTERS_MAX {
                    return None;
                }
                after.get_or_insert(at + 2);
                at = target;
            }
            _ => return None,
        }
    }
}

fn push(name: &mut String, byte: u8) {
    if byte.is_ascii_graphic() && !b".\\".contains(&byte) {
        name.push(char::from(byte.to_ascii_lowercase()));
    } else {
        name.push('\\');
        for digit in [byte / 100, byte / 10 % 10, byte % 10] {
            name.push(char::from(b'0' + digit));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::rdata::{A, AAAA, CNAME, RData};
    use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

    use super::*;

    fn name(text: &str) -> Name<'_> {
        Name::new_unchecked(text)
    }

    /// An answer as another implementation writes it, compressed.
    fn answer(question: &str, records: &[(&str, RData<'static>)]) -> Vec<u8> {
        let mut packet = Packet::new_reply(7);
        let kind = QTYPE::TYPE(TYPE::A);
        packet.questions.push(Question::new(name(question), kind, QCLASS::CLASS(CLASS::IN), false));
        for (owner, data) in records {
            packet.answers.push(ResourceRecord::new(name(owner), CLASS::IN, 60, data.clone()));
        }
        packet.build_bytes_vec_compressed().expect("fits")
    }

    fn a(last: u8) -> RData<'static> {
        RData::A(A { address: u32::from(Ipv4Addr::new(198, 51, 100, last)) })
    }

    fn ips(message: &Message) -> Vec<String> {
        message.answers.iter().map(|answer| answer.ip.to_string()).collect()
    }

    #[test]
    fn answer_yields_the_addresses_that_its_aliases_lead_to_and_no_others() {
        let v6 = RData::AAAA(AAAA { address: u128::from(Ipv6Addr::LOCALHOST) });
        let bytes = answer(
            "Files.Example.com",
            &[
                ("b.cdn.test", a(2)),
                ("files.example.com", RData::CNAME(CNAME(name("a.cdn.test")))),
                ("a.cdn.test", RData::CNAME(CNAME(name("b.cdn.test")))),
                ("bank.test", a(66)),
                ("b.cdn.test", v6),
            ],
        );
        let message = read(&bytes).expect("a message");
        assert_eq!((message.id, message.name.as_str()), (7, "files.example.com"));
        assert!(message.is_answer);
        assert_eq!(ips(&message), ["198.51.100.2", "::1"]);
        assert_eq!(message.answers[0].ttl_seconds, 60);
    }

    #[test]
    fn answer_that_is_cut_off_keeps_its_name_and_gives_no_address() {
        let bytes = answer("a.test", &[("a.test", a(1)), ("a.test", a(2))]);
        let message = read(&bytes[..bytes.len() - 1]).expect("the question is whole");
        assert_eq!((message.name.as_str(), message.answers.len()), ("a.test", 0));
    }

    #[test]
    fn bytes_that_are_no_letters_are_written_as_numbers() {
        let mut bytes = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        bytes.extend(b"\x03A.\x1b\x01\\\0\0\x10\0\x01");
        let message = read(&bytes).expect("a message");
        assert_eq!((message.name.as_str(), message.query_type), ("a\\046\\027.\\092", 16));
        assert!(!message.is_answer);
    }

    #[test]
    fn loops_and_names_without_end_are_refused() {
        let head = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        let itself = [head.clone(), b"\xc0\x0c\0\x01\0\x01".to_vec()].concat();
        let forward = [head.clone(), b"\xc0\x20\0\x01\0\x01".to_vec(), vec![0; 40]].concat();
        let long = [
            head,
            b"\x3faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(4),
        ];
        let long = [long.concat(), b"\0\0\x01\0\x01".to_vec()].concat();
        for bytes in [itself, forward, long] {
            assert_eq!(read(&bytes), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            if let Some(message) = read(&bytes) {
                prop_assert!(message.name.is_ascii() && message.name.len() <= 4 * NAME_BYTES_MAX);
                prop_assert!(message.answers.len() <= DNS_ANSWERS_MAX);
            }
        }

        #[test]
        fn what_another_implementation_writes_is_read_as_it_meant_it(
            labels in prop::collection::vec("[a-z0-9-]{1,20}", 1..6),
            last in prop::collection::vec(any::<u8>(), 0..20),
            flip in any::<(u16, u8)>(),
        ) {
            let owner = labels.join(".");
            let records: Vec<_> = last.iter().map(|last| (owner.as_str(), a(*last))).collect();
            let mut bytes = answer(&owner, &records);
            let message = read(&bytes).expect("a message");
            prop_assert_eq!(&message.name, &owner);
            let expected: Vec<_> = last.iter().map(|last| format!("198.51.100.{last}")).collect();
            prop_assert_eq!(ips(&message), expected);
            // One byte changed: read or refused, but never without end.
            let at = usize::from(flip.0) % bytes.len();
            bytes[at] = flip.1;
            let _read_or_refused = read(&bytes);
        }
    }
}
