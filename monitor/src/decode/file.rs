//! Records about files.

use monitor_common::{
    CHANGE_COPY, CHANGE_LINK, CHANGE_MAP_EXEC, CHANGE_RENAME, CHANGE_TRUNCATE, CHANGE_UNLINK,
    CHANGE_WRITE, FileChangeRecord, FileOpenRecord, FileReadRecord, KIND_FILE_CHANGE,
    KIND_FILE_OPEN, KIND_FILE_READ, OPEN_SEGMENT, PATH_TRUNCATED, READ_MAPPED,
};

use super::{DecodeError, file_id, fixed, take, text};
use crate::model::{Body, FileChange, FileOp, FileOpen, FileRead, FileType};

pub(super) fn open(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, mut rest) = fixed::<FileOpenRecord>(frame, KIND_FILE_OPEN)?;
    let path = take(&mut rest, record.path_len, KIND_FILE_OPEN)?;
    Ok(Body::FileOpen(FileOpen {
        id: file_id(&record.file),
        path: text(path),
        path_truncated: record.flags & PATH_TRUNCATED != 0,
        file_type: if record.reason & OPEN_SEGMENT == 0 {
            FileType::from_mode(record.mode)
        } else {
            FileType::Segment
        },
        rdev: record.rdev,
        size_bytes: record.size,
        open_flags: record.open_flags,
        fs_magic: record.fs_magic,
    }))
}

pub(super) fn read(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, _) = fixed::<FileReadRecord>(frame, KIND_FILE_READ)?;
    Ok(Body::FileRead(FileRead {
        id: file_id(&record.file),
        bytes: record.bytes,
        bytes_total: record.bytes_total,
        is_mapped: record.flags & READ_MAPPED != 0,
        size_bytes: record.size,
    }))
}

pub(super) fn change(frame: &[u8]) -> Result<Body, DecodeError> {
    let (record, mut rest) = fixed::<FileChangeRecord>(frame, KIND_FILE_CHANGE)?;
    let path = take(&mut rest, record.path_len, KIND_FILE_CHANGE)?;
    let new_path = take(&mut rest, record.new_path_len, KIND_FILE_CHANGE)?;
    let op = match record.op {
        CHANGE_RENAME => FileOp::Rename,
        CHANGE_LINK => FileOp::Link,
        CHANGE_UNLINK => FileOp::Unlink,
        CHANGE_TRUNCATE => FileOp::Truncate,
        CHANGE_COPY => FileOp::Copy,
        CHANGE_WRITE => FileOp::Write,
        CHANGE_MAP_EXEC => FileOp::MapExec,
        other => {
            return Err(DecodeError::BadField {
                kind: KIND_FILE_CHANGE,
                field: "op",
                value: u64::from(other),
            });
        }
    };
    Ok(Body::FileChange(FileChange {
        op,
        id: file_id(&record.file),
        path: text(path),
        new_path: text(new_path),
        other: file_id(&record.other),
        size_bytes: record.size,
        bytes: record.bytes,
        fs_magic: record.fs_magic,
    }))
}

#[cfg(test)]
mod tests {
    use monitor_common::FileIdRecord;
    use proptest::prelude::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;
    use crate::decode::decode;

    fn changed(op: u16, path: &[u8], new_path: &[u8]) -> Vec<u8> {
        let mut record = FileChangeRecord::new_zeroed();
        record.header.kind = KIND_FILE_CHANGE;
        record.file = FileIdRecord { inode: 7, device: 8 << 20 | 1, generation: 3 };
        record.other.inode = 9;
        (record.op, record.size, record.bytes, record.fs_magic) = (op, 40, 30, 0xef53);
        record.path_len = u32::try_from(path.len()).expect("short");
        record.new_path_len = u32::try_from(new_path.len()).expect("short");
        [record.as_bytes(), path, new_path].concat()
    }

    #[test]
    fn a_read_is_told_with_its_bytes_and_whether_they_were_mapped() {
        let mut record = FileReadRecord::new_zeroed();
        record.header.kind = KIND_FILE_READ;
        record.file.inode = 7;
        (record.bytes, record.bytes_total, record.size) = (10, 30, 40);
        record.flags = READ_MAPPED;
        let event = decode(record.as_bytes()).expect("decodes");
        let Body::FileRead(read) = event.body else { panic!("{event:?}") };
        assert_eq!((read.id.inode, read.bytes, read.bytes_total), (7, 10, 30));
        assert!(read.is_mapped && read.size_bytes == 40);
    }

    #[test]
    fn an_operation_that_is_not_known_is_refused_by_name() {
        let error = decode(&changed(99, b"/a", b"/b")).expect_err("no such operation");
        assert_eq!(error, DecodeError::BadField { kind: KIND_FILE_CHANGE, field: "op", value: 99 });
    }

    proptest! {
        #[test]
        fn a_change_comes_back_as_it_was_told_and_a_cut_one_is_refused(
            at in 0..FileOp::ALL.len(), path in "/[a-z/]{0,30}", new_path in "(/[a-z]{1,20})?",
        ) {
            let op = u16::try_from(at + 1).expect("seven");
            let frame = changed(op, path.as_bytes(), new_path.as_bytes());
            let event = decode(&frame).expect("decodes");
            let Body::FileChange(change) = event.body else { panic!("{event:?}") };
            prop_assert_eq!(change.op, FileOp::ALL[at]);
            prop_assert_eq!((&change.path, &change.new_path), (&path, &new_path));
            prop_assert_eq!((change.id.inode, change.other.inode), (7, 9));
            prop_assert_eq!((change.size_bytes, change.bytes), (40, 30));
            let cut = decode(&frame[..frame.len() - 1]);
            prop_assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{:?}", cut);
        }
    }
}
