//! Our OCSF events against the published schema, by a validator that is not ours.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::support::sample;
use monitor::alert::{Activity, Alert, AlertTags};
use monitor::export::encode::{OCSF_VERSION, ocsf};
use monitor::model::{Evidence, Severity};

/// The schemas and the validator, as published.
const PACKAGES: [&str; 2] = ["ocsf-json-schema==1.2.0", "jsonschema==4.26.0"];

/// Validates each line; prints `ok` or what is wrong with it.
const SCRIPT: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
from ocsf_json_schema.embedded import OcsfJsonSchemaEmbedded
from ocsf_json_schema.loader import get_ocsf_schema
from ocsf_json_schema.schema import OcsfJsonSchema

schema = OcsfJsonSchemaEmbedded(OcsfJsonSchema(get_ocsf_schema(sys.argv[1])))
validator = Draft202012Validator(schema.get_class_schema("detection_finding"))
for line in sys.stdin:
    errors = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(json.loads(line))]
    print("; ".join(errors)[:500] or "ok")
"#;

fn run(command: &mut Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what} failed: {said}");
}

/// A Python with the packages, made once under the build folder.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ocsf-venv");
    let python = dir.join("bin/python");
    let done = dir.join("complete");
    if !done.exists() {
        let mut venv = Command::new("python3");
        run(
            venv.args(["-m", "venv", "--clear"]).arg(&dir),
            "python3 with venv is needed (Debian: python3-venv)",
        );
        let mut pip = Command::new(&python);
        run(pip.args(["-m", "pip", "install", "--quiet"]).args(PACKAGES), "pip install");
        std::fs::write(&done, "").expect("the build folder can be written");
    }
    python
});

fn validate(events: &[serde_json::Value]) -> Vec<String> {
    let mut child = Command::new(&*PYTHON)
        .args(["-c", SCRIPT, OCSF_VERSION])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    for event in events {
        writeln!(stdin, "{event}").expect("python reads");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("python ends");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn every_kind_of_alert_is_a_valid_detection_finding() {
    let mut alerts = vec![sample()];
    for severity in [Severity::Info, Severity::Low, Severity::Medium, Severity::High] {
        alerts.push(Alert { severity, activity: Activity::Update, ..sample() });
    }
    let bare = Alert { workload: None, evidence: Evidence::default(), ..sample() };
    alerts.push(Alert { runbook: String::new(), tags: AlertTags::default(), ..bare });
    let mut static_pod = sample();
    if let Some(workload) = &mut static_pod.workload {
        workload.pod_uid = Some("d41d8cd98f00b204e9800998ecf8427e".into());
        workload.namespace = None;
    }
    alerts.push(static_pod);
    let events: Vec<_> = alerts.iter().map(ocsf).collect();
    let said = validate(&events);
    assert_eq!(said, vec!["ok"; alerts.len()]);
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let mut missing = ocsf(&sample());
    missing.as_object_mut().expect("an object").remove("finding_info");
    let mut unknown = ocsf(&sample());
    unknown["gpu"] = 1.into();
    let mut wrong = ocsf(&sample());
    wrong["type_uid"] = 7.into();
    let said = validate(&[missing, unknown, wrong]);
    assert!(said.iter().all(|line| line != "ok"), "{said:?}");
}
