//! Loads programs side by side. To load one takes the kernel's verifier up to a third of a second,
//! and it does so on the thread that asks; to attach one takes hardly any time, and the order in
//! which that is done matters.

use std::sync::{Mutex, PoisonError};

use aya::programs::{Program as AyaProgram, ProgramError};
use aya::{Btf as AyaBtf, Ebpf};

use super::attach::Place;
use super::catalog::{CATALOG, Hook, Program, Tier};
use crate::kernel::offset::{self, Resolved};

/// Threads that load at most. More gain nothing: the dearest program alone takes a third of the
/// time that all take one after the other.
const LOADERS_MAX: usize = 4;

/// Loads the programs of each sensor's first road that the kernel's tier allows. A refusal is not
/// told here: who attaches the program loads it again, and hears it.
pub(super) fn all(ebpf: &mut Ebpf, offsets: &[Resolved], place: &Place<'_>) {
    let wanted = wanted(offsets, place);
    let mut jobs: Vec<_> = ebpf
        .programs_mut()
        .filter_map(|(name, program)| {
            let at = wanted.iter().position(|row| row.name == name)?;
            Some((at, wanted[at].hook, program))
        })
        .collect();
    // In the catalog's order from the end: required sensors are not the last.
    jobs.sort_unstable_by_key(|(at, ..)| std::cmp::Reverse(*at));
    let loaders = std::thread::available_parallelism().map_or(1, usize::from).min(LOADERS_MAX);
    let jobs = Mutex::new(jobs);
    let run = || {
        while let Some((_, hook, program)) = next(&jobs) {
            if let Err(error) = load(program, hook, place.btf) {
                tracing::debug!(%error, "a program was not loaded beforehand");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..loaders {
            // A host that gives no thread loads one after the other, here.
            let builder = std::thread::Builder::new().name("loader".to_owned());
            let _by_its_end = builder.spawn_scoped(scope, run);
        }
        run();
    });
}

type Job<'a> = (usize, Hook, &'a mut AyaProgram);

fn next<'a>(jobs: &Mutex<Vec<Job<'a>>>) -> Option<Job<'a>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn wanted(offsets: &[Resolved], place: &Place<'_>) -> Vec<&'static Program> {
    let sensors =
        CATALOG.iter().filter(|sensor| offset::missing_for(offsets, sensor.name).is_empty());
    let roads = sensors.filter_map(|sensor| {
        sensor.roads.iter().find(|road| match road.tier {
            Tier::Base => true,
            Tier::Fentry => place.tiers.fentry.is_ok(),
            Tier::Lsm => place.tiers.lsm.is_ok(),
        })
    });
    roads
        .flat_map(|road| road.programs)
        .filter(|program| match program.hook {
            Hook::Entries(_) => !place.has_registers,
            Hook::IoUringComplete => place.has_request,
            Hook::Tracepoints { .. } => place.tracefs.is_ok(),
            _ => true,
        })
        .collect()
}

/// Loads a program for its place, unless it is loaded.
pub(super) fn load(program: &mut AyaProgram, hook: Hook, btf: &AyaBtf) -> Result<(), ProgramError> {
    let loaded = match (hook, program) {
        (Hook::Lsm(name), AyaProgram::Lsm(program)) => program.load(name, btf),
        (Hook::Fentry(function), AyaProgram::FEntry(program)) => program.load(function, btf),
        (Hook::Fexit(functions), AyaProgram::FExit(program)) => {
            let mut loaded = Ok(());
            for function in functions {
                loaded = program.load(function, btf);
                // One that was loaded beforehand stays with the function that it found then.
                if matches!(loaded, Ok(()) | Err(ProgramError::AlreadyLoaded)) {
                    break;
                }
            }
            loaded
        }
        (Hook::BtfTracepoint(name), AyaProgram::BtfTracePoint(program)) => program.load(name, btf),
        (Hook::IoUringComplete, AyaProgram::BtfTracePoint(program)) => {
            program.load("io_uring_complete", btf)
        }
        (Hook::Tracepoints { .. } | Hook::Entries(_), AyaProgram::TracePoint(program)) => {
            program.load()
        }
        (Hook::CgroupSockAddr, AyaProgram::CgroupSockAddr(program)) => program.load(),
        (Hook::CgroupSockRelease, AyaProgram::CgroupSock(program)) => program.load(),
        (Hook::CgroupEgress | Hook::CgroupIngress, AyaProgram::CgroupSkb(program)) => {
            program.load()
        }
        (Hook::TaskIterator, AyaProgram::Iter(program)) => program.load("task", btf),
        (Hook::FileIterator, AyaProgram::Iter(program)) => program.load("task_file", btf),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    match loaded {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}
