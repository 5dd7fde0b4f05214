//! `tidy`: the house rules, checked by a machine, all findings at once.

mod document;
mod limit;
mod rule_file;
mod rust;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cli::TidyArgs;
use crate::tree::Tree;

/// A file of the tree.
#[derive(Clone, Debug)]
struct Source {
    /// Relative to the top of the tree.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.has_extension(&["rs"])
    }

    fn is_markdown(&self) -> bool {
        self.has_extension(&["md"])
    }

    fn has_extension(&self, wanted: &[&str]) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|extension| wanted.iter().any(|wanted| extension == *wanted))
    }

    fn finding(&self, line: usize, check: &'static str, message: impl Into<String>) -> Finding {
        Finding { file: self.path.clone(), line, check, message: message.into() }
    }
}

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Finding {
    file: String,
    /// Counted from 1; 1 when the whole file is meant.
    line: usize,
    check: &'static str,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, check, message } = self;
        write!(f, "{file}:{line}: {check}: {message}")
    }
}

/// `cargo xtask tidy`.
pub(crate) fn run(tree: &Tree, args: &TidyArgs) -> Result<ExitCode> {
    let findings = check(tree)?;
    for finding in &findings {
        if args.json {
            println!("{}", serde_json::to_string(finding)?);
        } else {
            println!("{finding}");
        }
    }
    if findings.is_empty() {
        if !args.json {
            println!("tidy: nothing to mend");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.json {
        println!("\ntidy: {} to mend", findings.len());
    }
    Ok(ExitCode::FAILURE)
}

/// Every finding in the tree, in the order of files and lines.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let paths = tree.files()?;
    let mut sources = Vec::new();
    for path in &paths {
        let bytes = fs::read(tree.path(path)).with_context(|| format!("read {path}"))?;
        // What is not text (a recorded file, a picture) has no lines to check.
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path: path.clone(), text });
        }
    }
    Ok(check_sources(&sources, &paths))
}

fn check_sources(sources: &[Source], paths: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut bounds = Vec::new();
    for source in sources {
        findings.extend(text::check(source));
        if source.is_rust() {
            let seen = rust::check(source);
            findings.extend(seen.findings);
            bounds.extend(seen.bounds);
        }
        if source.is_markdown() {
            findings.extend(document::check(source, paths));
        }
        if source.path.starts_with("rules/") && source.has_extension(&["yaml", "yml"]) {
            findings.extend(rule_file::check(source));
        }
    }
    findings.extend(limit::check(sources, &bounds));
    findings.extend(document::check_changelog(sources));
    findings.extend(rust::check_daemon(sources));
    findings.sort();
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn all_findings_come_at_once_in_order() {
        let long = format!("// {}\n", "x".repeat(120));
        let sources = [
            source("monitor/src/b.rs", &long),
            source("monitor/src/a.rs", &format!("{long}{long}")),
        ];
        let lines: Vec<String> = check_sources(&sources, &[])
            .into_iter()
            .filter(|finding| finding.check == "line-length")
            .map(|finding| format!("{}:{}", finding.file, finding.line))
            .collect();
        assert_eq!(lines, ["monitor/src/a.rs:1", "monitor/src/a.rs:2", "monitor/src/b.rs:1"]);
    }
}
