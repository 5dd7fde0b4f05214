//! What is wrong with a rule file: every mistake at once, each with its place.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::model::{is_hidden, visible};

/// Most mistakes kept of one load; a file that is not a rule file at all makes thousands, and
/// nobody reads past the first screens.
pub(crate) const DIAGNOSTICS_MAX: usize = 500;

/// Longest excerpt of a source line that is printed, in characters; a generated one-line file
/// must not fill the terminal.
pub(crate) const EXCERPT_CHARS_MAX: usize = 160;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Name of the file.
    pub file: String,
    /// Line, from 1; 0 when the mistake is the file itself.
    pub line: u32,
    /// Column in characters, from 1; 0 when the mistake is the file itself.
    pub column: u32,
    /// What is wrong: thing, value, what was expected.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The source line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
    /// Characters to underline, at least 1.
    pub width: u32,
}

impl Diagnostic {
    /// A mistake that has no place inside a file: the file cannot be read.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
            help: None,
            excerpt: String::new(),
            width: 1,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: error: {}", visible(&self.file), visible(&self.message))?;
        } else {
            let Self { file, line, column, message, .. } = self;
            let (file, message) = (visible(file), visible(message));
            write!(f, "{file}:{line}:{column}: error: {message}")?;
            fmt_excerpt(self, f)?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {}", visible(help)),
            None => Ok(()),
        }
    }
}

fn fmt_excerpt(diagnostic: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let column = diagnostic.column.saturating_sub(1) as usize;
    // A long line is shown from shortly before the spot.
    let from = if column > EXCERPT_CHARS_MAX / 2 { column - EXCERPT_CHARS_MAX / 4 } else { 0 };
    // One for one, so that what is underlined stays in its place.
    let printed = |c: char| if is_hidden(c) && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    let shown = diagnostic.excerpt.chars().skip(from).take(EXCERPT_CHARS_MAX).map(printed);
    let shown: String = shown.collect();
    let number = diagnostic.line.to_string();
    let pad: String =
        shown.chars().take(column - from).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let room = shown.chars().count().saturating_sub(column - from).max(1);
    let carets = "^".repeat((diagnostic.width as usize).clamp(1, room));
    let gutter = " ".repeat(number.len());
    write!(f, "\n{number} | {shown}\n{gutter} | {pad}{carets}")
}

/// Every mistake of one load, in order of file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// The mistakes as a JSON array of objects with `file`, `line`, `column`, `message`, `help`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        if self.0.len() >= DIAGNOSTICS_MAX {
            write!(f, "\n\nmore than {DIAGNOSTICS_MAX} mistakes; the rest is not shown")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// A stretch of one document, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Span {
    /// Which document of the load.
    pub(crate) document: usize,
    /// First byte.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// A file of the load.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) name: Arc<str>,
    pub(crate) text: Arc<str>,
}

/// A mistake has been reported; the value that was asked for does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported;

/// Collects the mistakes of one load.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) documents: Vec<Document>,
    found: RefCell<Vec<(Span, Diagnostic)>>,
}

impl Sink {
    pub(crate) fn new(documents: Vec<Document>) -> Self {
        Self { documents, found: RefCell::default() }
    }

    /// Reports a mistake at `span`.
    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> Reported {
        self.push(span, message.into(), None)
    }

    /// Reports a mistake at `span`, with what to do about it.
    pub(crate) fn error_help(
        &self,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Reported {
        self.push(span, message.into(), Some(help.into()))
    }

    /// How many mistakes there are so far.
    pub(crate) fn len(&self) -> usize {
        self.found.borrow().len()
    }

    /// `line:column` of the start of `span`, for messages that name a second place.
    pub(crate) fn place(&self, span: Span) -> String {
        let document = &self.documents[span.document];
        let (line, column, _) = position(&document.text, span.start);
        format!("{}:{line}:{column}", document.name)
    }

    fn push(&self, span: Span, message: String, help: Option<String>) -> Reported {
        let mut found = self.found.borrow_mut();
        if found.len() >= DIAGNOSTICS_MAX {
            return Reported;
        }
        let document = &self.documents[span.document];
        let (line, column, excerpt) = position(&document.text, span.start);
        let end = span.end.min(span.start + excerpt.len()).max(span.start);
        let width = document.text.get(span.start..end).map_or(1, |text| {
            text.lines().next().map_or(1, |line| line.trim_end().chars().count()).max(1)
        });
        let diagnostic = Diagnostic {
            file: document.name.to_string(),
            line,
            column,
            message,
            help,
            excerpt: excerpt.to_owned(),
            width: u32::try_from(width).unwrap_or(u32::MAX),
        };
        // A macro used by ten rules is wrong once.
        if !found.iter().any(|(_, known)| *known == diagnostic) {
            found.push((span, diagnostic));
        }
        Reported
    }

    /// The mistakes in order of document and place.
    pub(crate) fn finish(self) -> Diagnostics {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(span, _)| (span.document, span.start));
        Diagnostics(found.into_iter().map(|(_, diagnostic)| diagnostic).collect())
    }
}

/// Line and column of a byte offset, from 1, and the text of that line.
fn position(text: &str, offset: usize) -> (u32, u32, &str) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1;
    let column = before[start..].chars().count() + 1;
    let rest = &text[start..];
    let excerpt = rest.lines().next().unwrap_or("");
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX), excerpt)
}

/// The candidate nearest to `wrong` by edits, when it is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance * 3 <= wrong.len().max(name.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean …?`, or what can be written instead.
pub(crate) fn suggest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    if let Some(name) = nearest(wrong, candidates.clone()) {
        return format!("did you mean `{name}`?");
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    format!("expected one of {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(text: &str) -> Sink {
        Sink::new(vec![Document { name: "a.yaml".into(), text: text.into() }])
    }

    #[test]
    fn a_mistake_is_printed_with_its_line_and_a_caret_under_the_spot() {
        let sink = sink("one\ntwo bad x\n");
        sink.error_help(Span { document: 0, start: 8, end: 11 }, "`bad` is bad", "say `good`");
        let text = sink.finish().to_string();
        let want =
            "a.yaml:2:5: error: `bad` is bad\n2 | two bad x\n  |     ^^^\n  help: say `good`";
        assert_eq!(text, want);
    }

    #[test]
    fn columns_count_characters_and_tabs_keep_the_caret_in_line() {
        let sink = sink("\tü bad");
        sink.error(Span { document: 0, start: 4, end: 7 }, "x");
        let text = sink.finish().to_string();
        assert!(text.starts_with("a.yaml:1:4: "), "{text}");
        assert!(text.ends_with("| \t  ^^^"), "{text}");
    }

    #[test]
    fn mistakes_come_in_order_of_place_and_the_same_one_only_once() {
        let sink = sink("one\ntwo");
        let at = |start| Span { document: 0, start, end: start + 1 };
        for (start, message) in [(4, "b"), (0, "a"), (4, "b")] {
            sink.error(at(start), message);
        }
        let lines: Vec<u32> = sink.finish().0.iter().map(|d| d.line).collect();
        assert_eq!(lines, [1, 2]);
    }

    #[test]
    fn the_number_of_mistakes_is_bounded() {
        let sink = sink("x");
        for number in 0..DIAGNOSTICS_MAX + 9 {
            sink.error(Span::default(), number.to_string());
        }
        let all = sink.finish();
        assert_eq!(all.0.len(), DIAGNOSTICS_MAX);
        assert!(all.to_string().ends_with("the rest is not shown"));
    }

    #[test]
    fn a_long_line_is_cut_around_the_spot() {
        let text = format!("{}bad{}", "x".repeat(10_000), "y".repeat(10_000));
        let sink = sink(&text);
        sink.error(Span { document: 0, start: 10_000, end: 10_003 }, "m");
        let shown = sink.finish().to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].chars().count() < EXCERPT_CHARS_MAX + 10);
        assert_eq!(lines[1].find("bad"), lines[2].find("^^^"));
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("proc.nam", ["proc.name", "file.name"]), Some("proc.name"));
        assert_eq!(nearest("zzzzzz", ["proc.name"]), None);
    }
}
