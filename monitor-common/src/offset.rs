//! The kernel fields that are read, one list: the globals of the kernel side and the resolver of
//! the daemon are both generated from it.
//!
//! A path goes from a struct through members, anonymous structs and unions included; `|` separates
//! the names a member has had. The width is what is read: the daemon refuses a field of another
//! width, and a bit field of any.

/// An offset that the running kernel does not have. Never zero: zero is a legal offset.
pub const OFFSET_ABSENT: u32 = u32::MAX;

/// A field as the kernel side is told of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the struct, or [`OFFSET_ABSENT`].
    pub offset: u32,
    /// The struct's id in the kernel's type information; zero when it was not found.
    pub strukt: u32,
}

/// The number in the call that the kernel side makes for the kernel function `bpf_rdonly_cast`: far
/// from every helper's. The daemon looks for it in the object's instructions.
pub const CAST_CALL: u32 = 0x6777_6361;

/// Where a system call's exit tracepoint keeps the result. The verifier allows no variable here, so
/// the daemon compares it with the tracepoint's format and leaves the sensor off when they differ.
pub const SYSCALL_RESULT_OFFSET: usize = 16;

/// Where a system call's entry tracepoint keeps the first argument; each takes eight bytes. The
/// daemon compares with the tracepoint's format as above.
pub const SYSCALL_ARGS_OFFSET: usize = 16;

/// Where the tracepoints of a system call keep its number. The daemon compares as above.
pub const SYSCALL_NUMBER_OFFSET: usize = 8;

/// Bytes read at once from the start of `struct inode`; every inode field must lie within.
pub const INODE_HEAD_BYTES: usize = 128;

/// One field of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Name of the global on the kernel side.
    pub global: &'static str,
    /// Struct the path starts from.
    pub strukt: &'static str,
    /// Members, separated by dots; `|` separates older names.
    pub path: &'static str,
    /// Width in bytes; zero where only the position matters.
    pub width: u32,
    /// Sensors that are off without it, by catalog name.
    pub sensors: &'static [&'static str],
}

/// Calls the macro named with the whole list, so that both sides generate from it.
#[macro_export]
macro_rules! for_each_offset {
    ($callback:ident) => {
        $callback! {
            OFF_TASK_TGID "task_struct" "tgid" 4 ["process"];
            OFF_TASK_PID "task_struct" "pid" 4 ["process"];
            OFF_TASK_LEADER "task_struct" "group_leader" 8 ["process"];
            OFF_TASK_PARENT "task_struct" "real_parent" 8 ["process"];
            OFF_TASK_START "task_struct" "start_boottime|real_start_time" 8 ["process"];
            OFF_TASK_COMM "task_struct" "comm" 0 ["process"];
            OFF_TASK_CRED "task_struct" "cred" 8 ["process"];
            OFF_TASK_FLAGS "task_struct" "flags" 4 ["process"];
            OFF_TASK_MM "task_struct" "mm" 8 ["process"];
            OFF_TASK_FS "task_struct" "fs" 8 ["process"];
            OFF_TASK_EXEC_ID "task_struct" "self_exec_id" 8 [];
            OFF_TASK_FILES "task_struct" "files" 8 ["file_open", "socket_new"];
            OFF_TASK_SIGNAL "task_struct" "signal" 8 ["process_exit"];
            OFF_TASK_NSPROXY "task_struct" "nsproxy" 8 ["process"];
            OFF_TASK_EXIT_CODE "task_struct" "exit_code" 4 ["process_exit"];
            OFF_TASK_CGROUPS "task_struct" "cgroups" 8 ["process"];
            OFF_CSS_SET_DFL "css_set" "dfl_cgrp" 8 ["process"];
            OFF_CGROUP_KN "cgroup" "kn" 8 ["process"];
            OFF_KN_ID "kernfs_node" "id" 8 ["process"];
            OFF_CRED_EUID "cred" "euid" 4 ["process"];
            OFF_CRED_EGID "cred" "egid" 4 ["process"];
            OFF_SIGNAL_LIVE "signal_struct" "live" 4 ["process_exit"];
            OFF_NSPROXY_MNT "nsproxy" "mnt_ns" 8 ["process"];
            OFF_MNTNS_INUM "mnt_namespace" "ns.inum" 4 ["process"];
            OFF_MM_ARG_START "mm_struct" "arg_start" 8 ["process_exec"];
            OFF_MM_ARG_END "mm_struct" "arg_end" 8 ["process_exec"];
            OFF_MM_EXE_FILE "mm_struct" "exe_file" 8 ["process"];
            OFF_FS_PWD "fs_struct" "pwd" 0 ["process_exec"];
            OFF_PATH_MNT "path" "mnt" 8 ["process_exec", "file_open"];
            OFF_PATH_DENTRY "path" "dentry" 8 ["process_exec", "file_open"];
            OFF_FILES_FDT "files_struct" "fdt" 8 ["file_open", "socket_new"];
            OFF_FDT_FD "fdtable" "fd" 8 ["file_open", "socket_new"];
            OFF_FDT_MAX "fdtable" "max_fds" 4 ["file_open", "socket_new"];
            OFF_FILE_PATH "file" "f_path" 0 ["process_exec", "file_open"];
            OFF_FILE_INODE "file" "f_inode" 8 ["process_exec", "file_open"];
            OFF_FILE_FLAGS "file" "f_flags" 4 ["file_open"];
            OFF_FILE_PRIVATE "file" "private_data" 8 ["socket_new"];
            OFF_BACKING_FILE "backing_file" "file" 0 [];
            OFF_DENTRY_PARENT "dentry" "d_parent" 8 ["process_exec", "file_open"];
            OFF_DENTRY_NAME "dentry" "d_name.name|__d_name.name" 8 ["process_exec", "file_open"];
            OFF_DENTRY_LEN "dentry" "d_name.len|__d_name.len" 4 ["process_exec", "file_open"];
            OFF_DENTRY_INODE "dentry" "d_inode" 8 ["file_open"];
            OFF_MOUNT_MNT "mount" "mnt" 0 ["process_exec", "file_open"];
            OFF_MOUNT_PARENT "mount" "mnt_parent" 8 ["process_exec", "file_open"];
            OFF_MOUNT_POINT "mount" "mnt_mountpoint" 8 ["process_exec", "file_open"];
            OFF_VFSMNT_ROOT "vfsmount" "mnt_root" 8 ["process_exec", "file_open"];
            OFF_INODE_MODE "inode" "i_mode" 2 ["process", "file_open"];
            OFF_INODE_SB "inode" "i_sb" 8 ["process", "file_open"];
            OFF_INODE_INO "inode" "i_ino" 8 ["process", "file_open"];
            OFF_INODE_NLINK "inode" "i_nlink" 4 ["process_exec"];
            OFF_INODE_RDEV "inode" "i_rdev" 4 ["file_open"];
            OFF_INODE_SIZE "inode" "i_size" 8 ["file_open"];
            OFF_INODE_GEN "inode" "i_generation" 4 ["process", "file_open"];
            OFF_INODE_CTIME "inode" "i_ctime_sec|__i_ctime.tv_sec|i_ctime.tv_sec" 8 [];
            OFF_IO_FILE "io_kiocb" "file" 8 ["io_uring"];
            OFF_IO_OPCODE "io_kiocb" "opcode" 1 ["io_uring"];
            OFF_KIOCB_FILE "kiocb" "ki_filp" 8 ["file_read"];
            OFF_SB_DEV "super_block" "s_dev" 4 ["process", "file_open"];
            OFF_SB_MAGIC "super_block" "s_magic" 8 ["file_open"];
            OFF_BPRM_FILE "linux_binprm" "file" 8 ["process_exec"];
            OFF_SOCKET_SK "socket" "sk" 8 ["socket_new"];
            OFF_SK_FAMILY "sock" "__sk_common.skc_family" 2 ["tcp_state", "send_bytes"];
            OFF_SK_DADDR "sock" "__sk_common.skc_daddr" 4 ["tcp_state", "send_bytes"];
            OFF_SK_SADDR "sock" "__sk_common.skc_rcv_saddr" 4 ["tcp_state", "send_bytes"];
            OFF_SK_DPORT "sock" "__sk_common.skc_dport" 2 ["tcp_state", "send_bytes"];
            OFF_SK_NUM "sock" "__sk_common.skc_num" 2 ["tcp_state", "send_bytes"];
            OFF_SK_V6_DADDR "sock" "__sk_common.skc_v6_daddr" 16 ["tcp_state", "send_bytes"];
            OFF_SK_V6_SADDR "sock" "__sk_common.skc_v6_rcv_saddr" 16 ["tcp_state", "send_bytes"];
            OFF_SK_TYPE "sock" "sk_type" 2 ["tcp_state", "send_bytes"];
            OFF_SK_PROTOCOL "sock" "sk_protocol" 2 ["tcp_state", "send_bytes"];
            OFF_TCP_FASTOPEN "tcp_sock" "fastopen_req" 8 ["tcp_state"];
            OFF_SK_SOCKET "sock" "sk_socket" 8 ["stdio"];
            OFF_SOCKET_INODE "socket_alloc" "vfs_inode" 0 ["stdio"];
            OFF_UNIX_PEER "unix_sock" "peer" 8 ["stdio"];
            OFF_SK_PEER_PID "sock" "sk_peer_pid" 8 [];
            OFF_SK_CGROUP "sock" "sk_cgrp_data.cgroup|sk_cgrp_data.val" 8 [];
            OFF_SK_NET "sock" "__sk_common.skc_net.net" 8 [];
            OFF_NET_INUM "net" "ns.inum" 4 [];
            OFF_UNIX_ADDR "unix_sock" "addr" 8 ["unix_connect"];
            OFF_UNIX_NAME "unix_address" "name" 0 ["unix_connect"];
            OFF_TASK_PTRACED "task_struct" "ptraced" 0 ["memory_access"];
            OFF_TASK_PTRACE_ENTRY "task_struct" "ptrace_entry" 0 ["memory_access"];
            OFF_TASK_THREAD_PID "task_struct" "thread_pid" 8 ["memory_access"];
            OFF_TASK_PID_LINKS "task_struct" "pid_links" 0 ["memory_access"];
            OFF_PID_LEVEL "pid" "level" 4 ["memory_access"];
            OFF_PID_TASKS "pid" "tasks" 0 ["memory_access"];
            OFF_INODE_PRIVATE "inode" "i_private" 8 ["memory_access"];
            OFF_PROC_INODE_PID "proc_inode" "pid" 8 ["memory_access"];
            OFF_PROC_INODE_VFS "proc_inode" "vfs_inode" 0 ["memory_access"];
            OFF_BPF_MAP_ID "bpf_map" "id" 4 ["tamper_bpf"];
            OFF_BPF_PROG_AUX "bpf_prog" "aux" 8 ["tamper_bpf"];
            OFF_BPF_AUX_ID "bpf_prog_aux" "id" 4 ["tamper_bpf"];
            OFF_BPF_AUX_NAME "bpf_prog_aux" "name" 0 ["tamper_bpf"];
            OFF_BPF_LINK_ID "bpf_link" "id" 4 ["tamper_bpf"];
            OFF_MODULE_NAME "module" "name" 0 ["tamper_module"];
            OFF_NSPROXY_IPC "nsproxy" "ipc_ns" 8 ["segment"];
            OFF_IPC_INUM "ipc_namespace" "ns.inum" 4 ["segment"];
            OFF_IPC_IDS "ipc_namespace" "ids" 0 ["segment"];
            OFF_IPC_AFTER_IDS "ipc_namespace" "sem_ctls" 0 ["segment"];
            OFF_IDS_HEAD "ipc_ids" "ipcs_idr.idr_rt.xa_head" 8 ["segment"];
            OFF_XA_SHIFT "xa_node" "shift" 1 ["segment"];
            OFF_XA_SLOTS "xa_node" "slots" 0 ["segment"];
            OFF_PERM_ID "kern_ipc_perm" "id" 4 ["segment"];
            OFF_SHM_PERM "shmid_kernel" "shm_perm" 0 ["segment"];
            OFF_SHM_FILE "shmid_kernel" "shm_file" 8 ["segment"];
            OFF_KIOCB_OPCODE "io_kiocb" "opcode" 1 ["io_uring_net"];
            OFF_WORD "timespec64" "tv_sec" 8 [];
            OFF_REGS_0 "pt_regs" "di|orig_x0" 8 [];
            OFF_REGS_1 "pt_regs" "si" 8 [];
            OFF_REGS_2 "pt_regs" "dx" 8 [];
            OFF_REGS_3 "pt_regs" "r10" 8 [];
            OFF_REGS_4 "pt_regs" "r8" 8 [];
            OFF_REGS_ALL "pt_regs" "regs" 0 [];
        }
    };
}

macro_rules! list {
    ($($global:ident $strukt:literal $path:literal $width:literal [$($sensor:literal),*];)+) => {
        /// Every field that is read.
        pub const OFFSETS: &[Offset] = &[$(Offset {
            global: stringify!($global),
            strukt: $strukt,
            path: $path,
            width: $width,
            sensors: &[$($sensor),*],
        },)+];
    };
}

for_each_offset!(list);
