//! From the kernel's rings to the engine: one thread reads both rings and hands frames over a
//! bounded single-producer queue per ring. When a queue is full nothing is taken from its ring, so
//! that the only place where a record can be lost is the ring, where the kernel counts it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use monitor_common::RECORD_BYTES_MAX;
use ringbuf::traits::{Consumer as _, Observer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use rustix::event::{EventfdFlags, epoll};

/// Bytes of the queue behind the high-priority ring.
pub const QUEUE_HIGH_BYTES_MAX: usize = 8 << 20;
/// Bytes of the queue behind the bulk ring.
pub const QUEUE_BULK_BYTES_MAX: usize = 8 << 20;
/// Records that are taken from one ring before the other is looked at.
pub const DRAIN_BATCH_MAX: usize = 1024;
/// How long the reader sleeps while bulk records keep coming.
const POLL_BUSY: Duration = Duration::from_millis(2);
/// How long the reader sleeps at most when none come; the bulk ring holds more than this brings.
const POLL_IDLE: Duration = Duration::from_millis(20);
/// Bytes in front of each frame: its length.
const LENGTH_BYTES: usize = 4;

/// What the reader counts.
#[derive(Debug, Default)]
pub struct DrainStats {
    /// Records taken from the high-priority ring.
    pub high: AtomicU64,
    /// Records taken from the bulk ring.
    pub bulk: AtomicU64,
    /// Times a queue was full and its ring was left alone.
    pub stalls: AtomicU64,
    /// Records that were longer than any record may be; not handed on.
    pub oversized: AtomicU64,
}

/// One record as the kernel wrote it, on its way to the decoder.
pub type Frame = Vec<u8>;

/// The engine's end of one queue.
pub struct Frames {
    queue: HeapCons<u8>,
}

impl Frames {
    /// Takes the next frame into `frame`; `false` when there is none.
    pub fn next(&mut self, frame: &mut Frame) -> bool {
        let mut length = [0; LENGTH_BYTES];
        if self.queue.peek_slice(&mut length) < LENGTH_BYTES {
            return false;
        }
        let length = u32::from_le_bytes(length) as usize;
        if self.queue.occupied_len() < LENGTH_BYTES + length {
            return false;
        }
        self.queue.skip(LENGTH_BYTES);
        frame.resize(length, 0);
        self.queue.pop_slice(frame) == length
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

struct Lane {
    ring: RingBuf<MapData>,
    queue: HeapProd<u8>,
}

impl Lane {
    /// Moves records while there are any and the queue has room. Returns how many.
    fn drain(&mut self, stats: &DrainStats) -> usize {
        let mut moved = 0;
        while moved < DRAIN_BATCH_MAX {
            if self.queue.vacant_len() < LENGTH_BYTES + RECORD_BYTES_MAX {
                stats.stalls.fetch_add(1, Ordering::Relaxed);
                break;
            }
            let Some(record) = self.ring.next() else { break };
            moved += 1;
            let Some(length) = u32::try_from(record.len())
                .ok()
                .filter(|length| *length as usize <= RECORD_BYTES_MAX)
            else {
                stats.oversized.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.queue.push_slice(&length.to_le_bytes());
            self.queue.push_slice(&record);
        }
        moved
    }
}

/// Wakes the reader from another thread: to stop it.
#[derive(Clone, Debug)]
pub struct Wake {
    event: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
}

impl Wake {
    /// Asks the reader to take what is left and to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Err(error) = rustix::io::write(&*self.event, &1u64.to_ne_bytes()) {
            tracing::warn!(%error, "could not wake the ring reader; it ends at its next poll");
        }
    }
}

/// The reader of both rings.
pub struct Drain {
    high: Lane,
    bulk: Lane,
    poll: OwnedFd,
    wake: Wake,
    stats: Arc<DrainStats>,
}

impl Drain {
    /// Makes the reader and the two ends that the engine takes frames from, high priority first.
    pub fn new(
        high: RingBuf<MapData>,
        bulk: RingBuf<MapData>,
        stats: Arc<DrainStats>,
    ) -> std::io::Result<(Self, Frames, Frames)> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&poll, high.as_fd(), epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        epoll::add(&poll, &event, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        let wake = Wake { event: Arc::new(event), stop: Arc::new(AtomicBool::new(false)) };
        let (high_in, high_out) = HeapRb::new(QUEUE_HIGH_BYTES_MAX).split();
        let (bulk_in, bulk_out) = HeapRb::new(QUEUE_BULK_BYTES_MAX).split();
        let drain = Self {
            high: Lane { ring: high, queue: high_in },
            bulk: Lane { ring: bulk, queue: bulk_in },
            poll,
            wake,
            stats,
        };
        Ok((drain, Frames { queue: high_out }, Frames { queue: bulk_out }))
    }

    /// The handle that ends the reader.
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Reads until told to stop, then takes what is left. `notify` is called when frames were
    /// handed over.
    pub fn run(mut self, notify: impl Fn()) {
        let mut pause = POLL_BUSY;
        loop {
            let stopping = self.wake.stop.load(Ordering::Acquire);
            let high = self.high.drain(&self.stats);
            let bulk = self.bulk.drain(&self.stats);
            self.stats.high.fetch_add(high as u64, Ordering::Relaxed);
            self.stats.bulk.fetch_add(bulk as u64, Ordering::Relaxed);
            if high + bulk > 0 {
                notify();
            }
            if high == DRAIN_BATCH_MAX || bulk == DRAIN_BATCH_MAX {
                continue;
            }
            if stopping {
                return;
            }
            pause = if bulk > 0 { POLL_BUSY } else { (pause * 2).min(POLL_IDLE) };
            self.wait(pause);
        }
    }

    fn wait(&self, pause: Duration) {
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX),
        };
        let mut events = Vec::with_capacity(2);
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "waiting for the rings failed; they are polled instead");
                std::thread::sleep(pause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_and_never_in_part() {
        let (mut queue, out) = HeapRb::<u8>::new(64).split();
        let mut frames = Frames { queue: out };
        let mut frame = Frame::new();
        assert!(!frames.next(&mut frame));
        queue.push_slice(&3u32.to_le_bytes());
        assert!(!frames.next(&mut frame), "the length alone is no frame");
        queue.push_slice(b"ab");
        assert!(!frames.next(&mut frame), "two of three bytes are no frame");
        queue.push_slice(b"c");
        assert!(frames.next(&mut frame));
        assert_eq!(frame, b"abc");
        assert!(frames.is_empty());
    }
}
