//! What `rules explain` says of the kernel side: what it is told because of a rule, what it leaves
//! out with all of them, and what it cannot leave out and why.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::{Value as Json, json};

use crate::model::EventKind;
use crate::rule::spec::Rule;
use crate::rule::{Demand, Guard, RuleSet, Scopes, kind_words, port_words, who_clauses};

/// Values of one test that are shown; the rest is counted.
const VALUES_SHOWN_MAX: usize = 8;

/// Says it in plain words.
pub(super) fn explain(set: &RuleSet, rule: &Rule, out: &mut dyn Write) -> anyhow::Result<()> {
    let demand = Demand::of_rule(rule);
    writeln!(out, "For it the kernel sends {} events", kind_words(demand.kinds))?;
    for line in narrower(rule, &demand) {
        writeln!(out, "  {line}")?;
    }
    let who: Vec<&str> = who_clauses(set, &rule.meta.id).map(|it| it.text.trim()).collect();
    if !who.is_empty() {
        writeln!(out, "  of workloads where {}", one_line(&who.join(" && ")))?;
    }
    match rule.guards.first() {
        Some(guard) => writeln!(out, "It is asked only of events where {}.", guard_words(guard))?,
        None => writeln!(out, "It is asked of each event of its kinds.")?,
    }
    let spared = Demand::of(set, true).spared();
    if !spared.kinds.is_empty() {
        writeln!(out, "With these rules the kernel does not send: {}.", spared.kinds.join(", "))?;
    }
    for filter in spared.filters {
        writeln!(out, "With these rules the kernel does not send {filter}.")?;
    }
    for scope in Scopes::explain(set, true) {
        if !EventKind::from_name(scope.kind).is_some_and(|kind| rule.kinds.contains(kind)) {
            continue;
        }
        match scope.everywhere {
            Some(why) => writeln!(out, "{} events come from every workload: {why}.", scope.kind)?,
            None => writeln!(
                out,
                "{} events come only from workloads in which some rule may match.",
                scope.kind
            )?,
        }
    }
    if rule.kinds.contains(EventKind::Flow)
        && (demand.flow_ports.is_some() || demand.flow_families.is_some())
        && let Some(why) = why_every_flow(set)
    {
        writeln!(out, "Flows to other ports and of other families come too: {why}.")?;
    }
    Ok(())
}

/// The same for programs.
pub(super) fn json(set: &RuleSet, rule: &Rule) -> Json {
    let demand = Demand::of_rule(rule);
    let kinds: Vec<&str> = demand.kinds.iter().map(EventKind::as_str).collect();
    let who: Vec<&str> = who_clauses(set, &rule.meta.id).map(|it| it.text.trim()).collect();
    json!({
        "kinds": kinds, "payloads": demand.payloads, "families": demand.families,
        "flow_families": demand.flow_families, "flow_ports": demand.flow_ports,
        "classes": demand.classes, "paths": demand.paths, "prefixes": demand.prefixes,
        "workloads": who, "asked_where": rule.guards.first().map(guard_words),
        "spared_by_all_rules": Demand::of(set, true).spared(),
        "workloads_by_kind": Scopes::explain(set, true),
        "every_flow_because": why_every_flow(set),
    })
}

/// What narrows the kinds of event, a line each.
fn narrower(rule: &Rule, demand: &Demand) -> Vec<String> {
    let words = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    let on = |kind| rule.kinds.contains(kind);
    let mut lines = Vec::new();
    if demand.payloads {
        lines.push("and the first payload of flows".to_owned());
    }
    if let (true, Some(families)) = (on(EventKind::Socket), &demand.families) {
        lines.push(format!("of rare sockets only those of the family {}", words(families)));
    }
    if let (true, Some(families)) = (on(EventKind::Flow), &demand.flow_families) {
        lines.push(format!("of flows only those of the family {}", words(families)));
    }
    if let (true, Some(ports)) = (on(EventKind::Flow), &demand.flow_ports) {
        lines.push(format!("of flows only those to port {}", port_words(ports)));
    }
    if let (true, Some(classes)) = (on(EventKind::FileOpen), &demand.classes) {
        lines.push(format!("of file names only those of the class {}", words(classes)));
    }
    if !demand.paths.is_empty() {
        lines.push(format!("and opens of files with the names of {}", words(&demand.paths)));
    }
    if !demand.prefixes.is_empty() {
        lines.push(format!("and opens in the directories of {}", words(&demand.prefixes)));
    }
    lines
}

/// Why the kernel sends every flow, where it does.
fn why_every_flow(set: &RuleSet) -> Option<String> {
    let without_metrics = Demand::of(set, false);
    if without_metrics.lasting.contains(EventKind::Flow) {
        let sums =
            |rule: &&std::sync::Arc<Rule>| Demand::of_rule(rule).lasting.contains(EventKind::Flow);
        let rule = set.rules.iter().find(sums).map(|rule| rule.meta.id.as_str());
        return Some(format!(
            "rule {} asks for sums over all flows",
            rule.unwrap_or("of a profile")
        ));
    }
    if without_metrics.flow_ports.is_none() && without_metrics.flow_families.is_none() {
        let any = |rule: &&std::sync::Arc<Rule>| {
            let demand = Demand::of_rule(rule);
            rule.kinds.contains(EventKind::Flow)
                && demand.flow_ports.is_none()
                && demand.flow_families.is_none()
        };
        let rule = set.rules.iter().find(any).map(|rule| rule.meta.id.as_str());
        return rule.map(|id| format!("rule {id} may match any of them"));
    }
    Some("metrics of workloads count them; without `telemetry` they do not".to_owned())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn guard_words(guard: &Guard) -> String {
    let list = |all: Vec<String>| {
        let more = all.len().saturating_sub(VALUES_SHOWN_MAX);
        let mut shown: Vec<String> = all.into_iter().take(VALUES_SHOWN_MAX).collect();
        if more > 0 {
            shown.push(format!("{more} more"));
        }
        shown.join(" or ")
    };
    let texts = |set: &std::collections::BTreeSet<Box<str>>| {
        list(set.iter().map(|text| format!("{text:?}")).collect())
    };
    let name = guard.field().name();
    match guard {
        Guard::TextIn(_, set) => format!("{name} is {}", texts(set)),
        Guard::IntIn(_, set) => {
            format!("{name} is {}", list(set.iter().map(ToString::to_string).collect()))
        }
        Guard::Finds(_, set) => format!("{name} contains {}", texts(set)),
        Guard::StartsWith(_, set) => format!("{name} starts with {}", texts(set)),
        Guard::Is(_, truth) => format!("{name} is {truth}"),
        Guard::Has(_) => format!("{name} is there"),
    }
}
