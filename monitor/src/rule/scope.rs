//! Which workloads the rules can be about: what the kernel side need not send of the others.
//!
//! A clause that asks only who the workload is has the same answer for all its events. Where one is
//! false whatever may still become known of the workload, the rule cannot match there. A kind of
//! event is spared a workload when that is so of every rule on it, and nothing lasting is made of
//! such events ([`Demand::lasting`]).

use serde::Serialize;

use super::clause::Clause;
use super::demand::{Demand, looks};
use super::set::RuleSet;
use crate::model::{EventKind, Facts, FieldId, KindSet, RuleId};

/// Fields that say who a workload is. They do not change while it lives; what an orchestrator has
/// yet to tell is the asker's to wait for.
const WHO: [FieldId; 14] = [
    FieldId::WorkloadId,
    FieldId::WorkloadKind,
    FieldId::WorkloadName,
    FieldId::WorkloadCgroup,
    FieldId::K8sNamespace,
    FieldId::K8sPodName,
    FieldId::K8sPodUid,
    FieldId::K8sLabels,
    FieldId::ContainerId,
    FieldId::ContainerRuntime,
    FieldId::SlurmJobId,
    FieldId::SlurmPartition,
    FieldId::SlurmUser,
    FieldId::UnitName,
];
/// Fields that follow from the profile. Where profiles select by who a workload is, so do these;
/// where one selects by what runs, the next program may change them.
const DECLARED: [FieldId; 4] = [
    FieldId::WorkloadProfile,
    FieldId::WorkloadRole,
    FieldId::WorkloadRoleInferred,
    FieldId::WorkloadIsolated,
];
/// Kinds that the kernel side can keep back for single cgroups. Not DNS: whose an answer is, is
/// known only here.
const BY_CGROUP: KindSet = KindSet::of(&[
    EventKind::FileOpen,
    EventKind::FileRead,
    EventKind::FileChange,
    EventKind::Flow,
    EventKind::Socket,
    EventKind::Stdio,
    EventKind::MemoryAccess,
    EventKind::Tamper,
    EventKind::Namespace,
    EventKind::AsyncIo,
]);

/// Whether workloads can be told apart by one kind of event, and by which rules; or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindScope {
    /// The kind.
    pub kind: &'static str,
    /// Rules that limit it to some workloads.
    pub rules: Vec<RuleId>,
    /// Why it is sent of every workload, where it is.
    pub everywhere: Option<String>,
}

/// The kinds of event that only some workloads are asked for.
#[derive(Clone, Debug, Default)]
pub struct Scopes {
    kinds: Vec<(EventKind, Vec<RuleId>)>,
    is_declared_fixed: bool,
}

impl Scopes {
    /// Those of a set of rules; `accounts` as in [`Demand::of`].
    pub fn of(set: &RuleSet, accounts: bool) -> Self {
        let demand = Demand::of(set, accounts);
        let is_declared_fixed = is_declared_fixed(set);
        let kinds = BY_CGROUP.intersection(demand.kinds).iter();
        let kinds = kinds
            .filter_map(|kind| Some((kind, by_workload(set, &demand, kind, is_declared_fixed)?)));
        Self { kinds: kinds.collect(), is_declared_fixed }
    }

    /// Whether no kind is spared anybody.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The kinds of event by which no rule of `set`, which this was made of, can match a workload.
    /// `worlds` is what may be so of it: a rule is ruled out only if it is in each.
    pub fn spared(&self, set: &RuleSet, worlds: &[&dyn Facts]) -> KindSet {
        let ruled_out = |id: &RuleId| {
            worlds.iter().all(|world| {
                let mut clauses = set.clauses(id).iter();
                clauses
                    .any(|clause| asks_who(clause, self.is_declared_fixed) && !clause.holds(*world))
            })
        };
        let spared = self.kinds.iter().filter(|(_, rules)| rules.iter().all(ruled_out));
        spared.fold(KindSet::EMPTY, |mut all, (kind, _)| {
            all.insert(*kind);
            all
        })
    }

    /// Each kind that is sent, with the rules that limit it to some workloads or why none does.
    pub fn explain(set: &RuleSet, accounts: bool) -> Vec<KindScope> {
        let demand = Demand::of(set, accounts);
        let is_fixed = is_declared_fixed(set);
        let kinds = BY_CGROUP.intersection(demand.kinds).iter();
        kinds
            .map(|kind| match by_workload(set, &demand, kind, is_fixed) {
                Some(rules) => KindScope { kind: kind.as_str(), rules, everywhere: None },
                None => KindScope {
                    kind: kind.as_str(),
                    rules: Vec::new(),
                    everywhere: Some(why_everywhere(set, &demand, kind, is_fixed)),
                },
            })
            .collect()
    }
}

/// The clauses by which a rule is limited to some workloads.
pub fn who_clauses<'s>(set: &'s RuleSet, id: &RuleId) -> impl Iterator<Item = &'s Clause> {
    let is_fixed = is_declared_fixed(set);
    set.clauses(id).iter().filter(move |clause| asks_who(clause, is_fixed))
}

/// Whether every profile selects by who a workload is.
fn is_declared_fixed(set: &RuleSet) -> bool {
    set.profiles.iter().all(|profile| profile.fields.iter().all(|id| WHO.contains(id)))
}

fn asks_who(clause: &Clause, is_declared_fixed: bool) -> bool {
    let is_who = |id: &FieldId| WHO.contains(id) || (is_declared_fixed && DECLARED.contains(id));
    !clause.fields.is_empty() && clause.fields.iter().all(is_who)
}

/// The rules on `kind`, when each of them is limited to some workloads.
fn by_workload(
    set: &RuleSet,
    demand: &Demand,
    kind: EventKind,
    is_declared_fixed: bool,
) -> Option<Vec<RuleId>> {
    if demand.lasting.contains(kind) {
        return None;
    }
    let rules = set.rules.iter().filter(|rule| rule.kinds.contains(kind) && looks(rule));
    rules
        .map(|rule| {
            let id = &rule.meta.id;
            let mut clauses = set.clauses(id).iter();
            clauses.any(|clause| asks_who(clause, is_declared_fixed)).then(|| id.clone())
        })
        .collect()
}

fn why_everywhere(
    set: &RuleSet,
    demand: &Demand,
    kind: EventKind,
    is_declared_fixed: bool,
) -> String {
    if demand.lasting.contains(kind) {
        return "metrics, sums, labels or names are made of every one".to_owned();
    }
    let any = set.rules.iter().find(|rule| {
        let mut clauses = set.clauses(&rule.meta.id).iter();
        rule.kinds.contains(kind)
            && looks(rule)
            && !clauses.any(|clause| asks_who(clause, is_declared_fixed))
    });
    let Some(rule) = any else { return "no rule is on it alone".to_owned() };
    let id = &rule.meta.id;
    let by_what_runs =
        set.profiles.iter().find(|profile| profile.fields.iter().any(|id| !WHO.contains(id)));
    let would_do = set.clauses(id).iter().any(|clause| asks_who(clause, true));
    match by_what_runs {
        Some(profile) if would_do => format!(
            "rule {id} asks what profile {} says, which selects by what runs: the next program may \
             change it",
            profile.id
        ),
        _ => format!("rule {id} may match in any workload"),
    }
}
