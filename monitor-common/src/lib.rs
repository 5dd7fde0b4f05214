//! The contract between the kernel programs and the daemon: what is written to the rings, what
//! stands in the maps, and which kernel fields are read.
//!
//! Nothing here is an enum on the wire: kinds, phases and reasons are integers that the daemon
//! asks about, because a record may come from a program newer than the daemon.
#![cfg_attr(not(feature = "user"), no_std)]

mod act;
mod counter;
mod limits;
mod map;
mod offset;
#[cfg(feature = "user")]
mod pod;
mod record;

pub use act::*;
pub use counter::*;
pub use limits::*;
pub use map::*;
pub use offset::*;
pub use record::*;
