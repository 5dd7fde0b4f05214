//! The rings, and when their reader is woken.
//!
//! A wake-up costs the caller ten times the record: an interrupt to itself, and on a virtual
//! machine a way through the hypervisor. So a record is submitted without one, and the reader is
//! woken after that, only if it must be and would not come by itself. That the record is there
//! before the question is asked is what makes the answers below safe.

use aya_ebpf::bindings::{BPF_RB_CONS_POS, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_PROD_POS};
use aya_ebpf::maps::RingBuf;

use crate::maps::{READER_IDLE, RING_BULK, RING_HIGH, WOKEN};

/// Submit without a wake-up.
pub(crate) const QUIET: u64 = BPF_RB_NO_WAKEUP as u64;

/// How a record travels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The high-priority ring, and the reader is woken: verdicts hang on it.
    High,
    /// The high-priority ring, in its order; the reader is woken if it sleeps for long.
    Life,
    /// The bulk ring; the reader is woken if it sleeps for long.
    Bulk,
}

impl Lane {
    #[inline(always)]
    pub(crate) fn ring(self) -> &'static RingBuf {
        match self {
            Self::High | Self::Life => &RING_HIGH,
            Self::Bulk => &RING_BULK,
        }
    }

    /// Wakes the reader, if need be, once a record was submitted.
    #[inline(always)]
    pub(crate) fn knock(self) {
        let must = match self {
            Self::High => !wake_is_under_way(),
            Self::Life | Self::Bulk => reader_sleeps(),
        };
        if must {
            // A full ring needs no wake-up of its own: its reader is behind.
            if let Some(empty) = self.ring().reserve::<u64>(0) {
                empty.discard(u64::from(BPF_RB_FORCE_WAKEUP));
            }
        }
    }
}

/// Whether the reader was woken for a record that it has not reached. It goes on until the ring is
/// empty, so it will find the record that was just submitted.
#[inline(always)]
fn wake_is_under_way() -> bool {
    let Some(woken) = WOKEN.get_ptr_mut(0) else { return false };
    let read = RING_HIGH.query(u64::from(BPF_RB_CONS_POS));
    // SAFETY: the only value of the map. Two CPUs that write it at once both wake the reader.
    unsafe {
        if read < *woken {
            return true;
        }
        *woken = RING_HIGH.query(u64::from(BPF_RB_PROD_POS));
    }
    false
}

/// Whether the reader sleeps until it is woken, and not for a moment only; who asks first wakes it.
/// It says so before it looks at the rings for the last time.
#[inline(always)]
fn reader_sleeps() -> bool {
    let Some(idle) = READER_IDLE.get_ptr_mut(0) else { return false };
    // SAFETY: the only value of the map. Two CPUs that ask at once both wake the reader.
    unsafe {
        let sleeps = *idle != 0;
        if sleeps {
            *idle = 0;
        }
        sleeps
    }
}
