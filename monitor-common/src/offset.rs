//! The kernel fields that are read, one list: the globals of the kernel side and the resolver of
//! the daemon are both generated from it.

/// An offset that the running kernel does not have. Never zero: zero is a legal offset.
pub const OFFSET_ABSENT: u32 = u32::MAX;
