//! Lists of constants, and what runs over a list.

use cel::IdedExpr;
use cel::common::ast::{ComprehensionExpr, Expr, ListExpr};

use crate::rule::diagnostic::Reported;

use super::check::Checker;
use super::node::{Endings, Float, Int, List, Needles, Text, TextTest, Truth, Typed};
use super::{Literal, article};

impl Checker<'_, '_> {
    pub(super) fn list(&mut self, expr: &IdedExpr, list: &ListExpr) -> Result<Typed, Reported> {
        let mut items = Vec::with_capacity(list.elements.len());
        let mut failed = None;
        for element in &list.elements {
            match self.check(element) {
                Ok(Typed::Text(Text::Const(text))) => items.push(Literal::Text(text.into())),
                Ok(Typed::Int(Int::Const(number))) => items.push(Literal::Int(number)),
                Ok(Typed::Float(Float::Const(number))) => items.push(Literal::Float(number)),
                Ok(_) => {
                    let message = "an item of a list must be a constant string or number";
                    failed = Some(self.error(element, message));
                }
                Err(reported) => failed = Some(reported),
            }
        }
        match failed {
            Some(reported) => Err(reported),
            None => self.constants(expr, items),
        }
    }

    /// `list.exists(item, …)` and `list.all(item, …)`, as the parser expands them.
    pub(super) fn comprehension(
        &mut self,
        expr: &IdedExpr,
        loop_: &ComprehensionExpr,
    ) -> Result<Typed, Reported> {
        let name = self.word_before(self.start(expr)).to_owned();
        let body = match &loop_.loop_step.expr {
            Expr::Call(step) if step.args.len() == 2 => &step.args[1],
            _ => return Err(self.outside(expr, &format!("`{name}`"))),
        };
        if !matches!(name.as_str(), "exists" | "all") || loop_.iter_var2.is_some() {
            return Err(self.outside(expr, &format!("`{name}`")));
        }
        let list = match self.check(&loop_.iter_range)? {
            Typed::List(list) => list,
            other => {
                let kind = article(other.kind());
                let message = format!("`{name}` runs over a list of strings, this is {kind}");
                return Err(self.error(&loop_.iter_range, message));
            }
        };
        self.loops.push(loop_.iter_var.clone());
        let body = self.truth(body);
        self.loops.pop();
        let body = Box::new(body?);
        if let (List::Const(words), "exists") = (&list, name.as_str())
            && let Some(truth) = at_once(words, &body)
        {
            return Ok(Typed::Truth(truth));
        }
        Ok(Typed::Truth(match name.as_str() {
            "exists" => Truth::Exists(list, body),
            _ => Truth::Every(list, body),
        }))
    }
}

/// The test that a loop over constants stands for, when all it does is to look for its item in a
/// field: once over the text in place of once for each item. A loop over nothing asks for no field.
fn at_once(words: &[String], body: &Truth) -> Option<Truth> {
    let Truth::Part(test, pair) = body else { return None };
    let [Text::Field(id), Text::Item(0)] = &**pair else { return None };
    if words.is_empty() {
        return None;
    }
    let field = Box::new(Text::Field(*id));
    let boxed = || words.iter().map(|word| word.as_str().into());
    Some(match test {
        TextTest::Contains => Truth::FindsAny(field, Needles::of(boxed().collect())?),
        TextTest::EndsWith => Truth::EndsAny(field, Endings::of(words)),
        TextTest::StartsWith => Truth::StartsAny(field, boxed().collect()),
    })
}
