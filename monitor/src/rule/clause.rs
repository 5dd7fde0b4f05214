//! The parts that a `when` joins with `&&`, each on its own: so that a failed test can say which of
//! them stopped the events.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::{Facts, FieldId};

use super::cel::{Condition, Context};
use super::diagnostic::{Located, Sink};
use super::spec::{Predicate, Vars};

/// One part of a `when`.
pub struct Clause {
    /// Its text.
    pub text: String,
    /// Fields it reads, by way of macros too.
    pub fields: BTreeSet<FieldId>,
    holds: Predicate,
}

impl Clause {
    /// Whether it is true of an event.
    pub fn holds(&self, facts: &dyn Facts) -> bool {
        (self.holds)(facts, &Vars::default())
    }
}

impl fmt::Debug for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clause").field("text", &self.text).finish_non_exhaustive()
    }
}

/// The clauses of a condition that has been checked as a whole; none when it cannot be taken apart.
pub(crate) fn clauses(when: &Located<String>, context: &Context<'_>) -> Vec<Clause> {
    // Whatever a part has to complain about, the whole has been accepted.
    let sink = Sink::new(context.sink.documents.clone());
    let context = Context { sink: &sink, ..*context };
    let clause = |text: &str| {
        let located = Located { value: text.to_owned(), span: when.span };
        let condition = Condition::of(&located, &context).ok()?;
        let fields = condition.fields.clone();
        Some(Clause { text: located.value, fields, holds: condition.predicate() })
    };
    let clauses: Option<Vec<_>> = split(&when.value).into_iter().map(clause).collect();
    clauses.unwrap_or_default()
}

/// Splits at each `&&` outside brackets and quotes. A condition with `||` or `?` at that level is
/// one part, since those bind less.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start, mut quote, mut is_raw) = (0_usize, 0, None, false);
    let mut chars = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') if !is_raw => {
                chars.next();
            }
            (Some(open), _) => quote = Some(open).filter(|open| *open != c),
            (None, '"' | '\'') => (quote, is_raw) = (Some(c), matches!(before, 'r' | 'R')),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, '?' | '|') if depth == 0 && (c == '?' || before == '|') => {
                return vec![text.trim()];
            }
            (None, '&') if depth == 0 && before == '&' => {
                parts.push(text[start..at - 1].trim());
                start = at + 1;
            }
            _ => {}
        }
        before = c;
    }
    parts.push(text[start..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_split_at_its_outermost_conjunctions() {
        assert_eq!(split("a && b"), ["a", "b"]);
        assert_eq!(split("a"), ["a"]);
        assert_eq!(
            split(" (a && b)\n && c[\"x && y\"] == 'p\\' && q'"),
            ["(a && b)", "c[\"x && y\"] == 'p\\' && q'"]
        );
        assert_eq!(split(r#"x.matches(r"\") && y"#), [r#"x.matches(r"\")"#, "y"]);
    }

    #[test]
    fn what_binds_less_than_a_conjunction_is_not_taken_apart() {
        assert_eq!(split("a && b || c"), ["a && b || c"]);
        assert_eq!(split("a ? b && c : d"), ["a ? b && c : d"]);
        assert_eq!(split("(a || b) && c"), ["(a || b)", "c"]);
    }
}
