//! What the running kernel can do, found out before anything is trusted.

pub mod btf;
pub mod device;
pub mod offset;
pub mod support;
pub mod tracefs;
