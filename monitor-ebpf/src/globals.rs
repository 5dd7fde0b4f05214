//! Offsets and settings. The daemon overrides them before the object is loaded, and the map they
//! stand in is frozen: the verifier knows their values and prunes what they switch off (from 5.5).

use aya_ebpf::Global;
use monitor_common::{OFFSET_ABSENT, for_each_offset};

/// Where a field is, as the daemon found it: `monitor_common::Place`, frozen.
#[repr(C)]
pub(crate) struct Place {
    offset: Global<u32>,
    strukt: Global<u32>,
}

impl Place {
    const ABSENT: Self = Self { offset: Global::new(OFFSET_ABSENT), strukt: Global::new(0) };

    /// Bytes from the start of the struct, or [`OFFSET_ABSENT`].
    #[inline(always)]
    pub(crate) fn load(&self) -> u32 {
        self.offset.load()
    }

    /// The struct's id in the kernel's type information.
    #[inline(always)]
    pub(crate) fn strukt(&self) -> u32 {
        self.strukt.load()
    }
}

macro_rules! globals {
    ($($global:ident $strukt:literal $path:literal $width:literal [$($sensor:literal),*];)+) => {
        $(
            #[unsafe(no_mangle)]
            pub(crate) static $global: Place = Place::ABSENT;
        )+
    };
}

for_each_offset!(globals);

/// The monitor's own process: its files and flows are counted, not reported.
#[unsafe(no_mangle)]
pub(crate) static SELF_TGID: Global<u32> = Global::new(0);

/// Whether the kernel has `bpf_rdonly_cast` (6.2 and newer), and the daemon has put its id into the
/// calls of it.
#[unsafe(no_mangle)]
pub(crate) static TYPE_CAST: Global<u32> = Global::new(0);

/// Whether the arguments of a system call can be read at its exit (5.15 and newer): its entry is
/// not hooked then.
#[unsafe(no_mangle)]
pub(crate) static CALL_REGISTERS: Global<u32> = Global::new(0);

/// Whether flows to loopback peers are reported.
#[unsafe(no_mangle)]
pub(crate) static REPORT_LOOPBACK: Global<u32> = Global::new(0);

/// Length from which an opened regular file is reported whatever its name.
#[unsafe(no_mangle)]
pub(crate) static BIG_FILE_BYTES: Global<u64> = Global::new(u64::MAX);

/// Length from which a file's name is looked at: what is shorter is no model, whatever its name.
#[unsafe(no_mangle)]
pub(crate) static NAME_CLASS_BYTES: Global<u64> = Global::new(0);

/// Time for which further opens of a file by the same process are counted but not reported.
#[unsafe(no_mangle)]
pub(crate) static OPEN_REPEAT_NS: Global<u64> = Global::new(0);

/// Records a second and CPU that one cgroup may send to the high-priority ring.
#[unsafe(no_mangle)]
pub(crate) static RATE_HIGH: Global<u64> = Global::new(50_000);

/// Records a second and CPU that one cgroup may send to the bulk ring.
#[unsafe(no_mangle)]
pub(crate) static RATE_BULK: Global<u64> = Global::new(500_000);

/// Bytes sent on a flow between two records.
#[unsafe(no_mangle)]
pub(crate) static FLOW_STEP_BYTES: Global<u64> = Global::new(1 << 20);

/// Time between two records of a flow that sends.
#[unsafe(no_mangle)]
pub(crate) static FLOW_STEP_NS: Global<u64> = Global::new(1_000_000_000);

/// Whether the completion tracepoint of io_uring hands over a `struct io_uring_cqe` (6.16 and
/// newer) and not the result itself.
#[unsafe(no_mangle)]
pub(crate) static IO_RESULT_IN_CQE: Global<u32> = Global::new(0);
