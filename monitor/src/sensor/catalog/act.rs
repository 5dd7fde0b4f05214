//! Rows of what is known of local sockets, and of flows that are older than the monitor.

use super::{Hook, Sensor, base, entries, program, syscalls};

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
