//! The end: what is on its way is taken, what can be delivered is, and every hook is let go of.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Control, Pipeline};

/// How long stopping waits for sinks to take what is left; the rest stays in the spool.
pub const STOP_FLUSH: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Takes what the rings hold, delivers what it can, and ends.
    ///
    /// The hooks are let go of at once and beside everything else: the kernel waits for a grace
    /// period for each of them, which is most of the time that stopping takes.
    pub fn stop(self) {
        let began = Instant::now();
        self.readiness.set_not_ready("stopping");
        let loaded = self.loaded;
        let hooks = std::thread::Builder::new().name("release".to_owned()).spawn(|| drop(loaded));
        self.wake.stop();
        join(self.reader, "ring reader");
        if self.control.send(Control::Stop).is_err() {
            tracing::warn!("the engine had ended before it was told to");
        }
        self.engine.thread().unpark();
        join(self.engine, "engine");
        let drained = began.elapsed();
        if !self.exporter.flush(began + STOP_FLUSH) {
            tracing::info!("some alerts wait in the spool for the next start");
        }
        drop(self.server);
        let delivered = began.elapsed();
        // Without a thread the hooks were let go of when it was not made.
        if let Ok(hooks) = hooks {
            join(hooks, "release");
        }
        tracing::debug!(?drained, ?delivered, released = ?began.elapsed(), "stopping took");
    }
}

fn join(thread: JoinHandle<()>, what: &str) {
    if thread.join().is_err() {
        tracing::error!("the {what} thread panicked; please report this with the log before it");
    }
}
