//! The catalog: what is watched, by which hooks in which order, and what is not seen without them.
//!
//! A sensor has one or more roads. The first road that this kernel takes is used; what a later one
//! does not see is told. Nothing is decided by a kernel's version: a road is taken when its
//! programs load and attach.

mod act;
mod full;

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// An LSM hook, by its name.
    Lsm(&'static str),
    /// The entry of a kernel function.
    Fentry(&'static str),
    /// The return of a kernel function: the first of these names that the kernel has. Their
    /// arguments are the same.
    Fexit(&'static [&'static str]),
    /// A BTF raw tracepoint, by its name.
    BtfTracepoint(&'static str),
    /// The completion tracepoint of `io_uring`, where it hands over the request (5.19 and newer).
    IoUringComplete,
    /// Classic tracepoints of one group; those that the kernel lacks are left out.
    Tracepoints {
        /// The group.
        category: &'static str,
        /// The tracepoints.
        names: &'static [&'static str],
    },
    /// Entries of system calls: hooked only where a call's exit does not tell what it was asked
    /// (before 5.15). Each tracepoint costs the caller, and some 35 ms when it is let go of.
    Entries(&'static [&'static str]),
    /// A cgroup socket-address program at the root of the hierarchy.
    CgroupSockAddr,
    /// A cgroup program at the root, for each socket that is closed.
    CgroupSockRelease,
    /// A cgroup packet program at the root: packets that leave.
    CgroupEgress,
    /// A cgroup packet program at the root: packets that arrive.
    CgroupIngress,
    /// A task iterator, run once.
    TaskIterator,
    /// An iterator over open files, run once and read to its end.
    FileIterator,
    /// Marks of fanotify(7), which the daemon sets and reads itself.
    Fanotify,
}

/// One program of a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the object.
    pub name: &'static str,
    /// Where it is attached.
    pub hook: Hook,
}

/// What a road needs of the kernel. Each is found out by loading a program of that sort, and by
/// seeing whether it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Tracepoints, cgroup programs and iterators.
    Base,
    /// Entries and returns of kernel functions.
    Fentry,
    /// LSM programs that are called.
    Lsm,
}

impl Tier {
    /// The word used in `doctor` and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Fentry => "fentry",
            Self::Lsm => "lsm",
        }
    }
}

/// One way to watch: programs that are attached together, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Road {
    /// What the kernel must take.
    pub tier: Tier,
    /// The programs.
    pub programs: &'static [Program],
    /// What is lost on this road compared with the sensor's first; empty for nothing.
    pub lost: &'static str,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// Its name in `doctor`, metrics and alerts.
    pub name: &'static str,
    /// What it sees, in words.
    pub sees: &'static str,
    /// How it is watched: the preferred road first.
    pub roads: &'static [Road],
    /// What is not seen even on the preferred road; empty for nothing.
    pub bound: &'static str,
    /// What is not seen when it is off.
    pub lost: &'static str,
    /// Whether the monitor is of no use without it.
    pub required: bool,
}

const fn program(name: &'static str, hook: Hook) -> Program {
    Program { name, hook }
}

/// A road that every supported kernel takes, without loss.
const fn base(programs: &'static [Program]) -> Road {
    Road { tier: Tier::Base, programs, lost: "" }
}

/// Tracepoints of system calls.
const NAME_GIVEN: Hook = syscalls(&["sys_enter_rename", "sys_enter_link"]);
const NAME_GIVEN_AT: Program = program(
    "name_given_at",
    syscalls(&["sys_enter_renameat2", "sys_enter_renameat", "sys_enter_linkat"]),
);

const fn syscalls(names: &'static [&'static str]) -> Hook {
    Hook::Tracepoints { category: "syscalls", names }
}

/// Entries of system calls, where they are needed.
const fn entries(names: &'static [&'static str]) -> Hook {
    Hook::Entries(names)
}

/// Every sensor. Programs are attached in this order; the task iterator runs last, so that no
/// process falls between what it saw and what the hooks saw.
pub const CATALOG: &[Sensor] = &[
    Sensor {
        name: "process_exec",
        sees: "programs that are executed, with arguments and executable identity",
        roads: &[base(&[program("exec_done", Hook::BtfTracepoint("sched_process_exec"))])],
        bound: "",
        lost: "executed programs",
        required: true,
    },
    Sensor {
        name: "process",
        sees: "new processes and threads, io_uring workers included",
        roads: &[base(&[program("task_new", Hook::BtfTracepoint("task_newtask"))])],
        bound: "",
        lost: "new processes; ancestry comes from /proc alone",
        required: true,
    },
    Sensor {
        name: "process_exit",
        sees: "processes whose last thread ended",
        roads: &[base(&[program("task_exit", Hook::BtfTracepoint("sched_process_exit"))])],
        bound: "",
        lost: "ends of processes",
        required: true,
    },
    Sensor {
        name: "file_open",
        sees: "opened weights, big files, named classes, credentials, start-up hooks, device \
               nodes, and what is written after weights were read",
        roads: &[
            full::OPEN_LSM,
            full::OPEN_FENTRY,
            Road {
                tier: Tier::Base,
                programs: &[program(
                    "file_opened",
                    Hook::Tracepoints {
                        category: "syscalls",
                        names: &[
                            "sys_exit_openat",
                            "sys_exit_open",
                            "sys_exit_openat2",
                            "sys_exit_creat",
                            "sys_exit_open_by_handle_at",
                            "sys_exit_memfd_create",
                        ],
                    },
                )],
                lost: "opens by 32-bit system calls, but those of labelled files (label_watch)",
            },
        ],
        bound: "",
        lost: "opened files: weights, identity, reads",
        required: false,
    },
    Sensor {
        name: "io_uring",
        sees: "files opened by io_uring, and bytes of labelled files read by it",
        roads: &[base(&[program("uring_done", Hook::IoUringComplete)])],
        bound: "opens into direct descriptors of unlabelled files are not seen; splices are not \
                counted",
        lost: "files opened by io_uring, bytes it reads",
        required: false,
    },
    Sensor {
        name: "label_watch",
        sees: "opens, reads and writes of labelled files by any road: other system calls, passed \
               and older descriptors, any name, mount or root",
        roads: &[base(&[program("label_watch", Hook::Fanotify)])],
        bound: "file systems without marks are not seen; at most 8192 files; of a file that is \
                opened or read without a pause, a tenth of the time",
        lost: "opens of labelled files by 32-bit system calls, readers of passed descriptors, the \
               end of writing",
        required: false,
    },
    Sensor {
        name: "new_names",
        sees: "where labelled files go that are renamed or linked, with label_watch",
        roads: &[
            base(&[NAME_GIVEN_AT, program("name_given", NAME_GIVEN)]),
            // Newer architectures have no calls without a directory.
            base(&[NAME_GIVEN_AT]),
        ],
        bound: "names of 32-bit system calls and beyond 511 bytes are not seen, nor relative names \
                of a process that has ended",
        lost: "new names in other directories of labelled files",
        required: false,
    },
    Sensor {
        name: "tcp_state",
        sees: "TCP and MPTCP flows with their real peer, whatever system call opened them",
        roads: &[base(&[program("tcp_state", Hook::BtfTracepoint("inet_sock_set_state"))])],
        bound: "",
        lost: "TCP flows",
        required: true,
    },
    Sensor {
        name: "send_bytes",
        sees: "bytes sent on any socket, by any road",
        roads: &[
            base(&[
                program("sock_sent", Hook::BtfTracepoint("sock_send_length")),
                program("sock_gone", Hook::CgroupSockRelease),
            ]),
            full::SENT_ALL,
            full::SENT_INET,
            act::SENT_IN_PACKETS,
        ],
        bound: "memory-mapped packet rings (PACKET_MMAP, AF_XDP) and RDMA pass no socket; what a \
                packet socket sends within a second of its end is not told",
        lost: "bytes sent, and flows that TCP state does not show (UDP, raw, packet sockets)",
        required: false,
    },
    Sensor {
        name: "udp_peer",
        sees: "peers of datagrams on sockets without a fixed peer",
        roads: &[base(&[
            program("udp_peer4", Hook::CgroupSockAddr),
            program("udp_peer6", Hook::CgroupSockAddr),
        ])],
        bound: "",
        lost: "peers of unconnected datagrams; their bytes are still counted",
        required: false,
    },
    Sensor {
        name: "packet",
        sees: "first bytes of flows, questions to resolvers, and peers of raw sockets",
        roads: &[base(&[program("packet_out", Hook::CgroupEgress)])],
        bound: "only the first 512 bytes of a flow are looked at, 2 KiB of a TLS hello, in 32 \
                segments at most",
        lost: "mining handshakes and TLS names on the wire, questions to resolvers, peers of raw \
               sockets",
        required: false,
    },
    Sensor {
        name: "dns",
        sees: "answers of resolvers over UDP and TCP, to questions that were asked",
        roads: &[base(&[program("packet_in", Hook::CgroupIngress)])],
        bound: "ports 53 and 5353; DNS over TLS and HTTPS is not seen, and of a message the first \
                2 KiB",
        lost: "names of peers",
        required: false,
    },
    Sensor {
        name: "socket_new",
        sees: "sockets of rare families and types, when they are made",
        roads: &[
            full::SOCKET_LSM,
            full::SOCKET_FENTRY,
            Road {
                tier: Tier::Base,
                programs: &[program(
                    "socket_made",
                    Hook::Tracepoints { category: "syscalls", names: &["sys_exit_socket"] },
                )],
                lost: "sockets made by io_uring or by 32-bit system calls, until they send",
            },
        ],
        bound: "",
        lost: "raw, packet, vsock and other rare sockets until they send",
        required: false,
    },
    full::FILE_READ,
    full::FILE_CHANGE,
    full::MAP_EXEC,
    full::SEGMENT,
    full::ACCESS_CHECK,
    Sensor {
        name: "stdio",
        sees: "standard streams that are sockets, pipes or ptys, at exec and when replaced",
        roads: &[base(&[
            program("stdio_exec", Hook::BtfTracepoint("sched_process_exec")),
            program("stdio_dup", syscalls(&["sys_exit_dup", "sys_exit_dup2", "sys_exit_dup3"])),
            program("stdio_fcntl", syscalls(&["sys_exit_fcntl"])),
        ])],
        bound: "a stream that is closed and made anew as a socket is seen at the next exec",
        lost: "shells on sockets and behind relays",
        required: false,
    },
    Sensor {
        name: "memory_access",
        sees: "processes that reach into others: ptrace, process_vm, pidfd_getfd, /proc/PID/mem",
        roads: &[base(&[
            program("ptrace_entered", entries(&["sys_enter_ptrace"])),
            program("ptrace_done", syscalls(&["sys_exit_ptrace"])),
            program(
                "vm_entered",
                entries(&["sys_enter_process_vm_readv", "sys_enter_process_vm_writev"]),
            ),
            program("vm_read_done", syscalls(&["sys_exit_process_vm_readv"])),
            program("vm_write_done", syscalls(&["sys_exit_process_vm_writev"])),
            program("pidfd_entered", entries(&["sys_enter_pidfd_getfd"])),
            program("pidfd_done", syscalls(&["sys_exit_pidfd_getfd"])),
        ])],
        bound: "32-bit system calls are not seen; bytes of the last second before a process ends \
                may be missing; reads of /proc/PID/mem are not counted",
        lost: "theft of memory and descriptors between processes",
        required: false,
    },
    Sensor {
        name: "tamper_bpf",
        sees: "BPF programs loaded by others, and the monitor's own objects opened or changed",
        roads: &[base(&[
            program("bpf_entered", entries(&["sys_enter_bpf"])),
            program("bpf_done", syscalls(&["sys_exit_bpf"])),
        ])],
        bound: "an administrator can still take the monitor away; it is told, not stopped",
        lost: "tampering with the monitor's own programs, maps and links",
        required: false,
    },
    Sensor {
        name: "tamper_signal",
        sees: "signals to the monitor that end or stop it",
        roads: &[base(&[program("signal_sent", Hook::BtfTracepoint("signal_generate"))])],
        bound: "SIGKILL ends the monitor before it can tell",
        lost: "who stopped or ended the monitor",
        required: false,
    },
    Sensor {
        name: "tamper_module",
        sees: "kernel modules that are loaded, refused or taken out",
        roads: &[base(&[
            program("module_loaded", Hook::BtfTracepoint("module_load")),
            program("module_gone", Hook::BtfTracepoint("module_free")),
            program("module_entered", entries(&["sys_enter_finit_module"])),
            program("module_done", syscalls(&["sys_exit_finit_module"])),
            program("module_img_done", syscalls(&["sys_exit_init_module"])),
        ])],
        bound: "an image that is refused has no name yet; a 32-bit program's refusals are not seen",
        lost: "kernel modules that are loaded",
        required: false,
    },
    Sensor {
        name: "tamper_freeze",
        sees: "cgroups that are frozen, the monitor's own among them",
        roads: &[base(&[program("cgroup_frozen", Hook::BtfTracepoint("cgroup_freeze"))])],
        bound: "the freezer of cgroup version 1 is known by the open of its file only",
        lost: "frozen cgroups",
        required: false,
    },
    act::NAMESPACE,
    Sensor {
        name: "async_io",
        sees: "io_uring instances, with a kernel thread or not, and userfaultfd",
        roads: &[base(&[
            program("uring_made", Hook::BtfTracepoint("io_uring_create")),
            program("uffd_entered", entries(&["sys_enter_userfaultfd"])),
            program("uffd_done", syscalls(&["sys_exit_userfaultfd"])),
        ])],
        bound: "userfaultfd through /dev/userfaultfd is not seen; a 32-bit system call is not told \
                from a 64-bit one",
        lost: "unusual ways into the kernel; what they do to sockets is seen all the same",
        required: false,
    },
    Sensor {
        name: "io_uring_net",
        sees: "operations on sockets that a process asks io_uring for, once each",
        roads: &[base(&[program("uring_submit", Hook::BtfTracepoint("io_uring_submit_req"))])],
        bound: "",
        lost: "which processes use sockets through io_uring; their flows are seen all the same",
        required: false,
    },
    Sensor {
        name: "cgroup_move",
        sees: "processes that are moved to another cgroup",
        roads: &[base(&[program("cgroup_moved", Hook::BtfTracepoint("cgroup_attach_task"))])],
        bound: "",
        lost: "moves between cgroups until the process's next record",
        required: false,
    },
    act::PIPE_WRITE,
    act::UNIX_CONNECT,
    act::FLOW_SEEN,
    Sensor {
        name: "process_seen",
        sees: "processes that ran before the monitor",
        roads: &[base(&[program("task_seen", Hook::TaskIterator)])],
        bound: "",
        lost: "exact start times of older processes; /proc is read instead",
        required: false,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_what_bpftool_shows() {
        let mut names = BTreeSet::new();
        for sensor in CATALOG {
            assert!(names.insert(sensor.name));
            for program in sensor.roads.iter().flat_map(|road| road.programs) {
                // A program may stand on two roads of one sensor, never in two sensors.
                let other = CATALOG.iter().filter(|other| other.name != sensor.name);
                let mut others =
                    other.flat_map(|other| other.roads.iter().flat_map(|road| road.programs));
                assert!(others.all(|other| other.name != program.name), "{}", program.name);
                assert!(program.name.len() <= 15, "{}", program.name);
            }
            assert!(!sensor.lost.is_empty());
        }
    }

    #[test]
    fn first_road_loses_nothing_and_each_hook_belongs_to_the_tier_of_its_road() {
        for sensor in CATALOG {
            let first = sensor.roads.first().expect("a sensor without a road watches nothing");
            assert_eq!(first.lost, "", "{}: nothing is preferred to its first road", sensor.name);
            assert!(!sensor.required || sensor.roads.iter().any(|road| road.tier == Tier::Base));
            for road in sensor.roads {
                assert!(!road.programs.is_empty(), "{}", sensor.name);
                for program in road.programs {
                    let needs = match program.hook {
                        Hook::Lsm(_) => Tier::Lsm,
                        Hook::Fentry(_) | Hook::Fexit(_) => Tier::Fentry,
                        _ => Tier::Base,
                    };
                    let fits = needs == road.tier || needs == Tier::Base;
                    assert!(fits, "{} stands on a road of another tier", program.name);
                }
            }
        }
    }

    #[test]
    fn every_sensor_that_an_offset_names_is_in_the_catalog() {
        let names: BTreeSet<_> = CATALOG.iter().map(|sensor| sensor.name).collect();
        for offset in monitor_common::OFFSETS {
            for sensor in offset.sensors {
                assert!(names.contains(sensor), "{} names {sensor}", offset.global);
            }
        }
    }
}
