//! YAML text to values that know their place: how rule files and the configuration are read. What
//! the values mean is for those who read them to say, with all mistakes at once, which a derived
//! deserializer does not do: it stops at the first.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Options, Spanned};

/// Deepest nesting of a file; the rule language needs seven levels.
pub(crate) const YAML_DEPTH_MAX: usize = 32;
/// Most nodes of a file, aliases expanded: some fifty times the largest shipped rule file.
pub(crate) const YAML_NODES_MAX: usize = 200_000;
/// Most aliases of a file; the rule language has lists and macros instead.
pub(crate) const YAML_ALIASES_MAX: usize = 1_000;

/// Why a text is not taken.
pub(crate) struct Refused {
    /// Where; `None` where the parser does not say.
    pub(crate) location: Option<Location>,
    /// The parser's words, without the place.
    pub(crate) message: String,
}

/// Reads one document, within bounds. A key that is given twice is refused here or handed on,
/// as `twice` says.
pub(crate) fn parse(text: &str, twice: DuplicateKeyPolicy) -> Result<Spanned<Raw>, Refused> {
    let budget = serde_saphyr::budget! {
        max_depth: YAML_DEPTH_MAX,
        flow_nesting_limit: YAML_DEPTH_MAX,
        max_nodes: YAML_NODES_MAX,
        max_events: YAML_NODES_MAX * 2,
        max_aliases: YAML_ALIASES_MAX,
    };
    let options: Options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: twice,
        strict_booleans: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: YAML_NODES_MAX,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let words = error.without_snippet().to_string();
        let words = words.trim_start_matches("error: ");
        let words = words
            .split_once(": ")
            .map_or(words, |(place, rest)| if place.starts_with("line ") { rest } else { words });
        Refused { location: error.location(), message: words.to_owned() }
    })
}

/// A value as YAML 1.2 resolves it: only `true` and `false` are truths.
pub(crate) enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
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
        // What does not fit is no number that anybody has a use for; as text it fails the check of
        // its type with its own spelling.
        Ok(i64::try_from(number).map_or_else(|_| Raw::Text(number.to_string()), Raw::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
