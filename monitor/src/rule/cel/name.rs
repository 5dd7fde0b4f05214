//! Lists and macros by name, over all files of a load.

use std::collections::BTreeMap;

use crate::rule::diagnostic::{Located, Reported, Sink, Span, nearest};

/// A constant of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Text(String),
    Int(i64),
    Float(f64),
}

/// A list of constants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListDef {
    pub(crate) span: Span,
    pub(crate) items: Vec<Located<Literal>>,
}

/// A named condition or value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MacroDef {
    pub(crate) span: Span,
    pub(crate) text: Located<String>,
}

/// Every list and macro of the load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) lists: BTreeMap<String, Vec<ListDef>>,
    pub(crate) macros: BTreeMap<String, Vec<MacroDef>>,
}

/// What a name stands for.
pub(crate) enum Named<'a> {
    List(&'a ListDef),
    Macro(&'a MacroDef),
}

impl Names {
    /// What `name` means in `from`'s file: its own definition, else the only one elsewhere.
    pub(crate) fn find(
        &self,
        name: &str,
        from: Span,
        sink: &Sink,
    ) -> Result<Option<Named<'_>>, Reported> {
        let lists = self.lists.get(name).into_iter().flatten();
        let macros = self.macros.get(name).into_iter().flatten();
        let mut all: Vec<(Span, Named<'_>)> = lists
            .map(|def| (def.span, Named::List(def)))
            .chain(macros.map(|def| (def.span, Named::Macro(def))))
            .collect();
        if let Some(at) = all.iter().position(|(span, _)| span.document == from.document) {
            return Ok(Some(all.swap_remove(at).1));
        }
        if all.len() > 1 {
            let places: Vec<String> = all.iter().map(|(span, _)| sink.place(*span)).collect();
            return Err(sink.error_help(
                from,
                format!("`{name}` is defined in more than one other file"),
                format!("it is defined at {}; rename one, or define it here", places.join(" and ")),
            ));
        }
        Ok(all.pop().map(|(_, named)| named))
    }

    /// The defined name nearest to `wrong`.
    pub(crate) fn nearest(&self, wrong: &str) -> Option<&str> {
        nearest(wrong, self.lists.keys().chain(self.macros.keys()).map(String::as_str))
    }
}
