//! Every rule and profile of a load, or every mistake in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crate::model::{CATALOGUE, EventKind, FieldId, KindSet, RuleId};

use super::assembly::{Assembled, Bench, assemble, read_kinds};
use super::cel::{Context, Names, check};
use super::clause::Clause;
use super::correlation;
use super::diagnostic::{Diagnostic, Diagnostics, Document, Located, Sink, Span, nearest};
use super::file::{RawFile, RawRule, read};
use super::outline::{Outline, Response};
use super::profile::{self, ProfileSet};
use super::source::{self, Source};
use super::spec::Rule;

/// Most rules of one load; the throughput promise is for a hundred.
pub(crate) const RULES_MAX: usize = 10_000;

/// Stack of the loader, in bytes. The deepest condition within the bounds takes a third of it in
/// a build without optimisation; pages that are not touched cost nothing.
pub(crate) const LOAD_STACK_BYTES: usize = 64 * 1024 * 1024;

/// Checked rules and profiles.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// The rules, in order of file name and of declaration. The order means nothing: every rule
    /// that matches fires.
    pub rules: Vec<Arc<Rule>>,
    /// The profiles.
    pub profiles: Arc<ProfileSet>,
    texts: BTreeMap<RuleId, (Outline, Vec<Response>)>,
    clauses: BTreeMap<RuleId, Vec<Clause>>,
}

impl RuleSet {
    /// Checks and compiles `sources`. One mistake anywhere refuses the whole load, and all of them
    /// are returned.
    pub fn load(sources: &[Source]) -> Result<Self, Diagnostics> {
        // The parser recurses as deep as a condition nests, so that the stack is ours to choose.
        let builder = thread::Builder::new().name("rules".into()).stack_size(LOAD_STACK_BYTES);
        thread::scope(|scope| {
            let handle =
                builder.spawn_scoped(scope, || Self::load_here(sources)).map_err(|error| {
                    let message = format!("no thread can be started to load the rules: {error}");
                    Diagnostics(vec![Diagnostic::of_file("rules", message)])
                })?;
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn load_here(sources: &[Source]) -> Result<Self, Diagnostics> {
        let documents = sources
            .iter()
            .map(|source| Document {
                name: source.name.as_str().into(),
                text: source.text.as_str().into(),
            })
            .collect();
        let sink = Sink::new(documents);
        let mut names = Names::default();
        let files: Vec<RawFile> =
            (0..sources.len()).map(|document| read(document, &mut names, &sink)).collect();
        check_macros(&names, &sink);
        let set = Self::of_files(files, sources, &names, &sink);
        if sink.len() > 0 { Err(sink.finish()) } else { Ok(set) }
    }

    /// Reads, checks and compiles every `*.yaml` file at or below `paths`.
    pub fn read_paths(paths: &[PathBuf]) -> Result<Self, Diagnostics> {
        Self::read_with(Vec::new(), paths)
    }

    /// As [`Self::read_paths`], followed by sources that are in memory already. What a person put
    /// into files comes first: a profile there is tried before a shipped one.
    pub fn read_with(shipped: Vec<Source>, paths: &[PathBuf]) -> Result<Self, Diagnostics> {
        let (mut sources, mut mistakes) = source::read_paths(paths);
        sources.extend(shipped);
        match Self::load(&sources) {
            Ok(set) if mistakes.is_empty() => Ok(set),
            Ok(_) => Err(Diagnostics(mistakes)),
            Err(found) => {
                mistakes.extend(found.0);
                Err(Diagnostics(mistakes))
            }
        }
    }

    fn of_files(files: Vec<RawFile>, sources: &[Source], names: &Names, sink: &Sink) -> Self {
        let kinds = kinds_by_id(&files);
        let kinds_of = |id: &str| kinds.get(id).copied().unwrap_or(KindSet::EMPTY);
        let (mut rules, mut profiles) = (Vec::new(), Vec::new());
        report_twice(files.iter().flat_map(|file| &file.rules).filter_map(|r| r.id.as_ref()), sink);
        let profile_ids = files.iter().flat_map(|file| &file.profiles);
        report_twice(profile_ids.filter_map(|profile| profile.id.as_ref()), sink);
        report_rings(&files, sink);
        let written: usize = files.iter().map(|file| file.rules.len()).sum();
        for (file, source) in files.into_iter().zip(sources) {
            let bench = Bench { sink, names, dir: source.dir.as_deref(), kinds_of: &kinds_of };
            for mut raw in file.rules {
                if source.untested {
                    raw.tests.clear();
                }
                report_unknown(&raw, &kinds, sink);
                rules.extend(assemble(raw, &bench));
            }
            for raw in file.profiles {
                profiles.extend(profile::check(raw, names, sink).map(|(profile, _)| profile));
            }
        }
        assert!(rules.len() == written || sink.len() > 0, "a rule that is refused is reported");
        if let Some(extra) = rules.get(RULES_MAX) {
            sink.error(extra.span, format!("more than {RULES_MAX} rules"));
        }
        inherit_role(&mut rules);
        let mut set = Self { profiles: Arc::new(ProfileSet::of(profiles)), ..Self::default() };
        for Assembled { rule, outline, clauses, respond, .. } in rules {
            set.clauses.insert(rule.meta.id.clone(), clauses);
            set.texts.insert(rule.meta.id.clone(), (outline, respond));
            set.rules.push(Arc::new(rule));
        }
        set
    }

    /// The rule called `id`.
    pub fn get(&self, id: &RuleId) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.meta.id == *id)
    }

    /// What the file of a rule says.
    pub fn outline(&self, id: &RuleId) -> Option<&Outline> {
        self.texts.get(id).map(|(outline, _)| outline)
    }

    /// The parts that a rule's `when` joins with `&&`; none when it has no `when`.
    pub fn clauses(&self, id: &RuleId) -> &[Clause] {
        self.clauses.get(id).map_or(&[], Vec::as_slice)
    }

    /// What a rule asks the daemon to do besides telling somebody.
    pub fn responses(&self, id: &RuleId) -> &[Response] {
        self.texts.get(id).map_or(&[], |(_, responses)| responses)
    }

    /// Every kind of event that some rule looks at.
    pub fn kinds_needed(&self) -> KindSet {
        self.rules.iter().fold(KindSet::EMPTY, |all, rule| all.union(rule.kinds))
    }

    /// Every field that some rule or profile reads, in order of the catalogue.
    pub fn fields_needed(&self) -> BTreeSet<FieldId> {
        let profiles = self.profiles.iter().flat_map(|profile| profile.fields.iter().copied());
        self.rules.iter().flat_map(|rule| rule.fields.iter().copied()).chain(profiles).collect()
    }

    /// Whether some rule cannot work without GPU samples.
    pub fn gpu_needed(&self) -> bool {
        self.kinds_needed().contains(EventKind::GpuSample)
            || self.fields_needed().iter().any(|id| is_gpu(*id))
    }
}

/// Whether a field comes from the GPU sampler alone.
pub fn is_gpu(id: FieldId) -> bool {
    const GPU: KindSet = KindSet::of(&[EventKind::GpuSample, EventKind::GpuFault]);
    let kinds = CATALOGUE[id as usize].kinds;
    kinds.intersection(GPU) == kinds
}

/// Whether a field says something that comes from a source of GPU facts, alone or beside others:
/// who opened a GPU is told by the kernel, which GPU that is and whose by the driver.
pub fn speaks_of_gpus(id: FieldId) -> bool {
    is_gpu(id) || CATALOGUE[id as usize].name.starts_with("gpu.") || id == FieldId::WorkloadGpuUser
}

/// Kinds by rule id, as far as `on:` says; what is wrong with it is reported when the rule is. A
/// temporal rule without `on:` has the kinds of the rules it waits for.
fn kinds_by_id(files: &[RawFile]) -> BTreeMap<String, KindSet> {
    let silent = |document: usize| {
        Sink::new(vec![Document { name: "".into(), text: "".into() }; document + 1])
    };
    let mut kinds = BTreeMap::new();
    for rule in files.iter().flat_map(|file| &file.rules) {
        let Some(id) = &rule.id else { continue };
        let own = rule.on.as_ref().and_then(|on| read_kinds(on, &silent(on.span.document)).ok());
        kinds.insert(id.value.clone(), own.unwrap_or(KindSet::EMPTY));
    }
    // A temporal rule may wait for another one: as many rounds as there are levels.
    loop {
        let mut changed = false;
        for rule in files.iter().flat_map(|file| &file.rules) {
            let (Some(id), Some(block), None) = (&rule.id, &rule.correlate, &rule.on) else {
                continue;
            };
            let named = block.rules.iter().filter_map(|name| kinds.get(&name.value));
            let all = named.fold(kinds[&id.value], |all, more| all.union(*more));
            changed |= kinds.insert(id.value.clone(), all) != Some(all);
        }
        if !changed {
            return kinds;
        }
    }
}

/// A rule that waits for others rests on a role that one of them reads: where it is a guess, so is
/// what follows from it.
fn inherit_role(rules: &mut [Assembled]) {
    loop {
        let on_role = rules.iter().filter(|it| it.rule.meta.on_role);
        let on_role: BTreeSet<RuleId> = on_role.map(|it| it.rule.meta.id.clone()).collect();
        let waits = |rule: &Rule| {
            let kind = rule.correlation.as_ref().map(|correlation| &correlation.kind);
            kind.is_some_and(|kind| kind.steps().iter().any(|id| on_role.contains(id)))
        };
        let mut changed = false;
        for Assembled { rule, .. } in rules.iter_mut() {
            if !rule.meta.on_role && waits(rule) {
                Arc::make_mut(&mut rule.meta).on_role = true;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// Reports temporal rules that wait for themselves, by way of others.
fn report_rings(files: &[RawFile], sink: &Sink) {
    let rules = files.iter().flat_map(|file| &file.rules);
    let waits: BTreeMap<&str, Vec<&str>> = rules
        .clone()
        .filter_map(|rule| {
            let named = rule.correlate.iter().flat_map(|block| &block.rules);
            Some((
                rule.id.as_ref()?.value.as_str(),
                named.map(|name| name.value.as_str()).collect(),
            ))
        })
        .collect();
    for id in rules.filter_map(|rule| rule.id.as_ref()) {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&str> = waits.get(id.value.as_str()).cloned().unwrap_or_default();
        while let Some(name) = next.pop() {
            if name == id.value {
                sink.error(id.span, format!("rule `{name}` waits for itself"));
                break;
            }
            if seen.insert(name) {
                next.extend(waits.get(name).into_iter().flatten());
            }
        }
    }
}

/// Reports ids that are there twice, at every place.
fn report_twice<'a>(ids: impl Iterator<Item = &'a Located<String>>, sink: &Sink) {
    let mut places: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for id in ids {
        places.entry(&id.value).or_default().push(id.span);
    }
    for (id, spans) in places.into_iter().filter(|(_, spans)| spans.len() > 1) {
        for span in &spans {
            let others = spans.iter().filter(|other| *other != span);
            let others: Vec<String> = others.map(|other| sink.place(*other)).collect();
            let message = format!("id `{id}` is there twice; also at {}", others.join(", "));
            sink.error(*span, message);
        }
    }
}

/// Reports rules named by a temporal correlation that do not exist, or correlate on their own.
fn report_unknown(raw: &RawRule, kinds: &BTreeMap<String, KindSet>, sink: &Sink) {
    let Some(block) = &raw.correlate else { return };
    if !correlation::is_temporal(Some(block)) {
        return;
    }
    for rule in &block.rules {
        if !kinds.contains_key(&rule.value) {
            let message = format!("no rule has the id `{}`", rule.value);
            match nearest(&rule.value, kinds.keys().map(String::as_str)) {
                Some(near) => {
                    sink.error_help(rule.span, message, format!("did you mean `{near}`?"))
                }
                None => sink.error(rule.span, message),
            };
        }
    }
}

/// Checks every macro on its own, so that one nobody uses is checked too.
fn check_macros(names: &Names, sink: &Sink) {
    for def in names.macros.values().flatten() {
        let vars = &["count", "sum", "distinct"];
        let context = Context { sink, names, kinds: KindSet::ALL, vars };
        // The value is of no use here; the mistakes are in the sink.
        drop(check(&def.text, &context));
    }
}
