//! `docs/rules.md`, made from the rules: what each tells, of what it stays silent, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::RuleSet;
use super::reference::{cell, kind_words};
use super::spec::{Rule, RuleTest};

/// The rules and profiles of `set`, as Markdown: a table, then a section for each subject, which is
/// the folder that a rule's file lies in.
pub fn rules_markdown(set: &RuleSet) -> String {
    // Writing to a string cannot fail.
    page(set).unwrap_or_default()
}

fn page(set: &RuleSet) -> Result<String, std::fmt::Error> {
    let mut out = String::from(
        "# Rules\n\n\
         Every rule that is shipped. This page is made from `rules/`; `gpuwarden rules list\n\
         --markdown rules/` prints the same of any folder. What a rule fires on, and what it\n\
         leaves alone, are the names of its tests.\n\n\
         | code | rule | severity | what it tells |\n|---|---|---|---|\n",
    );
    let alerting: Vec<&Rule> =
        set.rules.iter().map(|rule| &**rule).filter(|rule| rule.meta.alerts).collect();
    let mut rows: Vec<String> = alerting.iter().map(|rule| row(rule)).collect();
    rows.sort();
    out.extend(rows);
    let mut subjects: BTreeMap<String, Vec<&Rule>> = BTreeMap::new();
    for rule in alerting {
        subjects.entry(subject(rule)).or_default().push(rule);
    }
    for (subject, rules) in subjects {
        write!(out, "\n## {subject}\n")?;
        for rule in rules {
            section(rule, &mut out)?;
        }
    }
    blocks(set, &mut out)?;
    profiles(set, &mut out)?;
    Ok(out)
}

fn row(rule: &Rule) -> String {
    let meta = &rule.meta;
    let code = meta.tags.code.join(", ");
    let (id, severity, title) = (&meta.id, meta.severity, cell(&meta.title));
    format!("| {code} | [`{id}`](#{id}) | {severity} | {title} |\n")
}

fn subject(rule: &Rule) -> String {
    let folder = Path::new(&rule.meta.source).parent().and_then(Path::file_name);
    folder.map_or_else(|| "rules".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn section(rule: &Rule, out: &mut String) -> std::fmt::Result {
    let meta = &rule.meta;
    write!(out, "\n### {}\n\n{}.\n\n", meta.id, meta.title)?;
    let mut facts = vec![meta.severity.to_string(), kind_words(rule.kinds)];
    for (name, ids, version) in [
        ("ATT&CK", &meta.tags.attack, &meta.tags.attack_version),
        ("ATLAS", &meta.tags.atlas, &meta.tags.atlas_version),
    ] {
        if !ids.is_empty() {
            let version = version.as_deref().unwrap_or_default();
            facts.push(format!("{name} {version}: {}", ids.join(", ")));
        }
    }
    write!(out, "{}\n\n", facts.join(" · "))?;
    let fires = |test: &&RuleTest| test.expect.iter().any(|wanted| wanted.count > 0);
    let (loud, silent): (Vec<&RuleTest>, Vec<&RuleTest>) = rule.tests.iter().partition(fires);
    listed("Fires:", loud.iter().map(|test| test.name.as_str()), out)?;
    listed("Stays silent:", silent.iter().map(|test| test.name.as_str()), out)?;
    listed("Also fires on:", meta.false_positives.iter().map(String::as_str), out)?;
    if !meta.runbook.is_empty() {
        writeln!(out, "What to do: {}", meta.runbook.trim())?;
    }
    Ok(())
}

fn listed<'t>(
    head: &str,
    items: impl Iterator<Item = &'t str>,
    out: &mut String,
) -> std::fmt::Result {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return Ok(());
    }
    write!(out, "{head}\n\n")?;
    for item in items {
        writeln!(out, "- {item}")?;
    }
    writeln!(out)
}

/// Rules that only others wait for.
fn blocks(set: &RuleSet, out: &mut String) -> std::fmt::Result {
    let mut blocks = set.rules.iter().filter(|rule| !rule.meta.alerts).peekable();
    if blocks.peek().is_none() {
        return Ok(());
    }
    write!(out, "\n## Building blocks\n\nThey alert nobody; sequences above wait for them.\n\n")?;
    for rule in blocks {
        writeln!(out, "- `{}`: {}", rule.meta.id, rule.meta.title)?;
    }
    Ok(())
}

fn profiles(set: &RuleSet, out: &mut String) -> std::fmt::Result {
    if set.profiles.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "\n## Profiles\n\nTried in this order; the first that matches is taken.\n\n\
         | profile | role | selected by |\n|---|---|---|\n"
    )?;
    for profile in set.profiles.iter() {
        let role = profile.role.map_or("", |role| role.as_str());
        let isolated = if profile.isolated { ", isolated" } else { "" };
        let text = profile.match_text.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(out, "| {} | {role}{isolated} | `{}` |", profile.id, cell(&text))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set to write the page instead of comparing it.
    const BLESS: &str = "GPUWARDEN_BLESS";

    #[test]
    fn the_page_of_rules_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let set = RuleSet::read_paths(&[root.join("rules")]);
        let set = set.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let (path, want) = (root.join("docs/rules.md"), rules_markdown(&set));
        if std::env::var_os(BLESS).is_some() {
            std::fs::write(&path, &want).expect("written");
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == want, "docs/rules.md is out of date; run the tests with {BLESS}=1");
    }

    /// The catalogue of detections of the first release, by code.
    const FIRST_RELEASE: [&str; 36] = [
        "A-01", "A-02", "A-03", "A-04", "A-05", "A-06", "A-07", "A-08", "E-01", "E-02", "E-03",
        "E-04", "E-05", "E-06", "E-07", "E-08", "E-09", "E-10", "E-11", "M-01", "M-02", "M-03",
        "M-04", "X-01", "X-02", "X-03", "X-04", "X-05", "X-06", "X-09", "X-10", "P-01", "T-01",
        "T-02", "T-04", "T-06",
    ];

    #[test]
    fn every_detection_of_the_first_release_has_a_rule_and_every_alert_a_code() {
        let set = RuleSet::load(&super::super::shipped());
        let set = set.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        for code in FIRST_RELEASE {
            let has = |rule: &std::sync::Arc<Rule>| rule.meta.tags.code.iter().any(|it| it == code);
            assert!(set.rules.iter().any(has), "no rule has the code {code}");
        }
        for rule in set.rules.iter().filter(|rule| rule.meta.alerts) {
            assert!(!rule.meta.tags.code.is_empty(), "{} has no code", rule.meta.id);
        }
    }
}
