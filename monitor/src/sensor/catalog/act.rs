//! Rows of what is known of local sockets, and of flows that are older than the monitor.

use super::{Hook, Road, Sensor, Tier, base, entries, program, syscalls};

/// Bytes sent, where neither the socket layer nor a function tells (before 6.3, base tier).
pub(super) const SENT_IN_PACKETS: Road = Road {
    tier: Tier::Base,
    programs: &[
        program("packet_counted", Hook::CgroupEgress),
        program("sock_gone", Hook::CgroupSockRelease),
    ],
    lost: "bytes of packet sockets and of families beside internet sockets, who of several \
           processes sent what on one stream, and bytes that wait in a socket when it is destroyed",
};

/// What goes into pipes.
pub(super) const PIPE_WRITE: Sensor = Sensor {
    name: "pipe_write",
    sees: "how much a workload that has read weights puts into pipes and FIFOs",
    roads: &[base(&[
        program("pipe_written", syscalls(&["sys_enter_write"])),
        program("pipe_gathered", syscalls(&["sys_enter_writev", "sys_enter_pwritev2"])),
        program("page_entered", entries(&["sys_enter_vmsplice", "sys_enter_sendfile64"])),
        program("page_done", syscalls(&["sys_exit_vmsplice", "sys_exit_sendfile64"])),
        program("tee_entered", entries(&["sys_enter_tee"])),
        program("tee_done", syscalls(&["sys_exit_tee"])),
        program("splice_entered", entries(&["sys_enter_splice"])),
        program("splice_done", syscalls(&["sys_exit_splice"])),
    ])],
    bound: "of a write what was asked for counts, of one that may not wait a MiB at most; 32-bit \
            system calls are not seen",
    lost: "what is passed on to other workloads through pipes and FIFOs",
    required: false,
};

/// Unix sockets that are connected.
pub(super) const UNIX_CONNECT: Sensor = Sensor {
    name: "unix_connect",
    sees: "unix sockets that are connected to a path, by the path of whoever listens",
    roads: &[base(&[
        program("connect_entered", entries(&["sys_enter_connect"])),
        program("connect_done", syscalls(&["sys_exit_connect"])),
    ])],
    bound: "connections made by io_uring or by 32-bit system calls, and datagrams that are sent to \
            a path without a connection, are not seen",
    lost: "who talks to the sockets of container runtimes",
    required: false,
};

/// Flows that were there first.
pub(super) const FLOW_SEEN: Sensor = Sensor {
    name: "flow_seen",
    sees: "TCP and MPTCP flows that are older than the monitor, in every network namespace, with \
           who has them",
    roads: &[base(&[program("flow_seen", Hook::FileIterator)])],
    bound: "of several processes that share a socket, the one with the lowest id is taken for its \
            owner; datagram sockets are seen when they send",
    lost: "older flows until they send, and who opened them",
    required: false,
};

/// Ways out of a container.
pub(super) const NAMESPACE: Sensor = Sensor {
    name: "namespace",
    sees: "changes of namespaces, mounts and roots, and files opened by handle",
    roads: &[base(&[
        program("ns_mount", entries(&["sys_enter_mount"])),
        program("ns_move_mount", entries(&["sys_enter_move_mount"])),
        program("ns_by_handle", entries(&["sys_enter_open_by_handle_at"])),
        program("ns_setns", entries(&["sys_enter_setns"])),
        program("ns_pivot_root", entries(&["sys_enter_pivot_root"])),
        program("ns_unshare", entries(&["sys_enter_unshare"])),
        program("ns_chroot", entries(&["sys_enter_chroot"])),
        program(
            "namespace_done",
            syscalls(&[
                "sys_exit_setns",
                "sys_exit_unshare",
                "sys_exit_mount",
                "sys_exit_move_mount",
                "sys_exit_pivot_root",
                "sys_exit_chroot",
                "sys_exit_open_by_handle_at",
            ]),
        ),
    ])],
    bound: "texts are what the caller passed, 255 bytes of each; 32-bit calls are not seen",
    lost: "ways out of a container",
    required: false,
};
