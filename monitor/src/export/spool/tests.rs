use std::path::Path;

use proptest::prelude::*;

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig { fsync: Fsync::Never, ..SpoolConfig::in_dir(dir) }
}

fn open(dir: &Path) -> Spool {
    Spool::open(config(dir), &["a".into()]).unwrap()
}

fn payload(n: u64) -> Vec<u8> {
    format!("record {n} {}", "x".repeat(usize::try_from(n % 50).unwrap())).into_bytes()
}

fn append(spool: &Spool, range: std::ops::Range<u64>, now: SystemTime) {
    for n in range {
        spool.append(vec![payload(n)], now);
    }
}

fn drain(reader: &mut Reader) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let batch = reader.next(7, Duration::ZERO).unwrap();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.into_iter().map(|(_, payload)| payload));
    }
}

fn payloads(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(payload).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let bases = segment::Segment::list(dir).unwrap();
    bases.into_iter().map(|base| segment::Segment::path(dir, base)).collect()
}

#[test]
fn every_sink_reads_everything_in_order_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path()), &["a".into(), "b".into()]).unwrap();
    let mut a = spool.reader("a").unwrap();
    append(&spool, 0..20, NOW);
    assert_eq!(drain(&mut a), payloads(0..20));
    append(&spool, 20..30, NOW);
    assert_eq!(drain(&mut a), payloads(20..30));
    assert_eq!(drain(&mut spool.reader("b").unwrap()), payloads(0..30));
    assert!(spool.reader("c").is_none());
}

#[test]
fn a_restart_goes_on_where_it_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    append(&spool, 0..10, NOW);
    let mut reader = spool.reader("a").unwrap();
    let batch = reader.next(6, Duration::ZERO).unwrap();
    reader.ack(batch[3].0 + 1);
    drop((reader, spool));
    let spool = open(dir.path());
    append(&spool, 10..12, NOW);
    assert_eq!(drain(&mut spool.reader("a").unwrap()), payloads(4..12));
}

#[test]
fn a_new_sink_starts_at_the_end_and_a_damaged_cursor_at_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    append(&spool, 0..5, NOW);
    spool.reader("a").unwrap().ack(5);
    drop(spool);
    std::fs::write(dir.path().join("a.cursor"), "").unwrap();
    let spool = Spool::open(config(dir.path()), &["a".into(), "new".into()]).unwrap();
    assert_eq!(drain(&mut spool.reader("new").unwrap()), payloads(0..0));
    assert_eq!(drain(&mut spool.reader("a").unwrap()), payloads(0..5));
    assert_eq!(spool.health().damaged, 1);
}

#[test]
fn a_second_daemon_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let second = Spool::open(config(dir.path()), &[]);
    assert!(matches!(second, Err(SpoolError::InUse { .. })));
}

#[test]
fn over_the_size_bound_the_oldest_goes_and_is_counted_for_who_missed_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig { bytes_max: 8 * 1024, ..config(dir.path()) };
    let spool = Spool::open(config, &["fast".into(), "dead".into()]).unwrap();
    let (mut fast, mut dead) = (spool.reader("fast").unwrap(), spool.reader("dead").unwrap());
    let mut read = 0;
    for n in 0..1000 {
        append(&spool, n..n + 1, NOW);
        for (seq, _) in fast.next(100, Duration::ZERO).unwrap() {
            fast.ack(seq + 1);
            read += 1;
        }
    }
    assert!(spool.health().bytes <= 8 * 1024 + 1024, "{:?}", spool.health());
    assert_eq!((read, fast.backlog()), (1000, (0, 0)));
    let left = drain(&mut dead);
    let (waiting, lost) = dead.backlog();
    assert_eq!(waiting, left.len() as u64);
    assert_eq!(lost + waiting, 1000, "every record is accounted for");
    assert_eq!(left, payloads(1000 - waiting..1000), "the newest are kept");
}

#[test]
fn over_the_age_bound_records_go_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    append(&spool, 0..10, NOW);
    spool.tick(NOW + SPOOL_AGE_MAX);
    assert_eq!(spool.reader("a").unwrap().backlog(), (10, 0));
    spool.tick(NOW + SPOOL_AGE_MAX + Duration::from_secs(1));
    assert_eq!(spool.reader("a").unwrap().backlog(), (0, 10));
    append(&spool, 10..12, NOW);
    assert_eq!(drain(&mut spool.reader("a").unwrap()), payloads(10..12));
}

#[test]
fn what_every_sink_has_sent_leaves_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig { bytes_max: 8 * 1024, ..config(dir.path()) };
    let spool = Spool::open(config, &["a".into()]).unwrap();
    let mut reader = spool.reader("a").unwrap();
    append(&spool, 0..60, NOW);
    assert!(segments(dir.path()).len() > 2);
    drain(&mut reader);
    reader.ack(60);
    spool.tick(NOW);
    assert_eq!(segments(dir.path()).len(), 1);
    assert_eq!(reader.backlog(), (0, 0));
}

#[test]
fn damage_in_the_middle_costs_that_segment_only_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig { bytes_max: 16 * 1024, ..config(dir.path()) };
    let spool = Spool::open(config, &["a".into()]).unwrap();
    append(&spool, 0..150, NOW);
    let second = &segments(dir.path())[1];
    let mut bytes = std::fs::read(second).unwrap();
    bytes[20] ^= 1;
    std::fs::write(second, bytes).unwrap();
    let mut reader = spool.reader("a").unwrap();
    let read = drain(&mut reader);
    let (_, lost) = reader.backlog();
    assert!(lost > 0);
    assert_eq!(read.len() as u64 + lost, 150);
    assert_eq!(read.last(), Some(&payload(149)));
}

#[test]
fn a_number_that_was_acknowledged_is_never_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    append(&spool, 0..10, NOW);
    let mut reader = spool.reader("a").unwrap();
    drain(&mut reader);
    reader.ack(10);
    drop((reader, spool));
    // What a power loss can leave: the cursor is on disk, the records are not.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&segments(dir.path())[0])
        .unwrap()
        .set_len(30)
        .unwrap();
    let spool = open(dir.path());
    append(&spool, 10..13, NOW);
    assert_eq!(drain(&mut spool.reader("a").unwrap()), payloads(10..13));
}

#[test]
fn while_the_disk_takes_nothing_memory_serves_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    // A directory in the place of the next segment: no user may write it, root included.
    let blocker = segment::Segment::path(dir.path(), 0);
    std::fs::create_dir(&blocker).unwrap();
    append(&spool, 0..10, NOW);
    let mut reader = spool.reader("a").unwrap();
    assert_eq!(drain(&mut reader), payloads(0..10));
    let health = spool.health();
    assert_eq!((health.in_memory, health.write_errors), (10, 10));
    assert!(health.error.is_some());
    reader.ack(4);
    std::fs::remove_dir(&blocker).unwrap();
    spool.tick(NOW);
    let health = spool.health();
    assert_eq!((health.in_memory, health.error), (0, None));
    drop((reader, spool));
    assert_eq!(drain(&mut open(dir.path()).reader("a").unwrap()), payloads(4..10));
}

#[test]
fn memory_is_bounded_and_what_falls_out_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for base in 0..=10 {
        std::fs::create_dir(segment::Segment::path(dir.path(), base)).unwrap();
    }
    let more = MEMORY_RECORDS_MAX as u64 + 10;
    append(&spool, 0..more, NOW);
    let health = spool.health();
    assert_eq!((health.in_memory, health.memory_dropped), (MEMORY_RECORDS_MAX as u64, 10));
    let mut reader = spool.reader("a").unwrap();
    assert_eq!(drain(&mut reader), payloads(10..more));
    assert_eq!(reader.backlog().1, 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_crash_point_loses_at_most_the_torn_record(count in 1u64..30, cut: prop::sample::Index) {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        append(&spool, 0..count, NOW);
        drop(spool);
        let path = &segments(dir.path())[0];
        let whole = std::fs::read(path).unwrap();
        let cut = cut.index(whole.len() + 1);
        std::fs::write(path, &whole[..cut]).unwrap();
        let mut complete = 0;
        let mut at = 8;
        while complete < count {
            at += record::HEADER_BYTES + payload(complete).len();
            if at > cut {
                break;
            }
            complete += 1;
        }
        let spool = open(dir.path());
        prop_assert!(spool.health().torn <= 1 && spool.health().damaged == 0);
        // Shorter than most of what was torn: nothing of that may be left behind it.
        spool.append(vec![b"s".to_vec()], NOW);
        drop(spool);
        let spool = open(dir.path());
        let mut expected = payloads(0..complete);
        expected.push(b"s".to_vec());
        prop_assert_eq!(drain(&mut spool.reader("a").unwrap()), expected);
        prop_assert!(spool.health().torn == 0 && spool.health().damaged == 0);
    }

    #[test]
    fn no_bytes_in_the_last_segment_stop_the_start(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), with_magic: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let mut content = if with_magic { b"GWSPOOL1".to_vec() } else { Vec::new() };
        content.extend(bytes);
        std::fs::write(segment::Segment::path(dir.path(), 0), content).unwrap();
        let spool = open(dir.path());
        append(&spool, 0..3, NOW);
        let read = drain(&mut spool.reader("a").unwrap());
        prop_assert_eq!(&read[read.len() - 3..], &payloads(0..3)[..]);
    }

    #[test]
    fn the_cursor_never_goes_backwards(acks in proptest::collection::vec(0u64..50, 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let mut highest = 0;
        for ack in acks {
            let spool = open(dir.path());
            append(&spool, 0..2, NOW);
            let mut reader = spool.reader("a").unwrap();
            prop_assert!(reader.acked() >= highest);
            reader.ack(ack);
            highest = highest.max(ack);
            prop_assert_eq!(reader.acked(), highest);
        }
    }
}
