//! From the kernel's rings to the engine: one thread reads both rings and hands frames over a
//! bounded single-producer queue per ring. When a queue is full nothing is taken from its ring, so
//! that the only place where a record can be lost is the ring, where the kernel counts it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{Array, MapData, RingBuf};
use monitor_common::RECORD_BYTES_MAX;
use ringbuf::traits::{Consumer as _, Observer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use rustix::event::{EventfdFlags, epoll};

use crate::model::{BootNs, Clock};

/// Bytes of the queue behind the high-priority ring.
pub const QUEUE_HIGH_BYTES_MAX: usize = 8 << 20;
/// Bytes of the queue behind the bulk ring.
pub const QUEUE_BULK_BYTES_MAX: usize = 4 << 20;
/// Records that are taken from one ring before the other is looked at.
pub const DRAIN_BATCH_MAX: usize = 1024;
/// How long the reader sleeps while records keep coming: nobody pays for waking it then.
const POLL_BUSY: Duration = Duration::from_millis(2);
/// Times it finds nothing before it sleeps until it is woken.
const IDLE_AFTER: u32 = 2;
/// How long it sleeps then, whether it is woken or not.
const POLL_IDLE: Duration = Duration::from_millis(250);
/// Bytes in front of each frame: its length, and when it was taken.
const HEAD_BYTES: usize = 12;

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
    /// Takes the next frame into `frame`, and says when it was taken from its ring; `None` when
    /// there is none.
    pub fn next(&mut self, frame: &mut Frame) -> Option<BootNs> {
        let mut head = [0; HEAD_BYTES];
        if self.queue.peek_slice(&mut head) < HEAD_BYTES {
            return None;
        }
        let (length, taken) = split(&head);
        if self.queue.occupied_len() < HEAD_BYTES + length {
            return None;
        }
        self.queue.skip(HEAD_BYTES);
        frame.resize(length, 0);
        (self.queue.pop_slice(frame) == length).then_some(taken)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

fn head(length: u32, taken: BootNs) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&taken.0.to_le_bytes());
    head
}

fn split(head: &[u8; HEAD_BYTES]) -> (usize, BootNs) {
    let [a, b, c, d, taken @ ..] = *head;
    (u32::from_le_bytes([a, b, c, d]) as usize, BootNs(u64::from_le_bytes(taken)))
}

struct Lane {
    ring: RingBuf<MapData>,
    queue: HeapProd<u8>,
    /// Whether records were left in the ring, because the queue is full.
    is_stalled: bool,
}

impl Lane {
    /// Moves records while there are any and the queue has room. Returns how many.
    fn drain(&mut self, stats: &DrainStats) -> usize {
        let mut moved = 0;
        let mut taken = BootNs(0);
        self.is_stalled = false;
        while moved < DRAIN_BATCH_MAX {
            if self.queue.vacant_len() < HEAD_BYTES + RECORD_BYTES_MAX {
                self.is_stalled = true;
                stats.stalls.fetch_add(1, Ordering::Relaxed);
                break;
            }
            let Some(record) = self.ring.next() else { break };
            moved += 1;
            if moved == 1 {
                taken = Clock::boot_now();
            }
            let Some(length) = u32::try_from(record.len())
                .ok()
                .filter(|length| *length as usize <= RECORD_BYTES_MAX)
            else {
                stats.oversized.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.queue.push_slice(&head(length, taken));
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

/// The rings, and where their reader says that it sleeps until it is woken.
pub struct Rings {
    /// Process life, flow starts, label hits.
    pub high: RingBuf<MapData>,
    /// Everything else.
    pub bulk: RingBuf<MapData>,
    /// One entry: whether the reader sleeps until it is woken. Who wakes it clears it.
    pub idle: Array<MapData, u32>,
}

/// The reader of both rings.
pub struct Drain {
    high: Lane,
    bulk: Lane,
    idle: Array<MapData, u32>,
    poll: OwnedFd,
    wake: Wake,
    stats: Arc<DrainStats>,
}

impl Drain {
    /// Makes the reader and the two ends that the engine takes frames from, high priority first.
    pub fn new(rings: Rings, stats: Arc<DrainStats>) -> std::io::Result<(Self, Frames, Frames)> {
        let Rings { high, bulk, idle } = rings;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&poll, high.as_fd(), epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        // At the edge, so that records do not wake the reader while it polls.
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poll, bulk.as_fd(), epoll::EventData::new_u64(2), edge)?;
        epoll::add(&poll, &event, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        let wake = Wake { event: Arc::new(event), stop: Arc::new(AtomicBool::new(false)) };
        let (high_in, high_out) = HeapRb::new(QUEUE_HIGH_BYTES_MAX).split();
        let (bulk_in, bulk_out) = HeapRb::new(QUEUE_BULK_BYTES_MAX).split();
        let drain = Self {
            high: Lane { ring: high, queue: high_in, is_stalled: false },
            bulk: Lane { ring: bulk, queue: bulk_in, is_stalled: false },
            idle,
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
        let mut empty = 0;
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
            let is_stalled = self.high.is_stalled || self.bulk.is_stalled;
            empty = if high + bulk > 0 || is_stalled { 0 } else { empty + 1 };
            match empty {
                // What was submitted before it is said is found by one more look; what comes after
                // wakes us.
                IDLE_AFTER => self.say_idle(1),
                0..IDLE_AFTER => self.wait(POLL_BUSY),
                _ => {
                    self.wait(POLL_IDLE);
                    self.say_idle(0);
                    empty = 0;
                }
            }
        }
    }

    fn say_idle(&mut self, idle: u32) {
        if let Err(error) = self.idle.set(0, idle, 0) {
            tracing::debug!(%error, "the kernel side cannot be told whether the reader sleeps");
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
        assert_eq!(frames.next(&mut frame), None);
        queue.push_slice(&head(3, BootNs(70)));
        assert_eq!(frames.next(&mut frame), None, "the head alone is no frame");
        queue.push_slice(b"ab");
        assert_eq!(frames.next(&mut frame), None, "two of three bytes are no frame");
        queue.push_slice(b"c");
        assert_eq!(frames.next(&mut frame), Some(BootNs(70)));
        assert_eq!(frame, b"abc");
        assert!(frames.is_empty());
    }
}
