//! cli

pub mod rules_test;
