//! YAML text to a tree that knows where every key and value stands.
//!
//! The tree is read by hand rather than by a derived deserializer, because that stops at the first
//! mistake and a person with a rule file wants all of them.

use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use super::diagnostic::{Located, Sink, Span, nearest, suggest};
use crate::yaml::{self as raw, Raw};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Yaml,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Yaml {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Located<String>, Node)>),
}

impl Yaml {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Reads one document. `None` after a mistake of syntax, which is reported.
pub(crate) fn parse(document: usize, sink: &Sink) -> Option<Node> {
    let text = &sink.documents[document].text;
    match raw::parse(text, DuplicateKeyPolicy::PassThrough) {
        Ok(raw) => Some(node(document, raw)),
        Err(raw::Refused { location, message }) => {
            let start = location.map_or(0, |location| byte_of(text, location));
            let spot = |start| Span { document, start, end: start + 1 };
            // The place is in front of the message already.
            let message = message.split(" at line ").next().unwrap_or(&message);
            match indenting_tab(text, start).filter(|_| message.contains("tab")) {
                Some(tab) => sink.error_help(
                    spot(tab),
                    "not YAML: a tab in the indentation",
                    "YAML is indented with spaces; replace the tab",
                ),
                None => sink.error(spot(start), format!("not YAML: {message}")),
            };
            None
        }
    }
}

/// The first tab that indents a line, from the line of `start` on: the parser points to where the
/// scalar before it begins.
fn indenting_tab(text: &str, start: usize) -> Option<usize> {
    let mut from = text.get(..start)?.rfind('\n').map_or(0, |end| end + 1);
    loop {
        let line = &text[from..];
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..indent].find('\t') {
            return Some(from + tab);
        }
        from += line.find('\n')? + 1;
    }
}

fn byte_of(text: &str, location: Location) -> usize {
    if let Some(offset) = location.span().byte_offset() {
        return usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    }
    let line = usize::try_from(location.line().saturating_sub(1)).unwrap_or(0);
    let column = usize::try_from(location.column().saturating_sub(1)).unwrap_or(0);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &text[start.min(text.len())..];
    start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
}

fn span(document: usize, location: Location) -> Span {
    let stretch = location.span();
    let start = usize::try_from(stretch.byte_offset().unwrap_or(0)).unwrap_or(0);
    let len = usize::try_from(stretch.byte_len().unwrap_or(0)).unwrap_or(0);
    Span { document, start, end: start.saturating_add(len) }
}

fn node(document: usize, raw: Spanned<Raw>) -> Node {
    let value = match raw.value {
        Raw::Null => Yaml::Null,
        Raw::Bool(truth) => Yaml::Bool(truth),
        Raw::Int(number) => Yaml::Int(number),
        Raw::Float(number) => Yaml::Float(number),
        Raw::Text(text) => Yaml::Text(text),
        Raw::List(items) => {
            Yaml::List(items.into_iter().map(|item| node(document, item)).collect())
        }
        Raw::Map(entries) => Yaml::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let span = span(document, key.defined);
                    (Located { value: key.value, span }, node(document, value))
                })
                .collect(),
        ),
    };
    Node { span: span(document, raw.defined), value }
}

/// Where characters `from..to` of a scalar's value stand in the document: the scalar may be
/// quoted, escaped, folded or indented.
pub(crate) fn within(sink: &Sink, scalar: &Located<String>, from: usize, to: usize) -> Span {
    let Span { document, start, end } = scalar.span;
    let Some(raw) = sink.documents[document].text.get(start..end) else { return scalar.span };
    let offset = |count| start + raw_offset(raw, &scalar.value, count);
    let first = offset(from);
    let last = if to > from { offset(to - 1) + 1 } else { first + 1 };
    Span { document, start: first, end: last.max(first + 1) }
}

/// Byte offset in the raw scalar of character `count` of its value.
fn raw_offset(raw: &str, value: &str, count: usize) -> usize {
    let quote = raw.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let mut at = usize::from(quote.is_some());
    for (seen, want) in value.chars().enumerate() {
        at += blanks_before(&raw[at..], want, quote);
        if seen == count {
            return at;
        }
        let rest = &raw[at..];
        let Some(here) = rest.chars().next() else { return at };
        at += if quote == Some('"') && here == '\\' {
            escape_len(rest)
        } else if quote == Some('\'') && rest.starts_with("''") {
            2
        } else if here == want {
            here.len_utf8()
        } else if here.is_whitespace() {
            // A folded line break: the value has one blank where the file has a break and an
            // indentation.
            rest.len() - rest.trim_start().len()
        } else {
            here.len_utf8()
        };
    }
    at.min(raw.len())
}

/// Bytes of indentation and line breaks in the file that the value does not have before `want`.
fn blanks_before(raw: &str, want: char, quote: Option<char>) -> usize {
    if want.is_whitespace() {
        return 0;
    }
    let mut skipped = raw.len() - raw.trim_start().len();
    while quote == Some('"') && raw[skipped..].starts_with("\\\n") {
        let rest = &raw[skipped + 2..];
        skipped += 2 + rest.len() - rest.trim_start().len();
    }
    skipped
}

fn escape_len(raw: &str) -> usize {
    let len = match raw.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => 6,
        Some(b'U') => 10,
        _ => 1 + raw[1..].chars().next().map_or(0, char::len_utf8),
    };
    if raw.is_char_boundary(len.min(raw.len())) { len.min(raw.len()) } else { raw.len() }
}

/// A mapping being read: keys are taken one by one, what is left over is unknown.
pub(crate) struct Entries<'s> {
    sink: &'s Sink,
    /// The mapping.
    pub(crate) span: Span,
    items: Vec<(Located<String>, Option<Node>)>,
    known: Vec<&'static str>,
}

impl<'s> Entries<'s> {
    /// Reads `node` as a mapping. `what` names it in the message.
    pub(crate) fn of(node: Node, what: &str, sink: &'s Sink) -> Option<Self> {
        let Yaml::Map(entries) = node.value else {
            sink.error(node.span, format!("{what} is {}, expected a mapping", node.value.kind()));
            return None;
        };
        let mut items: Vec<(Located<String>, Option<Node>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if let Some((first, _)) = items.iter().find(|(known, _)| known.value == key.value) {
                let place = sink.place(first.span);
                sink.error(key.span, format!("key `{}` is already given at {place}", key.value));
                continue;
            }
            items.push((key, Some(value)));
        }
        Some(Self { sink, span: node.span, items, known: Vec::new() })
    }

    /// Where to point for the mapping as a whole: its first key.
    pub(crate) fn head(&self) -> Span {
        self.items.first().map_or(self.span, |(key, _)| key.span)
    }

    /// The value of `key`; `None` when absent or null.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        let (_, value) = self.items.iter_mut().find(|(known, _)| known.value == key)?;
        value.take().filter(|node| node.value != Yaml::Null)
    }

    /// The text of `key`; reports anything else.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        let node = self.take(key)?;
        text(node, &format!("`{key}`"), self.sink)
    }

    /// The text of `key`; reports its absence.
    pub(crate) fn need_text(&mut self, key: &'static str, what: &str) -> Option<Located<String>> {
        let there = self.items.iter().any(|(known, _)| known.value == key);
        let found = self.text(key);
        // One that is misspelt is reported as such, and once.
        let is_misspelt =
            || self.items.iter().any(|(known, _)| nearest(&known.value, [key]).is_some());
        if !there && !is_misspelt() {
            self.sink.error(self.head(), format!("{what} has no `{key}`"));
        }
        found
    }

    /// The truth value of `key`; reports anything else.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let node = self.take(key)?;
        if let Yaml::Bool(truth) = node.value {
            return Some(truth);
        }
        let kind = node.value.kind();
        self.sink.error(node.span, format!("`{key}` is {kind}, expected true or false"));
        None
    }

    /// The items of `key`; reports anything but a list.
    pub(crate) fn list(&mut self, key: &'static str) -> Vec<Node> {
        self.take(key).map_or_else(Vec::new, |node| list(node, &format!("`{key}`"), self.sink))
    }

    /// The items of `key`, each a text.
    pub(crate) fn texts(&mut self, key: &'static str) -> Vec<Located<String>> {
        let items = self.list(key);
        let what = format!("an item of `{key}`");
        items.into_iter().filter_map(|item| text(item, &what, self.sink)).collect()
    }

    /// The mapping of `key`; reports anything else.
    pub(crate) fn entries(&mut self, key: &'static str) -> Option<Self> {
        let node = self.take(key)?;
        Self::of(node, &format!("`{key}`"), self.sink)
    }

    /// Every pair that has not been taken, for mappings whose keys are names.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (Located<String>, Node)> {
        self.items.into_iter().filter_map(|(key, node)| node.map(|node| (key, node)))
    }

    /// Reports every key that nobody took.
    pub(crate) fn finish(self) {
        for (key, _) in &self.items {
            if !self.known.contains(&key.value.as_str()) {
                let help = suggest(&key.value, self.known.iter().copied());
                self.sink.error_help(key.span, format!("unknown key `{}`", key.value), help);
            }
        }
    }
}

/// Reads a node as text; reports anything else. Bare numbers are taken as they are spelt.
pub(crate) fn text(node: Node, what: &str, sink: &Sink) -> Option<Located<String>> {
    let value = match node.value {
        Yaml::Text(text) => text,
        Yaml::Int(_) | Yaml::Float(_) => {
            let Span { document, start, end } = node.span;
            sink.documents[document].text.get(start..end)?.trim().to_owned()
        }
        Yaml::Bool(_) | Yaml::Null | Yaml::List(_) | Yaml::Map(_) => {
            let kind = node.value.kind();
            sink.error(node.span, format!("{what} is {kind}, expected text"));
            return None;
        }
    };
    Some(Located { value, span: node.span })
}

/// Reads a node as a list; reports anything else.
pub(crate) fn list(node: Node, what: &str, sink: &Sink) -> Vec<Node> {
    if let Yaml::List(items) = node.value {
        return items;
    }
    sink.error(node.span, format!("{what} is {}, expected a list", node.value.kind()));
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::Document;
    use super::*;

    fn sink(text: &str) -> Sink {
        Sink::new(vec![Document { name: "a.yaml".into(), text: text.into() }])
    }

    fn first_text(sink: &Sink) -> Located<String> {
        let Yaml::Map(entries) = parse(0, sink).expect("parses").value else { panic!("a map") };
        let (_, node) = entries.into_iter().next().expect("an entry");
        text(node, "x", sink).expect("text")
    }

    #[test]
    fn every_style_of_scalar_maps_back_to_the_file() {
        let texts = [
            "a: net.bad == 1",
            "a: 'x == ''y'' && net.bad == 1'",
            "a: \"x == \\\"y\\u00e9\\\" && net.bad == 1\"",
            "a: |\n  x ||\n    net.bad == 1\n",
            "a: >-\n   x ||\n   y ||\n   net.bad == 1\n",
            "a: x ||\n  y || 'ü'  ||\n  net.bad == 1\n",
            "a: \"x \\\n   || net.bad\"\n",
            "a: 'x ||\n\n   net.bad'\n",
        ];
        for text in texts {
            let sink = sink(text);
            let scalar = first_text(&sink);
            let byte = scalar.value.find("net.bad").expect("in the value");
            let from = scalar.value[..byte].chars().count();
            let span = within(&sink, &scalar, from, from + 7);
            assert_eq!(&text[span.start..span.end], "net.bad", "{text}");
        }
    }

    #[test]
    fn unknown_and_repeated_keys_are_all_reported() {
        let sink = sink("titel: 1\nid: a\nid: b\nzzzzzzzz: 2\n");
        let node = parse(0, &sink).expect("parses");
        let mut entries = Entries::of(node, "x", &sink).expect("a map");
        entries.text("id");
        entries.text("title");
        entries.finish();
        let found = sink.finish();
        let messages: Vec<_> = found.0.iter().map(|d| (d.line, d.message.as_str())).collect();
        assert_eq!(
            messages,
            [
                (1, "unknown key `titel`"),
                (3, "key `id` is already given at a.yaml:2:1"),
                (4, "unknown key `zzzzzzzz`"),
            ]
        );
        assert_eq!(found.0[0].help.as_deref(), Some("did you mean `title`?"));
    }

    #[test]
    fn bombs_and_towers_are_refused_and_not_expanded() {
        use std::fmt::Write as _;
        let tower = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            writeln!(bomb, "a{level}: &a{level} [{below}]").unwrap();
        }
        let blocks = (0..3_000).fold(String::new(), |text, n| text + &" ".repeat(n) + "k:\n");
        for text in [tower, bomb, blocks] {
            let sink = sink(&text);
            assert!(parse(0, &sink).is_none());
            assert_eq!(sink.finish().0.len(), 1);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-a-z0-9:{}\\[\\]'\"|>&*#,!%@ \n\t\u{e9}]{0,80}") {
            let sink = sink(&text);
            let read = parse(0, &sink);
            assert_eq!(read.is_none(), sink.len() == 1);
        }

        #[test]
        fn mapping_back_is_total(raw in ".{0,40}", value in ".{0,40}", count in 0usize..50) {
            assert!(raw_offset(&raw, &value, count) <= raw.len());
        }
    }
}
