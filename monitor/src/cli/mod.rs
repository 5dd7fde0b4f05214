//! cli

pub mod rules;
pub mod rules_test;
