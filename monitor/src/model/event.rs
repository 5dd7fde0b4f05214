//! Events: decoded, owned, checked. Nothing here knows how the kernel laid the bytes out.

use std::net::SocketAddr;

use super::{
    AsyncIo, BootNs, CgroupId, CgroupMove, Dns, EventKind, FileChange, GpuFault, GpuSample, Link,
    MemoryAccess, NamespaceChange, Payload, ProcessKey, SensorNote, Stdio, Tamper, Tgid, Tid,
    WallNs, Wire,
};

/// One fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened.
    pub time: BootNs,
    /// Who did it; `None` where nobody did (losses, device samples).
    pub actor: Option<Actor>,
    /// What happened.
    pub body: Body,
}

/// The thread in whose context the kernel wrote the record, or the owner it named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The process.
    pub process: ProcessKey,
    /// The thread.
    pub tid: Tid,
    /// The cgroup v2 directory it is in.
    pub cgroup: CgroupId,
    /// Effective user id.
    pub uid: u32,
    /// The thread's name.
    pub comm: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A process that ran before the monitor did.
    ProcessSeen(ProcessSeen),
    /// A new thread or process.
    TaskNew(TaskNew),
    /// A program was executed.
    Exec(Exec),
    /// The last thread of a process ended.
    Exit(Exit),
    /// A file was opened.
    FileOpen(FileOpen),
    /// Bytes of a labelled file were read or mapped.
    FileRead(FileRead),
    /// A file of interest was changed.
    FileChange(FileChange),
    /// A flow started, moved, showed its first payload, or ended.
    Flow(Flow),
    /// A socket of a rare family or type was created.
    SocketNew(SocketNew),
    /// A DNS query or answer.
    Dns(Dns),
    /// Bytes to or from a resolver: feeds the pairing of questions and answers, no rule.
    Wire(Wire),
    /// A standard stream became a socket.
    Stdio(Stdio),
    /// A process reached into another.
    MemoryAccess(MemoryAccess),
    /// The monitor, or the kernel it trusts, was tampered with.
    Tamper(Tamper),
    /// A namespace or a mount was changed.
    Namespace(NamespaceChange),
    /// An asynchronous or unusual way into the kernel was set up.
    AsyncIo(AsyncIo),
    /// Two processes were joined by a local channel: feeds relays and accounts, no rule.
    Link(Link),
    /// A process was moved to another cgroup: feeds the process table, no rule.
    CgroupMove(CgroupMove),
    /// One process on one GPU.
    GpuSample(GpuSample),
    /// A GPU reported a fault.
    GpuFault(GpuFault),
    /// Records were lost.
    Loss(Loss),
    /// A sensor changed its state, or two sensors disagree.
    SensorNote(SensorNote),
}

impl Body {
    /// The rule kind of the event; `None` for facts that only feed the process table.
    pub const fn kind(&self) -> Option<EventKind> {
        Some(match self {
            Self::ProcessSeen(_) | Self::Link(_) | Self::CgroupMove(_) | Self::Wire(_) => {
                return None;
            }
            Self::TaskNew(task) => {
                if task.is_thread {
                    return None;
                }
                EventKind::Fork
            }
            Self::Exec(_) => EventKind::Exec,
            Self::Exit(_) => EventKind::Exit,
            Self::FileOpen(_) => EventKind::FileOpen,
            Self::FileRead(_) => EventKind::FileRead,
            Self::FileChange(_) => EventKind::FileChange,
            Self::Flow(_) => EventKind::Flow,
            Self::SocketNew(_) => EventKind::Socket,
            Self::Dns(_) => EventKind::Dns,
            Self::Stdio(stdio) => {
                if stdio.family == 0 && !stdio.is_relay {
                    return None;
                }
                EventKind::Stdio
            }
            Self::MemoryAccess(_) => EventKind::MemoryAccess,
            Self::Tamper(_) => EventKind::Tamper,
            Self::Namespace(_) => EventKind::Namespace,
            Self::AsyncIo(_) => EventKind::AsyncIo,
            Self::GpuSample(_) => EventKind::GpuSample,
            Self::GpuFault(_) => EventKind::GpuFault,
            Self::Loss(_) | Self::SensorNote(_) => EventKind::Sensor,
        })
    }
}

/// Identity of a file: never its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device number as the kernel holds it (`s_dev`: major << 20 | minor).
    pub device: u32,
    /// Inode number.
    pub inode: u64,
    /// Inode generation; zero where the file system has none.
    pub generation: u32,
}

/// Type of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileType {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Symbolic link.
    Symlink,
    /// System V shared memory.
    Segment,
    /// A mode the monitor does not know.
    #[default]
    Unknown,
}

impl FileType {
    /// The type in the `S_IFMT` bits of a mode (inode(7)).
    pub const fn from_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o020_000 => Self::Char,
            0o060_000 => Self::Block,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o120_000 => Self::Symlink,
            _ => Self::Unknown,
        }
    }

    /// The word used in rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Directory => "directory",
            Self::Char => "char",
            Self::Block => "block",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Symlink => "symlink",
            Self::Segment => "segment",
            Self::Unknown => "unknown",
        }
    }
}

/// How the monitor came to know a process that was there first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenOrigin {
    /// The BPF task iterator.
    Iterator,
    /// `/proc`.
    Proc,
}

/// A process that ran before the monitor did. The actor is the process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSeen {
    /// Its parent.
    pub parent: ProcessKey,
    /// Path of its executable, empty where unreadable.
    pub exe: String,
    /// Identity of its executable.
    pub exe_id: FileId,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory, empty where unreadable.
    pub cwd: String,
    /// Where this was read.
    pub origin: SeenOrigin,
}

/// A new thread or process. The actor is the creator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskNew {
    /// The new task's process: the creator's own for a thread.
    pub child: ProcessKey,
    /// The new task's thread id.
    pub child_tid: Tid,
    /// The new task's name.
    pub child_comm: String,
    /// Flags of clone(2).
    pub clone_flags: u64,
    /// Whether it is a thread of the creator's process.
    pub is_thread: bool,
    /// Whether it is a kernel worker acting for the process (`PF_IO_WORKER`: `io_uring`).
    pub is_io_worker: bool,
}

/// A program was executed. The actor is the process, under its new name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// The parent at that moment.
    pub parent: ProcessKey,
    /// Path of the executable as the kernel resolved it.
    pub exe: String,
    /// Identity of the executable.
    pub exe_id: FileId,
    /// Whether the executable is a memfd.
    pub is_memfd: bool,
    /// Whether the executable had no link left.
    pub is_deleted: bool,
    /// Arguments, cut at the recorded bound.
    pub args: Vec<String>,
    /// True length of the argument area in bytes.
    pub args_bytes: u32,
    /// Whether the arguments were cut.
    pub args_truncated: bool,
    /// Working directory.
    pub cwd: String,
    /// When the executable was changed last (`i_ctime`); `None` where not known.
    pub exe_changed: Option<WallNs>,
    /// Who opened the executable for writing last, as far as it is remembered.
    pub exe_writer: Option<ExeWriter>,
}

/// Who opened an executable for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExeWriter {
    /// The process; its start is not known.
    pub process: Tgid,
    /// The cgroup it was in.
    pub cgroup: CgroupId,
    /// When.
    pub time: BootNs,
}

/// The last thread of a process ended. The actor is the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Status as wait(2) encodes it.
    pub code: i32,
}

/// A file was opened. The actor opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOpen {
    /// Which file.
    pub id: FileId,
    /// Its path as the kernel resolved it, in the opener's mount view.
    pub path: String,
    /// Whether the path was longer than what was walked.
    pub path_truncated: bool,
    /// Its type.
    pub file_type: FileType,
    /// Device number of a device node (`i_rdev`), else zero.
    pub rdev: u32,
    /// Size in bytes when opened.
    pub size_bytes: u64,
    /// Flags of open(2).
    pub open_flags: u32,
    /// File-system magic (`s_magic`).
    pub fs_magic: u64,
}

impl FileOpen {
    /// Whether it was opened for reading (`O_RDONLY` or `O_RDWR`).
    pub const fn reads(&self) -> bool {
        self.open_flags & 3 != 1
    }

    /// Whether it was opened for writing (`O_WRONLY` or `O_RDWR`).
    pub const fn writes(&self) -> bool {
        self.open_flags & 3 != 0
    }
}

/// Bytes of a labelled file that were read or mapped. The actor read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    /// Which file.
    pub id: FileId,
    /// Bytes since the previous record of this reader and file.
    pub bytes: u64,
    /// Bytes by this reader of this file so far.
    pub bytes_total: u64,
    /// Whether the bytes are a mapped length: an upper bound of what is read.
    pub is_mapped: bool,
    /// Size of the file when it was counted.
    pub size_bytes: u64,
}

/// Why a flow record was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowPhase {
    /// The flow was first seen.
    Start,
    /// A threshold of bytes or of time was passed.
    Progress,
    /// Some of the first bytes were seen.
    Payload,
    /// The socket was closed.
    End,
}

/// Bytes from one socket to one peer. The actor is the sender (at start: the opener).
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// Why this record was sent.
    pub phase: FlowPhase,
    /// Identity of the flow for its life.
    pub flow_id: u64,
    /// `AF_*` of the socket.
    pub family: u16,
    /// `SOCK_*` of the socket.
    pub socket_type: u16,
    /// `IPPROTO_*` of the socket.
    pub protocol: u16,
    /// Whether this side opened it; `None` when older than the monitor.
    pub egress: Option<bool>,
    /// Local address and port.
    pub local: SocketAddr,
    /// Remote address and port; `None` where the family has none or it is not known.
    pub remote: Option<SocketAddr>,
    /// The process that opened or accepted the socket.
    pub owner: ProcessKey,
    /// Payload bytes sent so far.
    pub bytes_out_total: u64,
    /// Payload bytes sent since the previous record.
    pub bytes_out: u64,
    /// Payload bytes received so far, where counted.
    pub bytes_in_total: u64,
    /// Send calls so far.
    pub sends: u64,
    /// When the flow was first seen.
    pub started: BootNs,
    /// Whether it was opened by sending and not by connect (TCP Fast Open).
    pub is_fast_open: bool,
    /// Some of the first bytes sent, for [`FlowPhase::Payload`].
    pub payload: Option<Payload>,
}

/// A socket of a rare family or type was created, or a unix socket was connected to a path. The
/// actor did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketNew {
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*` without flags.
    pub socket_type: u16,
    /// Protocol number.
    pub protocol: u16,
    /// Path that the far end of a unix socket is bound to; empty for a new socket.
    pub path: String,
}

/// Why records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// The ring to user space was full.
    RingFull,
    /// The record was longer than its bound.
    TooLong,
    /// A kernel map was full.
    MapFull,
    /// Kernel memory could not be read.
    ReadFault,
    /// The cgroup was over its rate.
    RateLimited,
    /// The record could not be decoded.
    Malformed,
    /// The record's kind is not known.
    Unknown,
}

impl LossReason {
    /// The word used in rules, metrics and alerts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::TooLong => "too_long",
            Self::MapFull => "map_full",
            Self::ReadFault => "read_fault",
            Self::RateLimited => "rate_limited",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
        }
    }
}

/// Records were lost since the previous report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The sensor, as in the catalog.
    pub sensor: &'static str,
    /// Why.
    pub reason: LossReason,
    /// How many.
    pub lost: u64,
    /// The cgroup that caused most of it, where known.
    pub noisiest: Option<CgroupId>,
}
