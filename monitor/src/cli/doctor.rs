//! `gpuwarden doctor`: kernel, sensors, GPU, workload, rules and sinks of this host, each with its
//! state, the reason, and the cure. It attaches for a moment what `run` would attach, and changes
//! nothing.

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::FOUND;
use crate::cluster::{self, SourceState};
use crate::config::{self, Config, SinkKind};
use crate::enrich::{Place, ProcSource as _, Procfs};
use crate::kernel::support;
use crate::model::Tgid;
use crate::pipeline::plan;
use crate::sensor::{self, State};

/// Is there where the kernel can load modules (`kernel/module/procfs.c`).
const MODULES: &str = "/proc/modules";

/// How long a sink's receiver is waited for.
const SINK_WAIT: Duration = Duration::from_secs(3);

mod gpu;

/// What `doctor` takes.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Configuration file; without it the one that `run` would read.
    #[arg(long, value_name = "FILE", env = "GPUWARDEN_CONFIG")]
    config: Option<PathBuf>,
    /// As a JSON array of checks.
    #[arg(long)]
    json: bool,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// Less is seen, or not all of it works.
    Limited,
    /// The monitor does not run, or does not see what it is for.
    Bad,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    area: &'static str,
    name: String,
    verdict: Verdict,
    says: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cure: String,
}

impl Check {
    fn new(area: &'static str, name: &str, verdict: Verdict, says: String, cure: &str) -> Self {
        Self { area, name: name.to_owned(), verdict, says, cure: cure.to_owned() }
    }
}

pub(super) fn run(args: &DoctorArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut checks = Vec::new();
    let config = match config::load(args.config.as_deref()) {
        Ok(config) => config,
        Err(errors) => {
            let cure = "mend the file; `gpuwarden config check FILE` shows the same";
            checks.push(Check::new("config", "file", Verdict::Bad, errors.to_string(), cure));
            Config::default()
        }
    };
    kernel(&config, &mut checks);
    gpu::check(&config, &mut checks);
    cluster(&config, &mut checks);
    workload(&mut checks);
    rules(&config, &mut checks);
    sinks(&config, &mut checks);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &checks)?;
        writeln!(out)?;
    } else {
        print(&checks, out)?;
    }
    let bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if bad { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

fn kernel(config: &Config, checks: &mut Vec<Check>) {
    let release = support::release();
    checks.push(Check::new("kernel", "release", Verdict::Good, release, ""));
    if let Err(error) = support::check() {
        checks.push(Check::new("kernel", "support", Verdict::Bad, error.to_string(), ""));
        return;
    }
    let root = match config.kernel.cgroup_root.clone().map_or_else(support::cgroup2_root, Ok) {
        Ok(root) => root,
        Err(error) => {
            checks.push(Check::new("kernel", "cgroup v2", Verdict::Bad, error.to_string(), ""));
            return;
        }
    };
    let says = format!("mounted at {}", root.display());
    checks.push(Check::new("kernel", "cgroup v2", Verdict::Good, says, ""));
    match sensor::load(&plan::kernel(&config.kernel), &root) {
        Err(error) => {
            let cure = "see docs/install-kubernetes.md for the capabilities the monitor needs";
            checks.push(Check::new("kernel", "programs", Verdict::Bad, error.to_string(), cure));
        }
        Ok(mut loaded) => {
            tier(&loaded, checks);
            memory(&loaded, checks);
            sensors(&loaded, checks);
            canary(&mut loaded, checks);
        }
    }
}

/// Which of the two tiers this kernel takes, and why not the full one.
fn tier(loaded: &sensor::Loaded, checks: &mut Vec<Check>) {
    let tiers = &loaded.tiers;
    let (verdict, cure) = match (&tiers.lsm, &tiers.fentry) {
        (Err(_), Err(_)) => (
            Verdict::Limited,
            "the sensors below say what is lost; docs/blind-spots.md says what that means",
        ),
        _ => (Verdict::Good, ""),
    };
    checks.push(Check::new("kernel", "tier", verdict, tiers.describe(), cure));
}

/// What the maps take here, and what they would take on a large host.
fn memory(loaded: &sensor::Loaded, checks: &mut Vec<Check>) {
    const LARGE_CPUS: u64 = 192;
    let here = aya::util::nr_cpus().map_or(1, |cpus| cpus as u64);
    let bytes = sensor::map_bytes(&loaded.maps, here);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let says = format!(
        "{} maps take {} MiB on {here} CPUs (on {LARGE_CPUS}: {} MiB), at most {} MiB",
        loaded.maps.len(),
        mib(bytes),
        mib(sensor::map_bytes(&loaded.maps, LARGE_CPUS)),
        mib(sensor::MAP_BYTES_MAX)
    );
    let is_fine = bytes <= sensor::MAP_BYTES_MAX;
    let verdict = if is_fine { Verdict::Good } else { Verdict::Limited };
    let cure = if is_fine { "" } else { "make kernel.ring_bulk_bytes smaller" };
    checks.push(Check::new("kernel", "memory", verdict, says, cure));
}

fn sensors(loaded: &sensor::Loaded, checks: &mut Vec<Check>) {
    for status in &loaded.status {
        let sensor = status.sensor;
        let (verdict, mut says) = match &status.state {
            State::Attached => (Verdict::Good, format!("{}: {}", status.hook, sensor.sees)),
            State::Fallback(lost) => (
                Verdict::Limited,
                format!("{}: {}; lost on this fallback: {lost}", status.hook, sensor.sees),
            ),
            State::Off(why) => (Verdict::Limited, format!("off: {why}; not seen: {}", sensor.lost)),
        };
        if !sensor.bound.is_empty() && !matches!(status.state, State::Off(_)) {
            says = format!("{says}; bound: {}", sensor.bound);
        }
        if !status.refused.is_empty() {
            says = format!("{says} (refused: {})", status.refused);
        }
        let cure = match &status.state {
            State::Off(why) => cure(why),
            State::Attached | State::Fallback(_) => "",
        };
        checks.push(Check::new("sensor", sensor.name, verdict, says, cure));
    }
}

/// What to do about a sensor that is off, from what the kernel said.
fn cure(why: &str) -> &'static str {
    if why.contains("tracefs") {
        "mount tracefs: mount -t tracefs tracefs /sys/kernel/tracing"
    } else if why.contains("not permitted") {
        "if /sys/kernel/security/lockdown is on, or CAP_BPF or CAP_PERFMON is missing, mend that; \
         a hosted kernel that refuses such programs to everybody cannot be helped. The rest works \
         without it"
    } else if why.contains("module_load") && !Path::new(MODULES).exists() {
        "nothing: this kernel cannot load modules at all (there is no /proc/modules)"
    } else {
        "this kernel lacks the hook; a newer one, or one of the distribution, may have it. The \
         rest works without it"
    }
}

fn canary(loaded: &mut sensor::Loaded, checks: &mut Vec<Check>) {
    let Some(iterator) = loaded.take_iterator() else { return };
    let check = match sensor::seed(iterator) {
        Ok(seeds) => {
            let says = format!(
                "what the kernel side reads of this process is what /proc/self says; {} processes \
                 were there",
                seeds.events.len()
            );
            Check::new("kernel", "canary", Verdict::Good, says, "")
        }
        Err(error) => Check::new("kernel", "canary", Verdict::Bad, error.to_string(), ""),
    };
    checks.push(check);
}

/// Where names of workloads and allocations of GPUs come from.
fn cluster(config: &Config, checks: &mut Vec<Check>) {
    let sources = plan::cluster(&config.cluster);
    let asked = usize::from(sources.api.is_some())
        + usize::from(sources.pod_resources_socket.is_some())
        + usize::from(sources.job_mapping_dir.is_some());
    let directory = match cluster::start(&sources) {
        Ok(directory) => directory,
        Err(error) => {
            checks.push(Check::new("cluster", "sources", Verdict::Bad, error.to_string(), ""));
            return;
        }
    };
    let deadline = Instant::now() + SINK_WAIT;
    while directory.sources().len() < asked && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    for (source, state) in directory.sources() {
        let (verdict, says, cure) = match state {
            SourceState::Active => (Verdict::Good, "answers".to_owned(), ""),
            SourceState::Off(why) => {
                (Verdict::Limited, why, "names and allocations it would tell are missing")
            }
        };
        checks.push(Check::new("cluster", source, verdict, says, cure));
    }
}

fn workload(checks: &mut Vec<Check>) {
    let source = Procfs::default();
    let own = Tgid(std::process::id());
    let check = match source.cgroup(own) {
        Some(text) => {
            let place = Place::parse(&text);
            let id = place.workload_id().unwrap_or_else(|| "its process tree".to_owned());
            let says = format!("this process belongs to {id} (cgroup {})", place.cgroup);
            Check::new("workload", "resolution", Verdict::Good, says, "")
        }
        None => Check::new(
            "workload",
            "resolution",
            Verdict::Bad,
            "/proc/self/cgroup cannot be read".to_owned(),
            "mount /proc of the host (hostPID: true in Kubernetes)",
        ),
    };
    checks.push(check);
}

fn rules(config: &Config, checks: &mut Vec<Check>) {
    let check = match plan::rules(&config.rules) {
        Ok(set) => {
            let says = format!("{} rules, {} profiles", set.rules.len(), set.profiles.len());
            Check::new("rules", "load", Verdict::Good, says, "")
        }
        Err(mistakes) => {
            let cure = "gpuwarden rules check PATH shows the same";
            Check::new("rules", "load", Verdict::Bad, mistakes.to_string(), cure)
        }
    };
    checks.push(check);
}

fn sinks(config: &Config, checks: &mut Vec<Check>) {
    for sink in &config.export.sinks {
        let (verdict, says) = match &sink.kind {
            SinkKind::Stdout { .. } => (Verdict::Good, "standard output".to_owned()),
            SinkKind::File(file) => (Verdict::Good, format!("writes {}", file.path.display())),
            SinkKind::Syslog(syslog) => reachable(&syslog.host, syslog.port),
            SinkKind::Webhook(webhook) => match host_and_port(&webhook.url) {
                Some((host, port)) => reachable(&host, port),
                None => (Verdict::Limited, "the URL names no host".to_owned()),
            },
        };
        let cure = if verdict == Verdict::Good {
            ""
        } else {
            "alerts wait in the spool until the receiver is back"
        };
        checks.push(Check::new("sink", &sink.name, verdict, says, cure));
    }
}

/// Host and port of an http or https URL.
fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    let default = if scheme == "https" { 443 } else { 80 };
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        }
        _ => Some((authority.trim_matches(['[', ']']).to_owned(), default)),
    }
}

fn reachable(host: &str, port: u16) -> (Verdict, String) {
    use std::net::{TcpStream, ToSocketAddrs as _};
    let address = match (host, port).to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(address)) => address,
        Ok(None) => return (Verdict::Limited, format!("{host} has no address")),
        Err(error) => return (Verdict::Limited, format!("{host} cannot be resolved: {error}")),
    };
    match TcpStream::connect_timeout(&address, SINK_WAIT) {
        Ok(_) => (Verdict::Good, format!("{host}:{port} answers")),
        Err(error) => (Verdict::Limited, format!("{host}:{port} does not answer: {error}")),
    }
}

fn print(checks: &[Check], out: &mut dyn Write) -> std::io::Result<()> {
    let colour = std::io::stdout().is_terminal();
    for check in checks {
        let (word, code) = match check.verdict {
            Verdict::Good => ("good   ", "32"),
            Verdict::Limited => ("limited", "33"),
            Verdict::Bad => ("bad    ", "31"),
        };
        let Check { area, name, says, cure, .. } = check;
        if colour {
            writeln!(out, "\x1b[{code}m{word}\x1b[0m {area:<8} {name:<13} {says}")?;
        } else {
            writeln!(out, "{word} {area:<8} {name:<13} {says}")?;
        }
        if !cure.is_empty() {
            writeln!(out, "{:>31} → {cure}", "")?;
        }
    }
    let bad = checks.iter().filter(|check| check.verdict == Verdict::Bad).count();
    let limited = checks.iter().filter(|check| check.verdict == Verdict::Limited).count();
    writeln!(out, "{} checks, {limited} limited, {bad} bad", checks.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_fits_what_the_kernel_said() {
        assert!(cure("file_read: BPF_PROG_LOAD: Operation not permitted").contains("lockdown"));
        assert!(cure("tracefs is not mounted").starts_with("mount tracefs"));
        assert!(cure("x: unknown BTF type `btf_trace_x`").contains("lacks the hook"));
    }

    #[test]
    fn host_and_port_are_read_from_any_url() {
        let read = |url| host_and_port(url).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(read("https://siem.example/hook?x=1").as_deref(), Some("siem.example 443"));
        assert_eq!(read("http://user:pw@10.0.0.1:8080/").as_deref(), Some("10.0.0.1 8080"));
        assert_eq!(read("http://[::1]:9/").as_deref(), Some("::1 9"));
        assert_eq!(read("http://[::1]/").as_deref(), Some("::1 80"));
        assert_eq!(read("not a url"), None);
    }
}
