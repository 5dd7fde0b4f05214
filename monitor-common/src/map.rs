//! Keys and values of the maps that the daemon writes, and the settings it hands over frozen.

use crate::limits::{EXTENSION_BYTES, NAME_SLOTS, NEW_NAME_BYTES_MAX, WATCH_NAME_BYTES};

/// Key of the label and directory maps: a file's identity.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InodeKey {
    /// Inode number.
    pub inode: u64,
    /// `s_dev`: major << 20 | minor.
    pub device: u32,
    /// Zero: a generation is known only once a file was opened, and is compared by the daemon then.
    pub generation: u32,
}

/// Words of the map of marks: 2²⁰ bits. With as many marks as there can be, one inode in thirteen
/// that is not marked looks like one, and costs a look into the map behind.
pub const MARK_WORDS: u32 = 1 << 14;

/// Word and bit of an inode's number in the map of marks.
pub const fn mark_of(inode: u64) -> (u32, u64) {
    // Fibonacci hashing: the golden ratio of 2⁶⁴; the upper bits are the mixed ones.
    let bit = (inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as u32;
    (bit / 64, 1 << (bit % 64))
}

/// Key of the name-class map: a lower-case extension without its dot, right-justified, zero bytes
/// in front.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extension(pub [u8; EXTENSION_BYTES]);

impl Extension {
    /// The key for `text`; `None` when it is empty or, with its dot, longer than the bound.
    pub const fn new(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() >= EXTENSION_BYTES {
            return None;
        }
        let mut bytes = [0; EXTENSION_BYTES];
        let mut at = 0;
        while at < text.len() {
            bytes[EXTENSION_BYTES - text.len() + at] = text[at].to_ascii_lowercase();
            at += 1;
        }
        Some(Self(bytes))
    }
}

/// Class of a name: weights.
pub const CLASS_WEIGHTS: u16 = 1;
/// Class of a name: archive or encrypted container.
pub const CLASS_ARCHIVE: u16 = 2;
/// Class of a name: credential.
pub const CLASS_SECRET: u16 = 3;

/// Upper half of a key of the map of own objects: a map.
pub const OWN_MAP: u32 = 1;
/// Upper half of a key of the map of own objects: a program.
pub const OWN_PROGRAM: u32 = 2;
/// Upper half of a key of the map of own objects: a link.
pub const OWN_LINK: u32 = 3;

/// Key of the map of watched names: the last part of a path, zero bytes behind.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchName(pub [u8; WATCH_NAME_BYTES]);

impl WatchName {
    /// The key for `text`; `None` when it is empty or does not fit with a zero byte behind it.
    pub const fn new(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() >= WATCH_NAME_BYTES {
            return None;
        }
        let mut bytes = [0; WATCH_NAME_BYTES];
        let mut at = 0;
        while at < text.len() {
            bytes[at] = text[at];
            at += 1;
        }
        Some(Self(bytes))
    }

    /// The name's slot in the filter in front of the map.
    pub const fn slot(&self) -> u32 {
        let bytes = &self.0;
        let mut len = 0;
        while len < WATCH_NAME_BYTES && bytes[len] != 0 {
            len += 1;
        }
        let start = u64::from_ne_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ]);
        #[expect(clippy::cast_possible_truncation, reason = "at most WATCH_NAME_BYTES")]
        name_slot(start, len as u32)
    }
}

/// The slot of a name in the filter that stands in front of the map of watched names: most names
/// are none, and a read of one byte says so.
///
/// `start` holds the first eight bytes in memory order; what lies behind the name's end is ignored.
#[inline]
pub const fn name_slot(start: u64, len: u32) -> u32 {
    let start = if len >= 8 { start } else { start & (u64::MAX >> ((8 - len as u64) * 8)) };
    let mixed = (start ^ (len as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as u32 & (NAME_SLOTS - 1)
}

/// Watched name: report the file however it is opened.
pub const NAME_ANY: u32 = 1 << 0;
/// Watched name: report the file when it is opened for writing.
pub const NAME_WRITTEN: u32 = 1 << 1;
/// Watched name: report the file when its directory has [`DIR_NAMES`].
pub const NAME_IN_DIR: u32 = 1 << 2;
/// Watched name of a directory: report files in it that are opened for writing.
pub const DIR_WRITTEN: u32 = 1 << 3;
/// Watched name of a directory: names with [`NAME_IN_DIR`] count in it.
pub const DIR_NAMES: u32 = 1 << 4;
/// Watched name of a directory: report files in it that only their owner may use.
pub const DIR_PRIVATE: u32 = 1 << 5;

/// Device major: nothing of it is watched.
pub const MAJOR_NONE: u8 = 0;
/// Device major: all of it is watched.
pub const MAJOR_ALL: u8 = 1;
/// Device major: the nodes in the map of device nodes are watched.
pub const MAJOR_SOME: u8 = 2;

/// Who opened a file for writing last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// Id of its cgroup v2 directory.
    pub cgroup_id: u64,
    /// When, in nanoseconds since boot.
    pub boot_ns: u64,
    /// Process id.
    pub tgid: u32,
    /// Not used; zero.
    pub reserved: u32,
}

/// Key of the sums of bytes read: who and which file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderKey {
    /// Which file.
    pub file: InodeKey,
    /// Process id.
    pub tgid: u32,
    /// Not used; zero.
    pub reserved: u32,
}

/// Bytes one process read of one file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderSum {
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes at the last record.
    pub told: u64,
    /// When the last record was written, in nanoseconds since boot.
    pub told_boot_ns: u64,
}

/// The name that a process last asked to give a file.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewName {
    /// When, in nanoseconds since boot.
    pub boot_ns: u64,
    /// Descriptor of the directory that a relative name starts from, as the call had it.
    pub directory: i32,
    /// Not used; zero.
    pub reserved: u32,
    /// The name, ended by a zero byte; empty where it could not be read. Cut at its bound.
    pub path: [u8; NEW_NAME_BYTES_MAX],
}

/// Entry of the map of what is not wanted: a bit for each record kind.
pub const UNWANTED_KINDS: u32 = 0;
/// Entry of the map of what is not wanted: a bit for each address family of a rare socket.
pub const UNWANTED_FAMILIES: u32 = 1;
/// Entry of the map of what is not wanted: a bit for each record kind that is not wanted of some
/// cgroup, so that the map of cgroups is asked for no other.
pub const UNWANTED_SOMEWHERE: u32 = 2;
/// Entry of the map of what is not wanted: a bit for each address family of flows, and
/// [`FLOW_PORTS_NARROWED`].
pub const UNWANTED_FLOWS: u32 = 3;
/// Entries of the map of what is not wanted.
pub const UNWANTED_LEN: u32 = 4;
/// Of [`UNWANTED_FLOWS`]: only flows to the ports of the map of ports are wanted. No family has
/// this number.
pub const FLOW_PORTS_NARROWED: u64 = 1 << 63;
/// Words of the map of wanted ports: a bit for each.
pub const FLOW_PORT_WORDS: u32 = 1 << 10;

/// The kinds have bits of one number.
const _: () = assert!(crate::record::KIND_COUNT <= 64);

/// The bit of a rate's key that stands for the high-priority ring.
pub const RATE_HIGH_BIT: u64 = 1 << 63;
/// The bit of a rate's key that stands for messages of resolvers and first bytes.
pub const RATE_MESSAGE_BIT: u64 = 1 << 62;
/// Which part of the rate of the high-priority ring these may take: they are the longest records
/// there, and a flood of them must leave room in the ring for the flows that carry it.
pub const RATE_MESSAGE_PART: u64 = 8;

/// A state of one cgroup's rate on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateWindow {
    /// Start of the window, in nanoseconds since boot.
    pub start_boot_ns: u64,
    /// Records in the window.
    pub records: u64,
    /// Records refused since the cgroup was first seen.
    pub refused: u64,
}

impl NewName {
    /// The name as it was given, without its end.
    pub fn as_bytes(&self) -> &[u8] {
        self.path.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

const _: () = assert!(size_of::<InodeKey>() == 16);
const _: () = assert!(mark_of(u64::MAX).0 < MARK_WORDS);
const _: () = assert!(size_of::<RateWindow>() == 24);
const _: () = assert!(size_of::<Writer>() == 24);
const _: () = assert!(size_of::<ReaderKey>() == 24);
const _: () = assert!(size_of::<ReaderSum>() == 24);
const _: () = assert!(size_of::<NewName>() == 16 + NEW_NAME_BYTES_MAX);

/// Value of the map of second opinions: payload bytes by cgroup of the socket, to peers other than
/// loopback.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressSum {
    /// Accepted by TCP and MPTCP sockets, as the socket layer says.
    pub said_stream: u64,
    /// Accepted by any other socket.
    pub said_other: u64,
    /// In TCP packets, what was sent again left out.
    pub seen_stream: u64,
    /// In any other packets.
    pub seen_other: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_slot_of_its_start_whatever_lies_behind_it() {
        let key = WatchName::new(b".netrc").expect("fits");
        let behind = u64::from_ne_bytes(*b".netrc\0x");
        assert_eq!(key.slot(), name_slot(behind, 6));
        assert_ne!(key.slot(), name_slot(behind, 7), "the length counts");
        assert_eq!(WatchName::new(&[b'x'; WATCH_NAME_BYTES]), None);
        let long = WatchName::new(b"application_default_creds.json").expect("fits");
        assert_eq!(long.slot(), name_slot(u64::from_ne_bytes(*b"applicat"), 30));
    }
}
