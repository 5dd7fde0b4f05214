//! What ran before the monitor: the task iterator for identities, `/proc` for words. The same
//! pass is the canary: what the kernel side reads of our own task must be what `/proc/self` says,
//! or nothing it reads is trusted.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use monitor_common::{TASK_KTHREAD, TaskSeenRecord};
use thiserror::Error;
use zerocopy::FromBytes as _;

use crate::decode;
use crate::kernel::device;
use crate::model::{Body, Event, ProcessSeen, SeenOrigin};

/// Processes that are seeded at most; the kernel's default `pid_max` on 64 bit is 4 194 304.
pub const SEED_PROCESSES_MAX: usize = 65_536;
/// Bytes of arguments that are read of each.
const ARGS_READ_MAX: u64 = monitor_common::ARGS_BYTES_MAX as u64;

/// Why what the kernel side reads is not trusted.
#[derive(Debug, Error)]
pub enum SeedError {
    /// The iterator could not be read.
    #[error("the task iterator could not be read: {0}")]
    Read(#[from] std::io::Error),
    /// Our own task was not among the tasks.
    #[error("the task iterator did not show process {0}, which is this one")]
    NotSeen(u32),
    /// The kernel side reads something else than `/proc/self` says.
    #[error(
        "the kernel side reads {field} of this process as {read}, /proc/self says {expected}: the \
         offsets found for this kernel are wrong; please report the kernel's release and config"
    )]
    Canary {
        /// What was compared.
        field: &'static str,
        /// What the kernel side read.
        read: u64,
        /// What `/proc/self` says.
        expected: u64,
    },
}

/// What was there first.
#[derive(Debug, Default)]
pub struct Seeds {
    /// One event a process, parents and children in no particular order.
    pub events: Vec<Event>,
    /// Processes beyond the bound, left out.
    pub left_out: u64,
}

/// Reads the iterator, proves the offsets on this process, and adds what `/proc` knows.
pub fn seed(mut iterator: File) -> Result<Seeds, SeedError> {
    let mut bytes = Vec::new();
    iterator.read_to_end(&mut bytes)?;
    let mut seeds = Seeds::default();
    let own = std::process::id();
    let mut proven = false;
    for chunk in bytes.chunks_exact(size_of::<TaskSeenRecord>()) {
        let Ok(record) = TaskSeenRecord::read_from_bytes(chunk) else { continue };
        if record.header.actor.tgid == own {
            canary(&record)?;
            proven = true;
        }
        if record.flags & TASK_KTHREAD != 0 {
            continue;
        }
        if seeds.events.len() >= SEED_PROCESSES_MAX {
            seeds.left_out += 1;
            continue;
        }
        seeds.events.push(event(&record));
    }
    if proven { Ok(seeds) } else { Err(SeedError::NotSeen(own)) }
}

/// Compares what the kernel side read of this process with what `/proc/self` says.
fn canary(record: &TaskSeenRecord) -> Result<(), SeedError> {
    let status = fs::read_to_string("/proc/self/status")?;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let number = |field: &str| -> u64 {
        status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.split_whitespace().nth(usize::from(field == "Uid:")))
            .and_then(|text| text.parse().ok())
            .unwrap_or(u64::MAX)
    };
    // Field 22 of stat(5), counted behind the name, which may hold spaces: start in clock ticks.
    let start_ticks: u64 = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(19))
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX);
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let mount_ns = fs::metadata("/proc/self/ns/mnt")?.ino();
    let exe = fs::metadata("/proc/self/exe")?;
    device::learn(Path::new("/proc/self/exe"), exe.dev());
    let exe_device = u64::from(device::kernel_device(exe.dev()));
    let checks = [
        ("parent", u64::from(record.parent_tgid), number("PPid:")),
        ("effective user id", u64::from(record.header.actor.uid), number("Uid:")),
        ("start time in ticks", record.header.actor.start_boot_ns / tick_ns, start_ticks),
        ("mount namespace", u64::from(record.mount_ns), mount_ns),
        ("inode of the executable", record.exe.inode, exe.ino()),
        ("device of the executable", u64::from(record.exe.device), exe_device),
    ];
    for (field, read, expected) in checks {
        if read != expected {
            return Err(SeedError::Canary { field, read, expected });
        }
    }
    Ok(())
}

fn event(record: &TaskSeenRecord) -> Event {
    let actor = decode::actor(&record.header.actor);
    let pid = actor.process.tgid.0;
    let link = |name: &str| {
        fs::read_link(format!("/proc/{pid}/{name}"))
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let mut args = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/cmdline")) {
        // An unreadable command line (the process just ended) is an empty one.
        if file.take(ARGS_READ_MAX).read_to_end(&mut args).is_err() {
            args.clear();
        }
    }
    let seen = ProcessSeen {
        parent: decode::process_key(record.parent_tgid, record.parent_start_boot_ns),
        exe: link("exe"),
        exe_id: decode::file_id(&record.exe),
        args: decode::arguments(&args),
        cwd: link("cwd"),
        origin: SeenOrigin::Iterator,
    };
    Event {
        time: crate::model::BootNs(record.header.boot_ns),
        actor: Some(actor),
        body: Body::ProcessSeen(seen),
    }
}
