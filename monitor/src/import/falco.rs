//! Rules, lists, macros and exceptions of Falco.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::expression::{self, Node, Test};
use super::falco_field::{Cel, Kinds, asked, joined, test};
use super::{IMPORT_BYTES_MAX, IMPORT_DEPTH_MAX, IMPORT_NODES_MAX, Import, Sheet, slug};

/// Everything that the files define, by name.
#[derive(Default)]
struct Book {
    lists: BTreeMap<String, Vec<String>>,
    macros: BTreeMap<String, String>,
    rules: Vec<Map<String, Json>>,
}

/// Converts the rules of some files, which may use each other's lists and macros. The error is a
/// file that cannot be read at all.
pub fn falco(texts: &[String]) -> Result<Import, String> {
    let mut book = Book::default();
    for text in texts {
        if text.len() > IMPORT_BYTES_MAX {
            return Err(format!("the file has more than {IMPORT_BYTES_MAX} bytes"));
        }
        let items: Vec<Json> = serde_saphyr::from_str(text)
            .map_err(|error| format!("not a file of Falco rules: {}", error.without_snippet()))?;
        for item in items {
            book.add(item);
        }
    }
    let mut import = Import::default();
    import
        .note("`proc.args` is compared with the whole command line, the program's name included.");
    let mut ids = BTreeSet::new();
    for rule in &book.rules {
        let name = string(rule, "rule");
        match book.convert(rule, &name) {
            Ok(mut sheet) => {
                while !ids.insert(sheet.id.clone()) {
                    sheet.id.push('x');
                }
                import.sheets.push(sheet);
            }
            Err(why) => import.refuse(&name, why),
        }
    }
    Ok(import.checked())
}

fn string(object: &Map<String, Json>, key: &str) -> String {
    object.get(key).and_then(Json::as_str).unwrap_or_default().trim().to_owned()
}

fn strings(value: Option<&Json>) -> Vec<String> {
    match value {
        Some(Json::Array(items)) => items.iter().flat_map(|item| strings(Some(item))).collect(),
        Some(Json::String(text)) => vec![text.clone()],
        Some(Json::Number(number)) => vec![number.to_string()],
        Some(Json::Bool(truth)) => vec![truth.to_string()],
        _ => Vec::new(),
    }
}

impl Book {
    fn add(&mut self, item: Json) {
        let Json::Object(object) = item else { return };
        if object.contains_key("list") {
            let items = strings(object.get("items"));
            let known = self.lists.entry(string(&object, "list")).or_default();
            if object.get("append") == Some(&Json::Bool(true)) {
                known.extend(items);
            } else {
                *known = items;
            }
        } else if object.contains_key("macro") {
            self.macros.insert(string(&object, "macro"), string(&object, "condition"));
        } else if object.contains_key("rule") {
            self.rules.push(object);
        }
    }

    fn convert(&self, rule: &Map<String, Json>, name: &str) -> Result<Sheet, String> {
        if rule.get("append") == Some(&Json::Bool(true)) || !rule.contains_key("condition") {
            return Err("it changes another rule; convert the merged rules".to_owned());
        }
        let source = rule.get("source").and_then(Json::as_str).unwrap_or("syscall");
        if source != "syscall" {
            return Err(format!("its source is `{source}`, not system calls"));
        }
        let node = expression::parse(&string(rule, "condition"))?;
        let mut budget = IMPORT_NODES_MAX;
        let node = self.expand(node, 0, &mut budget)?;
        let mut kinds = Kinds::default();
        let when = match cel(&node, &mut kinds, false)? {
            Cel::Text(text) => text,
            Cel::True => return Err("its condition is always true here".to_owned()),
            Cel::False => return Err("its condition can never be true here".to_owned()),
        };
        if kinds.found.is_empty() {
            return Err("it names no `evt.type` from which the kind of event follows".to_owned());
        }
        Ok(Sheet {
            id: slug(name),
            origin: if kinds.left_out.is_empty() {
                format!("Falco: {name}")
            } else {
                let calls: Vec<String> = kinds.left_out.into_iter().collect();
                format!("Falco: {name} (without {})", calls.join(", "))
            },
            title: name.to_owned(),
            severity: severity(&string(rule, "priority")).to_owned(),
            on: kinds.found.iter().map(|kind| (*kind).to_owned()).collect(),
            when,
            message: format!("{name}: {{{{proc.name}}}} in {{{{workload.name}}}}"),
            attack: techniques(rule.get("tags")),
            exceptions: self.exceptions(rule)?,
            ..Sheet::default()
        })
    }

    /// Puts macros and lists in place.
    fn expand(&self, node: Node, depth: usize, budget: &mut usize) -> Result<Node, String> {
        *budget = budget.checked_sub(1).ok_or("with its macros it has too many parts")?;
        if depth > IMPORT_DEPTH_MAX {
            return Err("its macros nest too deeply, or use themselves".to_owned());
        }
        let mut all = |nodes: Vec<Node>| -> Result<Vec<Node>, String> {
            nodes.into_iter().map(|node| self.expand(node, depth + 1, budget)).collect()
        };
        Ok(match node {
            Node::All(parts) => Node::All(all(parts)?),
            Node::Any(parts) => Node::Any(all(parts)?),
            Node::Not(inner) => Node::Not(Box::new(self.expand(*inner, depth + 1, budget)?)),
            Node::Macro(name) => {
                let text = self.macros.get(&name);
                let text = text.ok_or_else(|| format!("the macro `{name}` is not defined"))?;
                self.expand(expression::parse(text)?, depth + 1, budget)?
            }
            Node::Test(test) => {
                let mut values = Vec::with_capacity(test.values.len());
                for value in test.values {
                    self.list(&value, &mut values, 0)?;
                }
                Node::Test(Test { values, ..test })
            }
        })
    }

    fn list(&self, value: &str, out: &mut Vec<String>, depth: usize) -> Result<(), String> {
        if out.len() > IMPORT_NODES_MAX || depth > IMPORT_DEPTH_MAX {
            return Err("a list is too long, or uses itself".to_owned());
        }
        let Some(items) = self.lists.get(value) else {
            out.push(value.trim_matches(['"', '\'']).to_owned());
            return Ok(());
        };
        items.iter().try_for_each(|item| self.list(item, out, depth + 1))
    }

    /// The exceptions that have values; those without are places to put some.
    fn exceptions(&self, rule: &Map<String, Json>) -> Result<Vec<(String, String)>, String> {
        let Some(Json::Array(items)) = rule.get("exceptions") else { return Ok(Vec::new()) };
        let mut exceptions = Vec::new();
        for item in items.iter().filter_map(Json::as_object) {
            let Some(Json::Array(rows)) = item.get("values") else { continue };
            let (fields, comps) = (strings(item.get("fields")), strings(item.get("comps")));
            let mut parts = Vec::new();
            for row in rows {
                let cells = match row {
                    Json::Array(cells) if fields.len() > 1 => cells.clone(),
                    other => vec![other.clone()],
                };
                let mut tests = Vec::new();
                for (at, (field, cell)) in fields.iter().zip(&cells).enumerate() {
                    let operator = comps.get(at).cloned().unwrap_or_else(|| "=".to_owned());
                    let mut values = Vec::new();
                    for value in strings(Some(cell)) {
                        self.list(&value, &mut values, 0)?;
                    }
                    let one = Test { field: field.clone(), operator, values };
                    match test(&one, &mut Kinds::default())? {
                        Cel::Text(text) => tests.push(text),
                        Cel::True => {}
                        Cel::False => tests.push("false".to_owned()),
                    }
                }
                parts.push(joined(tests.into_iter(), "&&"));
            }
            if !parts.is_empty() {
                exceptions.push((string(item, "name"), joined(parts.into_iter(), "||")));
            }
        }
        Ok(exceptions)
    }
}

/// Converts a condition; parts that are always so or never so here are taken out. Falco calls a
/// test of a field that is not there false, and so its opposite true; `negated` parts ask first.
fn cel(node: &Node, kinds: &mut Kinds, negated: bool) -> Result<Cel, String> {
    Ok(match node {
        Node::Test(one) => match (test(one, kinds)?, asked(one)) {
            (Cel::Text(text), Some(name)) if negated => {
                Cel::Text(format!("(has({name}) && {text})"))
            }
            (cel, _) => cel,
        },
        Node::Macro(name) => return Err(format!("the macro `{name}` was not put in place")),
        Node::Not(inner) => match cel(inner, kinds, !negated)? {
            Cel::True => Cel::False,
            Cel::False => Cel::True,
            Cel::Text(text) => Cel::Text(format!("!({text})")),
        },
        Node::All(parts) => {
            let mut kept = Vec::new();
            for part in parts {
                match cel(part, kinds, negated)? {
                    Cel::True => {}
                    Cel::False => return Ok(Cel::False),
                    Cel::Text(text) => kept.push(text),
                }
            }
            if kept.is_empty() { Cel::True } else { Cel::Text(joined(kept.into_iter(), "&&")) }
        }
        Node::Any(parts) => {
            let mut kept = Vec::new();
            for part in parts {
                match cel(part, kinds, negated)? {
                    Cel::False => {}
                    Cel::True => return Ok(Cel::True),
                    Cel::Text(text) => kept.push(text),
                }
            }
            if kept.is_empty() { Cel::False } else { Cel::Text(joined(kept.into_iter(), "||")) }
        }
    })
}

fn severity(priority: &str) -> &'static str {
    match priority.to_ascii_uppercase().as_str() {
        "EMERGENCY" | "ALERT" | "CRITICAL" => "critical",
        "ERROR" => "high",
        "WARNING" => "medium",
        "NOTICE" => "low",
        _ => "info",
    }
}

/// ATT&CK ids among the tags.
fn techniques(tags: Option<&Json>) -> Vec<String> {
    let is_technique = |tag: &String| {
        let digits = tag.strip_prefix('T').unwrap_or_default();
        digits.len() >= 4 && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    strings(tags).into_iter().filter(is_technique).collect()
}
