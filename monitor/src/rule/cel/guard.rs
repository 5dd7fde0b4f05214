//! What one field must be for a condition to hold: the cheapest test of a rule, by which the engine
//! finds the rules that an event may match, and by which the kernel side is told what it need not
//! send.
//!
//! A guard is necessary, never sufficient: an event that misses it cannot match, one that meets it
//! may.

use std::collections::BTreeSet;

use crate::model::{Facts, FieldId, Value};

use super::node::{Compare, Int, List, Text, TextTest, Truth};

/// A test of one field that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The text is one of these.
    TextIn(FieldId, BTreeSet<Box<str>>),
    /// The number is one of these.
    IntIn(FieldId, BTreeSet<i64>),
    /// The text contains one of these.
    Finds(FieldId, BTreeSet<Box<str>>),
    /// The text starts with one of these.
    StartsWith(FieldId, BTreeSet<Box<str>>),
    /// The truth is this.
    Is(FieldId, bool),
    /// The field is there.
    Has(FieldId),
}

impl Guard {
    /// The field that is tested.
    pub fn field(&self) -> FieldId {
        match self {
            Self::TextIn(id, _)
            | Self::IntIn(id, _)
            | Self::Finds(id, _)
            | Self::StartsWith(id, _)
            | Self::Is(id, _)
            | Self::Has(id) => *id,
        }
    }

    /// Whether an event meets it.
    pub fn admits(&self, facts: &dyn Facts) -> bool {
        match (self, facts.field(self.field())) {
            (Self::TextIn(_, set), Value::Str(text)) => set.contains(text),
            (Self::IntIn(_, set), Value::Int(number)) => set.contains(&number),
            (Self::Finds(_, set), Value::Str(text)) => {
                set.iter().any(|part| text.contains(&**part))
            }
            (Self::StartsWith(_, set), Value::Str(text)) => {
                set.iter().any(|part| text.starts_with(&**part))
            }
            (Self::Is(_, want), Value::Bool(truth)) => truth == *want,
            (Self::Has(_), value) => value != Value::Missing,
            _ => false,
        }
    }

    /// The more an event must be for it, the fewer events pass: lower comes first.
    fn rank(&self) -> u8 {
        match self {
            Self::TextIn(..) => 0,
            Self::IntIn(..) => 1,
            Self::Finds(..) => 2,
            Self::StartsWith(..) => 3,
            Self::Is(_, _) => 4,
            Self::Has(_) => 5,
        }
    }

    /// The guard that holds when this one or `other` does; `None` when they speak of different
    /// things.
    fn either(self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::TextIn(id, mut set), Self::TextIn(same, more)) if id == *same => {
                set.extend(more.iter().cloned());
                Some(Self::TextIn(id, set))
            }
            (Self::IntIn(id, mut set), Self::IntIn(same, more)) if id == *same => {
                set.extend(more.iter().copied());
                Some(Self::IntIn(id, set))
            }
            (Self::Finds(id, mut set), Self::Finds(same, more)) if id == *same => {
                set.extend(more.iter().cloned());
                Some(Self::Finds(id, set))
            }
            (Self::StartsWith(id, mut set), Self::StartsWith(same, more)) if id == *same => {
                set.extend(more.iter().cloned());
                Some(Self::StartsWith(id, set))
            }
            (this, other) if this == *other => Some(this),
            _ => None,
        }
    }
}

/// The guards of a condition, the most telling first. Each must hold.
pub(super) fn guards(truth: &Truth) -> Vec<Guard> {
    let mut all = find(truth);
    all.sort_by_key(|guard| (guard.rank(), guard.field()));
    all
}

fn find(truth: &Truth) -> Vec<Guard> {
    let has = |id: FieldId| vec![Guard::Has(id)];
    match truth {
        Truth::Field(id) => vec![Guard::Is(*id, true), Guard::Has(*id)],
        Truth::Not(inner) => match &**inner {
            Truth::Field(id) => vec![Guard::Is(*id, false), Guard::Has(*id)],
            _ => Vec::new(),
        },
        Truth::IntIs(id, Compare::Eq, number) => {
            vec![Guard::IntIn(*id, BTreeSet::from([*number])), Guard::Has(*id)]
        }
        Truth::Has(id)
        | Truth::IntIs(id, ..)
        | Truth::FloatIs(id, ..)
        | Truth::IpIn(id, _)
        | Truth::HasKey(id, _)
        | Truth::Exists(List::Field(id), _) => has(*id),
        Truth::IntIn(number, set) => match &**number {
            Int::Field(id) => {
                vec![Guard::IntIn(*id, set.iter().copied().collect()), Guard::Has(*id)]
            }
            _ => Vec::new(),
        },
        Truth::All(parts) => both(parts.iter().map(find)),
        Truth::Any(parts) => either(parts.iter().map(find)),
        Truth::Pick(parts) => {
            let [test, yes, no] = &**parts;
            either([both([find(test), find(yes)]), find(no)])
        }
        other => find_text(other),
    }
}

fn find_text(truth: &Truth) -> Vec<Guard> {
    let one = |text: &str| BTreeSet::from([text.into()]);
    match truth {
        Truth::TextIs(id, text) => vec![Guard::TextIn(*id, one(text)), Guard::Has(*id)],
        Truth::TextIn(text, set) => on(text, |id| Guard::TextIn(id, set.texts())),
        Truth::Finds(text, needle) => on(text, |id| Guard::Finds(id, one(needle.text()))),
        Truth::FindsAny(text, needles) => on(text, |id| Guard::Finds(id, needles.texts())),
        Truth::Glob(text, glob) => {
            let prefix = literal_prefix(glob.0.glob().glob());
            on(text, |id| Guard::StartsWith(id, one(prefix)))
        }
        Truth::Part(TextTest::StartsWith, pair) => match &**pair {
            [text, Text::Const(part)] => on(text, |id| Guard::StartsWith(id, one(part))),
            [text, _] => on(text, Guard::Has),
        },
        Truth::Part(_, pair) => on(&pair[0], Guard::Has),
        Truth::Matches(text, _) => on(text, Guard::Has),
        _ => Vec::new(),
    }
}

/// The guard of a test of a field; none of anything else, such as a field in lower case.
fn on(text: &Text, guard: impl FnOnce(FieldId) -> Guard) -> Vec<Guard> {
    match text {
        Text::Field(id) => both([vec![guard(*id)], vec![Guard::Has(*id)]]),
        _ => Vec::new(),
    }
}

/// The guards of any of the parts: each must hold.
fn both(parts: impl IntoIterator<Item = Vec<Guard>>) -> Vec<Guard> {
    let mut all: Vec<Guard> = Vec::new();
    for guard in parts.into_iter().flatten() {
        if !all.contains(&guard) {
            all.push(guard);
        }
    }
    all
}

/// What must hold whichever part does.
fn either(parts: impl IntoIterator<Item = Vec<Guard>>) -> Vec<Guard> {
    let mut parts = parts.into_iter();
    let mut common = parts.next().unwrap_or_default();
    for other in parts {
        common = common
            .into_iter()
            .filter_map(|guard| other.iter().find_map(|other| guard.clone().either(other)))
            .collect();
    }
    common
}

/// What every text that matches a glob starts with.
fn literal_prefix(glob: &str) -> &str {
    let end = glob.find(['*', '?', '[', '{', '\\', '!']).unwrap_or(glob.len());
    &glob[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_of_a_glob_ends_at_its_first_special_character() {
        assert_eq!(literal_prefix("/models/**"), "/models/");
        assert_eq!(literal_prefix("/a/{b,c}/*"), "/a/");
        assert_eq!(literal_prefix("/etc/passwd"), "/etc/passwd");
        assert_eq!(literal_prefix("**/x"), "");
    }
}
