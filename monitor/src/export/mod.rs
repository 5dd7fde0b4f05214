//! Encoders, sinks, the disk spool.

pub mod config;
pub mod encode;
pub mod spool;
