//! Ctrl-C ends a play early, not halfway: whoever waits looks here, and returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Longest time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Whether someone asked to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to listen for SIGINT and SIGTERM.
    pub(crate) fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("listen for Ctrl-C")?;
        }
        Ok(Self(flag))
    }

    /// An error when someone asked to end.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted; everything that was set up is taken down again");
        }
        Ok(())
    }

    /// Waits until `is_done`, at most `patience`; whether it came.
    pub(crate) fn wait(
        &self,
        patience: Duration,
        mut is_done: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        let start = Instant::now();
        loop {
            self.check()?;
            if is_done()? {
                return Ok(true);
            }
            if start.elapsed() >= patience {
                return Ok(false);
            }
            sleep(LOOK);
        }
    }
}
