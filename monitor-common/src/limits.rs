//! Every bound the two sides share. Each has a line in `LIMITS.md` with its reason and its test.

/// Bytes of a path that leave the kernel.
pub const PATH_BYTES_MAX: usize = 1024;
/// Components of a path that are walked in the kernel, mount points included.
pub const PATH_DEPTH_MAX: usize = 32;
/// Bytes of one path component (`NAME_MAX` is 255).
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of arguments that leave the kernel.
pub const ARGS_BYTES_MAX: usize = 4096;
/// Bytes of a working directory that leave the kernel.
pub const CWD_BYTES_MAX: usize = 512;
/// Bytes of a thread name (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_BYTES: usize = 16;
/// First bytes of a flow that leave the kernel, unless they are a TLS hello; also the shorter of
/// two sizes of their records.
pub const PAYLOAD_BYTES_MAX: usize = 512;
/// Bytes of a TLS hello, of a DNS datagram or of a segment to or from a resolver that leave the
/// kernel.
pub const LONG_PAYLOAD_BYTES_MAX: usize = 2_048;
/// Segments in which the first bytes of a flow are looked for.
pub const PAYLOAD_SEGMENTS_MAX: u8 = 32;
/// Bytes of the path of a unix socket: 108 (`sun_path`, include/uapi/linux/un.h), rounded up.
pub const UNIX_PATH_BYTES: usize = 112;
/// Cgroups whose bytes are counted a second time, in packets.
pub const EGRESS_CGROUPS_MAX: u32 = 2_048;
/// Local channels of workloads that have read weights whose bytes are summed.
pub const LINKS_MAX: u32 = 2_048;
/// Bytes through such a channel between two records.
pub const LINK_STEP_BYTES: u64 = 1 << 20;
/// Ends of streams over loopback whose other end can be found.
pub const LOOPBACK_ENDS_MAX: u32 = 8_192;
/// (Socket, resolver) pairs that were asked by datagram and may answer.
pub const ASKED_MAX: u32 = 4_096;

/// Bytes of the ring for process life, flow starts, label hits and tamper.
pub const RING_HIGH_BYTES: u32 = 2 << 20;
/// Bytes of the ring for everything else.
pub const RING_BULK_BYTES: u32 = 2 << 20;

/// Flows that are counted at once.
pub const FLOWS_MAX: u32 = 65_536;
/// Labelled inodes.
pub const LABELS_MAX: u32 = 65_536;
/// Watched directories.
pub const WATCH_DIRS_MAX: u32 = 16_384;
/// (Process, file) pairs whose last open is remembered.
pub const OPENS_MAX: u32 = 8_192;
/// File-name extensions with a class.
pub const NAME_CLASSES_MAX: u32 = 256;
/// Cgroups that a rate is kept for.
pub const RATE_CGROUPS_MAX: u32 = 2_048;
/// Slots of threads between a send's destination hook and its byte count; a power of two.
pub const SEND_PEERS_MAX: u32 = 8_192;
/// Raw sockets between a packet's destination and its byte count.
pub const RAW_PEERS_MAX: u32 = 1_024;
/// Datagram, raw and packet sockets whose last flow is known.
pub const SOCKETS_MAX: u32 = 16_384;
/// Flows of one such socket that are ended when it is closed.
pub const SOCKET_PEERS_MAX: u32 = 16;
/// Bytes of a file-name extension, without the dot.
pub const EXTENSION_BYTES: usize = 16;
/// Bytes of a watched name, its zero byte included.
pub const WATCH_NAME_BYTES: usize = 48;
/// Watched names of files and directories.
pub const WATCH_NAMES_MAX: u32 = 512;
/// Slots of the filter in front of the watched names; a power of two.
pub const NAME_SLOTS: u32 = 4_096;
/// Major numbers of character devices (`CHRDEV_MAJOR_MAX`, `fs/char_dev.c`).
pub const DEVICE_MAJORS: u32 = 512;
/// Single device nodes, where not a whole major number is watched.
pub const DEVICE_NODES_MAX: u32 = 64;
/// Smallest file that is weights by its name alone whose reader's cgroup is marked: a copy of a
/// smaller one counts for nothing.
pub const COPIED_BYTES_MIN: u64 = 16 << 20;
/// Cgroups of which some kinds of record are not wanted.
pub const CGROUP_MASKS_MAX: u32 = 4_096;
/// Cgroups whose files opened for writing are reported whatever their size.
pub const MARKED_CGROUPS_MAX: u32 = 4_096;
/// Files that were opened for writing lately, with their writer.
pub const WRITERS_MAX: u32 = 16_384;
/// (Process, file) pairs whose bytes read are summed.
pub const READERS_MAX: u32 = 4_096;
/// Smallest segment of System V shared memory whose attaching is told, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Bytes read of a file by one process between two records.
pub const READ_STEP_BYTES: u64 = 64 << 10;
/// Time between two records, below which fewer bytes are summed.
pub const READ_STEP_NS: u64 = 10_000_000;

/// Bytes of the name of a tampered object: a BPF name has 16, a module's 56, a pin's path more.
pub const OBJECT_BYTES_MAX: usize = 128;
/// Bytes of each text of a mount: source, path, type.
pub const NS_TEXT_BYTES_MAX: usize = 256;
/// Bytes of the path of a cgroup that a process was moved to.
pub const CGROUP_PATH_BYTES_MAX: usize = 512;
/// Processes whose last new name of a file is remembered.
pub const NEW_NAMES_MAX: u32 = 1_024;
/// Bytes of that name, its zero byte included.
pub const NEW_NAME_BYTES_MAX: usize = 512;
/// System calls between their entry and their exit, one a thread, that entries are kept of.
pub const CALLS_MAX: u32 = 4_096;
/// Threads that open files at once, on the full tier.
pub const OPEN_SLOTS_MAX: u32 = 1_024;
/// Threads that begin a flow by sending at once, where returns of functions count bytes.
pub const FLOW_SLOTS_MAX: u32 = 512;
/// Threads that change labelled files at once, on the full tier.
pub const CHANGE_SLOTS_MAX: u32 = 128;
/// (Process, other process) pairs whose last access check is remembered.
pub const CHECKS_MAX: u32 = 4_096;
/// Pairs of processes whose accesses to each other's memory are summed.
pub const ACCESSES_MAX: u32 = 4_096;
/// Processes whose `io_uring` operations on sockets are remembered.
pub const URING_USERS_MAX: u32 = 4_096;
/// The monitor's own BPF programs, maps and links.
pub const OWN_OBJECTS_MAX: u32 = 1_024;
/// Cgroups from the monitor's own up to the root.
pub const OWN_CGROUPS_MAX: u32 = 64;
