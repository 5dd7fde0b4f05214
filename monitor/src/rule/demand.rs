//! What the loaded rules and profiles can need of the kernel side. The rest never leaves it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::{EventKind, FieldId, KindSet};

use super::cel::Guard;
use super::profile::Profile;
use super::set::RuleSet;
use super::spec::{CorrelationKind, Rule};

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

/// Ranges of ports that are shown to people; the rest is counted.
const PORT_RANGES_SHOWN_MAX: usize = 16;

/// What somebody needs of the kernel side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Kinds of event.
    pub kinds: KindSet,
    /// Of these, the ones that something is made of which lasts: sums, labels, names. Whoever they
    /// are of and whatever they are about, they are needed.
    pub lasting: KindSet,
    /// Whether first payloads of flows are needed.
    pub payloads: bool,
    /// Families of rare sockets, by name; `None` for all.
    pub families: Option<BTreeSet<String>>,
    /// Families of flows, by name; `None` for all.
    pub flow_families: Option<BTreeSet<String>>,
    /// Remote ports of flows; `None` for all.
    pub flow_ports: Option<BTreeSet<u16>>,
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
        let rules = || set.rules.iter().map(|rule| &**rule);
        demand.flow_families = narrowed(rules(), EventKind::Flow, FieldId::NetFamily);
        demand.flow_ports = narrowed_ports(rules());
        // Labels are found by the class of weights, whatever the rules are.
        if let Some(classes) = &mut demand.classes {
            classes.insert("weights".to_owned());
        }
        if accounts {
            demand.lasting = demand.lasting.union(FILES);
            demand.lasting.insert(EventKind::Flow);
            demand.lasting.insert(EventKind::MemoryAccess);
            demand.kinds = demand.kinds.union(demand.lasting);
        }
        // What is summed needs every flow.
        if demand.lasting.contains(EventKind::Flow) {
            (demand.flow_families, demand.flow_ports) = (None, None);
        }
        demand
    }

    /// What one rule needs.
    pub fn of_rule(rule: &Rule) -> Self {
        let mut demand = Self { kinds: rule.kinds, ..Self::default() };
        for field in &rule.fields {
            demand.add_field(*field);
        }
        // Some tampering is done by writing to a file, and told by its opening.
        if rule.kinds.contains(EventKind::Tamper) {
            demand.lasting.insert(EventKind::FileOpen);
            demand.kinds.insert(EventKind::FileOpen);
        }
        let one = std::slice::from_ref(rule);
        demand.families = narrowed(one.iter(), EventKind::Socket, FieldId::NetFamily);
        demand.classes = narrowed(one.iter(), EventKind::FileOpen, FieldId::FileClass);
        demand.flow_families = narrowed(one.iter(), EventKind::Flow, FieldId::NetFamily);
        demand.flow_ports = narrowed_ports(one.iter());
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
        self.lasting = self.lasting.union(other.lasting);
        self.payloads |= other.payloads;
        self.paths.extend(other.paths.iter().cloned());
        self.prefixes.extend(other.prefixes.iter().cloned());
    }

    /// Adds what a field is made of: a rule on one kind of event may read what others left behind.
    fn add_field(&mut self, field: FieldId) {
        let mut add = |kinds: &[EventKind]| {
            self.lasting = self.lasting.union(KindSet::of(kinds));
            self.kinds = self.kinds.union(self.lasting);
        };
        let files = [EventKind::FileOpen, EventKind::FileRead, EventKind::FileChange];
        match field.name() {
            "net.app_proto" | "net.sni" => self.payloads = true,
            "workload.stratum_seen" => {
                add(&[EventKind::Flow, EventKind::Dns]);
                self.payloads = true;
            }
            "net.dst.name" | "net.allowed" => add(&[EventKind::Dns]),
            // Budgets and sums count every flow of a workload.
            "net.budget_used" | "net.budget_bytes" | "workload.unapproved_bytes" => {
                add(&[EventKind::Flow, EventKind::Dns]);
            }
            "workload.egress_bytes" => add(&[EventKind::Flow]),
            "workload.file_bytes_read" | "workload.gpu_user" | "proc.exe_written_here" => {
                add(&files);
            }
            "proc.stdio_socket" => add(&[EventKind::Stdio]),
            "proc.stdio_relay" => add(&[EventKind::Stdio, EventKind::Flow]),
            "file.label" | "file.format" | "file.derived_from" => add(&files),
            name if name.starts_with("gpu.") => add(&files),
            name if name.starts_with("weights.") => {
                add(&files);
                // Who reads the memory of a process that read weights has read them too.
                add(&[EventKind::MemoryAccess]);
            }
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
        if self.kinds.contains(EventKind::Flow) {
            if let Some(families) = &self.flow_families {
                filters.push(format!("flows of other families than {}", words(families)));
            }
            if let Some(ports) = &self.flow_ports {
                filters.push(format!("flows to other ports than {}", port_words(ports)));
            }
        }
        if let (true, Some(classes)) = (self.kinds.contains(EventKind::FileOpen), &self.classes) {
            filters.push(format!("files whose name has another class than {}", words(classes)));
        }
        Spared { kinds, filters }
    }
}

/// Ports in words, neighbours as a range.
pub fn port_words(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let word = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let more = ranges.len().saturating_sub(PORT_RANGES_SHOWN_MAX);
    let mut words: Vec<String> = ranges.iter().take(PORT_RANGES_SHOWN_MAX).map(word).collect();
    if more > 0 {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

fn joined(
    rules: &[std::sync::Arc<Rule>],
    kind: EventKind,
    field: FieldId,
) -> Option<BTreeSet<String>> {
    narrowed(rules.iter().map(|rule| &**rule), kind, field)
}

/// Whether a rule looks at events itself, and does not wait for the matches of others.
pub(super) fn looks(rule: &Rule) -> bool {
    let kind = rule.correlation.as_ref().map(|correlation| &correlation.kind);
    !matches!(kind, Some(CorrelationKind::Temporal(_) | CorrelationKind::TemporalOrdered(_)))
}

/// The remote ports of flows that rules can match; `None` when one of them can match any.
fn narrowed_ports<'r>(rules: impl Iterator<Item = &'r Rule>) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for rule in rules.filter(|rule| rule.kinds.contains(EventKind::Flow) && looks(rule)) {
        let guard = rule.guards.iter().find_map(|guard| match guard {
            Guard::IntIn(FieldId::NetDstPort, set) => Some(set),
            _ => None,
        });
        // A number that is no port is the port of no flow.
        ports.extend(guard?.iter().filter_map(|port| u16::try_from(*port).ok()));
    }
    Some(ports)
}

/// The values of `field` that rules on events of `kind` can match; `None` when one of them can
/// match any.
fn narrowed<'r>(
    rules: impl Iterator<Item = &'r Rule>,
    kind: EventKind,
    field: FieldId,
) -> Option<BTreeSet<String>> {
    let mut values = BTreeSet::new();
    for rule in rules.filter(|rule| rule.kinds.contains(kind) && looks(rule)) {
        let guard = rule.guards.iter().find_map(|guard| match guard {
            Guard::TextIn(id, set) if *id == field => Some(set),
            _ => None,
        });
        values.extend(guard?.iter().map(ToString::to_string));
    }
    Some(values)
}
