use monitor_common::{FileOpenRecord, KIND_COUNT, OPEN_SEGMENT, PATH_BYTES_MAX, RECORD_BYTES_MAX};
use proptest::prelude::*;
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::*;
use crate::model::FileType;

fn exec_frame(exe: &[u8], args: &[u8], cwd: &[u8]) -> Vec<u8> {
    let mut record = ExecRecord::new_zeroed();
    record.header.kind = KIND_EXEC;
    record.header.actor.tgid = 42;
    record.header.actor.comm[..4].copy_from_slice(b"curl");
    record.exe_len = u32::try_from(exe.len()).expect("short");
    record.args_len = u32::try_from(args.len()).expect("short");
    record.args_total = record.args_len;
    record.cwd_len = u32::try_from(cwd.len()).expect("short");
    [record.as_bytes(), exe, args, cwd].concat()
}

#[test]
fn exec_is_read_back_as_it_was_written() {
    let event = decode(&exec_frame(b"/usr/bin/curl", b"curl\0-T\0x y\0", b"/root")).expect("whole");
    assert_eq!(event.actor.expect("an actor").comm, "curl");
    let Body::Exec(exec) = event.body else { panic!("not an exec") };
    assert_eq!(exec.exe, "/usr/bin/curl");
    assert_eq!(exec.args, ["curl", "-T", "x y"]);
    assert_eq!(exec.cwd, "/root");
    assert!(!exec.args_truncated);
}

#[test]
fn lengths_that_lie_are_refused() {
    let frame = exec_frame(b"/bin/true", b"true\0", b"/");
    for len in 0..frame.len() {
        assert!(
            matches!(decode(&frame[..len]), Err(DecodeError::Truncated { .. })),
            "cut at {len}"
        );
    }
    let mut record = FileOpenRecord::new_zeroed();
    record.header.kind = KIND_FILE_OPEN;
    record.path_len = u32::MAX;
    assert!(matches!(decode(record.as_bytes()), Err(DecodeError::Truncated { .. })));
}

#[test]
fn kind_of_a_newer_kernel_side_is_counted_as_unknown() {
    let mut header = RecordHeader::new_zeroed();
    header.kind = u16::try_from(KIND_COUNT).expect("small") + 7;
    let result = decode(header.as_bytes());
    assert!(matches!(result, Err(DecodeError::UnknownKind(_))));
    let mut stats = DecodeStats::default();
    stats.count(&result);
    stats.count(&decode(&[]));
    assert_eq!(stats, DecodeStats { received: 2, unknown: 1, malformed: 1, decoded: 0 });
}

#[test]
fn mapped_ipv4_is_shown_as_ipv4_and_an_unset_peer_as_none() {
    let mut record = FlowRecord::new_zeroed();
    record.header.kind = KIND_FLOW;
    record.remote.address[10..].copy_from_slice(&[0xff, 0xff, 198, 51, 100, 2]);
    record.remote.port = 443;
    record.bytes_out = 30;
    record.bytes_out_before = 10;
    let Body::Flow(flow) = decode(record.as_bytes()).expect("whole").body else { panic!() };
    assert_eq!(flow.remote, Some("198.51.100.2:443".parse().expect("an address")));
    assert_eq!((flow.bytes_out_total, flow.bytes_out), (30, 20));
    record.remote = Endpoint::new_zeroed();
    let Body::Flow(flow) = decode(record.as_bytes()).expect("whole").body else { panic!() };
    assert_eq!(flow.remote, None);
    record.phase = 9;
    assert!(matches!(decode(record.as_bytes()), Err(DecodeError::BadField { .. })));
}

#[test]
fn bytes_of_a_resolver_keep_their_side_their_place_and_their_true_length() {
    let mut record = PayloadRecord::new_zeroed();
    record.header.kind = KIND_DNS;
    (record.payload_len, record.payload_total) = (3, 700);
    (record.protocol, record.sequence) = (6, 9);
    record.flags = PAYLOAD_INWARD;
    record.remote.address[10..].copy_from_slice(&[0xff, 0xff, 198, 51, 100, 2]);
    record.remote.port = 53;
    let frame = [record.as_bytes(), b"abcd"].concat();
    let Body::Wire(wire) = decode(&frame).expect("whole").body else { panic!("not wire") };
    assert!(wire.is_stream && wire.is_inward);
    assert_eq!(wire.server.to_string(), "198.51.100.2:53");
    assert_eq!((&wire.payload.bytes[..], wire.payload.total), (&b"abc"[..], 700));
    assert_eq!(wire.payload.sequence, 9);
}

proptest! {
    #[test]
    fn any_bytes_yield_an_event_or_a_refusal(
        kind in 0u16..48,
        mut bytes in prop::collection::vec(any::<u8>(), 0..RECORD_BYTES_MAX + 64),
    ) {
        if bytes.len() >= 2 {
            bytes[..2].copy_from_slice(&kind.to_le_bytes());
        }
        let mut stats = DecodeStats::default();
        stats.count(&decode(&bytes));
        prop_assert_eq!(stats.received, stats.decoded + stats.malformed + stats.unknown);
    }

    #[test]
    fn path_is_kept_whole(path in "/[a-z/]{0,200}") {
        prop_assume!(path.len() <= PATH_BYTES_MAX);
        let mut record = FileOpenRecord::new_zeroed();
        record.header.kind = KIND_FILE_OPEN;
        record.path_len = u32::try_from(path.len()).expect("short");
        let frame = [record.as_bytes(), path.as_bytes()].concat();
        let Body::FileOpen(open) = decode(&frame).expect("whole").body else { panic!() };
        prop_assert_eq!(open.path, path);
    }
}

#[test]
fn attached_segment_is_told_from_a_file() {
    let mut record = FileOpenRecord::new_zeroed();
    record.header.kind = KIND_FILE_OPEN;
    record.mode = 0o100_600;
    record.open_flags = 2;
    let file_type = |record: &FileOpenRecord| match decode(record.as_bytes()).expect("whole").body {
        Body::FileOpen(open) => (open.file_type, open.writes()),
        other => panic!("{other:?}"),
    };
    assert_eq!(file_type(&record), (FileType::Regular, true));
    record.reason = OPEN_SEGMENT;
    assert_eq!(file_type(&record), (FileType::Segment, true));
    record.open_flags = 0;
    assert_eq!(file_type(&record), (FileType::Segment, false));
}
