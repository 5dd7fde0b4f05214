//! The rest of what was read. The kernel side tells bytes of labelled files in steps, and what a
//! process reads after its last step has none to leave with. So this side looks into the sums: once
//! after each record, and when the process has ended.

use std::collections::HashMap;

use monitor_common::{InodeKey, READ_MAPPED, READ_STEP_NS, READERS_MAX, ReaderKey, ReaderSum};

use crate::model::{Body, BootNs, Event, FileRead, Tgid};

/// Pairs of a process and a file whose rest is looked for; as many as there are sums.
const PAIRS_MAX: usize = READERS_MAX as usize;

/// What was told of one reader and file.
#[derive(Debug)]
struct Told {
    key: ReaderKey,
    /// The last record: the rest is told in its words.
    event: Event,
    /// Bytes that were told so far, rests included.
    total: u64,
    /// Whether the rest behind the last record was not looked for yet.
    is_open: bool,
    /// Until when everything was told, where a rest was: the kernel side does not know of it.
    until: Option<BootNs>,
}

/// What was told of each reader, to know what is left.
#[derive(Debug, Default)]
pub struct ReadRests {
    readers: HashMap<Tgid, Vec<Told>>,
    pairs: usize,
    /// Processes with a pair whose rest was not looked for yet.
    open: Vec<Tgid>,
}

impl ReadRests {
    /// Takes a record of bytes read. What a rest has told of it already is taken off; `false` when
    /// nothing is left to tell. Other records pass.
    pub fn note(&mut self, event: &mut Event) -> bool {
        let Body::FileRead(read) = &mut event.body else { return true };
        let Some(reader) = event.actor.as_ref().map(|actor| actor.process.tgid) else {
            return true;
        };
        let key = key(reader, read);
        let known = self.readers.get_mut(&reader);
        let known = known.and_then(|all| all.iter_mut().find(|told| told.key == key));
        let Some(told) = known else {
            self.remember(reader, key, event);
            return true;
        };
        if told.until.is_some_and(|until| event.time <= until) {
            return false;
        }
        // A sum that is smaller than what was told began anew.
        if told.until.take().is_some() && read.bytes_total >= told.total {
            read.bytes = read.bytes_total - told.total;
        }
        told.total = read.bytes_total;
        if !told.is_open {
            told.is_open = true;
            self.open.push(reader);
        }
        told.event = event.clone();
        true
    }

    fn remember(&mut self, reader: Tgid, key: ReaderKey, event: &Event) {
        if self.pairs >= PAIRS_MAX {
            self.forget_settled();
        }
        let Body::FileRead(read) = &event.body else { return };
        if self.pairs >= PAIRS_MAX {
            return;
        }
        self.pairs += 1;
        let total = read.bytes_total;
        let told = Told { key, event: event.clone(), total, is_open: true, until: None };
        self.readers.entry(reader).or_default().push(told);
        self.open.push(reader);
    }

    /// Forgets the pairs of which the kernel side knows as much as this one.
    fn forget_settled(&mut self) {
        for all in self.readers.values_mut() {
            let before = all.len();
            all.retain(|told| told.is_open || told.until.is_some());
            self.pairs -= before - all.len();
        }
        self.readers.retain(|_, all| !all.is_empty());
    }

    /// The rests behind records that are older than a step: whatever came later would have had a
    /// record of its own. `sum` looks into the map of sums.
    pub fn due(
        &mut self,
        now: BootNs,
        sum: impl Fn(&ReaderKey) -> Option<ReaderSum>,
    ) -> Vec<Event> {
        let mut rests = Vec::new();
        for reader in std::mem::take(&mut self.open) {
            let Some(all) = self.readers.get_mut(&reader) else { continue };
            let mut is_open = false;
            for told in all.iter_mut().filter(|told| told.is_open) {
                if now.0.saturating_sub(told.event.time.0) < READ_STEP_NS {
                    is_open = true;
                    continue;
                }
                told.is_open = false;
                rests.extend(told.rest(now, &sum));
            }
            if is_open {
                self.open.push(reader);
            }
        }
        rests
    }

    /// The rests of a process that has ended, which is then forgotten.
    pub fn ended(
        &mut self,
        reader: Tgid,
        time: BootNs,
        mut sum: impl FnMut(&ReaderKey) -> Option<ReaderSum>,
    ) -> Vec<Event> {
        let Some(mut all) = self.readers.remove(&reader) else { return Vec::new() };
        self.pairs -= all.len();
        all.iter_mut().filter_map(|told| told.rest(time, &mut sum)).collect()
    }
}

impl Told {
    fn rest(
        &mut self,
        time: BootNs,
        mut sum: impl FnMut(&ReaderKey) -> Option<ReaderSum>,
    ) -> Option<Event> {
        let bytes_total = sum(&self.key)?.bytes;
        let bytes = bytes_total.checked_sub(self.total).filter(|bytes| *bytes > 0)?;
        (self.total, self.until) = (bytes_total, Some(time));
        let mut event = self.event.clone();
        event.time = time;
        if let Body::FileRead(read) = &mut event.body {
            (read.bytes, read.bytes_total) = (bytes, bytes_total);
        }
        Some(event)
    }
}

/// What the kernel side keeps the sum by.
const fn key(reader: Tgid, read: &FileRead) -> ReaderKey {
    let file = InodeKey { inode: read.id.inode, device: read.id.device, generation: 0 };
    ReaderKey { file, tgid: reader.0, reserved: if read.is_mapped { READ_MAPPED } else { 0 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Actor, FileId, ProcessKey};

    const MS: u64 = 1_000_000;

    fn record(ms: u64, bytes: u64, bytes_total: u64) -> Event {
        let process = ProcessKey { tgid: Tgid(7), ..ProcessKey::default() };
        let id = FileId { inode: 3, device: 9, generation: 5 };
        Event {
            time: BootNs(ms * MS),
            actor: Some(Actor { process, ..Actor::default() }),
            body: Body::FileRead(FileRead {
                id,
                bytes,
                bytes_total,
                is_mapped: false,
                size_bytes: 1 << 20,
            }),
        }
    }

    fn read(event: &Event) -> (u64, u64) {
        match &event.body {
            Body::FileRead(read) => (read.bytes, read.bytes_total),
            other => panic!("{other:?}"),
        }
    }

    fn sum(bytes: u64) -> impl Fn(&ReaderKey) -> Option<ReaderSum> {
        move |key| {
            assert_eq!((key.file.inode, key.file.device, key.file.generation), (3, 9, 0));
            Some(ReaderSum { bytes, ..ReaderSum::default() })
        }
    }

    #[test]
    fn rest_is_told_once_the_step_has_passed_and_only_once() {
        let mut rests = ReadRests::default();
        assert!(rests.note(&mut record(0, 4096, 4096)));
        assert_eq!(rests.due(BootNs(9 * MS), sum(9000)), [], "it may have a record of its own");
        let told = rests.due(BootNs(11 * MS), sum(9000));
        assert_eq!(told.iter().map(read).collect::<Vec<_>>(), [(4904, 9000)]);
        assert_eq!(rests.due(BootNs(30 * MS), sum(9000)), []);
    }

    #[test]
    fn what_a_rest_told_is_not_told_again() {
        let mut rests = ReadRests::default();
        rests.note(&mut record(0, 4096, 4096));
        rests.due(BootNs(11 * MS), sum(9000));
        // The kernel side counts from its own last record, of 4096 bytes.
        let mut next = record(40, 6904, 11_000);
        assert!(rests.note(&mut next));
        assert_eq!(read(&next), (2000, 11_000));
        let mut next = record(60, 1000, 12_000);
        assert!(rests.note(&mut next));
        assert_eq!(read(&next), (1000, 12_000));
    }

    #[test]
    fn record_that_waited_while_the_sum_was_looked_at_is_told_already() {
        let mut rests = ReadRests::default();
        rests.note(&mut record(0, 4096, 4096));
        rests.due(BootNs(30 * MS), sum(20_000));
        assert!(!rests.note(&mut record(20, 8192, 12_288)));
        let mut next = record(31, 9000, 21_288);
        assert!(rests.note(&mut next));
        assert_eq!(read(&next), (1288, 21_288));
    }

    #[test]
    fn end_of_a_process_tells_its_rest_at_once_and_forgets_it() {
        let mut rests = ReadRests::default();
        rests.note(&mut record(0, 4096, 4096));
        let told = rests.ended(Tgid(7), BootNs(MS), sum(5000));
        assert_eq!(told.iter().map(read).collect::<Vec<_>>(), [(904, 5000)]);
        assert_eq!(rests.ended(Tgid(7), BootNs(MS), sum(6000)), []);
        assert_eq!((rests.pairs, rests.due(BootNs(99 * MS), sum(6000))), (0, Vec::new()));
    }

    #[test]
    fn sum_that_began_anew_is_told_whole() {
        let mut rests = ReadRests::default();
        rests.note(&mut record(0, 4096, 4096));
        rests.due(BootNs(11 * MS), sum(9000));
        let mut next = record(40, 100, 100);
        assert!(rests.note(&mut next));
        assert_eq!(read(&next), (100, 100));
    }

    #[test]
    fn pairs_have_a_bound_and_settled_ones_make_room() {
        let mut rests = ReadRests::default();
        let by = |tgid: u32| {
            let mut event = record(0, 4096, 4096);
            if let Some(actor) = &mut event.actor {
                actor.process.tgid = Tgid(tgid);
            }
            event
        };
        for tgid in 0..=u32::try_from(PAIRS_MAX).expect("small") {
            assert!(rests.note(&mut by(tgid)));
        }
        assert_eq!(rests.pairs, PAIRS_MAX);
        rests.due(BootNs(20 * MS), sum(4096));
        assert!(rests.note(&mut by(99_999)));
        assert_eq!(rests.pairs, 1);
    }
}
