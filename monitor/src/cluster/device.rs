//! The forms in which device plugins and drivers name a GPU.

/// A GPU or MIG instance, as an allocation names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum DeviceName {
    /// `GPU-…` or `MIG-…`.
    Uuid(String),
    /// Index of the GPU on this host.
    Index(u32),
}

impl DeviceName {
    /// Reads an id of a device plugin: a UUID, a shared UUID with its replica (`<uuid>::<n>`, for
    /// time slicing and the multi-process service), or a name with an index (`nvidia0`, on GKE
    /// also `nvidia0/gi1` and `nvidia0/vgpu2`; of dynamic allocation `gpu-0`, `gpu-0-mig-1g10gb`).
    pub(super) fn parse(id: &str) -> Option<Self> {
        let id = id.split_once("::").map_or(id, |(id, _)| id);
        if id.starts_with("GPU-") || id.starts_with("MIG-") {
            return Some(Self::Uuid(id.to_owned()));
        }
        let rest = id.strip_prefix("nvidia").or_else(|| id.strip_prefix("gpu-"))?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..end)?.parse().ok().map(Self::Index)
    }
}

/// Whether a resource of this name is a GPU.
pub(super) fn is_gpu_resource(resource: &str) -> bool {
    resource.starts_with("nvidia.com/") || resource.contains("gpu") || resource.contains("mig-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_device_is_read() {
        let uuid = |text: &str| Some(DeviceName::Uuid(text.to_owned()));
        for (id, name) in [
            ("GPU-5a1e", uuid("GPU-5a1e")),
            ("GPU-5a1e::3", uuid("GPU-5a1e")),
            ("MIG-77", uuid("MIG-77")),
            ("nvidia0", Some(DeviceName::Index(0))),
            ("nvidia12/gi1/vgpu2", Some(DeviceName::Index(12))),
            ("gpu-3", Some(DeviceName::Index(3))),
            ("gpu-1-mig-1g10gb-0", Some(DeviceName::Index(1))),
            ("nvidiactl", None),
            ("0000:3b:00.1", None),
            ("", None),
        ] {
            assert_eq!(DeviceName::parse(id), name, "{id}");
        }
    }

    #[test]
    fn other_devices_are_no_gpus() {
        assert!(is_gpu_resource("nvidia.com/mig-1g.10gb") && is_gpu_resource("amd.com/gpu"));
        assert!(!is_gpu_resource("rdma/hca_shared_devices") && !is_gpu_resource("cpu"));
    }
}
