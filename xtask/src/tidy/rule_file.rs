//! A rule arrives with something it must catch and something it must leave alone.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Finding, Source};

/// Tests that a rule has at least.
const RULE_TESTS_MIN: usize = 2;

#[derive(Debug, Deserialize)]
struct RuleFile {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    id: String,
    #[serde(default)]
    tests: Vec<IgnoredAny>,
}

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let file: RuleFile = match serde_saphyr::from_str(&source.text) {
        Ok(file) => file,
        Err(error) => return vec![source.finding(1, "rule-tests", error.to_string())],
    };
    let lacking = file.rules.iter().filter(|rule| rule.tests.len() < RULE_TESTS_MIN);
    lacking
        .map(|rule| {
            let message = format!(
                "rule `{}` has {} tests, at least {RULE_TESTS_MIN}: one that must fire and one \
                 that must not",
                rule.id,
                rule.tests.len()
            );
            source.finding(line_of(source, &rule.id), "rule-tests", message)
        })
        .collect()
}

fn line_of(source: &Source, id: &str) -> usize {
    let is_id = |line: &str| {
        line.trim_start_matches(['-', ' ']).strip_prefix("id:").is_some_and(|rest| {
            rest.split('#').next().is_some_and(|value| value.trim().trim_matches(['"', '\'']) == id)
        })
    };
    source.text.lines().position(is_id).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::source;
    use super::*;

    #[test]
    fn rule_with_one_test_is_found_at_its_line() {
        let text = "rules:\n- id: good\n  tests: [{a: 1}, {a: 2}]\n- id: poor\n  tests: [{a: 1}]\n";
        let findings = check(&source("rules/a/b.yaml", text));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 4);
        assert!(findings[0].message.contains("`poor` has 1 tests"));
    }

    #[test]
    fn file_of_profiles_needs_no_tests() {
        assert!(check(&source("rules/profiles/a.yaml", "profiles:\n- id: a\n")).is_empty());
    }

    #[test]
    fn file_that_is_not_yaml_is_found() {
        assert_eq!(check(&source("rules/a/b.yaml", "rules: [")).len(), 1);
    }
}
