//! Evaluation of a checked condition. CEL's rules: a missing value is an error, `&&` and `||`
//! absorb errors when the other side decides, everything else passes them on.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use crate::model::{Facts, FieldId, Value};
use crate::rule::spec::Vars;

use super::node::{Arith, Compare, Extreme, Float, Int, List, Sized, Text, TextTest, Truth, Var};

/// A CEL evaluation error: something is missing, too large, or not there to be indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault;

/// What a condition is evaluated over.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) facts: &'a dyn Facts,
    pub(crate) vars: &'a Vars,
    pub(crate) item: Option<&'a Item<'a>>,
}

/// The item of a running `exists` or `all`, and of those around it.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    text: &'a str,
    outer: Option<&'a Self>,
}

impl Truth {
    pub(crate) fn eval(&self, scene: &Scene<'_>) -> Result<bool, Fault> {
        match self {
            Self::Const(truth) => Ok(*truth),
            Self::Field(id) => match scene.facts.field(*id) {
                Value::Bool(truth) => Ok(truth),
                _ => Err(Fault),
            },
            Self::Not(inner) => inner.eval(scene).map(|truth| !truth),
            Self::All(parts) => fold(parts.iter().map(|part| part.eval(scene)), false),
            Self::Any(parts) => fold(parts.iter().map(|part| part.eval(scene)), true),
            Self::Pick(parts) => {
                let [test, yes, no] = &**parts;
                if test.eval(scene)? { yes.eval(scene) } else { no.eval(scene) }
            }
            Self::Same(pair) => Ok(pair[0].eval(scene)? == pair[1].eval(scene)?),
            Self::IntIs(id, compare, want) => match scene.facts.field(*id) {
                Value::Int(number) => Ok(compare.holds(number.cmp(want))),
                _ => Err(Fault),
            },
            Self::FloatIs(id, compare, want) => match scene.facts.field(*id) {
                Value::Float(number) => compare.holds_partial(number.partial_cmp(want)),
                _ => Err(Fault),
            },
            Self::TextIs(id, want) => match scene.facts.field(*id) {
                Value::Str(text) => Ok(text == &**want),
                _ => Err(Fault),
            },
            Self::Has(id) => Ok(!matches!(scene.facts.field(*id), Value::Missing)),
            Self::IpIn(id, nets) => Ok(nets.contains(ip(*id, scene)?)),
            Self::IpSame(left, right) => Ok(ip(*left, scene)? == ip(*right, scene)?),
            Self::Int(..) | Self::Float(..) | Self::Mixed(..) | Self::Text(..) => {
                self.eval_compare(scene)
            }
            Self::TextIn(..) | Self::TextInList(..) | Self::IntIn(..) | Self::FloatIn(..) => {
                self.eval_member(scene)
            }
            _ => self.eval_text(scene),
        }
    }

    /// Whether it is true. A part that is an error decides as one that is false does, so nothing
    /// behind it is looked at, as [`Self::eval`] must.
    pub(crate) fn holds(&self, scene: &Scene<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(scene)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(scene)),
            Self::Pick(parts) => {
                let [test, yes, no] = &**parts;
                match test.eval(scene) {
                    Ok(true) => yes.holds(scene),
                    Ok(false) => no.holds(scene),
                    Err(Fault) => false,
                }
            }
            other => other.eval(scene) == Ok(true),
        }
    }

    fn eval_compare(&self, scene: &Scene<'_>) -> Result<bool, Fault> {
        match self {
            Self::Int(compare, pair) => {
                Ok(compare.holds(pair[0].eval(scene)?.cmp(&pair[1].eval(scene)?)))
            }
            Self::Float(compare, pair) => {
                let order = pair[0].eval(scene)?.partial_cmp(&pair[1].eval(scene)?);
                compare.holds_partial(order)
            }
            Self::Mixed(compare, pair) => {
                let order = int_cmp_float(pair.0.eval(scene)?, pair.1.eval(scene)?);
                compare.holds_partial(order)
            }
            Self::Text(compare, pair) => {
                Ok(compare.holds(pair[0].eval(scene)?.cmp(&pair[1].eval(scene)?)))
            }
            _ => Err(Fault),
        }
    }

    fn eval_member(&self, scene: &Scene<'_>) -> Result<bool, Fault> {
        match self {
            Self::TextIn(text, set) => text.with(scene, |text| set.contains(text)),
            Self::TextInList(text, list) => {
                let list = list.eval(scene)?;
                text.with(scene, |text| list.iter().any(|item| *item == *text))
            }
            Self::IntIn(number, set) => Ok(set.binary_search(&number.eval(scene)?).is_ok()),
            Self::FloatIn(number, set) => {
                let number = number.eval(scene)?;
                Ok(set.iter().any(|item| item.partial_cmp(&number) == Some(Ordering::Equal)))
            }
            _ => Err(Fault),
        }
    }

    fn eval_text(&self, scene: &Scene<'_>) -> Result<bool, Fault> {
        match self {
            Self::KeyIn(key, id) => match scene.facts.field(*id) {
                Value::Map(map) => Ok(map.contains_key(&*key.eval(scene)?)),
                _ => Err(Fault),
            },
            Self::HasKey(id, key) => match scene.facts.field(*id) {
                Value::Map(map) => Ok(map.contains_key(&**key)),
                _ => Err(Fault),
            },
            Self::Finds(text, needle) => {
                text.with(scene, |text| needle.0.find(text.as_bytes()).is_some())
            }
            Self::FindsAny(text, needles) => text.with(scene, |text| needles.find(text)),
            Self::EndsAny(text, ends) => text.with(scene, |text| ends.find(text)),
            Self::StartsAny(text, starts) => {
                text.with(scene, |text| starts.iter().any(|start| text.starts_with(&**start)))
            }
            Self::Part(relation, pair) => {
                let part = pair[1].eval(scene)?;
                pair[0].with(scene, |text| match relation {
                    TextTest::Contains => text.contains(&*part),
                    TextTest::StartsWith => text.starts_with(&*part),
                    TextTest::EndsWith => text.ends_with(&*part),
                })
            }
            Self::Matches(text, pattern) => text.with(scene, |text| pattern.0.is_match(text)),
            Self::Glob(text, glob) => text.with(scene, |text| glob.0.is_match(text)),
            Self::Exists(list, body) => {
                fold(items(list, scene)?.map(|item| body.eval(&inside(scene, &item))), true)
            }
            Self::Every(list, body) => {
                fold(items(list, scene)?.map(|item| body.eval(&inside(scene, &item))), false)
            }
            _ => Err(Fault),
        }
    }
}

/// `&&` (`decides` is false) or `||` (`decides` is true) over any number of parts: the deciding
/// value wins over errors, wherever they stand.
fn fold(parts: impl Iterator<Item = Result<bool, Fault>>, decides: bool) -> Result<bool, Fault> {
    let mut outcome = Ok(!decides);
    for part in parts {
        match part {
            Ok(truth) if truth == decides => return Ok(decides),
            Ok(_) => {}
            Err(Fault) => outcome = Err(Fault),
        }
    }
    outcome
}

fn items<'a>(
    list: &'a List,
    scene: &Scene<'a>,
) -> Result<impl Iterator<Item = Item<'a>> + use<'a>, Fault> {
    let outer = scene.item;
    Ok(list.eval(scene)?.iter().map(move |text| Item { text, outer }))
}

fn inside<'b>(scene: &Scene<'b>, item: &'b Item<'b>) -> Scene<'b> {
    Scene { facts: scene.facts, vars: scene.vars, item: Some(item) }
}

fn ip(id: FieldId, scene: &Scene<'_>) -> Result<IpAddr, Fault> {
    match scene.facts.field(id) {
        Value::Ip(ip) => Ok(ip),
        _ => Err(Fault),
    }
}

impl Compare {
    pub(crate) const fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }

    /// As [`Self::holds`]. What is not a number is unequal to everything and cannot be ordered.
    pub(crate) fn holds_partial(self, order: Option<Ordering>) -> Result<bool, Fault> {
        match (order, self) {
            (Some(order), _) => Ok(self.holds(order)),
            (None, Self::Eq) => Ok(false),
            (None, Self::Ne) => Ok(true),
            (None, _) => Err(Fault),
        }
    }

    /// The comparison with its sides exchanged.
    pub(crate) const fn mirrored(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            Self::Eq | Self::Ne => self,
        }
    }
}

/// Compares by value, without rounding either side.
fn int_cmp_float(int: i64, float: f64) -> Option<Ordering> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= TWO_63 {
        return Some(Ordering::Less);
    }
    if float < -TWO_63 {
        return Some(Ordering::Greater);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the value was just found to be in range")]
    let whole = float.trunc() as i64;
    Some(int.cmp(&whole).then_with(|| {
        let rest = float.fract();
        0.0_f64.partial_cmp(&rest).unwrap_or(Ordering::Equal)
    }))
}

impl Int {
    pub(crate) fn eval(&self, scene: &Scene<'_>) -> Result<i64, Fault> {
        match self {
            Self::Const(number) => Ok(*number),
            Self::Field(id) => match scene.facts.field(*id) {
                Value::Int(number) => Ok(number),
                _ => Err(Fault),
            },
            Self::Var(var) => Ok(match var {
                Var::Count => scene.vars.count,
                Var::Sum => scene.vars.sum,
                Var::Distinct => scene.vars.distinct,
            }),
            Self::Neg(inner) => inner.eval(scene)?.checked_neg().ok_or(Fault),
            Self::Op(arith, pair) => {
                let (left, right) = (pair[0].eval(scene)?, pair[1].eval(scene)?);
                match arith {
                    Arith::Add => left.checked_add(right),
                    Arith::Sub => left.checked_sub(right),
                    Arith::Mul => left.checked_mul(right),
                    Arith::Div => left.checked_div(right),
                    Arith::Rem => left.checked_rem(right),
                }
                .ok_or(Fault)
            }
            Self::Size(sized) => sized.eval(scene),
            Self::Extreme(extreme, parts) => {
                let mut best: Option<i64> = None;
                for part in parts {
                    let number = part.eval(scene)?;
                    best = Some(match (best, extreme) {
                        (None, _) => number,
                        (Some(best), Extreme::Max) => best.max(number),
                        (Some(best), Extreme::Min) => best.min(number),
                    });
                }
                best.ok_or(Fault)
            }
            Self::Pick(pick) => {
                let (test, yes, no) = &**pick;
                if test.eval(scene)? { yes.eval(scene) } else { no.eval(scene) }
            }
        }
    }
}

impl Sized {
    fn eval(&self, scene: &Scene<'_>) -> Result<i64, Fault> {
        let size = match self {
            Self::Text(text) => text.eval(scene)?.chars().count(),
            Self::List(list) => list.eval(scene)?.len(),
            Self::Map(id) => match scene.facts.field(*id) {
                Value::Map(map) => map.len(),
                _ => return Err(Fault),
            },
        };
        i64::try_from(size).map_err(|_| Fault)
    }
}

impl Float {
    pub(crate) fn eval(&self, scene: &Scene<'_>) -> Result<f64, Fault> {
        match self {
            Self::Const(number) => Ok(*number),
            Self::Field(id) => match scene.facts.field(*id) {
                Value::Float(number) => Ok(number),
                _ => Err(Fault),
            },
            Self::Int(inner) => inner.eval(scene).map(widen),
            Self::Neg(inner) => inner.eval(scene).map(|number| -number),
            Self::Op(arith, pair) => {
                let (left, right) = (pair[0].eval(scene)?, pair[1].eval(scene)?);
                match arith {
                    Arith::Add => Ok(left + right),
                    Arith::Sub => Ok(left - right),
                    Arith::Mul => Ok(left * right),
                    Arith::Div => Ok(left / right),
                    Arith::Rem => Err(Fault),
                }
            }
            Self::Extreme(extreme, parts) => {
                let mut best: Option<f64> = None;
                for part in parts {
                    let number = part.eval(scene)?;
                    best = Some(match (best, extreme) {
                        (None, _) => number,
                        (Some(best), Extreme::Max) => best.max(number),
                        (Some(best), Extreme::Min) => best.min(number),
                    });
                }
                best.ok_or(Fault)
            }
            Self::Pick(pick) => {
                let (test, yes, no) = &**pick;
                if test.eval(scene)? { yes.eval(scene) } else { no.eval(scene) }
            }
        }
    }
}

/// An int as a float, rounded to the nearest.
pub(crate) fn widen(int: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "CEL's double(int) rounds to the nearest")]
    let float = int as f64;
    float
}

impl Text {
    /// Asks something of the text. A field, the frequent case, is neither copied nor wrapped.
    fn with<R>(&self, scene: &Scene<'_>, ask: impl FnOnce(&str) -> R) -> Result<R, Fault> {
        match self {
            Self::Field(id) => match scene.facts.field(*id) {
                Value::Str(text) => Ok(ask(text)),
                _ => Err(Fault),
            },
            other => other.eval(scene).map(|text| ask(&text)),
        }
    }

    pub(crate) fn eval<'a>(&'a self, scene: &Scene<'a>) -> Result<Cow<'a, str>, Fault> {
        match self {
            Self::Const(text) => Ok(Cow::Borrowed(text)),
            Self::Field(id) => match scene.facts.field(*id) {
                Value::Str(text) => Ok(Cow::Borrowed(text)),
                _ => Err(Fault),
            },
            Self::Item(level) => {
                let mut item = scene.item;
                for _ in 0..*level {
                    item = item.and_then(|item| item.outer);
                }
                item.map(|item| Cow::Borrowed(item.text)).ok_or(Fault)
            }
            Self::Key(id, key) => match scene.facts.field(*id) {
                Value::Map(map) => {
                    let value = map.get(&*key.eval(scene)?).ok_or(Fault)?;
                    Ok(Cow::Borrowed(value.as_str()))
                }
                _ => Err(Fault),
            },
            Self::At(list, index) => {
                let index = usize::try_from(index.eval(scene)?).map_err(|_| Fault)?;
                list.eval(scene)?.get(index).map(|text| Cow::Borrowed(&**text)).ok_or(Fault)
            }
            Self::Lower(inner) => inner.eval(scene).map(lower),
            Self::Join(pair) => {
                Ok(Cow::Owned(pair[0].eval(scene)?.into_owned() + &pair[1].eval(scene)?))
            }
            Self::Pick(pick) => {
                let (test, yes, no) = &**pick;
                if test.eval(scene)? { yes.eval(scene) } else { no.eval(scene) }
            }
        }
    }
}

fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        text
    }
}

impl List {
    pub(crate) fn eval<'a>(&'a self, scene: &Scene<'a>) -> Result<&'a [String], Fault> {
        match self {
            Self::Const(texts) => Ok(texts),
            Self::Field(id) => match scene.facts.field(*id) {
                Value::List(texts) => Ok(texts),
                _ => Err(Fault),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn an_int_and_a_float_compare_by_value(int: i64, halves in -(1_i64 << 53)..(1 << 53)) {
            let float = widen(halves) / 2.0;
            let near = halves / 2;
            for int in [int, near, near - 1, near + 1] {
                let want = (i128::from(int) * 2).cmp(&i128::from(halves));
                assert_eq!(int_cmp_float(int, float), Some(want));
            }
        }
    }

    #[test]
    fn int_against_float_is_exact_at_the_edges() {
        assert_eq!(int_cmp_float(i64::MAX, 9_223_372_036_854_775_808.0), Some(Ordering::Less));
        assert_eq!(int_cmp_float(i64::MIN, -9_223_372_036_854_775_808.0), Some(Ordering::Equal));
        assert_eq!(int_cmp_float(-1, -1.5), Some(Ordering::Greater));
        assert_eq!(int_cmp_float(1, 1.5), Some(Ordering::Less));
        assert_eq!(int_cmp_float(0, f64::NAN), None);
        assert_eq!(int_cmp_float(0, f64::INFINITY), Some(Ordering::Less));
        assert_eq!(int_cmp_float(0, f64::NEG_INFINITY), Some(Ordering::Greater));
    }
}
