//! From the parser's tree to a typed one: names are resolved, types agree, and what lies outside
//! the documented subset of CEL is named and refused.

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, SourceInfo};

use crate::model::{CATALOGUE, EventKind, FieldId, FieldType};
use crate::rule::diagnostic::{Located, Reported, Span, nearest};
use crate::rule::yaml::within;

use super::name::Named;
use super::node::{Float, Int, List, Text, Truth, Typed, Var};
use super::syntax::{parse, path};
use super::{CONDITION_DEPTH_MAX, CONDITION_NODES_MAX, Context, Literal, article};

/// A checked expression and what it needs.
pub(crate) struct Checked {
    pub(crate) typed: Typed,
    pub(crate) fields: BTreeSet<FieldId>,
    pub(crate) used: BTreeSet<String>,
}

/// Parses and checks `text`.
pub(crate) fn check(text: &Located<String>, context: &Context<'_>) -> Result<Checked, Reported> {
    let mut tally = Tally::default();
    let typed = Checker::enter(text, context, &mut tally, Trail::default())?;
    Ok(Checked { typed, fields: tally.fields, used: tally.used })
}

/// What has been seen so far, over all macros.
#[derive(Default)]
pub(super) struct Tally {
    fields: BTreeSet<FieldId>,
    used: BTreeSet<String>,
    nodes: usize,
}

/// How the checker came to the present text.
#[derive(Clone, Default)]
struct Trail {
    /// Macros being expanded, outermost first.
    macros: Vec<String>,
    /// Where the outermost macro was used.
    used_at: Option<Span>,
    depth: usize,
}

pub(super) struct Checker<'a, 't> {
    pub(super) context: &'a Context<'a>,
    pub(super) text: &'a Located<String>,
    info: SourceInfo,
    tally: &'t mut Tally,
    /// Names of the loop variables around, innermost last.
    pub(super) loops: Vec<String>,
    trail: Trail,
}

impl<'a, 't> Checker<'a, 't> {
    fn enter(
        text: &'a Located<String>,
        context: &'a Context<'a>,
        tally: &'t mut Tally,
        trail: Trail,
    ) -> Result<Typed, Reported> {
        let (expr, info) = parse(text, context)?;
        Checker { context, text, info, tally, loops: Vec::new(), trail }.check(&expr)
    }

    /// Where `expr` stands in the file.
    pub(super) fn span(&self, expr: &IdedExpr) -> Span {
        let (from, to) = self.extent(expr);
        within(self.context.sink, self.text, self.chars_before(from), self.chars_before(to))
    }

    /// The parser counts bytes in its tree (and characters in its errors).
    fn chars_before(&self, byte: usize) -> usize {
        let text = &self.text.value;
        text.char_indices().take_while(|(at, _)| *at < byte.min(text.len())).count()
    }

    /// First byte of `expr` and one past its last, as far as the parser tells.
    fn extent(&self, expr: &IdedExpr) -> (usize, usize) {
        let (start, stop) = self.info.offset_for(expr.id).unwrap_or((0, 0));
        let (start, stop) = (start as usize, stop as usize + 1);
        match &expr.expr {
            Expr::Select(select) if !select.test => {
                (self.extent(&select.operand).0, stop + select.field.len())
            }
            Expr::Call(call) => match &call.target {
                Some(target) => (self.extent(target).0, start),
                None if self.text.value.as_bytes().get(start) == Some(&b'(') => {
                    (start.saturating_sub(call.func_name.len()), start)
                }
                None => (start, stop),
            },
            Expr::Comprehension(_) => (start.saturating_sub(self.word_before(start).len()), start),
            _ => (start, stop),
        }
    }

    /// The word that ends just before a byte.
    pub(super) fn word_before(&self, byte: usize) -> &str {
        let before = self.text.value.get(..byte).unwrap_or_default();
        let rest = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        &before[rest.len()..]
    }

    /// The first byte the parser gave to `expr`.
    pub(super) fn start(&self, expr: &IdedExpr) -> usize {
        self.info.offset_for(expr.id).map_or(0, |(start, _)| start as usize)
    }

    pub(super) fn error(&self, expr: &IdedExpr, message: impl Into<String>) -> Reported {
        self.context.sink.error(self.span(expr), message)
    }

    pub(super) fn error_help(
        &self,
        expr: &IdedExpr,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Reported {
        self.context.sink.error_help(self.span(expr), message, help)
    }

    /// Types `expr`.
    pub(super) fn check(&mut self, expr: &IdedExpr) -> Result<Typed, Reported> {
        self.tally.nodes += 1;
        if self.tally.nodes > CONDITION_NODES_MAX {
            let message =
                format!("the condition has more than {CONDITION_NODES_MAX} parts, macros expanded");
            return Err(self.error(expr, message));
        }
        if self.trail.depth >= CONDITION_DEPTH_MAX {
            let message = format!(
                "the condition nests deeper than {CONDITION_DEPTH_MAX} levels, macros expanded"
            );
            return Err(self.error(expr, message));
        }
        self.trail.depth += 1;
        let typed = match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Ident(_) | Expr::Select(_) => self.name(expr),
            Expr::Call(call) => self.call(expr, call),
            Expr::Comprehension(comprehension) => self.comprehension(expr, comprehension),
            Expr::List(list) => self.list(expr, list),
            Expr::Map(_) => Err(self.outside(expr, "a map literal `{…}`")),
            Expr::Struct(_) => Err(self.outside(expr, "a message literal `Type{…}`")),
            Expr::Unspecified => Err(self.error(expr, "the condition is incomplete here")),
        };
        self.trail.depth -= 1;
        typed
    }

    /// Refuses a construct that CEL has and the rule language does not.
    pub(super) fn outside(&self, expr: &IdedExpr, construct: &str) -> Reported {
        self.error_help(
            expr,
            format!("{construct} is not part of the rule language"),
            "docs/writing-rules.md lists the constructs of CEL that conditions may use",
        )
    }

    /// Checks `expr` as a truth.
    pub(super) fn truth(&mut self, expr: &IdedExpr) -> Result<Truth, Reported> {
        match self.check(expr)? {
            Typed::Truth(truth) => Ok(truth),
            other => {
                let found = article(other.kind());
                let message = format!("this is {found}, expected bool");
                Err(match other.kind() {
                    "int" | "float" => self.error_help(expr, message, "compare it, as in `… > 0`"),
                    "string" => self.error_help(expr, message, "compare it, as in `… == \"x\"`"),
                    _ => self.error(expr, message),
                })
            }
        }
    }

    /// Checks `expr` as text.
    pub(super) fn string(&mut self, expr: &IdedExpr, what: &str) -> Result<Text, Reported> {
        let typed = self.check(expr)?;
        self.as_string(expr, typed, what)
    }

    /// Takes `typed`, which `expr` was checked as, for text.
    pub(super) fn as_string(
        &self,
        expr: &IdedExpr,
        typed: Typed,
        what: &str,
    ) -> Result<Text, Reported> {
        match typed {
            Typed::Text(text) => Ok(text),
            Typed::Ip(_) => Err(self.error_help(
                expr,
                format!("{what} is an ip, expected a string"),
                "compare addresses with `in cidr(\"10.0.0.0/8\")` or `== \"10.1.2.3\"`",
            )),
            other => {
                let found = article(other.kind());
                Err(self.error(expr, format!("{what} is {found}, expected a string")))
            }
        }
    }

    fn literal(&self, expr: &IdedExpr, literal: &LiteralValue) -> Result<Typed, Reported> {
        match literal {
            LiteralValue::Boolean(truth) => Ok(Typed::Truth(Truth::Const(*truth.inner()))),
            LiteralValue::Int(number) => Ok(Typed::Int(Int::Const(*number.inner()))),
            LiteralValue::Double(number) => Ok(Typed::Float(Float::Const(*number.inner()))),
            LiteralValue::String(text) => Ok(Typed::Text(Text::Const(text.inner().into()))),
            LiteralValue::UInt(_) => Err(self.outside(expr, "an unsigned literal such as `1u`")),
            LiteralValue::Bytes(_) => Err(self.outside(expr, "a bytes literal such as `b'x'`")),
            LiteralValue::Null => Err(self.error_help(
                expr,
                "`null` is not part of the rule language",
                "ask whether an event has a field with `has(field)`",
            )),
        }
    }

    /// A field, a unit literal, a presence test, a variable, a list or a macro.
    fn name(&mut self, expr: &IdedExpr) -> Result<Typed, Reported> {
        if let Expr::Select(select) = &expr.expr {
            if select.test {
                return self.presence(expr, select);
            }
            if let Expr::Literal(number) = &select.operand.expr {
                return self.unit(expr, number, &select.field);
            }
        }
        let Some(path) = path(expr) else {
            return Err(self.outside(expr, "a selection from the result of an expression"));
        };
        if let [single] = path.as_slice() {
            return self.identifier(expr, single);
        }
        match self.field(expr, &path)? {
            (id, None) => Ok(of_field(id)),
            (id, Some(key)) => Ok(Typed::Text(Text::Key(id, Box::new(Text::Const(key.into()))))),
        }
    }

    /// The field that `path` names, and the key when it goes on into a map.
    pub(super) fn field<'p>(
        &mut self,
        expr: &IdedExpr,
        path: &[&'p str],
    ) -> Result<(FieldId, Option<&'p str>), Reported> {
        let name = path.join(".");
        if let Some(id) = FieldId::from_name(&name) {
            return self.use_field(expr, id).map(|()| (id, None));
        }
        if let Some((key, init)) = path.split_last()
            && let Some(id) = FieldId::from_name(&init.join("."))
            && id.field_type() == FieldType::Map
        {
            return self.use_field(expr, id).map(|()| (id, Some(*key)));
        }
        let help = match nearest_field(&name) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`gpuwarden rules fields` lists every field".to_owned(),
        };
        Err(self.error_help(expr, format!("unknown field `{name}`"), help))
    }

    /// Notes that `id` is read, and refuses it when no event of the rule can carry it.
    fn use_field(&mut self, expr: &IdedExpr, id: FieldId) -> Result<(), Reported> {
        let row = id.row();
        if row.kinds.intersection(self.context.kinds).is_empty() {
            let spot = self.trail.used_at.unwrap_or_else(|| self.span(expr));
            let within = match self.trail.macros.first() {
                Some(name) => format!(" (in macro `{name}`)"),
                None => String::new(),
            };
            return Err(self.context.sink.error_help(
                spot,
                format!(
                    "no {} event has the field `{}`{within}",
                    words(self.context.kinds.iter().map(EventKind::as_str), "or"),
                    row.name
                ),
                format!(
                    "it is carried by {}",
                    words(row.kinds.iter().map(EventKind::as_str), "and")
                ),
            ));
        }
        self.tally.fields.insert(id);
        Ok(())
    }

    fn identifier(&mut self, expr: &IdedExpr, name: &str) -> Result<Typed, Reported> {
        if let Some(at) = self.loops.iter().rposition(|known| known == name) {
            return Ok(Typed::Text(Text::Item(self.loops.len() - 1 - at)));
        }
        if let Some(var) = variable(name) {
            if self.context.vars.contains(&name) {
                return Ok(Typed::Int(Int::Var(var)));
            }
            return Err(self.error(expr, no_variable(name, self.context.vars)));
        }
        let names = self.context.names;
        match names.find(name, self.span(expr), self.context.sink)? {
            Some(Named::List(def)) => {
                self.tally.used.insert(format!("{name}={:?}", items(&def.items)));
                self.constants(expr, items(&def.items))
            }
            Some(Named::Macro(def)) => {
                self.tally.used.insert(format!("{name}={}", def.text.value));
                self.expand(expr, name, &def.text)
            }
            None => {
                let fields = CATALOGUE.iter().map(|field| field.name);
                let near = names.nearest(name).or_else(|| nearest(name, fields));
                let help = near.map_or_else(
                    || "define it under `lists:` or `macros:`".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                Err(self.error_help(expr, format!("no list or macro is called `{name}`"), help))
            }
        }
    }

    fn expand(
        &mut self,
        expr: &IdedExpr,
        name: &str,
        text: &'a Located<String>,
    ) -> Result<Typed, Reported> {
        if self.trail.macros.iter().any(|known| known == name) {
            let ring = [&self.trail.macros[..], &[name.to_owned()]].concat().join(" → ");
            return Err(self.error(expr, format!("macro `{name}` uses itself: {ring}")));
        }
        let mut trail = self.trail.clone();
        trail.macros.push(name.to_owned());
        trail.used_at = trail.used_at.or_else(|| Some(self.span(expr)));
        Checker::enter(text, self.context, self.tally, trail)
    }

    /// A list of constants.
    pub(super) fn constants(
        &self,
        expr: &IdedExpr,
        items: Vec<Literal>,
    ) -> Result<Typed, Reported> {
        let (mut texts, mut ints, mut floats) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            match item {
                Literal::Text(text) => texts.push(text),
                Literal::Int(number) => ints.push(number),
                Literal::Float(number) => floats.push(number),
            }
        }
        if ints.is_empty() && floats.is_empty() {
            return Ok(Typed::List(List::Const(texts.into())));
        }
        if texts.is_empty() {
            return Ok(Typed::Numbers { ints, floats });
        }
        Err(self.error(expr, "the list mixes text and numbers"))
    }
}

fn items(items: &[Located<Literal>]) -> Vec<Literal> {
    items.iter().map(|item| item.value.clone()).collect()
}

fn variable(name: &str) -> Option<Var> {
    Some(match name {
        "count" => Var::Count,
        "sum" => Var::Sum,
        "distinct" => Var::Distinct,
        _ => return None,
    })
}

/// The variables of a correlation, by name.
pub(crate) fn is_variable(name: &str) -> bool {
    variable(name).is_some()
}

/// Why a variable of the correlation cannot be used.
pub(crate) fn no_variable(name: &str, vars: &[&str]) -> String {
    if vars.is_empty() {
        return format!(
            "`{name}` exists only in `correlate.condition` and in a correlated message"
        );
    }
    format!("this type of correlation has no `{name}`, only {}", words(vars.iter().copied(), "and"))
}

/// The value of a field, by its type.
fn of_field(id: FieldId) -> Typed {
    match id.field_type() {
        FieldType::Bool => Typed::Truth(Truth::Field(id)),
        FieldType::Int => Typed::Int(Int::Field(id)),
        FieldType::Float => Typed::Float(Float::Field(id)),
        FieldType::Str => Typed::Text(Text::Field(id)),
        FieldType::Ip => Typed::Ip(id),
        FieldType::List => Typed::List(List::Field(id)),
        FieldType::Map => Typed::Map(id),
    }
}

/// The catalogue's name nearest to `wrong`; a last part alone is enough (`dst.port`).
pub(crate) fn nearest_field(wrong: &str) -> Option<&'static str> {
    let suffix = format!(".{wrong}");
    let last = wrong.rsplit('.').next().unwrap_or(wrong);
    let family = wrong.split('.').next().unwrap_or(wrong);
    let mut names = CATALOGUE.iter().map(|field| field.name);
    names
        .clone()
        .find(|name| name.ends_with(&suffix))
        .or_else(|| {
            names.find(|name| {
                name.split('.').next() == Some(family) && name.rsplit('.').next() == Some(last)
            })
        })
        .or_else(|| nearest(wrong, CATALOGUE.iter().map(|field| field.name)))
}

/// `a, b and c`.
pub(crate) fn words<'w>(words: impl Iterator<Item = &'w str>, last: &str) -> String {
    let all: Vec<&str> = words.collect();
    match all.split_last() {
        Some((end, init)) if !init.is_empty() => format!("{} {last} {end}", init.join(", ")),
        Some((end, _)) => (*end).to_owned(),
        None => "no".to_owned(),
    }
}
