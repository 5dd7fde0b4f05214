//! Calls: operators, functions, and the macros of CEL that the parser has expanded.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, operators};
use globset::GlobBuilder;
use regex::RegexBuilder;

use crate::rule::diagnostic::{Reported, nearest};
use crate::rule::net::{NetSet, parse_net};
use crate::rule::quantity;

use super::check::Checker;
use super::eval::Fault;
use super::node::{
    Arith, Extreme, Float, Glob, Int, List, Needle, Pattern, Sized, Text, TextTest, Truth, Typed,
};
use super::syntax::{operator, path};
use super::{article, nowhere};

/// Largest compiled form of one regular expression, in bytes; a rule file must not be able to
/// take the daemon's memory.
pub(crate) const REGEX_BYTES_MAX: usize = 256 * 1024;

/// Every function of the language, for suggestions.
const FUNCTIONS: &[&str] = &[
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "size",
    "lowerAscii",
    "exists",
    "all",
    "has",
    "cidr",
    "glob",
    "max",
    "min",
];

impl Checker<'_, '_> {
    pub(super) fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Result<Typed, Reported> {
        if operator(&call.func_name).is_some() {
            return self.operation(expr, call);
        }
        let args = call.args.as_slice();
        match (call.func_name.as_str(), call.target.as_deref(), args) {
            ("contains", Some(target), [arg]) => self.part(TextTest::Contains, target, arg),
            ("startsWith", Some(target), [arg]) => self.part(TextTest::StartsWith, target, arg),
            ("endsWith", Some(target), [arg]) => self.part(TextTest::EndsWith, target, arg),
            ("matches", Some(text), [pattern]) | ("matches", None, [text, pattern]) => {
                self.matches(text, pattern)
            }
            ("glob", None, [text, pattern]) => self.glob(text, pattern),
            ("size", Some(of), []) | ("size", None, [of]) => self.size(of),
            ("lowerAscii", Some(target), []) => {
                let text = self.string(target, "what `lowerAscii` is called on")?;
                Ok(Typed::Text(match text {
                    Text::Const(text) => Text::Const(text.to_ascii_lowercase().into()),
                    other => Text::Lower(Box::new(other)),
                }))
            }
            ("max", None, [_, ..]) => self.extreme(Extreme::Max, args),
            ("min", None, [_, ..]) => self.extreme(Extreme::Min, args),
            ("cidr", None, [_, ..]) => self.cidr(args),
            (name, ..) => {
                let known = FUNCTIONS.contains(&name);
                let text = if known {
                    format!("`{name}` is not called like this")
                } else {
                    format!("the function `{name}` is not part of the rule language")
                };
                let help = match (known, nearest(name, FUNCTIONS.iter().copied())) {
                    (true, _) => usage(name).to_owned(),
                    (false, Some(near)) => format!("did you mean `{near}`?"),
                    (false, None) => format!("it has {}", FUNCTIONS.join(", ")),
                };
                Err(self.error_help(expr, text, help))
            }
        }
    }

    fn operation(&mut self, expr: &IdedExpr, call: &CallExpr) -> Result<Typed, Reported> {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, _) => self.junction(expr, name),
            (operators::LOGICAL_NOT, [inner]) => Ok(Typed::Truth(self.truth(inner)?.negated())),
            (operators::NEGATE, [inner]) => match self.check(inner)? {
                Typed::Int(Int::Const(number)) => match number.checked_neg() {
                    Some(number) => Ok(Typed::Int(Int::Const(number))),
                    None => Err(self.error(expr, "the number does not fit 64 bits")),
                },
                Typed::Int(number) => Ok(Typed::Int(Int::Neg(Box::new(number)))),
                Typed::Float(Float::Const(number)) => Ok(Typed::Float(Float::Const(-number))),
                Typed::Float(number) => Ok(Typed::Float(Float::Neg(Box::new(number)))),
                other => {
                    let kind = article(other.kind());
                    Err(self.error(inner, format!("`-` needs a number, this is {kind}")))
                }
            },
            (operators::CONDITIONAL, [test, yes, no]) => self.conditional(expr, test, yes, no),
            (operators::INDEX, [of, index]) => self.index(expr, of, index),
            (operators::IN, [item, set]) => self.member(expr, item, set),
            (_, [left, right]) => {
                if let Some(arith) = arithmetic(name) {
                    return self.arithmetic(expr, arith, left, right);
                }
                self.comparison(expr, name, left, right)
            }
            _ => Err(self.error(expr, "this operator is not called like this")),
        }
    }

    /// `&&` or `||`, flattened: the parser nests a chain as deep as it is long.
    fn junction(&mut self, expr: &IdedExpr, name: &str) -> Result<Typed, Reported> {
        let mut parts = Vec::new();
        let mut failed = None;
        let mut stack = vec![expr];
        while let Some(next) = stack.pop() {
            match &next.expr {
                Expr::Call(call) if call.func_name == name => stack.extend(call.args.iter().rev()),
                _ => match self.truth(next) {
                    Ok(truth) => parts.push(truth),
                    Err(reported) => failed = Some(reported),
                },
            }
        }
        match failed {
            Some(reported) => Err(reported),
            None if name == operators::LOGICAL_AND => Ok(Typed::Truth(Truth::all(parts))),
            None => Ok(Typed::Truth(Truth::any(parts))),
        }
    }

    /// Checks both, so that both report their mistakes.
    pub(super) fn both(
        &mut self,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<(Typed, Typed), Reported> {
        let left = self.check(left);
        let right = self.check(right);
        Ok((left?, right?))
    }

    fn conditional(
        &mut self,
        expr: &IdedExpr,
        test: &IdedExpr,
        yes: &IdedExpr,
        no: &IdedExpr,
    ) -> Result<Typed, Reported> {
        let test = self.truth(test);
        let (yes, no) = self.both(yes, no)?;
        let test = test?;
        if let Truth::Const(truth) = test
            && yes.kind() == no.kind()
        {
            return Ok(if truth { yes } else { no });
        }
        Ok(match (yes, no) {
            (Typed::Truth(yes), Typed::Truth(no)) => {
                Typed::Truth(Truth::Pick(Box::new([test, yes, no])))
            }
            (Typed::Int(yes), Typed::Int(no)) => Typed::Int(Int::Pick(Box::new((test, yes, no)))),
            (Typed::Text(yes), Typed::Text(no)) => {
                Typed::Text(Text::Pick(Box::new((test, yes, no))))
            }
            (yes, no) => {
                let kinds = (article(yes.kind()), article(no.kind()));
                let (Some(yes), Some(no)) = (yes.into_float(), no.into_float()) else {
                    let (yes, no) = kinds;
                    let message = format!(
                        "the two sides of `?:` are {yes} and {no}, expected two numbers, two \
                         strings or two bools"
                    );
                    return Err(self.error(expr, message));
                };
                Typed::Float(Float::Pick(Box::new((test, yes, no))))
            }
        })
    }

    fn index(
        &mut self,
        expr: &IdedExpr,
        of: &IdedExpr,
        index: &IdedExpr,
    ) -> Result<Typed, Reported> {
        match self.both(of, index)? {
            (Typed::Map(id), Typed::Text(key)) => Ok(Typed::Text(Text::Key(id, Box::new(key)))),
            (Typed::List(list), Typed::Int(at)) => Ok(Typed::Text(Text::At(list, Box::new(at)))),
            (Typed::Map(_), other) => {
                let kind = article(other.kind());
                Err(self.error(index, format!("a map is indexed by a string, this is {kind}")))
            }
            (Typed::List(_), other) => {
                let kind = article(other.kind());
                Err(self.error(index, format!("a list is indexed by an int, this is {kind}")))
            }
            (other, _) => {
                let kind = article(other.kind());
                Err(self.error(expr, format!("`[]` needs a list or a map, this is {kind}")))
            }
        }
    }

    fn arithmetic(
        &mut self,
        expr: &IdedExpr,
        arith: Arith,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Typed, Reported> {
        let sides = self.both(left, right)?;
        let kinds = (article(sides.0.kind()), article(sides.1.kind()));
        let (symbol, both) = (arith.symbol(), format!("{} and {}", kinds.0, kinds.1));
        match sides {
            (Typed::Int(left), Typed::Int(right)) => {
                let constant = matches!((&left, &right), (Int::Const(_), Int::Const(_)));
                let number = Int::Op(arith, Box::new([left, right]));
                if !constant {
                    return Ok(Typed::Int(number));
                }
                number.eval(&nowhere()).map(|number| Typed::Int(Int::Const(number))).map_err(
                    |Fault| {
                        self.error(expr, format!("`{symbol}` overflows or divides by zero here"))
                    },
                )
            }
            (Typed::Text(left), Typed::Text(right)) if arith == Arith::Add => {
                Ok(Typed::Text(match (left, right) {
                    (Text::Const(left), Text::Const(right)) => {
                        Text::Const((left.into_string() + &right).into())
                    }
                    (left, right) => Text::Join(Box::new([left, right])),
                }))
            }
            (left, right) => match (left.into_float(), right.into_float()) {
                (Some(_), Some(_)) if arith == Arith::Rem => {
                    Err(self.error(expr, "`%` is for whole numbers"))
                }
                (Some(Float::Const(left)), Some(Float::Const(right))) => {
                    let pair = Box::new([Float::Const(left), Float::Const(right)]);
                    let value = Float::Op(arith, pair).eval(&nowhere()).unwrap_or(f64::NAN);
                    Ok(Typed::Float(Float::Const(value)))
                }
                (Some(left), Some(right)) => {
                    Ok(Typed::Float(Float::Op(arith, Box::new([left, right]))))
                }
                _ => Err(self.error(expr, format!("`{symbol}` cannot take {both}"))),
            },
        }
    }

    fn part(
        &mut self,
        relation: TextTest,
        target: &IdedExpr,
        arg: &IdedExpr,
    ) -> Result<Typed, Reported> {
        let whole = match self.check(target) {
            // A frequent slip.
            Ok(Typed::List(_)) if relation == TextTest::Contains => Err(self.error_help(
                target,
                "`contains` is for strings, this is a list of strings",
                "write `\"item\" in list`, or `list.exists(item, item.contains(\"part\"))`",
            )),
            Ok(typed) => self.as_string(target, typed, "what it is called on"),
            Err(reported) => Err(reported),
        };
        let part = self.string(arg, "the argument");
        let truth = match (relation, whole?, part?) {
            (TextTest::Contains, whole, Text::Const(part)) => {
                Truth::Finds(Box::new(whole), Needle::of(&part))
            }
            (relation, whole, part) => Truth::Part(relation, Box::new([whole, part])),
        };
        Ok(Typed::Truth(truth.settled()))
    }

    /// The constant text of an argument that must be one.
    fn constant(&mut self, expr: &IdedExpr, what: &str) -> Result<Box<str>, Reported> {
        match self.string(expr, what)? {
            Text::Const(text) => Ok(text),
            _ => Err(self.error(expr, format!("{what} must be a constant"))),
        }
    }

    fn matches(&mut self, text: &IdedExpr, pattern: &IdedExpr) -> Result<Typed, Reported> {
        let text = self.string(text, "the text");
        let source = self.constant(pattern, "the pattern")?;
        let regex = RegexBuilder::new(&source)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|error| {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or(&text).trim_start_matches("error: ");
                self.error(pattern, format!("not a regular expression: {last}"))
            })?;
        Ok(Typed::Truth(Truth::Matches(Box::new(text?), Pattern(regex)).settled()))
    }

    fn glob(&mut self, text: &IdedExpr, pattern: &IdedExpr) -> Result<Typed, Reported> {
        let text = self.string(text, "the text");
        let source = self.constant(pattern, "the pattern")?;
        let glob = GlobBuilder::new(&source)
            .literal_separator(true)
            .build()
            .map_err(|error| self.error(pattern, format!("not a glob: {}", error.kind())))?;
        Ok(Typed::Truth(Truth::Glob(Box::new(text?), Glob(glob.compile_matcher())).settled()))
    }

    fn size(&mut self, of: &IdedExpr) -> Result<Typed, Reported> {
        let size = match self.check(of)? {
            Typed::Text(text) => Int::Size(Sized::Text(Box::new(text))),
            Typed::List(list) => Int::Size(Sized::List(list)),
            Typed::Map(id) => Int::Size(Sized::Map(id)),
            Typed::Numbers { ints, floats } => {
                Int::Const(i64::try_from(ints.len() + floats.len()).unwrap_or(i64::MAX))
            }
            other => {
                let kind = article(other.kind());
                return Err(
                    self.error(of, format!("`size` is for strings and lists, this is {kind}"))
                );
            }
        };
        Ok(Typed::Int(match size.eval(&nowhere()) {
            Ok(number) => Int::Const(number),
            Err(Fault) => size,
        }))
    }

    fn extreme(&mut self, extreme: Extreme, args: &[IdedExpr]) -> Result<Typed, Reported> {
        let mut numbers = Vec::with_capacity(args.len());
        let mut failed = None;
        for arg in args {
            match self.check(arg) {
                Ok(number @ (Typed::Int(_) | Typed::Float(_))) => numbers.push(number),
                Ok(other) => {
                    let message =
                        format!("`max` and `min` take numbers, this is {}", article(other.kind()));
                    failed = Some(self.error(arg, message));
                }
                Err(reported) => failed = Some(reported),
            }
        }
        if let Some(reported) = failed {
            return Err(reported);
        }
        let ints: Option<Vec<Int>> = numbers
            .iter()
            .map(|number| match number {
                Typed::Int(number) => Some(number.clone()),
                _ => None,
            })
            .collect();
        let Some(ints) = ints else {
            let floats = numbers.into_iter().filter_map(Typed::into_float).collect();
            return Ok(Typed::Float(Float::Extreme(extreme, floats)));
        };
        let number = Int::Extreme(extreme, ints.into());
        let known = number.is_constant().then(|| number.eval(&nowhere()));
        Ok(Typed::Int(known.and_then(Result::ok).map_or(number, Int::Const)))
    }

    fn cidr(&mut self, args: &[IdedExpr]) -> Result<Typed, Reported> {
        let mut nets = Vec::new();
        let mut failed = None;
        for arg in args {
            let texts = match self.check(arg) {
                Ok(Typed::Text(Text::Const(text))) => vec![text.into_string()],
                Ok(Typed::List(List::Const(texts))) => texts.into_vec(),
                Ok(_) => {
                    failed = Some(self.error(arg, "`cidr` takes constant networks"));
                    continue;
                }
                Err(reported) => {
                    failed = Some(reported);
                    continue;
                }
            };
            for text in texts {
                match parse_net(&text) {
                    Some(net) => nets.push(net),
                    None => failed = Some(self.not_a_net(arg, &text)),
                }
            }
        }
        match failed {
            Some(reported) => Err(reported),
            None => Ok(Typed::Nets(NetSet::of(nets))),
        }
    }

    pub(super) fn not_a_net(&self, expr: &IdedExpr, text: &str) -> Reported {
        self.error_help(
            expr,
            format!("`{text}` is not a network"),
            "write an address and a prefix length, such as `10.0.0.0/8` or `2001:db8::/32`",
        )
    }

    /// `has(field)` or `has(map.key)`.
    pub(super) fn presence(
        &mut self,
        expr: &IdedExpr,
        select: &SelectExpr,
    ) -> Result<Typed, Reported> {
        let Some(mut segments) = path(&select.operand) else {
            return Err(self.error(expr, "`has` takes the name of a field"));
        };
        segments.push(&select.field);
        Ok(Typed::Truth(match self.field(&select.operand, &segments)? {
            (id, None) => Truth::Has(id),
            (id, Some(key)) => Truth::HasKey(id, key.into()),
        }))
    }

    /// `64.mib`, `10.minutes`.
    pub(super) fn unit(
        &self,
        expr: &IdedExpr,
        number: &LiteralValue,
        unit: &str,
    ) -> Result<Typed, Reported> {
        let number = match number {
            LiteralValue::Int(int) => quantity::Number::Int(*int.inner()),
            LiteralValue::Double(float) => quantity::Number::Float(*float.inner()),
            _ => return Err(self.outside(expr, "a selection from a literal")),
        };
        match quantity::scale(number, unit) {
            Ok(quantity::Number::Int(int)) => Ok(Typed::Int(Int::Const(int))),
            Ok(quantity::Number::Float(float)) => Ok(Typed::Float(Float::Const(float))),
            Err(message) => Err(self.error(expr, message)),
        }
    }
}

fn usage(name: &str) -> &'static str {
    match name {
        "contains" | "startsWith" | "endsWith" => "write `text.startsWith(\"part\")`",
        "matches" => "write `text.matches(\"regular expression\")`",
        "size" => "write `text.size()` or `size(text)`",
        "lowerAscii" => "write `text.lowerAscii()`",
        "exists" | "all" => "write `list.exists(item, item == \"text\")`",
        "has" => "write `has(net.dst.name)`",
        "cidr" => "write `net.dst.ip in cidr(\"10.0.0.0/8\")`",
        "glob" => "write `glob(file.path, \"/models/**\")`",
        _ => "write `max(64.mib, weights.bytes_read)`",
    }
}

fn arithmetic(name: &str) -> Option<Arith> {
    Some(match name {
        operators::ADD => Arith::Add,
        operators::SUBSTRACT => Arith::Sub,
        operators::MULTIPLY => Arith::Mul,
        operators::DIVIDE => Arith::Div,
        operators::MODULO => Arith::Rem,
        _ => return None,
    })
}
