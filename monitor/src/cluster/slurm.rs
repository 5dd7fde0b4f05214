//! Names of SLURM jobs, and their GPUs.
//!
//! The job's id comes from its cgroup, where a user cannot forge it. Its names come from
//! `scontrol`, else from the environment of one of its processes: that is a hint, which a user can
//! forge, except for the user, who is the owner of the process as the kernel has it. GPUs come
//! from `scontrol` (`GRES=gpu:2(IDX:0-1)`) and from a directory with one file per GPU, as prologue
//! scripts write it. `CUDA_VISIBLE_DEVICES` is not used: anybody can set it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::device::DeviceName;
use super::directory::{Directory, SourceState};
use super::members::JOB_MEMBERS_MAX;
use crate::enrich::{Holder, Names};

/// Jobs that wait to be asked for.
pub const JOBS_QUEUED_MAX: usize = 64;
/// Files of the mapping directory that are read: one for each GPU or MIG instance.
pub const JOB_FILES_MAX: usize = 512;
/// Bytes of such a file: job ids, one a line.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// How often the mapping directory is read.
const EVERY: Duration = Duration::from_secs(5);
/// How long `scontrol` may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an environment that are read.
const ENVIRON_BYTES_MAX: u64 = 256 << 10;

const MAPPING: &str = "slurm_job_mapping";
const CONTROL: &str = "slurm_scontrol";

/// Answers questions for jobs, and reads the mapping directory every few seconds.
pub(super) fn follow(asked: &Receiver<String>, mapping: Option<&Path>, directory: &Directory) {
    let mut gpus_of_jobs: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut read_at: Option<Instant> = None;
    loop {
        if let Some(path) = mapping
            && read_at.is_none_or(|at| at.elapsed() >= EVERY)
        {
            read_at = Some(Instant::now());
            read_mapping(path, directory);
        }
        match asked.recv_timeout(EVERY) {
            Ok(job) if directory.knows_job(&job) => {}
            Ok(job) => ask(&job, directory, &mut gpus_of_jobs),
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody asks for names; the directory of jobs still changes.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(EVERY),
        }
    }
}

fn read_mapping(path: &Path, directory: &Directory) {
    match mapping(path) {
        Ok(holders) => {
            directory.set_holders(MAPPING, Some(holders));
            directory.note_source(MAPPING, SourceState::Active);
        }
        Err(error) => {
            directory.set_holders(MAPPING, None);
            let why = format!("cannot read {}: {error}", path.display());
            directory.note_source(MAPPING, SourceState::Off(why));
        }
    }
}

/// Reads a directory with one file per GPU index (`0`, or `2.1` for an instance of GPU 2), each
/// with the ids of the jobs on it, one a line.
fn mapping(path: &Path) -> std::io::Result<BTreeMap<DeviceName, Vec<Holder>>> {
    use std::io::Read as _;
    let mut found: BTreeMap<DeviceName, Vec<Holder>> = BTreeMap::new();
    for entry in fs::read_dir(path)?.take(JOB_FILES_MAX) {
        let entry = entry?;
        let name = entry.file_name();
        let Some(index) = name.to_str().and_then(|name| name.split('.').next()?.parse().ok())
        else {
            continue;
        };
        let mut text = String::new();
        fs::File::open(entry.path())?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        let jobs = text.split_whitespace().map(|id| Holder::Job(id.to_owned()));
        found.entry(DeviceName::Index(index)).or_default().extend(jobs);
    }
    Ok(found)
}

/// Finds out what a job is called and which GPUs it has.
fn ask(job: &str, directory: &Directory, gpus_of_jobs: &mut BTreeMap<String, Vec<u32>>) {
    // The id goes to a program; a job's id is a number and nothing else.
    if job.is_empty() || !job.bytes().all(|byte| byte.is_ascii_digit()) {
        return;
    }
    let names = match scontrol(&["job", "-d", "-o", job]) {
        Ok(text) => {
            directory.note_source(CONTROL, SourceState::Active);
            let job_gpus = gpus(&text, &host_name());
            gpus_of_jobs.retain(|known, _| directory.knows_job(known));
            gpus_of_jobs.insert(job.to_owned(), job_gpus);
            directory.set_holders(CONTROL, Some(holders(gpus_of_jobs)));
            Some(Names { job_members: job_members(&text), ..names(&text) })
        }
        Err(why) => {
            directory.note_source(CONTROL, SourceState::Off(why));
            from_environment(job)
        }
    };
    if let Some(names) = names {
        directory.put_job(job, Arc::new(names));
    }
}

fn holders(gpus_of_jobs: &BTreeMap<String, Vec<u32>>) -> BTreeMap<DeviceName, Vec<Holder>> {
    let mut found: BTreeMap<DeviceName, Vec<Holder>> = BTreeMap::new();
    for (job, gpus) in gpus_of_jobs {
        for gpu in gpus {
            found.entry(DeviceName::Index(*gpu)).or_default().push(Holder::Job(job.clone()));
        }
    }
    found
}

/// Addresses of the nodes of a job: its members, for each of its steps talks from the node's own.
fn job_members(job: &str) -> Vec<IpAddr> {
    let Some(nodes) = value(job, "NodeList").filter(|nodes| !nodes.starts_with('-')) else {
        return Vec::new();
    };
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    scontrol(&["node", "-o", nodes]).map(|text| addresses(&text, &hosts)).unwrap_or_default()
}

/// Addresses of nodes as `scontrol show node -o` prints them, one node a line. A node goes by an
/// address, or by a name that the hosts file knows: a resolver is not asked. Where one of them has
/// neither, none are told: half of a job would make strangers of the rest.
fn addresses(nodes: &str, hosts: &str) -> Vec<IpAddr> {
    let in_hosts = |name: &str| -> Vec<IpAddr> {
        let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
        lines
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = words.next()?.parse::<IpAddr>().ok()?;
                (words.any(|word| word == name) && !address.is_loopback()).then_some(address)
            })
            .collect()
    };
    let mut found = Vec::new();
    for node in nodes.lines().filter(|line| !line.trim().is_empty()) {
        let Some(name) = value(node, "NodeAddr").or_else(|| value(node, "NodeName")) else {
            return Vec::new();
        };
        let of_node = name.parse().map_or_else(|_| in_hosts(name), |address| vec![address]);
        if of_node.is_empty() || found.len() + of_node.len() > JOB_MEMBERS_MAX {
            return Vec::new();
        }
        found.extend(of_node);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// What `scontrol show` prints of something.
fn scontrol(what: &[&str]) -> Result<String, String> {
    let mut child = Command::new("scontrol")
        .arg("show")
        .args(what)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run scontrol: {error}"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(None) | Err(_) => {
                if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                    tracing::debug!(%error, "scontrol could not be ended");
                }
                return Err(format!("scontrol took longer than {} s", PATIENCE.as_secs()));
            }
        }
    }
    let output = child.wait_with_output().map_err(|error| format!("scontrol: {error}"))?;
    if !output.status.success() {
        return Err(format!("scontrol ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The value of `Key=` in what `scontrol` prints.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let found = text.split_whitespace().find_map(|word| {
        let (name, value) = word.split_once('=')?;
        (name == key).then_some(value)
    })?;
    (!matches!(found, "" | "(null)" | "None")).then_some(found)
}

fn names(text: &str) -> Names {
    let owned = |key| value(text, key).map(str::to_owned);
    Names {
        slurm_partition: owned("Partition"),
        // `alice(1000)`
        slurm_user: owned("UserId").map(|user| match user.split_once('(') {
            Some((name, _)) => name.to_owned(),
            None => user,
        }),
        slurm_account: owned("Account"),
        ..Names::default()
    }
}

/// GPUs of the job on this node. `scontrol` prints for each group of nodes
/// `Nodes=n1 CPU_IDs=0-3 Mem=1024 GRES=gpu:a100:2(IDX:0-1)`.
fn gpus(text: &str, host: &str) -> Vec<u32> {
    let mut is_here = false;
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        match word.split_once('=') {
            // A list like `n[1-4]` cannot be told apart here; it is taken for one with this node.
            Some(("Nodes", nodes)) => is_here = nodes == host || nodes.contains('['),
            Some(("GRES", gres)) if is_here => {
                for group in gres.split("gpu").skip(1) {
                    let index =
                        group.split_once("(IDX:").and_then(|(_, rest)| rest.split_once(')'));
                    found.extend(index.map(|(list, _)| numbers(list)).unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// `0-1,3` as numbers; at most 64 of them.
fn numbers(list: &str) -> Vec<u32> {
    const GPUS_MAX: usize = crate::gpu::backend::DEVICES_MAX as usize;
    let ranges = list.split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse::<u32>().ok()?..=to.parse::<u32>().ok()?)
    });
    ranges.flatten().take(GPUS_MAX).collect()
}

fn host_name() -> String {
    let full = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    full.trim().split('.').next().unwrap_or_default().to_owned()
}

/// Names from the environment of a process of the job; the user is the process's owner.
fn from_environment(job: &str) -> Option<Names> {
    use std::io::Read as _;
    let marks = [format!("/job_{job}/"), format!("/job_{job}\n")];
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        if !is_process {
            continue;
        }
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if !marks.iter().any(|mark| cgroup.contains(mark.as_str())) {
            continue;
        }
        let Ok(file) = fs::File::open(entry.path().join("environ")) else { continue };
        let mut bytes = Vec::new();
        if file.take(ENVIRON_BYTES_MAX).read_to_end(&mut bytes).is_err() {
            continue;
        }
        let Ok(owner) = fs::metadata(entry.path()).map(|data| data.uid()) else { continue };
        if let Some(names) = environment(&bytes, job, &user_name(owner)) {
            return Some(names);
        }
    }
    None
}

/// Names in an environment; `None` where it is not of this job (`slurmstepd` has none).
fn environment(bytes: &[u8], job: &str, user: &str) -> Option<Names> {
    let value = |name: &str| {
        bytes.split(|byte| *byte == 0).find_map(|entry| {
            let text = std::str::from_utf8(entry).ok()?;
            let (key, value) = text.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    };
    (value("SLURM_JOB_ID").as_deref() == Some(job)).then(|| Names {
        slurm_partition: value("SLURM_JOB_PARTITION"),
        slurm_user: Some(user.to_owned()),
        slurm_account: value("SLURM_JOB_ACCOUNT"),
        ..Names::default()
    })
}

fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "JobId=42 JobName=train UserId=alice(1000) GroupId=ml(100) MCS_label=N/A \
        Priority=1 Nice=0 Account=vision QOS=(null) JobState=RUNNING Partition=gpu \
        NodeList=n1 BatchHost=n1 JOB_GRES=gpu:a100:3 \
        Nodes=n2 CPU_IDs=0-3 Mem=0 GRES=gpu:a100:1(IDX:7) \
        Nodes=n1 CPU_IDs=0-7 Mem=0 GRES=gpu:a100:2(IDX:0-1),gpu:t4:1(IDX:3) Command=/x";

    #[test]
    fn a_job_is_read_from_what_scontrol_prints() {
        let names = names(JOB);
        assert_eq!(names.slurm_partition.as_deref(), Some("gpu"));
        assert_eq!(names.slurm_user.as_deref(), Some("alice"));
        assert_eq!(names.slurm_account.as_deref(), Some("vision"));
        assert_eq!(gpus(JOB, "n1"), [0, 1, 3]);
        assert_eq!(gpus(JOB, "n2"), [7]);
        assert_eq!(gpus(JOB, "n3"), [0_u32; 0]);
        assert_eq!(numbers("0-4000000000").len(), 64, "bounded");
    }

    #[test]
    fn members_of_a_job_are_the_addresses_of_its_nodes() {
        let hosts = "127.0.0.1 localhost n2\n10.0.0.2 n2.cluster n2 # of n3\nfd00::2\tn2\n";
        let node = |name: &str, address: &str| {
            format!("NodeName={name} Arch=x86_64 NodeAddr={address} NodeHostName={name}\n")
        };
        let text = node("n1", "10.0.0.1") + &node("n2", "n2");
        let expected: Vec<IpAddr> =
            ["10.0.0.1", "10.0.0.2", "fd00::2"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(addresses(&text, hosts), expected);
        let unknown = text + &node("n3", "n3");
        assert_eq!(addresses(&unknown, hosts), [] as [IpAddr; 0], "half of a job is not told");
    }

    #[test]
    fn the_user_is_the_owner_and_not_what_the_environment_says() {
        let bytes = b"SLURM_JOB_ID=42\0SLURM_JOB_USER=root\0SLURM_JOB_PARTITION=gpu\0\
            SLURM_JOB_ACCOUNT=vision\0";
        let names = environment(bytes, "42", "alice").unwrap();
        assert_eq!(names.slurm_user.as_deref(), Some("alice"));
        assert_eq!(names.slurm_partition.as_deref(), Some("gpu"));
        assert_eq!(environment(bytes, "43", "alice"), None, "of another job");
    }

    #[test]
    fn the_mapping_directory_gives_jobs_by_gpu() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("0", "42\n43\n"), ("2.1", "44"), ("README", "55"), ("3", "")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let found = mapping(folder.path()).unwrap();
        let shown = |index| -> Vec<String> {
            found[&DeviceName::Index(index)].iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown(0), ["slurm:42", "slurm:43"]);
        assert_eq!((shown(2), shown(3)), (vec!["slurm:44".to_owned()], vec![]));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn an_id_that_is_no_number_reaches_no_program() {
        let (directory, _asked) = Directory::new(true);
        ask("1;reboot", &directory, &mut BTreeMap::new());
        assert_eq!(directory.sources(), []);
    }
}
