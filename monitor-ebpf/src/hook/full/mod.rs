//! The full tier: programs on LSM hooks, and the same on the entries of the `security_*` functions
//! for kernels that do not call BPF's LSM programs; and programs on the returns of the functions
//! that read.
//!
//! None of these runs with preemption off (from 5.12 on), and LSM programs may even be entered
//! again on the CPU where one was interrupted. So nothing here is put together in a slot of the
//! CPU: each thread has its own slot, see [`slot`].

pub(crate) mod access;
pub(crate) mod change;
pub(crate) mod open;
pub(crate) mod read;
pub(crate) mod segment;
pub(crate) mod send;
pub(crate) mod socket;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::maps::LruHashMap;

/// One body on an LSM hook and on the entry of the function that calls it. The arguments are the
/// same; the LSM program always answers that the act is allowed.
macro_rules! twin {
    ($(#[$doc:meta])* $lsm:ident $fentry:ident $hook:literal $function:literal $body:path) => {
        $(#[$doc])*
        #[::aya_ebpf::macros::lsm(hook = $hook)]
        pub fn $lsm(ctx: ::aya_ebpf::programs::LsmContext) -> i32 {
            $body(|n| ctx.arg(n));
            0
        }

        $(#[$doc])*
        #[::aya_ebpf::macros::fentry(function = $function)]
        pub fn $fentry(ctx: ::aya_ebpf::programs::FEntryContext) -> i32 {
            $body(|n| ctx.arg(n));
            0
        }
    };
}
pub(crate) use twin;

/// The current thread's slot of a map of scratch slots; `None` when the map is full of threads
/// that are at work, which the caller counts. `filler` is any memory as long as a slot.
///
/// The least recently used slot is given away; one that is in use was looked up a moment ago, and
/// there are more slots than threads can be in a program at once.
#[inline(always)]
fn slot<T>(map: &LruHashMap<u64, T>, filler: *const T) -> Option<*mut T> {
    let thread = bpf_get_current_pid_tgid();
    if let Some(slot) = map.get_ptr_mut(thread) {
        return Some(slot);
    }
    // SAFETY: the filler is a live map value of this type; what it holds is overwritten.
    let _full = map.insert(thread, unsafe { &*filler }, u64::from(BPF_ANY));
    map.get_ptr_mut(thread)
}
