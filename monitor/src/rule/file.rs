//! The envelope of a rule file: keys to raw parts, unknown keys refused, nothing interpreted yet.

use super::cel::{ListDef, Literal, MacroDef, Names};
use super::diagnostic::{Located, Sink, Span};
use super::yaml::{Entries, Node, Yaml, list, parse, text};

/// The only version of the envelope there is.
pub const API_VERSION: &str = "gpuwarden.dev/v1";

/// A file's parts.
#[derive(Debug, Default)]
pub(crate) struct RawFile {
    pub(crate) rules: Vec<RawRule>,
    pub(crate) profiles: Vec<RawProfile>,
}

/// A rule as written.
#[derive(Debug)]
pub(crate) struct RawRule {
    /// Where to point for the rule as a whole.
    pub(crate) span: Span,
    /// Its tree without places, for the version.
    pub(crate) shape: String,
    pub(crate) id: Option<Located<String>>,
    pub(crate) title: Option<Located<String>>,
    pub(crate) severity: Option<Located<String>>,
    /// Whether its findings are alerts; `false` for a rule that only others wait for.
    pub(crate) alert: bool,
    pub(crate) on: Option<Node>,
    pub(crate) when: Option<Located<String>>,
    pub(crate) correlate: Option<RawCorrelate>,
    pub(crate) dedupe: Option<RawDedupe>,
    pub(crate) message: Option<Located<String>>,
    pub(crate) tags: RawTags,
    pub(crate) exceptions: Vec<RawException>,
    pub(crate) respond: Vec<Located<String>>,
    pub(crate) false_positives: Vec<Located<String>>,
    pub(crate) runbook: Option<Located<String>>,
    pub(crate) tests: Vec<RawTest>,
}

/// A `correlate:` block as written.
#[derive(Debug)]
pub(crate) struct RawCorrelate {
    pub(crate) span: Span,
    pub(crate) kind: Option<Located<String>>,
    pub(crate) field: Option<Located<String>>,
    pub(crate) rules: Vec<Located<String>>,
    pub(crate) group_by: Vec<Located<String>>,
    pub(crate) window: Option<RawWindow>,
    pub(crate) condition: Option<Located<String>>,
}

/// A `window:` as written.
#[derive(Debug)]
pub(crate) struct RawWindow {
    pub(crate) span: Span,
    pub(crate) kind: Option<Located<String>>,
    pub(crate) length: Option<Located<String>>,
    pub(crate) gap: Option<Located<String>>,
}

/// A `dedupe:` block as written.
#[derive(Debug)]
pub(crate) struct RawDedupe {
    pub(crate) key: Vec<Located<String>>,
    pub(crate) for_: Option<Located<String>>,
}

/// A `tags:` block as written.
#[derive(Debug, Default)]
pub(crate) struct RawTags {
    pub(crate) attack: Vec<Located<String>>,
    pub(crate) atlas: Vec<Located<String>>,
    pub(crate) attack_version: Option<Located<String>>,
    pub(crate) atlas_version: Option<Located<String>>,
    pub(crate) code: Vec<Located<String>>,
}

/// An exception as written.
#[derive(Debug)]
pub(crate) struct RawException {
    pub(crate) name: Option<Located<String>>,
    pub(crate) when: Option<Located<String>>,
}

/// A test as written.
#[derive(Debug)]
pub(crate) struct RawTest {
    pub(crate) span: Span,
    pub(crate) name: Option<Located<String>>,
    pub(crate) events: Option<Node>,
    pub(crate) expect: Option<Node>,
}

/// A profile as written.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
#[derive(Debug)]
pub(crate) struct RawProfile {
    pub(crate) span: Span,
    pub(crate) id: Option<Located<String>>,
    pub(crate) role: Option<Located<String>>,
    pub(crate) isolated: bool,
    pub(crate) match_: Option<Located<String>>,
    pub(crate) peers: Vec<Node>,
    pub(crate) names: Vec<Located<String>>,
    pub(crate) dns: bool,
    pub(crate) loopback: bool,
    pub(crate) budgets: Vec<Node>,
    pub(crate) weight_paths: Vec<Located<String>>,
    pub(crate) protect: bool,
}

/// Reads a document's envelope; its lists and macros go to `names`.
pub(crate) fn read(document: usize, names: &mut Names, sink: &Sink) -> RawFile {
    let mut file = RawFile::default();
    let Some(root) = parse(document, sink) else { return file };
    let Some(mut entries) = Entries::of(root, "a rule file", sink) else { return file };
    if let Some(version) = entries.need_text("apiVersion", "the file")
        && version.value != API_VERSION
    {
        sink.error_help(
            version.span,
            format!("apiVersion `{}` is not known", version.value),
            format!("this version of gpuwarden reads `{API_VERSION}`"),
        );
    }
    read_lists(&mut entries, names, sink);
    read_macros(&mut entries, names, sink);
    for node in entries.list("rules") {
        file.rules.extend(read_rule(node, sink));
    }
    for node in entries.list("profiles") {
        file.profiles.extend(read_profile(node, sink));
    }
    entries.finish();
    file
}

/// Reports a name that CEL could not refer to or that already means something.
fn check_name(name: &Located<String>, sink: &Sink) {
    let mut chars = name.value.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let message = format!("`{}` is not a name that a condition can use", name.value);
        sink.error_help(name.span, message, "use letters, digits and `_`, no digit first");
    } else if super::cel::is_variable(&name.value)
        || matches!(&*name.value, "true" | "false" | "in")
    {
        sink.error(name.span, format!("`{}` already has a meaning in conditions", name.value));
    }
}

fn read_lists(entries: &mut Entries<'_>, names: &mut Names, sink: &Sink) {
    let Some(lists) = entries.entries("lists") else { return };
    for (name, node) in lists.pairs() {
        check_name(&name, sink);
        let items = list(node, &format!("list `{}`", name.value), sink);
        let items = items.into_iter().filter_map(|item| literal(item, sink)).collect();
        names.lists.entry(name.value).or_default().push(ListDef { span: name.span, items });
    }
}

fn literal(node: Node, sink: &Sink) -> Option<Located<Literal>> {
    let value = match node.value {
        Yaml::Text(text) => Literal::Text(text),
        Yaml::Int(number) => Literal::Int(number),
        Yaml::Float(number) => Literal::Float(number),
        Yaml::Bool(_) | Yaml::Null | Yaml::List(_) | Yaml::Map(_) => {
            let kind = node.value.kind();
            let message = format!("an item of a list is {kind}, expected text or a number");
            sink.error_help(node.span, message, "quote words such as \"no\" and \"true\"");
            return None;
        }
    };
    Some(Located { value, span: node.span })
}

fn read_macros(entries: &mut Entries<'_>, names: &mut Names, sink: &Sink) {
    let Some(macros) = entries.entries("macros") else { return };
    for (name, node) in macros.pairs() {
        check_name(&name, sink);
        if let Some(both) = names.lists.get(&name.value)
            && let Some(other) = both.iter().find(|def| def.span.document == name.span.document)
        {
            let place = sink.place(other.span);
            sink.error(name.span, format!("`{}` is already a list, at {place}", name.value));
        }
        if let Some(text) = text(node, &format!("macro `{}`", name.value), sink) {
            let def = MacroDef { span: name.span, text };
            names.macros.entry(name.value).or_default().push(def);
        }
    }
}

fn read_rule(node: Node, sink: &Sink) -> Option<RawRule> {
    let shape = shape(&node);
    let mut entries = Entries::of(node, "a rule", sink)?;
    let rule = RawRule {
        span: entries.head(),
        shape,
        id: entries.need_text("id", "the rule"),
        title: entries.need_text("title", "the rule"),
        severity: entries.need_text("severity", "the rule"),
        alert: entries.flag("alert").unwrap_or(true),
        on: entries.take("on"),
        when: entries.text("when"),
        correlate: entries.take("correlate").and_then(|node| read_correlate(node, sink)),
        dedupe: entries.entries("dedupe").map(read_dedupe),
        message: entries.need_text("message", "the rule"),
        tags: entries.entries("tags").map(read_tags).unwrap_or_default(),
        exceptions: entries
            .list("exceptions")
            .into_iter()
            .filter_map(|node| read_exception(node, sink))
            .collect(),
        respond: entries.texts("respond"),
        false_positives: entries.texts("falsePositives"),
        runbook: entries.text("runbook"),
        tests: entries.list("tests").into_iter().filter_map(|node| read_test(node, sink)).collect(),
    };
    entries.finish();
    Some(rule)
}

fn read_correlate(node: Node, sink: &Sink) -> Option<RawCorrelate> {
    let mut entries = Entries::of(node, "`correlate`", sink)?;
    let correlate = RawCorrelate {
        span: entries.head(),
        kind: entries.need_text("type", "`correlate`"),
        field: entries.text("field"),
        rules: entries.texts("rules"),
        group_by: entries.texts("group_by"),
        window: entries.entries("window").map(|mut window| {
            let raw = RawWindow {
                span: window.head(),
                kind: window.need_text("kind", "`window`"),
                length: window.text("span"),
                gap: window.text("gap"),
            };
            window.finish();
            raw
        }),
        condition: entries.text("condition"),
    };
    entries.finish();
    Some(correlate)
}

fn read_dedupe(mut entries: Entries<'_>) -> RawDedupe {
    let dedupe =
        RawDedupe { key: entries.texts("key"), for_: entries.need_text("for", "`dedupe`") };
    entries.finish();
    dedupe
}

fn read_tags(mut entries: Entries<'_>) -> RawTags {
    let tags = RawTags {
        attack: entries.texts("attack"),
        atlas: entries.texts("atlas"),
        attack_version: entries.text("attack_version"),
        atlas_version: entries.text("atlas_version"),
        code: entries.texts("code"),
    };
    entries.finish();
    tags
}

fn read_exception(node: Node, sink: &Sink) -> Option<RawException> {
    let mut entries = Entries::of(node, "an exception", sink)?;
    let exception = RawException {
        name: entries.need_text("name", "the exception"),
        when: entries.need_text("when", "the exception"),
    };
    entries.finish();
    Some(exception)
}

fn read_test(node: Node, sink: &Sink) -> Option<RawTest> {
    let mut entries = Entries::of(node, "a test", sink)?;
    let test = RawTest {
        span: entries.head(),
        name: entries.need_text("name", "the test"),
        events: entries.take("events"),
        expect: entries.take("expect"),
    };
    for (key, part) in [("events", &test.events), ("expect", &test.expect)] {
        if part.is_none() {
            sink.error(test.span, format!("the test has no `{key}`"));
        }
    }
    entries.finish();
    Some(test)
}

fn read_profile(node: Node, sink: &Sink) -> Option<RawProfile> {
    let mut entries = Entries::of(node, "a profile", sink)?;
    let mut profile = RawProfile {
        span: entries.head(),
        id: entries.need_text("id", "the profile"),
        role: entries.text("role"),
        isolated: entries.flag("isolated").unwrap_or(false),
        match_: entries.need_text("match", "the profile"),
        peers: Vec::new(),
        names: Vec::new(),
        dns: false,
        loopback: true,
        budgets: Vec::new(),
        weight_paths: Vec::new(),
        protect: false,
    };
    if let Some(mut egress) = entries.entries("egress") {
        profile.peers = egress.list("peers");
        profile.names = egress.texts("names");
        profile.dns = egress.flag("dns").unwrap_or(false);
        profile.loopback = egress.flag("loopback").unwrap_or(true);
        profile.budgets = egress.list("budgets");
        egress.finish();
    }
    if let Some(mut weights) = entries.entries("weights") {
        profile.weight_paths = weights.texts("paths");
        profile.protect = weights.flag("protect").unwrap_or(false);
        weights.finish();
    }
    entries.finish();
    Some(profile)
}

/// The tree of a rule without places: what it says, however it is laid out. Tests are left out,
/// since they do not change what the rule does.
fn shape(node: &Node) -> String {
    match &node.value {
        Yaml::List(items) => {
            let items: Vec<String> = items.iter().map(shape).collect();
            format!("[{}]", items.join(","))
        }
        Yaml::Map(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .filter(|(key, _)| key.value != "tests")
                .map(|(key, value)| format!("{:?}:{}", key.value, shape(value)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        scalar => format!("{scalar:?}"),
    }
}
