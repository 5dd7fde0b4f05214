//! Who lives in which cgroup, and what may be so of them: by which the kernel side is told what it
//! need not send of a cgroup.
//!
//! Only a cgroup of which everything is known is spoken of: its path is that of its id, all its
//! processes belong to one workload, and an orchestrator that knows a name has told it.

use std::collections::HashMap;
use std::sync::Arc;

use super::enricher::Enricher;
use super::facts::{known, text, truth};
use super::place::{Place, ROOT_CGROUP, WorkloadKind};
use super::profile::{Names, ProfileView};
use super::table::Handle;
use super::workload::Workload;
use crate::model::{BootNs, CgroupId, EventKind, Facts, FieldId, Value};
use crate::rule::Role;

/// A cgroup whose processes all belong to one workload.
#[derive(Clone, Copy)]
pub struct Resident<'e> {
    enricher: &'e Enricher,
    /// The cgroup.
    pub cgroup: CgroupId,
    workload: &'e Workload,
    place: &'e Arc<Place>,
}

/// What [`Resident::worlds`] follow from; two that are equal have the same worlds.
#[derive(Clone, Debug)]
pub struct Stamp {
    names: Option<Arc<Names>>,
    place: Arc<Place>,
    workload: Box<str>,
    profile: Option<Box<str>>,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        let same_names = match (&self.names, &other.names) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_names
            && Arc::ptr_eq(&self.place, &other.place)
            && (&self.workload, &self.profile) == (&other.workload, &other.profile)
    }
}

/// For whom a process works, and where.
type Lives<'e> = (Handle<Workload>, &'e Arc<Place>);

impl Enricher {
    /// Cgroups with processes of one workload each, of which all is known that an orchestrator
    /// knows.
    pub fn residents(&self) -> Vec<Resident<'_>> {
        let mut found: HashMap<CgroupId, Option<Lives<'_>>> = HashMap::new();
        for process in self.processes.iter().filter(|process| process.ended.is_none()) {
            if process.cgroup.0 <= ROOT_CGROUP.0 {
                continue;
            }
            let lives = process.workload.map(|workload| (workload, &process.place));
            let known = found.entry(process.cgroup).or_insert(lives);
            if *known != lives {
                *known = None;
            }
        }
        found.into_iter().filter_map(|(cgroup, lives)| self.resident(cgroup, lives?)).collect()
    }

    fn resident<'e>(
        &'e self,
        cgroup: CgroupId,
        (workload, place): Lives<'e>,
    ) -> Option<Resident<'e>> {
        let workload = self.workloads.get(workload)?;
        let is_named = workload.names.is_some() || !workload.kind().has_orchestrator();
        let by_path = self.places_by_id.get(self.places_by_id.find(&cgroup)?)?;
        let is_its = **by_path == **place && place.kind == workload.kind();
        let is_asked = workload.profiles_epoch == self.profiles_epoch;
        (is_named && is_its && is_asked && place.kind != WorkloadKind::Tree).then_some(Resident {
            enricher: self,
            cgroup,
            workload,
            place,
        })
    }
}

impl<'e> Resident<'e> {
    /// What the worlds follow from, beside the profiles that are loaded.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            names: self.workload.names.clone(),
            place: Arc::clone(self.place),
            workload: self.workload.id.as_str().into(),
            profile: self.workload.profile.as_ref().map(|profile| profile.id.as_str().into()),
        }
    }

    /// What is so of the workload or may become so with the next program: the profile it has and
    /// the one it would be given now, and where none declares a role, each that may be guessed.
    pub fn worlds(&self) -> Vec<World<'e>> {
        let Self { enricher, cgroup: _, workload, place } = *self;
        let plain = World { workload, place, profile: None, guess: None };
        let next = enricher.profiles.select(&plain);
        let mut worlds = Vec::new();
        for profile in [workload.profile.clone(), next] {
            let world = World { profile, ..plain.clone() };
            if world.profile.as_ref().is_none_or(|profile| profile.role.is_none()) {
                let guesses = Role::ALL.map(|role| World { guess: Some(role), ..world.clone() });
                worlds.extend(guesses);
            }
            worlds.push(world);
        }
        worlds
    }
}

/// One state a workload may be in, as facts. Only fields that say who it is are there.
#[derive(Clone)]
pub struct World<'e> {
    workload: &'e Workload,
    place: &'e Place,
    profile: Option<ProfileView>,
    guess: Option<Role>,
}

impl World<'_> {
    fn role(&self) -> Option<(&'static str, bool)> {
        let declared = self.profile.as_ref().and_then(|profile| profile.role);
        declared.map(|role| (role, false)).or(self.guess.map(|role| (role.as_str(), true)))
    }
}

impl Facts for World<'_> {
    fn kind(&self) -> EventKind {
        EventKind::Exec
    }

    fn time(&self) -> BootNs {
        BootNs(0)
    }

    fn field(&self, id: FieldId) -> Value<'_> {
        let names = self.workload.names.as_deref();
        let of_names = |text: fn(&Names) -> Option<&str>| super::facts::text(names.and_then(text));
        match id {
            FieldId::WorkloadId => Value::Str(self.workload.id.as_str()),
            FieldId::WorkloadKind => Value::Str(self.workload.kind().as_str()),
            FieldId::WorkloadName => known(Some(&self.workload.name)),
            FieldId::WorkloadCgroup => known(Some(&self.place.cgroup)),
            FieldId::WorkloadProfile => {
                text(self.profile.as_ref().map(|profile| profile.id.as_str()))
            }
            FieldId::WorkloadRole => text(self.role().map(|(role, _)| role)),
            FieldId::WorkloadRoleInferred => truth(self.role().map(|(_, guessed)| guessed)),
            FieldId::WorkloadIsolated => {
                Value::Bool(self.profile.as_ref().is_some_and(|profile| profile.isolated))
            }
            FieldId::K8sNamespace => of_names(|names| names.namespace.as_deref()),
            FieldId::K8sPodName => of_names(|names| names.pod.as_deref()),
            FieldId::K8sPodUid => text(self.place.pod_uid.as_deref()),
            FieldId::K8sLabels => match names {
                Some(names) if self.workload.kind() == WorkloadKind::K8s => {
                    Value::Map(&names.labels)
                }
                _ => Value::Missing,
            },
            FieldId::ContainerId => text(self.place.container_id.as_deref()),
            FieldId::ContainerRuntime => text(self.place.runtime),
            FieldId::SlurmJobId => text(self.place.slurm_job.as_deref()),
            FieldId::SlurmPartition => of_names(|names| names.slurm_partition.as_deref()),
            FieldId::SlurmUser => of_names(|names| names.slurm_user.as_deref()),
            FieldId::UnitName => text(self.place.unit.as_deref()),
            _ => Value::Missing,
        }
    }
}
