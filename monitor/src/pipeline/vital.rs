//! Whether the monitor still sees: acts of its own must be counted by the kernel side, and its
//! own clock must not have jumped.

use std::fs::File;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use monitor_common::{KIND_FILE_OPEN, KIND_FLOW, KIND_TASK_NEW};

use super::engine::Engine;
use super::{Control, Pipeline};
use crate::model::{Body, BootNs, Clock, Event, SensorNote};
use crate::sensor::{KernelCounters, State, Status};

/// How often the monitor acts to see whether that is seen.
const CANARY_EVERY: Duration = Duration::from_secs(30);
/// How long the engine may be away before that is told. It beats every second, and a flood keeps
/// it from nothing; the clock used stands still while the host sleeps.
const STALL_MAX: Duration = Duration::from_secs(5);

/// What is acted out, and the sensor that must see it.
const CANARIES: [(&str, u16); 3] =
    [("process", KIND_TASK_NEW), ("file_open", KIND_FILE_OPEN), ("send_bytes", KIND_FLOW)];

/// Signs of life.
#[derive(Debug)]
pub(super) struct Vital {
    ticked: Instant,
    acted: Option<Instant>,
    /// What each canary's kind had counted before the act; `None` when nothing is due.
    before: Option<[u64; CANARIES.len()]>,
    missing: [bool; CANARIES.len()],
}

impl Default for Vital {
    fn default() -> Self {
        Self { ticked: Instant::now(), acted: None, before: None, missing: Default::default() }
    }
}

impl Engine {
    /// Takes a decoded record: what the kernel side left open is found out first, and what this
    /// led to is told behind it.
    pub(super) fn take_record(&mut self, mut event: Event) {
        self.stages.enricher.complete(&mut event);
        if !self.tally.rests.note(&mut event) {
            return;
        }
        match &event.body {
            Body::Flow(_) => self.take_notices_before(&event),
            Body::Exit(_) => self.take_rests_of(&event),
            _ => {}
        }
        self.take_event(&event);
        for found in self.stages.enricher.take_found() {
            self.take_event(&found);
        }
    }

    /// Before the end of a process: what it read and no record told.
    fn take_rests_of(&mut self, end: &Event) {
        let Some(actor) = &end.actor else { return };
        let maps = &mut self.stages.maps;
        let sum = |reader: &_| maps.bytes_read_at_end(reader);
        for rest in self.tally.rests.ended(actor.process.tgid, end.time, sum) {
            self.take_event(&rest);
        }
    }

    /// Once a second: what was found out without a record.
    pub(super) fn take_found(&mut self, now: BootNs, counters: &[KernelCounters]) {
        let mut found = self.stages.enricher.written(now);
        found.extend(self.tally.rests.due(now, |reader| self.stages.maps.bytes_read(reader)));
        found.extend(self.tally.vital.tick(now, counters, &self.stages.status));
        if self.tally.opinions.is_due(now) {
            found.extend(self.tally.opinions.look(now, &self.stages.maps.egress()));
        }
        for event in &found {
            if let Body::SensorNote(note) = &event.body {
                tracing::warn!(sensor = note.sensor, state = note.state, "{}", note.detail);
            }
            self.take_event(event);
        }
    }
}

impl Pipeline {
    /// Looks whether somebody took a sensor away, and puts it back. Cheap enough for every few
    /// seconds: one pass over the monitor's own descriptors.
    pub fn mend(&mut self) {
        for (sensor, detail) in self.loaded.mend() {
            let note = note(Clock::boot_now(), sensor, "detached", detail);
            self.order(Control::Note(Box::new(note)));
        }
    }
}

impl Vital {
    /// Once a second. Gives what must be told.
    pub(super) fn tick(
        &mut self,
        now: BootNs,
        counters: &[KernelCounters],
        status: &[Status],
    ) -> Vec<Event> {
        let mut told = Vec::new();
        let away = self.ticked.elapsed();
        self.ticked = Instant::now();
        if away > STALL_MAX {
            let detail = format!(
                "the engine did not run for {} s: stopped, frozen or starved; records that came \
                 meanwhile waited in the rings, and those that did not fit were counted as lost",
                away.as_secs()
            );
            told.push(note(now, "engine", "stalled", detail));
        }
        let seen = CANARIES.map(|(_, kind)| seen(counters, kind));
        if let Some(before) = self.before.take() {
            for (at, (sensor, _)) in CANARIES.iter().enumerate() {
                let is_missing = is_watching(status, sensor) && seen[at] == before[at];
                if is_missing && !self.missing[at] {
                    let detail = "the monitor acted and the kernel side did not see it: the \
                                  sensor was taken away or switched off";
                    told.push(note(now, sensor, "canary_missing", detail.to_owned()));
                }
                self.missing[at] = is_missing;
            }
        }
        if self.acted.is_none_or(|acted| acted.elapsed() >= CANARY_EVERY) {
            self.acted = Some(Instant::now());
            self.before = act().then_some(seen);
        }
        told
    }
}

/// Something harmless that each of the sensors must see. `false` when this host does not let us.
fn act() -> bool {
    let thread = std::thread::Builder::new().name("canary".into()).spawn(|| {});
    let joined = thread.is_ok_and(|thread| thread.join().is_ok());
    let opened = File::open("/proc/self/stat").is_ok();
    let sent = UdpSocket::bind("127.0.0.1:0").is_ok_and(|socket| {
        socket.local_addr().is_ok_and(|own| socket.send_to(b"canary", own).is_ok())
    });
    joined && opened && sent
}

fn seen(counters: &[KernelCounters], kind: u16) -> u64 {
    counters.iter().find(|row| row.kind == kind).map_or(0, |row| row.counters.seen)
}

fn is_watching(status: &[Status], sensor: &str) -> bool {
    status.iter().any(|row| row.sensor.name == sensor && !matches!(row.state, State::Off(_)))
}

/// What is told of a sensor.
pub(super) fn note(
    time: BootNs,
    sensor: &'static str,
    state: &'static str,
    detail: String,
) -> Event {
    let note = SensorNote { sensor, state, detail, cgroup: None };
    Event { time, actor: None, body: Body::SensorNote(note) }
}

#[cfg(test)]
mod tests {
    use monitor_common::KindCounters;

    use super::*;
    use crate::sensor::CATALOG;

    fn counters(seen: u64) -> Vec<KernelCounters> {
        let counters = KindCounters { seen, ..KindCounters::default() };
        CANARIES.map(|(_, kind)| KernelCounters { kind, counters }).to_vec()
    }

    fn status(is_off: bool) -> Vec<Status> {
        CATALOG
            .iter()
            .map(|sensor| {
                if is_off {
                    Status::off(sensor, "gone".to_owned())
                } else {
                    Status::on(sensor, &sensor.roads[0], String::new())
                }
            })
            .collect()
    }

    fn states(told: &[Event]) -> Vec<&'static str> {
        told.iter()
            .map(|event| match &event.body {
                Body::SensorNote(note) => note.state,
                _ => "",
            })
            .collect()
    }

    #[test]
    fn an_act_that_nobody_saw_is_told_once() {
        let mut vital = Vital::default();
        let watching = status(false);
        assert!(vital.tick(BootNs(1), &counters(7), &watching).is_empty());
        let told = vital.tick(BootNs(2), &counters(7), &watching);
        assert_eq!(states(&told), ["canary_missing"; 3]);
        vital.acted = None;
        assert!(vital.tick(BootNs(3), &counters(7), &watching).is_empty());
        assert!(vital.tick(BootNs(4), &counters(7), &watching).is_empty(), "told already");
    }

    #[test]
    fn an_act_that_was_seen_and_a_sensor_that_is_off_are_not_told() {
        let mut vital = Vital::default();
        assert!(vital.tick(BootNs(1), &counters(7), &status(false)).is_empty());
        assert!(vital.tick(BootNs(2), &counters(8), &status(false)).is_empty());
        vital.acted = None;
        assert!(vital.tick(BootNs(3), &counters(8), &status(true)).is_empty());
        assert!(vital.tick(BootNs(4), &counters(8), &status(true)).is_empty());
    }

    #[test]
    fn an_engine_that_was_away_says_so() {
        let mut vital = Vital::default();
        let Some(earlier) = Instant::now().checked_sub(Duration::from_secs(9)) else { return };
        vital.ticked = earlier;
        let told = vital.tick(BootNs(1), &counters(1), &status(false));
        assert_eq!(states(&told), ["stalled"]);
    }
}
