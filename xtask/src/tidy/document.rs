//! Documents point at what is there.

use pulldown_cmark::{Event, Parser, Tag};

use super::{Finding, Source};

/// Folders at the top of the tree: inline code that begins with one of them names a file.
const TOP: &[&str] = &[
    ".ci/",
    ".cargo/",
    "deploy/",
    "docs/",
    "monitor-common/",
    "monitor-ebpf/",
    "monitor/",
    "rules/",
    "tests/",
    "xtask/",
];

pub(super) fn check(source: &Source, paths: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (event, range) in Parser::new(&source.text).into_offset_iter() {
        let line = source.text[..range.start].matches('\n').count() + 1;
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                if let Some(target) = relative_target(&source.path, &dest_url)
                    && !exists(&target, paths)
                {
                    let message = format!("link to `{target}`, which is not there");
                    findings.push(source.finding(line, "link", message));
                }
            }
            Event::Code(code) => {
                if let Some(file) = file_in_code(&code)
                    && !exists(file, paths)
                {
                    let message = format!("mentions `{file}`, which is not there");
                    findings.push(source.finding(line, "link", message));
                }
            }
            _ => {}
        }
    }
    findings
}

/// CHANGELOG.md is there, and has a place for what comes next.
pub(super) fn check_changelog(sources: &[Source]) -> Vec<Finding> {
    let Some(changelog) = sources.iter().find(|source| source.path == "CHANGELOG.md") else {
        let file = "CHANGELOG.md".to_owned();
        return vec![Finding { file, line: 1, check: "changelog", message: "missing".to_owned() }];
    };
    if changelog.text.lines().any(|line| line.trim() == "## [Unreleased]") {
        return Vec::new();
    }
    vec![changelog.finding(1, "changelog", "has no section `## [Unreleased]`")]
}

/// The file a link leads to, from the top of the tree; `None` for links that leave the tree.
fn relative_target(from: &str, url: &str) -> Option<String> {
    let path = url.split(['#', '?']).next().unwrap_or_default();
    if path.is_empty() || path.starts_with('/') || url.contains("://") || url.contains("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Inline code that names a file of the tree, with no pattern or placeholder in it.
fn file_in_code(code: &str) -> Option<&str> {
    let is_pattern = code.contains(['*', '<', '{', '$', ' ', '…', ':']) || code.contains("...");
    (TOP.iter().any(|top| code.starts_with(top)) && !is_pattern).then_some(code)
}

fn exists(target: &str, paths: &[String]) -> bool {
    let target = target.trim_end_matches('/');
    paths.iter().any(|path| {
        path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::source;
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let paths = ["README.md".to_owned(), "docs/a.md".to_owned(), "rules/x/y.yaml".to_owned()];
        check(&source(path, text), &paths).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn broken_link_is_found_from_where_it_stands() {
        assert!(messages("docs/a.md", "[up](../README.md#top) [dir](../rules/x)").is_empty());
        assert_eq!(
            messages("docs/a.md", "\n[up](README.md)"),
            ["docs/a.md:2: link: link to `docs/README.md`, which is not there"]
        );
    }

    #[test]
    fn link_that_leaves_the_tree_is_not_followed() {
        assert!(messages("README.md", "[a](https://example.org/x) [b](#here)").is_empty());
    }

    #[test]
    fn file_named_in_code_must_be_there() {
        assert!(messages("README.md", "`rules/x/y.yaml` `rules/*/y.yaml` `cargo test`").is_empty());
        assert_eq!(
            messages("README.md", "`rules/x/z.yaml`"),
            ["README.md:1: link: mentions `rules/x/z.yaml`, which is not there"]
        );
    }

    #[test]
    fn changelog_needs_a_place_for_what_comes_next() {
        assert_eq!(check_changelog(&[]).len(), 1);
        assert_eq!(check_changelog(&[source("CHANGELOG.md", "# Changelog\n")]).len(), 1);
        assert!(check_changelog(&[source("CHANGELOG.md", "## [Unreleased]\n")]).is_empty());
    }
}
