//! Namespaces, mounts and roots: what a way out of a container, or into another, looks like.

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::{
    KIND_NAMESPACE, NS_CHROOT, NS_MOUNT, NS_OPEN_BY_HANDLE, NS_PIVOT_ROOT, NS_SETNS,
    NS_TEXT_BYTES_MAX, NS_UNSHARE, NamespaceRecord,
};

use super::call::{argument, keep, take};
use crate::count::{Outcome, count};
use crate::emit;
use crate::globals::SELF_TGID;
use crate::hook::returned;
use crate::lane::Lane;
use crate::maps::NAMESPACE_SCRATCH;
use crate::read::task;

/// Where a record is put together: the texts stand at fixed places, each ended by a zero byte.
#[repr(C)]
pub(crate) struct NamespaceScratch {
    record: NamespaceRecord,
    source: [u8; NS_TEXT_BYTES_MAX],
    path: [u8; NS_TEXT_BYTES_MAX],
    fs_type: [u8; NS_TEXT_BYTES_MAX],
}

/// `setns(fd, nstype)`.
#[tracepoint]
pub fn setns_entered(ctx: TracePointContext) -> u32 {
    keep(u64::from(NS_SETNS), [argument::<1>(&ctx), 0, 0, 0, 0]);
    0
}

/// `unshare(flags)`.
#[tracepoint]
pub fn unshare_entered(ctx: TracePointContext) -> u32 {
    keep(u64::from(NS_UNSHARE), [argument::<0>(&ctx), 0, 0, 0, 0]);
    0
}

/// `mount(source, target, type, flags, data)`.
#[tracepoint]
pub fn mount_entered(ctx: TracePointContext) -> u32 {
    let (source, path) = (argument::<0>(&ctx), argument::<1>(&ctx));
    keep(u64::from(NS_MOUNT), [argument::<3>(&ctx), source, path, argument::<2>(&ctx), 0]);
    0
}

/// `move_mount(from_dirfd, from_path, to_dirfd, to_path, flags)`.
#[tracepoint]
pub fn move_mount_in(ctx: TracePointContext) -> u32 {
    let (source, path) = (argument::<1>(&ctx), argument::<3>(&ctx));
    keep(u64::from(NS_MOUNT), [argument::<4>(&ctx), source, path, 0, 0]);
    0
}

/// `pivot_root(new_root, put_old)`.
#[tracepoint]
pub fn pivot_entered(ctx: TracePointContext) -> u32 {
    let (new, old) = (argument::<0>(&ctx), argument::<1>(&ctx));
    keep(u64::from(NS_PIVOT_ROOT), [0, old, new, 0, 0]);
    0
}

/// `chroot(path)`.
#[tracepoint]
pub fn chroot_entered(ctx: TracePointContext) -> u32 {
    keep(u64::from(NS_CHROOT), [0, 0, argument::<0>(&ctx), 0, 0]);
    0
}

/// `open_by_handle_at(mount_fd, handle, flags)`: it succeeds with a descriptor.
#[tracepoint]
pub fn handle_entered(ctx: TracePointContext) -> u32 {
    keep(u64::from(NS_OPEN_BY_HANDLE), [argument::<2>(&ctx), 0, 0, 0, 0]);
    0
}

/// The exit of each of them.
#[tracepoint]
pub fn namespace_done(ctx: TracePointContext) -> u32 {
    let Some(call) = take() else { return 0 };
    if returned(&ctx) < 0 {
        return 0;
    }
    let Some(slot) = NAMESPACE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's slot; tracepoint programs run with preemption off.
    let scratch = unsafe { &mut *slot };
    let current = task::current();
    let record = &mut scratch.record;
    let len = size_of::<NamespaceScratch>();
    if task::header(current, KIND_NAMESPACE, len, &mut record.header).is_err() {
        count(KIND_NAMESPACE, Outcome::ReadFault);
        return 0;
    }
    if record.header.actor.tgid == SELF_TGID.load() {
        count(KIND_NAMESPACE, Outcome::Filtered);
        return 0;
    }
    record.op = call.what as u16;
    record.reserved = 0;
    record.reserved2 = 0;
    record.mount_ns = task::mount_ns(current).unwrap_or(0);
    record.ns_flags = call.args[0];
    record.source_len = NS_TEXT_BYTES_MAX as u32;
    record.path_len = NS_TEXT_BYTES_MAX as u32;
    record.type_len = NS_TEXT_BYTES_MAX as u32;
    user_text(&mut scratch.source, call.args[1]);
    user_text(&mut scratch.path, call.args[2]);
    user_text(&mut scratch.fs_type, call.args[3]);
    if !crate::filter::within_rate(scratch.record.header.actor.cgroup_id, Lane::High) {
        count(KIND_NAMESPACE, Outcome::RateLimited);
        return 0;
    }
    emit::scratch(KIND_NAMESPACE, Lane::High, (&raw const *scratch).cast(), len as u32);
    0
}

/// Copies a text; one that cannot be read is empty. Cut at its bound.
#[inline(always)]
fn user_text(into: &mut [u8; NS_TEXT_BYTES_MAX], address: u64) {
    into[0] = 0;
    if address == 0 {
        return;
    }
    // SAFETY: the target is NS_TEXT_BYTES_MAX long; the helper accepts any user address.
    let read = unsafe {
        bpf_probe_read_user_str(
            into.as_mut_ptr().cast(),
            NS_TEXT_BYTES_MAX as u32,
            address as *const _,
        )
    };
    if read < 0 {
        into[0] = 0;
    }
}
