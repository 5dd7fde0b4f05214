//! The `correlate:` block: every window has a bound, every key is a field its events carry.

use std::collections::BTreeSet;

use crate::model::{EventKind, FieldId, FieldType, KindSet, RuleId};

use super::cel::{Condition, Context, Names, nearest_field, words};
use super::diagnostic::{Located, Reported, Sink, Span, suggest};
use super::file::{RawCorrelate, RawWindow};
use super::quantity::{format_span, parse_span};
use super::spec::{Correlation, CorrelationKind, Window};

/// Longest window: 30 days in nanoseconds. State lives that long, and a host rarely lives longer.
pub(crate) const WINDOW_SPAN_NS_MAX: u64 = 30 * 24 * 3_600 * 1_000_000_000;
/// Shortest window: a millisecond in nanoseconds; below it the order of events is not certain.
pub(crate) const WINDOW_SPAN_NS_MIN: u64 = 1_000_000;
/// Most fields in a key; more make a key of nearly every event.
pub(crate) const KEY_FIELDS_MAX: usize = 8;
/// Most rules a temporal correlation names; each has its own state per key.
pub(crate) const TEMPORAL_RULES_MAX: usize = 8;

/// The types of correlation, as files name them.
pub(crate) const TYPES: [&str; 5] =
    ["event_count", "value_count", "value_sum", "temporal", "temporal_ordered"];
/// The kinds of window, as files name them.
pub(crate) const WINDOWS: [&str; 3] = ["sliding", "tumbling", "session"];

/// What a checked block adds to its rule.
pub(crate) struct Checked {
    pub(crate) correlation: Correlation,
    pub(crate) fields: BTreeSet<FieldId>,
    pub(crate) used: BTreeSet<String>,
}

/// The variables that a type of correlation keeps.
pub(crate) fn variables(raw: Option<&RawCorrelate>) -> &'static [&'static str] {
    let kind = raw.and_then(|raw| raw.kind.as_ref()).map(|kind| kind.value.as_str());
    match kind {
        None => &[],
        Some("value_count") => &["count", "distinct"],
        Some("value_sum") => &["count", "sum"],
        Some(_) => &["count"],
    }
}

/// Whether the block names other rules instead of counting events of its own.
pub(crate) fn is_temporal(raw: Option<&RawCorrelate>) -> bool {
    let kind = raw.and_then(|raw| raw.kind.as_ref());
    kind.is_some_and(|kind| kind.value.starts_with("temporal"))
}

/// Checks the block of a rule that looks at `kinds`.
pub(crate) fn check(
    raw: &RawCorrelate,
    kinds: KindSet,
    names: &Names,
    sink: &Sink,
) -> Result<Checked, Reported> {
    let mut fields = BTreeSet::new();
    let mut used = BTreeSet::new();
    let kind = check_kind(raw, kinds, sink);
    let group_by = check_key(&raw.group_by, kinds, "group_by", sink);
    if raw.group_by.is_empty() {
        let help = "name what is counted apart, such as `group_by: [workload.id]`";
        sink.error_help(raw.span, "`correlate` has no `group_by`", help);
    }
    let window = check_window(raw, sink);
    let vars = variables(Some(raw));
    let context = Context { sink, names, kinds, vars };
    let condition = match (&raw.condition, is_temporal(Some(raw))) {
        (Some(text), _) => Condition::of(text, &context).map(Some),
        (None, true) => Ok(None),
        (None, false) => {
            let help = "write when the window matches, such as `condition: 'count >= 10'`";
            Err(sink.error_help(raw.span, "`correlate` has no `condition`", help))
        }
    };
    let (kind, group_by, window, condition) = (kind?, group_by?, window?, condition?);
    if let Some(condition) = &condition {
        fields.extend(&condition.fields);
        used.extend(condition.used.iter().cloned());
        if let (Some(why), Some(text)) = (condition.impossible(kinds), &raw.condition) {
            let message = format!("the window can never match: {why}");
            return Err(sink.error(text.span, message));
        }
    }
    fields.extend(&group_by);
    if let CorrelationKind::ValueCount(id) | CorrelationKind::ValueSum(id) = &kind {
        fields.insert(*id);
    }
    let condition = condition.map(Condition::predicate);
    let correlation = Correlation { kind, group_by, window, condition };
    Ok(Checked { correlation, fields, used })
}

fn check_kind(
    raw: &RawCorrelate,
    kinds: KindSet,
    sink: &Sink,
) -> Result<CorrelationKind, Reported> {
    let kind = raw.kind.as_ref().ok_or(Reported)?;
    let of_field = || match &raw.field {
        Some(name) => check_field(name, kinds, "`field`", sink),
        None => Err(sink.error(kind.span, format!("`{}` needs a `field`", kind.value))),
    };
    let surplus =
        |key: &str, span: Span| Err(sink.error(span, format!("`{}` takes no `{key}`", kind.value)));
    let temporal = is_temporal(Some(raw));
    match (&raw.field, raw.rules.first()) {
        (_, Some(rule)) if !temporal => return surplus("rules", rule.span),
        (Some(field), _) if temporal || kind.value == "event_count" => {
            return surplus("field", field.span);
        }
        _ => {}
    }
    match kind.value.as_str() {
        "event_count" => Ok(CorrelationKind::EventCount),
        "value_count" => of_field().map(CorrelationKind::ValueCount),
        "value_sum" => {
            let id = of_field()?;
            if id.field_type() != FieldType::Int {
                let name = raw.field.as_ref().ok_or(Reported)?;
                let found = id.field_type();
                let message = format!("`{}` is a {found}, a sum needs an int field", name.value);
                return Err(sink.error(name.span, message));
            }
            Ok(CorrelationKind::ValueSum(id))
        }
        "temporal" => check_rules(raw, sink).map(CorrelationKind::Temporal),
        "temporal_ordered" => check_rules(raw, sink).map(CorrelationKind::TemporalOrdered),
        other => {
            let message = format!("unknown correlation type `{other}`");
            Err(sink.error_help(kind.span, message, suggest(other, TYPES)))
        }
    }
}

fn check_rules(raw: &RawCorrelate, sink: &Sink) -> Result<Vec<RuleId>, Reported> {
    if raw.rules.len() < 2 || raw.rules.len() > TEMPORAL_RULES_MAX {
        let message = format!(
            "a temporal correlation names 2 to {TEMPORAL_RULES_MAX} `rules`, this names {}",
            raw.rules.len()
        );
        return Err(sink.error(raw.span, message));
    }
    Ok(raw.rules.iter().map(|rule| RuleId::from(rule.value.as_str())).collect())
}

/// A field name outside a condition.
pub(crate) fn check_field(
    name: &Located<String>,
    kinds: KindSet,
    what: &str,
    sink: &Sink,
) -> Result<FieldId, Reported> {
    let Some(id) = FieldId::from_name(&name.value) else {
        let message = format!("{what} names the unknown field `{}`", name.value);
        let help = nearest_field(&name.value).map_or_else(
            || "`gpuwarden rules fields` lists every field".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(sink.error_help(name.span, message, help));
    };
    let row = id.row();
    if row.kinds.intersection(kinds).is_empty() {
        return Err(sink.error_help(
            name.span,
            format!(
                "no {} event has the field `{}`",
                words(kinds.iter().map(EventKind::as_str), "or"),
                row.name
            ),
            format!("it is carried by {}", words(row.kinds.iter().map(EventKind::as_str), "and")),
        ));
    }
    Ok(id)
}

/// The fields of a key.
pub(crate) fn check_key(
    names: &[Located<String>],
    kinds: KindSet,
    what: &str,
    sink: &Sink,
) -> Result<Vec<FieldId>, Reported> {
    let mut fields = Vec::with_capacity(names.len());
    let mut failed = None;
    for name in names {
        match check_field(name, kinds, &format!("`{what}`"), sink) {
            Ok(id) if matches!(id.field_type(), FieldType::Map | FieldType::List) => {
                let message = format!("`{}` is a {}, no key", name.value, id.field_type());
                failed = Some(sink.error(name.span, message));
            }
            Ok(id) if fields.contains(&id) => {
                failed = Some(sink.error(name.span, format!("`{}` is named twice", name.value)));
            }
            Ok(id) => fields.push(id),
            Err(reported) => failed = Some(reported),
        }
    }
    if let Some(extra) = names.get(KEY_FIELDS_MAX) {
        let message = format!("`{what}` names more than {KEY_FIELDS_MAX} fields");
        failed = Some(sink.error(extra.span, message));
    }
    failed.map_or(Ok(fields), Err)
}

fn check_window(raw: &RawCorrelate, sink: &Sink) -> Result<Window, Reported> {
    let Some(window) = &raw.window else {
        let help = "a window without bound would keep its state for ever; write \
                    `window: {kind: sliding, span: 10m}`";
        return Err(sink.error_help(raw.span, "`correlate` has no `window`", help));
    };
    let kind = window.kind.as_ref().ok_or(Reported)?;
    let span = check_span(window, window.length.as_ref(), "span", sink);
    match kind.value.as_str() {
        "session" => {
            let gap = check_span(window, window.gap.as_ref(), "gap", sink);
            let (gap_ns, span_max_ns) = (gap?, span?);
            if gap_ns > span_max_ns {
                return Err(sink.error(kind.span, "`gap` is longer than `span`"));
            }
            Ok(Window::Session { gap_ns, span_max_ns })
        }
        "sliding" | "tumbling" => {
            if let Some(gap) = &window.gap {
                sink.error(gap.span, "only a session window has a `gap`");
                return Err(Reported);
            }
            let span_ns = span?;
            Ok(match kind.value.as_str() {
                "sliding" => Window::Sliding { span_ns },
                _ => Window::Tumbling { span_ns },
            })
        }
        other => {
            let message = format!("unknown kind of window `{other}`");
            Err(sink.error_help(kind.span, message, suggest(other, WINDOWS)))
        }
    }
}

fn check_span(
    window: &RawWindow,
    text: Option<&Located<String>>,
    key: &str,
    sink: &Sink,
) -> Result<u64, Reported> {
    let Some(text) = text else {
        let message = format!("the window has no bound: `{key}` is missing");
        return Err(sink.error(window.span, message));
    };
    let span_ns = read_span(text, sink)?;
    if !(WINDOW_SPAN_NS_MIN..=WINDOW_SPAN_NS_MAX).contains(&span_ns) {
        let message = format!(
            "`{key}` is {}, allowed is {} to {}",
            text.value,
            format_span(WINDOW_SPAN_NS_MIN),
            format_span(WINDOW_SPAN_NS_MAX)
        );
        return Err(sink.error(text.span, message));
    }
    Ok(span_ns)
}

/// Reads a span of time such as `10m`, in nanoseconds.
pub(crate) fn read_span(text: &Located<String>, sink: &Sink) -> Result<u64, Reported> {
    parse_span(&text.value).ok_or_else(|| {
        sink.error_help(
            text.span,
            format!("`{}` is not a span of time", text.value),
            "write a number and ms, s, m, h or d, such as `90s` or `1h30m`",
        )
    })
}
