//! Reading one mapping: typed getters that note every mistake and go on with the default.

use std::path::PathBuf;

use super::error::{ConfigError, Problem};
use super::node::{Entry, Mark, Node, Raw};

/// A key that a section knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
}

/// The mistakes found so far.
#[derive(Debug)]
pub(super) struct Issues {
    pub(super) file: String,
    pub(super) errors: Vec<ConfigError>,
}

impl Issues {
    pub(super) fn note(&mut self, mark: Mark, problem: Problem) {
        self.errors.push(ConfigError {
            file: self.file.clone(),
            line: mark.line,
            column: mark.column,
            problem,
        });
    }
}

/// One mapping of the file, under the name that messages use.
pub(super) struct Section<'n> {
    name: String,
    mark: Mark,
    entries: &'n [Entry],
}

impl<'n> Section<'n> {
    /// Opens a mapping and notes every key that is not in `keys`. An absent or empty node is an
    /// empty section.
    pub(super) fn open(
        name: &str,
        node: Option<&'n Node>,
        keys: &[&[Key]],
        issues: &mut Issues,
    ) -> Self {
        let mark = node.map_or(Mark { line: 1, column: 1 }, |node| node.mark);
        let entries: &[Entry] = match node.map(|node| &node.raw) {
            None | Some(Raw::Null) => &[],
            Some(Raw::Map(entries)) => entries,
            Some(other) => {
                let (section, key) = name.rsplit_once('.').unwrap_or(("the file", name));
                let problem = Problem::WrongType {
                    section: section.into(),
                    key: key.into(),
                    expected: "a mapping of keys to values".into(),
                    found: other.describe(),
                };
                issues.note(mark, problem);
                &[]
            }
        };
        let section = Self { name: name.to_owned(), mark, entries };
        section.check_keys(keys, issues);
        section
    }

    fn check_keys(&self, keys: &[&[Key]], issues: &mut Issues) {
        let known: Vec<&str> =
            keys.iter().flat_map(|keys| keys.iter().map(|key| key.name)).collect();
        for entry in self.entries {
            if known.contains(&entry.key.as_str()) {
                continue;
            }
            issues.note(
                entry.mark,
                Problem::UnknownKey {
                    key: entry.key.clone(),
                    section: self.name.clone(),
                    nearest: nearest(&entry.key, &known),
                    known: known.join(", "),
                },
            );
        }
    }

    /// The node under `key`; `None` when it is absent or empty.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        let node = &self.entries.iter().find(|entry| entry.key == key)?.node;
        (node.raw != Raw::Null).then_some(node)
    }

    pub(super) fn missing(&self, key: Key, issues: &mut Issues) {
        issues.note(
            self.mark,
            Problem::MissingKey { section: self.name.clone(), key: key.name, meaning: key.meaning },
        );
    }

    pub(super) fn refuse(&self, key: &str, node: &Node, expected: &str, issues: &mut Issues) {
        let value = match &node.raw {
            Raw::Text(text) => text.clone(),
            other => other.describe(),
        };
        let problem = Problem::Refused {
            section: self.name.clone(),
            key: key.to_owned(),
            value,
            expected: expected.to_owned(),
        };
        issues.note(node.mark, problem);
    }

    fn wrong_type(&self, key: &str, node: &Node, expected: &str, issues: &mut Issues) {
        let problem = Problem::WrongType {
            section: self.name.clone(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: node.raw.describe(),
        };
        issues.note(node.mark, problem);
    }

    pub(super) fn truth(&self, key: &str, default: bool, issues: &mut Issues) -> bool {
        let Some(node) = self.get(key) else { return default };
        if let Raw::Bool(truth) = node.raw {
            return truth;
        }
        self.wrong_type(key, node, "true or false", issues);
        default
    }

    /// A number within `min..=max`.
    pub(super) fn count(
        &self,
        key: &str,
        default: u64,
        (min, max): (u64, u64),
        issues: &mut Issues,
    ) -> u64 {
        let Some(node) = self.get(key) else { return default };
        let Raw::Int(number) = node.raw else {
            self.wrong_type(key, node, "a whole number", issues);
            return default;
        };
        self.within(key, node, u64::try_from(number).ok(), (min, max), issues).unwrap_or(default)
    }

    /// A number of bytes within `min..=max`, as a number or with a unit (`64MiB`).
    pub(super) fn bytes(
        &self,
        key: &str,
        default: u64,
        (min, max): (u64, u64),
        issues: &mut Issues,
    ) -> u64 {
        let Some(node) = self.get(key) else { return default };
        let number = match &node.raw {
            Raw::Int(number) => u64::try_from(*number).ok(),
            Raw::Text(text) => {
                let bytes = parse_bytes(text);
                if bytes.is_none() {
                    self.wrong_type(key, node, "a number of bytes such as 4MiB", issues);
                    return default;
                }
                bytes
            }
            Raw::Null | Raw::Bool(_) | Raw::Float(_) | Raw::List(_) | Raw::Map(_) => {
                self.wrong_type(key, node, "a number of bytes such as 4MiB", issues);
                return default;
            }
        };
        self.within(key, node, number, (min, max), issues).unwrap_or(default)
    }

    fn within(
        &self,
        key: &str,
        node: &Node,
        number: Option<u64>,
        (min, max): (u64, u64),
        issues: &mut Issues,
    ) -> Option<u64> {
        if let Some(number) = number
            && (min..=max).contains(&number)
        {
            return Some(number);
        }
        self.refuse(key, node, &format!("expected {min} to {max}"), issues);
        None
    }

    pub(super) fn text(&self, key: &str, issues: &mut Issues) -> Option<&'n str> {
        let node = self.get(key)?;
        match &node.raw {
            Raw::Text(text) if !text.is_empty() => Some(text),
            _ => {
                self.wrong_type(key, node, "text", issues);
                None
            }
        }
    }

    pub(super) fn path(&self, key: &str, issues: &mut Issues) -> Option<PathBuf> {
        let text = self.text(key, issues)?;
        if text.starts_with('/') {
            return Some(PathBuf::from(text));
        }
        let node = self.get(key)?;
        self.refuse(key, node, "expected a path that starts with `/`", issues);
        None
    }

    /// A list of text, with the node of each item.
    pub(super) fn list(&self, key: &str, issues: &mut Issues) -> Option<Vec<(&'n Node, &'n str)>> {
        let node = self.get(key)?;
        let Raw::List(items) = &node.raw else {
            self.wrong_type(key, node, "a list of text", issues);
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            match &item.raw {
                Raw::Text(text) if !text.is_empty() => list.push((item, text.as_str())),
                _ => self.wrong_type(key, item, "text", issues),
            }
        }
        Some(list)
    }

    pub(super) fn texts(&self, key: &str, issues: &mut Issues) -> Option<Vec<String>> {
        let list = self.list(key, issues)?;
        Some(list.into_iter().map(|(_, text)| text.to_owned()).collect())
    }

    pub(super) fn paths(&self, key: &str, issues: &mut Issues) -> Option<Vec<PathBuf>> {
        let list = self.list(key, issues)?;
        for (node, _) in list.iter().filter(|(_, text)| !text.starts_with('/')) {
            self.refuse(key, node, "expected a path that starts with `/`", issues);
        }
        Some(list.into_iter().map(|(_, text)| PathBuf::from(text)).collect())
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
        issues: &mut Issues,
    ) -> Option<T> {
        let node = self.get(key)?;
        if let Raw::Text(text) = &node.raw
            && let Some((_, value)) = words.iter().find(|(word, _)| word == text)
        {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.refuse(key, node, &format!("expected one of {}", known.join(", ")), issues);
        None
    }
}

/// The known name most like `name`, when it is like enough to be a slip of the finger.
fn nearest(name: &str, known: &[&str]) -> Option<String> {
    /// Edits (swaps included) beyond which two names are different words.
    const EDITS_MAX: usize = 3;
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= EDITS_MAX.min(candidate.len() / 2))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| (*candidate).to_owned())
}

/// Bytes from `64MiB`, `64 mib`, `64.mib` (the form rules use) or `64`.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start_matches(['.', ' ']).to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "kib" => 10,
        "mib" => 20,
        "gib" => 30,
        "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_and_without_a_unit() {
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("64.mib"), Some(64 << 20));
        assert_eq!(parse_bytes("1 GiB"), Some(1 << 30));
        assert_eq!(parse_bytes("7"), Some(7));
        for wrong in ["", "MiB", "4MB", "-4KiB", "99999999999999999999", "17592186044416TiB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nearest_name_is_a_slip_not_another_word() {
        let known = ["interval_ms", "timeout_ms", "enabled"];
        assert_eq!(nearest("intreval_ms", &known).as_deref(), Some("interval_ms"));
        assert_eq!(nearest("enable", &known).as_deref(), Some("enabled"));
        assert_eq!(nearest("colour", &known), None);
    }
}
