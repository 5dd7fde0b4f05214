//! Sockets of rare families and types, reported when they are made.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::{KIND_SOCKET_NEW, SocketNewRecord, UNIX_PATH_BYTES};

use super::call::{Arguments, Call, ended, keep};
use crate::count::{Outcome, count};
use crate::emit;
use crate::filter;
use crate::globals::SELF_TGID;
use crate::hook::returned;
use crate::lane::Lane;
use crate::read::sock::{
    self, AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM,
};
use crate::read::{self, Fault, file, task};

/// What a socket is.
pub(crate) struct Made {
    pub(crate) family: u16,
    pub(crate) socket_type: u16,
    pub(crate) protocol: u16,
    /// Address of the path that the far end of a unix socket is bound to; zero for a new socket.
    pub(crate) path: u64,
}

/// Reads the socket behind the descriptor that `socket(2)` returned.
#[tracepoint]
pub fn socket_made(ctx: TracePointContext) -> u32 {
    let result = returned(&ctx);
    if result < 0 {
        return 0;
    }
    if !filter::wanted(KIND_SOCKET_NEW) {
        count(KIND_SOCKET_NEW, Outcome::Filtered);
        return 0;
    }
    match socket_read(result as u32) {
        Err(Fault) => count(KIND_SOCKET_NEW, Outcome::ReadFault),
        Ok(made) => judge(&made),
    }
    0
}

/// Tells of a socket that is rare and wanted.
#[inline(always)]
pub(crate) fn judge(made: &Made) {
    if !filter::wanted(KIND_SOCKET_NEW)
        || !socket_is_rare(made)
        || !filter::family_wanted(made.family)
    {
        return count(KIND_SOCKET_NEW, Outcome::Filtered);
    }
    socket_report(made);
}

#[inline(always)]
fn socket_read(descriptor: u32) -> Result<Made, Fault> {
    let file = file::from_descriptor(task::current(), descriptor)?;
    let sk = sock::of_socket(file::private(file)?)?;
    Ok(Made {
        family: sock::family(sk)?,
        socket_type: sock::socket_type(sk)?,
        protocol: sock::protocol(sk)?,
        path: 0,
    })
}

#[inline(always)]
fn connect(args: &impl Arguments) -> Option<Call> {
    Some(Call { args: [args.get::<0>(), 0, 0, 0, 0], what: 0 })
}

#[tracepoint]
pub fn connect_entered(ctx: TracePointContext) -> u32 {
    keep(connect(&ctx));
    0
}

/// A unix socket that was connected to a path. The path is that of whoever listens, as it was
/// bound: no other name, link or mount by which it was reached.
#[tracepoint]
pub fn connect_done(ctx: TracePointContext) -> u32 {
    let Some(call) = ended(connect) else { return 0 };
    if returned(&ctx) != 0 || !filter::wanted(KIND_SOCKET_NEW) || !filter::family_wanted(AF_UNIX) {
        return 0;
    }
    if let Ok(Some(made)) = connected(call.args[0] as u32) {
        socket_report(&made);
    }
    0
}

/// What a descriptor was connected to; `None` for other families, and for what has no path. A
/// socket that was closed meanwhile is a fault, and nobody's loss.
#[inline(always)]
fn connected(descriptor: u32) -> Result<Option<Made>, Fault> {
    let file = file::from_descriptor(task::current(), descriptor)?;
    let sk = sock::of_socket(file::private(file)?)?;
    if sock::family(sk)? != AF_UNIX {
        return Ok(None);
    }
    let path = sock::unix_path(sock::unix_peer(sk))?;
    let first: u8 = read::at(path)?;
    let socket_type = sock::socket_type(sk)?;
    let made = Made { family: AF_UNIX, socket_type, protocol: 0, path };
    Ok((first == b'/').then_some(made))
}

/// TCP, UDP, unix and netlink sockets are what every program makes; the rest is rare enough to be
/// told one by one.
#[inline(always)]
fn socket_is_rare(made: &Made) -> bool {
    match made.family {
        AF_UNIX | AF_NETLINK => false,
        AF_INET | AF_INET6 => {
            let common_type = made.socket_type == SOCK_STREAM || made.socket_type == SOCK_DGRAM;
            let common_protocol = made.protocol == sock::IPPROTO_TCP
                || made.protocol == sock::IPPROTO_UDP
                || made.protocol == 0;
            !(common_type && common_protocol) || made.socket_type == SOCK_SEQPACKET
        }
        _ => true,
    }
}

#[inline(always)]
fn socket_report(made: &Made) {
    let current = task::current();
    if task::tgid(current).unwrap_or(0) == SELF_TGID.load() {
        return count(KIND_SOCKET_NEW, Outcome::Filtered);
    }
    // SAFETY: a helper without preconditions.
    let cgroup = unsafe { aya_ebpf::helpers::generated::bpf_get_current_cgroup_id() };
    emit::fixed::<SocketNewRecord>(KIND_SOCKET_NEW, Lane::High, cgroup, |slot| {
        // SAFETY: the slot is as long as the record, and every field is written here.
        let record = unsafe { &mut *slot.as_mut_ptr() };
        let len = size_of::<SocketNewRecord>();
        task::header(current, KIND_SOCKET_NEW, len, &mut record.header)?;
        record.family = made.family;
        record.socket_type = made.socket_type;
        record.protocol = made.protocol;
        record.reserved = 0;
        record.path = [0; UNIX_PATH_BYTES];
        if made.path != 0 {
            // SAFETY: the target is UNIX_PATH_BYTES long; the helper accepts any address.
            unsafe {
                bpf_probe_read_kernel_str(
                    record.path.as_mut_ptr().cast(),
                    UNIX_PATH_BYTES as u32,
                    made.path as *const _,
                )
            };
        }
        Ok(())
    });
}
