//! The first and the last line of a recording.

use serde::{Deserialize, Serialize};

use crate::alert::Host;
use crate::model::SensorGap;

/// Version of the form; a reader refuses another one.
pub const FORMAT: u32 = 1;

/// The first line: where and by what the recording was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`] of the monitor that wrote it.
    #[serde(rename = "gpuwarden.recording")]
    pub format: u32,
    /// Version of the monitor.
    pub version: String,
    /// Revision of the monitor.
    pub revision: String,
    /// The host.
    pub host: Host,
    /// Wall time at boot, in nanoseconds since the Unix epoch: turns event times into dates.
    pub wall_at_boot_ns: u64,
    /// What became of each sensor.
    pub sensors: Vec<SensorRow>,
}

impl Header {
    /// What the host could not see while the recording was made.
    pub fn gaps(&self) -> Vec<SensorGap> {
        let rows = self.sensors.iter().filter(|row| row.state != "attached");
        rows.map(|row| SensorGap {
            sensor: row.name.clone(),
            state: row.state.clone(),
            reason: row.reason.clone(),
        })
        .collect()
    }
}

/// One sensor of the host a recording was made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorRow {
    /// Its name in the catalog.
    pub name: String,
    /// attached, fallback or off.
    pub state: String,
    /// Why it is not attached; empty where it is.
    pub reason: String,
}

/// The last line: how complete the recording is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// Rows before it.
    #[serde(rename = "gpuwarden.rows")]
    pub rows: u64,
    /// Events that the writer could not keep up with.
    pub lost: u64,
}
