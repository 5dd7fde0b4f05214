//! Checks by name: said as they are made, and counted for the table of `cargo xtask test`.

use std::process::ExitCode;

use anyhow::Result;

/// What was checked so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    /// Notes a check: what it found, or why it failed.
    pub(super) fn note(&mut self, name: &str, found: Result<String>) {
        match found {
            Ok(detail) => {
                self.passed += 1;
                println!("ok    {name}: {detail}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {name}: {error:#}");
            }
        }
    }

    /// Says the sum.
    pub(super) fn close(&self) -> ExitCode {
        let Self { passed, failed } = self;
        println!("\n{passed} passed, {failed} failed");
        // Nothing checked is nothing shown.
        if *failed == 0 && *passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
