//! The rules and profiles in the binary: what runs without any file.

use super::Source;

/// Name and text of every shipped file, in order of name.
const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped_rules.rs"));

/// The shipped rules and profiles. Their tests are run over the files they come from.
pub fn shipped() -> Vec<Source> {
    SHIPPED
        .iter()
        .map(|(name, text)| Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
            dir: None,
            untested: true,
        })
        .collect()
}

/// Whether a source of this name is a shipped file.
pub fn is_shipped(source: &str) -> bool {
    SHIPPED.iter().any(|(name, _)| *name == source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::RuleSet;

    #[test]
    fn shipped_rules_load_and_bring_the_headline_detections() {
        let set = RuleSet::load(&shipped()).unwrap_or_else(|errors| panic!("{errors}"));
        for id in ["isolated-training-egress", "weights-bulk-egress", "stratum-handshake"] {
            assert!(set.rules.iter().any(|rule| rule.meta.id.as_str() == id), "{id}");
        }
        assert!(!set.profiles.is_empty());
    }
}
