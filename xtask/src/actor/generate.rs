//! Makes one kind of system call, at full speed or at a pace, and measures its own CPU time. BPF
//! programs run in the caller's context, so their cost is in there.

mod operation;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub(crate) use self::operation::Operation;
use self::operation::Stand;

/// What `gen` takes.
#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    /// The operation
    #[arg(value_enum)]
    operation: Operation,
    /// How many
    #[arg(short = 'n', long, default_value_t = 1000)]
    count: u32,
    /// How many a second; full speed without
    #[arg(short, long)]
    rate: Option<f64>,
    /// Directory of the files that are opened
    #[arg(short, long)]
    directory: PathBuf,
    /// Loopback port of connections and datagrams
    #[arg(short, long, default_value_t = 19_999)]
    port: u16,
    /// Write `id t0_ns` (monotonic clock) of each operation here
    #[arg(short, long)]
    log: Option<PathBuf>,
    /// Operations before the measurement
    #[arg(short, long, default_value_t = 0)]
    warm: u32,
    /// Give each operation its own id, in path (lat-NNNNNN.bin), address (127.1.hi.lo) or argument
    #[arg(short, long)]
    unique: bool,
    /// Pin to this CPU
    #[arg(short, long)]
    cpu: Option<usize>,
}

/// What came out of a run: one JSON line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Generated {
    pub(crate) operation: Operation,
    pub(crate) count: u32,
    pub(crate) wall_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) cpu_ns_per_operation: f64,
    pub(crate) operations_per_second: f64,
    pub(crate) errors: u32,
}

pub(super) fn run(args: &GenerateArgs) -> Result<()> {
    super::die_with_parent()?;
    let mut stand = Stand::build(args.operation, &args.directory, args.port)?;
    if args.unique {
        stand.prepare_unique(args.count)?;
    }
    // After the stand, whose threads would be pinned too.
    if let Some(cpu) = args.cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)
            .with_context(|| format!("pin to CPU {cpu}"))?;
    }
    for _ in 0..args.warm {
        // What fails here fails below, where it is counted.
        let _ = stand.once(None);
    }
    let mut starts = Vec::with_capacity(if args.log.is_some() { args.count as usize } else { 0 });
    let (wall, cpu) = (now_ns(ClockId::Monotonic), cpu_ns(args.operation)?);
    let mut errors = 0;
    for at in 0..args.count {
        if let Some(rate) = args.rate {
            sleep_until(wall + pace_ns(at, rate));
        }
        if args.log.is_some() {
            starts.push(now_ns(ClockId::Monotonic));
        }
        if !stand.once(args.unique.then_some(at)) {
            errors += 1;
        }
    }
    let cpu_ns = cpu_ns(args.operation)? - cpu;
    let wall_ns = now_ns(ClockId::Monotonic) - wall;
    write_log(args, &starts)?;
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes fit 53 bits")]
    let (cpu_exact, wall_exact) = (cpu_ns as f64, wall_ns as f64);
    let count = f64::from(args.count);
    let generated = Generated {
        operation: args.operation,
        count: args.count,
        wall_ns,
        cpu_ns,
        cpu_ns_per_operation: cpu_exact / count,
        operations_per_second: count * 1e9 / wall_exact,
        errors,
    };
    println!("{}", serde_json::to_string(&generated)?);
    Ok(())
}

fn write_log(args: &GenerateArgs, starts: &[u64]) -> Result<()> {
    let Some(log) = &args.log else { return Ok(()) };
    let mut file =
        BufWriter::new(File::create(log).with_context(|| format!("create {}", log.display()))?);
    for (id, start) in starts.iter().enumerate() {
        writeln!(file, "{id} {start}").with_context(|| format!("write {}", log.display()))?;
    }
    file.flush().with_context(|| format!("write {}", log.display()))
}

/// CPU time of this thread, which does the work; with its children's, where they do.
fn cpu_ns(operation: Operation) -> Result<u64> {
    let own = now_ns(ClockId::ThreadCPUTime);
    if operation != Operation::Exec {
        return Ok(own);
    }
    let children = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask for the children's time")?;
    let micros = [children.user_time(), children.system_time()]
        .iter()
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum::<i64>();
    Ok(own + u64::try_from(micros).unwrap_or(0) * 1000)
}

fn now_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count over a positive rate is positive and below hours"
)]
fn pace_ns(at: u32, rate: f64) -> u64 {
    (f64::from(at) * 1e9 / rate) as u64
}

fn sleep_until(due_ns: u64) {
    let now = now_ns(ClockId::Monotonic);
    if due_ns > now {
        std::thread::sleep(Duration::from_nanos(due_ns - now));
    }
}
