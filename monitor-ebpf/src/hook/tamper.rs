//! Acts against the monitor, and against the kernel that it trusts: bpf(2) by others, modules,
//! signals, frozen cgroups.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str};
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use monitor_common::{
    KIND_TAMPER, OBJECT_BYTES_MAX, OWN_LINK, OWN_MAP, OWN_PROGRAM, TAMPER_BPF_DETACH,
    TAMPER_BPF_LOAD, TAMPER_BPF_MAP_CHANGE, TAMPER_BPF_OPEN, TAMPER_FREEZE, TAMPER_MODULE_LOAD,
    TAMPER_MODULE_REFUSED, TAMPER_MODULE_UNLOAD, TAMPER_SELF, TAMPER_SIGNAL, TamperRecord,
};

use super::call::{Arguments, Call, ended, keep};
use crate::count::{Outcome, count};
use crate::emit;
use crate::globals::{OFF_MODULE_NAME, SELF_TGID};
use crate::hook::returned;
use crate::lane::Lane;
use crate::maps::{OWN_CGROUPS, OWN_OBJECTS, TAMPER_SCRATCH};
use crate::read::pid::{self, Target};
use crate::read::{self, Fault, bpf, task};

/// Commands of bpf(2) (include/uapi/linux/bpf.h, `enum bpf_cmd`).
mod command {
    pub(super) const MAP_UPDATE_ELEM: u64 = 2;
    pub(super) const MAP_DELETE_ELEM: u64 = 3;
    pub(super) const PROG_LOAD: u64 = 5;
    pub(super) const OBJ_GET: u64 = 7;
    pub(super) const PROG_GET_FD_BY_ID: u64 = 13;
    pub(super) const MAP_GET_FD_BY_ID: u64 = 14;
    pub(super) const MAP_FREEZE: u64 = 22;
    pub(super) const MAP_UPDATE_BATCH: u64 = 26;
    pub(super) const MAP_DELETE_BATCH: u64 = 27;
    pub(super) const LINK_UPDATE: u64 = 29;
    pub(super) const LINK_GET_FD_BY_ID: u64 = 30;
    pub(super) const LINK_DETACH: u64 = 34;
}

/// Where `union bpf_attr` keeps the descriptor of a batch: `batch.map_fd`.
const ATTR_BATCH_MAP_FD: u64 = 36;

/// What is said of one act.
#[derive(Clone, Copy)]
struct Act {
    op: u16,
    signal: u32,
    target: Target,
    is_self: bool,
    object_id: u32,
    command: u32,
}

impl Act {
    const fn new(op: u16) -> Self {
        let target = Target { tgid: 0, start_boot_ns: 0 };
        Self { op, signal: 0, target, is_self: false, object_id: 0, command: 0 }
    }
}

/// The calls that load, change, open or detach. Everything else that is done with bpf(2), reading
/// above all, costs a comparison.
#[inline(always)]
fn bpf_call(asked: &impl Arguments) -> Option<Call> {
    let command = asked.get::<0>();
    let attr = asked.get::<1>();
    let at = match command {
        command::MAP_UPDATE_ELEM
        | command::MAP_DELETE_ELEM
        | command::MAP_FREEZE
        | command::LINK_UPDATE
        | command::LINK_DETACH => 0,
        command::MAP_UPDATE_BATCH | command::MAP_DELETE_BATCH => ATTR_BATCH_MAP_FD,
        command::OBJ_GET
        | command::PROG_LOAD
        | command::PROG_GET_FD_BY_ID
        | command::MAP_GET_FD_BY_ID
        | command::LINK_GET_FD_BY_ID => u64::MAX,
        _ => return None,
    };
    if (bpf_get_current_pid_tgid() >> 32) as u32 == SELF_TGID.load() {
        return None;
    }
    let mut descriptor = 0u64;
    if at != u64::MAX {
        let mut word = 0u32;
        // SAFETY: the target is four bytes long; the helper accepts any user address.
        let read = unsafe {
            bpf_probe_read_user((&raw mut word).cast(), 4, (attr + at) as *const core::ffi::c_void)
        };
        if read != 0 {
            // The kernel refuses the call for the same reason.
            return None;
        }
        descriptor = u64::from(word);
    } else if command == command::OBJ_GET {
        // SAFETY: eight bytes; the helper accepts any user address.
        unsafe { bpf_probe_read_user((&raw mut descriptor).cast(), 8, attr as *const _) };
    }
    Some(Call { args: [descriptor, 0, 0, 0, 0], what: command })
}

#[tracepoint]
pub fn bpf_entered(ctx: TracePointContext) -> u32 {
    keep(bpf_call(&ctx));
    0
}

#[tracepoint]
pub fn bpf_done(ctx: TracePointContext) -> u32 {
    let Some(call) = ended(bpf_call) else { return 0 };
    let result = returned(&ctx);
    if result < 0 {
        return 0;
    }
    if let Err(Fault) = bpf_judge(call.what, call.args[0], result as u32) {
        count(KIND_TAMPER, Outcome::ReadFault);
    }
    0
}

/// What was done is read from the kernel's objects, not from the caller's memory.
#[inline(always)]
fn bpf_judge(command: u64, kept: u64, result: u32) -> Result<(), Fault> {
    let current = task::current();
    let mut act = Act::new(TAMPER_BPF_OPEN);
    act.command = command as u32;
    match command {
        command::PROG_LOAD => {
            act.op = TAMPER_BPF_LOAD;
            let aux = bpf::program_aux(current, result)?;
            act.object_id = bpf::aux_id(aux)?;
            send(&act, Name::Kernel(bpf::aux_name(aux)?));
            return Ok(());
        }
        command::OBJ_GET => {
            // What the path leads to has a type that only the kernel knows: none of the
            // monitor's objects is pinned, so a path cannot lead to one that it did not pin.
            send(&act, Name::User(kept));
            return Ok(());
        }
        command::PROG_GET_FD_BY_ID => {
            act.object_id = bpf::aux_id(bpf::program_aux(current, result)?)?;
            act.is_self = is_own(OWN_PROGRAM, act.object_id);
        }
        command::MAP_GET_FD_BY_ID => {
            act.object_id = bpf::map_id(current, result)?;
            act.is_self = is_own(OWN_MAP, act.object_id);
        }
        command::LINK_GET_FD_BY_ID => {
            act.object_id = bpf::link_id(current, result)?;
            act.is_self = is_own(OWN_LINK, act.object_id);
        }
        command::LINK_DETACH | command::LINK_UPDATE => {
            act.op = TAMPER_BPF_DETACH;
            act.object_id = bpf::link_id(current, kept as u32)?;
            act.is_self = is_own(OWN_LINK, act.object_id);
        }
        _ => {
            act.op = TAMPER_BPF_MAP_CHANGE;
            act.object_id = bpf::map_id(current, kept as u32)?;
            act.is_self = is_own(OWN_MAP, act.object_id);
        }
    }
    // Other people's objects are their own affair: every network plugin changes its maps.
    if act.is_self {
        send(&act, Name::None);
    } else {
        count(KIND_TAMPER, Outcome::Filtered);
    }
    Ok(())
}

#[inline(always)]
fn is_own(kind: u32, id: u32) -> bool {
    let key = u64::from(kind) << 32 | u64::from(id);
    // SAFETY: only presence is asked.
    unsafe { OWN_OBJECTS.get(key) }.is_some()
}

/// match-proto:v6.18:include/trace/events/module.h: `module_load(struct module *mod)`
#[btf_tracepoint(function = "module_load")]
pub fn module_loaded(ctx: BtfTracePointContext) -> i32 {
    module(TAMPER_MODULE_LOAD, ctx.arg(0));
    0
}

/// match-proto:v6.18:include/trace/events/module.h: `module_free(struct module *mod)`
///
/// In delete_module(2), or where a module's own start has failed.
#[btf_tracepoint(function = "module_free")]
pub fn module_gone(ctx: BtfTracePointContext) -> i32 {
    module(TAMPER_MODULE_UNLOAD, ctx.arg(0));
    0
}

#[inline(always)]
fn module(op: u16, module: u64) {
    match read::member(module, &OFF_MODULE_NAME) {
        Ok(name) => send(&Act::new(op), Name::Kernel(name)),
        Err(Fault) => count(KIND_TAMPER, Outcome::ReadFault),
    }
}

/// finit_module(2) by its descriptor.
#[inline(always)]
fn module_call(asked: &impl Arguments) -> Option<Call> {
    Some(Call { args: [asked.get::<0>(), 0, 0, 0, 0], what: 0 })
}

#[tracepoint]
pub fn module_entered(ctx: TracePointContext) -> u32 {
    keep(module_call(&ctx));
    0
}

/// A module that is refused has no tracepoint of its own: it never was one. Its file has a name.
#[tracepoint]
pub fn module_done(ctx: TracePointContext) -> u32 {
    let Some(call) = ended(module_call) else { return 0 };
    if !is_refused(returned(&ctx)) {
        return 0;
    }
    // Who may not load modules is refused before the kernel looks at the number, so it may be no
    // descriptor; the attempt is told all the same.
    let file = read::file::from_descriptor(task::current(), call.args[0] as u32);
    let name = match file.and_then(read::file::name) {
        Ok(name) => Name::Kernel(name),
        Err(Fault) => Name::None,
    };
    send(&Act::new(TAMPER_MODULE_REFUSED), name);
    0
}

/// The same for an image in the caller's memory, which has no name yet.
#[tracepoint]
pub fn module_img_done(ctx: TracePointContext) -> u32 {
    if is_refused(returned(&ctx)) {
        send(&Act::new(TAMPER_MODULE_REFUSED), Name::None);
    }
    0
}

/// Whether a module was not taken; one that is there already is no news.
#[inline(always)]
const fn is_refused(result: i64) -> bool {
    /// `EEXIST`.
    const IS_THERE: i64 = -17;
    result < 0 && result != IS_THERE
}

/// match-proto:v6.18:include/trace/events/signal.h: `signal_generate(int sig,
/// struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
///
/// Only what ends, stops or traces: `SIGHUP` and `SIGCHLD` are how the monitor is spoken to.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_sent(ctx: BtfTracePointContext) -> i32 {
    let signal: i32 = ctx.arg(0);
    let target: u64 = ctx.arg(2);
    let own = SELF_TGID.load();
    if task::tgid(target).unwrap_or(0) != own || !is_harmful(signal) {
        return 0;
    }
    // The monitor's own faults are in its own context: a crash is not an attack.
    let mut act = Act::new(TAMPER_SIGNAL);
    act.signal = signal as u32;
    act.is_self = true;
    act.target = pid::of_task(target).unwrap_or_default();
    send(&act, Name::None);
    0
}

/// Signals that end or stop a process (signal(7)); `SIGTERM` is how a service manager ends the
/// monitor, and is told all the same: a rule knows who sent it.
#[inline(always)]
const fn is_harmful(signal: i32) -> bool {
    /// `SIGILL` 4, `SIGTRAP` 5, `SIGABRT` 6, `SIGBUS` 7, `SIGFPE` 8, `SIGKILL` 9, `SIGSEGV` 11,
    /// `SIGTERM` 15, `SIGCONT` 18, `SIGSTOP` 19, `SIGTSTP` 20, `SIGTTIN` 21, `SIGTTOU` 22,
    /// `SIGQUIT` 3, `SIGINT` 2.
    const HARMFUL: u32 = 1 << 2
        | 1 << 3
        | 1 << 4
        | 1 << 5
        | 1 << 6
        | 1 << 7
        | 1 << 8
        | 1 << 9
        | 1 << 11
        | 1 << 15
        | 1 << 18
        | 1 << 19
        | 1 << 20
        | 1 << 21
        | 1 << 22;
    signal > 0 && signal < 32 && HARMFUL >> signal & 1 == 1
}

/// match-proto:v6.18:include/trace/events/cgroup.h:
/// `cgroup_freeze(struct cgroup *cgrp, const char *path)`
#[btf_tracepoint(function = "cgroup_freeze")]
pub fn cgroup_frozen(ctx: BtfTracePointContext) -> i32 {
    let cgroup: u64 = ctx.arg(0);
    let path: u64 = ctx.arg(1);
    let mut act = Act::new(TAMPER_FREEZE);
    match task::cgroup_key(cgroup) {
        Ok(id) => {
            // SAFETY: only presence is asked.
            act.is_self = unsafe { OWN_CGROUPS.get(id) }.is_some();
            send(&act, Name::Kernel(path));
        }
        Err(Fault) => count(KIND_TAMPER, Outcome::ReadFault),
    }
    0
}

/// Where the name of an object stands.
#[derive(Clone, Copy)]
enum Name {
    None,
    Kernel(u64),
    User(u64),
}

#[inline(always)]
fn send(act: &Act, name: Name) {
    let Some(slot) = TAMPER_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's slot. A signal's program may interrupt another's and mix their names;
    // what decides (operation, target) is written last, and a mixed name is evidence only.
    let record: &mut TamperRecord = unsafe { &mut *slot };
    let filled = fill(act, name, record);
    if filled.is_err() {
        return count(KIND_TAMPER, Outcome::ReadFault);
    }
    if !crate::filter::within_rate(record.header.actor.cgroup_id, Lane::High) {
        return count(KIND_TAMPER, Outcome::RateLimited);
    }
    let len = size_of::<TamperRecord>() as u32;
    emit::scratch(KIND_TAMPER, Lane::High, (&raw const *record).cast(), len);
}

#[inline(always)]
fn fill(act: &Act, name: Name, record: &mut TamperRecord) -> Result<(), Fault> {
    record.object = [0; OBJECT_BYTES_MAX];
    match name {
        Name::None => {}
        Name::Kernel(at) => {
            // SAFETY: the target is OBJECT_BYTES_MAX long; the helper accepts any address.
            unsafe {
                aya_ebpf::helpers::generated::bpf_probe_read_kernel_str(
                    record.object.as_mut_ptr().cast(),
                    OBJECT_BYTES_MAX as u32,
                    at as *const _,
                )
            };
        }
        Name::User(at) => {
            // SAFETY: as above, a user address.
            unsafe {
                bpf_probe_read_user_str(
                    record.object.as_mut_ptr().cast(),
                    OBJECT_BYTES_MAX as u32,
                    at as *const _,
                )
            };
        }
    }
    task::header(task::current(), KIND_TAMPER, size_of::<TamperRecord>(), &mut record.header)?;
    record.op = act.op;
    record.reserved = 0;
    record.signal = act.signal;
    record.target_tgid = act.target.tgid;
    record.flags = if act.is_self { TAMPER_SELF } else { 0 };
    record.target_start_boot_ns = act.target.start_boot_ns;
    record.object_id = act.object_id;
    record.command = act.command;
    Ok(())
}
