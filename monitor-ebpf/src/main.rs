//! gpuwarden's kernel programs. Base tier: BTF tracepoints, system-call tracepoints, cgroup
//! programs and one iterator. Full tier: LSM hooks, entries and returns of kernel functions. They
//! observe; none of them changes what a process may do.
//!
//! | module | what it owns |
//! |---|---|
//! | `globals` | offsets and settings, frozen before the programs are loaded |
//! | `maps` | every map |
//! | `read` | the only code that touches kernel memory |
//! | `filter` | what is wanted, and how much of it per cgroup |
//! | `count` | the counters that must balance |
//! | `lane` | the two rings, and when their reader is woken |
//! | `emit` | from a filled record to a ring |
//! | `flow` | the state of flows |
//! | `relay` | bytes that workloads which have read weights pass on within the host |
//! | `opinion` | bytes by cgroup, as the socket layer says and as packets show |
//! | `label` | which files bear a label, also through an overlay |
//! | `reader` | the sums of bytes read of labelled files |
//! | `words` | values cleared and copied by their words |
//! | `hook` | the programs |
#![feature(asm_experimental_arch)]
#![no_std]
#![no_main]

mod count;
mod emit;
mod filter;
mod flow;
mod globals;
mod hook;
mod label;
mod lane;
mod maps;
mod opinion;
mod read;
mod reader;
mod relay;
mod words;

/// The verifier refuses an endless loop, so a reachable panic is a load failure and not silence.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
