//! Where a process lives, read from all lines of `/proc/PID/cgroup`.
//!
//! All lines, because SLURM on cgroup v1 puts the job into `freezer` alone while `0::` stays `/`.
//! Paths are matched from the end, because a kubelet may itself run inside a container, and then
//! every pod lies below that container's path.

use crate::model::CgroupId;

/// What kind of workload a place belongs to. In order of how firmly it holds its processes: a
/// process cannot leave a pod, a job or a container on its own, but may leave a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// The root cgroup: only the process tree is left.
    #[default]
    Tree,
    /// A cgroup that nobody known made.
    Cgroup,
    /// A systemd unit.
    Unit,
    /// A container outside Kubernetes and SLURM.
    Container,
    /// A SLURM job.
    Slurm,
    /// A Kubernetes pod.
    K8s,
}

impl WorkloadKind {
    /// The word used in rules and alerts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Cgroup => "cgroup",
            Self::Unit => "unit",
            Self::Container => "container",
            Self::Slurm => "slurm",
            Self::K8s => "k8s",
        }
    }

    /// Whether somebody else knows the workload by a name.
    pub const fn has_orchestrator(self) -> bool {
        matches!(self, Self::Slurm | Self::K8s)
    }

    /// Whether a process cannot leave on its own.
    pub const fn confines(self) -> bool {
        matches!(self, Self::Container | Self::Slurm | Self::K8s)
    }
}

/// Where a process lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What kind of workload this is.
    pub kind: WorkloadKind,
    /// The path that told most, v2 before v1; empty where nothing could be read.
    pub cgroup: String,
    /// Kubernetes pod uid, with `-` as the API prints it.
    pub pod_uid: Option<String>,
    /// Container id as the path holds it.
    pub container_id: Option<String>,
    /// Runtime that made the container.
    pub runtime: Option<&'static str>,
    /// SLURM job id.
    pub slurm_job: Option<String>,
    /// SLURM step.
    pub slurm_step: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
    /// User manager the unit belongs to, e.g. `user@1000.service`.
    pub unit_manager: Option<String>,
}

impl Place {
    /// The workload id; `None` in the root cgroup, where the process tree decides.
    pub fn workload_id(&self) -> Option<String> {
        Some(match self.kind {
            WorkloadKind::K8s => format!("k8s:{}", self.pod_uid.as_deref()?),
            WorkloadKind::Slurm => format!("slurm:{}", self.slurm_job.as_deref()?),
            WorkloadKind::Container => format!("container:{}", self.container_id.as_deref()?),
            WorkloadKind::Unit => match (&self.unit_manager, self.unit.as_deref()?) {
                (Some(manager), unit) => format!("unit:{manager}/{unit}"),
                (None, unit) => format!("unit:{unit}"),
            },
            WorkloadKind::Cgroup => format!("cgroup:{}", self.cgroup),
            WorkloadKind::Tree => return None,
        })
    }

    /// Reads the text of `/proc/PID/cgroup`. Total: any text gives a place.
    pub fn parse(text: &str) -> Self {
        let mut best: Option<(bool, Self)> = None;
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(hierarchy), Some(_), Some(path)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let place = Self::of_path(path);
            let unified = hierarchy == "0";
            let better = best.as_ref().is_none_or(|(best_unified, best)| {
                let rank = (place.kind, unified, place.cgroup.len());
                rank > (best.kind, *best_unified, best.cgroup.len())
            });
            if better {
                best = Some((unified, place));
            }
        }
        best.map(|(_, place)| place).unwrap_or_default()
    }

    /// Reads one cgroup path.
    fn of_path(path: &str) -> Self {
        // Seen from a cgroup namespace, what lies outside it begins with `/..`.
        let mut path = path.strip_suffix(" (deleted)").unwrap_or(path);
        while let Some(rest) = path.strip_prefix("/..") {
            path = rest;
        }
        let mut place = Self { cgroup: path.to_owned(), ..Self::default() };
        let segments: Vec<&str> = path.split('/').flat_map(split_segment).collect();
        for (at, segment) in segments.iter().enumerate().rev() {
            place.note(segment, segments[..at].iter().rev().copied());
        }
        place.kind = if place.pod_uid.is_some() {
            WorkloadKind::K8s
        } else if place.slurm_job.is_some() {
            WorkloadKind::Slurm
        } else if place.container_id.is_some() {
            WorkloadKind::Container
        } else if place.unit.is_some() {
            WorkloadKind::Unit
        } else if segments.is_empty() {
            WorkloadKind::Tree
        } else {
            WorkloadKind::Cgroup
        };
        place
    }

    /// Takes from one segment what is not known yet; `above` are the segments before it, nearest
    /// first. Called from the end of the path.
    fn note<'a>(&mut self, segment: &'a str, mut above: impl Iterator<Item = &'a str> + Clone) {
        let parent = above.clone().next().unwrap_or("");
        if self.pod_uid.is_none()
            && let Some(uid) = pod_uid(segment, parent)
        {
            self.pod_uid = Some(uid);
            return;
        }
        let in_pod = above.clone().any(|segment| pod_uid(segment, "kubepods").is_some());
        // Below a pod, what lies outside its own container is the container of the kubelet.
        if self.container_id.is_none()
            && self.pod_uid.is_none()
            && let Some((runtime, id)) = container(segment, parent, above.clone().count(), in_pod)
        {
            self.runtime = runtime;
            self.container_id = Some(id.to_owned());
            return;
        }
        let mut in_slurm =
            || above.any(|segment| segment.starts_with("slurm") || segment.contains("_slurmstepd"));
        if self.slurm_job.is_none()
            && let Some(job) = segment.strip_prefix("job_").filter(|job| is_number(job))
            && in_slurm()
        {
            self.slurm_job = Some(job.to_owned());
        } else if let Some(step) = segment.strip_prefix("step_")
            && self.slurm_step.is_none()
            && parent.starts_with("job_")
        {
            self.slurm_step = Some(step.to_owned());
        } else if is_unit(segment) {
            if self.unit.is_none() {
                self.unit = Some(segment.to_owned());
            } else if segment.starts_with("user@") && self.unit_manager.is_none() {
                self.unit_manager = Some(segment.to_owned());
            }
        }
    }
}

/// Services and scopes hold processes; slices only hold those. systemd's suffixes are lower case.
#[expect(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a unit's type is no file extension"
)]
fn is_unit(segment: &str) -> bool {
    segment.ends_with(".service") || segment.ends_with(".scope")
}

/// containerd below a systemd parent, but without `SystemdCgroup`, makes one directory of three
/// words: `<slice>:cri-containerd:<id>`.
fn split_segment(segment: &str) -> impl Iterator<Item = &str> {
    let by = if segment.contains(".slice:") { ':' } else { '/' };
    segment.split(by).filter(|part| !part.is_empty())
}

/// The uid in a pod's directory: `pod<uid>` below `kubepods` (cgroupfs) or
/// `[prefix]kubepods[-qos]-pod<uid with _>.slice` (systemd).
fn pod_uid(segment: &str, parent: &str) -> Option<String> {
    let uid = if let Some(slice) = segment.strip_suffix(".slice") {
        let (before, uid) = slice.rsplit_once("-pod")?;
        before.contains("kubepods").then_some(uid)?
    } else {
        let below = parent.contains("kubepods") || matches!(parent, "burstable" | "besteffort");
        segment.strip_prefix("pod").filter(|_| below)?
    };
    is_uid(uid).then(|| uid.replace('_', "-"))
}

/// A uid, or the 32 hex digits of a static pod.
fn is_uid(uid: &str) -> bool {
    uid.len() >= 32
        && uid.len() <= 36
        && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-' || byte == b'_')
}

/// Prefixes that runtimes put before the id, with the runtime's name. Monitors of the runtimes
/// (`conmon`) live beside the containers and are not in them.
const PREFIXES: &[(&str, Option<&str>)] = &[
    ("cri-containerd-", Some("containerd")),
    ("crio-conmon-", None),
    ("crio-", Some("crio")),
    ("docker-", Some("docker")),
    ("libpod-conmon-", None),
    ("libpod-payload-", Some("podman")),
    ("libpod-", Some("podman")),
    ("nerdctl-", Some("nerdctl")),
    ("lxc.payload.", Some("lxc")),
];

/// The runtime (where the path tells) and the id of a container's directory.
fn container<'a>(
    segment: &'a str,
    parent: &str,
    depth: usize,
    in_pod: bool,
) -> Option<(Option<&'static str>, &'a str)> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = name.strip_prefix(prefix) {
            // LXC names its containers; every other runtime numbers them.
            let named = *prefix == "lxc.payload." && !id.is_empty();
            return (runtime.is_some() && (named || is_container_id(id))).then_some((*runtime, id));
        }
    }
    match parent {
        "cri-containerd" if is_container_id(name) => return Some((Some("containerd"), name)),
        "crio" if is_container_id(name) => return Some((Some("crio"), name)),
        "docker" if is_container_id(name) => return Some((Some("docker"), name)),
        "nerdctl" if is_container_id(name) => return Some((Some("nerdctl"), name)),
        "libpod_parent" if is_container_id(name) => return Some((Some("podman"), name)),
        // `ctr` uses namespace and name; of the namespaces only containerd's own are known.
        "k8s.io" | "moby" | "default" if depth == 1 && !name.contains('.') => {
            return Some((Some("containerd"), name));
        }
        _ => {}
    }
    let bare = is_container_id(name) && (in_pod || name.len() == 64);
    bare.then_some((None, name))
}

/// At least 31 hex digits: ids are 64, and some paths cut them.
fn is_container_id(id: &str) -> bool {
    id.len() >= 31 && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the text describes cgroup v2 alone, so that the cgroup id tells everything.
pub(super) fn is_unified(text: &str) -> bool {
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.starts_with("0::")) && lines.next().is_none()
}

/// The cgroup id of a host's root (and of every process on a host that uses v1 alone).
pub(super) const ROOT_CGROUP: CgroupId = CgroupId(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "8f3f1f0c-9c1e-4a53-8d3b-0f2a5f6f7a10";
    const UID_: &str = "8f3f1f0c_9c1e_4a53_8d3b_0f2a5f6f7a10";
    const HASH: &str = "d4a1c0ffee00112233445566778899aa";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    const BURSTABLE: &str = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable";
    const KIND: &str = "/docker/<HASH><HASH>/kubelet.slice/kubelet-kubepods.slice/\
                        kubelet-kubepods-burstable.slice";

    fn fill(template: &str) -> String {
        template
            .replace("<SLICE>", &format!("{BURSTABLE}-pod<UID_>.slice"))
            .replace("<KIND>", KIND)
            .replace("<UID>", UID)
            .replace("<UID_>", UID_)
            .replace("<HASH>", HASH)
            .replace("<ID>", ID)
    }

    /// (path, workload id, container id, runtime): one line per way a runtime names its cgroups.
    const PATHS: &[(&str, &str, Option<&str>, Option<&str>)] = &[
        ("<SLICE>/cri-containerd-<ID>.scope", "k8s:<UID>", Some("<ID>"), Some("containerd")),
        (
            "/kubepods.slice/kubepods-pod<UID_>.slice/cri-containerd-<ID>.scope",
            "k8s:<UID>",
            Some("<ID>"),
            Some("containerd"),
        ),
        ("/kubepods/burstable/pod<UID>/<ID>", "k8s:<UID>", Some("<ID>"), None),
        ("/kubepods/pod<UID>/<ID>", "k8s:<UID>", Some("<ID>"), None),
        ("/kubepods/besteffort/pod<HASH>/<ID>", "k8s:<HASH>", Some("<ID>"), None),
        (
            "/system.slice/c.service/kubepods-besteffort-pod<UID_>.slice:cri-containerd:<ID>",
            "k8s:<UID>",
            Some("<ID>"),
            Some("containerd"),
        ),
        ("<SLICE>/crio-<ID>.scope", "k8s:<UID>", Some("<ID>"), Some("crio")),
        ("<SLICE>/crio-conmon-<ID>.scope", "k8s:<UID>", None, None),
        ("/kubepods/burstable/pod<UID>/crio-<ID>", "k8s:<UID>", Some("<ID>"), Some("crio")),
        (
            "/kubepods.slice/kubepods-pod<UID_>.slice/docker-<ID>.scope",
            "k8s:<UID>",
            Some("<ID>"),
            Some("docker"),
        ),
        (
            "<KIND>/kubelet-kubepods-burstable-pod<UID_>.slice/cri-containerd-<ID>.scope",
            "k8s:<UID>",
            Some("<ID>"),
            Some("containerd"),
        ),
        (
            "/docker/<HASH><HASH>/kubelet/kubepods/burstable/pod<UID>/<ID>",
            "k8s:<UID>",
            Some("<ID>"),
            None,
        ),
        (
            "/kubepods/burstable/pod<UID>/<HASH><HASH>/docker/<ID>",
            "k8s:<UID>",
            Some("<ID>"),
            Some("docker"),
        ),
        ("/docker-<ID>.scope", "container:<ID>", Some("<ID>"), Some("docker")),
        ("/system.slice/docker-<ID>.scope", "container:<ID>", Some("<ID>"), Some("docker")),
        ("/docker/<ID>", "container:<ID>", Some("<ID>"), Some("docker")),
        (
            "/machine.slice/libpod-<ID>.scope/container",
            "container:<ID>",
            Some("<ID>"),
            Some("podman"),
        ),
        ("/machine.slice/libpod-payload-<ID>", "container:<ID>", Some("<ID>"), Some("podman")),
        ("/libpod_parent/libpod-<ID>", "container:<ID>", Some("<ID>"), Some("podman")),
        (
            "/libpod_parent/libpod-conmon-<ID>",
            "cgroup:/libpod_parent/libpod-conmon-<ID>",
            None,
            None,
        ),
        ("/k8s.io/ctest", "container:ctest", Some("ctest"), Some("containerd")),
        ("/nerdctl-<ID>.scope", "container:<ID>", Some("<ID>"), Some("nerdctl")),
        ("/lxc.payload.build", "container:build", Some("build"), Some("lxc")),
        ("/system.slice/trainer.service", "unit:trainer.service", None, None),
        ("/system.slice/trainer.service/worker", "unit:trainer.service", None, None),
        ("/user.slice/user-1000.slice/session-3.scope", "unit:session-3.scope", None, None),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/train.service",
            "unit:user@1000.service/train.service",
            None,
            None,
        ),
        ("/init.scope", "unit:init.scope", None, None),
        ("/system.slice/slurmstepd.scope/job_12/step_0/user/task_1", "slurm:12", None, None),
        ("/system.slice/node7_slurmstepd.scope/job_12/step_batch/slurm", "slurm:12", None, None),
        ("/slurm_vm/uid_0/job_4/step_batch", "slurm:4", None, None),
        ("/slurm/uid_1000/job_9/step_extern/task_0", "slurm:9", None, None),
        ("/../../kubepods/pod<UID>/<ID>", "k8s:<UID>", Some("<ID>"), None),
        ("/batch/job_7", "cgroup:/batch/job_7", None, None),
        ("/mine", "cgroup:/mine", None, None),
    ];

    #[test]
    fn every_known_path_gives_its_workload() {
        for (path, id, container, runtime) in PATHS {
            let place = Place::parse(&fill(&format!("0::{path}\n")));
            assert_eq!(place.workload_id(), Some(fill(id)), "{path}");
            assert_eq!(place.container_id, container.map(fill), "{path}");
            assert_eq!(place.runtime, *runtime, "{path}");
        }
    }

    #[test]
    fn slurm_steps_are_read() {
        let step = |path: &str| Place::parse(&format!("0::{path}")).slurm_step;
        assert_eq!(
            step("/system.slice/slurmstepd.scope/job_1/step_0/user/task_0").as_deref(),
            Some("0")
        );
        assert_eq!(step("/slurm_vm/uid_0/job_4/step_interactive").as_deref(), Some("interactive"));
    }

    #[test]
    fn the_root_has_no_workload_of_its_own() {
        assert_eq!(Place::parse("0::/\n").workload_id(), None);
        assert_eq!(Place::parse("").workload_id(), None);
        assert_eq!(Place::parse("0::/..\n").workload_id(), None);
    }

    #[test]
    fn a_job_in_the_freezer_alone_is_found() {
        let text = "9:name=systemd:/system.slice/slurmd.service\n4:memory:/\n\
                    3:freezer:/slurm_vm/uid_0/job_4/step_batch\n0::/\n";
        let place = Place::parse(text);
        assert_eq!(place.workload_id().as_deref(), Some("slurm:4"));
        assert_eq!(place.cgroup, "/slurm_vm/uid_0/job_4/step_batch");
    }

    #[test]
    fn of_equal_lines_the_unified_one_is_shown() {
        let text = "9:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n";
        assert_eq!(Place::parse(text).unit.as_deref(), Some("b.service"));
        assert!(!is_unified(text));
        assert!(is_unified("0::/system.slice/b.service\n"));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_place(text in "[0-9]{0,2}:[a-z,]{0,6}:(/[\\PC]{0,40}){0,4}\n?") {
            let place = Place::parse(&text);
            prop_assert_eq!(place.workload_id().is_none(), place.kind == WorkloadKind::Tree);
        }
    }
}
