//! The text of a condition to the parser's tree, within bounds.

use cel::IdedExpr;
use cel::common::ast::{Expr, SourceInfo, operators};

use crate::rule::diagnostic::{Located, Reported};
use crate::rule::yaml::within;

use super::{CONDITION_BYTES_MAX, CONDITION_JUNCTIONS_MAX, CONDITION_OPERATORS_MAX, Context};

/// Parses `text`; the tree comes with the place of each node.
pub(super) fn parse(
    text: &Located<String>,
    context: &Context<'_>,
) -> Result<(IdedExpr, SourceInfo), Reported> {
    if text.value.len() > CONDITION_BYTES_MAX {
        let len = text.value.len();
        let message =
            format!("the condition has {len} bytes, at most {CONDITION_BYTES_MAX} are allowed");
        return Err(context.sink.error(text.span, message));
    }
    if text.value.trim().is_empty() {
        return Err(context.sink.error(text.span, "the condition is empty"));
    }
    let (operators, junctions) = operators_in(&text.value);
    for (count, most, what) in [
        (operators, CONDITION_OPERATORS_MAX, "operators, dots and brackets"),
        (junctions, CONDITION_JUNCTIONS_MAX, "`&&` and `||`"),
    ] {
        if count > most {
            let message = format!("the condition has {count} {what}, at most {most} are read");
            let help = "put values into a list, or parts into macros";
            return Err(context.sink.error_help(text.span, message, help));
        }
    }
    let parser = cel::parser::Parser::new();
    parser
        .parse_with_source_info(&text.value)
        .map_err(|errors| report_syntax(text, context, &errors))
}

/// Operators, dots and brackets outside quotes; `&&` and `||` apart, because the parser balances
/// them.
fn operators_in(text: &str) -> (usize, usize) {
    let (mut operators, mut halves, mut quote) = (0, 0, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(chars.next()),
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '&' | '|') => halves += 1,
            (None, _) => operators += usize::from("([{!-+*/%?.<>=".contains(c)),
        }
    }
    (operators, halves / 2)
}

/// The segments of a dotted name; `None` when it selects from anything but a name.
pub(super) fn path(expr: &IdedExpr) -> Option<Vec<&str>> {
    let mut segments = Vec::new();
    let mut expr = expr;
    loop {
        match &expr.expr {
            Expr::Ident(name) => {
                segments.push(name.as_str());
                segments.reverse();
                return Some(segments);
            }
            Expr::Select(select) if !select.test => {
                segments.push(select.field.as_str());
                expr = &select.operand;
            }
            _ => return None,
        }
    }
}

/// Reports what the parser refused: the first mistake, since the rest mostly follow from it.
fn report_syntax(
    text: &Located<String>,
    context: &Context<'_>,
    errors: &cel::ParseErrors,
) -> Reported {
    let Some(first) = errors.errors.first() else {
        return context.sink.error(text.span, "the condition cannot be parsed");
    };
    let (line, column) = first.pos;
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let column = usize::try_from(column).unwrap_or(1).max(1);
    let before: usize =
        text.value.split_inclusive('\n').take(line - 1).map(|line| line.chars().count()).sum();
    let length = text.value.chars().count();
    let at = (before + column - 1).min(length.saturating_sub(1));
    let message = first.msg.trim_start_matches("Syntax error: ");
    let message = message.split(" expecting {").next().unwrap_or(message);
    let message = message.replace("'<EOF>'", "the end of the condition");
    let spot = within(context.sink, text, at, at + 1);
    context.sink.error(spot, format!("not a CEL expression: {message}"))
}

/// The operator as a person writes it.
pub(super) fn operator(name: &str) -> Option<&'static str> {
    Some(match name {
        operators::LOGICAL_AND => "&&",
        operators::LOGICAL_OR => "||",
        operators::LOGICAL_NOT => "!",
        operators::EQUALS => "==",
        operators::NOT_EQUALS => "!=",
        operators::LESS => "<",
        operators::LESS_EQUALS => "<=",
        operators::GREATER => ">",
        operators::GREATER_EQUALS => ">=",
        operators::IN => "in",
        operators::ADD => "+",
        operators::SUBSTRACT | operators::NEGATE => "-",
        operators::MULTIPLY => "*",
        operators::DIVIDE => "/",
        operators::MODULO => "%",
        operators::CONDITIONAL => "?:",
        operators::INDEX => "[]",
        _ => return None,
    })
}
