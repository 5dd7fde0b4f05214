//! What is fuzzed: one function a parser. Each takes any bytes, must come back soon, and checks the
//! laws that its parser promises beside not panicking.
//!
//! The same functions run on the stable toolchain over the stored inputs and mutations of them
//! (`monitor/tests/corpus.rs`).

use std::time::{Duration, SystemTime};

use monitor::config::{self, KernelConfig, WatchConfig};
use monitor::decode::{self, ARGS_MAX, DecodeStats};
use monitor::enrich::{EnrichConfig, Enricher, NoProfiles, NoSource};
use monitor::export::spool::{Fsync, RECORD_BYTES_MAX, Spool, SpoolConfig};
use monitor::kernel::btf::Btf;
use monitor::model::{Body, CATALOGUE, Clock, Event, Facts as _, FieldId, Tgid};
use monitor::rule::{RuleSet, Source};
use monitor_common::{
    KIND_DNS, KIND_PAYLOAD, LONG_PAYLOAD_BYTES_MAX, PAYLOAD_INWARD, PayloadRecord,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Longest rule file or configuration that is tried: longer ones only take longer.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// Every target under the name of its folder of stored inputs.
pub const TARGETS: [(&str, Target); 7] = [
    ("decode", decode),
    ("rule_loader", rule_loader),
    ("config", config),
    ("dns", dns),
    ("payload", payload),
    ("spool", spool),
    ("btf", btf),
];

/// A frame from the ring.
pub fn decode(bytes: &[u8]) {
    let result = decode::decode(bytes);
    let mut stats = DecodeStats::default();
    stats.count(&result);
    assert_eq!(stats.received, stats.decoded + stats.malformed + stats.unknown);
    match result {
        Ok(event) => {
            if let Body::Exec(exec) = &event.body {
                assert!(exec.args.len() <= ARGS_MAX);
            }
            take_in(&event);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A rule file.
pub fn rule_loader(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > TEXT_BYTES_MAX {
        return;
    }
    let source =
        Source { name: "r.yaml".to_owned(), text: text.to_owned(), dir: None, untested: false };
    if let Err(mistakes) = RuleSet::load(&[source]) {
        assert!(!mistakes.0.is_empty(), "refused without a mistake");
        let shown = mistakes.to_string();
        for mistake in &mistakes.0 {
            assert!(mistake.line as usize <= text.lines().count() + 1, "{}", mistake.line);
        }
        assert!(!shown.contains('\u{1b}'), "a terminal would obey {shown:?}");
    }
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > TEXT_BYTES_MAX {
        return;
    }
    if let Err(errors) = config::parse(text, "c.yaml") {
        assert!(!errors.to_string().is_empty());
    }
}

/// A message to or from a resolver: as a question, as its answer, and as a stream in pieces.
pub fn dns(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LONG_PAYLOAD_BYTES_MAX)];
    let mut enricher = enricher();
    for is_inward in [false, true] {
        let mut record = record(KIND_DNS, 53, bytes.len());
        record.protocol = 17;
        record.flags = if is_inward { PAYLOAD_INWARD } else { 0 };
        read(&mut enricher, &[record.as_bytes(), bytes].concat());
        // The first byte says how the stream is cut.
        let step = usize::from(bytes.first().copied().unwrap_or(1) % 61) + 1;
        for (at, part) in bytes.chunks(step).enumerate() {
            record.protocol = 6;
            record.sequence = u32::try_from(at * step).expect("bounded above");
            record.payload_len = u32::try_from(part.len()).expect("bounded above");
            // Now and then a segment that was not kept whole.
            record.payload_total = record.payload_len + u32::from(part[0] == 0xff);
            read(&mut enricher, &[record.as_bytes(), part].concat());
        }
    }
}

fn read(enricher: &mut Enricher, frame: &[u8]) {
    let mut event = decode::decode(frame).expect("the record is whole");
    enricher.complete(&mut event);
    let mut events = vec![event];
    events.extend(enricher.take_found());
    for event in &events {
        ask_all(enricher, event);
        if let Body::Dns(dns) = &event.body {
            assert!(dns.name.is_ascii() && !dns.name.contains(char::is_control));
        }
    }
}

/// A port, then the first bytes of a flow to it.
pub fn payload(bytes: &[u8]) {
    let Some((port, bytes)) = bytes.split_first_chunk() else { return };
    packet(KIND_PAYLOAD, u16::from_le_bytes(*port), bytes);
}

/// Bytes of a segment of the spool; the first says whether they are the last segment of two.
pub fn spool(bytes: &[u8]) {
    let Some((&first, segment)) = bytes.split_first() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let name = |base: u64| dir.path().join(format!("{base:020}.seg"));
    std::fs::write(name(1), segment).expect("room for an input");
    if first & 1 == 1 {
        std::fs::write(name(2), segment).expect("room for an input");
    }
    // The cursor is gone: every record that is there is read.
    std::fs::write(dir.path().join("s.cursor"), b"lost").expect("room for a cursor");
    let config = SpoolConfig { fsync: Fsync::Never, ..SpoolConfig::in_dir(dir.path()) };
    let spool = Spool::open(config, &["s".to_owned()]).expect("damage does not stop the start");
    spool.append(vec![b"after".to_vec()], SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 31));
    let mut reader = spool.reader("s").expect("named at the start");
    let mut last = None;
    loop {
        let batch = reader.next(64, Duration::ZERO).expect("damage is not an error");
        let Some((seq, _)) = batch.last() else { break };
        for (seq, record) in &batch {
            assert!(last < Some(*seq), "{last:?} before {seq}");
            assert!((1..=RECORD_BYTES_MAX).contains(&record.len()));
            last = Some(*seq);
        }
        reader.ack(seq + 1);
    }
    assert_eq!(reader.backlog().0, 0, "what was appended after the damage was not read");
}

/// Type information of a kernel.
pub fn btf(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return };
    for (strukt, path) in
        [("task_struct", "tgid"), ("dentry", "d_name.name"), ("a", "b.c"), ("a", "b"), ("", "")]
    {
        let _found_or_told = btf.member(strukt, path);
    }
}

/// A packet as the kernel side records it: at most so many bytes.
fn packet(kind: u16, port: u16, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LONG_PAYLOAD_BYTES_MAX)];
    let record = record(kind, port, bytes.len());
    if let Ok(event) = decode::decode(&[record.as_bytes(), bytes].concat()) {
        take_in(&event);
    }
}

fn record(kind: u16, port: u16, length: usize) -> PayloadRecord {
    let mut record = PayloadRecord::new_zeroed();
    record.header.kind = kind;
    record.header.actor.tgid = 7;
    record.remote.address[10..].copy_from_slice(&[0xff, 0xff, 198, 51, 100, 2]);
    record.remote.port = port;
    record.protocol = 6;
    record.payload_total = u32::try_from(length).expect("bounded by the caller");
    record.payload_len = record.payload_total;
    record
}

/// Takes an event in twice, and asks for everything that a rule may ask for.
fn take_in(event: &Event) {
    let mut enricher = enricher();
    for _ in 0..2 {
        ask_all(&mut enricher, event);
    }
}

fn enricher() -> Enricher {
    let config = EnrichConfig::new(&WatchConfig::default(), &KernelConfig::default(), Tgid(0));
    let profiles = std::sync::Arc::new(NoProfiles);
    Enricher::new(&config, profiles, Clock::default(), Box::new(NoSource))
}

fn ask_all(enricher: &mut Enricher, event: &Event) {
    let seen = enricher.observe(event);
    let facts = enricher.facts(event, &seen, &monitor::enrich::NoGpu);
    for row in CATALOGUE {
        let id = FieldId::from_name(row.name).expect("a name of the catalogue");
        let _value = facts.field(id);
    }
}
