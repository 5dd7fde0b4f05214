//! The raw form: a YAML tree in which every node knows its place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Options, Spanned};

/// Place of a node: line and column, from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) raw: Raw,
}

/// A value as YAML resolves it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its place, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) mark: Mark,
    pub(super) node: Node,
}

/// Reads one document. The error is the parser's own message and place.
pub(super) fn parse(text: &str) -> Result<Node, (Mark, String)> {
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        let mark = error.location().map_or(Mark { line: 1, column: 1 }, |at| Mark {
            line: at.line(),
            column: at.column(),
        });
        let message = error.without_snippet().to_string();
        (mark, message.lines().next().unwrap_or("unreadable").to_owned())
    })
}

impl Raw {
    /// The type, as an error message names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "empty".into(),
            Self::Bool(truth) => format!("`{truth}`"),
            Self::Int(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Text(text) => format!("the text `{text}`"),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Raw>::deserialize(deserializer)?;
        let mark = Mark { line: spanned.referenced.line(), column: spanned.referenced.column() };
        Ok(Self { mark, raw: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        // Above i64 no setting has a meaning; the text form is refused with its own message.
        Ok(i64::try_from(number).map_or_else(|_| Raw::Text(number.to_string()), Raw::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let mark = Mark { line: key.referenced.line(), column: key.referenced.column() };
            entries.push(Entry { key: key.value, mark, node: map.next_value::<Node>()? });
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_and_key_knows_its_place() {
        let node = parse("a: 1\nb:\n  - x\n  - {c: yes}\n").unwrap();
        let Raw::Map(entries) = &node.raw else { panic!("{node:?}") };
        assert_eq!(entries[0].mark, Mark { line: 1, column: 1 });
        assert_eq!(entries[0].node.mark, Mark { line: 1, column: 4 });
        let Raw::List(items) = &entries[1].node.raw else { panic!("{entries:?}") };
        assert_eq!(items[0].mark, Mark { line: 3, column: 5 });
        let Raw::Map(inner) = &items[1].raw else { panic!("{items:?}") };
        assert_eq!(inner[0].mark, Mark { line: 4, column: 6 });
        assert_eq!(inner[0].node.raw, Raw::Text("yes".into()), "YAML 1.2: not a boolean");
    }

    #[test]
    fn a_key_written_twice_is_an_error_at_the_second() {
        let (mark, message) = parse("a: 1\na: 2\n").unwrap_err();
        assert_eq!(mark.line, 2, "{message}");
        assert!(message.contains("duplicate"), "{message}");
    }
}
