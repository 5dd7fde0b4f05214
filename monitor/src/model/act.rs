//! Acts beyond files and flows: reaching into other processes, tampering, namespaces, unusual ways
//! into the kernel, and the local channels that join processes.

use std::net::SocketAddr;

use super::{CgroupId, FileId, ProcessKey};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word used in rules and alerts.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// What was done to a file.
    FileOp {
        /// It got another name.
        Rename = "rename",
        /// It got one more name.
        Link = "link",
        /// It lost a name.
        Unlink = "unlink",
        /// It was cut.
        Truncate = "truncate",
        /// Bytes of it were copied to another file (`copy_file_range`, reflink).
        Copy = "copy",
        /// It was written, a threshold's worth or until closed.
        Write = "write",
        /// It was mapped executable.
        MapExec = "map_exec",
    }
}

/// A file of interest was changed. The actor changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// What was done.
    pub op: FileOp,
    /// The file; for a copy, the source.
    pub id: FileId,
    /// Its path before; empty where it was not walked.
    pub path: String,
    /// Its path after, or the path of the copy; empty where there is none.
    pub new_path: String,
    /// The copy, or the file that a rename replaced; zero where there is none.
    pub other: FileId,
    /// Size after the change.
    pub size_bytes: u64,
    /// Bytes written or copied since the previous record.
    pub bytes: u64,
    /// File-system magic (`s_magic`).
    pub fs_magic: u64,
}

words! {
    /// What a standard stream is joined to.
    StreamKind {
        /// A socket that leads elsewhere than to a unix socket.
        Socket = "socket",
        /// A connected unix socket.
        Unix = "unix",
        /// A pipe or FIFO.
        Pipe = "pipe",
        /// The near end of a pseudo terminal.
        Pty = "pty",
    }
}

/// A local channel that a standard stream is joined to. Both ends have the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// What it is.
    pub kind: StreamKind,
    /// Identity for its life.
    pub id: u64,
    /// Inode number of this end.
    pub inode: u64,
}

/// What the standard streams of a process are, at exec or after a descriptor was duplicated. An
/// event for rules when one of them is a socket, or when the daemon found them to be relayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Which stream: 0, 1 or 2; the first that is a socket where several are told.
    pub fd: u32,
    /// `AF_*` of the socket; zero for none.
    pub family: u16,
    /// Its peer, where it has one.
    pub remote: Option<SocketAddr>,
    /// Whether this tells of all three streams: an exec. One that is not told is a file then.
    pub is_whole: bool,
    /// Local channels of the streams, by number.
    pub channels: [Option<Channel>; 3],
    /// Whether the daemon found the channels to lead to a process with a flow to another host.
    pub is_relay: bool,
}

words! {
    /// How a process reached into another.
    AccessMethod {
        /// ptrace(2), attach or seize.
        Ptrace = "ptrace",
        /// `process_vm_readv`(2).
        VmRead = "process_vm_readv",
        /// `process_vm_writev`(2).
        VmWrite = "process_vm_writev",
        /// `/proc/<pid>/mem` was opened.
        ProcMem = "proc_mem",
        /// `pidfd_getfd`(2).
        PidfdGetfd = "pidfd_getfd",
        /// Seen at the kernel's access check, without knowing the call.
        Check = "access_check",
    }
}

/// A process reached into another. The actor reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryAccess {
    /// How.
    pub method: AccessMethod,
    /// Into whom; zero where the kernel side could not tell.
    pub target: ProcessKey,
    /// The process id that the caller named, in its own pid namespace; zero where it named none.
    pub named_pid: u32,
    /// Whether the caller is in the first pid namespace, where that id is the host's.
    pub is_host_pid: bool,
    /// Bytes that were moved, where counted.
    pub bytes: u64,
}

words! {
    /// What was tampered with.
    TamperOp {
        /// A BPF program was loaded.
        BpfLoad = "bpf_load",
        /// A BPF link was detached.
        BpfDetach = "bpf_detach",
        /// A BPF map was changed.
        BpfMapChange = "bpf_map_change",
        /// A BPF object was opened by its id.
        BpfOpen = "bpf_open",
        /// A pinned BPF object was removed.
        PinRemove = "pin_remove",
        /// A kernel module was loaded.
        ModuleLoad = "module_load",
        /// A kernel module was taken out.
        ModuleUnload = "module_unload",
        /// The kernel refused a module.
        ModuleRefused = "module_refused",
        /// A signal was sent.
        Signal = "signal",
        /// A cgroup was frozen or killed.
        Freeze = "freeze",
        /// The monitor was moved into another cgroup.
        CgroupMove = "cgroup_move",
        /// Tracing was switched off.
        TracingOff = "tracing_off",
    }
}

/// The monitor, or the kernel it trusts, was tampered with. The actor did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tamper {
    /// What was done.
    pub op: TamperOp,
    /// The process it was aimed at; zero where none.
    pub target: ProcessKey,
    /// Signal number, for [`TamperOp::Signal`].
    pub signal: u32,
    /// Name of the object: program, module, path; empty where none.
    pub object: String,
    /// Id of the BPF object; zero where none.
    pub object_id: u32,
    /// Whether it is aimed at the monitor itself.
    pub is_self: bool,
}

words! {
    /// What was changed about namespaces and mounts.
    NamespaceOp {
        /// setns(2).
        Setns = "setns",
        /// unshare(2).
        Unshare = "unshare",
        /// mount(2), `move_mount`(2).
        Mount = "mount",
        /// `pivot_root`(2).
        PivotRoot = "pivot_root",
        /// chroot(2).
        Chroot = "chroot",
        /// `open_by_handle_at`(2).
        OpenByHandle = "open_by_handle",
    }
}

/// A namespace or a mount was changed. The actor did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceChange {
    /// What was done.
    pub op: NamespaceOp,
    /// `CLONE_NEW*` bits, mount flags.
    pub flags: u64,
    /// What is mounted; empty where none.
    pub source: String,
    /// Where; empty where none.
    pub path: String,
    /// Type of the file system; empty where none.
    pub fs_type: String,
    /// Inode of the process's mount namespace afterwards; zero where not known.
    pub mount_ns: u32,
}

words! {
    /// A way into the kernel that bypasses the usual system calls.
    AsyncOp {
        /// An `io_uring` was made.
        IoUring = "io_uring",
        /// An `io_uring` with a kernel thread that submits.
        Sqpoll = "io_uring_sqpoll",
        /// An `io_uring` acts with other credentials.
        OverrideCreds = "io_uring_override_creds",
        /// userfaultfd(2).
        Userfaultfd = "userfaultfd",
        /// A 32-bit system call of a 64-bit host.
        Compat = "compat_syscall",
        /// An `io_uring` operation on the network.
        IoUringNet = "io_uring_net",
    }
}

/// An asynchronous or unusual way into the kernel was set up. The actor did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsyncIo {
    /// Which.
    pub op: AsyncOp,
    /// Operation of an `io_uring`, else zero.
    pub opcode: u16,
    /// Flags of the call.
    pub flags: u64,
}

words! {
    /// How two processes are joined.
    LinkKind {
        /// A connected unix socket.
        Unix = "unix",
        /// A pipe or FIFO.
        Pipe = "pipe",
        /// A TCP pair over loopback.
        Loopback = "loopback",
        /// A descriptor was passed (`SCM_RIGHTS`).
        Passed = "passed",
    }
}

/// Two processes were joined by a local channel. The actor is the nearer end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// How.
    pub kind: LinkKind,
    /// The other end.
    pub peer: ProcessKey,
    /// The other end's cgroup; zero where not known.
    pub peer_cgroup: CgroupId,
    /// Bytes sent to the other end since the previous record.
    pub bytes: u64,
    /// Whether the nearer end was accepted: the other one connected.
    pub is_accepted: bool,
    /// Inode of the socket at the other end; zero where not known, or not accepted yet.
    pub peer_socket: u64,
    /// Port of the other end of a datagram over loopback, else zero.
    pub peer_port: u16,
}

/// A process was moved to another cgroup. The actor moved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMove {
    /// Who was moved.
    pub moved: ProcessKey,
    /// Where to.
    pub to: CgroupId,
    /// Path of the cgroup within its hierarchy; empty where not known.
    pub path: String,
}

/// A sensor changed its state, or two sensors disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorNote {
    /// The sensor, as in the catalog.
    pub sensor: &'static str,
    /// One word: `off`, `disagreement`, `canary_missing`, `stalled`,
    /// `detached`.
    pub state: &'static str,
    /// Why, for a person.
    pub detail: String,
    /// The cgroup it is about, where there is one.
    pub cgroup: Option<CgroupId>,
}
