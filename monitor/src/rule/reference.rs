//! `docs/fields.md`, made from the field catalogue.

use std::fmt::Write as _;

use crate::model::{CATALOGUE, EventKind, KindSet};

use super::cel::words;

/// The reference of every field, as Markdown.
pub fn fields_markdown() -> String {
    let mut out = String::from(
        "# Fields\n\n\
         Every name a condition or a message may use. This page is made from the catalogue in\n\
         `monitor/src/model/field.rs`; `gpuwarden rules fields` prints the same.\n\n\
         A field that an event does not have is *missing*: comparing it is an error, which counts\n\
         as no match. Ask with `has(field)`.\n",
    );
    let mut family = "";
    for field in CATALOGUE {
        let own = field.name.split('.').next().unwrap_or_default();
        if own != family {
            family = own;
            let head = "| field | type | events | meaning | example |\n|---|---|---|---|---|";
            write!(out, "\n## {family}\n\n{head}\n").expect("writing to a string cannot fail");
        }
        let (name, kind, meaning) = (field.name, field.field_type, field.meaning);
        let (kinds, example) = (kind_words(field.kinds), cell(field.example));
        let meaning = cell(meaning);
        writeln!(out, "| `{name}` | {kind} | {kinds} | {meaning} | `{example}` |")
            .expect("writing to a string cannot fail");
    }
    out
}

/// The kinds of event that carry a field, in words.
pub fn kind_words(kinds: KindSet) -> String {
    if kinds == KindSet::ALL {
        return "all".to_owned();
    }
    let missing: Vec<_> = KindSet::ALL.iter().filter(|kind| !kinds.contains(*kind)).collect();
    if let [only] = missing.as_slice() {
        return format!("all but {only}");
    }
    words(kinds.iter().map(EventKind::as_str), "and")
}

pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set to write the page instead of comparing it.
    const BLESS: &str = "GPUWARDEN_BLESS";

    #[test]
    fn the_page_of_fields_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fields.md");
        let want = fields_markdown();
        if std::env::var_os(BLESS).is_some() {
            std::fs::write(path, &want).expect("written");
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == want, "docs/fields.md is out of date; run the tests with {BLESS}=1");
    }

    #[test]
    fn every_example_of_the_catalogue_is_a_condition_that_loads() {
        for field in CATALOGUE {
            let on: Vec<&str> = field.kinds.iter().map(EventKind::as_str).collect();
            let text = format!(
                "apiVersion: gpuwarden.dev/v1\nrules:\n- id: r\n  title: t\n  severity: low\n  \
                 message: '{{{{{}}}}}'\n  on: [{}]\n  when: |-\n    {}\n",
                field.name,
                on.join(", "),
                field.example
            );
            let set = super::super::tests::load(&text);
            let set = set.unwrap_or_else(|mistakes| panic!("{}: {mistakes}", field.name));
            assert!(set.rules[0].fields.contains(&field.id), "{}", field.name);
        }
    }
}
