//! Message templates: `{{workload.name}} sent {{sum|bytes}}`.
//!
//! Holes and sections are written as in Mustache (mustache(5)): what stands between `{{#field}}`
//! and `{{/field}}` is written where the field is known, and left out where it is missing.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::{Facts, FieldId, FieldType, Value};

use super::cel::{Context, check};
use super::diagnostic::{Located, Reported, Span};
use super::spec::{Render, Vars};
use super::yaml::within;

/// Longest rendered message, in bytes; an attacker chooses names and arguments, not the size of
/// an alert.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4_096;
/// Most items of a list that are written into a message.
pub(crate) const MESSAGE_ITEMS_MAX: usize = 8;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Bytes,
    Duration,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Field(FieldId, Format),
    Var(VarName, Format),
    /// Written where the field is known.
    Section(FieldId, Vec<Piece>),
}

/// What stands between `{{` and `}}`.
#[derive(Debug)]
enum Hole {
    Value(Piece),
    /// `{{#field}}`
    Open(FieldId),
    /// `{{/field}}`
    Close(FieldId),
}

/// A section that is not closed yet.
struct Open {
    field: FieldId,
    span: Span,
    /// What stands before it.
    before: Vec<Piece>,
}

#[derive(Clone, Copy, Debug)]
enum VarName {
    Count,
    Sum,
    Distinct,
}

/// A checked template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    pub(crate) fields: BTreeSet<FieldId>,
}

impl Template {
    /// Reads a template; every mistake is reported.
    pub(crate) fn of(text: &Located<String>, context: &Context<'_>) -> Result<Self, Reported> {
        let mut template = Self { pieces: Vec::new(), fields: BTreeSet::new() };
        let mut open: Option<Open> = None;
        let mut failed = None;
        let mut rest = text.value.as_str();
        while let Some((before, tail)) = rest.split_once("{{") {
            template.pieces.push(Piece::Text(before.to_owned()));
            let at = text.value.len() - tail.len();
            let from = text.value[..at].chars().count();
            let Some((inside, after)) = tail.split_once("}}") else {
                let spot = within(context.sink, text, from - 2, from);
                return Err(context.sink.error(spot, "`{{` is never closed by `}}`"));
            };
            let to = from + inside.chars().count();
            let spot = Located {
                value: inside.to_owned(),
                span: within(context.sink, text, from, to.max(from + 1)),
            };
            let taken = template
                .hole(&spot, context)
                .and_then(|hole| template.take(hole, spot.span, &mut open, context));
            if let Err(reported) = taken {
                failed = Some(reported);
            }
            rest = after;
        }
        template.pieces.push(Piece::Text(rest.to_owned()));
        // A section whose end has a mistake of its own is not reported twice.
        if let (Some(open), false) = (open, failed.is_some()) {
            let name = open.field.name();
            let message = format!("section `{{{{#{name}}}}}` is never closed");
            let help = format!("end it with `{{{{/{name}}}}}`");
            failed = Some(context.sink.error_help(open.span, message, help));
        }
        failed.map_or(Ok(template), Err)
    }

    /// Puts a hole into its place.
    fn take(
        &mut self,
        hole: Hole,
        span: Span,
        open: &mut Option<Open>,
        context: &Context<'_>,
    ) -> Result<(), Reported> {
        match hole {
            Hole::Value(piece) => self.pieces.push(piece),
            Hole::Open(field) => {
                if let Some(outer) = open {
                    let message =
                        format!("a section within the section of `{}`", outer.field.name());
                    let help = "close the outer one first; sections do not nest";
                    return Err(context.sink.error_help(span, message, help));
                }
                *open = Some(Open { field, span, before: std::mem::take(&mut self.pieces) });
            }
            Hole::Close(field) => match open.take() {
                Some(Open { field: opened, before, .. }) if opened == field => {
                    let inside = std::mem::replace(&mut self.pieces, before);
                    self.pieces.push(Piece::Section(field, inside));
                }
                other => {
                    let help = other.as_ref().map_or_else(
                        || "no section is open here".to_owned(),
                        |open| format!("the open section is that of `{}`", open.field.name()),
                    );
                    *open = other;
                    let message = format!("`{{{{/{}}}}}` closes no section", field.name());
                    return Err(context.sink.error_help(span, message, help));
                }
            },
        }
        Ok(())
    }

    /// Reads `#field` or `/field`.
    fn mark(&mut self, hole: &Located<String>, context: &Context<'_>) -> Result<Hole, Reported> {
        let mut name = hole.value.trim().chars();
        let opens = name.next() == Some('#');
        let place = Located { value: name.as_str().trim().to_owned(), span: hole.span };
        let id = self.field(&place, context)?;
        Ok(if opens { Hole::Open(id) } else { Hole::Close(id) })
    }

    /// A field that a message may speak of.
    fn field(
        &mut self,
        place: &Located<String>,
        context: &Context<'_>,
    ) -> Result<FieldId, Reported> {
        let name = place.value.as_str();
        if !name.contains('.') {
            let help = super::cel::nearest_field(name)
                .map_or_else(|| "write a field".to_owned(), |n| format!("did you mean `{n}`?"));
            let message = format!("`{name}` is not a field");
            return Err(context.sink.error_help(place.span, message, help));
        }
        let checked = check(place, context)?;
        let Some(id) = FieldId::from_name(name).filter(|id| checked.fields.contains(id)) else {
            return Err(context.sink.error(place.span, "a message takes fields only"));
        };
        self.fields.insert(id);
        Ok(id)
    }

    fn hole(&mut self, hole: &Located<String>, context: &Context<'_>) -> Result<Hole, Reported> {
        if hole.value.trim_start().starts_with(['#', '/']) {
            return self.mark(hole, context);
        }
        let (name, format) = match hole.value.split_once('|') {
            None => (hole.value.trim(), Format::Plain),
            Some((name, "bytes")) => (name.trim(), Format::Bytes),
            Some((name, "duration")) => (name.trim(), Format::Duration),
            Some((_, other)) => {
                let message = format!("unknown format `{other}`");
                let help = "expected `bytes` or `duration`";
                return Err(context.sink.error_help(hole.span, message, help));
            }
        };
        let var = match name {
            "count" => Some(VarName::Count),
            "sum" => Some(VarName::Sum),
            "distinct" => Some(VarName::Distinct),
            _ => None,
        };
        if let Some(var) = var {
            if context.vars.contains(&name) {
                return Ok(Hole::Value(Piece::Var(var, format)));
            }
            let message = super::cel::no_variable(name, context.vars);
            return Err(context.sink.error(hole.span, message));
        }
        let place = Located { value: name.to_owned(), span: hole.span };
        let id = self.field(&place, context)?;
        let numeric = matches!(id.field_type(), FieldType::Int | FieldType::Float);
        if format != Format::Plain && !numeric {
            let message = format!("`{name}` is a {}, only numbers have formats", id.field_type());
            return Err(context.sink.error(hole.span, message));
        }
        Ok(Hole::Value(Piece::Field(id, format)))
    }

    /// The closure that writes the message.
    pub(crate) fn render(self) -> Render {
        Box::new(move |facts, vars| self.write(facts, vars))
    }

    fn write(&self, facts: &dyn Facts, vars: &Vars) -> String {
        let mut out = String::with_capacity(128);
        write_pieces(&mut out, &self.pieces, facts, vars);
        if out.len() > MESSAGE_BYTES_MAX {
            let mut end = MESSAGE_BYTES_MAX - '…'.len_utf8();
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
            out.push('…');
        }
        out
    }
}

fn write_pieces(out: &mut String, pieces: &[Piece], facts: &dyn Facts, vars: &Vars) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Field(id, format) => write_value(out, facts.field(*id), *format),
            Piece::Var(name, format) => {
                let number = match name {
                    VarName::Count => vars.count,
                    VarName::Sum => vars.sum,
                    VarName::Distinct => vars.distinct,
                };
                write_value(out, Value::Int(number), *format);
            }
            // Sections hold no sections, so this goes one level down at most.
            Piece::Section(id, inside) if facts.field(*id) != Value::Missing => {
                write_pieces(out, inside, facts, vars);
            }
            Piece::Section(..) => {}
        }
    }
}

fn write_value(out: &mut String, value: Value<'_>, format: Format) {
    let done = match (value, format) {
        (Value::Missing, _) => write!(out, "?"),
        (Value::Bool(truth), _) => write!(out, "{truth}"),
        (Value::Int(number), Format::Bytes) => write!(out, "{}", bytes(super::cel::widen(number))),
        (Value::Float(number), Format::Bytes) => write!(out, "{}", bytes(number)),
        (Value::Int(number), Format::Duration) => {
            write!(out, "{}", duration(super::cel::widen(number)))
        }
        (Value::Float(number), Format::Duration) => write!(out, "{}", duration(number)),
        (Value::Int(number), Format::Plain) => write!(out, "{number}"),
        (Value::Float(number), Format::Plain) => write!(out, "{}", plain(number)),
        (Value::Str(text), _) => write!(out, "{text}"),
        (Value::Ip(ip), _) => write!(out, "{ip}"),
        (Value::List(items), _) => write_items(out, items.iter().map(|item| item.as_str().into())),
        (Value::Map(map), _) => {
            write_items(out, map.iter().map(|(key, value)| format!("{key}={value}").into()))
        }
    };
    done.expect("writing to a string cannot fail");
}

fn write_items<'i>(
    out: &mut String,
    items: impl ExactSizeIterator<Item = Cow<'i, str>>,
) -> std::fmt::Result {
    let total = items.len();
    for (at, item) in items.take(MESSAGE_ITEMS_MAX).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(out, "{comma}{item}")?;
    }
    if total > MESSAGE_ITEMS_MAX {
        write!(out, " and {} more", total - MESSAGE_ITEMS_MAX)?;
    }
    Ok(())
}

/// At most two digits after the point, none where they say nothing.
fn plain(number: f64) -> String {
    let text = format!("{number:.2}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// `1.5 GiB`.
fn bytes(amount: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = amount;
    let mut unit = 0;
    while amount.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{} {}", plain((amount * 10.0).round() / 10.0), UNITS[unit])
}

/// `1h 2m 3s` of seconds; parts of a second only below one minute.
fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds.abs() >= 1e15 {
        return format!("{seconds}s");
    }
    if seconds.abs() < 60.0 {
        return format!("{}s", plain(seconds));
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    let whole = seconds.abs().round() as i64;
    let sign = if seconds < 0.0 { "-" } else { "" };
    let parts = [(whole / 86_400, "d"), (whole / 3_600 % 24, "h"), (whole / 60 % 60, "m")];
    let mut words: Vec<String> = parts
        .iter()
        .filter(|(amount, _)| *amount > 0)
        .map(|(amount, unit)| format!("{amount}{unit}"))
        .collect();
    if whole % 60 > 0 {
        words.push(format!("{}s", whole % 60));
    }
    format!("{sign}{}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_for_people() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(64.0 * 1_048_576.0), "64 MiB");
        assert_eq!(
            bytes(1e30),
            format!("{} PiB", plain((1e30 / 1024f64.powi(5) * 10.0).round() / 10.0))
        );
        assert_eq!(duration(0.25), "0.25s");
        assert_eq!(duration(3723.0), "1h 2m 3s");
        assert_eq!(duration(90_000.0), "1d 1h");
        assert_eq!(duration(f64::NAN), "NaNs");
        assert_eq!(plain(100.0), "100");
        assert_eq!(plain(2.5), "2.5");
    }
}
