//! What `/proc` tells of descriptors, pid namespaces and resolvers of a process. Each look is
//! bounded and waits for nothing.

use std::fs::{self, DirEntry, File};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, open, statx};

use super::limit::{
    DESCRIPTORS_MAX, FAR_CANDIDATES_MAX, FAR_DESCRIPTORS_MAX, NAMESPACE_SCAN_MAX,
    RESOLV_CONF_BYTES_MAX, SOCKET_TABLE_BYTES_MAX,
};
use super::pipe::pipe_of;
use super::procfs::{FDINFO_BYTES, Procfs, STAT_BYTES_MAX, read_start};
use super::resolver;
use crate::kernel::device::kernel_device;
use crate::model::{Channel, FileId, StreamKind, Tgid};

impl Procfs {
    /// Whether a process holds the other end of a channel.
    pub(super) fn holds_end(&self, process: Tgid, channel: Channel) -> bool {
        let Ok(entries) = fs::read_dir(self.path(process, "fd")) else { return false };
        entries
            .filter_map(Result::ok)
            .take(DESCRIPTORS_MAX)
            .any(|entry| self.is_other_end(process, &entry.path(), channel))
    }

    /// Whether a descriptor is the other end of a channel: the same pipe, the peer of a unix
    /// socket, the far end of a pseudo terminal.
    fn is_other_end(&self, process: Tgid, descriptor: &Path, channel: Channel) -> bool {
        let Ok(link) = fs::read_link(descriptor) else { return false };
        let text = link.to_string_lossy();
        match channel.kind {
            StreamKind::Pipe if text.starts_with("pipe:") => {
                text == format!("pipe:[{}]", channel.inode)
            }
            // A FIFO has a name; it is known by what stands behind it.
            StreamKind::Pipe => fs::metadata(descriptor).is_ok_and(|meta| {
                let device = u64::from(kernel_device(meta.dev()));
                channel.inode == meta.ino() && channel.id == meta.ino() ^ (device << 40)
            }),
            StreamKind::Unix if channel.id != 0 => {
                let (high, low) = (channel.id >> 32, channel.id & 0xffff_ffff);
                let other = if high == channel.inode { low } else { high };
                text == format!("socket:[{other}]")
            }
            StreamKind::Pty if text.ends_with("ptmx") => {
                // The minor number of the near end is the terminal's index (devices.txt).
                let index = channel.id & 0xf_ffff;
                let number = descriptor.file_name().unwrap_or_default().to_string_lossy();
                let info = self.bytes(process, &format!("fdinfo/{number}"), STAT_BYTES_MAX);
                info.is_some_and(|(info, _)| {
                    String::from_utf8_lossy(&info).lines().any(|line| {
                        line.strip_prefix("tty-index:")
                            .is_some_and(|told| told.trim().parse() == Ok(index))
                    })
                })
            }
            StreamKind::Unix | StreamKind::Pty | StreamKind::Socket => false,
        }
    }

    /// The process that another knows by an id of its own pid namespace.
    pub(super) fn named_in_namespace(&self, caller: Tgid, named: u32) -> Option<Tgid> {
        let namespace = fs::metadata(self.path(caller, "ns/pid")).ok()?.ino();
        self.processes().into_iter().take(NAMESPACE_SCAN_MAX).find(|process| {
            let is_same = fs::metadata(self.path(*process, "ns/pid"))
                .is_ok_and(|other| other.ino() == namespace);
            let status = || self.bytes(*process, "status", STAT_BYTES_MAX);
            is_same
                && status().is_some_and(|(status, _)| {
                    innermost_pid(&String::from_utf8_lossy(&status)) == Some(named)
                })
        })
    }

    /// Resolvers that the host, or a process in its own view of the files, is configured with.
    pub(super) fn configured_resolvers(&self, process: Option<Tgid>) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for name in ["etc/resolv.conf", "run/systemd/resolve/resolv.conf"] {
            let path = match process {
                Some(process) => self.path(process, "root").join(name),
                None => Path::new("/").join(name),
            };
            // A name in a container may lead to a pipe: opened without waiting, and looked at.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let Ok(file) = open(&path, flags, Mode::empty()) else { continue };
            let is_regular = fstat(&file)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
            if !is_regular {
                continue;
            }
            let mut bytes = vec![0; RESOLV_CONF_BYTES_MAX];
            let filled = read_start(File::from(file), &mut bytes).unwrap_or(0);
            resolver::parse(&String::from_utf8_lossy(&bytes[..filled]), &mut found);
        }
        found
    }
}

/// The id of a process in its innermost pid namespace: the last of `NSpid` (proc(5)).
fn innermost_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

impl Procfs {
    /// Looks for a port among the sockets that listen, in both families: they stand first in the
    /// table of the process's network namespace.
    pub(super) fn listens_on(&self, process: Tgid, port: u16) -> Option<bool> {
        let mut found = None;
        for table in ["net/tcp", "net/tcp6"] {
            let Some((bytes, _)) = self.bytes(process, table, SOCKET_TABLE_BYTES_MAX) else {
                continue;
            };
            let listens = listening(&String::from_utf8_lossy(&bytes)).any(|known| known == port);
            found = Some(found.unwrap_or(false) || listens);
        }
        found
    }
}

/// A process costs as much as this many of its descriptors: its directory is opened and read.
const PROCESS_DESCRIPTORS: usize = 8;

impl Procfs {
    /// The first of these processes with a descriptor like that. A look ends at its own bound and
    /// at what is `left` of all looks, which it takes its part of.
    fn first_with(
        &self,
        processes: &[Tgid],
        left: &mut usize,
        is_it: impl Fn(Tgid, &DirEntry) -> bool,
    ) -> Option<Tgid> {
        let given = FAR_DESCRIPTORS_MAX.min(*left);
        let mut rest = given;
        let found = processes.iter().copied().take(FAR_CANDIDATES_MAX).find(|process| {
            rest = rest.saturating_sub(PROCESS_DESCRIPTORS);
            let most = DESCRIPTORS_MAX.min(rest);
            let entries = (most > 0).then(|| fs::read_dir(self.path(*process, "fd")));
            let Some(Ok(entries)) = entries else { return false };
            entries.filter_map(Result::ok).take(most).any(|entry| {
                rest = rest.saturating_sub(1);
                is_it(*process, &entry)
            })
        });
        *left = left.saturating_sub(given - rest);
        found
    }

    /// The first of these processes that has a socket open.
    pub(super) fn holder_of(
        &self,
        processes: &[Tgid],
        socket: u64,
        left: &mut usize,
    ) -> Option<Tgid> {
        let wanted = format!("socket:[{socket}]");
        self.first_with(processes, left, |_, entry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        })
    }

    /// The first of these processes that has a pipe open for reading.
    pub(super) fn reader_of(
        &self,
        processes: &[Tgid],
        pipe: u64,
        left: &mut usize,
    ) -> Option<Tgid> {
        self.first_with(processes, left, |process, entry| {
            let found = found_at(&entry.path()).filter(|found| found.0 == FileType::Fifo);
            found.is_some_and(|(_, id, _)| pipe_of(&id) == pipe)
                && self.may_read(process, &entry.file_name().to_string_lossy())
        })
    }

    /// Whether a descriptor was opened to read from.
    fn may_read(&self, process: Tgid, number: &str) -> bool {
        let flags = self.open_flags(process, number);
        flags.is_some_and(|flags| flags & ACCESS_MODE != WRITE_ONLY)
    }

    /// Flags of open(2) of a descriptor (`/proc/PID/fdinfo/N`).
    pub(super) fn open_flags(&self, process: Tgid, number: &str) -> Option<u32> {
        let (info, _) = self.bytes(process, &format!("fdinfo/{number}"), FDINFO_BYTES)?;
        let info = String::from_utf8_lossy(&info);
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    }

    /// Inode of the UDP socket that has a port (`/proc/net/udp`, where each row is as in
    /// `/proc/net/tcp`, and the tenth word is the inode).
    pub(super) fn datagram_socket_of(&self, process: Tgid, port: u16) -> Option<u64> {
        ["net/udp", "net/udp6"].iter().find_map(|table| {
            let (bytes, _) = self.bytes(process, table, SOCKET_TABLE_BYTES_MAX)?;
            bound_to(&String::from_utf8_lossy(&bytes), port)
        })
    }
}

/// `O_ACCMODE` and one of its values (include/uapi/asm-generic/fcntl.h).
const ACCESS_MODE: u32 = 3;
const WRITE_ONLY: u32 = 1;

/// What a link of `/proc/PID/fd` leads to, its size, and its kind. No server of files is asked: one
/// that is gone would not answer.
fn found_at(link: &Path) -> Option<(FileType, FileId, u64)> {
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE;
    let found = statx(CWD, link, AtFlags::STATX_DONT_SYNC, wanted).ok()?;
    let file_type = FileType::from_raw_mode(u32::from(found.stx_mode));
    let device = kernel_device(rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor));
    Some((file_type, FileId { device, inode: found.stx_ino, generation: 0 }, found.stx_size))
}

/// An open regular file.
pub(crate) struct Descriptor {
    /// The link in `/proc` that leads to it.
    pub(crate) link: PathBuf,
    pub(crate) size_bytes: u64,
}

impl Procfs {
    /// Regular files without a name that a process has open. The kernel says so behind the name
    /// that it had (`fs/d_path.c`). What is looked through is taken off `left`.
    pub(super) fn nameless_of(&self, process: Tgid, left: &mut usize) -> Vec<(FileId, u64)> {
        *left = left.saturating_sub(PROCESS_DESCRIPTORS);
        let Ok(entries) = fs::read_dir(self.path(process, "fd")) else { return Vec::new() };
        let entries = entries.filter_map(Result::ok).take(DESCRIPTORS_MAX.min(*left));
        let found = entries.filter_map(|entry| {
            *left = left.saturating_sub(1);
            let link = entry.path();
            let name = fs::read_link(&link).ok()?;
            let is_nameless = name.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
            let (file_type, id, size) = is_nameless.then(|| found_at(&link))??;
            (file_type == FileType::RegularFile).then_some((id, size))
        });
        found.collect()
    }

    /// Regular files that a process has open for writing: path, identity, size.
    pub(super) fn written_by(&self, process: Tgid) -> Vec<(String, FileId, u64)> {
        let Ok(entries) = fs::read_dir(self.path(process, "fd")) else { return Vec::new() };
        let found = entries.filter_map(Result::ok).take(DESCRIPTORS_MAX).filter_map(|entry| {
            let link = entry.path();
            let (file_type, id, size) = found_at(&link)?;
            let is_regular = file_type == FileType::RegularFile;
            let flags =
                is_regular.then(|| self.open_flags(process, entry.file_name().to_str()?))??;
            let path = fs::read_link(&link).ok()?.to_string_lossy().into_owned();
            (flags & ACCESS_MODE != 0).then_some((path, id, size))
        });
        found.collect()
    }

    /// Device and inode of each regular file that a process has open for reading.
    pub(super) fn read_by(&self, process: Tgid) -> impl Iterator<Item = (u32, u64)> + '_ {
        let entries = fs::read_dir(self.path(process, "fd")).into_iter().flatten().flatten();
        entries.take(DESCRIPTORS_MAX).filter_map(move |entry| {
            let (file_type, id, _) = found_at(&entry.path())?;
            let is_read = file_type == FileType::RegularFile
                && self.may_read(process, entry.file_name().to_str()?);
            is_read.then_some((id.device, id.inode))
        })
    }

    /// The first descriptor of a process that is this file, whatever its name is.
    pub(crate) fn descriptor_of(&self, process: Tgid, id: &FileId) -> Option<Descriptor> {
        let entries = fs::read_dir(self.path(process, "fd")).ok()?;
        entries.filter_map(Result::ok).take(DESCRIPTORS_MAX).find_map(|entry| {
            let link = entry.path();
            let (file_type, found, size_bytes) = found_at(&link)?;
            let is_it = (found.device, found.inode) == (id.device, id.inode);
            (is_it && file_type == FileType::RegularFile).then_some(Descriptor { link, size_bytes })
        })
    }
}

/// Inode of the row whose local port this is.
fn bound_to(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let local = words.next()?.rsplit(':').next()?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port);
        is_it.then(|| words.nth(7)?.parse().ok())?
    })
}

/// Ports that are listened on (`/proc/net/tcp`: number, local address, remote address, state).
fn listening(table: &str) -> impl Iterator<Item = u16> {
    /// `TCP_LISTEN` (`include/net/tcp_states.h`), as the table writes it.
    const LISTENS: &str = "0A";
    let row = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state) = (words.next()?, words.next()?, words.next()?);
        let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (state == LISTENS).then_some(port)
    };
    table.lines().skip(1).map_while(row)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn inode(fd: &OwnedFd) -> (u64, u64) {
        let stat = fstat(fd).expect("an open descriptor");
        (stat.st_ino, u64::from(kernel_device(stat.st_dev)))
    }

    #[test]
    fn ports_that_are_listened_on_are_found_in_ones_own_namespace() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let other = stream.local_addr().unwrap().port();
        let own = Tgid(std::process::id());
        let procfs = Procfs::default();
        assert_eq!(procfs.listens_on(own, port), Some(true));
        assert_eq!(procfs.listens_on(own, other), Some(false));
        assert_eq!(procfs.listens_on(Tgid(u32::MAX), port), None);
    }

    #[test]
    fn the_other_ends_of_pipes_and_pairs_are_found_and_closed_ones_are_not() {
        let me = Tgid(std::process::id());
        let procfs = Procfs::default();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (reader, writer): (OwnedFd, OwnedFd) = (reader.into(), writer.into());
        let (ino, device) = inode(&reader);
        let pipe = Channel { kind: StreamKind::Pipe, id: ino ^ (device << 40), inode: ino };
        assert!(procfs.holds_end(me, pipe));
        let (near, far) = UnixStream::pair().expect("a pair");
        let (near, far): (OwnedFd, OwnedFd) = (near.into(), far.into());
        assert!(near.as_raw_fd() > 2);
        let (own, other) = (inode(&near).0, inode(&far).0);
        let id = own.min(other) << 32 | own.max(other);
        let pair = Channel { kind: StreamKind::Unix, id, inode: own };
        assert!(procfs.holds_end(me, pair));
        drop((reader, writer, far));
        assert!(!procfs.holds_end(me, pipe));
        assert!(!procfs.holds_end(me, pair), "the near end alone is not the other end");
        assert!(procfs.holds_end(me, Channel { inode: other, ..pair }));
    }

    #[test]
    fn whoever_has_a_socket_open_is_found_by_its_inode_and_a_datagram_socket_by_its_port() {
        let (me, procfs) = (Tgid(std::process::id()), Procfs::default());
        let nobody = Tgid(u32::MAX);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let socket = OwnedFd::from(socket);
        let number = inode(&socket).0;
        assert_eq!(procfs.datagram_socket_of(me, port), Some(number));
        assert_eq!(procfs.holder_of(&[nobody, me], number, &mut 4096), Some(me));
        assert_eq!(procfs.holder_of(&[nobody], number, &mut 4096), None);
        drop(socket);
        assert_eq!(procfs.holder_of(&[me], number, &mut 4096), None);
        assert_eq!(procfs.datagram_socket_of(nobody, port), None);
    }

    #[test]
    fn whoever_reads_a_pipe_or_fifo_is_found_and_whoever_writes_is_not() {
        let (me, procfs) = (Tgid(std::process::id()), Procfs::default());
        let identity = |fd: &OwnedFd| {
            let (inode, device) = inode(fd);
            inode ^ (device << 40)
        };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (reader, writer): (OwnedFd, OwnedFd) = (reader.into(), writer.into());
        let pipe = identity(&reader);
        assert_eq!(procfs.reader_of(&[Tgid(u32::MAX), me], pipe, &mut 4096), Some(me));
        drop(reader);
        assert_eq!(procfs.reader_of(&[me], pipe, &mut 4096), None, "who writes reads nothing");
        drop(writer);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fifo");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a FIFO");
        let fifo = open(&path, OFlags::RDWR, Mode::empty()).expect("it opens");
        assert_eq!(procfs.reader_of(&[me], identity(&fifo), &mut 4096), Some(me), "by its name");
    }

    #[test]
    fn a_file_without_a_name_is_found_by_its_inode_among_what_is_open() {
        let (me, procfs) = (Tgid(std::process::id()), Procfs::default());
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4711).expect("it grows");
        let (inode, device) = inode(&OwnedFd::from(file.try_clone().expect("open")));
        let device = u32::try_from(device).expect("32 bits");
        let id = FileId { device, inode, generation: 3 };
        let size = |id: &FileId| procfs.descriptor_of(me, id).map(|found| found.size_bytes);
        assert_eq!(size(&id), Some(4711));
        let nameless = procfs.nameless_of(me, &mut 4096);
        let plain = FileId { generation: 0, ..id };
        assert!(nameless.contains(&(plain, 4711)), "{nameless:?}");
        assert_eq!(size(&FileId { device: device + 1, ..id }), None);
        drop(file);
        assert_eq!(size(&id), None);
    }

    #[test]
    fn a_process_is_found_by_its_id_in_its_own_namespace() {
        let me = Tgid(std::process::id());
        let status = fs::read_to_string("/proc/self/status").expect("readable");
        let named = innermost_pid(&status).expect("NSpid is there");
        assert_eq!(Procfs::default().named_in_namespace(me, named), Some(me));
        assert_eq!(innermost_pid("NSpid:\t4711\t12\n"), Some(12));
        assert_eq!(innermost_pid("Name:\tx\n"), None);
    }
}
