//! What this stage reads of the host, as a trait, so that everything else is pure.

use std::net::IpAddr;

use crate::model::{BootNs, CgroupId, Channel, FileId, Tgid};

/// A process as `/proc` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcInfo {
    /// Process id of the parent; zero without one.
    pub parent: Tgid,
    /// When it started, cut to a clock tick (10 ms), which is all that `/proc/PID/stat` tells.
    pub start: BootNs,
    /// Name (comm).
    pub name: String,
    /// Path of the executable without the kernel's ` (deleted)`; empty where unreadable.
    pub exe: String,
    /// Whether the executable has no name left.
    pub exe_deleted: bool,
    /// Arguments, bounded.
    pub args: Vec<String>,
    /// Whether the arguments were cut.
    pub args_truncated: bool,
    /// Working directory; empty where unreadable.
    pub cwd: String,
    /// Effective user id.
    pub uid: u32,
}

/// The start of a file, with the identity of what was really read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileHead {
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes of the buffer that were filled.
    pub filled: usize,
    /// When its content was changed last, in nanoseconds since the epoch; zero where not asked.
    pub modified_ns: u64,
}

/// Where facts that no record carries come from. Every answer may be missing: the process may
/// have ended. Calls must be bounded and must not wait.
pub trait ProcSource: Send {
    /// The text of `/proc/PID/cgroup`.
    fn cgroup(&self, process: Tgid) -> Option<String>;
    /// Id of the cgroup v2 directory at `path`, to tell whether a path still belongs to an id.
    fn cgroup_id(&self, path: &str) -> Option<CgroupId>;
    /// What `/proc` says of a process.
    fn process(&self, process: Tgid) -> Option<ProcInfo>;
    /// Identity and size of the regular file at `path` in the process's mount view, without
    /// opening it.
    fn stat(&self, _process: Tgid, _path: &str) -> Option<FileHead> {
        None
    }
    /// Files without a name, in memory or removed, that a process has open, with their sizes.
    /// What is looked through is taken off `left`, and nothing beyond it is.
    fn nameless(&self, _process: Tgid, _left: &mut usize) -> Vec<(FileId, u64)> {
        Vec::new()
    }
    /// Size of a regular file that the process has open, whatever its name is.
    fn open_size(&self, _process: Tgid, _id: &FileId) -> Option<u64> {
        None
    }
    /// Where a relative name of a process starts from: its working directory, or a directory that
    /// it has open.
    fn directory(&self, _process: Tgid, _descriptor: i32) -> Option<String> {
        None
    }
    /// Regular files that a process has open for writing: path, identity without generation, size.
    fn written(&self, _process: Tgid) -> Vec<(String, FileId, u64)> {
        Vec::new()
    }
    /// The value of one variable in the environment the process was given, where it is set and
    /// within the first bytes that are read.
    fn variable(&self, _process: Tgid, _name: &str) -> Option<String> {
        None
    }
    /// Reads the start of the regular file at `path` in the process's mount view.
    fn head(&self, process: Tgid, path: &str, into: &mut [u8]) -> Option<FileHead>;
    /// Whether a process holds the other end of a local channel.
    fn holds(&self, _process: Tgid, _channel: Channel) -> bool {
        false
    }
    /// The process that `caller` knows by an id of its own pid namespace.
    fn process_in_namespace(&self, _caller: Tgid, _named: u32) -> Option<Tgid> {
        None
    }
    /// Whether a TCP port is listened on in the network namespace of a process; `None` where that
    /// cannot be read.
    fn listens(&self, _process: Tgid, _port: u16) -> Option<bool> {
        None
    }
    /// The resolvers that a process is configured with; of the host where `None` is asked for.
    fn resolvers(&self, _process: Option<Tgid>) -> Vec<IpAddr> {
        Vec::new()
    }
    /// Which of these processes has a socket open, by its inode; of several, the first. What is
    /// looked through is taken off `left`, and nothing beyond it is.
    fn holder(&self, _processes: &[Tgid], _socket: u64, _left: &mut usize) -> Option<Tgid> {
        None
    }
    /// Which of these processes has a pipe open for reading, by its identity; the first of several.
    /// `left` as for a holder.
    fn pipe_reader(&self, _processes: &[Tgid], _pipe: u64, _left: &mut usize) -> Option<Tgid> {
        None
    }
    /// Inode of the UDP socket that has a port, in the network namespace of a process.
    fn datagram_socket(&self, _process: Tgid, _port: u16) -> Option<u64> {
        None
    }
    /// Inode of the mount namespace of a process.
    fn mount_ns(&self, _process: Tgid) -> Option<u32> {
        None
    }
}

/// A source that knows nothing, for replays of recorded events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

impl ProcSource for NoSource {
    fn cgroup(&self, _process: Tgid) -> Option<String> {
        None
    }

    fn cgroup_id(&self, _path: &str) -> Option<CgroupId> {
        None
    }

    fn process(&self, _process: Tgid) -> Option<ProcInfo> {
        None
    }

    fn head(&self, _process: Tgid, _path: &str, _into: &mut [u8]) -> Option<FileHead> {
        None
    }
}
