//! Sockets of rare families and types, reported when they are made.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::{KIND_SOCKET_NEW, SocketNewRecord};

use crate::count::{Outcome, count};
use crate::emit;
use crate::filter;
use crate::globals::SELF_TGID;
use crate::hook::returned;
use crate::lane::Lane;
use crate::read::sock::{
    self, AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM,
};
use crate::read::{Fault, file, task};

/// What a socket is.
pub(crate) struct Made {
    pub(crate) family: u16,
    pub(crate) socket_type: u16,
    pub(crate) protocol: u16,
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
    })
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
        Ok(())
    });
}
