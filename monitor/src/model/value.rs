//! What a rule sees of an event: a kind, a time, and fields that are there or missing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{BootNs, FieldId};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The kind of an event: what a rule's `on:` names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl EventKind {
            /// All kinds, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word used in rule files and recordings.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The kind named `name`.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// A program was executed.
    Exec = "exec",
    /// A process was created (thread creation is not a rule event).
    Fork = "fork",
    /// The last thread of a process ended.
    Exit = "exit",
    /// A file of interest was opened.
    FileOpen = "file_open",
    /// Bytes of a labelled file were read or mapped, as far as they were counted.
    FileRead = "file_read",
    /// A file of interest was renamed, linked, unlinked, truncated, copied, written or mapped.
    FileChange = "file_change",
    /// A flow started, moved a threshold's worth of bytes, showed its first payload, or ended.
    Flow = "flow",
    /// A socket of a rare family or type was created.
    Socket = "socket",
    /// A DNS answer was seen on the wire.
    Dns = "dns",
    /// A standard stream became a socket.
    Stdio = "stdio",
    /// A process reached into the memory or the descriptors of another.
    MemoryAccess = "memory_access",
    /// Something was done to the monitor or to the kernel that it trusts.
    Tamper = "tamper",
    /// A namespace or a mount was changed.
    Namespace = "namespace",
    /// An asynchronous or unusual way into the kernel was set up.
    AsyncIo = "async_io",
    /// The sampler read one process on one GPU.
    GpuSample = "gpu_sample",
    /// A GPU reported a fault: an XID, uncorrectable memory errors, or that it is lost.
    GpuFault = "gpu_fault",
    /// The monitor speaks of itself: loss, a sensor that changed state.
    Sensor = "sensor",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of event kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KindSet(u32);

impl KindSet {
    /// The set of no kind.
    pub const EMPTY: Self = Self(0);
    /// The set of all kinds.
    pub const ALL: Self = Self::of(EventKind::ALL);

    /// The set of the kinds given.
    pub const fn of(kinds: &[EventKind]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Adds `kind`.
    pub const fn insert(&mut self, kind: EventKind) {
        self.0 |= 1 << kind as u8;
    }

    /// Kinds in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Kinds in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether no kind is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds, in declaration order.
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL.iter().copied().filter(move |kind| self.contains(*kind))
    }
}

/// The value of one field of one event, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// The event does not have the field (CEL: no such key).
    Missing,
    /// A truth.
    Bool(bool),
    /// A whole number: counts, bytes, ids, ports, nanoseconds.
    Int(i64),
    /// A number with a fraction: ratios, watts, seconds.
    Float(f64),
    /// Text.
    Str(&'a str),
    /// An IP address; IPv4-mapped IPv6 is already IPv4.
    Ip(IpAddr),
    /// A list of text.
    List(&'a [String]),
    /// Text by text, e.g. labels.
    Map(&'a BTreeMap<String, String>),
}

/// One event as a rule sees it. Implemented by the live, enriched event and by [`super::FactRow`].
pub trait Facts {
    /// The event's kind.
    fn kind(&self) -> EventKind;
    /// When it happened, by the event's own clock.
    fn time(&self) -> BootNs;
    /// The value of a field, [`Value::Missing`] where the event has none.
    fn field(&self, id: FieldId) -> Value<'_>;
}
