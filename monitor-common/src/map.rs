//! Keys and values of the maps that the daemon writes, and the settings it hands over frozen.

use crate::limits::EXTENSION_BYTES;

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

/// Entry of the map of what is not wanted: a bit for each record kind.
pub const UNWANTED_KINDS: u32 = 0;
/// Entry of the map of what is not wanted: a bit for each address family of a rare socket.
pub const UNWANTED_FAMILIES: u32 = 1;
/// Entries of the map of what is not wanted.
pub const UNWANTED_LEN: u32 = 2;

/// The kinds have bits of one number.
const _: () = assert!(crate::record::KIND_COUNT <= 64);

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

const _: () = assert!(size_of::<InodeKey>() == 16);
const _: () = assert!(size_of::<RateWindow>() == 24);
