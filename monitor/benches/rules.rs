//! How fast rules run: events a second on one core with 1 to 1 000 rules over a mix of events, what
//! a four-clause condition that fails costs beside the `cel` interpreter, and what rules and
//! windows take of memory. `cargo xtask bench rules` runs it; `--events FILE` replaces the mix that
//! is made here by a recording.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod live;

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use monitor::correlate::{CorrelateLimits, Engine};
use monitor::model::{BootNs, FactRow, Facts as _};
use monitor::recording::Reader;
use monitor::rule::spec::{Rule, Vars};
use monitor::rule::{RuleSet, Source, shipped};
use serde_json::{Value as Json, json};

/// Events of the mix that is made here: few enough to stay in a cache, for an event that comes to
/// the rules has just been decoded and enriched.
const MIX_EVENTS: usize = 1_000;
/// Events of a mix that lies in memory: what reading recorded rows adds.
const COLD_MIX_EVENTS: usize = 20_000;
/// Time from one event to the next: a host with ten thousand events a second.
const EVENT_NS: u64 = 100_000;
/// How long each figure is measured.
const MEASURED: Duration = Duration::from_millis(1_500);
/// Rules for the memory of one.
const MEMORY_RULES: usize = 1_000;
/// Window keys for the memory of one.
const KEYS: u32 = 4_000;
/// Four clauses, of which the last asked fails.
const CONDITION: &str = "net.direction == \"egress\" && net.dst.port == 443 && net.bytes_out > 0 \
                         && proc.name == \"curl\"";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--profile") {
        whole(&shipped_rules(), &[100]);
        return;
    }
    // First: memory that was freed would be taken again, and the resident set would not grow.
    memory();
    let mut rows = match after("--events") {
        Some(path) => recorded(Path::new(&path)),
        None => mix(MIX_EVENTS),
    };
    println!(
        "events: {} rows, {}",
        rows.len(),
        if after("--events").is_some() { "recorded" } else { "made" }
    );
    let base = shipped_rules();
    println!("shipped rules: {}", base.len());
    for count in [1, 10, 100, 1_000] {
        let rules = repeated(&base, count);
        let (rate, findings) = events_per_second(&rules, &mut rows);
        println!("rules {count:5}: {:7.2} M events/s, {findings} findings a round", rate / 1e6);
    }
    if has("--each") {
        each(&base, &mut rows);
    }
    let (rate, _) = events_per_second(&repeated(&base, 100), &mut mix(COLD_MIX_EVENTS));
    println!("rules   100: {:7.2} M events/s over rows that lie in memory", rate / 1e6);
    whole(&base, &[1, 100]);
    if has("--live") {
        return;
    }
    let distinct = named_rules(1_000);
    let (rate, _) = events_per_second(&distinct, &mut rows);
    println!("rules  1000 of distinct names: {:7.2} M events/s", rate / 1e6);
    condition();
}

/// The whole way of an event, with so many rules: `--profile` runs nothing else, for a profiler.
fn whole(base: &[Arc<Rule>], counts: &[usize]) {
    let profiles = RuleSet::load(&shipped()).map(|set| set.profiles).expect("they load");
    for count in counts {
        let (rate, findings) = live::events_per_second(&repeated(base, *count), &profiles);
        println!(
            "rules {count:5}: {:7.2} M events/s through decode, enrich and rules, {findings} \
             findings a round",
            rate / 1e6
        );
    }
}

fn load(text: String) -> RuleSet {
    let source = Source { name: "bench.yaml".into(), text, dir: None, untested: true };
    RuleSet::load(&[source]).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn shipped_rules() -> Vec<Arc<Rule>> {
    RuleSet::load(&shipped()).unwrap_or_else(|mistakes| panic!("{mistakes}")).rules
}

/// `count` rules: the shipped ones, again and again. Harder than so many different ones, since what
/// matches one matches all its copies.
fn repeated(base: &[Arc<Rule>], count: usize) -> Vec<Arc<Rule>> {
    base.iter().cycle().take(count).cloned().collect()
}

/// What each shipped rule costs alone, the dearest first: `--each`.
fn each(base: &[Arc<Rule>], rows: &mut [FactRow]) {
    let mut costs: Vec<(f64, &Arc<Rule>)> = base
        .iter()
        .map(|rule| {
            let (rate, _) = events_per_second(std::slice::from_ref(rule), rows);
            (1e9 / rate, rule)
        })
        .collect();
    costs.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (ns, rule) in costs.iter().take(15) {
        println!("  {ns:6.0} ns an event  {}  {:?}", rule.meta.id, rule.guards.first());
    }
}

fn named_rules(count: usize) -> Vec<Arc<Rule>> {
    let mut text = "apiVersion: gpuwarden.dev/v1\nrules:\n".to_owned();
    for at in 0..count {
        let when = format!("proc.name == \"tool-{at}\" && proc.uid == 0");
        let rest = "title: t, severity: low, on: [exec, flow], message: m";
        writeln!(text, "- {{id: r{at}, {rest}, when: '{when}'}}").expect("a String grows");
    }
    load(text).rules
}

/// Time goes on from round to round, as it does for a host: events that come again with the times
/// of a round before would all be late.
fn events_per_second(rules: &[Arc<Rule>], rows: &mut [FactRow]) -> (f64, usize) {
    let mut engine = Engine::new(rules, CorrelateLimits::default());
    let mut out = Vec::new();
    let (mut findings, mut events) = (0, 0_u32);
    let times: Vec<u64> = rows.iter().map(|row| row.time().0).collect();
    let first = times.iter().copied().min().unwrap_or(0);
    let span = times.iter().copied().max().unwrap_or(0) - first + EVENT_NS;
    let mut round = 0_u64;
    let mut play = |findings: &mut usize| {
        for (row, time) in rows.iter_mut().zip(&times) {
            row.move_to(BootNs(time - first + round * span));
            engine.on_event(black_box(row), &mut out);
            *findings += out.len();
            out.clear();
        }
        round += 1;
        u32::try_from(times.len()).unwrap_or(u32::MAX)
    };
    // One round to fill the windows.
    play(&mut findings);
    findings = 0;
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < MEASURED {
        events += play(&mut findings);
        rounds += 1;
    }
    (f64::from(events) / started.elapsed().as_secs_f64(), findings / rounds)
}

/// What one condition costs, here and in the interpreter.
fn condition() {
    let text = format!(
        "apiVersion: gpuwarden.dev/v1\nrules:\n- {{id: r, title: t, severity: low, on: [flow], \
         message: m, when: '{CONDITION}'}}\n"
    );
    let rule = Arc::clone(&load(text).rules[0]);
    let row = flow(7);
    let vars = Vars::default();
    assert!(!(rule.when)(&row, &vars), "the last clause fails");
    let ours = per_call(|| {
        black_box((rule.when)(black_box(&row), &vars));
    });
    let program = cel::Program::compile(CONDITION).expect("compiles");
    let mut context = cel::Context::default();
    let net = json!({"direction": "egress", "bytes_out": 1500, "dst": {"port": 443}});
    let values = [("net", net), ("proc", json!({"name": "python3"}))];
    for (name, value) in values {
        context.add_variable(name, value).expect("a variable");
    }
    assert!(matches!(program.execute(&context), Ok(cel::Value::Bool(false))));
    let theirs = per_call(|| {
        black_box(program.execute(black_box(&context))).expect("evaluates");
    });
    println!("four clauses that fail: {ours:.1} ns here, {theirs:.1} ns in the cel interpreter");
}

fn per_call(mut call: impl FnMut()) -> f64 {
    const BATCH: u32 = 10_000;
    let (started, mut calls) = (Instant::now(), 0_u32);
    while started.elapsed() < MEASURED / 3 {
        for _ in 0..BATCH {
            call();
        }
        calls += BATCH;
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

/// Resident memory in bytes (proc(5), `statm`).
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages: u32 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    f64::from(pages) * 4096.0
}

fn memory() {
    let before = resident();
    let rules = named_rules(MEMORY_RULES);
    let loaded = resident();
    let per_rule = (loaded - before) / f64::from(u32::try_from(MEMORY_RULES).unwrap_or(1));
    println!("a loaded rule: {:.1} KiB", per_rule / 1024.0);
    drop(black_box(rules));

    let text = "apiVersion: gpuwarden.dev/v1\nrules:\n- id: sum\n  title: t\n  severity: low\n  \
                on: [flow]\n  when: net.bytes_out > 0\n  message: m\n  correlate: {type: \
                value_sum, field: net.bytes_out, group_by: [workload.id], \
                window: {kind: sliding, span: 1h}, condition: sum < 0}\n";
    let set = load(text.to_owned());
    for moments in [1_u64, 64] {
        let mut engine = Engine::new(&set.rules, CorrelateLimits::default());
        let (before, mut out) = (resident(), Vec::new());
        for moment in 0..moments {
            for key in 0..KEYS {
                let row = json!({"evt.kind": "flow", "evt.time_ns": (moment + 1) * 10_000_000_000,
                    "workload.id": format!("k8s:{key:036}"), "net.bytes_out": 1});
                engine.on_event(&row_of(&row), &mut out);
            }
        }
        let per_key = (resident() - before) / f64::from(KEYS);
        let live = engine.stats().rules[0].keys.live;
        println!("a window key with {moments} moments: {per_key:.0} bytes ({live} keys live)");
    }
}

fn row_of(object: &Json) -> FactRow {
    FactRow::from_json(object.as_object().expect("an object")).expect("a row")
}

fn recorded(path: &Path) -> Vec<FactRow> {
    let mut reader = Reader::open(path).expect("a recording");
    std::iter::from_fn(|| reader.next_row().expect("reads")).collect()
}

/// A busy host's mix: mostly flows and opens, some programs, a GPU read each second.
fn mix(events: usize) -> Vec<FactRow> {
    (0..events)
        .map(|at| match at % 20 {
            0 => exec(at),
            1 | 2 => process(at),
            3..=7 => open(at),
            8 => dns(at),
            9 => gpu(at),
            _ => flow(at),
        })
        .collect()
}

/// What every acted event carries.
fn acted(kind: &str, at: usize) -> Json {
    const NAMES: [&str; 6] = ["python3", "pt_data_worker", "nccl", "bash", "node", "containerd"];
    let name = NAMES[at % NAMES.len()];
    json!({
        "evt.kind": kind, "evt.time_ns": at as u64 * EVENT_NS, "proc.pid": 1_000 + at % 500,
        "proc.tid": 1_000 + at % 500, "proc.name": name, "proc.exe": format!("/usr/bin/{name}"),
        "proc.args": [name, "train.py", "--epochs", "3"],
        "proc.cmdline": format!("{name} train.py --epochs 3"), "proc.args_truncated": false,
        "proc.cwd": "/workspace", "proc.uid": 1000, "proc.exe_memfd": false,
        "proc.exe_deleted": false, "proc.age_seconds": 120.5, "proc.parent.pid": 900,
        "proc.parent.name": "bash", "proc.parent.exe": "/usr/bin/bash",
        "proc.ancestors": ["bash", "containerd-shim"], "proc.stdio_socket": false,
        "workload.id": format!("k8s:{:036}", at % 40), "workload.kind": "k8s",
        "workload.name": format!("trainer-{}", at % 40), "workload.isolated": at.is_multiple_of(4),
        "workload.cgroup": "/kubepods.slice/pod", "workload.file_bytes_read": 1_u64 << 30,
        "workload.egress_bytes": 1_u64 << 20, "workload.stratum_seen": false,
        "weights.bytes_read": if at.is_multiple_of(3) { 1_u64 << 33 } else { 0 },
        "k8s.ns.name": "training", "k8s.labels": {"app": "trainer"},
    })
}

fn with(kind: &str, at: usize, more: Json) -> FactRow {
    let mut row = acted(kind, at);
    if let (Some(row), Json::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row_of(&row)
}

fn exec(at: usize) -> FactRow {
    with("exec", at, json!({"exec.args_bytes": 40}))
}

fn process(at: usize) -> FactRow {
    if at.is_multiple_of(2) {
        with("fork", at, json!({}))
    } else {
        with("exit", at, json!({"proc.exit_code": 0}))
    }
}

fn open(at: usize) -> FactRow {
    let path = format!("/models/llama/model-{:05}.safetensors", at % 30);
    with(
        "file_open",
        at,
        json!({"file.path": path, "file.name": "model.safetensors", "file.inode": at,
            "file.device": 8, "file.size_bytes": 5_u64 << 30, "file.type": "regular",
            "file.write": false, "file.read": true, "file.class": "weights",
            "file.format": "safetensors", "file.label": "llama", "file.fs": "xfs"}),
    )
}

fn dns(at: usize) -> FactRow {
    with(
        "dns",
        at,
        json!({"dns.name": "store.ckpt.internal", "dns.is_query": false, "dns.domain":
            "ckpt.internal", "dns.bytes": 80, "dns.longest_label": 5, "dns.server": "10.0.0.2"}),
    )
}

fn gpu(at: usize) -> FactRow {
    with(
        "gpu_sample",
        at,
        json!({"gpu.uuid": "GPU-1", "gpu.index": 0, "gpu.util": 93.0, "gpu.mem_used": 1_u64 << 35,
            "gpu.util_mean_10m": 91.0, "gpu.util_cv_10m": 0.2, "gpu.power_watts": 640.0,
            "gpu.seconds_since_first_use": 900.0, "gpu.busy_seconds": 850.0}),
    )
}

fn flow(at: usize) -> FactRow {
    let private = !at.is_multiple_of(5);
    let ip = if private { "10.42.0.7" } else { "198.51.100.7" };
    with(
        "flow",
        at,
        json!({"net.phase": "progress", "net.family": "inet", "net.proto": "tcp",
            "net.socket_type": "stream", "net.direction": "egress", "net.src.ip": "10.42.0.9",
            "net.src.port": 40_000, "net.dst.ip": ip, "net.dst.port": 443, "net.bytes_out": 1500,
            "net.peer_class": if private { "private" } else { "public" }, "net.allowed": private,
            "net.bytes_out_total": 90_000, "net.sends": 60, "net.age_seconds": 4.0,
            "net.owner.pid": 1_000, "net.owner_is_sender": true}),
    )
}
