//! What the loaded rules and profiles can need of the kernel side. The rest never leaves it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::{EventKind, FieldId, KindSet};

use super::cel::Guard;
use super::profile::Profile;
use super::set::RuleSet;
use super::spec::Rule;

/// Events on files, which feed labels and what was read of them.
const FILES: KindSet =
    KindSet::of(&[EventKind::FileOpen, EventKind::FileRead, EventKind::FileChange]);

/// Fields by which the kernel side finds files whatever their path.
const SENT_ANYWAY: [FieldId; 5] = [
    FieldId::FileClass,
    FieldId::FileSecretClass,
    FieldId::FileLabel,
    FieldId::FileFormat,
    FieldId::GpuUuid,
];

/// What somebody needs of the kernel side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Kinds of event.
    pub kinds: KindSet,
    /// Whether first payloads of flows are needed.
    pub payloads: bool,
    /// Families of rare sockets, by name; `None` for all.
    pub families: Option<BTreeSet<String>>,
    /// Classes of file names; `None` for all.
    pub classes: Option<BTreeSet<String>>,
    /// Paths of files whose opening a rule asks for, whatever they hold.
    pub paths: BTreeSet<String>,
    /// What the paths of files start with whose opening a rule asks for.
    pub prefixes: BTreeSet<String>,
}

/// What is left out, in words for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spared {
    /// Kinds of event that are not sent.
    pub kinds: Vec<&'static str>,
    /// Narrower filters.
    pub filters: Vec<String>,
}

impl Demand {
    /// What `set` needs; with `accounts` also what the metrics of workloads are made of.
    pub fn of(set: &RuleSet, accounts: bool) -> Self {
        let mut demand = Self::default();
        for rule in &set.rules {
            demand.join(&Self::of_rule(rule));
        }
        for profile in set.profiles.iter() {
            demand.join(&Self::of_profile(profile));
        }
        demand.families = joined(&set.rules, EventKind::Socket, FieldId::NetFamily);
        demand.classes = joined(&set.rules, EventKind::FileOpen, FieldId::FileClass);
        // Labels are found by the class of weights, whatever the rules are.
        if let Some(classes) = &mut demand.classes {
            classes.insert("weights".to_owned());
        }
        if accounts {
            demand.kinds = demand.kinds.union(FILES);
            demand.kinds.insert(EventKind::Flow);
        }
        demand
    }

    /// What one rule needs.
    pub fn of_rule(rule: &Rule) -> Self {
        let mut demand = Self { kinds: rule.kinds, ..Self::default() };
        for field in &rule.fields {
            demand.add_field(*field);
        }
        let one = std::slice::from_ref(rule);
        demand.families = narrowed(one.iter(), EventKind::Socket, FieldId::NetFamily);
        demand.classes = narrowed(one.iter(), EventKind::FileOpen, FieldId::FileClass);
        demand.add_paths(rule);
        demand
    }

    /// Adds the paths that a rule on opens names. One that tests what the kernel side sends by
    /// itself, such as a class or a label, needs none.
    fn add_paths(&mut self, rule: &Rule) {
        let comes_anyway = rule.guards.iter().any(|guard| SENT_ANYWAY.contains(&guard.field()));
        if comes_anyway || !rule.kinds.contains(EventKind::FileOpen) {
            return;
        }
        for guard in &rule.guards {
            match guard {
                Guard::TextIn(FieldId::FilePath, set) => {
                    self.paths.extend(set.iter().map(ToString::to_string));
                }
                Guard::StartsWith(FieldId::FilePath, set) => {
                    self.prefixes.extend(set.iter().map(ToString::to_string));
                }
                _ => {}
            }
        }
    }

    fn of_profile(profile: &Profile) -> Self {
        let mut demand = Self::default();
        for field in &profile.fields {
            demand.add_field(*field);
        }
        demand
    }

    fn join(&mut self, other: &Self) {
        self.kinds = self.kinds.union(other.kinds);
        self.payloads |= other.payloads;
        self.paths.extend(other.paths.iter().cloned());
        self.prefixes.extend(other.prefixes.iter().cloned());
    }

    /// Adds what a field is made of: a rule on one kind of event may read what others left behind.
    fn add_field(&mut self, field: FieldId) {
        let mut add = |kinds: &[EventKind]| self.kinds = self.kinds.union(KindSet::of(kinds));
        let files = [EventKind::FileOpen, EventKind::FileRead, EventKind::FileChange];
        match field.name() {
            "net.app_proto" | "net.sni" => self.payloads = true,
            "workload.stratum_seen" => {
                add(&[EventKind::Flow, EventKind::Dns]);
                self.payloads = true;
            }
            "net.dst.name" | "net.allowed" | "net.budget_used" | "net.budget_bytes" => {
                add(&[EventKind::Dns]);
            }
            "workload.unapproved_bytes" => add(&[EventKind::Flow, EventKind::Dns]),
            "workload.egress_bytes" => add(&[EventKind::Flow]),
            "workload.file_bytes_read" | "workload.gpu_user" | "proc.exe_written_here" => {
                add(&files);
            }
            "proc.stdio_socket" => add(&[EventKind::Stdio]),
            "proc.stdio_relay" => add(&[EventKind::Stdio, EventKind::Flow]),
            "file.label" | "file.format" | "file.derived_from" => add(&files),
            name if name.starts_with("weights.") || name.starts_with("gpu.") => add(&files),
            _ => {}
        }
    }

    /// What this leaves out.
    pub fn spared(&self) -> Spared {
        let always = [EventKind::Exec, EventKind::Fork, EventKind::Exit];
        let never_filtered = [EventKind::GpuSample, EventKind::GpuFault, EventKind::Sensor];
        let kinds = EventKind::ALL
            .iter()
            .filter(|kind| !always.contains(kind) && !never_filtered.contains(kind))
            .filter(|kind| !self.kinds.contains(**kind))
            .map(|kind| kind.as_str())
            .collect();
        let mut filters = Vec::new();
        if !self.payloads {
            filters.push("first payloads of flows".to_owned());
        }
        let words = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        if let (true, Some(families)) = (self.kinds.contains(EventKind::Socket), &self.families) {
            filters.push(format!("rare sockets of other families than {}", words(families)));
        }
        if let (true, Some(classes)) = (self.kinds.contains(EventKind::FileOpen), &self.classes) {
            filters.push(format!("files whose name has another class than {}", words(classes)));
        }
        Spared { kinds, filters }
    }
}

fn joined(
    rules: &[std::sync::Arc<Rule>],
    kind: EventKind,
    field: FieldId,
) -> Option<BTreeSet<String>> {
    narrowed(rules.iter().map(|rule| &**rule), kind, field)
}

/// The values of `field` that rules on events of `kind` can match; `None` when one of them can
/// match any.
fn narrowed<'r>(
    rules: impl Iterator<Item = &'r Rule>,
    kind: EventKind,
    field: FieldId,
) -> Option<BTreeSet<String>> {
    let mut values = BTreeSet::new();
    for rule in rules.filter(|rule| rule.kinds.contains(kind)) {
        let guard = rule.guards.iter().find_map(|guard| match guard {
            Guard::TextIn(id, set) if *id == field => Some(set),
            _ => None,
        });
        values.extend(guard?.iter().map(ToString::to_string));
    }
    Some(values)
}
