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

    /// The key of a file's name of three bytes and more, of which `tail` is the end as two
    /// little-endian words: the last byte of the name is the highest of the second. `length` is the
    /// name's; what lies in front of a shorter name is ignored. `None` where the name has no
    /// extension, or too long a one.
    ///
    /// Eight bytes at a time, and without a branch for each: the kernel's verifier follows each
    /// branch, and a loop over sixteen bytes was a quarter of all its work.
    #[inline]
    pub const fn of_tail(tail: [u64; 2], length: u32) -> Option<Self> {
        let [low, high] = tail;
        // A dot in front is no end of a name: `.bashrc` has no extension.
        let first = TAIL_BYTES.saturating_sub(length) + 1;
        let (dots_low, dots_high) =
            (dots(low) & from_byte(first), dots(high) & from_byte(first.saturating_sub(8)));
        if dots_low | dots_high == 0 || high >> 56 == b'.' as u64 {
            return None;
        }
        let (low, high) = if dots_high == 0 {
            (lower_case(low) & above(dots_low), lower_case(high))
        } else {
            (0, lower_case(high) & above(dots_high))
        };
        let (low, high) = (low.to_le_bytes(), high.to_le_bytes());
        let mut bytes = [0; EXTENSION_BYTES];
        let mut at = 0;
        while at < 8 {
            (bytes[at], bytes[8 + at]) = (low[at], high[at]);
            at += 1;
        }
        Some(Self(bytes))
    }
}

/// Bytes of a name that are looked at.
const TAIL_BYTES: u32 = 16;
const _: () = assert!(TAIL_BYTES as usize == EXTENSION_BYTES);

/// Each byte of a word.
const EACH: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
const HIGH_BITS: u64 = 0x80 * EACH;

/// The highest bit of each byte that is a dot.
#[inline]
const fn dots(word: u64) -> u64 {
    let other = word ^ (b'.' as u64 * EACH);
    !(((other & !HIGH_BITS) + !HIGH_BITS) | other) & HIGH_BITS
}

/// All bits from byte `at` on.
#[inline]
const fn from_byte(at: u32) -> u64 {
    // In two steps: a word cannot be moved by all its bits at once.
    if at > 7 { 0 } else { u64::MAX << (at * 8) }
}

/// All bits above the highest bit of `word`, which is not zero.
#[inline]
const fn above(word: u64) -> u64 {
    let mut word = word;
    word |= word >> 1;
    word |= word >> 2;
    word |= word >> 4;
    word |= word >> 8;
    word |= word >> 16;
    word |= word >> 32;
    !word
}

/// Each byte of a word in lower case.
#[inline]
const fn lower_case(word: u64) -> u64 {
    let seven = word & !HIGH_BITS;
    let from_a = seven + (0x80 - b'A' as u64) * EACH;
    let beyond_z = seven + (0x7f - b'Z' as u64) * EACH;
    let is_capital = from_a & !beyond_z & !word & HIGH_BITS;
    word + (is_capital >> 2)
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
    extern crate std;

    use std::string::String;
    use std::vec::Vec;

    use super::*;

    /// Byte by byte, as it is meant.
    fn extension_of(name: &[u8]) -> Option<Extension> {
        let dot = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0)?;
        let text = &name[dot + 1..];
        Extension::new(text).filter(|_| text.len() < EXTENSION_BYTES - 1)
    }

    fn extension_by_words(name: &[u8], before: u8) -> Option<Extension> {
        let mut bytes = [before; EXTENSION_BYTES].to_vec();
        bytes.extend(name);
        let (low, high) = bytes[bytes.len() - EXTENSION_BYTES..].split_at(8);
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight"));
        let length = u32::try_from(name.len()).expect("short");
        Extension::of_tail([word(low), word(high)], length)
    }

    #[test]
    fn extension_by_words_is_that_byte_by_byte() {
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize
        };
        let alphabet = b"..aZz9_-A\xc3\xff@[`{/";
        for _ in 0..200_000 {
            let name: Vec<u8> =
                (0..3 + random() % 24).map(|_| alphabet[random() % alphabet.len()]).collect();
            // Whatever lies in front of a short name, dots too, is not of it.
            for before in [0, b'.', b'A'] {
                let found = extension_by_words(&name, before);
                assert_eq!(found, extension_of(&name), "{:?}", String::from_utf8_lossy(&name));
            }
        }
        assert_eq!(extension_by_words(b"W.SafeTensors", 0), Extension::new(b"safetensors"));
        assert_eq!(extension_by_words(b".bashrc", 0), None);
        assert_eq!(extension_by_words(b"name.", 0), None);
    }

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
