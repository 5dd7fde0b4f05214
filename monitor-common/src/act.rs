//! Records of acts beyond files and flows: kinds 20 to 39.

use crate::limits::{CGROUP_PATH_BYTES_MAX, NS_TEXT_BYTES_MAX, OBJECT_BYTES_MAX};
use crate::record::{Endpoint, RecordHeader, records};

/// What the standard streams of a process are.
pub const KIND_STDIO: u16 = 20;
/// A process reached into another.
pub const KIND_MEMORY_ACCESS: u16 = 21;
/// The monitor, or the kernel it trusts, was tampered with.
pub const KIND_TAMPER: u16 = 22;
/// A namespace or a mount was changed.
pub const KIND_NAMESPACE: u16 = 23;
/// An unusual way into the kernel was set up.
pub const KIND_ASYNC_IO: u16 = 24;
/// Two processes were joined by a local channel.
pub const KIND_LINK: u16 = 25;
/// A process was moved to another cgroup.
pub const KIND_CGROUP_MOVE: u16 = 26;

/// [`StreamRecord::kind`]: not told of: a file, a terminal of the host, nothing.
pub const STREAM_OTHER: u16 = 0;
/// [`StreamRecord::kind`]: a socket.
pub const STREAM_SOCKET: u16 = 1;
/// [`StreamRecord::kind`]: a pipe or FIFO.
pub const STREAM_PIPE: u16 = 2;
/// [`StreamRecord::kind`]: the near end of a pseudo terminal.
pub const STREAM_PTY: u16 = 3;

/// [`StdioRecord::cause`]: a program was executed.
pub const STDIO_EXEC: u16 = 0;
/// [`StdioRecord::cause`]: a descriptor was duplicated; one stream is told.
pub const STDIO_DUP: u16 = 1;

/// [`MemoryAccessRecord::method`]: ptrace(2), attach or seize.
pub const ACCESS_PTRACE: u16 = 0;
/// [`MemoryAccessRecord::method`]: `process_vm_readv`(2).
pub const ACCESS_VM_READ: u16 = 1;
/// [`MemoryAccessRecord::method`]: `process_vm_writev`(2).
pub const ACCESS_VM_WRITE: u16 = 2;
/// [`MemoryAccessRecord::method`]: `/proc/<pid>/mem` was opened.
pub const ACCESS_PROC_MEM: u16 = 3;
/// [`MemoryAccessRecord::method`]: `pidfd_getfd`(2).
pub const ACCESS_PIDFD_GETFD: u16 = 4;
/// [`MemoryAccessRecord::method`]: the kernel's access check, whatever the call.
pub const ACCESS_CHECK: u16 = 5;

/// [`TamperRecord::op`]: a BPF program was loaded.
pub const TAMPER_BPF_LOAD: u16 = 0;
/// [`TamperRecord::op`]: a BPF link was detached.
pub const TAMPER_BPF_DETACH: u16 = 1;
/// [`TamperRecord::op`]: a BPF map was changed.
pub const TAMPER_BPF_MAP_CHANGE: u16 = 2;
/// [`TamperRecord::op`]: a BPF object was opened by its id.
pub const TAMPER_BPF_OPEN: u16 = 3;
/// [`TamperRecord::op`]: a pinned BPF object was removed.
pub const TAMPER_PIN_REMOVE: u16 = 4;
/// [`TamperRecord::op`]: a kernel module was loaded.
pub const TAMPER_MODULE_LOAD: u16 = 5;
/// [`TamperRecord::op`]: a signal was sent.
pub const TAMPER_SIGNAL: u16 = 6;
/// [`TamperRecord::op`]: a cgroup was frozen or killed.
pub const TAMPER_FREEZE: u16 = 7;
/// [`TamperRecord::op`]: tracing was switched off.
pub const TAMPER_TRACING_OFF: u16 = 8;

/// [`TamperRecord::flags`]: aimed at the monitor itself.
pub const TAMPER_SELF: u32 = 1 << 0;

/// [`NamespaceRecord::op`]: setns(2).
pub const NS_SETNS: u16 = 0;
/// [`NamespaceRecord::op`]: unshare(2).
pub const NS_UNSHARE: u16 = 1;
/// [`NamespaceRecord::op`]: mount(2), `move_mount`(2).
pub const NS_MOUNT: u16 = 2;
/// [`NamespaceRecord::op`]: `pivot_root`(2).
pub const NS_PIVOT_ROOT: u16 = 3;
/// [`NamespaceRecord::op`]: chroot(2).
pub const NS_CHROOT: u16 = 4;
/// [`NamespaceRecord::op`]: `open_by_handle_at`(2).
pub const NS_OPEN_BY_HANDLE: u16 = 5;

/// [`AsyncIoRecord::op`]: an `io_uring` was made.
pub const ASYNC_IO_URING: u16 = 0;
/// [`AsyncIoRecord::op`]: one with a kernel thread that submits.
pub const ASYNC_SQPOLL: u16 = 1;
/// [`AsyncIoRecord::op`]: an `io_uring` acts with other credentials.
pub const ASYNC_OVERRIDE_CREDS: u16 = 2;
/// [`AsyncIoRecord::op`]: userfaultfd(2).
pub const ASYNC_USERFAULTFD: u16 = 3;
/// [`AsyncIoRecord::op`]: a 32-bit system call of a 64-bit host.
pub const ASYNC_COMPAT: u16 = 4;
/// [`AsyncIoRecord::op`]: an `io_uring` operation on the network.
pub const ASYNC_IO_URING_NET: u16 = 5;

/// [`LinkRecord::kind`]: a connected unix socket.
pub const LINK_UNIX: u8 = 0;
/// [`LinkRecord::kind`]: a pipe or FIFO.
pub const LINK_PIPE: u8 = 1;
/// [`LinkRecord::kind`]: a TCP pair over loopback.
pub const LINK_LOOPBACK: u8 = 2;
/// [`LinkRecord::kind`]: a descriptor was passed (`SCM_RIGHTS`).
pub const LINK_PASSED: u8 = 3;

records! {
    /// One standard stream.
    pub struct StreamRecord = 48 {
        /// `STREAM_*`.
        pub kind: u16,
        /// `AF_*` of a socket, else zero.
        pub family: u16,
        /// Which stream: 0, 1 or 2.
        pub fd: u32,
        /// Identity of the channel for its life, the same at both ends: inode of a pipe, the
        /// lower of two kernel addresses for the ends of a pty or of a unix socket pair.
        pub channel: u64,
        /// Inode number of the stream itself, as `/proc/PID/fd` shows it.
        pub inode: u64,
        /// Peer of a connected internet socket; zero otherwise.
        pub remote: Endpoint,
    }

    /// What the standard streams of a process are.
    pub struct StdioRecord = 216 {
        /// Who: the process itself.
        pub header: RecordHeader,
        /// `STDIO_*`.
        pub cause: u16,
        /// How many of `streams` are told.
        pub count: u16,
        /// Not used; zero.
        pub reserved: u32,
        /// The streams.
        pub streams: [StreamRecord; 3],
    }

    /// A process reached into another.
    pub struct MemoryAccessRecord = 104 {
        /// Who reached.
        pub header: RecordHeader,
        /// `ACCESS_*`.
        pub method: u16,
        /// How deep the caller's pid namespace is; zero for the first.
        pub pid_ns_level: u16,
        /// Process id of the target in the first pid namespace; zero where not resolved.
        pub target_tgid: u32,
        /// `start_boottime` of the target; zero where not resolved.
        pub target_start_boot_ns: u64,
        /// Bytes that were moved.
        pub bytes: u64,
        /// Process id as the caller named it, in its own pid namespace; zero where it named none.
        pub named_pid: u32,
        /// `PTRACE_MODE_*` of an access check, else zero.
        pub mode: u32,
        /// Not used; zero.
        pub reserved: u64,
    }

    /// The monitor, or the kernel it trusts, was tampered with.
    pub struct TamperRecord = 224 {
        /// Who did it.
        pub header: RecordHeader,
        /// `TAMPER_*`.
        pub op: u16,
        /// Not used; zero.
        pub reserved: u16,
        /// Signal number, else zero.
        pub signal: u32,
        /// Process id of the target; zero where none.
        pub target_tgid: u32,
        /// `TAMPER_SELF`.
        pub flags: u32,
        /// `start_boottime` of the target.
        pub target_start_boot_ns: u64,
        /// Id of the BPF object; zero where none.
        pub object_id: u32,
        /// Command of bpf(2), else zero.
        pub command: u32,
        /// Name of the object, padded with zero bytes.
        pub object: [u8; OBJECT_BYTES_MAX],
    }

    /// A namespace or a mount was changed. Followed by source, path, type.
    pub struct NamespaceRecord = 96 {
        /// Who did it.
        pub header: RecordHeader,
        /// `NS_*`.
        pub op: u16,
        /// Not used; zero.
        pub reserved: u16,
        /// Inode of the mount namespace afterwards.
        pub mount_ns: u32,
        /// `CLONE_NEW*` bits, mount flags.
        pub ns_flags: u64,
        /// Bytes of the source that follow.
        pub source_len: u32,
        /// Bytes of the path that follow.
        pub path_len: u32,
        /// Bytes of the type that follow.
        pub type_len: u32,
        /// Not used; zero.
        pub reserved2: u32,
    }

    /// An unusual way into the kernel was set up.
    pub struct AsyncIoRecord = 80 {
        /// Who did it.
        pub header: RecordHeader,
        /// `ASYNC_*`.
        pub op: u16,
        /// Operation of an `io_uring`, else zero.
        pub opcode: u16,
        /// Not used; zero.
        pub reserved: u32,
        /// Flags of the call.
        pub call_flags: u64,
    }

    /// Two processes were joined by a local channel.
    pub struct LinkRecord = 104 {
        /// Who: the nearer end.
        pub header: RecordHeader,
        /// `LINK_*`.
        pub kind: u8,
        /// Whether the nearer end was accepted: the other one connected. 0 or 1.
        pub is_accepted: u8,
        /// Port of the other end of a datagram over loopback, which has no socket of its own to
        /// point to; else zero.
        pub peer_port: u16,
        /// Process id of the other end.
        pub peer_tgid: u32,
        /// `start_boottime` of the other end.
        pub peer_start_boot_ns: u64,
        /// cgroup of the other end; zero where not known.
        pub peer_cgroup: u64,
        /// Bytes sent to it since the previous record.
        pub bytes: u64,
        /// Inode of the socket at the other end; zero where not known, or not accepted yet. Of a
        /// pipe, its identity as in [`StreamRecord::channel`].
        pub peer_socket: u64,
    }

    /// A process was moved to another cgroup. Followed by the cgroup's path.
    pub struct CgroupMoveRecord = 88 {
        /// Who moved it.
        pub header: RecordHeader,
        /// Process id of the moved.
        pub moved_tgid: u32,
        /// Bytes of the path that follow.
        pub path_len: u32,
        /// `start_boottime` of the moved.
        pub moved_start_boot_ns: u64,
        /// Id of the cgroup that it is in now.
        pub to_cgroup: u64,
    }
}

/// The longest record of a kind of this file; zero for a number that none has.
pub(crate) const fn longest(kind: u16) -> usize {
    match kind {
        KIND_STDIO => size_of::<StdioRecord>(),
        KIND_MEMORY_ACCESS => size_of::<MemoryAccessRecord>(),
        KIND_TAMPER => size_of::<TamperRecord>(),
        KIND_NAMESPACE => size_of::<NamespaceRecord>() + 3 * NS_TEXT_BYTES_MAX,
        KIND_ASYNC_IO => size_of::<AsyncIoRecord>(),
        KIND_LINK => size_of::<LinkRecord>(),
        KIND_CGROUP_MOVE => size_of::<CgroupMoveRecord>() + CGROUP_PATH_BYTES_MAX,
        _ => 0,
    }
}
