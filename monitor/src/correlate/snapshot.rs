//! Long windows on disk: an hour of counting must not be lost because the daemon was upgraded.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::limit::SNAPSHOT_SPAN_NS_MIN;
use super::slot::Slot;
use super::state::KeyState;
use super::table::KeyTable;
use crate::model::{BootNs, RuleId};

/// Counts up when an older daemon could misread what a newer one wrote.
const FORMAT: u32 = 1;

/// The state of every window of at least [`SNAPSHOT_SPAN_NS_MIN`]. Made to be stored as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    format: u32,
    boot_id: String,
    newest: BootNs,
    rules: Vec<RuleSnapshot>,
    /// Keys that had no room: see [`super::limit::SNAPSHOT_KEYS_MAX`].
    pub left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSnapshot {
    id: RuleId,
    version: String,
    /// The most recently used first.
    keys: Vec<(String, KeyState)>,
}

/// Why a snapshot was not taken back.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// Written by another version.
    #[error("window snapshot has format {found}, this daemon reads {FORMAT}; windows start empty")]
    Format {
        /// The format found.
        found: u32,
    },
    /// The host was started anew since; event times start from zero then.
    #[error(
        "window snapshot is from boot {found}, the host is in boot {expected}; windows start empty"
    )]
    OtherBoot {
        /// The boot it is from.
        found: String,
        /// The boot of now.
        expected: String,
    },
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Keys taken back.
    pub keys: u64,
    /// Keys of rules that are gone or have changed.
    pub outdated: u64,
    /// Keys that are not sound, or were there already.
    pub refused: u64,
}

pub(super) fn newest(snapshot: &Snapshot) -> BootNs {
    snapshot.newest
}

pub(super) fn take(slots: &[Slot], newest: BootNs, boot_id: &str, keys_max: usize) -> Snapshot {
    let mut room = keys_max;
    let mut left_out = 0_u64;
    let mut rules = Vec::new();
    for (slot, table) in slots.iter().filter_map(|slot| Some((slot, long(slot.table.as_ref()?)?))) {
        let keys: Vec<_> =
            table.iter().take(room).map(|(key, state)| (key.to_owned(), state.clone())).collect();
        room -= keys.len();
        left_out += (table.stats().live - keys.len()) as u64;
        let meta = &slot.rule.meta;
        rules.push(RuleSnapshot { id: meta.id.clone(), version: meta.version.clone(), keys });
    }
    Snapshot { format: FORMAT, boot_id: boot_id.to_owned(), newest, rules, left_out }
}

pub(super) fn put_back(
    slots: &mut [Slot],
    snapshot: Snapshot,
    boot_id: &str,
) -> Result<Restored, SnapshotError> {
    let Snapshot { format, boot_id: found, newest, rules, left_out: _ } = snapshot;
    if format != FORMAT {
        return Err(SnapshotError::Format { found: format });
    }
    if found != boot_id {
        return Err(SnapshotError::OtherBoot { found, expected: boot_id.to_owned() });
    }
    let mut restored = Restored::default();
    for RuleSnapshot { id, version, keys } in rules {
        let slot = slots
            .iter_mut()
            .find(|slot| slot.rule.meta.id == id && slot.rule.meta.version == version);
        let Some(table) = slot.and_then(|slot| slot.table.as_mut()) else {
            restored.outdated += keys.len() as u64;
            continue;
        };
        for (key, state) in keys.into_iter().rev() {
            let is_taken = state.newest() <= newest.0 && table.restore(&key, state);
            restored.keys += u64::from(is_taken);
            restored.refused += u64::from(!is_taken);
        }
    }
    Ok(restored)
}

fn long(table: &KeyTable) -> Option<&KeyTable> {
    (table.span_ns() >= SNAPSHOT_SPAN_NS_MIN).then_some(table)
}
