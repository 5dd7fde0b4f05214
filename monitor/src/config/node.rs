//! The raw form: a YAML tree in which every node knows its place.

use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use crate::yaml;

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
    let parsed = yaml::parse(text, DuplicateKeyPolicy::Error);
    parsed.map(node).map_err(|yaml::Refused { location, message }| {
        let place = location.map_or(Mark { line: 1, column: 1 }, mark);
        (place, message.lines().next().unwrap_or("unreadable").to_owned())
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

fn node(raw: Spanned<yaml::Raw>) -> Node {
    let value = match raw.value {
        yaml::Raw::Null => Raw::Null,
        yaml::Raw::Bool(truth) => Raw::Bool(truth),
        yaml::Raw::Int(number) => Raw::Int(number),
        yaml::Raw::Float(number) => Raw::Float(number),
        yaml::Raw::Text(text) => Raw::Text(text),
        yaml::Raw::List(items) => Raw::List(items.into_iter().map(node).collect()),
        yaml::Raw::Map(entries) => Raw::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    mark: mark(key.referenced),
                    key: key.value,
                    node: node(value),
                })
                .collect(),
        ),
    };
    Node { mark: mark(raw.referenced), raw: value }
}

fn mark(place: Location) -> Mark {
    Mark { line: place.line(), column: place.column() }
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
