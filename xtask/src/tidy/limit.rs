//! Every bound in the code has a line in LIMITS.md, and every line there a bound in the code.

use super::rust::Bound;
use super::{Finding, Source};

const DOCUMENT: &str = "LIMITS.md";

pub(super) fn check(sources: &[Source], bounds: &[Bound]) -> Vec<Finding> {
    let Some(document) = sources.iter().find(|source| source.path == DOCUMENT) else {
        let message = "missing: it lists every bound".to_owned();
        return vec![Finding { file: DOCUMENT.to_owned(), line: 1, check: "limits", message }];
    };
    let listed = listed(document);
    let mut findings = Vec::new();
    for Bound { name, file, line } in bounds {
        if !listed.iter().any(|(known, _)| known == name) {
            let message = format!("`{name}` has no line in {DOCUMENT}");
            let (file, line) = (file.clone(), *line);
            findings.push(Finding { file, line, check: "limits", message });
        }
    }
    for (name, line) in listed {
        if !is_mentioned(sources, &name) {
            let message = format!("`{name}` bounds nothing in the code any more");
            findings.push(document.finding(line, "limits", message));
        }
    }
    findings
}

/// Names in the first column of the document's tables, with their lines.
fn listed(document: &Source) -> Vec<(String, usize)> {
    let row = |(at, line): (usize, &str)| {
        let name = line.strip_prefix("| `")?.split_once('`')?.0;
        let is_constant = name
            .chars()
            .all(|letter| letter.is_ascii_uppercase() || "_0123456789".contains(letter));
        is_constant.then(|| (name.to_owned(), at + 1))
    };
    document.text.lines().enumerate().filter_map(row).collect()
}

fn is_mentioned(sources: &[Source], name: &str) -> bool {
    let declaration = format!("const {name}:");
    sources
        .iter()
        .filter(|source| source.is_rust())
        .any(|source| source.text.contains(&declaration))
}

#[cfg(test)]
mod tests {
    use super::super::tests::source;
    use super::*;

    fn bound(name: &str) -> Bound {
        Bound { name: name.to_owned(), file: "a.rs".to_owned(), line: 3 }
    }

    #[test]
    fn bound_without_a_line_and_line_without_a_bound_are_found() {
        let sources = [
            source(
                "LIMITS.md",
                "| name | value |\n|---|---|\n| `OLD_MAX` | 1 |\n| `A_MAX` | 2 |\n",
            ),
            source("a.rs", "const A_MAX: u8 = 2;"),
        ];
        let findings = check(&sources, &[bound("A_MAX"), bound("NEW_MAX")]);
        let messages: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "a.rs:3: limits: `NEW_MAX` has no line in LIMITS.md",
                "LIMITS.md:3: limits: `OLD_MAX` bounds nothing in the code any more",
            ]
        );
    }

    #[test]
    fn missing_document_is_found() {
        assert_eq!(check(&[], &[]).len(), 1);
    }
}
