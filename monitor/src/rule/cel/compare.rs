//! Comparisons and membership, and the small simplifications that make them cheap.

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::operators;

use crate::model::FieldId;
use crate::rule::diagnostic::Reported;
use crate::rule::net::{NetSet, parse_net};

use super::check::Checker;
use super::eval::widen;
use super::node::{
    Arith, Compare, Float, Int, List, Needle, Needles, Sized, Text, TextSet, Truth, Typed,
};
use super::{article, nowhere};

impl Checker<'_, '_> {
    pub(super) fn comparison(
        &mut self,
        expr: &IdedExpr,
        name: &str,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Typed, Reported> {
        let compare = match name {
            operators::EQUALS => Compare::Eq,
            operators::NOT_EQUALS => Compare::Ne,
            operators::LESS => Compare::Lt,
            operators::LESS_EQUALS => Compare::Le,
            operators::GREATER => Compare::Gt,
            _ => Compare::Ge,
        };
        let sides = self.both(left, right)?;
        let equality = matches!(compare, Compare::Eq | Compare::Ne);
        let truth = match sides {
            (Typed::Int(left), Typed::Int(right)) => int(compare, left, right),
            (Typed::Text(left), Typed::Text(right)) => text(compare, left, right),
            (Typed::Truth(left), Typed::Truth(right)) if equality => {
                unless(compare, Truth::Same(Box::new([left, right])).settled())
            }
            (Typed::Ip(left), Typed::Ip(right)) if equality => {
                unless(compare, Truth::IpSame(left, right))
            }
            (Typed::Ip(id), Typed::Text(text)) if equality => {
                unless(compare, self.address(right, id, &text)?)
            }
            (Typed::Text(text), Typed::Ip(id)) if equality => {
                unless(compare, self.address(left, id, &text)?)
            }
            (Typed::Int(left), Typed::Float(right)) => mixed(compare, left, right),
            (Typed::Float(left), Typed::Int(right)) => mixed(compare.mirrored(), right, left),
            (Typed::Float(left), Typed::Float(right)) => float(compare, left, right),
            (left, right) => return Err(self.unlike(expr, compare, &left, &right)),
        };
        Ok(Typed::Truth(truth))
    }

    fn unlike(&self, expr: &IdedExpr, compare: Compare, left: &Typed, right: &Typed) -> Reported {
        let symbol = compare.symbol();
        let (left, right) = (article(left.kind()), article(right.kind()));
        let message = format!("`{symbol}` cannot compare {left} with {right}");
        if left.contains("list") || right.contains("list") {
            return self.error_help(expr, message, "write `\"item\" in list`");
        }
        let number = |kind: &str| kind == "an int" || kind == "a float";
        if (number(&left) && right == "a string") || (left == "a string" && number(&right)) {
            return self.error_help(expr, message, "numbers are written without quotes");
        }
        self.error(expr, message)
    }

    /// `ip == "10.1.2.3"`.
    fn address(&self, expr: &IdedExpr, id: FieldId, text: &Text) -> Result<Truth, Reported> {
        let Text::Const(text) = text else {
            return Err(self.error(expr, "an ip is compared with a constant or another ip field"));
        };
        match text.parse::<std::net::IpAddr>() {
            Ok(ip) => Ok(Truth::IpIn(id, NetSet::of([ip.to_canonical().into()]))),
            Err(_) if parse_net(text).is_some() => Err(self.error_help(
                expr,
                format!("`{text}` is a network, not an address"),
                format!("write `in cidr(\"{text}\")`"),
            )),
            Err(_) => Err(self.error(expr, format!("`{text}` is not an ip address"))),
        }
    }

    /// `item in set`.
    pub(super) fn member(
        &mut self,
        expr: &IdedExpr,
        item: &IdedExpr,
        set: &IdedExpr,
    ) -> Result<Typed, Reported> {
        let truth = match self.both(item, set)? {
            (Typed::Ip(id), Typed::Nets(nets)) => Truth::IpIn(id, nets),
            (Typed::Ip(id), Typed::List(List::Const(texts))) => {
                let mut nets = Vec::with_capacity(texts.len());
                for text in &texts {
                    nets.push(parse_net(text).ok_or_else(|| self.not_a_net(set, text))?);
                }
                Truth::IpIn(id, NetSet::of(nets))
            }
            (Typed::Text(text), Typed::List(List::Const(texts))) => {
                Truth::TextIn(Box::new(text), Box::new(TextSet::of(texts)))
            }
            (Typed::Text(text), Typed::List(list)) => Truth::TextInList(Box::new(text), list),
            (Typed::Text(key), Typed::Map(id)) => Truth::KeyIn(Box::new(key), id),
            (Typed::Int(number), Typed::Numbers { mut ints, floats }) => {
                ints.extend(floats.into_iter().filter_map(whole));
                ints.sort_unstable();
                ints.dedup();
                Truth::IntIn(Box::new(number), ints.into())
            }
            (Typed::Float(number), Typed::Numbers { ints, mut floats }) => {
                floats.extend(ints.into_iter().map(widen));
                Truth::FloatIn(Box::new(number), floats.into())
            }
            (Typed::Text(_), Typed::Nets(_)) => {
                let message = "`cidr` is for addresses, this is a string";
                return Err(self.error(item, message));
            }
            (item, set) => {
                let (item, set) = (article(item.kind()), article(set.kind()));
                return Err(self.error(expr, format!("`in` cannot look for {item} in {set}")));
            }
        };
        Ok(Typed::Truth(truth.settled()))
    }
}

/// The int that equals `float`, if one does.
fn whole(float: f64) -> Option<i64> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    let fits = float.fract() == 0.0 && (-TWO_63..TWO_63).contains(&float);
    #[expect(clippy::cast_possible_truncation, reason = "the value was just found to fit")]
    fits.then_some(float as i64)
}

fn unless(compare: Compare, truth: Truth) -> Truth {
    if compare == Compare::Ne { truth.negated() } else { truth }
}

fn int(compare: Compare, left: Int, right: Int) -> Truth {
    match (left, right) {
        (Int::Const(left), Int::Const(right)) => Truth::Const(compare.holds(left.cmp(&right))),
        (Int::Field(id), Int::Const(number)) => Truth::IntIs(id, compare, number),
        (Int::Const(number), Int::Field(id)) => Truth::IntIs(id, compare.mirrored(), number),
        (left, right) => Truth::Int(compare, Box::new([left, right])),
    }
}

fn float(compare: Compare, left: Float, right: Float) -> Truth {
    match (left, right) {
        (Float::Field(id), Float::Const(number)) => Truth::FloatIs(id, compare, number),
        (Float::Const(number), Float::Field(id)) => Truth::FloatIs(id, compare.mirrored(), number),
        (left, right) => Truth::Float(compare, Box::new([left, right])).settled(),
    }
}

fn mixed(compare: Compare, left: Int, right: Float) -> Truth {
    match (left, right) {
        // A small whole number is the same as a float.
        (Int::Const(number), right) if number.unsigned_abs() <= 1 << 52 => {
            float(compare, Float::Const(widen(number)), right)
        }
        (Int::Field(id), Float::Const(number)) if whole(number).is_some() => {
            Truth::IntIs(id, compare, whole(number).unwrap_or_default())
        }
        (left, right) => Truth::Mixed(compare, Box::new((left, right))).settled(),
    }
}

fn text(compare: Compare, left: Text, right: Text) -> Truth {
    let (left, right) = match (left, right) {
        (Text::Const(text), Text::Field(id)) if compare.mirrored() == compare => {
            (Text::Field(id), Text::Const(text))
        }
        pair => pair,
    };
    match (compare, left, right) {
        (Compare::Eq, Text::Field(id), Text::Const(text)) => Truth::TextIs(id, text),
        (Compare::Ne, Text::Field(id), Text::Const(text)) => Truth::TextIs(id, text).negated(),
        (compare, left, right) => Truth::Text(compare, Box::new([left, right])).settled(),
    }
}

impl Truth {
    /// The opposite.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Const(truth) => Self::Const(!truth),
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// All of `parts`, constants and nesting removed, cheap tests first. The order does not
    /// change the result: a false part wins over an error wherever they stand.
    pub(super) fn all(parts: Vec<Self>) -> Self {
        let mut kept: Vec<Self> = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::Const(true) => {}
                Self::Const(false) => return Self::Const(false),
                Self::All(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        kept.sort_by_key(Self::cost);
        match kept.len() {
            0 => Self::Const(true),
            1 => kept.swap_remove(0),
            _ => Self::All(kept.into()),
        }
    }

    /// Any of `parts`, constants and nesting removed, cheap tests first.
    pub(super) fn any(parts: Vec<Self>) -> Self {
        let mut kept: Vec<Self> = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::Const(false) => {}
                Self::Const(true) => return Self::Const(true),
                Self::Any(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        let mut kept = join_needles(kept);
        kept.sort_by_key(Self::cost);
        match kept.len() {
            0 => Self::Const(false),
            1 => kept.swap_remove(0),
            _ => Self::Any(kept.into()),
        }
    }

    /// A constant in place of a test whose sides are constant, or that no value can pass.
    pub(super) fn settled(self) -> Self {
        let constant = match &self {
            Self::Same(pair) => matches!(&**pair, [Self::Const(_), Self::Const(_)]),
            Self::Text(_, pair) | Self::Part(_, pair) => {
                matches!(&**pair, [Text::Const(_), Text::Const(_)])
            }
            Self::Float(_, pair) => matches!(&**pair, [Float::Const(_), Float::Const(_)]),
            Self::Mixed(_, pair) => matches!(&**pair, (Int::Const(_), Float::Const(_))),
            Self::Finds(text, _)
            | Self::FindsAny(text, _)
            | Self::EndsAny(text, _)
            | Self::StartsAny(text, _)
            | Self::TextIn(text, _)
            | Self::Matches(text, _)
            | Self::Glob(text, _) => {
                matches!(&**text, Text::Const(_))
            }
            Self::IntIn(number, _) => matches!(&**number, Int::Const(_)),
            Self::FloatIn(number, _) => matches!(&**number, Float::Const(_)),
            _ => false,
        };
        if constant && let Ok(truth) = self.eval(&nowhere()) {
            return Self::Const(truth);
        }
        self
    }

    /// Rough cost of evaluation, in tests of one field.
    fn cost(&self) -> usize {
        match self {
            Self::Const(_)
            | Self::Field(_)
            | Self::Has(_)
            | Self::IntIs(..)
            | Self::FloatIs(..) => 1,
            Self::Not(inner) => inner.cost(),
            Self::TextIs(..)
            | Self::IpIn(..)
            | Self::IpSame(..)
            | Self::Int(..)
            | Self::Float(..)
            | Self::Mixed(..)
            | Self::IntIn(..)
            | Self::FloatIn(..) => 2,
            Self::TextIn(..) | Self::Text(..) | Self::HasKey(..) | Self::KeyIn(..) => 3,
            Self::Finds(..)
            | Self::Part(..)
            | Self::TextInList(..)
            | Self::EndsAny(..)
            | Self::StartsAny(..) => 4,
            Self::FindsAny(..) => 6,
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::cost).sum(),
            Self::Same(pair) => pair.iter().map(Self::cost).sum(),
            Self::Pick(parts) => parts.iter().map(Self::cost).sum(),
            Self::Glob(..) | Self::Matches(..) => 20,
            Self::Exists(_, body) | Self::Every(_, body) => 8 * body.cost(),
        }
    }
}

impl Compare {
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

impl Arith {
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Rem => "%",
        }
    }
}

impl Int {
    /// Whether it is the same for every event.
    pub(super) fn is_constant(&self) -> bool {
        match self {
            Self::Const(_) => true,
            Self::Field(_) | Self::Var(_) | Self::Pick(_) => false,
            Self::Neg(inner) => inner.is_constant(),
            Self::Op(_, pair) => pair.iter().all(Self::is_constant),
            Self::Size(sized) => matches!(sized, Sized::List(List::Const(_))),
            Self::Extreme(_, parts) => parts.iter().all(Self::is_constant),
        }
    }
}

impl Typed {
    /// The number as a float, if it is a number.
    pub(super) fn into_float(self) -> Option<Float> {
        match self {
            Self::Int(Int::Const(number)) => Some(Float::Const(widen(number))),
            Self::Int(number) => Some(Float::Int(Box::new(number))),
            Self::Float(number) => Some(number),
            _ => None,
        }
    }
}
/// Several searches of one text become one pass over it.
fn join_needles(parts: Vec<Truth>) -> Vec<Truth> {
    let is_search = |part: &&Truth| matches!(part, Truth::Finds(..) | Truth::FindsAny(..));
    if parts.iter().filter(is_search).count() < 2 {
        return parts;
    }
    let mut kept = Vec::with_capacity(parts.len());
    let mut searches: Vec<(Box<Text>, BTreeSet<Box<str>>)> = Vec::new();
    for part in parts {
        let (text, words) = match part {
            Truth::FindsAny(text, needles) => (text, needles.texts()),
            Truth::Finds(text, needle) => (text, BTreeSet::from([needle.text().into()])),
            other => {
                kept.push(other);
                continue;
            }
        };
        match searches.iter_mut().find(|(known, _)| *known == text) {
            Some((_, known)) => known.extend(words),
            None => searches.push((text, words)),
        }
    }
    for (text, words) in searches {
        if let [word] = &*words.iter().collect::<Vec<_>>() {
            kept.push(Truth::Finds(text, Needle::of(word)));
        } else if let Some(needles) = Needles::of(words.clone()) {
            kept.push(Truth::FindsAny(text, needles));
        } else {
            let each = words.iter().map(|word| Truth::Finds(text.clone(), Needle::of(word)));
            kept.extend(each);
        }
    }
    kept
}
