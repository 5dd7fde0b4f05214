//! Code that is mapped, where no hook of the mapping knows the file: at the system call, by the
//! descriptor that it names.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use monitor_common::KIND_FILE_CHANGE;

use super::call::Arguments as _;
use super::full::change::{self, PROT_EXEC};
use crate::filter;
use crate::read::{file, task};

/// `mmap(addr, len, prot, flags, fd, offset)`. Most calls are for memory, and most files are mapped
/// to be read: what they asked tells, before anything else is looked at.
#[tracepoint]
pub fn exec_mapped(ctx: TracePointContext) -> u32 {
    let (protection, descriptor) = (ctx.get::<2>(), ctx.get::<4>() as i32);
    if protection & PROT_EXEC == 0 || descriptor < 0 || !filter::wanted(KIND_FILE_CHANGE) {
        return 0;
    }
    if let Ok(opened) = file::from_descriptor(task::current(), descriptor as u32) {
        change::map_judge(opened);
    }
    0
}
