//! Attaches the floor of the benchmark, says `ready`, and stays until its standard input ends.
//!
//! `floor count` counts the calls; `floor ring` tells of each in a ring that is polled every two
//! milliseconds.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::RingBuf;
use aya::programs::{BtfTracePoint, TracePoint};
use aya::{Btf, EbpfLoader};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gpuwarden-floor"));
/// How often the ring is looked at.
const POLL: Duration = Duration::from_millis(2);
/// System calls, by program.
const CALLS: &[(&str, &str)] = &[
    ("floor_open", "sys_exit_openat"),
    ("floor_send", "sys_exit_sendto"),
    ("floor_connect", "sys_exit_connect"),
];

fn main() -> Result<()> {
    let records = match std::env::args().nth(1).as_deref() {
        Some("count") => 0u32,
        Some("ring") => 1,
        other => bail!("{other:?}: expected `count` or `ring`"),
    };
    if OBJECT.is_empty() {
        bail!("this was built without the kernel side; build it without AYA_BUILD_SKIP");
    }
    let mut ebpf = EbpfLoader::new().override_global("RECORDS", &records, true).load(OBJECT)?;
    for (program, tracepoint) in CALLS {
        let program: &mut TracePoint =
            ebpf.program_mut(program).context("no program")?.try_into()?;
        program.load()?;
        program.attach("syscalls", tracepoint)?;
    }
    let btf = Btf::from_sys_fs()?;
    let exec: &mut BtfTracePoint =
        ebpf.program_mut("floor_exec").context("no program")?.try_into()?;
    exec.load("sched_process_exec", &btf)?;
    exec.attach()?;
    let mut ring = RingBuf::try_from(ebpf.take_map("RING").context("no ring")?)?;
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    let reader = std::thread::spawn(move || {
        let mut read = 0u64;
        while !end.load(Ordering::Relaxed) {
            while ring.next().is_some() {
                read += 1;
            }
            std::thread::sleep(POLL);
        }
        read
    });
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    ended.store(true, Ordering::Relaxed);
    let read = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    writeln!(out, "{read} records")?;
    Ok(())
}
