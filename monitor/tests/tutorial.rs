//! `docs/writing-rules.md`, walked: its rule is written, and its commands are run as they stand.
//! What the page shows of their output must be there, in this order. Commands of root (`#`) are not
//! run; what they make is made here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use monitor::alert::Host;
use monitor::model::FactRow;
use monitor::recording::{FORMAT, Header, Store, StoreConfig, Target, Writer};

/// A line that a person types.
const PROMPT: &str = "$ ";
/// The same as root.
const ROOT_PROMPT: &str = "# ";

/// A command of the page, and what the page shows of its output.
#[derive(Debug)]
struct Step {
    command: String,
    shown: Vec<String>,
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/writing-rules.md");
    std::fs::read_to_string(path).expect("the page is there")
}

/// Blocks of one language, in order.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str())
        .skip(1)
        .map(|rest| &rest[..rest.find("```").expect("a fence has an end")])
        .collect()
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks(page, "console").into_iter().flat_map(str::lines) {
        if let Some(command) = line.strip_prefix(PROMPT) {
            steps.push(Step { command: command.to_owned(), shown: Vec::new() });
        } else if !line.starts_with(ROOT_PROMPT)
            && !line.is_empty()
            && let Some(step) = steps.last_mut()
        {
            step.shown.push(line.to_owned());
        }
    }
    steps
}

/// What a job did an hour ago: it sent 70 MiB to a stranger after reading weights.
fn upload() -> FactRow {
    let event = serde_json::json!({
        "evt.kind": "flow", "evt.time_ns": 1_000_000_000, "workload.id": "k8s:1",
        "workload.name": "trainer-0", "net.dst.ip": "198.51.100.2", "net.allowed": false,
        "weights.bytes_read": 1, "net.bytes_out": 73_400_320,
    });
    FactRow::from_json(event.as_object().expect("an object")).expect("an event")
}

fn header() -> Header {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let boot = now.saturating_sub(Duration::from_hours(1));
    Header {
        format: FORMAT,
        version: "1".into(),
        revision: "r".into(),
        host: Host { name: "node-1".into(), boot_id: "b".into() },
        wall_at_boot_ns: u64::try_from(boot.as_nanos()).expect("before 2554"),
        sensors: Vec::new(),
    }
}

/// What `record` and a monitor with a store would have left behind.
fn lay_ground(dir: &Path) -> PathBuf {
    let target = Target::of(&dir.join("host.zst"));
    let mut writer = Writer::create(&target, &header()).expect("creates");
    writer.row(upload().to_json()).expect("writes");
    writer.finish(0).expect("ends");
    let store = dir.join("store");
    let age_max = Duration::from_hours(24);
    let config = StoreConfig { dir: store.clone(), bytes_max: 1 << 30, age_max };
    let mut events = Store::open(config, header()).expect("opens");
    events.row(upload().to_json()).expect("writes");
    events.finish(0).expect("ends");
    store
}

#[test]
fn page_on_writing_rules_does_what_it_says() {
    let page = page();
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("my-rules")).expect("created");
    std::fs::write(dir.path().join("my-rules/bulk.yaml"), blocks(&page, "yaml")[0])
        .expect("written");
    let store = lay_ground(dir.path());
    let binary = Path::new(env!("CARGO_BIN_EXE_gpuwarden"));
    let path = format!(
        "{}:{}",
        binary.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let steps = steps(&page);
    for verb in ["check", "test", "explain", "replay", "backtest"] {
        let said = steps.iter().any(|step| step.command.contains(verb));
        assert!(said, "the page no longer shows `{verb}`");
    }
    for Step { command, shown } in steps {
        let command = if command.contains(" backtest ") {
            format!("{command} --store {}", store.display())
        } else {
            command
        };
        let ran = Command::new("sh")
            .args(["-c", &command])
            .env("PATH", &path)
            .current_dir(dir.path())
            .output()
            .expect("sh runs");
        let output = String::from_utf8_lossy(&ran.stdout).into_owned()
            + &String::from_utf8_lossy(&ran.stderr);
        let mut lines = output.lines();
        for wanted in &shown {
            assert!(
                lines.any(|line| line.contains(wanted.trim_end())),
                "`{command}` does not show, or not in this place:\n{wanted}\nbut\n{output}"
            );
        }
        let fails = shown.iter().any(|line| line.contains("error: ") || line.starts_with("FAIL"));
        assert_eq!(ran.status.success(), !fails, "`{command}`: {}\n{output}", ran.status);
    }
}
