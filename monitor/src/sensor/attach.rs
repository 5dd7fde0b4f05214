//! From a row of the catalog to attached programs: the first road that the kernel takes.
//!
//! A program that is refused turns its road away with the kernel's own words; what was attached of
//! that road is detached again.

use std::fs::File;

use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, Iter,
    Program as AyaProgram, ProgramError, TracePoint,
};
use aya::{Btf as AyaBtf, Ebpf};
use monitor_common::{SYSCALL_ARGS_OFFSET, SYSCALL_NUMBER_OFFSET, SYSCALL_RESULT_OFFSET};

use super::catalog::{Hook, Program, Road, Sensor, Tier};
use super::held::Held;
use super::preload::load;
use super::probe::Tiers;
use super::status::Status;
use crate::kernel::offset::{self, Resolved};
use crate::kernel::tracefs::{Tracefs, TracefsError};

/// Times that an iterator over open files may pause: each time after a million.
const ITERATOR_PAUSES_MAX: usize = 64;

/// Where programs are attached.
pub(super) struct Place<'a> {
    pub(super) btf: &'a AyaBtf,
    pub(super) cgroup: &'a File,
    pub(super) tracefs: Result<&'a Tracefs, &'a TracefsError>,
    pub(super) tiers: &'a Tiers,
    /// Whether `io_uring`'s completion tracepoint hands over the request.
    pub(super) has_request: bool,
    /// Whether the exit of a system call tells what it was asked.
    pub(super) has_registers: bool,
}

/// Takes the first road of a sensor that this kernel takes.
pub(super) fn sensor(
    ebpf: &mut Ebpf,
    sensor: &'static Sensor,
    offsets: &[Resolved],
    place: &Place<'_>,
    held: &mut Held,
) -> Status {
    let missing = offset::missing_for(offsets, sensor.name);
    if !missing.is_empty() {
        return Status::off(sensor, missing.join("; "));
    }
    let mut refused = Vec::new();
    for road in sensor.roads {
        match take(ebpf, road, place, held) {
            Ok(()) => return Status::on(sensor, road, refused.join("; ")),
            // Two roads that lack the same thing say so once.
            Err(why) if refused.contains(&why) => {}
            Err(why) => refused.push(why),
        }
    }
    Status::off(sensor, refused.join("; "))
}

fn take(ebpf: &mut Ebpf, road: &Road, place: &Place<'_>, held: &mut Held) -> Result<(), String> {
    match road.tier {
        Tier::Base => {}
        Tier::Fentry => place.tiers.fentry.clone()?,
        Tier::Lsm => place.tiers.lsm.clone()?,
    }
    for (count, program) in road.programs.iter().enumerate() {
        if let Err(why) = attach(ebpf, program, place, held) {
            for taken in &road.programs[..=count] {
                held.release(taken.name);
                detach(ebpf, taken.name);
            }
            return Err(why);
        }
    }
    Ok(())
}

/// Takes a program back, links first.
pub(super) fn detach(ebpf: &mut Ebpf, name: &str) {
    let gone = match ebpf.program_mut(name) {
        Some(AyaProgram::Lsm(program)) => program.unload(),
        Some(AyaProgram::FEntry(program)) => program.unload(),
        Some(AyaProgram::FExit(program)) => program.unload(),
        Some(AyaProgram::BtfTracePoint(program)) => program.unload(),
        Some(AyaProgram::TracePoint(program)) => program.unload(),
        Some(AyaProgram::CgroupSkb(program)) => program.unload(),
        Some(AyaProgram::CgroupSockAddr(program)) => program.unload(),
        Some(AyaProgram::CgroupSock(program)) => program.unload(),
        Some(AyaProgram::Iter(program)) => program.unload(),
        _ => Ok(()),
    };
    match gone {
        // The one that was refused was never loaded.
        Ok(()) | Err(ProgramError::NotLoaded) => {}
        Err(error) => {
            tracing::warn!(program = name, %error, "a program of a road that is not taken stays");
        }
    }
}

fn attach(
    ebpf: &mut Ebpf,
    row: &Program,
    place: &Place<'_>,
    held: &mut Held,
) -> Result<(), String> {
    if row.hook == Hook::Fanotify {
        return super::label_watch::probe();
    }
    let program = ebpf
        .program_mut(row.name)
        .ok_or_else(|| format!("the object has no program {}", row.name))?;
    let refused = |error: ProgramError| format!("{}: {}", row.name, chain(&error));
    match row.hook {
        Hook::IoUringComplete => {
            if !place.has_request {
                return Err(format!(
                    "{}: io_uring_complete does not hand over the request; Linux 5.19 and newer do",
                    row.name
                ));
            }
            attach_typed(program, row.hook, place.btf).map_err(refused)?;
        }
        Hook::Lsm(_) | Hook::Fentry(_) | Hook::Fexit(_) | Hook::BtfTracepoint(_) => {
            attach_typed(program, row.hook, place.btf).map_err(refused)?;
        }
        Hook::Entries(_) if place.has_registers => {}
        Hook::Tracepoints { .. } | Hook::Entries(_) => {
            // A kernel without tracefs says so, whatever it thinks of the program.
            place.tracefs.map_err(|error| format!("{}: {error}", row.name))?;
            load(program, row.hook, place.btf).map_err(refused)?;
            let program: &mut TracePoint = program.try_into().map_err(refused)?;
            attach_tracepoints(program, row, place, held)
                .map_err(|why| format!("{}: {why}", row.name))?;
        }
        Hook::CgroupSockAddr => {
            load(program, row.hook, place.btf).map_err(refused)?;
            let program: &mut CgroupSockAddr = program.try_into().map_err(refused)?;
            program.attach(place.cgroup, CgroupAttachMode::Single).map_err(refused)?;
        }
        Hook::CgroupSockRelease => {
            load(program, row.hook, place.btf).map_err(refused)?;
            let program: &mut CgroupSock = program.try_into().map_err(refused)?;
            program.attach(place.cgroup, CgroupAttachMode::Single).map_err(refused)?;
        }
        Hook::CgroupEgress | Hook::CgroupIngress => {
            let side = if row.hook == Hook::CgroupEgress {
                CgroupSkbAttachType::Egress
            } else {
                CgroupSkbAttachType::Ingress
            };
            load(program, row.hook, place.btf).map_err(refused)?;
            let program: &mut CgroupSkb = program.try_into().map_err(refused)?;
            program.attach(place.cgroup, side, CgroupAttachMode::Single).map_err(refused)?;
        }
        Hook::Fanotify => {}
        Hook::FileIterator => {
            let file = iterator(program, row.hook, place.btf);
            let run = file.and_then(|file| run(file).map_err(|error| error.to_string()));
            run.map_err(|why| format!("{}: {why}", row.name))?;
        }
        Hook::TaskIterator => {
            let file = iterator(program, row.hook, place.btf);
            held.iterator = Some(file.map_err(|why| format!("{}: {why}", row.name))?);
        }
    }
    Ok(())
}

/// Makes an iterator over what its hook says.
fn iterator(program: &mut AyaProgram, hook: Hook, btf: &AyaBtf) -> Result<File, String> {
    let refused = |error: ProgramError| chain(&error);
    load(program, hook, btf).map_err(refused)?;
    let program: &mut Iter = program.try_into().map_err(refused)?;
    let link = program.attach().map_err(refused)?;
    let link = program.take_link(link).map_err(refused)?;
    link.into_file().map_err(|error| chain(&error))
}

/// Runs an iterator that writes nothing. The kernel pauses now and then, and says so
/// (`kernel/bpf/bpf_iter.c`, `bpf_seq_read`).
fn run(mut iterator: File) -> std::io::Result<()> {
    let mut nothing = [0; 64];
    for _ in 0..ITERATOR_PAUSES_MAX {
        match std::io::Read::read(&mut iterator, &mut nothing) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Loads and attaches a program whose place is known by the kernel's type information.
pub(super) fn attach_typed(
    program: &mut AyaProgram,
    hook: Hook,
    btf: &AyaBtf,
) -> Result<(), ProgramError> {
    load(program, hook, btf)?;
    match program {
        AyaProgram::Lsm(program) => program.attach().map(drop),
        AyaProgram::FEntry(program) => program.attach().map(drop),
        AyaProgram::FExit(program) => program.attach().map(drop),
        AyaProgram::BtfTracePoint(program) => program.attach().map(drop),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn attach_tracepoints(
    program: &mut TracePoint,
    row: &Program,
    place: &Place<'_>,
    held: &mut Held,
) -> Result<(), String> {
    let (category, names) = match row.hook {
        Hook::Tracepoints { category, names } => (category, names),
        Hook::Entries(names) => ("syscalls", names),
        _ => return Ok(()),
    };
    let tracefs = place.tracefs.map_err(ToString::to_string)?;
    let mut attached = 0;
    for name in names.iter().filter(|name| tracefs.has(category, name)) {
        check_layout(tracefs, category, name)?;
        let link = program.attach(category, name).map_err(|error| chain(&error))?;
        held.keep(row.name, program.take_link(link).map_err(|error| chain(&error))?);
        attached += 1;
    }
    if attached == 0 {
        return Err(format!(
            "the kernel has none of the tracepoints {category}/{{{}}}",
            names.join(",")
        ));
    }
    Ok(())
}

/// Whether a system call's tracepoint keeps its number, and its result or its arguments, where
/// programs read them.
fn check_layout(tracefs: &Tracefs, category: &str, name: &str) -> Result<(), String> {
    // The entry of a system call has a field for each argument, behind the call's number.
    const _: () = assert!(SYSCALL_NUMBER_OFFSET + 8 == SYSCALL_ARGS_OFFSET);
    check_field(tracefs, category, name, ("__syscall_nr", 4, SYSCALL_NUMBER_OFFSET))?;
    if name.starts_with("sys_enter_") {
        return Ok(());
    }
    check_field(tracefs, category, name, ("ret", 8, SYSCALL_RESULT_OFFSET))
}

fn check_field(
    tracefs: &Tracefs,
    category: &str,
    name: &str,
    (field, width, expected): (&str, u32, usize),
) -> Result<(), String> {
    let offset = tracefs.field(category, name, field, width).map_err(|error| error.to_string())?;
    if offset as usize == expected {
        return Ok(());
    }
    Err(format!("tracepoint {name} keeps {field} at {offset}, expected {expected}"))
}

/// An error with its causes, on one line: the verifier's log is cut to its last line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = first_and_last_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = first_and_last_line(&cause.to_string());
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn first_and_last_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    // A refusal that never came to the verifier has no log.
    let first =
        first.strip_suffix("Verifier output:").unwrap_or(first).trim_end_matches(['.', ' ']);
    // Statistics that the verifier writes behind its verdict.
    let is_verdict = |line: &&str| {
        !["processed ", "verification time ", "stack depth "]
            .iter()
            .any(|statistic| line.starts_with(statistic))
    };
    match lines.rfind(is_verdict) {
        Some(last) => format!("{first} … {last}"),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifier_log_is_cut_to_what_a_person_reads() {
        let log = "load failed\n0: R1=ctx\n1: (85) call foo#1\nunknown func foo#1\n\
                   verification time 9 usec\nstack depth 8\nprocessed 2 insns\n";
        assert_eq!(first_and_last_line(log), "load failed … unknown func foo#1");
        assert_eq!(first_and_last_line("one line"), "one line");
        assert_eq!(first_and_last_line("returned EPERM. Verifier output: \n"), "returned EPERM");
        assert_eq!(first_and_last_line(""), "");
    }
}
