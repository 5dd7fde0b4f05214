//! What is said of common slips: one mistake, its cure, and nothing that follows from it.

use super::{DESIGN_EXAMPLE, load};

#[test]
fn common_slips_are_one_mistake_each_and_say_the_cure() {
    let mut wrong = Vec::new();
    for (from, to, want) in [
        ("severity: critical", "severty: critical", "did you mean `severity`?"),
        ("title: Bulk", "titel: Bulk", "did you mean `title`?"),
        ("weights.bytes_read > 0", "weights.bytes_read", "compare it, as in `… > 0`"),
        ("weights.bytes_read > 0", "proc.name", "compare it, as in `… == \"x\"`"),
        ("weights.bytes_read > 0", "weights.bytes_read > \"0\"", "written without quotes"),
        ("max(64.mib", "max(64.mb", "unknown unit `mb`; did you mean `mib`?"),
        ("max(64.mib", "max(64.MB", "did you mean `mib`?"),
        ("max(64.mib", "max(1.min", "did you mean `minutes`?"),
        ("  severity: critical", "\tseverity: critical", "indented with spaces"),
        ("!net.allowed &&", "!net.alowed &&", "did you mean `net.allowed`?"),
    ] {
        let text = DESIGN_EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, DESIGN_EXAMPLE, "{from} is not in the example");
        let mistakes = load(&text).expect_err("wrong");
        let said = mistakes.to_string();
        if mistakes.0.len() != 1 || !said.contains(want) {
            wrong.push(format!("{to}: {want}:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn place_of_what_is_not_yaml_is_said_once() {
    let said = load("apiVersion: gpuwarden.dev/v1\nrules: [\n").expect_err("wrong").to_string();
    assert!(said.contains("not YAML") && !said.contains(" at line "), "{said}");
}
