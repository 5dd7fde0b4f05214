//! What a descriptor is joined to: sockets, pipes, pseudo terminals.

use monitor_common::{
    Endpoint, OFFSET_ABSENT, STREAM_OTHER, STREAM_PIPE, STREAM_PTY, STREAM_SOCKET, StreamRecord,
};

use super::file::{self, S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK};
use super::sock::{self, AF_INET, AF_INET6, AF_UNIX};
use super::{Fault, field, optional};
use crate::globals::{
    OFF_INODE_INO, OFF_INODE_MODE, OFF_INODE_RDEV, OFF_INODE_SB, OFF_SB_DEV, OFF_SK_SOCKET,
    OFF_SOCKET_INODE, OFF_UNIX_PEER,
};

/// Majors of the near ends of pseudo terminals (Documentation/admin-guide/devices.txt).
const PTY_MAJOR_FIRST: u32 = 136;
const PTY_MAJOR_LAST: u32 = 143;

/// Writes what descriptor `fd` of `task` is joined to. A closed one is [`STREAM_OTHER`].
#[inline(always)]
pub(crate) fn stream(task: u64, fd: u32, out: &mut StreamRecord) -> Result<(), Fault> {
    out.kind = STREAM_OTHER;
    out.family = 0;
    out.fd = fd;
    out.channel = 0;
    out.inode = 0;
    out.remote = Endpoint { address: [0; 16], port: 0, reserved: [0; 6] };
    let Ok(file) = file::from_descriptor(task, fd) else { return Ok(()) };
    let inode = file::inode(file)?;
    let mode: u16 = field(inode, &OFF_INODE_MODE)?;
    match mode & S_IFMT {
        S_IFIFO => {
            out.kind = STREAM_PIPE;
            out.inode = field(inode, &OFF_INODE_INO)?;
            out.channel = file::channel(inode)?;
        }
        S_IFCHR => {
            let rdev: u32 = field(inode, &OFF_INODE_RDEV)?;
            let major = rdev >> 20;
            if major >= PTY_MAJOR_FIRST && major <= PTY_MAJOR_LAST {
                out.kind = STREAM_PTY;
                out.inode = field(inode, &OFF_INODE_INO)?;
                out.channel = u64::from(rdev) | (u64::from(device(inode)?) << 32);
            }
        }
        S_IFSOCK => {
            let sk = sock::of_socket(file::private(file)?)?;
            out.kind = STREAM_SOCKET;
            out.family = sock::family(sk)?;
            out.inode = field(inode, &OFF_INODE_INO)?;
            if out.family == AF_INET || out.family == AF_INET6 {
                sock::remote(sk, out.family, &mut out.remote)?;
            } else if out.family == AF_UNIX {
                out.channel = unix_pair(sk, out.inode)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Device number of an inode's file system.
#[inline(always)]
fn device(inode: u64) -> Result<u32, Fault> {
    field(field(inode, &OFF_INODE_SB)?, &OFF_SB_DEV)
}

/// Both inode numbers of a connected pair, the lower one in the upper half; zero without a peer.
/// The kernel gives sockets numbers of 32 bits (fs/inode.c, `get_next_ino`).
#[inline(always)]
fn unix_pair(sk: u64, own: u64) -> Result<u64, Fault> {
    let peer: u64 = field(sk, &OFF_UNIX_PEER)?;
    if peer == 0 {
        return Ok(0);
    }
    let other = socket_inode(peer);
    if other == 0 {
        return Ok(0);
    }
    let (own, other) = (own & 0xffff_ffff, other & 0xffff_ffff);
    Ok(if own < other { own << 32 | other } else { other << 32 | own })
}

/// Inode of a socket, as `/proc/PID/fd` shows it; zero for one that is not accepted yet, or closed.
#[inline(always)]
pub(crate) fn socket_inode(sk: u64) -> u64 {
    let socket = optional(sk, &OFF_SK_SOCKET);
    let offset = OFF_SOCKET_INODE.load();
    if socket == 0 || offset == OFFSET_ABSENT {
        return 0;
    }
    // A socket is the first member of its `struct socket_alloc` (include/net/sock.h).
    optional(socket + u64::from(offset), &OFF_INODE_INO)
}
