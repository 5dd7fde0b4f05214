//! Attacks on the kernel's borders and on the monitor, on both tiers.

use monitor::model::{AccessMethod, Body, NamespaceOp, TamperOp};

use crate::base::by;
use crate::suite::Test;
use crate::watch::Watch;

/// The tests.
pub(crate) const TESTS: &[Test] = &[
    Test { name: "k5_10_new_namespace_is_seen", sensor: "namespace", run: unshare },
    Test { name: "k5_10_entered_namespace_is_seen", sensor: "namespace", run: setns },
    Test { name: "k5_10_mount_is_seen_with_its_place", sensor: "namespace", run: mount },
    Test { name: "k5_10_new_root_is_seen", sensor: "namespace", run: chroot },
    Test { name: "k5_10_file_by_handle_is_seen", sensor: "namespace", run: handle },
    Test {
        name: "k5_10_ignored_signal_to_the_monitor_is_seen",
        sensor: "tamper_signal",
        run: signal,
    },
    Test { name: "k5_10_loaded_program_is_seen", sensor: "tamper_bpf", run: program },
    Test { name: "k5_10_frozen_cgroup_is_seen", sensor: "tamper_freeze", run: freeze },
    Test { name: "k5_10_ptrace_is_seen_with_its_target", sensor: "memory_access", run: ptrace },
    Test {
        name: "k5_10_memory_read_is_seen_with_its_target",
        sensor: "memory_access",
        run: |w| reach(w, "vm_read", AccessMethod::VmRead),
    },
    Test {
        name: "k5_10_stolen_descriptor_is_seen_with_its_target",
        sensor: "memory_access",
        run: |w| reach(w, "pidfd_getfd", AccessMethod::PidfdGetfd),
    },
];

fn changed(watch: &mut Watch, pid: u32, op: NamespaceOp) -> Result<(u64, String), String> {
    let event = watch.wait("the change", |event| {
        by(event, pid) && matches!(&event.body, Body::Namespace(change) if change.op == op)
    })?;
    match event.body {
        Body::Namespace(change) => Ok((change.flags, change.path)),
        other => Err(format!("{other:?}")),
    }
}

fn unshare(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("unshare", &[])?;
    let (flags, _) = changed(watch, pid, NamespaceOp::Unshare)?;
    let expected = u64::from(libc::CLONE_NEWUTS.cast_unsigned());
    if flags == expected { Ok(()) } else { Err(format!("flags {flags:#x}")) }
}

fn setns(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("setns", &[])?;
    changed(watch, pid, NamespaceOp::Setns).map(drop)
}

fn mount(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("mount", &["/tmp/mounted"])?;
    let (_, path) = changed(watch, pid, NamespaceOp::Mount)?;
    if path == "/tmp/mounted" { Ok(()) } else { Err(format!("mounted on `{path}`")) }
}

fn chroot(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("chroot", &["/tmp"])?;
    let (_, path) = changed(watch, pid, NamespaceOp::Chroot)?;
    if path == "/tmp" { Ok(()) } else { Err(format!("the root is `{path}`")) }
}

fn handle(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/handled";
    std::fs::write(path, [7; 16]).map_err(|error| error.to_string())?;
    let pid = Watch::play("open_handle", &[path])?;
    changed(watch, pid, NamespaceOp::OpenByHandle).map(drop)
}

/// The first process of a machine has no handler for it, and is not ended by what it does not
/// handle.
fn signal(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("signal", &["1"])?;
    let number = libc::SIGTERM.cast_unsigned();
    watch.wait("the signal", |event| {
        by(event, pid)
            && matches!(&event.body, Body::Tamper(tamper)
                if tamper.op == TamperOp::Signal && tamper.signal == number && tamper.is_self)
    })?;
    Ok(())
}

fn program(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("bpf_load", &[])?;
    watch.wait("the load", |event| {
        by(event, pid)
            && matches!(&event.body, Body::Tamper(tamper)
                if tamper.op == TamperOp::BpfLoad && tamper.object_id != 0 && !tamper.is_self)
    })?;
    Ok(())
}

fn freeze(watch: &mut Watch) -> Result<(), String> {
    let pid = Watch::play("freeze", &["/sys/fs/cgroup/frozen"])?;
    watch.wait("the freeze", |event| {
        by(event, pid)
            && matches!(&event.body, Body::Tamper(tamper)
                if tamper.op == TamperOp::Freeze && !tamper.is_self)
    })?;
    Ok(())
}

fn ptrace(watch: &mut Watch) -> Result<(), String> {
    reach(watch, "ptrace", AccessMethod::Ptrace)
}

fn reach(watch: &mut Watch, act: &str, method: AccessMethod) -> Result<(), String> {
    let pid = Watch::play(act, &[])?;
    watch.wait(act, |event| {
        by(event, pid)
            && matches!(&event.body, Body::MemoryAccess(access)
                if access.method == method
                    && (access.named_pid != 0 || access.target.tgid.0 != 0))
    })?;
    Ok(())
}
