//! The parts of a condition that must all hold, apart, so that an engine can ask one that several
//! rules have in common once an event.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;

use crate::model::Facts;
use crate::rule::spec::Vars;

use super::eval::Scene;
use super::node::{Text, Truth};

/// One of the parts of a condition that must all hold. Two that are equal give the same answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Part(Arc<Truth>);

impl Part {
    /// Whether it holds; an error is a no, as in the condition as a whole.
    pub fn holds(&self, facts: &dyn Facts) -> bool {
        const NO_VARS: &Vars = &Vars { count: 0, sum: 0, distinct: 0 };
        self.0.holds(&Scene { facts, vars: NO_VARS, item: None })
    }

    /// Equal for equal parts, and different for most others.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        mark(&self.0, &mut hasher);
        hasher.finish()
    }
}

/// The parts of `truth`, those that cost little first.
pub(super) fn parts(truth: Truth) -> Vec<Part> {
    let part = |truth| Part(Arc::new(truth));
    match truth {
        Truth::All(parts) => parts.into_iter().map(part).collect(),
        other => vec![part(other)],
    }
}

fn mark(truth: &Truth, hasher: &mut DefaultHasher) {
    discriminant(truth).hash(hasher);
    match truth {
        Truth::Field(id) | Truth::Has(id) | Truth::FloatIs(id, ..) | Truth::IpIn(id, _) => {
            id.hash(hasher);
        }
        Truth::IntIs(id, _, number) => (id, number).hash(hasher),
        Truth::TextIs(id, text) => (id, text).hash(hasher),
        Truth::EndsAny(text, _) | Truth::StartsAny(text, _) | Truth::TextIn(text, _) => {
            if let Text::Field(id) = &**text {
                id.hash(hasher);
            }
        }
        Truth::Not(inner) => mark(inner, hasher),
        Truth::All(parts) | Truth::Any(parts) => {
            parts.iter().for_each(|part| mark(part, hasher));
        }
        Truth::Pick(parts) => parts.iter().for_each(|part| mark(part, hasher)),
        _ => {}
    }
}
