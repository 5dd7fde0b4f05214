//! The field catalogue: every name a rule may use, its type, the kinds of event that carry it,
//! what it means, and an example. Docs, schema, type checks and completion are made from it.

use std::fmt;

use serde::Serialize;

use super::{EventKind, KindSet};

/// The type of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// `true` or `false`.
    Bool,
    /// A whole number (CEL `int`).
    Int,
    /// A number with a fraction (CEL `double`).
    Float,
    /// Text (CEL `string`).
    Str,
    /// An IP address; compare with `in cidr("…")`, `==` against text.
    Ip,
    /// A list of text.
    List,
    /// Text by text.
    Map,
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Str => "string",
            Self::Ip => "ip",
            Self::List => "list of strings",
            Self::Map => "map of strings",
        })
    }
}

/// One row of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The field.
    pub id: FieldId,
    /// Its name in rules.
    pub name: &'static str,
    /// The type of its value.
    pub field_type: FieldType,
    /// The kinds of event that can carry it.
    pub kinds: KindSet,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    /// A condition that uses it.
    pub example: &'static str,
}

/// Events that have an acting process.
const ACTED: KindSet = KindSet::of(&[
    EventKind::Exec,
    EventKind::Fork,
    EventKind::Exit,
    EventKind::FileOpen,
    EventKind::FileRead,
    EventKind::FileChange,
    EventKind::Flow,
    EventKind::Socket,
    EventKind::Dns,
    EventKind::Stdio,
    EventKind::MemoryAccess,
    EventKind::Tamper,
    EventKind::Namespace,
    EventKind::AsyncIo,
    EventKind::GpuSample,
]);
const ANY: KindSet = KindSet::ALL;
const EXEC: KindSet = KindSet::of(&[EventKind::Exec]);
const EXIT: KindSet = KindSet::of(&[EventKind::Exit]);
const OPEN: KindSet = KindSet::of(&[EventKind::FileOpen]);
const FILE: KindSet =
    KindSet::of(&[EventKind::FileOpen, EventKind::FileRead, EventKind::FileChange]);
const CHANGE: KindSet = KindSet::of(&[EventKind::FileChange]);
const READ: KindSet = KindSet::of(&[EventKind::FileRead]);
const MOVED: KindSet = KindSet::of(&[EventKind::FileRead, EventKind::FileChange]);
const STDIO: KindSet = KindSet::of(&[EventKind::Stdio]);
const ACCESS: KindSet = KindSet::of(&[EventKind::MemoryAccess]);
const TAMPER: KindSet = KindSet::of(&[EventKind::Tamper]);
const TARGET: KindSet = KindSet::of(&[EventKind::MemoryAccess, EventKind::Tamper]);
const NAMESPACE: KindSet = KindSet::of(&[EventKind::Namespace]);
const ASYNC: KindSet = KindSet::of(&[EventKind::AsyncIo]);
const FLOW: KindSet = KindSet::of(&[EventKind::Flow]);
const SOCKET: KindSet = KindSet::of(&[EventKind::Socket]);
const NET: KindSet = KindSet::of(&[EventKind::Flow, EventKind::Socket]);
const DNS: KindSet = KindSet::of(&[EventKind::Dns]);
const GPU: KindSet = KindSet::of(&[EventKind::GpuSample]);
const FAULT: KindSet = KindSet::of(&[EventKind::GpuFault]);
/// Uses of a GPU: a reading, and the opening of its device node.
const GPU_USE: KindSet = KindSet::of(&[EventKind::GpuSample, EventKind::FileOpen]);
const GPU_ANY: KindSet =
    KindSet::of(&[EventKind::GpuSample, EventKind::GpuFault, EventKind::FileOpen]);
const SENSOR: KindSet = KindSet::of(&[EventKind::Sensor]);

macro_rules! catalogue {
    ($($id:ident $name:literal $type:ident $kinds:ident $meaning:literal $example:literal;)+) => {
        /// A field of the catalogue. The order is the order of the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        #[allow(missing_docs, reason = "the catalogue row is the documentation")]
        pub enum FieldId { $($id,)+ }

        /// Every field, in [`FieldId`] order.
        pub const CATALOGUE: &[Field] = &[$(Field {
            id: FieldId::$id,
            name: $name,
            field_type: FieldType::$type,
            kinds: $kinds,
            meaning: $meaning,
            example: $example,
        },)+];

        impl FieldId {
            /// The field named `name`.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$id),)+ _ => None }
            }
        }
    };
}

impl FieldId {
    /// The field's row.
    pub fn row(self) -> &'static Field {
        &CATALOGUE[self as usize]
    }

    /// The field's name in rules.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The type of the field's value.
    pub fn field_type(self) -> FieldType {
        self.row().field_type
    }
}

catalogue! {
    EvtKind "evt.kind" Str ANY "Kind of the event: exec, fork, exit, file_open, file_read, file_change, flow, socket, dns, stdio, memory_access, tamper, namespace, async_io, gpu_sample, gpu_fault, sensor." "evt.kind == \"flow\"";
    EvtTimeNs "evt.time_ns" Int ANY "When it happened, in nanoseconds since boot." "evt.time_ns > 0";

    ProcPid "proc.pid" Int ACTED "Process id (thread group) in the host's pid namespace." "proc.pid != 1";
    ProcTid "proc.tid" Int ACTED "Thread id in the host's pid namespace." "proc.tid != proc.pid";
    ProcName "proc.name" Str ACTED "The kernel's name of the thread (comm); any process can change it." "proc.name == \"python3\"";
    ProcExe "proc.exe" Str ACTED "Path of the executable as the kernel resolved it." "proc.exe.endsWith(\"/python3\")";
    ProcArgs "proc.args" List ACTED "Arguments, the program's name first, cut at the recorded bound." "\"--no-nvml\" in proc.args";
    ProcCmdline "proc.cmdline" Str ACTED "Arguments joined by spaces." "proc.cmdline.contains(\"stratum+tcp\")";
    ProcArgsTruncated "proc.args_truncated" Bool ACTED "Whether the arguments were longer than what was recorded." "!proc.args_truncated";
    ProcCwd "proc.cwd" Str ACTED "Working directory at exec." "proc.cwd.startsWith(\"/tmp\")";
    ProcUid "proc.uid" Int ACTED "Effective user id." "proc.uid == 0";
    ProcExeMemfd "proc.exe_memfd" Bool ACTED "Whether the executable lives in memory only (memfd)." "proc.exe_memfd";
    ProcExeDeleted "proc.exe_deleted" Bool ACTED "Whether the executable had no name left when it was executed." "proc.exe_deleted";
    ProcAgeSeconds "proc.age_seconds" Float ACTED "Seconds since the process started." "proc.age_seconds < 10.0";
    ProcParentPid "proc.parent.pid" Int ACTED "Process id of the parent that created it." "proc.parent.pid == 1";
    ProcParentName "proc.parent.name" Str ACTED "Name of the parent." "proc.parent.name == \"sshd\"";
    ProcParentExe "proc.parent.exe" Str ACTED "Executable of the parent." "proc.parent.exe == \"/usr/sbin/sshd\"";
    ProcAncestors "proc.ancestors" List ACTED "Names of the ancestors, parent first; kept when they have ended." "\"sshd\" in proc.ancestors";
    ProcAncestorExes "proc.ancestor_exes" List ACTED "Executables of the ancestors, parent first." "\"/usr/bin/bash\" in proc.ancestor_exes";
    ProcWorkloadAncestorExes "proc.workload_ancestor_exes" List ACTED "Executables of those ancestors that are in the same workload, parent first: not of the engine that started the container, nor of who started that." "proc.workload_ancestor_exes.exists(exe, exe.endsWith(\"/ollama\"))";
    ProcStdioSocket "proc.stdio_socket" Bool ACTED "Whether a standard stream of the process is a network socket." "proc.stdio_socket";
    ProcStdioRelay "proc.stdio_relay" Bool ACTED "Whether the standard streams are pipes, a pty or a local socket whose other end is held by a process with a flow to another host." "proc.stdio_relay";
    ProcExeAgeSeconds "proc.exe_age_seconds" Float ACTED "Seconds between the last change of the executable and its execution; missing when not known." "proc.exe_age_seconds < 600.0";
    ProcExeWrittenHere "proc.exe_written_here" Bool ACTED "Whether the executable was written by the workload that runs it, as far as seen." "proc.exe_written_here";
    ProcScript "proc.script" Str ACTED "Script that an interpreter runs, as a path; `module:NAME` for `python -m NAME`; missing for anything else." "proc.script.endsWith(\"/train.py\")";
    ProcEntered "proc.entered" Bool ACTED "Whether the process, or an ancestor, came into its container from outside (exec) and does not descend from the container's first process." "proc.entered";
    ProcEnvPreload "proc.ld_preload" Str ACTED "Value of LD_PRELOAD at exec; missing when unset or not known." "has(proc.ld_preload)";
    ProcExitCode "proc.exit_code" Int EXIT "Exit status as wait(2) encodes it." "proc.exit_code != 0";

    ExecArgsBytes "exec.args_bytes" Int EXEC "True length of the argument area in bytes." "exec.args_bytes > 4096";

    FilePath "file.path" Str FILE "Path of the opened file as the kernel resolved it." "file.path.startsWith(\"/models/\")";
    FileName "file.name" Str FILE "Last part of the path." "file.name.endsWith(\".safetensors\")";
    FileInode "file.inode" Int FILE "Inode number; of a segment its number (shmid), with that of its IPC namespace from bit 32 on." "file.inode > 0";
    FileDevice "file.device" Int FILE "Device number of the file system (major << 20 | minor)." "file.device == 8388609";
    FileSize "file.size_bytes" Int FILE "Size when it was opened, or after the change." "file.size_bytes > 64.mib";
    FileType "file.type" Str OPEN "regular, directory, char, block, fifo, socket, symlink, segment (System V shared memory that was attached) or unknown." "file.type == \"char\"";
    FileWrite "file.write" Bool OPEN "Whether it was opened for writing." "file.write";
    FileRead "file.read" Bool OPEN "Whether it was opened for reading." "file.read";
    FileClass "file.class" Str FILE "Class by name: weights, archive, secret, device or none." "file.class == \"weights\"";
    FileFormat "file.format" Str FILE "Format by content: safetensors, gguf, torch-zip, pickle, hdf5, onnx or unknown." "file.format == \"gguf\"";
    FileLabel "file.label" Str FILE "Label of the inode: the model it belongs to; missing when unlabelled." "has(file.label)";

    FileSecretClass "file.secret_class" Str FILE "Class of credential by its usual path: ssh, aws, gcloud, azure, kube, hf, netrc, docker, git, wallet, service_account, package, vault, database, shadow; missing for none." "has(file.secret_class)";
    FileFs "file.fs" Str FILE "File system: ext4, xfs, btrfs, overlay, tmpfs, nfs, cifs, fuse, proc, cgroup, bpf, vfat, block and so on." "file.fs == \"nfs\"";
    FileInWeightPaths "file.in_weight_paths" Bool FILE "Whether the file, by its new path where it got one, lies in the weight paths of the workload's profile; missing without a profile." "!file.in_weight_paths";
    FileDerivedFrom "file.derived_from" Str FILE "Model that the file was derived from: a large file written by a workload that had read it." "has(file.derived_from)";
    FileOp "file.op" Str CHANGE "What was done: rename, link, unlink, truncate, copy, write or map_exec." "file.op == \"rename\"";
    FileNewPath "file.new_path" Str CHANGE "Path after a rename or link, or of a copy." "file.new_path.endsWith(\".jpg\")";
    FileBytes "file.bytes" Int MOVED "Bytes read, mapped, written or copied since the previous record." "file.bytes > 1.mib";
    FileMapped "file.mapped" Bool READ "Whether the bytes are a mapped length, an upper bound of what is read." "file.mapped";

    NetPhase "net.phase" Str FLOW "Why this record was sent: start, progress, payload or end." "net.phase == \"start\"";
    NetFamily "net.family" Str NET "Address family: inet, inet6, packet, vsock, xdp, sctp and so on." "net.family == \"packet\"";
    NetProto "net.proto" Str NET "Transport protocol: tcp, udp, icmp, mptcp, raw or its number." "net.proto == \"udp\"";
    NetPath "net.path" Str SOCKET "Path that the far end of a connected unix socket is bound to, as its owner bound it; missing for a new socket." "net.path.endsWith(\"/docker.sock\")";
    NetSocketType "net.socket_type" Str NET "Socket type: stream, dgram, raw, seqpacket, packet." "net.socket_type == \"raw\"";
    NetDirection "net.direction" Str FLOW "egress when this side opened it, ingress when it was accepted, unknown when older than the monitor." "net.direction == \"egress\"";
    NetSrcIp "net.src.ip" Ip FLOW "Local address." "net.src.ip in cidr(\"10.0.0.0/8\")";
    NetSrcPort "net.src.port" Int FLOW "Local port." "net.src.port < 1024";
    NetDstIp "net.dst.ip" Ip FLOW "Remote address; IPv4-mapped IPv6 is shown as IPv4." "net.dst.ip in cidr(\"10.0.0.0/8\")";
    NetDstPort "net.dst.port" Int FLOW "Remote port." "net.dst.port == 443";
    NetDstName "net.dst.name" Str FLOW "Name the workload resolved the address from; missing when none was observed." "net.dst.name.endsWith(\".hf.co\")";
    NetPeerClass "net.peer_class" Str FLOW "loopback, link_local, private, metadata, multicast or public." "net.peer_class == \"public\"";
    NetAllowed "net.allowed" Bool FLOW "Whether the workload's profile allows the peer; missing without a profile." "!net.allowed";
    NetBytesOut "net.bytes_out" Int FLOW "Payload bytes sent since the previous record of this flow." "net.bytes_out > 1.mib";
    NetBytesOutTotal "net.bytes_out_total" Int FLOW "Payload bytes sent on this flow so far." "net.bytes_out_total > 64.mib";
    NetBytesInTotal "net.bytes_in_total" Int FLOW "Payload bytes received on this flow so far, where counted." "net.bytes_in_total > 0";
    NetSends "net.sends" Int FLOW "Send calls on this flow so far." "net.sends > 10";
    NetAgeSeconds "net.age_seconds" Float FLOW "Seconds since the flow was first seen." "net.age_seconds > 1800.0";
    NetOwnerPid "net.owner.pid" Int FLOW "Process that opened or accepted the socket." "net.owner.pid != proc.pid";
    NetOwnerIsSender "net.owner_is_sender" Bool FLOW "Whether the sender is the process that opened the socket." "!net.owner_is_sender";
    NetAppProto "net.app_proto" Str FLOW "Protocol recognised in the first payload: stratum, tls, http, ssh, dns; missing when none." "net.app_proto == \"stratum\"";
    NetSni "net.sni" Str FLOW "Server name of the TLS hello." "net.sni.endsWith(\".nanopool.org\")";

    NetFastOpen "net.fast_open" Bool FLOW "Whether the flow was opened by sending and not by connect (TCP Fast Open)." "net.fast_open";
    NetSameJob "net.same_job" Bool FLOW "Whether the peer is known as a member of the same job; missing when not known." "net.same_job";
    NetIsResolver "net.is_resolver" Bool FLOW "Whether the peer is a resolver that this host or workload is configured with." "net.is_resolver";
    NetBudgetUsed "net.budget_used" Float FLOW "Share of the profile's byte budget for this peer that is used, as a ratio; missing without a budget." "net.budget_used > 1.0";
    NetBudgetBytes "net.budget_bytes" Int FLOW "Bytes of the profile's budget for this peer; missing without a budget." "net.budget_bytes > 1.gib";

    DnsIsQuery "dns.is_query" Bool DNS "Whether this is a question on its way out and not an answer." "dns.is_query";
    DnsType "dns.type" Str DNS "Type that was asked for: a, aaaa, txt, null, cname and so on, or its number." "dns.type == \"txt\"";
    DnsDomain "dns.domain" Str DNS "Last two labels of the name." "dns.domain == \"example.com\"";
    DnsLongestLabel "dns.longest_label" Int DNS "Characters in the longest label of the name." "dns.longest_label > 30";
    DnsBytes "dns.bytes" Int DNS "Bytes of the message." "dns.bytes > 512";
    DnsServerIsOwn "dns.server_is_own" Bool DNS "Whether the resolver is one that this host or workload is configured with." "!dns.server_is_own";
    DnsName "dns.name" Str DNS "Name that was asked for, lower case, without the final dot." "dns.name.endsWith(\".2miners.com\")";
    DnsAnswers "dns.answers" List DNS "Addresses in the answer." "dns.answers.size() > 0";
    DnsServer "dns.server" Ip DNS "Address of the resolver." "dns.server in cidr(\"10.0.0.0/8\")";

    StdioFd "stdio.fd" Int STDIO "Which stream became a socket: 0, 1 or 2." "stdio.fd == 0";
    StdioFamily "stdio.family" Str STDIO "Address family of the socket." "stdio.family == \"inet\"";
    StdioPeerIp "stdio.peer.ip" Ip STDIO "Peer of the socket, where it has one." "stdio.peer.ip in cidr(\"0.0.0.0/0\")";
    StdioPeerPort "stdio.peer.port" Int STDIO "Port of the peer." "stdio.peer.port == 4444";

    AccessMethod "access.method" Str ACCESS "ptrace, process_vm_readv, process_vm_writev, proc_mem, pidfd_getfd or access_check." "access.method == \"process_vm_readv\"";
    AccessBytes "access.bytes" Int ACCESS "Bytes that were moved, where counted." "access.bytes > 1.mib";
    TamperOp "tamper.op" Str TAMPER "bpf_load, bpf_detach, bpf_map_change, bpf_open, pin_remove, module_load, module_unload, module_refused, signal, freeze, cgroup_move or tracing_off." "tamper.op == \"module_load\"";
    TamperSignal "tamper.signal" Int TAMPER "Signal number." "tamper.signal == 19";
    TamperObject "tamper.object" Str TAMPER "Program, module or path it was done to; missing when not known." "tamper.object == \"rootkit\"";
    TamperSelf "tamper.self" Bool TAMPER "Whether it is aimed at the monitor itself." "tamper.self";
    TargetPid "target.pid" Int TARGET "Process it was aimed at." "target.pid != proc.pid";
    TargetName "target.name" Str TARGET "Name of that process." "target.name == \"vllm\"";
    TargetExe "target.exe" Str TARGET "Executable of that process." "target.exe.endsWith(\"/python3\")";
    TargetWorkloadId "target.workload.id" Str TARGET "Workload of that process." "target.workload.id != workload.id";
    TargetSameWorkload "target.same_workload" Bool TARGET "Whether both are of one workload; missing when the target is not known." "!target.same_workload";
    TargetWeightsBytesRead "target.weights_bytes_read" Int TARGET "Bytes of labelled weights that the target's workload read." "target.weights_bytes_read > 0";

    NsOp "ns.op" Str NAMESPACE "setns, unshare, mount, pivot_root, chroot or open_by_handle." "ns.op == \"setns\"";
    NsFlags "ns.flags" Int NAMESPACE "CLONE_NEW* bits or mount flags." "ns.flags > 0";
    NsPath "ns.path" Str NAMESPACE "Where something was mounted, or the new root." "ns.path.startsWith(\"/host\")";
    NsSource "ns.source" Str NAMESPACE "What was mounted." "ns.source.startsWith(\"/dev/\")";
    NsFsType "ns.fs_type" Str NAMESPACE "Type of the file system that was mounted." "ns.fs_type == \"nfs4\"";
    NsHost "ns.host" Bool NAMESPACE "Whether the process is in the host's mount namespace afterwards." "ns.host";

    AsyncOp "async.op" Str ASYNC "io_uring, io_uring_sqpoll, io_uring_override_creds, io_uring_net, userfaultfd or compat_syscall." "async.op == \"io_uring_sqpoll\"";
    AsyncFlags "async.flags" Int ASYNC "Flags of the call." "async.flags > 0";

    GpuUuid "gpu.uuid" Str GPU_ANY "UUID of the GPU or MIG instance; of an opened device node, of the GPU behind it." "gpu.uuid.startsWith(\"MIG-\")";
    GpuIndex "gpu.index" Int GPU_ANY "Index of the GPU on this host." "gpu.index == 0";
    GpuModel "gpu.model" Str GPU_ANY "Product name of the GPU." "gpu.model.contains(\"H100\")";
    GpuUtil "gpu.util" Float GPU "Utilisation of the GPU, 0 to 100 percent." "gpu.util >= 85.0";
    GpuProcUtil "gpu.proc_util" Float GPU "SM utilisation by this process, 0 to 100 percent." "gpu.proc_util > 50.0";
    GpuMemUsed "gpu.mem_used" Int GPU "GPU memory used by this process, in bytes." "gpu.mem_used > 1.gib";
    GpuPowerWatts "gpu.power_watts" Float GPU "Power drawn by the GPU, in watts." "gpu.power_watts > 300.0";
    GpuTemperature "gpu.temperature_celsius" Float GPU "Temperature of the GPU, in degrees Celsius." "gpu.temperature_celsius > 80.0";
    GpuTensorUtil "gpu.tensor_util" Float GPU "Tensor-core activity, 0 to 100 percent; Hopper and newer." "gpu.tensor_util < 1.0";
    GpuRole "gpu.role" Str GPU "How the process uses the GPU: compute, graphics, mps_client or mps_server." "gpu.role == \"mps_client\"";
    GpuProcMemUtil "gpu.proc_mem_util" Float GPU "Memory utilisation by this process, 0 to 100 percent." "gpu.proc_mem_util > 50.0";
    GpuSmActive "gpu.sm_active" Float GPU "SMs with work on them, 0 to 100 percent; Hopper and newer." "gpu.sm_active > 90.0";
    GpuIntUtil "gpu.int_util" Float GPU "Integer pipe activity, 0 to 100 percent; Hopper and newer." "gpu.int_util > 40.0";
    GpuFloatUtil "gpu.float_util" Float GPU "Activity of the busiest floating-point pipe, 0 to 100 percent; Hopper and newer." "gpu.float_util > 40.0";
    GpuDramUtil "gpu.dram_util" Float GPU "DRAM bandwidth in use, 0 to 100 percent; Hopper and newer." "gpu.dram_util > 80.0";
    GpuPcieBytes "gpu.pcie_bytes_per_s" Int GPU "Bytes per second over PCIe, both ways." "gpu.pcie_bytes_per_s < 5.mib";
    GpuNvlinkBytes "gpu.nvlink_bytes_per_s" Int GPU "Bytes per second over NVLink, both ways." "gpu.nvlink_bytes_per_s > 1.gib";
    GpuUtilMean10m "gpu.util_mean_10m" Float GPU "Mean of this process tree's utilisation over ten minutes, in percent." "gpu.util_mean_10m >= 85.0";
    GpuUtilCv10m "gpu.util_cv_10m" Float GPU "Coefficient of variation of the utilisation over ten minutes, as a ratio." "gpu.util_cv_10m < 0.05";
    GpuMemCv10m "gpu.mem_cv_10m" Float GPU "Coefficient of variation of the memory used over ten minutes, as a ratio." "gpu.mem_cv_10m < 0.01";
    GpuUtilTrend10m "gpu.util_trend_10m" Float GPU "Slope of the utilisation over ten minutes, in percentage points per minute." "gpu.util_trend_10m < 0.1";
    GpuPowerMean10m "gpu.power_mean_10m" Float GPU "Mean power of the GPU over ten minutes, in watts." "gpu.power_mean_10m > 300.0";
    GpuPowerCv10m "gpu.power_cv_10m" Float GPU "Coefficient of variation of the power over ten minutes, as a ratio." "gpu.power_cv_10m < 0.05";
    GpuTensorMean10m "gpu.tensor_mean_10m" Float GPU "Mean tensor-core activity over ten minutes, in percent; Hopper and newer." "gpu.tensor_mean_10m < 1.0";
    GpuIntMean10m "gpu.int_mean_10m" Float GPU "Mean integer activity over ten minutes, in percent; Hopper and newer." "gpu.int_mean_10m > 30.0";
    GpuFloatMean10m "gpu.float_mean_10m" Float GPU "Mean activity of the busiest floating-point pipe over ten minutes, in percent; Hopper and newer." "gpu.float_mean_10m > 30.0";
    GpuDramMean10m "gpu.dram_mean_10m" Float GPU "Mean DRAM bandwidth in use over ten minutes, in percent; Hopper and newer." "gpu.dram_mean_10m > 70.0";
    GpuPcieMean10m "gpu.pcie_mean_10m" Int GPU "Mean bytes per second over PCIe over ten minutes." "gpu.pcie_mean_10m < 5.mib";
    GpuNvlinkMean10m "gpu.nvlink_mean_10m" Int GPU "Mean bytes per second over NVLink over ten minutes; Hopper and newer." "gpu.nvlink_mean_10m > 1.gib";
    GpuMiningScore "gpu.mining_score" Int GPU "How much this looks like mining, 0 to 100; the readings of the GPU alone give 50 at most, the rest is what the host knows of files and flows." "gpu.mining_score >= 70";
    GpuMiningReasons "gpu.mining_reasons" Str GPU "What speaks for mining and what against it, in words." "has(gpu.mining_reasons)";
    GpuAllocated "gpu.allocated" Bool GPU_USE "Whether a scheduler gave this GPU to this workload; missing where no scheduler tells allocations." "has(gpu.allocated) && !gpu.allocated";
    GpuAllocatedTo "gpu.allocated_to" Str GPU_USE "Workloads that schedulers gave this GPU to, e.g. k8s:<namespace>/<pod> or slurm:<job>; missing when free or not known." "has(gpu.allocated_to)";
    GpuFault "gpu.fault" Str FAULT "xid, lost, ecc_uncorrectable or row_remap_failure." "gpu.fault == \"xid\"";
    GpuXid "gpu.xid" Int FAULT "XID number as in the kernel log." "gpu.xid == 79";
    GpuSecondsSinceFirstUse "gpu.seconds_since_first_use" Float GPU "Seconds since this process tree was first seen on a GPU." "gpu.seconds_since_first_use > 1200.0";
    GpuBusySeconds "gpu.busy_seconds" Float GPU "Seconds for which utilisation has stayed at or above 85 percent." "gpu.busy_seconds >= 1200.0";

    WeightsBytesRead "weights.bytes_read" Int ACTED "Bytes of labelled weights this workload read; an upper bound where the sensor says so." "weights.bytes_read > 0";
    WeightsFilesRead "weights.files_read" Int ACTED "Distinct labelled files this workload read." "weights.files_read > 20";
    WeightsModels "weights.models" List ACTED "Models this workload read." "weights.models.size() > 0";
    WeightsSmallestModelBytes "weights.smallest_model_bytes" Int ACTED "Size of the smallest model this workload read; missing when none was read." "weights.smallest_model_bytes > 1.gib";
    WeightsSecondsSinceRead "weights.seconds_since_read" Float ACTED "Seconds since this workload last opened labelled weights." "weights.seconds_since_read < 600.0";

    WeightsDerivedBytes "weights.derived_bytes" Int ACTED "Bytes of derived weights this workload wrote or read: large files written after reading weights." "weights.derived_bytes > 64.mib";
    WeightsOnlyDerived "weights.only_derived" Bool ACTED "Whether this workload read labelled weights, and each of these files was derived: it never opened a model itself." "weights.only_derived";

    WorkloadId "workload.id" Str ACTED "Stable id: k8s:<pod uid>, slurm:<job>, unit:<name>, container:<id>, cgroup:<path> or tree:<pid>:<start>." "workload.id.startsWith(\"slurm:\")";
    WorkloadKind "workload.kind" Str ACTED "k8s, slurm, unit, container, cgroup or tree." "workload.kind == \"k8s\"";
    WorkloadName "workload.name" Str ACTED "The name a person would use." "workload.name == \"trainer-0\"";
    WorkloadProfile "workload.profile" Str ACTED "Id of the profile that selects the workload; missing without one." "workload.profile == \"isolated-training\"";
    WorkloadRole "workload.role" Str ACTED "Role from the profile: training, inference, notebook, batch, system." "workload.role == \"training\"";
    WorkloadIsolated "workload.isolated" Bool ACTED "Whether the profile declares the workload isolated." "workload.isolated";
    WorkloadCgroup "workload.cgroup" Str ACTED "Path of the process's cgroup (v2, or the most specific v1 one)." "workload.cgroup.startsWith(\"/kubepods\")";
    WorkloadBytesReadFiles "workload.file_bytes_read" Int ACTED "Bytes of watched files, weights and data, this workload opened for reading; an upper bound." "workload.file_bytes_read < 1.gib";
    WorkloadEgressBytes "workload.egress_bytes" Int ACTED "Bytes this workload sent to peers other than loopback since it was first seen." "workload.egress_bytes > 1.gib";
    WorkloadRoleInferred "workload.role_inferred" Bool ACTED "Whether the role is inferred from what runs, and not declared by a profile." "!workload.role_inferred";
    WorkloadUnapprovedBytes "workload.unapproved_bytes" Int ACTED "Bytes this workload sent to peers that its profile does not allow; without a profile, to peers outside private networks." "workload.unapproved_bytes > 64.mib";
    WorkloadGpuUser "workload.gpu_user" Bool ACTED "Whether a process of the workload opened a GPU or was seen on one." "workload.gpu_user";
    WorkloadStratumSeen "workload.stratum_seen" Bool ACTED "Whether a mining handshake or pool name was seen from this workload." "workload.stratum_seen";

    K8sNamespace "k8s.ns.name" Str ACTED "Kubernetes namespace." "k8s.ns.name == \"training\"";
    K8sPodName "k8s.pod.name" Str ACTED "Kubernetes pod name." "k8s.pod.name.startsWith(\"trainer-\")";
    K8sPodUid "k8s.pod.uid" Str ACTED "Kubernetes pod uid." "has(k8s.pod.uid)";
    K8sLabels "k8s.labels" Map ACTED "Labels of the pod." "k8s.labels[\"gpuwarden.dev/profile\"] == \"isolated-training\"";
    ContainerId "container.id" Str ACTED "Container id, 64 hex digits where the runtime uses them." "has(container.id)";
    ContainerName "container.name" Str ACTED "Name of the container in its pod, where Kubernetes told it." "container.name == \"trainer\"";
    ContainerRuntime "container.runtime" Str ACTED "containerd, crio, docker, podman, nerdctl, lxc." "container.runtime == \"containerd\"";
    SlurmJobId "slurm.job_id" Str ACTED "SLURM job id." "has(slurm.job_id)";
    SlurmStep "slurm.step" Str ACTED "SLURM step: a number, batch, extern or interactive." "slurm.step == \"batch\"";
    SlurmPartition "slurm.partition" Str ACTED "SLURM partition." "slurm.partition == \"train\"";
    SlurmUser "slurm.user" Str ACTED "SLURM user." "slurm.user == \"alice\"";
    SlurmAccount "slurm.account" Str ACTED "SLURM account." "slurm.account == \"vision\"";
    UnitName "unit.name" Str ACTED "systemd unit." "unit.name == \"trainer.service\"";

    SensorName "sensor.name" Str SENSOR "Sensor the monitor speaks of." "sensor.name == \"file_open\"";
    SensorDetail "sensor.detail" Str SENSOR "Why, for a person." "has(sensor.detail)";
    SensorState "sensor.state" Str SENSOR "loss, off, disagreement, canary_missing, stalled or detached." "sensor.state == \"loss\"";
    SensorReason "sensor.reason" Str SENSOR "Why." "sensor.reason == \"ring_full\"";
    SensorLost "sensor.lost" Int SENSOR "Records lost since the previous report." "sensor.lost > 0";
    SensorCgroup "sensor.noisiest_cgroup" Str SENSOR "Cgroup that caused most of the loss, where known." "has(sensor.noisiest_cgroup)";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogue_is_indexed_by_field_id_and_names_are_unique() {
        for (at, field) in CATALOGUE.iter().enumerate() {
            assert_eq!(field.id as usize, at, "{}", field.name);
            assert_eq!(FieldId::from_name(field.name), Some(field.id));
            assert!(field.meaning.ends_with('.') || field.meaning.ends_with(')'), "{}", field.name);
            assert!(!field.kinds.is_empty());
        }
    }
}
