//! The scanner behind [`super::redact_text`]: one pass over text that may hold a command line, a
//! header, an assignment, JSON or a URL.

use super::{NameKind, REDACTED, is_high_entropy, is_name_char, is_token, name_kind};

/// Schemes of an `Authorization` header whose name is kept.
const AUTH_SCHEMES: &[&str] = &["bearer", "basic", "token", "digest", "negotiate", "apikey"];

/// Text without secrets.
pub(in crate::alert) fn scan(text: &str) -> String {
    let mut scanner =
        Scanner { rest: text, out: String::with_capacity(text.len()), quote: None, at_open: false };
    while scanner.step() {}
    scanner.out
}

struct Scanner<'a> {
    rest: &'a str,
    out: String,
    /// The quote that is open, if any.
    quote: Option<char>,
    /// Whether the last thing read was the quote that opened.
    at_open: bool,
}

impl Scanner<'_> {
    fn step(&mut self) -> bool {
        let Some(c) = self.rest.chars().next() else { return false };
        if is_quote(c) {
            self.keep(c.len_utf8());
            match self.quote {
                Some(open) if open == c => self.quote = None,
                Some(_) => {}
                None => {
                    self.quote = Some(c);
                    self.at_open = true;
                }
            }
            return true;
        }
        if is_name_char(c) {
            self.run();
        } else {
            self.keep(c.len_utf8());
        }
        self.at_open = false;
        true
    }

    /// A run of name characters, and the value that belongs to it.
    fn run(&mut self) {
        let len = span(self.rest, is_name_char);
        let run = &self.rest[..len];
        let after = &self.rest[len..];
        if after.starts_with("://") {
            self.keep(len + 3);
            self.authority();
            return;
        }
        let kind = name_kind(run);
        if kind != NameKind::Plain
            && let Some(gap) = separator(after)
        {
            let is_json = after.starts_with(is_quote);
            let is_whole_quote = self.at_open && !is_json;
            let is_header = name_kind(run) == NameKind::Secret
                && run.to_ascii_lowercase().ends_with("authorization");
            self.keep(len + gap);
            if is_json {
                self.quote = None;
                self.json_value(kind);
            } else {
                self.value(kind, is_whole_quote, is_header);
            }
            return;
        }
        let is_flag = run.starts_with('-');
        let is_bearer = run.eq_ignore_ascii_case("bearer");
        if (is_bearer || (is_flag && kind != NameKind::Plain)) && after.starts_with(is_space) {
            let gap = span(after, is_space);
            let next = &after[gap..];
            if is_bearer || !next.starts_with("--") {
                self.keep(len + gap);
                self.value(if is_bearer { NameKind::Secret } else { kind }, false, false);
                return;
            }
        }
        if is_token(run) {
            self.hide(token_span(self.rest));
        } else {
            self.keep(len);
        }
    }

    /// What stands between `scheme://` and the host, if an `@` ends it.
    fn authority(&mut self) {
        let quote = self.quote;
        let url = span(self.rest, |c| !is_space(c) && !is_quote(c) && Some(c) != quote);
        let host = span(&self.rest[..url], |c| !matches!(c, '/' | '?' | '#'));
        let authority = &self.rest[..host];
        if let Some(at) = authority.rfind('@') {
            self.hide(at);
            return;
        }
        // A password may hold a slash that nobody encoded: then what looks like a port is none.
        let is_port = authority
            .rsplit_once(':')
            .is_none_or(|(name, port)| name.ends_with(']') || port.parse::<u16>().is_ok());
        let is_v6 = authority.starts_with('[');
        if !is_port
            && !is_v6
            && let Some(at) = self.rest[..url].rfind('@')
        {
            self.hide(at);
        }
    }

    /// The value after a name.
    fn value(&mut self, kind: NameKind, is_whole_quote: bool, is_header: bool) {
        if is_header {
            self.scheme();
        }
        let len = match self.quote {
            Some(open) if is_whole_quote => span(self.rest, |c| c != open),
            Some(open) => quoted_value(self.rest, Some(open)),
            None => quoted_value(self.rest, None),
        };
        let bare = self.rest[..len].trim_matches(is_quote);
        if bare.is_empty() {
            self.keep(len);
        } else if kind == NameKind::Secret || is_high_entropy(bare) || is_token(bare) {
            self.hide(len);
        }
    }

    /// The value after a key in quotes: a string ends with its quote, all else is a shell word.
    fn json_value(&mut self, kind: NameKind) {
        let Some(quote) = self.rest.chars().next().filter(|c| is_quote(*c)) else {
            self.value(kind, false, false);
            return;
        };
        let mut is_escaped = false;
        let len = span(&self.rest[1..], |c| {
            let is_inside = is_escaped || c != quote;
            is_escaped = !is_escaped && c == '\\';
            is_inside
        });
        let value = &self.rest[1..=len];
        if kind == NameKind::Secret || is_high_entropy(value) || is_token(value) {
            self.hide((len + 2).min(self.rest.len()));
        } else {
            self.keep((len + 2).min(self.rest.len()));
        }
    }

    /// Keeps the scheme of an `Authorization` header: it tells what was used, not the secret.
    fn scheme(&mut self) {
        let word = span(self.rest, |c| c.is_ascii_alphanumeric());
        let gap = span(&self.rest[word..], is_space);
        let is_scheme = AUTH_SCHEMES.contains(&self.rest[..word].to_ascii_lowercase().as_str());
        if is_scheme && gap > 0 {
            self.keep(word + gap);
        }
    }

    fn keep(&mut self, len: usize) {
        let (kept, rest) = self.rest.split_at(len);
        self.out.push_str(kept);
        self.rest = rest;
    }

    fn hide(&mut self, len: usize) {
        if len > 0 && !self.out.ends_with(REDACTED) {
            self.out.push_str(REDACTED);
        }
        self.rest = &self.rest[len..];
    }
}

/// Bytes from the start of `text` for whose characters `holds` is true.
fn span(text: &str, mut holds: impl FnMut(char) -> bool) -> usize {
    text.find(|c| !holds(c)).unwrap_or(text.len())
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// Bytes up to and with the `=` or `:` that follows a name (a JSON key ends in a quote first), and
/// the spaces after it.
fn separator(after: &str) -> Option<usize> {
    let quote = after.strip_prefix(is_quote).map_or(0, |_| 1);
    let spaces = span(&after[quote..], |c| c == ' ');
    let at = quote + spaces;
    if !after[at..].starts_with(['=', ':']) || after[at..].starts_with("://") {
        return None;
    }
    Some(at + 1 + span(&after[at + 1..], |c| c == ' '))
}

/// Length of a shell word: quotes inside it are part of it, a backslash takes the next character.
/// Inside an open quote the word ends with that quote.
fn quoted_value(text: &str, open: Option<char>) -> usize {
    let mut inner: Option<char> = None;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
            continue;
        }
        match inner {
            Some(quote) if c == quote => inner = None,
            None if Some(c) == open || is_space(c) => return at,
            None if is_quote(c) => inner = Some(c),
            Some(_) | None => is_escaped = c == '\\',
        }
    }
    text.len()
}

/// Length of a token that is known by its form, with the characters of base64 that a name has not.
fn token_span(text: &str) -> usize {
    span(text, |c| is_name_char(c) || matches!(c, '+' | '/' | '=' | '~'))
}
