//! Signals: stop and reload, at the edge of everything else.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: take what is left and end.
    Stop,
    /// SIGHUP: read the rules again.
    Reload,
    /// Nothing; time to look whether all is well.
    Nothing,
}

/// The signals that are listened for.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Starts listening. Must be called inside a runtime.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next request, [`Request::Nothing`] after `at_most`.
    pub async fn next(&mut self, at_most: std::time::Duration) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hang_up.recv() => Request::Reload,
            () = tokio::time::sleep(at_most) => Request::Nothing,
        }
    }
}
