//! Rows of GPUs and of the source of GPU facts.

use super::family as f;
use super::sheet::Sheet;
use super::snapshot::{GpuBackendMetrics, GpuMetrics, GpuQuantity, GpuReading};

impl Sheet {
    /// The state of the source of GPU facts.
    pub(super) fn gpu_backend(&mut self, backend: &GpuBackendMetrics) {
        let GpuBackendMetrics { state, reason, missing, rounds, errors, faults } = backend;
        if state.is_empty() {
            return;
        }
        self.add(&f::GPU_BACKEND, [state, reason], 1.0);
        for (uuid, value, reason) in missing {
            self.add(&f::GPU_MISSING, [uuid, value, reason], 1.0);
        }
        for (outcome, count) in rounds {
            self.count(&f::GPU_ROUNDS, [outcome], *count);
        }
        for (reason, count) in errors {
            self.count(&f::GPU_ERRORS, [reason], *count);
        }
        for (gpu, uuid, model, fault, xid, count) in faults {
            self.count(&f::GPU_FAULTS, [gpu, uuid, model, fault, xid], *count);
        }
    }

    /// Everything that was read of a GPU beside utilisation, memory and power.
    pub(super) fn gpu_readings(&mut self, gpu: &GpuMetrics) {
        let labels =
            [&*gpu.gpu, &*gpu.uuid, &*gpu.model, &*gpu.namespace, &*gpu.pod, &*gpu.container];
        for GpuReading { quantity, part, value } in &gpu.readings {
            let [index, uuid, model, namespace, pod, container] = labels;
            let parted = [index, uuid, model, namespace, pod, container, part];
            match quantity {
                GpuQuantity::MemoryTotal => self.add(&f::GPU_MEMORY_TOTAL, labels, *value),
                GpuQuantity::Temperature => self.add(&f::GPU_TEMPERATURE, labels, *value),
                GpuQuantity::Energy => self.add(&f::GPU_ENERGY, labels, *value),
                GpuQuantity::LinksUp => self.add(&f::GPU_LINKS_UP, labels, *value),
                GpuQuantity::LinkErrors => self.add(&f::GPU_LINK_ERRORS, parted, *value),
                GpuQuantity::PcieReplays => self.add(&f::GPU_REPLAYS, labels, *value),
                GpuQuantity::Clock => self.add(&f::GPU_CLOCK, parted, *value),
                GpuQuantity::Activity => self.add(&f::GPU_ACTIVITY, parted, *value),
                GpuQuantity::Link => self.add(&f::GPU_LINK, parted, *value),
                GpuQuantity::EccErrors => self.add(&f::GPU_ECC, parted, *value),
                GpuQuantity::RemappedRows => self.add(&f::GPU_REMAPPED, parted, *value),
                GpuQuantity::Throttled => self.add(&f::GPU_THROTTLED, parted, *value),
            }
        }
    }
}
