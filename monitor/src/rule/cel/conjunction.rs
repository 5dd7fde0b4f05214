//! What can be said of a condition without an event: that no event passes it, or that one
//! condition follows from another. Both answer only when they are sure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{EventKind, FieldId, KindSet};

use super::guard::{Guard, guards};
use super::node::{Compare, Truth};

/// Why `truth` cannot hold for any event of `kinds`; `None` when it may.
pub(super) fn impossible(truth: &Truth, kinds: KindSet) -> Option<String> {
    match truth {
        Truth::Const(false) => Some("it is constant: false".to_owned()),
        Truth::TextIs(FieldId::EvtKind, name) => {
            let other = EventKind::from_name(name).is_none_or(|kind| !kinds.contains(kind));
            other.then(|| format!("`evt.kind` is never \"{name}\" here"))
        }
        Truth::TextIn(_, set) if set.is_empty() => Some("the list is empty".to_owned()),
        Truth::IntIn(_, set) if set.is_empty() => Some("the list is empty".to_owned()),
        Truth::IpIn(id, nets) if nets.is_empty() => {
            Some(format!("`{}` is compared with no network", id.name()))
        }
        Truth::Any(parts) => {
            let reasons: Option<Vec<String>> =
                parts.iter().map(|part| impossible(part, kinds)).collect();
            reasons.map(|reasons| reasons.join("; "))
        }
        Truth::All(parts) => {
            parts.iter().find_map(|part| impossible(part, kinds)).or_else(|| contradiction(parts))
        }
        _ => None,
    }
}

/// Two parts that exclude each other.
fn contradiction(parts: &[Truth]) -> Option<String> {
    let mut texts: BTreeMap<FieldId, &str> = BTreeMap::new();
    let mut ranges: BTreeMap<FieldId, (i64, i64)> = BTreeMap::new();
    for (at, part) in parts.iter().enumerate() {
        let opposite = part.clone().negated();
        if parts[..at].contains(&opposite) {
            return Some("one part is the opposite of another".to_owned());
        }
        match part {
            Truth::TextIs(id, text) => {
                if let Some(other) = texts.insert(*id, text)
                    && *other != **text
                {
                    let name = id.name();
                    return Some(format!("`{name}` cannot be \"{other}\" and \"{text}\" at once"));
                }
            }
            Truth::IntIs(id, compare, number) => {
                let range = ranges.entry(*id).or_insert((i64::MIN, i64::MAX));
                narrow(range, *compare, *number);
                if range.0 > range.1 {
                    return Some(format!("no value of `{}` passes all comparisons", id.name()));
                }
            }
            _ => {}
        }
    }
    no_value_left(parts)
}

/// A field that must be there and must not, or that no value passes all parts.
fn no_value_left(parts: &[Truth]) -> Option<String> {
    let needed: Vec<Guard> = parts.iter().flat_map(guards).collect();
    let mut texts: BTreeMap<FieldId, BTreeSet<Box<str>>> = BTreeMap::new();
    for guard in &needed {
        let (id, name) = (guard.field(), guard.field().name());
        match guard {
            Guard::Has(_) => {
                let absent = Truth::Not(Box::new(Truth::Has(id)));
                if parts.contains(&absent) {
                    return Some(format!("`{name}` is needed and must be missing"));
                }
            }
            Guard::TextIn(_, set) => {
                let left = texts.entry(id).or_insert_with(|| set.clone());
                left.retain(|text| set.contains(text));
                if left.is_empty() {
                    return Some(format!("no value of `{name}` passes all comparisons"));
                }
            }
            Guard::Is(_, truth) if needed.contains(&Guard::Is(id, !truth)) => {
                return Some(format!("`{name}` must be true and false at once"));
            }
            _ => {}
        }
    }
    let fits = |guard: &Guard, text: &str| match guard {
        Guard::Finds(_, set) => set.iter().any(|part| text.contains(&**part)),
        Guard::StartsWith(_, set) => set.iter().any(|part| text.starts_with(&**part)),
        _ => true,
    };
    needed.iter().find_map(|guard| {
        let left = texts.get(&guard.field())?;
        let none = !left.iter().any(|text| fits(guard, text));
        none.then(|| format!("no value of `{}` passes all comparisons", guard.field().name()))
    })
}

fn narrow(range: &mut (i64, i64), compare: Compare, number: i64) {
    let (low, high) = match compare {
        Compare::Eq => (number, number),
        Compare::Ne => return,
        Compare::Ge => (number, i64::MAX),
        Compare::Le => (i64::MIN, number),
        Compare::Gt => match number.checked_add(1) {
            Some(next) => (next, i64::MAX),
            None => (i64::MAX, i64::MIN),
        },
        Compare::Lt => match number.checked_sub(1) {
            Some(previous) => (i64::MIN, previous),
            None => (i64::MAX, i64::MIN),
        },
    };
    range.0 = range.0.max(low);
    range.1 = range.1.min(high);
}

/// Whether every event that passes `premise` passes `conclusion`: each part of the conclusion is
/// written in the premise too.
pub(super) fn implies(premise: &Truth, conclusion: &Truth) -> bool {
    match conclusion {
        Truth::Const(true) => true,
        Truth::All(parts) => parts.iter().all(|part| implies(premise, part)),
        Truth::Any(parts) if parts.iter().any(|part| implies(premise, part)) => true,
        Truth::FindsAny(text, needles) => match premise {
            Truth::Finds(of, needle) => of == text && needles.texts().contains(needle.text()),
            Truth::FindsAny(of, few) => of == text && few.texts().is_subset(&needles.texts()),
            Truth::All(parts) => parts.iter().any(|part| implies(part, conclusion)),
            _ => false,
        },
        other => premise == other || matches!(premise, Truth::All(parts) if parts.contains(other)),
    }
}
