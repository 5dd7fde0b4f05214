//! Values that change with time.

use serde::Deserialize;

/// A number for each moment, in seconds since the scenario began.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Signal {
    /// Always the same.
    Constant(f64),
    /// Anything else.
    Shape(Shape),
}

/// How a value changes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Shape {
    /// A straight line between two moments, level before and after.
    Ramp { from: f64, to: f64, start_s: f64, end_s: f64 },
    /// A sine.
    Sine { mean: f64, amplitude: f64, period_s: f64 },
    /// Level from each moment to the next; begins again after `repeat_s`.
    Steps { points: Vec<(f64, f64)>, repeat_s: Option<f64> },
    /// Evenly spread around zero, new ten times a second, the same for the same seed.
    Noise { amplitude: f64, seed: u64 },
    /// All of these added.
    Sum(Vec<Signal>),
}

impl Signal {
    /// The value at a moment.
    pub(crate) fn at(&self, now_s: f64) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Shape(shape) => shape.at(now_s),
        }
    }

    /// The value at a moment as a whole number from zero to `max`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "clamped to the range first"
    )]
    pub(crate) fn whole_at(&self, now_s: f64, max: u64) -> u64 {
        self.at(now_s).round().clamp(0.0, max as f64) as u64
    }

    /// The same in 32 bits.
    pub(crate) fn whole32_at(&self, now_s: f64, max: u32) -> u32 {
        u32::try_from(self.whole_at(now_s, u64::from(max))).unwrap_or(max)
    }
}

impl Shape {
    fn at(&self, now_s: f64) -> f64 {
        match self {
            Self::Ramp { from, to, start_s, end_s } => {
                let length = (end_s - start_s).max(f64::MIN_POSITIVE);
                let share = ((now_s - start_s) / length).clamp(0.0, 1.0);
                from + (to - from) * share
            }
            Self::Sine { mean, amplitude, period_s } => {
                mean + amplitude * (std::f64::consts::TAU * now_s / period_s).sin()
            }
            Self::Steps { points, repeat_s } => {
                let at = repeat_s.map_or(now_s, |period| now_s.rem_euclid(period));
                let passed = points.iter().take_while(|(from, _)| *from <= at).last();
                passed.or(points.first()).map_or(0.0, |(_, value)| *value)
            }
            Self::Noise { amplitude, seed } => amplitude * noise(*seed, now_s),
            Self::Sum(parts) => parts.iter().map(|part| part.at(now_s)).sum(),
        }
    }
}

/// A number from -1 to 1 for each tenth of a second (the finaliser of splitmix64).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "any bits will do, as long as they are the same each time"
)]
fn noise(seed: u64, now_s: f64) -> f64 {
    let tick = (now_s.max(0.0) * 10.0) as u64;
    let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(tick);
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9_u64), (27, 0x94d0_49bb_1331_11eb)] {
        bits = (bits ^ (bits >> shift)).wrapping_mul(factor);
    }
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}
