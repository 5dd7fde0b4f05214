//! Checks that need Rust's grammar.

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::{Finding, Source};

/// Lines of a function, its signature included.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines above an `unsafe` that may hold its reason.
const SAFETY_LINES_MAX: usize = 12;

/// A constant that bounds something.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) line: usize,
}

/// What one file showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) findings: Vec<Finding>,
    pub(super) bounds: Vec<Bound>,
}

pub(super) fn check(source: &Source) -> Seen {
    let file = match syn::parse_file(&source.text) {
        Ok(file) => file,
        Err(error) => {
            let line = error.span().start().line;
            let finding = source.finding(line, "syntax", error.to_string());
            return Seen { findings: vec![finding], bounds: Vec::new() };
        }
    };
    let mut walk = Walk { source, seen: Seen::default(), is_test: source.path.contains("tests/") };
    walk.visit_file(&file);
    walk.seen
}

/// The daemon forbids `unsafe` at the top of its crate.
pub(super) fn check_daemon(sources: &[Source]) -> Vec<Finding> {
    let roots = ["monitor/src/lib.rs", "xtask/src/main.rs"];
    let lacks = |source: &&Source| {
        roots.contains(&source.path.as_str()) && !source.text.contains("#![forbid(unsafe_code)]")
    };
    let message = "`#![forbid(unsafe_code)]` is missing";
    sources.iter().filter(lacks).map(|source| source.finding(1, "unsafe", message)).collect()
}

struct Walk<'a> {
    source: &'a Source,
    seen: Seen,
    is_test: bool,
}

impl Walk<'_> {
    fn find(&mut self, span: Span, check: &'static str, message: impl Into<String>) {
        self.seen.findings.push(self.source.finding(span.start().line, check, message));
    }

    fn function(
        &mut self,
        attributes: &[syn::Attribute],
        name: &syn::Ident,
        whole: Span,
        keyword: Span,
    ) {
        if attributes.iter().any(is_long_for_a_reason) {
            return;
        }
        let lines = whole.end().line - keyword.start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            let message = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
            self.find(keyword, "function-length", message);
        }
    }

    fn constant(&mut self, name: &syn::Ident) {
        let is_shared = self.source.path == "monitor-common/src/limits.rs";
        let name_text = name.to_string();
        if !self.is_test && (is_shared || name_text.ends_with("_MAX")) {
            let (file, line) = (self.source.path.clone(), name.span().start().line);
            self.seen.bounds.push(Bound { name: name_text, file, line });
        }
    }

    fn unsafety(&mut self, keyword: Span) {
        let line = keyword.start().line;
        let first = line.saturating_sub(SAFETY_LINES_MAX + 1);
        let above = self.source.text.lines().skip(first).take(line - first);
        if !above.into_iter().any(|text| text.contains("SAFETY:") || text.contains("# Safety")) {
            self.find(keyword, "unsafe", "no `// SAFETY:` above says why it holds");
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.attrs, &item.sig.ident, item.span(), item.sig.fn_token.span);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.attrs, &item.sig.ident, item.span(), item.sig.fn_token.span);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.attrs, &item.sig.ident, item.span(), item.sig.fn_token.span);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.constant(&item.ident);
        visit::visit_item_const(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(&item.ident);
        visit::visit_impl_item_const(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let outer = self.is_test;
        self.is_test |= item.ident == "tests";
        visit::visit_item_mod(self, item);
        self.is_test = outer;
    }

    fn visit_expr_unsafe(&mut self, item: &'ast syn::ExprUnsafe) {
        self.unsafety(item.unsafe_token.span);
        visit::visit_expr_unsafe(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(keyword) = item.unsafety {
            self.unsafety(keyword.span);
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let path = attribute.path();
        if (path.is_ident("allow") || path.is_ident("expect"))
            && let syn::Meta::List(list) = &attribute.meta
            && !list.tokens.to_string().contains("reason =")
        {
            self.find(attribute.span(), "reason", "an exception from a lint needs its reason");
        }
        visit::visit_attribute(self, attribute);
    }
}

/// Whether the attribute excepts a function from its length, as clippy knows it. That it gives a
/// reason is checked for every exception.
fn is_long_for_a_reason(attribute: &syn::Attribute) -> bool {
    matches!(&attribute.meta, syn::Meta::List(list)
        if list.path.is_ident("expect")
            && list.tokens.to_string().replace(' ', "").starts_with("clippy::too_many_lines,"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::source;
    use super::*;

    fn checks(text: &str) -> Vec<(&'static str, usize)> {
        let seen = check(&source("a/src/b.rs", text));
        seen.findings.into_iter().map(|finding| (finding.check, finding.line)).collect()
    }

    #[test]
    fn function_of_70_lines_passes_and_71_does_not() {
        let function =
            |lines: usize| format!("/// Doc.\nfn f() {{\n{}}}\n", "\n".repeat(lines - 2));
        assert!(checks(&function(70)).is_empty());
        assert_eq!(checks(&function(71)), [("function-length", 2)]);
        let reason = "#[expect(clippy::too_many_lines, reason = \"a table\")]\n";
        assert!(checks(&format!("{reason}{}", function(71))).is_empty());
        let other = "#[expect(clippy::too_many_arguments, reason = \"a table\")]\n";
        assert_eq!(checks(&format!("{other}{}", function(71))).len(), 1);
    }

    #[test]
    fn unsafe_needs_its_reason_nearby() {
        assert_eq!(checks("fn f() {\n    unsafe { g() }\n}"), [("unsafe", 2)]);
        assert!(
            checks("fn f() {\n    // SAFETY: g asks nothing.\n    unsafe { g() }\n}").is_empty()
        );
        assert_eq!(checks("unsafe impl Pod for A {}"), [("unsafe", 1)]);
    }

    #[test]
    fn exception_from_a_lint_needs_its_reason() {
        assert_eq!(checks("#[allow(dead_code)]\nfn f() {}"), [("reason", 1)]);
        assert!(checks("#[expect(dead_code, reason = \"used by C\")]\nfn f() {}").is_empty());
    }

    #[test]
    fn bound_of_a_test_is_no_bound() {
        let seen = check(&source(
            "a/src/b.rs",
            "const A_MAX: u8 = 1;\nmod tests { const B_MAX: u8 = 1; }",
        ));
        let names: Vec<_> = seen.bounds.into_iter().map(|bound| bound.name).collect();
        assert_eq!(names, ["A_MAX"]);
    }

    #[test]
    fn daemon_without_forbid_is_found() {
        let daemon = [source("monitor/src/lib.rs", "pub mod a;")];
        assert_eq!(check_daemon(&daemon).len(), 1);
        let daemon = [source("monitor/src/lib.rs", "#![forbid(unsafe_code)]\npub mod a;")];
        assert!(check_daemon(&daemon).is_empty());
    }
}
