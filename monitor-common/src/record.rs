//! Records: fixed-layout bytes as the kernel writes them. Padding is explicit and sizes are
//! asserted, so that a careless field fails the build. All integers are in host byte order, but
//! addresses and the ports of [`Endpoint`], which are as on the wire.

use crate::act::{
    KIND_ASYNC_IO, KIND_CGROUP_MOVE, KIND_LINK, KIND_MEMORY_ACCESS, KIND_NAMESPACE, KIND_STDIO,
    KIND_TAMPER, longest as longest_act,
};
use crate::limits::{
    ARGS_BYTES_MAX, COMM_BYTES, CWD_BYTES_MAX, LONG_PAYLOAD_BYTES_MAX, PATH_BYTES_MAX,
    UNIX_PATH_BYTES,
};

macro_rules! records {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident = $size:literal {
            $($(#[$fdoc:meta])* pub $field:ident: $type:ty,)*
        }
    )+) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            #[cfg_attr(feature = "user", derive(
                zerocopy::FromBytes, zerocopy::IntoBytes,
                zerocopy::KnownLayout, zerocopy::Immutable,
            ))]
            pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }
            const _: () = assert!(size_of::<$name>() == $size);
        )+
    };
}
pub(crate) use records;

/// A task that existed before the programs were attached (task iterator).
pub const KIND_TASK_SEEN: u16 = 1;
/// A new thread or process.
pub const KIND_TASK_NEW: u16 = 2;
/// A program was executed.
pub const KIND_EXEC: u16 = 3;
/// The last thread of a process ended.
pub const KIND_EXIT: u16 = 4;
/// A file was opened.
pub const KIND_FILE_OPEN: u16 = 5;
/// A flow started, moved, or ended.
pub const KIND_FLOW: u16 = 6;
/// A socket of a rare family or type was created.
pub const KIND_SOCKET_NEW: u16 = 7;
/// First bytes that a flow sent.
pub const KIND_PAYLOAD: u16 = 8;
/// Bytes to or from a resolver's port.
pub const KIND_DNS: u16 = 9;
/// Bytes of a labelled file were read or mapped.
pub const KIND_FILE_READ: u16 = 10;
/// A file of interest was renamed, linked, removed, cut, copied, written or mapped to run.
pub const KIND_FILE_CHANGE: u16 = 11;
/// One more than the highest kind; 20 to 39 are in `act.rs`. Numbers between may be unused:
/// [`kind_name`] knows which are.
pub const KIND_COUNT: usize = 40;

/// The name of a kind, as the catalog, metrics and alerts print it; `None` for an unknown kind.
pub const fn kind_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        KIND_TASK_SEEN => "task_seen",
        KIND_TASK_NEW => "task_new",
        KIND_EXEC => "exec",
        KIND_EXIT => "exit",
        KIND_FILE_OPEN => "file_open",
        KIND_FLOW => "flow",
        KIND_SOCKET_NEW => "socket_new",
        KIND_PAYLOAD => "payload",
        KIND_DNS => "dns",
        KIND_STDIO => "stdio",
        KIND_MEMORY_ACCESS => "memory_access",
        KIND_TAMPER => "tamper",
        KIND_NAMESPACE => "namespace",
        KIND_ASYNC_IO => "async_io",
        KIND_LINK => "link",
        KIND_CGROUP_MOVE => "cgroup_move",
        KIND_FILE_READ => "file_read",
        KIND_FILE_CHANGE => "file_change",
        _ => return None,
    })
}

/// [`ExecRecord::flags`]: the executable lives in memory only.
pub const EXEC_MEMFD: u32 = 1 << 0;
/// [`ExecRecord::flags`]: the executable had no link left.
pub const EXEC_DELETED: u32 = 1 << 1;
/// Any record with a path: the path was longer or deeper than the bound.
pub const PATH_TRUNCATED: u32 = 1 << 2;
/// [`ExecRecord::flags`]: the arguments could not be read.
pub const ARGS_FAULT: u32 = 1 << 3;

/// [`TaskNewRecord::flags`]: the task acts for `io_uring` (`PF_IO_WORKER`).
pub const TASK_IO_WORKER: u32 = 1 << 0;
/// [`TaskNewRecord::flags`]: the task belongs to the kernel (`PF_KTHREAD`).
pub const TASK_KTHREAD: u32 = 1 << 1;

/// [`FlowRecord::phase`]: first seen.
pub const FLOW_START: u16 = 0;
/// [`FlowRecord::phase`]: a threshold of bytes or time was passed.
pub const FLOW_PROGRESS: u16 = 1;
/// [`FlowRecord::phase`]: closed.
pub const FLOW_END: u16 = 2;

/// [`FlowRecord::flags`]: opened by sending and not by connect (TCP Fast Open, RFC 7413).
pub const FLOW_FAST_OPEN: u16 = 1 << 0;

/// [`PayloadRecord::flags`]: the bytes arrived, they were not sent.
pub const PAYLOAD_INWARD: u16 = 1 << 0;

/// [`FlowRecord::direction`]: not known, older than the monitor.
pub const DIRECTION_UNKNOWN: u16 = 0;
/// [`FlowRecord::direction`]: opened by this side.
pub const DIRECTION_EGRESS: u16 = 1;
/// [`FlowRecord::direction`]: accepted by this side.
pub const DIRECTION_INGRESS: u16 = 2;

/// [`FileOpenRecord::reason`]: the inode is labelled.
pub const OPEN_LABELLED: u16 = 1 << 0;
/// [`FileOpenRecord::reason`]: the parent directory is watched.
pub const OPEN_WATCHED_DIR: u16 = 1 << 1;
/// [`FileOpenRecord::reason`]: the name has a class.
pub const OPEN_NAME_CLASS: u16 = 1 << 2;
/// [`FileOpenRecord::reason`]: the node is a watched device.
pub const OPEN_DEVICE: u16 = 1 << 3;
/// [`FileOpenRecord::reason`]: the file is at least [`crate::Settings::big_file_bytes`] long.
pub const OPEN_BIG_FILE: u16 = 1 << 4;

/// [`FileOpenRecord::reason`]: its name, or that of its directory, is watched.
pub const OPEN_WATCHED_NAME: u16 = 1 << 5;
/// [`FileOpenRecord::reason`]: a marked cgroup opened it for writing.
pub const OPEN_MARKED: u16 = 1 << 6;
/// [`FileOpenRecord::reason`]: it is a FIFO, or a pipe that was opened anew by way of `/proc`.
pub const OPEN_FIFO: u16 = 1 << 7;
/// [`FileOpenRecord::reason`]: it is a segment of System V shared memory that was attached.
pub const OPEN_SEGMENT: u16 = 1 << 8;

/// [`FileReadRecord::flags`]: the bytes are the length of a mapping.
pub const READ_MAPPED: u32 = 1 << 0;

/// [`FileChangeRecord::op`]: it got another name.
pub const CHANGE_RENAME: u16 = 1;
/// [`FileChangeRecord::op`]: it got one more name.
pub const CHANGE_LINK: u16 = 2;
/// [`FileChangeRecord::op`]: it lost a name.
pub const CHANGE_UNLINK: u16 = 3;
/// [`FileChangeRecord::op`]: it was cut.
pub const CHANGE_TRUNCATE: u16 = 4;
/// [`FileChangeRecord::op`]: bytes of it were copied to another file.
pub const CHANGE_COPY: u16 = 5;
/// [`FileChangeRecord::op`]: it was written.
pub const CHANGE_WRITE: u16 = 6;
/// [`FileChangeRecord::op`]: it was mapped executable.
pub const CHANGE_MAP_EXEC: u16 = 7;

records! {
    /// Who: the thread in whose context the record was written.
    pub struct ActorRecord = 48 {
        /// Thread-group id in the initial pid namespace.
        pub tgid: u32,
        /// Thread id in the initial pid namespace.
        pub tid: u32,
        /// `start_boottime` of the group leader, in nanoseconds.
        pub start_boot_ns: u64,
        /// Id of the cgroup v2 directory.
        pub cgroup_id: u64,
        /// Effective user id.
        pub uid: u32,
        /// Effective group id.
        pub gid: u32,
        /// Thread name, padded with zero bytes.
        pub comm: [u8; COMM_BYTES],
    }

    /// The start of every record.
    pub struct RecordHeader = 64 {
        /// One of the `KIND_*` numbers.
        pub kind: u16,
        /// Not used; zero.
        pub reserved: u16,
        /// Bytes of the whole record, this header and what follows included.
        pub len: u32,
        /// Nanoseconds since boot (`bpf_ktime_get_boot_ns`).
        pub boot_ns: u64,
        /// Who.
        pub actor: ActorRecord,
    }

    /// Identity of a file.
    pub struct FileIdRecord = 16 {
        /// Inode number.
        pub inode: u64,
        /// `s_dev`: major << 20 | minor.
        pub device: u32,
        /// Inode generation.
        pub generation: u32,
    }

    /// A task that was there first. Followed by nothing.
    pub struct TaskSeenRecord = 104 {
        /// Who: the task itself.
        pub header: RecordHeader,
        /// Process id of its parent.
        pub parent_tgid: u32,
        /// Not used; zero.
        pub reserved: u32,
        /// `start_boottime` of the parent's leader.
        pub parent_start_boot_ns: u64,
        /// Identity of its executable; zero without one.
        pub exe: FileIdRecord,
        /// Inode of its mount namespace.
        pub mount_ns: u32,
        /// `TASK_*` bits.
        pub flags: u32,
    }

    /// A new thread or process. The actor is the creator.
    pub struct TaskNewRecord = 104 {
        /// Who: the creator.
        pub header: RecordHeader,
        /// Process id of the new task.
        pub child_tgid: u32,
        /// Thread id of the new task.
        pub child_tid: u32,
        /// `start_boottime` of the new task's group leader.
        pub child_start_boot_ns: u64,
        /// Flags of clone(2).
        pub clone_flags: u64,
        /// `TASK_*` bits.
        pub flags: u32,
        /// Not used; zero.
        pub reserved: u32,
        /// Not used; zero.
        pub reserved2: u64,
    }

    /// A program was executed. Followed by exe path, arguments, working directory.
    pub struct ExecRecord = 152 {
        /// Who: the process, under its new name.
        pub header: RecordHeader,
        /// Process id of the parent.
        pub parent_tgid: u32,
        /// `EXEC_*` and `PATH_TRUNCATED` bits.
        pub flags: u32,
        /// `start_boottime` of the parent's leader.
        pub parent_start_boot_ns: u64,
        /// Identity of the executable.
        pub exe: FileIdRecord,
        /// True length of the argument area.
        pub args_total: u32,
        /// Bytes of the exe path that follow.
        pub exe_len: u32,
        /// Bytes of arguments that follow, each ended by a zero byte.
        pub args_len: u32,
        /// Bytes of the working directory that follow.
        pub cwd_len: u32,
        /// Links of the executable's inode.
        pub nlink: u32,
        /// Process that opened the executable for writing last; zero where none was seen.
        pub writer_tgid: u32,
        /// Id of that process's cgroup v2 directory then.
        pub writer_cgroup_id: u64,
        /// When that was, in nanoseconds since boot.
        pub writer_boot_ns: u64,
        /// `i_ctime` of the executable in seconds of wall-clock time: when it was changed last.
        pub exe_changed_s: i64,
        /// Not used; zero.
        pub reserved: u64,
    }

    /// The last thread of a process ended.
    pub struct ExitRecord = 72 {
        /// Who: the process.
        pub header: RecordHeader,
        /// Status as wait(2) encodes it.
        pub code: i32,
        /// Not used; zero.
        pub reserved: u32,
    }

    /// A file was opened. Followed by its path.
    pub struct FileOpenRecord = 128 {
        /// Who opened it.
        pub header: RecordHeader,
        /// Which file.
        pub file: FileIdRecord,
        /// Size in bytes.
        pub size: u64,
        /// `s_magic`.
        pub fs_magic: u64,
        /// `i_mode`.
        pub mode: u32,
        /// `f_flags`.
        pub open_flags: u32,
        /// `i_rdev`.
        pub rdev: u32,
        /// Bytes of the path that follow.
        pub path_len: u32,
        /// `PATH_TRUNCATED`.
        pub flags: u32,
        /// `OPEN_*` bits: why it was sent.
        pub reason: u16,
        /// Class of the name, from the name-class map; zero for none.
        pub name_class: u16,
        /// Label of the inode, from the label map; zero for none.
        pub label: u32,
        /// Not used; zero.
        pub reserved: u32,
    }

    /// Bytes of a labelled file were read or mapped. Followed by nothing.
    pub struct FileReadRecord = 120 {
        /// Who read.
        pub header: RecordHeader,
        /// Which file.
        pub file: FileIdRecord,
        /// Bytes since the previous record of this reader and file.
        pub bytes: u64,
        /// Bytes by this reader of this file so far.
        pub bytes_total: u64,
        /// Size of the file when it was counted.
        pub size: u64,
        /// `READ_*` bits.
        pub flags: u32,
        /// Label of the inode, from the label map.
        pub label: u32,
        /// Not used; zero.
        pub reserved: u64,
    }

    /// A file of interest was changed. Followed by its path before and its path after, or the path
    /// of the copy; either may be of length zero, where it was not walked.
    pub struct FileChangeRecord = 144 {
        /// Who changed it.
        pub header: RecordHeader,
        /// Which file; for a copy, the source.
        pub file: FileIdRecord,
        /// The copy, or the file that a rename replaced; zero where there is none.
        pub other: FileIdRecord,
        /// Size after the change.
        pub size: u64,
        /// Bytes written or copied since the previous record.
        pub bytes: u64,
        /// `s_magic`.
        pub fs_magic: u64,
        /// One of the `CHANGE_*` numbers.
        pub op: u16,
        /// Not used; zero.
        pub reserved: u16,
        /// `PATH_TRUNCATED`: of either path.
        pub flags: u32,
        /// `i_mode`.
        pub mode: u32,
        /// Label of the inode, from the label map; zero for none.
        pub label: u32,
        /// Bytes of the path before that follow.
        pub path_len: u32,
        /// Bytes of the path after that follow.
        pub new_path_len: u32,
    }

    /// One end of a flow. Aligned, so that it is copied by words and not by a call.
    #[repr(align(8))]
    pub struct Endpoint = 24 {
        /// IPv6 address, or IPv4-mapped IPv6, in wire order.
        pub address: [u8; 16],
        /// Port in host byte order.
        pub port: u16,
        /// Not used; zero.
        pub reserved: [u8; 6],
    }

    /// A flow started, moved, or ended.
    pub struct FlowRecord = 176 {
        /// Who: the sender; at start the opener; at end whoever closed, or the owner.
        pub header: RecordHeader,
        /// Identity of the flow: the socket and, unconnected, its peer.
        pub flow_id: u64,
        /// Process id of the owner.
        pub owner_tgid: u32,
        /// `FLOW_*`.
        pub phase: u16,
        /// `DIRECTION_*`.
        pub direction: u16,
        /// `start_boottime` of the owner.
        pub owner_start_boot_ns: u64,
        /// Here.
        pub local: Endpoint,
        /// There.
        pub remote: Endpoint,
        /// Payload bytes sent so far.
        pub bytes_out: u64,
        /// Payload bytes sent at the previous record.
        pub bytes_out_before: u64,
        /// Send calls so far.
        pub sends: u64,
        /// When it was first seen.
        pub started_boot_ns: u64,
        /// `AF_*`.
        pub family: u16,
        /// `SOCK_*`.
        pub socket_type: u16,
        /// `IPPROTO_*`.
        pub protocol: u16,
        /// `FLOW_FAST_OPEN`.
        pub flags: u16,
    }

    /// A socket of a rare family or type was created, or a unix socket was connected to a path.
    pub struct SocketNewRecord = 184 {
        /// Who did it.
        pub header: RecordHeader,
        /// `AF_*`.
        pub family: u16,
        /// `SOCK_*`.
        pub socket_type: u16,
        /// Protocol number.
        pub protocol: u16,
        /// Not used; zero.
        pub reserved: u16,
        /// Path that the far end of a unix socket is bound to, as it was bound, padded with zero
        /// bytes; all zero for a new socket.
        pub path: [u8; UNIX_PATH_BYTES],
    }

    /// First bytes of a flow, or a DNS message or a segment of several. Followed by the bytes.
    pub struct PayloadRecord = 152 {
        /// Who; all zero where the packet was handled in nobody's context.
        pub header: RecordHeader,
        /// Identity of the flow; of a DNS datagram, the kernel's name for the socket (its cookie).
        pub flow_id: u64,
        /// Here.
        pub local: Endpoint,
        /// There.
        pub remote: Endpoint,
        /// Process id of the flow's owner; zero where not known.
        pub owner_tgid: u32,
        /// Bytes of the payload before it was cut.
        pub payload_total: u32,
        /// `start_boottime` of the owner.
        pub owner_start_boot_ns: u64,
        /// Bytes that follow.
        pub payload_len: u32,
        /// `IPPROTO_*`.
        pub protocol: u16,
        /// `PAYLOAD_*` bits.
        pub flags: u16,
        /// TCP's number of the first byte; zero for a datagram.
        pub sequence: u32,
        /// Not used; zero.
        pub reserved: u32,
    }
}

/// The longest record. A new kind must be added here, or the build fails.
pub const RECORD_BYTES_MAX: usize = {
    const fn longest(kind: u16) -> usize {
        match kind {
            KIND_TASK_SEEN => size_of::<TaskSeenRecord>(),
            KIND_TASK_NEW => size_of::<TaskNewRecord>(),
            KIND_EXEC => size_of::<ExecRecord>() + PATH_BYTES_MAX + ARGS_BYTES_MAX + CWD_BYTES_MAX,
            KIND_EXIT => size_of::<ExitRecord>(),
            KIND_FILE_OPEN => size_of::<FileOpenRecord>() + PATH_BYTES_MAX,
            KIND_FLOW => size_of::<FlowRecord>(),
            KIND_SOCKET_NEW => size_of::<SocketNewRecord>(),
            KIND_PAYLOAD | KIND_DNS => size_of::<PayloadRecord>() + LONG_PAYLOAD_BYTES_MAX,
            KIND_FILE_READ => size_of::<FileReadRecord>(),
            KIND_FILE_CHANGE => size_of::<FileChangeRecord>() + 2 * PATH_BYTES_MAX,
            20..40 => longest_act(kind),
            _ => 0,
        }
    }
    let mut kind = 0;
    let mut max = 0;
    while kind < KIND_COUNT {
        #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 65536 kinds")]
        let bytes = longest(kind as u16);
        #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 65536 kinds")]
        let is_kind = kind_name(kind as u16).is_some();
        assert!(is_kind == (bytes > 0), "a kind without a length, or a length without a kind");
        if bytes > max {
            max = bytes;
        }
        kind += 1;
    }
    max
};
