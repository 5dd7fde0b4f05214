//! Falco's condition language: `and`, `or`, `not`, brackets, tests of fields, names of macros.

use super::{IMPORT_DEPTH_MAX, IMPORT_NODES_MAX};

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Macro(String),
    Test(Test),
}

/// A test of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// The field, its argument in brackets included.
    pub(super) field: String,
    /// `=`, `!=`, `in`, `contains` and so on.
    pub(super) operator: String,
    /// What it is compared with; empty for `exists`.
    pub(super) values: Vec<String>,
}

const WORD_OPERATORS: &[&str] = &[
    "in",
    "intersects",
    "contains",
    "icontains",
    "bcontains",
    "startswith",
    "bstartswith",
    "endswith",
    "glob",
    "iglob",
    "pmatch",
    "regex",
    "exists",
];
const SIGN_OPERATORS: &[&str] = &["!=", "<=", ">=", "==", "=", "<", ">"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Comma,
    Sign(&'static str),
    Word(String),
    Quoted(String),
}

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, nodes: 0 };
    let node = parser.any(0)?;
    if parser.at < tokens.len() {
        return Err(format!("the condition goes on behind its end: {:?}", tokens[parser.at]));
    }
    Ok(node)
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        if tokens.len() > IMPORT_NODES_MAX {
            return Err(format!("the condition has more than {IMPORT_NODES_MAX} parts"));
        }
        if let Some(sign) = SIGN_OPERATORS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
            continue;
        }
        match first {
            '(' => tokens.push(Token::Open),
            ')' => tokens.push(Token::Close),
            ',' => tokens.push(Token::Comma),
            '\'' | '"' => {
                let (text, len) = quote(&rest[1..], first).ok_or("a quote is not closed")?;
                tokens.push(Token::Quoted(text));
                rest = &rest[1 + len..];
                continue;
            }
            _ => {
                let is_end = |c: char| c.is_whitespace() || "(),=!<>'\"".contains(c);
                let end = rest.find(is_end).unwrap_or(rest.len()).max(first.len_utf8());
                tokens.push(Token::Word(rest[..end].to_owned()));
                rest = &rest[end..];
                continue;
            }
        }
        rest = &rest[1..];
    }
}

/// The text up to a closing quote, `\` before a quote taken away, and its length with the quote.
fn quote(rest: &str, end: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some((_, next))) if *next == end || *next == '\\' => {
                text.push(*next);
                chars.next();
            }
            (c, _) if c == end => return Some((text, at + c.len_utf8())),
            (c, _) => text.push(c),
        }
    }
    None
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    nodes: usize,
}

impl Parser<'_> {
    fn is_word(&self, word: &str) -> bool {
        match self.tokens.get(self.at) {
            Some(Token::Word(found)) => found.eq_ignore_ascii_case(word),
            _ => false,
        }
    }

    fn any(&mut self, depth: usize) -> Result<Node, String> {
        let mut parts = vec![self.all(depth)?];
        while self.is_word("or") {
            self.at += 1;
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Node::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Node, String> {
        let mut parts = vec![self.one(depth)?];
        while self.is_word("and") {
            self.at += 1;
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Node::All(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Node, String> {
        self.nodes += 1;
        if depth > IMPORT_DEPTH_MAX || self.nodes > IMPORT_NODES_MAX {
            return Err("the condition nests too deeply or has too many parts".to_owned());
        }
        if self.is_word("not") {
            self.at += 1;
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        match self.tokens.get(self.at) {
            Some(Token::Open) => {
                self.at += 1;
                let node = self.any(depth + 1)?;
                if self.tokens.get(self.at) != Some(&Token::Close) {
                    return Err("a bracket is not closed".to_owned());
                }
                self.at += 1;
                Ok(node)
            }
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                self.test(word)
            }
            other => Err(format!("expected a test, found {other:?}")),
        }
    }

    fn test(&mut self, field: String) -> Result<Node, String> {
        let operator = match self.tokens.get(self.at) {
            Some(Token::Sign(sign)) => (*sign).to_owned(),
            Some(Token::Word(word)) if WORD_OPERATORS.contains(&word.as_str()) => word.clone(),
            _ => return Ok(Node::Macro(field)),
        };
        self.at += 1;
        let values = if operator == "exists" { Vec::new() } else { self.values()? };
        Ok(Node::Test(Test { field, operator, values }))
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        if self.tokens.get(self.at) != Some(&Token::Open) {
            return Ok(vec![self.value()?]);
        }
        self.at += 1;
        let mut values = Vec::new();
        loop {
            match self.tokens.get(self.at) {
                Some(Token::Close) => {
                    self.at += 1;
                    return Ok(values);
                }
                Some(Token::Comma) => self.at += 1,
                _ => values.push(self.value()?),
            }
        }
    }

    fn value(&mut self) -> Result<String, String> {
        let value = match self.tokens.get(self.at) {
            Some(Token::Word(text) | Token::Quoted(text)) => text.clone(),
            // `evt.dir=<`
            Some(Token::Sign(sign)) => (*sign).to_owned(),
            other => return Err(format!("expected a value, found {other:?}")),
        };
        self.at += 1;
        Ok(value)
    }
}
