//! Long windows on disk: a day's worth of counted bytes must survive a restart of the daemon.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::correlate::{Engine as Correlator, Snapshot};

/// Bytes of a state file that are read at most: some 4 096 keys of a kilobyte each.
pub(super) const STATE_BYTES_MAX: u64 = 64 << 20;
/// The file's name.
const FILE: &str = "windows.json";

/// Where the state of long windows is kept.
#[derive(Debug)]
pub(super) struct WindowStore {
    path: PathBuf,
    boot_id: String,
}

impl WindowStore {
    /// Keeps state in `dir`.
    pub(super) fn new(dir: &Path, boot_id: &str) -> Self {
        Self { path: dir.join(FILE), boot_id: boot_id.to_owned() }
    }

    /// Takes back what was saved. Without a file there is nothing to take back; one that cannot be
    /// read is said and left behind.
    pub(super) fn load(&self, correlator: &mut Correlator) {
        let snapshot = match self.read() {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, error, "the state of long windows is not used");
                return;
            }
        };
        match correlator.restore(snapshot, &self.boot_id) {
            Ok(restored) => tracing::info!(?restored, "long windows go on where they were"),
            Err(error) => tracing::info!(%error, "long windows start anew"),
        }
    }

    fn read(&self) -> Result<Option<Snapshot>, String> {
        let length = match fs::metadata(&self.path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if length > STATE_BYTES_MAX {
            return Err(format!("{length} bytes, at most {STATE_BYTES_MAX} are read"));
        }
        let bytes = fs::read(&self.path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string())
    }

    /// Saves what long windows hold: written beside the old file, then put in its place.
    pub(super) fn save(&self, correlator: &Correlator) {
        if let Err(error) = self.write(&correlator.snapshot(&self.boot_id)) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the state of long windows was not saved");
        }
    }

    fn write(&self, snapshot: &Snapshot) -> std::io::Result<()> {
        if let Some(dir) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let new = self.path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(snapshot)?)?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::CorrelateLimits;

    #[test]
    fn what_is_saved_is_read_back_and_damage_is_left_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = WindowStore::new(&dir.path().join("state"), "boot");
        assert!(store.read().expect("no file is no error").is_none());
        store.save(&Correlator::new(&[], CorrelateLimits::default()));
        assert!(store.read().expect("reads").is_some());
        fs::write(&store.path, b"{").expect("writes");
        assert!(store.read().is_err());
        store.load(&mut Correlator::new(&[], CorrelateLimits::default()));
    }
}
