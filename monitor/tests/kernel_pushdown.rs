//! Removing a rule removes its traffic from the rings: from the text of rules to what the kernel
//! sends. Needs root.

#[expect(dead_code, reason = "the module serves other tests too")]
mod watch;

use std::sync::Arc;
use std::time::Duration;

use monitor::enrich::{EnrichConfig, Enricher, FileHead, NoProfiles, ProcInfo, ProcSource, Procfs};
use monitor::model::{Body, CgroupId, Clock, Event, Tgid};
use monitor::pipeline::{CgroupMasks, wanted};
use monitor::rule::{Demand, RuleSet, Scopes, Source};
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

/// Connects to each address over loopback, and then runs a program.
fn play_flows(watch: &Watch, to: &[std::net::SocketAddr], mark: &str) -> Vec<u16> {
    let script = "
import os, socket, sys
for to in sys.argv[2:]:
    host, port = to.rsplit(':', 1)
    family = socket.AF_INET6 if '[' in host else socket.AF_INET
    with socket.socket(family) as s:
        s.connect((host.strip('[]'), int(port)))
        s.send(b'hello')
os.execv('/bin/echo', ['echo', sys.argv[1]])";
    let mut arguments = vec![mark.to_owned()];
    arguments.extend(to.iter().map(ToString::to_string));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let child = python(watch, script, &arguments);
    watch.wait(SOON, |event| {
        matches!(&event.body, Body::Exec(exec) if exec.args.get(1).is_some_and(|arg| arg == mark))
    });
    watch.settle();
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    watch.count(|event| match &event.body {
        Body::Flow(flow) if by(child, event) => {
            flow.remote.is_some_and(|remote| seen.borrow_mut().insert(remote.port()))
        }
        _ => false,
    });
    seen.into_inner().into_iter().collect()
}

#[test]
fn rule_on_a_port_or_a_family_brings_those_flows_and_takes_them_along_when_it_goes() {
    let listen = |address: &str| std::net::TcpListener::bind(address).expect("a free port");
    let (one, other, six) = (listen("127.0.0.1:0"), listen("127.0.0.1:0"), listen("[::1]:0"));
    let to = [&one, &other, &six].map(|it| it.local_addr().expect("an address"));
    let [first, second, third] = to.map(|address| address.port());
    let flow = |id: &str, when: &str| {
        format!("- {{id: {id}, title: t, severity: low, on: [flow], message: m, when: '{when}'}}\n")
    };
    let on_first = flow("p", &format!("net.dst.port == {first}"));
    let on_second = flow("q", &format!("net.dst.port in [{second}, 1]"));
    let on_six = flow("s", "net.family == \"inet6\" && net.bytes_out > 0");
    let sums = "- {id: e, title: t, severity: low, on: [exec], message: m, when: \
                'workload.egress_bytes > 77777777777777'}\n";
    let mut all = [first, second, third];
    all.sort_unstable();
    let mut ports = [first, second];
    ports.sort_unstable();
    let mut watch = Watch::start();
    load(&mut watch, &format!("{EXEC_RULE}{on_first}{on_second}"));
    assert_eq!(play_flows(&watch, &to, "both-ports"), ports);
    load(&mut watch, &format!("{EXEC_RULE}{on_first}"));
    assert_eq!(play_flows(&watch, &to, "one-port"), [first]);
    load(&mut watch, &format!("{EXEC_RULE}{on_six}"));
    assert_eq!(play_flows(&watch, &to, "one-family"), [third]);
    load(&mut watch, EXEC_RULE);
    assert!(play_flows(&watch, &to, "no-flows").is_empty());
    load(&mut watch, &format!("{EXEC_RULE}{on_first}{sums}"));
    assert_eq!(play_flows(&watch, &to, "sums"), all, "a sum is made of every flow");
}

/// A process in a cgroup of its own that makes an `AF_PACKET` socket for each line it is sent.
struct Unit {
    name: String,
    dir: std::path::PathBuf,
    child: std::process::Child,
}

impl Unit {
    fn start(name: &str) -> Self {
        let root = monitor::kernel::support::cgroup2_root().expect("a cgroup v2 hierarchy");
        let name = format!("{name}-{}.service", std::process::id());
        let dir = root.join(&name);
        std::fs::create_dir_all(&dir).expect("a cgroup");
        let script = "
import socket, sys
for line in sys.stdin: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()";
        let enter = "echo $$ >\"$1/cgroup.procs\" && exec python3 -c \"$2\" \"$1\"";
        let child = std::process::Command::new("sh")
            .args(["-c", enter, "sh", dir.to_str().expect("utf-8"), script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a shell is there");
        Self { name, dir, child }
    }

    fn make_a_socket(&mut self) {
        use std::io::Write as _;
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(b"now\n").expect("written");
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
        let _removed = std::fs::remove_dir(&self.dir);
    }
}

/// A host that has cgroup v2 alone, as those have on which cgroups are told apart.
struct Unified(Procfs);

impl ProcSource for Unified {
    fn cgroup(&self, process: Tgid) -> Option<String> {
        let text = self.0.cgroup(process)?;
        text.lines().find(|line| line.starts_with("0::")).map(str::to_owned)
    }

    fn cgroup_id(&self, path: &str) -> Option<CgroupId> {
        self.0.cgroup_id(path)
    }

    fn process(&self, process: Tgid) -> Option<ProcInfo> {
        self.0.process(process)
    }

    fn head(&self, process: Tgid, path: &str, into: &mut [u8]) -> Option<FileHead> {
        self.0.head(process, path, into)
    }
}

#[test]
fn cgroup_in_which_no_rule_can_match_sends_nothing_of_the_kind() {
    let mut watch = Watch::start();
    let (mut job, mut other) = (Unit::start("pushdown-job"), Unit::start("pushdown-other"));
    let rules = |when: &str| {
        let text = format!(
            "apiVersion: gpuwarden.dev/v1\nrules:\n{EXEC_RULE}- {{id: s, title: t, severity: low, \
             on: [socket], message: m, when: '{when}'}}\n"
        );
        let source = Source { name: "a.yaml".into(), text, dir: None, untested: true };
        RuleSet::load(&[source]).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    };
    for unit in [&job, &other] {
        let dir = unit.dir.to_str().expect("utf-8").to_owned();
        watch.wait(SOON, |event| {
            matches!(&event.body, Body::Exec(exec)
                if exec.args.len() == 4 && exec.args[3] == dir)
        });
    }
    let config = monitor::config::load(None).expect("the defaults");
    let config = EnrichConfig::new(&config.watch, &config.kernel, Tgid(std::process::id()));
    let source = Box::new(Unified(Procfs::default()));
    let mut enricher = Enricher::new(&config, Arc::new(NoProfiles), Clock::measure(), source);
    for event in watch.events() {
        enricher.observe(&event);
    }
    let mut masks = CgroupMasks::default();
    let mut sockets_with = |watch: &mut Watch, when: &str| {
        let rules = rules(when);
        let demand = Demand::of(&rules, true);
        watch.want(&wanted(&demand));
        masks.restart(Scopes::of(&rules, true), watch.maps());
        masks.look(Clock::boot_now(), &enricher, &rules, watch.maps());
        let before = [sockets(watch, job.child.id()).len(), sockets(watch, other.child.id()).len()];
        job.make_a_socket();
        other.make_a_socket();
        watch.settle();
        let after = [sockets(watch, job.child.id()).len(), sockets(watch, other.child.id()).len()];
        [after[0] - before[0], after[1] - before[1]]
    };
    let one = format!("unit.name == \"{}\"", "pushdown-job-PID.service")
        .replace("PID", &std::process::id().to_string());
    assert_eq!(sockets_with(&mut watch, "net.family == \"packet\""), [1, 1], "of any workload");
    assert_eq!(sockets_with(&mut watch, &one), [1, 0], "only of the one that is asked for");
    assert_eq!(sockets_with(&mut watch, "unit.name == \"none\""), [0, 0]);
    assert_eq!(sockets_with(&mut watch, "proc.uid == 0"), [1, 1], "and without a restart again");
    assert_eq!(job.name, one.split('"').nth(1).unwrap_or_default());
}

#[test]
fn directory_that_only_a_container_sees_is_found() {
    use std::io::BufRead as _;
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().to_str().expect("utf-8");
    let script = "mount -t tmpfs x \"$1\" && mkdir -p \"$1/keys/deep\" && echo ready && read end";
    let mut child = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", place])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("unshare is there");
    let mut line = String::new();
    let out = child.stdout.take().expect("a pipe");
    std::io::BufReader::new(out).read_line(&mut line).expect("it says so");
    assert_eq!(line, "ready\n");
    let prefixes = std::collections::BTreeSet::from([format!("{place}/keys/")]);
    let (found, fits) = monitor::sensor::directories_of(&prefixes);
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").code().is_some());
    assert_eq!((found.len(), fits), (2, true), "keys and deep, which the host has not");
    let (found, _) = monitor::sensor::directories_of(&prefixes);
    assert!(found.is_empty(), "they are gone with their namespace");
}
