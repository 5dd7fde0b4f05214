//! What became of each sensor: said in `doctor`, in metrics and in every alert it affects.

use serde::Serialize;

use super::{CATALOG, Sensor};
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
}

impl Status {
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
    CATALOG.iter().map(|sensor| Status { sensor, state: State::Off(why.to_owned()) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensor_that_is_off_says_what_is_not_seen() {
        let off = &all_off("no BTF")[0];
        let gap = off.gap().expect("a gap");
        assert!(gap.reason.starts_with("no BTF; not seen: "), "{}", gap.reason);
        let on = Status { sensor: off.sensor, state: State::Attached };
        assert_eq!(on.gap(), None);
    }
}
