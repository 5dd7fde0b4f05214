//! Checks that need lines only.

use super::{Finding, Source};

/// Lines of a Rust file.
const FILE_LINES_MAX: usize = 500;
/// Columns of a line of Rust.
const LINE_COLUMNS_MAX: usize = 100;

/// Words that mark work left undone. Spelled in halves, or this file would hold them.
const UNDONE: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];

/// Paths of the machine that something was once written on.
const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "wt")];

/// The one such path that every machine has: where the Hugging Face libraries keep root's models.
const MACHINE_EXCEPT: &str = concat!("/ro", "ot/.cache/huggingface/");

/// Module names that say nothing.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "misc", "manager", "managers", "stuff", "common"];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.is_rust() {
        sizes(source, &mut findings);
        names(source, &mut findings);
    }
    let is_written = source.has_extension(&[
        "rs", "py", "sh", "yaml", "yml", "md", "toml", "service", "conf", "json", "tpl", "c",
    ]) || source.path.starts_with(".ci/");
    if is_written {
        words(source, &mut findings);
    }
    findings
}

fn sizes(source: &Source, findings: &mut Vec<Finding>) {
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines, at most {FILE_LINES_MAX}: split it by subject");
        findings.push(source.finding(1, "file-length", message));
    }
    for (at, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS_MAX && !is_table_row(line) {
            let message = format!("{columns} columns, at most {LINE_COLUMNS_MAX}");
            findings.push(source.finding(at + 1, "line-length", message));
        }
    }
}

/// A row of a table, which is one line whatever its length: of a Markdown table in a comment, or of
/// the field catalogue (`Id "name" Type KINDS "meaning" "example";`).
fn is_table_row(line: &str) -> bool {
    if line.trim_start().starts_with("//! |") || line.trim_start().starts_with("/// |") {
        return true;
    }
    let mut words = line.split_whitespace();
    let id = words.next().is_some_and(|word| word.chars().all(char::is_alphanumeric));
    id && words.next().is_some_and(|word| word.starts_with('"')) && line.ends_with("\";")
}

fn names(source: &Source, findings: &mut Vec<Finding>) {
    let stem = source.path.rsplit('/').find_map(|part| match part {
        "mod.rs" => None,
        part => Some(part.trim_end_matches(".rs")),
    });
    if let Some(stem) = stem.filter(|stem| EMPTY_NAMES.contains(stem)) {
        let message = format!("`{stem}` says nothing: name the idea, as a noun");
        findings.push(source.finding(1, "module-name", message));
    }
}

fn words(source: &Source, findings: &mut Vec<Finding>) {
    for (at, line) in source.text.lines().enumerate() {
        for word in UNDONE {
            if stands_alone(line, word) {
                let message = format!("`{}` marks work left undone", word.trim_end_matches('('));
                findings.push(source.finding(at + 1, "undone", message));
            }
        }
        for path in MACHINE {
            let is_found = |(start, _): (usize, &str)| {
                !is_inside_path(line, start) && !line[start..].starts_with(MACHINE_EXCEPT)
            };
            if line.match_indices(path).any(is_found) {
                let message = format!("`{path}` is a path of one machine");
                findings.push(source.finding(at + 1, "machine-path", message));
            }
        }
    }
}

fn stands_alone(line: &str, word: &str) -> bool {
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_letter) && (word.ends_with('(') || !after.is_some_and(is_letter))
    })
}

/// Whether the path that begins at `start` is the middle of a longer one (`src/work/`).
fn is_inside_path(line: &str, start: usize) -> bool {
    line[..start]
        .chars()
        .next_back()
        .is_some_and(|before| before.is_alphanumeric() || "._-}*".contains(before))
}

#[cfg(test)]
mod tests {
    use super::super::tests::source;
    use super::*;

    fn checks(path: &str, text: &str) -> Vec<&'static str> {
        check(&source(path, text)).into_iter().map(|finding| finding.check).collect()
    }

    #[test]
    fn file_of_500_lines_passes_and_501_does_not() {
        assert!(checks("a/src/b.rs", &"\n".repeat(500)).is_empty());
        assert_eq!(checks("a/src/b.rs", &"\n".repeat(501)), ["file-length"]);
    }

    #[test]
    fn line_of_100_columns_passes_and_101_does_not() {
        assert!(checks("a/src/b.rs", &"ä".repeat(100)).is_empty());
        assert_eq!(checks("a/src/b.rs", &"ä".repeat(101)), ["line-length"]);
        assert!(checks("README.md", &"a".repeat(101)).is_empty());
    }

    #[test]
    fn table_row_may_be_long() {
        assert!(checks("a/src/b.rs", &format!("//! | {} |", "m".repeat(100))).is_empty());
        let row = format!("    ProcPid \"proc.pid\" Int ACTED \"{}\" \"x\";", "m".repeat(100));
        assert!(checks("a/src/b.rs", &row).is_empty());
    }

    #[test]
    fn empty_module_name_is_found_as_file_and_as_folder() {
        assert_eq!(checks("a/src/utils.rs", ""), ["module-name"]);
        assert_eq!(checks("a/src/helpers/mod.rs", ""), ["module-name"]);
        assert!(checks("a/src/rule/mod.rs", "").is_empty());
    }

    #[test]
    fn undone_work_is_found_as_a_word_only() {
        assert_eq!(checks("a.py", concat!("# TO", "DO later")), ["undone"]);
        assert_eq!(checks("a.rs", concat!("todo", "!()")), ["undone"]);
        assert!(checks("a.rs", concat!("MASTO", "DON")).is_empty());
    }

    #[test]
    fn machine_path_is_found_at_its_beginning_only() {
        assert_eq!(checks("a.sh", concat!("cd /ro", "ot/x")), ["machine-path"]);
        assert!(checks("a.sh", concat!("cd tests/wo", "rk/x")).is_empty());
        assert!(checks("a.sh", &format!("cd {MACHINE_EXCEPT}hub")).is_empty());
    }
}
