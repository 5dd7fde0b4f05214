//! Namespaces, mounts and roots: what a way out of a container, or into another, looks like.

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::{
    KIND_NAMESPACE, NS_CHROOT, NS_MOUNT, NS_OPEN_BY_HANDLE, NS_PIVOT_ROOT, NS_SETNS,
    NS_TEXT_BYTES_MAX, NS_UNSHARE, NamespaceRecord,
};

use super::call::{Arguments, Call, ended, keep, number};
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
#[inline(always)]
fn setns(asked: &impl Arguments) -> Call {
    call(NS_SETNS, [asked.get::<1>(), 0, 0, 0])
}

/// `unshare(flags)`.
#[inline(always)]
fn unshare(asked: &impl Arguments) -> Call {
    call(NS_UNSHARE, [asked.get::<0>(), 0, 0, 0])
}

/// `mount(source, target, type, flags, data)`.
#[inline(always)]
fn mount(asked: &impl Arguments) -> Call {
    let (source, path) = (asked.get::<0>(), asked.get::<1>());
    call(NS_MOUNT, [asked.get::<3>(), source, path, asked.get::<2>()])
}

/// `move_mount(from_dirfd, from_path, to_dirfd, to_path, flags)`.
#[inline(always)]
fn move_mount(asked: &impl Arguments) -> Call {
    call(NS_MOUNT, [asked.get::<4>(), asked.get::<1>(), asked.get::<3>(), 0])
}

/// `pivot_root(new_root, put_old)`.
#[inline(always)]
fn pivot_root(asked: &impl Arguments) -> Call {
    call(NS_PIVOT_ROOT, [0, asked.get::<1>(), asked.get::<0>(), 0])
}

/// `chroot(path)`.
#[inline(always)]
fn chroot(asked: &impl Arguments) -> Call {
    call(NS_CHROOT, [0, 0, asked.get::<0>(), 0])
}

/// `open_by_handle_at(mount_fd, handle, flags)`: it succeeds with a descriptor.
#[inline(always)]
fn by_handle(asked: &impl Arguments) -> Call {
    call(NS_OPEN_BY_HANDLE, [asked.get::<2>(), 0, 0, 0])
}

/// Flags, and where source, path and type stand.
#[inline(always)]
const fn call(op: u16, [flags, source, path, fs_type]: [u64; 4]) -> Call {
    Call { args: [flags, source, path, fs_type, 0], what: op as u64 }
}

/// The system calls of this sensor by their numbers
/// (arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h).
mod number {
    pub(super) const MOVE_MOUNT: u32 = 429;

    #[cfg(bpf_target_arch = "x86_64")]
    mod arch {
        pub(crate) const PIVOT_ROOT: u32 = 155;
        pub(crate) const CHROOT: u32 = 161;
        pub(crate) const MOUNT: u32 = 165;
        pub(crate) const UNSHARE: u32 = 272;
        pub(crate) const OPEN_BY_HANDLE_AT: u32 = 304;
        pub(crate) const SETNS: u32 = 308;
    }

    #[cfg(not(bpf_target_arch = "x86_64"))]
    mod arch {
        pub(crate) const MOUNT: u32 = 40;
        pub(crate) const PIVOT_ROOT: u32 = 41;
        pub(crate) const CHROOT: u32 = 51;
        pub(crate) const UNSHARE: u32 = 97;
        pub(crate) const OPEN_BY_HANDLE_AT: u32 = 265;
        pub(crate) const SETNS: u32 = 268;
    }

    pub(super) use arch::{CHROOT, MOUNT, OPEN_BY_HANDLE_AT, PIVOT_ROOT, SETNS, UNSHARE};
}

#[inline(always)]
fn asked(number: u32, asked: &impl Arguments) -> Option<Call> {
    Some(match number {
        number::SETNS => setns(asked),
        number::UNSHARE => unshare(asked),
        number::MOUNT => mount(asked),
        number::MOVE_MOUNT => move_mount(asked),
        number::PIVOT_ROOT => pivot_root(asked),
        number::CHROOT => chroot(asked),
        number::OPEN_BY_HANDLE_AT => by_handle(asked),
        _ => return None,
    })
}

/// The entry of a call, where its exit does not tell what it was asked. One program for each: a
/// program that reads an argument which the call does not have is not attached to it
/// (`PERF_EVENT_IOC_SET_BPF`: EACCES), and of two that read different ones the compiler makes an
/// address that the verifier refuses ("dereference of modified ctx ptr", 5.10).
macro_rules! entered {
    ($($program:ident $call:ident)*) => {
        $(#[tracepoint]
        pub fn $program(ctx: TracePointContext) -> u32 {
            keep(Some($call(&ctx)));
            0
        })*
    };
}

entered! {
    ns_mount mount
    ns_move_mount move_mount
    ns_by_handle by_handle
    ns_setns setns
    ns_pivot_root pivot_root
    ns_unshare unshare
    ns_chroot chroot
}

/// The exit of each of them.
#[tracepoint]
pub fn namespace_done(ctx: TracePointContext) -> u32 {
    let number = number(&ctx);
    let Some(call) = ended(|registers| asked(number, registers)) else { return 0 };
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
