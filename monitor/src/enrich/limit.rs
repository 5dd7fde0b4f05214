//! Every bound of this stage. At each of them the least recently used entry makes room and is
//! counted, unless the bound's own line says otherwise.

/// Processes that are known at once, ended ones within their grace included: twice the default
/// `pid_max` of a host (32 768), so that a host full of processes fits with its recent dead.
pub const PROCESSES_MAX: usize = 65_536;

/// How long an ended process is still known, in nanoseconds: records that waited in the bulk ring
/// and children that have not been seen yet must find it.
pub const ENDED_GRACE_NS: u64 = 60_000_000_000;

/// Ancestors of a process that are kept. Real chains (systemd, kubelet, shim, shell, launcher,
/// rank, worker) stay below 16.
pub const LINEAGE_DEPTH_MAX: usize = 32;

/// Of those, how many of the eldest survive a chain that is longer: forking on and on must not
/// push the first ancestors out of sight, so the middle is left out.
pub const LINEAGE_ELDEST_KEPT: usize = 8;

/// Workloads with an account: a full node has some hundred pods; the rest is room for ended ones.
pub const WORKLOADS_MAX: usize = 4_096;

/// Ended workloads looked at to find one that can make room; beyond, a live one does.
pub const WORKLOAD_SCAN_MAX: usize = 256;

/// cgroup descriptions that are kept parsed.
pub const PLACES_MAX: usize = 8_192;

/// Bytes of `/proc/PID/cgroup` that are read: 16 controllers with paths of `PATH_MAX` do not
/// happen; 64 lines of 256 bytes do.
pub const CGROUP_BYTES_MAX: usize = 16_384;

/// Flows that are known at once, as many as the kernel side counts.
pub const FLOWS_MAX: usize = monitor_common::FLOWS_MAX as usize;

/// Labelled files, as many as the kernel's label map holds.
pub const LABELS_MAX: usize = monitor_common::LABELS_MAX as usize;

/// Models that labels name. One more is refused, and its files stay unlabelled and are counted.
pub const MODELS_MAX: usize = 8_192;

/// Files looked at without finding weights, remembered so that they are not read again.
pub const PLAIN_FILES_MAX: usize = 65_536;

/// First bytes read from a file about to be labelled per second of event time: bounds the reads
/// that a process opening many files can cause.
pub const HEADS_PER_SECOND_MAX: u32 = 500;

/// Bytes read from the start of a file: a zip's first entry name is the longest thing looked at.
pub const HEAD_BYTES: usize = 128;

/// (workload, file) pairs remembered so that a file read twice is counted once. A pair that was
/// evicted counts again: the sum stays an upper bound.
pub const READS_MAX: usize = 65_536;

/// Models listed per workload.
pub const WORKLOAD_MODELS_MAX: usize = 64;

/// Recent files shown per workload.
pub const RECENT_FILES_MAX: usize = 16;

/// Largest flows shown per workload.
pub const LARGEST_FLOWS_MAX: usize = 16;

/// GPUs and MIG instances per workload: 8 GPUs of 7 instances.
pub const WORKLOAD_GPUS_MAX: usize = 56;

/// Names of addresses per workload.
pub const WORKLOAD_NAMES_MAX: usize = 1_024;

/// Pairs of a workload and a budget of its profile whose bytes are counted, some 600 bytes each.
pub const BUDGETS_KEPT_MAX: usize = 8_192;

/// Names of addresses over all workloads; beyond, a workload replaces its own oldest.
pub const NAMES_MAX: usize = 65_536;

/// Questions to resolvers that wait for an answer.
pub const QUESTIONS_MAX: usize = 4_096;

/// How long a question may wait, in nanoseconds: the C library asks again after five seconds, and
/// ten times at most.
pub const QUESTION_AGE_NS_MAX: u64 = 60_000_000_000;

/// Directions of TCP streams to resolvers that are read at once, some 2 KiB each.
pub const DNS_STREAMS_MAX: usize = 512;

/// DNS messages that one segment may complete; a tunnel sends no more in 2 KiB.
pub const DNS_MESSAGES_MAX: usize = 128;

/// Segments of a stream that wait for one before them.
pub const SEGMENTS_HELD_MAX: usize = 8;

/// Records of a DNS message that are walked.
pub const DNS_RECORDS_MAX: usize = 128;

/// Addresses of one answer that are kept.
pub const DNS_ANSWERS_MAX: usize = 32;

/// Flows whose first bytes are put together, 2 KiB each at most.
pub const FIRST_BYTES_FLOWS_MAX: usize = 1_024;

/// Pairs of workloads of which one passes on what it has read.
pub const LINK_PAIRS_MAX: usize = 1_024;

/// Processes that may have been given memory without a name, and are looked at when they send.
pub const HANDED_MAX: usize = 64;

/// Time for which they are, in nanoseconds.
pub const HANDED_SPAN_NS: u64 = 60_000_000_000;

/// Segments of System V shared memory that are known, as many as a quarter of those that a host has
/// at most by default.
pub const SHARED_SEGMENTS_MAX: usize = 1_024;

/// Processes of which it is known that they have one segment.
pub const SEGMENT_HOLDERS_MAX: usize = 256;

/// Bytes through a pipe from which they count whatever the model's size; of a smaller model, its
/// size. Jobs print less within ten minutes.
pub const PIPED_BYTES_MIN: u64 = 64 << 20;

/// Pipes whose readers are known.
pub const PIPES_MAX: usize = 4_096;

/// Readers that are known of one pipe.
pub const PIPE_READERS_MAX: usize = 4;

/// Time in which as much as a model must be passed on to count, in nanoseconds.
pub const LINK_SPAN_NS: u64 = 600_000_000_000;

/// Shortest file that may be a piece of a copy, in bytes.
pub const PIECE_BYTES_MIN: u64 = 65_536;

/// Files of one size that are pieces, if together they carry a model.
pub const PIECES_MIN: u64 = 4;

/// Processes of which one has the far end of a local channel open, that are looked through.
pub const FAR_CANDIDATES_MAX: usize = 1_024;

/// Descriptors that are looked through for it, over all of them.
pub const FAR_DESCRIPTORS_MAX: usize = 32_768;

/// Descriptors that are looked through within a second, over all looks.
pub const FAR_DESCRIPTORS_PER_SECOND_MAX: usize = 4 * FAR_DESCRIPTORS_MAX;

/// Time for which the answer stands, in nanoseconds: a socket may be passed on.
pub const FAR_AGAIN_NS: u64 = 5_000_000_000;

/// Bytes of a table of sockets that are read: those that listen stand first.
pub const SOCKET_TABLE_BYTES_MAX: usize = 65_536;

/// Seconds a name is kept at least: resolvers answer with zero, and the flow comes after.
pub const NAME_TTL_MIN_S: u32 = 300;

/// Seconds a name is kept at most.
pub const NAME_TTL_MAX_S: u32 = 86_400;

/// Directories a scan for weights goes below its start.
pub const SCAN_DEPTH_MAX: usize = 16;

/// Directory entries a scan looks at, per labelled file allowed.
pub const SCAN_ENTRIES_PER_FILE: usize = 16;

/// Directory entries that a scan looks at for all globs together that name no place to begin at
/// (`**/hub/**`): a second of work, beside what the others may use.
pub const SCAN_BROAD_ENTRIES_MAX: usize = 65_536;

/// Directories that a scan has still to look into, some 100 bytes each.
pub const SCAN_QUEUE_MAX: usize = 16_384;

/// Processes whose mappings and descriptors are looked through at start for weights that they hold
/// already.
pub const HOLDERS_LOOKED_AT_MAX: usize = 4_096;

/// Bytes of `/proc/PID/maps` that are looked through: some ten thousand mappings.
pub const MAPS_BYTES_MAX: usize = 1 << 20;

/// Smallest file that is labelled because its content and name say so, in bytes.
pub const WEIGHTS_BYTES_MIN: u64 = 1 << 20;

/// Smallest file that is labelled because of its name alone, in bytes.
pub const WEIGHTS_BY_NAME_BYTES_MIN: u64 = 16 << 20;

/// Time between two questions for the names of a workload that has none yet, in nanoseconds:
/// an orchestrator learns of a pod about when its first process starts.
pub const NAMES_RETRY_NS: u64 = 1_000_000_000;

/// Bytes of `/proc/PID/environ` that are looked through for one variable.
pub const ENVIRON_BYTES_MAX: usize = 65_536;

/// Bytes of that variable's value that are kept.
pub const VARIABLE_BYTES_MAX: usize = 1_024;

/// Files that workloads which read weights have opened for writing, and whose size is followed.
pub const WRITTEN_MAX: usize = 4_096;

/// Of those, how many are looked at in one round.
pub const WRITTEN_CHECKS_MAX: usize = 64;

/// Time between two looks at one of them, in nanoseconds.
pub const WRITTEN_CHECK_NS: u64 = 1_000_000_000;

/// How long a written file that no longer grows is followed, in nanoseconds: a checkpoint is
/// written in minutes, and pauses are shorter.
pub const WRITTEN_IDLE_NS: u64 = 120_000_000_000;

/// Smallest file that counts as derived from weights, in bytes: logs and samples stay below.
pub const DERIVED_BYTES_MIN: u64 = 16 << 20;

/// Part of the smallest model read from which a written file counts as derived: half a percent, as
/// one two-hundredth.
pub const DERIVED_PART_MIN: u64 = 200;

/// Processes of a workload whose open files are looked through when it first reads weights.
pub const WRITERS_LOOKED_AT_MAX: usize = 64;

/// Descriptors of one process that are looked through then, and for the other end of a stream.
pub const DESCRIPTORS_MAX: usize = 1_024;

/// Processes whose standard streams are local channels and are held against flows, and as many with
/// a socket to another host on a stream; the newest, for a relay is set up within moments.
pub const RELAY_SUSPECTS_MAX: usize = 1_024;

/// Processes with flows to other hosts that the streams of a new process are held against, as many
/// with a socket to another host on a stream, and processes that a new one of these is held
/// against.
pub const RELAY_TALKERS_MAX: usize = 8;

/// Relays that wait to be told; more at once are marked and not told.
pub const RELAYS_TOLD_MAX: usize = 64;

/// Containers whose first process is remembered.
pub const CONTAINERS_MAX: usize = 4_096;

/// Processes that are looked at to find one by its id in another pid namespace.
pub const NAMESPACE_SCAN_MAX: usize = 4_096;

/// Resolvers of one configuration: the C library reads three, others more.
pub const RESOLVERS_MAX: usize = 8;

/// Bytes of a resolver configuration that are read.
pub const RESOLV_CONF_BYTES_MAX: usize = 8_192;

/// How long a workload's resolvers are believed, in nanoseconds.
pub const RESOLVERS_TTL_NS: u64 = 600_000_000_000;

/// Newly followed files that wait to be marked.
pub const FOLLOWED_MAX: usize = 1_024;

/// Labels that are saved for the next start: some 300 bytes each.
pub const LABELS_SAVED_MAX: usize = 16_384;
