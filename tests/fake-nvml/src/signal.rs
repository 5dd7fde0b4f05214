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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(json: &str, now_s: f64) -> f64 {
        serde_json::from_str::<Signal>(json).expect("a signal").at(now_s)
    }

    #[test]
    fn a_ramp_is_level_outside() {
        let ramp = r#"{"ramp": {"from": 10, "to": 20, "start_s": 5, "end_s": 15}}"#;
        for (now_s, value) in [(0.0, 10.0), (5.0, 10.0), (10.0, 15.0), (15.0, 20.0), (99.0, 20.0)] {
            assert!((at(ramp, now_s) - value).abs() < 1e-9, "at {now_s}");
        }
    }

    #[test]
    fn steps_begin_again() {
        let steps = r#"{"steps": {"points": [[0, 1], [3, 2]], "repeat_s": 5}}"#;
        for (now_s, value) in [(0.0, 1.0), (2.9, 1.0), (3.0, 2.0), (4.9, 2.0), (5.0, 1.0)] {
            assert!((at(steps, now_s) - value).abs() < 1e-9, "at {now_s}");
        }
    }

    #[test]
    fn a_sine_has_its_mean_at_the_start_and_its_top_at_a_quarter() {
        let sine = r#"{"sine": {"mean": 50, "amplitude": 10, "period_s": 8}}"#;
        assert!((at(sine, 0.0) - 50.0).abs() < 1e-9);
        assert!((at(sine, 2.0) - 60.0).abs() < 1e-9);
    }

    #[test]
    fn noise_repeats_for_its_seed_and_stays_within() {
        let noise = |seed: u64| format!(r#"{{"noise": {{"amplitude": 2, "seed": {seed}}}}}"#);
        let run = |seed| (0..1_000).map(move |tick| at(&noise(seed), f64::from(tick) / 10.0));
        assert!(run(1).eq(run(1)));
        assert!(run(1).ne(run(2)));
        assert!(run(1).all(|value| value.abs() <= 2.0));
        assert!(run(1).any(|value| value > 1.5) && run(1).any(|value| value < -1.5));
        assert!(run(1).sum::<f64>().abs() < 200.0, "its mean is near zero");
    }

    #[test]
    fn whole_numbers_are_kept_in_their_range() {
        assert_eq!(Signal::Constant(-5.0).whole32_at(0.0, 100), 0);
        assert_eq!(Signal::Constant(140.0).whole32_at(0.0, 100), 100);
        assert_eq!(Signal::Constant(f64::NAN).whole32_at(0.0, 100), 0);
    }
}
