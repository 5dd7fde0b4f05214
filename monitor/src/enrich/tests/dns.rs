//! Questions to resolvers and their answers, as bytes on the wire.

use proptest::prelude::*;

use super::*;
use crate::enrich::limit::QUESTION_AGE_NS_MAX;
use crate::model::{Payload, Wire};

const LOCAL: &str = "10.0.0.9:40000";
const RESOLVER: &str = "10.0.0.2:53";

fn datagram(is_inward: bool, local: &str, server: &str, bytes: &[u8]) -> Wire {
    let total = u32::try_from(bytes.len()).unwrap();
    Wire {
        flow_id: 5,
        is_stream: false,
        is_inward,
        local: local.parse().unwrap(),
        server: server.parse().unwrap(),
        payload: Payload { sequence: 0, total, bytes: bytes::Bytes::copy_from_slice(bytes) },
    }
}

/// A message about one name; an answer names 198.51.100.7.
fn message(id: u16, name: &str, is_answer: bool) -> Vec<u8> {
    let flags: u16 = if is_answer { 0x8180 } else { 0x0100 };
    let words = [id, flags, 1, u16::from(is_answer), 0, 0];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    if is_answer {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
    }
    bytes
}

impl Stage {
    /// What a datagram or segment became: `name` of each question, `name=address` of each answer.
    fn wire(&mut self, wire: Wire) -> Vec<String> {
        self.now += SECOND / 1_000;
        let mut event =
            Event { time: BootNs(self.now), actor: Some(actor(10)), body: Body::Wire(wire) };
        self.enricher.complete(&mut event);
        let mut events = vec![event];
        events.extend(self.enricher.take_found());
        let mut told = Vec::new();
        for event in &events {
            self.enricher.observe(event);
            let Body::Dns(dns) = &event.body else { continue };
            let ips: Vec<_> = dns.answers.iter().map(|answer| answer.ip.to_string()).collect();
            assert_eq!(event.actor.as_ref(), Some(&actor(10)));
            told.push(if dns.is_query {
                dns.name.clone()
            } else {
                format!("{}={}", dns.name, ips.join("+"))
            });
        }
        told
    }

    fn ask(&mut self, id: u16, name: &str) {
        let told = self.wire(datagram(false, LOCAL, RESOLVER, &message(id, name, false)));
        assert_eq!(told, [name]);
    }
}

#[test]
fn answer_is_believed_only_when_it_belongs_to_a_question() {
    let mut stage = Stage::new();
    let true_answer = message(7, "a.test", true);
    let answer = |local, server, bytes: &[u8]| datagram(true, local, server, bytes);
    let other_socket = Wire { flow_id: 6, ..answer(LOCAL, RESOLVER, &true_answer) };
    let guesses = [
        answer(LOCAL, RESOLVER, &message(8, "a.test", true)),
        answer(LOCAL, RESOLVER, &message(7, "b.test", true)),
        answer(LOCAL, "10.0.0.3:53", &true_answer),
        answer(LOCAL, "10.0.0.2:5353", &true_answer),
        answer("10.0.0.9:40001", RESOLVER, &true_answer),
        other_socket,
        // A question from a resolver's port is nobody's answer.
        answer(LOCAL, RESOLVER, &message(7, "a.test", false)),
    ];
    assert!(stage.wire(answer(LOCAL, RESOLVER, &true_answer)).is_empty(), "nobody asked");
    stage.ask(7, "a.test");
    for guess in guesses {
        assert!(stage.wire(guess.clone()).is_empty(), "{guess:?}");
    }
    let told = stage.wire(answer(LOCAL, RESOLVER, &true_answer));
    assert_eq!(told, ["a.test=198.51.100.7"], "guesses do not keep the true one out");
    assert!(stage.wire(answer(LOCAL, RESOLVER, &true_answer)).is_empty(), "answered once");
    assert_eq!(stage.enricher.counters().answers_refused, 8);

    stage.ask(9, "a.test");
    stage.now += QUESTION_AGE_NS_MAX;
    let late = answer(LOCAL, RESOLVER, &message(9, "a.test", true));
    assert!(stage.wire(late).is_empty(), "too late");
}

#[test]
fn case_of_letters_does_not_matter_and_the_name_is_attached_to_the_flow() {
    let mut stage = Stage::new();
    let told = stage.wire(datagram(false, LOCAL, RESOLVER, &message(7, "A.tEst", false)));
    assert_eq!(told, ["a.test"]);
    stage.wire(datagram(true, LOCAL, RESOLVER, &message(7, "a.teST", true)));
    let of = stage.act(actor(10), Body::Flow(flow(1, "198.51.100.7:443", 1)));
    assert_eq!(stage.text(&of, FieldId::NetDstName), "a.test");
}

/// What a stream of these messages looks like.
fn stream(messages: &[Vec<u8>]) -> Vec<u8> {
    let framed = messages.iter().map(|message| {
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        [&length[..], message].concat()
    });
    framed.collect::<Vec<_>>().concat()
}

fn segment(is_inward: bool, at: usize, total: usize, bytes: &[u8]) -> Wire {
    let mut wire = datagram(is_inward, LOCAL, RESOLVER, bytes);
    wire.is_stream = true;
    wire.payload.sequence = u32::MAX.wrapping_sub(20).wrapping_add(u32::try_from(at).unwrap());
    wire.payload.total = u32::try_from(total).unwrap();
    wire
}

proptest! {
    #[test]
    fn messages_of_a_stream_are_read_however_it_is_cut(
        cuts in prop::collection::vec(1usize..50, 1..30),
    ) {
        let mut stage = Stage::new();
        let names = ["a.test", "bb.test", "c.test"];
        let mut told = Vec::new();
        for is_inward in [false, true] {
            let messages: Vec<_> =
                names.iter().zip(1..).map(|(name, id)| message(id, name, is_inward)).collect();
            let bytes = stream(&messages);
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < bytes.len() {
                let end = (at + cuts.next().expect("endless")).min(bytes.len());
                told.extend(stage.wire(segment(is_inward, at, end - at, &bytes[at..end])));
                at = end;
            }
        }
        let expected: Vec<_> = names.iter().map(|name| (*name).to_owned())
            .chain(names.iter().map(|name| format!("{name}=198.51.100.7"))).collect();
        prop_assert_eq!(told, expected);
    }
}

#[test]
fn message_that_was_not_kept_whole_is_told_by_its_question_and_the_next_one_is_read() {
    let mut stage = Stage::new();
    let long = [message(1, "long.test", false), vec![0; 3_000]].concat();
    let bytes = stream(&[long, message(2, "next.test", false)]);
    let kept = 2_048;
    assert!(stage.wire(segment(false, 0, kept + 900, &bytes[..kept])).is_empty());
    let told =
        stage.wire(segment(false, kept + 900, bytes.len() - kept - 900, &bytes[kept + 900..]));
    assert_eq!(told, ["long.test", "next.test"]);
}

#[test]
fn stream_that_lost_its_place_is_given_up_and_counted_once() {
    let mut stage = Stage::new();
    let bytes = stream(&[message(1, "a.test", false)]);
    // The length of the second message is among what was not kept.
    assert_eq!(stage.wire(segment(false, 0, bytes.len() + 40, &bytes)), ["a.test"]);
    for _ in 0..3 {
        assert!(stage.wire(segment(false, bytes.len() + 40, bytes.len(), &bytes)).is_empty());
    }
    assert_eq!(stage.enricher.counters().dns_unread, 1);
}
