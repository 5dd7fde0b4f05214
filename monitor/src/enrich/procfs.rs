//! The rim of this stage: [`ProcSource`] over `/proc`.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, open};

use super::limit::{CGROUP_BYTES_MAX, ENVIRON_BYTES_MAX, VARIABLE_BYTES_MAX};
use super::source::{FileHead, ProcInfo, ProcSource};
use crate::model::{BootNs, CgroupId, Channel, FileId, Tgid};

/// Bytes of `/proc/PID/stat` and `status` that are read; both are below two kilobytes.
pub(super) const STAT_BYTES_MAX: usize = 8_192;

/// Bytes of `/proc/PID/fdinfo/N` that are read: the flags are in the second line.
pub(super) const FDINFO_BYTES: usize = 128;

/// `/proc` of this host, or the same tree mounted elsewhere.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
    cgroup_root: Option<PathBuf>,
    tick_ns: u64,
}

impl Default for Procfs {
    fn default() -> Self {
        let unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let cgroup_root = unified.iter().map(Path::new).find(|path| {
            // Only a cgroup2 mount has this file at its root.
            path.join("cgroup.subtree_control").exists()
        });
        Self::new(Path::new("/proc"), cgroup_root)
    }
}

impl Procfs {
    /// Reads processes below `root` and cgroup v2 directories below `cgroup_root`.
    pub fn new(root: &Path, cgroup_root: Option<&Path>) -> Self {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        Self {
            root: root.to_owned(),
            cgroup_root: cgroup_root.map(Path::to_owned),
            tick_ns: 1_000_000_000 / ticks,
        }
    }

    /// Process ids that exist now.
    pub fn processes(&self) -> Vec<Tgid> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Tgid))
            .collect()
    }

    pub(super) fn path(&self, process: Tgid, name: &str) -> PathBuf {
        self.root.join(process.0.to_string()).join(name)
    }

    pub(super) fn bytes(
        &self,
        process: Tgid,
        name: &str,
        bytes_max: usize,
    ) -> Option<(Vec<u8>, bool)> {
        let mut bytes = Vec::with_capacity(512);
        let file = File::open(self.path(process, name)).ok()?;
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).ok()?;
        let cut = bytes.len() > bytes_max;
        bytes.truncate(bytes_max);
        Some((bytes, cut))
    }

    fn link(&self, process: Tgid, name: &str) -> String {
        fs::read_link(self.path(process, name))
            .map(|path| String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned())
            .unwrap_or_default()
    }
}

impl ProcSource for Procfs {
    fn cgroup(&self, process: Tgid) -> Option<String> {
        let (bytes, _) = self.bytes(process, "cgroup", CGROUP_BYTES_MAX)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn cgroup_id(&self, path: &str) -> Option<CgroupId> {
        let full = self.cgroup_root.as_ref()?.join(path.trim_start_matches('/'));
        Some(CgroupId(fs::metadata(full).ok()?.ino()))
    }

    fn process(&self, process: Tgid) -> Option<ProcInfo> {
        let (stat, _) = self.bytes(process, "stat", STAT_BYTES_MAX)?;
        let (name, parent, start_ticks) = parse_stat(&String::from_utf8_lossy(&stat))?;
        let (status, _) = self.bytes(process, "status", STAT_BYTES_MAX)?;
        let uid = parse_uid(&String::from_utf8_lossy(&status)).unwrap_or(0);
        let (args, args_truncated) =
            self.bytes(process, "cmdline", monitor_common::ARGS_BYTES_MAX).unwrap_or_default();
        let exe = self.link(process, "exe");
        let (exe, exe_deleted) = match exe.strip_suffix(" (deleted)") {
            Some(exe) => (exe.to_owned(), true),
            None => (exe, false),
        };
        Some(ProcInfo {
            parent,
            start: BootNs(start_ticks.saturating_mul(self.tick_ns)),
            name,
            exe,
            exe_deleted,
            args: split_args(&args),
            args_truncated,
            cwd: self.link(process, "cwd"),
            uid,
        })
    }

    fn stat(&self, process: Tgid, path: &str) -> Option<FileHead> {
        let full = self.path(process, "root").join(path.trim_start_matches('/'));
        // Where the process has gone, its view has gone too; the host's own is tried.
        let meta = fs::symlink_metadata(full).or_else(|_| fs::symlink_metadata(path)).ok()?;
        let seconds = u64::try_from(meta.mtime()).unwrap_or(0);
        let rest = u64::try_from(meta.mtime_nsec()).unwrap_or(0);
        meta.is_file().then(|| FileHead {
            inode: meta.ino(),
            size_bytes: meta.len(),
            filled: 0,
            modified_ns: seconds.saturating_mul(1_000_000_000).saturating_add(rest),
        })
    }

    fn nameless(&self, process: Tgid, left: &mut usize) -> Vec<(FileId, u64)> {
        self.nameless_of(process, left)
    }

    fn open_size(&self, process: Tgid, id: &FileId) -> Option<u64> {
        Some(self.descriptor_of(process, id)?.size_bytes)
    }

    fn directory(&self, process: Tgid, descriptor: i32) -> Option<String> {
        let name = match u32::try_from(descriptor) {
            Ok(descriptor) => format!("fd/{descriptor}"),
            // `AT_FDCWD`.
            Err(_) => "cwd".to_owned(),
        };
        let link = self.link(process, &name);
        link.starts_with('/').then_some(link)
    }

    fn written(&self, process: Tgid) -> Vec<(String, FileId, u64)> {
        self.written_by(process)
    }

    fn variable(&self, process: Tgid, name: &str) -> Option<String> {
        let (bytes, _) = self.bytes(process, "environ", ENVIRON_BYTES_MAX)?;
        let value = bytes
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        let value = value.get(..VARIABLE_BYTES_MAX).unwrap_or(value);
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn holds(&self, process: Tgid, channel: Channel) -> bool {
        self.holds_end(process, channel)
    }

    fn process_in_namespace(&self, caller: Tgid, named: u32) -> Option<Tgid> {
        self.named_in_namespace(caller, named)
    }

    fn resolvers(&self, process: Option<Tgid>) -> Vec<IpAddr> {
        self.configured_resolvers(process)
    }

    fn listens(&self, process: Tgid, port: u16) -> Option<bool> {
        self.listens_on(process, port)
    }

    fn holder(&self, processes: &[Tgid], socket: u64, left: &mut usize) -> Option<Tgid> {
        self.holder_of(processes, socket, left)
    }

    fn pipe_reader(&self, processes: &[Tgid], pipe: u64, left: &mut usize) -> Option<Tgid> {
        self.reader_of(processes, pipe, left)
    }

    fn datagram_socket(&self, process: Tgid, port: u16) -> Option<u64> {
        self.datagram_socket_of(process, port)
    }

    fn mount_ns(&self, process: Tgid) -> Option<u32> {
        u32::try_from(fs::metadata(self.path(process, "ns/mnt")).ok()?.ino()).ok()
    }

    fn head(&self, process: Tgid, path: &str, into: &mut [u8]) -> Option<FileHead> {
        let root = self.path(process, "root");
        let full = root.join(path.trim_start_matches('/'));
        // First a look that opens nothing: the name may lead to a pipe or a device by now.
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Where the process has gone, its view has gone too; the host's own is tried.
        let place =
            open(&full, look, Mode::empty()).or_else(|_| open(path, look, Mode::empty())).ok()?;
        let stat = fstat(&place).ok()?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return None;
        }
        let number = std::os::fd::AsRawFd::as_raw_fd(&place);
        let again = format!("/proc/self/fd/{number}");
        let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(open(&again, read, Mode::empty()).ok()?);
        let filled = read_start(file, into)?;
        let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        Some(FileHead { inode: stat.st_ino, size_bytes, filled, modified_ns: 0 })
    }
}

/// Fills as much of the buffer as the file has.
pub(super) fn read_start(mut file: impl std::io::Read, into: &mut [u8]) -> Option<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(filled)
}

/// Name, parent and start in ticks from `/proc/PID/stat`. The name may hold anything, brackets
/// included, so the fields begin after the last one (proc(5)).
fn parse_stat(text: &str) -> Option<(String, Tgid, u64)> {
    let (head, tail) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    // Field 22 of the line is the 18th after the state.
    let start = fields.nth(17)?.parse().ok()?;
    Some((name.to_owned(), Tgid(parent), start))
}

fn parse_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn split_args(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = "42 (a) (b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1 1";
        assert_eq!(parse_stat(line), Some(("a) (b".into(), Tgid(7), 12_345)));
        assert_eq!(parse_stat("42 (x) S 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_test_itself_is_described_as_it_is() {
        let me = Tgid(std::process::id());
        let info = Procfs::default().process(me).unwrap();
        assert_eq!(Path::new(&info.exe), std::env::current_exe().unwrap());
        assert_eq!(info.args, std::env::args().collect::<Vec<_>>());
        assert_eq!(info.parent.0, std::os::unix::process::parent_id());
        assert!(info.start.0 > 0);
        assert!(Procfs::default().cgroup(me).unwrap().contains(':'));
    }

    #[test]
    fn the_head_of_a_regular_file_is_read_and_of_a_pipe_is_not() {
        let me = Tgid(std::process::id());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("w.bin");
        fs::write(&file, b"GGUF....").unwrap();
        let mut head = [0; 4];
        let found = Procfs::default().head(me, file.to_str().unwrap(), &mut head).unwrap();
        assert_eq!((&head, found.filled, found.size_bytes), (b"GGUF", 4, 8));
        let pipe = directory.path().join("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(Procfs::default().head(me, pipe.to_str().unwrap(), &mut head), None);
    }
}
