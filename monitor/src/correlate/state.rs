//! The state of one key: what its windows hold, and whether it has fired.
//!
//! A window ends at the newest event of its key. An event that comes late is put where it belongs,
//! and the windows that it would have changed are judged again, so that events which are at most
//! `lateness_ns` out of order fire what they would have fired in order (`value_count` looks only at
//! the newest window then).
//!
//! **Firing.** A key fires when its condition turns true. It fires again when the condition has
//! turned false in between (an empty window counts as false), or when `dedupe.for` has passed; but
//! never before the shorter of the window and `dedupe.for` has passed. A tumbling or session window
//! fires at most once.

use serde::{Deserialize, Serialize};

use super::history::{History, Totals};
use super::plan::Plan;
use super::values::Values;
use crate::rule::spec::{Vars, Window};

/// What an event adds to a window.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    /// One event with a value to sum (zero where only events count).
    Number(i64),
    /// One event with a value to tell apart.
    Text(&'a str),
    /// Matches of the rules at these steps.
    Steps(&'a [usize]),
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is in a window.
    Counted,
    /// It is in a window, and the oldest distinct value had to go for it.
    ValueDropped,
    /// It came too late for any window.
    Late,
}

/// What the windows say after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// Whether the condition is true of a window with this event.
    pub(super) is_match: bool,
    /// The window's values and its first moment, when the key fires.
    pub(super) fire: Option<(Vars, u64)>,
}

/// A span of time, both ends included, in nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    from: u64,
    to: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    ordinal: u64,
    start: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Edge {
    /// When the key fired last.
    fired_at: Option<u64>,
    /// The tumbling or session window that fired last.
    fired_window: Option<u64>,
    /// Whether the condition was true of the newest window.
    holds: bool,
}

/// The state of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyState {
    newest: u64,
    session: Session,
    edge: Edge,
    /// One for each step of a temporal rule, else one.
    histories: Vec<History>,
    values: Values,
}

impl KeyState {
    /// The state of a key first seen at `at`.
    pub(super) fn new(plan: &Plan, at: u64) -> Self {
        Self {
            newest: at,
            session: Session { ordinal: 0, start: at },
            edge: Edge::default(),
            histories: vec![History::default(); plan.steps.max(1)],
            values: Values::default(),
        }
    }

    /// Adds one event.
    pub(super) fn add(&mut self, plan: &Plan, at: u64, input: Input<'_>) -> Added {
        if !self.advance(plan, at) {
            return Added::Late;
        }
        match input {
            Input::Number(number) => self.histories[0].add(at, number, plan.grain),
            Input::Text(_) => self.histories[0].add(at, 0, plan.grain),
            Input::Steps(steps) => {
                for step in steps {
                    self.histories[*step].add(at, 0, plan.grain);
                }
            }
        }
        match input {
            Input::Text(value) if self.values.add(at, value, plan.values_max) => {
                Added::ValueDropped
            }
            _ => Added::Counted,
        }
    }

    /// Judges the windows that an event at `at`, just added, has changed.
    pub(super) fn judge(
        &mut self,
        plan: &Plan,
        at: u64,
        condition: impl Fn(&Vars) -> bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        if let Some(frame) = self.only_frame(plan, at) {
            self.judge_frame(plan, at, frame, &condition, &mut verdict);
            return verdict;
        }
        for frame in self.changed_frames(plan, at) {
            self.judge_frame(plan, at, frame, &condition, &mut verdict);
        }
        verdict
    }

    fn judge_frame(
        &mut self,
        plan: &Plan,
        at: u64,
        frame: Frame,
        condition: &impl Fn(&Vars) -> bool,
        verdict: &mut Verdict,
    ) {
        let (vars, first) = self.look(plan, frame);
        let is_true = self.is_complete(plan, frame) && condition(&vars);
        if is_true && verdict.fire.is_none() && self.may_fire(plan, frame) {
            verdict.fire = Some((vars, first.unwrap_or(at)));
            self.edge.fired_at = Some(self.newest);
            self.edge.fired_window = Some(self.window_of(plan, frame.from));
        }
        if frame.to >= self.newest {
            self.edge.holds = is_true;
        }
        verdict.is_match |= is_true;
    }

    /// The newest event's time.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Space taken, in cells.
    pub(super) fn cells(&self) -> usize {
        self.histories.iter().map(History::cells).sum::<usize>() + self.values.distinct()
    }

    /// Whether it could have come from this code: read from disk it may be anything.
    pub(super) fn is_sound(&self, plan: &Plan) -> bool {
        self.histories.len() == plan.steps.max(1)
            && self.histories.iter().all(History::is_sound)
            && self.values.distinct() <= plan.values_max
            && self.session.start <= self.newest
            // A moment in the future would keep the key silent until then.
            && self.edge.fired_at.is_none_or(|fired_at| fired_at <= self.newest)
    }

    /// Moves the windows to an event at `at`; `false` when it comes too late for any.
    fn advance(&mut self, plan: &Plan, at: u64) -> bool {
        let is_accepted = match plan.window {
            Window::Sliding { span_ns } => self.advance_sliding(plan, at, span_ns),
            Window::Tumbling { span_ns } => self.advance_tumbling(plan, at, span_ns.max(1)),
            Window::Session { gap_ns, span_max_ns } => {
                self.advance_session(at, gap_ns, span_max_ns)
            }
        };
        if is_accepted {
            self.newest = self.newest.max(at);
        }
        is_accepted
    }

    fn advance_sliding(&mut self, plan: &Plan, at: u64, span_ns: u64) -> bool {
        let newest = self.newest.max(at);
        let oldest = newest.saturating_add(1).saturating_sub(span_ns);
        let retained = oldest.saturating_sub(plan.lateness_ns);
        if at < if plan.is_distinct { oldest } else { retained } {
            return false;
        }
        if at.saturating_sub(self.newest) >= span_ns {
            self.edge.holds = false;
        }
        self.forget(retained);
        self.values.forget(oldest);
        true
    }

    fn advance_tumbling(&mut self, plan: &Plan, at: u64, span_ns: u64) -> bool {
        let (window, newest_window) = (at / span_ns, self.newest / span_ns);
        if window < newest_window {
            let is_previous = window + 1 == newest_window;
            let is_in_time = self.newest - at <= plan.lateness_ns;
            return is_previous && is_in_time && !plan.is_distinct;
        }
        if window > newest_window {
            self.edge.holds = false;
            self.forget(window.saturating_sub(1) * span_ns);
            self.values.forget(window * span_ns);
        }
        true
    }

    fn advance_session(&mut self, at: u64, gap_ns: u64, span_max_ns: u64) -> bool {
        let Session { ordinal, start } = self.session;
        if at < start {
            let is_joined = start - at <= gap_ns && self.newest - at < span_max_ns;
            if is_joined {
                self.session.start = at;
            }
            return is_joined;
        }
        let is_silent = at.saturating_sub(self.newest) > gap_ns;
        if is_silent || at - start >= span_max_ns {
            self.session = Session { ordinal: ordinal + 1, start: at };
            self.edge.holds = false;
            self.forget(u64::MAX);
            self.values.forget(u64::MAX);
        }
        true
    }

    fn forget(&mut self, oldest: u64) {
        for history in &mut self.histories {
            history.forget(oldest);
        }
    }

    /// The window that an event at `at` is in, where it is only one: always, but for a late event
    /// in a sliding window.
    fn only_frame(&self, plan: &Plan, at: u64) -> Option<Frame> {
        match plan.window {
            Window::Sliding { span_ns } => {
                (at >= self.newest || plan.is_distinct).then(|| ending_at(self.newest, span_ns))
            }
            Window::Tumbling { span_ns } => {
                let from = at - at % span_ns.max(1);
                Some(Frame { from, to: from.saturating_add(span_ns.max(1) - 1) })
            }
            Window::Session { .. } => Some(Frame { from: self.session.start, to: self.newest }),
        }
    }

    /// The sliding windows that a late event at `at` is in, the newest last.
    fn changed_frames(&self, plan: &Plan, at: u64) -> Vec<Frame> {
        let last = self.newest.min(at.saturating_add(plan.span_ns - 1));
        let ends = self.histories.iter().flat_map(|h| h.ends_between(at, last));
        let mut ends: Vec<u64> = ends.collect();
        ends.sort_unstable();
        ends.dedup();
        ends.into_iter().map(|end| ending_at(end, plan.span_ns)).collect()
    }

    fn look(&self, plan: &Plan, frame: Frame) -> (Vars, Option<u64>) {
        let mut all = Totals::default();
        for history in &self.histories {
            let Totals { count, sum, first } = history.totals(frame.from, frame.to);
            all.count = all.count.saturating_add(count);
            all.sum = all.sum.saturating_add(sum);
            all.first = all.first.into_iter().chain(first).min();
        }
        let distinct = if plan.is_distinct { self.values.distinct() } else { 0 };
        let vars = Vars {
            count: i64::try_from(all.count).unwrap_or(i64::MAX),
            sum: all.sum,
            distinct: i64::try_from(distinct).unwrap_or(i64::MAX),
        };
        (vars, all.first)
    }

    /// Whether every step of a temporal rule is in the frame, in order where order counts.
    fn is_complete(&self, plan: &Plan, frame: Frame) -> bool {
        let mut from = frame.from;
        self.histories.iter().take(plan.steps).all(|history| {
            let found = history.first_between(from, frame.to);
            if plan.is_ordered {
                from = found.map_or(from, |at| at.saturating_add(1));
            }
            found.is_some()
        })
    }

    fn may_fire(&self, plan: &Plan, frame: Frame) -> bool {
        if !matches!(plan.window, Window::Sliding { .. }) {
            let window = self.window_of(plan, frame.from);
            return self.edge.fired_window.is_none_or(|fired| fired < window);
        }
        let Some(fired_at) = self.edge.fired_at else { return true };
        let rested_ns = self.newest.saturating_sub(fired_at);
        let is_again = plan.again_ns.is_some_and(|again_ns| rested_ns >= again_ns);
        is_again || (!self.edge.holds && rested_ns >= plan.rest_ns)
    }

    /// A number that grows from window to window; zero for sliding ones.
    fn window_of(&self, plan: &Plan, moment: u64) -> u64 {
        match plan.window {
            Window::Sliding { .. } => 0,
            Window::Tumbling { span_ns } => moment / span_ns.max(1),
            Window::Session { .. } => self.session.ordinal,
        }
    }
}

/// The sliding window that ends at `end`.
fn ending_at(end: u64, span_ns: u64) -> Frame {
    Frame { from: end.saturating_add(1).saturating_sub(span_ns), to: end }
}
