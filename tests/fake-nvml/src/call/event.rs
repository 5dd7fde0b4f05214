//! Events: critical faults.

use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError};

use super::on_gpu;
use crate::abi::{Handle, Out, Token, exported, handle_of};
use crate::code::{Answer, Code};
use crate::state::{self, Target, View};

const XID: u64 = nvmlEventTypeXidCriticalError as u64;

/// The next fault the set was not told of, and marks it as told.
fn next(view: &View, set: usize) -> Answer<Option<nvmlEventData_t>> {
    state::events_with(set, |set| {
        for (&device, told) in &mut set.told {
            let Some(spec) = view.scenario.devices.get(device) else { continue };
            let Some(fault) = spec.xids.get(*told) else { continue };
            if fault.at_s <= view.now_s {
                *told += 1;
                return Some(nvmlEventData_t {
                    device: handle_of(Target { device, instance: None }),
                    eventType: XID,
                    eventData: fault.xid,
                    gpuInstanceId: u32::MAX,
                    computeInstanceId: u32::MAX,
                });
            }
        }
        None
    })
}

exported! {
    call: call;

    fn nvmlEventSetCreate(place: Out<nvmlEventSet_t>) {
        state::enter(call, None)?;
        place.put(Token::<nvmlEventSet_t>::from(state::events_new()?).to_c())
    }

    fn nvmlEventSetFree(set: Token<nvmlEventSet_t>) {
        state::enter(call, None)?;
        state::events_free(set.0)
    }

    fn nvmlDeviceGetSupportedEventTypes(device: Handle, place: Out<u64>) {
        on_gpu(call, device)?;
        place.put(XID)
    }

    fn nvmlDeviceRegisterEvents(device: Handle, types: u64, set: Token<nvmlEventSet_t>) {
        let (view, target) = on_gpu(call, device)?;
        if types & !XID != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        // What happened before is not told.
        let past = view.spec(target)?.xids.iter().take_while(|xid| xid.at_s <= view.now_s).count();
        state::events_with(set.0, |set| {
            set.told.entry(target.device).or_insert(past);
        })
    }

    fn nvmlEventSetWait_v2(
        set: Token<nvmlEventSet_t>, place: Out<nvmlEventData_t>, timeout_ms: u32,
    ) {
        let mut view = state::enter(call, None)?;
        let deadline = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
        loop {
            if let Some(event) = next(&view, set.0)? {
                return place.put(event);
            }
            if Instant::now() >= deadline {
                return Err(Code::TIMEOUT);
            }
            view = state::look_again()?;
        }
    }
}
