//! Modules of the kernel, on both tiers: taken from a file and from memory, taken out, refused.

use std::fs;

use monitor::model::{Body, Event, Tamper, TamperOp};

use crate::act::{MODULE_NAME, MODULE_TABLES};
use crate::base::by;
use crate::host::{self, SPARE_MODULE};
use crate::suite::Test;
use crate::watch::Watch;

const SENSOR: &str = "tamper_module";

/// The tests.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "k5_10_module_from_a_file_is_seen_with_its_name",
        sensor: SENSOR,
        run: |w| taken(w, "module_file", SPARE_MODULE, TamperOp::ModuleLoad),
    },
    Test {
        name: "k5_10_module_from_memory_is_seen_with_its_name",
        sensor: SENSOR,
        run: |w| taken(w, "module_memory", SPARE_MODULE, TamperOp::ModuleLoad),
    },
    Test {
        name: "k5_10_module_that_is_taken_out_is_seen_with_its_name",
        sensor: SENSOR,
        run: |w| taken(w, "module_file", SPARE_MODULE, TamperOp::ModuleUnload),
    },
    Test {
        name: "k5_10_module_without_a_right_to_load_it_is_seen_with_its_file",
        sensor: SENSOR,
        run: |w| refused(w, "module_without_right", SPARE_MODULE, "dummy.ko"),
    },
    Test { name: "k5_10_bad_module_is_seen_with_its_file", sensor: SENSOR, run: bad },
    Test { name: "k5_10_bad_module_from_memory_is_seen", sensor: SENSOR, run: bad_memory },
    Test { name: "k5_10_forged_module_is_seen_with_its_file", sensor: SENSOR, run: forged },
    Test { name: "k5_10_unsigned_module_is_seen_as_it_ended", sensor: SENSOR, run: unsigned },
    Test { name: "k5_10_module_of_a_made_up_descriptor_has_no_name", sensor: SENSOR, run: made_up },
];

/// What was told of a process and modules.
fn told(event: &Event, pid: u32) -> Option<&Tamper> {
    match &event.body {
        Body::Tamper(tamper) if by(event, pid) => Some(tamper),
        _ => None,
    }
}

/// A module that the kernel takes, and that is taken out in the end.
fn taken(watch: &mut Watch, act: &str, path: &str, op: TamperOp) -> Result<(), String> {
    let pid = Watch::play(act, &[path])?;
    let name = MODULE_NAME.to_str().map_err(|error| error.to_string())?;
    named(watch, pid, op, name)
}

/// An attempt that the kernel refuses.
fn refused(watch: &mut Watch, act: &str, path: &str, name: &str) -> Result<(), String> {
    let pid = Watch::play(act, &[path])?;
    named(watch, pid, TamperOp::ModuleRefused, name)
}

/// Waits for the act of a process, which must have this name and be aimed at no monitor.
fn named(watch: &mut Watch, pid: u32, op: TamperOp, name: &str) -> Result<(), String> {
    let is_it = |event: &Event| told(event, pid).is_some_and(|tamper| tamper.op == op);
    let event = watch.wait(&format!("{op:?} of `{name}`"), is_it)?;
    match told(&event, pid) {
        Some(tamper) if tamper.object == name && !tamper.is_self => Ok(()),
        other => Err(format!("`{name}` was expected: {other:?}")),
    }
}

fn written(path: &str, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{path}: {error}"))
}

fn bad(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/bad.ko";
    written(path, &[7; 4096])?;
    refused(watch, "module_refused", path, "bad.ko")
}

/// An image in memory has no name before the kernel has read it.
fn bad_memory(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/bad_memory.ko";
    written(path, &[7; 4096])?;
    refused(watch, "module_refused_memory", path, "")
}

/// Changed after it was signed: no kernel that looks at signatures takes it.
fn forged(watch: &mut Watch) -> Result<(), String> {
    let (path, mut bytes) = ("/tmp/forged.ko", spare()?);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    written(path, &bytes)?;
    refused(watch, "module_refused", path, "forged.ko")
}

/// Without its signature the module is taken where that only taints the kernel; where the kernel
/// is locked down it is refused.
fn unsigned(watch: &mut Watch) -> Result<(), String> {
    let (path, bytes) = ("/tmp/unsigned.ko", spare()?);
    written(path, without_signature(&bytes)?)?;
    if host::command_line("lockdown").is_some() {
        refused(watch, "module_refused", path, "unsigned.ko")
    } else {
        taken(watch, "module_file", path, TamperOp::ModuleLoad)
    }
}

fn spare() -> Result<Vec<u8>, String> {
    fs::read(SPARE_MODULE).map_err(|error| format!("{SPARE_MODULE}: {error}"))
}

/// A module before its signature: that is followed by a header whose last four bytes are the
/// signature's length, and by a marker (`struct module_signature`, `linux/module_signature.h`).
fn without_signature(module: &[u8]) -> Result<&[u8], String> {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    const HEADER_BYTES: usize = 12;
    let signed = module.strip_suffix(MARKER);
    let bare = signed.and_then(|rest| {
        let (_, length) = rest.split_last_chunk::<4>()?;
        let signature_bytes = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest.get(..rest.len().checked_sub(HEADER_BYTES + signature_bytes)?)
    });
    bare.ok_or_else(|| format!("{SPARE_MODULE} has no signature"))
}

/// Every attempt is told, and none with the name of a file that another process has open.
fn made_up(watch: &mut Watch) -> Result<(), String> {
    let path = "/tmp/held_elsewhere.ko";
    written(path, &[7; 16])?;
    let pid = Watch::play("module_made_up", &[path])?;
    watch.wait("the end", |event| by(event, pid) && matches!(event.body, Body::Exit(_)))?;
    let acts: Vec<&Tamper> = watch.events.iter().filter_map(|event| told(event, pid)).collect();
    let is_right = |act: &&Tamper| act.op == TamperOp::ModuleRefused && act.object.is_empty();
    if acts.len() == MODULE_TABLES && acts.iter().all(is_right) {
        Ok(())
    } else {
        Err(format!("{MODULE_TABLES} refusals without a name were expected: {acts:?}"))
    }
}
