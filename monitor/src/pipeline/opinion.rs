//! The second opinion: what the socket layer says that a cgroup sent is held against what its
//! packets show. Where they go apart, some road is not counted, or bytes leave past the network
//! layer; either is told.

use std::collections::BTreeMap;

use monitor_common::EgressSum;

use crate::model::{Body, BootNs, CgroupId, Event, SensorNote};

/// Time between two looks.
const LOOK_EVERY_NS: u64 = 5_000_000_000;
/// Looks over which a difference must stay: a large send is counted when its call returns, and its
/// packets leave before that.
const LOOKS_MIN: usize = 3;
/// Smallest difference that is told, in bytes: what the queues of a few sockets hold.
const DISAGREEMENT_BYTES_MIN: u64 = 8 << 20;
/// Smallest difference that is told, as a part of what was sent: one eighth. Headers of raw packets
/// and frames are counted on one side only.
const DISAGREEMENT_PART_MIN: u64 = 8;
/// How long a cgroup's difference adds up before it begins again.
const SPAN_NS: u64 = 600_000_000_000;

/// One kind of bytes of one cgroup.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    said: u64,
    seen: u64,
}

impl Side {
    /// Whether either sum is smaller than in `base`. Sums only grow.
    const fn is_before(self, base: Self) -> bool {
        self.said < base.said || self.seen < base.seen
    }

    fn excess(self) -> i128 {
        i128::from(self.seen) - i128::from(self.said)
    }
}

/// What is known of one kind of bytes of one cgroup.
#[derive(Clone, Debug, Default)]
struct Course {
    /// What there was when it began.
    base: Side,
    /// The latest differences since then, the newest last.
    recent: Vec<i128>,
}

impl Course {
    /// Takes a reading in. What was said and seen since it began, when they disagree.
    fn take(&mut self, now: Side, both_ways: bool) -> Option<Side> {
        let excess = now.excess() - self.base.excess();
        if excess < 0 && !both_ways {
            // What was taken and has not left yet. If it never does, no more is seen than said.
            self.base.said = now.said;
            self.base.seen = now.seen;
            self.recent.clear();
            return None;
        }
        if self.recent.len() >= LOOKS_MIN {
            self.recent.remove(0);
        }
        self.recent.push(excess);
        let more = self.recent.iter().all(|excess| *excess > 0);
        let less = both_ways && self.recent.iter().all(|excess| *excess < 0);
        if self.recent.len() < LOOKS_MIN || !(more || less) {
            return None;
        }
        let least = self.recent.iter().map(|excess| excess.unsigned_abs()).min()?;
        let since = Side { said: now.said - self.base.said, seen: now.seen - self.base.seen };
        let sent = u128::from(since.said.max(since.seen));
        let is_told = least >= u128::from(DISAGREEMENT_BYTES_MIN)
            && least * u128::from(DISAGREEMENT_PART_MIN) >= sent;
        if !is_told {
            return None;
        }
        self.begin(now);
        Some(since)
    }

    fn begin(&mut self, now: Side) {
        *self = Self { base: now, recent: Vec::new() };
    }
}

#[derive(Clone, Debug, Default)]
struct Known {
    stream: Course,
    other: Course,
    since: BootNs,
}

/// Both opinions on every cgroup that sends.
#[derive(Debug, Default)]
pub(super) struct Opinions {
    looked: BootNs,
    known: BTreeMap<u64, Known>,
}

impl Opinions {
    /// Whether it is time for a look.
    pub(super) fn is_due(&self, now: BootNs) -> bool {
        now.since(self.looked) >= LOOK_EVERY_NS
    }

    /// Compares. Gives what must be told.
    pub(super) fn look(&mut self, now: BootNs, sums: &[(u64, EgressSum)]) -> Vec<Event> {
        self.looked = now;
        // What the kernel side forgot begins again there, and so here.
        self.known.retain(|cgroup, _| sums.iter().any(|(known, _)| known == cgroup));
        let mut told = Vec::new();
        for (cgroup, sum) in sums {
            let stream = Side { said: sum.said_stream, seen: sum.seen_stream };
            let other = Side { said: sum.said_other, seen: sum.seen_other };
            let fresh = || Known { since: now, ..Known::default() };
            let known = self.known.entry(*cgroup).or_insert_with(fresh);
            // Forgotten and met again between two looks: its sums are smaller than they were.
            if stream.is_before(known.stream.base) || other.is_before(known.other.base) {
                *known = fresh();
            }
            let found = [
                ("in TCP", known.stream.take(stream, false)),
                ("in other protocols", known.other.take(other, true)),
            ];
            for (what, since) in found {
                if let Some(since) = since {
                    told.push(note(now, *cgroup, what, since));
                }
            }
            if now.since(known.since) >= SPAN_NS {
                known.since = now;
                known.stream.begin(stream);
                known.other.begin(other);
            }
        }
        told
    }
}

fn note(time: BootNs, cgroup: u64, what: &str, since: Side) -> Event {
    let why = if since.seen > since.said {
        "some road to the network is not counted, or a very long send is under way"
    } else {
        "bytes leave past the network layer, by a packet socket or another rare family"
    };
    let detail = format!(
        "{what}, sockets of one cgroup took {} bytes and its packets carried {}: {why}",
        since.said, since.seen
    );
    let body = Body::SensorNote(SensorNote {
        sensor: "send_bytes",
        state: "disagreement",
        detail,
        cgroup: Some(CgroupId(cgroup)),
    });
    Event { time, actor: None, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn sum(said_stream: u64, seen_stream: u64, said_other: u64, seen_other: u64) -> EgressSum {
        EgressSum { said_stream, said_other, seen_stream, seen_other }
    }

    /// Looks at these readings five seconds apart; the details of what is told.
    fn told(readings: &[EgressSum]) -> Vec<String> {
        let mut opinions = Opinions::default();
        let mut told = Vec::new();
        for (at, sum) in (1..).zip(readings) {
            let now = BootNs(at * LOOK_EVERY_NS);
            assert!(opinions.is_due(now));
            for event in opinions.look(now, &[(7, *sum)]) {
                let Body::SensorNote(note) = event.body else { panic!("not a note") };
                assert_eq!((note.state, note.cgroup), ("disagreement", Some(CgroupId(7))));
                told.push(note.detail);
            }
        }
        told
    }

    #[test]
    fn frames_past_the_network_layer_are_told_once() {
        let gone = sum(0, 0, 20 * MIB, 0);
        let told = told(&[gone; 8]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("took 20971520 bytes and its packets carried 0"), "{told:?}");
    }

    #[test]
    fn packets_that_nobody_said_are_told_again_when_as_many_more_come() {
        let (some, more) = (sum(0, 9 * MIB, 0, 0), sum(0, 18 * MIB, 0, 0));
        assert_eq!(told(&[some, some, some, more, more, more]).len(), 2);
    }

    #[test]
    fn cgroup_that_the_kernel_side_forgot_begins_again() {
        let (much, little) = (sum(0, 0, 0, 20 * MIB), sum(0, 0, 0, MIB));
        assert_eq!(told(&[much, much, much, little, little, little]).len(), 1);
    }

    #[test]
    fn what_agrees_by_and_large_and_what_comes_late_is_not_told() {
        let small = sum(1000 * MIB, 1060 * MIB, 400 * MIB, 380 * MIB);
        assert_eq!(told(&[small; 6]), [""; 0], "less than an eighth");
        let few = sum(0, 7 * MIB, 7 * MIB, 0);
        assert_eq!(told(&[few; 6]), [""; 0], "few bytes");
        let late =
            [sum(0, 500 * MIB, 0, 0), sum(0, 900 * MIB, 0, 0), sum(900 * MIB, 900 * MIB, 0, 0)];
        assert_eq!(told(&[late[0], late[1], late[2], late[2], late[2]]), [""; 0], "a long send");
        let queued = sum(100 * MIB, 10 * MIB, 0, 0);
        assert_eq!(told(&[queued; 6]), [""; 0], "taken, and the peer does not read");
    }
}
