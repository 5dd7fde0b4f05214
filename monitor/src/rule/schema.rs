//! A JSON Schema of the rule file, for editors: completion and a first check while typing. The
//! loader stays the judge; a schema cannot see into conditions.

use serde_json::{Value as Json, json};

use crate::model::{CATALOGUE, EventKind, FieldId, FieldType};

use super::correlation::{TYPES, WINDOWS};
use super::file::API_VERSION;
use super::outline::Response;
use super::profile::Role;

/// The schema (draft 2020-12).
pub fn schema() -> Json {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpuwarden rule file",
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "lists": {
                "description": "Named lists of constants, used as `field in name`.",
                "type": "object",
                "additionalProperties": {
                    "type": "array", "items": {"type": ["string", "number"]}
                },
            },
            "macros": {
                "description": "Named conditions, used by their bare name.",
                "type": "object",
                "additionalProperties": {"type": "string"},
            },
            "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
            "profiles": {"type": "array", "items": {"$ref": "#/$defs/profile"}},
        },
        "$defs": {
            "condition": {"type": "string", "description": "A condition in CEL syntax."},
            "span": {
                "type": "string",
                "pattern": "^([0-9]+(ms|s|m|h|d))+$",
                "description": "A span of time: 90s, 10m, 1h30m, 30d.",
            },
            "id": {"type": "string", "pattern": "^[a-z0-9._-]{1,80}$"},
            "field": {"enum": names(|_| true)},
            "key": {"enum": names(|kind| !matches!(kind, FieldType::List | FieldType::Map))},
            "severity": {"enum": ["info", "low", "medium", "high", "critical"]},
            "rule": rule(),
            "correlate": correlate(),
            "test": test(),
            "profile": profile(),
        },
    })
}

fn names(wanted: impl Fn(FieldType) -> bool) -> Vec<&'static str> {
    let fields = CATALOGUE.iter().filter(|field| wanted(field.field_type));
    fields.map(|field| field.name).collect()
}

/// An object with exactly these properties.
fn object(required: &[&str], properties: impl Into<Json>) -> Json {
    let properties: Json = properties.into();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn texts() -> Json {
    json!({"type": "array", "items": {"type": "string"}})
}

fn rule() -> Json {
    let kinds: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let keys = json!({"type": "array", "items": {"$ref": "#/$defs/key"}, "maxItems": 8});
    let dedupe = json!({"key": keys, "for": {"$ref": "#/$defs/span"}});
    let exception = json!({"name": {"type": "string"}, "when": {"$ref": "#/$defs/condition"}});
    let tags = json!({
        "attack": texts(),
        "atlas": texts(),
        "attack_version": {"type": "string"},
        "atlas_version": {"type": "string"},
        "code": texts(),
    });
    object(
        &["id", "title", "severity", "message"],
        json!({
            "id": {"$ref": "#/$defs/id"},
            "title": {"type": "string"},
            "severity": {"$ref": "#/$defs/severity"},
            "alert": {
                "description": "false: only temporal rules that name this rule see it match.",
                "type": "boolean",
            },
            "on": {
                "description": "Kinds of event this rule looks at.",
                "type": "array",
                "minItems": 1,
                "uniqueItems": true,
                "items": {"enum": kinds},
            },
            "when": {"$ref": "#/$defs/condition"},
            "correlate": {"$ref": "#/$defs/correlate"},
            "dedupe": object(&["for"], dedupe),
            "message": {
                "type": "string",
                "description": "Text with {{field}}, {{sum|bytes}}, {{#field}}…{{/field}}."
            },
            "tags": object(&[], tags),
            "exceptions": {"type": "array", "items": object(&["name", "when"], exception)},
            "respond": {"type": "array", "items": {"enum": Response::NAMES}},
            "falsePositives": texts(),
            "runbook": {"type": "string"},
            "tests": {"type": "array", "items": {"$ref": "#/$defs/test"}},
        }),
    )
}

fn correlate() -> Json {
    let window = json!({
        "kind": {"enum": WINDOWS},
        "span": {"$ref": "#/$defs/span"},
        "gap": {"$ref": "#/$defs/span"},
    });
    object(
        &["type", "group_by", "window"],
        json!({
            "type": {"enum": TYPES},
            "field": {"$ref": "#/$defs/field"},
            "rules": {"type": "array", "items": {"$ref": "#/$defs/id"}, "minItems": 2},
            "group_by": {"type": "array", "items": {"$ref": "#/$defs/key"}, "minItems": 1},
            "window": object(&["kind", "span"], window),
            "condition": {"$ref": "#/$defs/condition"},
        }),
    )
}

fn test() -> Json {
    let properties: serde_json::Map<String, Json> =
        CATALOGUE.iter().map(|field| (field.name.to_owned(), value(field.id))).collect();
    let expectation = json!({
        "severity": {"$ref": "#/$defs/severity"},
        "count": {"type": "integer", "minimum": 0},
        "message_contains": {"type": "string"},
    });
    object(
        &["name", "events", "expect"],
        json!({
            "name": {"type": "string"},
            "events": {
                "oneOf": [
                    {"type": "string", "description": "Path of a .jsonl file beside this one."},
                    {"type": "array", "items": object(&["evt.kind"], Json::Object(properties))},
                ],
            },
            "expect": {"type": "array", "items": object(&[], expectation)},
        }),
    )
}

fn value(id: FieldId) -> Json {
    let kind = match id.field_type() {
        FieldType::Bool => json!({"type": "boolean"}),
        FieldType::Int => json!({"type": "integer"}),
        FieldType::Float => json!({"type": "number"}),
        FieldType::Str | FieldType::Ip => json!({"type": "string"}),
        FieldType::List => texts(),
        FieldType::Map => json!({"type": "object", "additionalProperties": {"type": "string"}}),
    };
    let mut kind = kind;
    kind["description"] = id.row().meaning.into();
    kind
}

fn profile() -> Json {
    let peer = json!({
        "cidr": {"oneOf": [{"type": "string"}, texts()]},
        "ports": {"type": "array", "items": {"type": ["integer", "string"]}},
    });
    let budget = json!({
        "to": {"type": "string"},
        "bytes": {"type": ["integer", "string"]},
        "per": {"$ref": "#/$defs/span"},
    });
    let egress = json!({
        "peers": {"type": "array", "items": {"oneOf": [{"type": "string"}, object(&[], peer)]}},
        "names": texts(),
        "dns": {"type": "boolean"},
        "loopback": {"type": "boolean"},
        "budgets": {"type": "array", "items": object(&["to", "bytes", "per"], budget)},
    });
    let roles = Role::ALL.map(Role::as_str);
    object(
        &["id", "match"],
        json!({
            "id": {"$ref": "#/$defs/id"},
            "role": {"enum": roles},
            "isolated": {"type": "boolean"},
            "match": {"$ref": "#/$defs/condition"},
            "egress": object(&[], egress),
            "weights": object(&[], json!({"paths": texts(), "protect": {"type": "boolean"}})),
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key that the schema offers at any depth.
    fn keys(schema: &Json, found: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
            found.extend(properties.keys().cloned());
        }
        match schema {
            Json::Object(map) => map.values().for_each(|part| keys(part, found)),
            Json::Array(items) => items.iter().for_each(|part| keys(part, found)),
            _ => {}
        }
    }

    /// The loader names every key it knows when it meets one it does not.
    #[test]
    fn the_schema_offers_the_keys_that_the_loader_takes() {
        let text = "apiVersion: gpuwarden.dev/v1\nzzzzzzzzzz: 1\nrules:\n\
                    - {zzzzzzzzzz: 1, dedupe: {zzzzzzzzzz: 1}, tags: {zzzzzzzzzz: 1}, \
                    exceptions: [{zzzzzzzzzz: 1}], tests: [{zzzzzzzzzz: 1, expect: \
                    [{zzzzzzzzzz: 1}]}], correlate: {zzzzzzzzzz: 1, window: {zzzzzzzzzz: 1}}}\n\
                    profiles:\n- {zzzzzzzzzz: 1, egress: {zzzzzzzzzz: 1, peers: \
                    [{zzzzzzzzzz: 1}], budgets: [{zzzzzzzzzz: 1}]}, weights: {zzzzzzzzzz: 1}}\n";
        let mistakes = super::super::tests::load(text).expect_err("unknown keys");
        let mut taken: Vec<String> = mistakes
            .0
            .iter()
            .filter(|mistake| mistake.message.contains("unknown key"))
            .filter_map(|mistake| mistake.help.as_deref()?.strip_prefix("expected one of "))
            .flat_map(|keys| keys.split(", ").map(str::to_owned))
            .collect();
        let mut offered = Vec::new();
        keys(&schema(), &mut offered);
        offered.retain(|key| FieldId::from_name(key).is_none());
        for all in [&mut taken, &mut offered] {
            all.sort();
            all.dedup();
        }
        assert_eq!(offered, taken);
    }
}
