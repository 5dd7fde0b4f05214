//! The binary from outside, as an operator meets it: wrong input, signals, sudden death. Needs root
//! and a kernel with BTF. Every daemon has its own port and directories; nothing of the machine is
//! changed.

mod daemon;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use daemon::{Daemon, Ground, SOON, binary, descriptor_ids, end, until};
use rustix::process::Signal;

/// The promise: SIGTERM to exit.
const STOP_AT_MOST: Duration = Duration::from_secs(2);

/// A rule that fires for every program whose arguments hold `marker`.
fn marker_rule(id: &str, marker: &str) -> String {
    format!(
        "apiVersion: gpuwarden.dev/v1
rules:
- id: {id}
  title: A marked program
  severity: high
  on: [exec]
  when: proc.cmdline.contains(\"{marker}\")
  dedupe: {{key: [proc.pid], for: 1s}}
  message: '{{{{proc.cmdline}}}}'
"
    )
}

/// Runs a program with `argument` among its arguments.
fn play(argument: &std::ffi::OsStr) {
    let status = Command::new("/bin/true").arg(argument).status().expect("it runs");
    assert!(status.success());
}

#[test]
fn malformed_rule_file_ends_with_65_and_every_mistake_in_its_place() {
    let ground = Ground::new();
    let rules = ground.write(
        "wrong.yaml",
        "apiVersion: gpuwarden.dev/v1
rules:
- id: one
  title: One
  severity: loud
  on: [exec]
  when: proc.nme == \"x\"
  message: m
- id: two
  title: Two
  severity: low
  on: [exec]
  wen: 'true'
  when: proc.pid == \"x\"
  message: m
",
    );
    let mut command = ground.run();
    command.arg("--rules").arg(&rules);
    let ended = end(command);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    for place in ["5:13", "7:9", "13:3", "14:18"] {
        let place = format!("{}:{place}: ", rules.display());
        assert!(ended.stderr.contains(&place), "{place} is not in\n{}", ended.stderr);
    }
}

#[test]
fn unknown_config_keys_are_refused_together_with_what_was_meant() {
    let ground = Ground::new();
    ground.write("config.yaml", "exprt: {}\nkernel:\n  ring_hgh_bytes: 1\nlog: {level: loud}\n");
    let ended = end(ground.run());
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for said in [":1:1: ", "`export`", ":3:3: ", "`ring_high_bytes`", ":4:14: ", "loud"] {
        assert!(ended.stderr.contains(said), "{said} is not in\n{}", ended.stderr);
    }
}

#[test]
fn rule_id_used_twice_is_refused_with_both_places() {
    let ground = Ground::new();
    let first = ground.write("a.yaml", &marker_rule("same", "a"));
    let second = ground.write("b.yaml", &marker_rule("same", "b"));
    let mut command = ground.run();
    command.arg("--rules").arg(&first).arg("--rules").arg(&second);
    let ended = end(command);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    for path in [&first, &second] {
        let place = format!("{}:3:", path.display());
        assert!(ended.stderr.contains(&place), "{place} is not in\n{}", ended.stderr);
    }
    assert!(ended.stderr.contains("`same`"), "{}", ended.stderr);
}

#[test]
fn path_that_cannot_be_read_is_named() {
    let ground = Ground::new();
    let missing = ground.path("missing");
    let mut command = ground.run();
    command.arg("--rules").arg(&missing);
    let ended = end(command);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.stderr.contains(&*missing.to_string_lossy()), "{}", ended.stderr);
    let mut command = binary();
    command.arg("run").arg("--config").arg(&missing);
    let ended = end(command);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains(&*missing.to_string_lossy()), "{}", ended.stderr);
}

#[test]
fn port_in_use_ends_with_74_and_says_how_to_find_who_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let ground = Ground::new();
    let mut command = ground.run();
    command.args(["--listen", &address]);
    let ended = end(command);
    assert_eq!(ended.code, Some(74), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    for said in [&address, "is in use", "ss -ltnp", "telemetry.listen"] {
        assert!(ended.stderr.contains(said), "{said} is not in\n{}", ended.stderr);
    }
}

#[test]
fn spool_that_takes_nothing_ends_with_73_and_the_reason() {
    let ground = Ground::new();
    let plain_file = ground.write("plain", "");
    let sink = "{name: w, type: webhook, url: 'https://127.0.0.1:1/'}";
    ground.write(
        "config.yaml",
        &format!("export: {{spool_dir: {}, sinks: [{sink}]}}\n", plain_file.display()),
    );
    let mut command = ground.run();
    command.args(["--listen", "127.0.0.1:0"]);
    let ended = end(command);
    assert_eq!(ended.code, Some(73), "{ended:?}");
    assert!(ended.stderr.contains(&*plain_file.to_string_lossy()), "{}", ended.stderr);
    assert!(ended.stderr.contains("os error"), "the cause is not told: {}", ended.stderr);
}

#[test]
fn pipe_among_the_rules_does_not_hold_up_a_reload_nor_the_end() {
    let ground = Ground::new();
    let rules = ground.path("rules.d");
    fs::create_dir(&rules).expect("ours");
    fs::write(rules.join("a.yaml"), marker_rule("first", "marker-pipe")).expect("ours");
    let mut command = ground.run();
    command.args(["--no-shipped-rules", "--rules"]).arg(&rules);
    let mut daemon = Daemon::start(command);
    let made = Command::new("mkfifo").arg(rules.join("b.yaml")).status().expect("mkfifo is there");
    assert!(made.success());
    daemon.signal(Signal::HUP);
    daemon.wait_metric("gpuwarden_config_last_reload_successful", 0.0);
    assert!(daemon.log().contains("a pipe; expected a file"), "{}", daemon.log());
    daemon.signal(Signal::TERM);
    let (status, took) = daemon.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(took <= STOP_AT_MOST, "it took {took:?}");
}

#[test]
fn without_root_it_ends_with_77_and_one_sentence() {
    // The checkout may lie where only root can look.
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let copy = dir.path().join("gpuwarden");
    fs::copy(env!("CARGO_BIN_EXE_gpuwarden"), &copy).expect("room for a copy");
    let mut command = Command::new(copy);
    command.arg("run").uid(65534).gid(65534).env_clear();
    let ended = end(command);
    assert_eq!(ended.code, Some(77), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("uid 65534") && ended.stderr.contains("sudo"), "{ended:?}");
}

/// Processes that open files as fast as they can; killed when dropped.
struct Flood(Vec<Child>);

impl Flood {
    fn start(count: usize) -> Self {
        let script = "import os\nwhile True: os.close(os.open('/etc/passwd', 0))";
        let spawn = |_| {
            let mut python = Command::new("/usr/bin/env");
            python.args(["python3", "-c", script]).stdout(Stdio::null());
            python.spawn().expect("python3 is there")
        };
        Self((0..count).map(spawn).collect())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ended_before = child.kill();
            let _reaped = child.wait();
        }
    }
}

#[test]
fn sigterm_ends_it_within_two_seconds_with_0() {
    let ground = Ground::new();
    let mut daemon = Daemon::start(ground.run());
    daemon.signal(Signal::TERM);
    let (status, took) = daemon.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", daemon.log());
    assert!(took <= STOP_AT_MOST, "it took {took:?}\n{}", daemon.log());
}

#[test]
fn sigterm_ends_it_within_two_seconds_also_in_a_flood_of_opens() {
    let ground = Ground::new();
    let mut daemon = Daemon::start(ground.run());
    let _flood = Flood::start(2);
    std::thread::sleep(Duration::from_secs(2));
    daemon.signal(Signal::TERM);
    let (status, took) = daemon.wait(Duration::from_secs(20));
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", daemon.log());
    assert!(took <= STOP_AT_MOST, "it took {took:?}\n{}", daemon.log());
}

#[test]
fn sudden_death_leaves_nothing_in_the_kernel() {
    let ground = Ground::new();
    let mut daemon = Daemon::start(ground.run());
    let programs = descriptor_ids(daemon.pid(), "prog_id");
    let links = descriptor_ids(daemon.pid(), "link_id");
    assert!(programs.len() >= 5 && !links.is_empty(), "{programs:?} {links:?}");
    let left = || {
        let loaded: BTreeSet<u32> =
            aya::programs::loaded_programs().filter_map(|info| Some(info.ok()?.id())).collect();
        let linked: BTreeSet<u32> =
            aya::programs::loaded_links().filter_map(|info| Some(info.ok()?.id())).collect();
        programs.iter().filter(|id| loaded.contains(id)).count()
            + links.iter().filter(|id| linked.contains(id)).count()
    };
    assert_eq!(left(), programs.len() + links.len(), "the kernel lists what the daemon holds");
    daemon.signal(Signal::KILL);
    daemon.wait(SOON);
    // The kernel frees programs after a grace period.
    let gone = until(SOON, || (left() == 0).then_some(()));
    assert!(gone.is_some(), "{} programs or links are still there", left());
}

#[test]
fn reload_keeps_the_old_rules_when_the_new_ones_are_wrong() {
    const OK: &str = "gpuwarden_config_last_reload_successful";
    let ground = Ground::new();
    let rules = ground.write("rules.yaml", &marker_rule("first", "marker-first"));
    let mut command = ground.run();
    command.args(["--output", "json", "--no-shipped-rules", "--rules"]).arg(&rules);
    let daemon = Daemon::start(command);
    let alert_of = |rule: &'static str, word: &'static str| {
        move |alert: &serde_json::Value| {
            alert["rule"]["id"] == rule
                && alert["summary"].as_str().is_some_and(|summary| summary.contains(word))
        }
    };
    daemon.wait_metric(OK, 1.0);
    play("marker-first before".as_ref());
    daemon.wait_alert(alert_of("first", "before"));

    fs::write(&rules, "apiVersion: gpuwarden.dev/v1\nrules: [{id: second}]\n").expect("ours");
    daemon.signal(Signal::HUP);
    daemon.wait_metric(OK, 0.0);
    assert!(daemon.log().contains("the old rules stay"), "{}", daemon.log());
    assert!(daemon.log().contains(&format!("{}:2:", rules.display())), "{}", daemon.log());
    play("marker-first still".as_ref());
    daemon.wait_alert(alert_of("first", "still"));

    fs::write(&rules, marker_rule("second", "marker-second")).expect("ours");
    daemon.signal(Signal::HUP);
    daemon.wait_metric(OK, 1.0);
    play("marker-first gone".as_ref());
    play("marker-second new".as_ref());
    daemon.wait_alert(alert_of("second", "new"));
    assert!(!daemon.lines().iter().any(|line| line.contains("marker-first gone")));
}

#[test]
fn every_json_line_parses_whatever_a_program_puts_into_its_arguments() {
    use std::os::unix::ffi::OsStrExt as _;
    let ground = Ground::new();
    let rules = ground.write("rules.yaml", &marker_rule("marked", "marker-json"));
    let mut command = ground.run();
    command.args(["--output", "json", "--rules"]).arg(&rules);
    let mut daemon = Daemon::start(command);
    let nasty: [&[u8]; 5] = [
        b"marker-json plain",
        b"marker-json \" \\ ' {\"a\": 1}\n{\"forged\": true}",
        b"marker-json \xff\xfe\x80 not utf-8",
        b"marker-json \x1b[31m\x07\x01\x7f control",
        "marker-json \u{202e}\u{2028} \u{1f980} beyond".as_bytes(),
    ];
    for argument in nasty {
        play(std::ffi::OsStr::from_bytes(argument));
    }
    let alerts = |daemon: &Daemon| {
        let is_marked = |line: &String| line.contains("marker-json");
        daemon.lines().iter().filter(|line| is_marked(line)).count()
    };
    let all = until(SOON, || (alerts(&daemon) >= nasty.len()).then_some(()));
    assert!(all.is_some(), "{:#?}\n{}", daemon.lines(), daemon.log());
    daemon.signal(Signal::TERM);
    daemon.wait(SOON);
    for line in daemon.lines() {
        let alert: serde_json::Value = serde_json::from_str(&line).expect(&line);
        assert!(alert["schema_version"].is_string() && alert["id"].is_string(), "{line}");
        assert!(!line.contains('\u{1b}'), "a terminal would obey {line:?}");
    }
}

#[test]
fn it_starts_without_configuration_gpu_and_kubernetes() {
    // Its own mounts hide the machine's configuration, and keep the spool off its disk.
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg(
            "for d in /etc/gpuwarden /var/lib; do \
             if [ -d $d ]; then mount -t tmpfs none $d || exit 99; fi; done; exec \"$@\"",
        )
        .args(["sh", env!("CARGO_BIN_EXE_gpuwarden"), "run", "--listen", "127.0.0.1:0"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let daemon = Daemon::start(command);
    assert_eq!(daemon.get("/livez").0, 200);
    let (status, page) = daemon.get("/metrics");
    assert_eq!(status, 200);
    assert!(page.contains("gpuwarden_build_info{"), "{page}");
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
}

#[test]
fn doctor_tells_every_area_and_why_the_gpu_is_off() {
    let ground = Ground::new();
    ground.write("config.yaml", &ground.config("gpu: {library_paths: [/nonexistent/nvml.so]}\n"));
    let mut command = binary();
    command.args(["doctor", "--json", "--config"]).arg(ground.path("config.yaml"));
    let ended = end(command);
    let checks: Vec<serde_json::Value> = serde_json::from_str(&ended.stdout).expect("JSON");
    let areas: BTreeSet<&str> = checks.iter().filter_map(|check| check["area"].as_str()).collect();
    for area in ["kernel", "sensor", "gpu", "workload", "rules", "sink"] {
        assert!(areas.contains(area), "no {area} in {areas:?}");
    }
    let bad: Vec<_> = checks.iter().filter(|check| check["verdict"] == "bad").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(ended.code, Some(0));
    let gpu = checks.iter().find(|check| check["area"] == "gpu").expect("looked for above");
    if gpu["verdict"] != "good" {
        let says = gpu["says"].as_str().expect("text");
        assert!(says.contains("libnvidia-ml.so.1") && says.contains("searched"), "{says}");
        assert!(gpu["cure"].as_str().is_some_and(|cure| cure.contains("gpu.library_paths")));
    }
}

#[test]
fn doctor_is_right_about_itself_on_a_file_system_with_subvolumes() {
    // stat(2) tells the number of a btrfs subvolume, the kernel programs that of the file system.
    const SCRIPT: &str = "cd \"$1\" && truncate -s 1G image \
        && mkfs.btrfs -q image >&2 \
        && mkdir place && mount -o loop image place && cp \"$2\" place/gpuwarden \
        && stat -c %d place \
        && grep ' - btrfs ' /proc/self/mountinfo | tail -n 1 | cut -d ' ' -f 3 \
        && exec place/gpuwarden doctor --json";
    let ground = Ground::new();
    let directory = ground.path("image").parent().expect("in a directory").to_path_buf();
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", SCRIPT, "sh"]).arg(directory);
    command.arg(env!("CARGO_BIN_EXE_gpuwarden"));
    let ended = end(command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut lines = ended.stdout.lines();
    let (shown, held) = (lines.next().expect("stat"), lines.next().expect("mountinfo"));
    assert_ne!(format!("0:{shown}"), held, "they differ, or this shows nothing");
    let rest: String = lines.collect();
    let checks: Vec<serde_json::Value> = serde_json::from_str(&rest).expect("JSON");
    let canary = checks.iter().find(|check| check["name"] == "canary").expect("it is asked");
    assert_eq!(canary["verdict"], "good", "{canary}");
}
