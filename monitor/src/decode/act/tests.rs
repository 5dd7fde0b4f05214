use monitor_common::{STDIO_DUP, STREAM_OTHER};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::*;
use crate::decode::decode;

fn stream(kind: u16, family: u16, fd: u32) -> StreamRecord {
    let mut stream = StreamRecord::new_zeroed();
    (stream.kind, stream.family, stream.fd) = (kind, family, fd);
    (stream.channel, stream.inode) = (u64::from(fd) + 100, u64::from(fd) + 200);
    stream
}

fn stdio_record(streams: &[StreamRecord]) -> StdioRecord {
    let mut record = StdioRecord::new_zeroed();
    record.header.kind = KIND_STDIO;
    record.count = u16::try_from(streams.len()).expect("few");
    record.streams[..streams.len()].copy_from_slice(streams);
    record
}

#[test]
fn a_socket_on_a_standard_stream_is_told_with_its_peer() {
    let mut socket = stream(STREAM_SOCKET, 2, 1);
    socket.remote.address[10..].copy_from_slice(&[0xff, 0xff, 198, 51, 100, 2]);
    socket.remote.port = 4444;
    let record = stdio_record(&[stream(STREAM_PIPE, 0, 0), socket, stream(STREAM_OTHER, 0, 2)]);
    let event = decode(record.as_bytes()).expect("whole");
    assert_eq!(event.body.kind(), Some(crate::model::EventKind::Stdio));
    let Body::Stdio(stdio) = event.body else { panic!("not stdio") };
    assert_eq!((stdio.fd, stdio.family), (1, 2));
    assert_eq!(stdio.remote, Some("198.51.100.2:4444".parse().expect("an address")));
    assert!(stdio.is_whole);
    let pipe = Channel { kind: StreamKind::Pipe, id: 100, inode: 200 };
    assert_eq!(stdio.channels[0], Some(pipe));
    assert_eq!(stdio.channels[2], None);
}

#[test]
fn local_channels_alone_are_no_event_for_rules() {
    let mut record = stdio_record(&[stream(STREAM_SOCKET, AF_UNIX, 2)]);
    record.cause = STDIO_DUP;
    let event = decode(record.as_bytes()).expect("whole");
    assert_eq!(event.body.kind(), None);
    let Body::Stdio(stdio) = event.body else { panic!("not stdio") };
    assert_eq!(stdio.channels[2].map(|channel| channel.kind), Some(StreamKind::Unix));
    assert!(!stdio.is_whole);
}

#[test]
fn numbers_without_a_meaning_are_refused() {
    let mut record = stdio_record(&[stream(STREAM_PIPE, 0, 3)]);
    assert_eq!(decode(record.as_bytes()), Err(bad(KIND_STDIO, "fd", 3u32)));
    record.count = 4;
    assert_eq!(decode(record.as_bytes()), Err(bad(KIND_STDIO, "count", 4u16)));
    macro_rules! refused {
        ($($record:ident $kind:ident $field:ident;)+) => {$(
            let mut record = $record::new_zeroed();
            record.header.kind = $kind;
            assert!(decode(record.as_bytes()).is_ok(), "{}", stringify!($kind));
            record.$field = 77;
            let refusal = Err(bad($kind, stringify!($field), 77u16));
            assert_eq!(decode(record.as_bytes()), refusal);
        )+};
    }
    refused! {
        MemoryAccessRecord KIND_MEMORY_ACCESS method;
        TamperRecord KIND_TAMPER op;
        NamespaceRecord KIND_NAMESPACE op;
        AsyncIoRecord KIND_ASYNC_IO op;
        LinkRecord KIND_LINK kind;
    }
}

#[test]
fn texts_of_a_mount_end_where_they_end() {
    let mut record = NamespaceRecord::new_zeroed();
    record.header.kind = KIND_NAMESPACE;
    record.op = NS_MOUNT;
    (record.source_len, record.path_len, record.type_len) = (9, 6, 5);
    record.mount_ns = 4_026_531_841;
    let frame = [record.as_bytes(), b"/dev/sda\0", b"/mnt\0x", b"ext4\0"].concat();
    let Body::Namespace(change) = decode(&frame).expect("whole").body else { panic!() };
    assert_eq!((change.source.as_str(), change.path.as_str()), ("/dev/sda", "/mnt"));
    assert_eq!((change.fs_type.as_str(), change.mount_ns), ("ext4", 4_026_531_841));
    for len in size_of::<NamespaceRecord>()..frame.len() {
        assert!(matches!(decode(&frame[..len]), Err(DecodeError::Truncated { .. })), "{len}");
    }
}

#[test]
fn tampering_keeps_its_target_and_its_object() {
    let mut record = TamperRecord::new_zeroed();
    record.header.kind = KIND_TAMPER;
    (record.op, record.signal, record.flags) = (TAMPER_SIGNAL, 19, TAMPER_SELF);
    record.target_tgid = 7;
    record.object[..4].copy_from_slice(b"lkm\0");
    let Body::Tamper(tamper) = decode(record.as_bytes()).expect("whole").body else { panic!() };
    assert_eq!((tamper.signal, tamper.target.tgid.0), (19, 7));
    assert!(tamper.is_self);
    assert_eq!(tamper.object, "lkm");
}
