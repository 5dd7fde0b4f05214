//! The two smallest programs of the full tier: the daemon attaches them for a moment, makes the
//! system call that reaches them, and looks whether they ran.

use aya_ebpf::macros::{fentry, lsm};
use aya_ebpf::programs::{FEntryContext, LsmContext};

use crate::maps::PROBE_CALLS;

/// match-proto:v6.18:include/linux/lsm_hook_defs.h: `task_getscheduler(struct task_struct *p)`
#[lsm(hook = "task_getscheduler")]
pub fn probe_lsm(_ctx: LsmContext) -> i32 {
    called(0);
    0
}

/// match-proto:v6.18:include/linux/security.h: `security_task_getscheduler(struct task_struct *p)`
#[fentry(function = "security_task_getscheduler")]
pub fn probe_fentry(_ctx: FEntryContext) -> i32 {
    called(1);
    0
}

#[inline(always)]
fn called(slot: u32) {
    if let Some(calls) = PROBE_CALLS.get_ptr_mut(slot) {
        // SAFETY: the map's value lives while the program runs. Two callers at once may count one:
        // only zero is asked about.
        unsafe { *calls += 1 };
    }
}
