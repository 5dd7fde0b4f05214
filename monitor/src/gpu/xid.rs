//! Critical faults (XID): a thread that waits for them in the driver, and hands them on.
//!
//! All GPUs are in one set, because a thread can wait for one set only. A GPU that refuses to join
//! is left out with the reason; the wrapper frees a set that was refused, so the set is begun anew
//! without that GPU.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;

use super::backend::{DEVICES_MAX, FAULTS_PER_READING_MAX};

/// How long one wait in the driver lasts, in milliseconds: also how long closing waits for it.
const WAIT_MS: u32 = 100;
/// Rest after a wait that failed, so that a broken driver is not asked without pause.
const FAILURE_REST: Duration = Duration::from_secs(1);

/// Faults that were heard and not yet taken, by index of the GPU.
#[derive(Debug, Default)]
pub(super) struct Faults {
    heard: Mutex<Heard>,
    stops: AtomicBool,
}

#[derive(Debug, Default)]
struct Heard {
    xids: BTreeMap<u32, Vec<u64>>,
    refusals: BTreeMap<u32, NvmlError>,
}

impl Faults {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the faults of a GPU.
    pub(super) fn take(&self, index: u32) -> Vec<u64> {
        self.heard().xids.remove(&index).unwrap_or_default()
    }

    /// Why nothing is heard of a GPU, told once.
    pub(super) fn refusal(&self, index: u32) -> Option<NvmlError> {
        self.heard().refusals.remove(&index)
    }

    fn note(&self, index: u32, xid: u64) {
        let mut heard = self.heard();
        let xids = heard.xids.entry(index).or_default();
        if xids.len() < FAULTS_PER_READING_MAX {
            xids.push(xid);
        }
    }

    /// Ends [`Self::listen`] within one wait.
    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::Release);
    }

    /// Joins all GPUs to one set; `None` where none can tell of faults.
    pub(super) fn join<'nvml>(&self, nvml: &'nvml Nvml) -> Option<EventSet<'nvml>> {
        let count = nvml.device_count().ok()?.min(DEVICES_MAX);
        let mut left_out: Vec<u32> = Vec::new();
        while left_out.len() < count as usize {
            let set = nvml.create_event_set().ok()?;
            match join_all(nvml, set, count, &left_out) {
                Ok(set) => return Some(set),
                Err((index, error)) => {
                    left_out.push(index);
                    self.heard().refusals.insert(index, error);
                }
            }
        }
        None
    }

    /// Waits for faults until told to stop.
    pub(super) fn listen(&self, set: &EventSet<'_>) {
        while !self.stops.load(Ordering::Acquire) {
            match set.wait(WAIT_MS) {
                Ok(event) => {
                    let xid = match event.event_data {
                        Some(XidError::Value(xid)) => xid,
                        Some(XidError::Unknown) | None => 0,
                    };
                    if let Ok(index) = event.device.index() {
                        self.note(index, xid);
                    }
                }
                Err(NvmlError::Timeout) => {}
                Err(_) => std::thread::sleep(FAILURE_REST),
            }
        }
    }
}

fn join_all<'nvml>(
    nvml: &'nvml Nvml,
    mut set: EventSet<'nvml>,
    count: u32,
    left_out: &[u32],
) -> Result<EventSet<'nvml>, (u32, NvmlError)> {
    for index in (0..count).filter(|index| !left_out.contains(index)) {
        let device = nvml.device_by_index(index).map_err(|error| (index, error))?;
        set = device
            .register_events(EventTypes::CRITICAL_XID_ERROR, set)
            .map_err(|error| (index, error.error))?;
    }
    Ok(set)
}
