//! Questions to resolvers and their answers. An answer is believed only when it is one: to a
//! question that left by the same socket, to the same resolver and port, with the same number, name
//! and type.

use std::net::SocketAddr;

use super::enricher::Enricher;
use super::limit::{DNS_MESSAGES_MAX, DNS_STREAMS_MAX, QUESTION_AGE_NS_MAX, QUESTIONS_MAX};
use super::message::{self, Message};
use super::segment::{Order, Piece};
use super::table::Table;
use crate::model::{Body, BootNs, Dns, Event, Wire};

/// Bytes of a message that are kept: as many as leave the kernel.
const MESSAGE_BYTES_KEPT: usize = monitor_common::LONG_PAYLOAD_BYTES_MAX;

/// Which question an answer must belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    flow_id: u64,
    local: SocketAddr,
    server: SocketAddr,
    id: u16,
}

/// What was asked.
#[derive(Debug)]
struct Question {
    name: String,
    query_type: u16,
    time: BootNs,
}

/// One direction of a stream of messages, each behind its length (RFC 1035, section 4.2.2).
#[derive(Debug, Default)]
struct Stream {
    order: Order,
    /// Bytes of the message that are still to come; `None` between two.
    left: Option<u32>,
    length: Vec<u8>,
    kept: Vec<u8>,
    /// Bytes of this message so far, missing ones included.
    passed: u32,
    /// Whether bytes of this message are missing.
    is_cut: bool,
    is_lost: bool,
}

/// Questions that wait for their answers.
pub(super) struct Questions {
    waiting: Table<Key, Question>,
    streams: Table<(u64, bool), Stream>,
    /// Answers to questions that were not asked.
    pub(super) answers_refused: u64,
    /// Messages and streams that could not be read.
    pub(super) unread: u64,
}

impl Questions {
    pub(super) fn new() -> Self {
        Self {
            waiting: Table::new(QUESTIONS_MAX),
            streams: Table::new(DNS_STREAMS_MAX),
            answers_refused: 0,
            unread: 0,
        }
    }

    /// What a datagram or segment completes: questions, and answers to them.
    fn take(&mut self, wire: &Wire, time: BootNs) -> Vec<Dns> {
        if !wire.is_stream {
            let bytes = wire.payload.total;
            return self.message(wire, &wire.payload.bytes, bytes, time).into_iter().collect();
        }
        let key = (wire.flow_id, wire.is_inward);
        let handle = match self.streams.find(&key) {
            Some(handle) => handle,
            None => self.streams.insert(key, Stream::default()).0,
        };
        self.streams.touch(handle);
        let Some(stream) = self.streams.get_mut(handle) else { return Vec::new() };
        let was_lost = stream.is_lost;
        let messages = stream.take(wire);
        self.unread += u64::from(stream.is_lost && !was_lost);
        let whole = |(bytes, length): (Vec<u8>, u32)| self.message(wire, &bytes, length, time);
        messages.into_iter().filter_map(whole).collect()
    }

    fn message(&mut self, wire: &Wire, bytes: &[u8], length: u32, time: BootNs) -> Option<Dns> {
        let Some(message) = message::read(bytes) else {
            self.unread += 1;
            return None;
        };
        let key =
            Key { flow_id: wire.flow_id, local: wire.local, server: wire.server, id: message.id };
        if message.is_answer == wire.is_inward {
            let is_known = if wire.is_inward { self.answered(key, &message, time) } else { true };
            if !is_known {
                self.answers_refused += 1;
                return None;
            }
            if !wire.is_inward {
                self.asked(key, &message, time);
            }
            return Some(Dns {
                is_query: !wire.is_inward,
                query_type: message.query_type,
                message_bytes: length,
                server: Some(wire.server.ip()),
                name: message.name,
                answers: message.answers,
            });
        }
        // A question that arrives from a resolver's port, or an answer sent to one.
        self.answers_refused += u64::from(message.is_answer);
        None
    }

    fn asked(&mut self, key: Key, message: &Message, time: BootNs) {
        let (name, query_type) = (message.name.clone(), message.query_type);
        let question = Question { name, query_type, time };
        // Asked again: the newer counts.
        match self.waiting.find(&key).and_then(|handle| self.waiting.get_mut(handle)) {
            Some(before) => *before = question,
            None => {
                self.waiting.insert(key, question);
            }
        }
    }

    /// Whether an answer is one, to a question that has none yet. A wrong one leaves the question
    /// as it was: whoever guesses does not keep the true one out.
    fn answered(&mut self, key: Key, message: &Message, time: BootNs) -> bool {
        let Some(handle) = self.waiting.find(&key) else { return false };
        let Some(question) = self.waiting.get(handle) else { return false };
        let is_answer = question.name == message.name
            && question.query_type == message.query_type
            && time.since(question.time) <= QUESTION_AGE_NS_MAX;
        if is_answer {
            self.waiting.remove(handle);
        }
        is_answer
    }
}

impl Stream {
    /// Messages that a segment completes, with their true lengths.
    fn take(&mut self, wire: &Wire) -> Vec<(Vec<u8>, u32)> {
        let mut messages = Vec::new();
        if self.is_lost {
            return messages;
        }
        let pieces = self.order.take(&wire.payload);
        let is_read = pieces.is_some_and(|pieces| {
            pieces.into_iter().all(|piece| match piece {
                Piece::Bytes(bytes) => {
                    self.bytes(&bytes, &mut messages);
                    true
                }
                Piece::Missing(count) => self.missing(count, &mut messages),
            })
        });
        if !is_read {
            *self = Self { is_lost: true, ..Self::default() };
        }
        messages
    }

    fn bytes(&mut self, mut bytes: &[u8], messages: &mut Vec<(Vec<u8>, u32)>) {
        while let Some((first, rest)) = bytes.split_first() {
            let Some(left) = self.left else {
                self.length.push(*first);
                bytes = rest;
                if let [high, low] = self.length[..] {
                    self.length.clear();
                    let length = u32::from(u16::from_be_bytes([high, low]));
                    self.left = (length > 0).then_some(length);
                }
                continue;
            };
            let (now, after) = bytes.split_at(bytes.len().min(left as usize));
            if !self.is_cut {
                let room = MESSAGE_BYTES_KEPT - self.kept.len();
                self.kept.extend_from_slice(&now[..now.len().min(room)]);
            }
            bytes = after;
            self.pass(u32::try_from(now.len()).unwrap_or(left), messages);
        }
    }

    /// Whether the stream can still be read without so many bytes: they must lie in a message.
    fn missing(&mut self, count: u32, messages: &mut Vec<(Vec<u8>, u32)>) -> bool {
        if self.left.is_none_or(|left| left < count) {
            return false;
        }
        self.is_cut = true;
        self.pass(count, messages);
        true
    }

    fn pass(&mut self, count: u32, messages: &mut Vec<(Vec<u8>, u32)>) {
        let Some(left) = self.left else { return };
        self.left = Some(left - count);
        self.passed += count;
        if left > count {
            return;
        }
        let kept = std::mem::take(&mut self.kept);
        if messages.len() < DNS_MESSAGES_MAX {
            messages.push((kept, self.passed));
        }
        (self.left, self.passed, self.is_cut) = (None, 0, false);
    }
}

impl Enricher {
    /// Bytes on the wire become what they say: the first message takes the place of the event, any
    /// others follow it.
    pub(super) fn read_wire(&mut self, event: &mut Event) {
        let Body::Wire(wire) = &event.body else { return };
        let mut messages = self.questions.take(wire, event.time).into_iter();
        let Some(first) = messages.next() else { return };
        event.body = Body::Dns(first);
        for message in messages {
            let (time, actor) = (event.time, event.actor.clone());
            self.found.push(Event { time, actor, body: Body::Dns(message) });
        }
    }
}
