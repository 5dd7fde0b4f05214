//! Messages: holes, formats, and sections that a missing field leaves out.

use serde_json::json;

use super::{load, row};
use crate::rule::spec::Vars;

fn text(message: &str) -> String {
    format!(
        "apiVersion: gpuwarden.dev/v1\nrules:\n- id: r\n  title: t\n  severity: low\n  \
         on: [flow]\n  when: net.dst.port == 443\n  message: '{message}'\n"
    )
}

fn mistake(message: &str) -> String {
    load(&text(message)).expect_err("a mistake").to_string()
}

#[test]
fn a_section_is_written_only_where_its_field_is_known() {
    let message = "to {{net.dst.ip}}{{#net.dst.name}} ({{net.dst.name}}){{/net.dst.name}}!";
    let set = load(&text(message)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let mut event = json!({"evt.kind": "flow", "evt.time_ns": 1, "net.dst.ip": "198.51.100.2"});
    let write =
        |event: &serde_json::Value| (set.rules[0].message)(&row(event.clone()), &Vars::default());
    assert_eq!(write(&event), "to 198.51.100.2!");
    event["net.dst.name"] = json!("drop.example");
    assert_eq!(write(&event), "to 198.51.100.2 (drop.example)!");
}

#[test]
fn a_section_needs_a_field_and_an_end_and_holds_no_other() {
    let open = mistake("a {{#net.dst.name}} b");
    assert!(open.contains("section `{{#net.dst.name}}` is never closed"), "{open}");
    assert!(open.contains("end it with `{{/net.dst.name}}`"), "{open}");
    let stray = mistake("a {{/net.dst.name}} b");
    assert!(stray.contains("`{{/net.dst.name}}` closes no section"), "{stray}");
    let other = mistake("{{#net.dst.name}}{{/net.dst.ip}}");
    assert!(other.contains("the open section is that of `net.dst.name`"), "{other}");
    let nested = mistake("{{#net.dst.name}}{{#net.dst.ip}}{{/net.dst.ip}}{{/net.dst.name}}");
    assert!(nested.contains("a section within the section of `net.dst.name`"), "{nested}");
    let unknown = mistake("{{#net.dst.nam}}{{/net.dst.nam}}");
    assert!(unknown.contains("did you mean `net.dst.name`?"), "{unknown}");
}
