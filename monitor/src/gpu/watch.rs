//! Which call into the driver is running, and since when.

use std::sync::{Mutex, PoisonError};

use super::GpuError;
use super::backend::{
    BackendInfo, Device, DeviceList, DeviceReading, GpuBackend, Lifetime, MigInstance,
    ProcessMemory, ProcessUtil,
};
use crate::model::{BootNs, Clock};

/// The call that is running now. The lock is held for the copy of two words only.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<(BootNs, &'static str)>>);

impl Watch {
    /// When the running call began, and its name; `None` between calls.
    pub(super) fn current(&self) -> Option<(BootNs, &'static str)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, call: &'static str) {
        self.set(Some((Clock::boot_now(), call)));
    }

    pub(super) fn leave(&self) {
        self.set(None);
    }

    fn set(&self, now: Option<(BootNs, &'static str)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// A backend whose calls are watched.
pub(super) struct Watched<'a> {
    pub(super) inner: &'a mut dyn GpuBackend,
    pub(super) watch: &'a Watch,
}

impl Watched<'_> {
    fn call<T>(&mut self, name: &'static str, ask: impl FnOnce(&mut dyn GpuBackend) -> T) -> T {
        self.watch.enter(name);
        let answer = ask(self.inner);
        self.watch.leave();
        answer
    }
}

impl GpuBackend for Watched<'_> {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    fn devices(&mut self) -> Result<DeviceList, GpuError> {
        self.call("devices", |backend| backend.devices())
    }

    fn reading(&mut self, device: &Device) -> Result<DeviceReading, GpuError> {
        self.call("reading", |backend| backend.reading(device))
    }

    fn processes(&mut self, device: &Device) -> Result<Vec<ProcessMemory>, GpuError> {
        self.call("processes", |backend| backend.processes(device))
    }

    fn process_util(
        &mut self,
        device: &Device,
        since_us: u64,
    ) -> Result<Vec<ProcessUtil>, GpuError> {
        self.call("process_util", |backend| backend.process_util(device, since_us))
    }

    fn mig_instances(&mut self, device: &Device) -> Result<Vec<MigInstance>, GpuError> {
        self.call("mig_instances", |backend| backend.mig_instances(device))
    }

    fn faults(&mut self, device: &Device) -> Result<Vec<u64>, GpuError> {
        self.call("faults", |backend| backend.faults(device))
    }

    fn accounted(&mut self, device: &Device) -> Result<Vec<u32>, GpuError> {
        self.call("accounted", |backend| backend.accounted(device))
    }

    fn lifetime(&mut self, device: &Device, pid: u32) -> Result<Option<Lifetime>, GpuError> {
        self.call("lifetime", |backend| backend.lifetime(device, pid))
    }
}
