//! Library, driver, and the way to a GPU.

use std::ffi::c_char;
use std::fs;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::abi::{Out, TextIn, exported, handle_of, put_text};
use crate::code::{Answer, Code};
use crate::scenario::DeviceSpec;
use crate::state::{self, Target};

/// `nvmlErrorString` of nvml.h: the one call that answers with a pointer. It lives for ever.
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: nvmlReturn_t) -> *const c_char {
    Code::text(code).as_ptr()
}

fn count(call: &str, place: &Out<u32>) -> Answer {
    let view = state::enter(call, None)?;
    place.put(u32::try_from(view.scenario.devices.len()).map_err(|_| Code::UNKNOWN)?)
}

fn by_index(call: &str, index: u32, place: &Out<nvmlDevice_t>) -> Answer {
    let index = usize::try_from(index).map_err(|_| Code::INVALID_ARGUMENT)?;
    state::enter(call, Some(index))?;
    place.put(handle_of(Target { device: index, instance: None }))
}

fn by(call: &str, place: &Out<nvmlDevice_t>, fits: impl Fn(&DeviceSpec) -> bool) -> Answer {
    let view = state::enter(call, None)?;
    let device = view.scenario.devices.iter().position(fits).ok_or(Code::NOT_FOUND)?;
    place.put(handle_of(Target { device, instance: None }))
}

exported! {
    call: call;

    fn nvmlInit() {
        state::init(call)
    }

    fn nvmlInit_v2() {
        state::init(call)
    }

    fn nvmlInitWithFlags(_flags: u32) {
        state::init(call)
    }

    fn nvmlShutdown() {
        state::shutdown()
    }

    fn nvmlSystemGetDriverVersion(place: Out<c_char>, room: u32) {
        put_text(&place, room, &state::enter(call, None)?.scenario.driver_version)
    }

    fn nvmlSystemGetNVMLVersion(place: Out<c_char>, room: u32) {
        put_text(&place, room, &state::enter(call, None)?.scenario.nvml_version)
    }

    fn nvmlSystemGetCudaDriverVersion(place: Out<i32>) {
        place.put(state::enter(call, None)?.scenario.cuda_version)
    }

    fn nvmlSystemGetCudaDriverVersion_v2(place: Out<i32>) {
        place.put(state::enter(call, None)?.scenario.cuda_version)
    }

    fn nvmlSystemGetProcessName(pid: u32, place: Out<c_char>, room: u32) {
        state::enter(call, None)?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|_| Code::NOT_FOUND)?;
        put_text(&place, room, name.trim_end())
    }

    fn nvmlDeviceGetCount(place: Out<u32>) {
        count(call, &place)
    }

    fn nvmlDeviceGetCount_v2(place: Out<u32>) {
        count(call, &place)
    }

    fn nvmlDeviceGetHandleByIndex(index: u32, place: Out<nvmlDevice_t>) {
        by_index(call, index, &place)
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: u32, place: Out<nvmlDevice_t>) {
        by_index(call, index, &place)
    }

    fn nvmlDeviceGetHandleByUUID(uuid: TextIn, place: Out<nvmlDevice_t>) {
        let uuid = uuid.get()?;
        let view = state::enter(call, None)?;
        for (device, spec) in view.scenario.devices.iter().enumerate() {
            let instances = spec.mig.as_ref().map_or(&[][..], |mig| &mig.instances);
            if let Some(at) = instances.iter().position(|instance| instance.uuid == uuid) {
                return place.put(handle_of(Target { device, instance: Some(at) }));
            }
        }
        by(call, &place, |spec| spec.uuid == uuid)
    }

    fn nvmlDeviceGetHandleByPciBusId(bus_id: TextIn, place: Out<nvmlDevice_t>) {
        let bus_id = bus_id.get()?;
        by(call, &place, |spec| spec.pci_bus_id.eq_ignore_ascii_case(bus_id))
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: TextIn, place: Out<nvmlDevice_t>) {
        let bus_id = bus_id.get()?;
        by(call, &place, |spec| spec.pci_bus_id.eq_ignore_ascii_case(bus_id))
    }
}
