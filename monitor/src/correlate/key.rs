//! Keys: the values of some fields of one event, as text that no two different lists share.

use std::fmt::Write;

use super::limit::KEY_VALUE_BYTES_MAX;
use crate::model::{Facts, FieldId, Value};

/// Ends a value in a key. The length that follows keeps `a|b` and `a`, `b` apart.
const SEPARATOR: char = '\u{1f}';

/// Writes the key of `facts` to `out`; `false` when one of the fields is missing.
pub(super) fn write_key(out: &mut String, facts: &dyn Facts, fields: &[FieldId]) -> bool {
    out.clear();
    fields.iter().all(|field| {
        let start = out.len();
        let is_there = write_value(out, facts.field(*field));
        let bytes = out.len() - start;
        write!(out, "{SEPARATOR}{bytes}{SEPARATOR}").is_ok() && is_there
    })
}

/// Writes one value to the end of `out`, cut at [`KEY_VALUE_BYTES_MAX`]; `false` when missing.
pub(super) fn write_value(out: &mut String, value: Value<'_>) -> bool {
    let start = out.len();
    let written = match value {
        Value::Missing => return false,
        Value::Bool(truth) => write!(out, "{truth}"),
        Value::Int(number) => write!(out, "{number}"),
        Value::Float(number) => write!(out, "{number}"),
        Value::Str(text) => write!(out, "{}", cut(text)),
        Value::Ip(ip) => write!(out, "{ip}"),
        Value::List(list) => list.iter().try_for_each(|text| write!(out, "{},", cut(text))),
        Value::Map(map) => {
            map.iter().try_for_each(|(name, text)| write!(out, "{}={},", cut(name), cut(text)))
        }
    };
    let end = start + cut(&out[start..]).len();
    out.truncate(end);
    written.is_ok()
}

/// The value of one field as text; empty when it is missing.
pub(super) fn value_text(value: Value<'_>) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(KEY_VALUE_BYTES_MAX)]
}
