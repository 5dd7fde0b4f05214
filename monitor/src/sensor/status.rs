//! What became of each sensor: said in `doctor`, in metrics and in every alert it affects.

use serde::Serialize;

use super::{CATALOG, Road, Sensor};
use crate::model::SensorGap;

/// The state of a sensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub enum State {
    /// On its preferred hook.
    Attached,
    /// On another hook: what is lost.
    Fallback(String),
    /// Not watching: why.
    Off(String),
}

impl State {
    /// The word used in metrics and alerts.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Fallback(_) => "fallback",
            Self::Off(_) => "off",
        }
    }

    /// Why it is not attached; empty when it is.
    pub fn reason(&self) -> &str {
        match self {
            Self::Attached => "",
            Self::Fallback(reason) | Self::Off(reason) => reason,
        }
    }
}

/// A sensor and its state.
#[derive(Clone, Debug)]
pub struct Status {
    /// The sensor.
    pub sensor: &'static Sensor,
    /// Its state.
    pub state: State,
    /// The tier of the road that was taken; empty when none was.
    pub hook: &'static str,
    /// Why the roads before it were not taken; empty when it is the first.
    pub refused: String,
}

impl Status {
    /// Not watching.
    pub const fn off(sensor: &'static Sensor, why: String) -> Self {
        Self { sensor, state: State::Off(why), hook: "", refused: String::new() }
    }

    /// Watching on `road`, after others were refused.
    pub fn on(sensor: &'static Sensor, road: &Road, refused: String) -> Self {
        let state = if road.lost.is_empty() {
            State::Attached
        } else {
            State::Fallback(road.lost.to_owned())
        };
        Self { sensor, state, hook: road.tier.as_str(), refused }
    }

    /// The gap this leaves in every alert; `None` when nothing is lost.
    pub fn gap(&self) -> Option<SensorGap> {
        let reason = match &self.state {
            State::Attached => return None,
            State::Fallback(lost) => lost.clone(),
            State::Off(why) => format!("{why}; not seen: {}", self.sensor.lost),
        };
        Some(SensorGap {
            sensor: self.sensor.name.to_owned(),
            state: self.state.as_str().to_owned(),
            reason,
        })
    }
}

/// Every sensor off for one reason: nothing was loaded.
pub fn all_off(why: &str) -> Vec<Status> {
    CATALOG.iter().map(|sensor| Status::off(sensor, why.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensor_that_is_off_says_what_is_not_seen() {
        let off = &all_off("no BTF")[0];
        let gap = off.gap().expect("a gap");
        assert!(gap.reason.starts_with("no BTF; not seen: "), "{}", gap.reason);
        let first = &off.sensor.roads[0];
        assert_eq!(Status::on(off.sensor, first, String::new()).gap(), None);
        let second = Road { lost: "reads", ..*first };
        let gap = Status::on(off.sensor, &second, "no LSM".into()).gap().expect("a gap");
        assert_eq!((gap.state.as_str(), gap.reason.as_str()), ("fallback", "reads"));
    }
}
