//! From a raw rule to a checked one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::model::{EventKind, FieldId, KindSet, RuleId};

use super::cel::{Condition, Context, Names, Part};
use super::clause::{Clause, clauses};
use super::correlation;
use super::diagnostic::{Located, Reported, Sink, Span, suggest};
use super::file::{RawException, RawRule, RawTags};
use super::outline::{Outline, Response};
use super::spec::{Dedupe, Exception, Predicate, Rule, RuleMeta, Tags};
use super::template::Template;
use super::trial;
use super::yaml::{Node, list, text};

/// Longest rule id, in bytes; it is a metric label.
pub(crate) const RULE_ID_BYTES_MAX: usize = 80;
/// Most exceptions of one rule; each costs an evaluation per match.
pub(crate) const EXCEPTIONS_MAX: usize = 64;
/// Longest time for which findings are merged: 30 days in nanoseconds, as the longest window.
pub(crate) const DEDUPE_NS_MAX: u64 = correlation::WINDOW_SPAN_NS_MAX;

/// A rule and what its file said.
pub(crate) struct Assembled {
    pub(crate) rule: Rule,
    pub(crate) outline: Outline,
    pub(crate) clauses: Vec<Clause>,
    pub(crate) respond: Vec<Response>,
    /// Where its id stands.
    pub(crate) span: Span,
}

/// Where a rule is checked.
pub(crate) struct Bench<'a> {
    pub(crate) sink: &'a Sink,
    pub(crate) names: &'a Names,
    /// Folder of the rule's file.
    pub(crate) dir: Option<&'a Path>,
    /// Kinds of the rules that a temporal correlation names.
    pub(crate) kinds_of: &'a dyn Fn(&str) -> KindSet,
}

/// Checks a rule. Every mistake is reported; a rule with one does not exist.
pub(crate) fn assemble(raw: RawRule, bench: &Bench<'_>) -> Result<Assembled, Reported> {
    let sink = bench.sink;
    let mistakes = sink.len();
    let kinds = rule_kinds(&raw, bench);
    let severity = raw.severity.as_ref().map(|text| trial::read_severity(text, sink));
    let id = raw.id.as_ref().map(|id| check_id(id, "rule", sink));
    // A rule whose kinds are wrong is checked as if it saw every event, so that the rest of its
    // mistakes show too.
    let seen = kinds.unwrap_or(KindSet::ALL);
    let context = Context { sink, names: bench.names, kinds: seen, vars: &[] };
    let outline = Outline::of(&raw);
    let when = check_when(&raw, &context);
    let exceptions = check_exceptions(&raw.exceptions, when.as_ref().ok(), &context);
    let vars = correlation::variables(raw.correlate.as_ref());
    let correlated = raw
        .correlate
        .as_ref()
        .map(|block| correlation::check(block, seen, bench.names, sink))
        .transpose();
    let message = raw
        .message
        .as_ref()
        .map(|text| Template::of(text, &Context { sink, names: bench.names, kinds: seen, vars }));
    let dedupe = check_dedupe(&raw, seen, sink);
    let respond = check_respond(&raw.respond, sink);
    let known = severity.and_then(Result::ok);
    let tests: Vec<_> =
        raw.tests.into_iter().map(|test| trial::read(test, known, bench.dir, sink)).collect();
    if sink.len() > mistakes {
        return Err(Reported);
    }
    let clauses = raw.when.as_ref().map(|when| clauses(when, &context)).unwrap_or_default();
    let (when, message) = (when?, message.ok_or(Reported)??);
    let (correlated, dedupe) = (correlated?, dedupe?);
    let id_place = raw.id.ok_or(Reported)?;
    let title = raw.title.ok_or(Reported)?.value;
    let (mut fields, used) = gather(&when, &exceptions, correlated.as_ref());
    fields.extend(&message.fields);
    fields.extend(&dedupe.key);
    let on_role = when.fields.contains(&FieldId::WorkloadRole)
        || correlated.as_ref().is_some_and(|c| c.fields.contains(&FieldId::WorkloadRole));
    let meta = RuleMeta {
        on_role,
        id: id.ok_or(Reported)??,
        version: version(&raw.shape, &used),
        title,
        severity: known.ok_or(Reported)?,
        alerts: raw.alert,
        tags: tags(raw.tags),
        false_positives: raw.false_positives.into_iter().map(|text| text.value).collect(),
        runbook: raw.runbook.map(|text| text.value).unwrap_or_default(),
        source: sink.documents[id_place.span.document].name.to_string(),
    };
    let guards = when.guards();
    let parts = when.into_parts();
    let rule = Rule {
        meta: Arc::new(meta),
        kinds: kinds?,
        fields: fields.into_iter().collect(),
        guards,
        when: together(&parts),
        parts,
        exceptions: exceptions.into_iter().map(exception).collect(),
        correlation: correlated.map(|checked| checked.correlation),
        dedupe,
        message: message.render(),
        tests: tests.into_iter().collect::<Result<_, _>>()?,
    };
    Ok(Assembled { rule, outline, clauses, respond: respond?, span: id_place.span })
}

/// The condition whose parts these are.
fn together(parts: &[Part]) -> Predicate {
    let parts: Box<[Part]> = parts.into();
    Box::new(move |facts, _| parts.iter().all(|part| part.holds(facts)))
}

fn exception((name, condition): (String, Condition)) -> Exception {
    let on_role = condition.fields.contains(&FieldId::WorkloadRole);
    Exception { name, on_role, when: condition.predicate() }
}

/// The fields that a rule's conditions read, and the lists and macros they use.
fn gather(
    when: &Condition,
    exceptions: &[(String, Condition)],
    correlated: Option<&correlation::Checked>,
) -> (BTreeSet<FieldId>, BTreeSet<String>) {
    let (mut fields, mut used) = (when.fields.clone(), when.used.clone());
    for (_, condition) in exceptions {
        fields.extend(&condition.fields);
        used.extend(condition.used.iter().cloned());
    }
    if let Some(checked) = correlated {
        fields.extend(&checked.fields);
        used.extend(checked.used.iter().cloned());
    }
    (fields, used)
}

/// The kinds a rule looks at: its own, or those of the rules it names.
fn rule_kinds(raw: &RawRule, bench: &Bench<'_>) -> Result<KindSet, Reported> {
    let sink = bench.sink;
    let temporal = correlation::is_temporal(raw.correlate.as_ref());
    match (&raw.on, &raw.correlate) {
        (None, Some(correlate)) if temporal => {
            let named = correlate.rules.iter().map(|rule| (bench.kinds_of)(&rule.value));
            let kinds = named.fold(KindSet::EMPTY, KindSet::union);
            if kinds.is_empty() { Err(Reported) } else { Ok(kinds) }
        }
        (None, _) => {
            let help = "write the kinds of event it looks at, such as `on: [flow]`";
            Err(sink.error_help(raw.span, "the rule has no `on`", help))
        }
        (Some(on), _) => read_kinds(on, sink),
    }
}

/// Reads `on:`.
pub(crate) fn read_kinds(on: &Node, sink: &Sink) -> Result<KindSet, Reported> {
    let items = list(on.clone(), "`on`", sink);
    let mut kinds = KindSet::EMPTY;
    let mut failed = items.is_empty().then(|| sink.error(on.span, "`on` names no kind of event"));
    for item in items {
        let Some(word) = text(item, "an item of `on`", sink) else {
            failed = Some(Reported);
            continue;
        };
        match EventKind::from_name(&word.value) {
            Some(kind) if kinds.contains(kind) => {
                failed = Some(sink.error(word.span, format!("`{kind}` is named twice")));
            }
            Some(kind) => kinds.insert(kind),
            None => {
                let all = EventKind::ALL.iter().map(|kind| kind.as_str());
                let message = format!("unknown kind of event `{}`", word.value);
                failed = Some(sink.error_help(word.span, message, suggest(&word.value, all)));
            }
        }
    }
    failed.map_or(Ok(kinds), Err)
}

/// Checks an id: it ends up in metrics, file names and URLs.
pub(crate) fn check_id(id: &Located<String>, what: &str, sink: &Sink) -> Result<RuleId, Reported> {
    let letters =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let text = id.value.as_str();
    if text.is_empty() || text.len() > RULE_ID_BYTES_MAX || !text.chars().all(letters) {
        return Err(sink.error_help(
            id.span,
            format!("`{text}` is not a {what} id"),
            format!("use 1 to {RULE_ID_BYTES_MAX} of a-z, 0-9, `-`, `_` and `.`"),
        ));
    }
    Ok(RuleId::from(text))
}

fn check_when(raw: &RawRule, context: &Context<'_>) -> Result<Condition, Reported> {
    let sink = context.sink;
    let Some(text) = &raw.when else {
        if correlation::is_temporal(raw.correlate.as_ref()) {
            return Ok(Condition::always());
        }
        return Err(sink.error(raw.span, "the rule has no `when`"));
    };
    let condition = Condition::of(text, context)?;
    if let Some(why) = condition.impossible(context.kinds) {
        return Err(sink.error(text.span, format!("the rule can never match: {why}")));
    }
    Ok(condition)
}

fn check_exceptions(
    raw: &[RawException],
    when: Option<&Condition>,
    context: &Context<'_>,
) -> Vec<(String, Condition)> {
    let sink = context.sink;
    let mut checked: Vec<(String, Condition)> = Vec::with_capacity(raw.len());
    for exception in raw {
        let (Some(name), Some(text)) = (&exception.name, &exception.when) else { continue };
        if checked.iter().any(|(known, _)| *known == name.value) {
            sink.error(name.span, format!("exception `{}` is there twice", name.value));
        }
        let Ok(condition) = Condition::of(text, context) else { continue };
        if let Some(why) = condition.impossible(context.kinds) {
            sink.error(text.span, format!("the exception can never apply: {why}"));
        } else if when.is_some_and(|when| condition.covers(when)) {
            let message = format!("exception `{}` swallows the rule", name.value);
            let help = "every event that matches the rule is excepted; the rule can never fire";
            sink.error_help(text.span, message, help);
        }
        checked.push((name.value.clone(), condition));
    }
    if let Some(extra) = raw.get(EXCEPTIONS_MAX).and_then(|extra| extra.name.as_ref()) {
        let message = format!("a rule has at most {EXCEPTIONS_MAX} exceptions");
        sink.error_help(extra.span, message, "put the values into a list and test with `in`");
    }
    checked
}

fn check_dedupe(raw: &RawRule, kinds: KindSet, sink: &Sink) -> Result<Dedupe, Reported> {
    let Some(dedupe) = &raw.dedupe else { return Ok(Dedupe::default()) };
    let key = correlation::check_key(&dedupe.key, kinds, "key", sink);
    let text = dedupe.for_.as_ref().ok_or(Reported)?;
    let for_ns = correlation::read_span(text, sink)?;
    if for_ns > DEDUPE_NS_MAX {
        let message = format!("`for` is {}, at most 30d are allowed", text.value);
        return Err(sink.error(text.span, message));
    }
    Ok(Dedupe { key: key?, for_ns })
}

fn check_respond(raw: &[Located<String>], sink: &Sink) -> Result<Vec<Response>, Reported> {
    let mut all = Vec::with_capacity(raw.len());
    for word in raw {
        let Some(response) = Response::from_name(&word.value) else {
            let message = format!("unknown response `{}`", word.value);
            let help = suggest(&word.value, Response::NAMES);
            return Err(sink.error_help(word.span, message, help));
        };
        all.push(response);
    }
    Ok(all)
}

fn tags(raw: RawTags) -> Tags {
    let texts = |all: Vec<Located<String>>| all.into_iter().map(|text| text.value).collect();
    Tags {
        attack: texts(raw.attack),
        atlas: texts(raw.atlas),
        attack_version: raw.attack_version.map(|text| text.value),
        atlas_version: raw.atlas_version.map(|text| text.value),
        code: texts(raw.code),
    }
}

/// The first 48 bits of FNV-1a over what the rule says and what it refers to, as 12 hex digits.
/// It tells versions apart; it protects against nothing.
fn version(shape: &str, used: &BTreeSet<String>) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let used = used.iter().flat_map(|text| text.bytes());
    let hash = shape
        .bytes()
        .chain(used)
        .fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{:012x}", hash >> 16)
}
