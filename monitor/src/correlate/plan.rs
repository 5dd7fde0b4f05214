//! What a rule's correlation needs of time, worked out once.

use super::history::Grain;
use crate::rule::spec::{Correlation, CorrelationKind, Dedupe, Window};

/// A correlation's times, all in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The window.
    pub(super) window: Window,
    /// The longest a window lasts.
    pub(super) span_ns: u64,
    /// How finely the past is kept.
    pub(super) grain: Grain,
    /// How late an event may be.
    pub(super) lateness_ns: u64,
    /// After firing, the least time until the same key fires again.
    pub(super) rest_ns: u64,
    /// After firing, the time until the same key fires again though its condition never turned
    /// false; `None` waits for ever.
    pub(super) again_ns: Option<u64>,
    /// Distinct values kept for one key.
    pub(super) values_max: usize,
    /// How many rules a temporal correlation waits for; zero for the others.
    pub(super) steps: usize,
    /// Whether the steps must come in order.
    pub(super) is_ordered: bool,
    /// Whether distinct values are counted.
    pub(super) is_distinct: bool,
}

impl Plan {
    pub(super) fn new(
        correlation: &Correlation,
        dedupe: &Dedupe,
        lateness_ns: u64,
        values_max: usize,
    ) -> Self {
        let (span_ns, grain) = match correlation.window {
            Window::Sliding { span_ns } => {
                (span_ns, Grain::sliding(span_ns.saturating_add(lateness_ns)))
            }
            Window::Tumbling { span_ns } => (span_ns, Grain::tumbling(span_ns)),
            Window::Session { span_max_ns, .. } => (span_max_ns, Grain::sliding(span_max_ns)),
        };
        let (steps, is_ordered) = match &correlation.kind {
            CorrelationKind::Temporal(rules) => (rules.len(), false),
            CorrelationKind::TemporalOrdered(rules) => (rules.len(), true),
            _ => (0, false),
        };
        let again_ns = (dedupe.for_ns > 0).then_some(dedupe.for_ns);
        Self {
            window: correlation.window,
            span_ns: span_ns.max(1),
            grain,
            lateness_ns,
            rest_ns: again_ns.map_or(span_ns, |again_ns| again_ns.min(span_ns)),
            again_ns,
            values_max,
            steps,
            is_ordered,
            is_distinct: matches!(correlation.kind, CorrelationKind::ValueCount(_)),
        }
    }

    /// After how much silence the state of a key no longer matters: its windows are empty and its
    /// rest is over.
    pub(super) fn idle_ns(&self) -> u64 {
        let window_ns = match self.window {
            Window::Tumbling { span_ns } => span_ns.saturating_mul(2),
            Window::Sliding { .. } | Window::Session { .. } => self.span_ns,
        };
        window_ns.max(self.again_ns.unwrap_or(0)).saturating_add(self.lateness_ns.saturating_mul(2))
    }
}
