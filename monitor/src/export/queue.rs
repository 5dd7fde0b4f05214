//! A bounded queue that never makes its user wait longer than asked.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A bounded queue with one reader.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    moved: Condvar,
    depth_max: usize,
}

struct State<T> {
    items: VecDeque<T>,
    /// Taken by the reader and not done yet.
    in_hand: usize,
    /// Whether the last push had to wait in vain: the next ones do not wait again.
    is_stalled: bool,
    /// Whether the reader shall not wait any more.
    is_closed: bool,
    /// Items ever added, and ever done.
    pushed: u64,
    done: u64,
}

impl<T> Queue<T> {
    pub(super) fn new(depth_max: usize) -> Self {
        let items = VecDeque::new();
        let state =
            State { items, in_hand: 0, is_stalled: false, is_closed: false, pushed: 0, done: 0 };
        Self { state: Mutex::new(state), moved: Condvar::new(), depth_max }
    }

    /// Adds an item; waits at most `wait` for room. Gives the item's number, from
    /// one, or the item back where there is no room.
    pub(super) fn push(&self, item: T, wait: Duration) -> Result<u64, T> {
        let mut state = self.lock();
        if state.items.len() >= self.depth_max && !state.is_stalled && !wait.is_zero() {
            let full = |state: &mut State<T>| state.items.len() >= self.depth_max;
            state = self
                .moved
                .wait_timeout_while(state, wait, full)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if state.items.len() >= self.depth_max {
            state.is_stalled = true;
            return Err(item);
        }
        state.is_stalled = false;
        state.items.push_back(item);
        state.pushed += 1;
        let number = state.pushed;
        drop(state);
        self.moved.notify_all();
        Ok(number)
    }

    /// The number of the last item added.
    pub(super) fn pushed(&self) -> u64 {
        self.lock().pushed
    }

    /// The number of the last item done.
    pub(super) fn done_through(&self) -> u64 {
        self.lock().done
    }

    /// Takes at most `count_max` items; none when none came within `wait`. They count as open
    /// until [`Queue::done`].
    pub(super) fn take(&self, count_max: usize, wait: Duration) -> Vec<T> {
        let state = self.lock();
        let mut state = self
            .moved
            .wait_timeout_while(state, wait, |state| state.items.is_empty() && !state.is_closed)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let count = state.items.len().min(count_max);
        state.in_hand += count;
        let items = state.items.drain(..count).collect();
        drop(state);
        self.moved.notify_all();
        items
    }

    /// Says that `count` items that were taken are done.
    pub(super) fn done(&self, count: usize) {
        let mut state = self.lock();
        state.in_hand = state.in_hand.saturating_sub(count);
        state.done += count as u64;
        drop(state);
        self.moved.notify_all();
    }

    /// Waits until nothing is open; whether that was so before `deadline`.
    pub(super) fn wait_empty(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_open = |state: &mut State<T>| state.items.len() + state.in_hand > 0;
        let state = self.lock();
        let waited = self.moved.wait_timeout_while(state, left, is_open);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Items that are open.
    pub(super) fn depth(&self) -> usize {
        let state = self.lock();
        state.items.len() + state.in_hand
    }

    /// From now on the reader does not wait for items.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Queue;

    #[test]
    fn a_full_queue_gives_the_item_back_in_bounded_time() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1, Duration::ZERO), Ok(1));
        assert_eq!(queue.push(2, Duration::ZERO), Ok(2));
        let start = Instant::now();
        assert_eq!(queue.push(3, Duration::from_millis(20)), Err(3));
        assert!(start.elapsed() >= Duration::from_millis(20));
        let start = Instant::now();
        assert_eq!(queue.push(4, Duration::from_secs(20)), Err(4));
        assert!(start.elapsed() < Duration::from_secs(10), "a stalled queue is not waited for");
        assert_eq!(queue.take(10, Duration::ZERO), [1, 2]);
        assert_eq!(queue.push(5, Duration::ZERO), Ok(3));
        queue.done(2);
        assert_eq!((queue.pushed(), queue.done_through()), (3, 2));
    }

    #[test]
    fn it_is_empty_only_when_what_was_taken_is_done() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1, Duration::ZERO), Ok(1));
        queue.take(1, Duration::ZERO);
        assert!(!queue.wait_empty(Instant::now() + Duration::from_millis(5)));
        queue.done(1);
        assert!(queue.wait_empty(Instant::now() + Duration::from_millis(5)));
    }
}
