//! The promises aya asks for: these types are plain bytes.

use crate::{
    EgressSum, Extension, InodeKey, KindCounters, NewName, Place, RateWindow, ReaderKey, ReaderSum,
    WatchName,
};

// SAFETY: repr(C), integers only, no padding (sizes are asserted beside the types), any bit
// pattern is a value.
unsafe impl aya::Pod for KindCounters {}
// SAFETY: as above.
unsafe impl aya::Pod for InodeKey {}
// SAFETY: a transparent array of bytes.
unsafe impl aya::Pod for Extension {}
// SAFETY: repr(C), three u64.
unsafe impl aya::Pod for RateWindow {}
// SAFETY: a transparent array of bytes.
unsafe impl aya::Pod for WatchName {}
// SAFETY: repr(C), four u64.
unsafe impl aya::Pod for EgressSum {}
// SAFETY: repr(C), two u32.
unsafe impl aya::Pod for Place {}
// SAFETY: repr(C), integers and bytes, no padding (its size is asserted beside it).
unsafe impl aya::Pod for NewName {}
// SAFETY: as above.
unsafe impl aya::Pod for ReaderKey {}
// SAFETY: as above.
unsafe impl aya::Pod for ReaderSum {}
