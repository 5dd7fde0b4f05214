//! What `/proc` tells of descriptors, pid namespaces and resolvers of a process. Each look is
//! bounded and waits for nothing.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use super::limit::{
    DESCRIPTORS_MAX, FAR_DESCRIPTORS_MAX, NAMESPACE_SCAN_MAX, RESOLV_CONF_BYTES_MAX,
    SOCKET_TABLE_BYTES_MAX,
};
use super::procfs::{Procfs, STAT_BYTES_MAX, read_start};
use super::resolver;
use super::scan::kernel_device;
use crate::model::{Channel, StreamKind, Tgid};

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

impl Procfs {
    /// The first of these processes that has a socket open.
    pub(super) fn holder_of(&self, processes: &[Tgid], socket: u64) -> Option<Tgid> {
        let wanted = format!("socket:[{socket}]");
        let mut left = FAR_DESCRIPTORS_MAX;
        processes.iter().copied().find(|process| {
            let Ok(entries) = fs::read_dir(self.path(*process, "fd")) else { return false };
            entries.filter_map(Result::ok).take(DESCRIPTORS_MAX.min(left)).any(|entry| {
                left = left.saturating_sub(1);
                fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
            })
        })
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
        assert_eq!(procfs.holder_of(&[nobody, me], number), Some(me));
        assert_eq!(procfs.holder_of(&[nobody], number), None);
        drop(socket);
        assert_eq!(procfs.holder_of(&[me], number), None);
        assert_eq!(procfs.datagram_socket_of(nobody, port), None);
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
