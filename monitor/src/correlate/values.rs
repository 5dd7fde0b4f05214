//! The distinct values of a window, each with the moment it was last seen, in bounded space.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

/// Distinct values by the time they were last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, Arc<str>)>", into = "Vec<(u64, Arc<str>)>")]
pub(super) struct Values {
    last_seen: HashMap<Arc<str>, u64>,
    by_time: BTreeSet<(u64, Arc<str>)>,
}

impl Values {
    /// Adds a value seen at `at`; returns whether the oldest value had to go for it.
    pub(super) fn add(&mut self, at: u64, value: &str, values_max: usize) -> bool {
        if let Some((value, last)) = self.last_seen.get_key_value_mut(value) {
            if *last < at {
                let mut moment = (*last, Arc::clone(value));
                self.by_time.remove(&moment);
                moment.0 = at;
                self.by_time.insert(moment);
                *last = at;
            }
            return false;
        }
        let value: Arc<str> = value.into();
        self.by_time.insert((at, Arc::clone(&value)));
        self.last_seen.insert(value, at);
        self.last_seen.len() > values_max && self.drop_oldest()
    }

    /// Drops what was last seen before `oldest`.
    pub(super) fn forget(&mut self, oldest: u64) {
        while self.by_time.first().is_some_and(|(last, _)| *last < oldest) {
            self.drop_oldest();
        }
    }

    /// How many values there are.
    pub(super) fn distinct(&self) -> usize {
        self.last_seen.len()
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.by_time.pop_first();
        oldest.is_some_and(|(_, value)| self.last_seen.remove(&value).is_some())
    }
}

impl From<Vec<(u64, Arc<str>)>> for Values {
    fn from(rows: Vec<(u64, Arc<str>)>) -> Self {
        let mut values = Self::default();
        for (at, value) in rows {
            values.add(at, &value, usize::MAX);
        }
        values
    }
}

impl From<Values> for Vec<(u64, Arc<str>)> {
    fn from(values: Values) -> Self {
        values.by_time.into_iter().collect()
    }
}
