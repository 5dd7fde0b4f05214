//! Removing a rule removes its traffic from the rings: from the text of rules to what the kernel
//! sends. Needs root.

#[expect(dead_code, reason = "the module serves other tests too")]
mod watch;

use std::time::Duration;

use monitor::model::{Body, Event};
use monitor::pipeline::wanted;
use monitor::rule::{Demand, RuleSet, Source};
use watch::{Watch, python};

/// Longer than the slowest poll of the bulk ring by far.
const SOON: Duration = Duration::from_secs(5);

const EXEC_RULE: &str = "- {id: a, title: t, severity: low, on: [exec], when: proc.uid == 0, \
                         message: m}\n";
const PACKET_RULE: &str = "- {id: b, title: t, severity: low, on: [socket], message: m, when: \
                           'net.family == \"packet\"'}\n";
const OPEN_RULE: &str = "- {id: c, title: t, severity: low, on: [file_open], message: m, when: \
                         'file.class == \"weights\"'}\n";

/// What rules need.
fn demand(rules: &str) -> Demand {
    let text = format!("apiVersion: gpuwarden.dev/v1\nrules:\n{rules}");
    let source = Source { name: "a.yaml".into(), text, dir: None, untested: true };
    let set = RuleSet::load(&[source]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    Demand::of(&set, false)
}

/// Loads rules and tells the kernel side what they need.
fn load(watch: &mut Watch, rules: &str) {
    watch.want(&wanted(&demand(rules)));
}

/// Makes an `AF_PACKET` and an `AF_VSOCK` socket, opens a file of weights, and then runs a program,
/// by which one can tell that the rest would have come.
fn play(watch: &Watch, mark: &str) -> u32 {
    let script = "
import os, socket, sys
socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
try: socket.socket(40, socket.SOCK_STREAM, 0).close()
except OSError: pass
open(sys.argv[1], 'rb').read(1)
os.execv('/bin/echo', ['echo', sys.argv[2]])";
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("m.safetensors");
    std::fs::write(&file, vec![7; 4096]).expect("a file");
    let child = python(watch, script, &[file.to_str().expect("utf-8"), mark]);
    watch.wait(SOON, |event| {
        matches!(&event.body, Body::Exec(exec) if exec.args.get(1).is_some_and(|arg| arg == mark))
    });
    watch.settle();
    child
}

fn by(child: u32, event: &Event) -> bool {
    event.actor.as_ref().is_some_and(|actor| actor.process.tgid.0 == child)
}

fn sockets(watch: &Watch, child: u32) -> Vec<u16> {
    let families = std::cell::RefCell::new(Vec::new());
    watch.count(|event| match &event.body {
        Body::SocketNew(socket) if by(child, event) => {
            families.borrow_mut().push(socket.family);
            true
        }
        _ => false,
    });
    families.into_inner()
}

fn opens(watch: &Watch, child: u32) -> usize {
    watch.count(|event| {
        by(child, event)
            && matches!(&event.body, Body::FileOpen(open) if open.path.ends_with(".safetensors"))
    })
}

#[test]
fn removing_a_rule_removes_its_traffic_from_the_ring() {
    let mut watch = Watch::start();
    load(&mut watch, &format!("{EXEC_RULE}{PACKET_RULE}{OPEN_RULE}"));
    let child = play(&watch, "with-all");
    assert_eq!(sockets(&watch, child), [17], "the family that the rule names, and no other");
    assert_eq!(opens(&watch, child), 1);

    load(&mut watch, &format!("{EXEC_RULE}{OPEN_RULE}"));
    let child = play(&watch, "without-sockets");
    assert!(sockets(&watch, child).is_empty());
    assert_eq!(opens(&watch, child), 1);

    load(&mut watch, EXEC_RULE);
    let child = play(&watch, "without-opens");
    assert_eq!((sockets(&watch, child).len(), opens(&watch, child)), (0, 0));

    load(&mut watch, &format!("{EXEC_RULE}{PACKET_RULE}{OPEN_RULE}"));
    let child = play(&watch, "with-all-again");
    assert_eq!((sockets(&watch, child).len(), opens(&watch, child)), (1, 1), "without a restart");
}

/// Opens a plain file below a prefix, one beside it, and one whose name is asked for, and then runs
/// a program.
fn play_paths(watch: &Watch, dir: &std::path::Path, mark: &str) -> Vec<String> {
    let script = "
import os, sys
for path in sys.argv[2:]: open(path, 'rb').read(1)
os.execv('/bin/echo', ['echo', sys.argv[1]])";
    let files = ["keys/deep/a.txt", "keys.txt", "other/b.txt", "other/named.cnf"];
    let paths: Vec<String> = files.iter().map(|it| format!("{}/{it}", dir.display())).collect();
    let mut arguments = vec![mark];
    arguments.extend(paths.iter().map(String::as_str));
    let child = python(watch, script, &arguments);
    watch.wait(SOON, |event| {
        matches!(&event.body, Body::Exec(exec) if exec.args.get(1).is_some_and(|arg| arg == mark))
    });
    watch.settle();
    let seen = std::cell::RefCell::new(Vec::new());
    watch.count(|event| match &event.body {
        Body::FileOpen(open) if by(child, event) && paths.contains(&open.path) => {
            let name = open.path.rsplit('/').next().unwrap_or_default();
            seen.borrow_mut().push(name.to_owned());
            true
        }
        _ => false,
    });
    seen.into_inner()
}

#[test]
fn rule_on_a_path_brings_its_opens_and_takes_them_along_when_it_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    for file in ["keys/deep/a.txt", "keys.txt", "other/b.txt", "other/named.cnf"] {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        std::fs::write(path, "plain").expect("written");
    }
    let rest = "title: t, severity: low, on: [file_open], message: m";
    let prefix = format!(
        "- {{id: p, {rest}, when: 'file.path.startsWith(\"{}/keys/\")'}}\n",
        dir.path().display()
    );
    let named = format!("- {{id: n, {rest}, when: 'file.path == \"/etc/named.cnf\"'}}\n");
    let mut watch = Watch::start();
    let mut paths = monitor::sensor::PathWatch::default();
    let mut load_paths = |watch: &mut Watch, rules: &str| {
        let demand = demand(rules);
        watch.want(&wanted(&demand));
        assert!(watch.want_paths(&mut paths, &demand));
    };
    // A rule on any open, so that the kind as such is wanted all the while.
    let any = format!("{EXEC_RULE}- {{id: u, {rest}, when: proc.uid == 77}}\n");
    load_paths(&mut watch, &any);
    assert!(play_paths(&watch, dir.path(), "no-path").is_empty());
    load_paths(&mut watch, &format!("{any}{prefix}{named}"));
    assert_eq!(play_paths(&watch, dir.path(), "both"), ["a.txt", "named.cnf"]);
    load_paths(&mut watch, &format!("{any}{named}"));
    assert_eq!(play_paths(&watch, dir.path(), "name-only"), ["named.cnf"]);
    load_paths(&mut watch, &any);
    assert!(play_paths(&watch, dir.path(), "none-again").is_empty());
}
