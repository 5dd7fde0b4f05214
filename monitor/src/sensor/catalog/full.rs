//! Roads and rows of the full tier: on LSM hooks, and where BPF's LSM programs are not called, on
//! the entries of the functions that call those hooks.

use super::{Hook, Program, Road, Sensor, Tier, entries, program, syscalls};

const fn lsm(programs: &'static [Program]) -> Road {
    Road { tier: Tier::Lsm, programs, lost: "" }
}

const fn fentry(programs: &'static [Program]) -> Road {
    Road { tier: Tier::Fentry, programs, lost: "" }
}

/// Files in memory, which are made open.
const MEMORY_MADE: Program = program("memory_made", syscalls(&["sys_exit_memfd_create"]));
pub(super) const OPEN_LSM: Road = lsm(&[program("open_lsm", Hook::Lsm("file_open")), MEMORY_MADE]);
pub(super) const OPEN_FENTRY: Road =
    fentry(&[program("open_fentry", Hook::Fentry("security_file_open")), MEMORY_MADE]);

pub(super) const SOCKET_LSM: Road = lsm(&[program("socket_lsm", Hook::Lsm("socket_create"))]);
pub(super) const SOCKET_FENTRY: Road =
    fentry(&[program("socket_fentry", Hook::Fentry("security_socket_create"))]);

/// Functions that send, and that end what has sent; those of packet sockets come last.
const SENT: &[Program] = &[
    program("inet_sent", Hook::Fexit(&["inet_sendmsg"])),
    program("inet6_sent", Hook::Fexit(&["inet6_sendmsg"])),
    program("tcp_page_sent", Hook::Fexit(&["tcp_sendpage"])),
    program("udp_page_sent", Hook::Fexit(&["udp_sendpage"])),
    program("unix_sent", Hook::Fexit(&["unix_stream_sendmsg"])),
    program("unix_dgram_sent", Hook::Fexit(&["unix_dgram_sendmsg"])),
    program("unix_page_sent", Hook::Fexit(&["unix_stream_sendpage"])),
    program("inet_closed", Hook::Fentry("inet_release")),
    program("packet_sent", Hook::Fexit(&["packet_sendmsg"])),
    program("packet_closed", Hook::Fentry("packet_release")),
];
/// How many of them are of packet sockets.
const PACKET_PROGRAMS: usize = 2;

/// Bytes sent, where the socket layer has no tracepoint for them (before 6.3).
pub(super) const SENT_ALL: Road = Road {
    tier: Tier::Fentry,
    programs: SENT,
    lost: "bytes of families beside internet, local and packet sockets (vsock and rarer), and of \
           sendfile into TLS of the kernel",
};
/// The same, where packet sockets are a module that is not loaded.
pub(super) const SENT_INET: Road = Road {
    tier: Tier::Fentry,
    programs: SENT.split_at(SENT.len() - PACKET_PROGRAMS).0,
    lost: "bytes of families beside internet and local sockets (packet, vsock and rarer), and of \
           sendfile into TLS of the kernel",
};

const RENAME_LSM: Program = program("rename_lsm", Hook::Lsm("path_rename"));
const LINK_LSM: Program = program("link_lsm", Hook::Lsm("path_link"));
const UNLINK_LSM: Program = program("unlink_lsm", Hook::Lsm("path_unlink"));
const CUT_LSM: Program = program("cut_lsm", Hook::Lsm("path_truncate"));
const RENAME_FENTRY: Program = program("rename_fentry", Hook::Fentry("security_path_rename"));
const LINK_FENTRY: Program = program("link_fentry", Hook::Fentry("security_path_link"));
const UNLINK_FENTRY: Program = program("unlink_fentry", Hook::Fentry("security_path_unlink"));
const CUT_FENTRY: Program = program("cut_fentry", Hook::Fentry("security_path_truncate"));

/// Exact bytes of labelled files.
pub(super) const FILE_READ: Sensor = Sensor {
    name: "file_read",
    sees: "bytes of labelled files that were read, moved on or mapped, by any system call",
    roads: &[fentry(&[
        program("read_returned", Hook::Fexit(&["vfs_read"])),
        program("readv_returned", Hook::Fexit(&["vfs_readv"])),
        program("spliced", Hook::Fexit(&["do_splice_read", "vfs_splice_read", "do_splice_to"])),
        program("mapped", Hook::Fexit(&["vm_mmap_pgoff"])),
        program("aio_started", Hook::Fentry("aio_read")),
    ])],
    bound: "of a mapping its length counts, of Linux AIO what was asked for; up to 64 KiB may be \
            told a second late",
    lost: "exact bytes read: a labelled file that is opened or read counts with its whole size",
    required: false,
};

/// Names of labelled files.
pub(super) const FILE_CHANGE: Sensor = Sensor {
    name: "file_change",
    sees: "labelled files that are renamed, linked, removed or cut, by any system call",
    roads: &[
        // From 6.2 on an open file is cut at a hook of its own.
        lsm(&[
            RENAME_LSM,
            LINK_LSM,
            UNLINK_LSM,
            CUT_LSM,
            program("fcut_lsm", Hook::Lsm("file_truncate")),
        ]),
        lsm(&[RENAME_LSM, LINK_LSM, UNLINK_LSM, CUT_LSM]),
        fentry(&[
            RENAME_FENTRY,
            LINK_FENTRY,
            UNLINK_FENTRY,
            CUT_FENTRY,
            program("fcut_fentry", Hook::Fentry("security_file_truncate")),
        ]),
        fentry(&[RENAME_FENTRY, LINK_FENTRY, UNLINK_FENTRY, CUT_FENTRY]),
    ],
    bound: "what a file server in the kernel does (nfsd, ksmbd)",
    lost: "renames, links, removals and cuts of labelled files before they are done; label_watch \
           tells of them afterwards",
    required: false,
};

/// Code that container tools map, and code that the mapping workload wrote itself.
pub(super) const MAP_EXEC: Sensor = Sensor {
    name: "map_exec",
    sees: "code that NVIDIA's container tools map, and code that the workload itself wrote lately",
    roads: &[
        lsm(&[program("exec_map_lsm", Hook::Lsm("mmap_file"))]),
        fentry(&[program("exec_map_fentry", Hook::Fentry("security_mmap_file"))]),
        Road {
            tier: Tier::Base,
            programs: &[program("exec_mapped", syscalls(&["sys_enter_mmap"]))],
            lost: "code that 32-bit system calls map",
        },
    ],
    bound: "tools are told by their thread's name; who wrote a file is known of the last 16384; \
            memory that is written first and made executable later is none of a file",
    lost: "libraries from an image that a container tool loads with the host's rights, and fresh \
           programs that the dynamic loader maps",
    required: false,
};

/// Memory that processes share by its number.
pub(super) const SEGMENT: Sensor = Sensor {
    name: "segment",
    sees: "segments of System V shared memory that are attached",
    roads: &[
        lsm(&[program("segment_lsm", Hook::Lsm("shm_shmat"))]),
        fentry(&[program("segment_fentry", Hook::Fentry("security_shm_shmat"))]),
        Road {
            tier: Tier::Base,
            programs: &[
                program("segment_entered", entries(&["sys_enter_shmat"])),
                program("segment_done", syscalls(&["sys_exit_shmat"])),
            ],
            lost: "segments that 32-bit system calls attach",
        },
    ],
    bound: "segments of less than 64 KiB, and what was attached before the monitor came; who lets \
            go of a segment is taken to have it until the process ends",
    lost: "weights that are handed to other workloads in System V shared memory",
    required: false,
};

/// Access to other processes.
pub(super) const ACCESS_CHECK: Sensor = Sensor {
    name: "access_check",
    sees: "processes that the kernel asks whether they may reach into another, by any road",
    roads: &[
        lsm(&[program("access_lsm", Hook::Lsm("ptrace_access_check"))]),
        fentry(&[program("access_fentry", Hook::Fentry("security_ptrace_access_check"))]),
    ],
    bound: "that it was asked for, not that it was granted",
    lost: "reaching into processes by 32-bit system calls and by roads without a system call of \
           their own",
    required: false,
};
