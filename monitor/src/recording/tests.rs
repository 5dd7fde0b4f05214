//! What is written is read back; what is damaged is refused by name.

use serde_json::json;

use super::*;
use crate::alert::Host;
use crate::model::FactRow;

fn header() -> Header {
    Header {
        format: FORMAT,
        version: "1.2.3".into(),
        revision: "abc".into(),
        host: Host { name: "node-1".into(), boot_id: "boot".into() },
        wall_at_boot_ns: 1_000,
        sensors: vec![SensorRow {
            name: "exec".into(),
            state: "off".into(),
            reason: "no BTF".into(),
        }],
    }
}

fn row(at: u64) -> FactRow {
    let object = json!({"evt.kind": "flow", "evt.time_ns": at, "net.dst.ip": "198.51.100.2",
        "workload.id": "w", "net.bytes_out": 7, "proc.args": ["a", "b"]});
    FactRow::from_json(object.as_object().expect("an object")).expect("a row")
}

fn rows_of(reader: &mut Reader) -> Vec<FactRow> {
    std::iter::from_fn(|| reader.next_row().expect("reads")).collect()
}

#[test]
fn what_is_written_is_read_back_compressed_or_not() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["a.jsonl", "a.zst"] {
        let path = dir.path().join(name);
        let mut writer = Writer::create(&Target::of(&path), &header()).expect("creates");
        for at in 0..100 {
            writer.row(row(at).to_json()).expect("writes");
        }
        writer.finish(3).expect("ends");
        let mut reader = Reader::open(&path).expect("opens");
        assert_eq!(reader.header, header());
        let rows = rows_of(&mut reader);
        assert_eq!(rows, (0..100).map(row).collect::<Vec<_>>());
        assert_eq!(reader.footer(), Some(Footer { rows: 100, lost: 3 }));
    }
    let plain = std::fs::metadata(dir.path().join("a.jsonl")).expect("is there").len();
    let packed = std::fs::metadata(dir.path().join("a.zst")).expect("is there").len();
    assert!(packed * 5 < plain, "{packed} of {plain}");
}

#[test]
fn plain_recording_is_a_fixture_of_a_rule_test() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.jsonl");
    let mut writer = Writer::create(&Target::of(&path), &header()).expect("creates");
    writer.row(row(7).to_json()).expect("writes");
    writer.finish(0).expect("ends");
    let text = std::fs::read_to_string(&path).expect("reads");
    assert_eq!(text.lines().count(), 3);
    assert_eq!(crate::rule::parse_rows(&text), Ok(vec![row(7)]));
}

#[test]
fn file_that_is_there_is_not_overwritten() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = Writer::create(&Target::of(file.path()), &header()).err().expect("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn recording_whose_writer_was_killed_is_read_up_to_there() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["a.jsonl", "a.zst"] {
        let path = dir.path().join(name);
        let mut writer = Writer::create(&Target::of(&path), &header()).expect("creates");
        for at in 0..1_000 {
            writer.row(row(at).to_json()).expect("writes");
            if at % 100 == 99 {
                writer.flush().expect("flushes");
            }
        }
        let whole = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &whole[..whole.len() - 5]).expect("cuts");
        let mut reader = Reader::open(&path).expect("opens");
        let rows = rows_of(&mut reader);
        assert!(rows.len() > 500, "{name}: {}", rows.len());
        assert_eq!(reader.footer(), None, "a reader can tell that it was cut off");
    }
}

#[test]
fn damaged_recordings_are_refused_by_name() {
    let refused = |text: String| match Reader::new(std::io::Cursor::new(text.into_bytes())) {
        Err(error) => error.to_string(),
        Ok(mut reader) => loop {
            match reader.next_row() {
                Ok(Some(_)) => {}
                Ok(None) => break "read".to_owned(),
                Err(error) => break error.to_string(),
            }
        },
    };
    let first = serde_json::to_string(&header()).expect("JSON");
    assert!(refused(String::new()).contains("its first line is not a header"));
    assert!(refused("{\"a\":1}\n".into()).contains("its first line is not a header"));
    let other = first.replace("recording\":1", "recording\":9");
    assert!(refused(other).contains("form 9, this version of gpuwarden reads form 1"));
    let long = format!("{first}\n{{\"proc.name\":\"{}\"}}\n", "x".repeat(LINE_BYTES_MAX));
    assert!(refused(long).contains("line 2 has more than 1048576 bytes"));
    assert!(refused(format!("{first}\n{{\n")).contains("line 2 is not a JSON object"));
    assert!(refused(format!("{first}\n7\n")).contains("line 2: `evt.kind` is missing"));
    let wrong = format!("{first}\n{{\"evt.kind\":\"flow\",\"net.dts\":1}}\n");
    assert!(refused(wrong).contains("line 2: unknown field `net.dts`"));
    assert_eq!(refused(format!("{first}\n")), "read");
}

#[test]
fn what_does_not_fit_is_counted_in_the_last_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.jsonl");
    let writer = Writer::create(&Target::of(&path), &header()).expect("creates");
    let mut tap = Tap::start(TapSink::File(writer)).expect("starts");
    let offered = 40_000;
    for at in 0..offered {
        tap.offer(&row(at));
    }
    let counts = tap.counts();
    assert_eq!(counts.taken + counts.lost, offered);
    assert_eq!(tap.stop().expect("ends"), counts.taken);
    let mut reader = Reader::open(&path).expect("opens");
    assert_eq!(rows_of(&mut reader).len() as u64, counts.taken);
    let footer = reader.footer().expect("a last line");
    assert_eq!((footer.rows, footer.lost), (counts.taken, counts.lost));
}

#[test]
fn recording_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.zst");
    Writer::create(&Target::of(&path), &header()).expect("creates").finish(0).expect("ends");
    let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "arguments may hold secrets");
}

fn store(dir: &std::path::Path, bytes_max: u64) -> Store {
    let age_max = std::time::Duration::from_hours(1);
    let config = StoreConfig { dir: dir.to_owned(), bytes_max, age_max };
    Store::open(config, header()).expect("opens")
}

fn stored_rows(dir: &std::path::Path) -> usize {
    let segments = segments(dir).expect("lists");
    segments.iter().map(|segment| rows_of(&mut segment.open().expect("opens")).len()).sum()
}

#[test]
fn store_is_read_back_over_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    for _ in 0..3 {
        let mut store = store(dir.path(), 1 << 30);
        for at in 0..10 {
            store.row(row(at).to_json()).expect("writes");
        }
        store.finish(0).expect("ends");
    }
    assert_eq!(segments(dir.path()).expect("lists").len(), 3);
    assert_eq!(stored_rows(dir.path()), 30);
}

#[test]
fn oldest_segments_go_when_the_store_is_full_or_they_are_old() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |bytes_max: u64, first: u64| {
        let mut store = store(dir.path(), bytes_max);
        for at in first..first + 1_000 {
            store.row(row(at).to_json()).expect("writes");
        }
        store.finish(0).expect("ends");
    };
    for first in 0..4 {
        write(1 << 30, first * 1_000);
    }
    let before = segments(dir.path()).expect("lists");
    assert_eq!(before.len(), 4);
    let bytes = before[0].bytes;
    drop(store(dir.path(), 2 * bytes + bytes / 2));
    let after = segments(dir.path()).expect("lists");
    let paths = |segments: &[StoredSegment]| -> Vec<_> {
        segments.iter().map(|segment| segment.path.clone()).collect()
    };
    assert_eq!(paths(&after), paths(&before)[2..], "the newest stay");
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    let file = std::fs::File::options().write(true).open(&after[0].path).expect("opens");
    file.set_modified(old).expect("sets");
    drop(store(dir.path(), 1 << 30));
    assert_eq!(paths(&segments(dir.path()).expect("lists")), paths(&before)[3..]);
}

#[test]
fn segment_ends_at_its_bound() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut store = store(dir.path(), 1 << 40);
    let mut long = row(1).to_json();
    long.insert("proc.cmdline".into(), "x".repeat(1 << 19).into());
    for _ in 0..70 {
        store.row(long.clone()).expect("writes");
    }
    store.finish(0).expect("ends");
    assert_eq!(segments(dir.path()).expect("lists").len(), 2, "35 MiB of rows");
}

#[test]
fn rows_beyond_the_bound_are_counted_in_the_last_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.jsonl");
    let mut writer = Writer::create_within(&Target::of(&path), &header(), 2_000).expect("creates");
    for at in 0..100 {
        writer.row(row(at).to_json()).expect("writes");
    }
    let (rows, left_out) = (writer.rows(), writer.left_out());
    assert!(rows > 0 && rows + left_out == 100, "{rows} and {left_out}");
    writer.finish(1).expect("ends");
    assert!(std::fs::metadata(&path).expect("is there").len() < 2_100);
    let mut reader = Reader::open(&path).expect("opens");
    assert_eq!(rows_of(&mut reader).len() as u64, rows);
    assert_eq!(reader.footer(), Some(Footer { rows, lost: left_out + 1 }));
}
