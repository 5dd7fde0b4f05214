//! Looks again and again where the paths that rules name lie. A directory may be made, and a
//! container with a view of its own may start, after the rules were loaded.

use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::time::Duration;

use monitor_common::InodeKey;

use super::Control;
use crate::sensor::directories_of;

/// Time from one look to the next: as long as the files of a container that has just started may
/// not be seen yet.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Hands prefixes to the thread that looks.
#[derive(Debug, Default)]
pub(super) struct PathLooker {
    prefixes: Option<Sender<BTreeSet<String>>>,
}

impl PathLooker {
    /// Starts the thread, which ends with whoever takes its orders.
    pub(super) fn start(control: SyncSender<Control>) -> std::io::Result<Self> {
        let (sender, prefixes) = channel();
        std::thread::Builder::new()
            .name("path-looker".to_owned())
            .spawn(move || run(&prefixes, &control))?;
        Ok(Self { prefixes: Some(sender) })
    }

    /// Looks for these from now on.
    pub(super) fn look_for(&self, prefixes: &BTreeSet<String>) {
        if let Some(sender) = &self.prefixes {
            // The thread is gone when the monitor ends.
            let _gone = sender.send(prefixes.clone());
        }
    }
}

fn run(prefixes: &Receiver<BTreeSet<String>>, control: &SyncSender<Control>) {
    let mut wanted = BTreeSet::new();
    let mut told: HashSet<InodeKey> = HashSet::new();
    loop {
        match prefixes.recv_timeout(LOOK_EVERY) {
            // The engine has just looked at the host itself; what it found is not known here.
            Ok(new) => (wanted, told) = (new, HashSet::new()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let (directories, fits) = directories_of(&wanted);
        if directories == told {
            continue;
        }
        if !fits {
            tracing::warn!("the rules' paths are more than is watched; see PATH_DIRECTORIES_MAX");
        }
        told.clone_from(&directories);
        if control.send(Control::Directories(wanted.clone(), directories)).is_err() {
            return;
        }
    }
}
