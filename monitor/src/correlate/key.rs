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
        out.push(SEPARATOR);
        push_number(out, bytes);
        out.push(SEPARATOR);
        is_there
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
        Value::Str(text) => {
            out.push_str(cut(text));
            Ok(())
        }
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

/// Writes a number in decimal digits: it is one of a length, so a few, and keys are made for each
/// match.
fn push_number(out: &mut String, number: usize) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(char::from(b'0' + u8::try_from(number % 10).unwrap_or(0)));
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
