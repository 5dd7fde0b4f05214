//! Selections and conditions of Sigma, as a condition of ours.

use serde_json::{Map, Value as Json};

use super::falco_field::joined;
use super::{IMPORT_DEPTH_MAX, quoted};

/// What a log category is here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Category {
    /// The kind of event.
    pub(super) kind: &'static str,
    /// What else must hold.
    pub(super) also: &'static str,
    fields: &'static [(&'static str, &'static str)],
}

const PROCESS: &[(&str, &str)] = &[
    ("Image", "proc.exe"),
    ("CommandLine", "proc.cmdline"),
    ("CurrentDirectory", "proc.cwd"),
    ("ParentImage", "proc.parent.exe"),
];

/// The category of this name; `None` for one without a counterpart.
pub(super) fn category(name: &str) -> Option<Category> {
    Some(match name {
        "process_creation" => Category { kind: "exec", also: "", fields: PROCESS },
        "network_connection" => Category {
            kind: "flow",
            also: "net.phase == \"start\"",
            fields: &[
                ("Image", "proc.exe"),
                ("DestinationIp", "net.dst.ip"),
                ("DestinationPort", "net.dst.port"),
                ("DestinationHostname", "net.dst.name"),
                ("SourcePort", "net.src.port"),
                ("Protocol", "net.proto"),
            ],
        },
        "file_event" => Category {
            kind: "file_open",
            also: "file.write",
            fields: &[("Image", "proc.exe"), ("TargetFilename", "file.path")],
        },
        _ => return None,
    })
}

/// Converts a `detection:` block.
pub(super) fn detection(block: &Map<String, Json>, of: Category) -> Result<String, String> {
    let condition = match block.get("condition") {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(_)) => return Err("several conditions have no counterpart".to_owned()),
        _ => return Err("it has no condition".to_owned()),
    };
    if condition.contains('|') {
        return Err("an aggregation in the condition has no counterpart".to_owned());
    }
    let words = condition.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0, block, of };
    let text = parser.any(0)?;
    if parser.at < words.len() {
        return Err(format!("the condition goes on behind its end: `{}`", words[parser.at]));
    }
    Ok(if of.also.is_empty() { text } else { format!("{} && {text}", of.also) })
}

struct Parser<'p> {
    words: &'p [&'p str],
    at: usize,
    block: &'p Map<String, Json>,
    of: Category,
}

impl Parser<'_> {
    fn is_word(&self, word: &str) -> bool {
        self.words.get(self.at).is_some_and(|found| found.eq_ignore_ascii_case(word))
    }

    fn any(&mut self, depth: usize) -> Result<String, String> {
        let mut parts = vec![self.all(depth)?];
        while self.is_word("or") {
            self.at += 1;
            parts.push(self.all(depth)?);
        }
        Ok(joined(parts.into_iter(), "||"))
    }

    fn all(&mut self, depth: usize) -> Result<String, String> {
        let mut parts = vec![self.one(depth)?];
        while self.is_word("and") {
            self.at += 1;
            parts.push(self.one(depth)?);
        }
        Ok(joined(parts.into_iter(), "&&"))
    }

    fn one(&mut self, depth: usize) -> Result<String, String> {
        if depth > IMPORT_DEPTH_MAX {
            return Err("the condition nests too deeply".to_owned());
        }
        let Some(word) = self.words.get(self.at).copied() else {
            return Err("the condition ends too early".to_owned());
        };
        self.at += 1;
        match word.to_ascii_lowercase().as_str() {
            "not" => Ok(format!("!({})", self.one(depth + 1)?)),
            "(" => {
                let inner = self.any(depth + 1)?;
                if !self.is_word(")") {
                    return Err("a bracket is not closed".to_owned());
                }
                self.at += 1;
                Ok(inner)
            }
            quantity @ ("1" | "all") => {
                if !self.is_word("of") {
                    return Err(format!("expected `of` behind `{quantity}`"));
                }
                self.at += 1;
                let pattern = self.words.get(self.at).copied().unwrap_or_default();
                self.at += 1;
                let operator = if quantity == "all" { "&&" } else { "||" };
                self.several(pattern, operator)
            }
            _ => self.selection(word),
        }
    }

    fn several(&self, pattern: &str, operator: &str) -> Result<String, String> {
        let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
        let fits = |name: &&String| match pattern {
            "them" => *name != "condition" && !name.starts_with('_'),
            _ if pattern.ends_with('*') => name.starts_with(prefix),
            _ => *name == pattern,
        };
        let names: Vec<&String> = self.block.keys().filter(fits).collect();
        if names.is_empty() {
            return Err(format!("no selection is called `{pattern}`"));
        }
        let parts: Vec<String> =
            names.into_iter().map(|name| self.selection(name)).collect::<Result<_, _>>()?;
        Ok(joined(parts.into_iter(), operator))
    }

    fn selection(&self, name: &str) -> Result<String, String> {
        match self.block.get(name) {
            Some(Json::Object(fields)) => self.fields(fields),
            Some(Json::Array(items)) => {
                let parts: Vec<String> = items
                    .iter()
                    .map(|item| match item {
                        Json::Object(fields) => self.fields(fields),
                        _ => Err("keywords without a field have no counterpart".to_owned()),
                    })
                    .collect::<Result<_, _>>()?;
                Ok(joined(parts.into_iter(), "||"))
            }
            Some(_) => Err("keywords without a field have no counterpart".to_owned()),
            None => Err(format!("no selection is called `{name}`")),
        }
    }

    fn fields(&self, fields: &Map<String, Json>) -> Result<String, String> {
        let parts: Vec<String> =
            fields.iter().map(|(key, value)| self.field(key, value)).collect::<Result<_, _>>()?;
        Ok(joined(parts.into_iter(), "&&"))
    }

    fn field(&self, key: &str, value: &Json) -> Result<String, String> {
        let mut parts = key.split('|');
        let name = parts.next().unwrap_or_default();
        let modifiers: Vec<&str> = parts.collect();
        let values: Vec<&Json> = match value {
            Json::Array(items) => items.iter().collect(),
            one => vec![one],
        };
        if (self.of.kind, name) == ("flow", "Initiated") {
            let out = values.first().is_some_and(|value| value.to_string().contains("true"));
            let direction = if out { "egress" } else { "ingress" };
            return Ok(format!("net.direction == \"{direction}\""));
        }
        let known = self.of.fields.iter().find(|(theirs, _)| *theirs == name);
        let Some((_, ours)) = known else {
            return Err(format!("the field `{name}` has no counterpart"));
        };
        let operator = if modifiers.contains(&"all") { "&&" } else { "||" };
        let parts: Vec<String> = values
            .into_iter()
            .map(|value| compare(ours, &modifiers, value))
            .collect::<Result<_, _>>()?;
        Ok(joined(parts.into_iter(), operator))
    }
}

fn compare(field: &str, modifiers: &[&str], value: &Json) -> Result<String, String> {
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        Json::Bool(truth) => truth.to_string(),
        Json::Null => return Ok(format!("!has({field})")),
        _ => return Err(format!("a value of `{field}` is neither text nor a number")),
    };
    let main: Vec<&str> =
        modifiers.iter().copied().filter(|word| !matches!(*word, "all" | "cased")).collect();
    if field.ends_with("port") {
        let number: i64 = text.parse().map_err(|_| format!("`{text}` is not a port"))?;
        return match main.as_slice() {
            [] => Ok(format!("{field} == {number}")),
            other => Err(format!("the modifier `{}` has no counterpart", other.join("|"))),
        };
    }
    if field == "net.dst.ip" {
        return match main.as_slice() {
            [] | ["cidr"] => Ok(format!("{field} in cidr({})", quoted(&text))),
            ["startswith"] => Err("an address that starts with text has no counterpart".to_owned()),
            other => Err(format!("the modifier `{}` has no counterpart", other.join("|"))),
        };
    }
    match main.as_slice() {
        [] => Ok(wild(field, &text)),
        ["contains"] => Ok(wild(field, &format!("*{text}*"))),
        ["startswith"] => Ok(wild(field, &format!("{text}*"))),
        ["endswith"] => Ok(wild(field, &format!("*{text}"))),
        ["re"] => Ok(format!("{field}.matches({})", quoted(&text))),
        other => Err(format!("the modifier `{}` has no counterpart", other.join("|"))),
    }
}

/// A value with `*` and `?`, which `\` takes their meaning.
fn wild(field: &str, value: &str) -> String {
    let mut pieces: Vec<String> = vec![String::new()];
    let mut is_regex = false;
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => pieces.push(String::new()),
            '?' => {
                is_regex = true;
                pieces.push("?".to_owned());
                pieces.push(String::new());
            }
            '\\' if chars.peek().is_some_and(|next| matches!(next, '*' | '?' | '\\')) => {
                if let (Some(piece), Some(next)) = (pieces.last_mut(), chars.next()) {
                    piece.push(next);
                }
            }
            c => {
                if let Some(piece) = pieces.last_mut() {
                    piece.push(c);
                }
            }
        }
    }
    let inner: Vec<&str> = pieces.iter().map(String::as_str).collect();
    match (is_regex, inner.as_slice()) {
        (false, [whole]) => format!("{field} == {}", quoted(whole)),
        (false, ["", part, ""]) => format!("{field}.contains({})", quoted(part)),
        (false, [start, ""]) => format!("{field}.startsWith({})", quoted(start)),
        (false, ["", end]) => format!("{field}.endsWith({})", quoted(end)),
        (false, _) => {
            let escaped: Vec<String> = inner.iter().map(|piece| regex::escape(piece)).collect();
            format!("{field}.matches({})", quoted(&format!("(?s)^{}$", escaped.join(".*"))))
        }
        (true, _) => {
            let mut pattern = "(?s)^".to_owned();
            let mut chars = value.chars();
            while let Some(c) = chars.next() {
                match c {
                    '*' => pattern += ".*",
                    '?' => pattern += ".",
                    '\\' => pattern += &regex::escape(&chars.next().unwrap_or('\\').to_string()),
                    c => pattern += &regex::escape(&c.to_string()),
                }
            }
            format!("{field}.matches({})", quoted(&(pattern + "$")))
        }
    }
}
