//! The programs, one file a subject. A program decides, reads, and ends in one counted outcome.

pub(crate) mod file;
pub(crate) mod net;
pub(crate) mod packet;
pub(crate) mod process;
pub(crate) mod socket;
